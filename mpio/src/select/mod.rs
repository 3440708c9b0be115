//! Which path carries the next I/O.
//!
//! One file per policy, each a pure function from what is known of the usable paths to one of
//! them. The caller has already left out paths that must not be used.

mod failover;
mod round_robin;
mod service_time;

use std::fmt;
use std::str::FromStr;

use crate::path::PathId;

/// How paths are chosen. Names as dm-multipath and Microsoft's MPIO use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadBalancePolicy {
    /// One path until it fails.
    FailoverOnly,
    /// All in turn.
    RoundRobin,
    /// The path that will have moved its outstanding bytes first.
    #[default]
    ServiceTime,
}

impl LoadBalancePolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::FailoverOnly, Self::RoundRobin, Self::ServiceTime];

    /// The name people write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailoverOnly => "failover-only",
            Self::RoundRobin => "round-robin",
            Self::ServiceTime => "service-time",
        }
    }

    /// For an atomic.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::FailoverOnly => 0,
            Self::RoundRobin => 1,
            Self::ServiceTime => 2,
        }
    }

    /// From an atomic.
    pub(crate) const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::FailoverOnly,
            1 => Self::RoundRobin,
            _ => Self::ServiceTime,
        }
    }
}

impl fmt::Display for LoadBalancePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no load-balance policy; known: failover-only, round-robin, service-time")]
pub struct UnknownPolicy(pub String);

impl FromStr for LoadBalancePolicy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| UnknownPolicy(name.to_owned()))
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
    /// Relative throughput, 1 for equal paths. 0: only if there is no other.
    pub weight: u32,
}

/// What a policy knows besides the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// I/Os chosen for before this one.
    pub count: u64,
    /// Bytes of this one.
    pub bytes: u64,
    /// The path chosen last.
    pub last: Option<PathId>,
    /// Round robin: I/Os on one path before the next; at least 1.
    pub run: u32,
}

/// The index in `paths` of the path to use; `None` only when there is none.
#[must_use]
pub fn select(policy: LoadBalancePolicy, paths: &[PathView], turn: Turn) -> Option<usize> {
    if paths.len() < 2 {
        return (!paths.is_empty()).then_some(0);
    }
    match policy {
        LoadBalancePolicy::FailoverOnly => failover::select(paths, turn),
        LoadBalancePolicy::RoundRobin => round_robin::select(paths, turn),
        LoadBalancePolicy::ServiceTime => service_time::select(paths, turn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn view(id: u8, in_flight: u32, in_flight_bytes: u64) -> PathView {
        PathView {
            id: PathId(id),
            in_flight,
            in_flight_bytes,
            weight: 1,
        }
    }

    #[test]
    fn no_path_no_choice_one_path_no_question() {
        for policy in LoadBalancePolicy::ALL {
            assert_eq!(select(policy, &[], Turn::default()), None);
            let one = [view(3, 99, 99)];
            assert_eq!(select(policy, &one, Turn::default()), Some(0));
        }
    }

    #[test]
    fn names_go_both_ways() {
        for name in ["failover-only", "round-robin", "service-time"] {
            let policy: LoadBalancePolicy = name.parse().unwrap();
            assert_eq!(policy.to_string(), name);
            assert_eq!(LoadBalancePolicy::from_byte(policy.to_byte()), policy);
        }
        let error = "least-blocks".parse::<LoadBalancePolicy>().unwrap_err();
        assert!(error.to_string().contains("least-blocks"));
    }
}
