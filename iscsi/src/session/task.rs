//! The task table: one slot per command, found by index, guarded by generation.
//!
//! An initiator task tag is `generation:16 | index:16`. A slot is used again only under the next
//! generation, and only when no answer can come for the old tag any more, so a late answer never
//! meets another command's memory. Index 0x8000 and above are control tags (NOP-Out, task
//! management, logout).
//!
//! The table grows to as many slots as were ever needed at once, and never beyond the queue depth;
//! nothing here allocates per command.

use std::task::Waker;
use std::time::{Duration, Instant};

use scsi::{Cdb, Certainty, DataPhase, Incarnation, Lun, Outcome, TaskAttribute};

use super::error::ProtocolError;
use super::read::ReadProgress;
use super::recovery::TaskRecovery;
use super::write::{Opening, WriteProgress};
use crate::name::Cid;
use crate::serial::CmdSn;
use crate::wire::Itt;

/// First index of control tags.
pub(super) const CONTROL_INDEX: u16 = 0x8000;

/// Names a submitted command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskKey {
    pub(super) index: u16,
    pub(super) generation: u16,
}

impl TaskKey {
    pub(super) fn itt(self) -> Itt {
        Itt(u32::from(self.generation) << 16 | u32::from(self.index))
    }

    pub(super) fn from_itt(itt: Itt) -> Self {
        let [g1, g0, i1, i0] = itt.0.to_be_bytes();
        Self {
            index: u16::from_be_bytes([i1, i0]),
            generation: u16::from_be_bytes([g1, g0]),
        }
    }
}

/// How far a task is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waiting for the command window.
    Pending,
    /// Encoded; the stream positions say how much of it left.
    Sent,
    /// Ended; waiting to be picked up.
    Done,
}

/// What is being done to end a task that has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing.
    No,
    /// ABORT TASK or LOGICAL UNIT RESET is to be sent, or has been, and no answer is in yet.
    /// The tag stays in quarantine until then.
    Asked,
}

/// One command.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) generation: u16,
    pub(super) stage: Stage,
    pub(super) lun: Lun,
    /// Kept while the task lives: a command that got lost is sent again as it was.
    pub(super) cdb: Cdb,
    pub(super) operation_code: u8,
    pub(super) attribute: TaskAttribute,
    pub(super) priority: u8,
    pub(super) incarnation: Incarnation,
    pub(super) timeout: Duration,
    /// When the transport starts to end it.
    pub(super) deadline: Instant,
    /// Memory; `None` in place of a read buffer while the driver has it on loan.
    pub(super) data: DataPhase,
    pub(super) lent: bool,
    /// Expected Data Transfer Length; of a bidirectional command, of its write.
    pub(super) expected_bytes: u32,
    /// Of a bidirectional command: Bidirectional Read Expected Data Transfer Length; else 0.
    pub(super) bidirectional_bytes: u32,
    pub(super) cmd_sn: CmdSn,
    /// The connection it was sent on; only there data and status travel (RFC 7143 §4.2.5.1).
    pub(super) allegiance: Cid,
    /// Where the command's own PDU begins and ends in its connection's stream.
    pub(super) stream: (u64, u64),
    /// How far it had got when its connection was lost, and once it has been sent again, that
    /// nobody can tell: then `stream` says nothing any more.
    pub(super) fate: Option<Certainty>,
    pub(super) read: ReadProgress,
    pub(super) write: WriteProgress,
    /// How its command began; it begins so again when it is sent again.
    pub(super) opening: Opening,
    /// Made when something of it gets lost (ErrorRecoveryLevel 1).
    pub(super) recovery: Option<Box<TaskRecovery>>,
    pub(super) ending: Ending,
    /// No Data-Out is sent for it any more: a function is ending it (RFC 7143 §4.2.3.4, §11.9.1).
    pub(super) muted: bool,
    /// The caller does not wait any more.
    pub(super) abandoned: bool,
    pub(super) timed_out: bool,
    pub(super) waker: Option<Waker>,
    pub(super) outcome: Option<Outcome>,
    pub(super) submitted: Instant,
    /// From then to the outcome.
    pub(super) took: Duration,
}

impl Task {
    /// Whether it both writes and reads.
    pub(super) fn is_bidirectional(&self) -> bool {
        matches!(self.data, DataPhase::Bidirectional(_))
    }

