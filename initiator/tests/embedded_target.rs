//! The whole initiator against the embedded target, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use initiator::{
    Bytes, ChapCredentials, DiscoveryAuth, Error, Event, Initiator, IoBuf, LoadBalancePolicy, Lun,
    MutualCredentials, NexusState, PathEvent, PathState, Portal, PortalGroupTag, PortalSpec,
    Secret, SessionEvent, Target, TargetSpec,
};
use test_target::{Chap, Config, Server};
use tokio::task::JoinSet;

const TARGET: &str = "iqn.2026-01.org.example:test-target";

/// The target and where it listens.
struct Rig {
    server: Server,
    portals: Vec<Portal>,
}

impl Rig {
    /// With as many portals as groups are given.
    async fn start(config: Config, groups: &[u16]) -> Self {
        let portal = |group: &u16| test_target::Portal {
            address: String::new(),
            group: *group,
        };
        let portals = groups.iter().map(portal).collect();
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let addresses = vec![loopback; groups.len()];
        let server = Server::start(Config { portals, ..config }, &addresses)
            .await
            .unwrap();
        let portals = server.local_addrs().into_iter().map(Portal::from).collect();
        Self { server, portals }
    }

    fn spec(&self) -> TargetSpec {
        TargetSpec {
            name: TARGET.parse().unwrap(),
            portals: self.portals.iter().cloned().map(PortalSpec::from).collect(),
            all_portals: false,
        }
    }

    /// ISIDs of the sessions that the target has, and whether it saw a broken rule.
    fn isids(&self) -> Vec<[u8; 6]> {
        self.server.with_target(|target, _| {
            target
                .sessions()
                .iter()
                .map(|session| session.isid)
                .collect()
        })
    }

    /// Ends the test: the initiator must have kept every rule.
    async fn finish(self) {
        let violations = self.server.violations();
        assert!(violations.is_empty(), "{violations:#?}");
        self.server.shutdown().await;
    }
}

fn builder() -> initiator::Builder {
    Initiator::builder("iqn.2026-01.org.example:initiator".parse().unwrap())
}

fn initiator() -> Initiator {
    builder()
        .policy(LoadBalancePolicy::RoundRobin)
        .build()
        .unwrap()
}

/// Everything in here waits for something to happen; this only ends a test that hangs.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("the test hangs")
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at / 512) as u8 ^ (at % 251) as u8 ^ seed)
        .collect()
}

async fn read(unit: &initiator::LogicalUnit, offset: u64, len: usize) -> Vec<u8> {
    let (result, buf) = unit.read_at(offset, IoBuf::zeroed(len)).await;
    result.unwrap();
    buf.as_slice().to_vec()
}

/// Waits until `count` paths of the unit carry I/O.
async fn active_paths(target: &Target, unit: &initiator::LogicalUnit, count: usize) {
    let mut events = target.events();
    loop {
        let topology = unit.topology();
        let active = topology
            .paths
            .iter()
            .filter(|path| path.state == PathState::Active);
        if active.count() == count {
            return;
        }
        events.recv().await.unwrap();
    }
}

#[tokio::test]
async fn writes_survive_the_loss_of_a_path_and_the_path_comes_back() {
    let rig = Rig::start(Config::default(), &[1, 2]).await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        assert!(target.warnings().is_empty());
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        assert_eq!(
            (unit.geometry().blocks, unit.geometry().block_bytes),
            (131_072, 512)
        );
        let first = pattern(1, 1 << 20);
        unit.write_at(0, Bytes::from(first.clone())).await.unwrap();

        rig.server.cut(0).await.unwrap();
        let second = pattern(2, 1 << 20);
        for (at, piece) in (1 << 20..).step_by(65_536).zip(second.chunks(65_536)) {
            unit.write_at(at, Bytes::copy_from_slice(piece))
                .await
                .unwrap();
        }
        unit.flush().await.unwrap();
        assert!(read(&unit, 0, 1 << 20).await == first);
        assert!(read(&unit, 1 << 20, 1 << 20).await == second);

        rig.server.restore(0).await.unwrap();
        active_paths(&target, &unit, 2).await;
        let before: Vec<_> = unit
            .topology()
            .paths
            .iter()
            .map(|path| path.stats.ios)
            .collect();
        for _ in 0..8 {
            read(&unit, 0, 4096).await;
        }
        for (path, before) in unit.topology().paths.iter().zip(before) {
            assert!(path.stats.ios > before, "{} is not used again", path.label);
        }
        // The target really has it, on whichever path it came.
        let there = rig
            .server
            .with_target(|target, _| target.disk(0).unwrap().read(0, 4096));
        assert!(there == [first, second].concat());
        target.logout().await.unwrap();
    })
    .await;
    assert_eq!(rig.isids(), Vec::<[u8; 6]>::new());
    rig.finish().await;
}

