//! Puts up fences: first by reinstating the old session, then as [`SecondFence`] says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scsi::alua::SettableState;
use scsi::reservation::ReservationType;
use scsi::{FenceError, Incarnation, Nexus, NexusState};

use crate::access;
use crate::clock::Clock;
use crate::event::EventKind;
use crate::fence::Job;
use crate::path::{Path, PathId, Report, Trouble};
use crate::reservation;
use crate::second_fence::{FenceFailure, FenceQuality, SecondFence};
use crate::signal::race;
use crate::stats::{count, micros};
use crate::supervisor::PAUSE_MIN;
use crate::unit::Unit;

/// Fences one path, whenever a write needs it.
pub(crate) async fn fence<N: Nexus, C: Clock>(unit: Arc<Unit<N, C>>, path: Arc<Path<N>>) {
    let mut announced = None;
    loop {
        let seen = unit.holds.work.version();
        let nexus = path.nexus.state();
        let alive = match nexus {
            NexusState::Up(life) => Some(life),
            NexusState::Down(_) | NexusState::Closed | _ => None,
        };
        let Some(job) = unit.holds.job(path.id, alive) else {
            race(unit.holds.work.after(seen), change(&path.nexus, nexus)).await;
            continue;
        };
        let (id, incarnation, writes) = (path.id, job.incarnation, job.writes);
        if announced != Some(incarnation) {
            announced = Some(incarnation);
            let start = EventKind::FenceStart {
                path: id,
                incarnation,
                writes,
            };
            unit.events.publish(unit.clock.now(), start);
        }
        match put_up(&unit, &path, job).await {
            Ok(()) => announced = None,
            Err(FenceFailure::NotReinstated(FenceError::Closed)) => {
                // Never will stand. What is held stays held, but nobody need wait for it.
                unit.holds.give_up(id);
                unit.changes.raise();
                return std::future::pending().await;
            }
            Err(failure) => {
                let now = unit.clock.now();
                let mut pause = unit.config.fence_pause;
                if let FenceFailure::TimerRuns { left } = failure {
                    pause = pause.min(left);
                }
                let again = now.checked_add(pause.max(PAUSE_MIN)).unwrap_or(now);
                unit.clock.sleep_until(again).await;
            }
        }
    }
}

/// Resolves when the nexus is no longer as seen. Never for a closed one: it stays closed, whatever
/// its `changed` says.
pub(crate) async fn change<N: Nexus>(nexus: &N, seen: NexusState) {
    match seen {
        NexusState::Closed => std::future::pending().await,
        NexusState::Up(_) | NexusState::Down(_) | _ => {
            nexus.changed(seen).await;
        }
    }
}

/// Tries once to put up a fence.
async fn put_up<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    job: Job,
) -> Result<(), FenceFailure> {
    let (id, incarnation) = (path.id, job.incarnation);
    let result = if job.settle {
        let budget = unit.config.fence_budget;
        let settled = path.nexus.settle(incarnation, budget).await;
        settled
            .map(|()| FenceQuality::SessionEnded)
            .map_err(FenceFailure::from)
    } else {
        both_levels(unit, path, job).await
    };
    let now = unit.clock.now();
    let held = now.saturating_duration_since(job.since);
    let (kind, result) = match result {
        Ok(quality) => {
            unit.holds.release(id, job);
            unit.changes.raise();
            count(&path.counters.fences);
            let total = &path.counters.fence_held_us;
            total.fetch_add(micros(held), Ordering::Relaxed);
            let end = EventKind::FenceEnd {
                path: id,
                incarnation,
                held,
                quality,
            };
            (end, Ok(()))
        }
        Err(error) => {
            let failed = EventKind::FenceFailed {
                path: id,
                incarnation,
                error: error.clone(),
                held,
            };
            (failed, Err(error))
        }
    };
    unit.events.publish(now, kind);
    result
}

