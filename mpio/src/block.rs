//! Carries one command through: chooses paths, sends, waits, as [`Attempt`] says.
//!
//! Everything happens in the caller's future. In steady state it allocates nothing.
//!
//! If the future is dropped while a write is under way, its range is held
//! ([`crate::fence`]): nobody knows what becomes of it.

use std::time::{Duration, Instant};

use scsi::{
    Cdb, Command, DataPhase, Incarnation, Lba, LbaRange, MediaAccess, Nexus, Outcome, ScsiAnswer,
    TaskAttribute,
};

use crate::clock::Clock;
use crate::error::IoError;
use crate::fence::{Cause, HoldId, Standing};
use crate::path::{Path, PathId, Report};
use crate::retry::{Attempt, Replay, Step};
use crate::select::Io;
use crate::stats::count;
use crate::unit::{Pick, Unit};

/// A command, as multipath sees it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) cdb: Cdb,
    pub(crate) attribute: TaskAttribute,
    /// Command priority, 0 for none.
    pub(crate) priority: u8,
    pub(crate) timeout: Duration,
    pub(crate) replay: Replay,
    /// Blocks it may change.
    pub(crate) alters: Option<LbaRange>,
    /// Bytes a good answer has moved; `None`: any number.
    pub(crate) expected: Option<usize>,
    /// For errors.
    pub(crate) lba: Option<u64>,
}

/// Blocks a raw command may change.
pub(crate) fn altered_range(cdb: &Cdb) -> Option<LbaRange> {
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

/// Carries `request` through to its end. The data come back in any case.
pub(crate) async fn run<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    request: &Request,
    mut data: DataPhase,
) -> (Result<ScsiAnswer, IoError>, DataPhase) {
    // Read again only after something was waited for: two readings per I/O when all is well.
    let mut now = unit.clock.now();
    let mut attempt = Attempt::new(request.replay, request.expected, now, &unit.config)
        .asymmetric(unit.access.asymmetric());
    let mut hold = None;
    loop {
        // Read before looking at anything, so that no change is missed.
        let seen = unit.changes.version();
        match attempt.step() {
            Step::Done => break,
            Step::Send { stay, avoid } => {
                let held = request.alters.map(|range| unit.holds.in_the_way(range));
                if let Some(standing @ (Standing::Held | Standing::Hopeless)) = held {
                    let hopeless = standing == Standing::Hopeless;
                    attempt.range_held(now, hopeless, unit.queueing.patience());
                    continue;
                }
                match unit.pick(stay, avoid, io_of(unit, request, &data), now) {
                    Pick::Path(path, life) => {
                        note_path(unit, &attempt, path.id);
                        attempt.sending(path.id);
                        let sending = Sending {
                            unit,
                            request,
                            path: &path,
                            life,
                        };
                        (hold, data) = sending.run(&mut attempt, data, &mut now).await;
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
    (end(unit, request, attempt), data)
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

/// A command about to be sent.
struct Sending<'a, N: Nexus, C: Clock> {
    unit: &'a Unit<N, C>,
    request: &'a Request,
    path: &'a Path<N>,
    life: Incarnation,
}

impl<N: Nexus, C: Clock> Sending<'_, N, C> {
    /// Sends it once. Returns the hold on its range, if it got lost, and the data. `now` is the
    /// time before and, on return, after.
    async fn run(
        &self,
        attempt: &mut Attempt,
        data: DataPhase,
        now: &mut Instant,
    ) -> (Option<HoldId>, DataPhase) {
        let Self {
            unit,
            request,
            path,
            life,
        } = *self;
        let started = *now;
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let is_read = matches!(data, DataPhase::Read(_));
        let in_flight = path.enter(bytes);
        let mut underway = Underway {
            unit,
            path: path.id,
            life,
            range: request.alters,
        };
        let command = Command {
            cdb: request.cdb.clone(),
            data,
            attribute: request.attribute,
            priority: request.priority,
            timeout: request.timeout,
            only_in: Some(life),
        };
        let completion = path.nexus.execute(command).await;
        *now = unit.clock.now();
        drop(in_flight);
        tally(path, &completion.outcome, is_read, bytes);
        path.counters
            .latency(now.saturating_duration_since(started));
        if request.lba.is_some() && is_good(&completion.outcome) && unit.selector.learns() {
            unit.selector.learn(&path.history, started, *now);
        }
        let range = underway.range.take();
        let carried_in = completion.incarnation;
        let (of_trouble, of_hold) = self.lives(&completion.outcome, carried_in);
        let aftermath = attempt.completed(*now, path.id, completion.outcome);
        // The range before the report: once the path is known to be bad, no write slips in.
        let hold = range.filter(|_| aftermath.hold).map(|range| {
            let holds = &unit.holds;
            holds.hold(range, path.id, of_hold, Cause::Lost, *now)
        });
        if let Some(note) = aftermath.note {
            unit.heard(path, note);
        }
        if let Some(trouble) = aftermath.trouble {
            path.report(Report {
                incarnation: of_trouble,
                trouble,
            });
        }
        (hold, completion.data)
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

/// A write being carried; dropped while it is, its range is held.
struct Underway<'a, N: Nexus, C: Clock> {
    unit: &'a Unit<N, C>,
    path: PathId,
    life: Incarnation,
    range: Option<LbaRange>,
}

impl<N: Nexus, C: Clock> Drop for Underway<'_, N, C> {
    fn drop(&mut self) {
        if let Some(range) = self.range.take() {
            let now = self.unit.clock.now();
            let holds = &self.unit.holds;
            holds.hold(range, self.path, self.life, Cause::Dropped, now);
        }
    }
}

/// What the choice of a path depends on.
fn io_of<N: Nexus, C: Clock>(unit: &Unit<N, C>, request: &Request, data: &DataPhase) -> Io {
    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
    let blocks = bytes
        .checked_div(unit.profile.block_bytes.into())
        .unwrap_or(0);
    Io {
        blocks: request.lba.map(|lba| (lba, blocks)),
        bytes,
    }
}

fn is_good(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(answer) if answer.status == scsi::Status::GOOD)
}

fn tally<N>(path: &Path<N>, outcome: &Outcome, is_read: bool, bytes: u64) {
    let counters = &path.counters;
    count(&counters.ios);
    count(if is_read {
        &counters.reads
    } else {
        &counters.writes
    });
    match outcome {
        Outcome::Answered(answer) if answer.status == scsi::Status::GOOD => {
            counters
                .bytes
                .fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        }
        Outcome::Answered(_) => count(&counters.device_errors),
        Outcome::Failed(_) => count(&counters.transport_errors),
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
        error.lba = request.lba;
        let table = unit.table.load();
        let entry = error.path.and_then(|path| table.get(path));
        error.label = entry.map(|entry| std::sync::Arc::clone(&entry.path.label));
        error
    })
}
