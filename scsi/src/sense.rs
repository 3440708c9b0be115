//! Sense data in fixed and descriptor format (SPC-4 §4.5).
//!
//! [`SenseData::parse`] takes whatever a device sent, of any length: a field that is not there
//! (or whose VALID bit is not set) is `None`, never a byte from outside. It allocates nothing,
//! so it can be used on the data path. Names are in [`codes`].

pub mod codes;

use std::fmt;

use crate::{ParseError, be};
pub use codes::AdditionalSense;

/// SENSE KEY, 4 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenseKey(pub u8);

impl SenseKey {
    /// 0h: nothing went wrong.
    pub const NO_SENSE: Self = Self(0x0);
    /// 1h: done, after the device helped itself.
    pub const RECOVERED_ERROR: Self = Self(0x1);
    /// 2h: the logical unit cannot be accessed now.
    pub const NOT_READY: Self = Self(0x2);
    /// 3h: a flaw of the medium.
    pub const MEDIUM_ERROR: Self = Self(0x3);
    /// 4h: a failure the device could not recover from.
    pub const HARDWARE_ERROR: Self = Self(0x4);
    /// 5h: the command or its parameters are not acceptable.
    pub const ILLEGAL_REQUEST: Self = Self(0x5);
    /// 6h: something happened to the logical unit that the initiator must know.
    pub const UNIT_ATTENTION: Self = Self(0x6);
    /// 7h: the medium must not be read or written there.
    pub const DATA_PROTECT: Self = Self(0x7);
    /// 8h: blank or non-blank medium where the other was expected.
    pub const BLANK_CHECK: Self = Self(0x8);
    /// 9h: vendor specific.
    pub const VENDOR_SPECIFIC: Self = Self(0x9);
    /// Ah: a third-party copy stopped.
    pub const COPY_ABORTED: Self = Self(0xa);
    /// Bh: the device ended the command; trying again may help.
    pub const ABORTED_COMMAND: Self = Self(0xb);
    /// Dh: buffered data may be left that did not reach the medium.
    pub const VOLUME_OVERFLOW: Self = Self(0xd);
    /// Eh: source and medium differ.
    pub const MISCOMPARE: Self = Self(0xe);
    /// Fh: there is completion sense data.
    pub const COMPLETED: Self = Self(0xf);

    /// The standard's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0x0 => "NO SENSE",
            0x1 => "RECOVERED ERROR",
            0x2 => "NOT READY",
            0x3 => "MEDIUM ERROR",
            0x4 => "HARDWARE ERROR",
            0x5 => "ILLEGAL REQUEST",
            0x6 => "UNIT ATTENTION",
            0x7 => "DATA PROTECT",
            0x8 => "BLANK CHECK",
            0x9 => "VENDOR SPECIFIC",
            0xa => "COPY ABORTED",
            0xb => "ABORTED COMMAND",
            0xd => "VOLUME OVERFLOW",
            0xe => "MISCOMPARE",
            0xf => "COMPLETED",
            _ => "RESERVED",
        }
    }
}

/// Such as `ILLEGAL REQUEST (5h)`.
impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:x}h)", self.name(), self.0)
    }
}

impl fmt::Debug for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the bytes are laid out (RESPONSE CODE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SenseFormat {
    /// 70h, 71h.
    Fixed,
    /// 72h, 73h.
    Descriptor,
}

/// SENSE KEY SPECIFIC information, read by the sense key (SPC-4 §4.5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeySpecific {
    /// ILLEGAL REQUEST: which field is wrong.
    FieldPointer {
        /// C/D: in the CDB, else in the parameter data.
        in_cdb: bool,
        /// The most significant bit of the field, when BPV says so.
        bit: Option<u8>,
        /// The byte.
        byte: u16,
    },
    /// HARDWARE ERROR, MEDIUM ERROR, RECOVERED ERROR: how often the device retried.
    RetryCount(u16),
    /// NO SENSE, NOT READY: progress of an operation, in 65536ths.
    Progress(u16),
    /// COPY ABORTED: which field of the parameter list is wrong.
    SegmentPointer {
        /// SD: relative to the segment descriptor, else to the parameter list.
        in_segment: bool,
        /// The most significant bit of the field, when BPV says so.
        bit: Option<u8>,
        /// The byte.
        byte: u16,
    },
    /// UNIT ATTENTION: whether the queue of unit attentions overflowed.
    UnitAttentionOverflow(bool),
}

