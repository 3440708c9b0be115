//! What the demo writes: content that is different everywhere and known from its place alone.

use initiator::{Bytes, IoBuf};

/// The bytes that belong at `offset`.
pub(super) fn at(offset: u64, len: usize) -> Bytes {
    let mut buf = IoBuf::zeroed(len);
    fastrand::Rng::with_seed(offset).fill(buf.as_mut_slice());
    buf.freeze()
}

#[cfg(test)]
mod tests {
    #[test]
    fn places_differ() {
        assert_eq!(super::at(4096, 512), super::at(4096, 512));
        assert_ne!(super::at(4096, 512), super::at(4608, 512));
    }
}
