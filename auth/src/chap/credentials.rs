//! What is configured for CHAP, checked once before any connection is made.

use crate::{AuthError, ChapAlgorithm, Secret};

/// Least length of a secret, in bytes, unless short secrets are accepted: 96 bits
/// (RFC 7143 §9.2.1).
pub const SECRET_MIN_BYTES: usize = 12;

/// Greatest length of a CHAP name, in bytes (RFC 7143 §6.1, simple-value).
pub const NAME_MAX_BYTES: usize = 255;

/// How we prove ourselves to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChapCredentials {
    /// Our name, sent as `CHAP_N`.
    pub name: String,
    /// The secret that the target has for this name.
    pub secret: Secret,
    /// Algorithms to offer, the preferred one first. The responses of both directions use the one
    /// the target picks.
    pub algorithms: Vec<ChapAlgorithm>,
}

impl ChapCredentials {
    /// Credentials that offer [`ChapAlgorithm::DEFAULT_OFFER`].
    #[must_use]
    pub fn new(name: impl Into<String>, secret: Secret) -> Self {
        Self {
            name: name.into(),
            secret,
            algorithms: ChapAlgorithm::DEFAULT_OFFER.to_vec(),
        }
    }

    /// The same credentials with another list of algorithms, the preferred one first. A list
    /// without MD5 is taken, although RFC 7143 §12.1.3 wants it always offered: whoever writes such
    /// a list rather fails than uses MD5.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: Vec<ChapAlgorithm>) -> Self {
        self.algorithms = algorithms;
        self
    }
}

/// How the target must prove itself to us (mutual CHAP).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutualCredentials {
    /// The name that the target must send as `CHAP_N`; with `None` any name will do, since the
    /// secret is the proof.
    pub name: Option<String>,
    /// The secret that the target must know. Never the one we prove ourselves with.
    pub secret: Secret,
}

/// A complete and checked CHAP configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chap {
    initiator: ChapCredentials,
    target: Option<MutualCredentials>,
}

impl Chap {
    /// Checks a configuration: with `target`, the target must prove itself as well.
    ///
    /// # Errors
    /// [`AuthError::InvalidName`], [`AuthError::InvalidAlgorithmList`],
    /// [`AuthError::SecretTooShort`] (below 12 bytes), [`AuthError::EqualSecrets`].
    pub fn new(
        initiator: ChapCredentials,
        target: Option<MutualCredentials>,
    ) -> Result<Self, AuthError> {
        let secrets = [
            Some(&initiator.secret),
            target.as_ref().map(|mutual| &mutual.secret),
        ];
        for secret in secrets.into_iter().flatten() {
            if secret.len() < SECRET_MIN_BYTES {
                return Err(AuthError::SecretTooShort {
                    bytes: secret.len(),
                    min: SECRET_MIN_BYTES,
                });
            }
        }
        Self::with_short_secrets(initiator, target)
    }

    /// As [`Chap::new`], but takes secrets of any length. For old targets on networks that are
    /// protected otherwise: whoever can record one login can search for a short secret off line.
    ///
    /// # Errors
    /// [`AuthError::InvalidName`], [`AuthError::InvalidAlgorithmList`],
    /// [`AuthError::EqualSecrets`].
    pub fn with_short_secrets(
        initiator: ChapCredentials,
        target: Option<MutualCredentials>,
    ) -> Result<Self, AuthError> {
        check_name(&initiator.name)?;
        check_algorithms(&initiator.algorithms)?;
        if let Some(mutual) = &target {
            if let Some(name) = &mutual.name {
                check_name(name)?;
            }
            if mutual.secret == initiator.secret {
                return Err(AuthError::EqualSecrets);
            }
        }
        Ok(Self { initiator, target })
    }

    /// How we prove ourselves.
    #[must_use]
    pub fn initiator(&self) -> &ChapCredentials {
        &self.initiator
    }

    /// How the target must prove itself, if it must.
    #[must_use]
    pub fn target(&self) -> Option<&MutualCredentials> {
        self.target.as_ref()
    }

    /// The same configuration offering MD5 alone, for old targets that compare `CHAP_A` with "5"
    /// instead of reading a list.
    ///
    /// `None` if the configuration does not offer MD5 (then it is not wanted) or offers nothing
    /// else (then there is nothing to fall back from). Since MD5 was on offer already, no answer of
    /// a target can lower the protection by this.
    #[must_use]
    pub fn md5_only(&self) -> Option<Self> {
        let offer = &self.initiator.algorithms;
        (offer.len() > 1 && offer.contains(&ChapAlgorithm::Md5)).then(|| {
            let initiator = self
                .initiator
                .clone()
                .with_algorithms(vec![ChapAlgorithm::Md5]);
            Self {
                initiator,
                target: self.target.clone(),
            }
        })
    }
}

