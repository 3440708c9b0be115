//! PDUs of RFC 7143 §11 as plain structs.
//!
//! One file per family. Encoding fills a 48-byte header; AHS, data, padding and digests are put
//! around it by the transmit side. Decoding checks opcode, reserved bits that matter, and field
//! combinations; lengths are bounded before any payload is touched.

#![allow(missing_docs, reason = "field names are the RFC's own")]

use scsi::{Lun, TaskAttribute};

use crate::name::{Cid, Isid, Tsih};
use crate::serial::{CmdSn, DataSn, R2tSn, StatSn};

/// Length of a basic header segment, in bytes.
pub const BHS_BYTES: usize = 48;

/// A basic header segment as it travels.
pub type Bhs = [u8; BHS_BYTES];

/// Initiator task tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Itt(pub u32);

impl Itt {
    /// "No task".
    pub const RESERVED: Self = Self(0xffff_ffff);
}

/// Target transfer tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ttt(pub u32);

impl Ttt {
    /// "No tag".
    pub const RESERVED: Self = Self(0xffff_ffff);
}

/// Lengths that go into a header beside its own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lengths {
    /// TotalAHSLength in bytes, a multiple of 4, at most 1020.
    pub ahs_bytes: u16,
    /// DataSegmentLength in bytes without padding, below 2²⁴.
    pub data_bytes: u32,
}

// ---------------------------------------------------------------- initiator to target

/// NOP-Out (§11.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NopOut {
    pub immediate: bool,
    pub lun: Lun,
    pub itt: Itt,
    pub ttt: Ttt,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
}

/// SCSI Command (§11.3). CDBs above 16 bytes put the rest into an AHS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScsiCommand {
    pub immediate: bool,
    /// F: no unsolicited Data-Out follows.
    pub final_: bool,
    pub read: bool,
    pub write: bool,
    pub attribute: TaskAttribute,
    pub lun: Lun,
    pub itt: Itt,
    pub expected_data_bytes: u32,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
    pub cdb: [u8; 16],
}

/// Task management function codes (§11.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TaskFunction {
    AbortTask = 1,
    AbortTaskSet = 2,
    ClearAca = 3,
    ClearTaskSet = 4,
    LogicalUnitReset = 5,
    TargetWarmReset = 6,
    TargetColdReset = 7,
    TaskReassign = 8,
}

/// Task Management Function Request (§11.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRequest {
    pub immediate: bool,
    pub function: TaskFunction,
    pub lun: Lun,
    pub itt: Itt,
    /// Referenced task tag; [`Itt::RESERVED`] when the function names no task.
    pub referenced: Itt,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
    pub ref_cmd_sn: CmdSn,
    pub exp_data_sn: DataSn,
}

/// Login stages (§11.12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    SecurityNegotiation = 0,
    OperationalNegotiation = 1,
    FullFeaturePhase = 3,
}

/// Login Request (§11.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRequest {
    pub transit: bool,
    pub continue_: bool,
    pub current: Stage,
    /// Meaningful with T only.
    pub next: Stage,
    pub version_max: u8,
    pub version_min: u8,
    pub isid: Isid,
    pub tsih: Tsih,
    pub itt: Itt,
    pub cid: Cid,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
}

/// Text Request (§11.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRequest {
    pub immediate: bool,
    pub final_: bool,
    pub continue_: bool,
    pub lun: Lun,
    pub itt: Itt,
    pub ttt: Ttt,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
}

/// SCSI Data-Out (§11.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataOut {
    pub final_: bool,
    pub lun: Lun,
    pub itt: Itt,
    /// [`Ttt::RESERVED`] for unsolicited data.
    pub ttt: Ttt,
    pub exp_stat_sn: StatSn,
    pub data_sn: DataSn,
    pub buffer_offset: u32,
}

/// Logout reasons (§11.14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LogoutReason {
    CloseSession = 0,
    CloseConnection = 1,
    RemoveConnectionForRecovery = 2,
}

/// Logout Request (§11.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogoutRequest {
    pub immediate: bool,
    pub reason: LogoutReason,
    pub itt: Itt,
    /// Reserved (sent as 0) when the session is closed.
    pub cid: Cid,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
}

/// SNACK types (§11.16.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SnackKind {
    DataOrR2t = 0,
    Status = 1,
    DataAck = 2,
    RData = 3,
}

/// SNACK Request (§11.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnackRequest {
    pub kind: SnackKind,
    pub lun: Lun,
    pub itt: Itt,
    /// Target transfer tag or SNACK tag.
    pub ttt: Ttt,
    pub exp_stat_sn: StatSn,
    pub beg_run: u32,
    pub run_length: u32,
}

