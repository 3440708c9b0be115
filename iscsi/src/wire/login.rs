//! Login Request and Login Response (RFC 7143 §11.12, §11.13).

use super::field::{self, FIRST_BIT, SECOND_BIT};
use super::{Bhs, Itt, Lengths, Opcode, Window, WireError, itt};
use crate::name::{Cid, Isid, Tsih};
use crate::serial::{CmdSn, StatSn};

/// Login stages (§11.12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    SecurityNegotiation = 0,
    OperationalNegotiation = 1,
    FullFeaturePhase = 3,
}

impl Stage {
    /// The stage of this code, `None` for the reserved 2 and above 3.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::SecurityNegotiation,
            1 => Self::OperationalNegotiation,
            3 => Self::FullFeaturePhase,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Stage {
    /// The RFC's name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SecurityNegotiation => "SecurityNegotiation",
            Self::OperationalNegotiation => "LoginOperationalNegotiation",
            Self::FullFeaturePhase => "FullFeaturePhase",
        })
    }
}

/// Byte 1, the same in both directions.
#[derive(Debug, Clone, Copy)]
struct Flags {
    transit: bool,
    continue_: bool,
    current: Stage,
    next: Stage,
}

impl Flags {
    /// NSG is reserved without T, and goes out as 0 then.
    const fn encode(self) -> u8 {
        let next = if self.transit { self.next as u8 } else { 0 };
        field::flag(self.transit, FIRST_BIT)
            | field::flag(self.continue_, SECOND_BIT)
            | (self.current as u8) << 2
            | next
    }

    /// `next` is `current` without T.
    fn decode(flags: u8, pdu: &'static str) -> Result<Self, WireError> {
        let transit = flags & FIRST_BIT != 0;
        let continue_ = flags & SECOND_BIT != 0;
        if transit && continue_ {
            let (first, second) = ("T", "C");
            return Err(WireError::ExclusiveBits { pdu, first, second });
        }
        let stage = |code: u8, field: &'static str| {
            Stage::from_code(code).ok_or_else(|| WireError::ReservedValue {
                pdu,
                field,
                value: code.into(),
            })
        };
        let current = stage(flags >> 2 & 3, "CSG")?;
        let next = if transit {
            stage(flags & 3, "NSG")?
        } else {
            current
        };
        Ok(Self {
            transit,
            continue_,
            current,
            next,
        })
    }
}

/// Login Request (§11.12). Always immediate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRequest {
    pub transit: bool,
    pub continue_: bool,
    pub current: Stage,
    /// Meaningful with T only; decoded as `current` without.
    pub next: Stage,
    pub version_max: u8,
    pub version_min: u8,
    pub isid: Isid,
    pub tsih: Tsih,
    pub itt: Itt,
    pub cid: Cid,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
}

impl LoginRequest {
    const NAME: &'static str = "Login Request";

    /// The header. `lengths.data_bytes` is the length of the text.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = Flags {
            transit: self.transit,
            continue_: self.continue_,
            current: self.current,
            next: self.next,
        };
        let mut bhs = field::start(Opcode::LoginRequest, true, flags.encode(), lengths);
        field::put_u8::<2>(&mut bhs, self.version_max);
        field::put_u8::<3>(&mut bhs, self.version_min);
        field::put::<8, 6>(&mut bhs, self.isid.0);
        field::put_u16::<14>(&mut bhs, self.tsih.0);
        field::put_itt(&mut bhs, self.itt);
        field::put_u16::<20>(&mut bhs, self.cid.0);
        field::put_request_numbers(&mut bhs, self.cmd_sn, self.exp_stat_sn);
        bhs
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, T and C together, or a
    /// reserved stage.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::LoginRequest)?;
        field::no_ahs(bhs, Self::NAME)?;
        let flags = Flags::decode(field::get_u8::<1>(bhs), Self::NAME)?;
        let (cmd_sn, exp_stat_sn) = field::get_request_numbers(bhs);
        Ok(Self {
            transit: flags.transit,
            continue_: flags.continue_,
            current: flags.current,
            next: flags.next,
            version_max: field::get_u8::<2>(bhs),
            version_min: field::get_u8::<3>(bhs),
            isid: Isid(field::get::<8, 6>(bhs)),
            tsih: Tsih(field::get_u16::<14>(bhs)),
            itt: itt(bhs),
            cid: Cid(field::get_u16::<20>(bhs)),
            cmd_sn,
            exp_stat_sn,
        })
    }
}

/// Login Response (§11.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginResponse {
    pub transit: bool,
    pub continue_: bool,
    pub current: Stage,
    /// Meaningful with T only; decoded as `current` without.
    pub next: Stage,
    pub version_max: u8,
    pub version_active: u8,
    pub isid: Isid,
    pub tsih: Tsih,
    pub itt: Itt,
    /// Meaningful with status class 0 only, like the window.
    pub stat_sn: StatSn,
    pub window: Window,
    pub status_class: u8,
    pub status_detail: u8,
}

impl LoginResponse {
    const NAME: &'static str = "Login Response";

    /// The header. `lengths.data_bytes` is the length of the text.
    #[must_use]
    pub fn encode(&self, lengths: Lengths) -> Bhs {
        let flags = Flags {
            transit: self.transit,
            continue_: self.continue_,
            current: self.current,
            next: self.next,
        };
        let mut bhs = field::start(Opcode::LoginResponse, false, flags.encode(), lengths);
        field::put_u8::<2>(&mut bhs, self.version_max);
        field::put_u8::<3>(&mut bhs, self.version_active);
        field::put::<8, 6>(&mut bhs, self.isid.0);
        field::put_u16::<14>(&mut bhs, self.tsih.0);
        field::put_itt(&mut bhs, self.itt);
        field::put_stat_sn(&mut bhs, self.stat_sn);
        field::put_window(&mut bhs, self.window);
        field::put_u8::<36>(&mut bhs, self.status_class);
        field::put_u8::<37>(&mut bhs, self.status_detail);
        bhs
    }

    /// Reads a header. In a response that refuses or redirects the login, byte 1 settles nothing
    /// any more: forbidden combinations in it are not held against the target, so that the status
    /// reaches the user.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another opcode, additional header segments, and, with status class 0,
    /// T and C together or a reserved stage.
    pub fn decode(bhs: &Bhs) -> Result<Self, WireError> {
        field::expect(bhs, Opcode::LoginResponse)?;
        field::no_ahs(bhs, Self::NAME)?;
        let status_class = field::get_u8::<36>(bhs);
        let flags = match Flags::decode(field::get_u8::<1>(bhs), Self::NAME) {
            Ok(flags) => flags,
            Err(error) if status_class == 0 => return Err(error),
            Err(_) => Flags {
                transit: false,
                continue_: false,
                current: Stage::SecurityNegotiation,
                next: Stage::SecurityNegotiation,
            },
        };
        Ok(Self {
            transit: flags.transit,
            continue_: flags.continue_,
            current: flags.current,
            next: flags.next,
            version_max: field::get_u8::<2>(bhs),
            version_active: field::get_u8::<3>(bhs),
            isid: Isid(field::get::<8, 6>(bhs)),
            tsih: Tsih(field::get_u16::<14>(bhs)),
            itt: itt(bhs),
            stat_sn: field::get_stat_sn(bhs),
            window: field::get_window(bhs),
            status_class,
            status_detail: field::get_u8::<37>(bhs),
        })
    }
}
