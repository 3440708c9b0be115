//! Negotiation in full feature phase (RFC 7143 §6.4, §7.12).
//!
//! Only keys of use ALL may change after the login (RFC 7143 §13): our MaxRecvDataSegmentLength
//! and alias are declared, the target may declare its own. Everything takes effect together, at
//! the end, or not at all. Keys that belong to login and come from a target are refused.

use std::collections::{BTreeMap, BTreeSet};

use super::codec::Pair;
use super::keys::{Key, Kind, Senders, Use};
use super::negotiate::{IRRELEVANT, NOT_UNDERSTOOD, NegotiationError, REJECT, is_reserved};
use super::value::Value;

/// One negotiation sequence.
#[derive(Debug)]
pub struct Renegotiation {
    declared: BTreeMap<Key, String>,
    answered: BTreeMap<Key, String>,
    unknown: BTreeSet<String>,
    max_send_bytes: Option<u32>,
}

/// What a finished sequence changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renegotiated {
    /// Our MaxRecvDataSegmentLength in bytes, when we declared it.
    pub max_recv_bytes: Option<u32>,
    /// The target's MaxRecvDataSegmentLength in bytes, when it declared it.
    pub max_send_bytes: Option<u32>,
    /// The target's alias, when it declared it.
    pub target_alias: Option<String>,
}

impl Renegotiation {
    /// A sequence that declares `pairs`; keys that may not be declared now are left out.
    #[must_use]
    pub fn new(pairs: &[(Key, String)]) -> Self {
        let may =
            |key: &Key| key.spec().usage == Use::Always && key.spec().senders != Senders::Target;
        Self {
            declared: pairs.iter().filter(|(key, _)| may(key)).cloned().collect(),
            answered: BTreeMap::new(),
            unknown: BTreeSet::new(),
            max_send_bytes: None,
        }
    }

    /// What to send first.
    #[must_use]
    pub fn opening(&self) -> Vec<Pair> {
        self.declared
            .iter()
            .map(|(key, value)| Pair::new(key.name(), value.clone()))
            .collect()
    }

    /// Takes a pair that the target sent, and returns the answer it needs, if any.
    ///
    /// # Errors
    /// The negotiation has failed: everything stays as it was.
    pub fn receive(&mut self, pair: &Pair) -> Result<Option<Pair>, NegotiationError> {
        let Some(key) = Key::find(&pair.key) else {
            return self.unknown(pair).map(Some);
        };
        // RFC 7143 §6.4 names TargetAddress as the key that may be repeated.
        if key == Key::TargetAddress {
            return Ok(None);
        }
        if self.answered.insert(key, pair.value.clone()).is_some() {
            let key = key.name().to_owned();
            return Err(NegotiationError::Repeated { key });
        }
        if is_reserved(&pair.value) {
            return self.refused(key, &pair.value).map(|()| None);
        }
        let spec = key.spec();
        if spec.senders == Senders::Initiator {
            let value = pair.value.clone();
            return Err(NegotiationError::NotForTarget { key, value });
        }
        match (spec.usage, spec.kind) {
            (Use::Always, Kind::DeclaredNumber { .. }) => {
                match Value::parse(spec.kind, &pair.value) {
                    Ok(Value::Number(bytes)) => {
                        self.max_send_bytes = Some(bytes);
                        Ok(None)
                    }
                    _ => {
                        let value = pair.value.clone();
                        Err(NegotiationError::BadDeclaration { key, value })
                    }
                }
            }
            (Use::Always, _) => Ok(None),
            // Not to be changed any more; the value stays.
            _ => Ok(Some(Pair::new(key.name(), REJECT))),
        }
    }

    fn unknown(&mut self, pair: &Pair) -> Result<Pair, NegotiationError> {
        let key = pair.key.clone();
        if is_reserved(&pair.value) {
            let value = pair.value.clone();
            return Err(NegotiationError::ReservedConstant { key, value });
        }
        if !self.unknown.insert(key.clone()) {
            return Err(NegotiationError::Repeated { key });
        }
        Ok(Pair::new(key, NOT_UNDERSTOOD))
    }

