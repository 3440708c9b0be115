//! Target port groups: which paths carry I/O, and what happens when the target changes its mind.

use super::*;
use crate::failback::{Failback, SwitchReason};
use crate::queueing::NoPathRetry;
use crate::testing::alua::{Groups, NON_OPTIMIZED, OPTIMIZED, STANDBY, TRANSITIONING, UNAVAILABLE};
use scsi::alua::SettableState;

const IMPLICIT: u8 = 1;
const BOTH: u8 = 3;
/// ASYMMETRIC ACCESS STATE CHANGED.
const CHANGED: (u8, u8, u8) = (6, 0x2a, 0x06);

/// Path `n` leads into group `of[n]`.
fn bench(tpgs: u8, groups: &[(u16, u8, bool)], of: &[u16]) -> Bench {
    let bench = Bench::new(of.len());
    lock(&bench.disk).groups = Some(Groups::new(tpgs, groups));
    for (path, &group) in bench.paths.iter().zip(of) {
        path.set(|inner| inner.group = Some(group));
    }
    bench
}

fn two(tpgs: u8, config: Config) -> (Bench, Unit) {
    let bench = bench(
        tpgs,
        &[(1, OPTIMIZED, false), (2, NON_OPTIMIZED, false)],
        &[1, 2],
    );
    let unit = bench.assemble(config);
    (bench, unit)
}

impl Bench {
    fn groups<T>(&self, change: impl FnOnce(&mut Groups) -> T) -> T {
        change(lock(&self.disk).groups.as_mut().unwrap())
    }

    fn set_state(&self, group: u16, state: u8) {
        self.groups(|groups| groups.states.get_mut(&group).unwrap().0 = state);
    }

    /// Every path is going to hear of it.
    fn announce(&self) {
        for path in &self.paths {
            path.set(|inner| inner.attentions.push_back(CHANGED));
        }
    }

    /// Data commands each path carries while `ios` reads are done.
    fn shares(&self, unit: &Unit, ios: u64) -> Vec<usize> {
        for path in &self.paths {
            path.set(|inner| inner.seen.clear());
        }
        for lba in 0..ios {
            self.read(unit, lba * 8).unwrap();
        }
        let reads = |path: &FakeNexus| {
            path.set(|inner| inner.seen.iter().filter(|&&code| code == 0x28).count())
        };
        self.paths.iter().map(reads).collect()
    }
}

fn kinds(events: &mut EventReceiver) -> Vec<EventKind> {
    let next = || events.try_recv().map(|event| event.kind);
    std::iter::from_fn(next).collect()
}

fn round_robin() -> Config {
    Config {
        policy: LoadBalancePolicy::RoundRobin,
        ..Config::default()
    }
}

#[test]
fn policies_act_inside_the_best_group() {
    let groups = [(1, NON_OPTIMIZED, false), (300, OPTIMIZED, false)];
    let bench = bench(IMPLICIT, &groups, &[1, 300, 300, 1]);
    let unit = bench.assemble(round_robin());
    assert_eq!(bench.shares(&unit, 10), [0, 5, 5, 0]);
    let topology = unit.topology();
    let listed: Vec<_> = topology
        .groups
        .iter()
        .map(|group| (group.priority, group.in_use, group.paths.clone()))
        .collect();
    let ids = |list: [u8; 2]| list.map(PathId).to_vec();
    assert_eq!(listed, [(50, true, ids([1, 2])), (10, false, ids([0, 3]))]);
    let access = topology.paths[1].access.unwrap();
    assert_eq!((access.group, access.port), (300, Some(300)));
    let access = topology.access.unwrap();
    assert_eq!(access.implicit_transition, Some(Duration::from_secs(20)));
    // One path of the group goes: its equal carries all; then the others.
    bench.paths[1].cut();
    bench.pass(ms(5));
    assert_eq!(bench.shares(&unit, 4), [0, 0, 4, 0]);
    bench.paths[2].cut();
    bench.pass(ms(5));
    assert_eq!(bench.shares(&unit, 4), [2, 0, 0, 2]);
}

#[test]
fn a_unit_without_target_port_groups_is_one_group() {
    let bench = Bench::new(2);
    let unit = bench.assemble(round_robin());
    assert_eq!(bench.shares(&unit, 4), [2, 2]);
    let topology = unit.topology();
    assert_eq!(topology.access, None);
    assert_eq!(topology.groups.len(), 1);
    assert!(!bench.paths[0].set(|inner| inner.seen.contains(&0xa3)));
}

