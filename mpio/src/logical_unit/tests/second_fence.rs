//! When the old session cannot be reinstated; and targets that say too early that it was.

use scsi::ResetError;

use super::*;
use crate::second_fence::{FenceFailure, FenceQuality, SecondFence};

/// Path 0 loses a write that the target executes 10 s later, and cannot be reinstated.
fn haunted(second_fence: SecondFence) -> (Bench, Unit) {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config {
        policy: LoadBalancePolicy::FailoverOnly,
        second_fence,
        ..Config::default()
    });
    bench.script(0, &[GHOST]);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
    (bench, unit)
}

fn quality(events: &mut EventReceiver) -> Option<FenceQuality> {
    let kinds = std::iter::from_fn(|| events.try_recv()).map(|event| event.kind);
    let ends = kinds.filter_map(|kind| match kind {
        EventKind::FenceEnd { quality, .. } => Some(quality),
        _ => None,
    });
    ends.last()
}

fn failure(events: &mut EventReceiver) -> Option<FenceFailure> {
    let kinds = std::iter::from_fn(|| events.try_recv()).map(|event| event.kind);
    let failures = kinds.filter_map(|kind| match kind {
        EventKind::FenceFailed { error, .. } => Some(error),
        _ => None,
    });
    failures.last()
}

#[test]
fn a_reset_of_the_unit_through_the_other_path_ends_what_was_left_behind() {
    let (bench, unit) = haunted(SecondFence::LuReset);
    let mut events = unit.events();
    bench.write(&unit, 0, 3).unwrap();
    assert_eq!(bench.now().as_secs(), 3, "reinstatement was tried first");
    bench.write(&unit, 0, 4).unwrap();
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.log(), [once(0, 3), once(0, 4)]);
    assert_eq!(bench.paths[1].set(|inner| inner.resets), 1);
    assert_eq!(quality(&mut events), Some(FenceQuality::TasksEnded));
}

#[test]
fn a_reset_that_is_not_confirmed_is_no_fence() {
    let (bench, unit) = haunted(SecondFence::LuReset);
    let mut events = unit.events();
    let refused = ResetError::Refused(5);
    bench.paths[1].set(|inner| inner.reset_error = Some(refused));
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFenced);
    assert_eq!(
        (error.outcome, error.settled),
        (OutcomeCertainty::Unknown, false)
    );
    assert_eq!(failure(&mut events), Some(FenceFailure::Reset(refused)));
    assert_eq!(unit.topology().held_ranges, 1);
}

#[test]
fn without_another_path_there_is_nothing_to_reset_through() {
    let (bench, unit) = haunted(SecondFence::LuReset);
    let mut events = unit.events();
    bench.paths[1].cut();
    bench.pass(ms(10));
    bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(failure(&mut events), Some(FenceFailure::NoOtherPath));
}

#[test]
fn a_timer_waits_its_time_and_says_what_it_is_worth() {
    let (bench, unit) = haunted(SecondFence::Timer(Duration::from_secs(20)));
    let mut events = unit.events();
    bench.write(&unit, 0, 3).unwrap();
    let now = bench.now();
    assert!(now >= Duration::from_secs(20) && now < Duration::from_secs(21));
    assert_eq!(quality(&mut events), Some(FenceQuality::Timed));
    let late = Executed {
        late: true,
        ..once(0, 3)
    };
    assert_eq!(bench.log(), [late, once(0, 3)], "the ghost came before");
}

#[test]
fn a_timer_too_short_lets_a_stale_write_over_a_newer_one() {
    // The negative twin: this is why a timer is called what it is called.
    let (bench, unit) = haunted(SecondFence::Timer(Duration::from_secs(5)));
    bench.write(&unit, 0, 3).unwrap();
    bench.write(&unit, 0, 4).unwrap();
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.read(&unit, 0).unwrap(), 3);
}

