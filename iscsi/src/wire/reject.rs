//! Reject (RFC 7143 §11.17).

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Window, WireError};
use crate::serial::StatSn;

/// Reject (§11.17). The data segment holds the header of the rejected PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// §11.17.1; see [`Reject::reason_name`].
    pub reason: u8,
    pub stat_sn: StatSn,
    pub window: Window,
    pub data_sn: u32,
}

impl Reject {
    const NAME: &'static str = "Reject";

    /// The header. `lengths.data_bytes` is the length of the rejected header.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let mut bhs = field::start(Opcode::Reject, false, FIRST_BIT, lengths);
        field::put_u8::<2>(&mut bhs, self.reason);
        field::put_itt(&mut bhs, Itt::RESERVED);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        field::put_u32::<36>(&mut bhs, self.data_sn);
        bhs
    }

    /// Reads a header. Unknown reasons are handed on.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode or additional header segments.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::Reject)?;
        field::no_ahs(bhs, Self::NAME)?;
        Ok(Self {
            reason: field::get_u8::<2>(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
            data_sn: field::get_u32::<36>(bhs),
        })
    }

    /// The reason in words (§11.17.1).
    #[must_use]
    pub const fn reason_name(&self) -> &'static str {
        match self.reason {
            0x02 => "data digest error",
            0x03 => "SNACK reject",
            0x04 => "protocol error",
            0x05 => "command not supported",
            0x06 => "too many immediate commands",
            0x07 => "task in progress",
            0x08 => "invalid data acknowledgment",
            0x09 => "invalid PDU field",
            0x0a => "out of target transfer tags",
            0x0b => "deprecated reason",
            0x0c => "waiting for logout",
            _ => "reserved reason",
        }
    }
}
