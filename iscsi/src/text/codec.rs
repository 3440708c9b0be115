//! Encoding of key=value lists and their journey over several PDUs (RFC 7143 §6.1, §6.2).
//!
//! A list that spans PDUs (C bit) is assembled up to a fixed limit, so a peer cannot make us hold
//! more than that; every key name is a standard-label and every value is within what its row of
//! the key table allows. Whether a key may appear, or appear twice, is decided by negotiation.

use std::collections::VecDeque;

use thiserror::Error;

use super::keys::Key;

/// Most text of one negotiation sequence, in bytes (RFC 7143 §6.1).
pub const NEGOTIATION_BYTES_MAX: usize = 64 * 1024;

/// Data segment limit in force during login, in bytes (RFC 7143 §6.3).
pub const LOGIN_SEGMENT_BYTES_MAX: usize = 8192;

/// Longest key name in bytes (RFC 7143 §6.1).
pub const KEY_NAME_BYTES_MAX: usize = 63;

/// What is wrong with a peer's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A list over several PDUs grew past the limit.
    #[error("text exceeds {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The last pair lacks its NUL.
    #[error("the last key=value pair is not terminated (RFC 7143 §6.1)")]
    NotTerminated,
    /// A pair is empty.
    #[error("empty key=value pair (RFC 7143 §6.1)")]
    EmptyPair,
    /// A pair without "=".
    #[error("key=value pair {pair:?} has no \"=\" (RFC 7143 §6.1)")]
    NoEquals {
        /// The beginning of the pair.
        pair: String,
    },
    /// A key name that is no standard-label.
    #[error("{name:?} is not a key name (RFC 7143 §6.1)")]
    BadKeyName {
        /// The beginning of the name.
        name: String,
    },
    /// A value longer than its key allows.
    #[error("value of {key} has {bytes} bytes, {limit} are allowed (RFC 7143 §6.1)")]
    ValueTooLong {
        /// The key's name.
        key: String,
        /// Length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("text is not UTF-8 (RFC 7143 §6.1)")]
    NotUtf8,
}

/// One key=value pair.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The key's name.
    pub key: String,
    /// The value, without the NUL.
    pub value: String,
}

impl Pair {
    /// A pair of `key` and `value`.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// The bytes of a list: `key=value` and a NUL for each pair.
#[must_use]
pub fn encode<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Pair { key, value } in pairs {
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Reads a complete list.
///
/// NULs after the last pair are skipped: targets exist that count padding as data.
///
/// # Errors
///
/// When the bytes are not a list of well-formed pairs.
pub fn decode(bytes: &[u8]) -> Result<Vec<Pair>, TextError> {
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let (pairs, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    if rest.is_empty() {
        return Err(TextError::NotTerminated);
    }
    pairs.split(|byte| *byte == 0).map(decode_pair).collect()
}

fn decode_pair(bytes: &[u8]) -> Result<Pair, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotUtf8)?;
    if text.is_empty() {
        return Err(TextError::EmptyPair);
    }
    let no_equals = || TextError::NoEquals {
        pair: beginning(text),
    };
    let (name, value) = text.split_once('=').ok_or_else(no_equals)?;
    if !is_key_name(name) {
        return Err(TextError::BadKeyName {
            name: beginning(name),
        });
    }
    if let Some(key) = Key::find(name)
        && value.len() > key.spec().value_bytes_max
    {
        return Err(TextError::ValueTooLong {
            key: name.to_owned(),
            bytes: value.len(),
            limit: key.spec().value_bytes_max,
        });
    }
    Ok(Pair::new(name, value))
}

/// Enough of a peer's text to recognise it in a message.
fn beginning(text: &str) -> String {
    text.chars().take(KEY_NAME_BYTES_MAX).collect()
}

/// Whether `name` is a standard-label. Two registered names, `X#NodeArchitecture` and
/// `iSCSIProtocolLevel`, break the rules for `#` and the capital letter, so both are let through.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'@' | b'_' | b'#')
    };
    name.len() <= KEY_NAME_BYTES_MAX
        && name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(allowed)
}

/// Collects a list that arrives in several PDUs.
#[derive(Debug)]
pub struct Assembler {
    bytes: Vec<u8>,
    limit: usize,
}

impl Assembler {
    /// Takes at most `limit` bytes per list.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// Adds one PDU's data. With `more` (the C bit) the list goes on and `None` is returned.
    ///
    /// # Errors
    ///
    /// When the limit is passed, or the finished list is malformed.
    pub fn push(&mut self, data: &[u8], more: bool) -> Result<Option<Vec<Pair>>, TextError> {
        if data.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(TextError::TooLong { limit: self.limit });
        }
        self.bytes.extend_from_slice(data);
        if more {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        decode(&bytes).map(Some)
    }

    /// Whether part of a list is held.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// Data segments for a list: each at most `limit` bytes (at least 1); all but the last travel with
/// the C bit. An empty list is one empty segment.
#[must_use]
pub fn split(bytes: &[u8], limit: usize) -> VecDeque<Vec<u8>> {
    if bytes.is_empty() {
        return VecDeque::from([Vec::new()]);
    }
    bytes.chunks(limit.max(1)).map(<[u8]>::to_vec).collect()
}
