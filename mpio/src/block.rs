//! Carries one command through: chooses paths, sends, waits, as [`Attempt`] says.
//!
//! Everything happens in the caller's future. In steady state it allocates nothing.
//!
//! If the future is dropped while a write is under way, its range is held
//! ([`crate::fence`]): nobody knows what becomes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use scsi::{
    Blocks, Cdb, Command, Completion, DataPhase, Incarnation, Lba, LbaRange, MediaAccess, Nexus,
    Outcome, Residual, RwOptions, ScsiAnswer, Status, TaskAttribute,
};

use crate::clock::Clock;
use crate::error::{IoError, IoErrorKind};
use crate::fence::{Cause, HoldId, Standing};
use crate::path::{Path, PathId, Report};
use crate::retry::{Attempt, Replay, Step};
use crate::select::Io;
use crate::stats::{ErrorClass, count};
use crate::unit::{Pick, Unit};

/// A command, as multipath sees it. Small, because it lives in the future of every I/O.
#[derive(Debug)]
pub(crate) enum Request {
    /// READ.
    Read(LbaRange),
    /// WRITE.
    Write(LbaRange),
    /// SYNCHRONIZE CACHE of the whole unit.
    Flush,
    /// Somebody else's.
    Raw {
        cdb: Cdb,
        attribute: TaskAttribute,
        /// Command priority, 0 for none.
        priority: u8,
        timeout: Duration,
    },
}

impl Request {
    /// The command, to be carried in this life of a nexus.
    fn command<N: Nexus, C: Clock>(
        &self,
        unit: &Unit<N, C>,
        data: DataPhase,
        life: Incarnation,
    ) -> Command {
        let (cdb, attribute, priority, timeout) = match self {
            Self::Raw {
                cdb,
                attribute,
                priority,
                timeout,
            } => (cdb.clone(), *attribute, *priority, *timeout),
            known @ (Self::Read(_) | Self::Write(_) | Self::Flush) => (
                known.cdb(),
                TaskAttribute::Simple,
                0,
                unit.config.command_timeout,
            ),
        };
        Command {
            cdb,
            data,
            attribute,
            priority,
            timeout,
            only_in: Some(life),
        }
    }

    fn cdb(&self) -> Cdb {
        let options = RwOptions::default();
        // Read and Write always say how many, and that fits 32 bits.
        let blocks = |range: &LbaRange| {
            let blocks = range.blocks.unwrap_or(0);
            Blocks(u32::try_from(blocks).unwrap_or(u32::MAX))
        };
        match self {
            Self::Read(range) => Cdb::read(range.first, blocks(range), options),
            Self::Write(range) => Cdb::write(range.first, blocks(range), options),
            Self::Flush => Cdb::synchronize_cache(),
            Self::Raw { cdb, .. } => cdb.clone(),
        }
    }

    fn replay(&self) -> Replay {
        match self {
            Self::Read(_) | Self::Flush => Replay::Free,
            Self::Write(_) => Replay::AfterFence,
            Self::Raw { .. } => Replay::Never {
                alters: self.alters().is_some(),
            },
        }
    }

    /// Blocks it may change.
    fn alters(&self) -> Option<LbaRange> {
        match self {
            Self::Read(_) | Self::Flush => None,
            Self::Write(range) => Some(*range),
            Self::Raw { cdb, .. } => altered_range(cdb),
        }
    }

    /// The blocks that it reads or writes, as far as that matters for the choice of a path and
    /// for errors.
    fn blocks(&self) -> Option<LbaRange> {
        match self {
            Self::Read(range) | Self::Write(range) => Some(*range),
            Self::Flush | Self::Raw { .. } => None,
        }
    }

    /// Bytes that a good answer has moved; `None`: any number.
    fn expected(&self, data: &DataPhase) -> Option<usize> {
        self.blocks().map(|_| data.len())
    }

    /// What the choice of a path depends on.
    fn io(&self, bytes: u64) -> Io {
        let blocks = self.blocks();
        Io {
            blocks: blocks.map(|range| (range.first.0, range.blocks.unwrap_or(0))),
            bytes,
        }
    }
}

