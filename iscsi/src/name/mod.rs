//! Names and identifiers: iSCSI names, ISID, TSIH, CID, portal group tags, portals
//! (RFC 7143 §4.2.7, §4.4, §10.1.1, §13.8, §13.9; RFC 3722).
//!
//! Everything here is validated where it is made: an [`IscsiName`] or a [`Portal`] that exists
//! holds no control character, no path separator and no more bytes than the RFC allows, wherever
//! it came from. Names are ASCII: the further scripts that RFC 3722 could map are refused.

mod iscsi_name;
mod isid;
mod portal;

pub use iscsi_name::{IscsiName, NameError};
pub use isid::{Isid, IsidError};
pub use portal::{DEFAULT_PORT, Host, Portal, PortalError};

/// Target session identifying handle; 0 asks for a new session (RFC 7143 §11.12.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tsih(pub u16);

/// Connection identifier within a session (RFC 7143 §11.12.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Cid(pub u16);

/// Target portal group tag (RFC 7143 §13.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalGroupTag(pub u16);

impl std::fmt::Display for Tsih {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl std::fmt::Display for Cid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Display for PortalGroupTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for PortalGroupTag {
    type Err = PortalError;

    /// A number of 16 bits, decimal or (RFC 7143 §6.1) hexadecimal after `0x`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let (digits, radix) = digits.map_or((text, 10), |hex| (hex, 16));
        // The standard parser would take a sign.
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u16::from_str_radix(digits, radix) {
            Ok(tag) if plain => Ok(Self(tag)),
            _ => Err(PortalError::GroupTag { text: text.into() }),
        }
    }
}

#[cfg(test)]
mod tests;
