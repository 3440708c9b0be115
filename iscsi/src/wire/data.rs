//! SCSI Data-Out, SCSI Data-In and Ready To Transfer (RFC 7143 §11.7, §11.8).

use scsi::Lun;

use super::field::{self, FIRST_BIT, SECOND_BIT};
use super::{Bhs, Itt, Lengths, Opcode, ResidualField, Ttt, Window, WireError, itt};
use crate::serial::{DataSn, R2tSn, StatSn};

const STATUS: u8 = 0x01;

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

impl DataOut {
    const NAME: &'static str = "SCSI Data-Out";

    /// The header. `lengths.data_bytes` is the length of the payload.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = field::flag(self.final_, FIRST_BIT);
        let mut bhs = field::start(Opcode::DataOut, false, flags, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_ttt(&mut bhs, self.ttt);
        field::put_u32::<28>(&mut bhs, self.exp_stat_sn.0);
        field::put_u32::<36>(&mut bhs, self.data_sn.0);
        field::put_u32::<40>(&mut bhs, self.buffer_offset);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode or no task tag.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::DataOut)?;
        Ok(Self {
            final_: field::get_u8::<1>(bhs) & FIRST_BIT != 0,
            lun: field::get_lun(bhs),
            itt: task_tag(bhs, Self::NAME)?,
            ttt: field::get_ttt(bhs),
            exp_stat_sn: StatSn(field::get_u32::<28>(bhs)),
            data_sn: DataSn(field::get_u32::<36>(bhs)),
            buffer_offset: field::get_u32::<40>(bhs),
        })
    }
}

/// SCSI Data-In (§11.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataIn {
    pub final_: bool,
    pub acknowledge: bool,
    /// Meaningful with a valid target transfer tag only.
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

impl DataIn {
    const NAME: &'static str = "SCSI Data-In";

    /// The header. `lengths.data_bytes` is the length of the payload.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = field::flag(self.final_, FIRST_BIT)
            | field::flag(self.acknowledge, SECOND_BIT)
            | self.status.map_or(0, |with| STATUS | with.residual.bits());
        let mut bhs = field::start(Opcode::DataIn, false, flags, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_ttt(&mut bhs, self.ttt);
        field::put_window(&mut bhs, self.window);
        field::put_u32::<36>(&mut bhs, self.data_sn.0);
        field::put_u32::<40>(&mut bhs, self.buffer_offset);
        if let Some(with) = self.status {
            field::put_u8::<3>(&mut bhs, with.status);
            field::put_stat_sn(&mut bhs, with.stat_sn);
            field::put_u32::<44>(&mut bhs, with.residual.count);
        }
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, no task tag, S without F, or
    /// both bits of the residual together with S.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::DataIn)?;
        field::no_ahs(bhs, pdu)?;
        let flags = field::get_u8::<1>(bhs);
        let data = Self {
            final_: flags & FIRST_BIT != 0,
            acknowledge: flags & SECOND_BIT != 0,
            lun: field::get_lun(bhs),
            itt: task_tag(bhs, pdu)?,
            ttt: field::get_ttt(bhs),
            window: field::get_window(bhs),
            data_sn: DataSn(field::get_u32::<36>(bhs)),
            buffer_offset: field::get_u32::<40>(bhs),
            status: Self::decode_status(bhs, flags)?,
        };
        if data.status.is_some() && !data.final_ {
            let (bit, required) = ("S", "F");
            return Err(WireError::MissingBit { pdu, bit, required });
        }
        Ok(data)
    }

    /// The tag that the answer to the A bit carries (§11.7.4). At ErrorRecoveryLevel 0 the A bit,
    /// and with it the tag, means nothing (§11.7.2), so decoding does not look at it.
    ///
    /// # Errors
    ///
    /// [`WireError`] for A without a target transfer tag.
    pub fn check_acknowledge(&self) -> Result<(), WireError> {
        if self.acknowledge && self.ttt == Ttt::RESERVED {
            let (pdu, field) = (Self::NAME, "Target Transfer Tag");
            return Err(WireError::MissingTag { pdu, field });
        }
        Ok(())
    }

    /// The fields that only the S bit gives a meaning; O and U are not looked at without it.
    fn decode_status(bhs: &Bhs, flags: u8) -> Result<Option<DataInStatus>, WireError> {
        if flags & STATUS == 0 {
            return Ok(None);
        }
        Ok(Some(DataInStatus {
            stat_sn: field::get_stat_sn(bhs),
            status: field::get_u8::<3>(bhs),
            residual: ResidualField::from_bits(flags, field::get_u32::<44>(bhs), Self::NAME)?,
        }))
    }
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
    /// Never 0.
    pub desired_data_bytes: u32,
}

impl R2t {
    const NAME: &'static str = "R2T";

    /// The header. Both lengths are 0 in a well-formed R2T.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::R2t, false, FIRST_BIT, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_ttt(&mut bhs, self.ttt);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        field::put_u32::<36>(&mut bhs, self.r2t_sn.0);
        field::put_u32::<40>(&mut bhs, self.buffer_offset);
        field::put_u32::<44>(&mut bhs, self.desired_data_bytes);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments or data, a missing tag, or a
    /// desired length of 0 (§11.8.4).
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::R2t)?;
        field::no_ahs(bhs, pdu)?;
        field::no_data(bhs, pdu)?;
        let r2t = Self {
            lun: field::get_lun(bhs),
            itt: task_tag(bhs, pdu)?,
            ttt: field::get_ttt(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
            r2t_sn: R2tSn(field::get_u32::<36>(bhs)),
            buffer_offset: field::get_u32::<40>(bhs),
            desired_data_bytes: field::get_u32::<44>(bhs),
        };
        if r2t.ttt == Ttt::RESERVED {
            let field = "Target Transfer Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        if r2t.desired_data_bytes == 0 {
            let field = "Desired Data Transfer Length";
            return Err(WireError::ZeroLength { pdu, field });
        }
        Ok(r2t)
    }
}

/// The task that data belong to.
fn task_tag(bhs: &Bhs, pdu: &'static str) -> Result<Itt, WireError> {
    match itt(bhs) {
        Itt::RESERVED => Err(WireError::MissingTag {
            pdu,
            field: "Initiator Task Tag",
        }),
        itt => Ok(itt),
    }
}
