//! The life of one path, without doing any of it.
//!
//! ```text
//!              login             same unit               no answer
//!   Down ---------------> Verifying ------> Active <----------------> Suspect
//!    ^                     |  ^  |            |   \      TUR good       | TUR unanswered
//!    | session lost        |  |  | refused    |    \ unusable           v
//!    +-- (from anywhere)   |  |  v            |     +---------------> Failed
//!                other unit|  |  Failed       | unit may have changed   |
//!                          v  |               v                         | after a pause
//!                   Mismatched+----------- Verifying <------------------+
//! ```
//!
//! `Standby` is beside `Failed`: the target refuses access through the port (asymmetric access),
//! and the path is verified again when the target changes its mind, or after a pause.
//!
//! `Marginal` is beside `Active`, for paths that come and go ([`crate::marginal`]).
//!
//! [`Supervisor`] is told what the nexus does, what the data path saw and what checks found; it
//! says what to check next and when. A path that comes back, in a new incarnation or out of
//! trouble, carries I/O only after its identity was verified in that incarnation.

use std::time::{Duration, Instant};

use scsi::{Incarnation, NexusState};

use crate::config::Config;
use crate::marginal::{Fault, Record};
use crate::path::{PathState, Report, Trouble};

/// What to do for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look at what is behind the path, in this life only; [`Supervisor::verified`].
    Verify(Incarnation),
    /// See whether a path that seems well answers, in this life only; [`Supervisor::probed`].
    Check(Incarnation),
    /// See whether a suspected path answers a command, in this life only;
    /// [`Supervisor::probed`].
    Probe(Incarnation),
    /// Read from a path in quarantine, in this life only; [`Supervisor::probed`].
    Sample(Incarnation),
    /// Nothing, until then or until something happens.
    Wait(Option<Instant>),
}

/// What looking at the unit behind a path found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verified {
    /// It is our unit.
    Same,
    /// As far as can be seen it is our unit, but the target gives no access through the path.
    NoAccess,
    /// It is another.
    Different,
    /// It could not be seen.
    Unclear,
}

/// What a path check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// The path answers.
    Answers,
    /// The path answers that the unit may be another.
    Changed,
    /// The path answers that the unit cannot be used through it.
    Unusable,
    /// The path answers that its port gives no access now.
    NoAccess,
    /// No answer.
    Silent,
}

/// How often to look.
#[derive(Debug, Clone, Copy)]
struct Intervals {
    probe: Duration,
    probe_max: Duration,
    failed: Duration,
    failed_max: Duration,
}

/// One path's state machine.
#[derive(Debug)]
pub(crate) struct Supervisor {
    state: PathState,
    nexus: NexusState,
    intervals: Intervals,
    /// Until the next check of a healthy path.
    interval: Duration,
    /// Until the next look at a failed one.
    pause: Duration,
    /// When the next check is due; `None`: at an event only.
    due: Option<Instant>,
    /// Whether it comes and goes.
    record: Record,
}

impl Supervisor {
    /// A path that nobody has looked at.
    pub(crate) fn new(now: Instant, nexus: NexusState, config: &Config) -> Self {
        let intervals = Intervals {
            probe: config.probe_interval.max(PAUSE_MIN),
            probe_max: config.probe_interval_max.max(PAUSE_MIN),
            failed: config.failed_retry.max(PAUSE_MIN),
            failed_max: config.failed_retry_max.max(PAUSE_MIN),
        };
        let mut it = Self {
            state: PathState::Down,
            nexus: NexusState::Down(Incarnation::default()),
            intervals,
            interval: intervals.probe,
            pause: intervals.failed,
            due: None,
            record: Record::new(config.marginal_paths),
        };
        it.nexus(now, nexus);
        it
    }

    /// A path that was verified in `incarnation` when the unit was assembled.
    pub(crate) fn verified_at(
        now: Instant,
        nexus: NexusState,
        incarnation: Incarnation,
        config: &Config,
    ) -> Self {
        let mut it = Self::new(now, NexusState::Up(incarnation), config);
        it.verified(now, incarnation, Verified::Same);
        it.nexus(now, nexus);
        it
    }

    /// What the path is doing.
    pub(crate) fn state(&self) -> PathState {
        self.state
    }

    /// The life in which the path may carry I/O.
    pub(crate) fn usable_in(&self) -> Option<Incarnation> {
        match self.nexus {
            NexusState::Up(life) if self.state.is_usable() => Some(life),
            NexusState::Up(_) | NexusState::Down(_) | NexusState::Closed | _ => None,
        }
    }

    /// The nexus is in this state.
    pub(crate) fn nexus(&mut self, now: Instant, nexus: NexusState) {
        if nexus == self.nexus {
            return;
        }
        if self.is_lost(nexus) {
            self.record.fault(now, Fault::Lost);
        }
        self.nexus = nexus;
        match nexus {
            NexusState::Up(_) => self.look_again(now),
            NexusState::Closed => self.rest(PathState::Closed),
            // A state this crate does not know carries nothing.
            NexusState::Down(_) | _ => self.rest(PathState::Down),
        }
    }

