//! The hash functions of CHAP, by their IANA numbers (registry "PPP Authentication Algorithms").

use std::fmt;
use std::str::FromStr;

use sha3::digest::Digest;

use crate::AuthError;
use crate::error::shorten;

/// A hash function of CHAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChapAlgorithm {
    /// 5: MD5, the one algorithm that everybody has (RFC 7143 §12.1.3).
    Md5,
    /// 6: SHA-1.
    Sha1,
    /// 7: SHA-256. Not in the default offer: tgtd takes 7 and means SHA-1.
    Sha256,
    /// 8: SHA3-256.
    Sha3_256,
}

impl ChapAlgorithm {
    /// Every algorithm known, by number.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha3_256];

    /// What is offered unless configured otherwise: SHA3-256, then MD5.
    ///
    /// MD5 must always be there (RFC 7143 §12.1.3). SHA3-256 before it costs nothing, since a
    /// target without it skips it in the list. SHA-256 is left out because number 7 does not mean
    /// the same everywhere: tgtd takes it and computes SHA-1, and the login fails. SHA-1 is left
    /// out because it is hardly better than MD5 and hardly anywhere.
    pub const DEFAULT_OFFER: [Self; 2] = [Self::Sha3_256, Self::Md5];

    /// The number in `CHAP_A`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// The algorithm with this number in `CHAP_A`, if we know it.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| u64::from(algorithm.number()) == number)
    }

    /// Length of a response, in bytes.
    #[must_use]
    pub const fn response_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// Hash of identifier, secret and challenge, in this order (RFC 1994 §4.1).
    pub(crate) fn hash(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn run<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
            let mut hash = D::new();
            for part in parts {
                hash.update(part);
            }
            hash.finalize().to_vec()
        }
        let identifier = [identifier];
        let parts = [identifier.as_slice(), secret, challenge];
        match self {
            Self::Md5 => run::<md5::Md5>(parts),
            Self::Sha1 => run::<sha1::Sha1>(parts),
            Self::Sha256 => run::<sha2::Sha256>(parts),
            Self::Sha3_256 => run::<sha3::Sha3_256>(parts),
        }
    }
}

impl fmt::Display for ChapAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha3_256 => "sha3-256",
        })
    }
}

/// Reads the names that `Display` writes, in any case, and the IANA numbers.
impl FromStr for ChapAlgorithm {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, AuthError> {
        let named = |algorithm: &Self| {
            algorithm.to_string().eq_ignore_ascii_case(text)
                || algorithm.number().to_string() == text
        };
        Self::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| AuthError::UnknownAlgorithm(shorten(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::encode_hex;
    use crate::{Secret, chap};

    /// Computed with Python's hashlib: `H(b"\x7f" + b"isecret123456" + bytes(range(16)))`.
    const SHORT: [(ChapAlgorithm, &str); 4] = [
        (ChapAlgorithm::Md5, "0x938e84711bda0209e6fa47bc62f3457f"),
        (
            ChapAlgorithm::Sha1,
            "0xf5e052fe327f5cbb09d1510b7a676c7de176dc3a",
        ),
        (
            ChapAlgorithm::Sha256,
            "0x0a28e388603cc564194b8849d06aeea51db4438a59adb268bb32763ca1756de0",
        ),
        (
            ChapAlgorithm::Sha3_256,
            "0x0120c77deed614e6fc3d2929bd88e63853e056e332700d5a6190acb0b8ca0e24",
        ),
    ];

    /// The same with identifier 0, a secret of the bytes 1, 0, 255 and the longest challenge, the
    /// byte i being i modulo 251.
    const LONG: [(ChapAlgorithm, &str); 4] = [
        (ChapAlgorithm::Md5, "0x97bee7faaa09679a9ff3bd713f7d1687"),
        (
            ChapAlgorithm::Sha1,
            "0x812d8c952d24d1ff404bbcf1f1a17113c9bde8eb",
        ),
        (
            ChapAlgorithm::Sha256,
            "0xabb8c2121c84b1fd32ffa5283adce98af7e6f5c0824c90841911840cc806df95",
        ),
        (
            ChapAlgorithm::Sha3_256,
            "0x69415ab52308bd16157836556f02939236f37bb72d3d17f7474b4912b161186e",
        ),
    ];

    #[test]
    fn known_answers() {
        let secret = Secret::from_text("isecret123456").unwrap();
        let challenge: Vec<u8> = (0..16).collect();
        for (algorithm, expected) in SHORT {
            let response = chap::respond(algorithm, 0x7f, &secret, &challenge);
            assert_eq!(encode_hex(&response), expected, "{algorithm}");
            assert_eq!(response.len(), algorithm.response_bytes());
        }
    }

    #[test]
    fn known_answers_for_the_longest_challenge() {
        let secret = Secret::from_bytes(vec![1, 0, 255]).unwrap();
        let challenge: Vec<u8> = (0..1024u32).map(|i| (i % 251) as u8).collect();
        for (algorithm, expected) in LONG {
            let response = chap::respond(algorithm, 0, &secret, &challenge);
            assert_eq!(encode_hex(&response), expected, "{algorithm}");
        }
    }

    #[test]
    fn verification_refuses_every_difference() {
        let secret = Secret::from_text("isecret123456").unwrap();
        let challenge: Vec<u8> = (0..16).collect();
        for (algorithm, expected) in SHORT {
            let good = crate::binary::decode(expected, 64).unwrap();
            let check =
                |id, response: &[u8]| chap::verify(algorithm, id, &secret, &challenge, response);
            assert!(check(0x7f, &good));
            assert!(!check(0x7e, &good));
            assert!(!check(0x7f, &good[1..]));
            assert!(!check(0x7f, &[]));
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(!check(0x7f, &bad), "byte {at}");
            }
        }
    }

    #[test]
    fn names_and_numbers_are_those_of_the_registry() {
        let expected = [("md5", 5), ("sha1", 6), ("sha256", 7), ("sha3-256", 8)];
        for ((name, number), algorithm) in expected.into_iter().zip(ChapAlgorithm::ALL) {
            assert_eq!(algorithm.to_string(), name);
            assert_eq!(algorithm.number(), number);
            assert_eq!(name.to_uppercase().parse(), Ok(algorithm));
            assert_eq!(number.to_string().parse(), Ok(algorithm));
            assert_eq!(ChapAlgorithm::from_number(number.into()), Some(algorithm));
        }
        for number in [0, 4, 9, 256 + 5, u64::MAX] {
            assert_eq!(ChapAlgorithm::from_number(number), None);
        }
        assert!("md4".parse::<ChapAlgorithm>().is_err());
    }

    #[test]
    fn the_default_offer_has_md5_and_not_the_ambiguous_number_7() {
        assert!(ChapAlgorithm::DEFAULT_OFFER.contains(&ChapAlgorithm::Md5));
        assert!(!ChapAlgorithm::DEFAULT_OFFER.contains(&ChapAlgorithm::Sha256));
    }
}
