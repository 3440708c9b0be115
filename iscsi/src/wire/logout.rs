//! Logout Request and Logout Response (RFC 7143 §11.14, §11.15).

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Window, WireError, itt};
use crate::name::Cid;
use crate::serial::{CmdSn, StatSn};

/// Logout reasons (§11.14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LogoutReason {
    CloseSession = 0,
    CloseConnection = 1,
    RemoveConnectionForRecovery = 2,
}

impl LogoutReason {
    /// The reason of this code, `None` when it is reserved.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::CloseSession,
            1 => Self::CloseConnection,
            2 => Self::RemoveConnectionForRecovery,
            _ => return None,
        })
    }
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

impl LogoutRequest {
    const NAME: &'static str = "Logout Request";

    /// The header. Both lengths are 0 in a well-formed request (§11.14.2).
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = FIRST_BIT | self.reason as u8;
        let cid = match self.reason {
            LogoutReason::CloseSession => Cid(0),
            LogoutReason::CloseConnection | LogoutReason::RemoveConnectionForRecovery => self.cid,
        };
        let mut bhs = field::start(Opcode::LogoutRequest, self.immediate, flags, lengths);
        field::put_itt(&mut bhs, self.itt);
        field::put_u16::<20>(&mut bhs, cid.0);
        field::put_request_numbers(&mut bhs, self.cmd_sn, self.exp_stat_sn);
        bhs
    }

    /// Reads a header. The CID is 0 when the session is closed, whatever the field holds.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments or data, a reserved reason,
    /// or no task tag.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::LogoutRequest)?;
        field::no_ahs(bhs, pdu)?;
        field::no_data(bhs, pdu)?;
        let code = field::get_u8::<1>(bhs) & 0x7f;
        let reason = LogoutReason::from_code(code).ok_or_else(|| WireError::ReservedValue {
            pdu,
            field: "Reason Code",
            value: code.into(),
        })?;
        if itt(bhs) == Itt::RESERVED {
            let field = "Initiator Task Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        let cid = match reason {
            LogoutReason::CloseSession => Cid(0),
            LogoutReason::CloseConnection | LogoutReason::RemoveConnectionForRecovery => {
                Cid(field::get_u16::<20>(bhs))
            }
        };
        let (cmd_sn, exp_stat_sn) = field::get_request_numbers(bhs);
        Ok(Self {
            immediate: field::is_immediate(bhs),
            reason,
            itt: itt(bhs),
            cid,
            cmd_sn,
            exp_stat_sn,
        })
    }
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

impl LogoutResponse {
    const NAME: &'static str = "Logout Response";

    /// The header. Both lengths are 0 in a well-formed response (§11.15.2).
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::LogoutResponse, false, FIRST_BIT, lengths);
        field::put_u8::<2>(&mut bhs, self.response);
        field::put_itt(&mut bhs, self.itt);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        field::put_u16::<40>(&mut bhs, self.time2wait_s);
        field::put_u16::<42>(&mut bhs, self.time2retain_s);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments or data.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::LogoutResponse)?;
        field::no_ahs(bhs, Self::NAME)?;
        field::no_data(bhs, Self::NAME)?;
        Ok(Self {
            response: field::get_u8::<2>(bhs),
            itt: itt(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
            time2wait_s: field::get_u16::<40>(bhs),
            time2retain_s: field::get_u16::<42>(bhs),
        })
    }
}
