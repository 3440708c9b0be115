//! Task management (RFC 7143 §11.5, §11.6; RFC 7144 §6).

use scsi::Lun;

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Window, WireError, itt};
use crate::serial::{CmdSn, DataSn, StatSn};

/// Task management function codes (§11.5.1; from [`TaskFunction::QueryTask`] on RFC 7144 §6.3,
/// to be sent only with iSCSIProtocolLevel 2 or above).
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
    QueryTask = 9,
    QueryTaskSet = 10,
    ItNexusReset = 11,
    QueryAsynchronousEvent = 12,
}

impl TaskFunction {
    /// The function of this code, `None` when it is reserved.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::AbortTask,
            2 => Self::AbortTaskSet,
            3 => Self::ClearAca,
            4 => Self::ClearTaskSet,
            5 => Self::LogicalUnitReset,
            6 => Self::TargetWarmReset,
            7 => Self::TargetColdReset,
            8 => Self::TaskReassign,
            9 => Self::QueryTask,
            10 => Self::QueryTaskSet,
            11 => Self::ItNexusReset,
            12 => Self::QueryAsynchronousEvent,
            _ => return None,
        })
    }
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

impl TaskRequest {
    const NAME: &'static str = "Task Management Function Request";

    /// The header. Both lengths are 0 in a well-formed request (§11.5.2).
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = FIRST_BIT | self.function as u8;
        let mut bhs = field::start(Opcode::TaskRequest, self.immediate, flags, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_u32::<20>(&mut bhs, self.referenced.0);
        field::put_request_numbers(&mut bhs, self.cmd_sn, self.exp_stat_sn);
        field::put_u32::<32>(&mut bhs, self.ref_cmd_sn.0);
        field::put_u32::<36>(&mut bhs, self.exp_data_sn.0);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments or data, a reserved function,
    /// or a missing tag.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::TaskRequest)?;
        field::no_ahs(bhs, pdu)?;
        field::no_data(bhs, pdu)?;
        let code = field::get_u8::<1>(bhs) & 0x7f;
        let function = TaskFunction::from_code(code).ok_or_else(|| WireError::ReservedValue {
            pdu,
            field: "Function",
            value: code.into(),
        })?;
        if itt(bhs) == Itt::RESERVED {
            let field = "Initiator Task Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        let (cmd_sn, exp_stat_sn) = field::get_request_numbers(bhs);
        Ok(Self {
            immediate: field::is_immediate(bhs),
            function,
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            referenced: Itt(field::get_u32::<20>(bhs)),
            cmd_sn,
            exp_stat_sn,
            ref_cmd_sn: CmdSn(field::get_u32::<32>(bhs)),
            exp_data_sn: DataSn(field::get_u32::<36>(bhs)),
        })
    }
}

/// Task Management Function Response (§11.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskResponse {
    /// 0 complete, 1 no such task, 2 no such LUN, 3 still allegiant, 4 no reassignment,
    /// 5 not supported, 6 not authorized, 7 succeeded (RFC 7144 §6.4), 255 rejected.
    pub response: u8,
    /// Additional response information of SAM-5 (RFC 7144 §6.4.1); 0 from a target below
    /// iSCSIProtocolLevel 2.
    pub additional: [u8; 3],
    pub itt: Itt,
    pub stat_sn: StatSn,
    pub window: Window,
}

impl TaskResponse {
    const NAME: &'static str = "Task Management Function Response";

    /// The header. Both lengths are 0 in a well-formed response (§11.6.2).
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::TaskResponse, false, FIRST_BIT, lengths);
        field::put_u8::<2>(&mut bhs, self.response);
        field::put::<8, 3>(&mut bhs, self.additional);
        field::put_itt(&mut bhs, self.itt);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments or data.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::TaskResponse)?;
        field::no_ahs(bhs, Self::NAME)?;
        field::no_data(bhs, Self::NAME)?;
        Ok(Self {
            response: field::get_u8::<2>(bhs),
            additional: field::get::<8, 3>(bhs),
            itt: itt(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
        })
    }
}
