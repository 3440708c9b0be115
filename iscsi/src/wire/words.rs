//! PDUs in words, for people who watch a session (`tracing` target `iscsi::wire`).
//!
//! What is rare and tells a story (login, text, logout, NOP, task management, Async Message,
//! Reject) is told at debug level, commands and data at trace level. Nothing is formatted unless
//! somebody listens. Values that help to guess a CHAP secret are never shown.
//!
//! This reads the header as it travels and decides nothing: a malformed PDU is shown as it is.

use std::fmt;

use tracing::level_filters::LevelFilter;

use super::field::{get, get_u16, get_u32};
use super::{Bhs, Opcode};

/// Tells that a PDU was handed over for sending.
pub(super) fn sent(bhs: &Bhs, data: &[u8]) {
    if somebody_listens() {
        tell("->", bhs, data);
    }
}

/// Tells that a PDU came in whole (or, for Data-In, its header).
pub(super) fn received(bhs: &Bhs, data: &[u8]) {
    if somebody_listens() {
        tell("<-", bhs, data);
    }
}

/// Asked first, because it is asked for every PDU.
fn somebody_listens() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

fn tell(direction: &str, bhs: &Bhs, data: &[u8]) {
    let words = Words { bhs, data };
    if words.is_story() {
        tracing::debug!(target: "iscsi::wire", "{direction} {words}");
    } else {
        tracing::trace!(target: "iscsi::wire", "{direction} {words}");
    }
}

struct Words<'a> {
    bhs: &'a Bhs,
    data: &'a [u8],
}

impl Words<'_> {
    fn opcode(&self) -> Option<Opcode> {
        Opcode::from_code(self.bhs.first()? & 0x3f)
    }

    fn is_story(&self) -> bool {
        !matches!(
            self.opcode(),
            Some(
                Opcode::ScsiCommand
                    | Opcode::ScsiResponse
                    | Opcode::DataOut
                    | Opcode::DataIn
                    | Opcode::R2t
            )
        )
    }

    fn byte(&self, at: usize) -> u8 {
        self.bhs.get(at).copied().unwrap_or(0)
    }

    fn flag(&self, bit: u8) -> bool {
        self.byte(1) & bit != 0
    }

    fn login(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let flags = self.byte(1);
        write!(f, "{name}, stage {}", flags >> 2 & 3)?;
        if self.flag(0x80) {
            write!(f, ", on to {}", flags & 3)?;
        }
        if self.flag(0x40) {
            f.write_str(", to be continued")?;
        }
        write!(f, ", TSIH {:#06x}", get_u16::<14>(self.bhs))
    }

    fn text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pair in self
            .data
            .split(|byte| *byte == 0)
            .filter(|pair| !pair.is_empty())
        {
            let pair = String::from_utf8_lossy(pair);
            let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
            if matches!(key, "CHAP_C" | "CHAP_R") {
                write!(f, ", {key}=(not shown)")?;
            } else {
                write!(f, ", {}={}", key.escape_debug(), value.escape_debug())?;
            }
        }
        Ok(())
    }

    fn command(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cdb = self.bhs.get(32..).unwrap_or_default();
        let code = cdb.first().copied().unwrap_or(0);
        write!(f, "SCSI Command {} (", command_name(code))?;
        for (index, byte) in cdb.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { " " })?;
        }
        let way = match (self.flag(0x40), self.flag(0x20)) {
            (true, true) => "to write, others to read",
            (true, false) => "to read",
            (false, true) => "to write",
            (false, false) => "of data",
        };
        write!(
            f,
            "), {} bytes {way}, CmdSN {}",
            get_u32::<20>(self.bhs),
            get_u32::<24>(self.bhs)
        )
    }

    fn body(&self, f: &mut fmt::Formatter<'_>, opcode: Opcode) -> fmt::Result {
        match opcode {
            Opcode::NopOut => write!(f, "NOP-Out, CmdSN {}", get_u32::<24>(self.bhs)),
            Opcode::NopIn => write!(f, "NOP-In, StatSN {}", get_u32::<24>(self.bhs)),
            Opcode::ScsiCommand => self.command(f),
            Opcode::ScsiResponse => write!(
                f,
                "SCSI Response {:#04x}, status {}, StatSN {}",
                self.byte(2),
                scsi::Status(self.byte(3)),
                get_u32::<24>(self.bhs)
            ),
            Opcode::TaskRequest => {
                let function = self.byte(1) & 0x7f;
                write!(
                    f,
                    "Task Management Request {function} of task {:#010x}",
                    get_u32::<20>(self.bhs)
                )
            }
            Opcode::TaskResponse => write!(f, "Task Management Response {}", self.byte(2)),
            Opcode::LoginRequest => self.login(f, "Login Request"),
            Opcode::LoginResponse => {
                self.login(f, "Login Response")?;
                write!(f, ", status {:#06x}", get_u16::<36>(self.bhs))
            }
            Opcode::TextRequest => f.write_str("Text Request"),
            Opcode::TextResponse => f.write_str("Text Response"),
            Opcode::DataOut | Opcode::DataIn => {
                let name = if opcode == Opcode::DataIn {
                    "SCSI Data-In"
                } else {
                    "SCSI Data-Out"
                };
                let bytes = get_u32::<4>(self.bhs) & 0x00ff_ffff;
                write!(
                    f,
                    "{name}, {bytes} bytes at {}, DataSN {}",
                    get_u32::<40>(self.bhs),
                    get_u32::<36>(self.bhs)
                )?;
                if opcode == Opcode::DataIn && self.flag(1) {
                    write!(f, ", status {}", scsi::Status(self.byte(3)))?;
                }
                Ok(())
            }
            Opcode::R2t => write!(
                f,
                "R2T, {} bytes at {}, R2TSN {}",
                get_u32::<44>(self.bhs),
                get_u32::<40>(self.bhs),
                get_u32::<36>(self.bhs)
            ),
            Opcode::LogoutRequest => write!(f, "Logout Request, reason {}", self.byte(1) & 0x7f),
            Opcode::LogoutResponse => write!(f, "Logout Response {}", self.byte(2)),
            Opcode::SnackRequest => write!(f, "SNACK Request, type {}", self.byte(1) & 0x0f),
            Opcode::AsyncMessage => write!(
                f,
                "Async Message {}, parameters {} {} {}",
                self.byte(36),
                get_u16::<38>(self.bhs),
                get_u16::<40>(self.bhs),
                get_u16::<42>(self.bhs)
            ),
            Opcode::Reject => write!(f, "Reject, reason {:#04x}", self.byte(2)),
        }
    }
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(opcode) = self.opcode() else {
            return write!(f, "PDU with opcode {:#04x}", self.byte(0));
        };
        self.body(f, opcode)?;
        let has_lun = matches!(
            opcode,
            Opcode::ScsiCommand | Opcode::TaskRequest | Opcode::AsyncMessage
        );
        if has_lun {
            let lun = scsi::Lun::from_bytes(get::<8, 8>(self.bhs));
            write!(f, ", LUN {lun}")?;
        }
        write!(f, ", ITT {:#010x}", get_u32::<16>(self.bhs))?;
        let has_text = matches!(
            opcode,
            Opcode::LoginRequest
                | Opcode::LoginResponse
                | Opcode::TextRequest
                | Opcode::TextResponse
        );
        if has_text { self.text(f) } else { Ok(()) }
    }
}

