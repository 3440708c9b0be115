//! Writes of uncertain fate: held ranges, fences, dropped futures, closing.

use super::*;

#[test]
fn a_write_that_was_not_sent_fails_over_at_once_without_a_fence() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[Fate::NotSent(DeliveryErrorKind::Down)]);
    bench.write(&unit, 0, 3).unwrap();
    assert_eq!(bench.log(), [once(0, 3)]);
    assert!(bench.paths[0].set(|inner| inner.fences.is_empty()));
}

#[test]
fn an_uncertain_write_is_retried_after_the_fence_and_executed_once() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    bench.script(0, &[GHOST]);
    bench.write(&unit, 0, 3).unwrap();
    assert_eq!(
        bench.paths[0].set(|inner| inner.fences.clone()),
        [Incarnation(1)]
    );
    bench.write(&unit, 0, 4).unwrap();
    bench.pass(Duration::from_secs(20));
    // The target would have executed the lost one after 10 s, over the newer one.
    assert_eq!(bench.read(&unit, 0).unwrap(), 4);
    assert_eq!(bench.log(), [once(0, 3), once(0, 4)]);
    let mut kinds = Vec::new();
    while let Some(event) = events.try_recv() {
        kinds.push(event.kind);
    }
    let fences = kinds.iter().filter(|kind| {
        matches!(
            kind,
            EventKind::FenceStart { writes: 1, .. } | EventKind::FenceEnd { .. }
        )
    });
    assert_eq!(fences.count(), 2, "{kinds:?}");
    assert_eq!(unit.topology().paths[0].stats.fences, 1);
    assert_eq!(unit.topology().held_ranges, 0);
}

#[test]
fn without_the_fence_the_ghost_write_would_land() {
    // The negative twin: proves that the disk above really executes what is left behind.
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(error.outcome, OutcomeCertainty::Unknown);
    assert_eq!(bench.read(&unit, 0).unwrap(), 3);
    let late = Executed {
        late: true,
        ..once(0, 3)
    };
    assert_eq!(bench.log(), [late]);
}

#[test]
fn a_write_that_cannot_be_fenced_ends_unknown_at_its_deadline() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    let before = bench.now();
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFenced);
    assert_eq!(
        (error.outcome, error.settled),
        (OutcomeCertainty::Unknown, false)
    );
    assert_eq!(bench.now() - before, Duration::from_secs(60));
    assert_eq!((error.lba, error.path), (Some(0), Some(PathId(0))));
    assert!(
        error.to_string().contains("may still be done later"),
        "{error}"
    );
    assert!(
        bench.paths[0].set(|inner| inner.fences.len()) > 10,
        "it goes on trying"
    );
}

#[test]
fn without_any_path_an_uncertain_write_waits_no_longer_than_others() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config {
        no_path_retry: NoPathRetry::For(Duration::from_secs(7)),
        ..Config::default()
    });
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFenced);
    assert_eq!(error.outcome, OutcomeCertainty::Unknown);
    assert_eq!(bench.now().as_secs(), 7);
    // Its range stays held all the same, and nothing else is written there.
    let error = bench.write(&unit, 0, 4).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::RangeHeld);
    assert_eq!(error.outcome, OutcomeCertainty::NotDone);
    assert_eq!(bench.now().as_secs(), 7);
}

#[test]
fn the_range_of_an_uncertain_write_stays_held_and_others_go_on() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    bench.write(&unit, 100, 3).unwrap_err();
    assert_eq!(unit.topology().held_ranges, 1);
    // Elsewhere and reads: at once.
    let before = bench.now();
    bench.write(&unit, 108, 1).unwrap();
    bench.write(&unit, 92, 1).unwrap();
    bench.read(&unit, 100).unwrap();
    assert_eq!(bench.now() - before, ms(3));
    // There: not before the path is fenced.
    let error = bench.write(&unit, 107, 5).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::RangeHeld);
    assert_eq!(error.outcome, OutcomeCertainty::NotDone);
    bench.paths[0].set(|inner| inner.fence_error = None);
    bench.write(&unit, 107, 5).unwrap();
    assert_eq!(unit.topology().held_ranges, 0);
}

#[test]
fn a_path_closed_for_good_cannot_be_fenced_and_nobody_waits_for_it() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Closed));
    let before = bench.now();
    let error = bench.write(&unit, 100, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFenced);
    let error = bench.write(&unit, 100, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::RangeHeld);
    assert!(bench.now() - before < Duration::from_secs(5));
}

#[test]
fn a_command_timed_out_and_aborted_needs_no_fence() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[Fate::Answered(DeliveryErrorKind::TimedOut)]);
    bench.write(&unit, 0, 3).unwrap();
    assert!(bench.paths[0].set(|inner| inner.fences.is_empty()));
    // The path was only suspected; a check cleared it.
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
}

