//! Standard INQUIRY data (SPC-4 §6.6.2).
//!
//! Old devices send less than the 36 bytes of the standard: what is missing reads as zero or
//! empty. Text fields are made printable. Vital product data pages are in [`crate::vpd`].

use std::fmt;

use crate::text::printable;
use crate::{ParseError, be};

/// Whether a logical unit is behind the LUN that was asked (PERIPHERAL QUALIFIER).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeripheralQualifier {
    /// 000b: yes, or the device server cannot tell.
    Accessible,
    /// 001b: the target could have one there, it has not now.
    NotAccessible,
    /// 011b: the target can have none there.
    NotCapable,
    /// A reserved or vendor-specific value.
    Other(u8),
}

impl PeripheralQualifier {
    pub(crate) const fn from_byte(byte: u8) -> Self {
        match byte >> 5 {
            0 => Self::Accessible,
            1 => Self::NotAccessible,
            3 => Self::NotCapable,
            other => Self::Other(other),
        }
    }
}

/// PERIPHERAL DEVICE TYPE, 5 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceType(pub u8);

impl DeviceType {
    /// Direct access block device (SBC): a disk.
    pub const DISK: Self = Self(0x00);
    /// Sequential access (SSC): a tape.
    pub const TAPE: Self = Self(0x01);
    /// CD/DVD (MMC).
    pub const CD_DVD: Self = Self(0x05);
    /// Medium changer (SMC).
    pub const MEDIUM_CHANGER: Self = Self(0x08);
    /// Storage array controller (SCC).
    pub const ARRAY_CONTROLLER: Self = Self(0x0c);
    /// Enclosure services (SES).
    pub const ENCLOSURE: Self = Self(0x0d);
    /// Simplified direct access (RBC).
    pub const SIMPLIFIED_DISK: Self = Self(0x0e);
    /// Host managed zoned block device (ZBC).
    pub const ZONED_DISK: Self = Self(0x14);
    /// A well-known logical unit.
    pub const WELL_KNOWN: Self = Self(0x1e);
    /// Unknown, or no device.
    pub const NONE: Self = Self(0x1f);

    /// In a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0x00 => "disk",
            0x01 => "tape",
            0x02 => "printer",
            0x03 => "processor",
            0x04 => "write-once device",
            0x05 => "CD/DVD",
            0x07 => "optical memory",
            0x08 => "medium changer",
            0x0c => "storage array controller",
            0x0d => "enclosure",
            0x0e => "simplified disk",
            0x0f => "optical card",
            0x10 => "bridge controller",
            0x11 => "object storage",
            0x12 => "automation drive interface",
            0x14 => "host managed zoned disk",
            0x1e => "well-known logical unit",
            0x1f => "no device",
            _ => "device of reserved type",
        }
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:02x}h)", self.name(), self.0)
    }
}

/// Asymmetric access to target port groups (TPGS field, SPC-4 §5.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tpgs {
    /// 00b: none, or vendor-specific.
    #[default]
    None,
    /// 01b: the target moves access states.
    Implicit,
    /// 10b: the initiator may move them.
    Explicit,
    /// 11b: both.
    Both,
}

/// Standard INQUIRY data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Whether a logical unit is there.
    pub qualifier: PeripheralQualifier,
    /// What it is.
    pub device_type: DeviceType,
    /// RMB: the medium can be taken out.
    pub removable: bool,
    /// VERSION: the SPC generation claimed (05h SPC-3, 06h SPC-4, 07h SPC-5).
    pub version: u8,
    /// RESPONSE DATA FORMAT; 2 in every standard since SCSI-2.
    pub response_format: u8,
    /// NORMACA.
    pub normal_aca: bool,
    /// HISUP: LUNs are assigned hierarchically.
    pub hierarchical: bool,
    /// TPGS.
    pub tpgs: Tpgs,
    /// 3PC: third-party copy commands.
    pub third_party_copy: bool,
    /// PROTECT: knows protection information.
    pub protect: bool,
    /// MULTIP: several target ports.
    pub multi_port: bool,
    /// CMDQUE: takes several commands at once.
    pub command_queuing: bool,
    /// T10 VENDOR IDENTIFICATION, without padding.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION, without padding.
    pub product: String,
    /// PRODUCT REVISION LEVEL, without padding.
    pub revision: String,
    /// Standards claimed, without the zeros that mean "none".
    pub version_descriptors: Vec<u16>,
    /// Bytes an allocation length must have for all of the data.
    pub needed_bytes: usize,
}

