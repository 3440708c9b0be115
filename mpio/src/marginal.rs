//! Paths that come and go: quarantine for the flapping, by a leaky bucket of faults.
//!
//! Modelled on the `san_path_err_*` and `marginal_path_*` options of multipath-tools. Each fault
//! of a path adds its weight; time takes it away again. A path whose bucket runs over goes into
//! quarantine: it carries I/O only when no other path is healthy, so the last usable path is never
//! lost to it. Meanwhile it is read from once a second, and it comes back after so long without a
//! single fault. Who comes back and soon goes again, stays away twice as long.
//!
//! Nothing here reads a clock or sends anything; see [`crate::supervisor`].

use std::time::{Duration, Instant};

/// When a path counts as marginal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MarginalPaths {
    /// Weight of faults at which a path goes into quarantine: a lost session weighs 10, an
    /// unanswered command or path check 5. 0: never.
    pub threshold: u32,
    /// In this time one point is forgotten.
    pub forget: Duration,
    /// A path comes back after so long without a fault. Doubles each time it goes again soon.
    pub recovery: Duration,
    /// The longest of these times. A path that was healthy for so long starts anew.
    pub recovery_max: Duration,
    /// How often a path in quarantine is read from.
    pub sample_interval: Duration,
}

impl Default for MarginalPaths {
    /// Three lost sessions in 50 seconds are too many.
    fn default() -> Self {
        Self {
            threshold: 25,
            forget: Duration::from_secs(10),
            recovery: Duration::from_secs(30),
            recovery_max: Duration::from_secs(3_600),
            sample_interval: Duration::from_secs(1),
        }
    }
}

/// What a path did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It lost its session.
    Lost,
    /// A command or a path check went unanswered.
    Silent,
}

impl Fault {
    const fn weight(self) -> u32 {
        match self {
            Self::Lost => 10,
            Self::Silent => 5,
        }
    }
}

/// The record of one path.
#[derive(Debug)]
pub(crate) struct Record {
    config: MarginalPaths,
    points: u32,
    /// Points are as of then.
    as_of: Option<Instant>,
    /// In quarantine until then, if it is clean.
    until: Option<Instant>,
    /// How long the next quarantine takes.
    next: Duration,
    /// When the last one ended.
    left: Option<Instant>,
}

impl Record {
    pub(crate) fn new(config: MarginalPaths) -> Self {
        Self {
            config,
            points: 0,
            as_of: None,
            until: None,
            next: config.recovery,
            left: None,
        }
    }

    /// The path did wrong. `true` when it goes into quarantine with this.
    pub(crate) fn fault(&mut self, now: Instant, fault: Fault) -> bool {
        if self.config.threshold == 0 {
            return false;
        }
        self.leak(now);
        self.points = self.points.saturating_add(fault.weight());
        if self.until.is_some() {
            self.restart(now);
            return false;
        }
        if self.points < self.config.threshold {
            return false;
        }
        let healthy = self.left.map(|left| now.saturating_duration_since(left));
        if healthy.is_none_or(|healthy| healthy >= self.config.recovery_max) {
            self.next = self.config.recovery;
        }
        self.until = now.checked_add(self.next);
        self.next = self.next.saturating_mul(2).min(self.config.recovery_max);
        self.until.is_some()
    }

    /// The path is back: if it is in quarantine, it has to be well from here on.
    pub(crate) fn restart(&mut self, now: Instant) {
        if self.until.is_some() {
            self.until = now.checked_add(self.current());
        }
    }

    /// Time has passed. `true` when the path leaves quarantine with this.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        if self.until.is_none_or(|until| now < until) {
            return false;
        }
        self.until = None;
        self.left = Some(now);
        self.points = 0;
        true
    }

    /// Until when it is in quarantine, if nothing else happens.
    pub(crate) fn quarantined(&self) -> Option<Instant> {
        self.until
    }

    /// Pause between two samples.
    pub(crate) fn sample_interval(&self) -> Duration {
        self.config.sample_interval
    }

    /// The quarantine it is in: half of the next, unless that is the longest already.
    fn current(&self) -> Duration {
        let half = self.next.checked_div(2).unwrap_or(self.next);
        half.max(self.config.recovery)
    }

    fn leak(&mut self, now: Instant) {
        let Some(since) = self.as_of else {
            self.as_of = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(since).as_millis();
        let forgotten = passed.checked_div(self.config.forget.as_millis());
        let forgotten = forgotten.map_or(0, |points| u32::try_from(points).unwrap_or(u32::MAX));
        if forgotten > 0 {
            self.points = self.points.saturating_sub(forgotten);
            self.as_of = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn record() -> Record {
        Record::new(MarginalPaths::default())
    }

    #[test]
    fn three_lost_sessions_in_fifty_seconds_and_not_in_a_minute() {
        let mut it = record();
        assert!(!it.fault(at(0), Fault::Lost));
        assert!(!it.fault(at(25_000), Fault::Lost));
        assert!(it.fault(at(49_000), Fault::Lost));
        let mut it = record();
        assert!(!it.fault(at(0), Fault::Lost));
        assert!(!it.fault(at(30_000), Fault::Lost));
        assert!(!it.fault(at(60_000), Fault::Lost));
    }

    #[test]
    fn a_quarantine_ends_after_a_clean_period_and_not_before() {
        let mut it = record();
        for _ in 0..4 {
            assert!(!it.fault(at(0), Fault::Silent));
        }
        assert!(it.fault(at(0), Fault::Silent));
        assert_eq!(it.quarantined(), Some(at(30_000)));
        assert!(!it.tick(at(29_999)));
        // One fault, and the period begins anew.
        assert!(!it.fault(at(29_999), Fault::Silent));
        assert!(!it.tick(at(30_000)));
        assert_eq!(it.quarantined(), Some(at(59_999)));
        assert!(it.tick(at(59_999)));
        assert_eq!(it.quarantined(), None);
    }

    #[test]
    fn who_goes_again_stays_away_twice_as_long_up_to_the_longest() {
        let mut it = record();
        let mut now = 0;
        let mut periods = Vec::new();
        for _ in 0..10 {
            while !it.fault(at(now), Fault::Lost) {}
            let until = it.quarantined().unwrap();
            periods.push((until - at(now)).as_secs());
            assert!(it.tick(until));
            now += u64::try_from((until - at(now)).as_millis()).unwrap() + 1;
        }
        let expected = [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600];
        assert_eq!(periods, expected);
        // An hour without anything, and all is forgiven.
        now += 3_600_000;
        while !it.fault(at(now), Fault::Lost) {}
        assert_eq!(it.quarantined(), Some(at(now + 30_000)));
    }

    #[test]
    fn threshold_zero_is_never() {
        let mut it = Record::new(MarginalPaths {
            threshold: 0,
            ..MarginalPaths::default()
        });
        for _ in 0..100 {
            assert!(!it.fault(at(0), Fault::Lost));
        }
    }
}
