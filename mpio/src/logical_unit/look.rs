//! Which unit it is, and whether it still is.

use std::sync::Arc;

use scsi::{Nexus, NexusState};

use super::LogicalUnit;
use crate::clock::Clock;
use crate::path::{PathId, Report, Trouble};
use crate::size;

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Has what is behind a path, or behind all, looked at before it carries more I/O. For whoever
    /// has sent commands over the same nexus past this unit: a change of the unit is told only
    /// once, and may have been told there. `false` when there is no such path.
    pub fn look_again(&self, path: Option<PathId>) -> bool {
        let unit = self.unit();
        let Some(path) = path else {
            size::look_again(unit, None);
            return true;
        };
        let table = unit.table.load();
        let entry = table.get(path);
        if let Some(entry) = entry
            && let NexusState::Up(incarnation) = entry.path.nexus.state()
        {
            entry.path.report(Report {
                incarnation,
                trouble: Trouble::Changed,
            });
        }
        entry.is_some()
    }

    /// Whether both are clones of one unit.
    #[must_use]
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }
}
