//! Persistent reservations over several paths, against the embedded target.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use initiator::reservation::{Registration, ReservationKey, ReservationType};
use initiator::{
    Bytes, Event, Initiator, IoErrorKind, LogicalUnit, Lun, PathEvent, Portal, PortalSpec,
    ReservationError, Target, TargetSpec,
};
use test_target::{Config, Server};

const OURS: ReservationKey = ReservationKey(0xaaaa);
const THEIRS: ReservationKey = ReservationKey(0xbbbb);
const KIND: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

async fn start() -> (Server, Vec<Portal>) {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let portal = |group| test_target::Portal {
        address: String::new(),
        group,
    };
    let config = Config {
        portals: vec![portal(1), portal(2)],
        ..Config::default()
    };
    let server = Server::start(config, &[loopback; 2]).await.unwrap();
    let portals = server.local_addrs().into_iter().map(Portal::from).collect();
    (server, portals)
}

/// A host with its paths to the unit.
async fn host(name: &str, portals: &[Portal]) -> (Target, LogicalUnit) {
    let name = format!("iqn.2026-01.org.example:{name}").parse().unwrap();
    let initiator = Initiator::builder(name).build().unwrap();
    let spec = TargetSpec {
        name: "iqn.2026-01.org.example:test-target".parse().unwrap(),
        portals: portals.iter().cloned().map(PortalSpec::from).collect(),
        all_portals: false,
    };
    let target = initiator.login(spec).await.unwrap();
    let unit = target.logical_unit(Lun::ZERO).await.unwrap();
    (target, unit)
}

/// Ends a test that hangs.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, work)
        .await
        .expect("the test hangs")
}

async fn keys(unit: &LogicalUnit) -> Vec<(u64, usize)> {
    let list = unit.registered_keys().await.unwrap();
    list.iter().map(|it| (it.key.0, it.nexuses)).collect()
}

async fn may_write(unit: &LogicalUnit) -> bool {
    match unit.write_at(0, Bytes::from(vec![7; 512])).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind, IoErrorKind::ReservationConflict, "{error}");
            false
        }
    }
}

async fn wait_for(target: &Target, wanted: impl Fn(&PathEvent) -> bool, act: impl Future) {
    let mut events = target.events();
    act.await;
    loop {
        if let Event::Unit { event, .. } = events.recv().await.expect("more events")
            && wanted(&event)
        {
            return;
        }
    }
}

fn is_down(event: &PathEvent) -> bool {
    matches!(event, PathEvent::PathDown { .. })
}

fn is_back(event: &PathEvent) -> bool {
    matches!(event, PathEvent::PathReinstated { .. })
}