/// Names of the commands this project sends itself (SPC-4, SBC-3).
const fn command_name(code: u8) -> &'static str {
    match code {
        0x00 => "TEST UNIT READY",
        0x03 => "REQUEST SENSE",
        0x08 => "READ(6)",
        0x0a => "WRITE(6)",
        0x12 => "INQUIRY",
        0x1a => "MODE SENSE(6)",
        0x25 => "READ CAPACITY(10)",
        0x28 => "READ(10)",
        0x2a => "WRITE(10)",
        0x35 => "SYNCHRONIZE CACHE(10)",
        0x5a => "MODE SENSE(10)",
        0x88 => "READ(16)",
        0x8a => "WRITE(16)",
        0x91 => "SYNCHRONIZE CACHE(16)",
        0x9e => "SERVICE ACTION IN(16)",
        0xa0 => "REPORT LUNS",
        0xa3 => "MAINTENANCE IN",
        0xa8 => "READ(12)",
        0xaa => "WRITE(12)",
        _ => "of another kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(header: &[(usize, u8)], data: &[u8]) -> String {
        let mut bhs = [0; 48];
        for (at, byte) in header {
            bhs[*at] = *byte;
        }
        Words { bhs: &bhs, data }.to_string()
    }

    #[test]
    fn a_login_is_told_without_what_helps_guessing() {
        let text = words(
            &[(0, 0x43), (1, 0x81), (19, 7)],
            b"CHAP_N=me\0CHAP_R=0x1234\0CHAP_I=5\0CHAP_C=0xabcd\0",
        );
        assert_eq!(
            text,
            "Login Request, stage 0, on to 1, TSIH 0x0000, ITT 0x00000007, CHAP_N=me, \
             CHAP_R=(not shown), CHAP_I=5, CHAP_C=(not shown)"
        );
    }

    #[test]
    fn a_read_is_told() {
        let text = words(
            &[
                (0, 1),
                (1, 0xc1),
                (9, 3),
                (22, 2),
                (27, 9),
                (32, 0x28),
                (40, 1),
            ],
            b"",
        );
        assert_eq!(
            text,
            "SCSI Command READ(10) (28 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00), \
             512 bytes to read, CmdSN 9, LUN 3, ITT 0x00000000"
        );
        let text = words(
            &[(0, 0x25), (1, 0x81), (3, 8), (6, 2), (39, 1), (42, 2)],
            b"",
        );
        assert_eq!(
            text,
            "SCSI Data-In, 512 bytes at 512, DataSN 1, status BUSY (0x08), ITT 0x00000000"
        );
    }

    #[test]
    fn text_cannot_steer_a_terminal() {
        let text = words(&[(0, 0x24)], b"TargetAlias=\x1b[2J\xff\0");
        assert!(text.ends_with("TargetAlias=\\u{1b}[2J\u{fffd}"), "{text}");
    }

    #[test]
    fn every_opcode_has_words() {
        for code in 0..=255_u8 {
            assert!(!words(&[(0, code)], b"x=y\0").is_empty());
        }
    }
}
