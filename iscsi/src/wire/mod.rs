//! PDUs of RFC 7143 §11 (with the additions of RFC 7144 §5 and §6) as plain structs.
//!
//! One file per family. Encoding fills a 48-byte basic header segment; AHS, data, padding and
//! digests are put around it by the transmit side. Decoding checks the opcode, the fields whose
//! values the RFC bounds, and the combinations it forbids. Reserved bits and reserved fields are
//! ignored, as a receiver must (§11). Every PDU can be encoded and decoded from both sides, so
//! that tests and tools can play the peer.
//!
//! No lengths are compared with a task's buffer here: whoever owns the buffer does that before
//! it touches any payload.

#![allow(missing_docs, reason = "field names are the RFC's own")]

pub mod ahs;
mod async_message;
mod command;
mod data;
pub mod digest;
mod error;
mod field;
mod login;
mod logout;
mod nop;
mod opcode;
pub mod receiver;
mod reject;
mod response;
mod snack;
mod task;
mod text;
pub mod transmit;
mod words;

pub use async_message::AsyncMessage;
pub use command::{ResidualField, ScsiCommand, ScsiResponse};
pub use data::{DataIn, DataInStatus, DataOut, R2t};
pub use error::WireError;
pub use login::{LoginRequest, LoginResponse, Stage};
pub use logout::{LogoutReason, LogoutRequest, LogoutResponse};
pub use nop::{NopIn, NopOut};
pub use opcode::{Opcode, opcode};
pub use reject::Reject;
pub use response::Response;
pub use snack::{SnackKind, SnackRequest};
pub use task::{TaskFunction, TaskRequest, TaskResponse};
pub use text::{TextRequest, TextResponse};

use crate::serial::CmdSn;

/// Length of a basic header segment, in bytes.
pub const BHS_BYTES: usize = 48;

/// Longest sequence of additional header segments, in bytes (TotalAHSLength is one byte that
/// counts words, §11.2.1.5).
pub const MAX_AHS_BYTES: usize = 1020;

/// A basic header segment as it travels.
pub type Bhs = [u8; BHS_BYTES];

/// Initiator task tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Itt(pub u32);

impl Itt {
    /// "No task".
    pub const RESERVED: Self = Self(0xffff_ffff);
}

/// Target transfer tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ttt(pub u32);

impl Ttt {
    /// "No tag".
    pub const RESERVED: Self = Self(0xffff_ffff);
}

/// Command window numbers that most responses carry (§4.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub exp_cmd_sn: CmdSn,
    pub max_cmd_sn: CmdSn,
}

/// Lengths that go into a header beside its own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lengths {
    /// TotalAHSLength in bytes, a multiple of 4, at most [`MAX_AHS_BYTES`].
    pub ahs_bytes: u16,
    /// DataSegmentLength in bytes without padding, below 2²⁴.
    pub data_bytes: u32,
}

/// TotalAHSLength and DataSegmentLength of any header (§11.2.1.5, §11.2.1.6), in bytes.
/// Neither can exceed what its field holds: 1020 and 2²⁴ − 1.
#[must_use]
pub const fn lengths(bhs: &Bhs) -> Lengths {
    Lengths {
        ahs_bytes: bhs[4] as u16 * 4,
        data_bytes: u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]),
    }
}

/// Initiator task tag of any header (§11.2.1.8).
#[must_use]
pub const fn itt(bhs: &Bhs) -> Itt {
    Itt(u32::from_be_bytes([bhs[16], bhs[17], bhs[18], bhs[19]]))
}

/// `bytes` with the padding that brings it to a whole number of 4-byte words (§11.1).
/// Saturates at the largest multiple of 4.
#[must_use]
pub const fn padded(bytes: u32) -> u32 {
    bytes.saturating_add(3) & !3
}

#[cfg(test)]
mod tests;
