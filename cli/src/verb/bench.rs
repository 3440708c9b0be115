//! `iscsi bench`: closed-loop load with a fixed number of I/Os in flight.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use initiator::{Bytes, IoBuf, IoError, LogicalUnit, Target};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::args::{BenchArgs, Workload};
use crate::block::as_usize;
use crate::connect::{Context, with_unit};
use crate::exit::Failure;
use crate::output;
use crate::render::table::table;
use crate::view::{self, PathRow};

/// Runs the verb.
///
/// # Errors
/// An I/O size that does not fit the unit; the first I/O error, after the result was shown.
pub(crate) async fn run(context: &Context, args: &BenchArgs) -> anyhow::Result<()> {
    let address = args.unit.address()?;
    let (report, error) = with_unit(context, &args.unit.login, &address, async |target, unit| {
        measure(context, args, target, unit).await
    })
    .await?;
    if context.output.json {
        output::print_json(&report)?;
    } else {
        output::print(&report.text())?;
    }
    error.map_or(Ok(()), Err)
}

async fn measure(
    context: &Context,
    args: &BenchArgs,
    target: &Target,
    unit: &LogicalUnit,
) -> anyhow::Result<(Report, Option<anyhow::Error>)> {
    let load = Arc::new(Load::new(args, unit)?);
    let before = view::paths(&unit.topology());
    // Memory is made and touched before the measurement: at large sizes that takes a while.
    let ready: Vec<Worker> = (0..args.qd)
        .map(|seed| Worker::new(&load, unit, seed.into()))
        .collect();
    let cpu = cpu_time();
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for worker in ready {
        // Where the sessions live, so that no I/O wakes another thread.
        workers.spawn_on(worker.run(), target.runtime());
    }
    let mut interrupt = context.interrupt.clone();
    let stopped = tokio::select! {
        biased;
        signal = interrupt.wait() => Some(signal),
        () = tokio::time::sleep(args.time) => None,
        () = load.gave_up() => None,
    };
    load.stop.store(true, Ordering::Relaxed);
    let elapsed = begun.elapsed();
    let cpu = cpu_time().saturating_sub(cpu);
    // I/Os in flight are not counted, but they are waited for: a write that was begun ends.
    if stopped.is_none() {
        while workers.join_next().await.is_some() {}
    }
    workers.shutdown().await;
    let after = view::paths(&unit.topology());
    let report = Report::new(args, &load.tally(), (elapsed, cpu), (&before, &after));
    let error = match (stopped, load.first_error()) {
        (Some(signal), _) => Some(Failure::Interrupted(signal).into()),
        (None, Some(error)) => {
            let text = format!("{} I/Os failed; the first", report.errors);
            Some(anyhow::Error::new(error).context(text))
        }
        (None, None) => None,
    };
    Ok((report, error))
}

/// What the workers share.
struct Load {
    workload: Workload,
    /// Reads of 100 I/Os when they are mixed.
    mix: u8,
    bytes: u64,
    /// Number of I/O-sized slots on the unit.
    slots: u64,
    next: AtomicU64,
    stop: AtomicBool,
    failing: tokio::sync::Notify,
    tally: Mutex<Tally>,
}

#[derive(Clone)]
struct Tally {
    latency_ns: Histogram<u64>,
    ios: u64,
    errors: u64,
    errors_in_a_row: u64,
    first_error: Option<IoError>,
}

impl Load {
    fn new(args: &BenchArgs, unit: &LogicalUnit) -> anyhow::Result<Self> {
        let geometry = unit.geometry();
        let (block, capacity) = (u64::from(geometry.block_bytes).max(1), geometry.bytes());
        if args.bs == 0 || !args.bs.is_multiple_of(block) {
            let text = format!("--bs {} is no multiple of the block size, {block}", args.bs);
            return Err(Failure::Usage(text).into());
        }
        if args.bs > capacity.min(MAX_IO_BYTES) {
            let text = format!("--bs {} is above {}", args.bs, capacity.min(MAX_IO_BYTES));
            return Err(Failure::Usage(text).into());
        }
        let tally = Tally {
            latency_ns: Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?,
            ios: 0,
            errors: 0,
            errors_in_a_row: 0,
            first_error: None,
        };
        Ok(Self {
            workload: args.rw,
            mix: args.mix,
            bytes: args.bs,
            slots: capacity / args.bs,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failing: tokio::sync::Notify::new(),
            tally: Mutex::new(tally),
        })
    }

