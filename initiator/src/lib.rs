//! An iSCSI initiator with multipath inside: discover, log in to one target over several portals,
//! use its logical units.
//!
//! This is the one crate an application depends on; it re-exports what a user needs from the
//! crates below it. It assembles `iscsi` sessions (one per path) and `mpio` logical units, and
//! keeps no protocol knowledge of its own.
//!
//! ```no_run
//! use initiator::{Initiator, IoBuf, Lun, TargetSpec};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let initiator = Initiator::builder("iqn.2024-01.com.example:host".parse()?).build()?;
//! let target = initiator
//!     .login(TargetSpec {
//!         name: "iqn.2024-01.com.example:disks".parse()?,
//!         portals: vec!["192.0.2.10".parse::<initiator::Portal>()?.into()],
//!         all_portals: true,
//!     })
//!     .await?;
//! let disk = target.logical_unit(Lun::ZERO).await?;
//! let (result, buf) = disk.read_at(0, IoBuf::zeroed(4096)).await;
//! result?;
//! println!("{:?}", buf.as_slice().first());
//! target.logout().await?;
//! # Ok(())
//! # }
//! ```
//!
//! More in the crate's `examples`. Everything needs a tokio runtime with I/O and time enabled.
//! Sessions live on the one in which they were started, or, with [`Runtime::Sharded`], on threads
//! of their own.
//!
//! What it does not do: attach a logical unit to the host as a device, keep a list of targets
//! from run to run, reserve.

mod builder;
mod error;
mod event;
mod initiator;
mod isids;
mod management;
mod plan;
mod query;
mod runtime;
mod state;
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
pub use iscsi::session::{
    ConnectionSnapshot, ConnectionState, Event as SessionEvent, LossReason, ManagementFunction,
    ManagementResponse, SessionSnapshot, SessionStats, TaskManagementError, TaskManagementResponse,
    Timeouts,
};
pub use iscsi::text::{ConnectionParams, NegotiatedKey, OfferError, SessionParams};
pub use mpio::{
    Access, AssembleError, Attention, Checker, ErrorClass, EventKind as PathEvent, Failback,
    FenceFailure, FenceQuality, Geometry, IoError, IoErrorKind, KeyCount, LoadBalancePolicy,
    LuIdentity, NoPathRetry, OutcomeCertainty, PathAccess, PathGroup, PathId, PathSettings,
    PathSnapshot, PathState, PathStats, ReservationError, SecondFence, SwitchReason, Topology,
    Tuning, UnknownChecker, UnknownFailback,
};
pub use query::QueryError;
pub use runtime::Runtime;
pub use scsi::alua::{AccessState, SettableState};
pub use scsi::reservation;
pub use scsi::{Bytes, Cdb, Command, DataPhase, IoBuf, Lun, NexusState, ScsiAnswer, TaskAttribute};
pub use state::StateError;
pub use target::{LunDescription, PortalSpec, Target, TargetSpec};

/// A logical unit over all sessions of a target.
pub type LogicalUnit = mpio::LogicalUnit<iscsi::net::LunNexus, mpio::TokioClock>;
