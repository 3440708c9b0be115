//! The seam between a transport and multipath: one logical unit behind one I_T nexus.
//!
//! A transport implements [`Nexus`]; multipath drives several of them and never learns what is
//! underneath. The seam carries what safe failover needs and transports usually hide:
//!
//! - the buffer comes back with every completion, success or not ([`Completion::data`]);
//! - a command without an answer says how far it got ([`Certainty`]);
//! - each completion names the [`Incarnation`] of the nexus that carried it, so that a later
//!   [`Nexus::fence`] can say "everything that incarnation left behind is over".
//!
//! A transport never retries a command by itself: multipath is the only retrier.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::{Cdb, IoBuf, SenseData, Status, TaskAttribute};

/// A SCSI command to be carried out once.
#[derive(Debug)]
pub struct Command {
    /// The descriptor block.
    pub cdb: Cdb,
    /// The data that go with it.
    pub data: DataPhase,
    /// Ordering among other tasks of the logical unit.
    pub attribute: TaskAttribute,
    /// Command priority among simple tasks (SAM-5 §8.7): 1 is the highest, 15 the lowest, 0 none.
    /// A hint: a transport that cannot carry it (iSCSI below iSCSIProtocolLevel 2, RFC 7144
    /// §5.1.1) leaves it out. Values above 15 count as 15.
    pub priority: u8,
    /// After this long without an answer the transport starts to end the command
    /// (ABORT TASK, LOGICAL UNIT RESET, drop of the session).
    pub timeout: Duration,
    /// Carry it only in this life of the nexus. In any other it ends with
    /// [`DeliveryErrorKind::Down`] and [`Certainty::NotSent`]: a logical unit number may lead to
    /// another disk after a new login, and only multipath knows when it has looked again.
    /// `None`: any life will do.
    pub only_in: Option<Incarnation>,
}

/// The data of a command; the direction is part of the type.
#[derive(Debug, Default)]
pub enum DataPhase {
    /// No data.
    #[default]
    None,
    /// Data-In: the whole buffer may be filled; its length is the expected transfer length.
    Read(IoBuf),
    /// Data-Out: the whole payload is offered. Cloning `Bytes` copies nothing.
    Write(Bytes),
    /// Both in one command (XDWRITEREAD and the like).
    Bidirectional(Box<Bidirectional>),
}

/// The data of a bidirectional command.
#[derive(Debug, Default)]
pub struct Bidirectional {
    /// Data-Out.
    pub write: Bytes,
    /// Data-In.
    pub read: IoBuf,
}

impl DataPhase {
    /// The expected data transfer length in bytes; of a bidirectional command, of both directions
    /// together.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Read(buf) => buf.len(),
            Self::Write(bytes) => bytes.len(),
            Self::Bidirectional(both) => both.write.len().saturating_add(both.read.len()),
        }
    }

    /// Whether no byte is to be transferred.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a command ended, with the memory it borrowed.
#[derive(Debug)]
pub struct Completion {
    /// What happened.
    pub outcome: Outcome,
    /// The data phase of the [`Command`], always given back. The content of a read buffer is
    /// meaningful only up to [`ScsiAnswer::transferred`] and only with an answer.
    pub data: DataPhase,
    /// Which life of the nexus carried the command (or would have).
    pub incarnation: Incarnation,
    /// From [`Nexus::execute`] to the answer, or to the end without one. A transport reads the
    /// clock anyway for its time limits; multipath then need not do it again for every I/O.
    pub took: Duration,
}

/// Whether there was an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The device ended the command with a status. Not necessarily GOOD.
    Answered(ScsiAnswer),
    /// No SCSI status will ever come.
    Failed(DeliveryError),
}

/// A device's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiAnswer {
    /// Status byte.
    pub status: Status,
    /// Sense data as they came (empty without autosense); at most 252 bytes.
    pub sense: Box<[u8]>,
    /// What the device says of the length; of a bidirectional command, of its write.
    pub residual: Residual,
    /// Read: leading bytes of the buffer that the device filled without a hole.
    /// Write: bytes the device took, by its residual. Bidirectional: those of the write.
    pub transferred: usize,
    /// The read of a bidirectional command; `None` for every other.
    pub read_part: Option<Box<ReadPart>>,
    /// SAM-5 status qualifier; 0 when the transport did not carry one.
    pub qualifier: u16,
}

