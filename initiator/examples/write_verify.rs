//! Writes a pattern to the last blocks of a logical unit, reads it back, and restores what was
//! there.
//!
//! `cargo run -p iscsi-initiator --example write_verify [PORTAL[,PORTAL..] TARGET [LUN]]`

#![allow(clippy::print_stdout, reason = "an example")]

mod support;

use anyhow::{Context as _, ensure};
use initiator::{Bytes, IoBuf, LogicalUnit};

/// How much is written; a multiple of every common block size.
const LENGTH: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let place = support::place().await?;
    let target = support::initiator()?.login(place.target).await?;
    let disk = target.logical_unit(place.lun).await?;
    let offset = disk.geometry().bytes().checked_sub(LENGTH as u64);
    let offset = offset.context("the disk is smaller than 1 MiB")?;

    let before = read(&disk, offset).await?.freeze();
    let pattern: Vec<u8> = (0..LENGTH).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let pattern = Bytes::from(pattern);
    disk.write_at(offset, pattern.clone()).await?;
    disk.flush().await?;
    let after = read(&disk, offset).await?;
    disk.write_at(offset, before).await?;
    disk.flush().await?;

    ensure!(after.as_slice() == pattern, "the disk holds something else");
    println!("{LENGTH} bytes at {offset} written, verified and restored");
    target.logout().await?;
    Ok(())
}

async fn read(disk: &LogicalUnit, offset: u64) -> anyhow::Result<IoBuf> {
    let (result, buf) = disk.read_at(offset, IoBuf::zeroed(LENGTH)).await;
    result?;
    Ok(buf)
}
