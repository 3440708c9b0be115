//! Paths that come, go, come back, and lead elsewhere.

use super::*;

#[test]
fn a_path_that_comes_back_is_verified_and_used_again() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    bench.paths[0].cut();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Down);
    bench.paths[0].set(|inner| inner.seen.clear());
    bench.paths[0].log_in();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
    assert_eq!(unit.topology().paths[0].incarnation, Some(Incarnation(2)));
    let seen = bench.paths[0].set(|inner| inner.seen.clone());
    assert!(
        seen.starts_with(&[0x12]) && seen.contains(&0x9e),
        "{seen:?}"
    );
    bench.paths[1].cut();
    bench.write(&unit, 0, 1).unwrap();
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .map(|e| e.kind)
        .collect();
    let path = PathId(0);
    assert!(kinds.contains(&EventKind::PathDown { path }), "{kinds:?}");
    let back = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::PathReinstated {
                path: PathId(0),
                incarnation: Incarnation(2),
                ..
            }
        )
    };
    assert!(kinds.iter().any(back), "{kinds:?}");
}

#[test]
fn a_path_that_comes_back_to_another_disk_is_refused() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    bench.paths[0].cut();
    bench.pass(ms(10));
    bench.paths[0].set(|inner| inner.naa = 2);
    bench.paths[0].log_in();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Mismatched);
    bench.paths[0].set(|inner| inner.seen.clear());
    bench.write(&unit, 0, 1).unwrap();
    assert!(bench.paths[0].set(|inner| inner.seen.is_empty()));
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .map(|e| e.kind)
        .collect();
    let refused = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::IdentityMismatch {
                path: PathId(0),
                difference: Difference::Identity { .. }
            }
        )
    };
    assert!(kinds.iter().any(refused), "{kinds:?}");
    // And taken again when it is right again.
    bench.paths[0].set(|inner| inner.naa = 1);
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
}

#[test]
fn a_remapped_lun_never_sees_a_write_meant_for_our_unit() {
    // The session comes back, to another disk, without multipath having noticed yet.
    let bench = Bench::new(1);
    let unit = bench.failover();
    bench.paths[0].cut();
    bench.paths[0].set(|inner| inner.naa = 2);
    bench.paths[0].log_in();
    let error = bench.write(&unit, 0, 1).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoPath);
    assert_eq!(error.outcome, OutcomeCertainty::NotDone);
    assert_eq!(bench.log(), []);
}

#[test]
fn inquiry_changed_makes_it_look_again_before_the_write() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.paths[0].set(|inner| inner.naa = 2);
    bench.script(0, &[Fate::Sense(6, 0x3f, 0x03)]);
    bench.write(&unit, 0, 1).unwrap();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Mismatched);
    assert_eq!(unit.topology().paths[1].stats.writes, 1);
}

#[test]
fn a_silent_path_is_suspected_then_failed_then_reinstated() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let silent = Fate::Answered(DeliveryErrorKind::TimedOut);
    bench.paths[0].set(|inner| inner.probe_script.extend([silent, silent]));
    bench.script(0, &[silent]);
    bench.read(&unit, 0).unwrap();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Failed);
    bench.pass(ms(1_010));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
}

#[test]
fn idle_paths_are_checked() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    bench.paths[0].set(|inner| inner.seen.clear());
    bench.pass(Duration::from_secs(60));
    // After 5, 15, 35, 55 seconds.
    assert_eq!(bench.paths[0].set(|inner| inner.seen.clone()), [0, 0, 0, 0]);
    drop(unit);
}

#[test]
fn different_disks_are_refused_naming_both() {
    type Change = fn(&FakeNexus);
    let cases: [(Change, &str); 3] = [
        (|path| path.set(|inner| inner.naa = 2), "naa."),
        (
            |path| path.set(|inner| inner.blocks = 100),
            "4096 blocks there and 100 blocks here",
        ),
        (
            |path| path.set(|inner| inner.block_bytes = 4096),
            "blocks of 512 bytes there and of 4096",
        ),
    ];
    for (change, words) in cases {
        let bench = Bench::new(2);
        change(&bench.paths[1]);
        let error = bench.try_assemble(Config::default()).unwrap_err();
        assert!(matches!(error, AssembleError::Mismatch { .. }), "{error:?}");
        let text = error.to_string();
        let both = text.contains("fake 0") && text.contains("fake 1");
        assert!(both && text.contains(words), "{text}");
    }
}

