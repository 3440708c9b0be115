//! Moving bytes between a logical unit and something that has an order but no positions: a pipe,
//! a terminal, a file that is being made.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use initiator::{Bytes, IoBuf, LogicalUnit};
use tokio::task::{JoinHandle, JoinSet};

use crate::block::{self, as_u64, as_usize};
use crate::exit::Failure;
use crate::signals::Interrupt;
use crate::transfer::{CHUNK_BYTES, End, Reach, WORKERS, gather, write_tracked};

/// Reads `[offset, offset + length)` and writes it to `sink` in order, reading ahead. `wrap`
/// names the sink in an error.
///
/// # Errors
/// The first read or write that failed, with the number of bytes that went out as context.
pub(crate) async fn read_to(
    unit: &LogicalUnit,
    (offset, length): (u64, u64),
    sink: &Arc<File>,
    wrap: fn(std::io::Error) -> anyhow::Error,
    mut advance: impl FnMut(u64),
) -> anyhow::Result<()> {
    let mut out = 0;
    let result = read_in_order(unit, (offset, length), sink, wrap, |bytes| {
        out += bytes;
        advance(bytes);
    })
    .await;
    result.with_context(|| format!("{out} of {length} bytes were read and passed on"))
}

async fn read_in_order(
    unit: &LogicalUnit,
    (offset, length): (u64, u64),
    sink: &Arc<File>,
    wrap: fn(std::io::Error) -> anyhow::Error,
    mut advance: impl FnMut(u64),
) -> anyhow::Result<()> {
    let end = offset.saturating_add(length);
    let mut next = offset;
    let mut ahead = VecDeque::with_capacity(WORKERS);
    loop {
        while ahead.len() < WORKERS && next < end {
            let len = chunk_at(unit, next).min(end - next);
            ahead.push_back(Ahead::start(unit.clone(), next, as_usize(len)));
            next = next.saturating_add(len);
        }
        let Some(mut first) = ahead.pop_front() else {
            return Ok(());
        };
        let buf = (&mut first.0).await??;
        let bytes = as_u64(buf.len());
        let sink = Arc::clone(sink);
        let writing = tokio::task::spawn_blocking(move || (&*sink).write_all(buf.as_slice()));
        writing.await?.map_err(wrap)?;
        advance(bytes);
    }
}

/// A read under way that ends when nobody waits for it any more.
struct Ahead(JoinHandle<anyhow::Result<IoBuf>>);

impl Ahead {
    fn start(unit: LogicalUnit, offset: u64, len: usize) -> Self {
        Self(tokio::spawn(async move {
            let (result, buf) = block::read(&unit, offset, IoBuf::zeroed(len)).await;
            result.with_context(|| format!("read of {len} bytes at offset {offset} failed"))?;
            Ok(buf)
        }))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bytes from `offset` to the next chunk border. Borders are whole blocks, so no two chunks share
/// a block.
fn chunk_at(unit: &LogicalUnit, offset: u64) -> u64 {
    let block = u64::from(unit.geometry().block_bytes).max(1);
    let chunk = CHUNK_BYTES.next_multiple_of(block);
    chunk - offset % chunk
}

/// Writes everything `source` has from byte `offset` on, then flushes. Gives the bytes written.
///
/// # Errors
/// The first read or write that failed, more data than fit, or the user's signal, with the number
/// of bytes that are certainly written as context.
pub(crate) async fn write_from(
    unit: &LogicalUnit,
    offset: u64,
    source: &Arc<File>,
    interrupt: &Interrupt,
) -> anyhow::Result<u64> {
    let reach = Arc::new(Reach::from(offset));
    let result = write_all(unit, offset, source, interrupt, &reach).await;
    let bytes = reach.bytes();
    reach.explain(result, || {
        format!("wrote {bytes} bytes from offset {offset} on")
    })?;
    unit.flush().await.with_context(|| {
        format!("{bytes} bytes were written, but flushing the target's cache failed")
    })?;
    Ok(bytes)
}

async fn write_all(
    unit: &LogicalUnit,
    offset: u64,
    source: &Arc<File>,
    interrupt: &Interrupt,
    reach: &Arc<Reach>,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let fed = feed(unit, offset, source, interrupt, reach, &mut tasks).await;
    // What is in flight is waited for even after a failure: its outcome belongs into the report.
    let gathered = gather(&mut tasks, interrupt, || ()).await;
    tasks.shutdown().await;
    fed.and(gathered)
}

async fn feed(
    unit: &LogicalUnit,
    offset: u64,
    source: &Arc<File>,
    interrupt: &Interrupt,
    reach: &Arc<Reach>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let capacity = unit.geometry().bytes();
    let mut next = offset;
    loop {
        let room = chunk_at(unit, next).min(capacity.saturating_sub(next));
        // At the end of the unit one more byte is asked for: there must be none.
        let data = interrupt
            .guard(read_chunk(Arc::clone(source), room.max(1)))
            .await?;
        if data.is_empty() {
            return Ok(());
        }
        if room == 0 {
            anyhow::bail!(
                "the logical unit ends at byte {capacity}, and there is more input than fits"
            );
        }
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
        while tasks.len() >= WORKERS {
            if let Some(ended) = interrupt
                .guard(async { Ok(tasks.join_next().await) })
                .await?
            {
                ended??;
            }
        }
        let (at, len) = (next, as_u64(data.len()));
        let (end, reach) = (End::Unit(unit.clone()), Arc::clone(reach));
        tasks.spawn(async move { write_tracked(&end, &reach, at, data).await });
        next = next.saturating_add(len);
    }
}

/// Up to `len` bytes; fewer only at the end of the input.
async fn read_chunk(source: Arc<File>, len: u64) -> anyhow::Result<Bytes> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut data = Vec::with_capacity(as_usize(len));
        (&*source)
            .take(len)
            .read_to_end(&mut data)
            .map(|_| Bytes::from(data))
    });
    reading.await?.context("reading the input failed")
}

/// Says which signal ended a read into `sink`, if one did.
///
/// # Errors
/// Those of the reading.
pub(crate) async fn stoppable<T>(
    interrupt: &Interrupt,
    work: impl Future<Output = anyhow::Result<T>>,
    so_far: impl Fn() -> u64,
) -> anyhow::Result<T> {
    let result = interrupt.guard(work).await;
    result.map_err(|error| match error.downcast_ref::<Failure>() {
        Some(Failure::Interrupted(_)) => {
            let bytes = so_far();
            error.context(format!("{bytes} bytes were read and passed on"))
        }
        _ => error,
    })
}
