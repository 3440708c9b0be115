//! Counters of one path.
//!
//! Plain atomics, relaxed: they are for people and never decide anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of the latency histogram: bucket `n` counts I/Os of less than 2^n microseconds that
/// are not in an earlier one; the last one takes the rest.
pub const LATENCY_BUCKETS: usize = 28;

/// What happened on one path since it was added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStats {
    /// Commands ended, with whatever result.
    pub ios: u64,
    /// Of those, reads.
    pub reads: u64,
    /// Of those, writes.
    pub writes: u64,
    /// Bytes moved by commands that ended well.
    pub bytes: u64,
    /// Commands that the device ended with an error.
    pub device_errors: u64,
    /// Commands that got no answer.
    pub transport_errors: u64,
    /// I/Os that left this path for another.
    pub failovers: u64,
    /// Commands repeated on this path.
    pub retries: u64,
    /// Fences put up.
    pub fences: u64,
    /// How long writes were held for them, in all.
    pub fence_held: Duration,
    /// Sum of the latencies of all commands.
    pub latency_sum: Duration,
    /// The longest.
    pub latency_max: Duration,
    /// See [`LATENCY_BUCKETS`].
    pub latency_histogram: [u64; LATENCY_BUCKETS],
}

/// The counters behind [`PathStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) ios: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) device_errors: AtomicU64,
    pub(crate) transport_errors: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) fences: AtomicU64,
    pub(crate) fence_held_us: AtomicU64,
    latency_sum_us: AtomicU64,
    latency_max_us: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Counters {
    /// Takes the latency of one command.
    pub(crate) fn latency(&self, time: Duration) {
        let us = micros(time);
        self.latency_sum_us.fetch_add(us, Ordering::Relaxed);
        // Looking is much cheaper than exchanging, and a new longest one is rare.
        if us > self.latency_max_us.load(Ordering::Relaxed) {
            self.latency_max_us.fetch_max(us, Ordering::Relaxed);
        }
        let bucket = usize::try_from(u64::BITS - us.leading_zeros()).unwrap_or(LATENCY_BUCKETS);
        if let Some(bucket) = self.latency.get(bucket.min(LATENCY_BUCKETS - 1)) {
            count(bucket);
        }
    }

    /// A copy for people; not one moment's, each number for itself.
    pub(crate) fn snapshot(&self) -> PathStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut latency_histogram = [0; LATENCY_BUCKETS];
        for (to, from) in latency_histogram.iter_mut().zip(&self.latency) {
            *to = get(from);
        }
        PathStats {
            ios: get(&self.ios),
            reads: get(&self.reads),
            writes: get(&self.writes),
            bytes: get(&self.bytes),
            device_errors: get(&self.device_errors),
            transport_errors: get(&self.transport_errors),
            failovers: get(&self.failovers),
            retries: get(&self.retries),
            fences: get(&self.fences),
            fence_held: Duration::from_micros(get(&self.fence_held_us)),
            latency_sum: Duration::from_micros(get(&self.latency_sum_us)),
            latency_max: Duration::from_micros(get(&self.latency_max_us)),
            latency_histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_bucket() {
        let counters = Counters::default();
        for us in [0, 1, 2, 3, 100, u64::MAX] {
            counters.latency(Duration::from_micros(us));
        }
        let stats = counters.snapshot();
        assert_eq!(stats.latency_histogram[0], 1);
        assert_eq!(stats.latency_histogram[1], 1);
        assert_eq!(stats.latency_histogram[2], 2);
        assert_eq!(stats.latency_histogram[7], 1);
        assert_eq!(stats.latency_histogram[LATENCY_BUCKETS - 1], 1);
    }
}
