//! What paths there are and what they are doing: an immutable table, swapped as a whole.
//!
//! The data path loads it without a lock; only keepers write it. [`Topology`] is the copy for
//! people.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scsi::{Incarnation, Nexus};

use crate::identity::LuIdentity;
use crate::path::{Path, PathId, PathSet, PathSettings, PathState};
use crate::select::LoadBalancePolicy;
use crate::stats::PathStats;

/// A logical unit and its paths at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topology {
    /// Who the unit is.
    pub identity: LuIdentity,
    /// How paths are chosen.
    pub policy: LoadBalancePolicy,
    /// The paths in the order they were added.
    pub paths: Vec<PathSnapshot>,
    /// Ranges held for writes whose fate is unknown.
    pub held_ranges: usize,
}

/// A path at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathSnapshot {
    /// Which.
    pub id: PathId,
    /// Its label.
    pub label: Arc<str>,
    /// What the nexus says of itself.
    pub nexus: String,
    /// Target portal group tag, when known.
    pub portal_group: Option<u16>,
    /// What it is doing.
    pub state: PathState,
    /// For how long.
    pub for_time: Duration,
    /// The verified life of its nexus; `None` when it carries nothing.
    pub incarnation: Option<Incarnation>,
    /// What the policies are told of it.
    pub settings: PathSettings,
    /// Commands under way.
    pub in_flight: u32,
    /// Their data, in bytes.
    pub in_flight_bytes: u64,
    /// What happened on it.
    pub stats: PathStats,
}

/// A path and its state, in the table.
#[derive(Debug)]
pub(crate) struct Entry<N> {
    pub(crate) path: Arc<Path<N>>,
    pub(crate) state: PathState,
    /// In this state since.
    pub(crate) since: Instant,
    /// Not usable since; `None` when usable, or when it never was.
    pub(crate) unusable_since: Option<Instant>,
    /// It was usable before.
    pub(crate) was_up: bool,
}

impl<N> Clone for Entry<N> {
    fn clone(&self) -> Self {
        Self {
            path: Arc::clone(&self.path),
            ..*self
        }
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table<N> {
    /// In the order of their ids; an id is an index.
    pub(crate) entries: Vec<Entry<N>>,
    /// What one command may carry on every path, in bytes.
    pub(crate) max_transfer_bytes: u64,
    /// All paths.
    pub(crate) every: PathSet,
}

impl<N: Nexus> Table<N> {
    /// A table of these paths. `unit_limit`: what the unit allows, in bytes.
    pub(crate) fn new(entries: Vec<Entry<N>>, block_bytes: u32, unit_limit: u64) -> Self {
        let block_bytes = u64::from(block_bytes.max(1));
        let mut every = PathSet::default();
        let mut limit = unit_limit;
        for entry in &entries {
            every.insert(entry.path.id);
            if entry.state != PathState::Closed {
                let path = entry.path.nexus.max_transfer_bytes();
                limit = limit.min(u64::try_from(path).unwrap_or(u64::MAX));
            }
        }
        let whole = limit
            .checked_rem(block_bytes)
            .map_or(0, |rest| limit - rest);
        Self {
            entries,
            max_transfer_bytes: whole.max(block_bytes),
            every,
        }
    }

    pub(crate) fn get(&self, id: PathId) -> Option<&Entry<N>> {
        self.entries.get(usize::from(id.0))
    }

    /// Whether any path can carry I/O.
    pub(crate) fn any_usable(&self) -> bool {
        self.entries.iter().any(|entry| entry.state.is_usable())
    }
}

impl<N: Nexus> Entry<N> {
    pub(crate) fn new(path: Arc<Path<N>>, state: PathState, now: Instant) -> Self {
        Self {
            path,
            state,
            since: now,
            unusable_since: None,
            was_up: state.is_usable(),
        }
    }

    pub(crate) fn snapshot(&self, now: Instant) -> PathSnapshot {
        let (in_flight, in_flight_bytes) = self.path.load();
        PathSnapshot {
            id: self.path.id,
            label: Arc::clone(&self.path.label),
            nexus: self.path.nexus.describe(),
            portal_group: self.path.portal_group,
            state: self.state,
            for_time: now.saturating_duration_since(self.since),
            incarnation: self.path.gate(),
            settings: self.path.settings(),
            in_flight,
            in_flight_bytes,
            stats: self.path.counters.snapshot(),
        }
    }
}
