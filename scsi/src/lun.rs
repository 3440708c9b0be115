//! Logical unit numbers (SAM-5 §4.7) and the answer of REPORT LUNS (SPC-4 §6.33).
//!
//! A LUN is eight bytes that travel untouched: four levels of two bytes, or one long level. What
//! people call "LUN 300" is one of several encodings; [`Lun::from_number`] picks the one that
//! devices report (peripheral below 256, flat space above), never a raw big-endian number, which
//! would mean "bus 1, LUN 44".
//!
//! Two LUNs with the same number but different addressing methods are different values here:
//! only the device knows whether they name the same logical unit.

use std::fmt;
use std::str::FromStr;

use crate::{ParseError, be};

/// An eight-byte LUN exactly as it travels, in network order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lun([u8; 8]);

/// How the first level of a LUN addresses (SAM-5 §4.7.6 and §4.7.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LunAddress {
    /// Peripheral device addressing (00b). Bus 0: `unit` is a logical unit at this level;
    /// any other bus: `unit` is a target behind it, and the next level goes on.
    Peripheral {
        /// Bus identifier, 6 bits.
        bus: u8,
        /// Target or LUN.
        unit: u8,
    },
    /// Flat space addressing (01b): a number of 14 bits.
    FlatSpace(u16),
    /// Logical unit addressing (10b).
    LogicalUnit {
        /// Target, 6 bits.
        target: u8,
        /// Bus number, 3 bits.
        bus: u8,
        /// LUN, 5 bits.
        unit: u8,
    },
    /// A well-known logical unit (11b, extended method 1h), for example 01h REPORT LUNS.
    WellKnown(u8),
    /// Extended flat space addressing (11b, method 2h) with three or, "long", five bytes.
    ExtendedFlatSpace {
        /// The number, 24 or 40 bits.
        number: u64,
        /// Whether the five-byte form is used.
        long: bool,
    },
    /// "Logical unit not specified" (11b, length 11b, method Fh).
    NotSpecified,
    /// An extended method this crate does not know.
    Unknown {
        /// LENGTH field, 2 bits.
        length: u8,
        /// EXTENDED ADDRESS METHOD field, 4 bits.
        method: u8,
    },
}

/// Text that is no LUN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no LUN: give a number from 0 to 65535, or 0x and 16 hexadecimal digits")]
pub struct LunTextError(String);

impl Lun {
    /// LUN 0.
    pub const ZERO: Self = Self([0; 8]);

    /// The well-known logical unit that answers REPORT LUNS for the whole target.
    pub const REPORT_LUNS: Self = Self([0xc1, 0x01, 0, 0, 0, 0, 0, 0]);

