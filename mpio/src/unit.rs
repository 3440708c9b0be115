//! What all I/O of one logical unit shares.
//!
//! Lock-free where every I/O passes: the table of paths, the policy, the counters. Locks only on
//! the way of trouble.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use scsi::{Incarnation, Nexus};
use smallvec::SmallVec;

use crate::alua::{SharedAccess, Watch};
use crate::cache::WriteCache;
use crate::classify::{Attention, Note};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{IoError, IoErrorKind};
use crate::event::{EventKind, Hub};
use crate::failback::{Candidate, Chooser, Failback};
use crate::fence::{Holds, Standing};
use crate::identity::Profile;
use crate::path::{MAX_PATHS, Path, PathId, PathSet, PathSettings, PathSpec, PathState};
use crate::probe::Deferred;
use crate::queueing::{News, NoPathRetry, Queueing};
use crate::registration::Registered;
use crate::select::{Io, LoadBalancePolicy, PathView, Selector};
use crate::signal::{Signal, lock, race};
use crate::supervisor::PAUSE_MIN;
use crate::topology::{Entry, Table};

/// [`Unit::sole`]: none, or more than one.
const NO_SOLE: u8 = u8::MAX;

/// A logical unit, shared by its users and its keepers.
#[derive(Debug)]
pub(crate) struct Unit<N, C> {
    pub(crate) clock: C,
    pub(crate) config: Config,
    /// What every path must show.
    pub(crate) profile: Profile,
    pub(crate) table: ArcSwap<Table<N>>,
    /// Every path there ever was, by its id; none is ever taken away. A reference to one costs
    /// nothing, in contrast to one out of the table.
    paths: Box<[OnceLock<Arc<Path<N>>>]>,
    /// What [`Table::sole`] says.
    sole: AtomicU8,
    /// What the table says, in bytes.
    max_transfer_bytes: AtomicU64,
    /// Raised whenever I/O that waits should look again.
    pub(crate) changes: Signal,
    pub(crate) holds: Holds,
    /// The registration of its paths.
    pub(crate) registered: Registered,
    pub(crate) events: Hub,
    /// Target port groups.
    pub(crate) access: SharedAccess,
    /// Told to a path check; the next flush tells it.
    pub(crate) deferred: Deferred,
    read_only: AtomicBool,
    pub(crate) selector: Selector,
    closing: AtomicBool,
    /// Nobody is left who could ask about held ranges.
    forsaken: AtomicBool,
    ios: AtomicUsize,
    adding: Mutex<()>,
    /// Which group of paths is in use. Locked whenever the table is made anew.
    chooser: Mutex<Chooser>,
    pub(crate) queueing: Queueing,
    /// Size in blocks.
    blocks: AtomicU64,
    pub(crate) cache: WriteCache,
    /// Every path says that there is no such unit; told already.
    gone: AtomicBool,
}

/// Where an I/O can go.
#[derive(Debug)]
pub(crate) enum Pick<'a, N> {
    /// On this path, in this life of it.
    Path(&'a Path<N>, Incarnation),
    /// Only on paths it wanted to avoid.
    OnlyAvoided,
    /// Nowhere; these are all paths.
    Nowhere(PathSet),
    /// Nowhere, and no path will come back.
    Never,
    /// Nowhere, and every path says that there is no such unit.
    Gone,
}

impl<N: Nexus, C: Clock> Unit<N, C> {
    pub(crate) fn new(profile: Profile, entries: Vec<Entry<N>>, config: Config, clock: C) -> Self {
        let now = clock.now();
        let mut chooser = Chooser::new(config.failback);
        chooser.look(now, &candidates(&entries));
        let in_use = chooser.priority();
        let table = Table::new(entries, profile.block_bytes, unit_limit(&profile), in_use);
        let queueing = Queueing::new(config.no_path_retry, now, table.paths());
        let intervals = (
            config.probe_interval.max(PAUSE_MIN),
            config.probe_interval_max.max(PAUSE_MIN),
        );
        let unit = Self {
            access: SharedAccess::new(Watch::new(profile.tpgs, intervals, now)),
            clock,
            blocks: AtomicU64::new(profile.blocks),
            cache: WriteCache::new(profile.write_cache),
            read_only: AtomicBool::new(profile.read_only),
            selector: Selector::new(config.policy, config.tuning, now),
            config,
            profile,
            table: ArcSwap::from_pointee(table),
            changes: Signal::default(),
            holds: Holds::default(),
            registered: Registered::default(),
            events: Hub::default(),
            deferred: Deferred::default(),
            closing: AtomicBool::new(false),
            forsaken: AtomicBool::new(false),
            ios: AtomicUsize::new(0),
            adding: Mutex::new(()),
            chooser: Mutex::new(chooser),
            queueing,
            gone: AtomicBool::new(false),
            paths: (0..MAX_PATHS).map(|_| OnceLock::new()).collect(),
            sole: AtomicU8::new(NO_SOLE),
            max_transfer_bytes: AtomicU64::new(0),
        };
        unit.sum_up(&unit.table.load());
        unit
    }

