//! Finding what nobody knows is missing: a lost last PDU (RFC 7143 §7.1.4.2, §7.9).
//!
//! A lost answer shows at the next one, and a lost command when the target's ExpCmdSN stands still
//! though later commands came. When there is nothing later, there is only silence. From level 1 on
//! the session therefore looks around at intervals while something is under way, and where nothing
//! has been heard since the last look, or ExpCmdSN has not moved, it sends a NOP-Out. Its answer
//! has a StatSN, which shows lost answers, and an ExpCmdSN, which shows lost commands (`retry`).
//!
//! ExpCmdSN can also stand still at the number of a command that was aborted and never arrived: the
//! abort is to make up for it (RFC 7143 §7.11), but not every target sees to that, and no later
//! command is ever executed then, while each abort seems to succeed. Only a new session gets out of
//! it, so when a NOP-Out on every connection brings no news, the session ends. This much is looked
//! for at level 0, too, once a command had no answer in time; nothing is retried there.
//!
//! Such a NOP-Out only asks; whether the connection still works is judged by the keepalive.

use std::time::Instant;

use super::{ConnectionRecovery, Session};
use crate::name::Cid;
use crate::serial::CmdSn;
use crate::session::connection::Connection;
use crate::session::control::Control;
use crate::session::error::{LossReason, ProtocolError};
use crate::session::later;
use crate::session::task::Stage;
use crate::wire::Itt;

/// A NOP-Out that asks for the target's numbers.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Probe {
    pub(in crate::session) itt: Itt,
    /// The CmdSN after those that were sent before it; `None` until it is encoded.
    pub(in crate::session) cmd_sn: Option<CmdSn>,
}

impl Session {
    /// When to look around.
    pub(super) fn tail_due(&self) -> Option<Instant> {
        let waits = |connection: &Connection| connection.is_up() && connection.awaits_answers();
        if !self.connections.iter().any(waits) {
            return None;
        }
        Some(later(
            self.recovery.sampled,
            self.config.recovery.probe_after,
        ))
    }

    /// A command had no answer in time, at level 0: does the target still take commands?
    pub(in crate::session) fn doubt_numbers(&mut self, now: Instant) {
        let behind = self.window.acknowledged() != self.window.peek();
        if behind && !self.recovery.doubt && !self.recovers() {
            self.recovery.doubt = true;
            self.recovery.sampled = now;
        }
    }

    /// When to look whether a command that is over has left a hole.
    pub(super) fn doubt_due(&self) -> Option<Instant> {
        let probe_after = self.config.recovery.probe_after;
        self.recovery
            .doubt
            .then(|| later(self.recovery.sampled, probe_after))
    }

    pub(super) fn look_for_tail(&mut self, now: Instant) {
        let since = std::mem::replace(&mut self.recovery.sampled, now);
        let exp_cmd_sn = self.window.acknowledged();
        let unacknowledged = (exp_cmd_sn != self.window.peek()).then_some(exp_cmd_sn);
        self.recovery.doubt &= unacknowledged.is_some();
        let recovers = self.recovers();
        let before = std::mem::replace(&mut self.recovery.unacknowledged, unacknowledged);
        let stuck = unacknowledged.filter(|_| before == unacknowledged);
        let stuck_on = stuck.and_then(|cmd_sn| self.connection_of(cmd_sn));
        let hole = stuck.filter(|_| stuck_on.is_none());
        let asked = std::mem::replace(&mut self.recovery.hole, hole.is_some());
        if let Some(CmdSn(cmd_sn)) = hole.filter(|_| asked) {
            return self.lose(now, LossReason::CmdSnHole { cmd_sn });
        }
        for connection in self.connections.iter_mut() {
            let busy = connection.is_up() && connection.awaits_answers();
            let was_busy = std::mem::replace(&mut connection.recovery.was_busy, busy);
            let silent = busy && was_busy && connection.last_heard <= since;
            let retried = recovers && (silent || stuck_on == Some(connection.cid));
            if !connection.may_send() || !(retried || hole.is_some()) {
                continue;
            }
            connection
                .controls
                .retain(|control| !matches!(control, Control::Probe { .. }));
            let itt = self.controls.tag();
            connection.recovery.probe = Some(Probe { itt, cmd_sn: None });
            connection.controls.push_back(Control::Probe { itt });
        }
    }

    /// Where the command with this number was sent.
    fn connection_of(&self, cmd_sn: CmdSn) -> Option<Cid> {
        self.tasks
            .iter()
            .find(|(_, task)| task.stage == Stage::Sent && task.cmd_sn == cmd_sn)
            .map(|(_, task)| task.allegiance)
    }

    /// The answer to a NOP-Out of ours came; `false` when it is none of these.
    pub(in crate::session) fn probe_answered(
        &mut self,
        now: Instant,
        cid: Cid,
        itt: Itt,
    ) -> Result<bool, ProtocolError> {
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(false);
        };
        let Some(probe) = connection.recovery.probe.filter(|probe| probe.itt == itt) else {
            return Ok(false);
        };
        connection.recovery.probe = None;
        if let Some(sent_below) = probe.cmd_sn.filter(|_| self.recovers()) {
            self.retry_lost_command(now, cid, sent_below)?;
        }
        Ok(true)
    }
}

impl ConnectionRecovery {
    /// A NOP-Out of ours has been encoded behind the commands before `cmd_sn`.
    pub(in crate::session) fn probe_sent(&mut self, itt: Itt, cmd_sn: CmdSn) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.itt == itt) {
            probe.cmd_sn = Some(cmd_sn);
        }
    }
}

impl Connection {
    /// Whether the target owes something on it.
    fn awaits_answers(&self) -> bool {
        self.in_flight > 0 || self.ping.is_some()
    }
}
