//! Sense data (SPC-4 §4.5): the codes this device uses, in fixed and in descriptor format.

/// Sense key, additional sense code and qualifier, with an optional information field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// INFORMATION field, e.g. the offset of a miscompare.
    pub information: Option<u64>,
    /// Field pointer of ILLEGAL REQUEST: byte offset in the CDB (`true`) or in the parameter list.
    pub field: Option<(bool, u16)>,
}

impl Sense {
    /// Sense without further information.
    #[must_use]
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self {
            key,
            asc,
            ascq,
            information: None,
            field: None,
        }
    }

    pub(crate) const NONE: Self = Self::new(0x00, 0x00, 0x00);
    pub(crate) const INVALID_OPCODE: Self = Self::new(0x05, 0x20, 0x00);
    pub(crate) const LBA_OUT_OF_RANGE: Self = Self::new(0x05, 0x21, 0x00);
    pub(crate) const LUN_NOT_SUPPORTED: Self = Self::new(0x05, 0x25, 0x00);
    pub(crate) const LIST_LENGTH: Self = Self::new(0x05, 0x1a, 0x00);
    pub(crate) const MEDIUM_REMOVAL_PREVENTED: Self = Self::new(0x05, 0x53, 0x02);
    pub(crate) const NOT_READY: Self = Self::new(0x02, 0x04, 0x02);
    pub(crate) const WRITE_PROTECTED: Self = Self::new(0x07, 0x27, 0x00);
    pub(crate) const MISCOMPARE: Self = Self::new(0x0e, 0x1d, 0x00);
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub(crate) const RESET: Self = Self::new(0x06, 0x29, 0x00);
    /// BUS DEVICE RESET FUNCTION OCCURRED, reported after LOGICAL UNIT RESET.
    pub(crate) const LUN_RESET: Self = Self::new(0x06, 0x29, 0x03);
    /// COMMANDS CLEARED BY ANOTHER INITIATOR.
    pub(crate) const CLEARED: Self = Self::new(0x06, 0x2f, 0x00);
    /// INVALID MESSAGE ERROR: an ACA task without ACA condition (SAM-5 §8.6).
    pub(crate) const INVALID_MESSAGE: Self = Self::new(0x05, 0x49, 0x00);
    /// SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT (RFC 7143 §11.14.5).
    pub(crate) const CLEARED_BY_EVENT: Self = Self::new(0x06, 0x47, 0x7f);
    /// SNACK rejected (RFC 7143 §11.4.7.2).
    pub(crate) const SNACK_REJECTED: Self = Self::new(0x0b, 0x11, 0x13);
    /// PROTOCOL SERVICE CRC ERROR (RFC 7143 §11.4.7.2).
    pub(crate) const CRC_ERROR: Self = Self::new(0x0b, 0x47, 0x05);
    /// UNEXPECTED UNSOLICITED DATA (RFC 7143 §11.4.7.2).
    pub(crate) const UNEXPECTED_UNSOLICITED: Self = Self::new(0x0b, 0x0c, 0x0c);
    /// NOT ENOUGH UNSOLICITED DATA (RFC 7143 §11.4.7.2).
    pub(crate) const NOT_ENOUGH_UNSOLICITED: Self = Self::new(0x0b, 0x0c, 0x0d);

    /// INVALID FIELD IN CDB, pointing at its byte.
    pub(crate) const fn cdb_field(at: u16) -> Self {
        Self {
            key: 0x05,
            asc: 0x24,
            ascq: 0x00,
            information: None,
            field: Some((true, at)),
        }
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing at its byte.
    pub(crate) const fn list_field(at: u16) -> Self {
        Self {
            key: 0x05,
            asc: 0x26,
            ascq: 0x00,
            information: None,
            field: Some((false, at)),
        }
    }

    /// The bytes of SPC-4 §4.5.3 (fixed) or §4.5.2 (descriptor).
    #[must_use]
    pub fn encode(&self, descriptor: bool) -> Vec<u8> {
        if descriptor {
            self.encode_descriptor()
        } else {
            self.encode_fixed()
        }
    }

    fn field_bytes(&self) -> [u8; 3] {
        match self.field {
            Some((in_cdb, at)) => {
                let [high, low] = at.to_be_bytes();
                [0x80 | u8::from(in_cdb) << 6, high, low]
            }
            None => [0; 3],
        }
    }

    fn encode_fixed(&self) -> Vec<u8> {
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let mut out = vec![0x70 | u8::from(information.is_some()) << 7, 0, self.key];
        out.extend(information.unwrap_or(0).to_be_bytes());
        out.push(10);
        out.extend([0; 4]);
        out.extend([self.asc, self.ascq, 0]);
        out.extend(self.field_bytes());
        out
    }

    fn encode_descriptor(&self) -> Vec<u8> {
        let mut descriptors = Vec::new();
        if let Some(information) = self.information {
            descriptors.extend([0x00, 0x0a, 0x80, 0x00]);
            descriptors.extend(information.to_be_bytes());
        }
        if self.field.is_some() {
            let [flags, high, low] = self.field_bytes();
            descriptors.extend([0x02, 0x06, 0, 0, flags, high, low, 0]);
        }
        let mut out = vec![0x72, self.key, self.asc, self.ascq, 0, 0, 0];
        out.push(u8::try_from(descriptors.len()).unwrap_or(0));
        out.extend(descriptors);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats() {
        let fixed = Sense::cdb_field(2).encode(false);
        assert_eq!(
            fixed,
            [
                0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 2
            ]
        );
        let descriptor = Sense::cdb_field(2).encode(true);
        assert_eq!(
            descriptor,
            [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xc0, 0, 2, 0]
        );
    }
}
