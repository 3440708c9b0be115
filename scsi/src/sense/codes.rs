//! Additional sense codes and their names (SPC-4 §4.5.6 and the T10 list).
//!
//! The constants are those an initiator or multipath acts on; names exist for many more.

mod names;

use std::fmt;

/// ADDITIONAL SENSE CODE and its QUALIFIER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdditionalSense {
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
}

/// The constants, each documented with its own code.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $asc:literal / $ascq:literal;)*) => {
        impl AdditionalSense {
            $($(#[$doc])* pub const $name: Self = Self { asc: $asc, ascq: $ascq };)*
        }
    };
}

codes! {
    /// 00h/00h: nothing to add.
    NONE = 0x00 / 0x00;
    /// 04h/00h: not ready, no cause given.
    NOT_READY = 0x04 / 0x00;
    /// 04h/01h: becoming ready by itself.
    BECOMING_READY = 0x04 / 0x01;
    /// 04h/02h: START UNIT is needed.
    INITIALIZING_COMMAND_REQUIRED = 0x04 / 0x02;
    /// 04h/03h: somebody must go there.
    MANUAL_INTERVENTION_REQUIRED = 0x04 / 0x03;
    /// 04h/0Ah: the access state of the target port group is changing.
    ACCESS_STATE_TRANSITION = 0x04 / 0x0a;
    /// 04h/0Bh: the target port is in standby.
    PORT_IN_STANDBY = 0x04 / 0x0b;
    /// 04h/0Ch: the target port is in the unavailable state.
    PORT_UNAVAILABLE = 0x04 / 0x0c;
    /// 04h/12h: the logical unit is offline.
    OFFLINE = 0x04 / 0x12;
    /// 04h/14h: space allocation is in progress.
    SPACE_ALLOCATION_IN_PROGRESS = 0x04 / 0x14;
    /// 08h/00h: the target cannot reach its logical unit.
    COMMUNICATION_FAILURE = 0x08 / 0x00;
    /// 0Ch/00h: a write failed.
    WRITE_ERROR = 0x0c / 0x00;
    /// 0Ch/0Ch: unsolicited data where none were expected.
    UNEXPECTED_UNSOLICITED_DATA = 0x0c / 0x0c;
    /// 0Ch/0Dh: fewer unsolicited data than announced.
    NOT_ENOUGH_UNSOLICITED_DATA = 0x0c / 0x0d;
    /// 11h/00h: a read failed.
    UNRECOVERED_READ_ERROR = 0x11 / 0x00;
    /// 1Ah/00h: the parameter list has a wrong length.
    PARAMETER_LIST_LENGTH_ERROR = 0x1a / 0x00;
    /// 1Dh/00h: the compared data differ.
    MISCOMPARE = 0x1d / 0x00;
    /// 20h/00h: the device does not know the command.
    INVALID_OPERATION_CODE = 0x20 / 0x00;
    /// 21h/00h: beyond the end of the medium.
    LBA_OUT_OF_RANGE = 0x21 / 0x00;
    /// 24h/00h: a field of the CDB is not acceptable.
    INVALID_FIELD_IN_CDB = 0x24 / 0x00;
    /// 25h/00h: there is no such logical unit.
    LOGICAL_UNIT_NOT_SUPPORTED = 0x25 / 0x00;
    /// 26h/00h: a field of the parameter list is not acceptable.
    INVALID_FIELD_IN_PARAMETER_LIST = 0x26 / 0x00;
    /// 27h/00h: the medium cannot be written.
    WRITE_PROTECTED = 0x27 / 0x00;
    /// 27h/07h: no space is left for a thin logical unit.
    SPACE_ALLOCATION_FAILED = 0x27 / 0x07;
    /// 28h/00h: the medium may have been changed.
    MEDIUM_MAY_HAVE_CHANGED = 0x28 / 0x00;
    /// 29h/00h: power on or some reset.
    POWER_ON_OR_RESET = 0x29 / 0x00;
    /// 29h/01h: power on.
    POWER_ON = 0x29 / 0x01;
    /// 29h/03h: the logical unit or the target was reset.
    DEVICE_RESET = 0x29 / 0x03;
    /// 29h/04h: the device reset itself.
    DEVICE_INTERNAL_RESET = 0x29 / 0x04;
    /// 29h/07h: the I_T nexus was lost.
    NEXUS_LOSS = 0x29 / 0x07;
    /// 2Ah/01h: mode parameters changed.
    MODE_PARAMETERS_CHANGED = 0x2a / 0x01;
    /// 2Ah/03h: this nexus lost its reservation.
    RESERVATIONS_PREEMPTED = 0x2a / 0x03;
    /// 2Ah/04h: reservations were released.
    RESERVATIONS_RELEASED = 0x2a / 0x04;
    /// 2Ah/05h: this nexus lost its registration.
    REGISTRATIONS_PREEMPTED = 0x2a / 0x05;
    /// 2Ah/06h: the access state of a target port group changed.
    ACCESS_STATE_CHANGED = 0x2a / 0x06;
    /// 2Ah/07h: the target could not change an access state by itself.
    IMPLICIT_TRANSITION_FAILED = 0x2a / 0x07;
    /// 2Ah/09h: the medium has another size.
    CAPACITY_CHANGED = 0x2a / 0x09;
    /// 2Ch/00h: the command does not fit the order of commands.
    COMMAND_SEQUENCE_ERROR = 0x2c / 0x00;
    /// 2Fh/00h: another initiator cleared the commands.
    COMMANDS_CLEARED = 0x2f / 0x00;
    /// 38h/07h: a thin logical unit is getting full.
    THIN_PROVISIONING_SOFT_THRESHOLD = 0x38 / 0x07;
    /// 3Ah/00h: there is no medium.
    MEDIUM_NOT_PRESENT = 0x3a / 0x00;
    /// 3Eh/01h: the logical unit failed.
    LOGICAL_UNIT_FAILURE = 0x3e / 0x01;
    /// 3Eh/02h: the logical unit did not answer the target in time.
    LOGICAL_UNIT_TIMEOUT = 0x3e / 0x02;
    /// 3Fh/03h: INQUIRY data changed.
    INQUIRY_DATA_CHANGED = 0x3f / 0x03;
    /// 3Fh/05h: VPD page 83h changed.
    DEVICE_IDENTIFIER_CHANGED = 0x3f / 0x05;
    /// 3Fh/0Eh: the answer of REPORT LUNS changed.
    REPORTED_LUNS_CHANGED = 0x3f / 0x0e;
    /// 44h/00h: the target failed.
    INTERNAL_TARGET_FAILURE = 0x44 / 0x00;
    /// 47h/05h: the transport found a wrong CRC.
    PROTOCOL_SERVICE_CRC_ERROR = 0x47 / 0x05;
    /// 47h/7Fh: iSCSI cleared commands.
    CLEARED_BY_ISCSI = 0x47 / 0x7f;
    /// 4Eh/00h: two commands with one tag.
    OVERLAPPED_COMMANDS = 0x4e / 0x00;
    /// 55h/03h: the target has no room now.
    INSUFFICIENT_RESOURCES = 0x55 / 0x03;
}

