//! The logical units of a target that are in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mpio::{Attention, Maintenance, PathId, TokioClock};

use super::{Shared, Target};
use crate::event::Event;
use crate::{Error, LogicalUnit, Lun};

/// Longest wait for what a closed unit has left behind, before it may be opened again.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Units in use, or closed and not asked for since.
pub(super) type Units = BTreeMap<Lun, Opened>;

/// A unit in use.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) unit: LogicalUnit,
    /// How many paths of other targets come before ours.
    pub(super) before: usize,
}

impl Opened {
    /// The unit's path over one of the target's sessions.
    pub(super) fn path(&self, session: usize) -> Option<PathId> {
        let paths = self.unit.topology().paths;
        Some(paths.get(self.before.saturating_add(session))?.id)
    }
}

impl Target {
    /// One logical unit over all sessions. Asked for again, it is the same unit until it was
    /// closed.
    ///
    /// # Errors
    /// [`Error::NoSuchLun`], [`Error::Assemble`], [`Error::NoSession`]; [`Error::Unsettled`] when
    /// it was closed and a lost write could not be fenced since.
    pub async fn logical_unit(&self, lun: Lun) -> Result<LogicalUnit, Error> {
        let shared = &self.shared;
        let mut units = shared.units.lock().await;
        if let Some(Opened { unit, .. }) = units.get(&lun) {
            if !unit.is_closed() {
                return Ok(unit.clone());
            }
            shared.settle(lun, unit).await?;
        }
        shared.first_inventory(&units).await;
        let config = shared.settings.multipath().clone();
        let assembled = LogicalUnit::assemble(shared.path_specs(lun), config, TokioClock).await;
        let (unit, maintenance) =
            assembled.map_err(|error| Error::of_assembly(&shared.name, lun, error))?;
        shared.maintain(maintenance);
        self.follow(lun, &unit);
        let opened = Opened {
            unit: unit.clone(),
            before: 0,
        };
        units.insert(lun, opened);
        Ok(unit)
    }

    /// Passes a unit's events on, and asks for the target's list of units when it changes.
    pub(super) fn follow(&self, lun: Lun, unit: &LogicalUnit) {
        let mut happenings = unit.events();
        let events = Arc::clone(&self.shared.events);
        let shared = Arc::downgrade(&self.shared);
        let pass_on = async move {
            while let Some(mpio::Event { kind: event, .. }) = happenings.recv().await {
                let list_changed = matches!(
                    event,
                    mpio::EventKind::Attention {
                        attention: Attention::LogicalUnits,
                        ..
                    } | mpio::EventKind::Missed { .. }
                );
                if list_changed && let Some(shared) = shared.upgrade() {
                    shared.inventory.want();
                }
                events.send(Event::Unit { lun, event });
            }
        };
        self.tasks().spawn_on(pass_on, &self.shared.runtime);
    }
}

impl Shared {
    /// Waits until nothing that a closed unit has left behind can be executed any more: a new unit
    /// would know nothing of it.
    pub(super) async fn settle(&self, lun: Lun, unit: &LogicalUnit) -> Result<(), Error> {
        let settled = async {
            unit.close().await;
            unit.settled().await
        };
        let retry = self.settings.multipath().no_path_retry;
        // Whoever asks for a unit wants an answer.
        let limit = retry.limit().unwrap_or(SETTLE_MAX).min(SETTLE_MAX);
        if tokio::time::timeout(limit, settled).await != Ok(true) {
            return Err(self.unsettled(lun, unit));
        }
        Ok(())
    }

    /// Runs a unit's upkeep. It outlives the target if the unit does.
    pub(super) fn maintain(&self, maintenance: Maintenance) {
        self.runtime.spawn(maintenance);
    }
}
