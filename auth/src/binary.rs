//! Binary values in text keys: hex-constants and base64-constants (RFC 7143 §6.1).
//!
//! Decoding is bounded: the caller names the greatest length in bytes and nothing longer is ever
//! allocated. Decimal constants are not taken, because they carry no length and so cannot encode
//! a binary string whose length the key does not fix.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// Why a text is not the binary value wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// Neither `0x`, `0X`, `0b` nor `0B` comes first.
    #[error("a binary value starts with 0x or 0b")]
    NoPrefix,
    /// Nothing follows the prefix.
    #[error("nothing follows the prefix")]
    Empty,
    /// A character that is not a hexadecimal digit, or text that is not RFC 4648 base64 with its
    /// padding.
    #[error("the digits are malformed")]
    Malformed,
    /// The value is longer than allowed.
    #[error("the value has more than {max_bytes} bytes")]
    TooLong {
        /// Greatest length allowed, in bytes.
        max_bytes: usize,
    },
}

/// Decodes a hex-constant or base64-constant of at most `max_bytes` bytes.
///
/// An odd number of hexadecimal digits is legal: n digits make (n + 1) / 2 bytes, the first of
/// which then has a high half of zero (RFC 7143 §6.1).
///
/// # Errors
/// [`BinaryError`] says what is wrong. A value that is both malformed and too long may be reported
/// as either.
pub fn decode(text: &str, max_bytes: usize) -> Result<Vec<u8>, BinaryError> {
    if let Some(digits) = strip(text, "0x", "0X") {
        decode_hex(digits.as_bytes(), max_bytes)
    } else if let Some(digits) = strip(text, "0b", "0B") {
        decode_base64(digits, max_bytes)
    } else {
        Err(BinaryError::NoPrefix)
    }
}

/// Encodes as a hex-constant: `0x` and two lower-case digits per byte.
#[must_use]
pub fn encode_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2).saturating_add(2));
    text.push_str("0x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Encodes as a base64-constant: `0b` and RFC 4648 base64 with padding.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::from("0b");
    STANDARD.encode_string(bytes, &mut text);
    text
}

fn strip<'a>(text: &'a str, lower: &str, upper: &str) -> Option<&'a str> {
    text.strip_prefix(lower)
        .or_else(|| text.strip_prefix(upper))
}

fn decode_hex(digits: &[u8], max_bytes: usize) -> Result<Vec<u8>, BinaryError> {
    if digits.is_empty() {
        return Err(BinaryError::Empty);
    }
    let count = digits.len().div_ceil(2);
    if count > max_bytes {
        return Err(BinaryError::TooLong { max_bytes });
    }
    let mut bytes = Vec::with_capacity(count);
    let (lone, pairs) = digits.split_at(digits.len() % 2);
    for digit in lone {
        bytes.push(nibble(*digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        if let [high, low] = pair {
            bytes.push(nibble(*high)? << 4 | nibble(*low)?);
        }
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, BinaryError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BinaryError::Malformed),
    }
}

fn decode_base64(digits: &str, max_bytes: usize) -> Result<Vec<u8>, BinaryError> {
    if digits.is_empty() {
        return Err(BinaryError::Empty);
    }
    // Every complete value has four characters per three bytes, so this bounds the allocation.
    if digits.len() > max_bytes.div_ceil(3).saturating_mul(4) {
        return Err(BinaryError::TooLong { max_bytes });
    }
    let bytes = STANDARD
        .decode(digits)
        .map_err(|_| BinaryError::Malformed)?;
    if bytes.len() > max_bytes {
        return Err(BinaryError::TooLong { max_bytes });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hexadecimal_in_either_case_and_with_odd_digits() {
        assert_eq!(decode("0x00fF", 8), Ok(vec![0x00, 0xff]));
        assert_eq!(decode("0XaBc", 8), Ok(vec![0x0a, 0xbc]));
        assert_eq!(decode("0x7", 8), Ok(vec![0x07]));
        // Leading zeroes count: the length is part of the value.
        assert_eq!(decode("0x0001", 8), Ok(vec![0, 1]));
    }

    /// Vectors of RFC 4648 §10.
    #[test]
    fn base64_with_the_vectors_of_its_standard() {
        assert_eq!(decode("0bZg==", 8), Ok(b"f".to_vec()));
        assert_eq!(decode("0BZm8=", 8), Ok(b"fo".to_vec()));
        assert_eq!(decode("0bZm9v", 8), Ok(b"foo".to_vec()));
        assert_eq!(decode("0bZm9vYmFy", 8), Ok(b"foobar".to_vec()));
        assert_eq!(encode_base64(b"fooba"), "0bZm9vYmE=");
    }

    #[test]
    fn encodes_lower_case() {
        assert_eq!(encode_hex(&[0x00, 0xab, 0xcd]), "0x00abcd");
    }

    #[test]
    fn refuses_what_is_not_a_binary_value() {
        let cases = [
            ("", BinaryError::NoPrefix),
            ("1234", BinaryError::NoPrefix),
            ("x12", BinaryError::NoPrefix),
            ("0x", BinaryError::Empty),
            ("0b", BinaryError::Empty),
            ("0x1g", BinaryError::Malformed),
            ("0x+1", BinaryError::Malformed),
            ("0x 12", BinaryError::Malformed),
            ("0xé1", BinaryError::Malformed),
            ("0bZg", BinaryError::Malformed),
            ("0bZg=", BinaryError::Malformed),
            ("0b!!!!", BinaryError::Malformed),
            ("0bZh==", BinaryError::Malformed),
        ];
        for (text, error) in cases {
            assert_eq!(decode(text, 8), Err(error), "{text:?}");
        }
    }

    #[test]
    fn length_is_bounded_at_the_byte() {
        let too_long = Err(BinaryError::TooLong { max_bytes: 4 });
        assert!(decode("0x01020304", 4).is_ok());
        assert_eq!(decode("0x0102030405", 4), too_long);
        assert_eq!(decode("0x102030405", 4), too_long);
        assert!(decode("0bAAAAAA==", 4).is_ok());
        assert_eq!(decode("0bAAAAAAA=", 4), too_long);
        assert_eq!(decode("0bAAAAAAAAAAAA", 4), too_long);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes in prop::collection::vec(any::<u8>(), 1..1025)) {
            prop_assert_eq!(decode(&encode_hex(&bytes), 1024), Ok(bytes.clone()));
            prop_assert_eq!(decode(&encode_hex(&bytes).to_uppercase(), 1024), Ok(bytes.clone()));
            prop_assert_eq!(decode(&encode_base64(&bytes), 1024), Ok(bytes));
        }

        #[test]
        fn any_text_is_judged_without_exceeding_the_bound(
            text in "(0[xXbB])?[0-9a-zA-Z+/=é ]{0,40}", max in 0usize..32,
        ) {
            if let Ok(bytes) = decode(&text, max) {
                prop_assert!(!bytes.is_empty() && bytes.len() <= max);
            }
        }
    }
}
