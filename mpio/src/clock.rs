//! Time as multipath sees it.
//!
//! Decisions take an [`Instant`] as an argument; only the futures that wait know a [`Clock`]. A
//! simulation brings its own and time passes when it says so.

use std::future::Future;
use std::time::Instant;

/// A source of time and of timers.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The present moment. Never goes back.
    fn now(&self) -> Instant;

    /// Resolves at `at` or soon after, at once when that has passed. May be dropped.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// tokio's clock; follows `tokio::time::pause`.
#[cfg(feature = "tokio")]
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioClock;

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until(tokio::time::Instant::from_std(at))
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_follows_paused_time() {
        let start = TokioClock.now();
        let until = start + Duration::from_secs(3600);
        TokioClock.sleep_until(until).await;
        assert_eq!(TokioClock.now(), until);
    }
}
