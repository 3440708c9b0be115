//! Which numbers of one task's DataSN or R2TSN sequence are missing (RFC 7143 §4.2.2.4, §7.9).
//!
//! Kept as runs, in order, disjoint and not touching, so that memory follows the number of holes
//! and not their length. A task has no [`Gaps`] at all until something is missing.
//!
//! The sequence starts at 0 and has less than 2³² members (RFC 7143 §4.2.2.4), so it never wraps.
//! `next` is always the number after the highest one that is known to have been sent; whoever
//! owns it moves it on.
//!
//! Does not know what the numbers stand for, nor when to ask again.

use smallvec::SmallVec;

/// Holes of one task at a time. More than this is not a few lost PDUs any more.
const RUNS_MAX: usize = 64;

/// Numbers missing in one go. More than this is a number that nobody counted up to.
const RUN_MAX: u32 = 65_536;

/// Numbers `from..to`; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Run {
    pub(in crate::session) from: u32,
    pub(in crate::session) to: u32,
}

impl Run {
    /// How many.
    pub(in crate::session) fn length(self) -> u32 {
        self.to.saturating_sub(self.from)
    }
}

/// What an arriving number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Arrival {
    /// The next one.
    Next,
    /// A later one: those between are missing now.
    Ahead(Run),
    /// One that was missing.
    Filled,
    /// One that has come before (RFC 7143 §7.9: to be discarded).
    Duplicate,
}

/// More holes, or a longer one, than are kept: recovery within the task is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Untrackable;

/// Missing numbers below `next`.
#[derive(Debug, Default, Clone)]
pub(in crate::session) struct Gaps {
    runs: SmallVec<[Run; 2]>,
}

impl Gaps {
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The lowest missing number.
    pub(in crate::session) fn first(&self) -> Option<u32> {
        self.runs.first().map(|run| run.from)
    }