impl ScsiAnswer {
    /// GOOD with the whole transfer.
    #[must_use]
    pub fn good(transferred: usize) -> Self {
        Self {
            status: Status::GOOD,
            sense: Box::default(),
            residual: Residual::None,
            transferred,
            read_part: None,
            qualifier: 0,
        }
    }

    /// The sense data, read; `None` when there are none or they are no sense data. Some targets
    /// send CHECK CONDITION without any.
    #[must_use]
    pub fn sense_data(&self) -> Option<SenseData> {
        SenseData::parse(&self.sense).ok()
    }
}

/// What became of the read of a bidirectional command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadPart {
    /// What the device says of its length.
    pub residual: Residual,
    /// Leading bytes of the buffer that the device filled without a hole.
    pub transferred: usize,
}

/// Difference between the expected and the real transfer length, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residual {
    /// None.
    #[default]
    None,
    /// This many bytes were not transferred.
    Underflow(u32),
    /// This many more would have been transferred.
    Overflow(u32),
}

/// No answer: why, and how far the command got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} ({certainty})")]
pub struct DeliveryError {
    /// Why.
    pub kind: DeliveryErrorKind,
    /// How far.
    pub certainty: Certainty,
}

/// Why a command got no SCSI status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryErrorKind {
    /// The nexus is down at the moment (reconnecting); the command was not accepted.
    #[error("the path is down")]
    Down,
    /// The nexus was closed for good: logged out, or given up.
    #[error("the session is closed")]
    Closed,
    /// The connection ended while the command was under way.
    #[error("the connection was lost")]
    ConnectionLost,
    /// No answer in time; the transport has ended the command.
    #[error("no answer in time")]
    TimedOut,
    /// The task was aborted (by this side, or by a reset of the logical unit or target).
    #[error("the task was aborted")]
    Aborted,
    /// The target ended the command without a SCSI status (iSCSI response "target failure",
    /// a Reject, an answer that contradicts the command).
    #[error("the target failed the command without a status")]
    TargetFailure,
    /// The command can never be carried by this nexus (too long, bad CDB).
    #[error("the transport cannot carry the command")]
    Unsupported,
}

/// How far a command without an answer got. What multipath may do next depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Certainty {
    /// No byte of it reached the network stack: it cannot have run, and never will.
    NotSent,
    /// The command's own PDU was handed over in part.
    PartlySent,
    /// Handed over whole, no answer: it may have run, may be running, may still run later.
    SentNoAnswer,
    /// The target said that the task is over, without a usable status: it may have run,
    /// it is not running any more.
    Answered,
}

impl Certainty {
    /// Whether the command may still run after this moment.
    #[must_use]
    pub const fn may_still_run(self) -> bool {
        matches!(self, Self::PartlySent | Self::SentNoAnswer)
    }
}

impl std::fmt::Display for Certainty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::PartlySent => "partly sent",
            Self::SentNoAnswer => "sent, no answer",
            Self::Answered => "answered without a status",
        })
    }
}

/// One life of a nexus: it begins with a successful login and ends when its connections are
/// gone. Rises by one with each; 0 means "never yet up".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Incarnation(pub u64);

/// What a nexus is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NexusState {
    /// Logged in; commands are carried.
    Up(Incarnation),
    /// Not logged in, being reconnected. Holds the last life it had.
    Down(Incarnation),
    /// Closed for good.
    Closed,
}

/// Why a fence could not be put up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// No portal of the target portal group could be reached in time.
    #[error("no portal of the path's portal group could be reached in time")]
    Unreachable,
    /// The nexus was closed for good before the fence stood.
    #[error("the session is closed")]
    Closed,
}

