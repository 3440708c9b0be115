//! Which path carries the next I/O.
//!
//! One file per policy, each a pure function from what is known of the usable paths to one of
//! them; [`state`] holds the little that has to be remembered between two I/Os. The caller has
//! already left out paths that must not be used. Nothing here allocates.

mod failover;
mod historical;
mod latency;
mod lba_region;
mod least_blocks;
mod least_queue_depth;
#[cfg(test)]
mod measured;
mod policy;
mod round_robin;
mod service_time;
mod state;
mod weighted;

use std::cmp::Ordering;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::history::PathSpeed;
use crate::path::{PathId, PathSettings};

pub use policy::{LoadBalancePolicy, UnknownPolicy};
pub(crate) use state::{Io, Selector};

/// What the policies can be told. Each says which one listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Round robin: I/Os on one path before the next; 0 counts as 1. 1 spreads even a short
    /// queue over all paths; more keeps runs of small sequential I/O together.
    pub round_robin_ios: u32,
    /// Round robin: bytes on one path before the next, instead of I/Os. An I/O that is longer
    /// counts as a run of its own.
    pub round_robin_bytes: Option<NonZeroU64>,
    /// Least blocks: a sequential stream stays while its path has no more than this under way,
    /// in bytes. About the cache a target spends on one session.
    pub least_blocks_bytes: u64,
    /// LBA region: a region is 2^n logical blocks.
    pub lba_region_exponent: u8,
    /// Historical service time: paths at most this many times as slow as the fastest count as
    /// equally fast.
    pub historical_threshold: u32,
    /// Historical service time: a path that has been idle for this many of its service times is
    /// tried again.
    pub historical_valid: u32,
    /// Latency: each path is sampled once in this time.
    pub latency_interval: Duration,
    /// Latency: I/Os of one sample.
    pub latency_ios: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            round_robin_ios: 1,
            round_robin_bytes: None,
            least_blocks_bytes: 1 << 20,
            lba_region_exponent: 18,
            historical_threshold: 2,
            historical_valid: 128,
            latency_interval: Duration::from_secs(30),
            latency_ios: 16,
        }
    }
}

/// What a policy knows of a usable path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathView {
    /// Which path.
    pub id: PathId,
    /// Commands under way on it.
    pub in_flight: u32,
    /// Their data, in bytes.
    pub in_flight_bytes: u64,
    /// What the administrator says of it.
    pub settings: PathSettings,
    /// How fast it has been; known only to the policies that learn.
    pub speed: PathSpeed,
}

/// What a policy knows besides the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// I/Os chosen for before this one.
    pub count: u64,
    /// Their bytes, one I/O counting for at most [`Tuning::round_robin_bytes`].
    pub bytes_before: u64,
    /// Bytes of this one.
    pub bytes: u64,
    /// The path chosen last.
    pub last: Option<PathId>,
    /// The first block it reads or writes; `None`: it does neither.
    pub lba: Option<u64>,
    /// It begins where the one before ended.
    pub sequential: bool,
    /// The present moment, in nanoseconds since an arbitrary one; known only to the policies
    /// that learn.
    pub now_ns: u64,
}

/// The index in `paths` of the path to use; `None` only when there is none.
#[must_use]
pub fn select(
    policy: LoadBalancePolicy,
    tuning: &Tuning,
    paths: &[PathView],
    turn: Turn,
) -> Option<usize> {
    if paths.len() < 2 {
        return (!paths.is_empty()).then_some(0);
    }
    match policy {
        LoadBalancePolicy::FailoverOnly => failover::select(paths, turn),
        LoadBalancePolicy::RoundRobin => round_robin::select(paths, tuning, turn),
        LoadBalancePolicy::RoundRobinSubset => round_robin::select_subset(paths, tuning, turn),
        LoadBalancePolicy::LeastQueueDepth => least_queue_depth::select(paths, turn),
        LoadBalancePolicy::WeightedPaths => weighted::select(paths),
        LoadBalancePolicy::LeastBlocks => least_blocks::select(paths, tuning, turn),
        LoadBalancePolicy::ServiceTime => service_time::select(paths, turn),
        LoadBalancePolicy::HistoricalServiceTime => historical::select(paths, tuning, turn),
        LoadBalancePolicy::LbaRegion => lba_region::select(paths, tuning, turn),
        LoadBalancePolicy::Latency => latency::select(paths, tuning, turn),
    }
}

