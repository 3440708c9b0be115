//! Leaving: wait for what is under way, log out, close (RFC 7143 §11.14, §11.15).
//!
//! Where nothing is under way any more, a session of several connections first logs out all of them
//! but one, each by itself. One Logout for all of them would do by the RFC, but a target then ends
//! connections on which our PDUs may still be on their way (acknowledgements, answers to pings),
//! and Linux' target of kernel 6.1 does not survive that (`docs/interop-lio.md`).

use std::time::{Duration, Instant};

use scsi::{Certainty, DeliveryError, DeliveryErrorKind, Outcome};
use smallvec::SmallVec;

use super::connection::{Connection, Work};
use super::control::Control;
use super::error::{CloseReason, LossReason, ProtocolError};
use super::state::SessionEvent;
use super::{After, Phase, Session, later};
use crate::name::Cid;
use crate::wire::{Itt, LogoutReason, LogoutResponse};

/// A logout under way.
#[derive(Debug)]
pub(super) struct Logout {
    why: Why,
    step: Step,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The application is done.
    Application,
    /// The target asked for it; a new login follows.
    Target,
    /// The login only served to end the old session.
    Fence,
    /// An earlier life, in another portal group, has to be ended first; a new login follows.
    Detour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Commands under way may still end.
    Draining,
    /// All connections but one are logged out.
    Parting,
    /// The Logout is sent.
    Asked(Itt),
}

impl Logout {
    /// Right after a login that only served as a fence.
    pub(super) fn after_fence(now: Instant) -> Self {
        Self {
            why: Why::Fence,
            step: Step::Draining,
            deadline: now,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Nothing follows it.
    pub(super) fn is_final(&self) -> bool {
        self.why == Why::Application
    }
}

impl Session {
    /// Logs out: no new commands, those under way may end, then the session closes. Bounded by
    /// the logout time limit for each of the two.
    pub fn logout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Up => self.start_logout(now, Why::Application, self.config.timeouts.logout),
            Phase::LoggingOut(logout) => logout.why = Why::Application,
            Phase::Waiting { .. } => self.end(CloseReason::LoggedOut),
            Phase::Connecting { .. } | Phase::LoggingIn { .. } => {
                self.close(now, After::Closed(CloseReason::LoggedOut));
            }
            Phase::Closing(after) => *after = After::Closed(CloseReason::LoggedOut),
            Phase::Closed => {}
        }
    }

    /// The target asked for a logout within `limit` (Async Message 1).
    pub(super) fn logout_requested(&mut self, now: Instant, limit: Duration) {
        if matches!(self.phase, Phase::Up) {
            self.refuse_pending();
            // Half of the time is left for the Logout itself.
            self.start_logout(
                now,
                Why::Target,
                (limit / 2).min(self.config.timeouts.logout),
            );
        }
    }

