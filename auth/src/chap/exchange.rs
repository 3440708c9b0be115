//! The initiator's side of a CHAP exchange (RFC 7143 §12.1.3) as a state machine over text keys.
//!
//! Invariants:
//!
//! * Nothing computed from our secret leaves before the target's challenge was checked to be
//!   neither empty, nor too long, nor ours.
//! * With mutual CHAP configured the exchange is complete only after the target's response was
//!   verified; without it, only after our response was handed out.
//! * After an error the exchange stays failed.
//!
//! Whether the target accepts our response is a login status, not a key, so the login sees that.

use std::fmt;

use subtle::ConstantTimeEq;

use super::{BINARY_MAX_BYTES, respond, verify};
use crate::binary;
use crate::error::shorten;
use crate::{AuthError, Chap, ChapAlgorithm};

/// A text key to send: name and value.
pub type ChapKey = (&'static str, String);

/// Entropy that an exchange takes, in bytes: the first is the identifier of our challenge, the
/// rest the challenge itself. From the operating system's generator, fresh for every exchange.
pub const ENTROPY_BYTES: usize = 33;

const CHAP_A: &str = "CHAP_A";
const CHAP_C: &str = "CHAP_C";
const CHAP_I: &str = "CHAP_I";
const CHAP_N: &str = "CHAP_N";
const CHAP_R: &str = "CHAP_R";
const KEYS: [&str; 5] = [CHAP_A, CHAP_C, CHAP_I, CHAP_N, CHAP_R];

/// One CHAP exchange on one connection, seen from the initiator.
pub struct ChapExchange {
    chap: Chap,
    /// Ours, sent with mutual CHAP only.
    challenge: Challenge,
    chosen: Option<ChapAlgorithm>,
    /// The target did not understand our list of algorithms.
    offer_refused: bool,
    state: State,
}

struct Challenge {
    identifier: u8,
    bytes: Vec<u8>,
}

enum State {
    /// `CHAP_A` was sent; the target's choice and challenge are due.
    AwaitChallenge,
    /// Everything of ours was sent; the target's proof is due.
    AwaitProof {
        algorithm: ChapAlgorithm,
        our_response: Vec<u8>,
    },
    /// Nothing more is due.
    Complete,
    Failed,
}

impl ChapExchange {
    /// Starts an exchange, after `AuthMethod=CHAP` was agreed. Gives the keys to send first.
    ///
    /// `entropy` must be fresh from the operating system's generator: with mutual CHAP a
    /// predictable challenge lets a recorded answer pass.
    #[must_use]
    pub fn start(chap: &Chap, entropy: [u8; ENTROPY_BYTES]) -> (Self, Vec<ChapKey>) {
        let [identifier, bytes @ ..] = entropy;
        let numbers = chap
            .initiator()
            .algorithms
            .iter()
            .map(|a| a.number().to_string());
        let offer = numbers.collect::<Vec<_>>().join(",");
        let exchange = Self {
            chap: chap.clone(),
            challenge: Challenge {
                identifier,
                bytes: bytes.to_vec(),
            },
            chosen: None,
            offer_refused: false,
            state: State::AwaitChallenge,
        };
        (exchange, vec![(CHAP_A, offer)])
    }

    /// Takes the authentication keys of one answer of the target (after C-bit reassembly) and gives
    /// the keys to send next; none if the exchange needs nothing more from us.
    ///
    /// Keys that are not CHAP's (`TargetPortalGroupTag` and the like) are the login's; here they
    /// are errors.
    ///
    /// # Errors
    /// Every [`AuthError`] of the target's making. The connection must be closed then
    /// (RFC 7143 §12.1.3).
    pub fn step<'a>(
        &mut self,
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<ChapKey>, AuthError> {
        // Failed until proven otherwise, so that no early return leaves a usable state behind.
        let state = std::mem::replace(&mut self.state, State::Failed);
        let answer = Answer::collect(keys)?;
        match state {
            State::AwaitChallenge => self.answer_challenge(&answer),
            State::AwaitProof {
                algorithm,
                our_response,
            } => {
                self.check_proof(&answer, algorithm, &our_response)?;
                self.state = State::Complete;
                Ok(Vec::new())
            }
            State::Complete => {
                answer.only([])?;
                self.state = State::Complete;
                Ok(Vec::new())
            }
            State::Failed => Err(AuthError::AlreadyFailed),
        }
    }

    /// Whether all our keys were handed out, so that the request carrying the last of them may ask
    /// to leave the security stage (T bit).
    #[must_use]
    pub fn wants_transit(&self) -> bool {
        matches!(self.state, State::AwaitProof { .. } | State::Complete)
    }

    /// Asks for permission to leave the security stage. A login must ask, whatever the target says
    /// in the T bit: this is where a target that skips its own part is caught.
    ///
    /// # Errors
    /// [`AuthError::Incomplete`] if something is still due, [`AuthError::AlreadyFailed`] after an
    /// error.
    pub fn finish(&self) -> Result<(), AuthError> {
        match self.state {
            State::Complete => Ok(()),
            State::AwaitChallenge | State::AwaitProof { .. } => Err(AuthError::Incomplete),
            State::Failed => Err(AuthError::AlreadyFailed),
        }
    }

    /// The algorithm that the target chose, once it has.
    #[must_use]
    pub fn chosen(&self) -> Option<ChapAlgorithm> {
        self.chosen
    }

    /// After the target refused the login: the configuration with which one more try on a new
    /// connection can succeed, if any.
    ///
    /// Two kinds of targets need it: those that compare `CHAP_A` with "5" instead of reading a
    /// list, and those that take number 7 but do not mean SHA-256. Hence there is one if the
    /// target chose nothing or something other than MD5, and MD5 was on offer
    /// ([`Chap::md5_only`]). There is none after *we* refused the target, except for an unusable
    /// `CHAP_A`.
    #[must_use]
    pub fn fallback(&self) -> Option<Chap> {
        let target_refused = match self.state {
            State::AwaitChallenge | State::AwaitProof { .. } => true,
            // One-way CHAP is complete when our response is out; the refusal comes after it.
            State::Complete => self.chap.target().is_none(),
            State::Failed => self.offer_refused,
        };
        if target_refused && self.chosen != Some(ChapAlgorithm::Md5) {
            self.chap.md5_only()
        } else {
            None
        }
    }

    fn answer_challenge(&mut self, answer: &Answer<'_>) -> Result<Vec<ChapKey>, AuthError> {
        answer.only([CHAP_A, CHAP_C, CHAP_I])?;
        let algorithm = self.choose(answer.require(CHAP_A)?)?;
        let theirs = Challenge {
            identifier: parse_identifier(answer.require(CHAP_I)?)?,
            bytes: parse_binary(CHAP_C, answer.require(CHAP_C)?)?,
        };
        // Ours is not sent yet, so a target on this connection cannot know it; one that does has
        // it from a generator that is broken or seen through.
        if self.chap.target().is_some() && same(&theirs.bytes, &self.challenge.bytes) {
            return Err(AuthError::Reflected("challenge"));
        }

        let ours = self.chap.initiator();
        let response = respond(algorithm, theirs.identifier, &ours.secret, &theirs.bytes);
        let mut keys = vec![
            (CHAP_N, ours.name.clone()),
            (CHAP_R, binary::encode_hex(&response)),
        ];
        if self.chap.target().is_some() {
            keys.push((CHAP_I, self.challenge.identifier.to_string()));
            keys.push((CHAP_C, binary::encode_hex(&self.challenge.bytes)));
            self.state = State::AwaitProof {
                algorithm,
                our_response: response,
            };
        } else {
            self.state = State::Complete;
        }
        Ok(keys)
    }

    fn choose(&mut self, value: &str) -> Result<ChapAlgorithm, AuthError> {
        self.offer_refused = true;
        let number = parse_number(CHAP_A, value, u64::MAX)?;
        let algorithm = ChapAlgorithm::from_number(number)
            .filter(|algorithm| self.chap.initiator().algorithms.contains(algorithm))
            .ok_or(AuthError::AlgorithmNotOffered(number))?;
        self.offer_refused = false;
        self.chosen = Some(algorithm);
        Ok(algorithm)
    }

    fn check_proof(
        &self,
        answer: &Answer<'_>,
        algorithm: ChapAlgorithm,
        our_response: &[u8],
    ) -> Result<(), AuthError> {
        answer.only([CHAP_N, CHAP_R])?;
        let name = answer.require(CHAP_N)?;
        let response = parse_binary(CHAP_R, answer.require(CHAP_R)?)?;
        // The state is entered with mutual CHAP configured only.
        let expected = self.chap.target().ok_or(AuthError::Incomplete)?;
        if same(&response, our_response) {
            return Err(AuthError::Reflected("response"));
        }
        let Challenge { identifier, bytes } = &self.challenge;
        // RFC 7143 §9.2.1: an answer that we could have given ourselves proves nothing.
        if verify(
            algorithm,
            *identifier,
            &self.chap.initiator().secret,
            bytes,
            &response,
        ) {
            return Err(AuthError::SharedSecret);
        }
        if !verify(algorithm, *identifier, &expected.secret, bytes, &response) {
            return Err(AuthError::WrongResponse);
        }
        match &expected.name {
            Some(expected) if expected != name => Err(AuthError::WrongName {
                expected: expected.clone(),
                found: shorten(name),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Shows where the exchange stands; challenges and responses are left out, because with a recorded
/// response a secret can be searched for.
impl fmt::Debug for ChapExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::AwaitChallenge => "AwaitChallenge",
            State::AwaitProof { .. } => "AwaitProof",
            State::Complete => "Complete",
            State::Failed => "Failed",
        };
        f.debug_struct("ChapExchange")
            .field("name", &self.chap.initiator().name)
            .field("chosen", &self.chosen)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// The CHAP keys of one answer, each at most once.
struct Answer<'a> {
    found: Vec<(&'static str, &'a str)>,
}

impl<'a> Answer<'a> {
    fn collect(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, AuthError> {
        let mut found: Vec<(&'static str, &'a str)> = Vec::with_capacity(KEYS.len());
        for (name, value) in keys {
            let key = KEYS
                .into_iter()
                .find(|key| *key == name)
                .ok_or_else(|| AuthError::UnexpectedKey(shorten(name)))?;
            if found.iter().any(|(seen, _)| *seen == key) {
                return Err(AuthError::DuplicateKey(key));
            }
            found.push((key, value));
        }
        Ok(Self { found })
    }

    /// Fails if there are keys other than these.
    fn only<const N: usize>(&self, allowed: [&str; N]) -> Result<(), AuthError> {
        match self.found.iter().find(|(key, _)| !allowed.contains(key)) {
            Some((key, _)) => Err(AuthError::UnexpectedKey((*key).to_owned())),
            None => Ok(()),
        }
    }

    fn require(&self, wanted: &'static str) -> Result<&'a str, AuthError> {
        let found = self.found.iter().find(|(key, _)| *key == wanted);
        found
            .map(|(_, value)| *value)
            .ok_or(AuthError::MissingKey(wanted))
    }
}

fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// A challenge or response; never empty, because a binary value has at least one digit.
fn parse_binary(key: &'static str, value: &str) -> Result<Vec<u8>, AuthError> {
    binary::decode(value, BINARY_MAX_BYTES)
        .map_err(|source| AuthError::InvalidBinary { key, source })
}

fn parse_identifier(value: &str) -> Result<u8, AuthError> {
    let number = parse_number(CHAP_I, value, u64::from(u8::MAX))?;
    u8::try_from(number).map_err(|_| invalid_number(CHAP_I, value))
}

/// A numerical-value: a decimal or hexadecimal constant (RFC 7143 §6.1).
fn parse_number(key: &'static str, value: &str, max: u64) -> Result<u64, AuthError> {
    let hex = value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |digits| (digits, 16));
    // `from_str_radix` would take a sign, which no constant of RFC 7143 has.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(invalid_number(key, value));
    }
    u64::from_str_radix(digits, radix)
        .ok()
        .filter(|number| *number <= max)
        .ok_or_else(|| invalid_number(key, value))
}

fn invalid_number(key: &'static str, value: &str) -> AuthError {
    AuthError::InvalidNumber {
        key,
        value: shorten(value),
    }
}

#[cfg(test)]
mod tests;
