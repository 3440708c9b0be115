//! The authenticator's side of CHAP (RFC 7143 §12.1.3, RFC 1994) and the refusal of everything else.

use crate::config::{Chap, Config};
use crate::judge::{Judge, Rule};
use crate::random::Random;
use crate::text::{Pair, binary, number, to_hex};

/// Status of a login that failed to authenticate (RFC 7143 §11.13.5).
pub(crate) const AUTHENTICATION_FAILED: u16 = 0x0201;
/// Status of a login that made no sense.
pub(crate) const INITIATOR_ERROR: u16 = 0x0200;
/// Status of a login without a key that had to be there.
pub(crate) const MISSING_PARAMETER: u16 = 0x0207;

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    ExpectMethod,
    ExpectAlgorithm,
    ExpectResponse {
        algorithm: u8,
        identifier: u8,
        challenge: Vec<u8>,
    },
    Done,
}

/// The security stage of one login.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    state: State,
}

type Answers = Vec<(String, String)>;

impl Security {
    /// Whether the stage may be left: authentication is done, or none is wanted.
    pub(crate) fn complete(&self, required: bool) -> bool {
        !required || matches!(self.state, State::Done)
    }

    /// Takes the security keys of one request. `Err` is the status class and detail the login ends with.
    pub(crate) fn step(
        &mut self,
        pairs: &[Pair],
        config: &Config,
        required: bool,
        random: &mut Random,
        judge: &mut Judge,
    ) -> Result<Answers, u16> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let chap = config.chap.as_ref().filter(|_| required);
        match std::mem::take(&mut self.state) {
            State::ExpectMethod => self.choose_method(pairs, chap, judge),
            State::ExpectAlgorithm => self.challenge(pairs, chap, random, judge),
            State::ExpectResponse {
                algorithm,
                identifier,
                challenge,
            } => {
                let chap = chap.ok_or(AUTHENTICATION_FAILED)?;
                let sent = Challenge {
                    algorithm,
                    identifier,
                    bytes: challenge,
                };
                let answers = verify(pairs, chap, config, &sent, judge)?;
                self.state = State::Done;
                Ok(answers)
            }
            State::Done => {
                self.state = State::Done;
                judge.note(
                    Rule::ChapOrder,
                    "security keys after authentication is complete",
                );
                Err(INITIATOR_ERROR)
            }
        }
    }

    fn choose_method(
        &mut self,
        pairs: &[Pair],
        chap: Option<&Chap>,
        judge: &mut Judge,
    ) -> Result<Answers, u16> {
        let Some(offer) = find(pairs, "AuthMethod") else {
            judge.note(Rule::ChapOrder, "security keys before AuthMethod");
            return Err(INITIATOR_ERROR);
        };
        let wanted = if chap.is_some() { "CHAP" } else { "None" };
        if !offer.split(',').any(|method| method == wanted) {
            return Err(AUTHENTICATION_FAILED);
        }
        self.state = if chap.is_some() {
            State::ExpectAlgorithm
        } else {
            State::Done
        };
        Ok(vec![("AuthMethod".to_owned(), wanted.to_owned())])
    }

    fn challenge(
        &mut self,
        pairs: &[Pair],
        chap: Option<&Chap>,
        random: &mut Random,
        judge: &mut Judge,
    ) -> Result<Answers, u16> {
        let chap = chap.ok_or(AUTHENTICATION_FAILED)?;
        let Some(list) = find(pairs, "CHAP_A") else {
            judge.note(Rule::ChapOrder, "no CHAP_A after AuthMethod=CHAP");
            return Err(MISSING_PARAMETER);
        };
        judge.expect(pairs.len() == 1, Rule::ChapOrder, || {
            "keys besides CHAP_A".to_owned()
        });
        let mut chosen = None;
        for item in list.split(',') {
            let parsed = number(item).and_then(|value| u8::try_from(value).ok());
            judge.expect(parsed.is_some(), Rule::ChapValue, || {
                format!("CHAP_A={list}")
            });
            chosen =
                chosen.or_else(|| parsed.filter(|algorithm| chap.algorithms.contains(algorithm)));
        }
        let algorithm = chosen.ok_or(AUTHENTICATION_FAILED)?;
        let identifier = random.byte();
        let bytes: Vec<u8> = (0..chap.challenge_bytes.clamp(1, 1024))
            .map(|_| random.byte())
            .collect();
        let encoded = if chap.base64 {
            to_base64(&bytes)
        } else {
            to_hex(&bytes)
        };
        self.state = State::ExpectResponse {
            algorithm,
            identifier,
            challenge: bytes,
        };
        Ok(vec![
            ("CHAP_A".to_owned(), algorithm.to_string()),
            ("CHAP_I".to_owned(), identifier.to_string()),
            ("CHAP_C".to_owned(), encoded),
        ])
    }
}

struct Challenge {
    algorithm: u8,
    identifier: u8,
    bytes: Vec<u8>,
}

