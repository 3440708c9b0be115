//! Where an example goes: to the target named by its arguments, or to one that it starts itself.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use initiator::{Initiator, Lun, Portal, PortalSpec, TargetSpec};
use test_target::{Config, Server};

/// A place to go to.
#[allow(dead_code, reason = "not every example needs all of it")]
pub(crate) struct Place {
    /// Which target, over which portals.
    pub(crate) target: TargetSpec,
    /// Which logical unit.
    pub(crate) lun: Lun,
    /// The target that was started, when none was named. Ends when dropped.
    pub(crate) embedded: Option<Server>,
}

/// Reads `PORTAL[,PORTAL..] TARGET [LUN]` from the arguments; without any, starts a target in
/// memory with two portals on loopback.
pub(crate) async fn place() -> anyhow::Result<Place> {
    let mut arguments = std::env::args().skip(1);
    let Some(portals) = arguments.next() else {
        return embedded().await;
    };
    let name = arguments
        .next()
        .context("arguments: PORTAL[,PORTAL..] TARGET [LUN]")?;
    let lun = arguments.next().map_or(Ok(Lun::ZERO), |lun| lun.parse())?;
    let portals: Result<Vec<Portal>, _> = portals.split(',').map(str::parse).collect();
    let portals = portals?.into_iter().map(PortalSpec::from).collect();
    let name = name.parse()?;
    let all_portals = false;
    Ok(Place {
        target: TargetSpec {
            name,
            portals,
            all_portals,
        },
        lun,
        embedded: None,
    })
}

async fn embedded() -> anyhow::Result<Place> {
    let config = Config::default();
    let name = config.target_name.parse()?;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::start(config, &[loopback, loopback]).await?;
    let portals = server.local_addrs().into_iter().map(Portal::from);
    Ok(Place {
        target: TargetSpec {
            name,
            portals: portals.map(PortalSpec::from).collect(),
            all_portals: false,
        },
        lun: Lun::ZERO,
        embedded: Some(server),
    })
}

/// An initiator with a name for examples.
pub(crate) fn initiator() -> anyhow::Result<Initiator> {
    let name = "iqn.2026-01.org.example:initiator.examples".parse()?;
    Ok(Initiator::builder(name).build()?)
}
