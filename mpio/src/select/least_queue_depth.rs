//! Least queue depth: the path with the fewest commands under way; equals in turn. The
//! `queue-length` of dm-multipath.

use super::{PathView, Turn, least};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], turn: Turn) -> Option<usize> {
    least(paths, turn, |a, b| a.in_flight.cmp(&b.in_flight))
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    fn turn(count: u64) -> Turn {
        Turn {
            count,
            ..Turn::default()
        }
    }

    #[test]
    fn the_shortest_queue_whatever_its_bytes() {
        let paths = [view(0, 3, 0), view(1, 2, 1 << 30), view(2, 9, 0)];
        for count in 0..6 {
            assert_eq!(select(&paths, turn(count)), Some(1));
        }
    }

    #[test]
    fn equals_in_turn() {
        let paths = [view(0, 2, 0), view(1, 3, 0), view(2, 2, 0)];
        let chosen = [0, 1, 2, 3].map(|count| select(&paths, turn(count)).unwrap());
        assert_eq!(chosen, [0, 2, 2, 0]);
    }

    #[test]
    fn queues_grow_alike() {
        let mut paths = [view(0, 5, 0), view(1, 0, 0), view(2, 0, 0)];
        for count in 0..40 {
            let index = select(&paths, turn(count)).unwrap();
            paths[index].in_flight += 1;
        }
        assert_eq!(paths.map(|path| path.in_flight), [15, 15, 15]);
    }
}
