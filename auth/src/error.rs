//! What can go wrong, by whose fault: our configuration, the target, or the calling code.

use thiserror::Error;

use crate::binary::BinaryError;

/// Why an authentication was refused, by us. A refusal by the target is a login status and is not
/// seen here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A configured CHAP name is empty, longer than 255 bytes or contains control characters.
    #[error("a CHAP name must have 1 to 255 bytes and no control characters")]
    InvalidName,
    /// A configured secret is not usable: empty, too long, or `0x` followed by bad hexadecimal.
    #[error("a CHAP secret must have 1 to {max} bytes, as text or as hexadecimal digits after 0x", max = crate::secret::SECRET_MAX_BYTES)]
    InvalidSecret,
    /// A configured secret has less than the 96 bits that RFC 7143 §9.2.1 asks for where nothing
    /// else (IPsec) protects the connection.
    #[error(
        "a CHAP secret of {bytes} bytes is too short: {min} bytes are required unless short secrets are explicitly accepted"
    )]
    SecretTooShort {
        /// Length of the configured secret, in bytes.
        bytes: usize,
        /// Least length, in bytes.
        min: usize,
    },
    /// One secret is configured for both directions, which lets anybody reflect it
    /// (RFC 7143 §9.2.1).
    #[error("the CHAP secrets of initiator and target must differ")]
    EqualSecrets,
    /// The list of CHAP algorithms to offer is empty or names one algorithm twice.
    #[error("the list of CHAP algorithms must name at least one, each once")]
    InvalidAlgorithmList,
    /// An algorithm was named that CHAP does not have or we do not know.
    #[error("{0:?} is not a CHAP algorithm: use md5, sha1, sha256 or sha3-256")]
    UnknownAlgorithm(String),

    /// The target did not select the authentication method that is configured.
    #[error("the target answered AuthMethod={answer:?} where only {required} is acceptable")]
    MethodRefused {
        /// What is configured, hence required.
        required: crate::Method,
        /// What the target answered, shortened.
        answer: String,
    },
    /// The target's answer lacks a key that this step of CHAP must have (RFC 7143 §12.1.3).
    #[error("the target's answer lacks {0}")]
    MissingKey(&'static str),
    /// The target sent a key that has no place in this step.
    #[error("the target sent {0:?}, which has no place in this step of CHAP")]
    UnexpectedKey(String),
    /// The target sent one key twice.
    #[error("the target sent {0} twice")]
    DuplicateKey(&'static str),
    /// A number (`CHAP_A`, `CHAP_I`) is malformed or out of range.
    #[error("the target sent {key}={value:?}, which is not a number in range")]
    InvalidNumber {
        /// The key.
        key: &'static str,
        /// Its value, shortened.
        value: String,
    },
    /// A binary value (`CHAP_C`, `CHAP_R`) is malformed or too long.
    #[error("the target's {key} is malformed")]
    InvalidBinary {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        source: BinaryError,
    },
    /// The target chose an algorithm that we did not offer.
    #[error("the target chose CHAP algorithm {0}, which was not offered")]
    AlgorithmNotOffered(u64),
    /// The target sent our own challenge or our own response back to us.
    #[error("the target reflected our own {0}")]
    Reflected(&'static str),
    /// The target proved another name than the configured one.
    #[error("the target authenticated as {found:?}, not as {expected:?}")]
    WrongName {
        /// The configured name.
        expected: String,
        /// The name in the target's `CHAP_N`, shortened.
        found: String,
    },
    /// The target proved that it knows *our* secret instead of its own, so one secret serves both
    /// directions (RFC 7143 §9.2.1 demands that this fails).
    #[error("the target answered with the initiator's secret")]
    SharedSecret,
    /// The target's response is wrong: it does not know its secret.
    #[error("the target's response to our challenge is wrong")]
    WrongResponse,
    /// The target wants to leave the security stage before it was authenticated, or before it
    /// authenticated us.
    #[error("the target ended the authentication before it was complete")]
    Incomplete,

    /// The caller used an exchange that has already ended with an error.
    #[error("this authentication has already failed")]
    AlreadyFailed,
}

/// A peer's text for an error message: no longer than a line, so nothing a target sends can flood
/// a log. Escaping is done by the `{:?}` of the messages above.
pub(crate) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
