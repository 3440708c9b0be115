//! What can be wrong with a header.

use super::Opcode;

/// A header that breaks RFC 7143 in a way that cannot be ignored.
///
/// `pdu` is the RFC's name of the PDU, `field` the RFC's name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The opcode is unassigned, vendor-specific, or belongs to the other side (§11.2.1.2).
    #[error("unexpected opcode {opcode:#04x}")]
    UnexpectedOpcode {
        /// Opcode as it came, without the I bit.
        opcode: u8,
    },
    /// The header is of another PDU than the one asked for.
    #[error("{expected:?} expected, opcode {actual:#04x} found")]
    OtherOpcode {
        /// What was to be decoded.
        expected: Opcode,
        /// Opcode as it came, without the I bit.
        actual: u8,
    },
    /// A field holds a value that the RFC reserves.
    #[error("{pdu}: {field} holds the reserved value {value:#x}")]
    ReservedValue {
        pdu: &'static str,
        field: &'static str,
        value: u32,
    },
    /// A tag that must name something is 0xffffffff.
    #[error("{pdu}: {field} is missing (0xffffffff)")]
    MissingTag {
        pdu: &'static str,
        field: &'static str,
    },
    /// Two bits are set that exclude each other.
    #[error("{pdu}: bits {first} and {second} are both set")]
    ExclusiveBits {
        pdu: &'static str,
        first: &'static str,
        second: &'static str,
    },
    /// A bit is set that requires another one, which is clear.
    #[error("{pdu}: {bit} requires {required}")]
    MissingBit {
        pdu: &'static str,
        bit: &'static str,
        required: &'static str,
    },
    /// A length that must be positive is 0.
    #[error("{pdu}: {field} is 0")]
    ZeroLength {
        pdu: &'static str,
        field: &'static str,
    },
    /// A part follows that this PDU never has: additional headers or data.
    #[error("{pdu}: {field} is {bytes}, must be 0")]
    UnexpectedSegment {
        pdu: &'static str,
        field: &'static str,
        /// Its length in bytes.
        bytes: u32,
    },
    /// An additional header segment does not fit into TotalAHSLength, or is longer or shorter
    /// than its type allows (§11.2.2).
    #[error("additional header segment at byte {offset}: AHSLength is {length}")]
    BadAhsLength {
        /// Where it begins among the additional header segments.
        offset: usize,
        /// Its AHSLength.
        length: u16,
    },
}