/// Reinstates the session, or does what is configured for when that does not succeed; then lets
/// a target that answers too early settle.
async fn both_levels<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    job: Job,
) -> Result<FenceQuality, FenceFailure> {
    let second = unit.config.second_fence;
    let lost_for = unit.clock.now().saturating_duration_since(job.last);
    let budget = second.budget(unit.config.fence_budget, lost_for);
    let quality = match path.nexus.fence(job.incarnation, budget).await {
        Ok(()) => FenceQuality::SessionEnded,
        Err(first) => {
            let second = second_level(unit, path.id, job, first).await;
            second.map_err(|second| {
                // Neither level will ever stand.
                let hopeless = first == FenceError::Closed && second.is_final();
                if hopeless { first.into() } else { second }
            })?
        }
    };
    if quality != FenceQuality::Timed {
        pass(unit, unit.config.fence_settle).await;
    }
    Ok(quality)
}

async fn second_level<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    dead: PathId,
    job: Job,
    first: FenceError,
) -> Result<FenceQuality, FenceFailure> {
    match unit.config.second_fence {
        SecondFence::None => Err(first.into()),
        SecondFence::Timer(timer) => {
            let passed = unit.clock.now().saturating_duration_since(job.last);
            match timer.checked_sub(passed) {
                None | Some(Duration::ZERO) => Ok(FenceQuality::Timed),
                Some(left) => Err(FenceFailure::TimerRuns { left }),
            }
        }
        SecondFence::LuReset => {
            let (path, life, _) = other_path(unit, dead).ok_or(FenceFailure::NoOtherPath)?;
            let budget = unit.config.fence_budget;
            path.nexus.reset_logical_unit(life, budget).await?;
            Ok(FenceQuality::TasksEnded)
        }
        SecondFence::PrAbort => pr_abort(unit, dead).await,
        SecondFence::Stpg => {
            let (_, _, group) = other_path(unit, dead).ok_or(FenceFailure::NoOtherPath)?;
            let group = group.ok_or(FenceFailure::NoPortGroups)?;
            access::set(unit, group, SettableState::ActiveOptimized)
                .await
                .map(|()| FenceQuality::Drained)
                .map_err(|error| FenceFailure::Refused {
                    command: "SET TARGET PORT GROUPS",
                    problem: error.to_string(),
                })
        }
    }
}

/// Another path that carries I/O, with its life and its target port group.
fn other_path<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    dead: PathId,
) -> Option<(Arc<Path<N>>, Incarnation, Option<u16>)> {
    let table = unit.table.load();
    let mut usable = table.ranks.iter().flatten();
    usable.find_map(|&index| {
        let entry = table.entries.get(index)?;
        let life = entry.path.gate().filter(|_| entry.path.id != dead)?;
        let group = entry.access.map(|access| access.group);
        Some((Arc::clone(&entry.path), life, group))
    })
}

/// PREEMPT AND ABORT of our own key, which all paths share: what the dead path left behind is
/// aborted, and so is what the others have under way. They register again when they are looked at.
///
/// It reaches only registered nexuses: what a path without a registration left behind would live
/// on.
async fn pr_abort<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    dead: PathId,
) -> Result<FenceQuality, FenceFailure> {
    let refused = |problem: &dyn std::fmt::Display| FenceFailure::Refused {
        command: "PREEMPT AND ABORT",
        problem: problem.to_string(),
    };
    let key = unit.registered.key().ok_or(FenceFailure::NotRegistered)?;
    let table = unit.table.load_full();
    let dead = table.get(dead).ok_or(FenceFailure::NotRegistered)?;
    if !dead.path.is_registered() {
        return Err(FenceFailure::NotRegistered);
    }
    let held = reservation::reservation(unit).await;
    let held = held.map_err(|error| refused(&error))?.held;
    // Without a reservation the type means nothing.
    let kind = held.map_or(ReservationType::WriteExclusiveRegistrantsOnly, |it| it.kind);
    let done = reservation::preempt(unit, key, kind, true).await;
    for entry in &unit.table.load().entries {
        // Whoever comes up meanwhile registers after this, before it carries anything.
        entry.path.set_registered(false);
        if let Some(incarnation) = entry.path.gate() {
            let trouble = Trouble::Changed;
            entry.path.report(Report {
                incarnation,
                trouble,
            });
        }
    }
    done.map(|()| FenceQuality::TasksEnded)
        .map_err(|error| refused(&error))
}

async fn pass<N: Nexus, C: Clock>(unit: &Unit<N, C>, time: Duration) {
    if !time.is_zero() {
        let now = unit.clock.now();
        let until = now.checked_add(time).unwrap_or(now);
        unit.clock.sleep_until(until).await;
    }
}