    fn next_offset(&self, random: &mut fastrand::Rng) -> u64 {
        let slot = match self.workload {
            Workload::Read | Workload::Write => {
                self.next.fetch_add(1, Ordering::Relaxed) % self.slots
            }
            Workload::RandRead | Workload::RandWrite | Workload::RandRw => random.u64(..self.slots),
        };
        slot * self.bytes
    }

    /// Whether the next I/O is a write.
    fn next_writes(&self, random: &mut fastrand::Rng) -> bool {
        match self.workload {
            Workload::Read | Workload::RandRead => false,
            Workload::Write | Workload::RandWrite => true,
            Workload::RandRw => random.u8(..100) >= self.mix,
        }
    }

    fn count(&self, latency: Duration, result: Result<(), IoError>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                tally.latency_ns.saturating_record(ns);
                tally.ios += 1;
                tally.errors_in_a_row = 0;
            }
            Err(error) => {
                tally.errors += 1;
                tally.errors_in_a_row += 1;
                tally.first_error.get_or_insert(error);
                if tally.errors_in_a_row >= ERRORS_IN_A_ROW {
                    self.stop.store(true, Ordering::Relaxed);
                    self.failing.notify_one();
                }
            }
        }
    }

    /// Ends when nothing but errors comes back: then going on measures nothing.
    async fn gave_up(&self) {
        self.failing.notified().await;
    }

    fn tally(&self) -> Tally {
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn first_error(&self) -> Option<IoError> {
        self.tally().first_error
    }
}

/// One I/O after the other.
struct Worker {
    load: Arc<Load>,
    unit: LogicalUnit,
    random: fastrand::Rng,
    buf: IoBuf,
    payload: Bytes,
}

impl Worker {
    fn new(load: &Arc<Load>, unit: &LogicalUnit, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = as_usize(load.bytes);
        let (mut buf, mut payload) = (IoBuf::default(), Bytes::new());
        if !matches!(load.workload, Workload::Write | Workload::RandWrite) {
            buf = IoBuf::zeroed(bytes);
            buf.as_mut_slice().fill(0x5a);
        }
        if !matches!(load.workload, Workload::Read | Workload::RandRead) {
            // Content that neither compression nor deduplication makes cheap.
            let mut content = IoBuf::zeroed(bytes);
            random.fill(content.as_mut_slice());
            payload = content.freeze();
        }
        Self {
            load: Arc::clone(load),
            unit: unit.clone(),
            random,
            buf,
            payload,
        }
    }

