//! Follows a unit's target port groups: asks the target, tells the paths.
//!
//! One future per unit, so one report is under way at a time. What to do and when is decided by
//! [`crate::alua`]; this module carries it out over whatever path answers.

use std::sync::Arc;
use std::time::Instant;

use scsi::alua::SettableState;
use scsi::inquiry::Tpgs;
use scsi::{Incarnation, Nexus, NexusState};

use crate::alua::{Action, PathAccess, Sight};
use crate::clock::Clock;
use crate::error::ProbeError;
use crate::event::EventKind;
use crate::identity::Profile;
use crate::path::{Path, PathId, PathState, Report, Trouble};
use crate::probe::Probe;
use crate::signal::race;
use crate::stats::count;
use crate::topology::Entry;
use crate::unit::Unit;

/// Follows the groups for as long as the unit lives.
pub(crate) async fn keep<N: Nexus, C: Clock>(unit: Arc<Unit<N, C>>) {
    let mut seen_access = Vec::new();
    let mut opened = None;
    loop {
        let news = unit.access.news.version();
        let changes = unit.changes.version();
        let now = unit.clock.now();
        if apply(&unit, &mut seen_access, now) {
            opened = now.checked_add(unit.config.probe_timeout);
        }
        expect(&unit, &mut opened, now);
        announce(&unit, now);
        let (failback, _) = unit.grouping();
        let opening = opened.filter(|due| now < *due);
        let sights = sights(&unit, opening.is_some());
        let patience = failback.patience();
        match unit
            .access
            .change(|watch| watch.next(now, &sights, patience))
        {
            Action::Report => report(&unit).await,
            Action::Set(group) => {
                // What came of it is told by events and the next report.
                let _ = set(&unit, group, SettableState::ActiveOptimized).await;
            }
            Action::Wait(until) => {
                let any = race(unit.access.news.after(news), unit.changes.after(changes));
                let until = opening.map_or(until, |due| due.min(until));
                race(any, unit.clock.sleep_until(until)).await;
            }
            Action::Rest => {
                let any = race(unit.access.news.after(news), unit.changes.after(changes));
                match opening {
                    Some(due) => {
                        race(any, unit.clock.sleep_until(due)).await;
                    }
                    None => {
                        any.await;
                    }
                }
            }
        }
    }
}

/// Makes known what has changed.
fn announce<N: Nexus, C: Clock>(unit: &Unit<N, C>, now: Instant) {
    for change in unit.access.change(|watch| watch.news(now)) {
        let kind = EventKind::AccessChanged {
            group: change.group,
            from: change.from,
            to: change.to,
            preferred: change.preferred,
        };
        unit.events.publish(now, kind);
    }
}

/// I/O waits for a transition that is under way, and for paths that were opened to be verified.
fn expect<N: Nexus, C: Clock>(unit: &Unit<N, C>, opened: &mut Option<Instant>, now: Instant) {
    let opening = |entry: &Entry<N>| {
        let state = matches!(entry.state, PathState::Standby | PathState::Verifying);
        state && entry.access.is_some_and(|access| access.carries_io())
    };
    if !unit.table.load().entries.iter().any(opening) {
        *opened = None;
    }
    let change_due = unit.access.see(|watch| watch.change_due(now));
    if unit.queueing.expect(change_due.max(*opened)) {
        unit.changes.raise();
    }
}

/// How the target lets a path reach the unit, as far as it is known.
pub(crate) fn of<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    now: Instant,
) -> Option<PathAccess> {
    if !unit.access.asymmetric() {
        return None;
    }
    let port = path.port();
    unit.access.see(|watch| watch.access(now, port))
}

/// A path was verified: takes in which port it uses. Whether I/O gets through that now.
pub(crate) fn admits<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    profile: &Profile,
) -> bool {
    let now = unit.clock.now();
    path.set_port(profile.port);
    if profile.tpgs != Tpgs::None {
        // The session may have missed what happened before it was there.
        unit.access.tell(|watch| {
            watch.set_tpgs(now, profile.tpgs);
            watch.ask(now);
        });
    }
    profile.accessible && of(unit, path, now).is_none_or(|access| access.carries_io())
}

/// Asks the target to bring a group into a state, over a path into that group if there is one.
pub(crate) async fn set<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    group: u16,
    state: SettableState,
) -> Result<(), ProbeError> {
    let now = unit.clock.now();
    let mut paths = askable(unit);
    let inside = |path: &Path<N>| of(unit, path, now).is_some_and(|it| it.group == group);
    paths.sort_by_key(|(path, _)| !inside(path));
    let mut result = Err(ProbeError::Down);
    for (path, life) in paths {
        count(&unit.access.sets);
        let probe = Probe::of(unit, &path, life);
        result = probe.set_group(group, state).await;
        probe.pass_on(unit, &path);
        // Another path only when this one did not even carry the question.
        if !matches!(result, Err(ProbeError::NoAnswer { .. } | ProbeError::Down)) {
            break;
        }
    }
    if result.is_err() {
        count(&unit.access.sets_failed);
    }
    let now = unit.clock.now();
    unit.access
        .tell(|watch| watch.was_set(now, group, result.is_ok()));
    let kind = EventKind::AccessRequested {
        group,
        state: state.into(),
        problem: result.clone().err(),
    };
    unit.events.publish(now, kind);
    result
}

