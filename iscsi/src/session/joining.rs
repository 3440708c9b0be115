//! Further connections of a session: opening them, logging them in, giving up (RFC 7143 §6.3).
//!
//! After the leading login the session opens as many more as were negotiated and wanted, over the
//! home portal and the other portals of its group in turn. Each logs in with the session's TSIH and
//! a CID of its own, and negotiates only what belongs to a connection. One that cannot be had is
//! tried again with growing pauses; the session works meanwhile with those it has.

use std::time::Instant;

use super::connection::{Connection, Next, Work};
use super::error::{ConnectionError, LossReason};
use super::event::{Action, Event};
use super::state::{CleanupEvent, CleanupState, ConnectionEvent, SessionEvent, SessionState};
use super::{Phase, ProtocolError, Session, later};
use crate::login::{LoggedIn, Login, LoginConfig, LoginError, Progress, SessionKind};
use crate::name::{Cid, Portal};
use crate::wire::Response;

impl Session {
    /// Adds a connection to the session, through `portal` of the session's portal group, or through
    /// the next in turn. It is opened at once and used as soon as it is logged in.
    ///
    /// # Errors
    /// The session is not up, or has as many connections as were negotiated (MaxConnections,
    /// RFC 7143 §13.2).
    pub fn add_connection(
        &mut self,
        now: Instant,
        portal: Option<Portal>,
    ) -> Result<Cid, ConnectionError> {
        if !matches!(self.phase, Phase::Up) {
            return Err(ConnectionError::NotUp);
        }
        let limit = usize::from(self.params.max_connections);
        if self.connections.len() >= limit {
            return Err(ConnectionError::TooMany { limit });
        }
        self.wanted = self.wanted.max(self.connections.len() + 1);
        Ok(self.open_one(now, portal))
    }

    /// Opens connections until there are as many as wanted.
    pub(super) fn open_more(&mut self, now: Instant) {
        while matches!(self.phase, Phase::Up) && self.connections.len() < self.wanted {
            self.open_one(now, None);
        }
    }

    fn open_one(&mut self, now: Instant, portal: Option<Portal>) -> Cid {
        let portal = portal.unwrap_or_else(|| self.portal_in_turn());
        let cid = self.connections.next_cid();
        self.connections.push(Connection::new(now, cid, portal));
        self.dial(now, cid);
        cid
    }

    /// Portals of the portal group that the session lives in: where a redirection has led out of
    /// the home's group, only the one it led to is known to belong.
    fn portals_of_group(&self) -> Vec<Portal> {
        let home = std::iter::once(&self.config.portal);
        let all: Vec<Portal> = home.chain(&self.config.group_portals).cloned().collect();
        match self.lives.newest_portal() {
            Some(here) if !all.contains(here) => vec![here.clone()],
            _ => all,
        }
    }

    /// The portal of the group with the fewest connections; the home portal before the others.
    fn portal_in_turn(&self) -> Portal {
        let used = |portal: &&Portal| {
            let over = self.connections.iter().filter(|it| it.portal == **portal);
            over.count()
        };
        let portals = self.portals_of_group();
        portals
            .iter()
            .min_by_key(used)
            .unwrap_or(&self.config.portal)
            .clone()
    }

    /// Has the driver open the TCP connection of `cid`.
    pub(super) fn dial(&mut self, now: Instant, cid: Cid) {
        let timeout = self.config.timeouts.connect;
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        connection.renew();
        connection.happened(ConnectionEvent::ConnectStarted);
        connection.open = true;
        connection.work = Work::Connecting {
            deadline: connection.in_time(later(now, timeout)),
        };
        let portal = connection.portal.clone();
        self.actions.push_back(Action::Connect {
            cid,
            portal,
            timeout,
        });
    }

    /// The TCP connection of a further connection is open.
    pub(super) fn member_connected(&mut self, now: Instant, cid: Cid) {
        let auth = self.reconnect.auth_in_use(&self.config.auth);
        let itt = self.controls.tag();
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        if !matches!(connection.work, Work::Connecting { .. }) {
            return;
        }
        connection.happened(ConnectionEvent::Connected);
        connection.last_heard = now;
        let config = LoginConfig {
            initiator_name: self.config.initiator_name.clone(),
            initiator_alias: self.config.initiator_alias.clone(),
            session: SessionKind::Normal {
                target_name: self.config.target_name.clone(),
            },
            isid: self.config.isid,
            tsih: self.tsih,
            cid,
            cmd_sn: self.window.peek(),
            // Only a login that restarts a connection has one (RFC 7143 §11.12.9).
            exp_stat_sn: connection.lost.as_ref().map(|_| connection.exp_stat_sn),
            itt,
            auth: connection.fallback.take().unwrap_or(auth),
            offer: self.config.offer.clone(),
        };
        match Login::start(config, &mut *self.entropy) {
            Ok(login) => {
                let deadline = connection.in_time(later(now, self.config.timeouts.login));
                let login = Box::new(login);
                connection.work = Work::LoggingIn { login, deadline };
            }
            Err(error) => self.member_failed(now, cid, LossReason::Login(error)),
        }
    }

