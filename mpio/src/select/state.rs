//! What the policies of one logical unit remember between two I/Os.
//!
//! Relaxed atomics: two I/Os that choose at the same moment may see each other or not.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use super::{LoadBalancePolicy, PathView, Tuning, Turn, latency, select};
use crate::history::{Finished, History, PathSpeed};
use crate::path::PathId;

/// An I/O that needs a path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Io {
    /// First block and number of blocks; `None` when it is no read or write.
    pub(crate) blocks: Option<(u64, u64)>,
    /// Bytes it moves.
    pub(crate) bytes: u64,
}

/// The policy in force and its memory.
#[derive(Debug)]
pub(crate) struct Selector {
    tuning: Tuning,
    /// Times are counted from here.
    origin: Instant,
    policy: AtomicU8,
    turns: AtomicU64,
    bytes: AtomicU64,
    last: AtomicU8,
    /// Where the last I/O ended, in blocks.
    next_lba: AtomicU64,
}

/// No path was chosen yet.
const NO_PATH: u8 = u8::MAX;
/// Where no I/O can begin.
const NOWHERE: u64 = u64::MAX;

impl Selector {
    pub(crate) fn new(policy: LoadBalancePolicy, tuning: Tuning, now: Instant) -> Self {
        Self {
            tuning,
            origin: now,
            policy: AtomicU8::new(policy.to_byte()),
            turns: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last: AtomicU8::new(NO_PATH),
            next_lba: AtomicU64::new(NOWHERE),
        }
    }

    pub(crate) fn policy(&self) -> LoadBalancePolicy {
        LoadBalancePolicy::from_byte(self.policy.load(Ordering::Relaxed))
    }

    /// Whether that was a change.
    pub(crate) fn set_policy(&self, policy: LoadBalancePolicy) -> bool {
        self.policy.swap(policy.to_byte(), Ordering::Relaxed) != policy.to_byte()
    }

    /// Whether the policy in force looks at how fast paths have been.
    pub(crate) fn learns(&self) -> bool {
        learns(self.policy())
    }

    /// The speed to show the policy.
    pub(crate) fn speed(&self, history: &History) -> PathSpeed {
        if self.learns() {
            history.speed()
        } else {
            PathSpeed::default()
        }
    }

    /// Remembers the path that was chosen.
    pub(crate) fn chose(&self, path: PathId) {
        // Looking is much cheaper than writing to a cache line that all I/Os share.
        if self.last.load(Ordering::Relaxed) != path.0 {
            self.last.store(path.0, Ordering::Relaxed);
        }
    }

    /// The index in `views` of the path to use. The time is asked for only by policies that learn.
    pub(crate) fn choose(
        &self,
        views: &[PathView],
        io: Io,
        now: impl FnOnce() -> Instant,
    ) -> Option<usize> {
        if views.is_empty() {
            return None;
        }
        let policy = self.policy();
        let last = self.last.load(Ordering::Relaxed);
        let turn = Turn {
            count: self.turns.fetch_add(1, Ordering::Relaxed),
            bytes_before: self.bytes_before(io),
            bytes: io.bytes,
            last: (last != NO_PATH).then_some(PathId(last)),
            lba: io.blocks.map(|(first, _)| first),
            sequential: policy == LoadBalancePolicy::LeastBlocks && self.continues(io),
            now_ns: if learns(policy) { self.nanos(now()) } else { 0 },
        };
        let index = select(policy, &self.tuning, views, turn)?;
        self.chose(views.get(index)?.id);
        Some(index)
    }

    fn bytes_before(&self, io: Io) -> u64 {
        match self.tuning.round_robin_bytes {
            Some(run) => {
                let counted = io.bytes.min(run.get());
                self.bytes.fetch_add(counted, Ordering::Relaxed)
            }
            None => 0,
        }
    }

    fn continues(&self, io: Io) -> bool {
        let Some((first, blocks)) = io.blocks else {
            return false;
        };
        let end = first.saturating_add(blocks);
        self.next_lba.swap(end, Ordering::Relaxed) == first
    }

    /// A read or write ended well.
    pub(crate) fn learn(&self, history: &History, started: Instant, ended: Instant) {
        let ended_ns = self.nanos(ended);
        history.learn(Finished {
            started_ns: self.nanos(started),
            ended_ns,
            interval: latency::interval(&self.tuning, ended_ns),
            sample_ios: self.tuning.latency_ios,
        });
    }

    fn nanos(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

const fn learns(policy: LoadBalancePolicy) -> bool {
    matches!(
        policy,
        LoadBalancePolicy::HistoricalServiceTime | LoadBalancePolicy::Latency
    )
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::tests::view;
    use super::*;
    use crate::testing::at;

    fn io(first: u64, bytes: u64) -> Io {
        Io {
            blocks: Some((first, bytes / 512)),
            bytes,
        }
    }

    #[test]
    fn long_ios_take_turns_too() {
        let tuning = Tuning {
            round_robin_bytes: NonZeroU64::new(1 << 20),
            ..Tuning::default()
        };
        let selector = Selector::new(LoadBalancePolicy::RoundRobin, tuning, at(0));
        let paths = [view(0, 0, 0), view(1, 0, 0)];
        let mut choose = |bytes| selector.choose(&paths, io(0, bytes), || at(0)).unwrap();
        // Twice a run each: were they counted whole, all would land on the first path.
        assert_eq!([2 << 20; 4].map(&mut choose), [0, 1, 0, 1]);
        assert_eq!([512 << 10; 4].map(choose), [0, 0, 1, 1]);
    }

    #[test]
    fn sees_a_sequential_stream() {
        let selector = Selector::new(LoadBalancePolicy::LeastBlocks, Tuning::default(), at(0));
        let paths = [view(0, 0, 4096), view(1, 0, 0)];
        let choose = |paths: &[PathView], first| selector.choose(paths, io(first, 4096), || at(0));
        assert_eq!(choose(&paths, 0), Some(1));
        let loaded = [view(0, 0, 0), view(1, 0, 65536)];
        assert_eq!(choose(&loaded, 8), Some(1));
        assert_eq!(choose(&loaded, 16), Some(1));
        // A jump ends it, and the next one begins there.
        assert_eq!(choose(&loaded, 100), Some(0));
        assert_eq!(choose(&paths, 108), Some(0));
    }

    #[test]
    fn the_policy_changes_between_two_ios() {
        let selector = Selector::new(LoadBalancePolicy::FailoverOnly, Tuning::default(), at(0));
        let paths = [view(0, 9, 9), view(1, 0, 0)];
        let choose = || selector.choose(&paths, io(0, 512), || at(0)).unwrap();
        assert_eq!([choose(), choose()], [0, 0]);
        assert!(selector.set_policy(LoadBalancePolicy::LeastQueueDepth));
        assert!(!selector.set_policy(LoadBalancePolicy::LeastQueueDepth));
        assert_eq!([choose(), choose()], [1, 1]);
        // Failover only stays where the other policy went.
        assert!(selector.set_policy(LoadBalancePolicy::FailoverOnly));
        assert_eq!(choose(), 1);
    }

    #[test]
    fn only_policies_that_learn_are_shown_the_past() {
        let history = History::default();
        let selector = Selector::new(LoadBalancePolicy::ServiceTime, Tuning::default(), at(0));
        selector.learn(&history, at(10), at(12));
        assert_eq!(selector.speed(&history), PathSpeed::default());
        selector.set_policy(LoadBalancePolicy::Latency);
        let speed = selector.speed(&history);
        assert_eq!(speed.service_ns, Some(2_000_000));
        assert_eq!((speed.interval, speed.sampled), (1, 1));
    }
}
