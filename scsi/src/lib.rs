//! SCSI vocabulary shared by the transport and by multipath (SAM-5, SPC-4, SBC-3).
//!
//! Builders for command descriptor blocks, parsers for the answers, sense data, LUN addressing,
//! and [`Nexus`]: the seam at which a transport (`iscsi`) and multipath (`mpio`) meet without
//! knowing each other.
//!
//! Everything here is plain data: no I/O, no clock, no runtime. Every parser takes bytes a device
//! chose and never reads outside them.

pub mod alua;
mod be;
pub mod buf;
pub mod capacity;
pub mod cdb;
pub mod error;
pub mod inquiry;
pub mod lun;
pub mod mode;
pub mod nexus;
pub mod reservation;
pub mod sense;
pub mod status;
mod text;
pub mod vpd;

pub use alua::{AccessState, TargetPortGroup, TargetPortGroups};
pub use buf::IoBuf;
pub use bytes::Bytes;
pub use capacity::{Blocks, Capacity, Lba};
pub use cdb::block::RwOptions;
pub use cdb::media::{LbaRange, MediaAccess};
pub use cdb::primary::{ModeSense, PersistentReserveIn, SelectReport};
pub use cdb::{Cdb, Direction, TaskAttribute};
pub use error::ParseError;
pub use inquiry::Inquiry;
pub use lun::{Lun, LunList};
pub use mode::ModeParameters;
pub use nexus::{
    Bidirectional, Certainty, Command, Completion, DataPhase, DeliveryError, DeliveryErrorKind,
    FenceError, Incarnation, Nexus, NexusState, Outcome, PingError, ReadPart, ResetError, Residual,
    ScsiAnswer,
};
pub use reservation::{PersistentReserveOut, ReservationKey, ReservationType, TransportId};
pub use sense::{AdditionalSense, SenseData, SenseKey};
pub use status::Status;
