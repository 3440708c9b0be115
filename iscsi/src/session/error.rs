//! How a session's life can end, and what a target can do wrong in full feature phase.

use crate::login::{LoginError, RedirectError};
use crate::name::{Cid, Portal, PortalGroupTag};
use crate::text::exchange::TextFault;
use crate::wire::receiver::FrameError;

/// The target broke the protocol in full feature phase.
///
/// What follows depends on the error and the ErrorRecoveryLevel:
/// [`reaction`](super::recovery::reaction()) is the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Bytes that are no PDU, or a bad digest.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An answer to a task that does not exist (RFC 7143 §11.2.1.8).
    #[error("answer for task tag {itt:#010x}, which was never sent (RFC 7143 §11.2.1.8)")]
    UnknownTask {
        /// The tag.
        itt: u32,
    },
    /// An answer on another connection than the command was sent on (RFC 7143 §4.2.5.1).
    #[error(
        "task {itt:#010x} has allegiance to connection {allegiance}, its answer came on {cid} \
         (RFC 7143 §4.2.5.1)"
    )]
    WrongConnection {
        /// The tag.
        itt: u32,
        /// Where the command was sent.
        allegiance: Cid,
        /// Where the answer came.
        cid: Cid,
    },
    /// A PDU of a task names another logical unit than its command.
    #[error("LUN {found} in a PDU of a task of LUN {expected} (RFC 7143 §4.2.5.3)")]
    WrongLun {
        /// The task's.
        expected: scsi::Lun,
        /// The PDU's.
        found: scsi::Lun,
    },
    /// A PDU was skipped: StatSN jumped (RFC 7143 §4.2.2.2).
    #[error("StatSN is {actual:#x}, {expected:#x} was next (RFC 7143 §4.2.2.2)")]
    StatSnGap {
        /// Next in order.
        expected: u32,
        /// Received.
        actual: u32,
    },
    /// Data-In with a DataSN out of order (RFC 7143 §4.2.2.3).
    #[error("DataSN of a Data-In is {actual}, {expected} was next (RFC 7143 §4.2.2.3)")]
    DataSnGap {
        /// Next in order.
        expected: u32,
        /// Received.
        actual: u32,
    },
    /// R2T with an R2TSN out of order (RFC 7143 §11.8.2).
    #[error("R2TSN is {actual}, {expected} was next (RFC 7143 §11.8.2)")]
    R2tSnGap {
        /// Next in order.
        expected: u32,
        /// Received.
        actual: u32,
    },
    /// Data-In outside the buffer of its task, or out of the negotiated order (RFC 7143 §11.7.5).
    #[error("Data-In of {bytes} bytes at offset {offset} does not fit its task (RFC 7143 §11.7.5)")]
    DataInOutOfBounds {
        /// Buffer Offset.
        offset: u32,
        /// DataSegmentLength.
        bytes: u32,
    },
    /// Data-In for a task that reads nothing (RFC 7143 §11.7).
    #[error("Data-In for a task that reads nothing (RFC 7143 §11.7)")]
    UnexpectedDataIn,
    /// The status of a bidirectional command in a Data-In (RFC 7143 §11.7.3).
    #[error("status of a bidirectional command in a Data-In (RFC 7143 §11.7.3)")]
    StatusInDataIn,
    /// R2T outside the payload, beyond MaxBurstLength, out of order, or too many (RFC 7143 §11.8).
    #[error("R2T for {bytes} bytes at offset {offset}: {fault} (RFC 7143 §11.8)")]
    BadR2t {
        /// Buffer Offset.
        offset: u32,
        /// Desired Data Transfer Length.
        bytes: u32,
        /// What is wrong with it.
        fault: R2tFault,
    },
    /// GOOD status, though data are missing (RFC 7143 §11.4).
    #[error(
        "GOOD status after {actual} of {expected} bytes, without a residual (RFC 7143 §11.4.5)"
    )]
    MissingData {
        /// Bytes that the status claims.
        expected: u32,
        /// Bytes that moved.
        actual: u32,
    },
    /// A residual larger than the transfer (RFC 7143 §11.4.5).
    #[error("underflow of {residual} bytes in a transfer of {expected} (RFC 7143 §11.4.5)")]
    BadResidual {
        /// Residual count.
        residual: u32,
        /// Expected Data Transfer Length.
        expected: u32,
    },
    /// A text exchange that breaks the rules (RFC 7143 §6.2, §11.11).
    #[error(transparent)]
    Text(#[from] TextFault),
    /// A PDU that does not belong to this phase (RFC 7143 §5.3).
    #[error("{pdu} outside its phase (RFC 7143 §5.3)")]
    UnexpectedPdu {
        /// Its name.
        pdu: &'static str,
    },
    /// A PDU was rejected (RFC 7143 §11.17).
    #[error("the target rejected a PDU: {name} ({reason:#04x}) (RFC 7143 §11.17.1)")]
    Rejected {
        /// What was rejected; `None` when the Reject does not say.
        pdu: Option<crate::wire::Opcode>,
        /// Reason code.
        reason: u8,
        /// The reason in words.
        name: &'static str,
    },
}

