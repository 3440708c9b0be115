//! What a session tells its driver, and what it tells people.

use std::time::Duration;

use scsi::{Incarnation, Lun};

use super::error::{CloseReason, LossReason};
use crate::name::{Cid, Portal};

/// Something the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection and report with [`super::Session::handle_connected`] or
    /// [`super::Session::handle_connect_failed`].
    Connect {
        /// The connection it becomes.
        cid: Cid,
        /// Where to.
        portal: Portal,
        /// Time limit; the session keeps it too.
        timeout: Duration,
    },
    /// The login is done: put the connection's parameters into force before the next PDU.
    LoggedIn {
        /// The connection.
        cid: Cid,
        /// HeaderDigest is CRC32C.
        header_digest: bool,
        /// DataDigest is CRC32C.
        data_digest: bool,
        /// Our MaxRecvDataSegmentLength in bytes.
        max_recv_bytes: u32,
    },
    /// Close the connection and report with [`super::Session::handle_closed`].
    Close {
        /// The connection.
        cid: Cid,
        /// Abortive: nothing that is still in the network stack may be sent any more.
        abort: bool,
    },
}

/// Something people and programs may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// In full feature phase.
    LoggedIn {
        /// Which life.
        incarnation: Incarnation,
        /// Through which portal.
        portal: Portal,
    },
    /// The connection is gone.
    Lost {
        /// Which life ended.
        incarnation: Incarnation,
        /// Why.
        reason: LossReason,
    },
    /// A further connection has joined the session, or a lost one has come back.
    ConnectionAdded {
        /// The connection.
        cid: Cid,
        /// Through which portal.
        portal: Portal,
    },
    /// A further connection could not be had; the session goes on without it.
    ConnectionFailed {
        /// The connection.
        cid: Cid,
        /// Through which portal.
        portal: Portal,
        /// Why.
        reason: LossReason,
    },
    /// A connection is gone; the session lives on and recovers its tasks.
    ConnectionLost {
        /// The connection.
        cid: Cid,
        /// Why.
        reason: LossReason,
    },
    /// A connection was logged out; the session goes on.
    ConnectionRemoved {
        /// The connection.
        cid: Cid,
    },
    /// Tasks of a connection that is gone went to others.
    TasksMoved {
        /// By TASK REASSIGN, or by an ABORT TASK.
        reassigned: usize,
        /// By sending the command again, which the target had not taken.
        retried: usize,
    },
    /// An attempt to reconnect failed.
    AttemptFailed {
        /// Where to.
        portal: Portal,
        /// Why.
        reason: LossReason,
        /// Wait before the next.
        next_in: Duration,
    },
    /// The target sent us elsewhere.
    Redirected {
        /// From.
        from: Portal,
        /// To.
        to: Portal,
        /// For good (login status 0x0102), or for now (0x0101).
        permanent: bool,
    },
    /// Everything that the incarnation, and those before it, had under way is over.
    Fenced {
        /// The newest life that is over.
        incarnation: Incarnation,
    },
    /// A command had no answer in time.
    CommandTimedOut {
        /// Its logical unit.
        lun: Lun,
        /// Its operation code.
        operation_code: u8,
    },
    /// Parameters were declared anew in full feature phase, and are in force.
    Renegotiated {
        /// Our MaxRecvDataSegmentLength in bytes.
        max_recv_bytes: u32,
        /// The target's MaxRecvDataSegmentLength in bytes.
        max_send_bytes: u32,
    },
    /// The target sent an Async Message (RFC 7143 §11.9).
    Async {
        /// AsyncEvent code.
        event: u8,
        /// In words.
        name: &'static str,
        /// The logical unit (SCSI events and task termination).
        lun: Lun,
        /// AsyncVCode: what a vendor's event means.
        vendor_code: u8,
        /// Parameter1 to Parameter3.
        parameters: [u16; 3],
        /// Sense data of a SCSI event; at most 252 bytes.
        sense: Box<[u8]>,
        /// What a vendor adds; at most 1,024 bytes.
        data: Box<[u8]>,
    },
    /// The session has ended.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}
