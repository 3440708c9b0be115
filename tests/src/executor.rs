//! Runs futures one after the other, in the order in which they were woken.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::lock;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A spawned future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(u64);

/// A single-threaded, deterministic executor.
#[derive(Default)]
pub struct Executor {
    tasks: BTreeMap<TaskId, (Work, Waker)>,
    next: u64,
    ready: Arc<Mutex<VecDeque<TaskId>>>,
}

struct Bell {
    id: TaskId,
    rung: AtomicBool,
    ready: Arc<Mutex<VecDeque<TaskId>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            lock(&self.ready).push_back(self.id);
        }
    }
}

impl Executor {
    /// Starts a future with the next [`Executor::run`].
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) -> TaskId {
        self.next += 1;
        let id = TaskId(self.next);
        let bell = Arc::new(Bell {
            id,
            rung: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        });
        let waker = Waker::from(Arc::clone(&bell));
        // Clears its own flag before it runs, so that a wake during the poll counts.
        let mut work = Box::pin(work);
        let guarded = std::future::poll_fn(move |cx| {
            bell.rung.store(false, Ordering::SeqCst);
            work.as_mut().poll(cx)
        });
        waker.wake_by_ref();
        self.tasks.insert(id, (Box::pin(guarded), waker));
        id
    }

    /// Polls what was woken until nothing is; returns how many polls that took.
    /// Stops after `limit` polls.
    pub fn run(&mut self, limit: usize) -> usize {
        let mut polls = 0;
        while polls < limit {
            let Some(id) = lock(&self.ready).pop_front() else {
                break;
            };
            let Some((work, waker)) = self.tasks.get_mut(&id) else {
                continue;
            };
            polls += 1;
            let waker = waker.clone();
            if let Poll::Ready(()) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.tasks.remove(&id);
            }
        }
        polls
    }

    /// Whether a future has not ended.
    #[must_use]
    pub fn is_running(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
