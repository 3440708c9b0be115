//! What can be wrong with bytes a device sent.

/// An answer that cannot be what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer bytes than the structure needs.
    #[error("{what}: {actual} bytes, at least {needed} needed")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes present.
        actual: usize,
    },
    /// A field has a value the standard does not allow, or that contradicts the request.
    #[error("{what}: {field} is {value:#x}")]
    BadField {
        /// The structure being read.
        what: &'static str,
        /// The field's name in the standard.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}
