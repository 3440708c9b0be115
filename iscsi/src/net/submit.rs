//! One command from a caller to the core and back.
//!
//! A command that finds a free slot takes it under the lock that it needs anyway. Only one that
//! finds none, or others waiting, queues in the semaphore, which is fair and safe when a waiter is
//! dropped; a slot that becomes free while somebody waits is promised to the queue.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll};
use std::time::Instant;

use scsi::{Command, Completion, DeliveryErrorKind, Lun};
use smallvec::SmallVec;

use super::driver::now;
use super::shared::{Core, Outlet, Shared};
use crate::name::Cid;
use crate::session::TaskKey;
use crate::wire::transmit::MAX_SLICES;

/// Carries a command. It is submitted when first polled.
///
/// Not an `async fn`, which would keep its arguments twice: what is kept is moved for every I/O.
#[expect(clippy::manual_async_fn, reason = "see above")]
pub(super) fn execute(
    shared: &Shared,
    lun: Lun,
    command: Command,
) -> impl Future<Output = Completion> + Send {
    async move {
        let first = Submitted {
            shared,
            lun,
            command: Some(command),
            key: None,
            place: None,
        };
        match first.await {
            Ended::Completed(completion) => completion,
            Ended::NoPlace(command) => {
                // Boxed, because it is rare and would make the future of every command longer.
                Box::pin(execute_later(shared, lun, command)).await
            }
        }
    }
}

/// Waits for a slot first; the caller has been counted as waiting.
async fn execute_later(shared: &Shared, lun: Lun, command: Command) -> Completion {
    let begun = now();
    let mut place = Place {
        shared,
        promised: false,
    };
    // Waiting fails only when closed, which this semaphore never is.
    if let Ok(permit) = shared.slots.acquire().await {
        permit.forget();
        place.promised = true;
    }
    let waited = now().saturating_duration_since(begun);
    let submitted = Submitted {
        shared,
        lun,
        command: Some(command),
        key: None,
        place: Some(place),
    };
    match submitted.await {
        Ended::Completed(completion) => Completion {
            took: completion.took.saturating_add(waited),
            ..completion
        },
        // Not reached: a slot was promised.
        Ended::NoPlace(command) => {
            let core = shared.core();
            core.session.refuse(command, DeliveryErrorKind::Down)
        }
    }
}

/// A place in the queue for a slot, and then the promise of one.
struct Place<'a> {
    shared: &'a Shared,
    promised: bool,
}

impl Drop for Place<'_> {
    /// Given up: what was promised goes to the next.
    fn drop(&mut self) {
        let mut core = self.shared.core();
        core.queue.waiting = core.queue.waiting.saturating_sub(1);
        if self.promised {
            core.queue.promised = core.queue.promised.saturating_sub(1);
        }
        // A promise that was made to this one and not noticed yet has gone back to the semaphore,
        // and to the next there; if there is none, it is taken back.
        while core.queue.promised > core.queue.waiting && self.shared.slots.forget_permits(1) > 0 {
            core.queue.promised -= 1;
        }
        let promises = core.promise();
        drop(core);
        self.shared.slots.add_permits(promises);
    }
}

/// What comes of submitting.
enum Ended {
    Completed(Completion),
    /// Every slot is taken, or promised to somebody. The caller has been counted as waiting.
    NoPlace(Command),
}

/// A command that is submitted when first polled, which saves taking the lock once more to leave
/// the waker, and then waited for; dropped, it gives the command up.
struct Submitted<'a> {
    shared: &'a Shared,
    lun: Lun,
    command: Option<Command>,
    key: Option<TaskKey>,
    place: Option<Place<'a>>,
}

impl Future for Submitted<'_> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let shared = self.shared;
        if let Some(command) = self.command.take() {
            let now = now();
            let mut core = shared.core();
            match self.place.take() {
                Some(place) => {
                    // Taken, not given up.
                    std::mem::forget(place);
                    core.take_promised();
                }
                None if core.has_place() => {}
                None => {
                    core.queue.waiting += 1;
                    return Poll::Ready(Ended::NoPlace(command));
                }
            }
            let idle = core.session.idle_connection();
            return match core.session.submit(now, self.lun, command) {
                Ok(key) => {
                    // Not sent yet, so it is pending: this only leaves the waker.
                    let polled = core.session.poll_task(key, cx.waker());
                    debug_assert!(polled.is_pending());
                    self.key = Some(key);
                    send(shared, core, now, idle);
                    Poll::Pending
                }
                Err(completion) => {
                    let promises = core.promise();
                    drop(core);
                    shared.slots.add_permits(promises);
                    Poll::Ready(Ended::Completed(completion))
                }
            };
        }
        let Some(key) = self.key else {
            return Poll::Pending;
        };
        let mut core = shared.core();
        let polled = core.session.poll_task(key, cx.waker());
        let promises = core.promise();
        drop(core);
        if promises > 0 {
            shared.slots.add_permits(promises);
        }
        if polled.is_ready() {
            self.key = None;
        }
        polled.map(Ended::Completed)
    }
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared
                .with_session(|session, now| session.abandon(now, key));
        }
    }
}

/// Has what was just submitted sent: writes it at once when nothing is before it, else rings the
/// driver. More may follow at once, but the target then wakes up while they are made, which
/// measured better at depth 8 and 32 than one write for all.
fn send<'a>(shared: &'a Shared, mut core: MutexGuard<'a, Core>, now: Instant, idle: Option<Cid>) {
    // Trying does not wait, so the lock order cannot be hurt.
    let writer = idle
        .filter(|cid| core.timer_is_in_time() && core.session.wants_transmit(*cid))
        .and_then(|cid| Some((cid, shared.writer.try_lock().ok()?)));
    if let Some((cid, mut writer)) = writer {
        let mut outlets = writer.outlets.iter_mut();
        let outlet = outlets.find(|outlet| outlet.cid == cid && outlet.transmit.is_empty());
        if let Some(Outlet {
            transmit,
            half: Some(half),
            ..
        }) = outlet
        {
            core.session.poll_transmit(now, cid, transmit);
            // More than one batch: the driver goes on.
            let more = core.session.wants_transmit(cid);
            drop(core);
            transmit.seal();
            let written = {
                let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
                transmit.slices(&mut slices);
                half.try_write_vectored(&slices)
            };
            // An error shows on the reading side too; the driver handles it there.
            transmit.advance(written.unwrap_or(0));
            if transmit.is_empty() && !more {
                return;
            }
            core = shared.core();
        }
    }
    let ring = core.ring();
    drop(core);
    if let Some(driver) = ring {
        driver.wake();
    }
}
