//! Counters of one path.
//!
//! Plain atomics, relaxed: they are for people and never decide anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scsi::{DeliveryErrorKind, Outcome, SenseKey, Status};

/// Buckets of the latency histogram: bucket `n` counts I/Os of less than 2^n microseconds that
/// are not in an earlier one; the last one takes the rest.
pub const LATENCY_BUCKETS: usize = 28;

/// Why a command on a path did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// BUSY or TASK SET FULL.
    Busy,
    /// RESERVATION CONFLICT.
    Reservation,
    /// NOT READY.
    NotReady,
    /// MEDIUM ERROR.
    Medium,
    /// HARDWARE ERROR.
    Hardware,
    /// ILLEGAL REQUEST.
    IllegalRequest,
    /// UNIT ATTENTION.
    UnitAttention,
    /// ABORTED COMMAND or TASK ABORTED.
    Aborted,
    /// Another answer that was not GOOD.
    OtherAnswer,
    /// No answer in time.
    TimedOut,
    /// The connection was lost under it, or was not there.
    ConnectionLost,
    /// No answer for another reason.
    OtherSilence,
}

impl ErrorClass {
    /// All of them, in the order of [`PathStats::errors`].
    pub const ALL: [Self; 12] = [
        Self::Busy,
        Self::Reservation,
        Self::NotReady,
        Self::Medium,
        Self::Hardware,
        Self::IllegalRequest,
        Self::UnitAttention,
        Self::Aborted,
        Self::OtherAnswer,
        Self::TimedOut,
        Self::ConnectionLost,
        Self::OtherSilence,
    ];

    /// The words for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Reservation => "reservation conflict",
            Self::NotReady => "not ready",
            Self::Medium => "medium error",
            Self::Hardware => "hardware error",
            Self::IllegalRequest => "illegal request",
            Self::UnitAttention => "unit attention",
            Self::Aborted => "aborted",
            Self::OtherAnswer => "other answer",
            Self::TimedOut => "timed out",
            Self::ConnectionLost => "connection lost",
            Self::OtherSilence => "no answer",
        }
    }

    /// Of an outcome; `None`: it ended well.
    pub(crate) fn of(outcome: &Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Answered(answer) => match answer.status {
                Status::GOOD | Status::CONDITION_MET => return None,
                Status::BUSY | Status::TASK_SET_FULL => Self::Busy,
                Status::RESERVATION_CONFLICT => Self::Reservation,
                Status::TASK_ABORTED => Self::Aborted,
                _ => match answer.sense_data().map(|sense| sense.key) {
                    Some(SenseKey::NOT_READY) => Self::NotReady,
                    Some(SenseKey::MEDIUM_ERROR) => Self::Medium,
                    Some(SenseKey::HARDWARE_ERROR) => Self::Hardware,
                    Some(SenseKey::ILLEGAL_REQUEST) => Self::IllegalRequest,
                    Some(SenseKey::UNIT_ATTENTION) => Self::UnitAttention,
                    Some(SenseKey::ABORTED_COMMAND) => Self::Aborted,
                    _ => Self::OtherAnswer,
                },
            },
            Outcome::Failed(error) => match error.kind {
                DeliveryErrorKind::TimedOut => Self::TimedOut,
                DeliveryErrorKind::Aborted => Self::Aborted,
                DeliveryErrorKind::ConnectionLost
                | DeliveryErrorKind::Down
                | DeliveryErrorKind::Closed => Self::ConnectionLost,
                DeliveryErrorKind::TargetFailure | DeliveryErrorKind::Unsupported | _ => {
                    Self::OtherSilence
                }
            },
        })
    }
}

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
    /// Both by class, in the order of [`ErrorClass::ALL`].
    pub errors: [u64; ErrorClass::ALL.len()],
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
    errors: [AtomicU64; ErrorClass::ALL.len()],
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

impl PathStats {
    /// Commands that ended with an error of this class.
    #[must_use]
    pub fn errors_of(&self, class: ErrorClass) -> u64 {
        self.errors.get(class as usize).copied().unwrap_or(0)
    }

    /// The latency that `percent` of 100 commands did not exceed, to within a factor of two;
    /// `None` when there were no commands.
    #[must_use]
    pub fn latency_percentile(&self, percent: u8) -> Option<Duration> {
        let all: u64 = self.latency_histogram.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = all.saturating_mul(percent.min(100).into()).div_ceil(100);
        let mut seen = 0_u64;
        for (bucket, count) in (0_u32..).zip(&self.latency_histogram) {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                let upper = Duration::from_micros(1_u64.checked_shl(bucket).unwrap_or(u64::MAX));
                return Some(upper.min(self.latency_max));
            }
        }
        Some(self.latency_max)
    }
}

impl Counters {
    /// Counts a command that did not end well.
    pub(crate) fn error(&self, class: ErrorClass) {
        if let Some(counter) = self.errors.get(class as usize) {
            count(counter);
        }
    }

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
        let mut errors = [0; ErrorClass::ALL.len()];
        for (to, from) in errors.iter_mut().zip(&self.errors) {
            *to = get(from);
        }
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
            errors,
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
    fn percentiles_are_within_a_factor_of_two_and_never_above_the_longest() {
        let counters = Counters::default();
        assert_eq!(counters.snapshot().latency_percentile(50), None);
        for _ in 0..99 {
            counters.ended(true, Duration::from_micros(100));
        }
        counters.ended(true, Duration::from_millis(3));
        let stats = counters.snapshot();
        let us = |percent| stats.latency_percentile(percent).unwrap().as_micros();
        assert_eq!((us(50), us(99), us(100)), (128, 128, 3_000));
    }

    #[test]
    fn the_place_of_a_class_is_its_number() {
        for (index, class) in ErrorClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
        let counters = Counters::default();
        counters.error(ErrorClass::TimedOut);
        let stats = counters.snapshot();
        assert_eq!(stats.errors_of(ErrorClass::TimedOut), 1);
        assert_eq!(stats.errors_of(ErrorClass::Busy), 0);
    }

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
