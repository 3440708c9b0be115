//! Reads and writes of blocks.
//!
//! One that fits into one command, finds a path at once and ends well is carried by a single
//! future of few words: whatever an inner one would keep is moved with it for every I/O. The rest
//! is boxed.

#![expect(
    clippy::inline_always,
    reason = "counted: what passes between these is larger than what they do"
)]

use std::future::{Future, ready};

use scsi::{Bytes, DataPhase, IoBuf, Lba, LbaRange, Nexus, ScsiAnswer};

use super::LogicalUnit;
use crate::block::{self, Place, Request, Rest, Underway};
use crate::clock::Clock;
use crate::error::{IoError, IoErrorKind};
use crate::split::{merge, run_pieces};
use crate::unit::Unit;

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Reads from byte `offset` until `buf` is full. Offset and length must be multiples of the
    /// block size. The buffer always comes back; its content means something only with `Ok`.
    ///
    /// # Errors
    /// See [`IoErrorKind`].
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice, and what is kept is moved for every I/O"
    )]
    pub fn read_at(
        &self,
        offset: u64,
        buf: IoBuf,
    ) -> impl Future<Output = (Result<(), IoError>, IoBuf)> + Send {
        async move {
            let begun = match self.unit().begin() {
                Ok(begun) => begun,
                Err(error) => return (Err(error), buf),
            };
            let unit = begun.unit;
            let (range, place) = match unit.place(offset, buf.len(), Request::Read) {
                Ok(found) => found,
                Err(obstacle) => {
                    return given_back(unit.overcome(*obstacle, DataPhase::Read(buf)).await);
                }
            };
            let load = (buf.len() as u64, true);
            let underway = Underway::begin(unit, Request::Read(range), place, load);
            let command = underway.command(DataPhase::Read(buf));
            let completion = underway.nexus().execute(command).await;
            match underway.finish(completion, |it| buffer(it.data)) {
                Ok(buf) => (Ok(()), buf),
                Err(rest) => given_back(rest.await),
            }
        }
    }

    /// Writes `data` at byte `offset`. Offset and length must be multiples of the block size.
    ///
    /// # Errors
    /// See [`IoErrorKind`]; [`IoError::outcome`] tells whether the data may have been written.
    #[expect(clippy::manual_async_fn, reason = "as for reading")]
    pub fn write_at(
        &self,
        offset: u64,
        data: Bytes,
    ) -> impl Future<Output = Result<(), IoError>> + Send {
        async move {
            let begun = self.unit().begin()?;
            let unit = begun.unit;
            let (range, place) = match unit.place(offset, data.len(), Request::Write) {
                Ok(found) => found,
                Err(obstacle) => {
                    let rest = unit.overcome(*obstacle, DataPhase::Write(data));
                    return rest.await.0.map(drop);
                }
            };
            let load = (data.len() as u64, false);
            let underway = Underway::begin(unit, Request::Write(range), place, load);
            let command = underway.command(DataPhase::Write(data));
            let completion = underway.nexus().execute(command).await;
            match underway.finish(completion, drop) {
                Ok(()) => Ok(()),
                Err(rest) => rest.await.0.map(drop),
            }
        }
    }
}

/// Why an I/O does not begin at once, with one command.
enum Obstacle {
    Refused(IoError),
    /// There is nothing to be done.
    Empty,
    /// It takes several commands.
    TooLong(Request),
    NoPath(Request),
}

/// The result and the buffer of a read.
fn given_back((result, data): block::Ended) -> (Result<(), IoError>, IoBuf) {
    (result.map(drop), buffer(data))
}

fn buffer(data: DataPhase) -> IoBuf {
    match data {
        DataPhase::Read(buf) => buf,
        // A nexus that breaks its word; the caller gets what there is.
        DataPhase::None | DataPhase::Write(_) | DataPhase::Bidirectional(_) => IoBuf::default(),
    }
}