/// Asks for a first report and takes it in, before there are keepers.
pub(crate) async fn begin<N: Nexus, C: Clock>(unit: &Unit<N, C>) {
    let now = unit.clock.now();
    let sights = sights(unit, false);
    if unit.access.change(|watch| watch.next(now, &sights, None)) == Action::Report {
        report(unit).await;
        apply(unit, &mut Vec::new(), unit.clock.now());
        // How it is at first is no news.
        let _ = unit.access.change(|watch| watch.news(now));
    }
}

/// Asks for one report, over the first path that answers.
async fn report<N: Nexus, C: Clock>(unit: &Unit<N, C>) {
    let mut extended = unit.access.see(|watch| watch.extended());
    let mut refused = false;
    for (path, life) in askable(unit) {
        let probe = Probe::of(unit, &path, life);
        let asked = extended;
        let result = probe.report_groups(&mut extended).await;
        probe.pass_on(unit, &path);
        let now = unit.clock.now();
        match result {
            Ok(report) => {
                count(&unit.access.reports);
                unit.access.tell(|watch| {
                    if asked && !extended {
                        watch.refused_extended();
                    }
                    watch.reported(now, report);
                });
                return;
            }
            Err(ProbeError::Refused { .. }) => refused = true,
            Err(_) => {}
        }
    }
    let now = unit.clock.now();
    tracing::debug!(refused, "no path brought a report of target port groups");
    unit.access.tell(|watch| watch.unreported(now));
}

/// Paths over which the target can be asked, the best first, with the life to ask in.
fn askable<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Vec<(Arc<Path<N>>, Incarnation)> {
    let table = unit.table.load();
    let mut entries: Vec<&Entry<N>> = table.entries.iter().filter(|entry| is_up(entry)).collect();
    entries.sort_by_key(|entry| entry.state != PathState::Active);
    let path = |entry: &Entry<N>| {
        let life = life(&entry.path)?;
        Some((Arc::clone(&entry.path), life))
    };
    entries.into_iter().filter_map(path).collect()
}

fn life<N: Nexus>(path: &Path<N>) -> Option<Incarnation> {
    match path.nexus.state() {
        NexusState::Up(life) => Some(life),
        NexusState::Down(_) | NexusState::Closed | _ => None,
    }
}

/// Logged in, and known to lead to the unit.
fn is_up<N>(entry: &Entry<N>) -> bool {
    entry.state.is_usable() || entry.state == PathState::Standby
}

/// `opened`: paths that stand by were opened and are about to be verified.
fn sights<N: Nexus, C: Clock>(unit: &Unit<N, C>, opened: bool) -> Vec<Sight> {
    let sight = |entry: &Entry<N>| Sight {
        port: entry.path.port(),
        up: is_up(entry),
        usable: entry.state.is_usable(),
        verifying: entry.state == PathState::Verifying
            || opened && entry.state == PathState::Standby,
    };
    unit.table.load().entries.iter().map(sight).collect()
}

/// Tells the paths what is known now. `before`: what they were told last. Whether a path that
/// stands by was opened.
fn apply<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    before: &mut Vec<Option<PathAccess>>,
    now: Instant,
) -> bool {
    if !unit.access.asymmetric() {
        return false;
    }
    let mut opened = false;
    let table = unit.table.load_full();
    before.resize(table.entries.len(), None);
    let mut stale: Vec<(PathId, Option<PathAccess>)> = Vec::new();
    for (entry, before) in table.entries.iter().zip(before) {
        let access = of(unit, &entry.path, now);
        if access != entry.access {
            stale.push((entry.path.id, access));
        }
        let closed = access.is_some_and(|access| !access.carries_io());
        let was_closed = before.is_some_and(|access| !access.carries_io());
        *before = access;
        let trouble = match (closed, entry.state) {
            (true, state) if state.is_usable() => Trouble::NoAccess,
            // Whoever stands by is verified and used.
            (false, PathState::Standby) if was_closed => {
                opened = true;
                Trouble::Changed
            }
            _ => continue,
        };
        if let Some(incarnation) = life(&entry.path) {
            entry.path.report(Report {
                incarnation,
                trouble,
            });
        }
    }
    if stale.is_empty() {
        return opened;
    }
    unit.rebuild(|entries| {
        for (id, access) in stale {
            if let Some(entry) = entries.get_mut(usize::from(id.0)) {
                entry.access = access;
            }
        }
    });
    opened
}
