//! Page 83h: who a logical unit, its target port and its target are (SPC-4 §7.8.6).
//!
//! Designators are kept in the device's order, each with its raw bytes. Which of them is
//! trusted as the identity of a logical unit is decided by multipath, not here. A designator
//! whose length or code set contradicts its type stays, as [`DesignatorId::Other`].

use std::fmt;

use super::{page, page_of};
use crate::text::printable;
use crate::{ParseError, be};

/// Page 83h.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceIdentification {
    /// The designators that were transferred whole.
    pub designators: Vec<Designator>,
}

/// What a designator names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Association {
    /// 00b: the logical unit.
    LogicalUnit,
    /// 01b: the target port that carried the command.
    TargetPort,
    /// 10b: the SCSI target device.
    TargetDevice,
    /// 11b, reserved.
    Reserved,
}

/// How a designator's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodeSet {
    /// 1h.
    Binary,
    /// 2h.
    Ascii,
    /// 3h.
    Utf8,
    /// A reserved value.
    Other(u8),
}

/// One designation descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Designator {
    /// What is named.
    pub association: Association,
    /// DESIGNATOR TYPE, 4 bits.
    pub kind: u8,
    /// How the bytes are coded.
    pub code_set: CodeSet,
    /// PROTOCOL IDENTIFIER when PIV says that it counts; 5h is iSCSI.
    pub protocol: Option<u8>,
    /// The designator as it came.
    pub bytes: Box<[u8]>,
    /// The designator, read by its type.
    pub id: DesignatorId,
}

/// A designator read by its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DesignatorId {
    /// 1h: vendor and an identifier the vendor keeps unique.
    T10Vendor {
        /// T10 vendor identification, without padding.
        vendor: String,
        /// What follows, as it came.
        id: Box<[u8]>,
    },
    /// 2h: EUI-64, 8 bytes, optionally with an extension (12: directory id, 16: identifier).
    Eui64(Eui64),
    /// 3h: NAA.
    Naa(Naa),
    /// 4h: relative target port.
    RelativeTargetPort(u16),
    /// 5h: target port group.
    TargetPortGroup(u16),
    /// 6h: logical unit group.
    LogicalUnitGroup(u16),
    /// 7h: MD5 over other identification.
    Md5([u8; 16]),
    /// 8h: SCSI name string (`iqn.`, `eui.`, `naa.`), NULs cut off.
    ScsiName(String),
    /// Ah: UUID (RFC 4122).
    Uuid([u8; 16]),
    /// Vendor-specific, protocol-specific, reserved, or not as its type demands.
    Other,
}

/// An EUI-64 designator in one of its three lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Eui64 {
    /// 8 bytes.
    Plain([u8; 8]),
    /// 12 bytes: EUI-64 and a directory id.
    WithDirectory([u8; 12]),
    /// 16 bytes: an identifier extension and EUI-64.
    WithExtension([u8; 16]),
}

/// A network address authority identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naa {
    /// 2h: IEEE extended.
    Extended([u8; 8]),
    /// 3h: locally assigned; unique only where its owner says so.
    Local([u8; 8]),
    /// 5h: IEEE registered.
    Registered([u8; 8]),
    /// 6h: IEEE registered extended.
    RegisteredExtended([u8; 16]),
}

impl Eui64 {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::WithDirectory(bytes) => bytes,
            Self::WithExtension(bytes) => bytes,
        }
    }
}

impl Naa {
    /// The bytes; the first four bits are the NAA.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Extended(bytes) | Self::Local(bytes) | Self::Registered(bytes) => bytes,
            Self::RegisteredExtended(bytes) => bytes,
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let short = <[u8; 8]>::try_from(bytes);
        let long = <[u8; 16]>::try_from(bytes);
        match (bytes.first()? >> 4, short, long) {
            (2, Ok(bytes), _) => Some(Self::Extended(bytes)),
            (3, Ok(bytes), _) => Some(Self::Local(bytes)),
            (5, Ok(bytes), _) => Some(Self::Registered(bytes)),
            (6, _, Ok(bytes)) => Some(Self::RegisteredExtended(bytes)),
            _ => None,
        }
    }
}

