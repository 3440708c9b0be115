//! Counters of one session.

/// What a session has done since it was made. Counts only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SessionStats {
    /// SCSI commands sent.
    pub commands: u64,
    /// Payload bytes received in Data-In.
    pub read_bytes: u64,
    /// Payload bytes sent, immediate or in Data-Out.
    pub written_bytes: u64,
    /// Successful logins.
    pub logins: u64,
    /// Connections lost.
    pub losses: u64,
    /// Connections that joined the session after its leading login.
    pub connections_added: u64,
    /// Connections lost while the session lived on.
    pub connections_lost: u64,
    /// Tasks that were reassigned to another connection.
    pub reassigned: u64,
    /// Commands sent again with their CmdSN, because the target had not got them
    /// (RFC 7143 §7.2.1).
    pub retried: u64,
    /// Commands that had no answer in time.
    pub timeouts: u64,
    /// ABORT TASK requests sent.
    pub aborts: u64,
    /// LOGICAL UNIT RESET requests sent.
    pub lu_resets: u64,
    /// Task management functions sent because somebody asked for them.
    pub task_management: u64,
    /// Text exchanges in full feature phase that ended well.
    pub renegotiations: u64,
    /// Answers to tasks that had been given up.
    pub late_answers: u64,
    /// Digest errors seen.
    pub digest_errors: u64,
    /// SNACKs that asked for Data-In or R2T PDUs again (RFC 7143 §11.16).
    pub data_snacks: u64,
    /// SNACKs that asked for answers again.
    pub status_snacks: u64,
    /// SNACKs that asked for all data of a task again, cut anew.
    pub r_data_snacks: u64,
    /// SNACKs that acknowledged data.
    pub data_acks: u64,
    /// PDUs that came again after they had come, and were dropped.
    pub duplicates: u64,
    /// Commands that ended well after something of theirs had been lost, and answers that came
    /// after they had been asked for again.
    pub recovered: u64,
    /// Rejects (RFC 7143 §11.17).
    pub rejects: u64,
    /// NOP-Outs sent to see whether the target is there.
    pub pings: u64,
}
