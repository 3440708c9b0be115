//! The device server: what each CDB does to a [`Unit`] (SPC-4 §6, SBC-3 §5).
//!
//! Invariant: a command that fails changes nothing, except that a transfer shortened by the initiator
//! (RFC 7143 §11.4.5.2) acts on the whole blocks that came. Unit attentions belong to nexuses and are kept there.

use std::collections::BTreeSet;

use super::inquiry::{
    self, Entrance, TRANSFER_LIMIT_BLOCKS, UNMAP_DESCRIPTORS, UNMAP_LIMIT_BLOCKS,
};
use super::mode::{self, ModeState};
use super::reservation::Registry;
use super::sense::Sense;
use super::{Disk, narrow};
use crate::wire::Fields as _;

pub(crate) type Cdb = [u8; 16];

/// SCSI status codes used here (SAM-5 §5.3).
pub mod status {
    /// GOOD.
    pub const GOOD: u8 = 0x00;
    /// CHECK CONDITION.
    pub const CHECK_CONDITION: u8 = 0x02;
    /// BUSY.
    pub const BUSY: u8 = 0x08;
    /// RESERVATION CONFLICT.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// TASK SET FULL.
    pub const TASK_SET_FULL: u8 = 0x28;
    /// ACA ACTIVE.
    pub const ACA_ACTIVE: u8 = 0x30;
}

/// A logical unit with its volatile state.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) disk: Disk,
    pub(crate) mode: ModeState,
    pub(crate) reservations: Registry,
    stopped: bool,
    prevented_by: BTreeSet<u16>,
}

/// What a command came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u8,
    pub(crate) data: Vec<u8>,
    pub(crate) sense: Option<Sense>,
    /// Blocks changed: first LBA and count.
    pub(crate) wrote: Option<(u64, u64)>,
}

impl Reply {
    pub(crate) fn good(data: Vec<u8>) -> Self {
        Self {
            data,
            ..Self::default()
        }
    }

    pub(crate) fn check(sense: Sense) -> Self {
        Self {
            status: status::CHECK_CONDITION,
            sense: Some(sense),
            ..Self::default()
        }
    }

    fn wrote(lba: u64, blocks: u64) -> Self {
        Self {
            wrote: (blocks > 0).then_some((lba, blocks)),
            ..Self::default()
        }
    }
}

/// Who sends the command and through where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sender {
    pub(crate) session: u16,
    /// iSCSIProtocolLevel of the session.
    pub(crate) protocol_level: u8,
    /// Name and ISID in the form of a TransportID (SPC-4 §7.6.4.6).
    pub(crate) initiator_port: String,
    pub(crate) entrance: Entrance,
}

/// First LBA and length in blocks of a block command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    lba: u64,
    blocks: u64,
}

fn extent(cdb: &Cdb) -> Extent {
    let (lba, blocks) = match cdb[0] >> 5 {
        0 => {
            let blocks = if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) };
            (u64::from(cdb.be24(1) & 0x1f_ffff), blocks)
        }
        1 | 2 => (u64::from(cdb.be32(2)), u64::from(cdb.be16(7))),
        5 => (u64::from(cdb.be32(2)), u64::from(cdb.be32(6))),
        _ => (cdb.be64(2), u64::from(cdb.be32(10))),
    };
    if cdb[0] == 0x89 {
        Extent {
            lba,
            blocks: u64::from(cdb[13]),
        }
    } else {
        Extent { lba, blocks }
    }
}

impl Unit {
    pub(crate) fn new(disk: Disk, descriptor_sense: bool) -> Self {
        let mode = ModeState {
            descriptor_sense,
            write_cache: true,
            software_write_protect: false,
        };
        Self {
            disk,
            mode,
            reservations: Registry::default(),
            stopped: false,
            prevented_by: BTreeSet::new(),
        }
    }

