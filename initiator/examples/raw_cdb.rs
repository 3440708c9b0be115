//! Sends a command of our own making: INQUIRY, byte by byte.
//!
//! A raw command is sent again only when it certainly did not run.
//!
//! `cargo run -p iscsi-initiator --example raw_cdb [PORTAL[,PORTAL..] TARGET [LUN]]`

#![allow(clippy::print_stdout, reason = "an example")]

mod support;

use std::time::Duration;

use anyhow::{Context as _, bail};
use initiator::{Cdb, Command, DataPhase, IoBuf, TaskAttribute};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let place = support::place().await?;
    let target = support::initiator()?.login(place.target).await?;
    let disk = target.logical_unit(place.lun).await?;

    // Standard INQUIRY data, 96 bytes at most.
    let cdb = Cdb::from_slice(&[0x12, 0, 0, 0, 96, 0]).context("a CDB has 1 to 260 bytes")?;
    let command = Command {
        cdb,
        data: DataPhase::Read(IoBuf::zeroed(96)),
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: Duration::from_secs(10),
        only_in: None,
    };
    let (result, data) = disk.execute(command).await;
    let answer = result?;
    let DataPhase::Read(buf) = data else {
        bail!("the data phase went in as a read and did not come back as one");
    };
    let bytes = buf.as_slice().get(..answer.transferred).unwrap_or_default();
    println!("{}, {} bytes: {bytes:02x?}", answer.status, bytes.len());
    let text = bytes.get(8..36).unwrap_or_default();
    println!("{}", String::from_utf8_lossy(text));
    target.logout().await?;
    Ok(())
}
