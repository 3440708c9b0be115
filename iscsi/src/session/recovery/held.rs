//! Answers that came before their turn (RFC 7143 §4.2.2.2, §7.9).
//!
//! Answers are taken in the order of StatSN: what the target said first counts first, and a
//! status is acknowledged (by ExpStatSN) only when everything before it has been dealt with. A
//! connection whose answers come in order has an empty queue here; once an answer is missing, or
//! cannot be dealt with because data of its task are, the later ones wait.
//!
//! Invariants: slot `i` belongs to StatSN `ExpStatSN + i`; the number of slots and of bytes held
//! is bounded, whatever the target sends.

use std::collections::VecDeque;

use crate::wire::Response;

/// StatSNs beyond ExpStatSN that are kept track of: as many as the most commands that can be
/// under way at once (4,096), and some for other requests.
const SLOTS_MAX: usize = 4096 + 64;

/// Data of held answers, in bytes. Sense data have less than 300 each.
const BYTES_MAX: usize = 1 << 20;

/// One StatSN.
#[derive(Debug)]
enum Slot {
    /// It was used by the target, and its PDU has not come.
    Missing,
    Held(Held),
    /// Dealt with on arrival.
    Done,
}

/// An answer that has to wait.
#[derive(Debug)]
pub(in crate::session) struct Held {
    pub(in crate::session) pdu: Response,
    pub(in crate::session) data: Box<[u8]>,
}

/// The answer whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Front {
    /// It has not come.
    Missing,
    /// It has been dealt with.
    Done,
    /// It is held.
    Held(Response),
}

/// The gap is longer, or the answers behind it larger, than what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Full;

/// StatSNs from ExpStatSN on.
#[derive(Debug, Default)]
pub(in crate::session) struct HeldAnswers {
    slots: VecDeque<Slot>,
    bytes: usize,
}

impl HeldAnswers {
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the answer at `offset` has come already.
    pub(in crate::session) fn has(&self, offset: u32) -> bool {
        let slot = self.slots.get(offset as usize);
        slot.is_some_and(|slot| !matches!(slot, Slot::Missing))
    }

    /// Whether the answer at `offset` is known to have been sent, and has not come.
    pub(in crate::session) fn is_missing(&self, offset: u32) -> bool {
        matches!(self.slots.get(offset as usize), Some(Slot::Missing))
    }

    /// Everything below `offset` has been sent; the offset and length of what is missing now that
    /// was not known to be before.
    pub(in crate::session) fn sent_below(
        &mut self,
        offset: u32,
    ) -> Result<Option<(u32, u32)>, Full> {
        let (known, end) = (self.slots.len(), offset as usize);
        if end <= known {
            return Ok(None);
        }
        if end > SLOTS_MAX {
            return Err(Full);
        }
        self.slots.resize_with(end, || Slot::Missing);
        let known = u32::try_from(known).unwrap_or(u32::MAX);
        Ok(Some((known, offset - known)))
    }

    /// Keeps an answer; [`HeldAnswers::sent_below`] for all before it comes first.
    pub(in crate::session) fn hold(
        &mut self,
        offset: u32,
        pdu: &Response,
        data: &[u8],
    ) -> Result<(), Full> {
        let bytes = self.bytes.saturating_add(data.len());
        if bytes > BYTES_MAX {
            return Err(Full);
        }
        self.put(
            offset,
            Slot::Held(Held {
                pdu: *pdu,
                data: data.into(),
            }),
        )?;
        self.bytes = bytes;
        Ok(())
    }

    /// Notes that the answer at `offset` has been dealt with, though it is not its turn.
    pub(in crate::session) fn done(&mut self, offset: u32) -> Result<(), Full> {
        self.put(offset, Slot::Done)
    }

    fn put(&mut self, offset: u32, slot: Slot) -> Result<(), Full> {
        self.sent_below(offset.saturating_add(1))?;
        let place = self.slots.get_mut(offset as usize).ok_or(Full)?;
        *place = slot;
        Ok(())
    }

    /// The answer whose turn it is.
    pub(in crate::session) fn front(&self) -> Front {
        match self.slots.front() {
            None | Some(Slot::Missing) => Front::Missing,
            Some(Slot::Done) => Front::Done,
            Some(Slot::Held(held)) => Front::Held(held.pdu),
        }
    }

