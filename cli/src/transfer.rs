//! Moving many bytes between two positional ends: pipelined, with bounded memory.
//!
//! A fixed number of workers each own one buffer and take the next chunk when they are done with
//! the last, so that memory is bounded by construction and a slow chunk holds up nobody. What has
//! arrived is kept as a contiguous prefix: after a failure the user is told how far the data are
//! certainly there.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use initiator::{Bytes, IoBuf, LogicalUnit};
use tokio::task::JoinSet;

use crate::block::{self, as_u64, as_usize};
use crate::exit::{Failure, Status};
use crate::render::progress::Progress;
use crate::signals::Interrupt;

/// Chunks in flight.
pub(crate) const WORKERS: usize = 8;

/// Usual bytes per chunk.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;

/// How long chunks in flight may take to finish after a failure, or after the user stopped the run.
const SETTLE: Duration = Duration::from_secs(3);

/// Something that is read and written by position.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// A logical unit.
    Unit(LogicalUnit),
    /// A seekable file.
    File(Arc<File>),
}

impl End {
    /// Bytes per chunk: whole blocks, so that no two chunks share one.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        match self {
            Self::Unit(unit) => {
                let block = u64::from(unit.geometry().block_bytes).max(1);
                CHUNK_BYTES.next_multiple_of(block)
            }
            Self::File(_) => CHUNK_BYTES,
        }
    }

    async fn read(&self, offset: u64, mut buf: IoBuf) -> anyhow::Result<IoBuf> {
        let len = buf.len();
        let failed = || format!("read of {len} bytes at offset {offset} failed");
        match self {
            Self::Unit(unit) => {
                let (result, buf) = block::read(unit, offset, buf).await;
                result.with_context(failed)?;
                Ok(buf)
            }
            Self::File(file) => {
                let file = Arc::clone(file);
                let reading = tokio::task::spawn_blocking(move || {
                    file.read_exact_at(buf.as_mut_slice(), offset).map(|()| buf)
                });
                reading.await?.with_context(failed)
            }
        }
    }

    async fn write(&self, offset: u64, data: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Unit(unit) => block::write(unit, offset, data).await,
            Self::File(file) => {
                let file = Arc::clone(file);
                let len = data.len();
                tokio::task::spawn_blocking(move || file.write_all_at(&data, offset))
                    .await?
                    .with_context(|| format!("write of {len} bytes at offset {offset} failed"))
            }
        }
    }

    /// Makes everything written so far survive a loss of power.
    ///
    /// # Errors
    /// Those of SYNCHRONIZE CACHE or fsync.
    pub(crate) async fn flush(&self) -> anyhow::Result<()> {
        match self {
            Self::Unit(unit) => unit
                .flush()
                .await
                .context("flushing the target's cache failed"),
            Self::File(file) => {
                let file = Arc::clone(file);
                tokio::task::spawn_blocking(move || match file.sync_all() {
                    // Pipes and some devices have nothing to flush and say so.
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
                    result => result,
                })
                .await?
                .context("flushing the file failed")
            }
        }
    }
}

/// Copies the first `total` bytes of `source` to the same place of `destination`.
///
/// # Errors
/// The first failure or the user's signal, with how far the copy got as context.
pub(crate) async fn copy(
    source: &End,
    destination: &End,
    total: u64,
    progress: &Progress,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    // The destination's: two writers merging into one block would lose each other's bytes.
    let chunk = destination.chunk_bytes();
    let job = Arc::new(Job::new(total, chunk, progress.clone()));
    let result = run(&job, interrupt, || {
        copy_chunks(Arc::clone(&job), source.clone(), destination.clone())
    })
    .await;
    let copied = job.reach.bytes();
    match destination {
        End::File(_) => result.with_context(|| format!("copied {copied} of {total} bytes")),
        End::Unit(_) => job
            .reach
            .explain(result, || format!("copied {copied} of {total} bytes")),
    }
}

/// Compares the first `total` bytes; gives the offset of the first difference.
///
/// # Errors
/// The first read that failed, or the user's signal.
pub(crate) async fn compare(
    one: &End,
    other: &End,
    total: u64,
    progress: &Progress,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<u64>> {
    let chunk = one.chunk_bytes().max(other.chunk_bytes());
    let job = Arc::new(Job::new(total, chunk, progress.clone()));
    run(&job, interrupt, || {
        compare_chunks(Arc::clone(&job), one.clone(), other.clone())
    })
    .await?;
    let first = job.difference.load(Ordering::Relaxed);
    Ok((first != NO_DIFFERENCE).then_some(first))
}

const NO_DIFFERENCE: u64 = u64::MAX;

/// What the workers of one run share.
#[derive(Debug)]
struct Job {
    total: u64,
    chunk: u64,
    next: AtomicU64,
    stop: AtomicBool,
    difference: AtomicU64,
    reach: Reach,
    progress: Progress,
}

impl Job {
    fn new(total: u64, chunk: u64, progress: Progress) -> Self {
        Self {
            total,
            chunk,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            difference: AtomicU64::new(NO_DIFFERENCE),
            reach: Reach::from(0),
            progress,
        }
    }

    /// The next chunk: offset and length.
    fn take(&self) -> Option<(u64, u64)> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let offset = number
            .checked_mul(self.chunk)
            .filter(|offset| *offset < self.total)?;
        Some((offset, self.chunk.min(self.total - offset)))
    }
}

async fn copy_chunks(job: Arc<Job>, source: End, destination: End) -> anyhow::Result<()> {
    let mut buf = IoBuf::default();
    while let Some((offset, len)) = job.take() {
        buf = source.read(offset, resized(buf, len)).await?;
        let data = buf.freeze();
        write_tracked(&destination, &job.reach, offset, data.clone()).await?;
        job.progress.advance(len);
        buf = IoBuf::from_bytes(data);
    }
    Ok(())
}

