//! Waiting for an event, with a deadline.
//!
//! The only place of the harness that reads a clock or sleeps. It polls, because what it waits
//! for (another process's socket, file or exit) offers nothing better to all of its callers.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_EVERY: Duration = Duration::from_millis(4);

/// Calls `probe` until it returns a value, for at most `limit`.
///
/// # Errors
/// When `probe` fails, or when `limit` passes first; the error then names `what` was awaited.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if deadline.passed() {
            bail!("waited {limit:?} in vain for {what}");
        }
        deadline.doze();
    }
}

/// A point in time that is not to be passed.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `limit` from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test harness lives in real time"
    )]
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Whether it has passed.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test harness lives in real time"
    )]
    pub fn passed(&self) -> bool {
        Instant::now() >= self.0
    }

    /// Gives other processes a moment between two polls.
    #[expect(
        clippy::disallowed_methods,
        reason = "the interval of polling, not a guess at a time"
    )]
    pub(crate) fn doze(&self) {
        std::thread::sleep(POLL_EVERY);
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test harness lives in real time"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
