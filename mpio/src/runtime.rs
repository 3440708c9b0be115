//! The work behind a logical unit: [`Maintenance`].
//!
//! Two futures per path, both driven by whoever runs `Maintenance`: one keeps the path
//! ([`crate::supervisor`]), the other fences it when a write got lost on it ([`crate::fencer`]).
//! They need a [`Clock`] and a nexus, and no particular runtime.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use scsi::{Incarnation, Nexus, NexusState};

use crate::access;
use crate::clock::Clock;
use crate::error::ProbeError;
use crate::event::EventKind;
use crate::fencer::{change, fence};
use crate::identity::{Difference, Profile};
use crate::path::{Path, PathId, PathState};
use crate::probe::Probe;
use crate::reservation::{self, Standing};
use crate::signal::race;
use crate::size;
use crate::supervisor::{Action, Supervisor, Verified};
use crate::unit::Unit;

/// The upkeep of a logical unit: path checks, verification of paths that return, fences.
///
/// It must be run (spawned) for as long as the unit is used, or no lost path comes back and no
/// uncertain write is ever settled. It ends after [`crate::LogicalUnit::close`] once nothing is
/// held that a fence could free, or when every clone of the unit is gone.
#[must_use = "a logical unit without its maintenance never gets a path back"]
pub struct Maintenance {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Maintenance {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.work.as_mut().poll(cx)
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance").finish_non_exhaustive()
    }
}

