//! SNACK Request (RFC 7143 §11.16).

use scsi::Lun;

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Ttt, WireError, itt};
use crate::serial::StatSn;

/// SNACK types (§11.16.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SnackKind {
    DataOrR2t = 0,
    Status = 1,
    DataAck = 2,
    RData = 3,
}

impl SnackKind {
    /// The type of this code, `None` when it is reserved.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::DataOrR2t,
            1 => Self::Status,
            2 => Self::DataAck,
            3 => Self::RData,
            _ => return None,
        })
    }
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

impl SnackRequest {
    const NAME: &'static str = "SNACK Request";

    /// Asks for `run_length` Data-In or R2T PDUs of a task again, from DataSN or R2TSN `beg_run`
    /// on. As with all constructors here, ExpStatSN is filled in when it is sent.
    #[must_use]
    pub const fn data_or_r2t(itt: Itt, beg_run: u32, run_length: u32) -> Self {
        Self {
            kind: SnackKind::DataOrR2t,
            lun: Lun::ZERO,
            itt,
            ttt: Ttt::RESERVED,
            exp_stat_sn: StatSn(0),
            beg_run,
            run_length,
        }
    }

    /// Asks for `run_length` answers again, from StatSN `beg_run` on.
    #[must_use]
    pub const fn status(beg_run: StatSn, run_length: u32) -> Self {
        Self {
            kind: SnackKind::Status,
            itt: Itt::RESERVED,
            ..Self::data_or_r2t(Itt::RESERVED, beg_run.0, run_length)
        }
    }

    /// Acknowledges all data before DataSN `next`; tag and LUN are those of the Data-In that asked
    /// for it (§11.16.5).
    #[must_use]
    pub const fn data_ack(lun: Lun, ttt: Ttt, next: u32) -> Self {
        Self {
            kind: SnackKind::DataAck,
            lun,
            ttt,
            ..Self::data_or_r2t(Itt::RESERVED, next, 0)
        }
    }

    /// Asks for all unacknowledged data of a task again, cut anew; `tag`, neither 0 nor all ones,
    /// comes back in the SCSI Response (§11.16.3).
    #[must_use]
    pub const fn r_data(itt: Itt, tag: u32) -> Self {
        Self {
            kind: SnackKind::RData,
            ttt: Ttt(tag),
            ..Self::data_or_r2t(itt, 0, 0)
        }
    }

    /// The header. Both lengths are 0 in a well-formed request.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = FIRST_BIT | self.kind as u8;
        let mut bhs = field::start(Opcode::SnackRequest, false, flags, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_ttt(&mut bhs, self.ttt);
        field::put_u32::<28>(&mut bhs, self.exp_stat_sn.0);
        field::put_u32::<40>(&mut bhs, self.beg_run);
        field::put_u32::<44>(&mut bhs, self.run_length);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, or a reserved type.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::SnackRequest)?;
        field::no_ahs(bhs, Self::NAME)?;
        let code = field::get_u8::<1>(bhs) & 0x0f;
        let kind = SnackKind::from_code(code).ok_or_else(|| WireError::ReservedValue {
            pdu: Self::NAME,
            field: "Type",
            value: code.into(),
        })?;
        Ok(Self {
            kind,
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            ttt: field::get_ttt(bhs),
            exp_stat_sn: StatSn(field::get_u32::<28>(bhs)),
            beg_run: field::get_u32::<40>(bhs),
            run_length: field::get_u32::<44>(bhs),
        })
    }
}
