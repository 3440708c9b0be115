//! Reads and writes while a path is cut, and shows what happens.
//!
//! With the embedded target the example cuts the path itself. With a real one, name two portals
//! and cut one of them yourself while it runs (it only reads there).
//!
//! `cargo run -p iscsi-initiator --example failover [PORTAL,PORTAL TARGET [LUN]]`

#![allow(clippy::print_stdout, reason = "an example")]

mod support;

use std::time::Duration;

use anyhow::ensure;
use initiator::{Bytes, IoBuf, LoadBalancePolicy, LogicalUnit, PathState};

/// One I/O.
const PIECE: usize = 64 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let place = support::place().await?;
    let target = support::initiator()?.login(place.target).await?;
    let mut events = target.events();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            println!("  {event}");
        }
    });
    let disk = target.logical_unit(place.lun).await?;
    disk.set_policy(LoadBalancePolicy::RoundRobin);

    match &place.embedded {
        Some(server) => {
            println!("writing over {} paths", disk.topology().paths.len());
            write(&disk, 0).await?;
            println!("cutting the first path, writing on");
            server.cut(0).await?;
            write(&disk, 1).await?;
            println!("bringing it back");
            server.restore(0).await?;
            while disk
                .topology()
                .paths
                .iter()
                .any(|path| path.state != PathState::Active)
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            write(&disk, 2).await?;
        }
        None => {
            println!("reading for 20 seconds; cut a path now");
            let reading = async {
                loop {
                    disk.read_at(0, IoBuf::zeroed(PIECE)).await.0?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let result: Result<anyhow::Result<()>, _> =
                tokio::time::timeout(Duration::from_secs(20), reading).await;
            result.unwrap_or(Ok(()))?;
        }
    }
    for path in disk.topology().paths {
        println!("{}: {}, {} I/Os", path.label, path.state, path.stats.ios);
    }
    target.logout().await?;
    Ok(())
}

/// Writes 16 MiB and reads them back.
async fn write(disk: &LogicalUnit, seed: u8) -> anyhow::Result<()> {
    let data = Bytes::from(vec![seed; PIECE]);
    for offset in (0..16 << 20).step_by(PIECE) {
        disk.write_at(offset, data.clone()).await?;
        let (result, buf) = disk.read_at(offset, IoBuf::zeroed(PIECE)).await;
        result?;
        ensure!(
            buf.as_slice() == data,
            "what was read is not what was written"
        );
    }
    Ok(())
}
