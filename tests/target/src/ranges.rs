//! Which bytes of a transfer have come, as a sorted list of disjoint ranges.

/// Ranges `from..to`, sorted, neither overlapping nor touching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    pub(crate) fn add(&mut self, from: u32, to: u32) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|&(start, end)| {
            let apart = end < from || to < start;
            if !apart {
                from = from.min(start);
                to = to.max(end);
            }
            apart
        });
        let at = self.0.partition_point(|&(start, _)| start < from);
        self.0.insert(at, (from, to));
    }

    /// What is missing of `from..to`.
    pub(crate) fn missing(&self, from: u32, to: u32) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        let mut at = from;
        for &(start, end) in &self.0 {
            if end <= at {
                continue;
            }
            if start >= to {
                break;
            }
            if at < start {
                out.push((at, start));
            }
            at = end;
        }
        if at < to {
            out.push((at, to));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_leave_holes() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.missing(0, 10), [(0, 10)]);
        ranges.add(4, 6);
        ranges.add(8, 9);
        ranges.add(6, 6);
        assert_eq!(ranges.missing(0, 10), [(0, 4), (6, 8), (9, 10)]);
        assert_eq!(ranges.missing(5, 8), [(6, 8)]);
        ranges.add(5, 8);
        assert_eq!(ranges, Ranges(vec![(4, 9)]));
        ranges.add(0, 20);
        assert!(ranges.missing(0, 20).is_empty());
    }
}
