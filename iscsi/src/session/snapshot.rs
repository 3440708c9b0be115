//! A session as people see it.

use scsi::{Incarnation, NexusState};

use super::connection::Connection;
use super::error::LossReason;
use super::state::{ConnectionState, SessionState};
use super::stats::SessionStats;
use super::{Phase, Session};
use crate::name::{Cid, IscsiName, Isid, Portal, Tsih};
use crate::text::{ConnectionParams, NegotiatedKey, Offer, SessionParams};

/// One session at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionSnapshot {
    /// The target.
    pub target_name: IscsiName,
    /// What the session is doing.
    pub state: NexusState,
    /// The same by the RFC's own states (RFC 7143 §8.3.1).
    pub session_state: SessionState,
    /// The same in words: "logged in", "connecting", ….
    pub phase: &'static str,
    /// The newest life.
    pub incarnation: Incarnation,
    /// The portal it belongs to.
    pub home: Portal,
    /// The portal in use or tried last.
    pub portal: Portal,
    /// Our part of the session identifier.
    pub isid: Isid,
    /// The target's session handle; 0 before the first login.
    pub tsih: Tsih,
    /// In force, or last in force.
    pub session: SessionParams,
    /// Of the leading connection: in force, or last in force.
    pub connection: ConnectionParams,
    /// The connections, the leading one first.
    pub connections: Vec<ConnectionSnapshot>,
    /// Offered, answered and in force since the last login, side by side.
    pub keys: Vec<NegotiatedKey>,
    /// Requested: what the next login offers.
    pub offer: Offer,
    /// Commands that may be under way at the target at once, by its window.
    pub window: u32,
    /// Commands under way.
    pub in_flight: usize,
    /// Attempts that failed since the session was made.
    pub failures: u64,
    /// What went wrong last, and where.
    pub last_failure: Option<(Portal, LossReason)>,
    /// Counters.
    pub stats: SessionStats,
}

/// One connection at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// Its identifier within the session.
    pub cid: Cid,
    /// The portal it goes through.
    pub portal: Portal,
    /// Where it stands (RFC 7143 §8.1.3).
    pub state: ConnectionState,
    /// In force, or last in force.
    pub params: ConnectionParams,
    /// Commands under way on it.
    pub in_flight: usize,
    /// Their payload, in bytes, both directions.
    pub outstanding_bytes: u64,
    /// Commands sent on it since it was opened.
    pub commands: u64,
    /// Why it was lost, while it is being recovered.
    pub lost: Option<LossReason>,
}

impl Session {
    /// The connections at this moment, the leading one first.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionSnapshot> {
        let snapshot = |connection: &Connection| ConnectionSnapshot {
            cid: connection.cid,
            portal: connection.portal.clone(),
            state: connection.state,
            params: connection.params.clone(),
            in_flight: connection.in_flight,
            outstanding_bytes: connection.outstanding_bytes,
            commands: connection.commands,
            lost: connection.lost.as_ref().map(|lost| lost.reason.clone()),
        };
        self.connections.iter().map(snapshot).collect()
    }

    /// Attempts to connect or log in that failed since the session was made.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.reconnect.failures
    }

    /// The session at this moment.
    #[must_use]
    pub fn snapshot(&self) -> SessionSnapshot {
        let connection = self.connections.leading();
        let portal = connection.portal.clone();
        SessionSnapshot {
            target_name: self.config.target_name.clone(),
            state: self.state(),
            session_state: self.state,
            phase: match self.phase {
                Phase::Waiting { .. } => "waiting to reconnect",
                Phase::Connecting { .. } => "connecting",
                Phase::LoggingIn { .. } => "logging in",
                Phase::Up => "logged in",
                Phase::LoggingOut(_) => "logging out",
                Phase::Closing(_) => "closing",
                Phase::Closed => "closed",
            },
            incarnation: self.lives.newest(),
            home: self.config.portal.clone(),
            portal,
            isid: self.config.isid,
            tsih: self.tsih,
            session: self.params.clone(),
            connection: connection.params.clone(),
            connections: self.connections(),
            keys: self.keys.clone(),
            offer: self.config.offer.clone(),
            window: self.window.size(),
            in_flight: self.in_flight,
            failures: self.reconnect.failures,
            last_failure: self.reconnect.last_failure.clone(),
            stats: self.stats,
        }
    }
}
