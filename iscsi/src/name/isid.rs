//! Initiator's part of the session identifier.

use std::fmt;

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