#[tokio::test]
async fn sessions_of_one_group_have_isids_of_their_own() {
    let rig = Rig::start(Config::default(), &[1, 1, 2]).await;
    in_time(async {
        let initiator = initiator();
        let one = initiator.login(rig.spec()).await.unwrap();
        let two = initiator.login(rig.spec()).await.unwrap();
        let mut isids = rig.isids();
        isids.sort_unstable();
        let qualifiers: Vec<_> = isids.iter().map(|isid| isid[4..].to_vec()).collect();
        assert_eq!(qualifiers, (0..6).map(|n| vec![0, n]).collect::<Vec<_>>());
        assert!(
            isids
                .iter()
                .all(|isid| isid[..4] == isids[0][..4] && isid[0] == 0x80)
        );
        let tags = one
            .sessions()
            .into_iter()
            .map(|it| it.session.target_portal_group_tag);
        assert!(tags.eq([1, 1, 2].map(|tag| Some(PortalGroupTag(tag)))));
        one.logout().await.unwrap();
        assert_eq!(rig.isids().len(), 3);
        assert!(
            two.sessions()
                .iter()
                .all(|it| matches!(it.state, NexusState::Up(_)))
        );
        // What was logged out is free again; what was not is left alone.
        let three = initiator.login(rig.spec()).await.unwrap();
        assert_eq!(rig.isids().len(), 6);
        two.logout().await.unwrap();
        three.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

/// 64 writes of 64 KiB, under way on both paths while the target thinks.
async fn start_writes(
    rig: &Rig,
    unit: &initiator::LogicalUnit,
) -> JoinSet<Result<(), initiator::IoError>> {
    let mut writes = JoinSet::new();
    for n in 0..64_u64 {
        let unit = unit.clone();
        let data = Bytes::from(pattern(n as u8, 65_536));
        writes.spawn(async move { unit.write_at(n * 65_536, data).await });
    }
    loop {
        let sessions = rig.server.with_target(|target, _| target.sessions());
        if sessions.iter().all(|session| !session.tasks.is_empty()) {
            return writes;
        }
        tokio::task::yield_now().await;
    }
}

async fn all_written(
    writes: JoinSet<Result<(), initiator::IoError>>,
    unit: &initiator::LogicalUnit,
) {
    for result in writes.join_all().await {
        result.unwrap();
    }
    for n in 0..64_u64 {
        assert!(read(unit, n * 65_536, 65_536).await == pattern(n as u8, 65_536));
    }
}

fn thinking() -> Config {
    Config {
        execution_delay: Duration::from_millis(50),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_lost_path_is_fenced_through_the_other_portal_of_its_group() {
    let rig = Rig::start(thinking(), &[1, 1]).await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        let writes = start_writes(&rig, &unit).await;
        // It stays away: only the other portal can tell that the old session is over.
        rig.server.cut(0).await.unwrap();
        all_written(writes, &unit).await;
        let fences: Vec<_> = unit
            .topology()
            .paths
            .iter()
            .map(|path| path.stats.fences)
            .collect();
        assert_eq!(fences, [1, 0]);
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_lost_path_without_another_portal_in_its_group_holds_its_writes() {
    let rig = Rig::start(thinking(), &[1, 2]).await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        let mut events = target.events();
        let writes = start_writes(&rig, &unit).await;
        rig.server.cut(0).await.unwrap();
        loop {
            let event = events.recv().await.unwrap();
            if let Event::Unit { event, .. } = event {
                assert!(!matches!(event, PathEvent::FenceEnd { .. }), "{event}");
                if matches!(event, PathEvent::FenceFailed { .. }) {
                    break;
                }
            }
        }
        assert!(unit.topology().held_ranges > 0);
        rig.server.restore(0).await.unwrap();
        all_written(writes, &unit).await;
        assert_eq!(unit.topology().held_ranges, 0);
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_portal_that_is_away_at_login_joins_later() {
    let rig = Rig::start(Config::default(), &[1, 2]).await;
    in_time(async {
        rig.server.cut(1).await.unwrap();
        let target = initiator().login(rig.spec()).await.unwrap();
        let [(portal, error)] = target.warnings() else {
            panic!("{:?}", target.warnings());
        };
        assert_eq!(*portal, rig.portals[1]);
        assert!(matches!(error, Error::NoPortalReachable { .. }), "{error}");
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        unit.write_at(0, Bytes::from(pattern(3, 4096)))
            .await
            .unwrap();
        rig.server.restore(1).await.unwrap();
        active_paths(&target, &unit, 2).await;
        assert!(read(&unit, 0, 4096).await == pattern(3, 4096));
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn discovery_finds_targets_and_all_their_portals() {
    let elsewhere = "iqn.2026-01.org.example:elsewhere";
    let listed_targets = vec![(elsewhere.to_owned(), vec!["192.0.2.1:3260,9".to_owned()])];
    let config = Config {
        listed_targets,
        ..Config::default()
    };
    let rig = Rig::start(config, &[1, 2, 2]).await;
    in_time(async {
        let initiator = initiator();
        let found = initiator.discover(&rig.portals[1]).await.unwrap();
        let ours = found
            .iter()
            .find(|target| target.name.as_str() == TARGET)
            .unwrap();
        let tags = [1, 2, 2].map(|tag| Some(PortalGroupTag(tag)));
        let expected: Vec<_> = rig.portals.iter().cloned().zip(tags).collect();
        assert_eq!(ours.portals, expected);
        assert!(found.iter().any(|target| target.name.as_str() == elsewhere));

        let spec = TargetSpec {
            portals: vec![rig.portals[2].clone().into()],
            all_portals: true,
            ..rig.spec()
        };
        let target = initiator.login(spec).await.unwrap();
        let homes: Vec<_> = target.sessions().into_iter().map(|it| it.home).collect();
        let order = [2, 0, 1].map(|index: usize| rig.portals[index].clone());
        assert_eq!(homes, order);
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn units_are_listed_and_described() {
    let disk = |serial: &str, block_bytes| test_target::Lun {
        serial: serial.to_owned(),
        block_bytes,
        ..test_target::Lun::default()
    };
    let luns = vec![disk("A", 512), disk("B", 4096)];
    let rig = Rig::start(
        Config {
            luns,
            unit_attention_at_login: true,
            ..Config::default()
        },
        &[1],
    )
    .await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        let one = Lun::from_number(1);
        assert_eq!(target.luns().await.unwrap(), [Lun::ZERO, one]);
        let found = target.describe_lun(one).await.unwrap();
        assert_eq!(found.device_type, 0);
        assert_eq!(found.geometry.unwrap().block_bytes, 4096);
        assert!(found.identity.is_some() && !found.vendor.is_empty());
        let other = target.describe_lun(Lun::ZERO).await.unwrap();
        assert_ne!(found.identity, other.identity);
        let missing = Lun::from_number(7);
        for error in [
            target.describe_lun(missing).await.unwrap_err(),
            target.logical_unit(missing).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, Error::NoSuchLun { lun, .. } if lun == missing),
                "{error}"
            );
        }
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_unit_asked_for_twice_is_one_unit() {
    let rig = Rig::start(Config::default(), &[1]).await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        let one = target.logical_unit(Lun::ZERO).await.unwrap();
        let two = target.logical_unit(Lun::ZERO).await.unwrap();
        one.close().await;
        assert!(two.is_closed());
        let three = target.logical_unit(Lun::ZERO).await.unwrap();
        read(&three, 0, 512).await;
        target.logout().await.unwrap();
        assert!(three.is_closed());
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let rig = Rig::start(Config::default(), &[1]).await;
    in_time(async {
        let initiator = initiator();
        let name = "iqn.2026-01.org.example:nobody";
        let unknown = TargetSpec {
            name: name.parse().unwrap(),
            ..rig.spec()
        };
        let error = initiator.login(unknown.clone()).await.unwrap_err();
        assert!(matches!(error, Error::NoSuchTarget { .. }), "{error}");
        let unlisted = TargetSpec {
            all_portals: true,
            ..unknown
        };
        let error = initiator.login(unlisted).await.unwrap_err();
        assert!(matches!(error, Error::NoSuchTarget { .. }), "{error}");
        assert!(
            error.to_string().contains(name)
                && error.to_string().contains(&rig.portals[0].to_string())
        );
        rig.server.cut(0).await.unwrap();
        for all_portals in [false, true] {
            let error = initiator
                .login(TargetSpec {
                    all_portals,
                    ..rig.spec()
                })
                .await
                .unwrap_err();
            assert!(matches!(error, Error::NoPortalReachable { .. }), "{error}");
            assert!(
                error.to_string().contains(&rig.portals[0].to_string()),
                "{error}"
            );
        }
        let nowhere = TargetSpec {
            portals: Vec::new(),
            ..rig.spec()
        };
        assert!(matches!(
            initiator.login(nowhere).await,
            Err(Error::NoPortal)
        ));
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn authentication_is_kept() {
    let mutual = Some(("tuser".to_owned(), b"tsecret123456".to_vec()));
    let chap = Chap {
        mutual,
        ..Chap::one_way("iuser", b"isecret123456")
    };
    let config = Config {
        chap: Some(chap),
        chap_in_discovery: true,
        ..Config::default()
    };
    let rig = Rig::start(config, &[1]).await;
    let ours = |secret: &str| ChapCredentials::new("iuser", Secret::from_text(secret).unwrap());
    let theirs = |secret: &str| MutualCredentials {
        name: Some("tuser".to_owned()),
        secret: Secret::from_text(secret).unwrap(),
    };
    in_time(async {
        let good = builder()
            .chap(ours("isecret123456"))
            .mutual_chap(theirs("tsecret123456"));
        let initiator = good.clone().build().unwrap();
        assert_eq!(initiator.discover(&rig.portals[0]).await.unwrap().len(), 1);
        let target = initiator.login(rig.spec()).await.unwrap();
        target.logout().await.unwrap();

        let never = good.discovery_auth(DiscoveryAuth::None).build().unwrap();
        for (wrong, initiator) in [
            ("no credentials", builder().build().unwrap()),
            (
                "secret",
                builder().chap(ours("isecret123457")).build().unwrap(),
            ),
        ] {
            let error = initiator.login(rig.spec()).await.unwrap_err();
            assert!(matches!(error, Error::Login { .. }), "{wrong}: {error}");
            let error = initiator.discover(&rig.portals[0]).await.unwrap_err();
            assert!(matches!(error, Error::Login { .. }), "{wrong}: {error}");
        }
        let error = never.discover(&rig.portals[0]).await.unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
        let impostor = builder()
            .chap(ours("isecret123456"))
            .mutual_chap(theirs("tsecret123457"));
        let error = impostor
            .build()
            .unwrap()
            .login(rig.spec())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn events_tell_of_sessions_and_paths() {
    let rig = Rig::start(Config::default(), &[1, 2]).await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        let mut events = target.events();
        rig.server.cut(1).await.unwrap();
        let (mut session, mut path) = (false, false);
        while !(session && path) {
            let event = events.recv().await.unwrap();
            if let Event::Session { portal, event } = &event {
                session |= *portal == rig.portals[1] && matches!(event, SessionEvent::Lost { .. });
            }
            if let Event::Unit { lun, event } = &event {
                path |= *lun == Lun::ZERO && matches!(event, PathEvent::PathDown { .. });
            }
        }
        drop(unit);
        target.logout().await.unwrap();
        while events.recv().await.is_some() {}
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_portal_that_says_nothing_does_not_hold_up_the_login() {
    let rig = Rig::start(Config::default(), &[1, 2]).await;
    in_time(async {
        rig.server.black_hole(0).await.unwrap();
        // A login that nobody answers may take 15 seconds.
        let login = tokio::time::timeout(Duration::from_secs(10), async {
            initiator().login(rig.spec()).await
        });
        let target = login.await.unwrap().unwrap();
        let [(portal, error)] = target.warnings() else {
            panic!("{:?}", target.warnings());
        };
        assert_eq!(*portal, rig.portals[0]);
        assert!(matches!(error, Error::NoPortalReachable { .. }), "{error}");
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        read(&unit, 0, 4096).await;
        rig.server.restore(0).await.unwrap();
        active_paths(&target, &unit, 2).await;
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_redirection_is_followed() {
    let rig = Rig::start(Config::default(), &[1, 1]).await;
    let redirect = test_target::Redirect {
        address: rig.portals[1].to_string(),
        permanent: false,
        portal: Some(0),
    };
    rig.server
        .with_target(|target, _| target.config_mut().quirks.redirect = Some(redirect));
    in_time(async {
        let spec = TargetSpec {
            portals: vec![rig.portals[0].clone().into()],
            ..rig.spec()
        };
        let target = initiator().login(spec).await.unwrap();
        let [session] = &target.sessions()[..] else {
            panic!("one portal is one session");
        };
        assert_eq!(
            (&session.home, &session.portal),
            (&rig.portals[0], &rig.portals[1])
        );
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        read(&unit, 0, 4096).await;
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_target_that_is_dropped_is_logged_out_once_its_units_are_gone() {
    let rig = Rig::start(Config::default(), &[1, 2]).await;
    in_time(async {
        let target = initiator().login(rig.spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        drop(target);
        read(&unit, 0, 4096).await;
        assert_eq!(rig.isids().len(), 2);
        drop(unit);
        while !rig.isids().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn portals_beyond_what_a_unit_can_use_are_left_out_and_told() {
    let rig = Rig::start(Config::default(), &[1; 34]).await;
    in_time(async {
        let spec = TargetSpec {
            portals: vec![rig.portals[33].clone().into()],
            all_portals: true,
            ..rig.spec()
        };
        let target = initiator().login(spec).await.unwrap();
        assert_eq!(target.sessions().len(), 32);
        assert_eq!(target.sessions()[0].home, rig.portals[33]);
        let spare: Vec<_> = target
            .warnings()
            .iter()
            .map(|(portal, _)| portal.clone())
            .collect();
        assert_eq!(spare, rig.portals[31..33]);
        target.logout().await.unwrap();
        let error = initiator().login(rig.spec()).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooManySessions {
                    given: 34,
                    max: 32,
                    ..
                }
            ),
            "{error}"
        );
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_unit_closed_over_a_lost_write_is_not_used_anew_before_the_path_is_fenced() {
    let rig = Rig::start(thinking(), &[1, 2]).await;
    in_time(async {
        let initiator = builder()
            .policy(LoadBalancePolicy::RoundRobin)
            .no_path_retry(initiator::NoPathRetry::For(Duration::from_millis(200)))
            .build()
            .unwrap();
        let target = initiator.login(rig.spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        let writes = start_writes(&rig, &unit).await;
        rig.server.cut(0).await.unwrap();
        while unit.topology().held_ranges == 0 {
            tokio::task::yield_now().await;
        }
        unit.close().await;
        let unknown = writes.join_all().await.into_iter().filter_map(Result::err);
        assert!(unknown.filter(|error| !error.settled).count() > 0);
        // The other path is fine, but what was lost on this one may still land.
        match target.logical_unit(Lun::ZERO).await {
            Err(Error::Unsettled { ranges, .. }) => assert!(ranges > 0),
            other => panic!("{other:?}"),
        }
        rig.server.restore(0).await.unwrap();
        assert!(unit.settled().await);
        let again = target.logical_unit(Lun::ZERO).await.unwrap();
        again.write_at(0, vec![7; 65_536].into()).await.unwrap();
        target.logout().await.unwrap();
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_logout_says_that_a_lost_write_may_still_land() {
    let rig = Rig::start(thinking(), &[1, 2]).await;
    in_time(async {
        let timeouts = initiator::Timeouts {
            logout: Duration::from_millis(500),
            ..initiator::Timeouts::default()
        };
        let initiator = builder()
            .policy(LoadBalancePolicy::RoundRobin)
            .timeouts(timeouts)
            .build()
            .unwrap();
        let target = initiator.login(rig.spec()).await.unwrap();
        let unit = target.logical_unit(Lun::ZERO).await.unwrap();
        let writes = start_writes(&rig, &unit).await;
        rig.server.cut(0).await.unwrap();
        while unit.topology().held_ranges == 0 {
            tokio::task::yield_now().await;
        }
        match target.logout().await {
            Err(Error::Unsettled { ranges, .. }) => assert!(ranges > 0),
            other => panic!("{other:?}"),
        }
        let unknown = writes.join_all().await.into_iter().filter_map(Result::err);
        assert!(unknown.filter(|error| !error.settled).count() > 0);
    })
    .await;
    rig.finish().await;
}