    /// Volatile state after a reset (SAM-5 §6.3); contents and persistent reservations stay.
    pub(crate) fn reset(&mut self, descriptor_sense: bool) {
        let disk = std::mem::replace(&mut self.disk, Disk::new(crate::config::Lun::default()));
        let reservations = std::mem::take(&mut self.reservations);
        *self = Self::new(disk, descriptor_sense);
        self.reservations = reservations;
    }

    pub(crate) fn nexus_lost(&mut self, session: u16) {
        self.prevented_by.remove(&session);
    }

    /// Bytes the command takes from the initiator, or why it is refused before any data moves.
    pub(crate) fn data_out_bytes(&self, cdb: &Cdb) -> Result<u64, Sense> {
        let unit = u64::from(self.disk.block_bytes());
        match cdb[0] {
            0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e | 0x53 => {
                Ok(self.checked_write(cdb)?.blocks * unit)
            }
            0x89 => Ok(self.checked_write(cdb)?.blocks * 2 * unit),
            0x2f | 0xaf | 0x8f => {
                let extent = self.checked(cdb)?;
                match cdb[1] >> 1 & 3 {
                    0 => Ok(0),
                    1 => Ok(extent.blocks * unit),
                    3 => Ok(if extent.blocks == 0 { 0 } else { unit }),
                    _ => Err(Sense::cdb_field(1)),
                }
            }
            0x41 | 0x93 => {
                self.checked_same(cdb)?;
                Ok(if cdb[0] == 0x93 && cdb[1] & 0x01 != 0 {
                    0
                } else {
                    unit
                })
            }
            0x42 | 0x55 => Ok(u64::from(cdb.be16(7))),
            0x15 => Ok(u64::from(cdb[4])),
            0x5f => Ok(u64::from(cdb.be32(5))),
            0xa4 => Ok(u64::from(cdb.be32(6))),
            _ => Ok(0),
        }
    }

    /// Bytes a block read or write moves by its CDB alone; `None` for commands that do not say.
    pub(crate) fn transfer_bytes(&self, cdb: &Cdb) -> Option<u64> {
        match cdb[0] {
            0x08 | 0x28 | 0xa8 | 0x88 | 0x0a | 0x2a | 0xaa | 0x8a | 0x53 => {
                Some(extent(cdb).blocks * u64::from(self.disk.block_bytes()))
            }
            _ => None,
        }
    }

    fn in_range(&self, extent: Extent) -> Result<Extent, Sense> {
        let end = extent
            .lba
            .checked_add(extent.blocks)
            .ok_or(Sense::LBA_OUT_OF_RANGE)?;
        if end > self.disk.blocks() {
            Err(Sense::LBA_OUT_OF_RANGE)
        } else {
            Ok(extent)
        }
    }

    /// Range, protection information and length checks every block command shares.
    fn checked(&self, cdb: &Cdb) -> Result<Extent, Sense> {
        if self.stopped {
            return Err(Sense::NOT_READY);
        }
        let extent = extent(cdb);
        if cdb[0] >> 5 != 0 && cdb[1] >> 5 != 0 {
            return Err(Sense::cdb_field(1));
        }
        let extent = self.in_range(extent)?;
        if extent.blocks > u64::from(TRANSFER_LIMIT_BLOCKS) {
            return Err(Sense::cdb_field(if cdb[0] >> 5 == 4 { 10 } else { 6 }));
        }
        Ok(extent)
    }

    fn checked_write(&self, cdb: &Cdb) -> Result<Extent, Sense> {
        let extent = self.checked(cdb)?;
        self.writable()?;
        Ok(extent)
    }

    fn writable(&self) -> Result<(), Sense> {
        if self.disk.lun().read_only || self.mode.software_write_protect {
            return Err(Sense::WRITE_PROTECTED);
        }
        Ok(())
    }

