//! Registering a path that comes (back) while the others are registered.

use scsi::cdb::primary::PersistentReserveIn;
use scsi::reservation::{PersistentReserveOut, RegisteredKeys, ReservationKey};
use scsi::{Incarnation, Nexus};

use super::send::{OnPath, Refusal};
use crate::clock::Clock;
use crate::error::ProbeError;
use crate::path::Path;
use crate::registration::Wish;
use crate::unit::Unit;

/// How a path stands after [`on_return`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As the other paths.
    Same,
    /// Another host took the registrations away, or the device forgot them: this path has none.
    Lost,
}

/// Gives a path the registration that the unit's paths have, before it carries I/O.
///
/// # Errors
/// [`ProbeError::NoAnswer`]: the path is to be looked at again.
pub(crate) async fn on_return<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    path: &Path<N>,
    life: Incarnation,
) -> Result<Standing, ProbeError> {
    unit.registered.settled().await;
    let Some(wish) = unit.registered.wish() else {
        return Ok(Standing::Same);
    };
    let path = OnPath::new(unit, path, life);
    match register(&path, wish).await {
        Ok(standing) => Ok(standing),
        Err(Refusal::Lost(source)) => Err(ProbeError::NoAnswer {
            command: "PERSISTENT RESERVE",
            source,
        }),
        Err(Refusal::Conflict) => Ok(Standing::Lost),
        Err(Refusal::Other(error)) => {
            tracing::debug!(path = %path.path.label, %error, "no registration for a returned path");
            Ok(Standing::Lost)
        }
    }
}

async fn register<N: Nexus, C: Clock>(
    path: &OnPath<'_, N, C>,
    wish: Wish,
) -> Result<Standing, Refusal> {
    let set = |new| PersistentReserveOut::RegisterAndIgnore {
        new,
        with: wish.with,
    };
    if wish.key == ReservationKey::NONE {
        // It was away when the others were unregistered.
        path.change(&set(ReservationKey::NONE)).await?;
        return Ok(Standing::Same);
    }
    let before = path.keys().await?;
    let ours = |list: &RegisteredKeys| list.keys.iter().filter(|key| **key == wish.key).count();
    if ours(&before) == 0 {
        path.path.set_registered(false);
        return Ok(Standing::Lost);
    }
    path.change(&set(wish.key)).await?;
    let after = path.keys().await?;
    // Preempted between the look and the registration, which then was a new one: it would let in
    // whom another host has just shut out.
    let alone = after.generation == before.generation.wrapping_add(1);
    if !alone && ours(&after) < ours(&before) {
        path.change(&set(ReservationKey::NONE)).await?;
        return Ok(Standing::Lost);
    }
    Ok(Standing::Same)
}

impl<'a, N: Nexus, C: Clock> OnPath<'a, N, C> {
    pub(super) fn new(unit: &'a Unit<N, C>, path: &'a Path<N>, life: Incarnation) -> Self {
        Self { unit, path, life }
    }

    /// READ KEYS.
    pub(super) async fn keys(&self) -> Result<RegisteredKeys, Refusal> {
        let needs = |list: &RegisteredKeys| list.needed_bytes;
        self.ask(PersistentReserveIn::ReadKeys, RegisteredKeys::parse, needs)
            .await
    }
}