impl AdditionalSense {
    /// A code and its qualifier.
    #[must_use]
    pub const fn new(asc: u8, ascq: u8) -> Self {
        Self { asc, ascq }
    }

    /// The standard's name; `None` for codes that are reserved, unknown here or a vendor's.
    ///
    /// The families whose qualifier is a number of its own (40h, 4Dh, 5Dh, 70h) have none either;
    /// [`Display`](fmt::Display) tells them.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        names::find(self.asc, self.ascq)
    }

    /// What to say when [`AdditionalSense::name`] has nothing.
    const fn family(self) -> &'static str {
        match (self.asc, self.ascq) {
            (0x40, 0x80..) => "DIAGNOSTIC FAILURE ON A COMPONENT",
            (0x4d, _) => "TAGGED OVERLAPPED COMMANDS",
            (0x5d, _) => "FAILURE PREDICTION",
            (0x70, _) => "DECOMPRESSION EXCEPTION SHORT ALGORITHM ID",
            (0x80.., _) | (_, 0x80..) => "VENDOR SPECIFIC CODE",
            _ => "UNKNOWN CODE",
        }
    }
}

/// Such as `LOGICAL UNIT NOT SUPPORTED (25h/00h)`.
impl fmt::Display for AdditionalSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or_else(|| self.family());
        write!(f, "{name} ({:02x}h/{:02x}h)", self.asc, self.ascq)
    }
}

impl fmt::Debug for AdditionalSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display() {
        let cases = [
            (
                AdditionalSense::ACCESS_STATE_TRANSITION,
                "LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION (04h/0ah)",
            ),
            (
                AdditionalSense::CAPACITY_CHANGED,
                "CAPACITY DATA HAS CHANGED (2ah/09h)",
            ),
            (
                AdditionalSense::CLEARED_BY_ISCSI,
                "SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT (47h/7fh)",
            ),
            (
                AdditionalSense::new(0x40, 0x85),
                "DIAGNOSTIC FAILURE ON A COMPONENT (40h/85h)",
            ),
            (
                AdditionalSense::new(0x91, 0x01),
                "VENDOR SPECIFIC CODE (91h/01h)",
            ),
            (AdditionalSense::new(0x7e, 0x01), "UNKNOWN CODE (7eh/01h)"),
        ];
        for (code, text) in cases {
            assert_eq!(code.to_string(), text);
        }
    }
}