    fn checked_same(&self, cdb: &Cdb) -> Result<Extent, Sense> {
        if cdb[1] >> 5 != 0 {
            return Err(Sense::cdb_field(1));
        }
        let ten = cdb[0] == 0x41;
        let (lba, blocks) = if ten {
            (u64::from(cdb.be32(2)), u64::from(cdb.be16(7)))
        } else {
            (cdb.be64(2), u64::from(cdb.be32(10)))
        };
        // Zero blocks mean "to the end of the medium", which the limit below bounds (WSNZ is clear).
        let blocks = if blocks == 0 {
            self.disk.blocks().saturating_sub(lba)
        } else {
            blocks
        };
        let extent = self.in_range(Extent { lba, blocks })?;
        // WSNZ of the block limits page: zero blocks are refused.
        if extent.blocks == 0 || extent.blocks > u64::from(UNMAP_LIMIT_BLOCKS) {
            return Err(Sense::cdb_field(if ten { 7 } else { 10 }));
        }
        // ANCHOR and the obsolete PBDATA/LBDATA bits are not supported.
        if cdb[1] & 0x16 != 0 {
            return Err(Sense::cdb_field(1));
        }
        self.writable()?;
        Ok(extent)
    }

    /// Executes a command whose data has come; `data_out` may be shorter than wanted.
    pub(crate) fn execute(&mut self, cdb: &Cdb, data_out: &[u8], sender: &Sender) -> Reply {
        self.dispatch(cdb, data_out, sender)
            .unwrap_or_else(Reply::check)
    }

