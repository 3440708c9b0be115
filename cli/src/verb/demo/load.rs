//! The demo's load: a fixed number of tasks that write, or read back and compare, one chunk after
//! the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use initiator::{IoBuf, LogicalUnit};
use tokio::task::JoinSet;

use super::pattern;
use crate::block::as_usize;
use crate::transfer::first_difference;

/// What the tasks do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Write the pattern.
    Write,
    /// Read and compare with the pattern.
    Compare,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Chunks done.
    pub(super) chunks: u64,
    /// Time from the first to the last.
    pub(super) elapsed: Duration,
    /// The chunk that took longest.
    pub(super) slowest: Duration,
    /// Offset of the first byte that is not what was written.
    pub(super) difference: Option<u64>,
}

impl Tally {
    /// Adds a later run.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            chunks: self.chunks + other.chunks,
            elapsed: self.elapsed + other.elapsed,
            slowest: self.slowest.max(other.slowest),
            difference: self.difference.into_iter().chain(other.difference).min(),
        }
    }

    /// Bytes per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
    pub(super) fn rate(&self) -> f64 {
        (self.chunks * CHUNK_BYTES) as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Does `deed` to the given chunks. `at_half` is run once, with I/O in flight, when half of
/// them are done.
///
/// # Errors
/// The first I/O that failed.
pub(super) async fn run(
    unit: &LogicalUnit,
    deed: Deed,
    chunks: std::ops::Range<u64>,
    at_half: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Tally> {
    let begun = Instant::now();
    let half = (chunks.end - chunks.start) / 2;
    let queue = Arc::new(Mutex::new(chunks.collect::<VecDeque<_>>()));
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (unit, queue, report) = (unit.clone(), Arc::clone(&queue), report.clone());
        tasks.spawn(async move {
            while let Some(chunk) = next(&queue) {
                let begun = Instant::now();
                let difference = one(&unit, deed, chunk * CHUNK_BYTES).await?;
                if report.send((begun.elapsed(), difference)).is_err() {
                    break;
                }
            }
            anyhow::Ok(())
        });
    }
    drop(report);
    let mut tally = Tally::default();
    let mut at_half = Some(at_half);
    while let Some((took, difference)) = reports.recv().await {
        let chunk = Tally {
            chunks: 1,
            slowest: took,
            difference,
            ..Tally::default()
        };
        tally = tally.and(chunk);
        if tally.chunks >= half
            && let Some(at_half) = at_half.take()
        {
            at_half.await?;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(Tally {
        elapsed: begun.elapsed(),
        ..tally
    })
}

fn next(queue: &Mutex<VecDeque<u64>>) -> Option<u64> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front()
}

async fn one(unit: &LogicalUnit, deed: Deed, offset: u64) -> anyhow::Result<Option<u64>> {
    let expected = pattern::at(offset, as_usize(CHUNK_BYTES));
    match deed {
        Deed::Write => {
            let written = unit.write_at(offset, expected).await;
            written.with_context(|| format!("write at offset {offset} failed"))?;
            Ok(None)
        }
        Deed::Compare => {
            let (read, buf) = unit
                .read_at(offset, IoBuf::zeroed(as_usize(CHUNK_BYTES)))
                .await;
            read.with_context(|| format!("read at offset {offset} failed"))?;
            let found = first_difference(&expected, buf.as_slice());
            Ok(found.map(|at| offset + crate::block::as_u64(at)))
        }
    }
}

/// Bytes per I/O.
pub(super) const CHUNK_BYTES: u64 = 64 << 10;

/// I/Os in flight.
pub(super) const IN_FLIGHT: usize = 8;