#[test]
fn a_dropped_write_holds_its_range_until_the_transport_has_settled_it() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[Fate::Slow(Duration::from_secs(100))]);
    bench.executor.run(async {
        let write = unit.write_at(0, data(3));
        let patience = bench.executor.pass(ms(5));
        assert!(matches!(race(write, patience).await, Either::Right(())));
    });
    assert_eq!(
        unit.topology().paths[0].in_flight,
        0,
        "released by the drop"
    );
    assert_eq!(unit.topology().held_ranges, 1);
    bench.pass(Duration::from_secs(3));
    assert_eq!(unit.topology().held_ranges, 1, "nobody asked");
    assert_eq!(bench.paths[0].set(|inner| inner.settles), 0);
    bench.write(&unit, 4, 4).unwrap();
    assert_eq!(bench.paths[0].set(|inner| inner.settles), 1);
    assert!(
        bench.paths[0].set(|inner| inner.fences.is_empty()),
        "the session lives"
    );
    assert_eq!(unit.topology().held_ranges, 0);
}

#[test]
fn a_lost_write_that_is_dropped_while_it_waits_is_fenced_all_the_same() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    bench.executor.run(async {
        let write = unit.write_at(0, data(3));
        let patience = bench.executor.pass(Duration::from_secs(1));
        assert!(matches!(race(write, patience).await, Either::Right(())));
    });
    assert_eq!(unit.topology().held_ranges, 1);
    bench.paths[0].set(|inner| inner.fence_error = None);
    bench.pass(Duration::from_secs(9));
    assert_eq!(unit.topology().held_ranges, 0);
    bench.write(&unit, 0, 4).unwrap();
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.read(&unit, 0).unwrap(), 4);
}

#[test]
fn a_dropped_read_leaves_nothing() {
    let bench = Bench::new(1);
    let unit = bench.failover();
    bench.script(0, &[Fate::Slow(Duration::from_secs(100))]);
    bench.executor.run(async {
        let read = unit.read_at(0, IoBuf::zeroed(512));
        assert!(matches!(
            race(read, bench.executor.pass(ms(5))).await,
            Either::Right(())
        ));
    });
    let topology = unit.topology();
    assert_eq!((topology.paths[0].in_flight, topology.held_ranges), (0, 0));
    assert_eq!(bench.paths[0].set(|inner| inner.underway), 0);
}

#[test]
fn a_write_goes_on_the_moment_the_fence_stands() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_leaves_down = true);
    let before = bench.now();
    bench.write(&unit, 0, 3).unwrap();
    // Lost after 1 ms, fenced in 5, written in 1.
    assert_eq!(bench.now() - before, ms(7));
    assert_eq!(bench.state(&unit, 0), PathState::Down);
}

#[test]
fn a_closed_unit_goes_on_fencing_and_says_when_its_paths_may_be_used_anew() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    let other = unit.clone();
    let executor = bench.executor.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(2)).await;
        other.close().await;
    });
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(
        (error.kind, error.settled, error.outcome),
        (IoErrorKind::Closed, false, OutcomeCertainty::Unknown)
    );
    bench.executor.run(unit.close());
    assert_eq!(unit.topology().held_ranges, 1);
    // A new unit over the same paths knows nothing of the lost write.
    let (fence, executor) = (bench.paths[0].clone(), bench.executor.clone());
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(3)).await;
        fence.set(|inner| inner.fence_error = None);
    });
    assert!(bench.executor.run(unit.settled()));
    assert!(bench.now() >= Duration::from_secs(5));
    bench.paths[0].reinstate();
    let again = bench.failover();
    bench.write(&again, 0, 4).unwrap();
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.read(&again, 0).unwrap(), 4);
    assert_eq!(bench.log(), [once(0, 4)]);
}

#[test]
fn a_dropped_write_is_settled_when_the_unit_is_closed() {
    let bench = Bench::new(1);
    let unit = bench.failover();
    bench.script(0, &[Fate::Slow(Duration::from_secs(5))]);
    let writing = race(unit.write_at(0, data(3)), bench.executor.pass(ms(10)));
    assert!(matches!(bench.executor.run(writing), Either::Right(())));
    assert_eq!(unit.topology().held_ranges, 1);
    bench.executor.run(unit.close());
    assert!(bench.executor.run(unit.settled()));
    assert_eq!(bench.paths[0].set(|inner| inner.settles), 1);
    assert_eq!(unit.topology().held_ranges, 0);
}

#[test]
fn a_closed_unit_whose_path_can_never_be_fenced_says_so() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Closed));
    bench.write(&unit, 0, 3).unwrap_err();
    bench.executor.run(unit.close());
    assert!(!bench.executor.run(unit.settled()));
}

#[test]
fn maintenance_of_a_closed_unit_ends_though_its_last_write_was_dropped() {
    let bench = Bench::new(1);
    let assembling = LogicalUnit::assemble(
        bench.specs(),
        Config::default(),
        bench.executor.clock.clone(),
    );
    let (unit, maintenance) = bench.executor.run(assembling).unwrap();
    bench.script(0, &[Fate::Slow(Duration::from_secs(5))]);
    let (other, executor) = (unit.clone(), bench.executor.clone());
    let closing = async move {
        executor.pass(ms(5)).await;
        let closing = race(other.close(), executor.pass(ms(5)));
        assert!(matches!(closing.await, Either::Right(())), "it waits");
    };
    let writing = race(unit.write_at(0, data(3)), closing);
    assert!(matches!(bench.executor.run(writing), Either::Right(())));
    bench.executor.run(maintenance);
    assert_eq!(unit.topology().held_ranges, 0);
}
