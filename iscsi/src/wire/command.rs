//! SCSI Command and SCSI Response (RFC 7143 §11.3, §11.4; RFC 7144 §5).

use scsi::{Lun, TaskAttribute};

use super::field::{self, FIRST_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Window, WireError, itt};
use crate::serial::{CmdSn, DataSn, StatSn};

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const ATTRIBUTE_MASK: u8 = 0x07;

const BIDIRECTIONAL_OVERFLOW: u8 = 0x10;
const BIDIRECTIONAL_UNDERFLOW: u8 = 0x08;
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

/// SCSI Command (§11.3). CDBs above 16 bytes put the rest into an AHS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScsiCommand {
    pub immediate: bool,
    /// F: no unsolicited Data-Out follows.
    pub final_: bool,
    pub read: bool,
    pub write: bool,
    pub attribute: TaskAttribute,
    /// Command priority of SAM-5, 0 to 15, 0 = none (RFC 7144 §5.1.1). To be sent only with
    /// iSCSIProtocolLevel 2 or above.
    pub priority: u8,
    pub lun: Lun,
    pub itt: Itt,
    pub expected_data_bytes: u32,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
    pub cdb: [u8; 16],
}

impl ScsiCommand {
    const NAME: &'static str = "SCSI Command";

    /// The header. `lengths.data_bytes` is the length of the immediate data.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = field::flag(self.final_, FIRST_BIT)
            | field::flag(self.read, READ)
            | field::flag(self.write, WRITE)
            | attribute_code(self.attribute);
        let mut bhs = field::start(Opcode::ScsiCommand, self.immediate, flags, lengths);
        field::put_u8::<2>(&mut bhs, self.priority << 4);
        field::put_lun(&mut bhs, self.lun);
        field::put_itt(&mut bhs, self.itt);
        field::put_u32::<20>(&mut bhs, self.expected_data_bytes);
        field::put_request_numbers(&mut bhs, self.cmd_sn, self.exp_stat_sn);
        field::put::<32, 16>(&mut bhs, self.cdb);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, a reserved task attribute, neither W nor F set, a
    /// transfer length without direction, or no task tag (§11.3.1).
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::ScsiCommand)?;
        let flags = field::get_u8::<1>(bhs);
        let (cmd_sn, exp_stat_sn) = field::get_request_numbers(bhs);
        let command = Self {
            immediate: field::is_immediate(bhs),
            final_: flags & FIRST_BIT != 0,
            read: flags & READ != 0,
            write: flags & WRITE != 0,
            attribute: attribute(flags & ATTRIBUTE_MASK)?,
            priority: field::get_u8::<2>(bhs) >> 4,
            lun: field::get_lun(bhs),
            itt: itt(bhs),
            expected_data_bytes: field::get_u32::<20>(bhs),
            cmd_sn,
            exp_stat_sn,
            cdb: field::get::<32, 16>(bhs),
        };
        if !command.write && !command.final_ {
            let (bit, required) = ("F = 0", "W");
            return Err(WireError::MissingBit { pdu, bit, required });
        }
        if command.expected_data_bytes != 0 && !command.read && !command.write {
            let (bit, required) = ("Expected Data Transfer Length", "R or W");
            return Err(WireError::MissingBit { pdu, bit, required });
        }
        if command.itt == Itt::RESERVED {
            let field = "Initiator Task Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        Ok(command)
    }
}

const fn attribute_code(attribute: TaskAttribute) -> u8 {
    match attribute {
        TaskAttribute::Untagged => 0,
        TaskAttribute::Simple => 1,
        TaskAttribute::Ordered => 2,
        TaskAttribute::HeadOfQueue => 3,
        TaskAttribute::Aca => 4,
    }
}

fn attribute(code: u8) -> Result<TaskAttribute, WireError> {
    Ok(match code {
        0 => TaskAttribute::Untagged,
        1 => TaskAttribute::Simple,
        2 => TaskAttribute::Ordered,
        3 => TaskAttribute::HeadOfQueue,
        4 => TaskAttribute::Aca,
        _ => {
            return Err(WireError::ReservedValue {
                pdu: ScsiCommand::NAME,
                field: "ATTR",
                value: code.into(),
            });
        }
    })
}

