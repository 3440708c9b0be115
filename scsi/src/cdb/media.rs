//! Which blocks a foreign CDB touches.
//!
//! Multipath holds back whatever could overlap a write whose fate is unknown. For CDBs an
//! application brings it asks here. The answer errs on the side of touching more: what is not
//! known is [`MediaAccess::Unknown`], never [`MediaAccess::None`].
//!
//! It does not look at parameter lists (UNMAP, EXTENDED COPY): those count as writes anywhere.

use super::Cdb;
use crate::{Lba, be};

/// Consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LbaRange {
    /// The first block.
    pub first: Lba,
    /// How many; `None`: to the end of the medium.
    pub blocks: Option<u64>,
}

impl LbaRange {
    /// The first address behind the range; `None`: none is.
    #[must_use]
    pub fn end(self) -> Option<u64> {
        self.first.0.checked_add(self.blocks?)
    }

    /// Whether a block lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let begins_before_end_of = |a: Self, b: Self| b.end().is_none_or(|end| a.first.0 < end);
        self.blocks != Some(0)
            && other.blocks != Some(0)
            && begins_before_end_of(self, other)
            && begins_before_end_of(other, self)
    }
}

/// What a command does to the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaAccess {
    /// Reads and writes no block.
    None,
    /// Reads (or verifies, or prefetches) these blocks and changes none.
    Read(LbaRange),
    /// May change these blocks and no others.
    Write(LbaRange),
    /// Makes earlier writes to these blocks durable; changes none.
    Flush(LbaRange),
    /// May change any block.
    WriteAnywhere,
    /// Not known to this crate, or cut short: treat like [`MediaAccess::WriteAnywhere`].
    Unknown,
}

/// What READ, WRITE and their kind do, before the range is known.
#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
    /// 0 blocks: to the end of the medium.
    WriteSame,
    /// 0 blocks: to the end of the medium.
    PreFetch,
    /// 0 blocks: to the end of the medium.
    Flush,
}

impl Kind {
    fn of(self, range: Option<(u64, u64)>) -> MediaAccess {
        let Some((lba, blocks)) = range else {
            return MediaAccess::Unknown;
        };
        let exact = LbaRange {
            first: Lba(lba),
            blocks: Some(blocks),
        };
        let zero_is_rest = LbaRange {
            blocks: (blocks != 0).then_some(blocks),
            ..exact
        };
        match self {
            Self::Read => MediaAccess::Read(exact),
            Self::Write => MediaAccess::Write(exact),
            Self::WriteSame => MediaAccess::Write(zero_is_rest),
            Self::PreFetch => MediaAccess::Read(zero_is_rest),
            Self::Flush => MediaAccess::Flush(zero_is_rest),
        }
    }
}

impl Cdb {
    /// What the command does to the medium, by SBC-3 and SPC-4.
    #[must_use]
    pub fn media_access(&self) -> MediaAccess {
        let cdb = self.as_slice();
        match self.operation_code() {
            0x08 => Kind::Read.of(range_6(cdb)),
            0x0a => Kind::Write.of(range_6(cdb)),
            // READ, VERIFY (10, 12, 16)
            0x28 | 0x2f => Kind::Read.of(range_10(cdb)),
            0xa8 | 0xaf => Kind::Read.of(range_12(cdb)),
            0x88 | 0x8f => Kind::Read.of(range_16(cdb)),
            // WRITE, WRITE AND VERIFY (10, 12, 16), XDWRITEREAD (10), ORWRITE (16)
            0x2a | 0x2e | 0x53 => Kind::Write.of(range_10(cdb)),
            0xaa | 0xae => Kind::Write.of(range_12(cdb)),
            0x8a | 0x8e | 0x8b => Kind::Write.of(range_16(cdb)),
            // COMPARE AND WRITE, WRITE ATOMIC (16)
            0x89 => Kind::Write.of(range_compare_and_write(cdb)),
            0x9c => Kind::Write.of(range_write_atomic(cdb)),
            // WRITE SAME
            0x41 => Kind::WriteSame.of(range_10(cdb)),
            0x93 => Kind::WriteSame.of(range_16(cdb)),
            // PRE-FETCH
            0x34 => Kind::PreFetch.of(range_10(cdb)),
            0x90 => Kind::PreFetch.of(range_16(cdb)),
            // SYNCHRONIZE CACHE
            0x35 => Kind::Flush.of(range_10(cdb)),
            0x91 => Kind::Flush.of(range_16(cdb)),
            0x7f => variable_length(cdb),
            // SERVICE ACTION IN (16): READ CAPACITY (16), GET LBA STATUS
            0x9e => match be::u8(cdb, 1).map(|byte| byte & 0x1f) {
                Some(0x10 | 0x12) => MediaAccess::None,
                _ => MediaAccess::Unknown,
            },
            // MAINTENANCE OUT: SET IDENTIFYING INFORMATION, SET TARGET PORT GROUPS, CHANGE
            // ALIASES, SET PRIORITY, SET TIMESTAMP; other device types have more
            0xa4 => match be::u8(cdb, 1).map(|byte| byte & 0x1f) {
                Some(0x06 | 0x0a | 0x0b | 0x0e | 0x0f) => MediaAccess::None,
                _ => MediaAccess::Unknown,
            },
            // FORMAT UNIT, REASSIGN BLOCKS, WRITE LONG (10), UNMAP, SANITIZE, EXTENDED COPY and
            // WRITE USING TOKEN, SERVICE ACTION OUT (16) with WRITE LONG (16)
            0x04 | 0x07 | 0x3f | 0x42 | 0x48 | 0x83 | 0x9f => MediaAccess::WriteAnywhere,
            opcode if is_without_blocks(opcode) => MediaAccess::None,
            _ => MediaAccess::Unknown,
        }
    }
}