impl Inquiry {
    /// Reads standard INQUIRY data.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 5 bytes.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let Some([b0, b1, version, b3, additional]) = be::array(data, 0) else {
            return Err(ParseError::truncated("INQUIRY data", 5, data.len()));
        };
        let needed_bytes = usize::from(additional) + 5;
        let data = be::clamp(data, needed_bytes);
        let field = |from: usize, to: usize| {
            let all = data.get(from..).unwrap_or_default();
            printable(be::clamp(all, to - from))
        };
        Ok(Self {
            qualifier: PeripheralQualifier::from_byte(b0),
            device_type: DeviceType(b0 & 0x1f),
            removable: b1 & 0x80 != 0,
            version,
            response_format: b3 & 0x0f,
            normal_aca: b3 & 0x20 != 0,
            hierarchical: b3 & 0x10 != 0,
            tpgs: match be::u8(data, 5).unwrap_or(0) >> 4 & 3 {
                0 => Tpgs::None,
                1 => Tpgs::Implicit,
                2 => Tpgs::Explicit,
                _ => Tpgs::Both,
            },
            third_party_copy: be::bit(data, 5, 3),
            protect: be::bit(data, 5, 0),
            multi_port: be::bit(data, 6, 4),
            command_queuing: be::bit(data, 7, 1),
            vendor: field(8, 16),
            product: field(16, 32),
            revision: field(32, 36),
            version_descriptors: (58..74)
                .step_by(2)
                .filter_map(|at| be::u16(data, at))
                .filter(|&descriptor| descriptor != 0)
                .collect(),
            needed_bytes,
        })
    }

    /// Whether a logical unit answers behind the LUN.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.qualifier == PeripheralQualifier::Accessible && self.device_type != DeviceType::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<u8> {
        let mut data = vec![0x00, 0x80, 0x06, 0x32, 69, 0x39, 0x10, 0x02];
        data.extend_from_slice(b"ACME\0\0  Fast disk \x1b[2J  1.0 ");
        data.resize(58, 0);
        data.extend_from_slice(&[0x00, 0xa0, 0, 0, 0x09, 0x60]);
        data.resize(74, 0);
        data
    }

    #[test]
    fn every_field() {
        let inquiry = Inquiry::parse(&whole()).unwrap();
        let expected = Inquiry {
            qualifier: PeripheralQualifier::Accessible,
            device_type: DeviceType::DISK,
            removable: true,
            version: 6,
            response_format: 2,
            normal_aca: true,
            hierarchical: true,
            tpgs: Tpgs::Both,
            third_party_copy: true,
            protect: true,
            multi_port: true,
            command_queuing: true,
            vendor: "ACME".to_owned(),
            product: "Fast disk ?[2J".to_owned(),
            revision: "1.0".to_owned(),
            version_descriptors: vec![0x00a0, 0x0960],
            needed_bytes: 74,
        };
        assert_eq!(inquiry, expected);
        assert!(inquiry.is_present());
    }

    #[test]
    fn what_is_missing_is_empty() {
        let data = whole();
        assert!(Inquiry::parse(&data[..4]).is_err());
        let short = Inquiry::parse(&data[..20]).unwrap();
        assert_eq!(
            (short.vendor.as_str(), short.product.as_str()),
            ("ACME", "Fast")
        );
        assert_eq!(short.revision, "");
        // Bytes behind the additional length are no data.
        let mut lying = data;
        lying[4] = 3;
        assert_eq!(Inquiry::parse(&lying).unwrap().vendor, "");
    }

    #[test]
    fn nothing_there() {
        let data = [0x7f, 0, 5, 2, 31];
        let inquiry = Inquiry::parse(&data).unwrap();
        assert_eq!(inquiry.qualifier, PeripheralQualifier::NotCapable);
        assert!(!inquiry.is_present());
        assert_eq!(inquiry.device_type.to_string(), "no device (1fh)");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = Inquiry::parse(&bytes);
        }
    }
}