    /// Takes the answer whose turn it is out of its slot, which stays until ExpStatSN moves on.
    pub(in crate::session) fn take_front(&mut self) -> Option<Held> {
        let front = self.slots.front_mut()?;
        match std::mem::replace(front, Slot::Done) {
            Slot::Held(held) => {
                self.bytes -= held.data.len();
                Some(held)
            }
            other @ (Slot::Missing | Slot::Done) => {
                *front = other;
                None
            }
        }
    }

    /// ExpStatSN moves on by one.
    pub(in crate::session) fn advance(&mut self) {
        if let Some(Slot::Held(held)) = self.slots.pop_front() {
            self.bytes -= held.data.len();
        }
        if self.slots.is_empty() {
            // The next gap may be far away.
            self.slots = VecDeque::new();
        }
    }

    /// Drops answers that are of no use: others will come with the same StatSN.
    pub(in crate::session) fn drop_held(&mut self, mut is_stale: impl FnMut(&Response) -> bool) {
        for slot in &mut self.slots {
            if let Slot::Held(held) = slot
                && is_stale(&held.pdu)
            {
                self.bytes -= held.data.len();
                *slot = Slot::Missing;
            }
        }
    }

    /// Offset and length of every run that is missing.
    pub(in crate::session) fn missing(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (offset, slot) in (0..).zip(&self.slots) {
            match (slot, runs.last_mut()) {
                (Slot::Missing, Some(run)) if run.0 + run.1 == offset => run.1 += 1,
                (Slot::Missing, _) => runs.push((offset, 1)),
                (Slot::Held(_) | Slot::Done, _) => {}
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::{CmdSn, StatSn};
    use crate::wire::{Reject, Window};

    fn answer(reason: u8) -> Response {
        Response::Reject(Reject {
            reason,
            stat_sn: StatSn(0),
            window: Window {
                exp_cmd_sn: CmdSn(0),
                max_cmd_sn: CmdSn(0),
            },
            data_sn: 0,
        })
    }

    #[test]
    fn a_gap_is_reported_once_and_answers_come_out_in_turn() {
        let mut sut = HeldAnswers::default();
        assert_eq!(sut.sent_below(2), Ok(Some((0, 2))));
        sut.hold(2, &answer(2), &[1, 2]).unwrap();
        assert_eq!(sut.sent_below(3), Ok(None));
        assert_eq!(sut.sent_below(5), Ok(Some((3, 2))));
        assert_eq!(sut.missing(), [(0, 2), (3, 2)]);
        assert_eq!(sut.front(), Front::Missing);
        sut.hold(0, &answer(0), &[]).unwrap();
        assert!(sut.has(0) && !sut.has(1) && sut.has(2) && !sut.has(9));
        assert!(sut.is_missing(1) && !sut.is_missing(2) && !sut.is_missing(9));
        assert_eq!(sut.front(), Front::Held(answer(0)));
        assert_eq!(sut.take_front().map(|held| held.pdu), Some(answer(0)));
        assert_eq!(sut.front(), Front::Done);
        sut.advance();
        assert_eq!(sut.front(), Front::Missing);
        assert!(sut.take_front().is_none() && sut.is_missing(0));
        sut.done(0).unwrap();
        sut.advance();
        let held = sut.take_front().unwrap();
        assert_eq!((held.pdu, &*held.data), (answer(2), &[1, 2][..]));
        sut.advance();
        assert_eq!(sut.bytes, 0);
        assert_eq!(sut.missing(), [(0, 2)]);
        sut.advance();
        sut.advance();
        assert!(sut.is_empty());
    }

    #[test]
    fn a_stale_answer_is_missing_again() {
        let mut sut = HeldAnswers::default();
        sut.hold(0, &answer(7), &[0; 10]).unwrap();
        sut.hold(1, &answer(8), &[0; 10]).unwrap();
        sut.drop_held(|pdu| *pdu == answer(7));
        assert_eq!(sut.missing(), [(0, 1)]);
        assert!(sut.has(1));
        assert_eq!(sut.bytes, 10);
    }

    #[test]
    fn memory_is_bounded() {
        let mut sut = HeldAnswers::default();
        assert_eq!(sut.sent_below(u32::MAX), Err(Full));
        assert_eq!(sut.hold(u32::MAX, &answer(0), &[]), Err(Full));
        assert!(sut.is_empty());
        let large = vec![0; BYTES_MAX / 2];
        sut.hold(1, &answer(0), &large).unwrap();
        sut.hold(2, &answer(0), &large).unwrap();
        assert_eq!(sut.hold(3, &answer(0), &[0]), Err(Full));
    }
}
