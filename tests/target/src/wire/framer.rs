//! Cuts a byte stream into PDUs (RFC 7143 §11.2) and verifies digests.
//!
//! Invariant: never holds more than one oversized PDU; a segment longer than [`SEGMENT_CEILING`] ends the stream.
//! Judging what a PDU says is not done here.

use bytes::{Buf, Bytes, BytesMut};

use super::{BHS_BYTES, Fields, Header, digest, padding};

/// Longest data segment read at all, far above what this target declares, so that a lie is seen and named.
pub(crate) const SEGMENT_CEILING: usize = 16 << 20;

/// One PDU as it came.
#[derive(Debug, Clone)]
pub(crate) struct RawPdu {
    pub(crate) header: Header,
    pub(crate) ahs: Bytes,
    pub(crate) data: Bytes,
    pub(crate) padding_zero: bool,
    pub(crate) data_digest_good: bool,
}

impl RawPdu {
    pub(crate) fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    pub(crate) fn immediate(&self) -> bool {
        self.header[0] & 0x40 != 0
    }

    pub(crate) fn itt(&self) -> u32 {
        self.header.be32(16)
    }

    pub(crate) fn cmd_sn(&self) -> u32 {
        self.header.be32(24)
    }

    pub(crate) fn exp_stat_sn(&self) -> u32 {
        self.header.be32(28)
    }
}

/// Why the stream cannot be cut any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    HeaderDigest,
    Oversize(usize),
}

/// The receive side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    buffer: BytesMut,
    header_checked: bool,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
}

impl Framer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole PDU, if it is there.
    pub(crate) fn next(&mut self) -> Result<Option<RawPdu>, Broken> {
        let mut header = [0; BHS_BYTES];
        let Some(front) = self.buffer.get(..BHS_BYTES) else {
            return Ok(None);
        };
        header.copy_from_slice(front);
        let ahs_bytes = usize::from(header[4]) * 4;
        let header_end = BHS_BYTES + ahs_bytes;
        let digest_bytes = if self.header_digest { 4 } else { 0 };
        if self.buffer.len() < header_end + digest_bytes {
            return Ok(None);
        }
        if self.header_digest && !self.header_checked {
            let whole = self.buffer.get(..header_end).unwrap_or_default();
            let sent = self
                .buffer
                .get(header_end..header_end + 4)
                .unwrap_or_default();
            if digest(&[whole]) != sent {
                return Err(Broken::HeaderDigest);
            }
            self.header_checked = true;
        }
        let data_bytes = header.be24(5) as usize;
        if data_bytes > SEGMENT_CEILING {
            return Err(Broken::Oversize(data_bytes));
        }
        let pad = padding(data_bytes);
        let trailer = if self.data_digest && data_bytes > 0 {
            4
        } else {
            0
        };
        let total = header_end + digest_bytes + data_bytes + pad + trailer;
        if self.buffer.len() < total {
            self.buffer.reserve(total - self.buffer.len());
            return Ok(None);
        }
        self.header_checked = false;
        let mut pdu = self.buffer.split_to(total).freeze();
        pdu.advance(BHS_BYTES);
        let ahs = pdu.split_to(ahs_bytes);
        pdu.advance(digest_bytes);
        let mut padded = pdu.split_to(data_bytes + pad);
        let data_digest_good = trailer == 0 || digest(&[&padded]) == *pdu;
        let data = padded.split_to(data_bytes);
        let padding_zero = padded.iter().all(|byte| *byte == 0);
        Ok(Some(RawPdu {
            header,
            ahs,
            data,
            padding_zero,
            data_digest_good,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(data: &[u8], header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut header = [0; BHS_BYTES];
        header[0] = 0x05;
        header.put24(5, u32::try_from(data.len()).unwrap());
        let mut bytes = header.to_vec();
        if header_digest {
            bytes.extend(crc32c::crc32c(&header).to_le_bytes());
        }
        let mut segment = data.to_vec();
        segment.resize(data.len().div_ceil(4) * 4, 0);
        bytes.extend(&segment);
        if data_digest {
            bytes.extend(crc32c::crc32c(&segment).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn every_split_gives_the_same_pdu() {
        let bytes = sample(b"hello", true, true);
        for at in 0..bytes.len() {
            let mut framer = Framer {
                header_digest: true,
                data_digest: true,
                ..Framer::default()
            };
            framer.push(&bytes[..at]);
            assert!(framer.next().unwrap().is_none());
            framer.push(&bytes[at..]);
            let pdu = framer.next().unwrap().unwrap();
            assert_eq!(&pdu.data[..], b"hello");
            assert!(pdu.data_digest_good && pdu.padding_zero);
        }
    }

    #[test]
    fn flipped_digests_are_seen() {
        let mut bytes = sample(b"hello", true, true);
        bytes[49] ^= 1;
        let mut framer = Framer {
            header_digest: true,
            data_digest: true,
            ..Framer::default()
        };
        framer.push(&bytes);
        assert_eq!(framer.next().unwrap_err(), Broken::HeaderDigest);
        let mut bytes = sample(b"hello", true, true);
        bytes[53] ^= 1;
        let mut framer = Framer {
            header_digest: true,
            data_digest: true,
            ..Framer::default()
        };
        framer.push(&bytes);
        assert!(!framer.next().unwrap().unwrap().data_digest_good);
    }
}
