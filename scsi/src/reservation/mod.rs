//! Persistent reservations (SPC-4 §5.13): the answers of PERSISTENT RESERVE IN (§6.15) and the
//! requests of PERSISTENT RESERVE OUT (§6.16).
//!
//! A registration belongs to an I_T nexus: over iSCSI to initiator name and ISID on one side,
//! target name and portal group tag on the other. This module only reads and writes; which path
//! is to be registered is multipath's business.
//!
//! Answers that were cut off by the allocation length are read as far as they go;
//! `needed_bytes` tells what the whole takes.

mod out;
mod transport_id;

use std::fmt;

pub use out::{PersistentReserveOut, Registration};
pub use transport_id::{BadName, TransportId};

use crate::{ParseError, be};

/// The key of a registration; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ReservationKey(pub u64);

impl ReservationKey {
    /// No registration; registering it takes one away.
    pub const NONE: Self = Self(0);
}

/// `0x1234`, as `sg_persist` and `mpathpersist` have it.
impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReservationKey({self})")
    }
}

/// Who may do what while the reservation stands (TYPE, 4 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationType {
    /// 1h: only the holder writes.
    WriteExclusive,
    /// 3h: only the holder reads and writes.
    ExclusiveAccess,
    /// 5h: only registered nexuses write.
    WriteExclusiveRegistrantsOnly,
    /// 6h: only registered nexuses read and write.
    ExclusiveAccessRegistrantsOnly,
    /// 7h: as 5h, and every registered nexus is a holder.
    WriteExclusiveAllRegistrants,
    /// 8h: as 6h, and every registered nexus is a holder.
    ExclusiveAccessAllRegistrants,
}

impl ReservationType {
    /// The six types, in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type with this code; `None` for obsolete and reserved ones.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    /// Whether every registered nexus is a holder; the reservation then has no key.
    #[must_use]
    pub const fn is_for_all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
        }
    }

    /// The standard's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteExclusive => "write exclusive",
            Self::ExclusiveAccess => "exclusive access",
            Self::WriteExclusiveRegistrantsOnly => "write exclusive, registrants only",
            Self::ExclusiveAccessRegistrantsOnly => "exclusive access, registrants only",
            Self::WriteExclusiveAllRegistrants => "write exclusive, all registrants",
            Self::ExclusiveAccessAllRegistrants => "exclusive access, all registrants",
        }
    }

    /// From the byte that holds SCOPE and TYPE; only the scope of the logical unit is left in
    /// SPC-4.
    fn from_scope_and_type(what: &'static str, byte: u8) -> Result<Self, ParseError> {
        if byte >> 4 != 0 {
            return Err(ParseError::bad(what, "SCOPE", byte >> 4));
        }
        Self::from_code(byte).ok_or_else(|| ParseError::bad(what, "TYPE", byte))
    }
}

impl fmt::Display for ReservationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The head of three of the answers: generation, and the bytes of the body that are there.
fn body<'a>(what: &'static str, data: &'a [u8]) -> Result<(u32, &'a [u8], usize), ParseError> {
    let (Some(generation), Some(length)) = (be::u32(data, 0), be::u32(data, 4)) else {
        return Err(ParseError::truncated(what, 8, data.len()));
    };
    let needed = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(8);
    let body = be::clamp(data, needed).get(8..).unwrap_or_default();
    Ok((generation, body, needed))
}

/// The answer to READ KEYS (SPC-4 §6.15.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKeys {
    /// PRGENERATION: rises with each change of the registrations.
    pub generation: u32,
    /// The keys that were transferred whole, one for each registered nexus: paths of one host
    /// usually share theirs.
    pub keys: Vec<ReservationKey>,
    /// Bytes an allocation length must have for all of the data.
    pub needed_bytes: usize,
}

impl RegisteredKeys {
    /// Reads the data.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let (generation, body, needed_bytes) = body("READ KEYS data", data)?;
        let keys = body.chunks_exact(8).filter_map(|key| be::u64(key, 0));
        Ok(Self {
            generation,
            keys: keys.map(ReservationKey).collect(),
            needed_bytes,
        })
    }
}

/// The answer to READ RESERVATION (SPC-4 §6.15.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// PRGENERATION.
    pub generation: u32,
    /// The reservation; `None`: there is none.
    pub held: Option<HeldReservation>,
}

/// A reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldReservation {
    /// The key of its holder; 0 when every registrant is one.
    pub key: ReservationKey,
    /// What it forbids.
    pub kind: ReservationType,
}

