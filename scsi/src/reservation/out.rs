//! PERSISTENT RESERVE OUT (SPC-4 §6.16): CDB and parameter list of each service action.

use bytes::Bytes;

use super::{ReservationKey, ReservationType, TransportId};
use crate::Cdb;

/// What shall happen to registrations and the reservation.
///
/// `key` is always the key that the nexus which carries the command is registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersistentReserveOut {
    /// 00h: registers this nexus, changes its key, or with [`ReservationKey::NONE`] as `new`
    /// takes its registration away.
    Register {
        /// The key so far; none when it is not registered.
        key: ReservationKey,
        /// The key from now on.
        new: ReservationKey,
        /// Further wishes.
        with: Registration,
        /// SPEC_I_PT: initiator ports to register besides. The device must know how
        /// ([`super::Capabilities::specify_initiator_ports`]).
        also: Vec<TransportId>,
    },
    /// 06h: registers this nexus whatever its key was.
    RegisterAndIgnore {
        /// The key from now on; none takes the registration away.
        new: ReservationKey,
        /// Further wishes.
        with: Registration,
    },
    /// 01h: reserves the logical unit.
    Reserve {
        /// Our key.
        key: ReservationKey,
        /// The type of the reservation.
        kind: ReservationType,
    },
    /// 02h: gives the reservation back.
    Release {
        /// Our key.
        key: ReservationKey,
        /// The type it was made with.
        kind: ReservationType,
    },
    /// 03h: takes all registrations and the reservation away.
    Clear {
        /// Our key.
        key: ReservationKey,
    },
    /// 04h: takes away the registrations with a key, and the reservation if one of them held it.
    Preempt {
        /// Our key.
        key: ReservationKey,
        /// The key of those to go.
        victim: ReservationKey,
        /// The type of the reservation we get.
        kind: ReservationType,
    },
    /// 05h: as [`Self::Preempt`], and aborts the tasks of those nexuses.
    PreemptAndAbort {
        /// Our key.
        key: ReservationKey,
        /// The key of those to go.
        victim: ReservationKey,
        /// The type of the reservation we get.
        kind: ReservationType,
    },
    /// 07h: registers another nexus and gives it the reservation.
    RegisterAndMove {
        /// Our key.
        key: ReservationKey,
        /// The key of the other nexus.
        new: ReservationKey,
        /// UNREG: take our registration away.
        unregister: bool,
        /// APTPL.
        persist: bool,
        /// Relative identifier of the other nexus's target port.
        target_port: u16,
        /// Its initiator port.
        to: TransportId,
        /// The type of the reservation.
        kind: ReservationType,
    },
}

/// Wishes that go with a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registration {
    /// APTPL: registrations shall survive a loss of power.
    pub persist: bool,
    /// ALL_TG_PT: register through every target port.
    pub all_target_ports: bool,
}

/// ALL_TG_PT, SPEC_I_PT, APTPL in byte 20 of the parameter list.
const ALL_TARGET_PORTS: u8 = 0x04;
const SPECIFY_PORTS: u8 = 0x08;
const PERSIST: u8 = 0x01;

impl PersistentReserveOut {
    /// The descriptor block and the data that go with it.
    #[must_use]
    pub fn to_command(&self) -> (Cdb, Bytes) {
        let parameters = self.parameters();
        let len = u32::try_from(parameters.len()).unwrap_or(u32::MAX);
        let kind = self.kind().map_or(0, ReservationType::code);
        let cdb = Cdb::persistent_reserve_out(self.service_action(), kind, len);
        (cdb, parameters.into())
    }

    const fn service_action(&self) -> u8 {
        match self {
            Self::Register { .. } => 0,
            Self::Reserve { .. } => 1,
            Self::Release { .. } => 2,
            Self::Clear { .. } => 3,
            Self::Preempt { .. } => 4,
            Self::PreemptAndAbort { .. } => 5,
            Self::RegisterAndIgnore { .. } => 6,
            Self::RegisterAndMove { .. } => 7,
        }
    }

    /// For the actions that have one; the scope is always the logical unit.
    const fn kind(&self) -> Option<ReservationType> {
        match *self {
            Self::Reserve { kind, .. }
            | Self::Release { kind, .. }
            | Self::Preempt { kind, .. }
            | Self::PreemptAndAbort { kind, .. }
            | Self::RegisterAndMove { kind, .. } => Some(kind),
            Self::Register { .. } | Self::RegisterAndIgnore { .. } | Self::Clear { .. } => None,
        }
    }

    fn parameters(&self) -> Vec<u8> {
        const NONE: ReservationKey = ReservationKey::NONE;
        match self {
            Self::Register {
                key,
                new,
                with,
                also,
            } => {
                let specify = if also.is_empty() { 0 } else { SPECIFY_PORTS };
                let mut list = basic(*key, *new, with.flags() | specify);
                if !also.is_empty() {
                    let ids: Vec<u8> = also.iter().flat_map(TransportId::to_bytes).collect();
                    append(&mut list, &ids);
                }
                list
            }
            Self::RegisterAndIgnore { new, with } => basic(NONE, *new, with.flags()),
            Self::Reserve { key, .. } | Self::Release { key, .. } | Self::Clear { key } => {
                basic(*key, NONE, 0)
            }
            Self::Preempt { key, victim, .. } | Self::PreemptAndAbort { key, victim, .. } => {
                basic(*key, *victim, 0)
            }
            Self::RegisterAndMove {
                key,
                new,
                unregister,
                persist,
                target_port,
                to,
                ..
            } => {
                let flags = u8::from(*unregister) << 1 | u8::from(*persist);
                let [high, low] = target_port.to_be_bytes();
                let mut list = keys(*key, *new);
                list.extend_from_slice(&[0, flags, high, low]);
                append(&mut list, &to.to_bytes());
                list
            }
        }
    }
}

impl Registration {
    const fn flags(self) -> u8 {
        let persist = if self.persist { PERSIST } else { 0 };
        let ports = if self.all_target_ports {
            ALL_TARGET_PORTS
        } else {
            0
        };
        persist | ports
    }
}

fn keys(key: ReservationKey, other: ReservationKey) -> Vec<u8> {
    [key.0.to_be_bytes(), other.0.to_be_bytes()].concat()
}

/// The parameter list of 24 bytes.
fn basic(key: ReservationKey, other: ReservationKey, flags: u8) -> Vec<u8> {
    let mut list = keys(key, other);
    list.extend_from_slice(&[0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

/// The length of `bytes` and they themselves.
fn append(list: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    list.extend_from_slice(&len.to_be_bytes());
    list.extend_from_slice(bytes);
}
