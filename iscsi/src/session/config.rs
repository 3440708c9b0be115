//! What a session is given at its start.

use std::time::Duration;

use crate::login::AuthPolicy;
use crate::name::{IscsiName, Isid, Portal};
use crate::text::Offer;

/// Everything a session needs to log in, and to log in again.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Our name.
    pub initiator_name: IscsiName,
    /// A name for people, sent at login.
    pub initiator_alias: Option<String>,
    /// The target's name.
    pub target_name: IscsiName,
    /// Where the session lives: its home portal.
    pub portal: Portal,
    /// Other portals of the same portal group. Further connections go through them, and when the
    /// home portal is away they serve to reinstate the session, so that what it left is over.
    pub group_portals: Vec<Portal>,
    /// Our part of the session identifier. Never changes: a reconnect with the same ISID
    /// reinstates the session and keeps the I_T nexus (RFC 7143 §6.3.5).
    pub isid: Isid,
    /// Authentication.
    pub auth: AuthPolicy,
    /// What is offered and declared at login.
    pub offer: Offer,
    /// Connections wanted; `None`: as many as MaxConnections allows, which is what was offered
    /// or less (RFC 7143 §13.2).
    pub connections: Option<u16>,
    /// Commands under way at once: 1 to 4,096.
    pub queue_depth: u16,
    /// NOP-Out pings.
    pub keepalive: Keepalive,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Limits of recovery within a connection (ErrorRecoveryLevel 1 and 2).
    pub recovery: RecoveryLimits,
    /// Waits between attempts to reconnect.
    pub backoff: Backoff,
    /// Time after a loss within which the session has to be back; `None`: for ever.
    pub give_up_after: Option<Duration>,
    /// Whether to wait Time2Wait before reconnecting after a loss (RFC 7143 §7.5 says that
    /// an initiator should).
    pub honour_time2wait: bool,
}

impl SessionConfig {
    /// The defaults, for one portal.
    #[must_use]
    pub fn new(
        initiator_name: IscsiName,
        target_name: IscsiName,
        portal: Portal,
        isid: Isid,
    ) -> Self {
        Self {
            initiator_name,
            initiator_alias: None,
            target_name,
            portal,
            group_portals: Vec::new(),
            isid,
            auth: AuthPolicy::None,
            offer: Offer::default(),
            connections: None,
            queue_depth: 128,
            keepalive: Keepalive::default(),
            timeouts: Timeouts::default(),
            recovery: RecoveryLimits::default(),
            backoff: Backoff::default(),
            give_up_after: None,
            honour_time2wait: true,
        }
    }
}

/// When to ask whether the target is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// A NOP-Out is sent after this long without a byte from the target.
    pub interval: Duration,
    /// The connection is given up when nothing came for this long after the NOP-Out.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Time limits of single steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connection, over all addresses of the host.
    pub connect: Duration,
    /// Whole login.
    pub login: Duration,
    /// Answer to an ABORT TASK; afterwards the logical unit is reset.
    pub abort_task: Duration,
    /// Answer to a LOGICAL UNIT RESET; afterwards the session is dropped.
    pub lu_reset: Duration,
    /// A text exchange in full feature phase, from its beginning to its end.
    pub text: Duration,
    /// Commands under way at a logout, and the answer to the Logout, each.
    pub logout: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            login: Duration::from_secs(15),
            abort_task: Duration::from_secs(10),
            lu_reset: Duration::from_secs(15),
            text: Duration::from_secs(10),
            logout: Duration::from_secs(5),
        }
    }
}

/// How long, and how often, lost PDUs are asked for before the connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryLimits {
    /// What was asked for is asked for again after this long without it.
    pub again_after: Duration,
    /// Times that the same is asked for again without effect, and that a command is sent again.
    pub attempts: u8,
    /// With something under way, and nothing heard for this long, or no command acknowledged, a
    /// NOP-Out asks whether something got lost.
    pub probe_after: Duration,
}

impl Default for RecoveryLimits {
    fn default() -> Self {
        Self {
            again_after: Duration::from_secs(1),
            attempts: 5,
            probe_after: Duration::from_secs(1),
        }
    }
}

/// Waits between attempts to reconnect: doubling, with jitter of a quarter either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            max: Duration::from_secs(15),
        }
    }
}
