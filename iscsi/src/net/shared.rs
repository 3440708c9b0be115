//! What callers and the driver of one session share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use scsi::{Incarnation, NexusState};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::name::Cid;
use crate::session::{Event, Session};
use crate::wire::transmit::Transmit;

/// Events kept for a slow reader. The memory is there from the beginning, in every session.
const EVENTS_KEPT: usize = 16;

/// What waiting callers look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) state: NexusState,
    pub(super) over: Incarnation,
    pub(super) unsettled: usize,
    pub(super) echoed: u64,
    pub(super) failures: u64,
}

pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) writer: Mutex<Writer>,
    /// One permit per slot that is promised to those who wait for one, see [`Queue`].
    pub(super) slots: Semaphore,
    pub(super) status: watch::Sender<Status>,
    pub(super) events: broadcast::Sender<Event>,
}

pub(super) struct Core {
    pub(super) session: Session,
    pub(super) driver: Option<Waker>,
    /// The driver has been woken and has not looked yet.
    pub(super) rung: bool,
    /// When the driver's timer wakes it.
    pub(super) armed: Option<Instant>,
    pub(super) queue: Queue,
    /// What waiting callers were told last.
    published: Status,
}

/// Callers who wait for a slot of the task table.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How many; while there are any, nobody else takes a slot.
    pub(super) waiting: usize,
    /// How many of them have been promised a slot and have not taken it yet.
    pub(super) promised: usize,
}

/// The sending halves. Held across a write, so that the order of PDUs is the order of CmdSN.
pub(super) struct Writer {
    /// Never empty.
    pub(super) outlets: Vec<Outlet>,
}

/// The sending half of one connection.
pub(super) struct Outlet {
    pub(super) cid: Cid,
    pub(super) transmit: Transmit,
    pub(super) half: Option<OwnedWriteHalf>,
    /// The core has been told that the socket is full.
    pub(super) blocked: bool,
    /// It is getting a batch.
    pub(super) filling: bool,
}

impl Outlet {
    pub(super) fn new() -> Self {
        Self {
            cid: Cid(0),
            transmit: Transmit::new(),
            half: None,
            blocked: false,
            filling: false,
        }
    }

    /// Writes to `half` from now on.
    pub(super) fn open(&mut self, cid: Cid, half: OwnedWriteHalf) {
        self.cid = cid;
        self.transmit.reset();
        self.half = Some(half);
        self.blocked = false;
    }

    /// Stops writing, for good; returns what was written to, and how much of its stream the
    /// network has taken.
    pub(super) fn take(&mut self) -> (Option<OwnedWriteHalf>, u64) {
        let half = self.half.take();
        let written = half.as_ref().map_or(0, |_| self.transmit.written());
        self.transmit.reset();
        (half, written)
    }

    /// Cuts the connection, if there is one; returns how much of its stream the network has taken.
    pub(super) fn cut(&mut self) -> u64 {
        let (half, written) = self.take();
        if let Some(write) = half {
            // RST, and nothing that the kernel still holds is sent any more.
            if let Err(error) = write.as_ref().set_zero_linger() {
                tracing::warn!(%error, "a connection could not be made to close abortively");
            }
            write.forget();
        }
        written
    }
}

impl Shared {
    pub(super) fn new(session: Session) -> Self {
        let published = status(&session);
        Self {
            slots: Semaphore::new(0),
            status: watch::Sender::new(published),
            events: broadcast::Sender::new(EVENTS_KEPT),
            core: Mutex::new(Core {
                session,
                driver: None,
                rung: false,
                armed: None,
                queue: Queue::default(),
                published,
            }),
            writer: Mutex::new(Writer {
                outlets: vec![Outlet::new()],
            }),
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells waiting callers what has changed.
    pub(super) fn publish(&self, core: &mut Core) {
        while let Some(event) = core.session.poll_event() {
            tracing::debug!(target: "iscsi::session", ?event);
            // No receiver is fine.
            let _ = self.events.send(event);
        }
        let promises = core.promise();
        if promises > 0 {
            self.slots.add_permits(promises);
        }
        let now = status(&core.session);
        if core.published != now {
            core.published = now;
            self.status.send_replace(now);
        }
    }
}

impl Core {
    /// Whether a slot is there for whoever comes now.
    pub(super) fn has_place(&self) -> bool {
        self.queue.waiting == 0 && self.session.free_slots() > self.queue.promised
    }

    /// Promises free slots to those who wait; returns how many permits to add, without the lock.
    /// A waiter who gives up in between leaves a promise for the next one who waits.
    #[must_use]
    pub(super) fn promise(&mut self) -> usize {
        let Queue { waiting, promised } = self.queue;
        if waiting <= promised {
            return 0;
        }
        let free = self.session.free_slots().saturating_sub(promised);
        let promises = free.min(waiting - promised);
        self.queue.promised += promises;
        promises
    }

    /// Somebody who waited takes the slot that was promised.
    pub(super) fn take_promised(&mut self) {
        self.queue.waiting = self.queue.waiting.saturating_sub(1);
        self.queue.promised = self.queue.promised.saturating_sub(1);
    }

    /// Whether the driver's timer will wake it as early as the session needs.
    pub(super) fn timer_is_in_time(&self) -> bool {
        let due = self.session.poll_timeout();
        self.armed
            .is_some_and(|armed| due.is_none_or(|due| armed <= due))
    }

    /// The driver, if it has to be woken; to be woken without the lock.
    pub(super) fn ring(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.rung, true) {
            None
        } else {
            self.driver.clone()
        }
    }
}

fn status(session: &Session) -> Status {
    Status {
        state: session.state(),
        over: session.over(),
        unsettled: session.unsettled(),
        echoed: session.answered_echo(),
        failures: session.failures(),
    }
}
