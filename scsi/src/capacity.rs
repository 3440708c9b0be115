//! Block addresses and the size of a medium: READ CAPACITY (10) and (16) (SBC-3 §5.15, §5.16).
//!
//! Invariant: a [`Capacity`] has at least one block, a block length other than 0, and a block
//! count that fits `u64`. It does not judge whether a block length is usable.

use std::fmt;

use crate::{ParseError, be};

/// A logical block address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lba(pub u64);

/// A number of logical blocks, as one command can carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Blocks(pub u32);

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Protection information type (SBC-3 §4.22.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtectionType {
    /// Type 1: guard and reference tag.
    Type1,
    /// Type 2: expected tags travel in 32-byte CDBs.
    Type2,
    /// Type 3: the reference tag belongs to the application.
    Type3,
    /// P_TYPE holds this reserved value.
    Reserved(u8),
}

/// What READ CAPACITY says of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capacity {
    /// Address of the last block.
    pub last_lba: Lba,
    /// Bytes of user data in one block; never 0.
    pub block_bytes: u32,
    /// Formatted with protection information (PROT_EN and P_TYPE).
    pub protection: Option<ProtectionType>,
    /// P_I_EXPONENT: 2^n protection intervals in one block.
    pub protection_intervals_exponent: u8,
    /// 2^n logical blocks make a physical block.
    pub logical_per_physical_exponent: u8,
    /// First logical block that begins a physical block.
    pub lowest_aligned_lba: u16,
    /// LBPME: blocks can be unmapped.
    pub provisioning_managed: bool,
    /// LBPRZ: unmapped blocks read as zeros (two bits in SBC-4, the lower is kept here).
    pub unmapped_reads_zero: bool,
}

impl Capacity {
    /// Number of blocks; at least 1.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.last_lba.0.saturating_add(1)
    }

    /// Size in bytes; `None` when it does not fit.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.blocks().checked_mul(u64::from(self.block_bytes))
    }

    /// Bytes of a physical block; `None` when it does not fit.
    #[must_use]
    pub fn physical_block_bytes(&self) -> Option<u32> {
        1_u32
            .checked_shl(u32::from(self.logical_per_physical_exponent))?
            .checked_mul(self.block_bytes)
    }

    /// Reads the data of READ CAPACITY (16). At least 12 bytes are needed; what follows them
    /// counts as zero when it is missing.
    ///
    /// # Errors
    /// [`ParseError`] on short data, a block length of 0, and a last address of 2^64 - 1.
    pub fn parse_16(data: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "READ CAPACITY (16) data";
        let short = ParseError::truncated(WHAT, 12, data.len());
        let (Some(last_lba), Some(block_bytes)) = (be::u64(data, 0), be::u32(data, 8)) else {
            return Err(short);
        };
        if last_lba == u64::MAX {
            return Err(ParseError::bad(
                WHAT,
                "RETURNED LOGICAL BLOCK ADDRESS",
                last_lba,
            ));
        }
        check_block_bytes(WHAT, block_bytes)?;
        let protection = be::u8(data, 12).unwrap_or(0);
        let exponents = be::u8(data, 13).unwrap_or(0);
        let lowest = be::u16(data, 14).unwrap_or(0);
        Ok(Self {
            last_lba: Lba(last_lba),
            block_bytes,
            protection: (protection & 1 != 0).then_some(match protection >> 1 & 7 {
                0 => ProtectionType::Type1,
                1 => ProtectionType::Type2,
                2 => ProtectionType::Type3,
                other => ProtectionType::Reserved(other),
            }),
            protection_intervals_exponent: exponents >> 4,
            logical_per_physical_exponent: exponents & 0xf,
            lowest_aligned_lba: lowest & 0x3fff,
            provisioning_managed: lowest & 0x8000 != 0,
            unmapped_reads_zero: lowest & 0x4000 != 0,
        })
    }

    /// Reads the data of READ CAPACITY (10). `Ok(None)`: the medium is too large for the short
    /// form (last address FFFFFFFFh); READ CAPACITY (16) must be asked.
    ///
    /// # Errors
    /// [`ParseError`] below 8 bytes, and on a block length of 0.
    pub fn parse_10(data: &[u8]) -> Result<Option<Self>, ParseError> {
        const WHAT: &str = "READ CAPACITY (10) data";
        let short = ParseError::truncated(WHAT, 8, data.len());
        let (Some(last_lba), Some(block_bytes)) = (be::u32(data, 0), be::u32(data, 4)) else {
            return Err(short);
        };
        if last_lba == u32::MAX {
            return Ok(None);
        }
        check_block_bytes(WHAT, block_bytes)?;
        Ok(Some(Self {
            last_lba: Lba(u64::from(last_lba)),
            block_bytes,
            protection: None,
            protection_intervals_exponent: 0,
            logical_per_physical_exponent: 0,
            lowest_aligned_lba: 0,
            provisioning_managed: false,
            unmapped_reads_zero: false,
        }))
    }
}

fn check_block_bytes(what: &'static str, block_bytes: u32) -> Result<(), ParseError> {
    if block_bytes == 0 {
        return Err(ParseError::bad(
            what,
            "LOGICAL BLOCK LENGTH IN BYTES",
            0_u32,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form() {
        // 8 TiB of 512-byte blocks, type 2 protection, 4 KiB physical, thin, zeros, aligned at 7.
        let mut data = [0_u8; 32];
        data[..16].copy_from_slice(&[
            0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0, 0b0011, 0x13, 0xc0, 7,
        ]);
        let capacity = Capacity::parse_16(&data).unwrap();
        assert_eq!(
            capacity,
            Capacity {
                last_lba: Lba(0x3_ffff_ffff),
                block_bytes: 512,
                protection: Some(ProtectionType::Type2),
                protection_intervals_exponent: 1,
                logical_per_physical_exponent: 3,
                lowest_aligned_lba: 7,
                provisioning_managed: true,
                unmapped_reads_zero: true,
            }
        );
        assert_eq!(capacity.bytes(), Some(8 << 40));
        assert_eq!(capacity.physical_block_bytes(), Some(4096));
    }

    #[test]
    fn long_form_of_twelve_bytes() {
        let data = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x10, 0];
        let capacity = Capacity::parse_16(&data).unwrap();
        assert_eq!((capacity.blocks(), capacity.block_bytes), (10, 4096));
        assert_eq!(capacity.protection, None);
        assert!(Capacity::parse_16(&data[..11]).is_err());
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let mut data = [0xff_u8; 12];
        data[8..].copy_from_slice(&[0, 0, 2, 0]);
        assert!(matches!(
            Capacity::parse_16(&data),
            Err(ParseError::BadField { .. })
        ));
        assert!(Capacity::parse_16(&[0; 32]).is_err());
        assert!(Capacity::parse_10(&[0; 8]).is_err());
        // 2^63 blocks of 512 bytes: a count, but no number of bytes.
        let mut data = [0_u8; 12];
        data[0] = 0x80;
        data[10] = 2;
        assert_eq!(Capacity::parse_16(&data).unwrap().bytes(), None);
    }

    #[test]
    fn short_form() {
        let small = Capacity::parse_10(&[0, 0, 0xff, 0xff, 0, 0, 2, 0])
            .unwrap()
            .unwrap();
        assert_eq!(small.bytes(), Some(32 << 20));
        let large = Capacity::parse_10(&[0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]).unwrap();
        assert_eq!(large, None);
        assert!(Capacity::parse_10(&[0; 7]).is_err());
    }
}
