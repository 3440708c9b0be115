//! A logical unit's paths and a target's sessions as rows, for tables, trees and JSON alike.

use initiator::{ConnectionSnapshot, LogicalUnit, PathId, SessionSnapshot, SessionStats, Topology};
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
    /// Paths of equal priority are one group; the higher the better.
    pub(crate) priority: u8,
    /// Target port group (ALUA), when the target says so.
    pub(crate) target_port_group: Option<u16>,
    /// Its access state.
    pub(crate) access: Option<String>,
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
        priority: path.priority,
        target_port_group: path.access.map(|access| access.group),
        access: path.access.map(|access| access.state.to_string()),
        usable: path.state.is_usable(),
        ios: path.stats.ios,
        failed: path
            .stats
            .transport_errors
            .saturating_add(path.stats.device_errors),
    };
    topology.paths.iter().map(row).collect()
}

/// The unit as a tree: itself, and a line per path; with target port groups, under a line per group
/// of paths.
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
    let rows: Vec<(PathId, PathRow)> = topology
        .paths
        .iter()
        .map(|path| path.id)
        .zip(paths(&topology))
        .collect();
    if topology.access.is_none() {
        let all = rows.iter().map(|(_, row)| path_node(row));
        return all.fold(Node::new(text), Node::with);
    }
    let groups = topology.groups.iter().map(|group| {
        let used = if group.in_use { ", in use" } else { "" };
        let node = Node::new(format!("priority {}{used}", group.priority));
        let members = rows.iter().filter(|(id, _)| group.paths.contains(id));
        members
            .map(|(_, row)| path_node(row))
            .fold(node, Node::with)
    });
    groups.fold(Node::new(text), Node::with)
}

fn path_node(path: &PathRow) -> Node {
    let group = path
        .group
        .map(|group| format!(" group {group}"))
        .unwrap_or_default();
    let access = match (path.target_port_group, &path.access) {
        (Some(group), Some(access)) => format!(", target port group {group} {access}"),
        _ => String::new(),
    };
    Node::new(format!(
        "{}{group}: {}{access}, {} I/Os, {} failed",
        path.path, path.state, path.ios, path.failed
    ))
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

/// One connection of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConnectionRow {
    pub(crate) cid: u16,
    pub(crate) portal: String,
    /// The state of RFC 7143 §8.1.3.
    pub(crate) state: String,
    pub(crate) commands: u64,
    pub(crate) in_flight: usize,
    /// Why it was lost, while it is being recovered.
    pub(crate) lost: Option<String>,
}

impl From<&ConnectionSnapshot> for ConnectionRow {
    fn from(connection: &ConnectionSnapshot) -> Self {
        Self {
            cid: connection.cid.0,
            portal: connection.portal.to_string(),
            state: connection.state.to_string(),
            commands: connection.commands,
            in_flight: connection.in_flight,
            lost: connection.lost.as_ref().map(ToString::to_string),
        }
    }
}

/// What a session has recovered since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct RecoveryRow {
    /// Connections lost while the session lived on.
    pub(crate) connections_lost: u64,
    /// Sessions lost with all their connections.
    pub(crate) sessions_lost: u64,
    /// Tasks reassigned to another connection.
    pub(crate) reassigned: u64,
    /// Commands sent again with their CmdSN.
    pub(crate) retried: u64,
    /// Requests for PDUs that were missing (SNACK).
    pub(crate) snacks: u64,
    /// Commands that ended well after something of theirs had been lost, and late answers.
    pub(crate) recovered: u64,
    pub(crate) digest_errors: u64,
}

impl From<&SessionStats> for RecoveryRow {
    fn from(stats: &SessionStats) -> Self {
        Self {
            connections_lost: stats.connections_lost,
            sessions_lost: stats.losses,
            reassigned: stats.reassigned,
            retried: stats.retried,
            snacks: stats
                .data_snacks
                .saturating_add(stats.status_snacks)
                .saturating_add(stats.r_data_snacks),
            recovered: stats.recovered,
            digest_errors: stats.digest_errors,
        }
    }
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
    pub(crate) error_recovery_level: u8,
    pub(crate) connections: Vec<ConnectionRow>,
    pub(crate) recovery: RecoveryRow,
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
            error_recovery_level: session.session.error_recovery_level,
            connections: session
                .connections
                .iter()
                .map(ConnectionRow::from)
                .collect(),
            recovery: RecoveryRow::from(&session.stats),
            keys: keys.collect(),
            last_error: session
                .last_failure
                .as_ref()
                .map(|(portal, reason)| format!("{portal}: {reason}")),
        }
    }
}
