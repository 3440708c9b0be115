//! Units that come and go, and units that several targets present, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use initiator::reservation::{Registration, ReservationKey, ReservationType};
use initiator::{
    AssembleError, Bytes, Error, Event, Initiator, IoBuf, IoErrorKind, LoadBalancePolicy,
    LogicalUnit, Lun, PathEvent, PathState, Portal, ReservationError, Target, TargetSpec,
};
use test_target::{Alua, Config, PortGroup, Server};

const A: &str = "iqn.2026-01.org.example:a";
const B: &str = "iqn.2026-01.org.example:b";

/// A server whose portals belong to targets of these names, each a portal group of its own.
async fn serve(config: Config, names: &[&str]) -> Server {
    let portals = (1..).zip(names).map(|(group, _)| test_target::Portal {
        address: String::new(),
        group,
    });
    let config = Config {
        portals: portals.collect(),
        portal_names: names.iter().map(|&name| name.to_owned()).collect(),
        target_name: names[0].to_owned(),
        ..config
    };
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Server::start(config, &vec![loopback; names.len()])
        .await
        .unwrap()
}

fn initiator() -> Initiator {
    Initiator::builder("iqn.2026-01.org.example:initiator".parse().unwrap())
        .policy(LoadBalancePolicy::FailoverOnly)
        .build()
        .unwrap()
}

/// Logged in over the server's portals with these numbers.
async fn login(initiator: &Initiator, server: &Server, name: &str, portals: &[usize]) -> Target {
    let addresses = server.local_addrs();
    let spec = TargetSpec {
        name: name.parse().unwrap(),
        portals: portals
            .iter()
            .map(|&nr| Portal::from(addresses[nr]).into())
            .collect(),
        all_portals: false,
    };
    let target = initiator.login(spec).await.unwrap();
    assert_eq!(target.warnings().len(), 0);
    target
}

fn lun(serial: &str) -> test_target::Lun {
    test_target::Lun {
        serial: serial.to_owned(),
        ..test_target::Lun::default()
    }
}

fn number(lun: u16) -> Lun {
    Lun::from_number(lun)
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("the test hangs")
}

async fn write(unit: &LogicalUnit, block: u64, tag: u8) -> Result<(), IoErrorKind> {
    let written = unit
        .write_at(block * 512, Bytes::from(vec![tag; 512]))
        .await;
    written.map_err(|error| error.kind)
}

async fn read(unit: &LogicalUnit, block: u64) -> u8 {
    let (result, buf) = unit.read_at(block * 512, IoBuf::zeroed(512)).await;
    result.unwrap();
    buf.as_slice()[0]
}

async fn until(events: &mut initiator::EventReceiver, mut is: impl FnMut(&Event) -> bool) -> Event {
    loop {
        let event = in_time(events.recv()).await.unwrap();
        if is(&event) {
            return event;
        }
    }
}

fn sessions_writes(server: &Server, lun: usize) -> usize {
    server.with_target(|target, _| {
        target
            .journal()
            .iter()
            .filter(|write| write.lun == lun)
            .count()
    })
}