impl Maintenance {
    /// The upkeep of `unit`, whose first paths were verified in these incarnations.
    pub(crate) fn new<N: Nexus, C: Clock>(
        unit: Arc<Unit<N, C>>,
        verified: Vec<Option<Incarnation>>,
    ) -> Self {
        Self {
            work: Box::pin(maintain(unit, verified)),
        }
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn maintain<N: Nexus, C: Clock>(unit: Arc<Unit<N, C>>, verified: Vec<Option<Incarnation>>) {
    let mut keepers: Vec<Work> = vec![
        Box::pin(access::keep(Arc::clone(&unit))),
        Box::pin(go_back(Arc::clone(&unit))),
        Box::pin(lose_patience(Arc::clone(&unit))),
    ];
    let mut kept = 0;
    loop {
        let seen = unit.changes.version();
        if unit.is_over() {
            return;
        }
        let table = unit.table.load_full();
        for entry in table.entries.iter().skip(kept) {
            let incarnation = verified.get(kept).copied().flatten();
            let path = &entry.path;
            keepers.push(Box::pin(keep(
                Arc::clone(&unit),
                Arc::clone(path),
                incarnation,
            )));
            keepers.push(Box::pin(fence(Arc::clone(&unit), Arc::clone(path))));
            kept += 1;
        }
        drop(table);
        race(poll_all(&mut keepers), unit.changes.after(seen)).await;
    }
}

/// Polls everything, for ever.
async fn poll_all(work: &mut [Work]) {
    poll_fn(|cx| {
        for it in &mut *work {
            // Keepers never end; their unit does.
            let _: Poll<()> = it.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// Keeps one path.
async fn keep<N: Nexus, C: Clock>(
    unit: Arc<Unit<N, C>>,
    path: Arc<Path<N>>,
    verified: Option<Incarnation>,
) {
    let now = unit.clock.now();
    let nexus = path.nexus.state();
    let mut supervisor = match verified {
        Some(life) => Supervisor::verified_at(now, nexus, life, &unit.config),
        None => Supervisor::new(now, nexus, &unit.config),
    };
    let mut finding = Finding::default();
    loop {
        let seen = path.attention.version();
        let now = unit.clock.now();
        let nexus = path.nexus.state();
        supervisor.nexus(now, nexus);
        if let Some(report) = path.take_report() {
            supervisor.report(now, report);
        }
        supervisor.tick(now);
        publish(&unit, &path, &supervisor, &mut finding, now);
        match supervisor.poll(now) {
            Action::Verify(life) => {
                let what = verify(&unit, &path, life, &mut finding).await;
                if what == Verified::Unclear {
                    // Whatever was told on the way: it is looked at again, after a pause that a
                    // unit which reports changes without end would never get.
                    let _ = path.take_report();
                }
                supervisor.verified(unit.clock.now(), life, what);
            }
            Action::Check(life) => {
                let probe = Probe::of(&unit, &path, life);
                let what = probe.check(&unit, &path).await;
                probe.pass_on(&unit, &path);
                supervisor.probed(unit.clock.now(), life, what);
            }
            Action::Probe(life) => {
                let probe = Probe::of(&unit, &path, life);
                let what = probe.test_unit_ready().await;
                probe.pass_on(&unit, &path);
                supervisor.probed(unit.clock.now(), life, what);
            }
            Action::Sample(life) => {
                let probe = Probe::of(&unit, &path, life);
                let what = probe.sample(unit.profile.block_bytes).await;
                probe.pass_on(&unit, &path);
                supervisor.probed(unit.clock.now(), life, what);
            }
            Action::Wait(until) => {
                // A nexus that is down may learn at any time that its target is gone.
                let down = matches!(nexus, NexusState::Down(_));
                let until = until.or_else(|| unit.look_at_down_path(now).filter(|_| down));
                let news = race(change(&path.nexus, nexus), path.attention.after(seen));
                match until {
                    Some(until) => {
                        race(news, unit.clock.sleep_until(until)).await;
                    }
                    None => {
                        news.await;
                    }
                }
            }
        }
    }
}

/// Goes back to a better group of paths when its time has come.
async fn go_back<N: Nexus, C: Clock>(unit: Arc<Unit<N, C>>) {
    loop {
        let seen = unit.changes.version();
        match unit.failback_due() {
            Some(due) if due <= unit.clock.now() => unit.regroup(|_| {}),
            Some(due) => unit.wait(seen, due).await,
            None => unit.changes.after(seen).await,
        }
    }
}

/// Says when patience with an outage is over.
async fn lose_patience<N: Nexus, C: Clock>(unit: Arc<Unit<N, C>>) {
    loop {
        let seen = unit.changes.version();
        let now = unit.clock.now();
        unit.tell(now, unit.queueing.tick(now));
        match unit.queueing.next_tick() {
            Some(due) => unit.wait(seen, due).await,
            None => unit.changes.after(seen).await,
        }
    }
}

/// What the last look at a path found, for events.
#[derive(Default)]
struct Finding {
    difference: Option<Difference>,
    problem: Option<ProbeError>,
}

async fn verify<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    life: Incarnation,
    finding: &mut Finding,
) -> Verified {
    *finding = Finding::default();
    let probe = Probe::looking(unit, path, life);
    let profile = probe.profile().await;
    probe.pass_on(unit, path);
    match profile {
        Ok(profile) => match same(unit, path.id, &profile) {
            Ok(()) => {
                if profile.read_only {
                    unit.set_read_only(path.id);
                }
                if profile.accessible {
                    unit.cache.set_enabled(profile.write_cache);
                }
                // Registered in any case, so that it can be used as soon as the target lets it.
                let admitted = access::admits(unit, path, &profile);
                let what = register(unit, path, life, finding).await;
                if what == Verified::Same && !admitted {
                    Verified::NoAccess
                } else {
                    what
                }
            }
            Err(difference) => {
                finding.difference = Some(difference);
                Verified::Different
            }
        },
        Err(problem) => {
            finding.problem = Some(problem);
            Verified::Unclear
        }
    }
}

/// A path of a registered unit carries I/O only after it is registered itself.
async fn register<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    life: Incarnation,
    finding: &mut Finding,
) -> Verified {
    match reservation::on_return(unit, path, life).await {
        Ok(Standing::Same) => Verified::Same,
        Ok(Standing::Lost) => {
            let path = path.id;
            let now = unit.clock.now();
            unit.events
                .publish(now, EventKind::RegistrationLost { path });
            Verified::Same
        }
        Err(problem) => {
            finding.problem = Some(problem);
            Verified::Unclear
        }
    }
}

/// Whether a path leads to the unit. Where nothing differs but nothing proves it either, that is
/// enough for a path that was part of the unit before, and so is a larger capacity.
fn same<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    id: PathId,
    profile: &Profile,
) -> Result<(), Difference> {
    let table = unit.table.load();
    let was_up = table.get(id).is_some_and(|entry| entry.was_up);
    let ours = Profile {
        blocks: unit.blocks(),
        ..unit.profile.clone()
    };
    let mut result = ours.same_as(profile);
    if was_up && matches!(result, Err(Difference::WeakIdentity { .. })) {
        result = ours.same_blocks(profile);
    }
    let same_unit = matches!(result, Ok(()) | Err(Difference::Blocks { .. }));
    if profile.accessible && same_unit {
        size::seen(unit, id, profile.blocks);
    }
    match result {
        // Grown while in use. What it was before is still there, and no I/O goes beyond it until
        // all paths show it.
        Err(Difference::Blocks { left, right }) if was_up && left < right => Ok(()),
        result => result,
    }
}

/// Makes the supervisor's decision known: gate, table, events.
fn publish<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    supervisor: &Supervisor,
    finding: &mut Finding,
    now: Instant,
) {
    let before = path.gate();
    let usable = supervisor.usable_in();
    match usable {
        Some(life) => {
            path.lives(life, now);
            path.open(life);
        }
        None => path.shut(),
    }
    let state = supervisor.state();
    let table = unit.table.load();
    let Some(entry) = table.get(path.id) else {
        return;
    };
    let gone = is_gone(path, entry.gone, state, finding);
    if entry.state == state && entry.gone == gone {
        if path.gate() != before {
            // The table is as it was, but I/O that waits may go now.
            unit.changes.raise();
        }
        return;
    }
    let was = entry.state;
    let unusable_since = entry.unusable_since;
    let was_up = entry.was_up;
    let since = entry.since;
    drop(table);
    unit.update(path.id, |entry| {
        if entry.state != state {
            entry.since = now;
        }
        entry.state = state;
        entry.gone = gone;
        entry.access = access::of(unit, path, now);
        entry.was_up |= state.is_usable();
        entry.unusable_since = match (was.is_usable(), state.is_usable()) {
            (_, true) => None,
            (true, false) => Some(now),
            (false, false) => entry.unusable_since,
        };
    });
    let since = unusable_since.unwrap_or(since);
    let off_for = now.saturating_duration_since(since);
    size::grow(unit);
    let came_up = !was_up || was == PathState::Suspect || !was.is_usable();
    if was == state {
        return;
    }
    let kind = match (was, state) {
        (PathState::Suspect, PathState::Marginal) => None,
        (_, PathState::Marginal) => {
            let recovery = supervisor.recovery(now).unwrap_or_default();
            let path = path.id;
            Some(EventKind::PathMarginal { path, recovery })
        }
        (PathState::Marginal, PathState::Active) => {
            Some(EventKind::PathRecovered { path: path.id })
        }
        _ => transition(path.id, state, usable, finding, (was_up, came_up, off_for)),
    };
    if let Some(kind) = kind {
        unit.events.publish(now, kind);
    }
}

/// Whether the path's last word is that there is no such unit. Silence does not change it.
fn is_gone<N: Nexus>(path: &Path<N>, was: bool, state: PathState, finding: &Finding) -> bool {
    match (state, &finding.problem) {
        (state, _) if state.is_usable() => false,
        (PathState::Standby | PathState::Mismatched, _) => false,
        (PathState::Down, _) => was || path.nexus.is_gone(),
        (PathState::Failed, Some(problem)) => *problem == ProbeError::NoLogicalUnit,
        _ => was,
    }
}

fn transition(
    path: PathId,
    state: PathState,
    usable: Option<Incarnation>,
    finding: &mut Finding,
    (was_up, came_up, after): (bool, bool, Duration),
) -> Option<EventKind> {
    Some(match state {
        PathState::Verifying => return None,
        PathState::Active => {
            let incarnation = usable?;
            match (was_up, came_up) {
                (false, _) => EventKind::PathUp { path, incarnation },
                (true, true) => EventKind::PathReinstated {
                    path,
                    incarnation,
                    after,
                },
                (true, false) => return None,
            }
        }
        PathState::Suspect => EventKind::PathSuspect { path },
        PathState::Marginal => return None,
        PathState::Failed => EventKind::PathFailed {
            path,
            problem: finding.problem.take(),
        },
        PathState::Standby => EventKind::PathStandby { path },
        PathState::Mismatched => EventKind::IdentityMismatch {
            path,
            difference: finding.difference.take()?,
        },
        PathState::Down => EventKind::PathDown { path },
        PathState::Closed => EventKind::PathClosed { path },
    })
}
