//! Many seeds, on all cores.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lock;
use crate::oracle::Tally;
use crate::{Report, Scenario, World};

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// Those with problems, by seed.
    pub failures: Vec<Report>,
    /// Virtual time of all of them.
    pub took: Duration,
    /// Things that happened in all of them.
    pub events: u64,
    /// I/Os of all of them.
    pub tally: Tally,
}

/// Runs seeds `from..from + count`.
#[must_use]
pub fn sweep(from: u64, count: u64, make: impl Fn(u64) -> Scenario + Sync) -> Summary {
    let next = AtomicU64::new(from);
    let summary = Mutex::new(Summary::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let report = run(make(seed), false);
                    lock(&summary).add(report);
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.failures.sort_by_key(|report| report.seed);
    summary
}

/// One run; a panic is a problem like any other.
#[must_use]
pub fn run(scenario: Scenario, print: bool) -> Report {
    let seed = scenario.seed;
    let run = AssertUnwindSafe(|| World::run(scenario, print));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Report {
            seed,
            hash: 0,
            events: 0,
            took: Duration::ZERO,
            tally: Tally::default(),
            problems: vec![format!("panic: {}", text.unwrap_or_default())],
        }
    })
}

impl Summary {
    fn add(&mut self, report: Report) {
        self.runs += 1;
        self.took += report.took;
        self.events += report.events;
        self.tally.add(report.tally);
        if !report.problems.is_empty() {
            self.failures.push(report);
        }
    }
}
