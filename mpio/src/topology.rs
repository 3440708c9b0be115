//! What paths there are and what they are doing: an immutable table, swapped as a whole.
//!
//! The data path loads it without a lock; only keepers write it. [`Topology`] is the copy for
//! people.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scsi::{Incarnation, Nexus};

use crate::alua::{Access, PRIORITY_CONST, PathAccess};
use crate::failback::{Candidate, Failback};
use crate::identity::LuIdentity;
use crate::path::{Path, PathId, PathSet, PathSettings, PathState};
use crate::queueing::{NoPathRetry, Paths};
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
    /// When I/O goes back to a better group.
    pub failback: Failback,
    /// How long I/O waits when no path is usable.
    pub no_path_retry: NoPathRetry,
    /// Target port groups; `None` when the unit has none.
    pub access: Option<Access>,
    /// The paths in the order they were added.
    pub paths: Vec<PathSnapshot>,
    /// The paths by priority, best first.
    pub groups: Vec<PathGroup>,
    /// Ranges held for writes whose fate is unknown.
    pub held_ranges: usize,
}

/// Paths of equal priority; the policy chooses among those of the group in use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathGroup {
    /// Their priority, see [`PathAccess::priority`].
    pub priority: u8,
    /// I/O goes to this group as long as one of its paths is usable.
    pub in_use: bool,
    /// The paths, in the order they were added.
    pub paths: Vec<PathId>,
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
    /// How the target lets it reach the unit; `None` without asymmetric access, and before the
    /// target has said it.
    pub access: Option<PathAccess>,
    /// Paths of equal priority are one group; the higher the better.
    pub priority: u8,
    /// For how long.
    pub for_time: Duration,
    /// Its last word is that there is no such logical unit, or no such target.
    pub gone: bool,
    /// Size it last showed, in blocks; differs from the unit's while a change is not taken.
    pub blocks: Option<u64>,
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
    /// What the target last said of its port.
    pub(crate) access: Option<PathAccess>,
    /// Its last word is that there is no such unit.
    pub(crate) gone: bool,
    /// Size it last showed, in blocks.
    pub(crate) blocks: Option<u64>,
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
    /// Indices of the usable paths in the order they are to be tried: the active ones of the
    /// group in use, then those of the other groups from the best on, then marginal and suspect ones
    /// alike.
    pub(crate) ranks: Vec<Vec<usize>>,
}

impl<N: Nexus> Table<N> {
    /// A table of these paths. `unit_limit`: what the unit allows, in bytes. `in_use`: priority
    /// of the group in use.
    pub(crate) fn new(
        entries: Vec<Entry<N>>,
        block_bytes: u32,
        unit_limit: u64,
        in_use: Option<u8>,
    ) -> Self {
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
            ranks: ranks(&entries, in_use),
            entries,
            max_transfer_bytes: whole.max(block_bytes),
            every,
        }
    }

    pub(crate) fn get(&self, id: PathId) -> Option<&Entry<N>> {
        self.entries.get(usize::from(id.0))
    }

    /// The one path that I/O uses, when there is no choice to be made.
    pub(crate) fn sole(&self) -> Option<PathId> {
        match self.ranks.first().map(Vec::as_slice) {
            Some(&[index]) => self.entries.get(index).map(|entry| entry.path.id),
            _ => None,
        }
    }

    /// Whether every path that is left says that there is no such unit. One that says nothing may
    /// know better.
    pub(crate) fn is_gone(&self) -> bool {
        let mut left = self.entries.iter();
        let mut left = left
            .by_ref()
            .filter(|it| it.state != PathState::Closed)
            .peekable();
        left.peek().is_some() && left.all(|entry| entry.gone)
    }

    /// How it is with the paths, all together.
    pub(crate) fn paths(&self) -> Paths {
        let any = |what: fn(&Entry<N>) -> bool| self.entries.iter().any(what);
        if any(|entry| entry.state.is_usable()) {
            Paths::Usable
        } else if any(|entry| entry.state == PathState::Verifying) {
            Paths::InDoubt
        } else {
            Paths::None
        }
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
            access: None,
            gone: false,
            blocks: None,
        }
    }

    pub(crate) fn priority(&self) -> u8 {
        self.access.map_or(PRIORITY_CONST, |it| it.priority())
    }

    /// As the choice of a group sees it.
    pub(crate) fn candidate(&self) -> Candidate {
        Candidate {
            path: self.path.id,
            priority: self.priority(),
            usable: self.state.is_usable(),
            up: self.state.is_usable() || self.state == PathState::Standby,
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
            access: self.access,
            priority: self.priority(),
            gone: self.gone,
            blocks: self.blocks,
            for_time: now.saturating_duration_since(self.since),
            incarnation: self.path.gate(),
            settings: self.path.settings(),
            in_flight,
            in_flight_bytes,
            stats: self.path.counters.snapshot(),
        }
    }
}

/// See [`Table::ranks`].
fn ranks<N: Nexus>(entries: &[Entry<N>], in_use: Option<u8>) -> Vec<Vec<usize>> {
    let rank = |entry: &Entry<N>| {
        let priority = entry.priority();
        let suspect = entry.state == PathState::Suspect;
        let badness = (suspect, entry.state == PathState::Marginal);
        (badness, in_use != Some(priority), Reverse(priority))
    };
    let usable = entries.iter().enumerate();
    let usable = usable.filter(|(_, entry)| entry.state.is_usable());
    let mut ordered: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, entry) in usable {
        ordered.entry(rank(entry)).or_default().push(index);
    }
    ordered.into_values().collect()
}

/// The paths by priority, best first.
pub(crate) fn groups<N: Nexus>(table: &Table<N>, in_use: Option<u8>) -> Vec<PathGroup> {
    let mut groups: BTreeMap<Reverse<u8>, Vec<PathId>> = BTreeMap::new();
    for entry in &table.entries {
        let group = groups.entry(Reverse(entry.priority())).or_default();
        group.push(entry.path.id);
    }
    let group = |(Reverse(priority), paths)| PathGroup {
        priority,
        in_use: in_use == Some(priority),
        paths,
    };
    groups.into_iter().map(group).collect()
}