impl KeySpecific {
    /// `None` without SKSV, and for keys that define nothing.
    fn parse(key: SenseKey, [b0, b1, b2]: [u8; 3]) -> Option<Self> {
        if b0 & 0x80 == 0 {
            return None;
        }
        let number = u16::from_be_bytes([b1, b2]);
        let bit = (b0 & 0x08 != 0).then_some(b0 & 7);
        Some(match key {
            SenseKey::ILLEGAL_REQUEST => Self::FieldPointer {
                in_cdb: b0 & 0x40 != 0,
                bit,
                byte: number,
            },
            SenseKey::HARDWARE_ERROR | SenseKey::MEDIUM_ERROR | SenseKey::RECOVERED_ERROR => {
                Self::RetryCount(number)
            }
            SenseKey::NO_SENSE | SenseKey::NOT_READY => Self::Progress(number),
            SenseKey::COPY_ABORTED => Self::SegmentPointer {
                in_segment: b0 & 0x20 != 0,
                bit,
                byte: number,
            },
            SenseKey::UNIT_ATTENTION => Self::UnitAttentionOverflow(b0 & 1 != 0),
            _ => return None,
        })
    }
}

/// Sense data, whichever format they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenseData {
    /// Layout.
    pub format: SenseFormat,
    /// The error belongs to an earlier command (71h, 73h).
    pub deferred: bool,
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code and qualifier; 00h/00h when the device sent none.
    pub code: AdditionalSense,
    /// INFORMATION, when valid: for disks the first bad block, or a difference of lengths.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION; in fixed format 0 means "none".
    pub command_specific: Option<u64>,
    /// Sense-key-specific information, when valid.
    pub key_specific: Option<KeySpecific>,
    /// FIELD REPLACEABLE UNIT CODE, when not 0.
    pub replaceable_unit: Option<u8>,
    /// FILEMARK.
    pub filemark: bool,
    /// EOM: end of medium.
    pub end_of_medium: bool,
    /// ILI: the length asked is not that of the block on the medium.
    pub incorrect_length: bool,
    /// SDAT_OVFL: the device had more sense data than room.
    pub overflow: bool,
}

/// A descriptor of descriptor format sense data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseDescriptor<'a> {
    /// DESCRIPTOR TYPE.
    pub kind: u8,
    /// What follows the two bytes of its header.
    pub bytes: &'a [u8],
}

/// The descriptors of descriptor format sense data that were transferred whole; none for fixed
/// format. Each is two bytes of header and as many more as its length says.
pub fn descriptors(sense: &[u8]) -> impl Iterator<Item = SenseDescriptor<'_>> {
    let is_descriptor = matches!(be::u8(sense, 0).map(|byte| byte & 0x7f), Some(0x72 | 0x73));
    let end = 8 + be::u8(sense, 7).map_or(0, usize::from);
    let mut rest = be::clamp(sense, end)
        .get(8..)
        .filter(|_| is_descriptor)
        .unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind, length] = be::array(rest, 0)?;
        let end = usize::from(length) + 2;
        let bytes = rest.get(2..end)?;
        rest = rest.get(end..).unwrap_or_default();
        Some(SenseDescriptor { kind, bytes })
    })
}

impl SenseData {
    const fn empty(format: SenseFormat, deferred: bool, key: SenseKey) -> Self {
        Self {
            format,
            deferred,
            key,
            code: AdditionalSense::NONE,
            information: None,
            command_specific: None,
            key_specific: None,
            replaceable_unit: None,
            filemark: false,
            end_of_medium: false,
            incorrect_length: false,
            overflow: false,
        }
    }

    /// Reads sense data of any length.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when there is not even a sense key,
    /// [`ParseError::BadField`] on a response code other than 70h to 73h.
    pub fn parse(sense: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "sense data";
        let code = be::u8(sense, 0).map(|code| code & 0x7f);
        let (data, needed) = match code {
            Some(0x70 | 0x71) => (Self::parse_fixed(sense, code == Some(0x71)), 3),
            Some(0x72 | 0x73) => (Self::parse_descriptor(sense, code == Some(0x73)), 2),
            Some(other) => return Err(ParseError::bad(WHAT, "RESPONSE CODE", other)),
            None => (None, 2),
        };
        data.ok_or_else(|| ParseError::truncated(WHAT, needed, sense.len()))
    }

    fn parse_fixed(sense: &[u8], deferred: bool) -> Option<Self> {
        let flags = be::u8(sense, 2)?;
        let end = 8 + be::u8(sense, 7).map_or(0, usize::from);
        let sense = be::clamp(sense, end);
        let key = SenseKey(flags & 0x0f);
        Some(Self {
            code: AdditionalSense {
                asc: be::u8(sense, 12).unwrap_or(0),
                ascq: be::u8(sense, 13).unwrap_or(0),
            },
            information: be::u32(sense, 3)
                .filter(|_| be::bit(sense, 0, 7))
                .map(u64::from),
            command_specific: be::u32(sense, 8).filter(|&value| value != 0).map(u64::from),
            key_specific: be::array(sense, 15).and_then(|bytes| KeySpecific::parse(key, bytes)),
            replaceable_unit: be::u8(sense, 14).filter(|&code| code != 0),
            filemark: flags & 0x80 != 0,
            end_of_medium: flags & 0x40 != 0,
            incorrect_length: flags & 0x20 != 0,
            overflow: flags & 0x10 != 0,
            ..Self::empty(SenseFormat::Fixed, deferred, key)
        })
    }

