//! Units that change while they are used: size, write protection, restarts with a cache.

use super::*;
use crate::size::SizeError;

const CAPACITY_CHANGED: Fate = Fate::Sense(6, 0x2a, 9);
const POWER_ON: Fate = Fate::Sense(6, 0x29, 0);

fn kinds(events: &mut EventReceiver) -> Vec<EventKind> {
    std::iter::from_fn(|| events.try_recv())
        .map(|event| event.kind)
        .collect()
}

fn resize(bench: &Bench, path: usize, blocks: u64) {
    bench.paths[path].set(|inner| inner.blocks = blocks);
}

#[test]
fn growth_is_taken_when_every_path_shows_it() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    resize(&bench, 0, DISK_BLOCKS * 2);
    bench.script(0, &[CAPACITY_CHANGED]);
    bench.write(&unit, 0, 3).unwrap();
    bench.pass(ms(100));
    // The other path was asked, and shows the old size: nothing goes beyond it.
    assert_eq!(unit.geometry().blocks, DISK_BLOCKS);
    let error = bench.write(&unit, DISK_BLOCKS, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::OutOfRange);
    assert_eq!(unit.topology().paths[0].blocks, Some(DISK_BLOCKS * 2));
    resize(&bench, 1, DISK_BLOCKS * 2);
    bench.paths[1].set(|inner| inner.probe_script.push_back(CAPACITY_CHANGED));
    bench.pass(Duration::from_secs(25));
    assert_eq!(unit.geometry().blocks, DISK_BLOCKS * 2);
    let (from, to) = (DISK_BLOCKS, DISK_BLOCKS * 2);
    assert!(kinds(&mut events).contains(&EventKind::CapacityChanged { from, to }));
    bench.write(&unit, DISK_BLOCKS, 4).unwrap();
    assert_eq!(bench.read(&unit, DISK_BLOCKS).unwrap(), 4);
}

#[test]
fn a_path_that_still_shows_the_old_size_after_growth_is_refused() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.paths[1].cut();
    bench.pass(ms(10));
    resize(&bench, 0, DISK_BLOCKS * 2);
    bench.script(0, &[CAPACITY_CHANGED]);
    bench.write(&unit, 0, 3).unwrap();
    bench.pass(ms(10));
    assert_eq!(unit.geometry().blocks, DISK_BLOCKS * 2);
    bench.paths[1].log_in();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 1), PathState::Mismatched);
}

#[test]
fn a_smaller_size_needs_an_administrator_and_the_word_of_all_paths() {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config {
        policy: LoadBalancePolicy::FailoverOnly,
        no_path_retry: NoPathRetry::Fail,
        ..Config::default()
    });
    let mut events = unit.events();
    resize(&bench, 0, DISK_BLOCKS - 1);
    bench.script(0, &[CAPACITY_CHANGED]);
    bench.write(&unit, 0, 3).unwrap();
    bench.pass(ms(10));
    // Refused with both sides named, and the other path goes on.
    assert_eq!(bench.state(&unit, 0), PathState::Mismatched);
    let difference = Difference::Blocks {
        left: DISK_BLOCKS,
        right: DISK_BLOCKS - 1,
    };
    let path = PathId(0);
    let refused = EventKind::IdentityMismatch { path, difference };
    assert!(kinds(&mut events).contains(&refused));
    let error = unit.accept_size().unwrap_err();
    assert!(matches!(error, SizeError::Disagreement { .. }), "{error}");
    // Now all paths show it.
    resize(&bench, 1, DISK_BLOCKS - 1);
    bench.script(1, &[CAPACITY_CHANGED]);
    let error = bench.write(&unit, 0, 4).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoPath);
    assert_eq!(unit.geometry().blocks, DISK_BLOCKS);
    assert_eq!(unit.accept_size(), Ok(DISK_BLOCKS - 1));
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
    assert_eq!(bench.state(&unit, 1), PathState::Active);
    let error = bench.write(&unit, DISK_BLOCKS - 8, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::OutOfRange);
    bench.write(&unit, 0, 5).unwrap();
}

