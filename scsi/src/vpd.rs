//! Vital product data pages (SPC-4 §7.8, SBC-3 §6.5).
//!
//! Each page has its own type with a `parse` that takes the whole answer, header included, and
//! refuses one that is another page: targets exist that answer any page code with page 00h or
//! with standard INQUIRY data.
//!
//! [`identification`] is page 83h, [`limits`] B0h, [`characteristics`] B1h, [`provisioning`] B2h.

pub mod characteristics;
pub mod identification;
pub mod limits;
pub mod provisioning;

use crate::text::printable;
use crate::{ParseError, be};

/// Page codes.
pub mod page {
    /// Supported VPD pages.
    pub const SUPPORTED_PAGES: u8 = 0x00;
    /// Unit serial number.
    pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
    /// Device identification.
    pub const DEVICE_IDENTIFICATION: u8 = 0x83;
    /// Block limits.
    pub const BLOCK_LIMITS: u8 = 0xb0;
    /// Block device characteristics.
    pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
    /// Logical block provisioning.
    pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;
}

/// Bytes an allocation length must have for the whole page, by its header; `None` when there
/// is no whole header.
#[must_use]
pub fn needed_bytes(data: &[u8]) -> Option<usize> {
    be::u16(data, 2).map(|length| usize::from(length) + 4)
}

/// The page, header included, cut to its own length, when it is page `code`.
fn page_of<'a>(what: &'static str, code: u8, data: &'a [u8]) -> Result<&'a [u8], ParseError> {
    let (Some(actual), Some(needed)) = (be::u8(data, 1), needed_bytes(data)) else {
        return Err(ParseError::truncated(what, 4, data.len()));
    };
    if actual != code {
        return Err(ParseError::bad(what, "PAGE CODE", actual));
    }
    Ok(be::clamp(data, needed))
}

/// Page 00h: the pages a logical unit has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SupportedPages(Vec<u8>);

impl SupportedPages {
    /// Reads page 00h.
    ///
    /// # Errors
    /// [`ParseError`] below 4 bytes, and on another page code.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let data = page_of("VPD page 00h", page::SUPPORTED_PAGES, data)?;
        Ok(Self(data.get(4..).unwrap_or_default().to_vec()))
    }

    /// Whether the page is there.
    #[must_use]
    pub fn contains(&self, page: u8) -> bool {
        self.0.contains(&page)
    }

    /// The page codes in the device's order.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Page 80h: the serial number a vendor gave the logical unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnitSerialNumber(String);

impl UnitSerialNumber {
    /// Reads page 80h. Padding is cut off; what is not printable is replaced.
    ///
    /// # Errors
    /// [`ParseError`] below 4 bytes, and on another page code.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let data = page_of("VPD page 80h", page::UNIT_SERIAL_NUMBER, data)?;
        Ok(Self(printable(data.get(4..).unwrap_or_default())))
    }

    /// The text; empty when the device has none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_pages() {
        let pages = SupportedPages::parse(&[0, 0, 0, 3, 0x00, 0x80, 0x83, 0xb0]).unwrap();
        // The fourth byte lies behind the page's length.
        assert_eq!(pages.as_slice(), [0x00, 0x80, 0x83]);
        assert!(pages.contains(0x83) && !pages.contains(0xb0));
        let cut = SupportedPages::parse(&[0, 0, 0, 9, 0x00]).unwrap();
        assert_eq!(cut.as_slice(), [0x00]);
        assert!(SupportedPages::parse(&[0, 0, 0]).is_err());
    }

    #[test]
    fn serial_number() {
        let serial = UnitSerialNumber::parse(b"\x00\x80\x00\x08  SN 42\x00").unwrap();
        assert_eq!(serial.as_str(), "SN 42");
        let none = UnitSerialNumber::parse(&[0, 0x80, 0, 4, 0x20, 0x20, 0x20, 0x20]).unwrap();
        assert_eq!(none.as_str(), "");
    }

    #[test]
    fn another_page_is_refused() {
        assert_eq!(
            UnitSerialNumber::parse(&[0, 0x00, 0, 1, 0x80]),
            Err(ParseError::BadField {
                what: "VPD page 80h",
                field: "PAGE CODE",
                value: 0
            })
        );
    }
}