/// Residual bits and count as they came (§11.4.1, §11.4.5). Never both bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResidualField {
    pub overflow: bool,
    pub underflow: bool,
    /// In bytes; meaningless when neither bit is set.
    pub count: u32,
}

impl ResidualField {
    /// O and U of byte 1.
    pub(super) const fn bits(self) -> u8 {
        field::flag(self.overflow, OVERFLOW) | field::flag(self.underflow, UNDERFLOW)
    }

    /// Reads O and U of byte 1; `pdu` is for the error.
    pub(super) fn from_bits(flags: u8, count: u32, pdu: &'static str) -> Result<Self, WireError> {
        let residual = Self {
            overflow: flags & OVERFLOW != 0,
            underflow: flags & UNDERFLOW != 0,
            count,
        };
        if residual.overflow && residual.underflow {
            let (first, second) = ("O", "U");
            return Err(WireError::ExclusiveBits { pdu, first, second });
        }
        Ok(residual)
    }
}

/// SCSI Response (§11.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScsiResponse {
    pub residual: ResidualField,
    pub bidirectional_read: ResidualField,
    /// 0 = command completed at target, 1 = target failure, 0x80.. = vendor.
    pub response: u8,
    /// Meaningful with response 0 only.
    pub status: u8,
    /// Status qualifier (RFC 7144 §5.2.1); 0 from a target below iSCSIProtocolLevel 2.
    pub qualifier: u16,
    pub itt: Itt,
    pub snack_tag: u32,
    pub stat_sn: StatSn,
    pub window: Window,
    pub exp_data_sn: DataSn,
}

impl ScsiResponse {
    const NAME: &'static str = "SCSI Response";

    /// The header. `lengths.data_bytes` is the length of sense and response data with their
    /// two-byte SenseLength.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let bidirectional = self.bidirectional_read;
        let flags = FIRST_BIT
            | field::flag(bidirectional.overflow, BIDIRECTIONAL_OVERFLOW)
            | field::flag(bidirectional.underflow, BIDIRECTIONAL_UNDERFLOW)
            | self.residual.bits();
        let mut bhs = field::start(Opcode::ScsiResponse, false, flags, lengths);
        field::put_u8::<2>(&mut bhs, self.response);
        field::put_u8::<3>(&mut bhs, self.status);
        field::put_u16::<8>(&mut bhs, self.qualifier);
        field::put_itt(&mut bhs, self.itt);
        field::put_u32::<20>(&mut bhs, self.snack_tag);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        field::put_u32::<36>(&mut bhs, self.exp_data_sn.0);
        field::put_u32::<40>(&mut bhs, bidirectional.count);
        field::put_u32::<44>(&mut bhs, self.residual.count);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, a reserved response, both
    /// bits of a residual, or no task tag.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        let pdu = Self::NAME;
        field::expect(bhs, Opcode::ScsiResponse)?;
        field::no_ahs(bhs, pdu)?;
        let response = field::get_u8::<2>(bhs);
        if matches!(response, 0x02..=0x7f) {
            let (field, value) = ("Response", response.into());
            return Err(WireError::ReservedValue { pdu, field, value });
        }
        // Status and flags mean nothing unless the command was completed (§11.4.3).
        let flags = match response {
            0 => field::get_u8::<1>(bhs),
            _ => 0,
        };
        let bidirectional_read = ResidualField {
            overflow: flags & BIDIRECTIONAL_OVERFLOW != 0,
            underflow: flags & BIDIRECTIONAL_UNDERFLOW != 0,
            count: field::get_u32::<40>(bhs),
        };
        if bidirectional_read.overflow && bidirectional_read.underflow {
            let (first, second) = ("o", "u");
            return Err(WireError::ExclusiveBits { pdu, first, second });
        }
        if itt(bhs) == Itt::RESERVED {
            let field = "Initiator Task Tag";
            return Err(WireError::MissingTag { pdu, field });
        }
        Ok(Self {
            residual: ResidualField::from_bits(flags, field::get_u32::<44>(bhs), pdu)?,
            bidirectional_read,
            response,
            status: field::get_u8::<3>(bhs),
            qualifier: field::get_u16::<8>(bhs),
            itt: itt(bhs),
            snack_tag: field::get_u32::<20>(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
            exp_data_sn: DataSn(field::get_u32::<36>(bhs)),
        })
    }
}
