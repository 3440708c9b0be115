//! TransportID: the name of an initiator port in persistent reservations (SPC-4 §7.6.4).

use std::fmt;

use crate::{ParseError, be};

/// An initiator, or one port of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TransportId {
    /// An iSCSI initiator (SPC-4 §7.6.4.6).
    Iscsi {
        /// Its iSCSI name.
        name: String,
        /// The ISID, which makes it the name of a port; `None`: the initiator as a whole.
        isid: Option<[u8; 6]>,
    },
    /// Of another transport, or not readable; kept as it came.
    Other {
        /// PROTOCOL IDENTIFIER.
        protocol: u8,
        /// All of the bytes, the first included.
        bytes: Box<[u8]>,
    },
}

/// A name that no iSCSI TransportID can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the iSCSI name in a TransportID")]
pub struct BadName(pub String);

const WHAT: &str = "TransportID";
const ISCSI: u8 = 5;
/// FORMAT CODE 01b: name and ISID.
const WITH_ISID: u8 = 0x40;
const SEPARATOR: &str = ",i,0x";
/// Longest iSCSI name in bytes (RFC 7143 §4.2.7.1).
const NAME_BYTES_MAX: usize = 223;
/// Smallest ADDITIONAL LENGTH of an iSCSI TransportID.
const ADDITIONAL_MIN: usize = 20;
/// Bytes of a TransportID of any other transport.
const FIXED_BYTES: usize = 24;

impl TransportId {
    /// The port of an initiator, or with no `isid` the initiator.
    ///
    /// # Errors
    /// [`BadName`] when the name is empty, too long, or holds what separates name and ISID.
    pub fn iscsi(name: &str, isid: Option<[u8; 6]>) -> Result<Self, BadName> {
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
        if !fits || name.contains(['\0', ',']) {
            return Err(BadName(name.to_owned()));
        }
        let name = name.to_owned();
        Ok(Self::Iscsi { name, isid })
    }

    /// The bytes of the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (name, isid) = match self {
            Self::Iscsi { name, isid } => (name, isid),
            Self::Other { bytes, .. } => return bytes.to_vec(),
        };
        let mut text = name.clone();
        if let Some(isid) = isid {
            text.push_str(SEPARATOR);
            text.extend(isid.iter().map(|byte| format!("{byte:02x}")));
        }
        // NUL-terminated, whole words.
        let len = text.len().saturating_add(1).next_multiple_of(4);
        let additional = len.max(ADDITIONAL_MIN);
        let [high, low] = u16::try_from(additional).unwrap_or(u16::MAX).to_be_bytes();
        let format = if isid.is_some() { WITH_ISID } else { 0 };
        let mut bytes = vec![format | ISCSI, 0, high, low];
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(additional.saturating_add(4), 0);
        bytes
    }

    /// Reads a TransportID that fills `bytes`, or leads them.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when it is not whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let Some([b0, _, high, low]) = be::array(bytes, 0) else {
            return Err(ParseError::truncated(WHAT, 4, bytes.len()));
        };
        let protocol = b0 & 0x0f;
        let needed = match protocol {
            ISCSI => usize::from(u16::from_be_bytes([high, low])).saturating_add(4),
            _ => FIXED_BYTES,
        };
        let Some(bytes) = bytes.get(..needed) else {
            return Err(ParseError::truncated(WHAT, needed, bytes.len()));
        };
        let text = bytes.get(4..).unwrap_or_default();
        let readable = (protocol == ISCSI).then(|| read_iscsi(b0 >> 6, text));
        Ok(readable.flatten().unwrap_or_else(|| Self::Other {
            protocol,
            bytes: bytes.into(),
        }))
    }
}

/// `None` when the text is not what the format says.
fn read_iscsi(format: u8, text: &[u8]) -> Option<TransportId> {
    let end = text.iter().position(|&byte| byte == 0)?;
    let text = str::from_utf8(text.get(..end)?).ok()?;
    let (name, isid) = match format {
        0 => (text, None),
        1 => {
            let (name, hex) = text.rsplit_once(SEPARATOR)?;
            (name, Some(read_isid(hex)?))
        }
        _ => return None,
    };
    let fine = !name.chars().any(char::is_control);
    TransportId::iscsi(name, isid).ok().filter(|_| fine)
}