    /// Everything about a task names the LUN of its command (RFC 7143 §4.2.5.3).
    pub(super) fn check_lun(&self, found: Lun) -> Result<(), ProtocolError> {
        let expected = self.lun;
        if found == expected {
            Ok(())
        } else {
            Err(ProtocolError::WrongLun { expected, found })
        }
    }

    /// Bytes of Data-In expected, if it reads.
    pub(super) fn read_bytes(&self) -> u32 {
        if self.is_bidirectional() {
            self.bidirectional_bytes
        } else {
            self.expected_bytes
        }
    }
}

/// All slots of a session.
#[derive(Debug)]
pub(super) struct TaskTable {
    /// Grows up to `capacity`, as far as it was ever needed.
    slots: Vec<Option<Task>>,
    generations: Vec<u16>,
    free: Vec<u16>,
    capacity: u16,
    first_generation: u16,
}

impl TaskTable {
    /// `capacity` slots, between 1 and 4,096. `generation` starts the tags of every slot.
    pub(super) fn new(capacity: u16, generation: u16) -> Self {
        Self {
            slots: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            capacity: capacity.clamp(1, 4096),
            first_generation: generation,
        }
    }

    /// Takes a free slot; `None` when all are in use.
    pub(super) fn insert(&mut self, make: impl FnOnce(u16) -> Task) -> Option<TaskKey> {
        let index = self.free.pop().or_else(|| self.grow())?;
        let generation = self
            .generations
            .get(usize::from(index))
            .copied()
            .unwrap_or_default();
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            *slot = Some(make(generation));
        }
        Some(TaskKey { index, generation })
    }

    /// One more slot, if there may be one.
    fn grow(&mut self) -> Option<u16> {
        let index = u16::try_from(self.slots.len()).ok()?;
        if index >= self.capacity {
            return None;
        }
        self.slots.push(None);
        if self.generations.len() < self.slots.len() {
            self.generations.push(self.first_generation);
        }
        // Never more free slots than slots: returning one later does not allocate.
        self.free.reserve(self.slots.len() - self.free.len());
        Some(index)
    }

    /// Frees a slot; its tag is never used again before 65,535 others of the slot were.
    /// `false` when it was free.
    pub(super) fn remove(&mut self, index: u16) -> bool {
        let Some(slot @ Some(_)) = self.slots.get_mut(usize::from(index)) else {
            return false;
        };
        // In place: a task is hundreds of bytes, and this is on the path of every I/O.
        *slot = None;
        if let Some(generation) = self.generations.get_mut(usize::from(index)) {
            // The all-ones tag is reserved; index 0xffff is never used, so any generation is fine.
            *generation = generation.wrapping_add(1);
        }
        self.free.push(index);
        true
    }

    pub(super) fn get(&self, key: TaskKey) -> Option<&Task> {
        self.at(key.index)
            .filter(|task| task.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task> {
        self.at_mut(key.index)
            .filter(|task| task.generation == key.generation)
    }

    pub(super) fn at(&self, index: u16) -> Option<&Task> {
        self.slots.get(usize::from(index))?.as_ref()
    }

    pub(super) fn at_mut(&mut self, index: u16) -> Option<&mut Task> {
        self.slots.get_mut(usize::from(index))?.as_mut()
    }

    /// Whether the tag was one of ours once.
    pub(super) fn was_used(&self, key: TaskKey) -> bool {
        usize::from(key.index) < self.generations.len()
    }

    /// Gives the memory of the slots back, unless one is in use. Which tags were used is kept.
    pub(super) fn release_memory(&mut self) {
        if self.len() == 0 {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn capacity(&self) -> usize {
        usize::from(self.capacity)
    }

    /// The tasks in use, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskKey, &Task)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let task = slot.as_ref()?;
            let generation = task.generation;
            Some((TaskKey { index, generation }, task))
        })
    }

    /// Indices of the slots in use, in order.
    pub(super) fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        let used: Vec<u16> = (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.is_some())
            .map(|(index, _)| index)
            .collect();
        used.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_slot_and_generation() {
        let key = TaskKey {
            index: 0x1234,
            generation: 0xabcd,
        };
        assert_eq!(key.itt(), Itt(0xabcd_1234));
        assert_eq!(TaskKey::from_itt(key.itt()), key);
    }
}
