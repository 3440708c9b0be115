//! Asks a portal for its targets, and each target for its logical units.
//!
//! `cargo run -p iscsi-initiator --example discovery [PORTAL]`

#![allow(clippy::print_stdout, reason = "an example")]

mod support;

use initiator::{Portal, PortalSpec, TargetSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut embedded = None;
    let portal: Portal = match std::env::args().nth(1) {
        Some(portal) => portal.parse()?,
        None => {
            let place = embedded.insert(support::place().await?);
            let first = place.target.portals.first();
            first
                .map(|given| given.portal.clone())
                .unwrap_or("127.0.0.1".parse()?)
        }
    };
    let initiator = support::initiator()?;
    for found in initiator.discover(&portal).await? {
        println!("{}", found.name);
        let mut portals = Vec::new();
        for (portal, group) in found.portals {
            let shown = group.map_or_else(|| "?".to_owned(), |group| group.to_string());
            println!("  portal {portal}, group {shown}");
            portals.push(PortalSpec { portal, group });
        }
        let spec = TargetSpec {
            name: found.name,
            portals,
            all_portals: false,
        };
        let target = match initiator.login(spec).await {
            Ok(target) => target,
            Err(error) => {
                println!("  {error}");
                continue;
            }
        };
        for lun in target.luns().await? {
            let unit = target.describe_lun(lun).await?;
            println!(
                "  LUN {lun}: {} {} {}",
                unit.vendor, unit.product, unit.revision
            );
            if let Some(size) = unit.geometry {
                println!("    {} blocks of {} bytes", size.blocks, size.block_bytes);
            }
        }
        target.logout().await?;
    }
    Ok(())
}
