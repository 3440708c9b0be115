//! What may be on the disk: one register per block.
//!
//! Every event gets a number (a *tick*), so that "before" and "after" are meant strictly. A write
//! precedes another one when it returned to its caller (with whatever result, or because the
//! caller dropped it) before the other began. Rules:
//!
//! - A read may see a write that began before the read ended, unless a write that it precedes was
//!   *in effect* (acknowledged, or seen by a read) before the read began.
//! - The target may not execute a write after one that it precedes was in effect, nor after its
//!   own acknowledgement, nor after the caller was told that it is over.
//! - A write is acknowledged only when every block of it was executed.
//! - A write that "was not done" was never executed.
//!
//! The first rule needs no knowledge of the target, the others use its journal.

use mpio::{IoError, OutcomeCertainty};

use crate::pattern::{self, WriteId};

/// The record of all I/O of a run.
#[derive(Debug)]
pub struct Oracle {
    tick: u64,
    block_bytes: usize,
    writes: Vec<Write>,
    blocks: Vec<Block>,
    open: usize,
    /// I/Os that ended, well or not.
    pub tally: Tally,
    problems: Vec<String>,
}

/// How I/Os ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads with data.
    pub reads: u64,
    /// Writes acknowledged.
    pub writes: u64,
    /// Flushes acknowledged.
    pub flushes: u64,
    /// Reads and flushes that failed.
    pub failed: u64,
    /// Writes that were not done.
    pub not_done: u64,
    /// Writes that may have been done.
    pub unknown: u64,
    /// I/Os whose caller went away.
    pub dropped: u64,
    /// Writes executed more than once.
    pub repeated: u64,
    /// Writes executed after their connection was gone.
    pub late: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.failed += other.failed;
        self.not_done += other.not_done;
        self.unknown += other.unknown;
        self.dropped += other.dropped;
        self.repeated += other.repeated;
        self.late += other.late;
    }
}

/// What the caller of a write was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is done.
    Done,
    /// It was not done.
    NotDone {
        /// Leading bytes that were, nevertheless (of a write in pieces).
        done_bytes: u64,
        /// Nothing of it can run any more.
        settled: bool,
    },
    /// It may have been done.
    Unknown {
        /// Leading bytes that certainly were.
        done_bytes: u64,
        /// Nothing of it can run any more.
        settled: bool,
    },
}

impl Told {
    /// What an error tells.
    #[must_use]
    pub fn by(error: &IoError) -> Self {
        let (done_bytes, settled) = (error.done_bytes, error.settled);
        match error.outcome {
            OutcomeCertainty::NotDone => Self::NotDone {
                done_bytes,
                settled,
            },
            OutcomeCertainty::Unknown => Self::Unknown {
                done_bytes,
                settled,
            },
        }
    }
}

#[derive(Debug)]
struct Write {
    lba: u64,
    blocks: u64,
    hash: u64,
    began: u64,
    returned: Option<u64>,
    fate: Fate,
    /// More than one command was needed.
    pieces: bool,
    executed: Vec<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Acknowledged,
    NotDone,
    /// May have been done; `settled`: cannot run any more.
    Unknown {
        settled: bool,
    },
    Dropped,
}

#[derive(Debug, Default)]
struct Block {
    /// Oldest first.
    writes: Vec<WriteId>,
    /// From this tick on, writes that returned before that one began are overwritten.
    floor: Vec<(u64, u64)>,
}

impl Block {
    fn floor_at(&self, tick: u64) -> u64 {
        let known = self.floor.partition_point(|(from, _)| *from < tick);
        known.checked_sub(1).map_or(0, |last| self.floor[last].1)
    }

    fn raise(&mut self, tick: u64, began: u64) {
        let last = self.floor.last().map_or(0, |(_, floor)| *floor);
        if began > last {
            self.floor.push((tick, began));
        }
    }
}

/// Problems kept; one is enough to fail, many are hard to read.
const PROBLEMS_MAX: usize = 20;

