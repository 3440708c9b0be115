//! Carries one command through: chooses paths, sends, waits, as [`Attempt`] says.
//!
//! Everything happens in the caller's future. In steady state it allocates nothing.
//!
//! If the future is dropped while a write is under way, its range is held
//! ([`crate::fence`]): nobody knows what becomes of it.

#![expect(
    clippy::inline_always,
    reason = "counted: what passes between these is larger than what they do"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use scsi::{
    Blocks, Cdb, Command, Completion, DataPhase, Incarnation, Lba, LbaRange, MediaAccess, Nexus,
    Outcome, Residual, RwOptions, ScsiAnswer, Status, TaskAttribute,
};

use crate::classify::{Verdict, classify};
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
    #[inline(always)]
    fn command<N: Nexus, C: Clock>(
        &self,
        unit: &Unit<N, C>,
        data: DataPhase,
        life: Incarnation,
    ) -> Command {
        let (attribute, priority, timeout) = match self {
            Self::Raw {
                attribute,
                priority,
                timeout,
                ..
            } => (*attribute, *priority, *timeout),
            Self::Read(_) | Self::Write(_) | Self::Flush => {
                (TaskAttribute::Simple, 0, unit.config.command_timeout)
            }
        };
        Command {
            cdb: self.cdb(),
            data,
            attribute,
            priority,
            timeout,
            only_in: Some(life),
        }
    }

    #[inline(always)]
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
    #[inline(always)]
    fn alters(&self) -> Option<LbaRange> {
        match self {
            Self::Read(_) | Self::Flush => None,
            Self::Write(range) => Some(*range),
            Self::Raw { cdb, .. } => altered_range(cdb),
        }
    }

    /// The blocks that it reads or writes, as far as that matters for the choice of a path and
    /// for errors.
    pub(crate) fn blocks(&self) -> Option<LbaRange> {
        match self {
            Self::Read(range) | Self::Write(range) => Some(*range),
            Self::Flush | Self::Raw { .. } => None,
        }
    }

    /// Bytes that a good answer has moved, of this many; `None`: any number.
    fn expected(&self, bytes: u64) -> Option<usize> {
        let all = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.blocks().map(|_| all)
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
pub(crate) type Ended = (Result<ScsiAnswer, IoError>, DataPhase);

/// A path for a command, and the life of it that may carry it.
pub(crate) type Place<'a, N> = (&'a Path<N>, Incarnation);

/// The rest of an I/O that did not end well at once.
pub(crate) type Rest<'a> = Pin<Box<dyn Future<Output = Ended> + Send + 'a>>;

/// Carries `request` through to its end. The data come back in any case.
///
/// An I/O that finds a path and ends well passes through this function alone (or its like in
/// [`crate::logical_unit`], for reads and writes): it reads no clock and allocates nothing.
/// Whatever else may happen to it is [`carry`]'s business.
pub(crate) async fn run<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: Request,
    data: DataPhase,
) -> Ended {
    let bytes = bytes_of(&data);
    let Some((path, life)) = first_path(unit, &request, bytes) else {
        return carry_on(unit, request, data).await;
    };
    let is_read = matches!(data, DataPhase::Read(_));
    let underway = Underway::begin(unit, request, (path, life), (bytes, is_read));
    let command = underway.command(data);
    let completion = underway.nexus().execute(command).await;
    let ended = underway.finish(completion, |completion| {
        let answer = match completion.outcome {
            Outcome::Answered(answer) => Ok(answer),
            // Not reached: only an answer is whole.
            Outcome::Failed(error) => Err(IoError::local(IoErrorKind::Transport(error.kind))),
        };
        (answer, completion.data)
    });
    match ended {
        Ok(ended) => ended,
        Err(rest) => rest.await,
    }
}

/// Carries what found no path at once.
#[cold]
pub(crate) fn carry_on<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: Request,
    data: DataPhase,
) -> Rest<'_> {
    let now = unit.clock.now();
    let attempt = new_attempt(unit, &request, bytes_of(&data), now);
    Box::pin(carry(unit, request, attempt, None, data, now))
}

/// Carries what did not go well at once.
#[cold]
fn carry_further<'a, N: Nexus, C: Clock>(
    underway: Underway<'a, N, C>,
    completion: Completion,
) -> Rest<'a> {
    let Underway {
        unit, path, bytes, ..
    } = underway;
    let now = unit.clock.now();
    // What cannot be expressed was just now.
    let begun = now.checked_sub(completion.took).unwrap_or(now);
    let request = underway.request.as_ref().unwrap_or(&Request::Flush);
    let mut attempt = new_attempt(unit, request, bytes, begun);
    attempt.sending(path.id);
    let (request, hold, data) = underway.ended(&mut attempt, completion, now);
    Box::pin(carry(unit, request, attempt, hold, data, now))
}

fn new_attempt<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: &Request,
    bytes: u64,
    begun: Instant,
) -> Attempt {
    Attempt::new(
        request.replay(),
        request.expected(bytes),
        begun,
        &unit.config,
    )
    .asymmetric(unit.access.asymmetric())
}

