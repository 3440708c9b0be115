//! Logical unit numbers (SAM-5 §4.7).

/// An eight-byte LUN exactly as it travels, in network order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lun([u8; 8]);

impl Lun {
    /// LUN 0.
    pub const ZERO: Self = Self([0; 8]);

    /// The eight bytes of the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight bytes of the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl std::fmt::Debug for Lun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lun({:016x})", u64::from_be_bytes(self.0))
    }
}
