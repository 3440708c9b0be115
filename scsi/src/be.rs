//! Big-endian numbers out of bytes that may be too short.
//!
//! Every parser of the crate reads through these: `None` means "not there", never a panic and
//! never a byte from outside the slice.

/// The array at `at`, when all of it is there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// One byte.
pub(crate) fn u8(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// Two bytes.
pub(crate) fn u16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Four bytes.
pub(crate) fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Eight bytes.
pub(crate) fn u64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// Bit `bit` of byte `at`; a byte that is not there has no bit set.
pub(crate) fn bit(bytes: &[u8], at: usize, bit: u8) -> bool {
    u8(bytes, at).is_some_and(|byte| byte & (1 << bit) != 0)
}

/// The leading `len` bytes, or all when there are fewer.
pub(crate) fn clamp(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(..len).unwrap_or(bytes)
}
