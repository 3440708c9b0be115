//! How an I/O, or the assembly of a logical unit, can fail.
//!
//! The first question after a failed write is not *why* but *whether it happened*:
//! [`IoError::outcome`] answers it, and [`IoError::settled`] says whether it still may.

use std::fmt;
use std::sync::Arc;

use scsi::{AccessState, DeliveryErrorKind, Status};

use crate::identity::Difference;
use crate::path::PathId;

/// Whether a failed I/O may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeCertainty {
    /// The I/O never ran, or the device itself ended it with an error.
    NotDone,
    /// A write may have been executed in whole, in part, or not at all.
    Unknown,
}

/// Why an I/O failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IoErrorKind {
    /// Offset or length is not a multiple of the block size.
    #[error("offset or length is not a multiple of the block size")]
    Misaligned,
    /// The range ends behind the last block.
    #[error("the range ends behind the last block")]
    OutOfRange,
    /// The logical unit may not be written.
    #[error("the logical unit is read-only")]
    ReadOnly,
    /// The logical unit was closed on this side.
    #[error("the logical unit is closed")]
    Closed,
    /// No path was usable for as long as I/O may wait for one.
    #[error("no path to the logical unit is usable")]
    NoPath,
    /// A write got lost with its path, and the path could not be fenced in time.
    #[error("the path that carried the write was lost and could not be fenced")]
    NotFenced,
    /// The range may still be changed by an earlier write that got lost with its path.
    #[error("the range is held: an earlier write to it may still be executed by the target")]
    RangeHeld,
    /// A command that cannot be repeated got no answer.
    #[error("the command got no answer and may not be repeated")]
    NotRepeatable,
    /// The transport gave no answer, on every attempt.
    #[error("no answer: {0}")]
    Transport(DeliveryErrorKind),
    /// BUSY or TASK SET FULL until the deadline of the I/O.
    #[error("the logical unit is busy")]
    Busy,
    /// Another host holds a reservation.
    #[error("another initiator holds a reservation")]
    ReservationConflict,
    /// The task was aborted by the device again and again.
    #[error("the device aborted the command")]
    Aborted,
    /// The device is not ready.
    #[error("the device is not ready")]
    NotReady,
    /// The medium cannot be read or written there.
    #[error("medium error")]
    MediumError,
    /// The device is broken.
    #[error("hardware error")]
    HardwareError,
    /// The device does not accept the command or its parameters.
    #[error("the device refuses the command")]
    IllegalRequest,
    /// The LUN leads nowhere (any more).
    #[error("there is no logical unit behind this LUN")]
    NoLogicalUnit,
    /// A unit attention came again and again.
    #[error("the device keeps reporting a unit attention")]
    UnitAttention,
    /// Write protection at the device.
    #[error("the device is write-protected")]
    DataProtect,
    /// A thin-provisioned unit has run out of space.
    #[error("the device is out of space")]
    NoSpace,
    /// End-to-end protection information does not match.
    #[error("protection information does not match")]
    ProtectionInformation,
    /// COMPARE AND WRITE or VERIFY found a difference.
    #[error("the data compared are not equal")]
    Miscompare,
    /// GOOD status, but fewer bytes than asked for.
    #[error("the device transferred fewer bytes than asked for")]
    ShortTransfer,
    /// An earlier, acknowledged write failed after all (deferred sense, SPC-4 §4.5.7).
    #[error("an earlier write failed after it was acknowledged")]
    DeferredError,
    /// The device was powered on or reset, and acknowledged writes that no flush had covered may
    /// have been lost with its volatile cache.
    #[error("the device restarted; acknowledged writes that were not flushed may be lost")]
    CacheLost,
    /// The transport cannot carry the command.
    #[error("the transport cannot carry the command")]
    Unsupported,
    /// Another error that the device reported.
    #[error("the device reported an error")]
    Device,
}

/// A failed I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoError {
    /// Why.
    pub kind: IoErrorKind,
    /// Whether it may have taken effect. Of an I/O that was carried out in pieces: of the piece
    /// that makes the worst of it.
    pub outcome: OutcomeCertainty,
    /// Nothing that this I/O started can still run. `false` only with
    /// [`OutcomeCertainty::Unknown`]: the target may execute the write later, and its range stays
    /// held for writes through this logical unit until the lost path is fenced.
    pub settled: bool,
    /// The path of the last attempt.
    pub path: Option<PathId>,
    /// That path's label.
    pub label: Option<Arc<str>>,
    /// The status of the last attempt that was answered.
    pub status: Option<Status>,
    /// Its sense data; empty without.
    pub sense: Box<[u8]>,
    /// First logical block of the piece that failed.
    pub lba: Option<u64>,
    /// Bytes from the start of the I/O that are certainly done; pieces behind the failed one may
    /// be done as well.
    pub done_bytes: u64,
}

