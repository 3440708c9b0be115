//! DataACK: acknowledging data because the target asks for it by the A bit (RFC 7143 §11.7.2,
//! §11.16.2).
//!
//! Each A bit is answered once, when everything before it is there. An acknowledged status
//! acknowledges its data, too; then no DataACK is sent any more.

use smallvec::SmallVec;

use crate::name::Cid;
use crate::session::Session;
use crate::session::control::Control;
use crate::session::task::{Stage, TaskKey};
use crate::wire::{DataIn, SnackRequest};

/// DataACKs of one task that wait for data.
const ACKS_MAX: usize = 16;

impl Session {
    /// The payload of a Data-In is in its place: answers its A bit, and those that waited for it
    /// (RFC 7143 §11.7.2).
    pub(super) fn acknowledge_data(&mut self, cid: Cid, pdu: &DataIn) {
        let key = TaskKey::from_itt(pdu.itt);
        let Some(task) = self.tasks.get_mut(key).filter(|it| it.stage == Stage::Sent) else {
            if pdu.acknowledge {
                self.acknowledge_by_status(cid);
            }
            return;
        };
        let next = task.read.next_data_sn().0;
        let after = pdu.data_sn.0.saturating_add(1);
        // One that came again has been answered.
        let asks = pdu.acknowledge && after > task.read.acknowledged;
        let Some(recovery) = task.recovery.as_deref_mut() else {
            if asks {
                task.read.acknowledged = after;
                self.push_data_ack(cid, key, SnackRequest::data_ack(pdu.lun, pdu.ttt, after));
            }
            return;
        };
        let waiting = &mut recovery.acks;
        if asks && !waiting.iter().any(|(.., ack)| *ack == after) {
            if waiting.len() >= ACKS_MAX {
                waiting.remove(0);
            }
            let at = waiting.partition_point(|(.., ack)| *ack < after);
            waiting.insert(at, (pdu.lun, pdu.ttt, after));
        }
        let complete = if recovery.by_offset() {
            // Numbers of the new cut, the first of which come first.
            after
        } else {
            recovery.gaps.first().unwrap_or(next)
        };
        let behind = recovery.acks.partition_point(|(.., ack)| *ack <= complete);
        let ready: SmallVec<[_; 1]> = recovery.acks.drain(..behind).collect();
        if let Some((.., last)) = ready.last() {
            task.read.acknowledged = *last;
        }
        for (lun, ttt, after) in ready {
            self.push_data_ack(cid, key, SnackRequest::data_ack(lun, ttt, after));
        }
    }

    /// The status that acknowledges the data of a task has come with its last A bit: tells the
    /// target by ExpStatSN (RFC 7143 §11.7.2), unless something is about to be sent anyway.
    pub(super) fn acknowledge_by_status(&mut self, cid: Cid) {
        let lun = scsi::Lun::ZERO;
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        if connection.controls.is_empty() {
            connection.controls.push_back(Control::Acknowledge { lun });
        }
    }
}
