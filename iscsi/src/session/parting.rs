//! Logging one connection out while the session goes on (RFC 7143 §11.14, reason 1).
//!
//! The connection takes no new commands; those under way may end within the time limit for a
//! logout. Then it logs itself out, with the reason "close the connection", which ends whatever is
//! still under way on it; at ErrorRecoveryLevel 2 what is left goes to another connection instead,
//! unless the target asked for the logout, who wants the connection closed (§11.9.1).

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::connection::{Connection, Next, Remedy, Work};
use super::control::Control;
use super::error::{ConnectionError, LossReason};
use super::event::Event;
use super::state::{ConnectionEvent, ConnectionState};
use super::{Phase, Session, later};
use crate::name::Cid;
use crate::wire::{Itt, LogoutReason, LogoutResponse};

impl Session {
    /// Takes one connection out of the session. The last one cannot be removed: log the session
    /// out instead.
    ///
    /// # Errors
    /// The session is not up, has no such connection, or no other one in full feature phase.
    pub fn remove_connection(&mut self, now: Instant, cid: Cid) -> Result<(), ConnectionError> {
        if !matches!(self.phase, Phase::Up) {
            return Err(ConnectionError::NotUp);
        }
        let Some(connection) = self.connections.get(cid) else {
            return Err(ConnectionError::Unknown { cid });
        };
        if connection.lost.is_some() {
            return Err(ConnectionError::Recovering { cid });
        }
        let up = connection.is_up();
        let open = connection.open;
        if up && !self.others_take_commands(cid) {
            return Err(ConnectionError::Last { cid });
        }
        self.wanted = self.connections.len().saturating_sub(1).max(1);
        if up {
            let remedy = if self.params.error_recovery_level >= 2 {
                Remedy::Reassign
            } else {
                Remedy::Terminate
            };
            self.drain(now, cid, self.config.timeouts.logout, remedy);
        } else if open {
            self.close_one(cid, true, Next::Forget);
        } else {
            self.connections.remove(cid);
        }
        Ok(())
    }

    /// From now on the session is to have `count` connections: opens what is missing, and logs out
    /// what is too much, the youngest first.
    pub(super) fn want_connections(&mut self, now: Instant, count: u16) {
        let count = usize::from(count).max(1);
        loop {
            let stays = |it: &&Connection| matches!(it.work, Work::Nothing) && it.is_up();
            let staying = self.connections.iter().filter(stays);
            let cids: SmallVec<[Cid; 4]> = staying.map(|it| it.cid).collect();
            let Some(youngest) = cids.last().filter(|_| cids.len() > count) else {
                break;
            };
            if self.remove_connection(now, *youngest).is_err() {
                break;
            }
        }
        self.wanted = count;
        self.open_more(now);
    }

    /// The target asked for the logout of a connection within `limit` (Async Message 1). `false`:
    /// the session has no other one, so that it has to be logged out itself.
    pub(super) fn connection_logout_asked(
        &mut self,
        now: Instant,
        cid: Cid,
        limit: Duration,
    ) -> bool {
        if !self.others_take_commands(cid) {
            return false;
        }
        if let Some(connection) = self.connections.get_mut(cid)
            && connection.may_send()
        {
            // Half of the time is left for the Logout itself.
            let limit = (limit / 2).min(self.config.timeouts.logout);
            // The answer is to close the connection, not to recover it (RFC 7143 §11.9.1).
            self.drain(now, cid, limit, Remedy::Terminate);
        }
        true
    }

    pub(super) fn others_take_commands(&self, cid: Cid) -> bool {
        let mut all = self.connections.iter();
        all.any(|it| it.cid != cid && it.takes_commands())
    }

