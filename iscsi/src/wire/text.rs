//! Text Request and Text Response (RFC 7143 §11.10, §11.11).

use scsi::Lun;

use super::field::{self, FIRST_BIT, SECOND_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Ttt, Window, WireError, itt};
use crate::serial::{CmdSn, StatSn};

/// F and C of byte 1. A text that goes on cannot be final.
fn flags(bhs: &Bhs, pdu: &'static str) -> Result<(bool, bool), WireError> {
    let flags = field::get_u8::<1>(bhs);
    let (final_, continue_) = (flags & FIRST_BIT != 0, flags & SECOND_BIT != 0);
    if final_ && continue_ {
        let (first, second) = ("F", "C");
        return Err(WireError::ExclusiveBits { pdu, first, second });
    }
    Ok((final_, continue_))
}

/// Text Request (§11.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRequest {
    pub immediate: bool,
    pub final_: bool,
    pub continue_: bool,
    pub lun: Lun,
    pub itt: Itt,
    /// [`Ttt::RESERVED`] starts anew, otherwise copied from the response.
    pub ttt: Ttt,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
}

impl TextRequest {
    const NAME: &'static str = "Text Request";

    /// The header. `lengths.data_bytes` is the length of the text.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = field::flag(self.final_, FIRST_BIT) | field::flag(self.continue_, SECOND_BIT);
        let mut bhs = field::start(Opcode::TextRequest, self.immediate, flags, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_ttt(&mut bhs, self.ttt);
        field::put_request_numbers(&mut bhs, self.cmd_sn, self.exp_stat_sn);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, F and C together, or no
    /// task tag.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::TextRequest)?;
        field::no_ahs(bhs, pdu)?;
        let (final_, continue_) = flags(bhs, pdu)?;
        if itt(bhs) == Itt::RESERVED {
            let field = "Initiator Task Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        let (cmd_sn, exp_stat_sn) = field::get_request_numbers(bhs);
        Ok(Self {
            immediate: field::is_immediate(bhs),
            final_,
            continue_,
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            ttt: field::get_ttt(bhs),
            cmd_sn,
            exp_stat_sn,
        })
    }
}

/// Text Response (§11.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextResponse {
    pub final_: bool,
    pub continue_: bool,
    pub lun: Lun,
    pub itt: Itt,
    /// Valid exactly when the response is not final; ignored when it is.
    pub ttt: Ttt,
    pub stat_sn: StatSn,
    pub window: Window,
}

impl TextResponse {
    const NAME: &'static str = "Text Response";

    /// The header. `lengths.data_bytes` is the length of the text.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = field::flag(self.final_, FIRST_BIT) | field::flag(self.continue_, SECOND_BIT);
        let mut bhs = field::start(Opcode::TextResponse, false, flags, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_ttt(&mut bhs, self.ttt);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, F and C together, or a
    /// response that is not final and gives no tag to go on with (§11.11.1).
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::TextResponse)?;
        field::no_ahs(bhs, pdu)?;
        let (final_, continue_) = flags(bhs, pdu)?;
        let ttt = field::get_ttt(bhs);
        if !final_ && ttt == Ttt::RESERVED {
            let field = "Target Transfer Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        Ok(Self {
            final_,
            continue_,
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            ttt,
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
        })
    }
}
