//! Service time: the path that will have moved what it has under way, and this I/O, first.
//!
//! Compares (bytes under way + this I/O's) / relative throughput, as dm-multipath's
//! `service-time` does. Equals are decided by fewer commands under way, then in turn, so that
//! idle equal paths share the work.

use std::cmp::Ordering;

use super::{PathView, Turn, least};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], turn: Turn) -> Option<usize> {
    least(paths, turn, |a, b| sooner(a, b, turn.bytes))
}

/// Whether `a` would be done before `b` (`Less`). Throughput 0 comes last.
fn sooner(a: &PathView, b: &PathView, bytes: u64) -> Ordering {
    match (a.settings.throughput, b.settings.throughput) {
        (0, 0) => a.in_flight_bytes.cmp(&b.in_flight_bytes),
        (0, _) => Ordering::Greater,
        (_, 0) => Ordering::Less,
        // x / wa < y / wb, without division.
        (wa, wb) => {
            let x = u128::from(a.in_flight_bytes.saturating_add(bytes));
            let y = u128::from(b.in_flight_bytes.saturating_add(bytes));
            (x * u128::from(wb)).cmp(&(y * u128::from(wa)))
        }
    }
    .then(a.in_flight.cmp(&b.in_flight))
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    fn turn(count: u64, bytes: u64) -> Turn {
        Turn {
            count,
            bytes,
            ..Turn::default()
        }
    }

    #[test]
    fn the_path_with_fewer_bytes_under_way() {
        let paths = [view(0, 1, 1 << 20), view(1, 4, 16 << 10)];
        for count in 0..4 {
            assert_eq!(select(&paths, turn(count, 4096)), Some(1));
        }
    }

    #[test]
    fn idle_equal_paths_share() {
        let paths = [view(0, 0, 0), view(1, 0, 0)];
        assert_eq!(select(&paths, turn(0, 4096)), Some(0));
        assert_eq!(select(&paths, turn(1, 4096)), Some(1));
    }

    #[test]
    fn equal_bytes_are_decided_by_commands() {
        let paths = [view(0, 2, 8192), view(1, 1, 8192)];
        assert_eq!(select(&paths, turn(0, 0)), Some(1));
    }

    #[test]
    fn twice_the_throughput_carries_twice_the_bytes() {
        let mut paths = [view(0, 0, 0), view(1, 0, 0)];
        paths[0].settings.throughput = 2;
        for _ in 0..300 {
            let index = select(&paths, turn(0, 4096)).unwrap();
            paths[index].in_flight_bytes += 4096;
        }
        assert_eq!(paths[0].in_flight_bytes / 4096, 200);
        assert_eq!(paths[1].in_flight_bytes / 4096, 100);
    }

    #[test]
    fn throughput_zero_is_the_last_resort() {
        let mut paths = [view(0, 0, 0), view(1, 50, 1 << 30)];
        paths[0].settings.throughput = 0;
        assert_eq!(select(&paths, turn(0, 4096)), Some(1));
    }
}
