//! Byte ranges of a logical unit, aligned or not.
//!
//! Reads of part of a block read the whole block. Writes of part of a block read it, merge and
//! write it back; that is not atomic towards other writers of the same block.

use anyhow::Context as _;
use initiator::{Bytes, IoBuf, IoError, LogicalUnit};

/// Fills `buf` from byte `offset` on. The buffer comes back either way.
pub(crate) async fn read(
    unit: &LogicalUnit,
    offset: u64,
    mut buf: IoBuf,
) -> (Result<(), IoError>, IoBuf) {
    let Span { start, end, .. } = Span::around(unit, offset, buf.len());
    let wanted = buf.len();
    if start == offset && end == offset.saturating_add(as_u64(wanted)) {
        return unit.read_at(offset, buf).await;
    }
    let whole = IoBuf::zeroed(as_usize(end - start));
    let (result, whole) = unit.read_at(start, whole).await;
    let skip = as_usize(offset - start);
    if let (Ok(()), Some(part)) = (
        &result,
        whole.as_slice().get(skip..skip.saturating_add(wanted)),
    ) {
        buf.as_mut_slice().copy_from_slice(part);
    }
    (result, buf)
}

/// Writes `data` at byte `offset`, merging into the blocks at its edges.
///
/// # Errors
/// That of the first write (or read, for a merge) that failed.
pub(crate) async fn write(unit: &LogicalUnit, offset: u64, data: Bytes) -> anyhow::Result<()> {
    let span = Span::around(unit, offset, data.len());
    let head = span.head(offset).min(data.len());
    let tail = if head == data.len() {
        0
    } else {
        span.tail(offset, data.len())
    };
    let body = head..data.len() - tail;
    let body_at = offset.saturating_add(as_u64(body.start));
    let tail_at = offset.saturating_add(as_u64(body.end));
    if head > 0 {
        merge(unit, offset, &data.slice(..head)).await?;
    }
    if !body.is_empty() {
        let len = body.len();
        unit.write_at(body_at, data.slice(body.clone()))
            .await
            .with_context(|| format!("write of {len} bytes at offset {body_at} failed"))?;
    }
    if tail > 0 {
        merge(unit, tail_at, &data.slice(body.end..)).await?;
    }
    Ok(())
}

/// Read, merge, write back: for data inside one block.
async fn merge(unit: &LogicalUnit, offset: u64, data: &Bytes) -> anyhow::Result<()> {
    let Span { start, end, .. } = Span::around(unit, offset, data.len());
    let (result, mut block) = unit
        .read_at(start, IoBuf::zeroed(as_usize(end - start)))
        .await;
    result.with_context(|| format!("read of the block at offset {start} to merge into failed"))?;
    let skip = as_usize(offset - start);
    if let Some(part) = block
        .as_mut_slice()
        .get_mut(skip..skip.saturating_add(data.len()))
    {
        part.copy_from_slice(data);
    }
    unit.write_at(start, block.freeze())
        .await
        .with_context(|| format!("write of the merged block at offset {start} failed"))
}

/// Whole blocks around a byte range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
    block: u64,
}

impl Span {
    fn around(unit: &LogicalUnit, offset: u64, len: usize) -> Self {
        Self::of(u64::from(unit.geometry().block_bytes), offset, len)
    }

    fn of(block: u64, offset: u64, len: usize) -> Self {
        let block = block.max(1);
        let start = offset - offset % block;
        let end = offset.saturating_add(as_u64(len));
        let end = end.checked_next_multiple_of(block).unwrap_or(end);
        Self { start, end, block }
    }

    /// Leading bytes of data at `offset` that do not begin a block.
    fn head(self, offset: u64) -> usize {
        if offset == self.start {
            0
        } else {
            as_usize(self.block - (offset - self.start))
        }
    }

    /// Trailing bytes of data at `offset` that do not fill a block.
    fn tail(self, offset: u64, len: usize) -> usize {
        as_usize(offset.saturating_add(as_u64(len)) % self.block)
    }
}

/// Lengths in memory fit 64 bits on every platform Rust has.
pub(crate) fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// For lengths that came from a `usize` or are bounded by a chunk.
pub(crate) fn as_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_whole_blocks() {
        let span = Span::of(512, 1000, 100);
        assert_eq!((span.start, span.end), (512, 1536));
        assert_eq!(span.head(1000), 24);
        assert_eq!(span.tail(1000, 100), 76);
        let aligned = Span::of(512, 1024, 512);
        assert_eq!((aligned.start, aligned.end), (1024, 1536));
        assert_eq!((aligned.head(1024), aligned.tail(1024, 512)), (0, 0));
    }
}
