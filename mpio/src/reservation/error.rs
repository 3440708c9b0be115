//! Why a change of reservations did not happen.

use std::sync::Arc;

use scsi::reservation::{HeldReservation, ReservationKey, ReservationType};
use scsi::{DeliveryError, ParseError, SenseData, Status};

/// Failure of an operation on persistent reservations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReservationError {
    /// The key 0 means "not registered".
    #[error("0 is no reservation key")]
    NoKey,
    /// This unit's paths have no registration, or it was taken from them.
    #[error("not registered{}; register a key first", preempted(*.lost))]
    NotRegistered {
        /// Another host took it away (or the device forgot it).
        lost: bool,
    },
    /// Somebody else holds the reservation.
    #[error("reserved by another: {}", described(.held.as_ref()))]
    Conflict {
        /// Who has what, as far as the device told.
        held: Option<HeldReservation>,
    },
    /// Nobody is registered with the key to be preempted.
    #[error("nobody is registered with key {0}")]
    NoSuchKey(ReservationKey),
    /// With this type only one path could be used.
    #[error(
        "\"{}\" lets one I_T nexus in, and there are {paths} paths; take a \"registrants only\" type",
        .kind.name()
    )]
    OneNexusOnly {
        /// The type asked for.
        kind: ReservationType,
        /// How many paths there are.
        paths: usize,
    },
    /// The device knows no persistent reservations, or not this action.
    #[error("the device does not support it")]
    Unsupported,
    /// The device refused.
    #[error("{label} refused: status {status}{}", sense_text(.sense))]
    Refused {
        /// Over which path.
        label: Arc<str>,
        /// The status.
        status: Status,
        /// Sense data.
        sense: Box<[u8]>,
    },
    /// Every path was lost before there was an answer; nothing was changed, or the question was
    /// not answered.
    #[error("no answer over any path{}", last_text(.last.as_ref()))]
    NoPath {
        /// What happened on the last one tried.
        last: Option<DeliveryError>,
    },
    /// The command got no answer, and what the device says afterwards does not tell what became
    /// of it.
    #[error("the outcome is unknown: {0}")]
    Unknown(DeliveryError),
    /// The device's answer makes no sense.
    #[error("malformed answer: {0}")]
    Malformed(ParseError),
    /// Another change of this unit's reservations is under way.
    #[error("another change of reservations is under way")]
    Busy,
}

const fn preempted(lost: bool) -> &'static str {
    if lost {
        ": another host took the registration away"
    } else {
        ""
    }
}

fn described(held: Option<&HeldReservation>) -> String {
    held.map_or_else(
        || "it does not say by whom".to_owned(),
        |held| format!("key {}, {}", held.key, held.kind.name()),
    )
}

fn sense_text(sense: &[u8]) -> String {
    SenseData::parse(sense).map_or_else(|_| String::new(), |sense| format!(", {sense}"))
}

fn last_text(last: Option<&DeliveryError>) -> String {
    last.map_or_else(String::new, |last| format!(": {last}"))
}
