//! A load that knows what every block may hold, for faults of all kinds to happen under.
//!
//! Readers and writers work at once on one logical unit over all its paths, each with one I/O at a
//! time. A writer owns the groups of blocks it writes, so the order of writes to a block is its own;
//! a block holds its number, its generation and a pattern made of both. What is checked:
//!
//! - every read: each block is whole, is where it belongs, and is of a generation between the last
//!   one acknowledged before the read began and the last one asked for before it ended (no lost
//!   write, no stale one over a newer one, nothing made up);
//! - every I/O ends well: what happens meanwhile is for multipath to hide;
//! - in the end the target's own view of the disk is, byte for byte, what was acknowledged last
//!   ([`Finished::image`]).
//!
//! How long I/O stood still is counted apart for readers and writers ([`Stall`]).

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use initiator::{Bytes, Initiator, IoBuf, LogicalUnit, Lun, Target, TargetSpec};
use tokio::runtime::Runtime;

use crate::data::Pattern;
use crate::wait;

/// Bytes of a block as the load sees the disk; a multiple of the disk's own.
const BLOCK: usize = 4096;
/// Blocks that belong to one writer, side by side; no I/O reaches beyond them.
const GROUP: u64 = 16;
/// Readers, and as many writers.
const WORKERS: u64 = 4;
/// Of every so many I/Os one is as long as a group; the others are one block.
const LONG_EVERY: u64 = 8;
/// How long paths may take to come back; one that came and went too often has to be well for 30 s.
const PATHS_LIMIT: Duration = Duration::from_secs(90);
const IO_LIMIT: Duration = Duration::from_secs(30);

/// How long I/O stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// The longest time that one I/O took.
    pub longest: Duration,
    /// The longest time in which none of its kind ended.
    pub silence: Duration,
    /// I/Os that ended.
    pub count: u64,
}

impl Stall {
    /// The worse of both.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            longest: self.longest.max(other.longest),
            silence: self.silence.max(other.silence),
            count: self.count.saturating_add(other.count),
        }
    }
}

/// A load that runs until it is finished.
#[derive(Debug)]
pub struct Witness {
    runtime: Runtime,
    target: Target,
    unit: LogicalUnit,
    shared: Arc<Shared>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    blocks: Vec<Generations>,
    begun: Instant,
    stop: AtomicBool,
    reads: Meter,
    writes: Meter,
    /// The first thing that should not have happened.
    problem: Mutex<Option<String>>,
}