#[tokio::test]
async fn units_that_come_and_go_are_told_and_one_that_went_carries_no_io() {
    let config = Config {
        luns: vec![lun("ONE"), lun("TWO"), lun("THREE")],
        ..Config::default()
    };
    let server = serve(config, &[A, A]).await;
    server.with_target(|target, _| target.present(2, false));
    let target = login(&initiator(), &server, A, &[0, 1]).await;
    let first = target.logical_unit(number(0)).await.unwrap();
    let second = target.logical_unit(number(1)).await.unwrap();
    let mut events = target.events();
    write(&second, 0, 1).await.unwrap();
    let before = sessions_writes(&server, 1);
    server.with_target(|target, _| {
        target.present(1, false);
        target.present(2, true);
    });
    // One unit of the target is told, over one of the sessions.
    write(&first, 0, 1).await.unwrap();
    let event = until(&mut events, |event| {
        matches!(event, Event::LunsChanged { .. })
    })
    .await;
    let expected = Event::LunsChanged {
        came: vec![number(2)],
        went: vec![number(1)],
    };
    assert_eq!(event, expected);
    until(&mut events, |event| {
        matches!(event, Event::Unit { lun, event: PathEvent::UnitGone } if *lun == number(1))
    })
    .await;
    assert_eq!(write(&second, 0, 2).await, Err(IoErrorKind::NoLogicalUnit));
    assert_eq!(sessions_writes(&server, 1), before);
    // What stayed goes on, and what came can be used.
    in_time(write(&first, 0, 2)).await.unwrap();
    let third = target.logical_unit(number(2)).await.unwrap();
    write(&third, 0, 3).await.unwrap();
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn a_list_that_the_application_asked_for_does_not_hide_the_change_from_a_unit() {
    let config = Config {
        luns: vec![lun("ONE"), lun("TWO")],
        ..Config::default()
    };
    let server = serve(config, &[A]).await;
    let target = login(&initiator(), &server, A, &[0]).await;
    let unit = target.logical_unit(number(1)).await.unwrap();
    let mut events = target.events();
    server.with_target(|target, _| target.present(1, false));
    // The list takes the unit attention away.
    assert_eq!(target.luns().await.unwrap(), [number(0)]);
    until(&mut events, |event| {
        matches!(event, Event::Unit { lun, event: PathEvent::UnitGone } if *lun == number(1))
    })
    .await;
    assert_eq!(write(&unit, 0, 2).await, Err(IoErrorKind::NoLogicalUnit));
    server.with_target(|target, _| target.present(1, true));
    assert_eq!(target.luns().await.unwrap(), [number(0), number(1)]);
    until(&mut events, |event| {
        matches!(event, Event::Unit { lun, event: PathEvent::PathReinstated { .. } } if *lun == number(1))
    })
    .await;
    write(&unit, 0, 2).await.unwrap();
}

/// One device behind two targets, with a unit over both.
async fn across() -> (Server, Target, Target, LogicalUnit) {
    let server = serve(Config::default(), &[A, B]).await;
    let initiator = initiator();
    let a = login(&initiator, &server, A, &[0]).await;
    let b = login(&initiator, &server, B, &[1]).await;
    let parts = [(&a, number(0)), (&b, number(0))];
    let unit = Target::logical_unit_across(&parts).await.unwrap();
    (server, a, b, unit)
}

#[tokio::test]
async fn a_unit_over_two_targets_survives_the_loss_of_one_and_fences_it_through_its_own() {
    let (server, a, b, unit) = across().await;
    let mut events = a.events();
    write(&unit, 0, 1).await.unwrap();
    let before = server.with_target(|target, _| target.sessions());
    // Its portal goes with a write under way; no portal of the other target may be its fence.
    server.black_hole(0).await.unwrap();
    let writing = tokio::spawn({
        let unit = unit.clone();
        async move { write(&unit, 8, 2).await }
    });
    until_sent(&unit).await;
    server.cut(0).await.unwrap();
    until(&mut events, |event| {
        matches!(
            event,
            Event::Unit {
                event: PathEvent::FenceStart { .. },
                ..
            }
        )
    })
    .await;
    // Elsewhere it goes on, over the other target.
    in_time(write(&unit, 100, 3)).await.unwrap();
    assert_eq!(read(&unit, 100).await, 3);
    assert!(!writing.is_finished(), "sent again without a fence");
    assert_eq!(unit.topology().held_ranges, 1);
    server.restore(0).await.unwrap();
    in_time(writing).await.unwrap().unwrap();
    assert_eq!(read(&unit, 8).await, 2);
    // The other target's session is the one it was: nobody logged in there.
    let after = server.with_target(|target, _| target.sessions());
    let of_b = |sessions: &[test_target::SessionInfo]| {
        let mut tsihs: Vec<u16> = sessions
            .iter()
            .filter(|it| it.group == 2)
            .map(|it| it.tsih)
            .collect();
        tsihs.sort_unstable();
        tsihs
    };
    assert_eq!(of_b(&before), of_b(&after));
    unit.close().await;
    a.logout().await.unwrap();
    b.logout().await.unwrap();
    assert_eq!(server.violations(), []);
}

/// Until path 0 has a command under way.
async fn until_sent(unit: &LogicalUnit) {
    in_time(async {
        while unit.topology().paths[0].in_flight == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_registration_covers_the_paths_of_all_targets() {
    let (_server, a, b, unit) = across().await;
    let key = ReservationKey(0x77);
    unit.register(key, Registration::default()).await.unwrap();
    let keys = unit.registered_keys().await.unwrap();
    assert_eq!((keys.len(), keys[0].key, keys[0].nexuses), (1, key, 2));
    let status = unit.reservation_status().await.unwrap();
    assert_eq!(status.registrants.len(), 2);
    unit.unregister().await.unwrap();
    drop((a, b));
}

#[tokio::test]
async fn asked_for_again_it_is_the_same_unit_and_a_part_of_it_is_no_other() {
    let (_server, a, b, unit) = across().await;
    let again = Target::logical_unit_across(&[(&b, number(0)), (&a, number(0))])
        .await
        .unwrap();
    assert!(again.is_clone_of(&unit));
    assert!(a.logical_unit(number(0)).await.unwrap().is_clone_of(&unit));
    unit.close().await;
    // Now one target alone, and then both: that would be two units with two memories.
    let alone = a.logical_unit(number(0)).await.unwrap();
    assert!(!alone.is_clone_of(&unit));
    let error = Target::logical_unit_across(&[(&a, number(0)), (&b, number(0))]).await;
    assert!(matches!(error, Err(Error::InUse { .. })), "{error:?}");
}

#[tokio::test]
async fn targets_that_present_different_units_are_refused_by_name() {
    let initiator = initiator();
    let serials = |serial: &str| Config {
        luns: vec![lun(serial)],
        ..Config::default()
    };
    let one = serve(serials("ONE"), &[A]).await;
    let two = serve(serials("TWO"), &[B]).await;
    let a = login(&initiator, &one, A, &[0]).await;
    let b = login(&initiator, &two, B, &[0]).await;
    let error = Target::logical_unit_across(&[(&a, number(0)), (&b, number(0))])
        .await
        .unwrap_err();
    let Error::Assemble { source, .. } = &error else {
        panic!("{error}")
    };
    let AssembleError::Mismatch { left, right, .. } = &**source else {
        panic!("{error}")
    };
    assert!(left.ends_with(A) && right.ends_with(B), "{error}");
    let error = Target::logical_unit_across(&[(&a, number(0)), (&a, number(0))])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TargetTwice { .. }), "{error}");
    for server in [&one, &two] {
        assert_eq!(sessions_writes(server, 0), 0);
        assert_eq!(server.violations(), []);
    }
}

#[tokio::test]
async fn targets_that_do_not_know_of_each_others_ports_are_refused() {
    let initiator = initiator();
    let alua = || Config {
        alua: Some(Alua {
            group_of_portal: vec![1],
            groups: vec![PortGroup {
                id: 1,
                state: test_target::access_state::OPTIMIZED,
                preferred: false,
            }],
            ..Alua::default()
        }),
        ..Config::default()
    };
    let (one, two) = (serve(alua(), &[A]).await, serve(alua(), &[B]).await);
    let a = login(&initiator, &one, A, &[0]).await;
    let b = login(&initiator, &two, B, &[0]).await;
    let error = Target::logical_unit_across(&[(&a, number(0)), (&b, number(0))])
        .await
        .unwrap_err();
    let Error::PortClash {
        left,
        right,
        port: 1,
    } = &error
    else {
        panic!("{error}")
    };
    assert!(left.ends_with(A) && right.ends_with(B), "{error}");
    // Each alone is fine.
    let unit = a.logical_unit(number(0)).await.unwrap();
    assert_eq!(unit.topology().paths[0].state, PathState::Active);
}

#[tokio::test]
async fn units_without_a_unique_identifier_are_not_joined_across_targets() {
    let weak = test_target::Lun {
        unique: false,
        ..test_target::Lun::default()
    };
    let config = Config {
        luns: vec![weak],
        ..Config::default()
    };
    let server = serve(config, &[A, B]).await;
    let initiator = initiator();
    let a = login(&initiator, &server, A, &[0]).await;
    let b = login(&initiator, &server, B, &[1]).await;
    let error = Target::logical_unit_across(&[(&a, number(0)), (&b, number(0))])
        .await
        .unwrap_err();
    let Error::WeakIdentity { targets, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!([targets[0].to_string(), targets[1].to_string()], [A, B]);
    assert_eq!(sessions_writes(&server, 0), 0);
    // Within one target the serial number is enough.
    let unit = a.logical_unit(number(0)).await.unwrap();
    write(&unit, 0, 1).await.unwrap();
}

/// A unit over two portals of one target.
async fn twofold(server: &Server) -> (Target, LogicalUnit) {
    let target = login(&initiator(), server, A, &[0, 1]).await;
    let unit = target.logical_unit(number(0)).await.unwrap();
    (target, unit)
}

/// Until a path is refused; gives both sides in words.
async fn refusal(events: &mut initiator::EventReceiver) -> String {
    let refused = |event: &Event| {
        let Event::Unit { event, .. } = event else {
            return false;
        };
        matches!(event, PathEvent::IdentityMismatch { .. })
    };
    until(events, refused).await.to_string()
}

#[tokio::test]
async fn a_lun_that_leads_to_another_disk_gets_no_write() {
    let server = serve(Config::default(), &[A, A]).await;
    let (target, unit) = twofold(&server).await;
    unit.set_no_path_retry(initiator::NoPathRetry::Fail);
    let mut events = target.events();
    write(&unit, 0, 1).await.unwrap();
    let before = sessions_writes(&server, 0);
    server.with_target(|target, _| target.replace(0, lun("ANOTHER")));
    // Over each path in turn, then over none.
    assert_eq!(in_time(write(&unit, 0, 2)).await, Err(IoErrorKind::NoPath));
    let told = refusal(&mut events).await;
    assert!(told.contains("there") && told.contains("here"), "{told}");
    assert_eq!(sessions_writes(&server, 0), before);
    // The disk comes back, and an administrator says so.
    server.with_target(|target, _| target.replace(0, test_target::Lun::default()));
    unit.look_again(None);
    until(&mut events, |event| {
        matches!(
            event,
            Event::Unit {
                event: PathEvent::PathsBack { .. },
                ..
            }
        )
    })
    .await;
    write(&unit, 0, 3).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_shrinks_is_refused_with_both_sizes_and_written_to_no_more() {
    let server = serve(Config::default(), &[A, A]).await;
    let (target, unit) = twofold(&server).await;
    unit.set_no_path_retry(initiator::NoPathRetry::Fail);
    let mut events = target.events();
    let blocks = unit.geometry().blocks;
    let before = sessions_writes(&server, 0);
    server.with_target(|target, _| target.resize(0, blocks - 8));
    // Over each path in turn, then over none.
    assert_eq!(in_time(write(&unit, 0, 1)).await, Err(IoErrorKind::NoPath));
    let told = refusal(&mut events).await;
    for size in [blocks, blocks - 8] {
        assert!(told.contains(&size.to_string()), "{size} in {told}");
    }
    assert_eq!(sessions_writes(&server, 0), before);
    assert_eq!(unit.geometry().blocks, blocks);
}

#[tokio::test]
async fn a_path_with_another_block_size_is_refused_with_both() {
    let sizes = |block_bytes| Config {
        luns: vec![test_target::Lun {
            block_bytes,
            ..test_target::Lun::default()
        }],
        ..Config::default()
    };
    let (one, two) = (
        serve(sizes(512), &[A]).await,
        serve(sizes(4096), &[A]).await,
    );
    let portals = [one.local_addrs()[0], two.local_addrs()[0]];
    let spec = TargetSpec {
        name: A.parse().unwrap(),
        portals: portals.map(|portal| Portal::from(portal).into()).to_vec(),
        all_portals: false,
    };
    let target = initiator().login(spec).await.unwrap();
    let error = target.logical_unit(number(0)).await.unwrap_err();
    let text = error.to_string();
    for part in [
        &portals[0].to_string(),
        &portals[1].to_string(),
        "512",
        "4096",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let Error::Assemble { source, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        matches!(**source, AssembleError::Mismatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_portal_named_twice_is_refused_before_anything_is_sent() {
    let server = serve(Config::default(), &[A]).await;
    let portal = Portal::from(server.local_addrs()[0]);
    let spec = TargetSpec {
        name: A.parse().unwrap(),
        portals: vec![portal.clone().into(), portal.clone().into()],
        all_portals: false,
    };
    let error = initiator().login(spec).await.unwrap_err();
    let Error::PortalTwice {
        portal: twice,
        first: 0,
        second: 1,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*twice, portal);
    assert_eq!(server.with_target(|target, _| target.sessions().len()), 0);
}

#[tokio::test]
async fn a_reservation_of_another_host_is_named_and_nothing_is_written() {
    let server = serve(Config::default(), &[A, A]).await;
    let (_target, unit) = twofold(&server).await;
    let other = Initiator::builder("iqn.2026-01.org.example:other".parse().unwrap())
        .build()
        .unwrap();
    let theirs = login(&other, &server, A, &[0]).await;
    let their_unit = theirs.logical_unit(number(0)).await.unwrap();
    let (key, kind) = (
        ReservationKey(0x5e),
        ReservationType::WriteExclusiveRegistrantsOnly,
    );
    their_unit
        .register(key, Registration::default())
        .await
        .unwrap();
    their_unit.reserve(kind).await.unwrap();
    let before = sessions_writes(&server, 0);
    assert_eq!(
        write(&unit, 0, 1).await,
        Err(IoErrorKind::ReservationConflict)
    );
    assert_eq!(sessions_writes(&server, 0), before);
    // No path is blamed, and reads go on.
    read(&unit, 0).await;
    let states = unit
        .topology()
        .paths
        .iter()
        .map(|path| path.state)
        .collect::<Vec<_>>();
    assert_eq!(states, [PathState::Active, PathState::Active]);
    let ours = ReservationKey(0x11);
    unit.register(ours, Registration::default()).await.unwrap();
    let error = unit
        .reserve(ReservationType::ExclusiveAccessRegistrantsOnly)
        .await;
    let Err(ReservationError::Conflict { held: Some(held) }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((held.key, held.kind), (key, kind));
    assert_eq!(unit.registration(), Some(ours));
}
