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
use super::state::ConnectionState;
use super::task::TaskKey;
use crate::name::{Cid, Portal};
use crate::serial::StatSn;
use crate::text::ConnectionParams;

/// Answers to a target's pings that may wait at once; a target that asks faster than it reads
/// gets only the newest answered.
const REPLIES_MAX: usize = 32;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) cid: Cid,
    pub(super) portal: Portal,
    pub(super) state: ConnectionState,
    pub(super) params: ConnectionParams,
    pub(super) exp_stat_sn: StatSn,
    pub(super) last_heard: Instant,
    /// NOP-Out without an answer.
    pub(super) ping: Option<Ping>,
    /// Immediate requests that have to go on this connection, oldest first.
    pub(super) controls: VecDeque<Control>,
    /// Writes with bursts to send, oldest first.
    pub(super) sending: VecDeque<TaskKey>,
    /// Tasks with allegiance to it that are under way.
    pub(super) in_flight: usize,
    /// Payload of these tasks, in either direction.
    pub(super) outstanding_bytes: u64,
    /// How much of its stream the network had taken when it was closed.
    pub(super) written: u64,
}

impl Connection {
    pub(super) fn new(now: Instant, cid: Cid, portal: Portal) -> Self {
        Self {
            cid,
            portal,
            state: ConnectionState::Free,
            params: ConnectionParams::default(),
            exp_stat_sn: StatSn(0),
            last_heard: now,
            ping: None,
            controls: VecDeque::new(),
            sending: VecDeque::new(),
            in_flight: 0,
            outstanding_bytes: 0,
            written: 0,
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

    /// Whether nothing is under way on it or waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.sending.is_empty() && self.controls.is_empty()
    }

    /// Takes a request that nothing asked for; a target that asks faster than it reads gets only
    /// the newest of its questions answered.
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

    /// Nothing is queued or outstanding any more.
    pub(super) fn clear(&mut self) {
        self.controls.clear();
        self.sending.clear();
        self.ping = None;
        self.in_flight = 0;
        self.outstanding_bytes = 0;
    }
}