fn read_isid(hex: &str) -> Option<[u8; 6]> {
    let digits = (1..=12).contains(&hex.len()) && hex.bytes().all(|it| it.is_ascii_hexdigit());
    let number = u64::from_str_radix(hex, 16).ok().filter(|_| digits)?;
    let [_, _, isid @ ..] = number.to_be_bytes();
    Some(isid)
}

/// As administrators know it: `iqn.…,i,0x00023d000001`.
impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::Iscsi { name, isid } => {
                f.write_str(name)?;
                let Some(isid) = isid else { return Ok(()) };
                f.write_str(SEPARATOR)?;
                hex(f, isid)
            }
            Self::Other { protocol, bytes } => {
                write!(f, "protocol {protocol:x}h: ")?;
                hex(f, bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISID: [u8; 6] = [0x00, 0x02, 0x3d, 0, 0, 1];

    #[test]
    fn a_port() {
        let id = TransportId::iscsi("iqn.1993-08.org.x:a", Some(ISID)).unwrap();
        let mut expected = vec![0x45, 0, 0, 40];
        expected.extend_from_slice(b"iqn.1993-08.org.x:a,i,0x00023d000001\0\0\0\0");
        assert_eq!(id.to_bytes(), expected);
        assert_eq!(TransportId::parse(&expected), Ok(id.clone()));
        assert_eq!(id.to_string(), "iqn.1993-08.org.x:a,i,0x00023d000001");
        // Upper case, no leading zeros.
        let mut other = vec![0x45, 0, 0, 36];
        other.extend_from_slice(b"iqn.1993-08.org.x:a,i,0x23D000001\0\0\0");
        assert_eq!(TransportId::parse(&other), Ok(id));
    }

    #[test]
    fn an_initiator_of_short_name_is_padded() {
        let id = TransportId::iscsi("eui.1", None).unwrap();
        let mut expected = vec![0x05, 0, 0, 20];
        expected.extend_from_slice(b"eui.1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(id.to_bytes(), expected);
        assert_eq!(TransportId::parse(&expected), Ok(id));
    }

    #[test]
    fn names_that_cannot_be() {
        for name in ["", "a,i,0x1", "a\0b", &"n".repeat(224)] {
            assert!(TransportId::iscsi(name, None).is_err(), "{name}");
        }
        let long = TransportId::iscsi(&"n".repeat(223), Some(ISID)).unwrap();
        // 223 + 17 + NUL, padded to 244.
        assert_eq!(long.to_bytes().len(), 248);
    }

    #[test]
    fn the_unreadable_is_kept() {
        let sas = [[6, 0, 0, 0].as_slice(), &[7; 20]].concat();
        let expected = TransportId::Other {
            protocol: 6,
            bytes: sas.clone().into(),
        };
        assert_eq!(TransportId::parse(&sas), Ok(expected.clone()));
        assert_eq!(expected.to_bytes(), sas);
        for text in [
            &b"no end"[..],
            b"name\0\0\0\0",
            b"name,i,0x\0\0\0",
            b"n,i,0x+1\0\0\0\0",
            b"n\x1b,i,0x1\0\0\0\0",
            b"n,i,0x0000000000001\0",
            b"\xff,i,0x1\0",
        ] {
            let len = u8::try_from(text.len()).unwrap();
            let bytes = [&[0x45, 0, 0, len][..], text].concat();
            let parsed = TransportId::parse(&bytes).unwrap();
            assert!(matches!(parsed, TransportId::Other { protocol: 5, .. }));
            assert_eq!(parsed.to_bytes(), bytes);
        }
        assert!(TransportId::parse(&[0x45, 0, 0]).is_err());
        assert!(TransportId::parse(&[0x45, 0, 0, 4, 0, 0, 0]).is_err());
        assert!(TransportId::parse(&[6; 23]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = TransportId::parse(&bytes);
        }

        #[test]
        fn what_is_read_is_what_was_written(
            name in "[a-z0-9.:-]{1,223}",
            isid: Option<[u8; 6]>,
        ) {
            let id = TransportId::iscsi(&name, isid).unwrap();
            let bytes = id.to_bytes();
            proptest::prop_assert_eq!(bytes.len() % 4, 0);
            proptest::prop_assert_eq!(TransportId::parse(&bytes), Ok(id));
        }
    }
}