    /// Leaves in good order to end an earlier life where it lived.
    pub(super) fn detour(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Up) {
            self.start_logout(now, Why::Detour, self.config.timeouts.logout);
        }
    }

    /// What has not been sent is not sent any more (RFC 7143 §11.9.1); the callers hear of it now.
    fn refuse_pending(&mut self) {
        for key in std::mem::take(&mut self.pending) {
            let (kind, certainty) = (DeliveryErrorKind::Down, Certainty::NotSent);
            self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        }
    }

    fn start_logout(&mut self, now: Instant, why: Why, drain: Duration) {
        let deadline = later(now, drain);
        self.phase = Phase::LoggingOut(Logout {
            why,
            step: Step::Draining,
            deadline,
        });
        self.stop_joining();
        self.advance_logout(now);
    }

    /// Goes on with leaving once nothing is under way, or the time for that is up.
    pub(super) fn advance_logout(&mut self, now: Instant) {
        self.advance_partings(now);
        let drained = self.in_flight == 0 && self.pending.is_empty();
        let others = self.others_are_leaving();
        let Phase::LoggingOut(logout) = &mut self.phase else {
            return;
        };
        let late = logout.deadline <= now;
        match logout.step {
            Step::Draining if drained => {
                logout.step = Step::Parting;
                logout.deadline = later(now, self.config.timeouts.logout);
                self.part_from_others(now);
                self.advance_logout(now);
            }
            Step::Parting if others && !late => {}
            Step::Draining if !late => {}
            Step::Draining | Step::Parting => self.log_session_out(now),
            Step::Asked(_) => {}
        }
    }

    /// Logs out every connection but the one on which the session is logged out.
    fn part_from_others(&mut self, now: Instant) {
        let Some(speaker) = self.speaker() else {
            return;
        };
        let others = self
            .connections
            .iter()
            .filter(|it| it.cid != speaker && it.may_send() && matches!(it.work, Work::Nothing));
        let others: SmallVec<[Cid; 4]> = others.map(|it| it.cid).collect();
        for cid in others {
            self.log_connection_out(now, cid);
        }
    }

    fn others_are_leaving(&self) -> bool {
        let leaving = |it: &Connection| {
            matches!(
                it.work,
                Work::Draining { .. } | Work::LoggingOut { .. } | Work::Closing(_)
            )
        };
        self.connections.len() > 1 && self.connections.iter().any(leaving)
    }

    /// Sends the Logout for the whole session.
    fn log_session_out(&mut self, now: Instant) {
        // What was not sent by now never will be; nothing may follow a Logout.
        self.pending.clear();
        let Some(cid) = self.speaker() else {
            return self.logout_refused(now);
        };
        let itt = self.controls.tag();
        let Phase::LoggingOut(logout) = &mut self.phase else {
            return;
        };
        logout.step = Step::Asked(itt);
        logout.deadline = later(now, self.config.timeouts.logout);
        for connection in self.connections.iter_mut() {
            connection.sending.clear();
            if connection.cid != cid {
                connection.controls.clear();
            }
        }
        let (reason, exp_stat_sn) = (LogoutReason::CloseSession, None);
        let logout = Control::Logout {
            itt,
            reason,
            cid,
            exp_stat_sn,
        };
        self.push_control(cid, logout);
    }

    /// Whether nothing may be sent on a connection any more: the Logout of the session goes, or
    /// has gone, on another one (RFC 7143 §11.14).
    pub(super) fn is_silenced(&self, connection: &Connection) -> bool {
        let Phase::LoggingOut(Logout {
            step: Step::Asked(itt),
            ..
        }) = &self.phase
        else {
            return false;
        };
        let carries = |it: &Control| matches!(it, Control::Logout { itt: tag, .. } if tag == itt);
        !connection.controls.iter().any(carries)
    }

    /// A connection on which the session can be logged out.
    fn speaker(&self) -> Option<Cid> {
        let mut all = self.connections.iter();
        let free = |it: &&Connection| it.may_send() && !matches!(it.work, Work::LoggingOut { .. });
        all.find(free).map(|it| it.cid)
    }

    pub(super) fn logout_timeout(&mut self, now: Instant) {
        let Phase::LoggingOut(logout) = &self.phase else {
            return;
        };
        match logout.step {
            Step::Draining | Step::Parting => self.advance_logout(now),
            Step::Asked(_) if logout.deadline <= now => self.logout_refused(now),
            Step::Asked(_) => {}
        }
    }

    pub(super) fn logout_response(
        &mut self,
        now: Instant,
        response: &LogoutResponse,
    ) -> Result<(), ProtocolError> {
        if self.connection_logout_response(now, response) {
            return Ok(());
        }
        let Phase::LoggingOut(logout) = &self.phase else {
            return Err(ProtocolError::UnexpectedPdu {
                pdu: "Logout Response",
            });
        };
        if logout.step != Step::Asked(response.itt) {
            return Err(ProtocolError::UnknownTask {
                itt: response.itt.0,
            });
        }
        if response.response != 0 {
            self.wait_before_another_logout(now, response);
            self.logout_refused(now);
            return Ok(());
        }
        let why = logout.why;
        // Below level 2 the field is to be ignored (RFC 7143 §11.15.3).
        if why == Why::Target && self.params.error_recovery_level >= 2 {
            let wait = Duration::from_secs(u64::from(response.time2wait_s));
            self.reconnect.wait_at_least(now, wait);
        }
        // A clean logout ends every task of the session (RFC 7143 §7.6).
        self.end_lives();
        self.happened(SessionEvent::Closed);
        let after = match why {
            Why::Application => After::Closed(CloseReason::LoggedOut),
            Why::Target => After::Retry {
                at: self.retry_after_life(now),
                reason: LossReason::LogoutRequested,
                failed: false,
            },
            Why::Detour => After::Retry {
                at: self.reconnect.not_before(now),
                reason: LossReason::Fenced,
                failed: false,
            },
            Why::Fence => After::Again,
        };
        self.close_all(now, false, after);
        Ok(())
    }

    /// A Logout failed: the next one, and a login that implies one, waits as long as the target
    /// asks for (RFC 7143 §11.15.3).
    pub(super) fn wait_before_another_logout(&mut self, now: Instant, response: &LogoutResponse) {
        if matches!(response.response, 2 | 3) && self.config.honour_time2wait {
            let wait = Duration::from_secs(u64::from(response.time2wait_s));
            self.reconnect.wait_at_least(now, wait);
        }
    }

    /// The target did not log us out: the connection is cut instead.
    pub(super) fn logout_refused(&mut self, now: Instant) {
        if matches!(self.phase, Phase::LoggingOut(_)) {
            self.lose(now, LossReason::LogoutRequested);
        }
    }
}
