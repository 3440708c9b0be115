//! Least blocks: the path with the fewest bytes under way, but a sequential stream stays on its
//! path while that has no more under way than a target's cache takes. Keeps the read-ahead of
//! targets that read ahead per session. Commands that touch no blocks stay on the last path.

use super::{PathView, Tuning, Turn, least};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], tuning: &Tuning, turn: Turn) -> Option<usize> {
    let last = paths
        .iter()
        .position(|path| turn.last == Some(path.id))
        .filter(|&index| {
            let has_room = paths
                .get(index)
                .is_some_and(|path| path.in_flight_bytes <= tuning.least_blocks_bytes);
            turn.lba.is_none() || (turn.sequential && has_room)
        });
    last.or_else(|| {
        least(paths, turn, |a, b| {
            a.in_flight_bytes.cmp(&b.in_flight_bytes)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;
    use crate::path::PathId;

    const MIB: u64 = 1 << 20;

    fn turn(sequential: bool) -> Turn {
        Turn {
            last: Some(PathId(1)),
            lba: Some(8),
            sequential,
            ..Turn::default()
        }
    }

    fn choose(paths: &[PathView], turn: Turn) -> usize {
        select(paths, &Tuning::default(), turn).unwrap()
    }

    #[test]
    fn a_stream_stays_until_the_cache_is_full() {
        let paths = [view(0, 0, 0), view(1, 16, MIB)];
        assert_eq!(choose(&paths, turn(true)), 1);
        assert_eq!(choose(&paths, turn(false)), 0);
        let full = [view(0, 0, 0), view(1, 17, MIB + 1)];
        assert_eq!(choose(&full, turn(true)), 0);
        let gone = [view(0, 0, MIB), view(2, 0, 0)];
        assert_eq!(choose(&gone, turn(true)), 1);
    }

    #[test]
    fn other_commands_stay() {
        let paths = [view(0, 0, 0), view(1, 16, 9 * MIB)];
        let other = Turn {
            lba: None,
            ..turn(false)
        };
        assert_eq!(choose(&paths, other), 1);
        assert_eq!(choose(&paths[..1], other), 0);
    }

    #[test]
    fn random_io_evens_out_the_bytes() {
        let mut paths = [view(0, 0, 65536), view(1, 0, 0), view(2, 0, 0)];
        for _ in 0..32 {
            let index = choose(&paths, turn(false));
            paths[index].in_flight_bytes += 4096;
        }
        assert_eq!(paths.map(|path| path.in_flight_bytes), [65536; 3]);
    }
}
