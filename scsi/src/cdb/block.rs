//! Builders for disks (SBC-3 §5): capacity, reads, writes, cache.

use super::Cdb;
use crate::{Blocks, Lba};

/// What a READ or WRITE of 10 bytes and more carries besides address and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RwOptions {
    /// FUA: from or to the medium itself, not only a volatile cache.
    pub fua: bool,
    /// DPO: not worth keeping in the cache.
    pub dpo: bool,
    /// RDPROTECT or WRPROTECT, 3 bits (higher bits are cut off).
    pub protect: u8,
    /// GROUP NUMBER, 6 bits (higher bits are cut off).
    pub group: u8,
}

impl RwOptions {
    /// Nothing but FUA.
    pub const FUA: Self = Self {
        fua: true,
        dpo: false,
        protect: 0,
        group: 0,
    };

    const fn flags(self) -> u8 {
        let dpo = if self.dpo { 0x10 } else { 0 };
        let fua = if self.fua { 0x08 } else { 0 };
        (self.protect & 7) << 5 | dpo | fua
    }

    const fn group(self) -> u8 {
        self.group & 0x3f
    }
}

/// The operation codes of one command in its four lengths.
struct Opcodes {
    six: u8,
    ten: u8,
    twelve: u8,
    sixteen: u8,
}

const READ: Opcodes = Opcodes {
    six: 0x08,
    ten: 0x28,
    twelve: 0xa8,
    sixteen: 0x88,
};

const WRITE: Opcodes = Opcodes {
    six: 0x0a,
    ten: 0x2a,
    twelve: 0xaa,
    sixteen: 0x8a,
};

impl Opcodes {
    /// 21 bits of address, 1 to 256 blocks (a length of 0 means 256), no options.
    fn build_6(&self, lba: Lba, blocks: Blocks) -> Option<Cdb> {
        let [zero, a, b, c] = u32::try_from(lba.0).ok()?.to_be_bytes();
        let length = match blocks.0 {
            256 => 0,
            1..=255 => u8::try_from(blocks.0).ok()?,
            _ => return None,
        };
        (zero == 0 && a <= 0x1f).then(|| Cdb::fixed([self.six, a, b, c, length, 0]))
    }

    fn build_10(&self, lba: Lba, blocks: Blocks, options: RwOptions) -> Option<Cdb> {
        let [a, b, c, d] = u32::try_from(lba.0).ok()?.to_be_bytes();
        let [e, f] = u16::try_from(blocks.0).ok()?.to_be_bytes();
        let (flags, group) = (options.flags(), options.group());
        Some(Cdb::fixed([self.ten, flags, a, b, c, d, group, e, f, 0]))
    }

    fn build_12(&self, lba: Lba, blocks: Blocks, options: RwOptions) -> Option<Cdb> {
        let [a, b, c, d] = u32::try_from(lba.0).ok()?.to_be_bytes();
        let [e, f, g, h] = blocks.0.to_be_bytes();
        let (flags, group) = (options.flags(), options.group());
        Some(Cdb::fixed([
            self.twelve,
            flags,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            group,
            0,
        ]))
    }

    fn build_16(&self, lba: Lba, blocks: Blocks, options: RwOptions) -> Cdb {
        let [a, b, c, d, e, f, g, h] = lba.0.to_be_bytes();
        let [i, j, k, l] = blocks.0.to_be_bytes();
        let (flags, group) = (options.flags(), options.group());
        Cdb::fixed([
            self.sixteen,
            flags,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            i,
            j,
            k,
            l,
            group,
            0,
        ])
    }

    fn build(&self, lba: Lba, blocks: Blocks, options: RwOptions) -> Cdb {
        self.build_10(lba, blocks, options)
            .or_else(|| self.build_12(lba, blocks, options))
            .unwrap_or_else(|| self.build_16(lba, blocks, options))
    }
}

impl Cdb {
    /// READ in the smallest form of 10, 12 or 16 bytes that holds the address and the length.
    ///
    /// Never READ (6): it has no FUA, takes a length of 0 for 256, and SBC-3 asks to move away
    /// from it. Ask for it with [`Cdb::read_6`].
    #[must_use]
    pub fn read(lba: Lba, blocks: Blocks, options: RwOptions) -> Self {
        READ.build(lba, blocks, options)
    }

    /// READ (6) (08h): address below 2^21, 1 to 256 blocks; else `None`.
    #[must_use]
    pub fn read_6(lba: Lba, blocks: Blocks) -> Option<Self> {
        READ.build_6(lba, blocks)
    }

    /// READ (10) (28h): address below 2^32, at most 65535 blocks; else `None`.
    #[must_use]
    pub fn read_10(lba: Lba, blocks: Blocks, options: RwOptions) -> Option<Self> {
        READ.build_10(lba, blocks, options)
    }

    /// READ (12) (A8h): address below 2^32; else `None`.
    #[must_use]
    pub fn read_12(lba: Lba, blocks: Blocks, options: RwOptions) -> Option<Self> {
        READ.build_12(lba, blocks, options)
    }

    /// READ (16) (88h).
    #[must_use]
    pub fn read_16(lba: Lba, blocks: Blocks, options: RwOptions) -> Self {
        READ.build_16(lba, blocks, options)
    }

    /// WRITE in the smallest form of 10, 12 or 16 bytes; see [`Cdb::read`].
    #[must_use]
    pub fn write(lba: Lba, blocks: Blocks, options: RwOptions) -> Self {
        WRITE.build(lba, blocks, options)
    }

    /// WRITE (6) (0Ah): address below 2^21, 1 to 256 blocks; else `None`.
    #[must_use]
    pub fn write_6(lba: Lba, blocks: Blocks) -> Option<Self> {
        WRITE.build_6(lba, blocks)
    }