#[test]
fn a_change_is_learnt_from_the_unit_attention_with_few_reports() {
    let groups = [(1, OPTIMIZED, false), (2, NON_OPTIMIZED, false)];
    let bench = bench(IMPLICIT, &groups, &[1, 1, 1, 1, 2]);
    let unit = bench.assemble(round_robin());
    bench.pass(ms(50));
    let mut events = unit.events();
    let before = bench.groups(|groups| groups.reports);
    bench.set_state(1, NON_OPTIMIZED);
    bench.set_state(2, OPTIMIZED);
    bench.announce();
    // Many at once meet the same news on four paths.
    bench.executor.run(async {
        let reads: Vec<_> = (0..16)
            .map(|n| unit.read_at(n * 4096, IoBuf::zeroed(4096)))
            .collect();
        for read in reads {
            read.await.0.unwrap();
        }
    });
    bench.pass(ms(50));
    assert_eq!(bench.shares(&unit, 4), [0, 0, 0, 0, 4]);
    let reports = bench.groups(|groups| groups.reports) - before;
    assert!((1..=5).contains(&reports), "{reports}");
    let kinds = kinds(&mut events);
    let changed = |group, from, to| EventKind::AccessChanged {
        group,
        from: Some(from),
        to,
        preferred: false,
    };
    use scsi::AccessState::{ActiveNonOptimized as Ano, ActiveOptimized as Ao};
    assert!(kinds.contains(&changed(1, Ao, Ano)), "{kinds:?}");
    assert!(kinds.contains(&changed(2, Ano, Ao)), "{kinds:?}");
    let switched = EventKind::GroupSwitched {
        from: 10,
        to: 50,
        reason: SwitchReason::Failback,
    };
    assert!(kinds.contains(&switched), "{kinds:?}");
}

#[test]
fn a_change_nobody_announces_is_learnt_from_refusals_and_costs_no_io() {
    let (bench, unit) = two(IMPLICIT, round_robin());
    bench.pass(ms(10));
    for (state, ascq) in [(STANDBY, 0x0b), (UNAVAILABLE, 0x0c)] {
        bench.set_state(1, state);
        bench.write(&unit, 0, 7).unwrap();
        assert_eq!(bench.state(&unit, 0), PathState::Standby, "{ascq:x}");
        assert_eq!(bench.shares(&unit, 3), [0, 3]);
        assert_eq!(bench.read(&unit, 0), Ok(7));
        bench.set_state(1, OPTIMIZED);
        bench.paths[0].set(|inner| inner.attentions.push_back(CHANGED));
        bench.pass(Duration::from_secs(40));
        assert_eq!(bench.state(&unit, 0), PathState::Active);
        assert_eq!(bench.shares(&unit, 3), [3, 0]);
    }
}

/// I/O that waits for no path, and no group that gives access.
fn both_in_transition() -> (Bench, Unit) {
    let config = Config {
        no_path_retry: NoPathRetry::Fail,
        ..Config::default()
    };
    let (bench, unit) = two(IMPLICIT, config);
    bench.pass(ms(10));
    bench.set_state(1, TRANSITIONING);
    bench.set_state(2, TRANSITIONING);
    (bench, unit)
}

#[test]
fn a_transition_is_waited_for_even_if_io_does_not_wait_for_paths() {
    let (bench, unit) = both_in_transition();
    let start = bench.now();
    let write = async {
        let writing = unit.write_at(0, data(3));
        let ending = async {
            bench.executor.pass(Duration::from_secs(7)).await;
            bench.set_state(2, OPTIMIZED);
        };
        match race(writing, async {
            ending.await;
            std::future::pending::<()>().await;
        })
        .await
        {
            Either::Left(result) => result,
            Either::Right(()) => unreachable!(),
        }
    };
    bench.executor.run(write).unwrap();
    let took = bench.now() - start;
    assert!(took >= Duration::from_secs(7), "{took:?}");
    assert!(took <= Duration::from_secs(10), "{took:?}");
    assert_eq!(bench.shares(&unit, 3), [0, 3]);
}

#[test]
fn a_transition_that_never_ends_is_waited_for_20_s_as_the_target_said() {
    let (bench, unit) = both_in_transition();
    let start = bench.now();
    let error = bench.write(&unit, 0, 3).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoPath);
    assert_eq!(error.outcome, OutcomeCertainty::NotDone);
    let took = bench.now() - start;
    assert!(took >= Duration::from_secs(20), "{took:?}");
    assert!(took < Duration::from_secs(21), "{took:?}");
}