/// Generations of a block; 0 is a block of zeros.
#[derive(Debug, Default)]
struct Generations {
    asked: AtomicU64,
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct Meter {
    longest_us: AtomicU64,
    last_end_us: AtomicU64,
    silence_us: AtomicU64,
    count: AtomicU64,
}

impl Meter {
    fn ended(&self, begun_us: u64, now_us: u64) {
        let took = now_us.saturating_sub(begun_us);
        self.longest_us.fetch_max(took, Ordering::Relaxed);
        let before = self.last_end_us.fetch_max(now_us, Ordering::Relaxed);
        let silence = now_us.saturating_sub(before);
        self.silence_us.fetch_max(silence, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the last time.
    fn take(&self) -> Stall {
        let micros = |of: &AtomicU64| Duration::from_micros(of.swap(0, Ordering::Relaxed));
        Stall {
            longest: micros(&self.longest_us),
            silence: micros(&self.silence_us),
            count: self.count.swap(0, Ordering::Relaxed),
        }
    }
}

impl Witness {
    /// Logs in and starts readers and writers on the first `bytes` of the unit, which are zeros.
    ///
    /// # Errors
    /// When the login fails or the unit is too short.
    pub fn start(initiator: &Initiator, to: TargetSpec, lun: Lun, bytes: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let portals = to.portals.len();
        let begun = clock();
        let (target, unit) = runtime.block_on(async {
            let target = initiator.login(to).await?;
            let unit = target.logical_unit(lun).await?;
            anyhow::Ok((target, unit))
        })?;
        let size = unit.geometry();
        let has = size.blocks.saturating_mul(u64::from(size.block_bytes));
        ensure!(has >= bytes, "the unit has only {has} bytes");
        let blocks = bytes / (BLOCK as u64);
        let shared = Arc::new(Shared {
            blocks: (0..blocks).map(|_| Generations::default()).collect(),
            begun,
            stop: AtomicBool::new(false),
            reads: Meter::default(),
            writes: Meter::default(),
            problem: Mutex::new(None),
        });
        let mut events = target.events();
        // What happened when, for people who read the log of a failed test.
        drop(runtime.spawn(async move {
            while let Some(event) = events.recv().await {
                let at = clock().saturating_duration_since(begun);
                eprintln!("{at:8.3?} {event}");
            }
        }));
        let workers = (0..WORKERS).flat_map(|number| {
            let writer = runtime.spawn(write(Arc::clone(&shared), unit.clone(), number));
            let reader = runtime.spawn(read(Arc::clone(&shared), unit.clone(), number));
            [writer, reader]
        });
        let workers = workers.collect();
        let witness = Self {
            runtime,
            target,
            unit,
            shared,
            workers,
        };
        witness.until_paths("all paths", |up| up == portals)?;
        Ok(witness)
    }

    /// Waits until `enough` paths are there (active, or on standby in a group without access).
    ///
    /// # Errors
    /// When that takes too long, or something went wrong with an I/O.
    pub fn until_paths(&self, what: &str, enough: impl Fn(usize) -> bool) -> Result<()> {
        use initiator::PathState::{Active, Standby};
        wait::until(what, PATHS_LIMIT, || {
            self.check()?;
            let paths = self.unit.topology().paths;
            let there = paths
                .iter()
                .filter(|it| matches!(it.state, Active | Standby));
            Ok(enough(there.count()).then_some(()))
        })
    }

    /// Lets the load run for a while.
    ///
    /// # Errors
    /// When something went wrong with an I/O.
    pub fn run_for(&self, time: Duration) -> Result<()> {
        let deadline = wait::Deadline::after(time);
        while !deadline.passed() {
            self.check()?;
            deadline.doze();
        }
        Ok(())
    }

    /// Waits until another I/O of each kind has ended.
    ///
    /// # Errors
    /// When that takes too long, or something went wrong with an I/O.
    pub fn until_it_goes_on(&self) -> Result<()> {
        let count = |meter: &Meter| meter.count.load(Ordering::Relaxed);
        let (reads, writes) = (count(&self.shared.reads), count(&self.shared.writes));
        // Each worker has one at a time: after so many, all that were under way have ended, unless
        // one of them is stuck, which its own end will tell.
        let all = WORKERS * 4;
        wait::until("I/O to go on", IO_LIMIT, || {
            self.check()?;
            let enough = count(&self.shared.reads) > reads.saturating_add(all)
                && count(&self.shared.writes) > writes.saturating_add(all);
            Ok(enough.then_some(()))
        })
    }

    /// How long readers and writers stood still since the last time this was asked.
    #[must_use]
    pub fn stalls(&self) -> (Stall, Stall) {
        (self.shared.reads.take(), self.shared.writes.take())
    }

    /// Ends the load, in good order, and logs out.
    ///
    /// # Errors
    /// When something went wrong with an I/O.
    pub fn finish(self) -> Result<Finished> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let (target, workers) = (self.target, self.workers);
        let joined = self.runtime.block_on(async {
            for worker in workers {
                worker.await.context("a worker panicked")?;
            }
            anyhow::Ok(target.logout().await)
        });
        drop(self.unit);
        self.shared.check()?;
        joined?.context("logging out")?;
        Ok(Finished {
            shared: self.shared,
        })
    }

    fn check(&self) -> Result<()> {
        self.shared.check()
    }
}

/// A load that has ended well.
#[derive(Debug)]
pub struct Finished {
    shared: Arc<Shared>,
}

impl Finished {
    /// Writes what the disk has to hold now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn image(&self, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (number, block) in (0..).zip(&self.shared.blocks) {
            let (asked, done) = block.load();
            ensure!(asked == done, "block {number}: a write is missing");
            file.write_all(&content(number, done))?;
        }
        file.flush().with_context(|| path.display().to_string())
    }
}

impl Generations {
    fn load(&self) -> (u64, u64) {
        let asked = self.asked.load(Ordering::Acquire);
        (asked, self.done.load(Ordering::Acquire))
    }
}

