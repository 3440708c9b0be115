//! A sparse disk in memory and the SCSI device server on top of it (SPC-4, SBC-3).
//!
//! [`Disk`] holds blocks; [`device`] turns a CDB and its data into a reply. Neither knows iSCSI.

pub(crate) mod alua;
pub(crate) mod device;
pub(crate) mod inquiry;
pub(crate) mod mode;
pub(crate) mod reservation;
pub(crate) mod sense;

use std::collections::BTreeMap;

use crate::config::Lun;

const PAGE_BYTES: u64 = 65_536;

/// Sparse block storage; blocks never written read as zero.
#[derive(Debug, Clone)]
pub struct Disk {
    lun: Lun,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    /// Sizes no disk can have are mended: block sizes to 512 bytes, no blocks to one.
    pub(crate) fn new(mut lun: Lun) -> Self {
        lun.blocks = lun.blocks.max(1);
        if !lun.block_bytes.is_power_of_two() || !(512..=65_536).contains(&lun.block_bytes) {
            lun.block_bytes = 512;
        }
        Self {
            lun,
            pages: BTreeMap::new(),
        }
    }

    /// Logical block size in bytes.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.lun.block_bytes
    }

    /// Size in blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.lun.blocks
    }

    pub(crate) fn lun(&self) -> &Lun {
        &self.lun
    }

    pub(crate) fn resize(&mut self, blocks: u64) {
        self.lun.blocks = blocks;
    }

    /// Contents of `blocks` blocks from `lba` on.
    #[must_use]
    pub fn read(&self, lba: u64, blocks: u32) -> Vec<u8> {
        let unit = u64::from(self.lun.block_bytes);
        let mut at = lba.saturating_mul(unit);
        let end = at.saturating_add(u64::from(blocks) * unit);
        let mut out = Vec::with_capacity(usize::try_from(end - at).unwrap_or(0));
        while at < end {
            let within = at % PAGE_BYTES;
            let step = (PAGE_BYTES - within).min(end - at);
            let (from, step_bytes) = (narrow(within), narrow(step));
            match self
                .pages
                .get(&(at / PAGE_BYTES))
                .and_then(|page| page.get(from..from + step_bytes))
            {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + step_bytes, 0),
            }
            at += step;
        }
        out
    }

    /// Replaces whole blocks from `lba` on.
    pub fn write(&mut self, lba: u64, data: &[u8]) {
        let mut at = lba.saturating_mul(u64::from(self.lun.block_bytes));
        let mut rest = data;
        while !rest.is_empty() {
            let within = narrow(at % PAGE_BYTES);
            let step = (narrow(PAGE_BYTES) - within).min(rest.len());
            let (now, later) = rest.split_at(step);
            let page = self
                .pages
                .entry(at / PAGE_BYTES)
                .or_insert_with(|| vec![0; narrow(PAGE_BYTES)]);
            if let Some(slot) = page.get_mut(within..within + step) {
                slot.copy_from_slice(now);
            }
            at += step as u64;
            rest = later;
        }
    }

    pub(crate) fn zero(&mut self, lba: u64, blocks: u64) {
        let unit = u64::from(self.lun.block_bytes);
        let start = lba.saturating_mul(unit);
        let end = start.saturating_add(blocks.saturating_mul(unit));
        let touched: Vec<u64> = self
            .pages
            .range(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES))
            .map(|(index, _)| *index)
            .collect();
        for index in touched {
            let base = index * PAGE_BYTES;
            let from = narrow(start.saturating_sub(base).min(PAGE_BYTES));
            let to = narrow(end.saturating_sub(base).min(PAGE_BYTES));
            if to - from == narrow(PAGE_BYTES) {
                self.pages.remove(&index);
            } else if let Some(slot) = self
                .pages
                .get_mut(&index)
                .and_then(|page| page.get_mut(from..to))
            {
                slot.fill(0);
            }
        }
    }
}

/// A number below one page or one transfer, both far below 4 GiB.
fn narrow(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_across_pages() {
        let mut disk = Disk::new(Lun::default());
        let data: Vec<u8> = (0..512 * 300).map(|i| (i % 251) as u8).collect();
        disk.write(100, &data);
        assert_eq!(disk.read(100, 300), data);
        assert_eq!(disk.read(99, 1), vec![0; 512]);
        disk.zero(110, 200);
        assert_eq!(disk.read(100, 10), data[..5120]);
        assert_eq!(disk.read(110, 200), vec![0; 512 * 200]);
        assert_eq!(disk.read(310, 90), data[210 * 512..]);
    }
}