// ---------------------------------------------------------------- target to initiator

/// Command window numbers that most responses carry (§4.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub exp_cmd_sn: CmdSn,
    pub max_cmd_sn: CmdSn,
}

/// Any PDU a target sends, decoded from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    NopIn(NopIn),
    Scsi(ScsiResponse),
    Task(TaskResponse),
    Login(LoginResponse),
    Text(TextResponse),
    DataIn(DataIn),
    Logout(LogoutResponse),
    R2t(R2t),
    Async(AsyncMessage),
    Reject(Reject),
}

/// NOP-In (§11.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NopIn {
    pub lun: Lun,
    pub itt: Itt,
    pub ttt: Ttt,
    pub stat_sn: StatSn,
    pub window: Window,
}

/// Residual bits and count as they came (§11.4.1, §11.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResidualField {
    pub overflow: bool,
    pub underflow: bool,
    pub count: u32,
}

/// SCSI Response (§11.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScsiResponse {
    pub residual: ResidualField,
    pub bidirectional_read: ResidualField,
    /// 0 = command completed at target, 1 = target failure, 0x80.. = vendor.
    pub response: u8,
    pub status: u8,
    /// RFC 7144 status qualifier.
    pub qualifier: u16,
    pub itt: Itt,
    pub snack_tag: u32,
    pub stat_sn: StatSn,
    pub window: Window,
    pub exp_data_sn: DataSn,
}

/// Task Management Function Response (§11.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskResponse {
    /// 0 complete, 1 no such task, 2 no such LUN, 3 still allegiant, 4 no reassignment,
    /// 5 not supported, 6 not authorized, 255 rejected.
    pub response: u8,
    pub itt: Itt,
    pub stat_sn: StatSn,
    pub window: Window,
}

/// Login Response (§11.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginResponse {
    pub transit: bool,
    pub continue_: bool,
    pub current: Stage,
    pub next: Stage,
    pub version_max: u8,
    pub version_active: u8,
    pub isid: Isid,
    pub tsih: Tsih,
    pub itt: Itt,
    pub stat_sn: StatSn,
    pub window: Window,
    pub status_class: u8,
    pub status_detail: u8,
}

/// Text Response (§11.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextResponse {
    pub final_: bool,
    pub continue_: bool,
    pub lun: Lun,
    pub itt: Itt,
    pub ttt: Ttt,
    pub stat_sn: StatSn,
    pub window: Window,
}

/// SCSI Data-In (§11.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataIn {
    pub final_: bool,
    pub acknowledge: bool,
    pub lun: Lun,
    pub itt: Itt,
    pub ttt: Ttt,
    pub window: Window,
    pub data_sn: DataSn,
    pub buffer_offset: u32,
    /// Present with the S bit only: StatSN, status and residual mean nothing without it.
    pub status: Option<DataInStatus>,
}

/// What the S bit of a Data-In brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataInStatus {
    pub stat_sn: StatSn,
    pub status: u8,
    pub residual: ResidualField,
}

/// Logout Response (§11.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogoutResponse {
    /// 0 closed, 1 CID not found, 2 recovery not supported, 3 cleanup failed.
    pub response: u8,
    pub itt: Itt,
    pub stat_sn: StatSn,
    pub window: Window,
    pub time2wait_s: u16,
    pub time2retain_s: u16,
}

/// Ready To Transfer (§11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct R2t {
    pub lun: Lun,
    pub itt: Itt,
    pub ttt: Ttt,
    /// Next StatSN of the connection; not consumed.
    pub stat_sn: StatSn,
    pub window: Window,
    pub r2t_sn: R2tSn,
    pub buffer_offset: u32,
    pub desired_data_bytes: u32,
}

/// Asynchronous Message (§11.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncMessage {
    pub lun: Lun,
    pub stat_sn: StatSn,
    pub window: Window,
    /// 0 SCSI event, 1 logout request, 2 connection drop, 3 session drop, 4 negotiation,
    /// 5 task termination, 255 vendor.
    pub event: u8,
    pub vendor_code: u8,
    pub parameter1: u16,
    pub parameter2: u16,
    pub parameter3: u16,
}

/// Reject (§11.17). The data segment holds the header of the rejected PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    pub reason: u8,
    pub stat_sn: StatSn,
    pub window: Window,
    pub data_sn: u32,
}