impl Shared {
    fn now_us(&self) -> u64 {
        let passed = clock().saturating_duration_since(self.begun);
        u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn wrong(&self, what: String) {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.get_or_insert(what);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match problem.as_deref() {
            Some(problem) => bail!("the load found: {problem}"),
            None => Ok(()),
        }
    }

    /// Where the next I/O goes: first block and how many, in a group of `owner`, or of anybody.
    fn place(&self, random: &mut Random, owner: Option<u64>) -> (u64, u64) {
        let groups = self.blocks.len() as u64 / GROUP;
        let group = match owner {
            Some(owner) => random.below(groups / WORKERS) * WORKERS + owner,
            None => random.below(groups),
        };
        let first = group * GROUP;
        if random.below(LONG_EVERY) == 0 {
            (first, GROUP)
        } else {
            (first + random.below(GROUP), 1)
        }
    }

    fn range(&self, first: u64, count: u64) -> &[Generations] {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let end = first.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        self.blocks.get(first..end).unwrap_or_default()
    }
}

async fn write(shared: Arc<Shared>, unit: LogicalUnit, number: u64) {
    let mut random = Random(number + 1);
    while shared.goes_on() {
        let (first, count) = shared.place(&mut random, Some(number));
        let range = shared.range(first, count);
        let mut data = Vec::with_capacity(range.len() * BLOCK);
        for (at, block) in (first..).zip(range) {
            let generation = block.asked.fetch_add(1, Ordering::AcqRel) + 1;
            data.extend(content(at, generation));
        }
        let begun = shared.now_us();
        let written = unit.write_at(first * BLOCK as u64, Bytes::from(data)).await;
        shared.writes.ended(begun, shared.now_us());
        if let Err(error) = written {
            return shared.wrong(format!("a write to block {first}: {error}"));
        }
        for block in range {
            let asked = block.asked.load(Ordering::Acquire);
            block.done.store(asked, Ordering::Release);
        }
    }
}

async fn read(shared: Arc<Shared>, unit: LogicalUnit, number: u64) {
    let mut random = Random(number + WORKERS + 1);
    while shared.goes_on() {
        let (first, count) = shared.place(&mut random, None);
        let range = shared.range(first, count);
        let acknowledged: Vec<u64> = range.iter().map(|block| block.load().1).collect();
        let buffer = IoBuf::zeroed(range.len() * BLOCK);
        let begun = shared.now_us();
        let (result, buffer) = unit.read_at(first * BLOCK as u64, buffer).await;
        shared.reads.ended(begun, shared.now_us());
        if let Err(error) = result {
            return shared.wrong(format!("a read from block {first}: {error}"));
        }
        let pieces = buffer.as_slice().chunks_exact(BLOCK);
        for (((at, block), low), piece) in (first..).zip(range).zip(acknowledged).zip(pieces) {
            let found = stamp(piece, 0);
            let high = block.load().0;
            if !(low..=high).contains(&found) {
                let may = format!("generation {low} to {high}");
                return shared.wrong(format!("block {at} is of generation {found}, not of {may}"));
            }
            if piece != content(at, found) {
                let says = stamp(piece, 8);
                let what = format!("block {at} (generation {found}) is not whole: it says {says}");
                return shared.wrong(what);
            }
        }
    }
}

/// What block `number` holds in a generation.
fn content(number: u64, generation: u64) -> Vec<u8> {
    if generation == 0 {
        return vec![0; BLOCK];
    }
    let mut block = Vec::with_capacity(BLOCK);
    block.extend(generation.to_be_bytes());
    block.extend(number.to_be_bytes());
    block.extend(Pattern::new((number << 24) ^ generation).take(BLOCK - 16));
    block
}

fn stamp(block: &[u8], at: usize) -> u64 {
    let bytes = block.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % limit.max(1)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test harness lives in real time"
)]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_tell_number_and_generation() {
        assert_eq!(content(7, 0), vec![0; BLOCK]);
        let block = content(7, 3);
        assert_eq!(
            (stamp(&block, 0), stamp(&block, 8), block.len()),
            (3, 7, BLOCK)
        );
        assert_ne!(content(7, 4).get(16..), block.get(16..));
    }

    #[test]
    fn a_meter_tells_the_longest_and_the_silence() {
        let meter = Meter::default();
        meter.ended(0, 10);
        meter.ended(5, 40);
        meter.ended(39, 41);
        let stall = meter.take();
        assert_eq!(stall.longest, Duration::from_micros(35));
        assert_eq!((stall.silence, stall.count), (Duration::from_micros(30), 3));
        assert_eq!(meter.take(), Stall::default());
    }
}
