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

impl ParseError {
    pub(crate) const fn truncated(what: &'static str, needed: usize, actual: usize) -> Self {
        Self::Truncated {
            what,
            needed,
            actual,
        }
    }

    pub(crate) fn bad(what: &'static str, field: &'static str, value: impl Into<u64>) -> Self {
        Self::BadField {
            what,
            field,
            value: value.into(),
        }
    }
}
