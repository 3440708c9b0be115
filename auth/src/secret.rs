//! CHAP secrets: wiped from memory when the last owner drops them, and never printed.
//!
//! A [`Secret`] has no `Display`, its `Debug` says only that it is one, and it compares in
//! constant time. Clones share one copy of the bytes.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::AuthError;
use crate::binary;

/// Longest secret taken, in bytes. RFC 7143 §9.2.1 asks for at least 16 (128 bits).
pub(crate) const SECRET_MAX_BYTES: usize = 256;

/// A shared secret of CHAP, 1 to 256 bytes.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes as they are.
    ///
    /// # Errors
    /// [`AuthError::InvalidSecret`] if there are none or more than 256. The bytes are wiped then,
    /// too.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, AuthError> {
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() || bytes.len() > SECRET_MAX_BYTES {
            return Err(AuthError::InvalidSecret);
        }
        Ok(Self(Arc::new(bytes)))
    }

    /// Takes a secret as people write it: `0x` or `0X` and an even number of hexadecimal digits
    /// mean bytes, everything else means itself. Nothing is trimmed; a line end read from a file
    /// is the caller's to remove. The caller also wipes `text`.
    ///
    /// # Errors
    /// [`AuthError::InvalidSecret`] if it is empty, longer than 256 bytes, or not hexadecimal
    /// after `0x`.
    pub fn from_text(text: &str) -> Result<Self, AuthError> {
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        match hex {
            // Half a byte is more likely a typing error than meant.
            Some(digits) if digits.len() % 2 != 0 => Err(AuthError::InvalidSecret),
            Some(_) => {
                let bytes = binary::decode(text, SECRET_MAX_BYTES);
                Self::from_bytes(bytes.map_err(|_| AuthError::InvalidSecret)?)
            }
            None => Self::from_bytes(text.as_bytes().to_vec()),
        }
    }

    /// A new secret of 128 random bits (RFC 7143 §9.2.1), as text to give to both sides: letters and
    /// the digits 2 to 7 only (base32 of RFC 4648), since there are targets that take a secret in
    /// `0x` form for the letters that it is written with. [`Secret::from_text`] reads it.
    ///
    /// `entropy` must be fresh from the operating system's generator; the secret is worth no more.
    #[must_use]
    pub fn generate(entropy: [u8; 16]) -> Zeroizing<String> {
        const ALPHABET: [char; 32] = [
            'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q',
            'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
        ];
        let bits = Zeroizing::new(u128::from_be_bytes(entropy));
        let digit = |at: usize| {
            let left = bits.checked_shl(u32::try_from(5 * at).unwrap_or(u32::MAX));
            let five = usize::try_from(left.unwrap_or(0) >> 123).unwrap_or(0);
            ALPHABET.get(five).copied().unwrap_or_default()
        };
        // Allocated once, so that no copy of a part is left behind.
        let mut text = Zeroizing::new(String::with_capacity(26));
        text.extend((0..26).map(digit));
        text
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Always false: a secret has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, for hashing. Only this crate needs them.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Constant time in the contents, not in the length.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_secret() {
        let secret = Secret::from_text("correct horse").unwrap();
        for shown in [format!("{secret:?}"), format!("{secret:#?}")] {
            assert_eq!(shown, "Secret(redacted)");
        }
    }

    #[test]
    fn text_means_itself_and_0x_means_hexadecimal() {
        assert_eq!(Secret::from_text("abc").unwrap().expose(), b"abc");
        assert_eq!(
            Secret::from_text("0x00ffA5").unwrap().expose(),
            [0, 255, 0xa5]
        );
        assert_eq!(Secret::from_text("0X10").unwrap().expose(), [16]);
        assert_eq!(Secret::from_text("0bAAAA").unwrap().expose(), b"0bAAAA");
        assert_eq!(Secret::from_text(" x\n").unwrap().expose(), b" x\n");
    }

    #[test]
    fn a_generated_secret_is_its_random_bits() {
        // As base32 of coreutils writes them, in small letters.
        let counted = std::array::from_fn(|at| u8::try_from(at).unwrap());
        for (entropy, text) in [
            (counted, "aaaqeayeaudaocajbifqydiob4"),
            ([0xff; 16], "77777777777777777777777774"),
        ] {
            assert_eq!(*Secret::generate(entropy), text);
        }
        // Every bit counts, and both sides read the same.
        let texts: std::collections::BTreeSet<String> = (0..128)
            .map(|bit| Secret::generate((1_u128 << bit).to_be_bytes()).to_string())
            .collect();
        assert_eq!(texts.len(), 128);
        for text in &texts {
            let secret = Secret::from_text(text).unwrap();
            assert_eq!(secret.expose(), text.as_bytes());
        }
    }

    #[test]
    fn unusable_secrets_are_refused() {
        for text in ["", "0x", "0x1", "0xzz", "0X12 "] {
            assert_eq!(
                Secret::from_text(text),
                Err(AuthError::InvalidSecret),
                "{text:?}"
            );
        }
        assert!(Secret::from_bytes(vec![7; 256]).is_ok());
        assert!(Secret::from_bytes(vec![7; 257]).is_err());
        assert!(Secret::from_text(&"a".repeat(257)).is_err());
    }

    #[test]
    fn equality_looks_at_every_byte_and_at_the_length() {
        let secret = |text| Secret::from_text(text).unwrap();
        assert_eq!(secret("abc"), secret("0x616263"));
        assert_ne!(secret("abc"), secret("abd"));
        assert_ne!(secret("abc"), secret("abcd"));
    }
}