    /// The eight bytes of the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight bytes of the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// A single-level LUN in the encoding devices use for its number: peripheral device
    /// addressing below 256, flat space below 16384, extended flat space from there on.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        match high {
            0 => Self([0, low, 0, 0, 0, 0, 0, 0]),
            1..=0x3f => Self([0x40 | high, low, 0, 0, 0, 0, 0, 0]),
            _ => Self([0xd2, 0, high, low, 0, 0, 0, 0]),
        }
    }

    /// A LUN in flat space addressing, also for numbers below 256 (some devices report all
    /// their LUNs so). `None` above 16383.
    #[must_use]
    pub const fn flat_space(number: u16) -> Option<Self> {
        let [high, low] = number.to_be_bytes();
        match high {
            0..=0x3f => Some(Self([0x40 | high, low, 0, 0, 0, 0, 0, 0])),
            _ => None,
        }
    }

    /// A well-known logical unit.
    #[must_use]
    pub const fn well_known(number: u8) -> Self {
        Self([0xc1, number, 0, 0, 0, 0, 0, 0])
    }

    /// What the first level says.
    #[must_use]
    pub fn address(self) -> LunAddress {
        let [b0, b1, b2, b3, b4, b5, _, _] = self.0;
        match b0 >> 6 {
            0 => LunAddress::Peripheral { bus: b0, unit: b1 },
            1 => LunAddress::FlatSpace(u16::from_be_bytes([b0 & 0x3f, b1])),
            2 => LunAddress::LogicalUnit {
                target: b0 & 0x3f,
                bus: b1 >> 5,
                unit: b1 & 0x1f,
            },
            _ => match (b0 >> 4 & 3, b0 & 0xf) {
                (0, 1) => LunAddress::WellKnown(b1),
                (1, 2) => LunAddress::ExtendedFlatSpace {
                    number: u64::from_be_bytes([0, 0, 0, 0, 0, b1, b2, b3]),
                    long: false,
                },
                (2, 2) => LunAddress::ExtendedFlatSpace {
                    number: u64::from_be_bytes([0, 0, 0, b1, b2, b3, b4, b5]),
                    long: true,
                },
                (3, 0xf) => LunAddress::NotSpecified,
                (length, method) => LunAddress::Unknown { length, method },
            },
        }
    }

    /// The LUN as the next level sees it: the first two bytes are taken off. `None` unless the
    /// first level names a bus behind which the addressing goes on.
    #[must_use]
    pub fn next_level(self) -> Option<Self> {
        let LunAddress::Peripheral { bus: 1.., .. } = self.address() else {
            return None;
        };
        let [_, _, b2, b3, b4, b5, b6, b7] = self.0;
        Some(Self([b2, b3, b4, b5, b6, b7, 0, 0]))
    }

    /// The number of a single-level LUN, by whichever method it is encoded; `None` for
    /// hierarchical, well-known and unknown ones.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        let (number, used) = match self.address() {
            LunAddress::Peripheral { bus: 0, unit } => (u64::from(unit), 2),
            LunAddress::FlatSpace(number) => (u64::from(number), 2),
            LunAddress::ExtendedFlatSpace { number, long } => (number, if long { 6 } else { 4 }),
            LunAddress::Peripheral { .. }
            | LunAddress::LogicalUnit { .. }
            | LunAddress::WellKnown(_)
            | LunAddress::NotSpecified
            | LunAddress::Unknown { .. } => return None,
        };
        let rest = self.0.get(used..)?;
        rest.iter().all(|&byte| byte == 0).then_some(number)
    }

    /// Whether this is a well-known logical unit: it answers a few commands and holds no data.
    #[must_use]
    pub fn is_well_known(self) -> bool {
        matches!(self.address(), LunAddress::WellKnown(_))
    }
}

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lun({:016x})", u64::from_be_bytes(self.0))
    }
}

/// The number when [`Lun::from_number`] gives this very LUN back, else `0x` and all 16 digits.
/// [`Lun::from_str`] reads both.
impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number().and_then(|number| u16::try_from(number).ok()) {
            Some(number) if Self::from_number(number) == *self => write!(f, "{number}"),
            _ => write!(f, "{:#018x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl FromStr for Lun {
    type Err = LunTextError;

    fn from_str(text: &str) -> Result<Self, LunTextError> {
        let wrong = || LunTextError(text.to_owned());
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        if let Some(hex) = hex {
            if hex.len() != 16 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            let value = u64::from_str_radix(hex, 16).map_err(|_| wrong())?;
            return Ok(Self(value.to_be_bytes()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse().map(Self::from_number).map_err(|_| wrong())
    }
}

/// The answer of REPORT LUNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LunList {
    /// The LUNs that were transferred, in the device's order.
    pub luns: Vec<Lun>,
    /// Bytes an allocation length must have for the whole list, header included.
    pub needed_bytes: u64,
}

impl LunList {
    /// Reads the parameter data. Never holds more LUNs than `data` has room for, whatever the
    /// list length field claims.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below the eight bytes of the header.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "REPORT LUNS data";
        let (Some(length), Some(list)) = (be::u32(data, 0), data.get(8..)) else {
            return Err(ParseError::truncated(WHAT, 8, data.len()));
        };
        let list = be::clamp(list, usize::try_from(length).unwrap_or(usize::MAX));
        let luns = list
            .chunks_exact(8)
            .filter_map(|entry| be::array(entry, 0).map(Lun))
            .collect();
        Ok(Self {
            luns,
            needed_bytes: u64::from(length).saturating_add(8),
        })
    }

    /// Whether `allocated` bytes were enough to carry the whole list.
    #[must_use]
    pub fn is_whole(&self, allocated: usize) -> bool {
        u64::try_from(allocated).is_ok_and(|allocated| allocated >= self.needed_bytes)
    }
}

#[cfg(test)]
mod tests;
