//! Sessions on threads of the initiator's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use initiator::{
    Bytes, Initiator, IoBuf, LogicalUnit, Lun, NexusState, Portal, Runtime, Target, TargetSpec,
};
use test_target::{Config, Server};

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("the test hangs")
}

async fn serve() -> (Server, TargetSpec) {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(Config::default(), &[loopback, loopback])
        .await
        .unwrap();
    let portals = server.local_addrs().into_iter().map(Portal::from);
    let spec = TargetSpec {
        name: Config::default().target_name.parse().unwrap(),
        portals: portals.map(Into::into).collect(),
        all_portals: false,
    };
    (server, spec)
}

fn initiator(threads: usize) -> Initiator {
    let threads = NonZeroUsize::new(threads).unwrap();
    Initiator::builder("iqn.2026-01.org.example:sharded".parse().unwrap())
        .runtime(Runtime::Sharded { threads })
        .build()
        .unwrap()
}

async fn thread_of(target: &Target) -> String {
    let name = async { std::thread::current().name().unwrap().to_owned() };
    target.runtime().spawn(name).await.unwrap()
}

async fn write_and_read(unit: LogicalUnit, first: u64, seed: u8) {
    for round in 0..50_u64 {
        let offset = (first + round % 8) * 4096;
        let content = vec![seed ^ u8::try_from(round).unwrap(); 4096];
        unit.write_at(offset, Bytes::from(content.clone()))
            .await
            .unwrap();
        let (result, buf) = unit.read_at(offset, IoBuf::zeroed(4096)).await;
        result.unwrap();
        assert_eq!(buf.as_slice(), content);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_take_turns_on_the_shards_and_units_are_used_from_everywhere() {
    let (server, spec) = serve().await;
    let initiator = initiator(2);
    let first = in_time(initiator.login(spec.clone())).await.unwrap();
    let second = in_time(initiator.login(spec)).await.unwrap();
    assert_eq!(thread_of(&first).await, "iscsi-shard-0");
    assert_eq!(thread_of(&second).await, "iscsi-shard-1");

    let unit = in_time(first.logical_unit(Lun::ZERO)).await.unwrap();
    let other = in_time(second.logical_unit(Lun::ZERO)).await.unwrap();
    let at_home = first.runtime().spawn(write_and_read(unit.clone(), 0, 0x11));
    let elsewhere = tokio::spawn(write_and_read(unit, 8, 0x22));
    let on_the_other_shard = first.runtime().spawn(write_and_read(other, 16, 0x33));
    for work in [at_home, elsewhere, on_the_other_shard] {
        in_time(work).await.unwrap();
    }

    in_time(first.logout()).await.unwrap();
    in_time(second.logout()).await.unwrap();
    assert_eq!(server.violations(), []);
    server.shutdown().await;
}

#[tokio::test]
async fn what_outlives_the_initiator_keeps_its_shard_and_the_rest_logs_out() {
    let (server, spec) = serve().await;
    let initiator = initiator(1);
    let target = in_time(initiator.login(spec)).await.unwrap();
    let up = |snapshot: &initiator::SessionSnapshot| matches!(snapshot.state, NexusState::Up(_));
    assert!(target.sessions().iter().all(up));
    let unit = in_time(target.logical_unit(Lun::ZERO)).await.unwrap();
    drop(target);
    drop(initiator);
    in_time(write_and_read(unit.clone(), 0, 0x44)).await;

    drop(unit);
    let sessions = || server.with_target(|target, _| target.sessions().len());
    in_time(async {
        while sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(server.violations(), []);
    server.shutdown().await;
}
