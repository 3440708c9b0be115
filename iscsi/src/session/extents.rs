//! Which parts of a buffer have been dealt with, when they may come in any order.

use smallvec::SmallVec;

/// Holes that one task may have at a time.
const EXTENTS_MAX: usize = 4096;

/// Received ranges of a buffer, in order, disjoint, not touching.
#[derive(Debug, Default)]
pub(super) struct Extents(SmallVec<[(u32, u32); 2]>);

impl Extents {
    /// Bytes from offset 0 to the first hole.
    pub(super) fn leading(&self) -> u32 {
        self.0
            .first()
            .filter(|extent| extent.0 == 0)
            .map_or(0, |extent| extent.1)
    }

    /// Bytes in all.
    pub(super) fn total(&self) -> u32 {
        self.0.iter().map(|extent| extent.1 - extent.0).sum()
    }

    /// Adds `[from, to)`; `false` when it overlaps what is there, or there are too many holes.
    pub(super) fn add(&mut self, from: u32, to: u32) -> bool {
        if from == to {
            return true;
        }
        let at = self.0.partition_point(|extent| extent.1 < from);
        match self.0.get(at).copied() {
            Some((start, end)) if end == from => {
                // Grows the extent before; it may now touch the one after.
                match self.0.get(at + 1).copied() {
                    Some((next, _)) if next < to => return false,
                    Some((next, next_end)) if next == to => {
                        self.0.remove(at + 1);
                        self.put(at, (start, next_end));
                    }
                    _ => self.put(at, (start, to)),
                }
            }
            Some((start, _)) if start < to => return false,
            Some((start, end)) if start == to => self.put(at, (from, end)),
            _ if self.0.len() >= EXTENTS_MAX => return false,
            _ => self.0.insert(at, (from, to)),
        }
        true
    }

    /// Adds `[from, to)` whatever is there; returns how many bytes of it are new, or `None` when
    /// there are too many holes.
    pub(super) fn cover(&mut self, from: u32, to: u32) -> Option<u32> {
        if from >= to {
            return Some(0);
        }
        // Those that overlap or touch.
        let first = self.0.partition_point(|extent| extent.1 < from);
        let behind = self.0.partition_point(|extent| extent.0 <= to);
        let (mut start, mut end, mut there) = (from, to, 0);
        for extent in self.0.iter().take(behind).skip(first) {
            start = start.min(extent.0);
            end = end.max(extent.1);
            there += extent.1.min(to).saturating_sub(extent.0.max(from));
        }
        if first == behind && self.0.len() >= EXTENTS_MAX {
            return None;
        }
        self.0.drain(first..behind);
        self.0.insert(first, (start, end));
        Some(to - from - there)
    }

    /// Takes `[from, to)` out again; `false` when that makes too many holes.
    pub(super) fn remove(&mut self, from: u32, to: u32) -> bool {
        let first = self.0.partition_point(|extent| extent.1 <= from);
        let behind = self.0.partition_point(|extent| extent.0 < to);
        if from >= to || first >= behind {
            return true;
        }
        let ends = (self.0.get(first).copied(), self.0.get(behind - 1).copied());
        self.0.drain(first..behind);
        if let (Some((start, _)), Some((_, end))) = ends {
            if end > to {
                self.0.insert(first, (to, end));
            }
            if start < from {
                self.0.insert(first, (start, from));
            }
        }
        self.0.len() <= EXTENTS_MAX
    }

    fn put(&mut self, at: usize, extent: (u32, u32)) {
        if let Some(place) = self.0.get_mut(at) {
            *place = extent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(parts: &[(u32, u32)]) -> Option<Vec<(u32, u32)>> {
        let mut sut = Extents::default();
        parts
            .iter()
            .all(|&(from, to)| sut.add(from, to))
            .then(|| sut.0.to_vec())
    }

    #[test]
    fn pieces_in_any_order_make_one_extent() {
        assert_eq!(extents(&[(0, 4), (4, 8)]), Some(vec![(0, 8)]));
        assert_eq!(extents(&[(4, 8), (0, 4)]), Some(vec![(0, 8)]));
        assert_eq!(extents(&[(0, 2), (6, 8), (2, 6)]), Some(vec![(0, 8)]));
        assert_eq!(
            extents(&[(6, 8), (2, 4), (0, 1)]),
            Some(vec![(0, 1), (2, 4), (6, 8)])
        );
    }

    #[test]
    fn overlap_is_refused() {
        assert_eq!(extents(&[(0, 4), (3, 8)]), None);
        assert_eq!(extents(&[(4, 8), (0, 5)]), None);
        assert_eq!(extents(&[(0, 2), (4, 6), (2, 5)]), None);
        assert_eq!(extents(&[(0, 8), (2, 4)]), None);
        assert_eq!(extents(&[(2, 4), (0, 8)]), None);
        assert_eq!(extents(&[(0, 4), (0, 4)]), None);
    }

    #[test]
    fn what_was_added_can_be_taken_out() {
        let left = |from, to| {
            let mut sut = Extents::default();
            assert!(sut.add(0, 10));
            sut.remove(from, to);
            sut.0.to_vec()
        };
        assert_eq!(left(0, 10), []);
        assert_eq!(left(0, 4), [(4, 10)]);
        assert_eq!(left(4, 10), [(0, 4)]);
        assert_eq!(left(4, 6), [(0, 4), (6, 10)]);
        assert_eq!(left(4, 4), [(0, 10)]);
        assert_eq!(left(8, 12), [(0, 8)]);
    }

    #[test]
    fn covering_and_removing_as_if_every_byte_had_its_own_flag() {
        let mut seed = 1_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let (mut sut, mut naive) = (Extents::default(), [false; 40]);
        for _ in 0..5000 {
            let (a, b) = (random(41), random(41));
            let (from, to) = (a.min(b), a.max(b));
            let range = naive.get_mut(from as usize..to as usize).unwrap();
            if random(2) == 0 {
                let new = range.iter().filter(|there| !**there).count();
                assert_eq!(sut.cover(from, to), u32::try_from(new).ok());
                range.fill(true);
            } else {
                assert!(sut.remove(from, to));
                range.fill(false);
            }
            let mut expected: Vec<(u32, u32)> = Vec::new();
            for (at, _) in (0..).zip(naive).filter(|(_, there)| *there) {
                match expected.last_mut() {
                    Some(last) if last.1 == at => last.1 += 1,
                    _ => expected.push((at, at + 1)),
                }
            }
            assert_eq!(sut.0.to_vec(), expected);
        }
    }

    #[test]
    fn leading_counts_from_zero_only() {
        let mut sut = Extents::default();
        assert!(sut.add(4, 8));
        assert_eq!(sut.leading(), 0);
        assert!(sut.add(0, 4));
        assert_eq!(sut.leading(), 8);
    }
}
