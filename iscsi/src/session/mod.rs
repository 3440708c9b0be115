//! One session in full feature phase, and everything that brings it there and back
//! (RFC 7143 §4.2, §6, §7, §11).
//!
//! [`Session`] is a state machine without I/O. The driver feeds it what happened
//! ([`Session::handle_connected`], [`Session::handle_pdu`], [`Session::handle_closed`], …) and
//! afterwards asks until nothing is left: what to do ([`Session::poll_action`]), what to send
//! ([`Session::poll_transmit`]), when to come back ([`Session::poll_timeout`]). It reads no clock
//! and makes no randomness: both are arguments.
//!
//! Invariants:
//! - every submitted command ends exactly once and gives its memory back, also when the caller
//!   stopped waiting (then to nobody);
//! - memory is given back only when no later byte from the wire can reach it;
//! - CmdSN order is wire order on every connection (but for commands that are sent again), and no
//!   command is sent outside the window;
//! - everything of a task travels on the connection it has allegiance to (RFC 7143 §4.2.5.1);
//! - a command is executed at most once: from ErrorRecoveryLevel 1 on it is sent again, as it was,
//!   when it certainly has not been executed; otherwise this layer never retries;
//! - a reconnect keeps the ISID, so it reinstates the session and ends what the old one left.
//!
//! A session has a leading connection and, if wanted, further ones: `joining` opens them, `schedule`
//! says which takes the next command, `parting` logs single ones out. What is done when one is lost
//! depends on the ErrorRecoveryLevel (RFC 7143 §7.1.5): `recovery` saves the session at levels 1 and
//! 2; otherwise it ends, and `reconnect` reinstates it.

mod async_message;
mod command;
pub mod config;
mod connection;
mod connections;
mod control;
mod ending;
pub mod error;
pub mod event;
mod extents;
mod joining;
mod lives;
mod logout;
mod nop;
mod parameters;
mod parting;
mod read;
mod reconnect;
pub mod recovery;
mod response;
mod schedule;
mod snapshot;
pub mod state;
mod stats;
mod task;
pub mod task_management;
pub mod text;
mod window;
mod write;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use scsi::{Incarnation, NexusState};

pub use self::config::{Backoff, Keepalive, RecoveryLimits, SessionConfig, Timeouts};
pub use self::error::{CloseReason, ConnectionError, LossReason, ProtocolError, R2tFault};
pub use self::event::{Action, Event};
pub use self::parameters::{Applied, SetError};
pub use self::read::Loan;
pub use self::snapshot::{ConnectionSnapshot, SessionSnapshot};
pub use self::state::{ConnectionState, SessionState};
pub use self::stats::SessionStats;
pub use self::task::TaskKey;
pub use self::task_management::{
    ManagementFunction, ManagementKey, ManagementResponse, TaskManagementError,
    TaskManagementResponse,
};
pub use self::text::{TextExchangeError, TextKey, TextOutcome};

use self::connection::{Connection, Work};
use self::connections::Connections;
use self::control::Controls;
use self::lives::Lives;
use self::logout::Logout;
use self::reconnect::Reconnect;
use self::recovery::{Adrift, Recovery};
use self::state::{Machine, SessionEvent};
use self::task::TaskTable;
use self::task_management::Functions;
use self::text::Texts;
use self::window::CommandWindow;
use crate::login::Login;
use crate::name::{Cid, Portal, Tsih};
use crate::serial::CmdSn;
use crate::text::{NegotiatedKey, SessionParams};
use crate::wire::Window;
use crate::wire::transmit::Transmit;

/// Events kept for people; older ones are dropped first.
const EVENTS_MAX: usize = 64;

/// "For ever": any longer time limit is cut to this, so that no sum overflows.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Fills a buffer with unpredictable bytes (CHAP challenges, jitter, first sequence numbers).
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// One session. See the [module](self).
pub struct Session {
    config: SessionConfig,
    entropy: Entropy,
    phase: Phase,
    state: SessionState,
    lives: Lives,
    params: SessionParams,
    keys: Vec<NegotiatedKey>,
    tsih: Tsih,
    window: CommandWindow,
    connections: Connections,
    /// Connections wanted in this life.
    wanted: usize,
    adrift: Adrift,
    tasks: TaskTable,
    /// Commands waiting for the window, oldest first.
    pending: VecDeque<TaskKey>,
    /// Tasks in [`task::Stage::Sent`], on all connections.
    in_flight: usize,
    controls: Controls,
    functions: Functions,
    texts: Texts,
    reconnect: Reconnect,
    recovery: Recovery,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    wakes: Vec<Waker>,
    freed: usize,
    /// No task's deadline is before this.
    next_deadline: Option<Instant>,
    stats: SessionStats,
    /// The latest time that was told when commands may end.
    latest: Instant,
}

