//! Page B0h: block limits (SBC-3 §6.5.3, with the atomic fields of SBC-4).
//!
//! A limit of 0 means "not reported" and is `None` here, as is one behind the end of a short
//! page (SBC-2's page has 16 bytes). Lengths are in logical blocks.

use super::{page, page_of};
use crate::{ParseError, be};

/// Page B0h. All lengths in logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BlockLimits {
    /// WSNZ: WRITE SAME with a length of 0 is refused.
    pub write_same_non_zero: bool,
    /// Longest COMPARE AND WRITE. A target may report this without having the command.
    pub max_compare_and_write: Option<u8>,
    /// Transfers that are multiples of this are fast.
    pub optimal_transfer_granularity: Option<u16>,
    /// Longest transfer of one command; longer ones are refused.
    pub max_transfer: Option<u32>,
    /// Longer transfers are slower.
    pub optimal_transfer: Option<u32>,
    /// Longest PRE-FETCH.
    pub max_prefetch: Option<u32>,
    /// Most blocks of one UNMAP; `None` when 0 or not reported, `Some(u32::MAX)`: no limit.
    pub max_unmap_blocks: Option<u32>,
    /// Most descriptors of one UNMAP; `Some(u32::MAX)`: no limit.
    pub max_unmap_descriptors: Option<u32>,
    /// UNMAPs of multiples of this are optimal.
    pub optimal_unmap_granularity: Option<u32>,
    /// First block at which an optimal UNMAP starts, when UGAVALID is set.
    pub unmap_granularity_alignment: Option<u32>,
    /// Longest WRITE SAME.
    pub max_write_same: Option<u64>,
    /// Longest WRITE ATOMIC without boundaries.
    pub max_atomic_transfer: Option<u32>,
    /// Alignment of an atomic write.
    pub atomic_alignment: Option<u32>,
    /// Atomic writes are multiples of this.
    pub atomic_transfer_granularity: Option<u32>,
    /// Longest WRITE ATOMIC with boundaries.
    pub max_atomic_transfer_with_boundary: Option<u32>,
    /// Largest atomic boundary.
    pub max_atomic_boundary: Option<u32>,
}

impl BlockLimits {
    /// Reads page B0h.
    ///
    /// # Errors
    /// [`ParseError`] below 4 bytes, and on another page code.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let data = page_of("VPD page B0h", page::BLOCK_LIMITS, data)?;
        let number = |at: usize| be::u32(data, at).filter(|&value| value != 0);
        let alignment = be::u32(data, 32).filter(|value| value & 0x8000_0000 != 0);
        Ok(Self {
            write_same_non_zero: be::bit(data, 4, 0),
            max_compare_and_write: be::u8(data, 5).filter(|&value| value != 0),
            optimal_transfer_granularity: be::u16(data, 6).filter(|&value| value != 0),
            max_transfer: number(8),
            optimal_transfer: number(12),
            max_prefetch: number(16),
            max_unmap_blocks: number(20),
            max_unmap_descriptors: number(24),
            optimal_unmap_granularity: number(28),
            unmap_granularity_alignment: alignment.map(|value| value & 0x7fff_ffff),
            max_write_same: be::u64(data, 36).filter(|&value| value != 0),
            max_atomic_transfer: number(44),
            atomic_alignment: number(48),
            atomic_transfer_granularity: number(52),
            max_atomic_transfer_with_boundary: number(56),
            max_atomic_boundary: number(60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field() {
        let mut data = vec![0, 0xb0, 0, 0x3c, 0x01, 128, 0, 8];
        for value in [0x1000_u32, 0x800, 0x700, 0xffff_ffff, 16, 32] {
            data.extend_from_slice(&value.to_be_bytes());
        }
        data.extend_from_slice(&0x8000_0005_u32.to_be_bytes());
        data.extend_from_slice(&0x1_0000_0000_u64.to_be_bytes());
        for value in [21_u32, 22, 23, 24, 25] {
            data.extend_from_slice(&value.to_be_bytes());
        }
        assert_eq!(data.len(), 64);
        assert_eq!(
            BlockLimits::parse(&data).unwrap(),
            BlockLimits {
                write_same_non_zero: true,
                max_compare_and_write: Some(128),
                optimal_transfer_granularity: Some(8),
                max_transfer: Some(0x1000),
                optimal_transfer: Some(0x800),
                max_prefetch: Some(0x700),
                max_unmap_blocks: Some(u32::MAX),
                max_unmap_descriptors: Some(16),
                optimal_unmap_granularity: Some(32),
                unmap_granularity_alignment: Some(5),
                max_write_same: Some(1 << 32),
                max_atomic_transfer: Some(21),
                atomic_alignment: Some(22),
                atomic_transfer_granularity: Some(23),
                max_atomic_transfer_with_boundary: Some(24),
                max_atomic_boundary: Some(25),
            }
        );
    }

    #[test]
    fn zero_and_absent_mean_not_reported() {
        // SBC-2's page; the byte behind its length is no field.
        let data = [
            0, 0xb0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 9, 9, 9, 9,
        ];
        let limits = BlockLimits::parse(&data).unwrap();
        assert_eq!(limits.optimal_transfer_granularity, Some(1));
        assert_eq!(limits.max_transfer, None);
        assert_eq!(limits.optimal_transfer, Some(0x400));
        assert_eq!(limits.max_prefetch, None);
        // An alignment without UGAVALID does not count.
        let mut data = [0_u8; 64];
        data[1] = 0xb0;
        data[3] = 60;
        data[35] = 5;
        assert_eq!(BlockLimits::parse(&data).unwrap(), BlockLimits::default());
    }
}
