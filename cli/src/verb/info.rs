//! `iscsi info`: everything about one logical unit and the sessions that lead to it.

use initiator::{AssembleError, Error, LogicalUnit, Lun, Target};
use serde::Serialize;

use crate::args::UnitArgs;
use crate::connect::{self, Context};
use crate::output;
use crate::render::table::table;
use crate::size::human;
use crate::url::Address;
use crate::verb::ls::device_type;
use crate::view::{self, PathRow, SessionRow};

/// Runs the verb.
///
/// # Errors
/// Those of the login and of examining the unit.
pub(crate) async fn run(context: &Context, args: &UnitArgs) -> anyhow::Result<()> {
    let address = Address::join(&args.urls)?;
    let initiator = connect::initiator(context, &args.login)?;
    let spec = connect::spec_of(&address, args.login.all_paths);
    let info = connect::with_target(context, &initiator, spec, async |target| {
        context.interrupt.guard(gather(target, address.lun)).await
    })
    .await?;
    if context.output.json {
        output::print_json(&info)
    } else {
        output::print(&info.text())
    }
}

async fn gather(target: &Target, lun: Lun) -> anyhow::Result<Info> {
    let what = target.describe_lun(lun).await?;
    let disk = match target.logical_unit(lun).await {
        Ok(unit) => Some(Disk::of(&unit)),
        // Tapes, enclosures and the like have an identity and sessions to show all the same.
        Err(Error::Assemble { source, .. })
            if matches!(*source, AssembleError::NotABlockDevice { .. }) =>
        {
            None
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Info {
        target: target.name().to_string(),
        lun: lun.to_string(),
        identity: what.identity.as_ref().map(ToString::to_string),
        vendor: what.vendor.trim().to_owned(),
        product: what.product.trim().to_owned(),
        revision: what.revision.trim().to_owned(),
        device_type: what.device_type,
        disk,
        sessions: target.sessions().iter().map(SessionRow::from).collect(),
    })
}

/// The answer; its serialized form is the JSON output.
#[derive(Serialize)]
struct Info {
    target: String,
    lun: String,
    identity: Option<String>,
    vendor: String,
    product: String,
    revision: String,
    device_type: u8,
    #[serde(flatten)]
    disk: Option<Disk>,
    sessions: Vec<SessionRow>,
}

/// What only a block device has.
#[derive(Serialize)]
struct Disk {
    bytes: u64,
    blocks: u64,
    block_bytes: u32,
    read_only: bool,
    policy: &'static str,
    paths: Vec<PathRow>,
    #[serde(skip)]
    tree: String,
}

impl Disk {
    fn of(unit: &LogicalUnit) -> Self {
        let geometry = unit.geometry();
        let topology = unit.topology();
        Self {
            bytes: geometry.bytes(),
            blocks: geometry.blocks,
            block_bytes: geometry.block_bytes,
            read_only: geometry.read_only,
            policy: topology.policy.name(),
            paths: view::paths(&topology),
            tree: view::tree(unit).render(),
        }
    }

    fn capacity(&self) -> String {
        let access = if self.read_only { ", read-only" } else { "" };
        let Self {
            bytes,
            blocks,
            block_bytes,
            ..
        } = self;
        format!(
            "{} ({bytes} bytes, {blocks} blocks of {block_bytes}){access}",
            human(*bytes)
        )
    }
}

impl Info {
    fn text(&self) -> String {
        let dash = || "-".to_owned();
        let kind = device_type(self.device_type);
        let device = format!(
            "{} {} {} ({kind})",
            self.vendor, self.product, self.revision
        );
        let facts = [
            ("target", self.target.clone()),
            ("lun", self.lun.clone()),
            ("identity", self.identity.clone().unwrap_or_else(dash)),
            ("device", device),
            (
                "capacity",
                self.disk.as_ref().map_or_else(dash, Disk::capacity),
            ),
        ];
        let mut text = String::new();
        for (name, value) in facts {
            text.push_str(&crate::render::plain(&format!("{name:<10}{value}")).replace('\n', " "));
            text.push('\n');
        }
        if let Some(disk) = &self.disk {
            text.push('\n');
            text.push_str(&disk.tree);
        }
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
    text.push_str(&connections_text(session));
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

/// The connections, the error recovery level, and what was recovered.
fn connections_text(session: &SessionRow) -> String {
    if session.connections.is_empty() {
        return String::new();
    }
    let recovery = &session.recovery;
    let mut text = format!(
        "ErrorRecoveryLevel {}: {} connections and {} sessions lost, {} tasks reassigned, \
         {} commands sent again, {} SNACKs, {} recoveries, {} digest errors\n",
        session.error_recovery_level,
        recovery.connections_lost,
        recovery.sessions_lost,
        recovery.reassigned,
        recovery.retried,
        recovery.snacks,
        recovery.recovered,
        recovery.digest_errors,
    );
    let rows = session.connections.iter().map(|connection| {
        let lost = connection.lost.as_ref();
        let state = lost.map_or_else(
            || connection.state.clone(),
            |reason| format!("{}: {reason}", connection.state),
        );
        vec![
            connection.cid.to_string(),
            connection.portal.clone(),
            connection.commands.to_string(),
            connection.in_flight.to_string(),
            state,
        ]
    });
    text.push_str(&table(
        &["CID", "portal", "commands", "in flight", "state"],
        rows,
        &[],
    ));
    text
}
