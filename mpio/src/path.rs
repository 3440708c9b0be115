//! One path: a nexus to the logical unit, and what is known of it.
//!
//! The path's *gate* decides whether I/O may use it. It is open for exactly one incarnation of
//! the nexus, the one whose identity was verified, and the data path closes it at once on a sign
//! of trouble, without waiting for the supervisor to think. Only the supervisor opens it, and not
//! while a report is waiting to be read, so a sign of trouble cannot be overtaken.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use scsi::{Incarnation, Nexus};

use crate::alua::TargetPort;
use crate::history::History;
use crate::signal::{Signal, lock};
use crate::stats::Counters;

/// Most paths of one logical unit.
pub const MAX_PATHS: usize = 32;

/// A path of a logical unit: its position in the order paths were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub(crate) u8);

impl PathId {
    /// The number people see.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PathSet(u32);

impl PathSet {
    pub(crate) fn insert(&mut self, path: PathId) {
        self.0 |= 1_u32.checked_shl(path.0.into()).unwrap_or(0);
    }

    pub(crate) fn contains(self, path: PathId) -> bool {
        self.0 & 1_u32.checked_shl(path.0.into()).unwrap_or(0) != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

/// A path to be put into a logical unit.
#[derive(Debug)]
pub struct PathSpec<N> {
    /// The way to the logical unit.
    pub nexus: N,
    /// Target portal group tag, when known.
    pub portal_group: Option<u16>,
    /// For people; empty: what the nexus says of itself.
    pub label: String,
    /// What the policies are told of it.
    pub settings: PathSettings,
}

/// What an administrator says of a path; each says which policy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathSettings {
    /// Failover only: used whenever it is usable.
    pub preferred: bool,
    /// Round robin with subset: outside of the subset.
    pub standby: bool,
    /// Weighted paths: the usable path with the lowest weight is used.
    pub weight: u32,
    /// Service time: relative throughput. Twice the value carries twice the bytes; 0: only if
    /// there is no other path.
    pub throughput: u8,
}

impl Default for PathSettings {
    fn default() -> Self {
        Self {
            preferred: false,
            standby: false,
            weight: 0,
            throughput: 1,
        }
    }
}

impl PathSettings {
    /// For an atomic.
    const fn pack(self) -> u64 {
        let [a, b, c, d] = self.weight.to_be_bytes();
        let flags = self.preferred as u8 | (self.standby as u8) << 1;
        u64::from_be_bytes([a, b, c, d, 0, 0, self.throughput, flags])
    }

    /// From an atomic.
    const fn unpack(packed: u64) -> Self {
        let [a, b, c, d, _, _, throughput, flags] = packed.to_be_bytes();
        Self {
            preferred: flags & 1 != 0,
            standby: flags & 2 != 0,
            weight: u32::from_be_bytes([a, b, c, d]),
            throughput,
        }
    }
}

/// What a path is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathState {
    /// Logged in; what is behind it is being looked at. Carries no I/O.
    Verifying,
    /// Carries I/O.
    Active,
    /// Something went wrong on it and it is being checked. Carries I/O only if no path is active.
    Suspect,
    /// It answers, but came and went too often ([`crate::MarginalPaths`]). Carries I/O only if no
    /// path is active.
    Marginal,
    /// Logged in, but the unit cannot be used through it. Looked at again from time to time.
    Failed,
    /// Logged in, but the target gives no access through it now (asymmetric access: standby,
    /// unavailable, offline, in transition). Verified again when that changes.
    Standby,
    /// Logged in, but what is behind it is not our unit. Looked at again from time to time.
    Mismatched,
    /// Not logged in; the transport reconnects.
    Down,
    /// Closed for good.
    Closed,
}

impl PathState {
    /// Whether I/O may use it.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Active | Self::Suspect | Self::Marginal)
    }

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verifying => "verifying",
            Self::Active => "active",
            Self::Suspect => "suspect",
            Self::Marginal => "marginal",
            Self::Failed => "failed",
            Self::Standby => "standby",
            Self::Mismatched => "mismatched",
            Self::Down => "down",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the data path tells the supervisor of a path; a later one outranks an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// A command went unanswered; the path may be fine.
    Suspect,
    /// The path is fine, but the target gives no access through it now.
    NoAccess,
    /// The nexus went down under a command.
    Lost,
    /// The unit behind the path may have become another.
    Changed,
    /// The unit cannot be used through the path.
    Unusable,
}

impl Trouble {
    /// Whether the path must not carry anything until it was looked at.
    pub(crate) const fn closes_gate(self) -> bool {
        !matches!(self, Self::Suspect)
    }
}

/// Trouble in one life of the nexus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Report {
    pub(crate) incarnation: Incarnation,
    pub(crate) trouble: Trouble,
}

