//! Writers of the PDUs a target sends (RFC 7143 §11.4–§11.19).
//!
//! StatSN, ExpCmdSN and MaxCmdSN (bytes 24–35) are stamped by the connection when the PDU is queued, because only
//! there the numbers are known; lengths (bytes 4–7) are stamped when it is encoded.

use super::{BHS_BYTES, Fields, Header, RESERVED_TAG, opcode};

fn blank(opcode: u8, flags: u8, itt: u32) -> Header {
    let mut header = [0; BHS_BYTES];
    header[0] = opcode;
    header[1] = flags;
    header.put(16, &itt.to_be_bytes());
    header
}

/// A residual of RFC 7143 §11.4.5: what the command wanted against what the initiator expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Residual {
    #[default]
    None,
    Over(u32),
    Under(u32),
}

impl Residual {
    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Over(_) => 0x04,
            Self::Under(_) => 0x02,
        }
    }

    pub(crate) fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Over(bytes) | Self::Under(bytes) => bytes,
        }
    }
}

pub(crate) fn scsi_response(
    itt: u32,
    response: u8,
    status: u8,
    residual: Residual,
    exp_data_sn: u32,
) -> Header {
    let mut header = blank(opcode::SCSI_RESPONSE, 0x80 | residual.flags(), itt);
    header[2] = response;
    header[3] = status;
    header.put(36, &exp_data_sn.to_be_bytes());
    header.put(44, &residual.count().to_be_bytes());
    header
}

/// Data-In without status; `status` is added by [`with_status`].
pub(crate) fn data_in(itt: u32, is_final: bool, data_sn: u32, offset: u32) -> Header {
    let mut header = blank(opcode::DATA_IN, u8::from(is_final) << 7, itt);
    header.put(20, &RESERVED_TAG.to_be_bytes());
    header.put(36, &data_sn.to_be_bytes());
    header.put(40, &offset.to_be_bytes());
    header
}

/// Sets the S bit, the status and the residual of a final Data-In (RFC 7143 §11.7.3).
pub(crate) fn with_status(mut header: Header, status: u8, residual: Residual) -> Header {
    header[1] |= 0x01 | residual.flags();
    header[3] = status;
    header.put(44, &residual.count().to_be_bytes());
    header
}

pub(crate) fn r2t(lun: u64, itt: u32, ttt: u32, r2t_sn: u32, offset: u32, bytes: u32) -> Header {
    let mut header = blank(opcode::R2T, 0x80, itt);
    header.put(8, &lun.to_be_bytes());
    header.put(20, &ttt.to_be_bytes());
    header.put(36, &r2t_sn.to_be_bytes());
    header.put(40, &offset.to_be_bytes());
    header.put(44, &bytes.to_be_bytes());
    header
}

pub(crate) fn task_management(itt: u32, response: u8) -> Header {
    let mut header = blank(opcode::TASK_MANAGEMENT_RESPONSE, 0x80, itt);
    header[2] = response;
    header
}

/// What a Login Response says besides its keys (RFC 7143 §11.13).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LoginResponse {
    pub(crate) transit: bool,
    pub(crate) more: bool,
    pub(crate) current_stage: u8,
    pub(crate) next_stage: u8,
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    pub(crate) itt: u32,
    pub(crate) status: u16,
}

impl LoginResponse {
    pub(crate) fn header(&self) -> Header {
        let flags = u8::from(self.transit) << 7
            | u8::from(self.more) << 6
            | self.current_stage << 2
            | if self.transit { self.next_stage } else { 0 };
        let mut header = blank(opcode::LOGIN_RESPONSE, flags, self.itt);
        header.put(8, &self.isid);
        header.put(14, &self.tsih.to_be_bytes());
        header.put(36, &self.status.to_be_bytes());
        header
    }
}

pub(crate) fn text(itt: u32, ttt: u32, is_final: bool, more: bool) -> Header {
    let mut header = blank(
        opcode::TEXT_RESPONSE,
        u8::from(is_final) << 7 | u8::from(more) << 6,
        itt,
    );
    header.put(20, &ttt.to_be_bytes());
    header
}

pub(crate) fn logout(itt: u32, response: u8, time2wait: u16, time2retain: u16) -> Header {
    let mut header = blank(opcode::LOGOUT_RESPONSE, 0x80, itt);
    header[2] = response;
    header.put(40, &time2wait.to_be_bytes());
    header.put(42, &time2retain.to_be_bytes());
    header
}

pub(crate) fn nop_in(itt: u32, ttt: u32, lun: u64) -> Header {
    let mut header = blank(opcode::NOP_IN, 0x80, itt);
    header.put(8, &lun.to_be_bytes());
    header.put(20, &ttt.to_be_bytes());
    header
}

pub(crate) fn async_message(lun: u64, event: u8, vcode: u8, parameters: [u16; 3]) -> Header {
    let mut header = blank(opcode::ASYNC_MESSAGE, 0x80, RESERVED_TAG);
    header.put(8, &lun.to_be_bytes());
    header[36] = event;
    header[37] = vcode;
    let [first, second, third] = parameters;
    header.put(38, &first.to_be_bytes());
    header.put(40, &second.to_be_bytes());
    header.put(42, &third.to_be_bytes());
    header
}

pub(crate) fn reject(reason: u8) -> Header {
    let mut header = blank(opcode::REJECT, 0x80, RESERVED_TAG);
    header[2] = reason;
    header
}
