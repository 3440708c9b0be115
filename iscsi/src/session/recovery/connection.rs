//! Connection recovery (RFC 7143 §7.1.4.3, §7.14): a connection is lost, the session lives on.
//!
//! ```text
//!  lost --> closed --> Time2Wait --+--> Logout, reason 2, on another connection --+--> its tasks
//!           (cut, buffers back)    |                                              |    are adrift
//!                                  +--> login with the same TSIH and CID ---------+    (reassign)
//!                                       when there is no other connection
//! ```
//!
//! Either way tells the target that nothing more comes on the old connection, and makes it keep
//! the tasks (ErrorRecoveryLevel 2). At ErrorRecoveryLevel 1 a connection may be closed by the
//! Logout with reason 1 on another one, which ends its tasks (§7.14 b). In all other cases, and
//! whenever a step of this fails, the session ends and is reinstated, as at level 0.
//!
//! Invariants: nothing is done for the tasks of a connection before the driver has cut it and the
//! target has confirmed that it is gone; Time2Wait has passed before the first step, Time2Retain
//! has not before the last.

use std::time::{Duration, Instant};

use super::super::connection::{Connection, Lost, Next, Remedy, Work};
use super::super::control::Control;
use super::super::error::LossReason;
use super::super::event::Event;
use super::super::state::{CleanupEvent, CleanupState};
use super::super::{Phase, Session, later};
use crate::name::Cid;
use crate::wire::{LogoutReason, LogoutResponse};

/// Losses in a row, each soon after the one before and without a command that ended in between,
/// after which the session is given up.
const STRIKES_MAX: u32 = 8;

/// Losses further apart than this are not in a row.
const STRIKE_WINDOW: Duration = Duration::from_secs(10);

impl Session {
    /// A connection is of no use any more: it is recovered when the session's
    /// ErrorRecoveryLevel allows that, else the session ends.
    pub(in super::super) fn connection_failed(
        &mut self,
        now: Instant,
        cid: Cid,
        reason: LossReason,
    ) {
        let wait = Duration::from_secs(u64::from(self.params.time2wait_s));
        let retain = Duration::from_secs(u64::from(self.params.time2retain_s));
        self.connection_dropped(now, cid, reason, wait, retain);
    }

    /// Like [`Session::connection_failed`], with times that the target announced
    /// (RFC 7143 §7.5.2).
    pub(in super::super) fn connection_dropped(
        &mut self,
        now: Instant,
        cid: Cid,
        reason: LossReason,
        wait: Duration,
        retain: Duration,
    ) {
        let Some(connection) = self.connections.get(cid) else {
            return;
        };
        if !connection.open || matches!(connection.work, Work::Closing(_)) {
            // Known already.
            return;
        }
        if !matches!(self.phase, Phase::Up) {
            return self.lose(now, reason);
        }
        if !connection.is_up() {
            return self.member_failed(now, cid, reason);
        }
        let Some(remedy) = self.remedy(cid, retain).filter(|_| self.strike(now)) else {
            return self.lose(now, reason);
        };
        let wait = if self.config.honour_time2wait {
            wait
        } else {
            Duration::ZERO
        };
        let not_before = later(now, wait);
        let lost = Lost {
            remedy,
            reason: reason.clone(),
            not_before,
            until: later(not_before, retain),
        };
        self.stats.connections_lost += 1;
        self.forget_reassignments(cid);
        if let Some(connection) = self.connections.get_mut(cid) {
            connection.transport_lost();
            connection.lost = Some(lost);
        }
        if !self.connections.iter().any(Connection::is_up) {
            self.session_lost();
        }
        self.push_event(Event::ConnectionLost { cid, reason });
        self.close_one(cid, true, Next::Recover);
        self.recoveries_lost(now, cid);
        self.reset_again(now);
    }

