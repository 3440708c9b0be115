//! [`SimNexus`]: what `iscsi::net::LunNexus` is for tokio, for virtual time.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use iscsi::session::{Session, TaskKey};
use mpio::Clock as _;
use scsi::{Command, Completion, DataPhase, FenceError, Incarnation, Lun, Nexus, NexusState};

use crate::clock::SimClock;
use crate::lock;

/// What waiting callers look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status {
    state: NexusState,
    over: Incarnation,
    unsettled: usize,
}

/// What callers and the driver of a path share.
#[derive(Debug)]
pub struct Shared {
    core: Mutex<Core>,
    /// Somebody used the session, so its driver has to look at it.
    touched: AtomicBool,
    clock: SimClock,
    label: String,
    depth: usize,
    max_transfer_bytes: usize,
    /// A fence that says it stands and does nothing (to prove that this would be noticed).
    lying_fence: bool,
}

/// The session, its free slots, and who waits.
#[derive(Debug)]
pub struct Core {
    /// The real thing.
    pub session: Session,
    status: Status,
    watchers: Vec<Waker>,
    slots: Slots,
    wakes: Vec<Waker>,
    /// Completions that did not give back what was lent.
    pub spoiled: Vec<String>,
}

/// Free slots of the task table, handed out in the order of asking.
#[derive(Debug)]
struct Slots {
    free: usize,
    next: u64,
    queue: VecDeque<(u64, Waker)>,
}

impl Slots {
    fn wake_first(&self) {
        if self.free > 0
            && let Some((_, waker)) = self.queue.front()
        {
            waker.wake_by_ref();
        }
    }
}

/// How a path's nexus is made.
#[derive(Debug)]
pub struct Setting {
    /// For people.
    pub label: String,
    /// Commands worth having under way.
    pub depth: usize,
    /// Bytes one command carries.
    pub max_transfer_bytes: usize,
    /// See [`crate::scenario::Sabotage::LyingFence`].
    pub lying_fence: bool,
}

impl Shared {
    /// A session that others can use.
    #[must_use]
    pub fn new(session: Session, clock: SimClock, setting: Setting) -> Self {
        Self {
            core: Mutex::new(Core {
                status: status(&session),
                watchers: Vec::new(),
                slots: Slots {
                    free: session.capacity(),
                    next: 0,
                    queue: VecDeque::new(),
                },
                wakes: Vec::new(),
                spoiled: Vec::new(),
                session,
            }),
            touched: AtomicBool::new(true),
            clock,
            label: setting.label,
            depth: setting.depth,
            max_transfer_bytes: setting.max_transfer_bytes,
            lying_fence: setting.lying_fence,
        }
    }

    /// The session, for those who ask something of it: its driver is told.
    pub fn use_core(&self) -> std::sync::MutexGuard<'_, Core> {
        self.touched.store(true, Ordering::Relaxed);
        self.core()
    }

    /// Whether somebody has used the session since this was last asked.
    pub(crate) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    /// The session, for its driver.
    pub fn core(&self) -> std::sync::MutexGuard<'_, Core> {
        lock(&self.core)
    }

    /// Slots that are free.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.core().slots.free
    }

    /// Tells waiting callers what has changed.
    pub fn publish(&self) {
        let mut wakes = Vec::new();
        {
            let mut core = self.core();
            let core = &mut *core;
            core.slots.free += core.session.take_freed();
            core.slots.wake_first();
            let now = status(&core.session);
            if now != core.status {
                core.status = now;
                wakes.append(&mut core.watchers);
            }
            core.session.take_wakes(&mut core.wakes);
            wakes.append(&mut core.wakes);
        }
        for waker in wakes {
            waker.wake();
        }
    }

    /// Waits until `done`, for at most `budget`.
    async fn wait(
        &self,
        budget: Duration,
        done: impl Fn(&Status) -> bool + Send,
    ) -> Result<(), FenceError> {
        let mut sleep = pin!(self.clock.sleep_until(self.clock.now() + budget));
        poll_fn(|cx| {
            {
                let mut core = self.core();
                if done(&core.status) {
                    return Poll::Ready(Ok(()));
                }
                if core.status.state == NexusState::Closed {
                    return Poll::Ready(Err(FenceError::Closed));
                }
                watch(&mut core.watchers, cx);
            }
            sleep
                .as_mut()
                .poll(cx)
                .map(|()| Err(FenceError::Unreachable))
        })
        .await
    }
}

fn status(session: &Session) -> Status {
    Status {
        state: session.state(),
        over: session.over(),
        unsettled: session.unsettled(),
    }
}

fn watch(watchers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !watchers.iter().any(|known| known.will_wake(cx.waker())) {
        watchers.push(cx.waker().clone());
    }
}

