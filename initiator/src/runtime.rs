//! On which threads sessions live.
//!
//! A session's driver and its callers talk through a lock and wake each other. On one thread a
//! wake-up is an entry in a queue; across threads it may have to rouse a sleeping one, which costs
//! a single outstanding I/O many times its own work. So the fast way to use several cores is
//! several runtimes of one thread each, with every session and its callers on one of them.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

/// On which threads the sessions of an initiator live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Runtime {
    /// On the tokio runtime in which [`crate::Initiator::login`] is called. With one that has
    /// several threads, callers and sessions meet across threads.
    #[default]
    Current,
    /// On threads of the initiator's own, each with a runtime of its own. All sessions of a login
    /// live on one of them; logins take turns.
    ///
    /// A [`crate::LogicalUnit`] can be used from everywhere all the same. Fastest is a task
    /// spawned on [`crate::Target::runtime`]: it shares the thread with its sessions.
    Sharded {
        /// How many.
        threads: NonZeroUsize,
    },
}

/// The threads of [`Runtime::Sharded`]. A thread ends when the initiator, its targets and all that
/// was started on it are gone.
#[derive(Debug)]
pub(crate) struct Shards {
    handles: Vec<Handle>,
    next: AtomicUsize,
    /// Dropped: no login comes any more.
    _alive: watch::Sender<()>,
}

impl Shards {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no further thread or event queue.
    pub(crate) fn start(threads: NonZeroUsize) -> std::io::Result<Self> {
        let (alive, gone) = watch::channel(());
        let mut handles = Vec::with_capacity(threads.get());
        for index in 0..threads.get() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            handles.push(runtime.handle().clone());
            let gone = gone.clone();
            thread::Builder::new()
                .name(format!("iscsi-shard-{index}"))
                .spawn(move || runtime.block_on(live(gone)))?;
        }
        Ok(Self {
            handles,
            next: AtomicUsize::new(0),
            _alive: alive,
        })
    }

    /// The shard of the next login.
    pub(crate) fn next(&self) -> Option<Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(self.handles.len())?;
        self.handles.get(index).cloned()
    }
}

/// Keeps a shard's runtime going: sessions that were dropped log out, units that outlive their
/// target go on.
async fn live(mut gone: watch::Receiver<()>) {
    // Nothing is ever sent; this ends with the sender.
    while gone.changed().await.is_ok() {}
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How often a shard that nobody needs for logins looks whether it is needed at all.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
