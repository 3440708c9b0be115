//! Any PDU a target sends.

use super::{
    AsyncMessage, Bhs, DataIn, LoginResponse, LogoutResponse, NopIn, Opcode, R2t, Reject,
    ScsiResponse, TaskResponse, TextResponse, WireError, opcode,
};

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

impl Response {
    /// Reads the header of a PDU from a target.
    ///
    /// # Errors
    ///
    /// [`WireError::UnexpectedOpcode`] when targets do not send such PDUs; otherwise what the
    /// PDU's own `decode` finds.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        Ok(match opcode(bhs)? {
            Opcode::NopIn => Self::NopIn(NopIn::decode(bhs)?),
            Opcode::ScsiResponse => Self::Scsi(ScsiResponse::decode(bhs)?),
            Opcode::TaskResponse => Self::Task(TaskResponse::decode(bhs)?),
            Opcode::LoginResponse => Self::Login(LoginResponse::decode(bhs)?),
            Opcode::TextResponse => Self::Text(TextResponse::decode(bhs)?),
            Opcode::DataIn => Self::DataIn(DataIn::decode(bhs)?),
            Opcode::LogoutResponse => Self::Logout(LogoutResponse::decode(bhs)?),
            Opcode::R2t => Self::R2t(R2t::decode(bhs)?),
            Opcode::AsyncMessage => Self::Async(AsyncMessage::decode(bhs)?),
            Opcode::Reject => Self::Reject(Reject::decode(bhs)?),
            Opcode::NopOut
            | Opcode::ScsiCommand
            | Opcode::TaskRequest
            | Opcode::LoginRequest
            | Opcode::TextRequest
            | Opcode::DataOut
            | Opcode::LogoutRequest
            | Opcode::SnackRequest => {
                return Err(WireError::UnexpectedOpcode {
                    opcode: opcode::code(bhs),
                });
            }
        })
    }
}