#[test]
fn the_target_is_asked_to_open_a_group_only_for_io() {
    let (bench, unit) = two(BOTH, Config::default());
    let mut events = unit.events();
    bench.set_state(1, STANDBY);
    bench.set_state(2, STANDBY);
    bench.announce();
    bench.pass(Duration::from_secs(100));
    assert_eq!(bench.state(&unit, 0), PathState::Standby);
    assert_eq!(bench.groups(|groups| groups.sets.clone()), []);
    bench.write(&unit, 0, 9).unwrap();
    assert_eq!(bench.groups(|groups| groups.sets.clone()), [(1, OPTIMIZED)]);
    assert_eq!(bench.read(&unit, 0), Ok(9));
    let asked = EventKind::AccessRequested {
        group: 1,
        state: scsi::AccessState::ActiveOptimized,
        problem: None,
    };
    assert!(kinds(&mut events).contains(&asked));
    let access = unit.topology().access.unwrap();
    assert_eq!((access.sets, access.sets_failed), (1, 0));
}

#[test]
fn a_target_that_will_not_open_a_group_costs_the_io_its_patience() {
    let config = Config {
        no_path_retry: NoPathRetry::For(Duration::from_secs(10)),
        ..Config::default()
    };
    let (bench, unit) = two(BOTH, config);
    bench.set_state(1, STANDBY);
    bench.set_state(2, UNAVAILABLE);
    bench.groups(|groups| groups.set_error = Some((4, 0x67, 0x0a)));
    let error = bench.write(&unit, 0, 9).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoPath);
    let access = unit.topology().access.unwrap();
    // After 0, 1, 3 and 7 seconds.
    assert_eq!((access.sets, access.sets_failed), (4, 4));
}

#[test]
fn targets_that_do_not_know_the_extended_header_are_asked_without() {
    let bench = bench(IMPLICIT, &[(1, OPTIMIZED, false)], &[1]);
    bench.groups(|groups| groups.transition_s = 0);
    let unit = bench.assemble(Config::default());
    let access = unit.topology().access.unwrap();
    assert_eq!(access.groups.len(), 1);
    assert_eq!(access.implicit_transition, None);
    // And only once with.
    bench.paths[0].set(|inner| inner.seen.clear());
    bench.pass(Duration::from_secs(6));
    let asked =
        |inner: &mut crate::testing::Inner| inner.seen.iter().filter(|&&code| code == 0xa3).count();
    assert_eq!(bench.paths[0].set(asked), 1);
}

#[test]
fn manual_failback_waits_for_the_administrator() {
    let config = Config {
        failback: Failback::Manual,
        ..round_robin()
    };
    let (bench, unit) = two(IMPLICIT, config);
    bench.paths[0].cut();
    bench.pass(ms(10));
    bench.paths[0].log_in();
    bench.pass(Duration::from_secs(100));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
    assert_eq!(bench.shares(&unit, 3), [0, 3]);
    unit.fail_back();
    assert_eq!(bench.shares(&unit, 3), [3, 0]);
}

#[test]
fn delayed_failback_happens_by_itself() {
    let config = Config {
        failback: Failback::After(Duration::from_secs(30)),
        ..round_robin()
    };
    let (bench, unit) = two(IMPLICIT, config);
    bench.paths[0].cut();
    bench.pass(ms(10));
    bench.paths[0].log_in();
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.shares(&unit, 3), [0, 3]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.shares(&unit, 3), [3, 0]);
}

#[test]
fn a_preferred_group_is_opened_again_when_our_path_returns() {
    let groups = [(1, OPTIMIZED, true), (2, NON_OPTIMIZED, false)];
    let bench = bench(BOTH, &groups, &[1, 2]);
    let unit = bench.assemble(Config::default());
    bench.pass(ms(10));
    bench.paths[0].cut();
    bench.set_state(1, STANDBY);
    bench.set_state(2, OPTIMIZED);
    bench.pass(Duration::from_secs(60));
    bench.write(&unit, 0, 1).unwrap();
    assert_eq!(bench.groups(|groups| groups.sets.clone()), []);
    bench.paths[0].log_in();
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.groups(|groups| groups.sets.clone()), [(1, OPTIMIZED)]);
    bench.set_state(2, NON_OPTIMIZED);
    bench.announce();
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shares(&unit, 4), [4, 0]);
}