impl Reservation {
    /// Reads the data.
    ///
    /// # Errors
    /// [`ParseError`] when the data are not whole, and on an unknown scope or type.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "READ RESERVATION data";
        let (generation, body, needed) = body(WHAT, data)?;
        if needed == 8 {
            let held = None;
            return Ok(Self { generation, held });
        }
        let (Some(key), Some(scope_and_type)) = (be::u64(body, 0), be::u8(body, 13)) else {
            return Err(ParseError::truncated(WHAT, 24, data.len()));
        };
        let held = Some(HeldReservation {
            key: ReservationKey(key),
            kind: ReservationType::from_scope_and_type(WHAT, scope_and_type)?,
        });
        Ok(Self { generation, held })
    }
}

/// The answer to REPORT CAPABILITIES (SPC-4 §6.15.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// CRH: RESERVE(6) of a registered holder is accepted.
    pub compatible_reserve: bool,
    /// SIP_C: REGISTER takes TransportIDs (SPEC_I_PT).
    pub specify_initiator_ports: bool,
    /// ATP_C: REGISTER takes ALL_TG_PT.
    pub all_target_ports: bool,
    /// PTPL_C: registrations can survive a loss of power (APTPL).
    pub persist_capable: bool,
    /// PTPL_A: and they do now.
    pub persist_active: bool,
    /// ALLOW COMMANDS: which commands pass a reservation, 3 bits.
    pub allow_commands: u8,
    /// PERSISTENT RESERVATION TYPE MASK, when it is valid (TMV); ask
    /// [`Capabilities::supports`].
    pub type_mask: Option<u16>,
}

impl Capabilities {
    /// Reads the data.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let Some([_, _, b2, b3, m0, m1, _, _]) = be::array(data, 0) else {
            return Err(ParseError::truncated(
                "REPORT CAPABILITIES data",
                8,
                data.len(),
            ));
        };
        Ok(Self {
            compatible_reserve: b2 & 0x10 != 0,
            specify_initiator_ports: b2 & 0x08 != 0,
            all_target_ports: b2 & 0x04 != 0,
            persist_capable: b2 & 0x01 != 0,
            persist_active: b3 & 0x01 != 0,
            allow_commands: b3 >> 4 & 7,
            // The first byte holds types 0 to 7, the second begins with type 8.
            type_mask: (b3 & 0x80 != 0).then_some(u16::from_le_bytes([m0, m1])),
        })
    }

    /// Whether the device knows a type; `None` when it does not say.
    #[must_use]
    pub fn supports(&self, kind: ReservationType) -> Option<bool> {
        self.type_mask.map(|mask| mask & (1 << kind.code()) != 0)
    }
}

/// The answer to READ FULL STATUS (SPC-4 §6.15.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullStatus {
    /// PRGENERATION.
    pub generation: u32,
    /// The registrations that were transferred whole.
    pub registrants: Vec<Registrant>,
    /// Bytes an allocation length must have for all of the data.
    pub needed_bytes: usize,
}

/// A registered nexus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    /// Its key.
    pub key: ReservationKey,
    /// ALL_TG_PT: registered through every target port; then there is no single port.
    pub all_target_ports: bool,
    /// The type of the reservation when this nexus holds it; `None`: it does not.
    pub holds: Option<ReservationType>,
    /// RELATIVE TARGET PORT IDENTIFIER of the port it is registered through.
    pub target_port: u16,
    /// The initiator's side.
    pub initiator: TransportId,
}

impl FullStatus {
    /// Reads the data.
    ///
    /// # Errors
    /// [`ParseError`] below 8 bytes, when a registration contradicts itself, and on a holder
    /// with an unknown scope or type.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let (generation, mut rest, needed_bytes) = body(FULL_STATUS, data)?;
        let mut registrants = Vec::new();
        while let Some((descriptor, after)) = split_descriptor(rest) {
            registrants.push(Registrant::parse(descriptor)?);
            rest = after;
        }
        Ok(Self {
            generation,
            registrants,
            needed_bytes,
        })
    }
}

const FULL_STATUS: &str = "READ FULL STATUS data";

/// The first descriptor of a list, if it is whole, and what follows it.
fn split_descriptor(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let additional = usize::try_from(be::u32(list, 20)?).ok()?;
    list.split_at_checked(additional.checked_add(24)?)
}

impl Registrant {
    fn parse(descriptor: &[u8]) -> Result<Self, ParseError> {
        let short = || ParseError::truncated(FULL_STATUS, 24, descriptor.len());
        let is_holder = be::bit(descriptor, 12, 0);
        let scope_and_type = be::u8(descriptor, 13).ok_or_else(short)?;
        let kind = is_holder
            .then(|| ReservationType::from_scope_and_type(FULL_STATUS, scope_and_type))
            .transpose()?;
        Ok(Self {
            key: ReservationKey(be::u64(descriptor, 0).ok_or_else(short)?),
            all_target_ports: be::bit(descriptor, 12, 1),
            holds: kind,
            target_port: be::u16(descriptor, 18).ok_or_else(short)?,
            initiator: TransportId::parse(descriptor.get(24..).unwrap_or_default())?,
        })
    }
}

#[cfg(test)]
mod tests;
