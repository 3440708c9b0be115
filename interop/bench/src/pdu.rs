//! The PDU fields that both ends of the bench need (RFC 7143 §11), independent of our library.

use anyhow::{Context as _, Result, ensure};

/// Length of a basic header segment.
pub(crate) const BHS_BYTES: usize = 48;

/// A basic header segment.
pub(crate) type Bhs = [u8; BHS_BYTES];

/// "No tag".
pub(crate) const NO_TAG: u32 = u32::MAX;

/// The F bit, and T of a login.
pub(crate) const FINAL: u8 = 0x80;

/// Opcodes of initiators.
pub(crate) mod request {
    pub(crate) const NOP_OUT: u8 = 0x00;
    pub(crate) const COMMAND: u8 = 0x01;
    pub(crate) const TASK_MANAGEMENT: u8 = 0x02;
    pub(crate) const LOGIN: u8 = 0x03;
    pub(crate) const TEXT: u8 = 0x04;
    pub(crate) const DATA_OUT: u8 = 0x05;
    pub(crate) const LOGOUT: u8 = 0x06;
    /// The bit beside the opcode that makes a request immediate.
    pub(crate) const IMMEDIATE: u8 = 0x40;
}

/// Opcodes of targets.
pub(crate) mod response {
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const SCSI: u8 = 0x21;
    pub(crate) const TASK_MANAGEMENT: u8 = 0x22;
    pub(crate) const LOGIN: u8 = 0x23;
    pub(crate) const TEXT: u8 = 0x24;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const LOGOUT: u8 = 0x26;
    pub(crate) const R2T: u8 = 0x31;
}

/// The opcode without the immediate bit.
pub(crate) const fn opcode(bhs: &Bhs) -> u8 {
    bhs[0] & 0x3f
}

/// Four bytes in network order.
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

/// Writes four bytes in network order.
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(four) = bytes.get_mut(at..at + 4) {
        four.copy_from_slice(&value.to_be_bytes());
    }
}

/// DataSegmentLength.
pub(crate) fn data_bytes(bhs: &Bhs) -> usize {
    (get32(bhs, 4) & 0x00ff_ffff) as usize
}

/// Sets DataSegmentLength; no AHS.
pub(crate) fn set_data_bytes(bhs: &mut Bhs, bytes: usize) -> Result<()> {
    let bytes = u32::try_from(bytes).context("a data segment above 4 GiB")?;
    ensure!(bytes < 1 << 24, "a data segment above 16 MiB");
    put32(bhs, 4, bytes);
    Ok(())
}

/// Bytes that fill `bytes` up to a multiple of four.
pub(crate) const fn padding(bytes: usize) -> usize {
    bytes.wrapping_neg() & 3
}

/// The `Key=Value` pairs of a text segment.
pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(text)
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A text segment of `Key=Value` pairs.
pub(crate) fn text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in pairs {
        text.extend_from_slice(key.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        text.push(0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_pairs_ended_by_zeros() {
        let bytes = text([("A", "1"), ("B", "x,y")]);
        assert_eq!(bytes, b"A=1\0B=x,y\0");
        let expected = [("A", "1"), ("B", "x,y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(&bytes), expected);
    }

    #[test]
    fn padding_goes_to_four() {
        assert_eq!([0, 1, 2, 3, 4].map(padding), [0, 3, 2, 1, 0]);
    }
}
