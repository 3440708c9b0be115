//! Mode parameters: what MODE SENSE (6) and (10) return (SPC-4 §7.5, SBC-3 §6.4).
//!
//! Pages are kept raw and bounded; the caching page has a reader. MODE SELECT is not here.

use crate::{ParseError, be};

/// Page code that asks for all pages.
pub const ALL_PAGES: u8 = 0x3f;
/// Page code of the caching page of disks.
pub const CACHING_PAGE: u8 = 0x08;
/// Page code of the control page.
pub const CONTROL_PAGE: u8 = 0x0a;

/// The header of mode parameters and the pages behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeParameters {
    /// MEDIUM TYPE; 0 for disks.
    pub medium_type: u8,
    /// DEVICE-SPECIFIC PARAMETER as it came.
    pub device_specific: u8,
    /// Block descriptors as they came (8 or, with `long_lba`, 16 bytes each).
    pub block_descriptors: Box<[u8]>,
    /// LONGLBA: block descriptors have 16 bytes.
    pub long_lba: bool,
    /// The pages that were transferred whole.
    pub pages: Vec<ModePage>,
    /// Bytes an allocation length must have for all of the data.
    pub needed_bytes: usize,
}

/// One mode page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModePage {
    /// Page code, 6 bits.
    pub code: u8,
    /// Subpage code; 0 without the subpage format.
    pub subpage: u8,
    /// PS: the device can save the page.
    pub savable: bool,
    /// The parameters, without the page's own header.
    pub bytes: Box<[u8]>,
}

/// The caching page (SBC-3 §6.4.5), as far as an initiator needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caching {
    /// WCE: a write may end while its data are only in a volatile cache.
    pub write_cache: bool,
    /// RCD: reads always come from the medium.
    pub read_cache_disabled: bool,
}

impl ModeParameters {
    /// Reads the data of MODE SENSE (6).
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below the 4 bytes of the header.
    pub fn parse_6(data: &[u8]) -> Result<Self, ParseError> {
        let Some([length, medium_type, device_specific, descriptors]) = be::array(data, 0) else {
            return Err(ParseError::truncated("MODE SENSE (6) data", 4, data.len()));
        };
        let needed_bytes = usize::from(length) + 1;
        let body = be::clamp(data, needed_bytes).get(4..).unwrap_or_default();
        let (block_descriptors, pages) = body
            .split_at_checked(usize::from(descriptors))
            .unwrap_or((body, &[]));
        Ok(Self {
            medium_type,
            device_specific,
            block_descriptors: block_descriptors.into(),
            long_lba: false,
            pages: ModePage::parse_all(pages),
            needed_bytes,
        })
    }

    /// Reads the data of MODE SENSE (10).
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below the 8 bytes of the header.
    pub fn parse_10(data: &[u8]) -> Result<Self, ParseError> {
        let Some([l0, l1, medium_type, device_specific, flags, _, d0, d1]) = be::array(data, 0)
        else {
            return Err(ParseError::truncated("MODE SENSE (10) data", 8, data.len()));
        };
        let needed_bytes = usize::from(u16::from_be_bytes([l0, l1])) + 2;
        let body = be::clamp(data, needed_bytes).get(8..).unwrap_or_default();
        let (block_descriptors, pages) = body
            .split_at_checked(usize::from(u16::from_be_bytes([d0, d1])))
            .unwrap_or((body, &[]));
        Ok(Self {
            medium_type,
            device_specific,
            block_descriptors: block_descriptors.into(),
            long_lba: flags & 1 != 0,
            pages: ModePage::parse_all(pages),
            needed_bytes,
        })
    }

    /// WP: the medium cannot be written.
    #[must_use]
    pub const fn write_protected(&self) -> bool {
        self.device_specific & 0x80 != 0
    }

    /// DPOFUA: READ and WRITE may carry DPO and FUA.
    #[must_use]
    pub const fn dpo_fua(&self) -> bool {
        self.device_specific & 0x10 != 0
    }

