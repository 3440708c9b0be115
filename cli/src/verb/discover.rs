//! `iscsi discover`: what SendTargets lists.

use anyhow::Context as _;
use initiator::DiscoveredTarget;
use serde::Serialize;

use crate::args::DiscoverArgs;
use crate::connect::{self, Context};
use crate::output;
use crate::render::table::table;

/// Runs the verb.
///
/// # Errors
/// Those of the discovery session.
pub(crate) async fn run(context: &Context, args: &DiscoverArgs) -> anyhow::Result<()> {
    let initiator = connect::initiator(context, &args.login)?;
    let asking = async {
        let found = initiator.discover(&args.portal).await;
        found.with_context(|| format!("discovery at {}", args.portal))
    };
    let targets = context.interrupt.guard(asking).await?;
    if context.output.json {
        let targets = targets.iter().map(TargetJson::from).collect();
        return output::print_json(&Json {
            portal: args.portal.to_string(),
            targets,
        });
    }
    if targets.is_empty() {
        output::note(&format!(
            "{} lists no target for this initiator",
            args.portal
        ));
        return Ok(());
    }
    let rows = targets.iter().flat_map(|target| {
        let row = |(portal, group): &(initiator::Portal, Option<initiator::PortalGroupTag>)| {
            vec![
                target.name.to_string(),
                portal.to_string(),
                group.map_or_else(|| "-".to_owned(), |group| group.to_string()),
            ]
        };
        target.portals.iter().map(row).collect::<Vec<_>>()
    });
    output::print(&table(&["target", "portal", "group"], rows, &[2]))
}

#[derive(Serialize)]
struct Json {
    portal: String,
    targets: Vec<TargetJson>,
}

#[derive(Serialize)]
struct TargetJson {
    name: String,
    portals: Vec<PortalJson>,
}

#[derive(Serialize)]
struct PortalJson {
    portal: String,
    group: Option<u16>,
}

impl From<&DiscoveredTarget> for TargetJson {
    fn from(target: &DiscoveredTarget) -> Self {
        let portals = target
            .portals
            .iter()
            .map(|(portal, group)| PortalJson {
                portal: portal.to_string(),
                group: group.map(|group| group.0),
            })
            .collect();
        Self {
            name: target.name.to_string(),
            portals,
        }
    }
}
