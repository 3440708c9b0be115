//! What follows from each thing a target can do wrong: one table (RFC 7143 §7).
//!
//! | What happened | Level 0 | Level 1 and 2 | RFC 7143 |
//! |---|---|---|---|
//! | a header that breaks the RFC, a data segment over the limit | session | session | §7.7 |
//! | wrong header digest | connection | connection | §7.8 |
//! | wrong data digest | session | SNACK | §7.8 |
//! | StatSN, DataSN or R2TSN skipped | session | SNACK | §7.9 |
//! | DataSN or R2TSN that has come before | session | ignore | §7.9 |
//! | a command rejected for its data digest, never active | fail task | retry | §7.3, §11.17.1 |
//! | a command rejected for another reason | fail task | fail task | §7.3 |
//! | Data-Out, SNACK or a control PDU rejected | ignore | ignore | §7.3 |
//! | a residual that cannot be | fail task | fail task | §7.10 |
//! | any other violation of the protocol | session | session | §7.13, §7.15 |
//!
//! About the rows:
//! - After a wrong header digest the length of the PDU cannot be trusted. The stream could only be
//!   followed with the help of markers or another way to find the next header, which TCP does not
//!   offer (RFC 7143 §7.8), so there is no resynchronisation at any level.
//! - Level 0 has no recovery but the session's (RFC 7143 §7.1.5).
//! - A rejected Data-Out PDU is asked for again by a recovery R2T, or the target ends the command
//!   with a status of its own (RFC 7143 §7.3, §7.8); the command then fails by itself. A GOOD status
//!   without either is not believed.
//! - A SNACK that is rejected leaves its task to the target's status (RFC 7143 §7.8); when it asked
//!   for a status, nobody can deliver it any more, and the connection is dropped.
//! - A residual is looked at beyond what the RFC asks for (§7.10). It concerns a task that is over.
//!
//! When what the table asks for is not possible (the gap is too long, asked too often, the time is
//! over), the connection is dropped, and the next level acts: connection recovery at level 2,
//! otherwise session recovery.

use crate::session::error::ProtocolError;
use crate::wire::Opcode;
use crate::wire::receiver::FrameError;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reaction {
    /// Drop the PDU, or take note of it; nothing is lost.
    Ignore,
    /// End the task it concerns with an error; everything else goes on.
    FailTask,
    /// Ask for what is missing (RFC 7143 §11.16).
    Snack,
    /// Send the command again as it was (RFC 7143 §7.2.1).
    Retry,
    /// Drop the connection; the next higher level of recovery acts.
    DropConnection,
    /// Drop the session and reinstate it (RFC 7143 §7.1.4.4).
    DropSession,
}

/// Reject reason "data (payload) digest error" (RFC 7143 §11.17.1).
const DATA_DIGEST: u8 = 0x02;
/// Reject reason "task in progress": the task has not been touched.
const TASK_IN_PROGRESS: u8 = 0x07;

/// What an error asks for at an ErrorRecoveryLevel.
#[must_use]
pub fn reaction(error: &ProtocolError, level: u8) -> Reaction {
    let recovers = level > 0;
    let or_session = |reaction| {
        if recovers {
            reaction
        } else {
            Reaction::DropSession
        }
    };
    match error {
        ProtocolError::Frame(FrameError::HeaderDigest) => Reaction::DropConnection,
        ProtocolError::Frame(FrameError::DataDigest) | ProtocolError::StatSnGap { .. } => {
            or_session(Reaction::Snack)
        }
        ProtocolError::DataSnGap { expected, actual }
        | ProtocolError::R2tSnGap { expected, actual } => {
            if actual < expected {
                or_session(Reaction::Ignore)
            } else {
                or_session(Reaction::Snack)
            }
        }
        ProtocolError::Rejected { pdu, reason, .. } => rejected(*pdu, *reason, recovers),
        ProtocolError::BadResidual { .. } => Reaction::FailTask,
        ProtocolError::Frame(_)
        | ProtocolError::UnknownTask { .. }
        | ProtocolError::DataInOutOfBounds { .. }
        | ProtocolError::UnexpectedDataIn
        | ProtocolError::StatusInDataIn
        | ProtocolError::BadR2t { .. }
        | ProtocolError::MissingData { .. }
        | ProtocolError::UnexpectedPdu { .. }
        | ProtocolError::WrongConnection { .. }
        | ProtocolError::WrongLun { .. }
        | ProtocolError::Text(_) => Reaction::DropSession,
    }
}

fn rejected(pdu: Option<Opcode>, reason: u8, recovers: bool) -> Reaction {
    match pdu {
        Some(Opcode::ScsiCommand) if reason == TASK_IN_PROGRESS => Reaction::Ignore,
        Some(Opcode::ScsiCommand) if reason == DATA_DIGEST && recovers => Reaction::Retry,
        Some(Opcode::ScsiCommand) => Reaction::FailTask,
        Some(
            Opcode::DataOut
            | Opcode::SnackRequest
            | Opcode::NopOut
            | Opcode::TaskRequest
            | Opcode::TextRequest
            | Opcode::LogoutRequest,
        ) => Reaction::Ignore,
        // Nothing of ours: the target rejects what it was not sent.
        None
        | Some(
            Opcode::LoginRequest
            | Opcode::NopIn
            | Opcode::ScsiResponse
            | Opcode::TaskResponse
            | Opcode::LoginResponse
            | Opcode::TextResponse
            | Opcode::DataIn
            | Opcode::LogoutResponse
            | Opcode::R2t
            | Opcode::AsyncMessage
            | Opcode::Reject,
        ) => Reaction::DropSession,
    }
}

