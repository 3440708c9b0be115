//! Rates, latencies and CPU time of one run, in the form that every contender prints.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The result of a run: the JSON of `iscsi bench`, as far as the bench looks at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) iops: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) cpu_us_per_io: f64,
    #[serde(default)]
    pub(crate) latency_us: Option<Latency>,
    #[serde(default)]
    pub(crate) errors: u64,
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// A measurement under way.
pub(crate) struct Meter {
    begun: Instant,
    cpu: Duration,
    latency_ns: Histogram<u64>,
    ios: u64,
}

impl Meter {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            latency_ns: Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?,
            ios: 0,
            cpu: cpu_time(),
            begun: now(),
        })
    }

    pub(crate) fn now(&self) -> Instant {
        now()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn done(&mut self, latency: Duration) {
        self.ios += 1;
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns.saturating_record(ns);
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for display")]
    pub(crate) fn finish(self, bytes: usize) -> Outcome {
        let seconds = self.begun.elapsed().as_secs_f64();
        let cpu = cpu_time().saturating_sub(self.cpu).as_secs_f64();
        let ios = self.ios as f64;
        let quantile = |q| self.latency_ns.value_at_quantile(q) as f64 / 1e3;
        Outcome {
            iops: ios / seconds,
            bytes_per_second: ios * bytes as f64 / seconds,
            cpu_us_per_io: cpu * 1e6 / ios.max(1.0),
            latency_us: Some(Latency {
                p50: quantile(0.5),
                p99: quantile(0.99),
            }),
            errors: 0,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// CPU time of the whole process, user and system.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