#[tokio::test]
async fn one_key_on_all_paths_lets_this_host_write_and_no_other() {
    in_time(async {
        let (server, portals) = start().await;
        let (us, unit) = host("us", &portals).await;
        let (them, other) = host("them", &portals[..1]).await;
        assert!(matches!(
            unit.reserve(KIND).await,
            Err(ReservationError::NotRegistered { lost: false })
        ));
        unit.register(OURS, Registration::default()).await.unwrap();
        unit.reserve(KIND).await.unwrap();
        unit.reserve(KIND).await.unwrap();
        assert_eq!(keys(&unit).await, [(0xaaaa, 2)]);
        assert_eq!(keys(&other).await, [(0xaaaa, 2)]);
        for _ in 0..4 {
            assert!(may_write(&unit).await);
        }
        assert!(!may_write(&other).await);

        other
            .register(THEIRS, Registration::default())
            .await
            .unwrap();
        let Err(ReservationError::Conflict { held: Some(held) }) = other.reserve(KIND).await else {
            panic!("reserved twice");
        };
        assert_eq!((held.key, held.kind), (OURS, KIND));
        assert!(may_write(&other).await, "registered");

        unit.release_reservation().await.unwrap();
        assert_eq!(unit.reservation().await.unwrap().held, None);
        unit.unregister().await.unwrap();
        assert_eq!(keys(&unit).await, [(0xbbbb, 1)]);
        assert_eq!(unit.registration(), None);
        us.logout().await.unwrap();
        them.logout().await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_type_for_one_nexus_is_refused_with_two_paths() {
    in_time(async {
        let (server, portals) = start().await;
        let (us, unit) = host("us", &portals).await;
        unit.register(OURS, Registration::default()).await.unwrap();
        let refused = unit.reserve(ReservationType::ExclusiveAccess).await;
        assert!(matches!(
            refused,
            Err(ReservationError::OneNexusOnly { paths: 2, .. })
        ));
        assert_eq!(unit.reservation().await.unwrap().held, None);
        let nothing = unit
            .register(ReservationKey::NONE, Registration::default())
            .await;
        assert_eq!(nothing, Err(ReservationError::NoKey));
        us.logout().await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_path_that_comes_later_is_registered_before_it_carries_io() {
    in_time(async {
        let (server, portals) = start().await;
        let (us, unit) = host("us", &portals).await;
        wait_for(&us, is_down, async { server.cut(1).await.unwrap() }).await;
        unit.register(OURS, Registration::default()).await.unwrap();
        unit.reserve(KIND).await.unwrap();
        assert_eq!(keys(&unit).await, [(0xaaaa, 1)]);
        wait_for(&us, is_back, async { server.restore(1).await.unwrap() }).await;
        assert_eq!(keys(&unit).await, [(0xaaaa, 2)]);
        for _ in 0..4 {
            assert!(may_write(&unit).await);
        }
        us.logout().await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_was_preempted_while_a_path_was_away_stays_out() {
    in_time(async {
        let (server, portals) = start().await;
        let (us, unit) = host("us", &portals).await;
        let (them, other) = host("them", &portals[..1]).await;
        unit.register(OURS, Registration::default()).await.unwrap();
        unit.reserve(KIND).await.unwrap();
        wait_for(&us, is_down, async { server.cut(1).await.unwrap() }).await;
        other
            .register(THEIRS, Registration::default())
            .await
            .unwrap();
        other.preempt(OURS, KIND, true).await.unwrap();
        assert_eq!(keys(&other).await, [(0xbbbb, 1)]);
        let lost = |event: &PathEvent| matches!(event, PathEvent::RegistrationLost { .. });
        wait_for(&us, lost, async { server.restore(1).await.unwrap() }).await;
        assert_eq!(keys(&other).await, [(0xbbbb, 1)]);
        assert!(!may_write(&unit).await);
        assert!(may_write(&other).await);
        let refused = unit.reserve(KIND).await;
        assert_eq!(refused, Err(ReservationError::NotRegistered { lost: true }));
        let nobody = other.preempt(OURS, KIND, false).await;
        assert_eq!(nobody, Err(ReservationError::NoSuchKey(OURS)));
        us.logout().await.unwrap();
        them.logout().await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_reservation_is_released_although_its_holder_is_away() {
    in_time(async {
        let (server, portals) = start().await;
        let (us, unit) = host("us", &portals).await;
        unit.register(OURS, Registration::default()).await.unwrap();
        unit.reserve(KIND).await.unwrap();
        let status = unit.reservation_status().await.unwrap();
        let holder = status
            .registrants
            .iter()
            .find(|it| it.holds.is_some())
            .unwrap();
        let holder = usize::from(holder.target_port) - 1;
        wait_for(&us, is_down, async { server.cut(holder).await.unwrap() }).await;
        unit.release_reservation().await.unwrap();
        assert_eq!(unit.reservation().await.unwrap().held, None);
        assert_eq!(keys(&unit).await, [(0xaaaa, 1)]);
        wait_for(&us, is_back, async {
            server.restore(holder).await.unwrap()
        })
        .await;
        assert_eq!(keys(&unit).await, [(0xaaaa, 2)]);
        us.logout().await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_later_run_takes_its_registration_up_again() {
    in_time(async {
        let (server, portals) = start().await;
        let state = std::env::temp_dir().join(format!("iscsi-reservations-{}", std::process::id()));
        let run = || {
            let name = "iqn.2026-01.org.example:us".parse().unwrap();
            Initiator::builder(name)
                .state_directory(&state)
                .build()
                .unwrap()
        };
        let spec = || TargetSpec {
            name: "iqn.2026-01.org.example:test-target".parse().unwrap(),
            portals: portals.iter().cloned().map(PortalSpec::from).collect(),
            all_portals: false,
        };
        let first = run();
        let target = first.login(spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        unit.register(OURS, Registration::default()).await.unwrap();
        unit.reserve(KIND).await.unwrap();
        unit.close().await;
        target.logout().await.unwrap();
        drop((unit, first));

        let second = run();
        let target = second.login(spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        assert!(
            may_write(&unit).await && may_write(&unit).await,
            "the same nexuses"
        );
        let unknown = unit
            .adopt_registration(THEIRS, Registration::default())
            .await;
        assert_eq!(
            unknown,
            Err(ReservationError::NotRegistered { lost: false })
        );
        unit.adopt_registration(OURS, Registration::default())
            .await
            .unwrap();
        assert_eq!(keys(&unit).await, [(0xaaaa, 2)]);
        unit.clear_reservations().await.unwrap();
        assert_eq!(keys(&unit).await, []);
        target.logout().await.unwrap();
        server.shutdown().await;
        std::fs::remove_dir_all(&state).unwrap();
    })
    .await;
}
