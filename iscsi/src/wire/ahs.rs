//! Additional header segments (RFC 7143 §11.2.2): extended CDBs and the read length of
//! bidirectional commands.

use scsi::Cdb;

use super::{MAX_AHS_BYTES, WireError};

/// AHSLength, AHSType.
const PREFIX_BYTES: usize = 3;
const EXTENDED_CDB: u8 = 1;
const BIDIRECTIONAL_READ: u8 = 2;
/// Bits 0 and 1 of AHSType are reserved.
const TYPE_MASK: u8 = 0x3f;
/// Part of a CDB that the basic header segment holds.
const CDB_IN_BHS: usize = 16;

/// One additional header segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ahs<'a> {
    /// The bytes of a CDB from byte 16 on, without padding (§11.2.2.3).
    ExtendedCdb(&'a [u8]),
    /// Bidirectional Read Expected Data Transfer Length, in bytes (§11.2.2.4).
    BidirectionalReadBytes(u32),
    /// A type that is not defined, to be skipped.
    Unknown {
        /// Its AHSType.
        kind: u8,
        /// What follows AHSType, without padding.
        specific: &'a [u8],
    },
}

/// The additional header segments in `bytes`, which are TotalAHSLength long. Ends after the first
/// error, for nothing behind it can be found.
pub fn segments(bytes: &[u8]) -> impl Iterator<Item = Result<Ahs<'_>, WireError>> {
    Segments { bytes, offset: 0 }
}

struct Segments<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Ahs<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.offset..).unwrap_or(&[]);
        if rest.is_empty() {
            return None;
        }
        Some(match parse(rest) {
            Ok((segment, advance)) => {
                self.offset = self.offset.saturating_add(advance);
                Ok(segment)
            }
            Err(length) => {
                let offset = std::mem::replace(&mut self.offset, self.bytes.len());
                Err(WireError::BadAhsLength { offset, length })
            }
        })
    }
}

/// The first segment of `rest` and where the next one begins; its AHSLength when that is wrong.
fn parse(rest: &[u8]) -> Result<(Ahs<'_>, usize), u16> {
    let Some((&[high, low, kind], behind)) = rest.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(0);
    };
    let length = u16::from_be_bytes([high, low]);
    let specific = behind.get(..usize::from(length)).ok_or(length)?;
    let advance = (PREFIX_BYTES + specific.len()).next_multiple_of(4);
    let segment = match (kind & TYPE_MASK, specific) {
        // Byte 0 of what follows AHSType is reserved in both, and counted in AHSLength.
        (EXTENDED_CDB, [_, cdb @ ..]) if !cdb.is_empty() => Ahs::ExtendedCdb(cdb),
        (BIDIRECTIONAL_READ, &[_, a, b, c, d]) => {
            Ahs::BidirectionalReadBytes(u32::from_be_bytes([a, b, c, d]))
        }
        (EXTENDED_CDB | BIDIRECTIONAL_READ, _) => return Err(length),
        (kind, specific) => Ahs::Unknown { kind, specific },
    };
    Ok((segment, advance))
}

/// The part of a CDB that goes into the basic header segment, padded with zeros.
#[must_use]
pub fn cdb_head(cdb: &Cdb) -> [u8; CDB_IN_BHS] {
    let mut head = [0; CDB_IN_BHS];
    for (to, from) in head.iter_mut().zip(cdb.as_slice()) {
        *to = *from;
    }
    head
}

/// Appends to `out` the extended-CDB segment, padding included, that a CDB above 16 bytes needs;
/// nothing for a shorter one. Returns the bytes appended, a multiple of 4.
pub fn put_extended_cdb(cdb: &Cdb, out: &mut Vec<u8>) -> u16 {
    let Some(tail) = cdb.as_slice().get(CDB_IN_BHS..).filter(|t| !t.is_empty()) else {
        return 0;
    };
    // A CDB has at most 260 bytes, so this is at most 245.
    let length = u16::try_from(tail.len() + 1).unwrap_or(u16::MAX);
    put(EXTENDED_CDB, length, tail, out)
}

/// Appends the segment of a bidirectional command's read length. Returns the bytes appended.
pub fn put_bidirectional_read(bytes: u32, out: &mut Vec<u8>) -> u16 {
    put(BIDIRECTIONAL_READ, 5, &bytes.to_be_bytes(), out)
}

fn put(kind: u8, length: u16, tail: &[u8], out: &mut Vec<u8>) -> u16 {
    debug_assert!(tail.len() + 4 <= MAX_AHS_BYTES);
    let before = out.len();
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(tail);
    let written = out.len() - before;
    out.resize(before + written.next_multiple_of(4), 0);
    u16::try_from(out.len() - before).unwrap_or(u16::MAX)
}
