//! The policies and their names.

use std::fmt;
use std::str::FromStr;

/// How paths are chosen. Named as users of Microsoft's MPIO and of dm-multipath know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadBalancePolicy {
    /// One path until it fails; a preferred one whenever it is usable.
    FailoverOnly,
    /// All in turn, a run of I/Os or bytes on each.
    RoundRobin,
    /// The active ones in turn; standby ones when no active one is usable.
    RoundRobinSubset,
    /// The path with the fewest commands under way.
    LeastQueueDepth,
    /// The path with the lowest weight.
    WeightedPaths,
    /// The path with the fewest bytes under way; sequential streams stay on theirs.
    LeastBlocks,
    /// The path that will have moved its outstanding bytes first.
    #[default]
    ServiceTime,
    /// The path that would be done first, as fast as it has been lately.
    HistoricalServiceTime,
    /// Each region of the medium on its own path.
    LbaRegion,
    /// The path with the lowest latency, sampled from time to time.
    Latency,
}

/// Everything there is to know of a policy's name.
struct Names {
    policy: LoadBalancePolicy,
    name: &'static str,
    /// Microsoft's short form first, then what others say.
    aliases: &'static [&'static str],
}

const fn names(
    policy: LoadBalancePolicy,
    name: &'static str,
    aliases: &'static [&'static str],
) -> Names {
    Names {
        policy,
        name,
        aliases,
    }
}

/// In the order of the enum: a policy's place is its number.
const NAMES: [Names; 10] = {
    use LoadBalancePolicy as P;
    [
        names(
            P::FailoverOnly,
            "failover-only",
            &["foo", "fail-over-only", "failover"],
        ),
        names(P::RoundRobin, "round-robin", &["rr"]),
        names(
            P::RoundRobinSubset,
            "round-robin-subset",
            &["rrws", "round-robin-with-subset"],
        ),
        names(
            P::LeastQueueDepth,
            "least-queue-depth",
            &["lqd", "queue-length"],
        ),
        names(P::WeightedPaths, "weighted-paths", &["wp", "weighted"]),
        names(P::LeastBlocks, "least-blocks", &["lb"]),
        names(P::ServiceTime, "service-time", &["st"]),
        names(
            P::HistoricalServiceTime,
            "historical-service-time",
            &["hst"],
        ),
        names(
            P::LbaRegion,
            "lba-region",
            &["load-balance-lba", "logical-block"],
        ),
        names(P::Latency, "latency", &["lb-latency"]),
    ]
};

impl LoadBalancePolicy {
    /// Every policy.
    pub const ALL: [Self; 10] = [
        Self::FailoverOnly,
        Self::RoundRobin,
        Self::RoundRobinSubset,
        Self::LeastQueueDepth,
        Self::WeightedPaths,
        Self::LeastBlocks,
        Self::ServiceTime,
        Self::HistoricalServiceTime,
        Self::LbaRegion,
        Self::Latency,
    ];

    /// The name people write.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.names().map_or("", |names| names.name)
    }

    /// Other names that are understood, Microsoft's abbreviation first.
    #[must_use]
    pub fn aliases(self) -> &'static [&'static str] {
        self.names().map_or(&[], |names| names.aliases)
    }

    fn names(self) -> Option<&'static Names> {
        NAMES.get(usize::from(self.to_byte()))
    }

    /// For an atomic.
    pub(crate) const fn to_byte(self) -> u8 {
        self as u8
    }

    /// From an atomic.
    pub(crate) fn from_byte(byte: u8) -> Self {
        Self::ALL
            .get(usize::from(byte))
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for LoadBalancePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not the name of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPolicy(pub String);

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no load-balance policy; known:", self.0)?;
        for (index, names) in NAMES.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator} {}", names.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownPolicy {}

/// Takes the names and aliases in any case, with blanks or underscores for hyphens, as Microsoft
/// writes them ("Round Robin with Subset"), and with dm-multipath's count of no arguments behind
/// them ("service-time 0").
impl FromStr for LoadBalancePolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let trimmed = text.trim();
        let name = trimmed.strip_suffix(" 0").unwrap_or(trimmed).trim_end();
        let name = name.to_ascii_lowercase().replace([' ', '_'], "-");
        NAMES
            .iter()
            .find(|names| names.name == name || names.aliases.contains(&name.as_str()))
            .map(|names| names.policy)
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_go_both_ways() {
        let expected = [
            ("failover-only", LoadBalancePolicy::FailoverOnly),
            ("round-robin", LoadBalancePolicy::RoundRobin),
            ("round-robin-subset", LoadBalancePolicy::RoundRobinSubset),
            ("least-queue-depth", LoadBalancePolicy::LeastQueueDepth),
            ("weighted-paths", LoadBalancePolicy::WeightedPaths),
            ("least-blocks", LoadBalancePolicy::LeastBlocks),
            ("service-time", LoadBalancePolicy::ServiceTime),
            (
                "historical-service-time",
                LoadBalancePolicy::HistoricalServiceTime,
            ),
            ("lba-region", LoadBalancePolicy::LbaRegion),
            ("latency", LoadBalancePolicy::Latency),
        ];
        assert_eq!(expected.map(|(_, policy)| policy), LoadBalancePolicy::ALL);
        for (name, policy) in expected {
            assert_eq!(name.parse(), Ok(policy));
            assert_eq!(policy.to_string(), name);
            assert_eq!(LoadBalancePolicy::from_byte(policy.to_byte()), policy);
        }
    }

    #[test]
    fn what_microsofts_and_dm_multipaths_users_write() {
        for (text, policy) in [
            ("Fail Over Only", LoadBalancePolicy::FailoverOnly),
            ("FOO", LoadBalancePolicy::FailoverOnly),
            (
                "Round Robin with Subset",
                LoadBalancePolicy::RoundRobinSubset,
            ),
            ("RRWS", LoadBalancePolicy::RoundRobinSubset),
            ("least_queue_depth", LoadBalancePolicy::LeastQueueDepth),
            ("queue-length 0", LoadBalancePolicy::LeastQueueDepth),
            ("service-time 0", LoadBalancePolicy::ServiceTime),
            ("LB", LoadBalancePolicy::LeastBlocks),
            ("HST", LoadBalancePolicy::HistoricalServiceTime),
            ("LOAD_BALANCE_LBA", LoadBalancePolicy::LbaRegion),
        ] {
            assert_eq!(text.parse(), Ok(policy), "{text}");
        }
    }

    #[test]
    fn no_name_means_two_policies() {
        let mut seen = BTreeSet::new();
        for policy in LoadBalancePolicy::ALL {
            assert!(seen.insert(policy.name()));
            for alias in policy.aliases() {
                assert!(seen.insert(alias), "{alias}");
                assert_eq!(alias.parse(), Ok(policy));
            }
        }
    }

    #[test]
    fn what_is_no_policy_is_told_what_is() {
        for text in ["", "fastest", "service-time 1", "round robin subset of two"] {
            let error = text.parse::<LoadBalancePolicy>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")));
            assert!(error.to_string().ends_with("lba-region, latency"));
        }
    }
}
