//! Target port groups of a simulated target, and how they change while I/O runs.

use std::time::Duration;

use fastrand::Rng;
use mpio::Failback;
use test_target::{Alua, PortGroup, Told, access_state as state};

use crate::fault::Fault;
use crate::scenario::{Scenario, ms};

/// Gives the target of a scenario target port groups whose states change.
pub(crate) fn add(scenario: &mut Scenario, rng: &mut Rng) {
    let portals = scenario.target.portals.len();
    let alua = groups(rng, portals);
    scenario
        .faults
        .extend(changes(rng, &alua, scenario.run_for));
    scenario.faults.sort_by_key(|(at, _)| *at);
    scenario.target.alua = Some(alua);
    scenario.mpio.failback = match rng.u8(..4) {
        0 => Failback::Immediate,
        1 => Failback::Manual,
        2 => Failback::FollowOver,
        _ => Failback::After(ms(rng, 100, 5_000)),
    };
}

fn groups(rng: &mut Rng, portals: usize) -> Alua {
    let count = rng.usize(1..=portals.clamp(2, 3));
    // Identifiers that are nobody's portal group tag.
    let ids: Vec<u16> = (0..count).map(|n| 100 + 7 * n as u16).collect();
    let states = [
        state::OPTIMIZED,
        state::NON_OPTIMIZED,
        state::STANDBY,
        state::LBA_DEPENDENT,
    ];
    // A path into the first group there always is, and it is open at first.
    let preferred = rng.usize(..=count);
    let group = |(n, id): (usize, &u16), rng: &mut Rng| PortGroup {
        id: *id,
        state: if n == 0 {
            state::OPTIMIZED
        } else {
            states[rng.usize(..4)]
        },
        preferred: n == preferred,
    };
    let groups = ids.iter().enumerate().map(|it| group(it, rng)).collect();
    let of_portal = |portal: usize, rng: &mut Rng| match portal {
        0 => ids[0],
        _ => ids[rng.usize(..count)],
    };
    Alua {
        tpgs: [1, 2, 3][rng.usize(..3)],
        group_of_portal: (0..portals).map(|portal| of_portal(portal, rng)).collect(),
        groups,
        extended_header: rng.bool(),
        transition_time_s: [0, 1, 5, 60][rng.usize(..4)],
        transition: [Duration::ZERO, ms(rng, 1, 3_000)][rng.usize(..2)],
        others_become: [None, Some(state::NON_OPTIMIZED), Some(state::STANDBY)][rng.usize(..3)],
        refuse_set: false,
        told: [Told::Everybody, Told::Everybody, Told::Group, Told::Nobody][rng.usize(..4)],
    }
}

fn changes(rng: &mut Rng, alua: &Alua, run_for: Duration) -> Vec<(Duration, Fault)> {
    let mut list = Vec::new();
    let every = rng.u64(200..6_000);
    let mut at = ms(rng, 0, every);
    while at < run_for {
        let group = alua.groups[rng.usize(..alua.groups.len())].id;
        let to = [
            state::OPTIMIZED,
            state::NON_OPTIMIZED,
            state::STANDBY,
            state::UNAVAILABLE,
            state::OFFLINE,
            state::LBA_DEPENDENT,
        ][rng.usize(..6)];
        let fault = match rng.u8(..10) {
            0 => Fault::TransitionFailed,
            1 => Fault::RefuseSet(true),
            2 => Fault::RefuseSet(false),
            3 => Fault::Prefer(group, rng.bool()),
            4..=6 => Fault::Transition {
                group,
                state: to,
                takes: ms(rng, 1, 4_000).min(run_for.saturating_sub(at)),
            },
            _ => Fault::Access { group, state: to },
        };
        list.push((at, fault));
        at += ms(rng, 1, 2 * every);
    }
    list
}
