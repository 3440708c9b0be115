//! Values of text keys: parsing, printing, and the result functions of RFC 7143 §6.2.

use std::fmt;

use super::keys::{BooleanResult, Kind, NumberResult};

/// A value whose form the key table checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `Yes` or `No`.
    Boolean(bool),
    /// A number within the key's range.
    Number(u32),
    /// Values in order of preference; at least one.
    List(Vec<&'static str>),
}

/// Why a text is not a value of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueFault {
    /// Not of the key's type.
    Form,
    /// A number outside the key's range.
    Range { min: u32, max: u32 },
    /// The key has no value of its own to set or negotiate.
    NoValue,
}

impl Value {
    /// Reads `text` as a value of a key of kind `kind`. List members that the key does not define
    /// are a fault.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, ValueFault> {
        match kind {
            Kind::Boolean(_) => match text {
                "Yes" => Ok(Self::Boolean(true)),
                "No" => Ok(Self::Boolean(false)),
                _ => Err(ValueFault::Form),
            },
            Kind::Number { min, max, .. } | Kind::DeclaredNumber { min, max } => {
                let number = parse_number(text).ok_or(ValueFault::Form)?;
                match u32::try_from(number) {
                    Ok(number) if (min..=max).contains(&number) => Ok(Self::Number(number)),
                    _ => Err(ValueFault::Range { min, max }),
                }
            }
            Kind::List(known) => {
                let mut values = Vec::new();
                for item in text.split(',') {
                    let value = known.iter().find(|value| **value == item);
                    let value = *value.ok_or(ValueFault::Form)?;
                    if values.contains(&value) {
                        return Err(ValueFault::Form);
                    }
                    values.push(value);
                }
                Ok(Self::List(values))
            }
            Kind::Declared | Kind::Authentication | Kind::Request | Kind::Obsolete => {
                Err(ValueFault::NoValue)
            }
        }
    }

    /// Whether `answer` may answer the proposal `self` (RFC 7143 §6.2.1, §6.2.2, §13).
    pub(crate) fn admits(&self, kind: Kind, answer: &Self) -> bool {
        match (kind, self, answer) {
            (Kind::Boolean(BooleanResult::And), Self::Boolean(proposed), Self::Boolean(answer)) => {
                *proposed || !answer
            }
            (Kind::Boolean(BooleanResult::Or), Self::Boolean(proposed), Self::Boolean(answer)) => {
                !proposed || *answer
            }
            (Kind::Number { result, .. }, Self::Number(proposed), Self::Number(answer)) => {
                match result {
                    NumberResult::Minimum => answer <= proposed,
                    NumberResult::Maximum => answer >= proposed,
                }
            }
            (Kind::List(_), Self::List(proposed), Self::List(answer)) => {
                matches!(answer.as_slice(), [one] if proposed.contains(one))
            }
            _ => false,
        }
    }

    /// Whether a proposal decides the result by itself, so that no answer is needed
    /// (RFC 7143 §6.2.2).
    pub(crate) fn is_final(&self, kind: Kind) -> bool {
        matches!(
            (kind, self),
            (Kind::Boolean(BooleanResult::And), Self::Boolean(false))
                | (Kind::Boolean(BooleanResult::Or), Self::Boolean(true))
        )
    }

    /// Our answer when the peer proposes `proposal` and `self` is what we would have chosen.
    /// `None`: nothing of it is acceptable.
    pub(crate) fn answer(&self, kind: Kind, proposal: &Self) -> Option<Self> {
        match (kind, self, proposal) {
            (Kind::Boolean(result), Self::Boolean(ours), Self::Boolean(theirs)) => {
                Some(Self::Boolean(match result {
                    BooleanResult::And => *ours && *theirs,
                    BooleanResult::Or => *ours || *theirs,
                }))
            }
            (Kind::Number { result, .. }, Self::Number(ours), Self::Number(theirs)) => {
                Some(Self::Number(match result {
                    NumberResult::Minimum => *ours.min(theirs),
                    NumberResult::Maximum => *ours.max(theirs),
                }))
            }
            (Kind::List(_), Self::List(ours), Self::List(theirs)) => {
                let chosen = theirs.iter().find(|value| ours.contains(value))?;
                Some(Self::List(vec![*chosen]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As it travels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(true) => f.write_str("Yes"),
            Self::Boolean(false) => f.write_str("No"),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// The members of a peer's list that the key defines; unknown ones are skipped as
/// RFC 7143 §6.2.1 demands.
pub(crate) fn known_members(known: &[&'static str], text: &str) -> Vec<&'static str> {
    let mut values: Vec<&'static str> = Vec::new();
    for item in text.split(',') {
        if let Some(value) = known.iter().find(|value| **value == item)
            && !values.contains(value)
        {
            values.push(value);
        }
    }
    values
}

/// A numerical-value of RFC 7143 §6.1: decimal without leading zeros, or hexadecimal.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        return u64::from_str_radix(digits, 16).ok();
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || (text.len() > 1 && text.starts_with('0'))
    {
        return None;
    }
    text.parse().ok()
}