    /// WRITE (10) (2Ah): address below 2^32, at most 65535 blocks; else `None`.
    #[must_use]
    pub fn write_10(lba: Lba, blocks: Blocks, options: RwOptions) -> Option<Self> {
        WRITE.build_10(lba, blocks, options)
    }

    /// WRITE (12) (AAh): address below 2^32; else `None`.
    #[must_use]
    pub fn write_12(lba: Lba, blocks: Blocks, options: RwOptions) -> Option<Self> {
        WRITE.build_12(lba, blocks, options)
    }

    /// WRITE (16) (8Ah).
    #[must_use]
    pub fn write_16(lba: Lba, blocks: Blocks, options: RwOptions) -> Self {
        WRITE.build_16(lba, blocks, options)
    }

    /// READ CAPACITY (10) (25h). The answer has 8 bytes.
    #[must_use]
    pub fn read_capacity_10() -> Self {
        Self::fixed([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// READ CAPACITY (16) (9Eh, service action 10h). The answer has 32 bytes.
    #[must_use]
    pub fn read_capacity_16(allocation: u32) -> Self {
        let [a, b, c, d] = allocation.to_be_bytes();
        Self::fixed([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// SYNCHRONIZE CACHE (10) (35h) of the whole medium: address 0, length 0 ("to the end").
    #[must_use]
    pub fn synchronize_cache() -> Self {
        Self::fixed([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// SYNCHRONIZE CACHE (10) (35h). 0 blocks: to the end of the medium. `None` when address
    /// or length do not fit.
    #[must_use]
    pub fn synchronize_cache_10(lba: Lba, blocks: Blocks) -> Option<Self> {
        let [a, b, c, d] = u32::try_from(lba.0).ok()?.to_be_bytes();
        let [e, f] = u16::try_from(blocks.0).ok()?.to_be_bytes();
        Some(Self::fixed([0x35, 0, a, b, c, d, 0, e, f, 0]))
    }

    /// SYNCHRONIZE CACHE (16) (91h). 0 blocks: to the end of the medium.
    #[must_use]
    pub fn synchronize_cache_16(lba: Lba, blocks: Blocks) -> Self {
        let [a, b, c, d, e, f, g, h] = lba.0.to_be_bytes();
        let [i, j, k, l] = blocks.0.to_be_bytes();
        Self::fixed([0x91, 0, a, b, c, d, e, f, g, h, i, j, k, l, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RwOptions = RwOptions {
        fua: false,
        dpo: false,
        protect: 0,
        group: 0,
    };

    #[test]
    fn six_bytes() {
        let cdb = Cdb::read_6(Lba(0x1f_ffff), Blocks(256)).unwrap();
        assert_eq!(cdb.as_slice(), [0x08, 0x1f, 0xff, 0xff, 0, 0]);
        let cdb = Cdb::write_6(Lba(0x01_0203), Blocks(255)).unwrap();
        assert_eq!(cdb.as_slice(), [0x0a, 1, 2, 3, 255, 0]);
        assert_eq!(Cdb::read_6(Lba(0x20_0000), Blocks(1)), None);
        assert_eq!(Cdb::read_6(Lba(0x100_0000), Blocks(1)), None);
        // A length of 0 would mean 256.
        assert_eq!(Cdb::write_6(Lba(0), Blocks(0)), None);
        assert_eq!(Cdb::write_6(Lba(0), Blocks(257)), None);
    }

    #[test]
    fn smallest_form() {
        let options = RwOptions {
            fua: true,
            dpo: true,
            protect: 1,
            group: 5,
        };
        assert_eq!(
            Cdb::read(Lba(0xffff_ffff), Blocks(0xffff), PLAIN).as_slice(),
            [0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]
        );
        assert_eq!(
            Cdb::write(Lba(0x0102_0304), Blocks(0x0506), options).as_slice(),
            [0x2a, 0x38, 1, 2, 3, 4, 5, 5, 6, 0]
        );
        assert_eq!(
            Cdb::write(Lba(0x0102_0304), Blocks(0x1_0000), RwOptions::FUA).as_slice(),
            [0xaa, 0x08, 1, 2, 3, 4, 0, 1, 0, 0, 0, 0]
        );
        assert_eq!(
            Cdb::read(Lba(0x01_0203_0405), Blocks(7), options).as_slice(),
            [0x88, 0x38, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 7, 5, 0]
        );
        assert_eq!(
            Cdb::write(Lba(u64::MAX), Blocks(u32::MAX), PLAIN).as_slice()[..2],
            [0x8a, 0]
        );
        assert_eq!(Cdb::read_12(Lba(1 << 32), Blocks(1), PLAIN), None);
        assert_eq!(
            Cdb::read_12(Lba(1), Blocks(2), options).unwrap().as_slice(),
            [0xa8, 0x38, 0, 0, 0, 1, 0, 0, 0, 2, 5, 0]
        );
    }

    #[test]
    fn capacity_and_cache() {
        assert_eq!(
            Cdb::read_capacity_10().as_slice(),
            [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            Cdb::read_capacity_16(32).as_slice(),
            [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
        );
        assert_eq!(
            Cdb::synchronize_cache_10(Lba(0x0a0b_0c0d), Blocks(0x0102))
                .unwrap()
                .as_slice(),
            [0x35, 0, 0x0a, 0x0b, 0x0c, 0x0d, 0, 1, 2, 0]
        );
        assert_eq!(Cdb::synchronize_cache_10(Lba(1 << 32), Blocks(1)), None);
        assert_eq!(
            Cdb::synchronize_cache_16(Lba(1 << 32), Blocks(3)).as_slice(),
            [0x91, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]
        );
    }
}