fn verify(
    pairs: &[Pair],
    chap: &Chap,
    config: &Config,
    sent: &Challenge,
    judge: &mut Judge,
) -> Result<Answers, u16> {
    let (Some(name), Some(response)) = (find(pairs, "CHAP_N"), find(pairs, "CHAP_R")) else {
        judge.note(Rule::ChapOrder, "CHAP_N and CHAP_R expected");
        return Err(MISSING_PARAMETER);
    };
    let response = binary(response);
    let size = response.as_ref().map_or(0, Vec::len);
    judge.expect(
        size == digest_bytes(sent.algorithm),
        Rule::ChapValue,
        || format!("CHAP_R of {size} bytes"),
    );
    let wanted = chap_digest(sent.algorithm, sent.identifier, &chap.secret, &sent.bytes);
    if name != chap.name || response != wanted {
        return Err(AUTHENTICATION_FAILED);
    }
    match (find(pairs, "CHAP_I"), find(pairs, "CHAP_C")) {
        (None, None) => Ok(Vec::new()),
        (Some(identifier), Some(challenge)) => {
            let (Some(identifier), Some(challenge)) = (
                number(identifier).and_then(|value| u8::try_from(value).ok()),
                binary(challenge),
            ) else {
                judge.note(Rule::ChapValue, "CHAP_I or CHAP_C malformed");
                return Err(INITIATOR_ERROR);
            };
            let sized = (1..=1024).contains(&challenge.len());
            judge.expect(sized, Rule::ChapValue, || {
                format!("CHAP_C of {} bytes", challenge.len())
            });
            if challenge == sent.bytes {
                judge.note(Rule::ChapReflected, "CHAP_C repeats the target's challenge");
                return Err(AUTHENTICATION_FAILED);
            }
            let theirs = Challenge {
                algorithm: sent.algorithm,
                identifier,
                bytes: challenge,
            };
            prove(chap, config, sent, &theirs)
        }
        _ => {
            judge.note(Rule::ChapOrder, "CHAP_I and CHAP_C belong together");
            Err(INITIATOR_ERROR)
        }
    }
}

/// The target's own proof for mutual CHAP.
fn prove(
    chap: &Chap,
    config: &Config,
    sent: &Challenge,
    theirs: &Challenge,
) -> Result<Answers, u16> {
    let (name, secret) = chap.mutual.as_ref().ok_or(AUTHENTICATION_FAILED)?;
    if config.quirks.chap_omit_response {
        return Ok(Vec::new());
    }
    let mut proof =
        chap_digest(theirs.algorithm, theirs.identifier, secret, &theirs.bytes).unwrap_or_default();
    if config.quirks.chap_reflect {
        // An attacker without the secret can only send back what the initiator itself computed for `sent`.
        proof = chap_digest(sent.algorithm, sent.identifier, &chap.secret, &sent.bytes)
            .unwrap_or_default();
    }
    if config.quirks.chap_wrong_response {
        for byte in &mut proof {
            *byte ^= 0x55;
        }
    }
    Ok(vec![
        ("CHAP_N".to_owned(), name.clone()),
        ("CHAP_R".to_owned(), to_hex(&proof)),
    ])
}

fn find<'a>(pairs: &'a [Pair], key: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|pair| pair.key == key)
        .map(|pair| pair.value.as_str())
}

fn digest_bytes(algorithm: u8) -> usize {
    match algorithm {
        5 => 16,
        6 => 20,
        _ => 32,
    }
}

/// hash(identifier ‖ secret ‖ challenge), RFC 1994 §4.1 with the algorithms of RFC 7143 §12.1.3.
pub(crate) fn chap_digest(
    algorithm: u8,
    identifier: u8,
    secret: &[u8],
    challenge: &[u8],
) -> Option<Vec<u8>> {
    fn over<D: md5::Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
        let mut hash = D::new();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().to_vec()
    }
    let parts = [&[identifier][..], secret, challenge];
    match algorithm {
        5 => Some(over::<md5::Md5>(parts)),
        6 => Some(over::<sha1::Sha1>(parts)),
        7 => Some(over::<sha2::Sha256>(parts)),
        8 => Some(over::<sha3::Sha3_256>(parts)),
        _ => None,
    }
}

fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = "0b".to_owned();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (word >> (18 - 6 * place) & 0x3f) as usize;
            let digit = DIGITS.get(index).copied().unwrap_or(b'A');
            out.push(if place <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_round_trip() {
        for bytes in [&b"M"[..], b"Ma", b"Man", b"\xff\x00\xfe\x01"] {
            assert_eq!(binary(&to_base64(bytes)).unwrap(), bytes);
        }
        assert_eq!(to_base64(b"Ma"), "0bTWE=");
    }

    #[test]
    fn md5_vector() {
        // md5 of 0x27 ‖ "secret" ‖ 0x00..0x0f, computed with coreutils' md5sum.
        let challenge: Vec<u8> = (0..16).collect();
        let digest = chap_digest(5, 0x27, b"secret", &challenge).unwrap();
        assert_eq!(to_hex(&digest), "0xe13322b3768e8f436d297533b6c30ed4");
    }
}