    /// Makes known what a new table says in sum, for those who look for each I/O.
    fn sum_up(&self, table: &Table<N>) {
        for entry in &table.entries {
            if let Some(place) = self.paths.get(usize::from(entry.path.id.0)) {
                place.get_or_init(|| Arc::clone(&entry.path));
            }
        }
        self.max_transfer_bytes
            .store(table.max_transfer_bytes, Ordering::Relaxed);
        let sole = table.sole().map_or(NO_SOLE, |id| id.0);
        self.sole.store(sole, Ordering::Release);
    }

    fn path(&self, id: PathId) -> Option<&Path<N>> {
        Some(self.paths.get(usize::from(id.0))?.get()?)
    }

    /// Bytes that one command may carry on every path.
    pub(crate) fn max_transfer_bytes(&self) -> u64 {
        self.max_transfer_bytes.load(Ordering::Relaxed)
    }

    /// Bytes as blocks; `None` when they are not whole ones.
    pub(crate) fn whole_blocks(&self, bytes: u64) -> Option<u64> {
        let block_bytes = u64::from(self.profile.block_bytes);
        if block_bytes.is_power_of_two() {
            // The usual case, without dividing.
            let rest = bytes & (block_bytes - 1);
            return (rest == 0).then(|| bytes >> block_bytes.trailing_zeros());
        }
        let blocks = bytes.checked_div(block_bytes)?;
        (bytes.checked_rem(block_bytes) == Some(0)).then_some(blocks)
    }

    /// A path for an I/O that was not sent before, if there is one at once.
    #[inline]
    pub(crate) fn first_pick(&self, io: impl FnOnce() -> Io) -> Option<(&Path<N>, Incarnation)> {
        let sole = PathId(self.sole.load(Ordering::Acquire));
        if let Some(path) = self.path(sole) {
            let life = path.gate()?;
            self.selector.chose(sole);
            return Some((path, life));
        }
        match self.pick(None, PathSet::default(), io()) {
            Pick::Path(path, life) => Some((path, life)),
            Pick::OnlyAvoided | Pick::Nowhere(_) | Pick::Gone | Pick::Never => None,
        }
    }

