//! How fast a path has been: the measures behind the policies that learn.
//!
//! Kept per path in relaxed atomics, without a lock and without allocation. Two completions at
//! the same moment may lose one sample; nothing that depends on it is more than a preference.
//!
//! Only commands that moved blocks and ended well are learnt from: a path that fails fast must
//! not look fast.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is known of a path's speed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathSpeed {
    /// Moving average of the time one command took once it was at the head of the path's queue,
    /// in nanoseconds. `None`: nothing has ended on the path so far.
    pub service_ns: Option<u64>,
    /// When a command last ended, in nanoseconds on the clock of [`crate::Turn::now_ns`].
    pub last_end_ns: u64,
    /// Mean latency of the last whole sample, in nanoseconds.
    pub latency_ns: Option<u64>,
    /// The evaluation interval that [`PathSpeed::sampled`] counts in.
    pub interval: u64,
    /// Commands sampled in that interval, so far.
    pub sampled: u32,
}

/// One command that ended well. Times in nanoseconds on one clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) started_ns: u64,
    pub(crate) ended_ns: u64,
    /// The evaluation interval it ended in.
    pub(crate) interval: u64,
    /// Commands that make a sample.
    pub(crate) sample_ios: u32,
}

/// The measures of one path.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// 0: unknown.
    service_ns: AtomicU64,
    last_end_ns: AtomicU64,
    /// 0: unknown.
    latency_ns: AtomicU64,
    interval: AtomicU64,
    sampled: AtomicU32,
    sample_sum_ns: AtomicU64,
}

impl History {
    /// Learns from a command.
    pub(crate) fn learn(&self, io: Finished) {
        let last_end = self.last_end_ns.swap(io.ended_ns, Ordering::Relaxed);
        // Time spent behind others on the path is not the path's slowness.
        let service = io.ended_ns.saturating_sub(io.started_ns.max(last_end));
        let old = self.service_ns.load(Ordering::Relaxed);
        let gap = io.ended_ns.saturating_sub(last_end);
        let new = average(old, service, gap);
        self.service_ns.store(new.max(1), Ordering::Relaxed);
        self.sample(io);
    }

    fn sample(&self, io: Finished) {
        if self.interval.swap(io.interval, Ordering::Relaxed) != io.interval {
            self.sampled.store(0, Ordering::Relaxed);
            self.sample_sum_ns.store(0, Ordering::Relaxed);
        }
        if self.sampled.load(Ordering::Relaxed) >= io.sample_ios {
            return;
        }
        let latency = io.ended_ns.saturating_sub(io.started_ns);
        let sum = self
            .sample_sum_ns
            .fetch_add(latency, Ordering::Relaxed)
            .saturating_add(latency);
        let count = self
            .sampled
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        if count >= io.sample_ios {
            let mean = sum.checked_div(count.into()).unwrap_or(0).max(1);
            self.latency_ns.store(mean, Ordering::Relaxed);
        }
    }

    pub(crate) fn speed(&self) -> PathSpeed {
        let known = |value: &AtomicU64| Some(value.load(Ordering::Relaxed)).filter(|&ns| ns != 0);
        PathSpeed {
            service_ns: known(&self.service_ns),
            last_end_ns: self.last_end_ns.load(Ordering::Relaxed),
            latency_ns: known(&self.latency_ns),
            interval: self.interval.load(Ordering::Relaxed),
            sampled: self.sampled.load(Ordering::Relaxed),
        }
    }
}

/// The average after one more value, `gap_ns` after the one before. The past weighs less the
/// longer ago it is: 0.95 for each 16 ms that have passed, begun ones included.
fn average(old: u64, value: u64, gap_ns: u64) -> u64 {
    if old == 0 {
        return value;
    }
    let bucket = usize::try_from(gap_ns >> BUCKET_SHIFT).unwrap_or(usize::MAX);
    let past = PAST.get(bucket).copied().unwrap_or(0);
    let sum = u128::from(old) * u128::from(past) + u128::from(value) * u128::from(ONE - past);
    u64::try_from(sum >> ONE_SHIFT).unwrap_or(u64::MAX)
}

/// 2^24 ns are 16.8 ms.
const BUCKET_SHIFT: u32 = 24;
/// Weights are in 1024ths.
const ONE_SHIFT: u32 = 10;
const ONE: u64 = 1 << ONE_SHIFT;

/// 0.95^(n+1).
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const PAST: [u64; 64] = {
    let mut weights = [0; 64];
    let mut weight = ONE << 20;
    let mut bucket = 0;
    while bucket < weights.len() {
        weight = weight * 95 / 100;
        weights[bucket] = weight >> 20;
        bucket += 1;
    }
    weights
};

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn finished(started_ms: u64, ended_ms: u64) -> Finished {
        Finished {
            started_ns: started_ms * MS,
            ended_ns: ended_ms * MS,
            interval: 0,
            sample_ios: 4,
        }
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(History::default().speed(), PathSpeed::default());
    }

    #[test]
    fn waiting_behind_others_is_not_service_time() {
        let history = History::default();
        // Eight at once, served one after the other in 10 ms each.
        for nth in 1..=8 {
            history.learn(finished(100, 100 + nth * 10));
        }
        assert_eq!(history.speed().service_ns, Some(10 * MS));
        assert_eq!(history.speed().last_end_ns, 180 * MS);
    }

    #[test]
    fn the_average_follows_and_forgets_faster_over_a_pause() {
        // 10 % of a jump from 10 to 110 would be 20; 5 % are 15 (1024ths round down).
        let soon = average(10_000, 110_000, 0);
        assert!((14_900..15_200).contains(&soon), "{soon}");
        let later = average(10_000, 110_000, 20 * MS);
        assert!((19_500..20_000).contains(&later), "{later}");
        assert_eq!(average(10_000, 110_000, 3600 * 1000 * MS), 110_000);
        assert_eq!(average(u64::MAX, u64::MAX, 0), u64::MAX);
    }

    #[test]
    fn weights_are_powers() {
        assert_eq!(PAST[0], 972);
        assert_eq!(PAST[1], 924);
        // 0.95^14 = 0.4877
        assert_eq!(PAST[13], 499);
        assert!(PAST.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_sample_is_the_mean_of_its_first_commands_in_one_interval() {
        let history = History::default();
        for ended in [101, 103, 105] {
            history.learn(finished(100, ended));
        }
        assert_eq!(history.speed().latency_ns, None);
        assert_eq!(history.speed().sampled, 3);
        history.learn(finished(100, 107));
        assert_eq!(history.speed().latency_ns, Some(4 * MS));
        // Enough for this interval.
        history.learn(finished(100, 900));
        assert_eq!(history.speed().latency_ns, Some(4 * MS));
        // The next one begins anew and keeps the old mean until it is whole.
        let next = Finished {
            interval: 1,
            ..finished(1000, 1050)
        };
        history.learn(next);
        assert_eq!(history.speed().sampled, 1);
        assert_eq!(history.speed().latency_ns, Some(4 * MS));
        for _ in 0..3 {
            history.learn(next);
        }
        assert_eq!(history.speed().latency_ns, Some(50 * MS));
    }
}