#[cfg(test)]
mod tests {
    use super::Reaction::{DropConnection, DropSession, FailTask, Ignore, Retry, Snack};
    use super::*;
    use crate::session::error::R2tFault;
    use crate::wire::WireError;

    fn rejected(pdu: Opcode, reason: u8) -> ProtocolError {
        ProtocolError::Rejected {
            pdu: Some(pdu),
            reason,
            name: "",
        }
    }

    fn frame_rows() -> Vec<(ProtocolError, [Reaction; 3])> {
        let frame = ProtocolError::Frame;
        let (bytes, limit) = (2, 1);
        vec![
            (
                frame(FrameError::Header(WireError::UnexpectedOpcode {
                    opcode: 1,
                })),
                [DropSession; 3],
            ),
            (
                frame(FrameError::DataTooLong { bytes, limit }),
                [DropSession; 3],
            ),
            (frame(FrameError::HeaderDigest), [DropConnection; 3]),
            (frame(FrameError::DataDigest), [DropSession, Snack, Snack]),
        ]
    }

    fn sequence_rows() -> Vec<(ProtocolError, [Reaction; 3])> {
        let (expected, actual) = (3, 5);
        let ahead = [DropSession, Snack, Snack];
        let again = [DropSession, Ignore, Ignore];
        vec![
            (ProtocolError::StatSnGap { expected, actual }, ahead),
            (ProtocolError::DataSnGap { expected, actual }, ahead),
            (ProtocolError::R2tSnGap { expected, actual }, ahead),
            (
                ProtocolError::DataSnGap {
                    expected,
                    actual: 2,
                },
                again,
            ),
            (
                ProtocolError::R2tSnGap {
                    expected,
                    actual: 0,
                },
                again,
            ),
            // StatSN is a serial number: 3 comes after 2^32 - 1 (RFC 7143 §4.2.2.2).
            (
                ProtocolError::StatSnGap {
                    expected: u32::MAX,
                    actual: 3,
                },
                ahead,
            ),
        ]
    }

    fn reject_rows() -> Vec<(ProtocolError, [Reaction; 3])> {
        let mut rows = vec![
            (
                rejected(Opcode::ScsiCommand, 0x02),
                [FailTask, Retry, Retry],
            ),
            (rejected(Opcode::ScsiCommand, 0x07), [Ignore; 3]),
            (rejected(Opcode::LoginRequest, 0x04), [DropSession; 3]),
            (rejected(Opcode::DataIn, 0x04), [DropSession; 3]),
            (
                ProtocolError::Rejected {
                    pdu: None,
                    reason: 0x04,
                    name: "",
                },
                [DropSession; 3],
            ),
        ];
        for reason in [0x04, 0x05, 0x09, 0x0a, 0x0c, 0x77] {
            rows.push((rejected(Opcode::ScsiCommand, reason), [FailTask; 3]));
        }
        for opcode in [
            Opcode::DataOut,
            Opcode::SnackRequest,
            Opcode::NopOut,
            Opcode::TaskRequest,
            Opcode::TextRequest,
            Opcode::LogoutRequest,
        ] {
            rows.push((rejected(opcode, 0x02), [Ignore; 3]));
            rows.push((rejected(opcode, 0x04), [Ignore; 3]));
        }
        rows
    }

    fn other_rows() -> Vec<(ProtocolError, [Reaction; 3])> {
        let fault = R2tFault::TooLong;
        let (offset, bytes) = (0, 1);
        vec![
            (ProtocolError::UnknownTask { itt: 1 }, [DropSession; 3]),
            (
                ProtocolError::WrongLun {
                    expected: scsi::Lun::ZERO,
                    found: scsi::Lun::from_number(1),
                },
                [DropSession; 3],
            ),
            (
                ProtocolError::DataInOutOfBounds { offset, bytes },
                [DropSession; 3],
            ),
            (ProtocolError::UnexpectedDataIn, [DropSession; 3]),
            (ProtocolError::StatusInDataIn, [DropSession; 3]),
            (
                ProtocolError::BadR2t {
                    offset,
                    bytes,
                    fault,
                },
                [DropSession; 3],
            ),
            (
                ProtocolError::MissingData {
                    expected: 2,
                    actual: 1,
                },
                [DropSession; 3],
            ),
            (
                ProtocolError::BadResidual {
                    residual: 2,
                    expected: 1,
                },
                [FailTask; 3],
            ),
            (ProtocolError::UnexpectedPdu { pdu: "" }, [DropSession; 3]),
            (
                ProtocolError::WrongConnection {
                    itt: 1,
                    allegiance: crate::name::Cid(1),
                    cid: crate::name::Cid(2),
                },
                [DropSession; 3],
            ),
        ]
    }

    #[test]
    fn every_row_at_every_level() {
        let rows = [frame_rows(), sequence_rows(), reject_rows(), other_rows()];
        for (error, expected) in rows.iter().flatten() {
            for (level, expected) in (0..).zip(expected) {
                assert_eq!(
                    reaction(error, level),
                    *expected,
                    "{error:?}, level {level}"
                );
            }
        }
    }
}