#[test]
fn the_administrator_sets_a_state() {
    let (bench, unit) = two(BOTH, round_robin());
    let set = unit.set_access(2, SettableState::ActiveOptimized);
    bench.executor.run(set).unwrap();
    bench.pass(ms(10));
    assert_eq!(bench.shares(&unit, 4), [2, 2]);
    bench.groups(|groups| groups.set_error = Some((5, 0x26, 0)));
    let set = unit.set_access(9, SettableState::Standby);
    let problem = bench.executor.run(set).unwrap_err();
    assert!(matches!(problem, ProbeError::Refused { .. }), "{problem}");
}

#[test]
fn a_path_on_standby_joins_by_identity_and_is_verified_before_it_carries_io() {
    for blocks in [DISK_BLOCKS, DISK_BLOCKS / 2] {
        let groups = [(1, STANDBY, false), (2, OPTIMIZED, false)];
        let bench = bench(IMPLICIT, &groups, &[1, 2]);
        bench.paths[0].set(|inner| inner.blocks = blocks);
        let unit = bench.assemble(round_robin());
        assert_eq!(unit.geometry().blocks, DISK_BLOCKS);
        assert_eq!(bench.state(&unit, 0), PathState::Standby);
        bench.set_state(1, OPTIMIZED);
        bench.pass(Duration::from_secs(60));
        let (state, shares) = match blocks {
            DISK_BLOCKS => (PathState::Active, [2, 2]),
            _ => (PathState::Mismatched, [0, 4]),
        };
        assert_eq!(bench.state(&unit, 0), state);
        assert_eq!(bench.shares(&unit, 4), shares);
    }
}

#[test]
fn a_standby_path_to_another_disk_is_refused_at_once() {
    let groups = [(1, STANDBY, false), (2, OPTIMIZED, false)];
    let bench = bench(IMPLICIT, &groups, &[1, 2]);
    bench.paths[0].set(|inner| inner.naa = 9);
    let error = bench.try_assemble(Config::default()).unwrap_err();
    assert!(matches!(error, AssembleError::Mismatch { .. }), "{error}");
}

#[test]
fn without_access_anywhere_the_unit_is_opened_at_assembly() {
    let groups = [(1, STANDBY, false), (2, STANDBY, true)];
    let bench_both = bench(BOTH, &groups, &[1, 2]);
    let unit = bench_both.assemble(Config::default());
    assert_eq!(
        bench_both.groups(|groups| groups.sets.clone()),
        [(2, OPTIMIZED)]
    );
    bench_both.write(&unit, 0, 1).unwrap();
    let bench_implicit = bench(IMPLICIT, &groups, &[1, 2]);
    let error = bench_implicit.try_assemble(Config::default()).unwrap_err();
    let AssembleError::NoUsablePath { problem, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(problem, ProbeError::NoAccess { .. }), "{problem}");
}

#[test]
fn assembly_waits_for_a_transition() {
    let bench = bench(IMPLICIT, &[(1, TRANSITIONING, false)], &[1]);
    let assembling = LogicalUnit::assemble(
        bench.specs(),
        Config::default(),
        bench.executor.clock.clone(),
    );
    let both = async {
        let ending = async {
            bench.executor.pass(Duration::from_secs(4)).await;
            bench.set_state(1, OPTIMIZED);
            std::future::pending::<()>().await;
        };
        match race(assembling, ending).await {
            Either::Left(result) => result.map(|_| ()),
            Either::Right(()) => unreachable!(),
        }
    };
    bench.executor.run(both).unwrap();
    assert!(bench.now() >= Duration::from_secs(4));
}

#[test]
fn a_target_whose_report_contradicts_its_ports_does_not_make_io_run_in_circles() {
    let (bench, unit) = two(IMPLICIT, Config::default());
    bench.pass(ms(10));
    // Reads and writes are refused through path 0, for 2 s and more, whatever the report says.
    let refusals = vec![Fate::Sense(2, 0x04, 0x0b); 1_000];
    bench.script(0, &refusals);
    bench.paths[0].set(|inner| inner.seen.clear());
    for lba in 0..200 {
        bench.read(&unit, lba % 500).unwrap();
        bench.pass(ms(10));
    }
    let tried = bench.paths[0].set(|inner| inner.seen.iter().filter(|&&code| code == 0x28).count());
    assert!((2..30).contains(&tried), "{tried}");
}