/// One path, shared by all I/O and its keeper.
#[derive(Debug)]
pub(crate) struct Path<N> {
    pub(crate) id: PathId,
    pub(crate) label: Arc<str>,
    pub(crate) portal_group: Option<u16>,
    pub(crate) nexus: N,
    pub(crate) counters: Counters,
    pub(crate) history: History,
    /// Packed [`PathSettings`].
    settings: AtomicU64,
    /// The target port behind it, by the last look.
    port: Mutex<TargetPort>,
    /// The verified incarnation; 0: shut.
    gate: AtomicU64,
    /// Commands under way and their bytes in one word, see [`load_of`].
    load: AtomicU64,
    /// The newest life that was used, and since when.
    born: Mutex<Option<(Incarnation, Instant)>>,
    /// Its nexus is registered with the unit's persistent-reservation key, as far as is known.
    registered: AtomicBool,
    /// When the unit last said through it that it was powered on or reset.
    restarted: Mutex<Option<Instant>>,
    reports: Mutex<Option<Report>>,
    /// Raised with each report.
    pub(crate) attention: Signal,
}

impl<N: Nexus> Path<N> {
    pub(crate) fn new(id: PathId, spec: PathSpec<N>) -> Self {
        let label = if spec.label.is_empty() {
            spec.nexus.describe()
        } else {
            spec.label
        };
        Self {
            id,
            label: label.into(),
            portal_group: spec.portal_group,
            nexus: spec.nexus,
            counters: Counters::default(),
            history: History::default(),
            settings: AtomicU64::new(spec.settings.pack()),
            port: Mutex::default(),
            gate: AtomicU64::new(0),
            load: AtomicU64::new(0),
            born: Mutex::new(None),
            registered: AtomicBool::new(false),
            restarted: Mutex::new(None),
            reports: Mutex::new(None),
            attention: Signal::default(),
        }
    }
}

impl<N> Path<N> {
    /// The incarnation that may carry I/O.
    pub(crate) fn gate(&self) -> Option<Incarnation> {
        match self.gate.load(Ordering::Acquire) {
            0 => None,
            life => Some(Incarnation(life)),
        }
    }

    /// Opens the gate unless trouble was reported meanwhile.
    pub(crate) fn open(&self, incarnation: Incarnation) {
        let reports = lock(&self.reports);
        if reports.is_none_or(|report| report.incarnation != incarnation) {
            self.gate.store(incarnation.0, Ordering::Release);
        }
    }

    /// This life is in use at `now`, perhaps for the first time.
    pub(crate) fn lives(&self, incarnation: Incarnation, now: Instant) {
        let mut born = lock(&self.born);
        if born.is_none_or(|(life, _)| life != incarnation) {
            *born = Some((incarnation, now));
        }
    }

    /// Since when this life has been in use.
    pub(crate) fn lives_since(&self, incarnation: Incarnation) -> Option<Instant> {
        let (life, since) = (*lock(&self.born))?;
        (life == incarnation).then_some(since)
    }

    /// Its nexus is registered with the unit's key, or is not.
    pub(crate) fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::SeqCst);
    }

    /// Whether its nexus is certainly registered with the unit's key.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::SeqCst)
    }

    /// The unit said at `now` that it was powered on or reset.
    pub(crate) fn met_restart(&self, now: Instant) {
        *lock(&self.restarted) = Some(now);
    }

    /// Whether it has said so since `then`.
    pub(crate) fn met_restart_since(&self, then: Instant) -> bool {
        lock(&self.restarted).is_some_and(|met| met >= then)
    }

    /// Shuts the gate.
    pub(crate) fn shut(&self) {
        self.gate.store(0, Ordering::Release);
    }

    /// Tells the supervisor of trouble, and shuts the gate if it is grave.
    pub(crate) fn report(&self, report: Report) {
        {
            let mut reports = lock(&self.reports);
            if report.trouble.closes_gate() {
                // Another life's gate is not ours to shut.
                let _ = self.gate.compare_exchange(
                    report.incarnation.0,
                    0,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
            }
            let newest = reports.map_or(report, |waiting| waiting.max(report));
            *reports = Some(newest);
        }
        self.attention.raise();
    }

    /// Takes the gravest report that waits.
    pub(crate) fn take_report(&self) -> Option<Report> {
        lock(&self.reports).take()
    }

    /// Commands and bytes under way.
    pub(crate) fn load(&self) -> (u32, u64) {
        let load = self.load.load(Ordering::Relaxed);
        let count = u32::try_from(load >> LOAD_BYTES_BITS).unwrap_or(u32::MAX);
        (count, load & (ONE_COMMAND - 1))
    }

    pub(crate) fn settings(&self) -> PathSettings {
        PathSettings::unpack(self.settings.load(Ordering::Relaxed))
    }

    pub(crate) fn set_settings(&self, settings: PathSettings) {
        self.settings.store(settings.pack(), Ordering::Relaxed);
    }

    pub(crate) fn port(&self) -> TargetPort {
        *lock(&self.port)
    }

    /// Whether that is another one than before.
    pub(crate) fn set_port(&self, port: TargetPort) -> bool {
        std::mem::replace(&mut *lock(&self.port), port) != port
    }

    /// A command with so many bytes of data is under way from now on.
    pub(crate) fn enter(&self, bytes: u64) {
        self.load.fetch_add(load_of(bytes), Ordering::Relaxed);
    }

    /// It is no longer.
    pub(crate) fn leave(&self, bytes: u64) {
        self.load.fetch_sub(load_of(bytes), Ordering::Relaxed);
    }
}