impl<N: Nexus, C: Clock> Unit<N, C> {
    /// Finds the path for an I/O of one command.
    #[inline(always)]
    fn place(
        &self,
        offset: u64,
        len: usize,
        request: fn(LbaRange) -> Request,
    ) -> Result<(LbaRange, Place<'_, N>), Box<Obstacle>> {
        let range = match self.check(offset, len) {
            Ok(range) => range,
            Err(error) => return Err(Box::new(Obstacle::Refused(error))),
        };
        let request = request(range);
        if matches!(request, Request::Write(_)) && self.read_only() {
            let error = IoError::at(IoErrorKind::ReadOnly, range.first.0);
            return Err(Box::new(Obstacle::Refused(error)));
        }
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        if len == 0 {
            return Err(Box::new(Obstacle::Empty));
        }
        if len > self.max_transfer_bytes() {
            return Err(Box::new(Obstacle::TooLong(request)));
        }
        match block::first_path(self, &request, len) {
            Some(place) => Ok((range, place)),
            None => Err(Box::new(Obstacle::NoPath(request))),
        }
    }

    /// Does what can be done all the same.
    #[cold]
    fn overcome(&self, obstacle: Obstacle, data: DataPhase) -> Rest<'_> {
        match obstacle {
            Obstacle::Refused(error) => Box::pin(ready((Err(error), data))),
            Obstacle::Empty => Box::pin(ready((Ok(ScsiAnswer::good(0)), data))),
            Obstacle::TooLong(request) => Box::pin(self.carry_pieces(request, data)),
            Obstacle::NoPath(request) => block::carry_on(self, request, data),
        }
    }

    /// The blocks of an I/O, if the unit has what is asked for.
    #[inline(always)]
    fn check(&self, offset: u64, len: usize) -> Result<LbaRange, IoError> {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let (Some(lba), Some(blocks)) = (self.whole_blocks(offset), self.whole_blocks(len)) else {
            return Err(IoError::local(IoErrorKind::Misaligned));
        };
        match lba.checked_add(blocks) {
            Some(end) if end <= self.blocks() => Ok(LbaRange {
                first: Lba(lba),
                blocks: Some(blocks),
            }),
            _ => Err(IoError::at(IoErrorKind::OutOfRange, lba)),
        }
    }

    /// Carries an I/O that is too long for one command.
    async fn carry_pieces(&self, request: Request, data: DataPhase) -> block::Ended {
        let bytes = self.max_transfer_bytes();
        let piece = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut next = request.blocks().map_or(0, |range| range.first.0);
        let mut take = |len: usize| {
            let len = u64::try_from(len).unwrap_or(u64::MAX);
            let range = LbaRange {
                first: Lba(next),
                blocks: self.whole_blocks(len),
            };
            // What follows the last piece is not used.
            next = range.end().unwrap_or(u64::MAX);
            range
        };
        let width = self.config.split_concurrency;
        let (data, failures) = match data {
            DataPhase::Read(buf) => {
                let (buf, failures) = self.read_pieces(width, buf, piece, take).await;
                (DataPhase::Read(buf), failures)
            }
            DataPhase::Write(mut rest) => {
                let (_, failures) = run_pieces(width, || {
                    if rest.is_empty() {
                        return None;
                    }
                    let head = rest.split_to(piece.min(rest.len()));
                    let request = Request::Write(take(head.len()));
                    Some(async move {
                        let (result, _) = block::run(self, request, DataPhase::Write(head)).await;
                        (result.map(drop), ())
                    })
                })
                .await;
                (DataPhase::None, failures)
            }
            other @ (DataPhase::None | DataPhase::Bidirectional(_)) => (other, Vec::new()),
        };
        (merge(failures, bytes).map(|()| ScsiAnswer::good(0)), data)
    }

    async fn read_pieces(
        &self,
        width: usize,
        buf: IoBuf,
        piece: usize,
        mut take: impl FnMut(usize) -> LbaRange,
    ) -> (IoBuf, Vec<(usize, IoError)>) {
        let mut rest = buf;
        let (back, failures) = run_pieces(width, || {
            if rest.is_empty() {
                return None;
            }
            let tail = rest.split_off(piece);
            let head = std::mem::replace(&mut rest, tail);
            let request = Request::Read(take(head.len()));
            Some(async move { given_back(block::run(self, request, DataPhase::Read(head)).await) })
        })
        .await;
        let mut parts = back.into_iter();
        let mut whole = parts.next().unwrap_or_default();
        for part in parts {
            whole.unsplit(part);
        }
        whole.unsplit(rest);
        (whole, failures)
    }
}