    /// A reserved constant: the answer to a declaration of ours, or out of place.
    fn refused(&self, key: Key, text: &str) -> Result<(), NegotiationError> {
        let Some(offered) = self.declared.get(&key).cloned() else {
            let (key, value) = (key.name().into(), text.into());
            return Err(NegotiationError::ReservedConstant { key, value });
        };
        match text {
            _ if key.spec().optional => Ok(()),
            IRRELEVANT => Ok(()),
            NOT_UNDERSTOOD => Err(NegotiationError::NotUnderstood { key, offered }),
            _ => Err(NegotiationError::Rejected { key, offered }),
        }
    }

    /// What we declared for a key, and what the target said of it.
    #[must_use]
    pub fn said(&self, key: Key) -> (Option<&str>, Option<&str>) {
        (
            self.declared.get(&key).map(String::as_str),
            self.answered.get(&key).map(String::as_str),
        )
    }

    /// The sequence is over: what takes effect now.
    #[must_use]
    pub fn finish(&self) -> Renegotiated {
        let key = Key::MaxRecvDataSegmentLength;
        let declared = self.declared.get(&key);
        let max_recv_bytes = match declared.map(|text| Value::parse(key.spec().kind, text)) {
            Some(Ok(Value::Number(bytes))) => Some(bytes),
            _ => None,
        };
        Renegotiated {
            max_recv_bytes,
            max_send_bytes: self.max_send_bytes,
            target_alias: self.answered.get(&Key::TargetAlias).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaring(value: &str) -> Renegotiation {
        Renegotiation::new(&[(Key::MaxRecvDataSegmentLength, value.into())])
    }

    fn receive(
        sut: &mut Renegotiation,
        key: &str,
        value: &str,
    ) -> Result<Option<Pair>, NegotiationError> {
        sut.receive(&Pair::new(key, value))
    }

    #[test]
    fn both_sides_declare() {
        let mut sut = declaring("65536");
        assert_eq!(
            sut.opening(),
            [Pair::new("MaxRecvDataSegmentLength", "65536")]
        );
        assert_eq!(
            receive(&mut sut, "MaxRecvDataSegmentLength", "4096"),
            Ok(None)
        );
        assert_eq!(receive(&mut sut, "TargetAlias", "you"), Ok(None));
        let expected = Renegotiated {
            max_recv_bytes: Some(65_536),
            max_send_bytes: Some(4096),
            target_alias: Some("you".into()),
        };
        assert_eq!(sut.finish(), expected);
    }

    #[test]
    fn keys_of_the_login_stay_as_they_are() {
        let mut sut = Renegotiation::new(&[(Key::MaxBurstLength, "4096".into())]);
        assert_eq!(sut.opening(), []);
        let answer = receive(&mut sut, "MaxBurstLength", "1024");
        assert_eq!(answer, Ok(Some(Pair::new("MaxBurstLength", "Reject"))));
        let answer = receive(&mut sut, "HeaderDigest", "CRC32C,None");
        assert_eq!(answer, Ok(Some(Pair::new("HeaderDigest", "Reject"))));
        let answer = receive(&mut sut, "X-com.example.foo", "1");
        assert_eq!(
            answer,
            Ok(Some(Pair::new("X-com.example.foo", "NotUnderstood")))
        );
        assert_eq!(sut.finish(), Renegotiated::default());
    }

    #[test]
    fn what_ends_it() {
        let failed = |key, value| receive(&mut declaring("65536"), key, value).is_err();
        assert!(failed("MaxRecvDataSegmentLength", "100"));
        assert!(failed("MaxRecvDataSegmentLength", "Reject"));
        assert!(failed("MaxRecvDataSegmentLength", "NotUnderstood"));
        assert!(failed("InitiatorName", "iqn.2024-01.a:b"));
        assert!(failed("TargetAlias", "Reject"), "nobody proposed it");
        let mut sut = declaring("65536");
        receive(&mut sut, "TargetAlias", "a").unwrap();
        let error = receive(&mut sut, "TargetAlias", "b").unwrap_err();
        assert!(
            matches!(error, NegotiationError::Repeated { .. }),
            "{error}"
        );
    }
}
