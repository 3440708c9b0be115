//! Bytes of RFC 7143 §11: header fields, padding, digests. Nothing here knows sessions or tasks.
//!
//! A header is kept as its 48 raw bytes; [`Fields`] reads and writes numbers inside it by offset.
//! Reading never fails for a field inside the header, and no number read here is trusted: callers bound it.

pub(crate) mod framer;
pub(crate) mod request;
pub(crate) mod response;

/// Length of a Basic Header Segment in bytes (RFC 7143 §11.2.1).
pub const BHS_BYTES: usize = 48;
/// The reserved value of task tags and transfer tags (RFC 7143 §11.2.1.8).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// The 48 bytes of a Basic Header Segment.
pub type Header = [u8; BHS_BYTES];

/// Opcodes of RFC 7143 §11.2.1.2.
pub mod opcode {
    /// NOP-Out.
    pub const NOP_OUT: u8 = 0x00;
    /// SCSI Command.
    pub const SCSI_COMMAND: u8 = 0x01;
    /// Task Management Function Request.
    pub const TASK_MANAGEMENT: u8 = 0x02;
    /// Login Request.
    pub const LOGIN: u8 = 0x03;
    /// Text Request.
    pub const TEXT: u8 = 0x04;
    /// SCSI Data-Out.
    pub const DATA_OUT: u8 = 0x05;
    /// Logout Request.
    pub const LOGOUT: u8 = 0x06;
    /// SNACK Request.
    pub const SNACK: u8 = 0x10;
    /// NOP-In.
    pub const NOP_IN: u8 = 0x20;
    /// SCSI Response.
    pub const SCSI_RESPONSE: u8 = 0x21;
    /// Task Management Function Response.
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    /// Login Response.
    pub const LOGIN_RESPONSE: u8 = 0x23;
    /// Text Response.
    pub const TEXT_RESPONSE: u8 = 0x24;
    /// SCSI Data-In.
    pub const DATA_IN: u8 = 0x25;
    /// Logout Response.
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    /// Ready To Transfer.
    pub const R2T: u8 = 0x31;
    /// Asynchronous Message.
    pub const ASYNC_MESSAGE: u8 = 0x32;
    /// Reject.
    pub const REJECT: u8 = 0x3f;
}

/// Reads and writes big-endian numbers inside a header. Offsets outside it read as zero and write nothing.
pub(crate) trait Fields {
    fn byte(&self, at: usize) -> u8;
    fn be16(&self, at: usize) -> u16;
    fn be24(&self, at: usize) -> u32;
    fn be32(&self, at: usize) -> u32;
    fn be64(&self, at: usize) -> u64;
    fn put(&mut self, at: usize, bytes: &[u8]);

    fn put24(&mut self, at: usize, value: u32) {
        let [_, a, b, c] = value.to_be_bytes();
        self.put(at, &[a, b, c]);
    }
}

impl Fields for [u8] {
    fn byte(&self, at: usize) -> u8 {
        self.get(at).copied().unwrap_or(0)
    }

    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn be24(&self, at: usize) -> u32 {
        u32::from_be_bytes([0, self.byte(at), self.byte(at + 1), self.byte(at + 2)])
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes([
            self.byte(at),
            self.byte(at + 1),
            self.byte(at + 2),
            self.byte(at + 3),
        ])
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from(self.be32(at)) << 32 | u64::from(self.be32(at + 4))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(slot) = self.get_mut(at..at.saturating_add(bytes.len())) {
            slot.copy_from_slice(bytes);
        }
    }
}

/// Bytes of padding after a segment of `bytes` bytes (RFC 7143 §11.1).
pub(crate) fn padding(bytes: usize) -> usize {
    bytes.wrapping_neg() & 3
}

/// `a < b` in RFC 1982 order with 32 bits (RFC 7143 §4.2.2).
pub(crate) fn serial_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// A length as the 32-bit number a header can carry; lengths here are bounded far below 4 GiB.
pub(crate) fn low32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// CRC32C of the concatenated parts (RFC 7143 §13.1), in the order its bytes travel.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 4] {
    parts
        .iter()
        .fold(0, |crc, part| crc32c::crc32c_append(crc, part))
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_the_rfc_examples() {
        // RFC 7143 appendix A (CRC examples): 32 zero bytes, 32 0xff bytes, ascending.
        assert_eq!(digest(&[&[0; 32]]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[&[0xff; 32]]), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(
            digest(&[&ascending[..7], &ascending[7..]]),
            [0x4e, 0x79, 0xdd, 0x46]
        );
    }

    #[test]
    fn serial_order_wraps() {
        assert!(serial_before(0xffff_fffe, 1));
        assert!(!serial_before(1, 0xffff_fffe));
        assert!(!serial_before(7, 7));
    }

    #[test]
    fn padding_fills_the_word() {
        assert_eq!([0, 1, 2, 3, 4].map(padding), [0, 3, 2, 1, 0]);
    }
}