/// Commands of SPC-4 and SBC-3 that neither read nor change user data.
const fn is_without_blocks(opcode: u8) -> bool {
    matches!(
        opcode,
        0x00            // TEST UNIT READY
            | 0x03      // REQUEST SENSE
            | 0x12      // INQUIRY
            | 0x15 | 0x55 // MODE SELECT
            | 0x16 | 0x56 // RESERVE
            | 0x17 | 0x57 // RELEASE
            | 0x1a | 0x5a // MODE SENSE
            | 0x1b      // START STOP UNIT
            | 0x1c      // RECEIVE DIAGNOSTIC RESULTS
            | 0x1e      // PREVENT ALLOW MEDIUM REMOVAL
            | 0x25      // READ CAPACITY (10)
            | 0x37 | 0xb7 // READ DEFECT DATA
            | 0x3c      // READ BUFFER (10)
            | 0x4c      // LOG SELECT
            | 0x4d      // LOG SENSE
            | 0x5e      // PERSISTENT RESERVE IN
            | 0x5f      // PERSISTENT RESERVE OUT
            | 0x84      // RECEIVE COPY RESULTS
            | 0xa0      // REPORT LUNS
            | 0xa2      // SECURITY PROTOCOL IN
            | 0xa3 // MAINTENANCE IN
    )
}

fn range_6(cdb: &[u8]) -> Option<(u64, u64)> {
    let [_, a, b, c, length, _] = be::array(cdb, 0)?;
    let lba = u32::from_be_bytes([0, a & 0x1f, b, c]);
    let blocks = if length == 0 { 256 } else { u64::from(length) };
    Some((u64::from(lba), blocks))
}

fn range_10(cdb: &[u8]) -> Option<(u64, u64)> {
    Some((be::u32(cdb, 2)?.into(), be::u16(cdb, 7)?.into()))
}

fn range_12(cdb: &[u8]) -> Option<(u64, u64)> {
    Some((be::u32(cdb, 2)?.into(), be::u32(cdb, 6)?.into()))
}

fn range_16(cdb: &[u8]) -> Option<(u64, u64)> {
    Some((be::u64(cdb, 2)?, be::u32(cdb, 10)?.into()))
}

fn range_compare_and_write(cdb: &[u8]) -> Option<(u64, u64)> {
    Some((be::u64(cdb, 2)?, be::u8(cdb, 13)?.into()))
}

/// The atomic boundary sits where other commands have the length (SBC-4).
fn range_write_atomic(cdb: &[u8]) -> Option<(u64, u64)> {
    Some((be::u64(cdb, 2)?, be::u16(cdb, 12)?.into()))
}

