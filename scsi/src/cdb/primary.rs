//! Builders for the commands every device type knows (SPC-4 §6).
//!
//! An allocation length is the room for the answer in bytes; a device never sends more and
//! simply cuts its answer off there.

use super::Cdb;

/// Which LUNs REPORT LUNS shall list (SPC-4 §6.33, SELECT REPORT field).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SelectReport {
    /// 00h: logical units, without the well-known ones.
    #[default]
    LogicalUnits,
    /// 01h: only well-known logical units.
    WellKnown,
    /// 02h: both.
    All,
}

/// Which values MODE SENSE shall return (PC field).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PageControl {
    /// 00b: the values in force.
    #[default]
    Current,
    /// 01b: a mask of the bits that can be changed.
    Changeable,
    /// 10b: the default values.
    Default,
    /// 11b: the saved values.
    Saved,
}

impl PageControl {
    const fn bits(self) -> u8 {
        match self {
            Self::Current => 0x00,
            Self::Changeable => 0x40,
            Self::Default => 0x80,
            Self::Saved => 0xc0,
        }
    }
}

/// What PERSISTENT RESERVE IN asks for (service action).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PersistentReserveIn {
    /// 00h: the keys of all registrations.
    ReadKeys,
    /// 01h: the reservation, if there is one.
    ReadReservation,
    /// 02h: what the device knows of persistent reservations.
    ReportCapabilities,
    /// 03h: each registration with its I_T nexus.
    ReadFullStatus,
}

/// What MODE SENSE asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModeSense {
    /// Page code, 6 bits; [`crate::mode::ALL_PAGES`] for all.
    pub page: u8,
    /// Subpage code; 0 for the page itself.
    pub subpage: u8,
    /// Current, default, saved or changeable values.
    pub control: PageControl,
    /// DBD: the answer shall hold no block descriptors.
    pub no_block_descriptors: bool,
}

impl ModeSense {
    /// The current values of one page, without block descriptors.
    #[must_use]
    pub const fn current(page: u8) -> Self {
        Self {
            page,
            subpage: 0,
            control: PageControl::Current,
            no_block_descriptors: true,
        }
    }

    const fn head(self) -> (u8, u8) {
        let dbd = if self.no_block_descriptors { 0x08 } else { 0 };
        (dbd, self.control.bits() | self.page & 0x3f)
    }
}

impl Cdb {
    /// TEST UNIT READY (00h). No data.
    #[must_use]
    pub fn test_unit_ready() -> Self {
        Self::fixed([0; 6])
    }

    /// REQUEST SENSE (03h); `descriptor` asks for descriptor format.
    #[must_use]
    pub fn request_sense(descriptor: bool, allocation: u8) -> Self {
        Self::fixed([0x03, u8::from(descriptor), 0, 0, allocation, 0])
    }

    /// INQUIRY (12h) for the standard data.
    #[must_use]
    pub fn inquiry(allocation: u16) -> Self {
        let [high, low] = allocation.to_be_bytes();
        Self::fixed([0x12, 0, 0, high, low, 0])
    }

    /// INQUIRY (12h) for a vital product data page (EVPD).
    #[must_use]
    pub fn inquiry_vpd(page: u8, allocation: u16) -> Self {
        let [high, low] = allocation.to_be_bytes();
        Self::fixed([0x12, 1, page, high, low, 0])
    }

