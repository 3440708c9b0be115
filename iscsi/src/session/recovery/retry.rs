//! Command retry: a command that never reached the target is sent again, with its Initiator Task
//! Tag, CmdSN, CDB and flags (RFC 7143 §7.2.1).
//!
//! This is not a second execution, and never can be:
//! - only the command whose CmdSN the target expects next is sent again, so the target has not
//!   acknowledged it, and it cannot have been executed, nor anything after it (commands are
//!   delivered in the order of CmdSN, RFC 7143 §4.2.2.1);
//! - it is sent on its own connection, and only on evidence from behind it on that connection: the
//!   answer to a NOP-Out that was sent later, or a Reject of the command itself;
//! - should the target have it after all, it knows CmdSN and tag, and ignores the second one
//!   (RFC 7143 §4.2.2.1, §7.2.1);
//! - once the number is acknowledged, or data, an R2T or a status came, the command is not sent
//!   again, whatever else happens.
//!
//! The same holds after its connection was lost (`reassign`): then the target has thrown away what
//! it had not acknowledged, and the command goes on another connection.
//!
//! With the command go its immediate and unsolicited data, from the beginning: what was sent before
//! belonged to no task of the target's (RFC 7143 §7.8).
//!
//! That no retried command can show up again in a later turn of the numbers (RFC 7143 §4.2.2.1,
//! §10.4) is the scheduler's doing: the next new command of the session goes to the same connection.

use std::time::Instant;

use super::Session;
use crate::name::Cid;
use crate::serial::{CmdSn, DataSn, R2tSn, StatSn};
use crate::session::control::Control;
use crate::session::error::{LossReason, ProtocolError};
use crate::session::task::{Ending, Stage, TaskKey};
use crate::wire::transmit::Transmit;

impl Session {
    /// The target has everything that was sent on the connection before CmdSN `sent_below`. If it
    /// still expects one of these numbers, that command got lost.
    pub(super) fn retry_lost_command(
        &mut self,
        now: Instant,
        cid: Cid,
        sent_below: CmdSn,
    ) -> Result<(), ProtocolError> {
        let expected = self.window.acknowledged();
        if !expected.precedes(sent_below) {
            return Ok(());
        }
        let lost = self.tasks.iter().find(|(_, task)| {
            task.stage == Stage::Sent && task.cmd_sn == expected && task.allegiance == cid
        });
        if let Some(key) = lost.map(|(key, _)| key) {
            self.retry(now, cid, key);
        }
        Ok(())
    }

    /// Sends a command again, unless it is being aborted, which makes up for its number, too
    /// (RFC 7143 §7.11).
    pub(super) fn retry(&mut self, now: Instant, cid: Cid, key: TaskKey) {
        let attempts = self.config.recovery.attempts;
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.ending == Ending::Asked || !task.is_untouched() {
            return;
        }
        let recovery = task.recovery.get_or_insert_default();
        recovery.asked = true;
        recovery.retries = recovery.retries.saturating_add(1);
        if recovery.retries > attempts {
            let what = "a command";
            return self.give_up(now, cid, LossReason::NotRecovered { what });
        }
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let queued =
            |control: &Control| matches!(control, Control::Retry { key: other } if *other == key);
        if !connection.controls.iter().any(queued) {
            connection.controls.push_back(Control::Retry { key });
        }
    }

    /// Encodes a command again, with its payload as if for the first time.
    pub(in crate::session) fn transmit_retry(
        &mut self,
        key: TaskKey,
        cid: Cid,
        exp_stat_sn: StatSn,
        out: &mut Transmit,
    ) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let sent = task.stage == Stage::Sent && task.allegiance == cid;
        if !sent || self.window.has_acknowledged(task.cmd_sn) || !task.is_untouched() {
            return;
        }
        let opening = task.opening.again(&connection.params);
        task.push_command(key, opening, exp_stat_sn, out);
        task.write.restart();
        task.write.open(opening);
        task.write.sent_again();
        let (sends, cmd_sn) = (task.write.is_sending(), task.cmd_sn);
        connection.sending.retain(|sending| *sending != key);
        if sends {
            // Data go in the order of their commands (RFC 7143 §4.2.5.2).
            let later = |other: &TaskKey| {
                let other = self.tasks.get(*other);
                other.is_some_and(|other| cmd_sn.precedes(other.cmd_sn))
            };
            let at = connection.sending.iter().position(later);
            let at = at.unwrap_or(connection.sending.len());
            connection.sending.insert(at, key);
        }
        connection.commands += 1;
        connection.owes_command = true;
        // What a NOP-Out sent before brings back says nothing about this one.
        connection.recovery.probe = None;
        self.stats.written_bytes += u64::from(opening.immediate);
        self.stats.retried += 1;
    }
}

impl crate::session::task::Task {
    /// Whether nothing came that shows the target has the command (RFC 7143 §7.1.4.2).
    fn is_untouched(&self) -> bool {
        self.read.next_data_sn() == DataSn(0) && self.write.next_r2t_sn() == Some(R2tSn(0))
    }
}
