//! Unit attentions that come to a command which is not about them. A device tells each once.

use scsi::alua::SettableState;
use scsi::reservation::{Registration, ReservationKey, ReservationType};

use super::*;
use crate::reservation::ReservationError;
use crate::testing::alua::{Groups, NON_OPTIMIZED, OPTIMIZED};

const INQUIRY_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x03);
const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);
const POWER_ON: (u8, u8, u8) = (6, 0x29, 0);
const KEY: ReservationKey = ReservationKey(0x1234);

/// Behind path 0 is another disk from now on, and its next command is told.
fn swap(bench: &Bench, attention: (u8, u8, u8)) {
    bench.paths[0].set(|inner| {
        inner.naa = 9;
        inner.attentions.push_back(attention);
        inner.seen.clear();
    });
}

fn writes(bench: &Bench, path: usize) -> usize {
    let is_write = |code: &&u8| **code == 0x2a;
    bench.paths[path].set(|inner| inner.seen.iter().filter(is_write).count())
}

#[test]
fn a_changed_unit_is_looked_at_before_a_write_whoever_was_told() {
    for attention in [INQUIRY_CHANGED, LUNS_CHANGED] {
        let bench = Bench::new(2);
        let unit = bench.failover();
        bench.paths[0].set(|inner| inner.keys = Some(Vec::new()));
        swap(&bench, attention);
        bench.executor.run(unit.registered_keys()).unwrap();
        bench.write(&unit, 0, 7).unwrap();
        assert_eq!((writes(&bench, 0), writes(&bench, 1)), (0, 1));
        assert_eq!(bench.state(&unit, 0), PathState::Mismatched);
    }
}

#[test]
fn a_changed_unit_told_to_set_target_port_groups_is_looked_at_before_a_write() {
    let bench = Bench::new(2);
    let states = [(1, OPTIMIZED, false), (2, NON_OPTIMIZED, false)];
    lock(&bench.disk).groups = Some(Groups::new(3, &states));
    for (path, group) in bench.paths.iter().zip([1, 2]) {
        path.set(|inner| inner.group = Some(group));
    }
    let unit = bench.failover();
    bench.pass(ms(10));
    swap(&bench, INQUIRY_CHANGED);
    let set = unit.set_access(1, SettableState::ActiveOptimized);
    bench.executor.run(set).unwrap();
    bench.write(&unit, 0, 7).unwrap();
    assert_eq!((writes(&bench, 0), writes(&bench, 1)), (0, 1));
}

#[test]
fn a_restart_told_to_a_reservation_command_still_fails_the_flush() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| {
        inner.write_cache = true;
        inner.keys = Some(Vec::new());
    });
    let unit = bench.failover();
    bench.write(&unit, 0, 1).unwrap();
    bench.paths[0].set(|inner| inner.attentions.push_back(POWER_ON));
    bench.executor.run(unit.registered_keys()).unwrap();
    let error = bench.executor.run(unit.flush()).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::CacheLost);
}

#[test]
fn a_path_that_met_the_restart_is_no_witness_against_it() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| inner.write_cache = true);
    let unit = bench.failover();
    bench.write(&unit, 0, 1).unwrap();
    bench.script(0, &[Fate::Sense(6, 0x29, 0)]);
    // The command that was told is repeated, and all is well from then on.
    bench.read(&unit, 0).unwrap();
    let error = bench.executor.run(unit.flush()).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::CacheLost);
}

#[test]
fn a_write_that_ended_with_a_remark_is_acknowledged_and_may_be_lost_in_the_cache() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| inner.write_cache = true);
    let unit = bench.failover();
    bench.script(0, &[Fate::Remark, Fate::Sense(6, 0x29, 0)]);
    bench.write(&unit, 0, 1).unwrap();
    bench.read(&unit, 0).unwrap();
    let error = bench.executor.run(unit.flush()).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::CacheLost);
}

#[test]
fn a_change_of_reservations_that_never_gets_an_answer_ends_as_unknown() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    for path in &bench.paths {
        path.set(|inner| {
            inner.keys = Some(vec![KEY.0]);
            inner.reserve_lost = true;
        });
    }
    let run = |change: &mut dyn FnMut() -> Result<(), ReservationError>| {
        let before = bench.paths[0].set(|inner| inner.seen.len());
        let result = change();
        assert!(
            matches!(result, Err(ReservationError::Unknown(_))),
            "{result:?}"
        );
        let seen = bench.paths[0].set(|inner| inner.seen[before..].to_vec());
        seen.iter().filter(|&&code| code == 0x5f).count()
    };
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    let registered = unit.register(KEY, Registration::default());
    bench.executor.run(registered).unwrap();
    assert_eq!(run(&mut || bench.executor.run(unit.reserve(kind))), 8);
    assert_eq!(
        run(&mut || bench.executor.run(unit.clear_reservations())),
        8
    );
    let preempt = || unit.preempt(KEY, kind, true);
    assert_eq!(run(&mut || bench.executor.run(preempt())), 8);
}
