//! The driver over real sockets on loopback, against the embedded target: many callers, dropped
//! futures, cut connections, ends.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test may fail by panicking"
)]

mod support;

use std::time::Duration;

use iscsi::net::Effect;
use iscsi::session::{ManagementFunction, TaskManagementError};
use scsi::{Nexus, NexusState, Outcome};
use support::{PATIENCE, contents, in_time, is_good, login, pattern, read, serve, until, write};
use test_target::Config;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_on_many_threads_get_their_own_data() {
    for digest in ["None", "CRC32C"] {
        let (server, mut config) = serve(Config::default()).await;
        config.offer.set("HeaderDigest", digest).unwrap();
        config.offer.set("DataDigest", digest).unwrap();
        config.queue_depth = 16;
        let nexus = login(config).await;
        let mut callers = JoinSet::new();
        for caller in 0..32_usize {
            let nexus = nexus.clone();
            callers.spawn(async move {
                for round in 0..12 {
                    let bytes = [512, 4096, 8192, 65_536][(caller + round) % 4];
                    let lba = (caller * 256) as u64;
                    let data = pattern(caller * 100 + round, bytes);
                    let written = nexus.execute(write(lba, data.clone())).await;
                    assert!(is_good(&written), "{:?}", written.outcome);
                    let back = contents(nexus.execute(read(lba, bytes)).await);
                    assert!(back.as_slice() == data, "caller {caller}, round {round}");
                }
            });
        }
        in_time(async { while callers.join_next().await.transpose().unwrap().is_some() {} }).await;
        assert_eq!(server.violations(), []);
        let stats = nexus.session().snapshot().stats;
        assert_eq!((stats.commands, stats.logins), (32 * 12 * 2, 1));
    }
}

