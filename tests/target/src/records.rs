//! What tests may know of a target: writes, sessions, counts of recovery.

use std::time::Instant;

use crate::ConnectionId;
use crate::login::operational::Parameters;

/// One write that reached the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRecord {
    /// Logical unit.
    pub lun: usize,
    /// First block.
    pub lba: u64,
    /// Count of blocks.
    pub blocks: u64,
    /// When it was executed.
    pub at: Instant,
    /// Session that sent it.
    pub tsih: u16,
    /// Its Initiator Task Tag.
    pub itt: u32,
    /// FNV-1a hash of the data as received.
    pub data_hash: u64,
    /// Executed after its connection was gone.
    pub late: bool,
}

/// What is known about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Target session identifying handle.
    pub tsih: u16,
    /// Name of the initiator.
    pub initiator: String,
    /// Initiator session identifier.
    pub isid: [u8; 6],
    /// Portal group tag.
    pub group: u16,
    /// Whether it is a discovery session.
    pub discovery: bool,
    /// Its connections.
    pub connections: Vec<ConnectionId>,
    /// Values in force.
    pub parameters: Parameters,
    /// Tags of unfinished tasks.
    pub tasks: Vec<u32>,
    /// Next CmdSN expected.
    pub exp_cmd_sn: u32,
    /// Last CmdSN admitted.
    pub max_cmd_sn: u32,
    /// Connections that ended and whose tasks are still kept: CID, and whether a logout for recovery has freed them.
    pub lost: Vec<(u16, bool)>,
}

/// How often error recovery was seen, over all sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Data/R2T SNACKs answered.
    pub data_snacks: u64,
    /// Status SNACKs answered.
    pub status_snacks: u64,
    /// DataACKs taken.
    pub data_acks: u64,
    /// R-Data SNACKs answered.
    pub r_data_snacks: u64,
    /// SNACKs rejected or ignored.
    pub snacks_refused: u64,
    /// Commands sent again with their number.
    pub retries: u64,
    /// R2Ts sent again as they were.
    pub r2ts_resent: u64,
    /// R2Ts that asked again for data.
    pub recovery_r2ts: u64,
    /// Connections of sessions that broke or were dropped.
    pub connections_lost: u64,
    /// Logouts with reason 2.
    pub recovery_logouts: u64,
    /// Logins with the CID of a connection of the session.
    pub connections_reinstated: u64,
    /// Tasks reassigned.
    pub reassigned: u64,
    /// Unanswered tasks that ended with their connection.
    pub tasks_ended: u64,
}
