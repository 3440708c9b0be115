//! CRC32C header and data digests (RFC 7143 §11.2.3, §13.1).
//!
//! A digest covers the padding too. On the wire it is the checksum's least significant byte
//! first: §13.1 maps the checksum's coefficient x³¹ to bit 7 of the first byte, after the bits of
//! every byte were reflected, which is the little-endian form of the usual reflected CRC32C.
//!
//! This is the only place that names the library that computes it.

/// Length of a digest on the wire, in bytes.
pub const DIGEST_BYTES: usize = 4;

/// The CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// A digest as it travels.
#[must_use]
pub const fn to_wire(crc: u32) -> [u8; DIGEST_BYTES] {
    crc.to_le_bytes()
}

/// A digest as it travelled.
#[must_use]
pub const fn from_wire(bytes: [u8; DIGEST_BYTES]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// A CRC32C that is fed piece by piece, in order, while the pieces are still in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Of no bytes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = ::crc32c::crc32c_append(self.0, bytes);
    }

    /// Adds the zero bytes that pad `data_bytes` to whole words (§11.1).
    pub fn pad(&mut self, data_bytes: u32) {
        let padding = match data_bytes % 4 {
            1 => &[0, 0, 0][..],
            2 => &[0, 0],
            3 => &[0],
            _ => &[],
        };
        self.update(padding);
    }

    /// The checksum of everything so far.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The checksum of everything so far, as it travels.
    #[must_use]
    pub const fn to_wire(self) -> [u8; DIGEST_BYTES] {
        to_wire(self.0)
    }
}