/// The path for a first attempt, if there is one and nothing is in the way.
#[inline(always)]
pub(crate) fn first_path<'a, N: Nexus, C: Clock>(
    unit: &'a Unit<N, C>,
    request: &Request,
    bytes: u64,
) -> Option<Place<'a, N>> {
    let alters = request.alters();
    if alters.is_some_and(|range| unit.holds.in_the_way(range) != Standing::Free) {
        return None;
    }
    unit.first_pick(|| request.io(bytes))
}

pub(crate) fn bytes_of(data: &DataPhase) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// Goes on with an I/O as [`Attempt`] says.
async fn carry<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    mut request: Request,
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
                        let kind = (bytes_of(&data), matches!(data, DataPhase::Read(_)));
                        let underway = Underway::begin(unit, request, (path, life), kind);
                        let command = underway.command(data);
                        let completion = path.nexus.execute(command).await;
                        now = unit.clock.now();
                        (request, hold, data) = underway.ended(&mut attempt, completion, now);
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
pub(crate) struct Underway<'a, N: Nexus, C: Clock> {
    unit: &'a Unit<N, C>,
    path: &'a Path<N>,
    life: Incarnation,
    bytes: u64,
    /// The data are a read's.
    is_read: bool,
    /// `None`: it has ended.
    request: Option<Request>,
}

impl<'a, N: Nexus, C: Clock> Underway<'a, N, C> {
    /// Counts a command with so many bytes, of a read or not, as under way on `path`.
    #[inline(always)]
    pub(crate) fn begin(
        unit: &'a Unit<N, C>,
        request: Request,
        (path, life): Place<'a, N>,
        (bytes, is_read): (u64, bool),
    ) -> Self {
        path.enter(bytes);
        Self {
            unit,
            path,
            life,
            bytes,
            is_read,
            request: Some(request),
        }
    }

    /// The command, with its data.
    #[inline(always)]
    pub(crate) fn command(&self, data: DataPhase) -> Command {
        // It has not ended, so there is a request.
        let request = self.request.as_ref().unwrap_or(&Request::Flush);
        request.command(self.unit, data, self.life)
    }

    /// Where it is to be executed.
    pub(crate) const fn nexus(&self) -> &'a N {
        &self.path.nexus
    }

    /// What came of the first attempt: what `keep` keeps of the completion, if all went well; else
    /// the future of the rest.
    #[inline(always)]
    pub(crate) fn finish<T>(
        mut self,
        completion: Completion,
        keep: impl FnOnce(Completion) -> T,
    ) -> Result<T, Rest<'a>> {
        if self.is_whole(&completion.outcome) {
            self.good(completion.took);
            self.request = None;
            Ok(keep(completion))
        } else {
            Err(carry_further(self, completion))
        }
    }

    /// Whether it ended as it should, so that no rule has to be asked what to do.
    #[inline(always)]
    fn is_whole(&self, outcome: &Outcome) -> bool {
        let Outcome::Answered(answer) = outcome else {
            return false;
        };
        answer.status == Status::GOOD
            && self.expected().is_none_or(|bytes| {
                answer.transferred >= bytes && !matches!(answer.residual, Residual::Overflow(_))
            })
    }

    /// See [`Request::expected`].
    fn expected(&self) -> Option<usize> {
        self.request.as_ref()?.expected(self.bytes)
    }

    /// Blocks it may change, while it has not ended.
    fn alters(&self) -> Option<LbaRange> {
        self.request.as_ref()?.alters()
    }

    /// It has ended with status GOOD.
    #[inline(always)]
    fn good(&self, took: Duration) {
        let counters = &self.path.counters;
        counters.ended(self.is_read, took);
        counters.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        if self.alters().is_some() {
            let clock = &self.unit.clock;
            self.unit.cache.wrote(|| {
                let now = clock.now();
                now.checked_sub(took).unwrap_or(now)
            });
        }
        let selector = &self.unit.selector;
        if selector.learns()
            && self
                .request
                .as_ref()
                .is_some_and(|it| it.blocks().is_some())
        {
            let now = self.unit.clock.now();
            let started = now.checked_sub(took).unwrap_or(now);
            selector.learn(&self.path.history, started, now);
        }
    }

    /// It has ended somehow. Returns the request, the hold on its range if it got lost, and the
    /// data.
    fn ended(
        mut self,
        attempt: &mut Attempt,
        completion: Completion,
        now: Instant,
    ) -> (Request, Option<HoldId>, DataPhase) {
        let Completion {
            outcome,
            data,
            incarnation,
            took,
        } = completion;
        self.tally(&outcome, took);
        let range = self.alters();
        // It is there until this moment; a flush alters nothing.
        let request = self.request.take().unwrap_or(Request::Flush);
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
        (request, hold, data)
    }

    fn tally(&self, outcome: &Outcome, took: Duration) {
        let counters = &self.path.counters;
        match outcome {
            // CONDITION MET and RECOVERED ERROR acknowledge no less than GOOD does.
            Outcome::Answered(_) if classify(outcome).verdict(false) == Verdict::Good => {
                return self.good(took);
            }
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
        if let Some(range) = self.alters() {
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