/// One logical unit behind one simulated path.
#[derive(Debug, Clone)]
pub struct SimNexus(pub Arc<Shared>);

impl Nexus for SimNexus {
    async fn execute(&self, command: Command) -> Completion {
        let shared = &*self.0;
        let started = shared.clock.now();
        Slot {
            shared,
            ticket: None,
        }
        .await;
        let lent = shape(&command.data);
        let submitted = {
            let now = shared.clock.now();
            shared.use_core().session.submit(now, Lun::ZERO, command)
        };
        let completion = match submitted {
            Ok(key) => {
                Submitted {
                    shared,
                    key: Some(key),
                }
                .await
            }
            Err(completion) => {
                let mut core = shared.core();
                core.slots.free += 1;
                core.slots.wake_first();
                completion
            }
        };
        let back = shape(&completion.data);
        if back != lent {
            let what = format!("{}: lent {lent:?}, got back {back:?}", shared.label);
            shared.core().spoiled.push(what);
        }
        Completion {
            took: shared.clock.now() - started,
            ..completion
        }
    }

    async fn fence(&self, incarnation: Incarnation, budget: Duration) -> Result<(), FenceError> {
        let shared = &*self.0;
        if shared.lying_fence {
            return Ok(());
        }
        let now = shared.clock.now();
        shared.use_core().session.want_fence(now, incarnation);
        shared
            .wait(budget, |status| status.over >= incarnation)
            .await
    }

    async fn settle(&self, incarnation: Incarnation, budget: Duration) -> Result<(), FenceError> {
        let shared = &*self.0;
        if shared.lying_fence {
            return Ok(());
        }
        let alive = |state| state == NexusState::Up(incarnation);
        let settled = shared
            .wait(budget, |status| {
                status.over >= incarnation || !alive(status.state) || status.unsettled == 0
            })
            .await;
        let status = shared.core().status;
        if status.over >= incarnation || (alive(status.state) && status.unsettled == 0) {
            return Ok(());
        }
        settled?;
        self.fence(incarnation, budget).await
    }

    fn state(&self) -> NexusState {
        self.0.core().status.state
    }

    async fn changed(&self, seen: NexusState) -> NexusState {
        poll_fn(|cx| {
            let mut core = self.0.core();
            if core.status.state != seen {
                return Poll::Ready(core.status.state);
            }
            watch(&mut core.watchers, cx);
            Poll::Pending
        })
        .await
    }

    fn max_transfer_bytes(&self) -> usize {
        self.0.max_transfer_bytes
    }

    fn queue_depth(&self) -> usize {
        self.0.depth
    }

    fn describe(&self) -> String {
        self.0.label.clone()
    }
}

fn shape(data: &DataPhase) -> (u8, usize) {
    let kind = match data {
        DataPhase::None => 0,
        DataPhase::Read(_) => 1,
        DataPhase::Write(_) => 2,
        DataPhase::Bidirectional(_) => 3,
    };
    (kind, data.len())
}

/// Waits for a free slot.
struct Slot<'a> {
    shared: &'a Shared,
    ticket: Option<u64>,
}

impl Future for Slot<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut core = self.shared.core();
        let slots = &mut core.slots;
        let first = match (self.ticket, slots.queue.front()) {
            (None, None) => true,
            (Some(ticket), Some((front, _))) => ticket == *front,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if first && slots.free > 0 {
            if self.ticket.take().is_some() {
                slots.queue.pop_front();
            }
            slots.free -= 1;
            slots.wake_first();
            return Poll::Ready(());
        }
        match self.ticket {
            Some(ticket) => {
                for (other, waker) in &mut slots.queue {
                    if *other == ticket {
                        waker.clone_from(cx.waker());
                    }
                }
            }
            None => {
                slots.next += 1;
                slots.queue.push_back((slots.next, cx.waker().clone()));
                let ticket = slots.next;
                drop(core);
                self.ticket = Some(ticket);
            }
        }
        Poll::Pending
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut core = self.shared.core();
            core.slots.queue.retain(|(other, _)| *other != ticket);
            core.slots.wake_first();
        }
    }
}

/// Waits for a submitted command; dropped, it gives the command up.
struct Submitted<'a> {
    shared: &'a Shared,
    key: Option<TaskKey>,
}

impl Future for Submitted<'_> {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        let Some(key) = self.key else {
            return Poll::Pending;
        };
        let polled = {
            let mut core = self.shared.use_core();
            let polled = core.session.poll_task(key, cx.waker());
            core.slots.free += core.session.take_freed();
            core.slots.wake_first();
            polled
        };
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let now = self.shared.clock.now();
            self.shared.use_core().session.abandon(now, key);
        }
    }
}
