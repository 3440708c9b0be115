//! Asynchronous Message (RFC 7143 §11.9).

use scsi::Lun;

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Window, WireError};
use crate::serial::StatSn;

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

impl AsyncMessage {
    const NAME: &'static str = "Asynchronous Message";

    /// The header. `lengths.data_bytes` is the length of sense and event data.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::AsyncMessage, false, FIRST_BIT, lengths);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, Itt::RESERVED);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        field::put_u8::<36>(&mut bhs, self.event);
        field::put_u8::<37>(&mut bhs, self.vendor_code);
        field::put_u16::<38>(&mut bhs, self.parameter1);
        field::put_u16::<40>(&mut bhs, self.parameter2);
        field::put_u16::<42>(&mut bhs, self.parameter3);
        bhs
    }

    /// Reads a header. Unknown events are handed on.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode or additional header segments.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::AsyncMessage)?;
        field::no_ahs(bhs, Self::NAME)?;
        Ok(Self {
            lun: field::get_lun(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
            event: field::get_u8::<36>(bhs),
            vendor_code: field::get_u8::<37>(bhs),
            parameter1: field::get_u16::<38>(bhs),
            parameter2: field::get_u16::<40>(bhs),
            parameter3: field::get_u16::<42>(bhs),
        })
    }
}
