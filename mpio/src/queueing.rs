//! What becomes of I/O while no path is left.
//!
//! An outage begins when no path can carry I/O and none is merely being looked at again, and ends
//! when one carries I/O. [`NoPathRetry`] says how long I/O waits in one. As in dm-multipath, the
//! clock is the unit's, not the I/O's: once an outage has lasted too long, what waits fails, and
//! so does all that comes until a path is back.
//!
//! Time without any path does not count towards the deadline of an I/O: who asked for patience
//! with the paths did not ask for impatience with the I/O.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::signal::lock;

/// How long I/O waits when no path is usable (`no_path_retry` of multipath-tools).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoPathRetry {
    /// Not at all.
    Fail,
    /// For so long from the moment the last path went.
    For(Duration),
    /// For ever. Programs that use the unit hang until a path comes back.
    Queue,
}

impl Default for NoPathRetry {
    /// A minute: 12 path checks of 5 seconds.
    fn default() -> Self {
        Self::For(Duration::from_secs(60))
    }
}

impl NoPathRetry {
    /// How long I/O waits; `None`: for ever.
    #[must_use]
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::Fail => Some(Duration::ZERO),
            Self::For(limit) => Some(limit),
            Self::Queue => None,
        }
    }
}

impl fmt::Display for NoPathRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::For(limit) => write!(f, "{}s", limit.as_secs_f64()),
            Self::Queue => f.write_str("queue"),
        }
    }
}

/// Neither `fail` nor `queue`; a time is for whoever parses times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither fail nor queue")]
pub struct UnknownNoPathRetry;

impl FromStr for NoPathRetry {
    type Err = UnknownNoPathRetry;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fail" => Ok(Self::Fail),
            "queue" => Ok(Self::Queue),
            _ => Err(UnknownNoPathRetry),
        }
    }
}

/// Until when I/O waits in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until then.
    Until(Instant),
    /// For ever.
    Endless,
}

impl Patience {
    /// Whether it has run out.
    pub(crate) fn is_over(self, now: Instant) -> bool {
        match self {
            Self::Until(end) => end <= now,
            Self::Endless => false,
        }
    }

    /// A time to look again at the latest.
    pub(crate) fn until(self, now: Instant) -> Instant {
        match self {
            Self::Until(end) => end,
            Self::Endless => now.checked_add(FAR).unwrap_or(now),
        }
    }
}

/// How it is with the paths, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    /// One carries I/O.
    Usable,
    /// None does, but one that did is being looked at again.
    InDoubt,
    /// None.
    None,
}

/// What to make known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The last path has gone.
    Lost,
    /// A path is back after so long.
    Back(Duration),
    /// I/O fails from now on; there has been no path for so long.
    GaveUp(Duration),
}

/// The outage, if there is one, and the policy.
#[derive(Debug)]
pub(crate) struct Queueing(Mutex<State>);

#[derive(Debug)]
struct State {
    policy: NoPathRetry,
    since: Option<Instant>,
    /// The target is about to open a path, and has until then.
    change_due: Option<Instant>,
    gave_up: bool,
}

impl Queueing {
    pub(crate) fn new(policy: NoPathRetry, now: Instant, paths: Paths) -> Self {
        Self(Mutex::new(State {
            policy,
            since: (paths != Paths::Usable).then_some(now),
            change_due: None,
            gave_up: false,
        }))
    }

    pub(crate) fn policy(&self) -> NoPathRetry {
        lock(&self.0).policy
    }

    /// Another policy from now on, for an outage that goes on as well.
    pub(crate) fn set_policy(&self, policy: NoPathRetry) {
        let mut state = lock(&self.0);
        state.policy = policy;
        state.gave_up = false;
    }

    /// The target is about to open a path (asymmetric access), and has until then: so long I/O
    /// waits in any case. Whether that is news.
    pub(crate) fn expect(&self, change_due: Option<Instant>) -> bool {
        let mut state = lock(&self.0);
        std::mem::replace(&mut state.change_due, change_due) != change_due
    }

    /// As [`Self::expect`], but what is expected already still is.
    pub(crate) fn expect_at_least(&self, change_due: Option<Instant>) {
        let mut state = lock(&self.0);
        state.change_due = state.change_due.max(change_due);
    }