impl IoError {
    /// An error that no device took part in.
    pub(crate) fn local(kind: IoErrorKind) -> Self {
        Self {
            kind,
            outcome: OutcomeCertainty::NotDone,
            settled: true,
            path: None,
            label: None,
            status: None,
            sense: Box::default(),
            lba: None,
            done_bytes: 0,
        }
    }

    /// Same, for blocks from `lba` on.
    pub(crate) fn at(kind: IoErrorKind, lba: u64) -> Self {
        Self {
            lba: Some(lba),
            ..Self::local(kind)
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(lba) = self.lba {
            write!(f, ", at LBA {lba}")?;
        }
        if let Some(path) = self.path {
            write!(f, ", on path {path}")?;
        }
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        if let Some(status) = self.status {
            write!(f, ": {status}")?;
        }
        if !self.sense.is_empty() {
            write!(f, ", {}", crate::classify::sense_in_words(&self.sense))?;
        }
        match (self.outcome, self.settled) {
            (OutcomeCertainty::NotDone, _) => Ok(()),
            (OutcomeCertainty::Unknown, true) => f.write_str("; it may or may not have been done"),
            (OutcomeCertainty::Unknown, false) => {
                f.write_str("; it may have been done, or may still be done later")
            }
        }
    }
}

impl std::error::Error for IoError {}

/// Why paths did not become a logical unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The list of paths is empty.
    #[error("no path was given")]
    NoPaths,
    /// More paths than one logical unit can have.
    #[error("{given} paths were given, at most {max} are possible")]
    TooManyPaths {
        /// Paths given.
        given: usize,
        /// Paths possible.
        max: usize,
    },
    /// Not one path answered well enough to learn what is behind it.
    #[error("no path is usable; {label}: {problem}")]
    NoUsablePath {
        /// Label of the first path.
        label: String,
        /// What is wrong with it.
        problem: ProbeError,
        /// The other paths' labels and problems.
        others: Vec<(String, ProbeError)>,
    },
    /// Two paths lead to different things.
    #[error("{left} and {right} are not the same logical unit: {difference}")]
    Mismatch {
        /// Label of one path.
        left: String,
        /// Label of the other.
        right: String,
        /// In what they differ.
        difference: Difference,
    },
    /// The unit has no blocks to read (tape, enclosure, CD without medium, ...).
    #[error("{label}: device type {device_type:#04x} is not a block device")]
    NotABlockDevice {
        /// Label of the path.
        label: String,
        /// Peripheral device type (SPC-4 §6.4.2).
        device_type: u8,
    },
}

/// Why a path could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The path is not logged in.
    #[error("the path is down")]
    Down,
    /// A command got no answer.
    #[error("{command}: {source}")]
    NoAnswer {
        /// The command's name.
        command: &'static str,
        /// What the transport said.
        source: scsi::DeliveryError,
    },
    /// The device refused a command.
    #[error("{command}: {status}{}", SenseSuffix(.sense))]
    Refused {
        /// The command's name.
        command: &'static str,
        /// Its status.
        status: Status,
        /// Its sense data.
        sense: Box<[u8]>,
    },
    /// An answer makes no sense.
    #[error("{command}: {source}")]
    Malformed {
        /// The command's name.
        command: &'static str,
        /// What is wrong with the answer.
        source: scsi::ParseError,
    },
    /// The LUN leads nowhere.
    #[error("there is no logical unit behind this LUN")]
    NoLogicalUnit,
    /// The path is fine, but the target gives no access through its port now.
    #[error("the target gives no access through this port: target port group {}", NoAccessState(*.state))]
    NoAccess {
        /// State of the target port group, as far as it is known.
        state: Option<AccessState>,
    },
    /// Unit attentions did not end.
    #[error("the device keeps reporting unit attentions")]
    Restless,
    /// The capacity is one that no device can have.
    #[error("the capacity makes no sense: {blocks} blocks of {block_bytes} bytes")]
    BadCapacity {
        /// Blocks reported.
        blocks: u64,
        /// Bytes per block reported.
        block_bytes: u32,
    },
}

/// "is standby" or so.
struct NoAccessState(Option<AccessState>);

impl fmt::Display for NoAccessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(state) => write!(f, "is {state}"),
            None => f.write_str("unknown"),
        }
    }
}

/// ", sense in words" or nothing.
struct SenseSuffix<'a>(&'a [u8]);

impl fmt::Display for SenseSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ", {}", crate::classify::sense_in_words(self.0))
    }
}
