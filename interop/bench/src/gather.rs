//! A batch of PDUs on its way out: headers in one arena, payloads by reference, and one vectored
//! write for as many as the system takes.

use std::io::{ErrorKind, IoSlice, Write};
use std::ops::Range;

use anyhow::{Result, bail};

use crate::pdu::{Bhs, padding, set_data_bytes};

/// IOV_MAX of Linux.
const MAX_SLICES: usize = 1024;

/// The data segment of a PDU.
pub(crate) enum Data<'a> {
    None,
    /// Copied beside the header.
    Copied(&'a [u8]),
    /// Part of a payload, by reference.
    Shared(Shared),
}

/// Part of payload number `index`. Its length is a multiple of four; `crc` is its CRC32C, looked
/// at only while data digests are in force.
pub(crate) struct Shared {
    pub(crate) index: usize,
    pub(crate) range: Range<usize>,
    pub(crate) crc: u32,
}

/// PDUs to be written.
#[derive(Default)]
pub(crate) struct Gather {
    arena: Vec<u8>,
    /// How much of the arena is covered by `pieces`.
    covered: usize,
    pieces: Vec<Piece>,
    header_digest: bool,
    data_digest: bool,
}

enum Piece {
    Arena(Range<usize>),
    Shared(usize, Range<usize>),
}

impl Gather {
    /// Puts negotiated digests into force.
    pub(crate) fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Whether data digests are in force.
    pub(crate) fn digests_data(&self) -> bool {
        self.data_digest
    }

    /// Appends a PDU; DataSegmentLength and digests are filled in.
    pub(crate) fn push(&mut self, mut bhs: Bhs, data: Data<'_>) -> Result<()> {
        let bytes = match &data {
            Data::None => 0,
            Data::Copied(data) => data.len(),
            Data::Shared(shared) => shared.range.len(),
        };
        set_data_bytes(&mut bhs, bytes)?;
        self.arena.extend_from_slice(&bhs);
        if self.header_digest {
            let crc = crc32c::crc32c(&bhs);
            self.arena.extend_from_slice(&crc.to_le_bytes());
        }
        let mut crc = match data {
            Data::None => return Ok(()),
            Data::Copied(data) => {
                self.arena.extend_from_slice(data);
                crc32c::crc32c(data)
            }
            Data::Shared(shared) => {
                self.cover();
                self.pieces.push(Piece::Shared(shared.index, shared.range));
                shared.crc
            }
        };
        let pad = [0; 3];
        let pad = pad.get(..padding(bytes)).unwrap_or_default();
        self.arena.extend_from_slice(pad);
        if self.data_digest && bytes > 0 {
            crc = crc32c::crc32c_append(crc, pad);
            self.arena.extend_from_slice(&crc.to_le_bytes());
        }
        Ok(())
    }

    /// Writes all of it; returns the number of bytes.
    pub(crate) fn flush(&mut self, stream: &mut impl Write, payloads: &[Vec<u8>]) -> Result<usize> {
        self.cover();
        let mut total = 0;
        let mut slices = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let bytes: &[u8] = match piece {
                Piece::Arena(range) => self.arena.get(range.clone()).unwrap_or_default(),
                Piece::Shared(index, range) => payloads
                    .get(*index)
                    .and_then(|payload| payload.get(range.clone()))
                    .unwrap_or_default(),
            };
            total += bytes.len();
            slices.push(IoSlice::new(bytes));
        }
        let mut rest: &mut [IoSlice<'_>] = &mut slices;
        while !rest.is_empty() {
            let now = rest.get(..MAX_SLICES).unwrap_or(rest);
            match stream.write_vectored(now) {
                Ok(0) => bail!("the connection takes no more"),
                Ok(bytes) => IoSlice::advance_slices(&mut rest, bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        drop(slices);
        self.arena.clear();
        self.pieces.clear();
        self.covered = 0;
        Ok(total)
    }

    fn cover(&mut self) {
        if self.covered < self.arena.len() {
            self.pieces
                .push(Piece::Arena(self.covered..self.arena.len()));
            self.covered = self.arena.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::BHS_BYTES;

    #[test]
    fn headers_payloads_and_padding_come_in_order() {
        let mut gather = Gather::default();
        gather.push([1; BHS_BYTES], Data::Copied(b"abc")).unwrap();
        let shared = Shared {
            index: 1,
            range: 2..6,
            crc: 0,
        };
        gather.push([2; BHS_BYTES], Data::Shared(shared)).unwrap();
        gather.push([3; BHS_BYTES], Data::None).unwrap();
        let mut out = Vec::new();
        let payloads = [Vec::new(), b"0123456789".to_vec()];
        assert_eq!(gather.flush(&mut out, &payloads).unwrap(), out.len());
        assert_eq!(out.len(), 3 * BHS_BYTES + 8);
        assert_eq!(out[48..52], *b"abc\0");
        assert_eq!(
            (out[52], out[59]),
            (2, 4),
            "the second header and its length"
        );
        assert_eq!(out[100..104], *b"2345");
        assert_eq!(
            (out[104], out[111]),
            (3, 0),
            "the third header and its length"
        );
        assert_eq!(gather.flush(&mut out, &payloads).unwrap(), 0);
    }
}
