//! Opcodes (RFC 7143 §11.2.1.2).

use super::{Bhs, WireError};

/// What kind of PDU a header begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Opcode {
    NopOut = 0x00,
    ScsiCommand = 0x01,
    TaskRequest = 0x02,
    LoginRequest = 0x03,
    TextRequest = 0x04,
    DataOut = 0x05,
    LogoutRequest = 0x06,
    SnackRequest = 0x10,
    NopIn = 0x20,
    ScsiResponse = 0x21,
    TaskResponse = 0x22,
    LoginResponse = 0x23,
    TextResponse = 0x24,
    DataIn = 0x25,
    LogoutResponse = 0x26,
    R2t = 0x31,
    AsyncMessage = 0x32,
    Reject = 0x3f,
}

impl Opcode {
    /// The opcode of this code, the I bit and the reserved bit taken away. `None` when it is
    /// unassigned or vendor-specific.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x00 => Self::NopOut,
            0x01 => Self::ScsiCommand,
            0x02 => Self::TaskRequest,
            0x03 => Self::LoginRequest,
            0x04 => Self::TextRequest,
            0x05 => Self::DataOut,
            0x06 => Self::LogoutRequest,
            0x10 => Self::SnackRequest,
            0x20 => Self::NopIn,
            0x21 => Self::ScsiResponse,
            0x22 => Self::TaskResponse,
            0x23 => Self::LoginResponse,
            0x24 => Self::TextResponse,
            0x25 => Self::DataIn,
            0x26 => Self::LogoutResponse,
            0x31 => Self::R2t,
            0x32 => Self::AsyncMessage,
            0x3f => Self::Reject,
            _ => return None,
        })
    }

    /// Whether targets send it.
    #[must_use]
    pub const fn is_from_target(self) -> bool {
        self as u8 >= 0x20
    }
}

/// The six bits of the opcode.
pub(super) const fn code(bhs: &Bhs) -> u8 {
    bhs[0] & 0x3f
}

/// The opcode of any header.
///
/// # Errors
///
/// [`WireError::UnexpectedOpcode`] when the code is unassigned or vendor-specific.
pub fn opcode(bhs: &Bhs) -> Result<Opcode, WireError> {
    let opcode = code(bhs);
    Opcode::from_code(opcode).ok_or(WireError::UnexpectedOpcode { opcode })
}
