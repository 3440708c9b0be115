//! Asymmetric access (SPC-4 §5.15): what it means for a path.
//!
//! A path belongs to the target port group that VPD page 83h names for its port; group
//! identifiers need not be iSCSI's portal group tags. The group's state and preference make the
//! path's priority, with the numbers of multipath-tools' `alua` prioritizer. Paths of units
//! without asymmetric access all have [`PRIORITY_CONST`].

mod watch;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scsi::inquiry::Tpgs;
use scsi::{AccessState, TargetPortGroup};

use crate::signal::{Signal, lock};

pub(crate) use watch::{Action, Sight, Watch};

/// Priority of a path that no target port group says anything about.
pub(crate) const PRIORITY_CONST: u8 = 1;

/// Which target port a path uses, by VPD page 83h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct TargetPort {
    /// Target port group identifier.
    pub(crate) group: Option<u16>,
    /// Relative target port identifier.
    pub(crate) port: Option<u16>,
}

/// Whether initiators may change access states (SET TARGET PORT GROUPS).
pub(crate) const fn is_explicit(tpgs: Tpgs) -> bool {
    matches!(tpgs, Tpgs::Explicit | Tpgs::Both)
}

/// How the target lets a path reach the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PathAccess {
    /// Target port group identifier.
    pub group: u16,
    /// Relative target port identifier, when the target names it.
    pub port: Option<u16>,
    /// State of the group.
    pub state: AccessState,
    /// PREF: the target would like the group's ports to be used.
    pub preferred: bool,
}

impl PathAccess {
    /// As multipath-tools counts: 50 active/optimized, 10 active/non-optimized, 5 logical block
    /// dependent, 1 standby, 0 others, and 80 more for a preferred group that is not optimized.
    #[must_use]
    pub const fn priority(&self) -> u8 {
        let base = match self.state {
            AccessState::ActiveOptimized => return 50,
            AccessState::ActiveNonOptimized => 10,
            AccessState::LbaDependent => 5,
            AccessState::Standby => 1,
            AccessState::Unavailable
            | AccessState::Offline
            | AccessState::Transitioning
            | AccessState::Reserved(_) => 0,
        };
        if self.preferred { base + 80 } else { base }
    }

    /// Whether the state lets reads and writes through.
    #[must_use]
    pub const fn carries_io(&self) -> bool {
        carries_io(self.state)
    }
}

/// Whether a state lets reads and writes through. One that the standard does not define may.
pub(crate) const fn carries_io(state: AccessState) -> bool {
    match state {
        AccessState::ActiveOptimized
        | AccessState::ActiveNonOptimized
        | AccessState::LbaDependent
        | AccessState::Reserved(_) => true,
        AccessState::Standby
        | AccessState::Unavailable
        | AccessState::Offline
        | AccessState::Transitioning => false,
    }
}

/// A unit's target port groups at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Who may change access states.
    pub tpgs: Tpgs,
    /// The groups of the last report, with what refused commands told since.
    pub groups: Vec<TargetPortGroup>,
    /// How long the target says that a transition may take.
    pub implicit_transition: Option<Duration>,
    /// REPORT TARGET PORT GROUPS answered.
    pub reports: u64,
    /// SET TARGET PORT GROUPS sent.
    pub sets: u64,
    /// Of those, refused or unanswered.
    pub sets_failed: u64,
}

/// What a unit's I/O and its keepers share about access.
#[derive(Debug)]
pub(crate) struct SharedAccess {
    /// It has target port groups.
    asymmetric: AtomicBool,
    watch: Mutex<Watch>,
    /// Raised when there may be something to do.
    pub(crate) news: Signal,
    pub(crate) reports: AtomicU64,
    pub(crate) sets: AtomicU64,
    pub(crate) sets_failed: AtomicU64,
}

impl SharedAccess {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            asymmetric: AtomicBool::new(watch.tpgs() != Tpgs::None),
            watch: Mutex::new(watch),
            news: Signal::default(),
            reports: AtomicU64::new(0),
            sets: AtomicU64::new(0),
            sets_failed: AtomicU64::new(0),
        }
    }

    /// Whether the unit has target port groups. Cheap: every I/O asks.
    pub(crate) fn asymmetric(&self) -> bool {
        self.asymmetric.load(Ordering::Relaxed)
    }

    /// Looks at the watch; what it does next does not change.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&Watch) -> T) -> T {
        look(&lock(&self.watch))
    }

    /// Changes the watch; what there is to do is looked at again.
    pub(crate) fn tell<T>(&self, change: impl FnOnce(&mut Watch) -> T) -> T {
        let told = {
            let mut watch = lock(&self.watch);
            let told = change(&mut watch);
            let asymmetric = watch.tpgs() != Tpgs::None;
            self.asymmetric.store(asymmetric, Ordering::Relaxed);
            told
        };
        self.news.raise();
        told
    }

    /// Changes the watch without waking anybody: for the one who carries out what it wants.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Watch) -> T) -> T {
        change(&mut lock(&self.watch))
    }

    /// For people; `None` without target port groups.
    pub(crate) fn snapshot(&self, now: Instant) -> Option<Access> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let watch = lock(&self.watch);
        (watch.tpgs() != Tpgs::None).then(|| Access {
            tpgs: watch.tpgs(),
            groups: watch.groups(now),
            implicit_transition: watch.implicit_transition(),
            reports: get(&self.reports),
            sets: get(&self.sets),
            sets_failed: get(&self.sets_failed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_of_the_alua_prioritizer() {
        let of = |state, preferred| {
            let access = PathAccess {
                group: 1,
                port: None,
                state,
                preferred,
            };
            access.priority()
        };
        for (state, plain, preferred) in [
            (AccessState::ActiveOptimized, 50, 50),
            (AccessState::ActiveNonOptimized, 10, 90),
            (AccessState::LbaDependent, 5, 85),
            (AccessState::Standby, 1, 81),
            (AccessState::Unavailable, 0, 80),
            (AccessState::Offline, 0, 80),
            (AccessState::Transitioning, 0, 80),
        ] {
            assert_eq!(of(state, false), plain, "{state}");
            assert_eq!(of(state, true), preferred, "{state}");
        }
    }
}
