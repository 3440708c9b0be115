//! Data-In and R2T PDUs that are missing (RFC 7143 §7.8, §7.9, §11.16).
//!
//! A gap in DataSN or R2TSN shows at the next PDU of the task, a lost tail of Data-In at the SCSI
//! Response (ExpDataSN). Each is asked for at once, and again when it does not come. The status of
//! a read is held back until its data are complete, so that it is not acknowledged before
//! (RFC 7143 §7.9).
//!
//! R2Ts are asked for once and never by a timer of ours: the target has timers of its own, and
//! recovers by another R2T (RFC 7143 §7.1.4.1).

use std::time::Instant;

use scsi::{DataPhase, ScsiAnswer, Status};

use super::gaps::{Arrival, Run, Untrackable};
use super::{Again, Reaction, TaskRecovery, reaction};
use crate::name::Cid;
use crate::serial::{DataSn, R2tSn};
use crate::session::Session;
use crate::session::error::{LossReason, ProtocolError};
use crate::session::task::{Stage, Task, TaskKey};
use crate::wire::receiver::FrameError;
use crate::wire::{DataIn, Response};

/// Fixed-format sense data: ABORTED COMMAND, CRC ERROR DETECTED, which is how "protocol service
/// CRC error" is signalled (RFC 7143 §11.4.7.2).
const CRC_ERROR: [u8; 18] = [
    0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x47, 0x05, 0, 0, 0, 0,
];

impl TaskRecovery {
    /// Whether its data are known by offset, not by DataSN.
    pub(super) fn by_offset(&self) -> bool {
        self.snack_tag != 0
    }
}

impl Task {
    /// Whether data of it may come out of order, or over data that are there.
    pub(in crate::session) fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    /// Whether data may come over data that are there.
    pub(in crate::session) fn is_resegmented(&self) -> bool {
        self.recovery.as_ref().is_some_and(|it| it.by_offset())
    }

    /// Takes a DataSN other than `next`.
    #[cold]
    pub(in crate::session) fn data_sn_out_of_turn(
        &mut self,
        sn: u32,
        level: u8,
    ) -> Result<Arrival, ProtocolError> {
        let expected = self.read.next_data_sn().0;
        let error = ProtocolError::DataSnGap {
            expected,
            actual: sn,
        };
        self.out_of_turn(expected, sn, error, level)
    }

    /// Takes an R2TSN other than `next`.
    #[cold]
    pub(in crate::session) fn r2t_sn_out_of_turn(
        &mut self,
        sn: u32,
        level: u8,
    ) -> Result<Arrival, ProtocolError> {
        let Some(R2tSn(expected)) = self.write.next_r2t_sn() else {
            // Nothing of the old connection is asked for any more.
            return Ok(Arrival::Next);
        };
        let error = ProtocolError::R2tSnGap {
            expected,
            actual: sn,
        };
        self.out_of_turn(expected, sn, error, level)
    }

    /// Whether one of its Data-In or R2T PDUs `from..to` is missing.
    pub(super) fn misses_any(&self, from: u32, to: u32) -> bool {
        let recovery = self.recovery.as_ref();
        recovery.is_some_and(|recovery| recovery.gaps.any_in(from, to))
    }

    /// The first Data-In that has not come: what TASK REASSIGN asks for (RFC 7143 §11.5.6).
    pub(in crate::session) fn exp_data_sn(&self) -> DataSn {
        let gap = self.recovery.as_ref().and_then(|it| it.gaps.first());
        gap.map_or_else(|| self.read.next_data_sn(), DataSn)
    }

    /// Throws away what came behind the first Data-In that is missing: it is not acknowledged, and
    /// the target sends it again, perhaps cut anew (RFC 7143 §11.5.6). Only where data come in
    /// order can be told which bytes these are, and a bidirectional command shares its numbers with
    /// R2Ts; elsewhere what comes again under a number that has come is dropped instead.
    fn discard_unacknowledged(&mut self, in_order: bool) {
        if !in_order || self.is_bidirectional() {
            return;
        }
        let Some(recovery) = self.recovery.as_deref_mut() else {
            return;
        };
        let Some(first) = recovery.gaps.first() else {
            return;
        };
        recovery.gaps.clear();
        let leading = self.read.leading();
        self.read.forget(leading, u32::MAX);
        self.read.set_next_data_sn(DataSn(first));
    }

    /// The task goes on, on another connection (`acknowledged`), or begins anew there. `in_order`:
    /// its data come in the order of their offsets.
    pub(super) fn change_connection(&mut self, acknowledged: bool, in_order: bool) {
        if self.reads() {
            self.discard_unacknowledged(in_order);
        }
        let by_offset = self.recovery.as_ref().is_some_and(|it| it.by_offset());
        if !acknowledged || by_offset {
            // A SNACK Tag ends with its connection (RFC 7143 §7.2.2), and data that are known by
            // offset only have no number to go on from.
            self.recovery = None;
            self.read.restart();
        }
        if !acknowledged {
            return self.write.restart();
        }
        let reads = self.reads();
        if let Some(recovery) = &mut self.recovery {
            recovery.again = Again::default();
            recovery.acks.clear();
            recovery.rejected = false;
            if !reads {
                recovery.gaps.clear();
            }
        }
        self.read.resume();
        self.write.resume();
    }

