//! `iscsi ls`: logical units of one target, or of every target of a portal.

use anyhow::Context as _;
use initiator::{IscsiName, LunDescription, PortalSpec, Target, TargetSpec};
use serde::Serialize;

use crate::args::LsArgs;
use crate::connect::{self, Context, with_target};
use crate::output;
use crate::render::table::table;
use crate::size::human;
use crate::url::Url;

/// Runs the verb.
///
/// # Errors
/// Those of discovery, login, REPORT LUNS and INQUIRY.
pub(crate) async fn run(context: &Context, args: &LsArgs) -> anyhow::Result<()> {
    let initiator = connect::initiator(context, &args.login)?;
    let mut wanted = Wanted::default();
    for url in &args.urls {
        if url.target.is_some() {
            wanted.add(url);
            continue;
        }
        let asking = async {
            let found = initiator.discover(&url.portal).await;
            found.with_context(|| format!("discovery at {}", url.portal))
        };
        for target in context.interrupt.guard(asking).await? {
            let target = Some(target.name);
            wanted.add(&Url {
                target,
                portal: url.portal.clone(),
                group: url.group,
                lun: None,
            });
        }
    }
    let mut targets = Vec::new();
    for (name, portals, luns) in wanted.0 {
        let spec = TargetSpec {
            name: name.clone(),
            portals,
            all_portals: args.login.all_paths,
        };
        let units = with_target(context, &initiator, spec, async |target| {
            context.interrupt.guard(describe(target, &luns)).await
        });
        let units = units.await.with_context(|| name.to_string())?;
        targets.push((name, units));
    }
    show(context, &targets)
}

/// Targets in the order they were named, each with its portals and the LUNs asked for.
#[derive(Default)]
struct Wanted(Vec<(IscsiName, Vec<PortalSpec>, Vec<initiator::Lun>)>);

impl Wanted {
    fn add(&mut self, url: &Url) {
        let Some(name) = &url.target else { return };
        let index = self
            .0
            .iter()
            .position(|(known, ..)| known == name)
            .unwrap_or_else(|| {
                self.0.push((name.clone(), Vec::new(), Vec::new()));
                self.0.len() - 1
            });
        let Some((_, portals, luns)) = self.0.get_mut(index) else {
            return;
        };
        let portal = PortalSpec {
            portal: url.portal.clone(),
            group: url.group,
        };
        if !portals.contains(&portal) {
            portals.push(portal);
        }
        luns.extend(url.lun.filter(|lun| !luns.contains(lun)));
    }
}

async fn describe(target: &Target, luns: &[initiator::Lun]) -> anyhow::Result<Vec<LunDescription>> {
    let luns = if luns.is_empty() {
        target.luns().await?
    } else {
        luns.to_vec()
    };
    let mut units = Vec::with_capacity(luns.len());
    for lun in luns {
        let unit = target.describe_lun(lun).await;
        units.push(unit.with_context(|| format!("LUN {}", lun))?);
    }
    Ok(units)
}

fn show(context: &Context, targets: &[(IscsiName, Vec<LunDescription>)]) -> anyhow::Result<()> {
    if context.output.json {
        let targets = targets.iter().map(|(name, units)| TargetJson {
            target: name.to_string(),
            luns: units.iter().map(UnitJson::from).collect(),
        });
        return output::print_json(&targets.collect::<Vec<_>>());
    }
    let rows = targets.iter().flat_map(|(name, units)| {
        units.iter().map(|unit| {
            let geometry = unit.geometry.as_ref();
            vec![
                name.to_string(),
                unit.lun.to_string(),
                device_type(unit.device_type).to_owned(),
                unit.vendor.trim().to_owned(),
                unit.product.trim().to_owned(),
                unit.revision.trim().to_owned(),
                geometry.map_or_else(dash, |geometry| human(geometry.bytes())),
                geometry.map_or_else(dash, |geometry| geometry.block_bytes.to_string()),
                unit.identity
                    .as_ref()
                    .map_or_else(dash, ToString::to_string),
            ]
        })
    });
    let header = [
        "target", "lun", "type", "vendor", "product", "rev", "size", "block", "identity",
    ];
    output::print(&table(&header, rows, &[1, 6, 7]))
}

fn dash() -> String {
    "-".to_owned()
}

/// Peripheral device types (SPC-4 §6.6.2) by the names administrators use.
pub(crate) const fn device_type(code: u8) -> &'static str {
    match code {
        0x00 => "disk",
        0x01 => "tape",
        0x02 => "printer",
        0x03 => "processor",
        0x04 => "worm",
        0x05 => "cd/dvd",
        0x07 => "optical",
        0x08 => "changer",
        0x0c => "controller",
        0x0d => "enclosure",
        0x0e => "rbc disk",
        0x11 => "osd",
        0x14 => "zoned disk",
        0x1e => "well known",
        0x1f => "none",
        _ => "other",
    }
}

#[derive(Serialize)]
struct TargetJson {
    target: String,
    luns: Vec<UnitJson>,
}

#[derive(Serialize)]
struct UnitJson {
    lun: String,
    device_type: u8,
    vendor: String,
    product: String,
    revision: String,
    bytes: Option<u64>,
    block_bytes: Option<u32>,
    identity: Option<String>,
}

impl From<&LunDescription> for UnitJson {
    fn from(unit: &LunDescription) -> Self {
        Self {
            lun: unit.lun.to_string(),
            device_type: unit.device_type,
            vendor: unit.vendor.trim().to_owned(),
            product: unit.product.trim().to_owned(),
            revision: unit.revision.trim().to_owned(),
            bytes: unit.geometry.as_ref().map(initiator::Geometry::bytes),
            block_bytes: unit.geometry.as_ref().map(|geometry| geometry.block_bytes),
            identity: unit.identity.as_ref().map(ToString::to_string),
        }
    }
}
