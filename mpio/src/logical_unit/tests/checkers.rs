//! What a path check asks, and what it finds.

use scsi::PingError;

use super::*;
use crate::checker::Checker;
use crate::testing::alua::{Groups, NON_OPTIMIZED, OPTIMIZED, STANDBY};

const TEST_UNIT_READY: u8 = 0x00;
const MAINTENANCE_IN: u8 = 0xa3;

const SILENT: Fate = Fate::Lost {
    kind: DeliveryErrorKind::TimedOut,
    executed_after: None,
    down: false,
};

fn unit_with(bench: &Bench, checker: Checker) -> Unit {
    let unit = bench.assemble(Config {
        checker,
        policy: LoadBalancePolicy::FailoverOnly,
        ..Config::default()
    });
    bench.pass(ms(100));
    for path in &bench.paths {
        path.set(|inner| inner.seen.clear());
    }
    unit
}

fn with_groups(paths: &[u16]) -> Bench {
    let bench = Bench::new(paths.len());
    let states = [(1, OPTIMIZED, false), (2, NON_OPTIMIZED, false)];
    lock(&bench.disk).groups = Some(Groups::new(1, &states));
    for (path, group) in bench.paths.iter().zip(paths) {
        path.set(|inner| inner.group = Some(*group));
    }
    bench
}

fn count(bench: &Bench, path: usize, code: u8) -> usize {
    bench.paths[path].set(|inner| inner.seen.iter().filter(|&&it| it == code).count())
}

#[test]
fn each_checker_asks_its_own_question_after_5_and_10_seconds() {
    for checker in Checker::ALL {
        let bench = with_groups(&[1, 2]);
        let _unit = unit_with(&bench, checker);
        // The unit's own reports come over path 0, so path 1 is watched.
        bench.pass(Duration::from_secs(16));
        let pings = bench.paths[1].set(|inner| inner.pings);
        let asked = (
            count(&bench, 1, TEST_UNIT_READY),
            count(&bench, 1, MAINTENANCE_IN),
            pings,
        );
        let expected = match checker {
            Checker::Tur => (2, 0, 0),
            Checker::Rtpg => (0, 2, 0),
            Checker::Nop => (0, 0, 2),
        };
        assert_eq!(asked, expected, "{checker}");
    }
}

#[test]
fn a_suspected_path_has_to_answer_a_command_whatever_the_checker() {
    for checker in Checker::ALL {
        let bench = with_groups(&[1, 2]);
        let unit = unit_with(&bench, checker);
        bench.script(0, &[SILENT]);
        bench.paths[0].set(|inner| inner.probe_script.push_back(SILENT));
        bench.read(&unit, 0).unwrap();
        bench.pass(ms(10));
        assert_eq!(bench.state(&unit, 0), PathState::Failed, "{checker}");
        assert_eq!(bench.paths[0].set(|inner| inner.pings), 0);
        // Verified, not merely checked, before it is used again.
        bench.pass(Duration::from_secs(2));
        assert_eq!(bench.state(&unit, 0), PathState::Active, "{checker}");
    }
}

#[test]
fn a_ping_without_an_answer_raises_suspicion_and_the_command_decides() {
    let bench = Bench::new(2);
    let unit = unit_with(&bench, Checker::Nop);
    bench.paths[0].set(|inner| inner.ping = Err(PingError::NoAnswer));
    let mut events = unit.events();
    // The check at 5 s, and its 10 s without an answer.
    bench.pass(Duration::from_millis(15_100));
    assert_eq!(count(&bench, 0, TEST_UNIT_READY), 1);
    assert_eq!(bench.state(&unit, 0), PathState::Active);
    let path = PathId(0);
    let suspected = std::iter::from_fn(|| events.try_recv())
        .any(|event| event.kind == EventKind::PathSuspect { path });
    assert!(suspected);
}

#[test]
fn a_transport_that_cannot_be_asked_and_a_unit_without_groups_get_test_unit_ready() {
    for checker in [Checker::Rtpg, Checker::Nop] {
        let bench = Bench::new(1);
        bench.paths[0].set(|inner| inner.ping = Err(PingError::Unsupported));
        let unit = unit_with(&bench, checker);
        bench.pass(Duration::from_secs(6));
        assert_eq!(count(&bench, 0, TEST_UNIT_READY), 1, "{checker}");
        assert_eq!(bench.state(&unit, 0), PathState::Active);
    }
}

#[test]
fn a_state_that_the_target_changes_in_silence_is_found_by_reports_on_any_path() {
    let bench = with_groups(&[1, 2]);
    let unit = unit_with(&bench, Checker::Rtpg);
    let mut events = unit.events();
    lock(&bench.disk)
        .groups
        .as_mut()
        .unwrap()
        .states
        .insert(1, (STANDBY, false));
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.state(&unit, 0), PathState::Standby);
    let changed = std::iter::from_fn(|| events.try_recv())
        .any(|event| matches!(event.kind, EventKind::AccessChanged { group: 1, .. }));
    assert!(changed);
    bench.write(&unit, 0, 7).unwrap();
    assert_eq!(count(&bench, 0, 0x2a), 0);
}

#[test]
fn checkers_have_names() {
    for checker in Checker::ALL {
        assert_eq!(checker.name().parse(), Ok(checker));
    }
    assert!("directio".parse::<Checker>().is_err());
}