    /// A Data-In that had been taken, for bytes `from..to`, has not come after all.
    pub(in crate::session) fn not_received(&mut self, sn: DataSn, from: u32, to: u32) {
        self.read.forget(from, to);
        match &mut self.recovery {
            Some(recovery) if recovery.by_offset() => {}
            Some(recovery) => {
                // Too many holes: the whole is asked for.
                if recovery.gaps.lost(sn.0).is_err() {
                    self.recovery = None;
                    self.read.restart();
                }
            }
            None => self.read.set_next_data_sn(sn),
        }
    }

    fn out_of_turn(
        &mut self,
        next: u32,
        sn: u32,
        error: ProtocolError,
        level: u8,
    ) -> Result<Arrival, ProtocolError> {
        match reaction(&error, level) {
            Reaction::Snack | Reaction::Ignore => {}
            Reaction::FailTask
            | Reaction::Retry
            | Reaction::DropConnection
            | Reaction::DropSession => return Err(error),
        }
        let recovery = self.recovery.get_or_insert_default();
        if recovery.by_offset() {
            return Ok(Arrival::Filled);
        }
        recovery.gaps.arrived(next, sn).map_err(|Untrackable| error)
    }
}

impl Session {
    /// What an out-of-turn Data-In or R2T means for the task: those before it are asked for.
    #[cold]
    pub(in crate::session) fn after_out_of_turn(
        &mut self,
        now: Instant,
        key: TaskKey,
        arrival: Arrival,
    ) {
        match arrival {
            Arrival::Ahead(run) => self.ask_for_data(now, key, run),
            Arrival::Filled => {
                let due = self.again_at(now);
                if let Some(recovery) = self.recovery_of(key) {
                    let waits = recovery.by_offset() || !recovery.gaps.is_empty();
                    recovery.again.due = waits.then_some(due);
                }
            }
            Arrival::Next | Arrival::Duplicate => {}
        }
    }

    pub(super) fn recovery_of(&mut self, key: TaskKey) -> Option<&mut TaskRecovery> {
        self.tasks.get_mut(key)?.recovery.as_deref_mut()
    }

    /// Asks for a run of Data-In or R2T PDUs.
    fn ask_for_data(&mut self, now: Instant, key: TaskKey, run: Run) {
        let due = self.again_at(now);
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let (cid, reads) = (task.allegiance, task.reads());
        if reads && !task.read.may_ask_from(run.from) {
            return self.give_up_task(now, key);
        }
        let Some(recovery) = task.recovery.as_deref_mut() else {
            return;
        };
        if recovery.rejected {
            return;
        }
        recovery.asked = true;
        recovery.again.due = reads.then_some(due);
        if recovery.resegment && reads {
            return self.ask_for_all_data(key);
        }
        self.push_snack(cid, run.snack(key.itt()));
    }

    /// Nothing came for a while: asks again for all that is missing of a task.
    pub(super) fn ask_again_for_data(&mut self, now: Instant, key: TaskKey) {
        let Some(recovery) = self.recovery_of(key) else {
            return;
        };
        let Some(due) = recovery.again.due else {
            return;
        };
        if due > now {
            return self.recovery.arm(due);
        }
        if recovery.by_offset() {
            return self.ask_again_for_all_data(now, key);
        }
        let Some(low) = recovery.gaps.first() else {
            recovery.again.due = None;
            return;
        };
        let count = recovery.again.count(low);
        let runs: Vec<Run> = recovery.gaps.runs().collect();
        if self.too_often(count) {
            return self.give_up_task(now, key);
        }
        for run in runs {
            self.ask_for_data(now, key, run);
        }
    }

    pub(super) fn give_up_task(&mut self, now: Instant, key: TaskKey) {
        let Some(task) = self.tasks.get(key) else {
            return;
        };
        let cid = task.allegiance;
        let what = "data";
        self.give_up(now, cid, LossReason::NotRecovered { what });
    }

    /// A Data-In came with a wrong data digest; its `from..to` of the task's memory, if it was put
    /// there, hold nothing of value.
    pub(super) fn data_damaged(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &DataIn,
        bytes: Option<(u32, u32)>,
    ) -> Result<(), ProtocolError> {
        let key = TaskKey::from_itt(pdu.itt);
        let sn = pdu.data_sn.0;
        let task = self.tasks.get_mut(key);
        let live = task.filter(|task| task.stage == Stage::Sent && task.reads());
        let (Some(task), Some((from, to))) = (live, bytes) else {
            // A duplicate, or late: only a status can be missed with it.
            if let Some(status) = pdu.status {
                self.answer_damaged(now, cid, status.stat_sn)?;
            }
            return Ok(());
        };
        let damaged = || ProtocolError::Frame(FrameError::DataDigest);
        task.read.forget(from, to);
        let recovery = task.recovery.get_or_insert_default();
        if !recovery.by_offset() {
            recovery.gaps.lost(sn).map_err(|Untrackable| damaged())?;
        }
        // A replacement that is damaged, too, counts as none.
        let low = recovery.gaps.first().unwrap_or(sn);
        let count = if low == sn {
            recovery.again.count(low)
        } else {
            0
        };
        if self.too_often(count) {
            return Err(damaged());
        }
        if let Some(status) = pdu.status {
            self.answer_comes_with_data(now, cid, status.stat_sn)?;
        }
        let to = sn.saturating_add(1);
        self.ask_for_data(now, key, Run { from: sn, to });
        Ok(())
    }

