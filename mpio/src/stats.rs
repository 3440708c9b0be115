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

/// The counters behind [`PathStats`]. What every I/O counts is kept to a minimum; the rest is
/// derived by the few who ask.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    reads: Histogram,
    writes: Histogram,
    pub(crate) bytes: AtomicU64,
    pub(crate) device_errors: AtomicU64,
    pub(crate) transport_errors: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) fences: AtomicU64,
    pub(crate) fence_held_us: AtomicU64,
    latency_sum_us: AtomicU64,
    latency_max_us: AtomicU64,
}

/// Commands by latency, see [`LATENCY_BUCKETS`].
type Histogram = [AtomicU64; LATENCY_BUCKETS];

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Counters {
    /// Takes one command, and how long it took.
    pub(crate) fn ended(&self, is_read: bool, time: Duration) {
        let us = micros(time);
        self.latency_sum_us.fetch_add(us, Ordering::Relaxed);
        // Looking is much cheaper than exchanging, and a new longest one is rare.
        if us > self.latency_max_us.load(Ordering::Relaxed) {
            self.latency_max_us.fetch_max(us, Ordering::Relaxed);
        }
        let bucket = usize::try_from(u64::BITS - us.leading_zeros()).unwrap_or(LATENCY_BUCKETS);
        let histogram = if is_read { &self.reads } else { &self.writes };
        if let Some(bucket) = histogram.get(bucket.min(LATENCY_BUCKETS - 1)) {
            count(bucket);
        }
    }

    /// A copy for people; not one moment's, each number for itself.
    pub(crate) fn snapshot(&self) -> PathStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut latency_histogram = [0; LATENCY_BUCKETS];
        let (mut reads, mut writes) = (0, 0);
        for (to, (read, write)) in latency_histogram
            .iter_mut()
            .zip(self.reads.iter().zip(&self.writes))
        {
            let (read, write) = (get(read), get(write));
            reads += read;
            writes += write;
            *to = read + write;
        }
        PathStats {
            ios: reads + writes,
            reads,
            writes,
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
        for (us, is_read) in [
            (0, true),
            (1, false),
            (2, true),
            (3, false),
            (100, false),
            (u64::MAX, false),
        ] {
            counters.ended(is_read, Duration::from_micros(us));
        }
        let stats = counters.snapshot();
        assert_eq!((stats.ios, stats.reads, stats.writes), (6, 2, 4));
        assert_eq!(stats.latency_histogram[0], 1);
        assert_eq!(stats.latency_histogram[1], 1);
        assert_eq!(stats.latency_histogram[2], 2);
        assert_eq!(stats.latency_histogram[7], 1);
        assert_eq!(stats.latency_histogram[LATENCY_BUCKETS - 1], 1);
    }
}
