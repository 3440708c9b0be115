//! Logout Requests: of the session, of a connection, for recovery (RFC 7143 §11.14, §11.15).

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::{Leaving, Numbering};
use crate::full_feature::reason;
use crate::judge::Rule;
use crate::lost::seconds;
use crate::target::Target;
use crate::wire::framer::RawPdu;
use crate::wire::request::LogoutRequest;
use crate::wire::response;

const CLOSE_SESSION: u8 = 0;
const CLOSE_CONNECTION: u8 = 1;
const RECOVERY: u8 = 2;

const DONE: u8 = 0;
const CID_NOT_FOUND: u8 = 1;
const RECOVERY_NOT_SUPPORTED: u8 = 2;

/// Which connection a Logout is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Live(ConnectionId),
    Lost(ConnectionId),
}

impl Target {
    pub(crate) fn on_logout(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let request = LogoutRequest::parse(&pdu.header);
        if !self.tag_free(tsih, request.itt) {
            self.reject(now, id, reason::TASK_IN_PROGRESS, &pdu.header);
            return;
        }
        let level = self.level(tsih);
        let good = request.reason <= 1 || request.reason == RECOVERY && level == 2;
        self.judge.expect(good, Rule::LogoutReason, || {
            format!("reason {} at level {level}", request.reason)
        });
        if !good {
            let header = response::logout(request.itt, RECOVERY_NOT_SUPPORTED, 0, 0);
            self.send(now, id, header, &[], Numbering::Status);
            return;
        }
        if request.reason == CLOSE_SESSION {
            self.close_session(now, id, tsih, request.itt);
            return;
        }
        let Some(named) = self.named(tsih, request.cid) else {
            // One that the target has forgotten meanwhile is named in good faith.
            let session = self.sessions.get(&tsih);
            let known = session.is_some_and(|session| session.cids.contains_key(&request.cid));
            self.judge.expect(known, Rule::LogoutConnection, || {
                format!("CID {}", request.cid)
            });
            let header = response::logout(request.itt, CID_NOT_FOUND, 0, 0);
            self.send(now, id, header, &[], Numbering::Status);
            return;
        };
        let leaving = if request.reason == RECOVERY {
            self.recovery.recovery_logouts += 1;
            Leaving::Recovery
        } else {
            Leaving::Closed
        };
        match named {
            Named::Live(closing) if closing == id => {
                self.leave(now, id, tsih, request.itt, leaving);
            }
            Named::Live(closing) => {
                self.part(now, tsih, closing, leaving);
                self.finish_elsewhere(now, id, tsih, closing, &request, pdu.exp_stat_sn());
            }
            Named::Lost(closing) => {
                self.finish_elsewhere(now, id, tsih, closing, &request, pdu.exp_stat_sn());
            }
        }
    }

    pub(crate) fn level(&self, tsih: u16) -> u8 {
        self.sessions
            .get(&tsih)
            .map_or(0, |session| session.parameters.error_recovery_level)
    }

    pub(crate) fn protocol_level(&self, tsih: u16) -> u8 {
        self.sessions
            .get(&tsih)
            .map_or(1, |session| session.parameters.protocol_level)
    }

    /// A connection of the session by its CID; a living one before one that was lost.
    fn named(&self, tsih: u16, cid: u16) -> Option<Named> {
        let session = self.sessions.get(&tsih)?;
        let live = session.connections.iter().copied().find(|member| {
            self.connections
                .get(member)
                .is_some_and(|connection| connection.cid == cid)
        });
        let lost = || {
            let mut all = session.lost.iter().filter(|(_, lost)| lost.cid == cid);
            all.next_back().map(|(id, _)| Named::Lost(*id))
        };
        live.map(Named::Live).or_else(lost)
    }

    fn close_session(&mut self, now: Instant, id: ConnectionId, tsih: u16, itt: u32) {
        self.abort_where(Some(tsih), None);
        let members = self
            .sessions
            .get(&tsih)
            .map(|session| session.connections.clone())
            .unwrap_or_default();
        // RFC 7143 §11.14: nothing may follow on any connection of the session.
        for member in members {
            if let Some(connection) = self.connections.get_mut(&member) {
                connection.logout_seen = true;
                connection.leaving = Leaving::Closed;
            }
        }
        let (wait, _) = self.logout_times(tsih);
        let header = response::logout(itt, DONE, wait, 0);
        self.send(now, id, header, &[], Numbering::Status);
        self.drain(now, id);
        self.end_session(now, tsih);
    }

    /// A connection logs itself out.
    fn leave(&mut self, now: Instant, id: ConnectionId, tsih: u16, itt: u32, leaving: Leaving) {
        let (wait, retain) = self.logout_times(tsih);
        let recovery = leaving == Leaving::Recovery;
        let retain = if recovery { retain } else { 0 };
        if !recovery {
            self.discard_tasks(tsih, id);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.logout_seen = true;
            connection.leaving = leaving;
            connection.times = recovery.then_some((wait, retain));
        }
        let header = response::logout(itt, DONE, wait, retain);
        let stat_sn = self.next_stat_sn(id);
        self.send(now, id, header, &[], Numbering::Status);
        self.drain(now, id);
        if recovery {
            self.set_wait(now, tsih, id, (id, stat_sn), wait);
        }
        self.close_if_empty(now, tsih);
    }

    /// Another connection of the session is closed.
    fn part(&mut self, now: Instant, tsih: u16, closing: ConnectionId, leaving: Leaving) {
        if leaving == Leaving::Closed {
            self.discard_tasks(tsih, closing);
        }
        if let Some(connection) = self.connections.get_mut(&closing) {
            connection.leaving = leaving;
        }
        self.close(now, closing, false);
    }

    /// Answers a Logout for a connection that exists no more.
    fn finish_elsewhere(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        closing: ConnectionId,
        request: &LogoutRequest,
        exp_stat_sn: u32,
    ) {
        let (wait, mut retain) = self.logout_times(tsih);
        if request.reason == CLOSE_CONNECTION {
            self.discard_tasks(tsih, closing);
            if let Some(session) = self.sessions.get_mut(&tsih) {
                session.lost.remove(&closing);
            }
            retain = 0;
        } else {
            self.free_for_reassignment(now, tsih, closing, exp_stat_sn);
            let told = (id, self.next_stat_sn(id));
            self.set_wait(now, tsih, closing, told, wait);
        }
        let header = response::logout(request.itt, DONE, wait, retain);
        self.send(now, id, header, &[], Numbering::Status);
    }

    fn next_stat_sn(&self, id: ConnectionId) -> u32 {
        self.connections.get(&id).map_or(0, |c| c.stat_sn)
    }

    /// The response that `told` names says Time2Wait.
    fn set_wait(
        &mut self,
        now: Instant,
        tsih: u16,
        id: ConnectionId,
        told: (ConnectionId, u32),
        wait: u16,
    ) {
        let session = self.sessions.get_mut(&tsih);
        if let Some(lost) = session.and_then(|session| session.lost.get_mut(&id)) {
            lost.wait_until = Some(now + seconds(wait));
            lost.told = Some(told);
        }
    }

    /// Session closure: no connection, nothing waiting to be recovered (RFC 7143 §6.3.5).
    fn close_if_empty(&mut self, now: Instant, tsih: u16) {
        let empty = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.connections.is_empty() && session.lost.is_empty());
        if empty {
            self.end_session(now, tsih);
        }
    }
}
