//! `iscsi info`: everything about one logical unit and the sessions that lead to it.

use initiator::{LogicalUnit, LunDescription, Target};
use serde::Serialize;

use crate::args::UnitArgs;
use crate::connect::{Context, with_unit};
use crate::output;
use crate::render::table::table;
use crate::size::human;
use crate::url::Address;
use crate::view::{self, PathRow, SessionRow};

/// Runs the verb.
///
/// # Errors
/// Those of the login and of examining the unit.
pub(crate) async fn run(context: &Context, args: &UnitArgs) -> anyhow::Result<()> {
    let address = Address::join(&args.urls)?;
    let info = with_unit(context, &args.login, &address, async |target, unit| {
        context
            .interrupt
            .guard(gather(target, unit, &address))
            .await
    })
    .await?;
    if context.output.json {
        output::print_json(&info)
    } else {
        output::print(&info.text())
    }
}

async fn gather(target: &Target, unit: &LogicalUnit, address: &Address) -> anyhow::Result<Info> {
    let LunDescription {
        vendor,
        product,
        revision,
        device_type,
        ..
    } = target.describe_lun(address.lun).await?;
    let geometry = unit.geometry();
    let topology = unit.topology();
    Ok(Info {
        target: address.target.to_string(),
        lun: address.lun.to_string(),
        identity: view::identity(unit),
        vendor: vendor.trim().to_owned(),
        product: product.trim().to_owned(),
        revision: revision.trim().to_owned(),
        device_type,
        bytes: geometry.bytes(),
        blocks: geometry.blocks,
        block_bytes: geometry.block_bytes,
        read_only: geometry.read_only,
        policy: topology.policy.name(),
        paths: view::paths(&topology),
        sessions: target.sessions().iter().map(SessionRow::from).collect(),
        tree: view::tree(unit).render(),
    })
}

/// The answer; its serialized form is the JSON output.
#[derive(Serialize)]
struct Info {
    target: String,
    lun: String,
    identity: String,
    vendor: String,
    product: String,
    revision: String,
    device_type: u8,
    bytes: u64,
    blocks: u64,
    block_bytes: u32,
    read_only: bool,
    policy: &'static str,
    paths: Vec<PathRow>,
    sessions: Vec<SessionRow>,
    #[serde(skip)]
    tree: String,
}

impl Info {
    fn text(&self) -> String {
        let device = format!("{} {} {}", self.vendor, self.product, self.revision);
        let access = if self.read_only { ", read-only" } else { "" };
        let capacity = format!(
            "{} ({} bytes, {} blocks of {}){access}",
            human(self.bytes),
            self.bytes,
            self.blocks,
            self.block_bytes,
        );
        let facts = [
            ("target", self.target.clone()),
            ("lun", self.lun.clone()),
            ("identity", self.identity.clone()),
            ("device", device),
            ("capacity", capacity),
        ];
        let mut text = String::new();
        for (name, value) in facts {
            text.push_str(&crate::render::plain(&format!("{name:<10}{value}")).replace('\n', " "));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.tree);
        for session in &self.sessions {
            text.push('\n');
            text.push_str(&session_text(session));
        }
        text
    }
}

fn session_text(session: &SessionRow) -> String {
    let mut text = format!("session over {}: {}", session.portal, session.state);
    if let Some(portal) = session
        .connected_to
        .as_ref()
        .filter(|portal| **portal != session.portal)
    {
        text.push_str(&format!(", connected to {portal}"));
    }
    text.push_str(&format!(", ISID {}, TSIH {}", session.isid, session.tsih));
    if let Some(error) = &session.last_error {
        text.push_str(&format!(", last error: {error}"));
    }
    text = crate::render::plain(&text).replace('\n', " ");
    text.push('\n');
    if session.keys.is_empty() {
        return text;
    }
    let dash = || "-".to_owned();
    let rows = session.keys.iter().map(|key| {
        vec![
            key.key.clone(),
            key.requested.clone().unwrap_or_else(dash),
            key.answered.clone().unwrap_or_else(dash),
            key.result.clone(),
        ]
    });
    text.push_str(&table(
        &["key", "requested", "answered", "in force"],
        rows,
        &[],
    ));
    text
}