/// Blocks a raw command may change.
fn altered_range(cdb: &Cdb) -> Option<LbaRange> {
    match cdb.media_access() {
        MediaAccess::None | MediaAccess::Read(_) | MediaAccess::Flush(_) => None,
        MediaAccess::Write(range) => Some(range),
        // What is not known counts as the worst.
        MediaAccess::WriteAnywhere | MediaAccess::Unknown | _ => Some(LbaRange {
            first: Lba(0),
            blocks: None,
        }),
    }
}

/// What comes of an I/O.
type Ended = (Result<ScsiAnswer, IoError>, DataPhase);

/// Carries `request` through to its end. The data come back in any case.
///
/// An I/O that finds a path and ends well passes through this function alone: it reads no clock
/// and allocates nothing. Whatever else may happen to it is [`carry`]'s business.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice, and what is kept is moved for every I/O"
)]
pub(crate) fn run<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: Request,
    data: DataPhase,
) -> impl Future<Output = Ended> + Send {
    async move {
        let Some((path, life)) = first_path(unit, &request, &data) else {
            return carry_on(unit, request, data).await;
        };
        let expected = request.expected(&data);
        let underway = Underway::begin(unit, &request, path, life, &data);
        let command = request.command(unit, data, life);
        match path.nexus.execute(command).await {
            Completion {
                outcome: Outcome::Answered(answer),
                data,
                took,
                ..
            } if is_whole(&answer, expected) => {
                underway.answered_well(took);
                (Ok(answer), data)
            }
            other => carry_further(request, expected, underway, other).await,
        }
    }
}

/// Carries what found no path at once.
fn carry_on<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: Request,
    data: DataPhase,
) -> Pin<Box<dyn Future<Output = Ended> + Send + '_>> {
    let now = unit.clock.now();
    let attempt = new_attempt(unit, &request, request.expected(&data), now);
    Box::pin(carry(unit, request, attempt, None, data, now))
}

/// Carries what did not go well at once.
fn carry_further<'a, N: Nexus, C: Clock>(
    request: Request,
    expected: Option<usize>,
    underway: Underway<'a, N, C>,
    completion: Completion,
) -> Pin<Box<dyn Future<Output = Ended> + Send + 'a>> {
    let Underway { unit, path, .. } = underway;
    let now = unit.clock.now();
    // What cannot be expressed was just now.
    let begun = now.checked_sub(completion.took).unwrap_or(now);
    let mut attempt = new_attempt(unit, &request, expected, begun);
    attempt.sending(path.id);
    let (hold, data) = underway.ended(&mut attempt, completion, now);
    Box::pin(carry(unit, request, attempt, hold, data, now))
}

fn new_attempt<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: &Request,
    expected: Option<usize>,
    begun: Instant,
) -> Attempt {
    Attempt::new(request.replay(), expected, begun, &unit.config)
        .asymmetric(unit.access.asymmetric())
}

/// The path for a first attempt, if there is one and nothing is in the way.
fn first_path<'a, N: Nexus, C: Clock>(
    unit: &'a Unit<N, C>,
    request: &Request,
    data: &DataPhase,
) -> Option<(&'a Path<N>, Incarnation)> {
    let alters = request.alters();
    if alters.is_some_and(|range| unit.holds.in_the_way(range) != Standing::Free) {
        return None;
    }
    unit.first_pick(|| request.io(bytes_of(data)))
}

fn bytes_of(data: &DataPhase) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// Whether a command ended as it should, so that no rule has to be asked what to do.
fn is_whole(answer: &ScsiAnswer, expected: Option<usize>) -> bool {
    answer.status == Status::GOOD
        && expected.is_none_or(|bytes| {
            answer.transferred >= bytes && !matches!(answer.residual, Residual::Overflow(_))
        })
}