#[tokio::test]
async fn a_long_read_goes_straight_to_its_place() {
    let (server, mut config) = serve(Config::default()).await;
    config.offer.set("DataDigest", "CRC32C").unwrap();
    let nexus = login(config).await;
    let data = pattern(3, 1 << 20);
    assert!(is_good(
        &in_time(nexus.execute(write(0, data.clone()))).await
    ));
    for _ in 0..8 {
        let back = contents(in_time(nexus.execute(read(0, 1 << 20))).await);
        assert!(back.as_slice() == data);
    }
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn unsolicited_data_of_several_batches_do_not_wait_for_a_timer() {
    let mut target = Config::default();
    target.keys.max_recv_data_segment_bytes = 2048;
    let (server, config) = serve(target).await;
    let nexus = login(config).await;
    // 128 Data-Outs; one batch takes about 30. Keepalives would come after 5 s.
    let begin = tokio::time::Instant::now();
    for round in 0..3 {
        let data = pattern(round, 262_144);
        assert!(is_good(&in_time(nexus.execute(write(0, data))).await));
    }
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(server.violations(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_ends_when_connections_are_cut_under_load() {
    let (server, config) = serve(Config::default()).await;
    let nexus = login(config).await;
    let mut callers = JoinSet::new();
    for caller in 0..8_usize {
        let nexus = nexus.clone();
        callers.spawn(async move {
            let (lba, mut good, mut bad) = ((caller * 256) as u64, 0, 0);
            for round in 0.. {
                let data = pattern(caller * 1000 + round, 32_768);
                let written = nexus.execute(write(lba, data.clone())).await;
                assert_eq!(written.data.len(), data.len(), "the memory comes back");
                if !is_good(&written) {
                    bad += 1;
                    let down = nexus.state();
                    if matches!(down, NexusState::Down(_)) {
                        nexus.changed(down).await;
                    }
                    continue;
                }
                let completion = nexus.execute(read(lba, data.len())).await;
                if is_good(&completion) {
                    assert!(contents(completion).as_slice() == data);
                    good += 1;
                }
                if nexus.session().snapshot().stats.logins > 4 && good > 20 {
                    return bad;
                }
            }
            bad
        });
    }
    for _ in 0..4 {
        let logins = nexus.session().snapshot().stats.logins;
        let commands = nexus.session().snapshot().stats.commands;
        until(|| nexus.session().snapshot().stats.commands > commands + 20).await;
        server.cut(0).await.unwrap();
        server.restore(0).await.unwrap();
        until(|| nexus.session().snapshot().stats.logins > logins).await;
    }
    let mut lost = 0;
    in_time(async {
        while let Some(bad) = callers.join_next().await {
            lost += bad.unwrap();
        }
    })
    .await;
    assert!(lost > 0, "the cuts hit something");
    assert_eq!(nexus.session().snapshot().in_flight, 0);
    assert_eq!(server.violations(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_leave_no_slot_behind() {
    let target = Config {
        execution_delay: Duration::from_millis(1),
        ..Config::default()
    };
    let (server, mut config) = serve(target).await;
    config.queue_depth = 4;
    let nexus = login(config).await;
    for round in 0..200_u64 {
        let mut callers = JoinSet::new();
        for caller in 0..8_u64 {
            let nexus = nexus.clone();
            let limit = Duration::from_micros((round * 37 + caller * 211) % 3000);
            callers.spawn(async move {
                let command = if caller % 2 == 0 {
                    read(caller * 8, 4096)
                } else {
                    write(caller * 8, pattern(caller as usize, 4096))
                };
                // Dropped while it waits for a slot, for the socket, or for the answer.
                let _ = tokio::time::timeout(limit, nexus.execute(command)).await;
            });
        }
        in_time(async { while callers.join_next().await.transpose().unwrap().is_some() {} }).await;
    }
    let mut all = JoinSet::new();
    for _ in 0..4 {
        let nexus = nexus.clone();
        all.spawn(async move { contents(nexus.execute(read(0, 512)).await) });
    }
    in_time(async { while all.join_next().await.transpose().unwrap().is_some() {} }).await;
    until(|| nexus.session().snapshot().in_flight == 0).await;
    let stats = nexus.session().snapshot().stats;
    assert_eq!((stats.logins, stats.losses), (1, 0));
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn a_caller_without_a_slot_is_not_forgotten_when_the_session_ends() {
    let (server, mut config) = serve(Config::default()).await;
    config.queue_depth = 1;
    config.timeouts.logout = Duration::from_millis(50);
    let nexus = login(config).await;
    server.black_hole(0).await.unwrap();
    let session = nexus.session().clone();
    let mut first = Box::pin(nexus.execute(read(0, 512)));
    assert!(futures_poll(&mut first).await.is_none());
    let mut second = Box::pin(nexus.execute(read(0, 512)));
    assert!(futures_poll(&mut second).await.is_none());
    in_time(session.logout()).await;
    // The first has ended, but nobody looks: it is dropped instead.
    drop(first);
    let completion = in_time(second).await;
    assert_eq!(completion.data.len(), 512);
    assert!(matches!(completion.outcome, Outcome::Failed(_)));
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_dropped_write_is_not_settled_before_its_abort_is_answered() {
    let (server, config) = serve(Config::default()).await;
    let nexus = login(config).await;
    let NexusState::Up(life) = nexus.state() else {
        panic!("not up")
    };
    server.black_hole(0).await.unwrap();
    let mut dropped = Box::pin(nexus.execute(write(0, pattern(1, 512))));
    assert!(futures_poll(&mut dropped).await.is_none());
    drop(dropped);
    let settled = nexus.settle(life, Duration::from_millis(100)).await;
    assert!(settled.is_err(), "nobody answered");
    server.restore(0).await.unwrap();
    in_time(nexus.settle(life, PATIENCE)).await.unwrap();
}

#[tokio::test]
async fn the_last_handle_logs_out() {
    let (server, config) = serve(Config::default()).await;
    let nexus = login(config).await;
    let sessions = || server.with_target(|target, _| target.sessions().len());
    assert_eq!(sessions(), 1);
    let other = nexus.clone();
    drop(nexus);
    assert!(is_good(&in_time(other.execute(read(0, 512))).await));
    drop(other);
    until(|| sessions() == 0).await;
    assert_eq!(server.violations(), []);
}

#[test]
fn callers_of_a_session_whose_runtime_is_gone_are_told() {
    let own = tokio::runtime::Runtime::new().unwrap();
    let shards = tokio::runtime::Runtime::new().unwrap();
    let (server, config) = own.block_on(serve(Config::default()));
    let nexus = shards.block_on(login(config));
    own.block_on(async {
        server.black_hole(0).await.unwrap();
        let mut waiting = Box::pin(nexus.execute(read(0, 512)));
        assert!(futures_poll(&mut waiting).await.is_none());
        shards.shutdown_background();
        let completion = in_time(waiting).await;
        assert_eq!(completion.data.len(), 512);
        assert!(matches!(completion.outcome, Outcome::Failed(_)));
        assert_eq!(nexus.state(), NexusState::Closed);
        assert!(in_time(nexus.execute(read(0, 512))).await.data.len() == 512);
        in_time(nexus.session().logout()).await;
    });
}

#[tokio::test]
async fn task_management_and_its_answers() {
    let (server, mut config) = serve(Config::default()).await;
    config.offer.set("iSCSIProtocolLevel", "2").unwrap();
    let nexus = login(config).await;
    let functions = [
        ManagementFunction::AbortTaskSet,
        ManagementFunction::ClearTaskSet,
        ManagementFunction::LogicalUnitReset,
    ];
    for function in functions {
        let response = in_time(nexus.task_management(function)).await.unwrap();
        assert!(
            response.response.is_done(),
            "{function}: {}",
            response.response
        );
    }
    // Whatever the target makes of them, they are answered or refused.
    let level = nexus.session().snapshot().session.protocol_level;
    let asked = in_time(nexus.task_management(ManagementFunction::QueryTaskSet)).await;
    match asked {
        Ok(response) => assert!(level >= 2, "{}", response.response),
        Err(error) => assert!(
            matches!(
                error,
                TaskManagementError::ProtocolLevel { level: 0 | 1, .. }
            ),
            "{error}"
        ),
    }
    // A dropped future leaves the request alone.
    drop(nexus.task_management(ManagementFunction::AbortTaskSet));
    // The reset is told in a unit attention.
    assert!(!is_good(&in_time(nexus.execute(read(0, 512))).await));
    assert!(is_good(&in_time(nexus.execute(read(0, 512))).await));
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn parameters_change_while_data_move() {
    let (server, config) = serve(Config::default()).await;
    let nexus = login(config).await;
    let data = pattern(5, 1 << 20);
    assert!(is_good(
        &in_time(nexus.execute(write(0, data.clone()))).await
    ));
    for bytes in ["4096", "262144", "512"] {
        let set = nexus.session().set("MaxRecvDataSegmentLength", bytes);
        let (effect, back) =
            in_time(async { tokio::join!(set, nexus.execute(read(0, 1 << 20))) }).await;
        assert_eq!(effect.unwrap(), Effect::Renegotiated, "{bytes}");
        assert!(contents(back).as_slice() == data);
        let in_force = nexus.session().snapshot().connection.max_recv_bytes;
        assert_eq!(in_force.to_string(), bytes);
        let back = in_time(nexus.execute(read(0, 1 << 20))).await;
        assert!(contents(back).as_slice() == data);
    }
    let later = in_time(nexus.session().set("MaxBurstLength", "65536")).await;
    assert_eq!(later.unwrap(), Effect::NextLogin);
    let now = in_time(nexus.session().set("ImmediateData", "No")).await;
    assert_eq!(now.unwrap(), Effect::Now);
    assert!(is_good(&in_time(nexus.execute(write(0, data))).await));
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn a_normal_session_tells_where_its_target_is() {
    let (server, config) = serve(Config::default()).await;
    let (name, portal) = (config.target_name.clone(), config.portal.clone());
    let nexus = login(config).await;
    let targets = in_time(nexus.session().targets(None)).await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].name, name);
    assert_eq!(targets[0].portals[0].0, portal);
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn a_ping_is_answered_by_the_target_and_by_nobody_else() {
    let (server, config) = serve(Config::default()).await;
    let nexus = login(config).await;
    let NexusState::Up(life) = nexus.state() else {
        panic!("not up")
    };
    in_time(nexus.ping(life, PATIENCE)).await.unwrap();
    let other = scsi::Incarnation(life.0 + 1);
    let error = nexus.ping(other, PATIENCE).await.unwrap_err();
    assert_eq!(error, scsi::PingError::Down);
    server.black_hole(0).await.unwrap();
    let short = Duration::from_millis(100);
    let error = nexus.ping(life, short).await.unwrap_err();
    assert_eq!(error, scsi::PingError::NoAnswer);
    server.restore(0).await.unwrap();
    in_time(nexus.ping(life, PATIENCE)).await.unwrap();
    assert_eq!(server.violations(), []);
}
