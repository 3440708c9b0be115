//! Owned I/O memory.
//!
//! A buffer moves into a command and comes back with its completion, whatever the outcome. While
//! a command may still be running, the transport owns the memory; dropping the caller's future
//! can therefore never leave a late answer writing into memory that somebody else uses.

use bytes::{Bytes, BytesMut};

/// Memory for one I/O, in bytes. Fixed length, cheap to move, splittable without copying.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IoBuf(BytesMut);

impl IoBuf {
    /// Zeroed memory of `len` bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self(BytesMut::zeroed(len))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be written.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Splits into `[0, at)`, which stays here, and `[at, len)`, which is returned. No copy.
    /// `at` is clamped to the length.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let at = at.min(self.0.len());
        Self(self.0.split_off(at))
    }

    /// Joins what [`IoBuf::split_off`] took apart; no copy when `tail` still follows in memory.
    pub fn unsplit(&mut self, tail: Self) {
        self.0.unsplit(tail.0);
    }

    /// Shortens to `len` bytes; no effect when already shorter.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Turns into shareable, read-only bytes, for use as a write payload. No copy.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        self.0.freeze()
    }

    /// Takes back a payload for writing into. No copy when no other reference is left.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(BytesMut::from(bytes))
    }
}

impl From<Vec<u8>> for IoBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_bytes(Bytes::from(bytes))
    }
}

impl AsRef<[u8]> for IoBuf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for IoBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
