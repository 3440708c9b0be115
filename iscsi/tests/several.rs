//! Sessions of several connections over real sockets on loopback, against the embedded target:
//! sharing, coming and going, and losing connections under load.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::missing_panics_doc,
    reason = "a test may fail by panicking"
)]

mod support;

use std::time::Duration;

use iscsi::net::LunNexus;
use iscsi::session::{ConnectionState, SessionStats};
use scsi::{Command, Completion, DeliveryErrorKind, Nexus, NexusState, Outcome};
use support::{contents, in_time, is_good, login, pattern, read, serve, serve_on, until, write};
use test_target::{CommandEffect, CommandFault, CommandFilter, Config, Count, Server};
use tokio::task::JoinSet;

/// Four connections of one session, to a target that takes as many.
async fn four() -> (Server, LunNexus) {
    let mut target = Config::default();
    target.keys.max_connections = 4;
    let (server, mut config) = serve(target).await;
    config.offer.set("MaxConnections", "4").unwrap();
    let nexus = login(config).await;
    until(|| up(&nexus) == 4).await;
    (server, nexus)
}

/// Connections in full feature phase.
fn up(nexus: &LunNexus) -> usize {
    let connections = nexus.session().snapshot().connections;
    let up = |state| state == ConnectionState::LoggedIn;
    connections.iter().filter(|it| up(it.state)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_connections_share_the_commands_of_many_callers() {
    let (server, nexus) = four().await;
    let mut callers = JoinSet::new();
    for caller in 0..16_usize {
        let nexus = nexus.clone();
        callers.spawn(async move {
            for round in 0..24 {
                let bytes = [512, 4096, 262_144, 65_536][(caller + round) % 4];
                let lba = (caller * 512) as u64;
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
    let snapshot = nexus.session().snapshot();
    assert_eq!(
        (snapshot.stats.commands, snapshot.stats.logins),
        (16 * 24 * 2, 1)
    );
    for connection in &snapshot.connections {
        assert!(connection.commands > 0, "{connection:?}");
        assert_eq!(connection.in_flight, 0);
    }
    nexus.session().logout().await;
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn connections_come_and_go_under_load() {
    let (server, nexus) = four().await;
    let load = {
        let nexus = nexus.clone();
        tokio::spawn(async move {
            for round in 0..400 {
                let data = pattern(round, 4096);
                let written = nexus.execute(write(0, data.clone())).await;
                assert!(is_good(&written), "{:?}", written.outcome);
            }
        })
    };
    for _ in 0..3 {
        let victim = nexus.session().snapshot().connections[0].cid;
        nexus.session().remove_connection(victim).unwrap();
        // Gone, and not only on its way out: as long as it is there it counts.
        until(|| nexus.session().snapshot().connections.len() == 3).await;
        nexus.session().add_connection(None).unwrap();
        until(|| up(&nexus) == 4).await;
    }
    in_time(load).await.unwrap();
    let stats = nexus.session().snapshot().stats;
    assert_eq!((stats.logins, stats.losses), (1, 0));
    assert_eq!(server.violations(), []);
}

/// A target at ErrorRecoveryLevel 2 with two portals, and a session of `connections` connections.
async fn recoverable(connections: u32) -> (Server, LunNexus) {
    let mut target = Config::default();
    target.keys.max_connections = 8;
    target.keys.error_recovery_level = 2;
    target.keys.time2wait_s = 0;
    target.keys.time2retain_s = 20;
    let (server, mut config) = serve_on(target, 2).await;
    // So that a connection never goes without commands that the target has.
    let slow = CommandFault {
        filter: CommandFilter::default(),
        count: Count::ALWAYS,
        effect: CommandEffect::DelayAnswer(Duration::from_millis(3)),
    };
    server.with_target(|target, _| target.fault_command(slow));
    let offer = &mut config.offer;
    offer
        .set("MaxConnections", &connections.to_string())
        .unwrap();
    offer.set("ErrorRecoveryLevel", "2").unwrap();
    let nexus = login(config).await;
    until(|| up(&nexus) == connections as usize).await;
    (server, nexus)
}

fn stats(nexus: &LunNexus) -> SessionStats {
    nexus.session().snapshot().stats
}

/// Executes a command, once the session takes commands. One that it has taken must not fail.
async fn taken(nexus: &LunNexus, command: impl Fn() -> Command) -> Completion {
    loop {
        let completion = nexus.execute(command()).await;
        let down = matches!(
            &completion.outcome,
            Outcome::Failed(error) if error.kind == DeliveryErrorKind::Down
        );
        if !down {
            return completion;
        }
        let state = nexus.state();
        if matches!(state, NexusState::Down(_)) {
            nexus.changed(state).await;
        }
    }
}

/// Callers that write and read back without pause until `enough`; none may see a failure.
fn load(nexus: &LunNexus, enough: fn(&SessionStats) -> bool) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for caller in 0..12_usize {
        let nexus = nexus.clone();
        callers.spawn(async move {
            let lba = (caller * 512) as u64;
            for round in 0.. {
                let bytes = [4096, 262_144, 65_536][(caller + round) % 3];
                let data = pattern(caller * 1000 + round, bytes);
                let written = taken(&nexus, || write(lba, data.clone())).await;
                assert!(is_good(&written), "{:?}", written.outcome);
                let back = contents(taken(&nexus, || read(lba, bytes)).await);
                assert!(back.as_slice() == data, "caller {caller}, round {round}");
                if enough(&stats(&nexus)) {
                    return;
                }
            }
        });
    }
    callers
}

async fn join(mut callers: JoinSet<()>) {
    in_time(async { while callers.join_next().await.transpose().unwrap().is_some() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_command_fails_when_connections_are_lost_at_level_2() {
    let (server, nexus) = recoverable(4).await;
    let callers = load(&nexus, |stats| stats.connections_lost >= 12);
    for _ in 0..6 {
        let before = stats(&nexus);
        until(|| stats(&nexus).commands > before.commands + 40).await;
        server.cut(1).await.unwrap();
        until(|| stats(&nexus).connections_lost >= before.connections_lost + 2).await;
        server.restore(1).await.unwrap();
        until(|| up(&nexus) == 4).await;
    }
    join(callers).await;
    let stats = stats(&nexus);
    assert_eq!((stats.logins, stats.losses), (1, 0), "one life");
    assert!(stats.reassigned > 0, "{stats:?}");
    assert_eq!(server.violations(), []);
    nexus.session().logout().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_command_fails_when_the_only_connection_is_reinstated() {
    let (server, nexus) = recoverable(1).await;
    let callers = load(&nexus, |stats| stats.connections_lost >= 4);
    for _ in 0..4 {
        let before = stats(&nexus);
        until(|| stats(&nexus).commands > before.commands + 40).await;
        for portal in [0, 1] {
            server.cut(portal).await.unwrap();
        }
        until(|| stats(&nexus).connections_lost > before.connections_lost).await;
        for portal in [0, 1] {
            server.restore(portal).await.unwrap();
        }
        until(|| up(&nexus) == 1).await;
    }
    join(callers).await;
    let stats = stats(&nexus);
    assert_eq!((stats.logins, stats.losses), (1, 0), "one life");
    assert!(stats.reassigned > 0, "{stats:?}");
    assert_eq!(server.violations(), []);
    nexus.session().logout().await;
}