impl Oracle {
    /// A disk of zeros.
    #[must_use]
    pub fn new(blocks: u64, block_bytes: usize) -> Self {
        Self {
            tick: 0,
            block_bytes,
            writes: Vec::new(),
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            open: 0,
            tally: Tally::default(),
            problems: Vec::new(),
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// I/Os that have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Blocks of the disk.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Notes something that should not be.
    pub fn complain(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    fn step(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Whether a write to a part of this range has not ended.
    #[must_use]
    pub fn is_being_written(&self, lba: u64, blocks: u64) -> bool {
        (lba..lba + blocks).any(|lba| {
            let writes = self.blocks[lba as usize].writes.iter().rev();
            let mut recent = writes.take(64).map(|id| self.write(*id));
            recent.any(|write| write.is_some_and(|write| write.returned.is_none()))
        })
    }

    fn write(&self, id: WriteId) -> Option<&Write> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        self.writes.get(index)
    }

    /// A write begins; its number and data. `pieces`: it needs more than one command.
    pub fn begin_write(&mut self, lba: u64, blocks: u64, pieces: bool) -> (WriteId, bytes::Bytes) {
        let id = self.writes.len() as u64 + 1;
        let data = pattern::data(id, lba, blocks, self.block_bytes);
        let began = self.step();
        self.writes.push(Write {
            lba,
            blocks,
            hash: pattern::hash(&data),
            began,
            returned: None,
            fate: Fate::Open,
            pieces,
            executed: vec![false; blocks as usize],
        });
        for lba in lba..lba + blocks {
            self.blocks[lba as usize].writes.push(id);
        }
        self.open += 1;
        (id, data)
    }

    /// A write ended.
    pub fn end_write(&mut self, id: WriteId, told: Told) {
        let tick = self.step();
        self.open -= 1;
        let index = (id - 1) as usize;
        let done_bytes = match told {
            Told::Done => u64::MAX,
            Told::NotDone { done_bytes, .. } | Told::Unknown { done_bytes, .. } => done_bytes,
        };
        let done_blocks = done_bytes / self.block_bytes as u64;
        let write = &mut self.writes[index];
        write.returned = Some(tick);
        let (lba, blocks, began) = (write.lba, write.blocks, write.began);
        let certain = write
            .executed
            .iter()
            .take(usize::try_from(done_blocks).unwrap_or(usize::MAX));
        let missing = certain.filter(|done| !**done).count();
        let any = write.executed.iter().any(|done| *done);
        write.fate = match told {
            Told::Done => Fate::Acknowledged,
            Told::NotDone { .. } if !write.pieces => Fate::NotDone,
            // Another piece of it may have been done.
            Told::NotDone { settled, .. } | Told::Unknown { settled, .. } => {
                Fate::Unknown { settled }
            }
        };
        match write.fate {
            Fate::Acknowledged => {
                self.tally.writes += 1;
                for lba in lba..lba + blocks {
                    self.blocks[lba as usize].raise(tick, began);
                }
            }
            Fate::NotDone => self.tally.not_done += 1,
            Fate::Unknown { .. } | Fate::Open | Fate::Dropped => self.tally.unknown += 1,
        }
        if missing > 0 {
            let of = if told == Told::Done {
                "acknowledged"
            } else {
                "done_bytes"
            };
            self.complain(format!(
                "write {id} ({lba}+{blocks}): {missing} of its blocks never executed ({of})"
            ));
        }
        if any && self.writes[index].fate == Fate::NotDone {
            self.complain(format!(
                "write {id} ({lba}+{blocks}) was executed, the caller was told it was not: {told:?}"
            ));
        }
    }

    /// The caller of a write went away.
    pub fn drop_write(&mut self, id: WriteId) {
        let tick = self.step();
        self.open -= 1;
        self.tally.dropped += 1;
        let write = &mut self.writes[(id - 1) as usize];
        write.returned = Some(tick);
        write.fate = Fate::Dropped;
    }

    /// A read begins.
    pub fn begin_read(&mut self) -> u64 {
        self.open += 1;
        self.step()
    }

    /// A read or flush failed, or its caller went away.
    pub fn end_without_data(&mut self, dropped: bool) {
        self.open -= 1;
        if dropped {
            self.tally.dropped += 1;
        } else {
            self.tally.failed += 1;
        }
    }

    /// A flush is done.
    pub fn end_flush(&mut self) {
        self.open -= 1;
        self.tally.flushes += 1;
    }

    /// A read that began at tick `began` ended with these data.
    pub fn end_read(&mut self, began: u64, lba: u64, data: &[u8]) {
        let tick = self.step();
        self.open -= 1;
        self.tally.reads += 1;
        self.look_at(tick, began, lba, data);
    }

    /// The same for what is found on the disk itself.
    pub fn look_at_disk(&mut self, data: &[u8]) {
        let tick = self.step();
        self.look_at(tick, tick, 0, data);
    }

    fn look_at(&mut self, tick: u64, began: u64, lba: u64, data: &[u8]) {
        for (lba, block) in (lba..).zip(data.chunks_exact(self.block_bytes)) {
            let Some(id) = pattern::author(block, lba) else {
                let head = block.get(..16).unwrap_or_default();
                self.complain(format!(
                    "block {lba}: nobody wrote what was read ({head:02x?}...)"
                ));
                continue;
            };
            if let Err(problem) = self.may_see(id, lba, began) {
                self.complain(format!("block {lba}: a read saw write {id}, {problem}"));
            }
            if let Some(seen) = self.write(id).map(|write| write.began) {
                self.blocks[lba as usize].raise(tick, seen);
            }
        }
    }

    fn may_see(&self, id: WriteId, lba: u64, began: u64) -> Result<(), String> {
        let floor = self.blocks[lba as usize].floor_at(began);
        if id == 0 {
            return match floor {
                0 => Ok(()),
                _ => Err("the initial content, which was overwritten".to_owned()),
            };
        }
        let Some(write) = self.write(id) else {
            return Err("which does not exist".to_owned());
        };
        if !(write.lba..write.lba + write.blocks).contains(&lba) {
            return Err("which was never there".to_owned());
        }
        if write.fate == Fate::NotDone {
            return Err("which was not done".to_owned());
        }
        if write.returned.is_some_and(|returned| returned < floor) {
            return Err(format!("which was overwritten ({:?})", write.fate));
        }
        Ok(())
    }

    /// The target executed a write.
    pub fn executed(&mut self, lba: u64, blocks: u64, hash: u64, late: bool) {
        let tick = self.step();
        if late {
            self.tally.late += 1;
        }
        let Some(id) = self.author_of(lba, blocks, hash) else {
            self.complain(format!(
                "the target executed a write of {lba}+{blocks} that nobody asked for"
            ));
            return;
        };
        let write = &mut self.writes[(id - 1) as usize];
        let from = (lba - write.lba) as usize;
        let mut again = false;
        for done in &mut write.executed[from..from + blocks as usize] {
            again |= std::mem::replace(done, true);
        }
        let (fate, returned) = (write.fate, write.returned);
        if again {
            self.tally.repeated += 1;
        }
        let verdict = match fate {
            Fate::Acknowledged => Some("after its acknowledgement"),
            Fate::NotDone => Some("although its caller was told that it was not done"),
            Fate::Unknown { settled: true } => Some("although its caller was told that it is over"),
            Fate::Open | Fate::Unknown { settled: false } | Fate::Dropped => None,
        };
        if let Some(verdict) = verdict {
            self.complain(format!(
                "write {id} ({lba}+{blocks}) was executed {verdict} (late: {late})"
            ));
        }
        let overtaken = (lba..lba + blocks).find(|lba| {
            let floor = self.blocks[*lba as usize].floor_at(tick);
            returned.is_some_and(|returned| returned < floor)
        });
        if let Some(block) = overtaken {
            self.complain(format!(
                "write {id} ({lba}+{blocks}, {fate:?}) was executed after a later one to block {block} had been acknowledged (late: {late})"
            ));
        }
    }

    /// The newest write that has these data in this range.
    fn author_of(&self, lba: u64, blocks: u64, hash: u64) -> Option<WriteId> {
        let mut candidates = self.blocks.get(lba as usize)?.writes.iter().rev().copied();
        candidates.find(|id| {
            self.write(*id).is_some_and(|write| {
                if (write.lba, write.blocks) == (lba, blocks) {
                    return write.hash == hash;
                }
                let covered = write.lba <= lba && lba + blocks <= write.lba + write.blocks;
                covered && pattern::hash(&pattern::data(*id, lba, blocks, self.block_bytes)) == hash
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sut() -> Oracle {
        Oracle::new(8, 512)
    }

    fn run(sut: &mut Oracle, lba: u64, blocks: u64) -> WriteId {
        let (id, data) = sut.begin_write(lba, blocks, false);
        sut.executed(lba, blocks, pattern::hash(&data), false);
        sut.end_write(id, Told::Done);
        id
    }

    fn read(sut: &mut Oracle, id: WriteId, lba: u64) {
        let began = sut.begin_read();
        let data = if id == 0 {
            vec![0; 512]
        } else {
            pattern::data(id, lba, 1, 512).to_vec()
        };
        sut.end_read(began, lba, &data);
    }

    #[test]
    fn what_was_acknowledged_must_be_read() {
        let mut sut = sut();
        let first = run(&mut sut, 2, 2);
        read(&mut sut, first, 3);
        read(&mut sut, 0, 4);
        assert_eq!(sut.problems(), [] as [&str; 0]);
        read(&mut sut, 0, 3);
        assert_eq!(sut.problems().len(), 1);
        let second = run(&mut sut, 3, 1);
        read(&mut sut, second, 3);
        assert_eq!(sut.problems().len(), 1);
        read(&mut sut, first, 3);
        assert_eq!(sut.problems().len(), 2);
    }

    #[test]
    fn a_read_beside_a_write_sees_either() {
        let mut sut = sut();
        let began = sut.begin_read();
        let id = run(&mut sut, 0, 1);
        sut.end_read(began, 0, &[0; 512]);
        let began = sut.begin_read();
        sut.end_read(began, 0, &pattern::data(id, 0, 1, 512));
        assert_eq!(sut.problems(), [] as [&str; 0]);
    }

    #[test]
    fn a_dropped_write_may_come_late_but_not_after_a_later_one() {
        let mut sut = sut();
        let (ghost, data) = sut.begin_write(0, 2, false);
        sut.drop_write(ghost);
        read(&mut sut, 0, 0);
        sut.executed(0, 2, pattern::hash(&data), true);
        read(&mut sut, ghost, 0);
        assert_eq!(sut.problems(), [] as [&str; 0]);
        // Once seen it cannot be unseen.
        read(&mut sut, 0, 0);
        assert_eq!(sut.problems().len(), 1);
        run(&mut sut, 1, 1);
        sut.executed(0, 2, pattern::hash(&data), true);
        assert_eq!(sut.problems().len(), 2);
    }

    #[test]
    fn an_acknowledged_write_runs_no_more_and_did_run() {
        let mut sut = sut();
        let (id, data) = sut.begin_write(5, 1, false);
        sut.end_write(id, Told::Done);
        assert_eq!(sut.problems().len(), 1);
        sut.executed(5, 1, pattern::hash(&data), true);
        assert_eq!(sut.problems().len(), 2);
    }

    #[test]
    fn data_that_nobody_wrote_are_seen() {
        let mut sut = sut();
        let id = run(&mut sut, 0, 1);
        let mut data = pattern::data(id, 0, 1, 512).to_vec();
        data[77] ^= 4;
        let began = sut.begin_read();
        sut.end_read(began, 0, &data);
        sut.executed(0, 1, 12345, false);
        assert_eq!(sut.problems().len(), 2);
    }
}