    /// What can be done for the tasks of a connection that is lost.
    fn remedy(&self, cid: Cid, retain: Duration) -> Option<Remedy> {
        let level = self.params.error_recovery_level;
        if level >= 2 && retain > Duration::ZERO {
            Some(Remedy::Reassign)
        } else if level >= 1 && self.others_take_commands(cid) {
            Some(Remedy::Terminate)
        } else {
            None
        }
    }

    /// Counts a loss; `false` when there were too many in a row.
    fn strike(&mut self, now: Instant) -> bool {
        let adrift = &mut self.adrift;
        if now.saturating_duration_since(adrift.last_loss) > STRIKE_WINDOW {
            adrift.strikes = 0;
        }
        adrift.last_loss = now;
        adrift.strikes += 1;
        adrift.strikes <= STRIKES_MAX
    }

    /// Logouts for recovery that went out on a connection which is now lost itself start again.
    fn recoveries_lost(&mut self, now: Instant, cid: Cid) {
        for connection in self.connections.iter_mut() {
            if matches!(&connection.work, Work::Recovering { via, .. } if *via == cid) {
                connection.work = Work::Waiting { at: now };
                connection.cleaned(CleanupEvent::Failed);
            }
        }
    }

    /// The next step for a lost connection: log it out on another one, or reinstate it.
    pub(in super::super) fn recover(&mut self, now: Instant, cid: Cid) {
        let via = self.connections.least_loaded();
        let itt = self.controls.tag();
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let Some(lost) = connection.lost.clone() else {
            return;
        };
        if lost.remedy == Remedy::Reassign && now >= lost.until {
            return self.lose(now, lost.reason);
        }
        let Some(via) = via else {
            if lost.remedy == Remedy::Terminate {
                return self.lose(now, lost.reason);
            }
            if connection.cleanup == Some(CleanupState::CleanupWait) {
                connection.cleaned(CleanupEvent::Started);
            }
            return self.dial(now, cid);
        };
        let reason = match lost.remedy {
            Remedy::Reassign => LogoutReason::RemoveConnectionForRecovery,
            Remedy::Terminate => LogoutReason::CloseConnection,
        };
        let deadline = later(now, self.config.timeouts.logout);
        connection.work = Work::Recovering { itt, via, deadline };
        connection.revert();
        if connection.cleanup == Some(CleanupState::CleanupWait) {
            connection.cleaned(CleanupEvent::Started);
        }
        // Of the connection to be closed (RFC 7143 §11.14.4).
        let exp_stat_sn = Some(connection.exp_stat_sn);
        self.push_control(
            via,
            Control::Logout {
                itt,
                reason,
                cid,
                exp_stat_sn,
            },
        );
    }

    /// The target answered the Logout for a lost connection.
    pub(in super::super) fn recovery_logged_out(
        &mut self,
        now: Instant,
        cid: Cid,
        response: &LogoutResponse,
    ) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let Some(lost) = connection.lost.clone() else {
            return;
        };
        // "CID not found": the target has forgotten it, and its tasks with it.
        let forgotten = response.response == 1 && connection.in_flight == 0;
        if response.response != 0 && !forgotten {
            self.wait_before_another_logout(now, response);
            return self.recovery_failed(now, cid);
        }
        connection.cleaned(CleanupEvent::Succeeded);
        self.set_adrift(now, cid, lost.remedy, Some(response));
        if matches!(self.phase, Phase::Up) {
            self.connections.remove(cid);
            self.open_more(now);
        }
    }

    /// A lost connection could not be logged out.
    pub(in super::super) fn recovery_failed(&mut self, now: Instant, cid: Cid) {
        let lost = self.connections.get(cid).and_then(|it| it.lost.as_ref());
        let reason = lost.map_or(LossReason::LogoutRequested, |lost| lost.reason.clone());
        self.lose(now, reason);
    }

    /// A login with the same CID has taken the place of a lost connection.
    pub(in super::super) fn reinstated(&mut self, now: Instant, cid: Cid) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        connection.lost = None;
        connection.cleaned(CleanupEvent::Succeeded);
        self.set_adrift(now, cid, Remedy::Reassign, None);
    }
}