    /// A PDU came on a further connection in its login phase.
    pub(super) fn member_login(&mut self, now: Instant, cid: Cid, pdu: &Response, data: &[u8]) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let Work::LoggingIn { login, .. } = &mut connection.work else {
            return;
        };
        let Response::Login(response) = pdu else {
            let reason = ProtocolError::UnexpectedPdu {
                pdu: "a PDU other than Login Response",
            };
            return self.member_failed(now, cid, LossReason::Protocol(reason));
        };
        match login.handle(response, data) {
            Ok(Progress::Continue) => {}
            Ok(Progress::Done(settled)) => self.member_joined(now, cid, *settled),
            Err(LoginError::Redirected { portal, .. }) => {
                let known = self.portals_of_group();
                if known.contains(&portal)
                    && let Some(connection) = self.connections.get_mut(cid)
                {
                    connection.portal = portal;
                } else {
                    // Perhaps into another group, where this session is unknown.
                    self.next_portal(cid);
                }
                let at = later(now, self.config.backoff.first);
                self.close_one(cid, true, Next::Retry { at });
            }
            Err(error) => {
                connection.fallback = login.fallback().cloned();
                self.member_failed(now, cid, LossReason::Login(error));
            }
        }
    }

    fn member_joined(&mut self, now: Instant, cid: Cid, settled: LoggedIn) {
        let ours = self.params.target_portal_group_tag;
        let theirs = settled.session.target_portal_group_tag;
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            // Another group is another I_T nexus (RFC 7143 §4.4.1).
            let reason = LossReason::OtherPortalGroup { ours, theirs };
            return self.member_failed(now, cid, reason);
        }
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        connection.happened(ConnectionEvent::LoginDone);
        connection.work = Work::Nothing;
        connection.attempts = 0;
        connection.commands = 0;
        connection.silence();
        connection.params = settled.connection;
        connection.exp_stat_sn = settled.exp_stat_sn;
        connection.last_heard = now;
        let reinstated = connection.lost.is_some();
        let params = &connection.params;
        self.actions.push_back(Action::LoggedIn {
            cid,
            header_digest: params.header_digest,
            data_digest: params.data_digest,
            max_recv_bytes: params.max_recv_bytes,
        });
        let portal = connection.portal.clone();
        self.window.update(settled.window);
        self.stats.connections_added += 1;
        self.push_event(Event::ConnectionAdded { cid, portal });
        if self.state == SessionState::Failed {
            // With an old CID or a new one (RFC 7143 §6.3.6).
            self.happened(SessionEvent::Continued);
        }
        if reinstated {
            self.reinstated(now, cid);
        } else {
            self.distribute(now);
        }
    }

    /// An attempt to open a further connection, or to reinstate a lost one, has failed.
    pub(super) fn member_failed(&mut self, now: Instant, cid: Cid, reason: LossReason) {
        let refused = matches!(
            &reason,
            LossReason::Login(LoginError::Rejected { status, .. })
                if !status.is_transient()
        );
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let (open, lost, failed) = (
            connection.open,
            connection.lost.clone(),
            connection.attempts,
        );
        let again = connection.fallback.is_some();
        connection.attempts = failed.saturating_add(1);
        let portal = connection.portal.clone();
        if let Some(lost) = &lost
            && (now >= lost.until || (refused && !again))
        {
            // The target does not know the session any more, or will not before it gives up.
            return self.lose(now, reason);
        }
        connection.transport_lost();
        if lost.is_some() {
            if connection.cleanup == Some(CleanupState::InCleanup) {
                // M3: the connection that was to reinstate it came to nothing.
                connection.cleaned(CleanupEvent::Failed);
            }
            self.next_portal(cid);
        }
        let at = if again {
            now
        } else {
            self.backed_off(now, failed)
        };
        let next = if refused && !again {
            self.wanted = self
                .wanted
                .min(self.connections.len().saturating_sub(1))
                .max(1);
            Next::Forget
        } else {
            Next::Retry { at }
        };
        self.push_event(Event::ConnectionFailed {
            cid,
            portal,
            reason,
        });
        if open {
            self.close_one(cid, true, next);
        } else {
            self.after_close(now, cid, next);
        }
    }

    /// The next attempt goes through the next portal of the group.
    fn next_portal(&mut self, cid: Cid) {
        let portals = self.portals_of_group();
        if let Some(connection) = self.connections.get_mut(cid) {
            let here = portals.iter().position(|it| *it == connection.portal);
            let turn = here.map_or(0, |at| at + 1) % portals.len();
            if let Some(portal) = portals.into_iter().nth(turn) {
                connection.portal = portal;
            }
        }
    }

    /// The session is being logged out: no further connection is wanted.
    pub(super) fn stop_joining(&mut self) {
        let (mut open, mut waiting) = (Vec::new(), Vec::new());
        for connection in self.connections.iter() {
            match &connection.work {
                Work::Connecting { .. } | Work::LoggingIn { .. } => open.push(connection.cid),
                Work::Waiting { .. } if connection.lost.is_none() => waiting.push(connection.cid),
                Work::Nothing
                | Work::Waiting { .. }
                | Work::Draining { .. }
                | Work::LoggingOut { .. }
                | Work::Closing(_)
                | Work::Recovering { .. } => {}
            }
        }
        for cid in open {
            self.close_one(cid, true, Next::Forget);
        }
        for cid in waiting {
            self.connections.remove(cid);
        }
    }

    /// Has the driver close one connection.
    pub(super) fn close_one(&mut self, cid: Cid, abort: bool, next: Next) {
        self.fail_functions(Some(cid));
        self.fail_texts(Some(cid));
        if let Some(connection) = self.connections.get_mut(cid) {
            connection.transport_lost();
            connection.work = Work::Closing(next);
            connection.silence();
            self.actions.push_back(Action::Close { cid, abort });
        }
    }

    /// The driver has closed one connection of several.
    pub(super) fn after_close(&mut self, now: Instant, cid: Cid, next: Next) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        match next {
            Next::Forget => {
                self.connections.remove(cid);
                self.open_more(now);
                self.advance_logout(now);
            }
            Next::Retry { at } => {
                connection.revert();
                connection.work = Work::Waiting { at };
            }
            Next::Recover => {
                self.note_fates(cid);
                let Some(connection) = self.connections.get_mut(cid) else {
                    return;
                };
                let at = connection.lost.as_ref().map_or(now, |lost| lost.not_before);
                connection.work = Work::Waiting { at };
                self.member_timeouts(now);
            }
        }
    }

    /// When something about a single connection is due.
    pub(super) fn members_due(&self) -> Option<Instant> {
        let due = |connection: &Connection| match &connection.work {
            Work::Nothing | Work::Closing(_) => None,
            Work::Waiting { at } => Some(*at),
            Work::Draining { until, .. } => Some(*until),
            Work::Connecting { deadline }
            | Work::LoggingIn { deadline, .. }
            | Work::LoggingOut { deadline, .. }
            | Work::Recovering { deadline, .. } => Some(*deadline),
        };
        self.connections.iter().filter_map(due).min()
    }

    /// Does what is due about single connections.
    pub(super) fn member_timeouts(&mut self, now: Instant) {
        let due = |connection: &Connection| match &connection.work {
            Work::Nothing | Work::Closing(_) => false,
            Work::Waiting { at } => *at <= now,
            Work::Draining { until, .. } => *until <= now,
            Work::Connecting { deadline }
            | Work::LoggingIn { deadline, .. }
            | Work::LoggingOut { deadline, .. }
            | Work::Recovering { deadline, .. } => *deadline <= now,
        };
        while matches!(self.phase, Phase::Up) {
            let Some(cid) = self.connections.iter().find(|it| due(it)).map(|it| it.cid) else {
                return;
            };
            self.member_due(now, cid);
        }
    }

    fn member_due(&mut self, now: Instant, cid: Cid) {
        let timeouts = self.config.timeouts;
        let Some(connection) = self.connections.get(cid) else {
            return;
        };
        match &connection.work {
            Work::Nothing | Work::Closing(_) => {}
            Work::Waiting { .. } if connection.lost.is_some() => self.recover(now, cid),
            Work::Waiting { .. } => self.dial(now, cid),
            Work::Connecting { .. } => {
                self.member_failed(now, cid, LossReason::ConnectTimeout(timeouts.connect));
            }
            Work::LoggingIn { login, .. } => {
                let stage = login.stage();
                let limit = timeouts.login;
                self.member_failed(now, cid, LossReason::LoginTimeout { stage, limit });
            }
            Work::Draining { .. } => self.send_own_logout(now, cid),
            Work::LoggingOut { .. } => {
                self.connection_failed(now, cid, LossReason::LogoutRequested);
            }
            Work::Recovering { .. } => self.recovery_failed(now, cid),
        }
    }
}
