//! Getting a connection, logging in, and getting back after a loss.
//!
//! A loss is answered with a new login under the same ISID and TSIH 0: the target then ends the
//! old session and everything it had under way (session reinstatement, RFC 7143 §6.3.5). A login
//! through another portal of the same portal group does the same; it is used for the *fence* only:
//! when somebody has to know that a write left behind is over, and the home portal is away.
//!
//! Redirections are followed with a limit. Attempts back off with jitter.

use std::time::{Duration, Instant};

use scsi::Incarnation;
use smallvec::SmallVec;

use super::connection::{Connection, Next, Work};
use super::error::{CloseReason, LossReason};
use super::event::{Action, Event};
use super::logout::Logout;
use super::recovery::Recovery;
use super::state::{ConnectionEvent, ConnectionState, SessionEvent};
use super::window::CommandWindow;
use super::{After, FAR, Phase, Session, later};
use crate::login::{
    AuthPolicy, LoggedIn, Login, LoginConfig, LoginError, Progress, REDIRECTS_MAX, RedirectTrail,
    SessionKind,
};
use crate::name::{Cid, Portal, Tsih};
use crate::serial::CmdSn;
use crate::wire::{Itt, Response};

/// With a fence wanted and several portals to choose from, each gets this long to connect at
/// first, and twice as long in every further round, so that a slow network is served, too.
const CONNECT_WITH_FENCE: Duration = Duration::from_millis(250);

/// The longest wait between attempts while a fence is wanted.
const RETRY_WITH_FENCE: Duration = Duration::from_millis(500);

/// First and longest pause between two detours from a life that serves.
const DETOUR_FIRST: Duration = Duration::from_secs(2);
const DETOUR_MAX: Duration = Duration::from_secs(60);

/// The longest wait a target may ask for: the most that DefaultTime2Wait can be (RFC 7143 §13.15).
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A life of this length ends the backing off.
const STABLE: Duration = Duration::from_secs(10);

/// What a login is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To carry commands.
    Serve,
    /// To end what the old session left; logged out again at once.
    Fence,
}

/// The state of getting back.
#[derive(Debug)]
pub(super) struct Reconnect {
    /// Failed attempts since the last login.
    failed: u32,
    /// Of these, with a fence wanted: every other one tries another portal.
    fence_tries: usize,
    not_before: Instant,
    lost_at: Option<Instant>,
    /// When the newest life began.
    up_since: Instant,
    /// Lives in a row that ended soon after they began.
    short_lives: u32,
    /// The newest life that somebody needs to be over.
    fence_wanted: Option<Incarnation>,
    /// No detour from a life that serves before then, and how long the next pause is.
    detour: (Instant, Duration),
    purpose: Purpose,
    portal: Option<Portal>,
    trail: Option<RedirectTrail>,
    /// What the next attempt offers instead of the configured list.
    fallback: Option<AuthPolicy>,
    /// What the attempt under way offers instead.
    auth: Option<AuthPolicy>,
    cmd_sn: CmdSn,
    pub(super) failures: u64,
    pub(super) last_failure: Option<(Portal, LossReason)>,
}

impl Reconnect {
    pub(super) fn new(now: Instant, cmd_sn: CmdSn) -> Self {
        Self {
            failed: 0,
            fence_tries: 0,
            not_before: now,
            lost_at: None,
            up_since: now,
            short_lives: 0,
            fence_wanted: None,
            detour: (now, DETOUR_FIRST),
            purpose: Purpose::Serve,
            portal: None,
            trail: None,
            fallback: None,
            auth: None,
            cmd_sn,
            failures: 0,
            last_failure: None,
        }
    }

    /// What a login offers: what succeeded last, or what is configured.
    pub(super) fn auth_in_use(&mut self, configured: &AuthPolicy) -> AuthPolicy {
        self.auth.get_or_insert_with(|| configured.clone()).clone()
    }

