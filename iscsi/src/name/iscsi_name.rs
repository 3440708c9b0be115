//! iSCSI names (RFC 7143 §4.2.7; RFC 3722 for the characters; RFC 3980 for `naa.`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of an iSCSI node, in its normal form: lower case, checked. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IscsiName(Arc<str>);

impl IscsiName {
    /// Longest name, in bytes (§4.2.7.2).
    pub const MAX_BYTES: usize = 223;

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not an iSCSI name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing.
    #[error("an iSCSI name cannot be empty")]
    Empty,
    /// More than [`IscsiName::MAX_BYTES`].
    #[error("an iSCSI name has at most 223 bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// RFC 3722 allows letters, digits, `-`, `.` and `:` (of ASCII).
    #[error("{character:?} (at byte {at}) is not allowed in an iSCSI name")]
    Character {
        /// The first one that is not allowed.
        character: char,
        /// Where it begins.
        at: usize,
    },
    /// It begins with none of the three type designators.
    #[error("an iSCSI name begins with \"iqn.\", \"eui.\" or \"naa.\"")]
    Type,
    /// `iqn.` is not followed by a year and a month (§4.2.7.4).
    #[error("\"iqn.\" is followed by year and month, as in \"iqn.2001-04.com.example\"")]
    Date,
    /// The date is not followed by a reversed domain name.
    #[error("the date of an \"iqn.\" name is followed by \".\" and a reversed domain name")]
    Authority,
    /// The rest of an `eui.` or `naa.` name is not of the right number of hexadecimal digits.
    #[error("\"{kind}\" is followed by {expected} hexadecimal digits")]
    Digits {
        /// The type designator.
        kind: &'static str,
        /// How many it takes.
        expected: &'static str,
    },
}

impl FromStr for IscsiName {
    type Err = NameError;

    /// Upper case is folded to lower case (§4.2.7.2); nothing else is mended.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        if let Some((at, character)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) {
            return Err(NameError::Character { character, at });
        }
        let name = text.to_ascii_lowercase();
        if let Some(rest) = name.strip_prefix("iqn.") {
            check_qualified(rest)?;
        } else if let Some(rest) = name.strip_prefix("eui.") {
            check_digits("eui.", rest, &[16], "16")?;
        } else if let Some(rest) = name.strip_prefix("naa.") {
            check_digits("naa.", rest, &[16, 32], "16 or 32")?;
        } else {
            return Err(NameError::Type);
        }
        Ok(Self(name.into()))
    }
}

const fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | ':')
}

/// What follows `iqn.`: `yyyy-mm.reversed.domain[:anything]` (§4.2.7.4).
fn check_qualified(rest: &str) -> Result<(), NameError> {
    let (date, authority) = rest.split_at_checked(7).ok_or(NameError::Date)?;
    let (year, month) = date.split_once('-').ok_or(NameError::Date)?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let month_number = month.parse::<u8>().unwrap_or(0);
    if year.len() != 4 || !digits(year) || !digits(month) || !(1..=12).contains(&month_number) {
        return Err(NameError::Date);
    }
    let authority = authority.strip_prefix('.').ok_or(NameError::Authority)?;
    let domain = authority
        .split_once(':')
        .map_or(authority, |(domain, _)| domain);
    if domain.split('.').any(str::is_empty) {
        return Err(NameError::Authority);
    }
    Ok(())
}

fn check_digits(
    kind: &'static str,
    rest: &str,
    lengths: &[usize],
    expected: &'static str,
) -> Result<(), NameError> {
    let hexadecimal = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal && lengths.contains(&rest.len()) {
        Ok(())
    } else {
        Err(NameError::Digits { kind, expected })
    }
}

impl AsRef<str> for IscsiName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IscsiName({})", self.0)
    }
}