#[test]
fn a_unit_without_identity_that_shrinks_is_refused_all_the_same() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| inner.anonymous = true);
    let unit = bench.failover();
    bench.paths[0].cut();
    bench.pass(ms(10));
    resize(&bench, 0, DISK_BLOCKS - 1);
    bench.paths[0].log_in();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Mismatched);
}

#[test]
fn one_read_only_path_makes_the_unit_read_only() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    bench.write(&unit, 0, 1).unwrap();
    bench.paths[1].set(|inner| inner.write_protected = true);
    bench.paths[1].cut();
    bench.pass(ms(10));
    bench.paths[1].log_in();
    bench.pass(ms(10));
    assert!(unit.geometry().read_only);
    assert_eq!(
        bench.write(&unit, 0, 2).unwrap_err().kind,
        IoErrorKind::ReadOnly
    );
    let path = PathId(1);
    assert!(kinds(&mut events).contains(&EventKind::ReadOnly { path }));
    bench.read(&unit, 0).unwrap();
}

/// A unit with a write cache, one unflushed write, and both sessions lost and back.
fn restarted(paths: usize, survivors: usize) -> (Bench, Unit) {
    let bench = Bench::new(paths);
    for path in &bench.paths {
        path.set(|inner| inner.write_cache = true);
    }
    let unit = bench.failover();
    bench.write(&unit, 0, 1).unwrap();
    for path in &bench.paths[survivors..] {
        path.cut();
    }
    bench.pass(ms(10));
    for path in &bench.paths[survivors..] {
        path.log_in();
        path.set(|inner| inner.probe_script.push_back(POWER_ON));
    }
    // Until all were checked.
    bench.pass(Duration::from_secs(10));
    (bench, unit)
}

#[test]
fn after_a_restart_the_next_flush_does_not_confirm_what_may_be_lost() {
    let (bench, unit) = restarted(2, 0);
    let error = bench.executor.run(unit.flush()).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::CacheLost);
    // Told once; what is written again is flushed again.
    bench.write(&unit, 0, 1).unwrap();
    bench.executor.run(unit.flush()).unwrap();
}

#[test]
fn a_session_that_went_on_proves_that_there_was_no_restart() {
    let (bench, unit) = restarted(2, 1);
    bench.executor.run(unit.flush()).unwrap();
}

#[test]
fn a_session_that_went_on_but_met_the_restart_itself_proves_nothing() {
    let (bench, unit) = restarted(2, 1);
    bench.paths[0].set(|inner| inner.probe_script.push_back(POWER_ON));
    let error = bench.executor.run(unit.flush()).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::CacheLost);
}

#[test]
fn what_was_flushed_before_a_restart_is_safe() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| inner.write_cache = true);
    let unit = bench.failover();
    let mut events = unit.events();
    bench.write(&unit, 0, 1).unwrap();
    bench.executor.run(unit.flush()).unwrap();
    bench.script(0, &[POWER_ON]);
    bench.read(&unit, 0).unwrap();
    bench.executor.run(unit.flush()).unwrap();
    // And without a write cache there is nothing to lose.
    let risky = |kind: &EventKind| matches!(kind, EventKind::WritesAtRisk { .. });
    assert!(!kinds(&mut events).iter().any(risky));
    let bench = Bench::new(1);
    let unit = bench.failover();
    bench.write(&unit, 0, 1).unwrap();
    bench.script(0, &[POWER_ON]);
    bench.read(&unit, 0).unwrap();
    bench.executor.run(unit.flush()).unwrap();
}

#[test]
fn a_restart_is_told_as_it_happens() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| inner.write_cache = true);
    let unit = bench.failover();
    let mut events = unit.events();
    bench.write(&unit, 0, 1).unwrap();
    bench.script(0, &[POWER_ON]);
    bench.read(&unit, 0).unwrap();
    let path = PathId(0);
    assert!(kinds(&mut events).contains(&EventKind::WritesAtRisk { path }));
}
