//! Virtual time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::lock;

/// Where virtual time begins: an arbitrary moment, the same for all runs of a process.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "only as an origin; nothing depends on which moment it is"
)]
pub fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// A clock that moves when the world says so.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<Mutex<Timers>>);

#[derive(Debug)]
struct Timers {
    now: Instant,
    next: u64,
    fired: u64,
    list: BTreeMap<(Instant, u64), Waker>,
}

impl SimClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Timers {
            now,
            next: 0,
            fired: 0,
            list: BTreeMap::new(),
        })))
    }

    /// When the next sleeper wakes.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        lock(&self.0).list.keys().next().map(|(at, _)| *at)
    }

    /// Sleepers woken so far.
    #[must_use]
    pub fn fired(&self) -> u64 {
        lock(&self.0).fired
    }

    /// Moves to `now` and wakes whoever is due.
    pub fn advance(&self, now: Instant) {
        loop {
            let waker = {
                let mut timers = lock(&self.0);
                timers.now = timers.now.max(now);
                let Some(entry) = timers.list.first_entry() else {
                    return;
                };
                if entry.key().0 > now {
                    return;
                }
                let waker = entry.remove();
                timers.fired += 1;
                waker
            };
            waker.wake();
        }
    }
}

impl mpio::Clock for SimClock {
    fn now(&self) -> Instant {
        lock(&self.0).now
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        Sleep {
            clock: self.clone(),
            at,
            id: None,
        }
    }
}

struct Sleep {
    clock: SimClock,
    at: Instant,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut timers = lock(&this.clock.0);
        if timers.now >= this.at {
            return Poll::Ready(());
        }
        let id = match this.id {
            Some(id) => id,
            None => {
                timers.next += 1;
                timers.next
            }
        };
        this.id = Some(id);
        timers.list.insert((this.at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.clock.0).list.remove(&(self.at, id));
        }
    }
}