    /// A page by its code and subpage code.
    #[must_use]
    pub fn page(&self, code: u8, subpage: u8) -> Option<&ModePage> {
        self.pages
            .iter()
            .find(|page| page.code == code && page.subpage == subpage)
    }

    /// The caching page; `None` when it was not sent.
    #[must_use]
    pub fn caching(&self) -> Option<Caching> {
        let flags = *self.page(CACHING_PAGE, 0)?.bytes.first()?;
        Some(Caching {
            write_cache: flags & 0x04 != 0,
            read_cache_disabled: flags & 0x01 != 0,
        })
    }
}

impl ModePage {
    fn parse_all(mut list: &[u8]) -> Vec<Self> {
        let mut pages = Vec::new();
        while let Some((page, rest)) = Self::split_off(list) {
            pages.push(page);
            list = rest;
        }
        pages
    }

    /// The first page of `list` and what follows; `None` when none is left whole.
    fn split_off(list: &[u8]) -> Option<(Self, &[u8])> {
        let head = be::u8(list, 0)?;
        let (subpage, from, length) = if head & 0x40 == 0 {
            (0, 2, usize::from(be::u8(list, 1)?))
        } else {
            (be::u8(list, 1)?, 4, usize::from(be::u16(list, 2)?))
        };
        let end = length + from;
        let page = Self {
            code: head & 0x3f,
            subpage,
            savable: head & 0x80 != 0,
            bytes: list.get(from..end)?.into(),
        };
        Some((page, list.get(end..).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six() {
        let mut data = vec![0, 0, 0x90, 8, 0, 0, 0, 0, 0, 0, 2, 0];
        data.extend_from_slice(&[0x88, 2, 0x05, 0]);
        data.extend_from_slice(&[0x4a, 0x01, 0, 1, 7]);
        data[0] = 20;
        let mode = ModeParameters::parse_6(&data).unwrap();
        assert!(mode.write_protected() && mode.dpo_fua() && !mode.long_lba);
        assert_eq!(*mode.block_descriptors, [0, 0, 0, 0, 0, 0, 2, 0]);
        let caching = mode.caching().unwrap();
        assert!(caching.write_cache && caching.read_cache_disabled);
        let expected = ModePage {
            code: 0x0a,
            subpage: 1,
            savable: false,
            bytes: [7].into(),
        };
        assert_eq!(mode.page(0x0a, 1), Some(&expected));
        assert_eq!(mode.page(0x0a, 0), None);
        assert_eq!(mode.needed_bytes, 21);
        // The last page is cut off: it is left out, the others stay.
        let cut = ModeParameters::parse_6(&data[..20]).unwrap();
        assert_eq!(cut.pages.len(), 1);
    }

    #[test]
    fn ten() {
        let mut data = vec![0, 22, 0, 0x00, 1, 0, 0, 16];
        data.resize(24, 0xaa);
        // An empty caching page has no flags to read.
        let mode = ModeParameters::parse_10(&data).unwrap();
        assert!(mode.long_lba && !mode.write_protected() && !mode.dpo_fua());
        assert_eq!(mode.block_descriptors.len(), 16);
        assert_eq!(mode.caching(), None);
        data[1] = 26;
        data.extend_from_slice(&[0x08, 2, 0x04, 0]);
        let mode = ModeParameters::parse_10(&data).unwrap();
        assert!(mode.caching().unwrap().write_cache);
    }

    #[test]
    fn lying_lengths() {
        // Block descriptors longer than all the data: no page is invented.
        let mode = ModeParameters::parse_6(&[0xff, 0, 0, 0xff, 8, 1, 4]).unwrap();
        assert!(mode.pages.is_empty());
        assert!(ModeParameters::parse_6(&[3, 0, 0]).is_err());
        assert!(ModeParameters::parse_10(&[3, 0, 0, 0, 0, 0, 0]).is_err());
        // A data length of 0: nothing behind the header counts.
        let mode = ModeParameters::parse_6(&[0, 0, 0, 0, 8, 1, 4]).unwrap();
        assert!(mode.pages.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = ModeParameters::parse_6(&bytes);
            let _ = ModeParameters::parse_10(&bytes);
        }
    }
}
