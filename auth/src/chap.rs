//! CHAP as RFC 7143 §12.1.3 carries it over text keys.
//!
//! | Who sends | Keys |
//! |---|---|
//! | initiator | `CHAP_A` (algorithms in order of preference) |
//! | target | `CHAP_A` (one of them), `CHAP_I`, `CHAP_C` |
//! | initiator | `CHAP_N`, `CHAP_R`; for mutual CHAP also `CHAP_I`, `CHAP_C` |
//! | target, mutual CHAP only | `CHAP_N`, `CHAP_R` |
//!
//! [`exchange`] is the initiator's side of that table, [`algorithm`] the hash functions,
//! [`credentials`] what is configured. The functions here are the ones both sides need, so that a
//! responder can be written with them.

pub mod algorithm;
pub mod credentials;
pub mod exchange;

use subtle::ConstantTimeEq;

use crate::{ChapAlgorithm, Secret};

/// Greatest length of a challenge or response, in bytes, before encoding (RFC 7143 §12.1.3).
pub const BINARY_MAX_BYTES: usize = 1024;

/// The response to a challenge: hash of identifier, secret and challenge (RFC 1994 §4.1).
#[must_use]
pub fn respond(
    algorithm: ChapAlgorithm,
    identifier: u8,
    secret: &Secret,
    challenge: &[u8],
) -> Vec<u8> {
    algorithm.hash(identifier, secret.expose(), challenge)
}

/// Whether `response` answers the challenge with the given secret. Takes the same time whatever
/// bytes differ.
#[must_use]
pub fn verify(
    algorithm: ChapAlgorithm,
    identifier: u8,
    secret: &Secret,
    challenge: &[u8],
    response: &[u8],
) -> bool {
    respond(algorithm, identifier, secret, challenge)
        .ct_eq(response)
        .into()
}
