//! Round robin: the paths in turn, a run of I/Os on each.

use super::{PathView, Turn};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], turn: Turn) -> Option<usize> {
    let count = u64::try_from(paths.len()).ok()?;
    let run = u64::from(turn.run.max(1));
    let index = (turn.count / run).checked_rem(count)?;
    usize::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    fn sequence(run: u32, count: u64) -> Vec<usize> {
        let paths = [view(0, 0, 0), view(1, 9, 9), view(5, 0, 0)];
        (0..count)
            .map(|count| {
                let turn = Turn {
                    count,
                    run,
                    ..Turn::default()
                };
                select(&paths, turn).unwrap()
            })
            .collect()
    }

    #[test]
    fn each_path_gets_its_run_whatever_its_load() {
        assert_eq!(sequence(1, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(sequence(2, 7), [0, 0, 1, 1, 2, 2, 0]);
        assert_eq!(sequence(0, 4), [0, 1, 2, 0]);
    }
}
