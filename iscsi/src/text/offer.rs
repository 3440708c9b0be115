//! What the initiator offers and declares at login.
//!
//! An [`Offer`] holds only values that the key table admits and that this initiator can keep its
//! word on. Rules between keys are checked when a login starts ([`Offer::check`]), because one key
//! may be set before the other.

use std::collections::BTreeMap;

use thiserror::Error;

use super::keys::{Key, Kind};
use super::value::{Value, ValueFault};

/// Highest ErrorRecoveryLevel this initiator implements.
const ERROR_RECOVERY_LEVEL_MAX: u32 = 2;
/// DefaultTime2Retain offered with ErrorRecoveryLevel 2, in seconds (RFC 7143 §13.16).
const TIME2RETAIN_S: u32 = 20;
/// Highest iSCSIProtocolLevel this initiator implements.
const PROTOCOL_LEVEL_MAX: u32 = 2;

/// Why a value cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The table has no such key.
    #[error("unknown key {key:?}{}", did_you_mean(key))]
    UnknownKey {
        /// The name given.
        key: String,
    },
    /// The key is set by other means, or not at all.
    #[error("{key} cannot be set as an offer ({})", key.spec().section)]
    NotSettable {
        /// The key.
        key: Key,
    },
    /// The text is not a value of the key.
    #[error("{key}: {value:?} is not one of: {}", key.spec().kind)]
    BadValue {
        /// The key.
        key: Key,
        /// The text given.
        value: String,
    },
    /// A number outside the key's range.
    #[error("{key}={value} is out of range: {min} to {max}")]
    OutOfRange {
        /// The key.
        key: Key,
        /// The text given.
        value: String,
        /// Lowest admissible value.
        min: u32,
        /// Highest admissible value.
        max: u32,
    },
    /// A legal value whose duties this initiator does not implement.
    #[error("{key}={value} is legal but not implemented here; use {instead}")]
    NotImplemented {
        /// The key.
        key: Key,
        /// The text given.
        value: String,
        /// What can be offered.
        instead: &'static str,
    },
    /// FirstBurstLength must not exceed MaxBurstLength (RFC 7143 §13.14).
    #[error("FirstBurstLength={first} exceeds MaxBurstLength={max}")]
    FirstBurstAboveMaxBurst {
        /// FirstBurstLength in bytes.
        first: u32,
        /// MaxBurstLength in bytes.
        max: u32,
    },
    /// RFC 7143 §13.19: with recovery and ordered sequences only one R2T may be open.
    #[error(
        "MaxOutstandingR2T={r2ts} must be 1 when ErrorRecoveryLevel is not 0 and \
         DataSequenceInOrder is Yes"
    )]
    TooManyR2ts {
        /// MaxOutstandingR2T.
        r2ts: u32,
    },
}

fn did_you_mean(name: &str) -> String {
    Key::ALL
        .iter()
        .find(|key| key.spec().settable && key.name().eq_ignore_ascii_case(name))
        .map_or_else(String::new, |key| {
            format!("; names are case sensitive, did you mean {key}?")
        })
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    value: Value,
    /// A user set it; it is not bent to fit other keys.
    explicit: bool,
}

/// What the initiator offers (negotiated keys) and declares (its own MaxRecvDataSegmentLength).
///
/// The default suits throughput: unsolicited data on, bursts of 1 MiB, data segments of 256 KiB,
/// several R2Ts, no digests. DefaultTime2Wait is offered as 0 (its result is the maximum, so the
/// target may still ask for a pause) and DefaultTime2Retain as 0, since at ErrorRecoveryLevel 0
/// no task outlives its connection. Keys outside the default are not sent unless set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    entries: BTreeMap<Key, Entry>,
}

impl Default for Offer {
    fn default() -> Self {
        let none = || Value::List(vec!["None"]);
        let values = [
            (Key::HeaderDigest, none()),
            (Key::DataDigest, none()),
            (Key::MaxConnections, Value::Number(1)),
            (Key::InitialR2T, Value::Boolean(false)),
            (Key::ImmediateData, Value::Boolean(true)),
            (Key::MaxRecvDataSegmentLength, Value::Number(262_144)),
            (Key::MaxBurstLength, Value::Number(1 << 20)),
            (Key::FirstBurstLength, Value::Number(262_144)),
            (Key::DefaultTime2Wait, Value::Number(0)),
            (Key::DefaultTime2Retain, Value::Number(0)),
            (Key::MaxOutstandingR2T, Value::Number(8)),
            (Key::DataPduInOrder, Value::Boolean(true)),
            (Key::DataSequenceInOrder, Value::Boolean(true)),
            (Key::ErrorRecoveryLevel, Value::Number(0)),
        ];
        let entry = |(key, value)| {
            let explicit = false;
            (key, Entry { value, explicit })
        };
        Self {
            entries: values.into_iter().map(entry).collect(),
        }
    }
}