    fn drain(&mut self, now: Instant, cid: Cid, limit: Duration, remedy: Remedy) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let until = later(now, limit);
        connection.work = match connection.work {
            Work::Nothing => Work::Draining { until, remedy },
            Work::Draining { until: before, .. } if remedy == Remedy::Terminate => Work::Draining {
                until: before.min(until),
                remedy,
            },
            Work::Waiting { .. }
            | Work::Connecting { .. }
            | Work::LoggingIn { .. }
            | Work::Draining { .. }
            | Work::LoggingOut { .. }
            | Work::Closing(_)
            | Work::Recovering { .. } => return,
        };
        self.advance_partings(now);
    }

    /// Sends the Logout of connections that have nothing under way any more.
    pub(super) fn advance_partings(&mut self, now: Instant) {
        if self.connections.len() == 1 {
            return;
        }
        let ready = |it: &Connection| matches!(it.work, Work::Draining { .. }) && it.is_idle();
        let all = self.connections.iter().filter(|it| ready(it));
        let cids: SmallVec<[Cid; 4]> = all.map(|it| it.cid).collect();
        for cid in cids {
            self.send_own_logout(now, cid);
        }
    }

    /// Logs out a connection that has no task under way, at once.
    pub(super) fn log_connection_out(&mut self, now: Instant, cid: Cid) {
        if let Some(connection) = self.connections.get_mut(cid) {
            let (until, remedy) = (now, Remedy::Terminate);
            connection.work = Work::Draining { until, remedy };
        }
        self.send_own_logout(now, cid);
    }

    /// Logs a connection out on itself.
    pub(super) fn send_own_logout(&mut self, now: Instant, cid: Cid) {
        let itt = self.controls.tag();
        let deadline = later(now, self.config.timeouts.logout);
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let Work::Draining { remedy, .. } = connection.work else {
            return;
        };
        let (reason, remedy) = if remedy == Remedy::Reassign && connection.in_flight > 0 {
            (LogoutReason::RemoveConnectionForRecovery, remedy)
        } else {
            (LogoutReason::CloseConnection, Remedy::Terminate)
        };
        connection.work = Work::LoggingOut {
            itt,
            deadline,
            remedy,
        };
        connection.sending.clear();
        let exp_stat_sn = None;
        connection.controls.push_back(Control::Logout {
            itt,
            reason,
            cid,
            exp_stat_sn,
        });
    }

    /// The answer to the Logout of a single connection, on itself or on another one. `false`: to
    /// none of them.
    pub(super) fn connection_logout_response(
        &mut self,
        now: Instant,
        response: &LogoutResponse,
    ) -> bool {
        let is_it = |it: &&Connection| it.logout() == Some(response.itt);
        let Some(connection) = self.connections.iter().find(is_it) else {
            return false;
        };
        let cid = connection.cid;
        if matches!(connection.work, Work::Recovering { .. }) {
            self.recovery_logged_out(now, cid, response);
            return true;
        }
        if response.response != 0 {
            self.wait_before_another_logout(now, response);
            self.connection_failed(now, cid, LossReason::LogoutRequested);
            return true;
        }
        self.parted(now, cid, response);
        true
    }

    fn parted(&mut self, now: Instant, cid: Cid, response: &LogoutResponse) {
        let mut remedy = Remedy::Terminate;
        if let Some(connection) = self.connections.get_mut(cid) {
            if let Work::LoggingOut { remedy: asked, .. } = connection.work {
                remedy = asked;
            }
            connection.happened(ConnectionEvent::LogoutDone);
            debug_assert_eq!(connection.state, ConnectionState::Free);
        }
        self.push_event(Event::ConnectionRemoved { cid });
        self.close_one(cid, false, Next::Forget);
        self.set_adrift(now, cid, remedy, Some(response));
    }

    /// The tag of a Logout that was rejected.
    pub(super) fn connection_logout_rejected(&mut self, now: Instant, itt: Itt) -> bool {
        let is_it = |it: &&Connection| it.logout() == Some(itt);
        let Some(connection) = self.connections.iter().find(is_it) else {
            return false;
        };
        let cid = connection.cid;
        if matches!(connection.work, Work::Recovering { .. }) {
            self.recovery_failed(now, cid);
        } else {
            self.connection_failed(now, cid, LossReason::LogoutRequested);
        }
        true
    }
}