    /// Chooses a path.
    pub(crate) fn pick(&self, stay: Option<PathId>, avoid: PathSet, io: Io) -> Pick<'_, N> {
        if let Some(path) = stay.and_then(|id| self.path(id))
            && let Some(life) = path.gate()
        {
            return Pick::Path(path, life);
        }
        let table = self.table.load();
        // A gate may shut between the look and the choice; then another path is chosen.
        for _ in 0..MAX_PATHS {
            match self.pick_once(&table, avoid, io) {
                Some(pick) => return pick,
                None => std::hint::spin_loop(),
            }
        }
        Pick::Nowhere(table.every)
    }

    /// `None`: the chosen path's gate had just been shut.
    fn pick_once(&self, table: &Table<N>, avoid: PathSet, io: Io) -> Option<Pick<'_, N>> {
        let mut avoided = false;
        let mut shut = false;
        for rank in &table.ranks {
            let mut views = SmallVec::<[PathView; MAX_PATHS]>::new();
            for entry in rank.iter().filter_map(|&index| table.entries.get(index)) {
                if entry.path.gate().is_none() {
                    continue;
                }
                if avoid.contains(entry.path.id) {
                    avoided = true;
                    continue;
                }
                let (in_flight, in_flight_bytes) = entry.path.load();
                views.push(PathView {
                    id: entry.path.id,
                    in_flight,
                    in_flight_bytes,
                    settings: entry.path.settings(),
                    speed: self.selector.speed(&entry.path.history),
                });
            }
            shut |= !views.is_empty();
            if let Some(pick) = self.choose(&views, io) {
                return Some(pick);
            }
        }
        if shut {
            return None;
        }
        Some(if avoided {
            Pick::OnlyAvoided
        } else if table
            .entries
            .iter()
            .all(|entry| entry.state == PathState::Closed)
        {
            Pick::Never
        } else if table.is_gone() {
            Pick::Gone
        } else {
            Pick::Nowhere(table.every)
        })
    }

    fn choose(&self, views: &[PathView], io: Io) -> Option<Pick<'_, N>> {
        let index = self.selector.choose(views, io, || self.clock.now())?;
        let path = self.path(views.get(index)?.id)?;
        let life = path.gate()?;
        Some(Pick::Path(path, life))
    }

    pub(crate) fn policy(&self) -> LoadBalancePolicy {
        self.selector.policy()
    }

    pub(crate) fn set_policy(&self, policy: LoadBalancePolicy) {
        if self.selector.set_policy(policy) {
            let now = self.clock.now();
            self.events
                .publish(now, EventKind::PolicyChanged { policy });
        }
    }

    /// What the policies are told of a path from now on; `false` when there is no such path.
    pub(crate) fn set_path_settings(&self, id: PathId, settings: PathSettings) -> bool {
        let table = self.table.load();
        let entry = table.get(id);
        if let Some(entry) = entry {
            entry.path.set_settings(settings);
        }
        entry.is_some()
    }

    /// What a command or a path check has learnt besides its own result.
    pub(crate) fn heard(&self, path: &Path<N>, note: Note) {
        let now = self.clock.now();
        match note {
            Note::Denied(state) if self.access.asymmetric() => {
                let change_due = self.access.tell(|watch| {
                    watch.denied(now, path.port(), state);
                    watch.change_due(now)
                });
                self.queueing.expect_at_least(change_due);
            }
            Note::Denied(_) => {}
            Note::SetFailed => self.access.tell(|watch| watch.ask(now)),
            Note::Attention(attention) => {
                if matches!(
                    attention,
                    Attention::AccessState | Attention::TransitionFailed
                ) {
                    self.access.tell(|watch| watch.ask(now));
                }
                if attention == Attention::PowerOn {
                    path.met_restart(now);
                }
                let path = path.id;
                if attention == Attention::PowerOn && self.cache.power_on() {
                    self.events.publish(now, EventKind::WritesAtRisk { path });
                }
                let kind = EventKind::Attention { path, attention };
                self.events.publish(now, kind);
            }
        }
    }

    /// I/O found no path: who could open a group of target ports shall.
    pub(crate) fn want_access(&self, now: Instant) {
        if !self.access.asymmetric() {
            return;
        }
        let patience = self.queueing.patience();
        let until = patience.map(|patience| patience.until(now));
        let until = until.or_else(|| now.checked_add(self.config.io_deadline));
        let change_due = self.access.tell(|watch| {
            watch.demand(now, until.unwrap_or(now));
            watch.change_due(now)
        });
        self.queueing.expect_at_least(change_due);
    }

    pub(crate) fn read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// A path turned out to be read-only; so is the unit from now on.
    pub(crate) fn set_read_only(&self, path: PathId) {
        if !self.read_only.swap(true, Ordering::Relaxed) {
            let now = self.clock.now();
            self.events.publish(now, EventKind::ReadOnly { path });
        }
    }

    /// Size in blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    pub(crate) fn set_blocks(&self, blocks: u64) {
        self.blocks.store(blocks, Ordering::Relaxed);
    }

    /// Changes a path's entry and puts a new table in place.
    pub(crate) fn update(&self, id: PathId, change: impl FnOnce(&mut Entry<N>)) {
        self.rebuild(|entries| {
            if let Some(entry) = entries.get_mut(usize::from(id.0)) {
                change(entry);
            }
        });
    }

    /// Adds a path; `None` when there are too many.
    pub(crate) fn add(&self, spec: PathSpec<N>) -> Option<PathId> {
        // One at a time: ids are handed out by the length of the table.
        let _alone = lock(&self.adding);
        let len = self.table.load().entries.len();
        let id = PathId(u8::try_from(len).ok().filter(|_| len < MAX_PATHS)?);
        let path = Arc::new(Path::new(id, spec));
        let now = self.clock.now();
        self.rebuild(|entries| {
            entries.push(Entry::new(Arc::clone(&path), PathState::Down, now));
        });
        self.events.publish(now, EventKind::PathAdded { path: id });
        Some(id)
    }

    pub(crate) fn rebuild(&self, change: impl FnOnce(&mut Vec<Entry<N>>)) {
        let now = self.clock.now();
        let switch = {
            let mut chooser = lock(&self.chooser);
            let mut entries = self.table.load().entries.clone();
            change(&mut entries);
            let switch = chooser.look(now, &candidates(&entries));
            let (block_bytes, limit) = (self.profile.block_bytes, unit_limit(&self.profile));
            let table = Table::new(entries, block_bytes, limit, chooser.priority());
            let table = Arc::new(table);
            self.table.store(Arc::clone(&table));
            self.sum_up(&table);
            switch
        };
        if let Some(switch) = switch {
            let kind = EventKind::GroupSwitched {
                from: switch.from,
                to: switch.to,
                reason: switch.reason,
            };
            self.events.publish(now, kind);
        }
        self.note_outage();
        self.changes.raise();
    }

    /// When I/O goes back to a better group, and the priority of the one in use.
    pub(crate) fn grouping(&self) -> (Failback, Option<u8>) {
        let chooser = lock(&self.chooser);
        (chooser.mode(), chooser.priority())
    }

    /// When the choice of a group is to be looked at again.
    pub(crate) fn failback_due(&self) -> Option<Instant> {
        lock(&self.chooser).due()
    }

    /// Changes how I/O goes back to a better group, then looks whether it does.
    pub(crate) fn regroup(&self, change: impl FnOnce(&mut Chooser)) {
        change(&mut lock(&self.chooser));
        self.rebuild(|_| {});
    }

    fn note_outage(&self) {
        let now = self.clock.now();
        let gone = self.table.load().is_gone();
        if gone && !self.gone.swap(gone, Ordering::Relaxed) {
            self.events.publish(now, EventKind::UnitGone);
        }
        if !gone {
            self.gone.store(false, Ordering::Relaxed);
        }
        let news = self.queueing.paths(now, self.table.load().paths());
        self.tell(now, news);
    }

    /// Makes an outage known, or its end.
    pub(crate) fn tell(&self, now: Instant, news: Option<News>) {
        let kind = match news {
            None => return,
            Some(News::Lost) => EventKind::NoPathLeft,
            Some(News::Back(after)) => EventKind::PathsBack { after },
            Some(News::GaveUp(after)) => EventKind::QueueingEnded { after },
        };
        self.events.publish(now, kind);
    }

    /// When a path that is down is looked at without any news of it.
    pub(crate) fn look_at_down_path(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.config.probe_interval.max(PAUSE_MIN))
    }

    /// Another answer to the question how long I/O waits without a path.
    pub(crate) fn set_no_path_retry(&self, policy: NoPathRetry) {
        self.queueing.set_policy(policy);
        self.changes.raise();
    }

    /// Waits for a change after version `seen`, or for `until`.
    pub(crate) async fn wait(&self, seen: u64, until: Instant) {
        race(self.changes.after(seen), self.clock.sleep_until(until)).await;
    }

    /// The deferred error that a path check met, once.
    pub(crate) fn deferred_error(&self) -> Result<(), IoError> {
        match lock(&self.deferred).take() {
            None => Ok(()),
            Some(sense) => Err(IoError {
                status: Some(scsi::Status::CHECK_CONDITION),
                sense,
                ..IoError::local(IoErrorKind::DeferredError)
            }),
        }
    }

    /// Waits until nothing is held; `false` when something will be for ever.
    pub(crate) async fn settled(&self) -> bool {
        loop {
            let seen = self.changes.version();
            match self.holds.outlook() {
                Standing::Free => return true,
                Standing::Hopeless => return false,
                Standing::Held => self.holds.urge(),
            }
            self.changes.after(seen).await;
        }
    }

    /// Counts an I/O as under way until the value returned is dropped.
    pub(crate) fn begin(&self) -> Result<Begun<'_, N, C>, IoError> {
        // Counted first: whoever closes afterwards sees it.
        self.ios.fetch_add(1, Ordering::SeqCst);
        let begun = Begun { unit: self };
        if self.closing() {
            return Err(IoError::local(IoErrorKind::Closed));
        }
        Ok(begun)
    }
}