    fn dispatch(&mut self, cdb: &Cdb, data_out: &[u8], sender: &Sender) -> Result<Reply, Sense> {
        match cdb[0] {
            0x00 => self.ready().map(|()| Reply::default()),
            0x03 => Ok(self.request_sense(cdb, Sense::NONE)),
            0x08 | 0x28 | 0xa8 | 0x88 => {
                let extent = self.checked(cdb)?;
                Ok(Reply::good(self.disk.read(extent.lba, low(extent.blocks))))
            }
            0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e => {
                let extent = self.checked_write(cdb)?;
                Ok(self.write(extent, data_out))
            }
            0x12 => self.inquiry(cdb, sender),
            0x15 | 0x55 => {
                self.mode = mode::select(cdb, data_out, self.mode)?;
                Ok(Reply::default())
            }
            0x1a | 0x5a => {
                let limit = if cdb[0] == 0x1a {
                    usize::from(cdb[4])
                } else {
                    usize::from(cdb.be16(7))
                };
                mode::sense(cdb, &self.disk, self.mode).map(|data| clipped(data, limit))
            }
            0x1b => self.start_stop(cdb),
            0x1e => Ok(self.prevent(cdb, sender)),
            0x25 => self.read_capacity_10(cdb),
            0x2f | 0xaf | 0x8f => self.verify(cdb, data_out),
            0x34 | 0x90 | 0x35 | 0x91 => {
                self.ready()?;
                self.in_range(extent(cdb)).map(|_| Reply::default())
            }
            0x41 | 0x93 => self.write_same(cdb, data_out),
            0x42 => self.unmap(cdb, data_out),
            0x53 => self.xor_write_read(cdb, data_out),
            0x89 => self.compare_and_write(cdb, data_out),
            0x9e => self.service_action_in(cdb),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    fn ready(&self) -> Result<(), Sense> {
        if self.stopped {
            Err(Sense::NOT_READY)
        } else {
            Ok(())
        }
    }

    pub(crate) fn request_sense(&self, cdb: &Cdb, pending: Sense) -> Reply {
        clipped(pending.encode(cdb[1] & 1 != 0), usize::from(cdb[4]))
    }

    fn write(&mut self, extent: Extent, data: &[u8]) -> Reply {
        let unit = self.disk.block_bytes() as usize;
        let blocks = extent.blocks.min((data.len() / unit) as u64);
        self.disk.write(
            extent.lba,
            data.get(..narrow(blocks) * unit).unwrap_or_default(),
        );
        Reply::wrote(extent.lba, blocks)
    }

    fn inquiry(&self, cdb: &Cdb, sender: &Sender) -> Result<Reply, Sense> {
        let limit = usize::from(cdb.be16(3));
        let data = match (cdb[1] & 0x03, cdb[2]) {
            (0, 0) => inquiry::standard(sender.protocol_level),
            (0, _) => return Err(Sense::cdb_field(2)),
            (1, page) => inquiry::vital(page, &self.disk, &sender.entrance)?,
            _ => return Err(Sense::cdb_field(1)),
        };
        Ok(clipped(data, limit))
    }

    fn start_stop(&mut self, cdb: &Cdb) -> Result<Reply, Sense> {
        let start = cdb[4] & 0x01 != 0;
        let load_eject = cdb[4] & 0x02 != 0;
        if load_eject && !start && !self.prevented_by.is_empty() {
            return Err(Sense::MEDIUM_REMOVAL_PREVENTED);
        }
        // The medium is not removable, and power conditions (upper four bits) are not kept.
        if load_eject || cdb[4] >> 4 != 0 {
            return Err(Sense::cdb_field(4));
        }
        self.stopped = !start;
        Ok(Reply::default())
    }

    fn prevent(&mut self, cdb: &Cdb, sender: &Sender) -> Reply {
        if cdb[4] & 1 != 0 {
            self.prevented_by.insert(sender.session);
        } else {
            self.prevented_by.remove(&sender.session);
        }
        Reply::default()
    }

    fn read_capacity_10(&self, cdb: &Cdb) -> Result<Reply, Sense> {
        self.ready()?;
        if cdb[8] & 1 == 0 && cdb.be32(2) != 0 {
            return Err(Sense::cdb_field(2));
        }
        let last = u32::try_from(self.disk.blocks() - 1).unwrap_or(u32::MAX);
        let mut data = last.to_be_bytes().to_vec();
        data.extend(self.disk.block_bytes().to_be_bytes());
        Ok(Reply::good(data))
    }

    fn service_action_in(&self, cdb: &Cdb) -> Result<Reply, Sense> {
        self.ready()?;
        let limit = narrow(u64::from(cdb.be32(10)));
        match cdb[1] & 0x1f {
            0x10 => {
                let mut data = (self.disk.blocks() - 1).to_be_bytes().to_vec();
                data.extend(self.disk.block_bytes().to_be_bytes());
                // Eight blocks per physical block are not claimed; LBPME and LBPRZ are.
                data.extend([0x00, 0x00, 0xc0, 0x00]);
                data.resize(32, 0);
                Ok(clipped(data, limit))
            }
            0x12 => self.lba_status(cdb.be64(2), limit),
            _ => Err(Sense::cdb_field(1)),
        }
    }

    fn lba_status(&self, lba: u64, limit: usize) -> Result<Reply, Sense> {
        if lba >= self.disk.blocks() {
            return Err(Sense::LBA_OUT_OF_RANGE);
        }
        let mut data = 20_u32.to_be_bytes().to_vec();
        data.extend([0; 4]);
        data.extend(lba.to_be_bytes());
        // Pages are finer than this answer; everything is reported as mapped, which SBC-3 allows.
        data.extend(
            u32::try_from(self.disk.blocks() - lba)
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        data.extend([0; 4]);
        Ok(clipped(data, limit))
    }

    fn verify(&self, cdb: &Cdb, data: &[u8]) -> Result<Reply, Sense> {
        let extent = self.checked(cdb)?;
        let mode = cdb[1] >> 1 & 3;
        if mode == 0 || extent.blocks == 0 {
            return Ok(Reply::default());
        }
        let unit = self.disk.block_bytes() as usize;
        if data.is_empty() {
            return Ok(Reply::default());
        }
        let stored = self.disk.read(extent.lba, low(extent.blocks));
        let mismatch = if mode == 1 {
            stored
                .iter()
                .zip(data)
                .position(|(left, right)| left != right)
        } else {
            let block = data.get(..unit).unwrap_or(data);
            stored
                .chunks(unit)
                .position(|chunk| chunk != block)
                .map(|at| at * unit)
        };
        match mismatch {
            Some(at) => Err(Sense {
                information: Some(at as u64),
                ..Sense::MISCOMPARE
            }),
            None => Ok(Reply::default()),
        }
    }

    fn compare_and_write(&mut self, cdb: &Cdb, data: &[u8]) -> Result<Reply, Sense> {
        let extent = self.checked_write(cdb)?;
        let (compare, write) = data.split_at(data.len() / 2);
        let stored = self.disk.read(extent.lba, low(extent.blocks));
        if let Some(at) = stored
            .iter()
            .zip(compare)
            .position(|(left, right)| left != right)
        {
            return Err(Sense {
                information: Some(at as u64),
                ..Sense::MISCOMPARE
            });
        }
        Ok(self.write(extent, write))
    }

    /// XDWRITEREAD (SBC-3 §5.45): gives the exclusive-or of old and new blocks, and writes unless DISABLE WRITE is set.
    fn xor_write_read(&mut self, cdb: &Cdb, data: &[u8]) -> Result<Reply, Sense> {
        let extent = self.checked_write(cdb)?;
        let mut mixed = self.disk.read(extent.lba, low(extent.blocks));
        for (old, new) in mixed.iter_mut().zip(data) {
            *old ^= new;
        }
        let disabled = cdb[1] & 0x04 != 0;
        let reply = if disabled {
            Reply::default()
        } else {
            self.write(extent, data)
        };
        Ok(Reply {
            data: mixed,
            ..reply
        })
    }

    fn write_same(&mut self, cdb: &Cdb, data: &[u8]) -> Result<Reply, Sense> {
        let extent = self.checked_same(cdb)?;
        let unit = self.disk.block_bytes() as usize;
        let no_data = cdb[0] == 0x93 && cdb[1] & 0x01 != 0;
        let block = data.get(..unit).unwrap_or_default();
        if no_data || block.iter().all(|byte| *byte == 0) {
            self.disk.zero(extent.lba, extent.blocks);
        } else {
            for at in 0..extent.blocks {
                self.disk.write(extent.lba + at, block);
            }
        }
        Ok(Reply::wrote(extent.lba, extent.blocks))
    }

    fn unmap(&mut self, cdb: &Cdb, list: &[u8]) -> Result<Reply, Sense> {
        if cdb[1] & 1 != 0 {
            return Err(Sense::cdb_field(1));
        }
        self.writable()?;
        if list.is_empty() {
            return Ok(Reply::default());
        }
        if list.len() < 8 {
            return Err(Sense::LIST_LENGTH);
        }
        let bytes = usize::from(list.be16(2)).min(list.len() - 8);
        let descriptors = list.get(8..8 + bytes).unwrap_or_default();
        if descriptors.len() / 16 > UNMAP_DESCRIPTORS as usize {
            return Err(Sense::list_field(2));
        }
        let mut extents = Vec::new();
        for descriptor in descriptors.chunks_exact(16) {
            let extent = Extent {
                lba: descriptor.be64(0),
                blocks: u64::from(descriptor.be32(8)),
            };
            extents.push(self.in_range(extent)?);
        }
        if extents.iter().map(|extent| extent.blocks).sum::<u64>() > u64::from(UNMAP_LIMIT_BLOCKS) {
            return Err(Sense::list_field(8));
        }
        for extent in &extents {
            self.disk.zero(extent.lba, extent.blocks);
        }
        Ok(extents.first().map_or_else(Reply::default, |extent| {
            Reply::wrote(extent.lba, extent.blocks)
        }))
    }
}

fn clipped(mut data: Vec<u8>, limit: usize) -> Reply {
    data.truncate(limit);
    Reply::good(data)
}

fn low(blocks: u64) -> u32 {
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
