//! What happens to a logical unit, for people and for whoever watches.
//!
//! Every receiver has a queue of [`EVENTS_QUEUED`] events. One that does not keep up loses the
//! newer ones and is told how many ([`EventKind::Missed`]); it never slows anything down.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use scsi::{AccessState, Incarnation};

use crate::classify::Attention;
use crate::error::ProbeError;
use crate::failback::SwitchReason;
use crate::identity::Difference;
use crate::path::PathId;
use crate::second_fence::{FenceFailure, FenceQuality};
use crate::select::LoadBalancePolicy;
use crate::signal::{Signal, lock};

/// Events kept for one receiver.
pub const EVENTS_QUEUED: usize = 64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A path was added.
    PathAdded {
        /// Which.
        path: PathId,
    },
    /// A path carries I/O for the first time.
    PathUp {
        /// Which.
        path: PathId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A path came back, and the unit's persistent-reservation key was registered by no nexus any
    /// more: another host preempted it, or the device forgot. The path is not registered again.
    RegistrationLost {
        /// Which.
        path: PathId,
    },
    /// A path lost its session; the transport reconnects.
    PathDown {
        /// Which.
        path: PathId,
    },
    /// A path does not answer as it should and is being checked.
    PathSuspect {
        /// Which.
        path: PathId,
    },
    /// A path came and went too often, and carries I/O only if no other does.
    PathMarginal {
        /// Which.
        path: PathId,
        /// It is taken back after so long without a fault.
        recovery: Duration,
    },
    /// A path in quarantine was clean for long enough.
    PathRecovered {
        /// Which.
        path: PathId,
    },
    /// A path is logged in, but the unit cannot be used through it.
    PathFailed {
        /// Which.
        path: PathId,
        /// Why, when a check found out.
        problem: Option<ProbeError>,
    },
    /// A path is logged in, but the target gives no access through its port now.
    PathStandby {
        /// Which.
        path: PathId,
    },
    /// A path is used again.
    PathReinstated {
        /// Which.
        path: PathId,
        /// Its life.
        incarnation: Incarnation,
        /// How long it was not.
        after: Duration,
    },
    /// A path was closed for good.
    PathClosed {
        /// Which.
        path: PathId,
    },
    /// A path leads to something else than the unit and is not used.
    IdentityMismatch {
        /// Which.
        path: PathId,
        /// In what it differs; left is the unit, right the path.
        difference: Difference,
    },
    /// A lost path is being fenced; writes to what it left behind wait.
    FenceStart {
        /// Which.
        path: PathId,
        /// The life being fenced.
        incarnation: Incarnation,
        /// Writes that are uncertain.
        writes: usize,
    },
    /// The fence stands; nothing the path left behind can run any more.
    FenceEnd {
        /// Which.
        path: PathId,
        /// The life fenced.
        incarnation: Incarnation,
        /// How long the first of the writes was held.
        held: Duration,
        /// What the fence is worth.
        quality: FenceQuality,
    },
    /// One try to put up the fence failed; it is tried again unless the path is closed.
    FenceFailed {
        /// Which.
        path: PathId,
        /// The life to be fenced.
        incarnation: Incarnation,
        /// Why it failed.
        error: FenceFailure,
        /// How long the first of the writes is held by now.
        held: Duration,
    },
    /// The unit has another size now.
    CapacityChanged {
        /// Blocks before.
        from: u64,
        /// Blocks now.
        to: u64,
    },
    /// Writes are refused from now on, because a path shows the unit write-protected.
    ReadOnly {
        /// Which path.
        path: PathId,
    },
    /// The device says that it was powered on or reset, and it had acknowledged writes in a
    /// volatile cache. Unless another path knows better, the next flush fails.
    WritesAtRisk {
        /// The path that was told.
        path: PathId,
    },
    /// Every path says that there is no such logical unit; I/O fails until one says otherwise.
    UnitGone,
    /// No path is usable; I/O waits.
    NoPathLeft,
    /// No path came back in time; I/O fails until one does ([`crate::NoPathRetry`]).
    QueueingEnded {
        /// How long there has been none.
        after: Duration,
    },
    /// A path is usable again.
    PathsBack {
        /// How long there was none.
        after: Duration,
    },
    /// Another policy chooses paths.
    PolicyChanged {
        /// Which.
        policy: LoadBalancePolicy,
    },
    /// The unit reported that something about it has changed.
    Attention {
        /// On which path; it may report the same on each.
        path: PathId,
        /// What.
        attention: Attention,
    },
    /// A target port group is in another state, or is preferred or not as before.
    AccessChanged {
        /// Its identifier.
        group: u16,
        /// The state before; `None`: the group is new.
        from: Option<AccessState>,
        /// The state now.
        to: AccessState,
        /// PREF.
        preferred: bool,
    },
    /// The target was asked to bring a target port group into a state (SET TARGET PORT GROUPS).
    AccessRequested {
        /// Its identifier.
        group: u16,
        /// The state asked for.
        state: AccessState,
        /// Why the target would not; `None`: it did.
        problem: Option<ProbeError>,
    },
    /// I/O moved to another group of paths.
    GroupSwitched {
        /// Priority of the group it left.
        from: u8,
        /// Priority of the group it uses now.
        to: u8,
        /// Why.
        reason: SwitchReason,
    },
    /// The receiver was too slow; so many events are lost.
    Missed {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for EventKind {
    #[expect(clippy::too_many_lines, reason = "a line or two for each event")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathAdded { path } => write!(f, "path {path} added"),
            Self::PathUp { path, .. } => write!(f, "path {path} is up"),
            Self::PathDown { path } => write!(f, "path {path} is down"),
            Self::PathMarginal { path, recovery } => write!(
                f,
                "path {path} comes and goes; it is used only if no other is, until it was well for {recovery:.0?}"
            ),
            Self::PathRecovered { path } => write!(f, "path {path} was well for long enough"),
            Self::PathSuspect { path } => write!(f, "path {path} is being checked"),
            Self::PathFailed {
                path,
                problem: Some(problem),
            } => write!(f, "path {path} failed: {problem}"),
            Self::PathFailed {
                path,
                problem: None,
            } => write!(f, "path {path} failed"),
            Self::PathStandby { path } => {
                write!(
                    f,
                    "path {path} is on standby: the target gives no access through it"
                )
            }
            Self::PathReinstated { path, after, .. } => {
                write!(f, "path {path} is used again after {after:.1?}")
            }
            Self::PathClosed { path } => write!(f, "path {path} is closed"),
            Self::RegistrationLost { path } => write!(
                f,
                "path {path} is back without its registration: another host preempted the \
                 reservation key"
            ),
            Self::IdentityMismatch { path, difference } => {
                write!(f, "path {path} leads to another unit: {difference}")
            }
            Self::FenceStart { path, writes, .. } => {
                write!(f, "fencing path {path}: {writes} writes are uncertain")
            }
            Self::FenceEnd {
                path,
                held,
                quality,
                ..
            } => {
                write!(
                    f,
                    "path {path} is fenced ({quality}); writes were held for {held:.1?}"
                )?;
                if !quality.is_proven() {
                    f.write_str("; the target may still execute them")?;
                }
                Ok(())
            }
            Self::FenceFailed { path, error, .. } => {
                write!(f, "path {path} could not be fenced: {error}")
            }
            Self::CapacityChanged { from, to } => {
                write!(f, "the unit has {to} blocks now, {from} before")
            }
            Self::ReadOnly { path } => write!(f, "the unit is read-only, says path {path}"),
            Self::WritesAtRisk { path } => write!(
                f,
                "path {path}: the device restarted, and its cache held acknowledged writes"
            ),
            Self::UnitGone => f.write_str("the logical unit is gone, say all paths; I/O fails"),
            Self::NoPathLeft => f.write_str("no path is usable; I/O waits"),
            Self::QueueingEnded { after } => {
                write!(f, "no path for {after:.1?}; I/O fails until one is back")
            }
            Self::PathsBack { after } => write!(f, "a path is usable again after {after:.1?}"),
            Self::PolicyChanged { policy } => write!(f, "paths are chosen by {policy}"),
            Self::Attention { path, attention } => write!(f, "path {path} reports: {attention}"),
            Self::AccessChanged {
                group,
                from,
                to,
                preferred,
            } => access_changed(f, *group, (*from, *to), *preferred),
            Self::AccessRequested {
                group,
                state,
                problem,
            } => access_requested(f, *group, *state, problem.as_ref()),
            Self::GroupSwitched { from, to, reason } => {
                write!(
                    f,
                    "from paths of priority {from} to those of priority {to}: {reason}"
                )
            }
            Self::Missed { count } => write!(f, "{count} events were missed"),
        }
    }
}

