//! Writes whose fate is unknown, and the ranges held for them.
//!
//! A write that got lost with its path may be executed by the target at any later time. Until the
//! path is fenced ([`scsi::Nexus::fence`]) it must not be sent again, and no other write may touch
//! its blocks: a late execution would overwrite newer data. Only its own range is at risk, so
//! other writes go on, and reads do not care: in the range they may see old or new data.
//!
//! A hold lives until its path is fenced, whatever becomes of the I/O that caused it: an I/O that
//! gave up at its deadline, or whose future was dropped, leaves its hold behind. The path's keeper
//! ([`crate::runtime`]) puts up the fence, one at a time per path, as long as holds need it.
//!
//! A write whose future was dropped on a healthy path is being aborted by the transport; its hold
//! costs nothing until somebody wants to write there. Then the transport is asked to settle.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use scsi::{Incarnation, LbaRange};

use crate::path::{PathId, PathSet};
use crate::signal::{Signal, lock};

/// Dropped writes that may be held on one unit before they are settled unasked.
const IDLE_HOLDS_MAX: usize = 64;

/// A held range, for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HoldId(u64);

/// How it is with a held range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not held (any more).
    Free,
    /// Held, until a fence stands.
    Held,
    /// Held for ever: no fence can be put up.
    Hopeless,
}

/// Why a range is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The write got no answer.
    Lost,
    /// The write's future was dropped while it was under way.
    Dropped,
}

#[derive(Debug)]
struct Hold {
    id: HoldId,
    range: LbaRange,
    path: PathId,
    incarnation: Incarnation,
    since: Instant,
    /// The write got no answer; if not, the transport is aborting it.
    lost: bool,
    /// Somebody waits, or the write is lost: do something about it.
    urgent: bool,
}

/// All held ranges of a logical unit.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// Number of holds, so that the data path need not lock when there are none.
    count: AtomicUsize,
    table: Mutex<Table>,
    /// Raised when a keeper may have something to do.
    pub(crate) work: Signal,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Paths that can never be fenced.
    hopeless: PathSet,
    holds: Vec<Hold>,
}

/// What a keeper has to fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    /// The life of the nexus to be put to rest.
    pub(crate) incarnation: Incarnation,
    /// The session lives: only aborted commands have to end.
    pub(crate) settle: bool,
    /// Since when the oldest of the writes is held.
    pub(crate) since: Instant,
    /// Since when the newest of them is held: the path was cut before.
    pub(crate) last: Instant,
    /// How many writes wait for it.
    pub(crate) writes: usize,
    /// Holds made later are not covered by settling.
    before: u64,
}

impl Holds {
    /// Holds a range.
    pub(crate) fn hold(
        &self,
        range: LbaRange,
        path: PathId,
        incarnation: Incarnation,
        cause: Cause,
        now: Instant,
    ) -> HoldId {
        let id = {
            let mut table = lock(&self.table);
            let id = HoldId(table.next);
            table.next = table.next.wrapping_add(1);
            table.holds.push(Hold {
                id,
                range,
                path,
                incarnation,
                since: now,
                lost: cause == Cause::Lost,
                urgent: cause == Cause::Lost,
            });
            if table.holds.len() > IDLE_HOLDS_MAX {
                for hold in &mut table.holds {
                    hold.urgent = true;
                }
            }
            self.count.store(table.holds.len(), Ordering::Release);
            id
        };
        self.work.raise();
        id
    }

    /// How many ranges are held.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How it is with a hold.
    pub(crate) fn standing(&self, id: HoldId) -> Standing {
        let table = lock(&self.table);
        match table.holds.iter().find(|hold| hold.id == id) {
            None => Standing::Free,
            Some(hold) if table.hopeless.contains(hold.path) => Standing::Hopeless,
            Some(_) => Standing::Held,
        }
    }

    /// Whether a write to `range` has to wait; if so, makes what is in its way urgent.
    pub(crate) fn in_the_way(&self, range: LbaRange) -> Standing {
        if self.count() == 0 {
            return Standing::Free;
        }
        let mut standing = Standing::Free;
        let mut news = false;
        {
            let mut table = lock(&self.table);
            let hopeless = table.hopeless;
            for hold in &mut table.holds {
                if !hold.range.overlaps(range) {
                    continue;
                }
                news |= !std::mem::replace(&mut hold.urgent, true);
                if hopeless.contains(hold.path) {
                    standing = Standing::Hopeless;
                } else if standing == Standing::Free {
                    standing = Standing::Held;
                }
            }
        }
        if news {
            self.work.raise();
        }
        standing
    }

    /// How it is with everything that is held.
    pub(crate) fn outlook(&self) -> Standing {
        let table = lock(&self.table);
        let hopeless = |hold: &Hold| table.hopeless.contains(hold.path);
        if table.holds.is_empty() {
            Standing::Free
        } else if table.holds.iter().all(hopeless) {
            Standing::Hopeless
        } else {
            Standing::Held
        }
    }

    /// Has everything settled or fenced, whether somebody wants to write there or not.
    pub(crate) fn urge(&self) {
        for hold in &mut lock(&self.table).holds {
            hold.urgent = true;
        }
        self.work.raise();
    }

    /// No fence will ever stand on this path.
    pub(crate) fn give_up(&self, path: PathId) {
        lock(&self.table).hopeless.insert(path);
    }

    /// What has to be fenced on a path whose nexus lives as `alive`.
    pub(crate) fn job(&self, path: PathId, alive: Option<Incarnation>) -> Option<Job> {
        let table = lock(&self.table);
        let urgent =
            |hold: &&Hold| hold.path == path && (hold.urgent || alive != Some(hold.incarnation));
        let incarnation = table
            .holds
            .iter()
            .filter(urgent)
            .map(|h| h.incarnation)
            .max()?;
        let lost_in = |life| {
            let mut holds = table.holds.iter();
            holds.any(|hold| hold.path == path && hold.incarnation == life && hold.lost)
        };
        let settle = alive == Some(incarnation) && !lost_in(incarnation);
        let covered =
            |hold: &&Hold| hold.path == path && covers(incarnation, settle, hold.incarnation);
        Some(Job {
            incarnation,
            settle,
            since: table.holds.iter().filter(covered).map(|h| h.since).min()?,
            last: table.holds.iter().filter(covered).map(|h| h.since).max()?,
            writes: table.holds.iter().filter(covered).count(),
            before: table.next,
        })
    }

    /// The job is done: lets go of what it covered. Returns how many ranges became free.
    pub(crate) fn release(&self, path: PathId, job: Job) -> usize {
        let mut table = lock(&self.table);
        let before = table.holds.len();
        table.holds.retain(|hold| {
            let covered = hold.path == path
                && covers(job.incarnation, job.settle, hold.incarnation)
                && (!job.settle || hold.id.0 < job.before);
            !covered
        });
        self.count.store(table.holds.len(), Ordering::Release);
        before.saturating_sub(table.holds.len())
    }
}

/// Whether putting `job` to rest puts a write of `life` to rest. A fence covers all earlier lives;
/// that the dropped commands of one life have ended says nothing of another: a session that has
/// come back in another portal group has reinstated nothing.
fn covers(job: Incarnation, settle: bool, life: Incarnation) -> bool {
    if settle { life == job } else { life <= job }
}

#[cfg(test)]
mod tests;
