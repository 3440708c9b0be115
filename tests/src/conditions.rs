//! What a target may say of itself: unit attentions, check conditions, Async Messages.

use fastrand::Rng;
use test_target::{AsyncEvent, Sense};

/// Unit attentions: additional sense code and qualifier.
pub(crate) const ATTENTIONS: &[(u8, u8)] = &[
    (0x29, 0x00),
    (0x2a, 0x01),
    (0x2a, 0x09),
    (0x3f, 0x03),
    (0x3f, 0x0e),
    (0x2f, 0x00),
];

/// Check conditions of a command that was not executed.
pub(crate) const CONDITIONS: &[(u8, u8, u8)] = &[
    (0x6, 0x29, 0x00),
    (0x6, 0x3f, 0x0e),
    (0x2, 0x04, 0x01),
    (0x2, 0x04, 0x0b),
    (0xb, 0x00, 0x00),
    (0xb, 0x47, 0x05),
    (0x4, 0x44, 0x00),
    (0x3, 0x11, 0x00),
    (0x5, 0x25, 0x00),
];

/// One of all kinds of Async Messages (RFC 7143 §11.9.1).
pub(crate) fn async_event(rng: &mut Rng) -> AsyncEvent {
    let seconds = rng.u16(..4);
    match rng.u8(..8) {
        0 => AsyncEvent::Scsi {
            lun: 0,
            sense: Sense::new(6, 0x2a, 0x01),
        },
        1 => AsyncEvent::RequestLogout { seconds },
        2 => AsyncEvent::DropConnection {
            cid: None,
            wait_s: seconds,
            retain_s: 0,
        },
        3 => AsyncEvent::DropSession {
            wait_s: seconds,
            retain_s: 0,
        },
        4 => AsyncEvent::Renegotiate { seconds },
        5 => AsyncEvent::TasksTerminated { lun: 0 },
        6 => AsyncEvent::Raw {
            code: 255,
            vcode: 1,
            parameters: [1, 2, 3],
            data: b"vendor".to_vec(),
        },
        _ => AsyncEvent::Raw {
            code: 100,
            vcode: 0,
            parameters: [0; 3],
            data: Vec::new(),
        },
    }
}
