//! A logical unit's paths and a target's sessions as rows, for tables, trees and JSON alike.

use initiator::{LogicalUnit, SessionSnapshot, Topology};
use serde::Serialize;

use crate::render::tree::Node;
use crate::size::human;

/// One path and what it has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PathRow {
    /// Name for people.
    pub(crate) path: String,
    /// Target portal group tag.
    pub(crate) group: Option<u16>,
    /// State in one word.
    pub(crate) state: String,
    /// Whether it carries I/O.
    pub(crate) usable: bool,
    /// Commands that were answered.
    pub(crate) ios: u64,
    /// Commands that were not.
    pub(crate) failed: u64,
}

/// The paths of a unit as they are now.
pub(crate) fn paths(topology: &Topology) -> Vec<PathRow> {
    let row = |path: &initiator::PathSnapshot| PathRow {
        path: path.label.to_string(),
        group: path.portal_group,
        state: path.state.to_string(),
        usable: path.state.is_usable(),
        ios: path.stats.ios,
        failed: path
            .stats
            .transport_errors
            .saturating_add(path.stats.device_errors),
    };
    topology.paths.iter().map(row).collect()
}

/// The unit as a tree: itself, and a line per path.
pub(crate) fn tree(unit: &LogicalUnit) -> Node {
    let geometry = unit.geometry();
    let topology = unit.topology();
    let size = human(geometry.bytes());
    let text = format!(
        "{} ({size}, {}-byte blocks, {})",
        identity(unit),
        geometry.block_bytes,
        topology.policy,
    );
    paths(&topology).iter().fold(Node::new(text), |tree, path| {
        let group = path
            .group
            .map(|group| format!(" group {group}"))
            .unwrap_or_default();
        tree.with(Node::new(format!(
            "{}{group}: {}, {} I/Os, {} failed",
            path.path, path.state, path.ios, path.failed
        )))
    })
}

/// The identity that paths are compared by.
pub(crate) fn identity(unit: &LogicalUnit) -> String {
    unit.identity().to_string()
}

/// A key, what was asked for and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyRow {
    pub(crate) key: String,
    pub(crate) requested: Option<String>,
    pub(crate) answered: Option<String>,
    pub(crate) result: String,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SessionRow {
    /// The path's own portal.
    pub(crate) portal: String,
    /// The portal in use, when connected.
    pub(crate) connected_to: Option<String>,
    pub(crate) state: String,
    pub(crate) isid: String,
    pub(crate) tsih: u16,
    pub(crate) keys: Vec<KeyRow>,
    pub(crate) last_error: Option<String>,
}

impl From<&SessionSnapshot> for SessionRow {
    fn from(session: &SessionSnapshot) -> Self {
        let keys = session.keys.iter().map(|key| KeyRow {
            key: key.key.to_owned(),
            requested: key.requested.clone(),
            answered: key.answered.clone(),
            result: key.result.clone(),
        });
        let connected = matches!(session.state, initiator::NexusState::Up(_));
        Self {
            portal: session.home.to_string(),
            connected_to: connected.then(|| session.portal.to_string()),
            state: session.phase.to_owned(),
            isid: session.isid.to_string(),
            tsih: session.tsih.0,
            keys: keys.collect(),
            last_error: session
                .last_failure
                .as_ref()
                .map(|(portal, reason)| format!("{portal}: {reason}")),
        }
    }
}