    /// The data path saw trouble.
    pub(crate) fn report(&mut self, now: Instant, report: Report) {
        if self.nexus != NexusState::Up(report.incarnation) {
            return;
        }
        match report.trouble {
            Trouble::Suspect if matches!(self.state, PathState::Active | PathState::Marginal) => {
                self.record.fault(now, Fault::Silent);
                self.state = PathState::Suspect;
                self.due = Some(now);
            }
            Trouble::Suspect => {}
            Trouble::NoAccess if self.state == PathState::Mismatched => {}
            Trouble::NoAccess => self.stand_by(now),
            // The nexus says that it is up: look whether it is.
            Trouble::Lost | Trouble::Changed => self.look_again(now),
            Trouble::Unusable => self.fail(now),
        }
    }

    /// The unit behind the path was looked at.
    pub(crate) fn verified(&mut self, now: Instant, incarnation: Incarnation, what: Verified) {
        if self.nexus != NexusState::Up(incarnation) {
            return;
        }
        match what {
            Verified::Same => {
                self.record.restart(now);
                self.state = self.healthy();
                self.interval = self.intervals.probe;
                self.pause = self.intervals.failed;
                self.due = now.checked_add(self.interval);
            }
            Verified::Different => {
                self.state = PathState::Mismatched;
                self.due = now.checked_add(self.intervals.failed_max);
            }
            Verified::NoAccess => self.stand_by(now),
            Verified::Unclear => self.fail(now),
        }
    }

    /// The path was checked.
    pub(crate) fn probed(&mut self, now: Instant, incarnation: Incarnation, what: Probed) {
        if self.nexus != NexusState::Up(incarnation) || !self.state.is_usable() {
            return;
        }
        match (what, self.state) {
            (Probed::Answers, PathState::Active) => {
                self.interval = self
                    .interval
                    .saturating_mul(2)
                    .min(self.intervals.probe_max);
                self.due = now.checked_add(self.interval);
            }
            (Probed::Answers, _) => {
                self.state = self.healthy();
                self.interval = self.intervals.probe;
                let pause = if self.state == PathState::Marginal {
                    self.record.sample_interval().max(PAUSE_MIN)
                } else {
                    self.interval
                };
                self.due = now.checked_add(pause);
            }
            (Probed::Changed, _) => self.look_again(now),
            (Probed::Silent, PathState::Active | PathState::Marginal) => {
                self.record.fault(now, Fault::Silent);
                self.state = PathState::Suspect;
                self.due = Some(now);
            }
            (Probed::NoAccess, _) => self.stand_by(now),
            (Probed::Silent | Probed::Unusable, _) => self.fail(now),
        }
    }

    /// Time has passed: a path may have been well for long enough. To be called before
    /// [`Self::poll`].
    pub(crate) fn tick(&mut self, now: Instant) {
        // Away is not well.
        if self.state == PathState::Marginal && self.record.tick(now) {
            self.state = PathState::Active;
            self.interval = self.intervals.probe;
            self.due = now.checked_add(self.interval);
        }
    }

    /// How long a path in quarantine has to be well from `now` on.
    pub(crate) fn recovery(&self, now: Instant) -> Option<Duration> {
        let until = self.record.quarantined()?;
        Some(until.saturating_duration_since(now))
    }

    /// The state of a path that answers.
    fn healthy(&self) -> PathState {
        match self.record.quarantined() {
            Some(_) => PathState::Marginal,
            None => PathState::Active,
        }
    }

    /// Whether `next` means that a life is over that was there.
    fn is_lost(&self, next: NexusState) -> bool {
        let NexusState::Up(life) = self.nexus else {
            return false;
        };
        match next {
            NexusState::Up(next) => next != life,
            NexusState::Closed => false,
            NexusState::Down(_) | _ => true,
        }
    }

    /// What to do now.
    pub(crate) fn poll(&self, now: Instant) -> Action {
        let NexusState::Up(life) = self.nexus else {
            return Action::Wait(None);
        };
        match self.due {
            Some(due) if due <= now => match self.state {
                PathState::Active => Action::Check(life),
                PathState::Suspect => Action::Probe(life),
                PathState::Marginal => Action::Sample(life),
                PathState::Verifying
                | PathState::Failed
                | PathState::Standby
                | PathState::Mismatched
                | PathState::Down
                | PathState::Closed => Action::Verify(life),
            },
            due => {
                // Only a path that is well meanwhile comes out of quarantine.
                let well = self.state == PathState::Marginal;
                let out = self.record.quarantined().filter(|_| well);
                Action::Wait(due.into_iter().chain(out).min())
            }
        }
    }

    fn look_again(&mut self, now: Instant) {
        self.state = PathState::Verifying;
        self.due = Some(now);
    }

    fn fail(&mut self, now: Instant) {
        self.state = PathState::Failed;
        self.due = now.checked_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(self.intervals.failed_max);
    }

    fn stand_by(&mut self, now: Instant) {
        if self.state != PathState::Standby {
            self.pause = self.intervals.failed;
        }
        self.fail(now);
        self.state = PathState::Standby;
    }

    fn rest(&mut self, state: PathState) {
        self.state = state;
        self.due = None;
        self.pause = self.intervals.failed;
    }
}

/// Shortest pause between two checks, whatever is configured: without one they would never end.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
