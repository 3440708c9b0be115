//! Stand-ins for types that the crates below do not have yet. Each goes away when the real one
//! lands; users import all of them from the crate root and never notice.

use crate::{Bytes, ConnectionParams, IoBuf, Isid, NegotiatedKey, Portal, SessionParams, Tsih};

/// How paths are chosen. Stand-in for `mpio::LoadBalancePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadBalancePolicy {
    /// One path until it fails.
    FailoverOnly,
    /// In turn.
    RoundRobin,
    /// The path that would finish first.
    ServiceTime,
}

/// What a session is doing. Stand-in.
#[derive(Debug, Clone)]
pub struct SessionSnapshot {
    /// In words: "logged in", "reconnecting", ...
    pub state: String,
    /// Where this path belongs.
    pub home: Portal,
    /// Where it is connected at the moment.
    pub portal: Option<Portal>,
    /// ISID.
    pub isid: Isid,
    /// TSIH; 0 when never logged in.
    pub tsih: Tsih,
    /// Parameters in force.
    pub session: SessionParams,
    /// Parameters in force.
    pub connection: ConnectionParams,
    /// Requested and negotiated side by side.
    pub keys: Vec<NegotiatedKey>,
    /// Why it is not up.
    pub last_error: Option<String>,
}

/// Size and limits of a logical unit. Stand-in for `mpio::Geometry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// Bytes per logical block.
    pub block_bytes: u32,
    /// Number of logical blocks.
    pub blocks: u64,
    /// WRITE is refused.
    pub read_only: bool,
}

/// Stand-in for `mpio::LuIdentity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuIdentity(pub String);

/// Stand-in for `mpio::Topology`.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The paths.
    pub paths: Vec<PathView>,
    /// How paths are chosen.
    pub policy: LoadBalancePolicy,
}

/// One path of a [`Topology`]. Stand-in.
#[derive(Debug, Clone)]
pub struct PathView {
    /// Name for people.
    pub label: String,
    /// State in words.
    pub state: String,
    /// Portal group.
    pub portal_group: Option<u16>,
    /// Commands completed.
    pub completed: u64,
    /// Commands failed.
    pub failed: u64,
}

/// Whether a failed write may have happened. Stand-in for `mpio::OutcomeCertainty`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeCertainty {
    /// Certainly not done.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// Stand-in for `mpio::IoErrorKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoErrorKind {
    /// The device said no.
    Device,
    /// No path in time.
    NoPath,
    /// Offset, length or alignment.
    Invalid,
    /// Not there yet.
    Unsupported,
}

/// Stand-in for `mpio::IoError`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind:?} ({outcome:?})")]
pub struct IoError {
    /// What.
    pub kind: IoErrorKind,
    /// Whether it may have happened.
    pub outcome: OutcomeCertainty,
}

/// Stand-in for `mpio::LogicalUnit<iscsi::net::LunNexus, mpio::TokioClock>`.
#[derive(Debug, Clone)]
pub struct LogicalUnit {
    geometry: Geometry,
    identity: LuIdentity,
}

const STUB: IoError = IoError {
    kind: IoErrorKind::Unsupported,
    outcome: OutcomeCertainty::NotDone,
};

#[allow(clippy::unused_async, missing_docs)]
impl LogicalUnit {
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[must_use]
    pub fn identity(&self) -> &LuIdentity {
        &self.identity
    }

    pub async fn read_at(&self, _offset: u64, buf: IoBuf) -> (Result<(), IoError>, IoBuf) {
        (Err(STUB), buf)
    }

    pub async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), IoError> {
        Err(STUB)
    }

    pub async fn flush(&self) -> Result<(), IoError> {
        Err(STUB)
    }

    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology {
            paths: Vec::new(),
            policy: LoadBalancePolicy::ServiceTime,
        }
    }

    pub fn set_policy(&self, _policy: LoadBalancePolicy) {}

    pub async fn close(&self) {}
}