    /// A target asked to be left alone for a while.
    pub(super) fn wait_at_least(&mut self, now: Instant, wait: Duration) {
        self.not_before = self.not_before.max(now + wait.min(WAIT_MAX));
    }

    /// The earliest moment for another attempt.
    pub(super) fn not_before(&self, now: Instant) -> Instant {
        self.not_before.max(now)
    }
}

impl Session {
    /// Starts an attempt: at the portal a redirection named, at the home portal, or, for a fence,
    /// at the other portals of the group in turn with the home portal.
    pub(super) fn connect(&mut self, now: Instant) {
        let home = self.config.portal.clone();
        let others = self.fence_portals(&home);
        let try_other = self.reconnect.fence_wanted.is_some()
            && !others.is_empty()
            && self.reconnect.fence_tries.is_multiple_of(2);
        let (portal, purpose) = if let Some(portal) = self.reconnect.portal.take() {
            (portal, self.reconnect.purpose)
        } else if try_other {
            let turn = (self.reconnect.fence_tries / 2).checked_rem(others.len());
            let other = turn.and_then(|turn| others.get(turn)).cloned();
            (other.unwrap_or(home), Purpose::Fence)
        } else {
            (home, Purpose::Serve)
        };
        if self.reconnect.fence_wanted.is_some() {
            self.reconnect.fence_tries += 1;
        }
        self.reconnect.purpose = purpose;
        // For this attempt only: one that cannot even connect is followed by a wait.
        self.reconnect.auth = self.reconnect.fallback.take();
        let mut timeout = self.config.timeouts.connect;
        if self.reconnect.fence_wanted.is_some() && !others.is_empty() {
            let round = u32::try_from(self.reconnect.fence_tries / 2).unwrap_or(u32::MAX);
            timeout = timeout.min(CONNECT_WITH_FENCE.saturating_mul(1 << round.min(16)));
        }
        self.connections.keep_leading();
        let cid = self.connections.next_cid();
        let mut connection = Connection::new(now, cid, portal.clone());
        connection.params = self.connections.leading().params.clone();
        connection.happened(ConnectionEvent::ConnectStarted);
        connection.open = true;
        *self.connections.leading_mut() = connection;
        self.phase = Phase::Connecting {
            deadline: later(now, timeout),
        };
        self.actions.push_back(Action::Connect {
            cid,
            portal,
            timeout,
        });
    }

    /// Portals at which a fence can be put up, besides the home portal: where lives lived that are
    /// not over, then the others of the home's group.
    fn fence_portals(&self, home: &Portal) -> SmallVec<[Portal; 4]> {
        let Some(wanted) = self.reconnect.fence_wanted else {
            return SmallVec::new();
        };
        let mut all = SmallVec::new();
        let group = self.config.group_portals.iter();
        for portal in self.lives.portals(wanted).chain(group) {
            if portal != home && !all.contains(portal) {
                all.push(portal.clone());
            }
        }
        all
    }

    /// Leaves a life that serves, to end an earlier one in another portal group; not too often,
    /// because that one's portal may be away for long.
    fn make_detour(&mut self, now: Instant) {
        let (at, pause) = self.reconnect.detour;
        if now < at {
            return;
        }
        self.reconnect.detour = (later(now, pause), pause.saturating_mul(2).min(DETOUR_MAX));
        self.reconnect.fence_tries = 0;
        self.detour(now);
    }