/// What is wrong with an R2T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum R2tFault {
    /// The task writes nothing.
    #[error("the task writes nothing")]
    NoWrite,
    /// Beyond the end of the payload.
    #[error("beyond the payload")]
    OutOfBounds,
    /// Longer than MaxBurstLength.
    #[error("longer than MaxBurstLength")]
    TooLong,
    /// Not where the last one ended, though DataSequenceInOrder is Yes.
    #[error("out of order")]
    OutOfOrder,
    /// More at once than MaxOutstandingR2T.
    #[error("more at once than MaxOutstandingR2T")]
    TooMany,
}

/// Why a session lost its connection, or could not get one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// The network refused or ended the connection.
    #[error("{0}")]
    Transport(String),
    /// The target closed the connection.
    #[error("the target closed the connection")]
    ClosedByTarget,
    /// The target closed the connection in the middle of the login, without a status. Some refuse
    /// initiators in this way; LIO does when it demands CHAP and the initiator offers none.
    #[error(
        "the target closed the connection in stage {stage} instead of answering; it may demand CHAP \
         or not know this initiator"
    )]
    ClosedInLogin {
        /// Where it stood.
        stage: &'static str,
    },
    /// No connection within the time allowed.
    #[error("no connection within {0:?}")]
    ConnectTimeout(std::time::Duration),
    /// The login did not finish within the time allowed.
    #[error("no end of the login ({stage}) within {limit:?}")]
    LoginTimeout {
        /// Where it stood.
        stage: &'static str,
        /// The time allowed.
        limit: std::time::Duration,
    },
    /// The login failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Nothing came back in time, not even the answer to a NOP-Out.
    #[error("no answer to a NOP-Out within {0:?}")]
    KeepaliveTimeout(std::time::Duration),
    /// A command could not be ended otherwise.
    #[error(
        "a command without an answer could be ended neither by ABORT TASK nor by LOGICAL UNIT RESET"
    )]
    TaskStuck,
    /// A task management function that ends tasks had no response in time.
    #[error("no response to {function} in time")]
    ManagementTimeout {
        /// Its name.
        function: &'static str,
    },
    /// The target ended the session because we asked for that.
    #[error("the session was ended by {function}")]
    ResetOnRequest {
        /// The function's name.
        function: &'static str,
    },
    /// The target broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Data, an answer or a command got lost, and could not be had again.
    #[error("{what} got lost and did not come when asked for again (RFC 7143 §7.9)")]
    NotRecovered {
        /// What got lost.
        what: &'static str,
    },
    /// The target waits for a CmdSN whose command was aborted, and holds back every later one.
    #[error(
        "the target still waits for CmdSN {cmd_sn}, whose command was aborted (RFC 7143 §7.11)"
    )]
    CmdSnHole {
        /// The target's ExpCmdSN.
        cmd_sn: u32,
    },
    /// The target announced it (Async Message 2 or 3).
    #[error("the target announced that it drops the connection (Async Message {0})")]
    DropAnnounced(u8),
    /// A logout that the target asked for, or did not answer.
    #[error("logged out at the target's request")]
    LogoutRequested,
    /// Redirected in circles, or too often.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// A further connection led to another portal group, which is another I_T nexus.
    #[error("the portal is in portal group {theirs}, the session in {ours} (RFC 7143 §4.4.1)")]
    OtherPortalGroup {
        /// The session's.
        ours: PortalGroupTag,
        /// The portal's.
        theirs: PortalGroupTag,
    },
    /// The target refused to reassign a task.
    #[error("the target refused to reassign a task: response {response} (RFC 7143 §11.6.1)")]
    ReassignRefused {
        /// Response code.
        response: u8,
    },
    /// Tasks could not be reassigned in time.
    #[error("the tasks of a lost connection could not be reassigned in time")]
    ReassignTimeout,
    /// The target keeps no tasks of a lost connection (Time2Retain 0).
    #[error("the target does not retain the tasks of a lost connection (RFC 7143 §11.15.4)")]
    TasksNotRetained,
    /// Cut on purpose, to end what was under way.
    #[error("cut to put up a fence")]
    Fenced,
}

impl From<FrameError> for LossReason {
    fn from(error: FrameError) -> Self {
        Self::Protocol(ProtocolError::Frame(error))
    }
}

/// The session has ended and will not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Logged out at the application's request.
    #[error("logged out")]
    LoggedOut,
    /// The task that carried the session was stopped, with its runtime or otherwise.
    #[error("the task of the session was stopped")]
    Stopped,
    /// Not reconnected in time.
    #[error("could not reconnect to {portal} in time: {last}")]
    GaveUp {
        /// The portal tried last.
        portal: Portal,
        /// Why it failed last.
        last: LossReason,
    },
}

/// A connection could not be added to a session, or taken out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The session is not logged in.
    #[error("the session is not logged in")]
    NotUp,
    /// It has as many connections as were negotiated.
    #[error("the session has all of the {limit} connections that were negotiated (MaxConnections)")]
    TooMany {
        /// MaxConnections.
        limit: usize,
    },
    /// There is no such connection.
    #[error("the session has no connection {cid}")]
    Unknown {
        /// The CID asked for.
        cid: Cid,
    },
    /// It is lost, and being recovered.
    #[error("connection {cid} is being recovered")]
    Recovering {
        /// The CID asked for.
        cid: Cid,
    },
    /// It is the last one.
    #[error("connection {cid} is the last one; log the session out instead")]
    Last {
        /// The CID asked for.
        cid: Cid,
    },
}