    /// Whether the data of the task that `pdu` ends are all there; asks for those that are not.
    pub(super) fn data_complete(
        &mut self,
        now: Instant,
        pdu: &Response,
    ) -> Result<bool, ProtocolError> {
        let Some((itt, exp_data_sn)) = ends(pdu) else {
            return Ok(true);
        };
        let key = TaskKey::from_itt(itt);
        let task = self.tasks.get_mut(key);
        let live = task.filter(|task| task.stage == Stage::Sent && task.reads());
        let Some(task) = live else {
            return Ok(true);
        };
        let next = task.read.next_data_sn().0;
        let counts = !task.is_resegmented();
        if let Some(end) = exp_data_sn.filter(|end| counts && *end > next) {
            let error = ProtocolError::DataSnGap {
                expected: next,
                actual: end,
            };
            let recovery = task.recovery.get_or_insert_default();
            let missing = recovery.gaps.sent_below(next, end);
            task.read.set_next_data_sn(DataSn(end));
            match missing {
                Ok(Some(run)) => self.ask_for_data(now, key, run),
                Ok(None) => {}
                Err(Untrackable) => return Err(error),
            }
        }
        let Some(recovery) = self.recovery_of(key) else {
            return Ok(true);
        };
        if recovery.rejected || recovery.by_offset() || recovery.gaps.is_empty() {
            return Ok(true);
        }
        if recovery.again.due.is_none() {
            // Nobody has asked since the task came to this connection.
            let runs: Vec<Run> = recovery.gaps.runs().collect();
            for run in runs {
                self.ask_for_data(now, key, run);
            }
        }
        Ok(false)
    }

    /// The payload of a Data-In is in its place, at a level that recovers: the answers that waited
    /// for it are dealt with, and A bits answered.
    #[inline]
    pub(in crate::session) fn data_in_placed(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &DataIn,
    ) -> Result<(), ProtocolError> {
        let key = TaskKey::from_itt(pdu.itt);
        let recovering = self.tasks.get(key).is_some_and(Task::is_recovering);
        if pdu.status.is_some() {
            self.receive_in_turn(now, cid, &Response::DataIn(*pdu), &[])?;
        } else if recovering {
            self.deal_with_held(now, cid)?;
        }
        if recovering || pdu.acknowledge {
            self.acknowledge_data(cid, pdu);
        }
        Ok(())
    }

    /// The target refuses to send data again: it ends the task with a status of its own, or has
    /// sent the status already (RFC 7143 §7.8).
    pub(super) fn data_snack_rejected(&mut self, key: TaskKey) {
        if let Some(recovery) = self.recovery_of(key) {
            recovery.rejected = true;
            recovery.again.due = None;
        }
    }
}

impl Task {
    /// Whether it reads.
    pub(super) fn reads(&self) -> bool {
        matches!(self.data, DataPhase::Read(_) | DataPhase::Bidirectional(_))
    }

    /// Whether data of it are missing that the target refused to send again.
    pub(in crate::session) fn lacks_data(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| {
            recovery.rejected && self.reads() && (recovery.by_offset() || !recovery.gaps.is_empty())
        })
    }
}

/// What the caller gets for the answer to a task that lacks data: the status is dropped, and
/// CHECK CONDITION says why (RFC 7143 §7.8). A target's own CHECK CONDITION stays.
pub(in crate::session) fn without_data(answer: ScsiAnswer, lacks_data: bool) -> ScsiAnswer {
    if !lacks_data || answer.status == Status::CHECK_CONDITION {
        return answer;
    }
    ScsiAnswer {
        status: Status::CHECK_CONDITION,
        sense: CRC_ERROR.as_slice().into(),
        ..answer
    }
}

/// The task that an answer ends with a status, and its ExpDataSN.
pub(super) fn ends(pdu: &Response) -> Option<(crate::wire::Itt, Option<u32>)> {
    match pdu {
        Response::Scsi(response) if response.response == 0 => {
            Some((response.itt, Some(response.exp_data_sn.0)))
        }
        Response::DataIn(data) => data.status.map(|_| (data.itt, None)),
        Response::Scsi(_)
        | Response::NopIn(_)
        | Response::Task(_)
        | Response::Login(_)
        | Response::Text(_)
        | Response::Logout(_)
        | Response::R2t(_)
        | Response::Async(_)
        | Response::Reject(_) => None,
    }
}
