//! What a login settled.

use crate::name::PortalGroupTag;

/// Parameters in force for the whole session (RFC 7143 §13). Lengths in bytes, times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionParams {
    /// MaxConnections.
    pub max_connections: u16,
    /// InitialR2T: no unsolicited Data-Out when true.
    pub initial_r2t: bool,
    /// ImmediateData: data may travel with the command.
    pub immediate_data: bool,
    /// MaxBurstLength.
    pub max_burst_bytes: u32,
    /// FirstBurstLength, never above MaxBurstLength.
    pub first_burst_bytes: u32,
    /// DefaultTime2Wait.
    pub time2wait_s: u16,
    /// DefaultTime2Retain.
    pub time2retain_s: u16,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u16,
    /// DataPDUInOrder.
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder.
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u8,
    /// TaskReporting.
    pub task_reporting: TaskReporting,
    /// iSCSIProtocolLevel: 2 and above bring the functions of RFC 7144.
    pub protocol_level: u8,
    /// TargetPortalGroupTag, when the target declared it.
    pub target_portal_group_tag: Option<PortalGroupTag>,
    /// TargetAlias, when the target declared it.
    pub target_alias: Option<String>,
}

impl Default for SessionParams {
    /// The defaults of RFC 7143 §13, in force until negotiated.
    fn default() -> Self {
        Self {
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_burst_bytes: 262_144,
            first_burst_bytes: 65_536,
            time2wait_s: 2,
            time2retain_s: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            task_reporting: TaskReporting::Rfc3720,
            protocol_level: 1,
            target_portal_group_tag: None,
            target_alias: None,
        }
    }
}

/// How a target reports tasks that a task management function ends (RFC 7143 §13.23).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TaskReporting {
    /// The response to the function may overtake responses of tasks on other connections.
    #[default]
    Rfc3720,
    /// It may not (RFC 7143 §4.2.2.3.3).
    ResponseFence,
    /// As before, and no Data-Out is sent any more for tasks that the function ends
    /// (RFC 7143 §4.2.3.4).
    FastAbort,
}

impl TaskReporting {
    /// The value of the TaskReporting key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rfc3720 => "RFC3720",
            Self::ResponseFence => "ResponseFence",
            Self::FastAbort => "FastAbort",
        }
    }
}

/// Parameters of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionParams {
    /// HeaderDigest is CRC32C.
    pub header_digest: bool,
    /// DataDigest is CRC32C.
    pub data_digest: bool,
    /// Our MaxRecvDataSegmentLength: the most a target may send in one PDU, in bytes.
    pub max_recv_bytes: u32,
    /// The target's MaxRecvDataSegmentLength: the most we may send in one PDU, in bytes.
    pub max_send_bytes: u32,
}

impl Default for ConnectionParams {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_recv_bytes: 8192,
            max_send_bytes: 8192,
        }
    }
}

/// One row of "requested and negotiated side by side".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedKey {
    /// The key's name.
    pub key: &'static str,
    /// What we offered or declared, when we did.
    pub requested: Option<String>,
    /// What the target answered, offered or declared, when it did.
    pub answered: Option<String>,
    /// What is in force.
    pub result: String,
}