/// Why a logical unit could not be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// The transport has no way to ask for it.
    #[error("not supported by the transport")]
    Unsupported,
    /// The nexus is not in the life asked for.
    #[error("the path is down")]
    Down,
    /// No answer in time. The unit may have been reset.
    #[error("no answer in time")]
    NoAnswer,
    /// The target answered with this response code (RFC 7143 §11.6.1).
    #[error("refused with response code {0:#04x}")]
    Refused(u8),
}

/// Why a question to the transport's other end was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The transport has no way to ask.
    #[error("not supported by the transport")]
    Unsupported,
    /// The nexus is not in the life asked for.
    #[error("the path is down")]
    Down,
    /// No answer in time.
    #[error("no answer in time")]
    NoAnswer,
}

/// One logical unit behind one I_T nexus.
///
/// All futures may be dropped at any time. A dropped [`Nexus::execute`] is ended safely in the
/// background: not sent, it is forgotten; sent, it is aborted, and its memory stays with the
/// transport until no late answer can touch it.
pub trait Nexus: Send + Sync + 'static {
    /// Carries out one command, once. Ends at once with [`DeliveryErrorKind::Down`] and
    /// [`Certainty::NotSent`] while the nexus is down: waiting is the caller's decision.
    fn execute(&self, command: Command) -> impl Future<Output = Completion> + Send;

    /// Resolves when every command that `incarnation` or an earlier one carried can no longer
    /// run: their connections were cut abortively, and the target has since accepted a login that reinstates
    /// the session (same initiator name and ISID, TSIH 0, through any portal of the portal group),
    /// or a clean logout. Resolves at once when that is already so; fails after `budget`.
    fn fence(
        &self,
        incarnation: Incarnation,
        budget: Duration,
    ) -> impl Future<Output = Result<(), FenceError>> + Send;

    /// Resolves when every command of `incarnation` whose [`Nexus::execute`] was dropped can no
    /// longer run: aborted and answered, or gone with the incarnation as [`Nexus::fence`] says.
    /// Multipath asks only when somebody wants to write where a dropped write may still land.
    ///
    /// Without a better way a fence does it, at the price of the session.
    fn settle(
        &self,
        incarnation: Incarnation,
        budget: Duration,
    ) -> impl Future<Output = Result<(), FenceError>> + Send {
        self.fence(incarnation, budget)
    }

    /// What the nexus is doing now.
    fn state(&self) -> NexusState;

    /// Resolves when the state is no longer `seen`.
    fn changed(&self, seen: NexusState) -> impl Future<Output = NexusState> + Send;

    /// Ends every task of the logical unit, whoever sent it, with LOGICAL UNIT RESET (SAM-5 §7.7),
    /// and resolves when the target has confirmed it. Only in this life of the nexus.
    ///
    /// Unsupported where the transport has no way to ask for it.
    fn reset_logical_unit(
        &self,
        incarnation: Incarnation,
        budget: Duration,
    ) -> impl Future<Output = Result<(), ResetError>> + Send {
        let _ = (incarnation, budget);
        std::future::ready(Err(ResetError::Unsupported))
    }

    /// Asks the other end of the transport for a sign of life, without a SCSI command (iSCSI:
    /// NOP-Out, RFC 7143 §11.18), and resolves when it came. Only in this life of the nexus. Says
    /// nothing of the logical unit.
    fn ping(
        &self,
        incarnation: Incarnation,
        budget: Duration,
    ) -> impl Future<Output = Result<(), PingError>> + Send {
        let _ = (incarnation, budget);
        std::future::ready(Err(PingError::Unsupported))
    }

    /// Whether the target's last word, to a login, was that it is not there: not found, or removed
    /// (RFC 7143 §11.13.5). A transport that cannot tell says `false`.
    fn is_gone(&self) -> bool {
        false
    }

    /// Longest data transfer one command should carry, in bytes (a multiple of 4096).
    fn max_transfer_bytes(&self) -> usize;

    /// Commands worth having under way at once (target's window or our slots).
    fn queue_depth(&self) -> usize;

    /// For people: portal, target and LUN.
    fn describe(&self) -> String;
}
