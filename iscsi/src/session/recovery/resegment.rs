//! Data cut anew (RFC 7143 §11.16.3).
//!
//! When our MaxRecvDataSegmentLength has changed since a command was sent, its data cannot be had
//! again as they were. All of them that are not acknowledged are asked for by R-Data SNACK: the
//! target cuts and numbers them anew, so from then on data are known by their offset, and the
//! status that counts is the one with the tag of the last request (§11.4.4).

use std::time::Instant;

use scsi::Status;

use super::data::ends;
use crate::name::Cid;
use crate::session::Session;
use crate::session::error::ProtocolError;
use crate::session::task::{Stage, TaskKey};
use crate::wire::{Response, SnackRequest};

impl Session {
    /// Our MaxRecvDataSegmentLength on a connection has changed: what is asked for again of the
    /// tasks under way comes cut anew (RFC 7143 §11.16.3).
    pub(in crate::session) fn max_recv_bytes_changed(&mut self, cid: Cid) {
        if !self.recovers() {
            return;
        }
        for index in self.tasks.indices() {
            if let Some(task) = self.tasks.at_mut(index)
                && task.stage == Stage::Sent
                && task.allegiance == cid
                && task.reads()
            {
                task.recovery.get_or_insert_default().resegment = true;
            }
        }
    }

    /// Asks for all unacknowledged data of a read, cut anew.
    pub(super) fn ask_for_all_data(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let cid = task.allegiance;
        let Some(recovery) = task.recovery.as_deref_mut() else {
            return;
        };
        recovery.gaps.clear();
        recovery.acks.clear();
        recovery.snack_tag = match recovery.snack_tag.wrapping_add(1) {
            0 | u32::MAX => 1,
            tag => tag,
        };
        let tag = recovery.snack_tag;
        if let Some(connection) = self.connections.get_mut(cid) {
            // Another answer with the same StatSN follows (RFC 7143 §11.16.3).
            connection
                .recovery
                .held
                .drop_held(|pdu| ends(pdu).is_some_and(|(itt, _)| itt == key.itt()));
        }
        self.push_snack(cid, SnackRequest::r_data(key.itt(), tag));
    }

    pub(super) fn ask_again_for_all_data(&mut self, now: Instant, key: TaskKey) {
        let due = self.again_at(now);
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let (leading, expected) = (task.read.leading(), task.read_bytes());
        let Some(recovery) = task.recovery.as_deref_mut() else {
            return;
        };
        recovery.again.due = (leading < expected).then_some(due);
        let moves = leading != recovery.again.low;
        let count = recovery.again.count(leading);
        if self.too_often(count) {
            self.give_up_task(now, key);
        } else if leading < expected && !moves {
            self.ask_for_all_data(key);
        }
    }

    /// Whether a status is void: an R-Data SNACK has been sent since, and this is not the answer
    /// to it (RFC 7143 §11.4.4), or data are still missing after it.
    pub(super) fn is_stale(&mut self, now: Instant, pdu: &Response) -> Result<bool, ProtocolError> {
        let Some((itt, _)) = ends(pdu) else {
            return Ok(false);
        };
        let key = TaskKey::from_itt(itt);
        let Some(task) = self.tasks.get_mut(key).filter(|it| it.stage == Stage::Sent) else {
            return Ok(false);
        };
        let (expected, leading) = (task.read_bytes(), task.read.leading());
        let both = task.is_bidirectional();
        let Some(recovery) = task.recovery.as_deref_mut().filter(|it| it.by_offset()) else {
            return Ok(false);
        };
        if recovery.rejected {
            return Ok(false);
        }
        let Response::Scsi(response) = pdu else {
            return Ok(true);
        };
        if response.snack_tag != recovery.snack_tag {
            return Ok(true);
        }
        let residual = if both {
            response.bidirectional_read
        } else {
            response.residual
        };
        let claimed = if residual.underflow {
            expected.saturating_sub(residual.count)
        } else {
            expected
        };
        if Status(response.status) != Status::GOOD || leading >= claimed {
            return Ok(false);
        }
        // All that was cut anew has been sent, and some of it is not here.
        let count = recovery.again.count(leading);
        if self.too_often(count) {
            return Err(ProtocolError::MissingData {
                expected: claimed,
                actual: leading,
            });
        }
        let due = self.again_at(now);
        if let Some(recovery) = self.recovery_of(key) {
            recovery.again.due = Some(due);
        }
        self.ask_for_all_data(key);
        Ok(true)
    }
}
