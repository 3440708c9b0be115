//! An iSCSI initiator with multipath inside: discover, log in to one target over several portals,
//! use its logical units.
//!
//! This is the one crate an application depends on; it re-exports what a user needs from the
//! crates below it. It assembles `iscsi` sessions (one per path) and `mpio` logical units, and
//! keeps no protocol knowledge of its own.

mod builder;
mod error;
mod initiator;
mod placeholder;
mod target;

pub use auth::{AuthError, ChapAlgorithm, ChapCredentials, MutualCredentials, Secret};
pub use builder::{BuildError, Builder};
pub use error::Error;
pub use initiator::Initiator;
pub use iscsi::discovery::DiscoveredTarget;
pub use iscsi::name::{
    Host, IscsiName, Isid, NameError, Portal, PortalError, PortalGroupTag, Tsih,
};
pub use iscsi::text::{ConnectionParams, NegotiatedKey, OfferError, SessionParams};
pub use placeholder::*;
pub use scsi::{Bytes, IoBuf, Lun};
pub use target::{EventReceiver, LunDescription, PortalSpec, Target, TargetSpec};
