//! SCSI vocabulary shared by the transport and by multipath (SAM-5, SPC-4, SBC-3).
//!
//! Builders for command descriptor blocks, parsers for the answers, sense data, LUN addressing,
//! and [`Nexus`]: the seam at which a transport (`iscsi`) and multipath (`mpio`) meet without
//! knowing each other.
//!
//! Everything here is plain data: no I/O, no clock, no runtime. Every parser takes bytes a device
//! chose and never reads outside them.

pub mod buf;
pub mod cdb;
pub mod error;
pub mod lun;
pub mod nexus;
pub mod status;

pub use buf::IoBuf;
pub use bytes::Bytes;
pub use cdb::{Cdb, Direction, TaskAttribute};
pub use error::ParseError;
pub use lun::Lun;
pub use nexus::{
    Certainty, Command, Completion, DataPhase, DeliveryError, DeliveryErrorKind, FenceError,
    Incarnation, Nexus, NexusState, Outcome, Residual, ScsiAnswer,
};
pub use status::Status;