fn check_name(name: &str) -> Result<(), AuthError> {
    let length_is_good = (1..=NAME_MAX_BYTES).contains(&name.len());
    if length_is_good && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(AuthError::InvalidName)
    }
}

fn check_algorithms(offer: &[ChapAlgorithm]) -> Result<(), AuthError> {
    let count = |wanted| {
        offer
            .iter()
            .filter(|algorithm| **algorithm == wanted)
            .count()
    };
    if offer.is_empty()
        || ChapAlgorithm::ALL
            .into_iter()
            .any(|algorithm| count(algorithm) > 1)
    {
        return Err(AuthError::InvalidAlgorithmList);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from_text(text).unwrap()
    }

    fn ours() -> ChapCredentials {
        ChapCredentials::new("iuser", secret("isecret123456"))
    }

    #[test]
    fn equal_secrets_in_both_directions_are_refused() {
        let mutual = |text| MutualCredentials {
            name: None,
            secret: secret(text),
        };
        let hex_of_ours = "0x69736563726574313233343536";
        for same in ["isecret123456", hex_of_ours] {
            assert_eq!(
                Chap::new(ours(), Some(mutual(same))),
                Err(AuthError::EqualSecrets)
            );
        }
        assert!(Chap::new(ours(), Some(mutual("isecret123457"))).is_ok());
    }

    #[test]
    fn short_secrets_need_consent() {
        let short = || ChapCredentials::new("iuser", secret("elevenbytes"));
        let error = AuthError::SecretTooShort { bytes: 11, min: 12 };
        assert_eq!(Chap::new(short(), None), Err(error.clone()));
        assert!(Chap::with_short_secrets(short(), None).is_ok());
        let mutual = MutualCredentials {
            name: None,
            secret: secret("elevenbytes"),
        };
        assert_eq!(Chap::new(ours(), Some(mutual)), Err(error));
        assert!(Chap::new(ChapCredentials::new("iuser", secret("twelve bytes")), None).is_ok());
    }

    #[test]
    fn names_that_cannot_be_a_text_value_are_refused() {
        for name in ["", "a\0b", "a\nb", "\u{7f}"] {
            let bad = ChapCredentials {
                name: name.into(),
                ..ours()
            };
            assert_eq!(
                Chap::new(bad, None),
                Err(AuthError::InvalidName),
                "{name:?}"
            );
            let mutual = MutualCredentials {
                name: Some(name.into()),
                secret: secret("tsecret123456"),
            };
            assert_eq!(
                Chap::new(ours(), Some(mutual)),
                Err(AuthError::InvalidName),
                "{name:?}"
            );
        }
        let long = |n| ChapCredentials {
            name: "n".repeat(n),
            ..ours()
        };
        assert!(Chap::new(long(255), None).is_ok());
        assert!(Chap::new(long(256), None).is_err());
    }

    #[test]
    fn algorithm_lists_are_checked() {
        let offer = |list: &[ChapAlgorithm]| Chap::new(ours().with_algorithms(list.to_vec()), None);
        assert_eq!(offer(&[]), Err(AuthError::InvalidAlgorithmList));
        let twice = [ChapAlgorithm::Md5, ChapAlgorithm::Sha1, ChapAlgorithm::Md5];
        assert_eq!(offer(&twice), Err(AuthError::InvalidAlgorithmList));
        assert!(offer(&[ChapAlgorithm::Sha256]).is_ok());
    }

    #[test]
    fn falling_back_to_md5_only_where_it_was_on_offer() {
        let offer = |list: &[ChapAlgorithm]| {
            let chap = Chap::new(ours().with_algorithms(list.to_vec()), None).unwrap();
            chap.md5_only()
                .map(|chap| chap.initiator().algorithms.clone())
        };
        let md5 = ChapAlgorithm::Md5;
        assert_eq!(offer(&ChapAlgorithm::DEFAULT_OFFER), Some(vec![md5]));
        assert_eq!(offer(&[md5]), None);
        assert_eq!(
            offer(&[ChapAlgorithm::Sha3_256, ChapAlgorithm::Sha256]),
            None
        );
    }

    #[test]
    fn debug_of_a_configuration_never_shows_a_secret() {
        let mutual = MutualCredentials {
            name: Some("tuser".into()),
            secret: secret("tsecret123456"),
        };
        let shown = format!("{:#?}", Chap::new(ours(), Some(mutual)).unwrap());
        assert!(shown.contains("iuser") && shown.contains("tuser"));
        for part in ["isecret", "tsecret", "105", "0x69"] {
            assert!(!shown.contains(part), "{shown}");
        }
    }
}