    fn parse_descriptor(sense: &[u8], deferred: bool) -> Option<Self> {
        let key = SenseKey(be::u8(sense, 1)? & 0x0f);
        let mut data = Self {
            code: AdditionalSense {
                asc: be::u8(sense, 2).unwrap_or(0),
                ascq: be::u8(sense, 3).unwrap_or(0),
            },
            overflow: be::bit(sense, 4, 7),
            ..Self::empty(SenseFormat::Descriptor, deferred, key)
        };
        for descriptor in descriptors(sense) {
            data.add(descriptor);
        }
        Some(data)
    }

    /// Takes in one descriptor. Offsets are those of the standard less the two header bytes.
    fn add(&mut self, SenseDescriptor { kind, bytes }: SenseDescriptor<'_>) {
        match kind {
            // Information
            0x00 if be::bit(bytes, 0, 7) => self.information = be::u64(bytes, 2),
            // Command specific information
            0x01 => self.command_specific = be::u64(bytes, 2),
            // Sense key specific
            0x02 => self.set_key_specific(bytes, 2),
            // Field replaceable unit
            0x03 => self.set_replaceable_unit(bytes, 1),
            // Stream commands
            0x04 => {
                self.filemark = be::bit(bytes, 1, 7);
                self.end_of_medium = be::bit(bytes, 1, 6);
                self.incorrect_length = be::bit(bytes, 1, 5);
            }
            // Block commands
            0x05 => self.incorrect_length = be::bit(bytes, 1, 5),
            // Direct-access block device: all of the above in one (SBC-3 §4.18.3)
            0x0d => {
                self.incorrect_length = be::bit(bytes, 0, 5);
                self.set_key_specific(bytes, 2);
                self.set_replaceable_unit(bytes, 5);
                if be::bit(bytes, 0, 7) {
                    self.information = be::u64(bytes, 6);
                }
                self.command_specific = be::u64(bytes, 14);
            }
            _ => {}
        }
    }

    fn set_key_specific(&mut self, bytes: &[u8], at: usize) {
        self.key_specific =
            be::array(bytes, at).and_then(|specific| KeySpecific::parse(self.key, specific));
    }

    fn set_replaceable_unit(&mut self, bytes: &[u8], at: usize) {
        self.replaceable_unit = be::u8(bytes, at).filter(|&code| code != 0);
    }

    /// Whether key and code are these.
    #[must_use]
    pub fn is(&self, key: SenseKey, code: AdditionalSense) -> bool {
        self.key == key && self.code == code
    }
}

/// Such as `ILLEGAL REQUEST (5h), LOGICAL UNIT NOT SUPPORTED (25h/00h)`, followed by whatever
/// else the device said.
impl fmt::Display for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.key, self.code)?;
        if self.deferred {
            f.write_str(", deferred from an earlier command")?;
        }
        // 0 says something only where it can be an address; some targets always send it.
        let said = |&value: &u64| value != 0 || self.key == SenseKey::MEDIUM_ERROR;
        if let Some(information) = self.information.filter(said) {
            write!(f, ", information {information:#x}")?;
        }
        if let Some(specific) = self.key_specific {
            write!(f, ", {specific}")?;
        }
        Ok(())
    }
}

impl fmt::Display for KeySpecific {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = |f: &mut fmt::Formatter<'_>, byte: u16, bit: Option<u8>, place: &str| {
            write!(f, "byte {byte}")?;
            if let Some(bit) = bit {
                write!(f, " bit {bit}")?;
            }
            write!(f, " of the {place}")
        };
        match *self {
            Self::FieldPointer { in_cdb, bit, byte } => {
                pointer(f, byte, bit, if in_cdb { "CDB" } else { "parameter data" })
            }
            Self::SegmentPointer {
                in_segment,
                bit,
                byte,
            } => {
                let place = if in_segment {
                    "segment descriptor"
                } else {
                    "parameter list"
                };
                pointer(f, byte, bit, place)
            }
            Self::RetryCount(count) => write!(f, "{count} retries"),
            Self::Progress(progress) => {
                write!(f, "{} % done", u32::from(progress) * 100 / 65536)
            }
            Self::UnitAttentionOverflow(true) => f.write_str("unit attentions were lost"),
            Self::UnitAttentionOverflow(false) => f.write_str("no unit attention was lost"),
        }
    }
}

#[cfg(test)]
mod tests;