    /// REPORT LUNS (A0h). SPC-4 asks for an allocation of at least 16 bytes.
    #[must_use]
    pub fn report_luns(select: SelectReport, allocation: u32) -> Self {
        let select = match select {
            SelectReport::LogicalUnits => 0,
            SelectReport::WellKnown => 1,
            SelectReport::All => 2,
        };
        let [a, b, c, d] = allocation.to_be_bytes();
        Self::fixed([0xa0, 0, select, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// MODE SENSE (6) (1Ah).
    #[must_use]
    pub fn mode_sense_6(what: ModeSense, allocation: u8) -> Self {
        let (dbd, page) = what.head();
        Self::fixed([0x1a, dbd, page, what.subpage, allocation, 0])
    }

    /// MODE SENSE (10) (5Ah).
    #[must_use]
    pub fn mode_sense_10(what: ModeSense, allocation: u16) -> Self {
        let (dbd, page) = what.head();
        let [high, low] = allocation.to_be_bytes();
        Self::fixed([0x5a, dbd, page, what.subpage, 0, 0, 0, high, low, 0])
    }

    /// REPORT TARGET PORT GROUPS (A3h/0Ah, SPC-4 §6.37); `extended` asks for the header that
    /// tells how long an implicit transition takes. Read the answer with
    /// [`crate::alua::TargetPortGroups`]. Old devices refuse `extended` (ILLEGAL REQUEST,
    /// INVALID FIELD IN CDB).
    #[must_use]
    pub fn report_target_port_groups(extended: bool, allocation: u32) -> Self {
        let action = 0x0a | u8::from(extended) << 5;
        let [a, b, c, d] = allocation.to_be_bytes();
        Self::fixed([0xa3, action, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// SET TARGET PORT GROUPS (A4h/0Ah, SPC-4 §6.45), whose data
    /// [`crate::alua::set_target_port_groups`] makes.
    #[must_use]
    pub fn set_target_port_groups(parameter_bytes: u32) -> Self {
        let [a, b, c, d] = parameter_bytes.to_be_bytes();
        Self::fixed([0xa4, 0x0a, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// PERSISTENT RESERVE IN (5Eh, SPC-4 §6.15). [`crate::reservation`] reads the answers.
    #[must_use]
    pub fn persistent_reserve_in(what: PersistentReserveIn, allocation: u16) -> Self {
        let action = match what {
            PersistentReserveIn::ReadKeys => 0,
            PersistentReserveIn::ReadReservation => 1,
            PersistentReserveIn::ReportCapabilities => 2,
            PersistentReserveIn::ReadFullStatus => 3,
        };
        let [high, low] = allocation.to_be_bytes();
        Self::fixed([0x5e, action, 0, 0, 0, 0, 0, high, low, 0])
    }

    /// PERSISTENT RESERVE OUT (5Fh, SPC-4 §6.16), for
    /// [`crate::reservation::PersistentReserveOut`]. `kind` is SCOPE and TYPE.
    pub(crate) fn persistent_reserve_out(action: u8, kind: u8, parameter_bytes: u32) -> Self {
        let [a, b, c, d] = parameter_bytes.to_be_bytes();
        Self::fixed([0x5f, action & 0x1f, kind, 0, 0, a, b, c, d, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_standard() {
        assert_eq!(Cdb::test_unit_ready().as_slice(), [0; 6]);
        assert_eq!(
            Cdb::request_sense(false, 252).as_slice(),
            [3, 0, 0, 0, 252, 0]
        );
        assert_eq!(Cdb::request_sense(true, 18).as_slice(), [3, 1, 0, 0, 18, 0]);
        assert_eq!(Cdb::inquiry(0x0124).as_slice(), [0x12, 0, 0, 1, 0x24, 0]);
        assert_eq!(
            Cdb::inquiry_vpd(0x83, 0xfffc).as_slice(),
            [0x12, 1, 0x83, 0xff, 0xfc, 0]
        );
        assert_eq!(
            Cdb::report_luns(SelectReport::LogicalUnits, 0x0102_0304).as_slice(),
            [0xa0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0]
        );
        assert_eq!(
            Cdb::report_luns(SelectReport::All, 16).as_slice(),
            [0xa0, 0, 2, 0, 0, 0, 0, 0, 0, 16, 0, 0]
        );
        assert_eq!(
            Cdb::mode_sense_6(ModeSense::current(8), 255).as_slice(),
            [0x1a, 0x08, 0x08, 0, 255, 0]
        );
        let what = ModeSense {
            page: 0x0a,
            subpage: 1,
            control: PageControl::Changeable,
            no_block_descriptors: false,
        };
        assert_eq!(
            Cdb::mode_sense_10(what, 0x0200).as_slice(),
            [0x5a, 0, 0x4a, 1, 0, 0, 0, 2, 0, 0]
        );
    }

    #[test]
    fn groups_and_reservations() {
        assert_eq!(
            Cdb::report_target_port_groups(false, 0x0102_0304).as_slice(),
            [0xa3, 0x0a, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0]
        );
        assert_eq!(
            Cdb::report_target_port_groups(true, 0x400).as_slice(),
            [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]
        );
        assert_eq!(
            Cdb::set_target_port_groups(12).as_slice(),
            [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]
        );
        for (what, action) in [
            (PersistentReserveIn::ReadKeys, 0),
            (PersistentReserveIn::ReadReservation, 1),
            (PersistentReserveIn::ReportCapabilities, 2),
            (PersistentReserveIn::ReadFullStatus, 3),
        ] {
            assert_eq!(
                Cdb::persistent_reserve_in(what, 0x1234).as_slice(),
                [0x5e, action, 0, 0, 0, 0, 0, 0x12, 0x34, 0]
            );
        }
        assert_eq!(
            Cdb::persistent_reserve_out(7, 0x05, 0x0a0b_0c0d).as_slice(),
            [0x5f, 7, 5, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d, 0]
        );
    }
}
