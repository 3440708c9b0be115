//! What an administrator or application may set.

use std::time::Duration;

use crate::checker::Checker;
use crate::failback::Failback;
use crate::marginal::MarginalPaths;
use crate::queueing::NoPathRetry;
use crate::second_fence::SecondFence;
use crate::select::{LoadBalancePolicy, Tuning};

/// Settings of one logical unit.
#[derive(Debug, Clone)]
pub struct Config {
    /// How paths are chosen. Changeable later.
    pub policy: LoadBalancePolicy,
    /// What the policies are told.
    pub tuning: Tuning,
    /// When I/O goes back to a better group of paths. Changeable later.
    pub failback: Failback,
    /// An I/O is retried for this long, time without any path not counted; a command under way
    /// is still waited for.
    pub io_deadline: Duration,
    /// How long I/O waits when no path is usable. Changeable later.
    pub no_path_retry: NoPathRetry,
    /// What one command is given before the transport ends it.
    pub command_timeout: Duration,
    /// What one command of a path check is given.
    pub probe_timeout: Duration,
    /// What one try to fence a lost path is given; tries go on while a write is uncertain.
    pub fence_budget: Duration,
    /// What is done when the old session cannot be reinstated.
    pub second_fence: SecondFence,
    /// Writes are held so much longer after the target has confirmed a fence: for targets that
    /// confirm before the old tasks have ended (SPDK's does). [`SecondFence::Timer`] has its own.
    pub fence_settle: Duration,
    /// Pause between two tries to fence.
    pub fence_pause: Duration,
    /// What a path check asks.
    pub checker: Checker,
    /// Path check interval after a change; doubles up to [`Config::probe_interval_max`] while
    /// the path stays healthy.
    pub probe_interval: Duration,
    /// Longest path check interval.
    pub probe_interval_max: Duration,
    /// First pause before a failed path is looked at again; doubles.
    pub failed_retry: Duration,
    /// Longest such pause.
    pub failed_retry_max: Duration,
    /// When a path that comes and goes is put into quarantine.
    pub marginal_paths: MarginalPaths,
    /// Pieces of one long I/O under way at once.
    pub split_concurrency: usize,
    /// Attempts of one I/O, over all paths and causes.
    pub max_attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: LoadBalancePolicy::default(),
            tuning: Tuning::default(),
            failback: Failback::default(),
            io_deadline: Duration::from_secs(60),
            no_path_retry: NoPathRetry::default(),
            command_timeout: Duration::from_secs(30),
            probe_timeout: Duration::from_secs(10),
            fence_budget: Duration::from_secs(3),
            second_fence: SecondFence::default(),
            fence_settle: Duration::ZERO,
            fence_pause: Duration::from_millis(500),
            checker: Checker::default(),
            probe_interval: Duration::from_secs(5),
            probe_interval_max: Duration::from_secs(20),
            failed_retry: Duration::from_secs(1),
            failed_retry_max: Duration::from_secs(32),
            marginal_paths: MarginalPaths::default(),
            split_concurrency: 8,
            max_attempts: 128,
        }
    }
}
