//! One connection of a session: what belongs to it alone.
//!
//! StatSN, the digests and segment lengths, the position in the byte streams and the keepalive are
//! a connection's own (RFC 7143 §4.2.2.2, §13). A task has allegiance to the connection its command
//! was sent on: its data and its status travel there and nowhere else (RFC 7143 §4.2.5.1).
//!
//! What the connections share (CmdSN, the task table, the queue of pending commands) is the
//! session's.

use std::collections::VecDeque;
use std::time::Instant;

use super::control::{Control, Ping};
use super::error::LossReason;
use super::recovery::ConnectionRecovery;
use super::schedule::Load;
use super::state::{CleanupEvent, CleanupState, ConnectionEvent, ConnectionState, Machine};
use super::task::TaskKey;
use super::text::TextSlot;
use crate::login::{AuthPolicy, Login};
use crate::name::{Cid, Portal};
use crate::serial::StatSn;
use crate::text::ConnectionParams;
use crate::wire::Itt;

/// Answers to a target's pings that may wait at once; a target that asks faster than it reads
/// gets only the newest answered.
const REPLIES_MAX: usize = 32;

/// What the session is doing about a connection, beside carrying commands on it.
pub(super) enum Work {
    /// Nothing.
    Nothing,
    /// The next step is due at `at`: an attempt to open it, or its recovery.
    Waiting { at: Instant },
    /// TCP is being opened.
    Connecting { deadline: Instant },
    /// In the login phase.
    LoggingIn {
        login: Box<Login>,
        deadline: Instant,
    },
    /// It is to go: no new commands, those under way may end. `remedy`: for those that do not.
    Draining { until: Instant, remedy: Remedy },
    /// Its own Logout is sent.
    LoggingOut {
        itt: Itt,
        deadline: Instant,
        remedy: Remedy,
    },
    /// The driver is closing it.
    Closing(Next),
    /// A Logout for it is sent on the connection `via`.
    Recovering {
        itt: Itt,
        via: Cid,
        deadline: Instant,
    },
}

/// What follows when the driver has closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is forgotten.
    Forget,
    /// Another attempt to open it.
    Retry { at: Instant },
    /// Its recovery.
    Recover,
}

/// How the tasks of a lost connection are dealt with (RFC 7143 §7.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Reassigned to other connections (ErrorRecoveryLevel 2).
    Reassign,
    /// Terminated by a logout with reason "close the connection" (ErrorRecoveryLevel 1).
    Terminate,
}

/// A connection that was lost in full feature phase and is to be recovered.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) remedy: Remedy,
    pub(super) reason: LossReason,
    /// The end of Time2Wait.
    pub(super) not_before: Instant,
    /// The end of Time2Retain: the target may have given up its tasks.
    pub(super) until: Instant,
}

/// One connection.
pub(super) struct Connection {
    pub(super) cid: Cid,
    pub(super) portal: Portal,
    pub(super) state: ConnectionState,
    pub(super) cleanup: Option<CleanupState>,
    pub(super) params: ConnectionParams,
    pub(super) exp_stat_sn: StatSn,
    pub(super) last_heard: Instant,
    /// NOP-Out without an answer.
    pub(super) ping: Option<Ping>,
    /// Immediate requests that have to go on this connection, oldest first.
    pub(super) controls: VecDeque<Control>,
    /// Its text exchange.
    pub(super) text: TextSlot,
    /// Writes with bursts to send, oldest first.
    pub(super) sending: VecDeque<TaskKey>,
    /// Tasks with allegiance to it that are under way.
    pub(super) in_flight: usize,
    /// Payload of these tasks, in either direction.
    pub(super) outstanding_bytes: u64,
    /// Commands sent on it since it was opened.
    pub(super) commands: u64,
    /// How much of its stream the network had taken when it was closed.
    pub(super) written: u64,
    pub(super) work: Work,
    /// The driver has been told to open it, and not yet that it is closed.
    pub(super) open: bool,
    /// Its socket takes nothing at present.
    pub(super) blocked: bool,
    /// A command was sent again on it, and no new one since (RFC 7143 §10.4).
    pub(super) owes_command: bool,
    pub(super) lost: Option<Lost>,
    /// Attempts to open it that failed in a row.
    pub(super) attempts: u32,
    /// What the next attempt offers instead of the configured authentication.
    pub(super) fallback: Option<AuthPolicy>,
    pub(super) recovery: ConnectionRecovery,
}

impl Connection {
    pub(super) fn new(now: Instant, cid: Cid, portal: Portal) -> Self {
        Self {
            cid,
            portal,
            state: ConnectionState::Free,
            cleanup: None,
            params: ConnectionParams::default(),
            exp_stat_sn: StatSn(0),
            last_heard: now,
            ping: None,
            controls: VecDeque::new(),
            text: TextSlot::default(),
            sending: VecDeque::new(),
            in_flight: 0,
            outstanding_bytes: 0,
            commands: 0,
            written: 0,
            work: Work::Nothing,
            open: false,
            blocked: false,
            owes_command: false,
            lost: None,
            attempts: 0,
            fallback: None,
            recovery: ConnectionRecovery::default(),
        }
    }