#[test]
fn a_session_that_comes_back_in_time_spares_the_second_level() {
    let (bench, unit) = haunted(SecondFence::Timer(Duration::from_secs(20)));
    let mut events = unit.events();
    let path = bench.paths[0].clone();
    let executor = bench.executor.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(5)).await;
        path.set(|inner| inner.fence_error = None);
    });
    bench.write(&unit, 0, 3).unwrap();
    assert!(bench.now() < Duration::from_secs(10));
    assert_eq!(quality(&mut events), Some(FenceQuality::SessionEnded));
}

#[test]
fn preempting_needs_a_registration() {
    let (bench, unit) = haunted(SecondFence::PrAbort);
    let mut events = unit.events();
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(error.outcome, OutcomeCertainty::Unknown);
    assert_eq!(failure(&mut events), Some(FenceFailure::NotRegistered));
}

#[test]
fn moving_the_unit_needs_target_port_groups() {
    let (bench, unit) = haunted(SecondFence::Stpg);
    let mut events = unit.events();
    bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(failure(&mut events), Some(FenceFailure::NoPortGroups));
}

#[test]
fn a_closed_session_may_still_be_fenced_on_the_second_level() {
    let (bench, unit) = haunted(SecondFence::LuReset);
    bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Closed));
    bench.write(&unit, 0, 3).unwrap();
    assert_eq!(bench.log(), [once(0, 3)]);
}

#[test]
fn a_target_that_answers_too_early_needs_time_to_settle() {
    for (settle, seen) in [(Duration::ZERO, 3), (Duration::from_secs(2), 4)] {
        let bench = Bench::new(2);
        let unit = bench.assemble(Config {
            policy: LoadBalancePolicy::FailoverOnly,
            fence_settle: settle,
            ..Config::default()
        });
        bench.script(0, &[GHOST]);
        // The reinstatement is confirmed, and the old write runs a second later all the same.
        bench.paths[0].set(|inner| inner.lies_for = Duration::from_secs(1));
        bench.write(&unit, 0, 3).unwrap();
        bench.write(&unit, 0, 4).unwrap();
        bench.pass(Duration::from_secs(20));
        assert_eq!(bench.read(&unit, 0).unwrap(), seen, "settle {settle:?}");
    }
}

#[test]
fn an_abort_of_registered_nexuses_is_no_fence_for_one_that_is_not() {
    use scsi::reservation::{Registration, ReservationKey};
    let key = ReservationKey(0x77);
    for forgotten in [false, true] {
        let bench = Bench::new(2);
        for path in &bench.paths {
            path.set(|inner| inner.keys = Some(Vec::new()));
        }
        let unit = bench.assemble(Config {
            policy: LoadBalancePolicy::FailoverOnly,
            second_fence: SecondFence::PrAbort,
            ..Config::default()
        });
        let registered = unit.register(key, Registration::default());
        bench.executor.run(registered).unwrap();
        if forgotten {
            // The path comes back, and its registration is gone: it carries I/O without one.
            bench.paths[0].set(|inner| inner.keys = Some(Vec::new()));
            bench.paths[0].cut();
            bench.pass(ms(10));
            bench.paths[0].log_in();
            bench.pass(ms(10));
            assert_eq!(bench.state(&unit, 0), PathState::Active);
        }
        bench.script(0, &[GHOST]);
        bench.paths[0].set(|inner| inner.fence_error = Some(FenceError::Unreachable));
        let mut events = unit.events();
        let result = bench.write(&unit, 0, 3);
        if forgotten {
            let error = result.unwrap_err();
            assert_eq!(error.kind, IoErrorKind::NotFenced);
            assert_eq!(error.outcome, OutcomeCertainty::Unknown);
            assert_eq!(failure(&mut events), Some(FenceFailure::NotRegistered));
        } else {
            result.unwrap();
            assert_eq!(quality(&mut events), Some(FenceQuality::TasksEnded));
        }
    }
}
