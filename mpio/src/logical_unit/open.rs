//! Assembly of a unit to which no path gives access yet.
//!
//! Who the unit is can be seen through every port; its size only where the target gives access. If
//! no path has that, the target is asked to open a group (when initiators may), or a transition
//! that is under way is waited for. Then all paths are looked at again.

use std::sync::Arc;
use std::time::Instant;

use scsi::Nexus;
use scsi::alua::SettableState;
use scsi::inquiry::Tpgs;

use super::{Look, look_at_all};
use crate::alua::{Action, Sight, Watch};
use crate::clock::Clock;
use crate::config::Config;
use crate::path::Path;
use crate::probe::Probe;

/// Looks at all paths at once; opens the unit if that is what it takes.
pub(super) async fn look<N: Nexus, C: Clock>(
    paths: &[Arc<Path<N>>],
    config: &Config,
    clock: &C,
) -> Vec<Look> {
    let mut looks = look_at_all(paths, config, clock).await;
    let Some(tpgs) = closed(&looks) else {
        return looks;
    };
    let start = clock.now();
    let deadline = start.checked_add(config.probe_timeout).unwrap_or(start);
    let intervals = (config.probe_timeout, config.probe_timeout);
    let mut watch = Watch::new(tpgs, intervals, start);
    watch.demand(start, deadline);
    while closed(&looks).is_some() {
        let now = clock.now();
        let until = watch
            .transition_ends(now)
            .map_or(deadline, |end| end.max(deadline));
        if now >= until {
            break;
        }
        let sights: Vec<Sight> = looks.iter().map(sight).collect();
        match watch.next(now, &sights, None) {
            Action::Report => {
                report(&mut watch, paths, &looks, config, clock).await;
                let now = clock.now();
                let opened = |sight: &Sight| {
                    let access = watch.access(now, sight.port);
                    access.is_some_and(|access| access.carries_io())
                };
                if sights.iter().any(opened) {
                    looks = look_at_all(paths, config, clock).await;
                }
            }
            Action::Set(group) => {
                let good = set(group, &watch, paths, &looks, config, clock).await;
                watch.was_set(clock.now(), group, good);
            }
            Action::Wait(at) => clock.sleep_until(at.min(until)).await,
            Action::Rest => break,
        }
    }
    looks
}

/// Whether the unit can be seen, but not be used, through any path; with who may change that.
fn closed(looks: &[Look]) -> Option<Tpgs> {
    let profiles = || looks.iter().filter_map(|look| look.profile.as_ref().ok());
    if profiles().any(|profile| profile.accessible) {
        return None;
    }
    profiles()
        .map(|profile| profile.tpgs)
        .find(|tpgs| *tpgs != Tpgs::None)
}

fn sight(look: &Look) -> Sight {
    let profile = look.profile.as_ref().ok();
    Sight {
        port: profile.map(|profile| profile.port).unwrap_or_default(),
        up: profile.is_some(),
        usable: false,
        // All are looked at again as soon as a group is open.
        verifying: false,
    }
}

fn probe<'a, N, C>(
    path: &'a Path<N>,
    look: &Look,
    config: &'a Config,
    clock: &'a C,
) -> Option<Probe<'a, N, C>> {
    look.profile.as_ref().ok()?;
    Some(Probe::alone(&path.nexus, clock, config, look.life?, true))
}

async fn report<N: Nexus, C: Clock>(
    watch: &mut Watch,
    paths: &[Arc<Path<N>>],
    looks: &[Look],
    config: &Config,
    clock: &C,
) {
    let mut extended = watch.extended();
    for (path, look) in paths.iter().zip(looks) {
        let Some(probe) = probe(path, look, config, clock) else {
            continue;
        };
        let result = probe.report_groups(&mut extended).await;
        if !extended {
            watch.refused_extended();
        }
        if let Ok(report) = result {
            watch.reported(clock.now(), report);
            return;
        }
    }
    watch.unreported(clock.now());
}

async fn set<N: Nexus, C: Clock>(
    group: u16,
    watch: &Watch,
    paths: &[Arc<Path<N>>],
    looks: &[Look],
    config: &Config,
    clock: &C,
) -> bool {
    let now: Instant = clock.now();
    let inside = |look: &Look| {
        let access = watch.access(now, sight(look).port);
        access.is_some_and(|access| access.group == group)
    };
    for (path, look) in paths.iter().zip(looks).filter(|(_, look)| inside(look)) {
        if let Some(probe) = probe(path, look, config, clock) {
            let state = SettableState::ActiveOptimized;
            return probe.set_group(group, state).await.is_ok();
        }
    }
    false
}
