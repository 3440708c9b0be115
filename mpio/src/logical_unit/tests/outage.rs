//! No path left: queueing, and units that are gone for good.

use super::*;

fn queueing(retry: NoPathRetry) -> (Bench, Unit) {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config {
        no_path_retry: retry,
        ..Config::default()
    });
    (bench, unit)
}

fn kinds(events: &mut EventReceiver) -> Vec<EventKind> {
    std::iter::from_fn(|| events.try_recv())
        .map(|event| event.kind)
        .collect()
}

fn cut(bench: &Bench) {
    for path in &bench.paths {
        path.cut();
    }
    bench.pass(ms(10));
}

#[test]
fn queued_for_ever_a_write_outlives_its_own_deadline() {
    let (bench, unit) = queueing(NoPathRetry::Queue);
    cut(&bench);
    let path = bench.paths[1].clone();
    let executor = bench.executor.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(3_600)).await;
        path.log_in();
    });
    bench.write(&unit, 0, 1).unwrap();
    assert!(bench.now() >= Duration::from_secs(3_600));
    assert_eq!(bench.log(), [once(0, 1)]);
}

#[test]
fn a_lost_write_queued_for_ever_is_fenced_and_done_when_its_path_returns() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config {
        no_path_retry: NoPathRetry::Queue,
        ..Config::default()
    });
    bench.script(0, &[GONE]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    let path = bench.paths[0].clone();
    let executor = bench.executor.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(600)).await;
        path.set(|inner| inner.fence_error = None);
    });
    bench.write(&unit, 0, 1).unwrap();
    assert!(bench.now() >= Duration::from_secs(600));
    assert_eq!(bench.log(), [once(0, 1)]);
}

#[test]
fn patience_is_the_units_and_what_comes_later_fails_at_once() {
    let (bench, unit) = queueing(NoPathRetry::For(Duration::from_secs(7)));
    let mut events = unit.events();
    cut(&bench);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.read(&unit, 0).unwrap_err().kind, IoErrorKind::NoPath);
    assert_eq!(bench.now().as_secs(), 7, "two seconds were left");
    bench.pass(ms(1_000));
    let before = bench.now();
    assert_eq!(bench.read(&unit, 0).unwrap_err().kind, IoErrorKind::NoPath);
    assert_eq!(bench.now(), before);
    let after = Duration::from_secs(7);
    let said = kinds(&mut events);
    let ended = |kind: &&EventKind| **kind == EventKind::QueueingEnded { after };
    assert_eq!(said.iter().filter(ended).count(), 1, "{said:?}");
    // With the next outage the patience is new.
    bench.paths[0].log_in();
    bench.pass(ms(10));
    bench.read(&unit, 0).unwrap();
    bench.paths[0].cut();
    bench.pass(ms(10));
    let start = bench.now();
    bench.read(&unit, 0).unwrap_err();
    assert!(bench.now() - start > Duration::from_secs(6));
}

#[test]
fn an_administrator_ends_the_queue_while_io_waits_in_it() {
    let (bench, unit) = queueing(NoPathRetry::Queue);
    cut(&bench);
    let executor = bench.executor.clone();
    let other = unit.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(100)).await;
        other.set_no_path_retry(NoPathRetry::Fail);
    });
    assert_eq!(bench.read(&unit, 0).unwrap_err().kind, IoErrorKind::NoPath);
    assert_eq!(bench.now().as_secs(), 100);
    assert_eq!(unit.topology().no_path_retry, NoPathRetry::Fail);
}

#[test]
fn a_path_that_is_looked_at_again_is_no_outage() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config {
        no_path_retry: NoPathRetry::Fail,
        ..Config::default()
    });
    let mut events = unit.events();
    bench.script(0, &[Fate::Sense(6, 0x3f, 0x0e)]);
    bench.write(&unit, 0, 1).unwrap();
    assert!(!kinds(&mut events).contains(&EventKind::NoPathLeft));
}

#[test]
fn only_when_every_path_says_so_the_unit_is_gone() {
    let (bench, unit) = queueing(NoPathRetry::Queue);
    let mut events = unit.events();
    cut(&bench);
    // One path leads to a LUN without a unit; the other is silent and might know better.
    bench.paths[0].set(|inner| inner.unmapped = true);
    bench.paths[0].log_in();
    bench.pass(Duration::from_secs(10));
    assert!(unit.topology().paths[0].gone && !unit.topology().paths[1].gone);
    assert!(!kinds(&mut events).contains(&EventKind::UnitGone));
    // The target of the other does not know itself any more.
    let executor = bench.executor.clone();
    let path = bench.paths[1].clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(10)).await;
        path.set(|inner| inner.gone = true);
    });
    let error = bench.read(&unit, 0).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoLogicalUnit);
    assert!(kinds(&mut events).contains(&EventKind::UnitGone));
    // And it may come back all the same.
    bench.paths[0].set(|inner| inner.unmapped = false);
    bench.pass(Duration::from_secs(40));
    bench.read(&unit, 0).unwrap();
}