/// Variable-length CDBs with 32 bytes: LBA at 12, length at 28.
fn variable_length(cdb: &[u8]) -> MediaAccess {
    let range = be::u64(cdb, 12).zip(be::u32(cdb, 28).map(u64::from));
    match be::u16(cdb, 8) {
        // READ (32), VERIFY (32)
        Some(0x0009 | 0x000a) => Kind::Read.of(range),
        // WRITE (32), WRITE AND VERIFY (32)
        Some(0x000b | 0x000c) => Kind::Write.of(range),
        // WRITE SAME (32)
        Some(0x000d) => Kind::WriteSame.of(range),
        _ => MediaAccess::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blocks;
    use crate::cdb::block::RwOptions;

    fn access(bytes: &[u8]) -> MediaAccess {
        Cdb::from_slice(bytes).unwrap().media_access()
    }

    fn range(first: u64, blocks: u64) -> LbaRange {
        LbaRange {
            first: Lba(first),
            blocks: Some(blocks),
        }
    }

    #[test]
    fn ranges_by_the_standard() {
        let cases: [(&[u8], MediaAccess); 14] = [
            // The three highest bits of byte 1 are no address.
            (
                &[0x08, 0xff, 1, 2, 0, 0],
                MediaAccess::Read(range(0x1f_0102, 256)),
            ),
            (&[0x0a, 0, 0, 9, 3, 0], MediaAccess::Write(range(9, 3))),
            (
                &[0x2a, 0, 1, 2, 3, 4, 0, 5, 6, 0],
                MediaAccess::Write(range(0x0102_0304, 0x0506)),
            ),
            (
                &[0xa8, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0],
                MediaAccess::Read(range(1, 0x1_0000)),
            ),
            (
                &[0x8a, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0],
                MediaAccess::Write(range(1 << 32, 8)),
            ),
            (
                &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 9, 9, 9, 1, 0, 0],
                MediaAccess::Write(range(5, 1)),
            ),
            (
                &[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0],
                MediaAccess::Write(LbaRange {
                    first: Lba(5),
                    blocks: None,
                }),
            ),
            (
                &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                MediaAccess::Flush(LbaRange {
                    first: Lba(0),
                    blocks: None,
                }),
            ),
            (
                &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
                MediaAccess::WriteAnywhere,
            ),
            (&[0x12, 0, 0, 0, 36, 0], MediaAccess::None),
            (&[0xc0, 0, 0, 0, 0, 0], MediaAccess::Unknown),
            // SET TARGET PORT GROUPS, and a service action of array controllers.
            (
                &[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0],
                MediaAccess::None,
            ),
            (
                &[0xa4, 0x01, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0],
                MediaAccess::Unknown,
            ),
            // Cut short: an unknown range, not an empty one.
            (&[0x2a, 0, 0, 0], MediaAccess::Unknown),
        ];
        for (bytes, expected) in cases {
            assert_eq!(access(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn thirty_two_bytes() {
        let mut cdb = [0_u8; 32];
        cdb[0] = 0x7f;
        cdb[7] = 0x18;
        cdb[9] = 0x0b;
        cdb[19] = 7;
        cdb[31] = 2;
        assert_eq!(access(&cdb), MediaAccess::Write(range(7, 2)));
        cdb[9] = 0x09;
        assert_eq!(access(&cdb), MediaAccess::Read(range(7, 2)));
        assert_eq!(access(&cdb[..28]), MediaAccess::Unknown);
    }

    #[test]
    fn overlap() {
        let rest = LbaRange {
            first: Lba(10),
            blocks: None,
        };
        assert!(range(0, 8).overlaps(range(7, 1)));
        assert!(!range(0, 8).overlaps(range(8, 1)));
        assert!(!range(8, 1).overlaps(range(0, 8)));
        assert!(!range(5, 0).overlaps(range(0, 10)));
        assert!(rest.overlaps(range(u64::MAX, 1)));
        assert!(!rest.overlaps(range(0, 10)));
        assert!(rest.overlaps(rest));
        // A range whose end does not fit reaches to the end of everything.
        assert!(range(u64::MAX, 2).overlaps(range(u64::MAX, 1)));
    }

    proptest::proptest! {
        #[test]
        fn what_we_build_is_read_back(lba: u64, blocks: u32, fua: bool) {
            let options = RwOptions { fua, ..RwOptions::default() };
            let expected = range(lba, u64::from(blocks));
            let read = Cdb::read(Lba(lba), Blocks(blocks), options);
            proptest::prop_assert_eq!(read.media_access(), MediaAccess::Read(expected));
            let write = Cdb::write(Lba(lba), Blocks(blocks), options);
            proptest::prop_assert_eq!(write.media_access(), MediaAccess::Write(expected));
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..=260)) {
            let _ = access(&bytes);
        }
    }
}