impl Offer {
    /// Offers `value` for `key`, both spelled as on the wire.
    ///
    /// # Errors
    ///
    /// When the key is unknown or not the user's to set, or the value is not admissible.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), OfferError> {
        let unknown = || OfferError::UnknownKey { key: key.into() };
        let key = Key::find(key).ok_or_else(unknown)?;
        if !key.spec().settable {
            return Err(OfferError::NotSettable { key });
        }
        let parsed = Value::parse(key.spec().kind, value).map_err(|fault| {
            let value = value.to_owned();
            match fault {
                ValueFault::Form => OfferError::BadValue { key, value },
                ValueFault::Range { min, max } => OfferError::OutOfRange {
                    key,
                    value,
                    min,
                    max,
                },
                ValueFault::NoValue => OfferError::NotSettable { key },
            }
        })?;
        if let Some(instead) = unimplemented_value(key, &parsed) {
            let value = value.to_owned();
            return Err(OfferError::NotImplemented {
                key,
                value,
                instead,
            });
        }
        let explicit = true;
        let value = parsed;
        self.entries.insert(key, Entry { value, explicit });
        Ok(())
    }

    /// The text offered for `key`, if it is offered.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<String> {
        self.value(key).map(|value| value.to_string())
    }

    /// What is offered, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, String)> + '_ {
        self.keys()
            .filter_map(|key| Some((key, self.value(key)?.to_string())))
    }

    /// Checks the rules between keys.
    ///
    /// # Errors
    ///
    /// FirstBurstLength above MaxBurstLength when both were chosen or the first was; several R2Ts
    /// with recovery and ordered sequences.
    pub fn check(&self) -> Result<(), OfferError> {
        let first = self.number(Key::FirstBurstLength);
        let max = self.number(Key::MaxBurstLength);
        if let (Some(first), Some(max)) = (first, max)
            && first > max
        {
            return Err(OfferError::FirstBurstAboveMaxBurst { first, max });
        }
        let r2ts = self.number(Key::MaxOutstandingR2T).unwrap_or(1);
        if r2ts > 1 && self.allows_one_r2t() {
            return Err(OfferError::TooManyR2ts { r2ts });
        }
        Ok(())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.entries.keys().copied()
    }

    /// The value offered. What nobody chose follows the keys that it depends on, so that setting
    /// one of them is enough: FirstBurstLength goes down with MaxBurstLength, MaxOutstandingR2T
    /// follows ErrorRecoveryLevel, and level 2 asks the target to retain tasks for a while.
    pub(crate) fn value(&self, key: Key) -> Option<Value> {
        let entry = self.entries.get(&key)?;
        let level = || self.number(Key::ErrorRecoveryLevel).unwrap_or(0);
        if key == Key::DefaultTime2Retain && !entry.explicit && level() >= 2 {
            return Some(Value::Number(TIME2RETAIN_S));
        }
        if key == Key::FirstBurstLength
            && !entry.explicit
            && let Value::Number(first) = entry.value
            && let Some(max) = self.number(Key::MaxBurstLength)
        {
            return Some(Value::Number(first.min(max)));
        }
        if key == Key::MaxOutstandingR2T && !entry.explicit && self.allows_one_r2t() {
            return Some(Value::Number(1));
        }
        Some(entry.value.clone())
    }

    /// RFC 7143 §13.19: with recovery and ordered sequences, R2Ts come one at a time.
    fn allows_one_r2t(&self) -> bool {
        let ordered = self.value(Key::DataSequenceInOrder) != Some(Value::Boolean(false));
        ordered && self.number(Key::ErrorRecoveryLevel).unwrap_or(0) > 0
    }

    fn number(&self, key: Key) -> Option<u32> {
        match self.value(key)? {
            Value::Number(number) => Some(number),
            Value::Boolean(_) | Value::List(_) => None,
        }
    }
}

/// What to offer instead of a value whose duties the initiator cannot fulfil.
fn unimplemented_value(key: Key, value: &Value) -> Option<&'static str> {
    match value {
        Value::Number(level) if key == Key::ErrorRecoveryLevel => {
            (*level > ERROR_RECOVERY_LEVEL_MAX).then_some("0 or 1")
        }
        Value::Number(level) if key == Key::IscsiProtocolLevel => {
            (*level > PROTOCOL_LEVEL_MAX).then_some("2")
        }
        // RFC 7143 §13.23: whoever starts this negotiation offers at least these two.
        Value::List(values) if key == Key::TaskReporting => {
            let both = values.contains(&"RFC3720") && values.contains(&"ResponseFence");
            (!both).then_some("ResponseFence,RFC3720")
        }
        Value::Boolean(_) | Value::Number(_) | Value::List(_) => None,
    }
}

/// What we choose when the target starts a key that we did not offer: the key's default, which is
/// also the most this initiator implements for the keys of which that is less than the range.
pub(crate) fn unoffered(key: Key) -> Option<Value> {
    let spec = key.spec();
    match spec.kind {
        Kind::List(_) if key == Key::TaskReporting => {
            Some(Value::List(vec!["ResponseFence", "RFC3720"]))
        }
        Kind::Boolean(_) | Kind::Number { .. } | Kind::List(_) => {
            Value::parse(spec.kind, spec.default?).ok()
        }
        Kind::DeclaredNumber { .. }
        | Kind::Declared
        | Kind::Authentication
        | Kind::Request
        | Kind::Obsolete => None,
    }
}
