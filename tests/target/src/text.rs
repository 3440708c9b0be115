//! The `key=value` text format of RFC 7143 §6.1, and ranges of lists and numbers inside it.
//!
//! Syntax only: what a key means is the business of `login::operational` and `full_feature`.

/// One parsed pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// What can be wrong with a text segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A segment that does not end with NUL, or a pair without `=`.
    Shape(String),
    /// A key name outside the allowed alphabet or longer than 63 bytes.
    KeyName(String),
    /// A value longer than the key allows (255 bytes unless the key says more).
    TooLong(String),
    /// Bytes that are not UTF-8.
    Encoding,
}

/// Parses a whole text segment. Good pairs are returned even when others are malformed.
pub(crate) fn parse(bytes: &[u8]) -> (Vec<Pair>, Vec<Malformed>) {
    let mut pairs = Vec::new();
    let mut faults = Vec::new();
    let Some(body) = bytes.strip_suffix(&[0]) else {
        if !bytes.is_empty() {
            faults.push(Malformed::Shape("text does not end with NUL".to_owned()));
        }
        return (pairs, faults);
    };
    for part in body.split(|byte| *byte == 0) {
        let Ok(part) = std::str::from_utf8(part) else {
            faults.push(Malformed::Encoding);
            continue;
        };
        let Some((key, value)) = part.split_once('=') else {
            faults.push(Malformed::Shape(format!("no '=' in {part:?}")));
            continue;
        };
        if !key_name_legal(key) {
            faults.push(Malformed::KeyName(key.to_owned()));
            continue;
        }
        if value.len() > value_limit(key) {
            faults.push(Malformed::TooLong(key.to_owned()));
        }
        pairs.push(Pair {
            key: key.to_owned(),
            value: value.to_owned(),
        });
    }
    (pairs, faults)
}

/// RFC 7143 §6.1: text-key names start with a capital letter and have at most 63 characters; the one key of
/// RFC 7144 that breaks the rule is legal by definition.
fn key_name_legal(key: &str) -> bool {
    key.len() <= 63
        && (key.starts_with(|c: char| c.is_ascii_uppercase()) || key == "iSCSIProtocolLevel")
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-+@_".contains(&b))
}

/// Text values hold 255 bytes, binary values decode to 1,024 bytes (RFC 7143 §6.1), lists and opaque ones more.
fn value_limit(key: &str) -> usize {
    match key {
        "CHAP_C" | "CHAP_R" | "SRP_A" | "SRP_B" | "SRP_M" | "SRP_HM" | "SRP_s" => 2 + 2 * 1024,
        "AuthMethod" | "HeaderDigest" | "DataDigest" | "TaskReporting" | "SendTargets" => 8192,
        "SPKM_REQ" | "SPKM_ERROR" | "SPKM_REP_TI" | "SPKM_REP_IT" | "KRB_AP_REQ" | "KRB_AP_REP" => {
            65536
        }
        _ => 255,
    }
}

/// Appends `key=value` and its NUL.
pub(crate) fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// A numerical value: decimal or hex constant (RFC 7143 §6.1).
pub(crate) fn number(value: &str) -> Option<u64> {
    if let Some(hex) = value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        return u64::from_str_radix(hex, 16)
            .ok()
            .filter(|_| !hex.starts_with('+'));
    }
    value
        .parse()
        .ok()
        .filter(|_| value.bytes().all(|b| b.is_ascii_digit()))
}

/// A binary value: hex or base64 constant (RFC 7143 §6.1).
pub(crate) fn binary(value: &str) -> Option<Vec<u8>> {
    let prefix = value.get(..2)?;
    let rest = value.get(2..)?;
    match prefix {
        "0x" | "0X" => hex(rest),
        "0b" | "0B" => base64(rest),
        _ => None,
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u8>> = digits
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let mut nibbles = nibbles?;
    if nibbles.len() % 2 == 1 {
        nibbles.insert(0, 0);
    }
    Some(
        nibbles
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble))
            .collect(),
    )
}

fn base64(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim_end_matches('=');
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).unwrap_or(0));
        }
    }
    Some(out)
}

/// Writes bytes as a hex constant.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("0x");
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Whether a name is a legal iSCSI node name (RFC 7143 §4.2.7, stringprep profile of RFC 3722 for ASCII).
pub(crate) fn node_name_legal(name: &str) -> bool {
    if name.is_empty() || name.len() > 223 {
        return false;
    }
    if let Some(rest) = name.strip_prefix("iqn.") {
        return iqn_legal(rest);
    }
    if let Some(rest) = name.strip_prefix("eui.") {
        return rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return (rest.len() == 16 || rest.len() == 32)
            && rest.bytes().all(|b| b.is_ascii_hexdigit());
    }
    false
}

fn iqn_legal(rest: &str) -> bool {
    let date_good = rest.get(..8).is_some_and(|date| {
        date.bytes().enumerate().all(|(at, b)| match at {
            4 => b == b'-',
            7 => b == b'.',
            _ => b.is_ascii_digit(),
        })
    });
    let tail = rest.get(8..).unwrap_or_default();
    date_good
        && !tail.is_empty()
        && tail.chars().all(|c| {
            !c.is_ascii()
                || c.is_ascii_lowercase()
                || c.is_ascii_digit()
                || matches!(c, '-' | '.' | ':')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_their_faults() {
        let (pairs, faults) = parse(b"A=1\0B=\0nokey\0lower=3\0");
        assert_eq!(pairs.len(), 2);
        assert_eq!(
            pairs[1],
            Pair {
                key: "B".into(),
                value: String::new()
            }
        );
        assert_eq!(faults.len(), 2);
        assert_eq!(parse(b"A=1").1.len(), 1);
        assert!(parse(b"").1.is_empty());
    }

    #[test]
    fn numbers_and_binaries() {
        assert_eq!(number("0x10"), Some(16));
        assert_eq!(number("010"), Some(10));
        assert_eq!(number("+1"), None);
        assert_eq!(number(""), None);
        assert_eq!(binary("0x0aF"), Some(vec![0x00, 0xaf]));
        assert_eq!(binary("0bTWFu"), Some(b"Man".to_vec()));
        assert_eq!(binary("0bTWE="), Some(b"Ma".to_vec()));
        assert_eq!(binary("12"), None);
        assert_eq!(to_hex(&[1, 0xab]), "0x01ab");
    }

    #[test]
    fn node_names() {
        for good in [
            "iqn.2026-01.org.example:disk-1",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
        ] {
            assert!(node_name_legal(good), "{good}");
        }
        for bad in [
            "",
            "iqn.2026-1.x",
            "iqn.2026-01.Upper",
            "iqn.2026-01.a b",
            "eui.123",
            "foo.bar",
        ] {
            assert!(!node_name_legal(bad), "{bad}");
        }
    }
}