/// Where the session stands.
enum Phase {
    /// No connection; the next attempt is due at `at`.
    Waiting { at: Instant },
    /// A TCP connection is being opened.
    Connecting { deadline: Instant },
    /// In the login phase.
    LoggingIn {
        login: Box<Login>,
        deadline: Instant,
    },
    /// In full feature phase.
    Up,
    /// In full feature phase, on the way out.
    LoggingOut(Logout),
    /// The driver is closing the connection.
    Closing(After),
    /// Ended for good.
    Closed,
}

/// What follows a closed connection.
#[derive(Debug)]
enum After {
    /// Connect again at once: to where a redirection points, or home after a fence.
    Again,
    /// Connect again at `at`. `failed`: no session was lost, an attempt to get one failed.
    Retry {
        at: Instant,
        reason: LossReason,
        failed: bool,
    },
    /// The end.
    Closed(CloseReason),
}

/// Where the payload of a Data-In goes.
#[derive(Debug)]
pub enum Placement {
    /// There is none.
    Nothing,
    /// Nowhere: its task is over.
    Discard,
    /// Into a task's memory.
    Into(Loan),
}

impl Session {
    /// A session that will connect at once.
    #[must_use]
    pub fn new(now: Instant, config: SessionConfig, mut entropy: Entropy) -> Self {
        let mut seed = [0; 8];
        entropy(&mut seed);
        let [g0, g1, c @ .., _, _] = seed;
        let capacity = config.queue_depth.clamp(1, 4096);
        let portal = config.portal.clone();
        let closed = Window {
            exp_cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(0),
        };
        Self {
            tasks: TaskTable::new(capacity, u16::from_be_bytes([g0, g1])),
            window: CommandWindow::new(CmdSn(1), closed),
            phase: Phase::Waiting { at: now },
            state: SessionState::Free,
            lives: Lives::default(),
            params: SessionParams::default(),
            keys: Vec::new(),
            tsih: Tsih(0),
            connections: Connections::new(Connection::new(now, Cid(0), portal)),
            wanted: 1,
            adrift: Adrift::new(now),
            pending: VecDeque::new(),
            in_flight: 0,
            controls: Controls::default(),
            functions: Functions::default(),
            texts: Texts::default(),
            reconnect: Reconnect::new(now, CmdSn(u32::from_be_bytes(c))),
            recovery: Recovery::new(now),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            wakes: Vec::new(),
            freed: 0,
            next_deadline: None,
            stats: SessionStats::default(),
            latest: now,
            config,
            entropy,
        }
    }

    /// The next thing the driver has to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The parameters of a connection that has just been logged in, if they are still to be put
    /// into force.
    pub fn poll_logged_in(&mut self, cid: Cid) -> Option<Action> {
        let ours =
            |action: &Action| matches!(action, Action::LoggedIn { cid: it, .. } if *it == cid);
        let at = self.actions.iter().position(ours)?;
        self.actions.remove(at)
    }

    /// Whether the driver is to go on reading a connection: not when it is to be closed.
    #[must_use]
    pub fn is_open(&self, cid: Cid) -> bool {
        let closing = matches!(self.phase, Phase::Closing(_) | Phase::Closed);
        !closing
            && self
                .connections
                .get(cid)
                .is_some_and(|it| it.open && !matches!(it.work, Work::Closing(_)))
    }

    /// The socket of a connection takes nothing at present (`true`), or does again. Its commands
    /// go to other connections meanwhile; a session with one connection does not need to know.
    pub fn handle_blocked(&mut self, cid: Cid, blocked: bool) {
        if let Some(connection) = self.connections.get_mut(cid) {
            connection.blocked = blocked;
        }
    }

    /// Whether [`Session::poll_action`] has something.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The next event for people.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Puts what is to be sent on a connection into `out`, as much as fits a batch. Digests still
    /// have to be sealed.
    pub fn poll_transmit(&mut self, now: Instant, cid: Cid, out: &mut Transmit) {
        match &mut self.phase {
            Phase::LoggingIn { login, .. } if cid == self.connections.leading().cid => {
                push_login(login, out);
            }
            Phase::Up | Phase::LoggingOut(_) => {
                if !self.transmit_login(cid, out) {
                    self.transmit_requests(now, cid, out);
                }
            }
            Phase::Waiting { .. }
            | Phase::Connecting { .. }
            | Phase::LoggingIn { .. }
            | Phase::Closing(_)
            | Phase::Closed => {}
        }
    }