    /// The connection is open.
    pub fn handle_connected(&mut self, now: Instant, cid: Cid) {
        if matches!(self.phase, Phase::Up) {
            return self.member_connected(now, cid);
        }
        let connection = self.connections.leading_mut();
        if cid != connection.cid || !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        connection.last_heard = now;
        connection.happened(ConnectionEvent::Connected);
        let auth = self.reconnect.auth_in_use(&self.config.auth);
        let config = LoginConfig {
            initiator_name: self.config.initiator_name.clone(),
            initiator_alias: self.config.initiator_alias.clone(),
            session: SessionKind::Normal {
                target_name: self.config.target_name.clone(),
            },
            isid: self.config.isid,
            tsih: Tsih(0),
            cid,
            cmd_sn: self.reconnect.cmd_sn,
            exp_stat_sn: None,
            itt: Itt(u32::from(cid.0)),
            auth,
            offer: self.config.offer.clone(),
        };
        match Login::start(config, &mut *self.entropy) {
            Ok(login) => {
                let deadline = later(now, self.config.timeouts.login);
                self.phase = Phase::LoggingIn {
                    login: Box::new(login),
                    deadline,
                };
            }
            Err(error) => self.lose(now, LossReason::Login(error)),
        }
    }

    /// No connection could be opened; `reason` in the system's words.
    pub fn handle_connect_failed(&mut self, now: Instant, cid: Cid, reason: String) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        if matches!(connection.work, Work::Connecting { .. }) {
            connection.open = false;
            return self.member_failed(now, cid, LossReason::Transport(reason));
        }
        if matches!(self.phase, Phase::Connecting { .. }) {
            connection.open = false;
            connection.transport_lost();
            let at = self.retry_at(now);
            self.attempt_failed(now, at, LossReason::Transport(reason));
        }
    }

    /// The peer closed the connection, or the network broke it (`reason`).
    pub fn handle_lost(&mut self, now: Instant, cid: Cid, reason: Option<String>) {
        self.latest = now;
        if reason.is_none() {
            self.closed_in_login(cid);
        }
        if self.connections.get(cid).is_some() {
            let work = self.connections.get(cid).map(|it| &it.work);
            let reason = match (reason, &self.phase, work) {
                (Some(reason), ..) => LossReason::Transport(reason),
                (None, Phase::LoggingIn { login, .. }, _)
                | (None, _, Some(Work::LoggingIn { login, .. })) => LossReason::ClosedInLogin {
                    stage: login.stage(),
                },
                (None, ..) => LossReason::ClosedByTarget,
            };
            self.connection_failed(now, cid, reason);
        }
    }

    /// The target closed the connection; a login under way may know another way.
    fn closed_in_login(&mut self, cid: Cid) {
        let leading = self.connections.leading().cid == cid;
        if let (true, Phase::LoggingIn { login, .. }) = (leading, &mut self.phase) {
            login.handle_closed();
            self.reconnect.fallback = login.fallback().cloned();
        } else if let Some(connection) = self.connections.get_mut(cid)
            && let Work::LoggingIn { login, .. } = &mut connection.work
        {
            login.handle_closed();
            connection.fallback = login.fallback().cloned();
        }
    }

    /// A PDU came in the login phase.
    pub(super) fn login_response(&mut self, now: Instant, pdu: &Response, data: &[u8]) {
        let Phase::LoggingIn { login, .. } = &mut self.phase else {
            return;
        };
        let Response::Login(response) = pdu else {
            let reason = super::ProtocolError::UnexpectedPdu {
                pdu: "a PDU other than Login Response",
            };
            return self.lose(now, LossReason::Protocol(reason));
        };
        match login.handle(response, data) {
            Ok(Progress::Continue) => {}
            Ok(Progress::Done(settled)) => self.logged_in(now, *settled),
            Err(LoginError::Redirected { permanent, portal }) => {
                self.redirected(now, permanent, portal);
            }
            Err(error) => {
                self.reconnect.fallback = login.fallback().cloned();
                self.lose(now, LossReason::Login(error));
            }
        }
    }

    fn redirected(&mut self, now: Instant, permanent: bool, to: Portal) {
        let from = self.connections.leading().portal.clone();
        let trail = self
            .reconnect
            .trail
            .get_or_insert_with(|| RedirectTrail::new(from.clone(), REDIRECTS_MAX));
        if let Err(error) = trail.follow(&to) {
            self.reconnect.trail = None;
            return self.lose(now, LossReason::Redirect(error));
        }
        if permanent && self.reconnect.purpose == Purpose::Serve {
            if !self.config.group_portals.contains(&to) {
                // They are of the group of the home before; the new one's may be another.
                self.config.group_portals.clear();
            }
            self.config.portal = to.clone();
        }
        self.push_event(Event::Redirected {
            from,
            to: to.clone(),
            permanent,
        });
        self.reconnect.portal = Some(to);
        self.close(now, After::Again);
    }

    fn logged_in(&mut self, now: Instant, settled: LoggedIn) {
        self.stats.logins += 1;
        self.reconnect.trail = None;
        self.reconnect.failed = 0;
        self.reconnect.lost_at = None;
        self.params = settled.session;
        self.keys = settled.keys;
        self.tsih = settled.tsih;
        self.window = CommandWindow::new(settled.cmd_sn, settled.window);
        self.controls.reset();
        self.recovery = Recovery::new(now);
        let connection = self.connections.leading_mut();
        connection.clear();
        connection.happened(ConnectionEvent::LoginDone);
        connection.params = settled.connection;
        connection.exp_stat_sn = settled.exp_stat_sn;
        connection.last_heard = now;
        let params = &connection.params;
        self.actions.push_back(Action::LoggedIn {
            cid: connection.cid,
            header_digest: params.header_digest,
            data_digest: params.data_digest,
            max_recv_bytes: params.max_recv_bytes,
        });
        // The login has reinstated what was left of the session before.
        self.session_over();
        self.happened(SessionEvent::FirstLogin);
        self.end_lives();
        if self.reconnect.purpose == Purpose::Fence {
            self.phase = Phase::LoggingOut(Logout::after_fence(now));
            return self.advance_logout(now);
        }
        self.reconnect.up_since = now;
        self.phase = Phase::Up;
        let allowed = self.params.max_connections;
        let wanted = self.config.connections.unwrap_or(allowed).min(allowed);
        self.wanted = usize::from(wanted).max(1);
        self.adrift.clear();
        let portal = self.connections.leading().portal.clone();
        let group = self.params.target_portal_group_tag;
        let incarnation = self.lives.begin(group, portal.clone());
        self.push_event(Event::LoggedIn {
            incarnation,
            portal,
        });
        self.open_more(now);
    }

    /// Whatever lived in the portal group of this login is over at the target.
    pub(super) fn end_lives(&mut self) {
        if self.lives.end(self.params.target_portal_group_tag) {
            let incarnation = self.lives.over();
            self.push_event(Event::Fenced { incarnation });
        }
        let over = self.lives.over();
        if self.reconnect.fence_wanted.is_some_and(|life| life <= over) {
            self.reconnect.fence_wanted = None;
            self.reconnect.fence_tries = 0;
            self.reconnect.detour.1 = DETOUR_FIRST;
        }
    }

    /// Somebody needs to know that `incarnation` is over: cut it if it is alive, and reinstate
    /// the session through any portal of the group.
    pub fn want_fence(&mut self, now: Instant, incarnation: Incarnation) {
        let newest = self.lives.newest();
        if self.lives.over() >= incarnation || incarnation > newest {
            return;
        }
        self.reconnect.fence_wanted = self.reconnect.fence_wanted.max(Some(incarnation));
        match &mut self.phase {
            Phase::Up | Phase::LoggingOut(_) if incarnation == newest => {
                self.lose(now, LossReason::Fenced);
            }
            Phase::Waiting { at } => *at = (*at).min(now.max(self.reconnect.not_before)),
            Phase::Connecting { deadline } if !self.config.group_portals.is_empty() => {
                *deadline = (*deadline).min(now + CONNECT_WITH_FENCE);
            }
            // Alive in a later life, in another portal group.
            Phase::Up => self.make_detour(now),
            Phase::Connecting { .. }
            | Phase::LoggingOut(_)
            | Phase::LoggingIn { .. }
            | Phase::Closing(_)
            | Phase::Closed => {}
        }
    }

    /// The connection is of no use any more.
    pub(super) fn lose(&mut self, now: Instant, reason: LossReason) {
        match self.phase {
            Phase::Up | Phase::LoggingOut(_) => {
                self.stats.losses += 1;
                self.session_lost();
                self.reconnect.lost_at.get_or_insert(now);
                if self.config.honour_time2wait && self.reconnect.purpose == Purpose::Serve {
                    let wait = Duration::from_secs(u64::from(self.params.time2wait_s));
                    self.reconnect.wait_at_least(now, wait);
                }
                let incarnation = self.lives.newest();
                self.push_event(Event::Lost {
                    incarnation,
                    reason: reason.clone(),
                });
                let leaving = matches!(&self.phase, Phase::LoggingOut(logout) if logout.is_final());
                let after = if leaving {
                    After::Closed(CloseReason::LoggedOut)
                } else {
                    let failed = self.reconnect.purpose == Purpose::Fence;
                    let at = if failed {
                        self.retry_at(now)
                    } else {
                        self.retry_after_life(now)
                    };
                    After::Retry { at, reason, failed }
                };
                self.close(now, after);
            }
            Phase::Connecting { .. } | Phase::LoggingIn { .. } => {
                let at = self.retry_at(now);
                let failed = true;
                self.close(now, After::Retry { at, reason, failed });
            }
            Phase::Waiting { .. } | Phase::Closing(_) | Phase::Closed => {}
        }
    }

    /// Has the driver close all connections abortively: what the network stack still holds of
    /// them must not be sent later.
    pub(super) fn close(&mut self, now: Instant, after: After) {
        self.close_all(now, true, after);
    }

    /// Has the driver close every connection.
    pub(super) fn close_all(&mut self, now: Instant, abort: bool, after: After) {
        for connection in self.connections.iter_mut() {
            match (abort, connection.state) {
                (false, ConnectionState::InLogout) => {
                    connection.happened(ConnectionEvent::LogoutDone);
                }
                (false, _) if connection.is_up() => {
                    connection.happened(ConnectionEvent::SessionClosed);
                }
                _ => connection.transport_lost(),
            }
            connection.lost = None;
            let closing = matches!(connection.work, Work::Closing(_));
            connection.work = Work::Closing(Next::Forget);
            if connection.open && !closing {
                let cid = connection.cid;
                self.actions.push_back(Action::Close { cid, abort });
            }
        }
        self.phase = Phase::Closing(after);
        self.all_closed(now);
    }

    /// The connection is closed; `written` bytes of its stream had been handed to the network.
    ///
    /// The driver gives lent memory back before.
    pub fn handle_closed(&mut self, now: Instant, cid: Cid, written: u64) {
        self.latest = now;
        let Some(connection) = self.connections.get_mut(cid).filter(|it| it.open) else {
            return;
        };
        connection.open = false;
        connection.written = written;
        if matches!(self.phase, Phase::Closing(_)) {
            return self.all_closed(now);
        }
        if let Work::Closing(next) = connection.work {
            self.after_close(now, cid, next);
        } else {
            // The driver never closes on its own.
            debug_assert!(false, "closed without being asked to");
        }
    }

    /// Goes on once the driver has closed every connection.
    fn all_closed(&mut self, now: Instant) {
        if self.connections.iter().any(|it| it.open) {
            return;
        }
        let Phase::Closing(after) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        self.end_all_tasks();
        self.connections.keep_leading();
        let connection = self.connections.leading_mut();
        // Its session is over: whatever is left of it (N6 of RFC 7143 §8.3.4) goes with it.
        connection.cleanup = None;
        connection.renew();
        connection.work = Work::Nothing;
        match after {
            After::Closed(reason) => self.end(reason),
            After::Again => self.connect(now),
            After::Retry {
                at,
                reason,
                failed: false,
            } => {
                self.reconnect.last_failure =
                    Some((self.connections.leading().portal.clone(), reason));
                self.phase = Phase::Waiting { at };
            }
            After::Retry {
                at,
                reason,
                failed: true,
            } => self.attempt_failed(now, at, reason),
        }
    }

    /// Nobody carries the session any more (its task was stopped, the runtime is gone): every
    /// command ends, and the session with them. `written`, for every connection, as in
    /// [`Session::handle_closed`].
    pub fn handle_stopped(&mut self, written: &[(Cid, u64)]) {
        if self.is_closed() {
            return;
        }
        for connection in self.connections.iter_mut() {
            let of = written.iter().find(|(cid, _)| *cid == connection.cid);
            if let (true, Some((_, written))) = (connection.open, of) {
                connection.written = *written;
            }
            connection.transport_lost();
            connection.open = false;
        }
        self.end_all_tasks();
        self.actions.clear();
        self.end(CloseReason::Stopped);
    }

    fn attempt_failed(&mut self, now: Instant, at: Instant, reason: LossReason) {
        let portal = self.connections.leading().portal.clone();
        // The next attempt starts where all do, and may be sent the same way again.
        self.reconnect.trail = None;
        if self.reconnect.fallback.is_some() {
            // Half an attempt: the other half follows at once.
            self.phase = Phase::Waiting { at: now };
            return;
        }
        self.reconnect.failed = self.reconnect.failed.saturating_add(1);
        self.reconnect.failures += 1;
        self.reconnect.last_failure = Some((portal.clone(), reason.clone()));
        let since = *self.reconnect.lost_at.get_or_insert(now);
        if self
            .config
            .give_up_after
            .is_some_and(|limit| now >= later(since, limit))
        {
            return self.end(CloseReason::GaveUp {
                portal,
                last: reason,
            });
        }
        // The fence may have been asked for since `at` was worked out.
        let at = if self.reconnect.fence_wanted.is_some() {
            at.min(self.reconnect.not_before(now + RETRY_WITH_FENCE))
        } else {
            at
        };
        let next_in = at.saturating_duration_since(now);
        self.push_event(Event::AttemptFailed {
            portal,
            reason,
            next_in,
        });
        self.phase = Phase::Waiting { at };
    }

    pub(super) fn end(&mut self, reason: CloseReason) {
        self.session_lost();
        self.session_over();
        self.phase = Phase::Closed;
        self.push_event(Event::Closed { reason });
    }

    /// When to connect after the end of a life. At once, unless lives have become short: a target
    /// that takes logins and then drops them is not to be asked without a pause.
    pub(super) fn retry_after_life(&mut self, now: Instant) -> Instant {
        let lived = now.saturating_duration_since(self.reconnect.up_since);
        if lived >= STABLE {
            self.reconnect.short_lives = 0;
        }
        let at = match self.reconnect.short_lives.checked_sub(1) {
            None => self.reconnect.not_before(now),
            Some(before) => self.backed_off(now, before),
        };
        self.reconnect.short_lives = self.reconnect.short_lives.saturating_add(1);
        at
    }

    fn retry_at(&mut self, now: Instant) -> Instant {
        self.backed_off(now, self.reconnect.failed)
    }

    /// After `failures` failures in a row before this one.
    pub(super) fn backed_off(&mut self, now: Instant, failures: u32) -> Instant {
        let backoff = self.config.backoff;
        let doubled = backoff.first.saturating_mul(1 << failures.min(16));
        let mut wait = self.jitter(doubled.min(backoff.max).min(FAR));
        if self.reconnect.fence_wanted.is_some() {
            wait = wait.min(RETRY_WITH_FENCE);
        }
        (now + wait).max(self.reconnect.not_before)
    }
}