fn access_changed(
    f: &mut fmt::Formatter<'_>,
    group: u16,
    (from, to): (Option<AccessState>, AccessState),
    preferred: bool,
) -> fmt::Result {
    write!(f, "target port group {group} is {to}")?;
    if preferred {
        f.write_str(" and preferred")?;
    }
    match from.filter(|from| *from != to) {
        Some(from) => write!(f, " (was {from})"),
        None => Ok(()),
    }
}

fn access_requested(
    f: &mut fmt::Formatter<'_>,
    group: u16,
    state: AccessState,
    problem: Option<&ProbeError>,
) -> fmt::Result {
    write!(
        f,
        "the target was asked to make target port group {group} {state}"
    )?;
    match problem {
        Some(problem) => write!(f, " and would not: {problem}"),
        None => Ok(()),
    }
}

#[derive(Debug, Default)]
struct Queue {
    events: Mutex<Pending>,
    news: Signal,
}

#[derive(Debug, Default)]
struct Pending {
    list: VecDeque<Event>,
    missed: Option<(Instant, u64)>,
    closed: bool,
}

/// Where events are made known.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    queues: Mutex<Vec<Weak<Queue>>>,
}

impl Hub {
    /// Tells every receiver.
    pub(crate) fn publish(&self, at: Instant, kind: EventKind) {
        tracing::debug!(event = %kind, "multipath");
        lock(&self.queues).retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            {
                let mut pending = lock(&queue.events);
                if pending.list.len() < EVENTS_QUEUED && pending.missed.is_none() {
                    let kind = kind.clone();
                    pending.list.push_back(Event { at, kind });
                } else {
                    let (since, count) = pending.missed.unwrap_or((at, 0));
                    pending.missed = Some((since, count.saturating_add(1)));
                }
            }
            queue.news.raise();
            true
        });
    }

    /// A receiver of what happens from now on.
    pub(crate) fn subscribe(&self) -> EventReceiver {
        let queue = Arc::new(Queue::default());
        lock(&self.queues).push(Arc::downgrade(&queue));
        EventReceiver { queue }
    }

    /// Lets receivers end when they have read what waits.
    pub(crate) fn close(&self) {
        for queue in lock(&self.queues).drain(..) {
            if let Some(queue) = queue.upgrade() {
                lock(&queue.events).closed = true;
                queue.news.raise();
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.close();
    }
}

/// Receives events, in order.
#[derive(Debug)]
pub struct EventReceiver {
    queue: Arc<Queue>,
}

impl EventReceiver {
    /// The next event; `None` once the logical unit is closed and everything was read. May be
    /// dropped without losing an event.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            let seen = self.queue.news.version();
            if let Some(event) = self.try_recv() {
                return Some(event);
            }
            if lock(&self.queue.events).closed {
                return self.try_recv();
            }
            self.queue.news.after(seen).await;
        }
    }

    /// The next event if one waits.
    pub fn try_recv(&mut self) -> Option<Event> {
        let mut pending = lock(&self.queue.events);
        if let Some(event) = pending.list.pop_front() {
            return Some(event);
        }
        let (at, count) = pending.missed.take()?;
        let kind = EventKind::Missed { count };
        Some(Event { at, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Executor, epoch};

    #[test]
    fn a_slow_receiver_is_told_how_much_it_missed() {
        let hub = Hub::default();
        let mut receiver = hub.subscribe();
        for _ in 0..EVENTS_QUEUED + 10 {
            hub.publish(epoch(), EventKind::NoPathLeft);
        }
        for _ in 0..EVENTS_QUEUED {
            assert_eq!(receiver.try_recv().unwrap().kind, EventKind::NoPathLeft);
        }
        let missed = receiver.try_recv().unwrap().kind;
        assert_eq!(missed, EventKind::Missed { count: 10 });
        assert_eq!(receiver.try_recv(), None);
        hub.publish(epoch(), EventKind::NoPathLeft);
        assert!(receiver.try_recv().is_some());
    }

    #[test]
    fn receivers_end_with_the_hub_after_the_last_event() {
        let hub = Hub::default();
        let mut receiver = hub.subscribe();
        hub.publish(epoch(), EventKind::NoPathLeft);
        drop(hub);
        let executor = Executor::new();
        assert!(executor.run(async move {
            receiver.recv().await.is_some() && receiver.recv().await.is_none()
        }));
    }
}
