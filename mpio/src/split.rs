//! I/O longer than one command may carry, in pieces.
//!
//! The pieces run side by side inside the caller's future, a bounded number at once; nothing is
//! spawned. Memory is taken apart and joined again without copying. Each piece chooses its own
//! path, so a long I/O uses all of them.
//!
//! When a piece fails no further one is started, and those under way are waited for: the memory
//! has to come back whole.

use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::Poll;

use crate::error::IoError;

/// How one piece ended, and what it gives back.
pub(crate) type Ended<T> = (Result<(), IoError>, T);

/// Runs pieces 0, 1, … as `start` makes them, `width` at once, until it returns `None` or one
/// fails. Returns what each gave back, in order, and the failures with their index.
pub(crate) async fn run_pieces<T, F>(
    width: usize,
    mut start: impl FnMut() -> Option<F>,
) -> (Vec<T>, Vec<(usize, IoError)>)
where
    F: Future<Output = Ended<T>>,
{
    let mut pieces = Pieces {
        running: Vec::new(),
        back: Vec::new(),
        failures: Vec::new(),
        stopped: false,
    };
    poll_fn(|cx| {
        loop {
            while !pieces.stopped && pieces.running.len() < width.max(1) {
                match start() {
                    Some(piece) => pieces.add(piece),
                    None => pieces.stopped = true,
                }
            }
            match pieces.poll(cx) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(poll) => return poll,
            }
        }
    })
    .await;
    let back = pieces.back.into_iter().flatten().collect();
    pieces.failures.sort_by_key(|(index, _)| *index);
    (back, pieces.failures)
}

struct Pieces<T, F> {
    running: Vec<(usize, Pin<Box<F>>)>,
    back: Vec<Option<T>>,
    failures: Vec<(usize, IoError)>,
    stopped: bool,
}

impl<T, F: Future<Output = Ended<T>>> Pieces<T, F> {
    fn add(&mut self, piece: F) {
        self.running.push((self.back.len(), Box::pin(piece)));
        self.back.push(None);
    }

    /// Polls what runs. Continue: something ended, there is room for more.
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> ControlFlow<Poll<()>> {
        let before = self.running.len();
        let (back, failures) = (&mut self.back, &mut self.failures);
        self.running.retain_mut(|(index, piece)| {
            let Poll::Ready((result, thing)) = piece.as_mut().poll(cx) else {
                return true;
            };
            if let Some(slot) = back.get_mut(*index) {
                *slot = Some(thing);
            }
            if let Err(error) = result {
                failures.push((*index, error));
            }
            false
        });
        self.stopped |= !self.failures.is_empty();
        if self.running.is_empty() && self.stopped {
            ControlFlow::Break(Poll::Ready(()))
        } else if self.running.len() == before || self.stopped {
            ControlFlow::Break(Poll::Pending)
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// One error of all: the first failed piece's, with the worst outcome of any.
pub(crate) fn merge(failures: Vec<(usize, IoError)>, piece_bytes: u64) -> Result<(), IoError> {
    let mut failures = failures.into_iter();
    let Some((index, mut error)) = failures.next() else {
        return Ok(());
    };
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    error.done_bytes = index.saturating_mul(piece_bytes);
    for (_, other) in failures {
        if other.outcome > error.outcome {
            error.outcome = other.outcome;
        }
        error.settled &= other.settled;
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{IoErrorKind, OutcomeCertainty};
    use crate::testing::Executor;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn failure(outcome: OutcomeCertainty, settled: bool) -> IoError {
        IoError {
            outcome,
            settled,
            ..IoError::local(IoErrorKind::MediumError)
        }
    }

    #[test]
    fn so_many_at_once_and_all_back_in_order() {
        let executor = Executor::new();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut next = 0_u64;
        let pieces = run_pieces(3, || {
            next += 1;
            let (index, executor, now, most) = (next, executor.clone(), &now, &most);
            (index <= 10).then_some(async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The later, the shorter: they end out of order.
                executor.pass(Duration::from_millis(20 - index)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                (Ok(()), index)
            })
        });
        let (back, failures) = executor.run(pieces);
        assert_eq!(back, (1..=10).collect::<Vec<_>>());
        assert!(failures.is_empty());
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn the_first_failure_speaks_and_the_worst_outcome_counts() {
        assert_eq!(merge(Vec::new(), 4096), Ok(()));
        let failures = vec![
            (2, failure(OutcomeCertainty::NotDone, true)),
            (5, failure(OutcomeCertainty::Unknown, false)),
        ];
        let error = merge(failures, 4096).unwrap_err();
        assert_eq!(error.done_bytes, 2 * 4096);
        assert_eq!(
            (error.outcome, error.settled),
            (OutcomeCertainty::Unknown, false)
        );
    }
}