    /// Follows the table of RFC 7143 §8.1.3. What the table does not allow is a mistake of ours;
    /// the state stays as it was.
    pub(super) fn happened(&mut self, event: ConnectionEvent) {
        match self.state.after(event) {
            Ok(state) => self.state = state,
            Err(error) => debug_assert!(false, "connection {}: {error}", self.cid),
        }
    }

    /// Its TCP connection is gone, or is being cut.
    pub(super) fn transport_lost(&mut self) {
        if !matches!(
            self.state,
            ConnectionState::Free | ConnectionState::CleanupWait
        ) {
            self.happened(ConnectionEvent::TransportLost);
        }
        if self.state == ConnectionState::CleanupWait {
            // S8 is R1 (RFC 7143 §8.2).
            self.cleanup.get_or_insert(CleanupState::CleanupWait);
        }
    }

    /// Follows the table of RFC 7143 §8.2, if it is being cleaned up.
    pub(super) fn cleaned(&mut self, event: CleanupEvent) {
        let Some(state) = self.cleanup else {
            return;
        };
        match state.after(event) {
            Ok(CleanupState::Free) => {
                self.cleanup = None;
                if self.state == ConnectionState::CleanupWait {
                    // R3 is S1.
                    self.state = ConnectionState::Free;
                }
            }
            Ok(state) => self.cleanup = Some(state),
            Err(error) => debug_assert!(false, "connection {}: {error}", self.cid),
        }
    }

    /// From now on this stands for a new connection, which begins FREE (RFC 7143 §8.1.1). The
    /// cleanup of the one before goes on beside it, if the session does (CSM-I, §8.2).
    pub(super) fn renew(&mut self) {
        self.state = ConnectionState::Free;
    }

    /// A new connection that was to reinstate it is gone: this stands for the lost one again.
    pub(super) fn revert(&mut self) {
        if self.lost.is_some() && self.cleanup.is_some() {
            self.state = ConnectionState::CleanupWait;
        }
    }

    /// Whether requests may be sent: in full feature phase, and no Logout has gone out
    /// (RFC 7143 §11.14).
    pub(super) fn may_send(&self) -> bool {
        matches!(
            self.state,
            ConnectionState::LoggedIn | ConnectionState::LogoutRequested
        )
    }

    /// Whether it is in full feature phase, a Logout under way or not.
    pub(super) fn is_up(&self) -> bool {
        self.may_send() || self.state == ConnectionState::InLogout
    }

    /// Whether new commands may be sent on it: not when it is on its way out.
    pub(super) fn takes_commands(&self) -> bool {
        self.may_send() && matches!(self.work, Work::Nothing)
    }

    /// Whether nothing is under way on it or waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.sending.is_empty() && self.controls.is_empty()
    }

    /// The tag of the Logout for it, if one is sent.
    pub(super) fn logout(&self) -> Option<Itt> {
        match &self.work {
            Work::LoggingOut { itt, .. } | Work::Recovering { itt, .. } => Some(*itt),
            Work::Nothing
            | Work::Waiting { .. }
            | Work::Connecting { .. }
            | Work::LoggingIn { .. }
            | Work::Draining { .. }
            | Work::Closing(_) => None,
        }
    }

    /// `deadline`, or the end of Time2Retain if it is to be back by then.
    pub(super) fn in_time(&self, deadline: Instant) -> Instant {
        let until = self.lost.as_ref().map(|lost| lost.until);
        until.map_or(deadline, |until| until.min(deadline))
    }

    /// What the scheduler looks at.
    pub(super) fn load(&self) -> Load {
        Load {
            cid: self.cid,
            outstanding_bytes: self.outstanding_bytes,
            in_flight: self.in_flight,
            blocked: self.blocked,
            owes_command: self.owes_command,
        }
    }

    /// A task comes to it.
    pub(super) fn take_on(&mut self, bytes: u32) {
        self.in_flight += 1;
        self.outstanding_bytes += u64::from(bytes);
    }

    /// A task of it has ended, or goes to another connection.
    pub(super) fn let_go(&mut self, bytes: u32) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(u64::from(bytes));
    }

    /// Queues the answer to a target's ping.
    pub(super) fn push_reply(&mut self, control: Control) {
        let waiting = |control: &Control| matches!(control, Control::Reply { .. });
        if self
            .controls
            .iter()
            .filter(|control| waiting(control))
            .count()
            >= REPLIES_MAX
            && let Some(oldest) = self.controls.iter().position(waiting)
        {
            self.controls.remove(oldest);
        }
        self.controls.push_back(control);
    }

    /// Takes back a ping that no socket has taken; the next one asks the same.
    pub(super) fn forget_ping(&mut self) {
        self.controls
            .retain(|control| !matches!(control, Control::Ping { .. }));
    }

    /// Nothing waits to be sent on it any more.
    pub(super) fn silence(&mut self) {
        self.controls.clear();
        self.text = TextSlot::default();
        self.sending.clear();
        self.ping = None;
        self.recovery.clear();
        self.blocked = false;
        self.owes_command = false;
    }

    /// Nothing is queued or outstanding any more.
    pub(super) fn clear(&mut self) {
        self.silence();
        self.in_flight = 0;
        self.outstanding_bytes = 0;
    }
}