/// Goes on with an I/O as [`Attempt`] says.
async fn carry<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: Request,
    mut attempt: Attempt,
    mut hold: Option<HoldId>,
    mut data: DataPhase,
    mut now: Instant,
) -> Ended {
    loop {
        // Read before looking at anything, so that no change is missed.
        let seen = unit.changes.version();
        match attempt.step() {
            Step::Done => break,
            Step::Send { stay, avoid } => {
                let held = request.alters().map(|range| unit.holds.in_the_way(range));
                if let Some(standing @ (Standing::Held | Standing::Hopeless)) = held {
                    let hopeless = standing == Standing::Hopeless;
                    attempt.range_held(now, hopeless, unit.queueing.patience());
                    continue;
                }
                match unit.pick(stay, avoid, request.io(bytes_of(&data))) {
                    Pick::Path(path, life) => {
                        note_path(unit, &attempt, path.id);
                        attempt.sending(path.id);
                        let underway = Underway::begin(unit, &request, path, life, &data);
                        let command = request.command(unit, data, life);
                        let completion = path.nexus.execute(command).await;
                        now = unit.clock.now();
                        (hold, data) = underway.ended(&mut attempt, completion, now);
                    }
                    Pick::OnlyAvoided => attempt.exhausted(now),
                    Pick::Nowhere(every) => {
                        unit.want_access(now);
                        attempt.no_path(now, every, unit.queueing.patience());
                    }
                    Pick::Gone => attempt.unit_gone(),
                    Pick::Never => attempt.no_path_ever(),
                }
            }
            Step::AwaitFence(until) => {
                match hold.map_or(Standing::Free, |hold| unit.holds.standing(hold)) {
                    Standing::Free => attempt.fenced(now),
                    Standing::Hopeless => attempt.not_fenceable(),
                    // Without any path for too long, as for every other I/O.
                    Standing::Held => match unit.queueing.patience() {
                        Some(patience) if patience.is_over(now) => attempt.not_fenceable(),
                        Some(patience) => {
                            now = wait(unit, &mut attempt, seen, patience.until(now), now).await;
                        }
                        None => now = wait(unit, &mut attempt, seen, until, now).await,
                    },
                }
            }
            Step::Sleep(until) | Step::AwaitChange(until) => {
                now = wait(unit, &mut attempt, seen, until, now).await;
            }
        }
    }
    (end(unit, &request, attempt), data)
}

/// Waits from `before` for a change or for `until`; returns what time it is then.
async fn wait<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    attempt: &mut Attempt,
    seen: u64,
    until: Instant,
    before: Instant,
) -> Instant {
    let outage = unit.queueing.patience().is_some();
    if unit.closing() {
        attempt.closed();
    } else {
        unit.wait(seen, until).await;
    }
    let now = unit.clock.now();
    if outage {
        attempt.postpone(now.saturating_duration_since(before));
    }
    attempt.woken(now);
    now
}

/// A command on its way. Dropped before it has ended, a write leaves a hold on its range.
struct Underway<'a, N: Nexus, C: Clock> {
    unit: &'a Unit<N, C>,
    path: &'a Path<N>,
    life: Incarnation,
    bytes: u64,
    is_read: bool,
    /// It reads or writes blocks.
    is_data: bool,
    range: Option<LbaRange>,
}

impl<'a, N: Nexus, C: Clock> Underway<'a, N, C> {
    #[inline]
    fn begin(
        unit: &'a Unit<N, C>,
        request: &Request,
        path: &'a Path<N>,
        life: Incarnation,
        data: &DataPhase,
    ) -> Self {
        let bytes = bytes_of(data);
        path.enter(bytes);
        Self {
            unit,
            path,
            life,
            bytes,
            is_read: matches!(data, DataPhase::Read(_)),
            is_data: request.blocks().is_some(),
            range: request.alters(),
        }
    }

    /// It has ended with status GOOD.
    fn answered_well(mut self, took: Duration) {
        self.good(took);
        self.range = None;
    }