    async fn run(mut self) {
        let load = self.load;
        let mut begun = Instant::now();
        while !load.stop.load(Ordering::Relaxed) {
            let offset = load.next_offset(&mut self.random);
            let result = if load.next_writes(&mut self.random) {
                self.unit.write_at(offset, self.payload.clone()).await
            } else {
                let (result, returned) = self.unit.read_at(offset, self.buf).await;
                self.buf = returned;
                result
            };
            // The end of one I/O is the beginning of the next.
            let now = Instant::now();
            load.count(now - begun, result);
            begun = now;
            // An I/O that completes at once must not keep timers and signals from running.
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// CPU time of the whole process, user and system.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The result; its serialized form is the JSON output that scripts read.
#[derive(Debug, Serialize)]
struct Report {
    rw: String,
    bs: u64,
    qd: u16,
    seconds: f64,
    ios: u64,
    iops: f64,
    bytes_per_second: f64,
    latency_us: Latency,
    cpu_us_per_io: f64,
    errors: u64,
    paths: Vec<Share>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Share {
    path: String,
    state: String,
    ios: u64,
    share: f64,
}

#[expect(clippy::cast_precision_loss, reason = "rates and shares for display")]
impl Report {
    fn new(
        args: &BenchArgs,
        tally: &Tally,
        (elapsed, cpu): (Duration, Duration),
        (before, after): (&[PathRow], &[PathRow]),
    ) -> Self {
        use clap::ValueEnum as _;
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let micros = |ns: u64| ns as f64 / 1e3;
        let latency = &tally.latency_ns;
        let quantile = |q| micros(latency.value_at_quantile(q));
        let rw = args
            .rw
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        Self {
            rw: rw.unwrap_or_default(),
            bs: args.bs,
            qd: args.qd,
            seconds,
            ios: tally.ios,
            iops: tally.ios as f64 / seconds,
            bytes_per_second: tally.ios as f64 * args.bs as f64 / seconds,
            latency_us: Latency {
                p50: quantile(0.5),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: micros(latency.max()),
            },
            cpu_us_per_io: cpu.as_secs_f64() * 1e6 / tally.ios.max(1) as f64,
            errors: tally.errors,
            paths: shares(before, after),
        }
    }

    fn text(&self) -> String {
        let Latency {
            p50,
            p99,
            p999,
            max,
        } = self.latency_us;
        let facts = [
            ("IOPS", format!("{:.0}", self.iops)),
            ("MB/s", format!("{:.1}", self.bytes_per_second / 1e6)),
            ("latency p50", format!("{p50:.1} µs")),
            ("latency p99", format!("{p99:.1} µs")),
            ("latency p99.9", format!("{p999:.1} µs")),
            ("latency max", format!("{max:.1} µs")),
            ("CPU per I/O", format!("{:.2} µs", self.cpu_us_per_io)),
            ("errors", self.errors.to_string()),
        ];
        let facts = facts.map(|(name, value)| vec![name.to_owned(), value]);
        let title = format!(
            "{}, {} bytes, {} in flight, {:.1} s\n\n",
            self.rw, self.bs, self.qd, self.seconds
        );
        let paths = self.paths.iter().map(|path| {
            let share = format!("{:.1} %", path.share * 100.0);
            vec![
                path.path.clone(),
                path.state.clone(),
                path.ios.to_string(),
                share,
            ]
        });
        let paths = table(&["path", "state", "I/Os", "share"], paths, &[2, 3]);
        format!(
            "{title}{}\n{paths}",
            table(&["", ""], facts, &[1]).trim_start_matches('\n')
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares for display")]
fn shares(before: &[PathRow], after: &[PathRow]) -> Vec<Share> {
    let done = |row: &PathRow| {
        let earlier = before.iter().find(|earlier| earlier.path == row.path);
        row.ios
            .saturating_sub(earlier.map_or(0, |earlier| earlier.ios))
    };
    let total: u64 = after.iter().map(done).sum();
    let share = |row: &PathRow| Share {
        path: row.path.clone(),
        state: row.state.clone(),
        ios: done(row),
        share: done(row) as f64 / total.max(1) as f64,
    };
    after.iter().map(share).collect()
}

/// Largest I/O, in bytes.
const MAX_IO_BYTES: u64 = 16 << 20;

/// After this many errors without a success in between the run ends.
const ERRORS_IN_A_ROW: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, ios: u64) -> PathRow {
        PathRow {
            path: path.to_owned(),
            group: None,
            state: "active".to_owned(),
            priority: 1,
            target_port_group: None,
            access: None,
            usable: true,
            ios,
            failed: 0,
        }
    }

    #[test]
    fn shares_count_only_this_run() {
        let shares = shares(&[row("a", 100)], &[row("a", 130), row("b", 10)]);
        assert_eq!((shares[0].ios, shares[1].ios), (30, 10));
        assert!((shares[0].share - 0.75).abs() < 1e-9);
    }

    #[test]
    fn cpu_time_rises_with_work() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_time() > before);
    }
}