    /// The paths have changed.
    pub(crate) fn paths(&self, now: Instant, paths: Paths) -> Option<News> {
        let mut state = lock(&self.0);
        match (paths, state.since) {
            (Paths::None, None) => {
                state.since = Some(now);
                Some(News::Lost)
            }
            (Paths::Usable, Some(since)) => {
                state.since = None;
                state.gave_up = false;
                Some(News::Back(now.saturating_duration_since(since)))
            }
            (Paths::None | Paths::InDoubt, _) | (Paths::Usable, None) => None,
        }
    }

    /// In an outage: until when I/O waits.
    pub(crate) fn patience(&self) -> Option<Patience> {
        let state = lock(&self.0);
        let since = state.since?;
        let end = state.policy.limit().and_then(|it| since.checked_add(it));
        let end = end.map(|end| state.change_due.map_or(end, |due| due.max(end)));
        // What cannot be expressed is never.
        Some(end.map_or(Patience::Endless, Patience::Until))
    }

    /// Time has passed. Says once per outage that patience is over.
    pub(crate) fn tick(&self, now: Instant) -> Option<News> {
        let over = self.patience()?.is_over(now);
        let mut state = lock(&self.0);
        let since = state.since?;
        if !over || std::mem::replace(&mut state.gave_up, true) {
            return None;
        }
        Some(News::GaveUp(now.saturating_duration_since(since)))
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let patience = self.patience()?;
        match patience {
            Patience::Until(end) if !lock(&self.0).gave_up => Some(end),
            Patience::Until(_) | Patience::Endless => None,
        }
    }
}

/// Longer than anybody waits.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn queueing(policy: NoPathRetry) -> Queueing {
        Queueing::new(policy, at(0), Paths::Usable)
    }

    #[test]
    fn an_outage_begins_with_the_last_path_and_ends_with_the_first() {
        let it = queueing(NoPathRetry::For(Duration::from_secs(3)));
        assert_eq!(it.patience(), None);
        assert_eq!(it.paths(at(100), Paths::InDoubt), None);
        assert_eq!(it.patience(), None, "a path is being looked at again");
        assert_eq!(it.paths(at(100), Paths::None), Some(News::Lost));
        assert_eq!(it.paths(at(200), Paths::None), None);
        // Logged in again, but not verified yet: still an outage.
        assert_eq!(it.paths(at(300), Paths::InDoubt), None);
        assert_eq!(it.patience(), Some(Patience::Until(at(3_100))));
        let back = News::Back(Duration::from_millis(400));
        assert_eq!(it.paths(at(500), Paths::Usable), Some(back));
        assert_eq!(it.patience(), None);
    }

    #[test]
    fn patience_ends_once_per_outage_and_not_before_its_time() {
        let it = queueing(NoPathRetry::For(Duration::from_secs(3)));
        it.paths(at(0), Paths::None);
        assert_eq!(it.next_tick(), Some(at(3_000)));
        assert_eq!(it.tick(at(2_999)), None);
        let gave_up = News::GaveUp(Duration::from_secs(3));
        assert_eq!(it.tick(at(3_000)), Some(gave_up));
        assert_eq!((it.tick(at(3_001)), it.next_tick()), (None, None));
        it.paths(at(4_000), Paths::Usable);
        it.paths(at(5_000), Paths::None);
        assert_eq!(it.tick(at(8_000)), Some(gave_up));
    }

    #[test]
    fn what_the_target_is_about_to_open_is_waited_for() {
        let it = queueing(NoPathRetry::Fail);
        assert!(it.expect(Some(at(20_000))));
        assert_eq!(it.patience(), None);
        it.paths(at(10), Paths::None);
        assert_eq!(it.patience(), Some(Patience::Until(at(20_000))));
        assert_eq!(it.next_tick(), Some(at(20_000)));
        assert!(!it.expect(Some(at(20_000))) && it.expect(None));
        assert!(it.patience().unwrap().is_over(at(10)));
        it.set_policy(NoPathRetry::For(Duration::from_secs(30)));
        it.expect(Some(at(20_000)));
        assert_eq!(it.patience(), Some(Patience::Until(at(30_010))));
    }

    #[test]
    fn fail_has_no_patience_and_queue_no_end() {
        let it = queueing(NoPathRetry::Fail);
        it.paths(at(10), Paths::None);
        assert!(it.patience().unwrap().is_over(at(10)));
        it.set_policy(NoPathRetry::Queue);
        assert_eq!(it.patience(), Some(Patience::Endless));
        assert!(!it.patience().unwrap().is_over(at(u64::from(u32::MAX))));
        it.set_policy(NoPathRetry::For(Duration::MAX));
        assert_eq!(it.patience(), Some(Patience::Endless));
    }
}
