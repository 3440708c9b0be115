//! The few asynchronous building blocks this crate needs, without a runtime.
//!
//! [`Signal`] is a counter one can wait on: whoever reads the version *before* looking at the
//! world and then waits for a later one cannot miss a change in between.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Locks; a panic elsewhere while holding the lock does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A version number that rises, with those who wait for it to rise.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    version: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    list: Vec<(u64, Waker)>,
}

impl Signal {
    /// The present version.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Raises the version and wakes everybody who waits.
    pub(crate) fn raise(&self) {
        let woken = {
            let mut waiters = lock(&self.waiters);
            self.version.fetch_add(1, Ordering::Release);
            std::mem::take(&mut waiters.list)
        };
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Resolves once the version differs from `seen`.
    pub(crate) fn after(&self, seen: u64) -> After<'_> {
        After {
            signal: self,
            seen,
            id: None,
        }
    }
}

/// Future of [`Signal::after`].
#[derive(Debug)]
pub(crate) struct After<'a> {
    signal: &'a Signal,
    seen: u64,
    id: Option<u64>,
}

impl Future for After<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let signal = self.signal;
        let mut waiters = lock(&signal.waiters);
        // Under the lock: `raise` changes the version under it, so no rise is missed.
        if signal.version() != self.seen {
            return Poll::Ready(());
        }
        let id = match self.id {
            Some(id) => id,
            None => {
                let id = waiters.next;
                waiters.next = waiters.next.wrapping_add(1);
                self.id = Some(id);
                id
            }
        };
        match waiters.list.iter_mut().find(|(other, _)| *other == id) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => waiters.list.push((id, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.signal.waiters)
                .list
                .retain(|(other, _)| *other != id);
        }
    }
}

/// Which of two futures ended first.
#[derive(Debug)]
pub(crate) enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

/// Runs two futures until one ends; the first is asked first. The other is dropped.
pub(crate) async fn race<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let mut a = pin!(a);
    let mut b = pin!(b);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        b.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_rise_between_look_and_wait_is_not_missed() {
        let signal = Signal::default();
        let seen = signal.version();
        signal.raise();
        let mut after = pin!(signal.after(seen));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(after.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_waiter_is_woken_once_and_a_dropped_one_leaves_nothing() {
        let signal = Signal::default();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        {
            let mut after = pin!(signal.after(signal.version()));
            assert!(after.as_mut().poll(&mut cx).is_pending());
            assert!(after.as_mut().poll(&mut cx).is_pending());
            signal.raise();
            assert_eq!(count.0.load(Ordering::SeqCst), 1);
            assert!(after.as_mut().poll(&mut cx).is_ready());
        }
        {
            let mut after = pin!(signal.after(signal.version()));
            assert!(after.as_mut().poll(&mut cx).is_pending());
        }
        assert!(lock(&signal.waiters).list.is_empty());
    }
}
