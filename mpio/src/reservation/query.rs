//! Asking the device about reservations, over whichever path answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use scsi::cdb::primary::PersistentReserveIn;
use scsi::reservation::{Capabilities, FullStatus, RegisteredKeys, Reservation, ReservationKey};
use scsi::{Incarnation, Nexus, ParseError};

use super::ReservationError;
use super::send::{OnPath, Refusal};
use crate::clock::Clock;
use crate::path::Path;
use crate::unit::Unit;

/// A key with the number of I_T nexuses registered with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCount {
    /// The key.
    pub key: ReservationKey,
    /// How many nexuses have it: one for each path of the host, as a rule.
    pub nexuses: usize,
}

/// The registered keys, each once, in rising order.
pub(crate) async fn counted_keys<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
) -> Result<Vec<KeyCount>, ReservationError> {
    let mut counts = BTreeMap::new();
    for key in keys(unit).await?.keys {
        *counts.entry(key.0).or_insert(0) += 1;
    }
    let count = |(key, nexuses)| KeyCount {
        key: ReservationKey(key),
        nexuses,
    };
    Ok(counts.into_iter().map(count).collect())
}

pub(crate) async fn full_status<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
) -> Result<FullStatus, ReservationError> {
    let needs = |status: &FullStatus| status.needed_bytes;
    let what = PersistentReserveIn::ReadFullStatus;
    ask(unit, what, FullStatus::parse, needs).await
}

pub(crate) async fn capabilities<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
) -> Result<Capabilities, ReservationError> {
    let what = PersistentReserveIn::ReportCapabilities;
    ask(unit, what, Capabilities::parse, |_| 0).await
}

pub(super) async fn keys<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
) -> Result<RegisteredKeys, ReservationError> {
    let needs = |list: &RegisteredKeys| list.needed_bytes;
    let what = PersistentReserveIn::ReadKeys;
    ask(unit, what, RegisteredKeys::parse, needs).await
}

pub(crate) async fn reservation<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
) -> Result<Reservation, ReservationError> {
    let what = PersistentReserveIn::ReadReservation;
    ask(unit, what, Reservation::parse, |_| 0).await
}

/// Asks each usable path in turn until one answers.
async fn ask<N: Nexus, C: Clock, T>(
    unit: &Unit<N, C>,
    what: PersistentReserveIn,
    parse: impl Fn(&[u8]) -> Result<T, ParseError>,
    needs: impl Fn(&T) -> usize,
) -> Result<T, ReservationError> {
    let mut last = None;
    for (path, life) in usable(unit) {
        match OnPath::new(unit, &path, life)
            .ask(what, &parse, &needs)
            .await
        {
            Ok(answer) => return Ok(answer),
            Err(Refusal::Lost(error)) => last = Some(error),
            // PERSISTENT RESERVE IN passes every reservation (SPC-4 §5.13.1).
            Err(Refusal::Conflict) => return Err(ReservationError::Conflict { held: None }),
            Err(Refusal::Other(error)) => return Err(error),
        }
    }
    Err(ReservationError::NoPath { last })
}

/// The paths that carry I/O now.
pub(super) fn usable<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Vec<(Arc<Path<N>>, Incarnation)> {
    let table = unit.table.load();
    let open = |path: &Arc<Path<N>>| Some((Arc::clone(path), path.gate()?));
    table
        .entries
        .iter()
        .filter_map(|entry| open(&entry.path))
        .collect()
}
