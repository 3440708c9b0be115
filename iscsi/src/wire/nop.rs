//! NOP-Out and NOP-In: pings in both directions (RFC 7143 §11.18, §11.19).

use scsi::Lun;

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Ttt, Window, WireError, itt};
use crate::serial::{CmdSn, StatSn};

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

impl NopOut {
    const NAME: &'static str = "NOP-Out";

    /// The header. `lengths.data_bytes` is the length of the ping data.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::NopOut, self.immediate, FIRST_BIT, lengths);
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
    /// [`WireError`] for another opcode, or a NOP-Out that asks for no answer and is not
    /// immediate (§11.18.1).
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::NopOut)?;
        let (cmd_sn, exp_stat_sn) = field::get_request_numbers(bhs);
        let pdu = Self {
            immediate: field::is_immediate(bhs),
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            ttt: field::get_ttt(bhs),
            cmd_sn,
            exp_stat_sn,
        };
        if pdu.itt == Itt::RESERVED && !pdu.immediate {
            return Err(WireError::MissingBit {
                pdu: Self::NAME,
                bit: "Initiator Task Tag 0xffffffff",
                required: "I",
            });
        }
        Ok(pdu)
    }
}

/// NOP-In (§11.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NopIn {
    /// Meaningful with a valid target transfer tag only.
    pub lun: Lun,
    /// [`Itt::RESERVED`] unless this answers a NOP-Out.
    pub itt: Itt,
    /// [`Ttt::RESERVED`] unless the target wants a NOP-Out back.
    pub ttt: Ttt,
    /// Next StatSN of the connection; consumed only when `itt` is valid.
    pub stat_sn: StatSn,
    pub window: Window,
}

impl NopIn {
    const NAME: &'static str = "NOP-In";

    /// The header. `lengths.data_bytes` is the length of the ping data.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::NopIn, false, FIRST_BIT, lengths);
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
    /// [`WireError`] for another opcode or additional header segments.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::NopIn)?;
        field::no_ahs(bhs, Self::NAME)?;
        Ok(Self {
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            ttt: field::get_ttt(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
        })
    }
}