/// Writes and takes note of what came of it.
///
/// # Errors
/// Those of the write.
pub(crate) async fn write_tracked(
    destination: &End,
    reach: &Reach,
    offset: u64,
    data: Bytes,
) -> anyhow::Result<()> {
    let len = as_u64(data.len());
    reach.begun(offset, len);
    let result = destination.write(offset, data).await;
    match &result {
        Ok(()) => reach.arrived(offset, len),
        // What may have happened stays noted as begun, as does what is never waited for.
        Err(error) if Status::of(error) == Status::Unknown => {}
        Err(_) => reach.refused(offset),
    }
    result
}

async fn compare_chunks(job: Arc<Job>, one: End, other: End) -> anyhow::Result<()> {
    let (mut left, mut right) = (IoBuf::default(), IoBuf::default());
    while let Some((offset, len)) = job.take() {
        left = one.read(offset, resized(left, len)).await?;
        right = other.read(offset, resized(right, len)).await?;
        if let Some(at) = first_difference(left.as_slice(), right.as_slice()) {
            job.difference
                .fetch_min(offset.saturating_add(as_u64(at)), Ordering::Relaxed);
            // Chunks are taken in order, so whatever was not taken yet lies behind.
            job.stop.store(true, Ordering::Relaxed);
        }
        job.progress.advance(len);
    }
    Ok(())
}

fn resized(mut buf: IoBuf, len: u64) -> IoBuf {
    let len = as_usize(len);
    if buf.len() < len {
        return IoBuf::zeroed(len);
    }
    buf.truncate(len);
    buf
}

/// Where two slices differ first; the shorter one's end counts.
pub(crate) fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    if one == other {
        return None;
    }
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    Some(at.unwrap_or_else(|| one.len().min(other.len())))
}

/// Runs workers until all are done. After the first failure, or a signal, no new chunk is begun
/// and those in flight get time to finish, so that what is reported is what happened.
async fn run<W>(job: &Job, interrupt: &Interrupt, worker: impl Fn() -> W) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(worker());
    }
    let outcome = gather(&mut workers, interrupt, || {
        job.stop.store(true, Ordering::Relaxed)
    })
    .await;
    workers.shutdown().await;
    outcome
}

/// Waits for all tasks. At the first failure or signal it calls `stop` and gives the others a
/// little time to end.
///
/// # Errors
/// The first failure, or the signal.
pub(crate) async fn gather(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    interrupt: &Interrupt,
    stop: impl Fn(),
) -> anyhow::Result<()> {
    let mut interrupt = interrupt.clone();
    let first = loop {
        tokio::select! {
            biased;
            signal = interrupt.wait() => break Failure::Interrupted(signal).into(),
            ended = tasks.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => break error,
                Some(Err(error)) => break error.into(),
            },
        }
    };
    stop();
    let settled = async { while tasks.join_next().await.is_some() {} };
    // What does not end in time is noted as begun, not as done.
    let _ = tokio::time::timeout(SETTLE, settled).await;
    Err(first)
}

/// How far a destination is filled without a hole, and which writes are under way.
#[derive(Debug)]
pub(crate) struct Reach {
    from: u64,
    state: Mutex<ReachState>,
}

/// Ranges are kept as start and end.
#[derive(Debug)]
struct ReachState {
    until: u64,
    beyond: BTreeMap<u64, u64>,
    begun: BTreeMap<u64, u64>,
}

impl Reach {
    /// Nothing yet, beginning at byte `from`.
    pub(crate) const fn from(from: u64) -> Self {
        let state = ReachState {
            until: from,
            beyond: BTreeMap::new(),
            begun: BTreeMap::new(),
        };
        Self {
            from,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, ReachState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chunk is being written.
    fn begun(&self, offset: u64, len: u64) {
        self.state()
            .begun
            .insert(offset, offset.saturating_add(len));
    }

    /// A chunk was certainly not written.
    fn refused(&self, offset: u64) {
        self.state().begun.remove(&offset);
    }

    /// A chunk was written.
    fn arrived(&self, offset: u64, len: u64) {
        let mut state = self.state();
        let state = &mut *state;
        state.begun.remove(&offset);
        state.beyond.insert(offset, offset.saturating_add(len));
        while let Some(entry) = state.beyond.first_entry() {
            if *entry.key() > state.until {
                break;
            }
            let end = entry.remove();
            state.until = state.until.max(end);
        }
    }

    /// Bytes that are there without a hole.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().until - self.from
    }

    /// The range around all writes of which nobody knows what came of them.
    fn uncertain(&self) -> Option<(u64, u64)> {
        let state = self.state();
        let first = state.begun.first_key_value().map(|(start, _)| *start)?;
        let last = state.begun.values().max().copied()?;
        Some((first, last))
    }

    /// Adds to a failure of writing to a logical unit how far it got.
    ///
    /// # Errors
    /// That of `result`.
    pub(crate) fn explain<T>(
        &self,
        result: anyhow::Result<T>,
        so_far: impl Fn() -> String,
    ) -> anyhow::Result<T> {
        result.map_err(|error| {
            let so_far = so_far();
            match self.uncertain() {
                None => error.context(format!(
                    "{so_far}: the target acknowledged these, they are not flushed; data after them may be partly overwritten"
                )),
                Some((from, to)) => error.context(Failure::WriteUnknown { so_far, from, to }),
            }
        })
    }
}

#[cfg(test)]
mod tests;
