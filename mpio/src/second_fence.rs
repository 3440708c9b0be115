//! What to do when the old session cannot be reinstated, and what each way is worth.
//!
//! The first level of the fence is the reinstatement of the session ([`scsi::Nexus::fence`]): the
//! target ends connections, what is left in their buffers, and all tasks. It needs a portal of the
//! dead path's portal group. Where none answers, a second level may be configured. None of them is
//! as good, so there is none unless an administrator asks for it, and every fence says what it is
//! worth ([`FenceQuality`]).

use std::time::Duration;

use scsi::{FenceError, ResetError};

/// The second level of the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SecondFence {
    /// None: reinstatement is tried until the write's deadline, which then ends with an unknown
    /// outcome. The only choice that never guesses.
    #[default]
    None,
    /// Waits so long after the path was cut, then takes for granted that the target has forgotten
    /// what it left behind. Nothing in SCSI or iSCSI says that it has: the target's own clock
    /// starts when *it* notices the loss. [`FenceQuality::Timed`].
    Timer(Duration),
    /// LOGICAL UNIT RESET through another path (SAM-5 §7.7). Aborts the tasks of *all* hosts that
    /// use the unit. [`FenceQuality::TasksEnded`].
    LuReset,
    /// PREEMPT AND ABORT of the dead path's registration through another path (SPC-4 §5.13.11.2).
    /// Needs a registration through this unit. All paths share its key, so what they have under
    /// way is aborted as well, and they register again. [`FenceQuality::TasksEnded`].
    PrAbort,
    /// SET TARGET PORT GROUPS makes another path's group active/optimized (SPC-4 §6.45), whereupon
    /// arrays drain the group that was. How well is theirs to say: the standard does not.
    /// [`FenceQuality::Drained`].
    Stpg,
}

/// What a fence is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FenceQuality {
    /// Only time has passed. The write may still be executed.
    Timed,
    /// The array was made to move the unit elsewhere, and by its custom finishes or drops what
    /// was under way before.
    Drained,
    /// The device has confirmed that every task it had is over. A command that waited unread in
    /// the target's network buffers was no task yet.
    TasksEnded,
    /// The target has confirmed that the session is over, with its connections and all its tasks
    /// (RFC 7143 §6.3.5 and §11.14). As good as the target's word.
    SessionEnded,
}

impl FenceQuality {
    /// Whether the target itself has said that the old write cannot run any more.
    #[must_use]
    pub const fn is_proven(self) -> bool {
        matches!(self, Self::SessionEnded | Self::TasksEnded)
    }

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timed => "by time only",
            Self::Drained => "drained",
            Self::TasksEnded => "tasks ended",
            Self::SessionEnded => "session ended",
        }
    }
}

impl std::fmt::Display for FenceQuality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a fence does not stand yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FenceFailure {
    /// The session could not be reinstated, and there is no second level.
    #[error(transparent)]
    NotReinstated(#[from] FenceError),
    /// The time of [`SecondFence::Timer`] has not passed.
    #[error("{left:.1?} of the fence timer are left")]
    TimerRuns {
        /// So much is missing.
        left: Duration,
    },
    /// No other path is usable that could carry the second level.
    #[error("no other path is usable")]
    NoOtherPath,
    /// The reset was not confirmed.
    #[error("LOGICAL UNIT RESET: {0}")]
    Reset(#[from] ResetError),
    /// PREEMPT AND ABORT needs a registration, and the dead path has none.
    #[error("the path has no registration that could be preempted")]
    NotRegistered,
    /// SET TARGET PORT GROUPS needs target port groups, and the other path is in none.
    #[error("the logical unit has no target port groups")]
    NoPortGroups,
    /// The device did not carry out the command of the second level.
    #[error("{command}: {problem}")]
    Refused {
        /// Its name.
        command: &'static str,
        /// What came back.
        problem: String,
    },
}

impl FenceFailure {
    /// Whether trying the same again is of no use.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::NotReinstated(FenceError::Closed)
                | Self::Reset(ResetError::Unsupported)
                | Self::NotRegistered
                | Self::NoPortGroups
        )
    }
}

impl SecondFence {
    /// How long the first level may take before this one is tried.
    pub(crate) fn budget(self, first: Duration, lost_for: Duration) -> Duration {
        match self {
            Self::Timer(timer) => first.min(timer.saturating_sub(lost_for)),
            Self::None | Self::LuReset | Self::PrAbort | Self::Stpg => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_target_that_has_said_so_proves_anything() {
        assert!(FenceQuality::SessionEnded.is_proven());
        assert!(FenceQuality::TasksEnded.is_proven());
        assert!(!FenceQuality::Drained.is_proven());
        assert!(!FenceQuality::Timed.is_proven());
        assert_eq!(SecondFence::default(), SecondFence::None);
    }

    #[test]
    fn reinstatement_is_not_tried_beyond_the_timer() {
        let secs = Duration::from_secs;
        let timer = SecondFence::Timer(secs(20));
        assert_eq!(timer.budget(secs(3), secs(5)), secs(3));
        assert_eq!(timer.budget(secs(3), secs(19)), secs(1));
        assert_eq!(timer.budget(secs(3), secs(21)), Duration::ZERO);
        assert_eq!(SecondFence::LuReset.budget(secs(3), secs(21)), secs(3));
    }
}
