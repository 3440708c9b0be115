//! What the tests of the driver share: a target on loopback, commands, patience.

#![allow(dead_code, unreachable_pub, reason = "not every test needs everything")]

use std::net::SocketAddr;
use std::time::Duration;

use iscsi::name::{Isid, Portal};
use iscsi::net::{LunNexus, SessionHandle};
use iscsi::session::SessionConfig;
use scsi::{
    Blocks, Bytes, Cdb, Command, Completion, DataPhase, IoBuf, Lba, Lun, Outcome, RwOptions,
    Status, TaskAttribute,
};
use test_target::{Config, Server};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn serve(config: Config) -> (Server, SessionConfig) {
    serve_on(config, 1).await
}

/// A target with `portals` portals in one group; the configuration knows them all.
pub async fn serve_on(config: Config, portals: usize) -> (Server, SessionConfig) {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let target = config.target_name.parse().unwrap();
    let server = Server::start(config, &vec![loopback; portals])
        .await
        .unwrap();
    let mut portals = server.local_addrs().into_iter().map(Portal::from);
    let portal = portals.next().unwrap();
    let initiator = "iqn.2024-01.test:initiator".parse().unwrap();
    let mut config = SessionConfig::new(initiator, target, portal, Isid([0x80, 0, 0, 1, 0, 1]));
    config.group_portals = portals.collect();
    config.honour_time2wait = false;
    (server, config)
}

pub async fn login(config: SessionConfig) -> LunNexus {
    let session = SessionHandle::login(config).await.unwrap();
    session.nexus(Lun::ZERO)
}

pub fn command(cdb: Cdb, data: DataPhase) -> Command {
    Command {
        cdb,
        data,
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: Duration::from_secs(30),
        only_in: None,
    }
}

pub fn write(lba: u64, data: Bytes) -> Command {
    let blocks = Blocks((data.len() / 512) as u32);
    let cdb = Cdb::write(Lba(lba), blocks, RwOptions::default());
    command(cdb, DataPhase::Write(data))
}

pub fn read(lba: u64, bytes: usize) -> Command {
    let blocks = Blocks((bytes / 512) as u32);
    let cdb = Cdb::read(Lba(lba), blocks, RwOptions::default());
    command(cdb, DataPhase::Read(IoBuf::zeroed(bytes)))
}

pub fn is_good(completion: &Completion) -> bool {
    matches!(&completion.outcome, Outcome::Answered(answer) if answer.status == Status::GOOD)
}

pub fn contents(completion: Completion) -> IoBuf {
    assert!(is_good(&completion), "{:?}", completion.outcome);
    match completion.data {
        DataPhase::Read(buf) => buf,
        other => panic!("{other:?}"),
    }
}

pub fn pattern(seed: usize, bytes: usize) -> Bytes {
    (0..bytes)
        .map(|at| (seed.wrapping_mul(31) + at * 7 % 253) as u8)
        .collect()
}

pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it hangs")
}

/// Waits for something that has no event of its own.
pub async fn until(mut condition: impl FnMut() -> bool) {
    in_time(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