    fn good(&self, took: Duration) {
        let counters = &self.path.counters;
        counters.ended(self.is_read, took);
        counters.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        if self.range.is_some() {
            let clock = &self.unit.clock;
            self.unit.cache.wrote(|| {
                let now = clock.now();
                now.checked_sub(took).unwrap_or(now)
            });
        }
        let selector = &self.unit.selector;
        if self.is_data && selector.learns() {
            let now = self.unit.clock.now();
            let started = now.checked_sub(took).unwrap_or(now);
            selector.learn(&self.path.history, started, now);
        }
    }

    /// It has ended somehow. Returns the hold on its range, if it got lost, and the data.
    fn ended(
        mut self,
        attempt: &mut Attempt,
        completion: Completion,
        now: Instant,
    ) -> (Option<HoldId>, DataPhase) {
        let Completion {
            outcome,
            data,
            incarnation,
            took,
        } = completion;
        self.tally(&outcome, took);
        let range = self.range.take();
        let (of_trouble, of_hold) = self.lives(&outcome, incarnation);
        let aftermath = attempt.completed(now, self.path.id, outcome);
        // The range before the report: once the path is known to be bad, no write slips in.
        let hold = range.filter(|_| aftermath.hold).map(|range| {
            let holds = &self.unit.holds;
            holds.hold(range, self.path.id, of_hold, Cause::Lost, now)
        });
        if let Some(note) = aftermath.note {
            self.unit.heard(self.path, note);
        }
        if let Some(trouble) = aftermath.trouble {
            self.path.report(Report {
                incarnation: of_trouble,
                trouble,
            });
        }
        (hold, data)
    }

    fn tally(&self, outcome: &Outcome, took: Duration) {
        let counters = &self.path.counters;
        match outcome {
            Outcome::Answered(answer) if answer.status == Status::GOOD => return self.good(took),
            Outcome::Answered(_) => count(&counters.device_errors),
            Outcome::Failed(_) => count(&counters.transport_errors),
        }
        if let Some(class) = ErrorClass::of(outcome) {
            counters.error(class);
        }
        counters.ended(self.is_read, took);
    }

    /// The lives of the nexus that trouble and a hold are to be ascribed to. An unanswered
    /// command speaks for the life it was meant for; if a nexus that ignores `only_in` sent it in
    /// a later one, it needs that one's fence.
    fn lives(&self, outcome: &Outcome, carried_in: Incarnation) -> (Incarnation, Incarnation) {
        match outcome {
            Outcome::Answered(_) => (carried_in, carried_in),
            Outcome::Failed(_) => (self.life, self.life.max(carried_in)),
        }
    }
}

impl<N: Nexus, C: Clock> Drop for Underway<'_, N, C> {
    fn drop(&mut self) {
        self.path.leave(self.bytes);
        if let Some(range) = self.range.take() {
            let now = self.unit.clock.now();
            let holds = &self.unit.holds;
            holds.hold(range, self.path.id, self.life, Cause::Dropped, now);
        }
    }
}

/// Counts retries and failovers.
fn note_path<N: Nexus, C: Clock>(unit: &Unit<N, C>, attempt: &Attempt, next: PathId) {
    let Some(last) = attempt.last_path() else {
        return;
    };
    let table = unit.table.load();
    if let Some(entry) = table.get(last) {
        let counters = &entry.path.counters;
        count(if last == next {
            &counters.retries
        } else {
            &counters.failovers
        });
    }
}

fn end<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: &Request,
    attempt: Attempt,
) -> Result<ScsiAnswer, IoError> {
    attempt.finish().map_err(|mut error| {
        error.lba = request.blocks().map(|range| range.first.0);
        let table = unit.table.load();
        let entry = error.path.and_then(|path| table.get(path));
        error.label = match entry {
            Some(entry) => Some(Arc::clone(&entry.path.label)),
            // It never had a path: these are those there are.
            None if error.kind == IoErrorKind::NoPath => {
                let labels = table.entries.iter().map(|entry| &*entry.path.label);
                Some(labels.collect::<Vec<_>>().join(", ").into())
            }
            None => None,
        };
        error
    })
}
