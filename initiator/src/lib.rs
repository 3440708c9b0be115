//! An iSCSI initiator with multipath inside: discover, log in to one target over several portals,
//! use its logical units.
//!
//! This is the one crate an application depends on; it re-exports what a user needs from the
//! crates below it. It assembles `iscsi` sessions (one per path) and `mpio` logical units, and
//! keeps no protocol knowledge of its own.

mod builder;
mod error;
mod event;
mod initiator;
mod isids;
mod plan;
mod query;
mod target;

pub use auth::{AuthError, ChapAlgorithm, ChapCredentials, MutualCredentials, Secret};
pub use builder::{BuildError, Builder, DiscoveryAuth};
pub use error::Error;
pub use event::{Event, EventReceiver};
pub use initiator::Initiator;
pub use iscsi::discovery::DiscoveredTarget;
pub use iscsi::name::{
    Host, IscsiName, Isid, NameError, Portal, PortalError, PortalGroupTag, Tsih,
};
pub use iscsi::net::{ConnectError, ConnectErrorKind};
pub use iscsi::session::{Event as SessionEvent, LossReason, SessionSnapshot, Timeouts};
pub use iscsi::text::{ConnectionParams, NegotiatedKey, OfferError, SessionParams};
pub use mpio::{
    AssembleError, EventKind as PathEvent, Geometry, IoError, IoErrorKind, LoadBalancePolicy,
    LuIdentity, OutcomeCertainty, PathId, PathSnapshot, PathState, PathStats, Topology,
};
pub use query::QueryError;
pub use scsi::{Bytes, Cdb, Command, DataPhase, IoBuf, Lun, NexusState, ScsiAnswer, TaskAttribute};
pub use target::{LunDescription, PortalSpec, Target, TargetSpec};

/// A logical unit over all sessions of a target.
pub type LogicalUnit = mpio::LogicalUnit<iscsi::net::LunNexus, mpio::TokioClock>;
