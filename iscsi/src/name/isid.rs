//! Initiator's part of the session identifier.

use std::fmt;
use std::str::FromStr;

/// Initiator's part of the session identifier (RFC 7143 §11.12.5).
///
/// Together with the initiator's name it is the initiator port; one that is used again towards
/// the same portal group reinstates the old session there (§10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isid(pub [u8; 6]);

/// Type bits T of the first byte.
const ENTERPRISE: u8 = 0x40;
const RANDOM: u8 = 0x80;

impl Isid {
    /// Of type "random": 24 random bits (the upper byte of `entropy` is not used) and a
    /// qualifier that tells the ports of one initiator apart.
    #[must_use]
    pub const fn random(entropy: u32, qualifier: u16) -> Self {
        Self::assemble(RANDOM, entropy, qualifier)
    }

    /// Of type "IANA enterprise number" (24 bits of it; the upper byte is not used).
    #[must_use]
    pub const fn enterprise(number: u32, qualifier: u16) -> Self {
        Self::assemble(ENTERPRISE, number, qualifier)
    }

    const fn assemble(kind: u8, number: u32, qualifier: u16) -> Self {
        let [_, b, c0, c1] = number.to_be_bytes();
        let [d0, d1] = qualifier.to_be_bytes();
        Self([kind, b, c0, c1, d0, d1])
    }

    /// The last 16 bits: field D, the qualifier of the types made here.
    #[must_use]
    pub const fn qualifier(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The same with another qualifier.
    #[must_use]
    pub const fn with_qualifier(self, qualifier: u16) -> Self {
        let [t, b, c0, c1, _, _] = self.0;
        let [d0, d1] = qualifier.to_be_bytes();
        Self([t, b, c0, c1, d0, d1])
    }
}

impl fmt::Display for Isid {
    /// Twelve hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not twelve hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an ISID has twelve hexadecimal digits")]
pub struct IsidError;

impl FromStr for Isid {
    type Err = IsidError;

    /// What [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, IsidError> {
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(IsidError);
        }
        let bits = u64::from_str_radix(text, 16).map_err(|_| IsidError)?;
        let [_, _, isid @ ..] = bits.to_be_bytes();
        Ok(Self(isid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let isid = Isid([0x80, 0x12, 0x34, 0xab, 0x00, 0x0f]);
        assert_eq!(isid.to_string(), "801234ab000f");
        assert_eq!("801234AB000f".parse(), Ok(isid));
        for bad in [
            "",
            "801234ab00",
            "801234ab000f0",
            "801234ab00+f",
            "801234ab00é",
        ] {
            assert_eq!(bad.parse::<Isid>(), Err(IsidError), "{bad}");
        }
    }
}