    /// The holes, lowest first.
    pub(in crate::session) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter().copied()
    }

    /// Whether one of `from..to` is missing.
    pub(in crate::session) fn any_in(&self, from: u32, to: u32) -> bool {
        let at = self.runs.partition_point(|run| run.to <= from);
        self.runs.get(at).is_some_and(|run| run.from < to)
    }

    /// `sn` came.
    pub(in crate::session) fn arrived(
        &mut self,
        next: u32,
        sn: u32,
    ) -> Result<Arrival, Untrackable> {
        if sn == next {
            return Ok(Arrival::Next);
        }
        if sn > next {
            return match self.sent_below(next, sn)? {
                Some(run) => Ok(Arrival::Ahead(run)),
                None => Ok(Arrival::Next),
            };
        }
        let at = self.runs.partition_point(|run| run.to <= sn);
        let Some(run) = self.runs.get_mut(at).filter(|run| run.from <= sn) else {
            return Ok(Arrival::Duplicate);
        };
        let (from, to) = (run.from, run.to);
        if from == sn && to == sn + 1 {
            self.runs.remove(at);
        } else if from == sn {
            run.from = sn + 1;
        } else if to == sn + 1 {
            run.to = sn;
        } else {
            run.to = sn;
            if self.runs.len() >= RUNS_MAX {
                return Err(Untrackable);
            }
            self.runs.insert(at + 1, Run { from: sn + 1, to });
        }
        Ok(Arrival::Filled)
    }

    /// All numbers below `end` have been sent: those from `next` on are missing, if any.
    pub(in crate::session) fn sent_below(
        &mut self,
        next: u32,
        end: u32,
    ) -> Result<Option<Run>, Untrackable> {
        if end <= next {
            return Ok(None);
        }
        let run = Run {
            from: next,
            to: end,
        };
        if run.length() > RUN_MAX {
            return Err(Untrackable);
        }
        if let Some(last) = self.runs.last_mut().filter(|last| last.to == next) {
            last.to = end;
        } else if self.runs.len() >= RUNS_MAX {
            return Err(Untrackable);
        } else {
            self.runs.push(run);
        }
        Ok(Some(run))
    }

    /// `sn` had arrived, but was damaged: it is missing again.
    pub(in crate::session) fn lost(&mut self, sn: u32) -> Result<(), Untrackable> {
        let after = sn.checked_add(1).ok_or(Untrackable)?;
        let at = self.runs.partition_point(|run| run.to < sn);
        let follows = self.runs.get(at).is_some_and(|run| run.to == sn);
        let leads = |run: &Run| run.from == after;
        if follows {
            let beyond = self.runs.get(at + 1).copied().filter(leads);
            if beyond.is_some() {
                self.runs.remove(at + 1);
            }
            if let Some(run) = self.runs.get_mut(at) {
                run.to = beyond.map_or(after, |beyond| beyond.to);
            }
        } else if let Some(run) = self.runs.get_mut(at).filter(|run| leads(run)) {
            run.from = sn;
        } else if self
            .runs
            .get(at)
            .is_some_and(|run| run.from <= sn && sn < run.to)
        {
            // It was missing all the time.
        } else if self.runs.len() >= RUNS_MAX {
            return Err(Untrackable);
        } else {
            self.runs.insert(
                at,
                Run {
                    from: sn,
                    to: after,
                },
            );
        }
        Ok(())
    }

    /// Nothing is missing.
    pub(in crate::session) fn clear(&mut self) {
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test may fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn runs(sut: &Gaps) -> Vec<(u32, u32)> {
        sut.runs().map(|run| (run.from, run.length())).collect()
    }

    #[test]
    fn a_jump_leaves_a_run_and_fillings_close_it_from_anywhere() {
        let mut sut = Gaps::default();
        assert_eq!(sut.arrived(0, 0), Ok(Arrival::Next));
        assert_eq!(
            sut.arrived(1, 6),
            Ok(Arrival::Ahead(Run { from: 1, to: 6 }))
        );
        assert_eq!(sut.arrived(7, 3), Ok(Arrival::Filled));
        assert_eq!(runs(&sut), [(1, 2), (4, 2)]);
        assert_eq!(sut.arrived(7, 1), Ok(Arrival::Filled));
        assert_eq!(sut.arrived(7, 5), Ok(Arrival::Filled));
        assert_eq!(runs(&sut), [(2, 1), (4, 1)]);
        assert_eq!(sut.arrived(7, 3), Ok(Arrival::Duplicate));
        assert_eq!(sut.arrived(7, 6), Ok(Arrival::Duplicate));
        assert_eq!(sut.first(), Some(2));
        assert!(sut.any_in(0, 3) && sut.any_in(3, 5) && sut.any_in(4, 5));
        assert!(!sut.any_in(0, 2) && !sut.any_in(3, 4) && !sut.any_in(5, 9));
        assert_eq!(sut.arrived(7, 4), Ok(Arrival::Filled));
        assert_eq!(sut.arrived(7, 2), Ok(Arrival::Filled));
        assert!(sut.is_empty());
    }

    #[test]
    fn what_was_damaged_is_missing_again_and_joins_its_neighbours() {
        let mut sut = Gaps::default();
        sut.lost(5).unwrap();
        sut.lost(7).unwrap();
        assert_eq!(runs(&sut), [(5, 1), (7, 1)]);
        sut.lost(6).unwrap();
        assert_eq!(runs(&sut), [(5, 3)]);
        sut.lost(4).unwrap();
        sut.lost(8).unwrap();
        sut.lost(6).unwrap();
        assert_eq!(runs(&sut), [(4, 5)]);
    }

    #[test]
    fn absurd_jumps_and_too_many_holes_are_refused() {
        let mut sut = Gaps::default();
        assert_eq!(sut.arrived(0, RUN_MAX + 1), Err(Untrackable));
        assert_eq!(sut.arrived(0, u32::MAX), Err(Untrackable));
        assert_eq!(sut.lost(u32::MAX), Err(Untrackable));
        let mut next = 0;
        for _ in 0..RUNS_MAX {
            assert!(sut.arrived(next, next + 1).is_ok());
            next += 2;
        }
        assert_eq!(sut.arrived(next, next + 1), Err(Untrackable));
        assert_eq!(sut.arrived(next, next), Ok(Arrival::Next));
        assert_eq!(sut.runs.len(), RUNS_MAX);
    }

    /// One flag per number: whether it has come.
    #[derive(Default)]
    struct Naive(Vec<bool>);

    impl Naive {
        fn runs(&self) -> Vec<(u32, u32)> {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for (sn, _) in (0..).zip(&self.0).filter(|(_, come)| !**come) {
                match runs.last_mut() {
                    Some(run) if run.0 + run.1 == sn => run.1 += 1,
                    _ => runs.push((sn, 1)),
                }
            }
            runs
        }
    }

    proptest! {
        #[test]
        fn as_if_every_number_had_its_own_flag(
            steps in prop::collection::vec((0u8..10, 0u32..48), 1..60)
        ) {
            let (mut sut, mut naive, mut next) = (Gaps::default(), Naive::default(), 0u32);
            for (kind, sn) in steps {
                let at = sn as usize;
                match kind {
                    0 if sn < next => {
                        sut.lost(sn).unwrap();
                        naive.0[at] = false;
                    }
                    0 | 1 => {
                        sut.sent_below(next, sn).unwrap();
                        if sn > next {
                            naive.0.resize(at, false);
                        }
                        next = next.max(sn);
                    }
                    _ => {
                        let arrival = sut.arrived(next, sn).unwrap();
                        let expected = if sn == next {
                            Arrival::Next
                        } else if sn > next {
                            Arrival::Ahead(Run { from: next, to: sn })
                        } else if naive.0[at] {
                            Arrival::Duplicate
                        } else {
                            Arrival::Filled
                        };
                        prop_assert_eq!(arrival, expected);
                        if at >= naive.0.len() {
                            naive.0.resize(at + 1, false);
                        }
                        naive.0[at] = true;
                        next = next.max(sn + 1);
                    }
                }
                prop_assert_eq!(runs(&sut), naive.runs());
                prop_assert_eq!(sut.first(), naive.runs().first().map(|run| run.0));
            }
        }
    }
}