/// Bits for the bytes under way: 4 TiB, which leaves 22 bits for the commands.
const LOAD_BYTES_BITS: u32 = 42;
const ONE_COMMAND: u64 = 1 << LOAD_BYTES_BITS;

/// One command of so many bytes. Should so much ever be under way that bytes carry over into
/// commands, the load looks wrong until it has shrunk, and is right again then.
fn load_of(bytes: u64) -> u64 {
    ONE_COMMAND + bytes.min(u32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeNexus, TestClock};

    const LIFE: Incarnation = Incarnation(3);

    fn path() -> Path<FakeNexus> {
        let nexus = FakeNexus::new(0, &TestClock::default(), &Arc::default());
        let spec = PathSpec {
            nexus,
            portal_group: None,
            label: String::new(),
            settings: PathSettings::default(),
        };
        Path::new(PathId(0), spec)
    }

    fn report(life: u64, trouble: Trouble) -> Report {
        Report {
            incarnation: Incarnation(life),
            trouble,
        }
    }

    #[test]
    fn the_gate_is_open_for_one_life_and_shut_by_grave_trouble_of_that_life() {
        let path = path();
        assert_eq!(path.gate(), None);
        path.open(LIFE);
        assert_eq!(path.gate(), Some(LIFE));
        path.report(report(3, Trouble::Suspect));
        path.report(report(2, Trouble::Unusable));
        assert_eq!(path.gate(), Some(LIFE));
        path.report(report(3, Trouble::Changed));
        assert_eq!(path.gate(), None);
    }

    #[test]
    fn trouble_nobody_has_read_keeps_the_gate_shut() {
        let path = path();
        path.report(report(3, Trouble::Changed));
        path.open(LIFE);
        assert_eq!(path.gate(), None);
        assert_eq!(path.take_report(), Some(report(3, Trouble::Changed)));
        path.open(LIFE);
        assert_eq!(path.gate(), Some(LIFE));
        // News of an earlier life keep nobody out.
        path.shut();
        path.report(report(2, Trouble::Changed));
        path.open(LIFE);
        assert_eq!(path.gate(), Some(LIFE));
    }

    #[test]
    fn the_gravest_report_of_the_latest_life_is_kept() {
        let path = path();
        path.report(report(3, Trouble::Lost));
        path.report(report(3, Trouble::Suspect));
        path.report(report(2, Trouble::Unusable));
        assert_eq!(path.take_report(), Some(report(3, Trouble::Lost)));
        assert_eq!(path.take_report(), None);
    }

    #[test]
    fn settings_survive_the_atomic() {
        let all = PathSettings {
            preferred: true,
            standby: false,
            weight: 0x8765_4321,
            throughput: 200,
        };
        let none = PathSettings {
            preferred: false,
            standby: true,
            weight: 0,
            throughput: 0,
        };
        for settings in [PathSettings::default(), all, none] {
            assert_eq!(PathSettings::unpack(settings.pack()), settings);
        }
        let path = path();
        assert_eq!(path.settings(), PathSettings::default());
        path.set_settings(all);
        assert_eq!(path.settings(), all);
    }

    #[test]
    fn commands_and_bytes_under_way_come_and_go_together() {
        let path = path();
        path.enter(4096);
        path.enter(0);
        path.enter(u64::MAX);
        assert_eq!(path.load(), (3, 4096 + u64::from(u32::MAX)));
        path.leave(4096);
        path.leave(u64::MAX);
        assert_eq!(path.load(), (1, 0));
        path.leave(0);
        assert_eq!(path.load(), (0, 0));
    }

    #[test]
    fn sets_of_paths() {
        let mut set = PathSet::default();
        assert!(set.is_empty());
        set.insert(PathId(0));
        set.insert(PathId(31));
        assert!(set.contains(PathId(31)) && !set.contains(PathId(1)));
        let mut part = PathSet::default();
        part.insert(PathId(31));
        assert!(set.contains_all(part) && !part.contains_all(set));
    }
}
