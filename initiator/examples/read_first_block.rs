//! Logs in and shows the first block of a logical unit.
//!
//! `cargo run -p iscsi-initiator --example read_first_block [PORTAL[,PORTAL..] TARGET [LUN]]`

#![allow(clippy::print_stdout, reason = "an example")]

mod support;

use initiator::IoBuf;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let place = support::place().await?;
    let target = support::initiator()?.login(place.target).await?;
    let disk = target.logical_unit(place.lun).await?;

    // The buffer goes in and comes back, whatever happens: a late answer can never write into
    // memory that somebody else uses by then.
    let block = usize::try_from(disk.geometry().block_bytes)?;
    let (result, buf) = disk.read_at(0, IoBuf::zeroed(block)).await;
    result?;

    for (line, bytes) in buf.as_slice().chunks(16).enumerate() {
        println!("{:04x}  {bytes:02x?}", line * 16);
    }
    target.logout().await?;
    Ok(())
}