    /// Sends what the login of a further connection has to say; `false`: it is not in one.
    fn transmit_login(&mut self, cid: Cid, out: &mut Transmit) -> bool {
        let connection = self.connections.get_mut(cid);
        let Some(Work::LoggingIn { login, .. }) = connection.map(|it| &mut it.work) else {
            return false;
        };
        push_login(login, out);
        true
    }

    fn transmit_requests(&mut self, now: Instant, cid: Cid, out: &mut Transmit) {
        let Some(connection) = self.connections.get(cid).filter(|it| it.may_send()) else {
            return;
        };
        if self.is_silenced(connection) {
            return;
        }
        let params = &connection.params;
        out.set_digests(params.header_digest, params.data_digest);
        self.transmit_controls(now, cid, out);
        if self.connections.get(cid).is_some_and(Connection::may_send) {
            self.transmit_text(cid, out);
        }
        // Commands may open bursts of unsolicited data, which follow at once.
        while self.connections.get(cid).is_some_and(Connection::may_send) {
            self.transmit_data_out(cid, out);
            let before = out.queued();
            self.transmit_commands(cid, out);
            if out.queued() == before || out.is_full() {
                break;
            }
        }
    }

    /// When [`Session::handle_timeout`] has to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Waiting { at } => Some(*at),
            Phase::Connecting { deadline } | Phase::LoggingIn { deadline, .. } => Some(*deadline),
            Phase::Up => self.keepalive_due(),
            Phase::LoggingOut(logout) => {
                let deadline = logout.deadline();
                Some(
                    self.keepalive_due()
                        .map_or(deadline, |due| due.min(deadline)),
                )
            }
            Phase::Closing(_) | Phase::Closed => None,
        };
        let tasks = if self.is_connected() {
            self.next_deadline
        } else {
            None
        };
        let ending = if self.is_connected() {
            self.controls
                .ending_due()
                .into_iter()
                .chain(self.functions.due())
                .chain(self.connections.iter().filter_map(|it| it.text.due()))
                .min()
        } else {
            None
        };
        let recovery = if self.is_connected() {
            self.recovery_due()
        } else {
            None
        };
        let (members, adrift) = if matches!(self.phase, Phase::Up) {
            (self.members_due(), self.adrift_due())
        } else {
            (None, None)
        };
        [phase, tasks, ending, recovery, members, adrift]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.latest = now;
        match &self.phase {
            Phase::Waiting { at } if *at <= now => self.connect(now),
            Phase::Connecting { deadline } if *deadline <= now => {
                self.lose(
                    now,
                    LossReason::ConnectTimeout(self.config.timeouts.connect),
                );
            }
            Phase::LoggingIn { deadline, login } if *deadline <= now => {
                let stage = login.stage();
                self.lose(
                    now,
                    LossReason::LoginTimeout {
                        stage,
                        limit: self.config.timeouts.login,
                    },
                );
            }
            Phase::Up => self.full_feature_timeouts(now),
            Phase::LoggingOut(_) => {
                self.full_feature_timeouts(now);
                self.logout_timeout(now);
            }
            Phase::Waiting { .. }
            | Phase::Connecting { .. }
            | Phase::LoggingIn { .. }
            | Phase::Closing(_)
            | Phase::Closed => {}
        }
    }

    fn full_feature_timeouts(&mut self, now: Instant) {
        self.end_overdue_tasks(now);
        self.ending_timeouts(now);
        self.function_timeouts(now);
        self.text_timeouts(now);
        self.recovery_timeouts(now);
        self.keepalive(now);
        self.member_timeouts(now);
        self.adrift_timeouts(now);
    }

    /// Whether the session has ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Gives memory back that only a busy session needs.
    pub fn release_memory(&mut self) {
        self.tasks.release_memory();
    }

    /// Whether nothing is under way, and nothing has been heard for the keepalive interval:
    /// memory for a busy connection can be given back.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let asked = |connection: &Connection| connection.ping.is_some() || !connection.is_up();
        self.in_flight == 0 && self.pending.is_empty() && self.connections.iter().all(asked)
    }

    /// What the nexus is doing.
    #[must_use]
    pub fn state(&self) -> NexusState {
        match self.phase {
            Phase::Up if self.is_served() => NexusState::Up(self.lives.newest()),
            Phase::Closed => NexusState::Closed,
            Phase::Waiting { .. }
            | Phase::Connecting { .. }
            | Phase::LoggingIn { .. }
            | Phase::Up
            | Phase::LoggingOut(_)
            | Phase::Closing(_) => NexusState::Down(self.lives.newest()),
        }
    }

    /// The newest life that is certainly over at the target, with all before it.
    #[must_use]
    pub fn over(&self) -> Incarnation {
        self.lives.over()
    }

    /// Commands that were given up by their callers and may still run.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.controls.unsettled()
    }

    /// Commands on their way to the target or from it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The connection on which a command submitted now would be written at once, with nothing
    /// before it; `None` when there is no such.
    #[must_use]
    pub fn idle_connection(&self) -> Option<Cid> {
        if !self.pending.is_empty() {
            return None;
        }
        let cid = self.connections.scheduled()?;
        self.connections.get(cid)?.is_idle().then_some(cid)
    }

    /// Whether [`Session::poll_transmit`] may have something for the connection.
    #[must_use]
    pub fn wants_transmit(&self, cid: Cid) -> bool {
        match &self.phase {
            Phase::LoggingIn { .. } => cid == self.connections.leading().cid,
            Phase::Up | Phase::LoggingOut(_) => {
                self.connections.get(cid).is_some_and(|connection| {
                    let requests = !connection.controls.is_empty()
                        || !connection.sending.is_empty()
                        || connection.text.wants_transmit(self.window.is_open())
                        || (!self.pending.is_empty()
                            && self.window.is_open()
                            && self.connections.scheduled() == Some(cid));
                    (connection.may_send() && requests)
                        || matches!(connection.work, Work::LoggingIn { .. })
                })
            }
            Phase::Waiting { .. }
            | Phase::Connecting { .. }
            | Phase::Closing(_)
            | Phase::Closed => false,
        }
    }

    /// Whether any connection carries commands.
    fn is_served(&self) -> bool {
        self.connections.iter().any(Connection::may_send)
    }

    /// Whether the session is in full feature phase.
    fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::LoggingOut(_))
    }

    /// Moves the wakers of ended commands to `into`; to be woken without the lock.
    pub fn take_wakes(&mut self, into: &mut Vec<Waker>) {
        into.append(&mut self.wakes);
    }

    /// Slots that have become free since the last call.
    pub fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }

    /// Slots that are free now.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.tasks.capacity() - self.tasks.len()
    }

    /// The number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.tasks.capacity()
    }

    /// Another portal of the home portal's group has become known.
    pub fn add_group_portal(&mut self, portal: Portal) {
        if portal != self.config.portal && !self.config.group_portals.contains(&portal) {
            self.config.group_portals.push(portal);
        }
    }

    /// Follows the table of RFC 7143 §8.3.1. What the table does not allow is a mistake of ours; the
    /// state stays as it was.
    fn happened(&mut self, event: SessionEvent) {
        match self.state.after(event) {
            Ok(state) => self.state = state,
            Err(error) => debug_assert!(false, "session: {error}"),
        }
    }

    /// The last connection in full feature phase is lost, or the session is given up.
    fn session_lost(&mut self) {
        if self.state == SessionState::LoggedIn {
            self.happened(SessionEvent::Lost);
        }
    }

    /// A lost session is not continued: a new one takes its place, or none.
    fn session_over(&mut self) {
        if self.state == SessionState::Failed {
            self.happened(SessionEvent::Ended);
        }
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// `after` plus up to a quarter, minus up to a quarter.
    fn jitter(&mut self, after: Duration) -> Duration {
        let mut byte = [0];
        (self.entropy)(&mut byte);
        let [byte] = byte;
        after * 3 / 4 + after / 2 * u32::from(byte) / 256
    }
}

fn push_login(login: &mut Login, out: &mut Transmit) {
    while let Some((request, data)) = login.poll_transmit() {
        let data_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let lengths = crate::wire::Lengths {
            ahs_bytes: 0,
            data_bytes,
        };
        out.push(&request.encode(lengths), &[], data.into());
    }
}

/// `wait` after `now`.
fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(FAR)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("target", &self.config.target_name)
            .field("state", &self.state())
            .field("in_flight", &self.in_flight)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