#[test]
fn assembly_needs_one_working_path_and_takes_the_rest_later() {
    let bench = Bench::new(2);
    bench.paths[0].cut();
    let unit = bench.assemble(Config::default());
    assert_eq!(bench.state(&unit, 0), PathState::Down);
    bench.write(&unit, 0, 1).unwrap();
    bench.paths[0].log_in();
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 0), PathState::Active);

    let bench = Bench::new(2);
    for path in &bench.paths {
        path.cut();
    }
    let error = bench.try_assemble(Config::default()).unwrap_err();
    assert!(
        matches!(error, AssembleError::NoUsablePath { .. }),
        "{error:?}"
    );
    let error = Bench::new(0).try_assemble(Config::default()).unwrap_err();
    assert_eq!(error, AssembleError::NoPaths);
    let error = Bench::new(33).try_assemble(Config::default()).unwrap_err();
    assert_eq!(error, AssembleError::TooManyPaths { given: 33, max: 32 });
}

#[test]
fn a_path_can_be_added_and_is_verified_first() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    let right = FakeNexus::new(1, &bench.executor.clock, &bench.disk);
    let wrong = FakeNexus::new(2, &bench.executor.clock, &bench.disk);
    wrong.set(|inner| inner.naa = 9);
    for nexus in [right, wrong] {
        let spec = PathSpec {
            nexus,
            portal_group: Some(2),
            label: "late".into(),
            settings: PathSettings::default(),
        };
        unit.add_path(spec).unwrap();
    }
    bench.pass(ms(10));
    assert_eq!(bench.state(&unit, 1), PathState::Active);
    assert_eq!(bench.state(&unit, 2), PathState::Mismatched);
}

#[test]
fn a_unit_without_identity_is_taken_alone_and_taken_back_but_never_joined() {
    let anonymous = |paths| {
        let bench = Bench::new(paths);
        for path in &bench.paths {
            path.set(|inner| inner.anonymous = true);
        }
        bench
    };
    let error = anonymous(2).try_assemble(Config::default()).unwrap_err();
    let weak = |difference: &Difference| matches!(difference, Difference::WeakIdentity { .. });
    assert!(
        matches!(&error, AssembleError::Mismatch { difference, .. } if weak(difference)),
        "{error}"
    );
    let bench = anonymous(1);
    let unit = bench.assemble(Config::default());
    bench.paths[0].cut();
    bench.pass(ms(10));
    bench.paths[0].log_in();
    bench.write(&unit, 0, 1).unwrap();
}

#[test]
fn a_flapping_path_carries_nothing_while_another_is_well_and_everything_when_none_is() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    for _ in 0..3 {
        bench.paths[0].cut();
        bench.pass(ms(100));
        bench.paths[0].log_in();
        bench.pass(ms(100));
    }
    assert_eq!(bench.state(&unit, 0), PathState::Marginal);
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .map(|e| e.kind)
        .collect();
    let quarantined = EventKind::PathMarginal {
        path: PathId(0),
        recovery: Duration::from_secs(30),
    };
    assert!(kinds.contains(&quarantined), "{kinds:?}");
    bench.write(&unit, 0, 1).unwrap();
    assert_eq!(unit.topology().paths[1].stats.writes, 1);
    // The last one left is used, and there is no outage.
    bench.paths[1].cut();
    bench.pass(ms(10));
    bench.write(&unit, 0, 2).unwrap();
    assert_eq!(unit.topology().paths[0].stats.writes, 1);
    bench.paths[1].log_in();
    bench.pass(Duration::from_secs(35));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .map(|e| e.kind)
        .collect();
    assert!(!kinds.contains(&EventKind::NoPathLeft), "{kinds:?}");
    let path = PathId(0);
    assert!(
        kinds.contains(&EventKind::PathRecovered { path }),
        "{kinds:?}"
    );
}
