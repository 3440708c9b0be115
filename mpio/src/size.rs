//! A unit that changes its size while it is used.
//!
//! Growth is taken when every usable path shows it; until then no I/O goes beyond the old end. A
//! path that shows less than the unit had is refused, because what was there may be gone: only an
//! administrator's call takes a smaller size ([`crate::LogicalUnit::accept_size`]). Whoever shows
//! another size makes all other paths be looked at again.

use scsi::Nexus;

use crate::clock::Clock;
use crate::event::EventKind;
use crate::path::{PathId, PathState, Report, Trouble};
use crate::unit::Unit;

/// Why the size that the paths show was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// No path that is logged in has shown a size.
    #[error("no path shows a size")]
    Unseen,
    /// The paths do not agree.
    #[error("path {left} shows {left_blocks} blocks and path {right} shows {right_blocks}")]
    Disagreement {
        /// One path.
        left: PathId,
        /// What it shows.
        left_blocks: u64,
        /// Another.
        right: PathId,
        /// What that one shows.
        right_blocks: u64,
    },
}

/// A path was looked at and shows `blocks`. Whether it may be used is decided elsewhere.
pub(crate) fn seen<N: Nexus, C: Clock>(unit: &Unit<N, C>, path: PathId, blocks: u64) {
    let before = unit.table.load().get(path).and_then(|entry| entry.blocks);
    if before != Some(blocks) {
        unit.update(path, |entry| entry.blocks = Some(blocks));
    }
    if blocks == unit.blocks() || before == Some(blocks) {
        return;
    }
    look_again(unit, Some((path, blocks)));
}

/// Takes a larger size when every usable path shows it.
pub(crate) fn grow<N: Nexus, C: Clock>(unit: &Unit<N, C>) {
    let table = unit.table.load();
    // One that is being looked at again may show another size in a moment.
    let counts = |state: PathState| state.is_usable() || state == PathState::Verifying;
    let usable = table.entries.iter().filter(|entry| counts(entry.state));
    // Who has not been looked at since the assembly shows what was seen there.
    let shown = usable.map(|entry| entry.blocks.unwrap_or(unit.profile.blocks));
    let (from, smallest) = (unit.blocks(), shown.min());
    if let Some(to) = smallest.filter(|smallest| *smallest > from) {
        unit.set_blocks(to);
        let kind = EventKind::CapacityChanged { from, to };
        unit.events.publish(unit.clock.now(), kind);
        unit.changes.raise();
    }
}

/// Takes the size that all paths show which are logged in, be it smaller.
pub(crate) fn accept<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Result<u64, SizeError> {
    let table = unit.table.load();
    let away = |state| matches!(state, PathState::Down | PathState::Closed);
    let shown = table
        .entries
        .iter()
        .filter(|entry| !away(entry.state))
        .filter_map(|entry| Some((entry.path.id, entry.blocks?)));
    let mut agreed: Option<(PathId, u64)> = None;
    for (right, right_blocks) in shown {
        match agreed {
            Some((left, left_blocks)) if left_blocks != right_blocks => {
                return Err(SizeError::Disagreement {
                    left,
                    left_blocks,
                    right,
                    right_blocks,
                });
            }
            _ => agreed = Some((right, right_blocks)),
        }
    }
    let (_, to) = agreed.ok_or(SizeError::Unseen)?;
    let from = unit.blocks();
    if to != from {
        unit.set_blocks(to);
        let kind = EventKind::CapacityChanged { from, to };
        unit.events.publish(unit.clock.now(), kind);
        look_again(unit, None);
    }
    Ok(to)
}

/// Has paths looked at again: all, or those that did not show what one has shown.
pub(crate) fn look_again<N: Nexus, C: Clock>(unit: &Unit<N, C>, but: Option<(PathId, u64)>) {
    for entry in &unit.table.load().entries {
        let path = &entry.path;
        if but.is_some_and(|(id, blocks)| id == path.id || entry.blocks == Some(blocks)) {
            continue;
        }
        if let scsi::NexusState::Up(incarnation) = path.nexus.state() {
            path.report(Report {
                incarnation,
                trouble: Trouble::Changed,
            });
        }
    }
}