/// Index of the least path; equals in turn.
fn least(
    paths: &[PathView],
    turn: Turn,
    compare: impl Fn(&PathView, &PathView) -> Ordering,
) -> Option<usize> {
    let start = turn.count.checked_rem(u64::try_from(paths.len()).ok()?)?;
    let start = usize::try_from(start).ok()?;
    let in_turn = paths.iter().enumerate();
    let in_turn = in_turn.clone().skip(start).chain(in_turn.take(start));
    // The first of equals.
    in_turn
        .min_by(|(_, a), (_, b)| compare(a, b))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn view(id: u8, in_flight: u32, in_flight_bytes: u64) -> PathView {
        PathView {
            id: PathId(id),
            in_flight,
            in_flight_bytes,
            settings: PathSettings::default(),
            speed: PathSpeed::default(),
        }
    }

    #[test]
    fn no_path_no_choice_one_path_no_question() {
        let tuning = Tuning::default();
        for policy in LoadBalancePolicy::ALL {
            assert_eq!(select(policy, &tuning, &[], Turn::default()), None);
            let mut one = [view(3, 99, 99)];
            one[0].settings = PathSettings {
                standby: true,
                throughput: 0,
                weight: u32::MAX,
                ..PathSettings::default()
            };
            assert_eq!(select(policy, &tuning, &one, Turn::default()), Some(0));
        }
    }

    fn path() -> impl proptest::strategy::Strategy<Value = PathView> {
        use proptest::prelude::*;
        let settings = (any::<bool>(), any::<bool>(), any::<u32>(), any::<u8>());
        let speed = (
            any::<Option<u64>>(),
            any::<u64>(),
            any::<Option<u64>>(),
            any::<u64>(),
            any::<u32>(),
        );
        (any::<u8>(), any::<u32>(), any::<u64>(), settings, speed).prop_map(
            |(id, in_flight, in_flight_bytes, settings, speed)| PathView {
                id: PathId(id),
                in_flight,
                in_flight_bytes,
                settings: PathSettings {
                    preferred: settings.0,
                    standby: settings.1,
                    weight: settings.2,
                    throughput: settings.3,
                },
                speed: PathSpeed {
                    service_ns: speed.0,
                    last_end_ns: speed.1,
                    latency_ns: speed.2,
                    interval: speed.3,
                    sampled: speed.4,
                },
            },
        )
    }

    proptest::proptest! {
        /// Whatever the numbers: a path there is, when there is one.
        #[test]
        fn always_one_of_them(
            paths in proptest::collection::vec(path(), 1..32),
            counts: (u64, u64, u64, u64),
            last: Option<u8>,
            lba: Option<u64>,
            sequential: bool,
            tuned: (u32, u64, u8, u32, u32, u64, u32),
        ) {
            let tuning = Tuning {
                round_robin_ios: tuned.0,
                round_robin_bytes: NonZeroU64::new(tuned.1),
                least_blocks_bytes: tuned.1,
                lba_region_exponent: tuned.2,
                historical_threshold: tuned.3,
                historical_valid: tuned.4,
                latency_interval: Duration::from_nanos(tuned.5),
                latency_ios: tuned.6,
            };
            let turn = Turn {
                count: counts.0,
                bytes_before: counts.1,
                bytes: counts.2,
                last: last.map(PathId),
                lba,
                sequential,
                now_ns: counts.3,
            };
            for policy in LoadBalancePolicy::ALL {
                let index = select(policy, &tuning, &paths, turn);
                proptest::prop_assert!(index.is_some_and(|index| index < paths.len()));
            }
        }
    }
}
