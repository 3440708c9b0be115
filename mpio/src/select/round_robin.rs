//! Round robin: the paths in turn, a run of I/Os or of bytes on each; over all paths, or over
//! those of the active subset as long as one of them is usable.

use super::{PathView, Tuning, Turn};

/// Index of the path to use, out of all.
pub(super) fn select(paths: &[PathView], tuning: &Tuning, turn: Turn) -> Option<usize> {
    nth(run_of(tuning, turn), paths.len())
}

/// Index of the path to use, out of the active subset.
pub(super) fn select_subset(paths: &[PathView], tuning: &Tuning, turn: Turn) -> Option<usize> {
    let active = paths.iter().filter(|path| !path.settings.standby).count();
    if active == 0 {
        return select(paths, tuning, turn);
    }
    let nth = nth(run_of(tuning, turn), active)?;
    let mut subset = paths
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.settings.standby);
    subset.nth(nth).map(|(index, _)| index)
}

/// Number of the run this I/O belongs to.
fn run_of(tuning: &Tuning, turn: Turn) -> u64 {
    let by_count = turn.count.checked_div(tuning.round_robin_ios.into());
    match tuning.round_robin_bytes {
        Some(run) => turn.bytes_before.checked_div(run.get()),
        None => by_count,
    }
    .unwrap_or(turn.count)
}

fn nth(run: u64, paths: usize) -> Option<usize> {
    let index = run.checked_rem(u64::try_from(paths).ok()?)?;
    usize::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::tests::view;
    use super::*;

    fn sequence(round_robin_ios: u32, count: u64) -> Vec<usize> {
        let paths = [view(0, 0, 0), view(1, 9, 9), view(5, 0, 0)];
        let tuning = Tuning {
            round_robin_ios,
            ..Tuning::default()
        };
        let turn = |count| Turn {
            count,
            ..Turn::default()
        };
        let select = |count| select(&paths, &tuning, turn(count)).unwrap();
        (0..count).map(select).collect()
    }

    #[test]
    fn each_path_gets_its_run_whatever_its_load() {
        assert_eq!(sequence(1, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(sequence(2, 7), [0, 0, 1, 1, 2, 2, 0]);
        assert_eq!(sequence(0, 4), [0, 1, 2, 0]);
    }

    #[test]
    fn a_run_of_bytes() {
        let paths = [view(0, 0, 0), view(1, 0, 0)];
        let tuning = Tuning {
            round_robin_bytes: NonZeroU64::new(8192),
            ..Tuning::default()
        };
        let at = |bytes_before| {
            let turn = Turn {
                bytes_before,
                ..Turn::default()
            };
            select(&paths, &tuning, turn).unwrap()
        };
        let small = [0, 4096, 8192, 12288, 16384];
        assert_eq!(small.map(at), [0, 0, 1, 1, 0]);
    }

    #[test]
    fn standby_paths_wait_until_the_subset_is_gone() {
        let mut paths = [view(0, 0, 0), view(1, 0, 0), view(2, 0, 0), view(3, 0, 0)];
        paths[0].settings.standby = true;
        paths[2].settings.standby = true;
        let turn = |count| Turn {
            count,
            ..Turn::default()
        };
        let of = |paths: &[PathView], count| {
            select_subset(paths, &Tuning::default(), turn(count)).unwrap()
        };
        assert_eq!([0, 1, 2, 3].map(|n| of(&paths, n)), [1, 3, 1, 3]);
        let rest = [paths[0], paths[2]];
        assert_eq!([0, 1, 2].map(|n| of(&rest, n)), [0, 1, 0]);
    }
}