impl DeviceIdentification {
    /// Reads page 83h. A last descriptor that is cut off is left out.
    ///
    /// # Errors
    /// [`ParseError`] below 4 bytes, and on another page code.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let data = page_of("VPD page 83h", page::DEVICE_IDENTIFICATION, data)?;
        let mut rest = data.get(4..).unwrap_or_default();
        let mut designators = Vec::new();
        while let Some((designator, after)) = Designator::split_off(rest) {
            designators.push(designator);
            rest = after;
        }
        Ok(Self { designators })
    }

    /// The designators with this association.
    pub fn of(&self, association: Association) -> impl Iterator<Item = &Designator> {
        self.designators
            .iter()
            .filter(move |designator| designator.association == association)
    }

    /// The target port group of the port that carried the command.
    #[must_use]
    pub fn target_port_group(&self) -> Option<u16> {
        self.of(Association::TargetPort).find_map(|designator| {
            let DesignatorId::TargetPortGroup(group) = designator.id else {
                return None;
            };
            Some(group)
        })
    }

    /// The relative identifier of the port that carried the command.
    #[must_use]
    pub fn relative_target_port(&self) -> Option<u16> {
        self.of(Association::TargetPort).find_map(|designator| {
            let DesignatorId::RelativeTargetPort(port) = designator.id else {
                return None;
            };
            Some(port)
        })
    }
}

impl Designator {
    /// The first descriptor of `list` and what follows it; `None` when none is left whole.
    pub(super) fn split_off(list: &[u8]) -> Option<(Self, &[u8])> {
        let [b0, b1, _, length] = be::array(list, 0)?;
        let end = usize::from(length) + 4;
        let bytes = list.get(4..end)?;
        let association = match b1 >> 4 & 3 {
            0 => Association::LogicalUnit,
            1 => Association::TargetPort,
            2 => Association::TargetDevice,
            _ => Association::Reserved,
        };
        let kind = b1 & 0x0f;
        let designator = Self {
            association,
            kind,
            code_set: match b0 & 0x0f {
                1 => CodeSet::Binary,
                2 => CodeSet::Ascii,
                3 => CodeSet::Utf8,
                other => CodeSet::Other(other),
            },
            protocol: (b1 & 0x80 != 0 && association != Association::LogicalUnit)
                .then_some(b0 >> 4),
            bytes: bytes.into(),
            id: DesignatorId::parse(kind, bytes).unwrap_or(DesignatorId::Other),
        };
        Some((designator, list.get(end..).unwrap_or_default()))
    }
}

impl DesignatorId {
    fn parse(kind: u8, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            1 => {
                let (vendor, id) = bytes.split_at_checked(8)?;
                Self::T10Vendor {
                    vendor: printable(vendor),
                    id: id.into(),
                }
            }
            2 => Self::Eui64(match bytes.len() {
                8 => Eui64::Plain(bytes.try_into().ok()?),
                12 => Eui64::WithDirectory(bytes.try_into().ok()?),
                16 => Eui64::WithExtension(bytes.try_into().ok()?),
                _ => return None,
            }),
            3 => Self::Naa(Naa::parse(bytes)?),
            4 => Self::RelativeTargetPort(number(bytes)?),
            5 => Self::TargetPortGroup(number(bytes)?),
            6 => Self::LogicalUnitGroup(number(bytes)?),
            7 => Self::Md5(bytes.try_into().ok()?),
            8 => Self::ScsiName(scsi_name(bytes)?),
            // Two bytes of header, the UUID in network order.
            0xa => match (bytes.len(), bytes.first()? >> 4) {
                (18, 1) => Self::Uuid(be::array(bytes, 2)?),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// Two reserved bytes and a number.
fn number(bytes: &[u8]) -> Option<u16> {
    (bytes.len() == 4).then(|| be::u16(bytes, 2)).flatten()
}

/// UTF-8, padded with NULs, without control characters.
fn scsi_name(bytes: &[u8]) -> Option<String> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    let text = str::from_utf8(be::clamp(bytes, end)).ok()?;
    let fine = !text.is_empty() && !text.chars().any(char::is_control);
    fine.then(|| text.to_owned())
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As administrators know it: `naa.6001…`, `eui.…`, `t10.VENDOR…`, the name string itself.
impl fmt::Display for Designator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            DesignatorId::T10Vendor { vendor, id } => {
                write!(f, "t10.{vendor}:{}", printable(id))
            }
            DesignatorId::Eui64(eui) => write!(f, "eui.{}", Hex(eui.as_slice())),
            DesignatorId::Naa(naa) => write!(f, "naa.{}", Hex(naa.as_slice())),
            DesignatorId::RelativeTargetPort(port) => write!(f, "relative target port {port}"),
            DesignatorId::TargetPortGroup(group) => write!(f, "target port group {group}"),
            DesignatorId::LogicalUnitGroup(group) => write!(f, "logical unit group {group}"),
            DesignatorId::Md5(md5) => write!(f, "md5.{}", Hex(md5)),
            DesignatorId::ScsiName(name) => f.write_str(name),
            DesignatorId::Uuid(uuid) => write!(f, "uuid.{}", Hex(uuid)),
            DesignatorId::Other => write!(f, "type {:x}h: {}", self.kind, Hex(&self.bytes)),
        }
    }
}

#[cfg(test)]
mod tests;