impl<N, C> Unit<N, C> {
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Refuses new I/O; what waits ends.
    pub(crate) fn start_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.changes.raise();
        self.holds.urge();
    }

    /// The last handle is gone.
    pub(crate) fn forsake(&self) {
        self.forsaken.store(true, Ordering::SeqCst);
        self.start_closing();
    }

    /// Whether it is closed and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.closing() && self.ios.load(Ordering::SeqCst) == 0
    }

    /// Whether nothing is left to be done: closed, nothing under way, and nothing held that a
    /// fence could free.
    pub(crate) fn is_over(&self) -> bool {
        self.is_idle()
            && (self.forsaken.load(Ordering::SeqCst) || self.holds.outlook() != Standing::Held)
    }
}

fn candidates<N: Nexus>(entries: &[Entry<N>]) -> SmallVec<[Candidate; MAX_PATHS]> {
    entries.iter().map(Entry::candidate).collect()
}

/// Most bytes one command may move, by the unit's own limits.
fn unit_limit(profile: &Profile) -> u64 {
    // READ and WRITE (16) count blocks in 32 bits, iSCSI bytes too.
    let blocks = profile.max_transfer.unwrap_or(u32::MAX);
    let bytes = u64::from(blocks).saturating_mul(profile.block_bytes.into());
    bytes.min(u32::MAX.into())
}

/// An I/O under way.
#[derive(Debug)]
pub(crate) struct Begun<'a, N, C> {
    pub(crate) unit: &'a Unit<N, C>,
}

impl<N, C> Drop for Begun<'_, N, C> {
    fn drop(&mut self) {
        let before = self.unit.ios.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.unit.closing() {
            // It may have left a hold behind.
            self.unit.holds.urge();
            self.unit.changes.raise();
        }
    }
}
