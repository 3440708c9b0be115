//! LBA region: the medium is divided into regions, and each belongs to a path. Keeps sequential
//! runs, and a target's cache of a region, on one path. The `LOAD_BALANCE_LBA` of scsi_vhci.
//!
//! When a path comes or goes the regions are dealt anew. Commands that touch no blocks stay on
//! the last path.

use super::{PathView, Tuning, Turn};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], tuning: &Tuning, turn: Turn) -> Option<usize> {
    let Some(lba) = turn.lba else {
        let last = paths.iter().position(|path| turn.last == Some(path.id));
        return last.or_else(|| (!paths.is_empty()).then_some(0));
    };
    let region = lba.checked_shr(tuning.lba_region_exponent.into());
    let index = region
        .unwrap_or(0)
        .checked_rem(u64::try_from(paths.len()).ok()?)?;
    usize::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;
    use crate::path::PathId;

    #[test]
    fn neighbours_share_a_path_and_regions_alternate() {
        let paths = [view(0, 99, 0), view(1, 0, 0), view(2, 0, 0)];
        let tuning = Tuning {
            lba_region_exponent: 4,
            ..Tuning::default()
        };
        let at = |lba| {
            let turn = Turn {
                lba: Some(lba),
                ..Turn::default()
            };
            select(&paths, &tuning, turn).unwrap()
        };
        assert_eq!([0, 15, 16, 31, 32, 47, 48].map(at), [0, 0, 1, 1, 2, 2, 0]);
        assert_eq!(at(u64::MAX), usize::try_from((u64::MAX >> 4) % 3).unwrap());
        let wide = Tuning {
            lba_region_exponent: 255,
            ..Tuning::default()
        };
        let turn = Turn {
            lba: Some(u64::MAX),
            ..Turn::default()
        };
        assert_eq!(select(&paths, &wide, turn), Some(0));
    }

    #[test]
    fn other_commands_stay() {
        let paths = [view(0, 0, 0), view(1, 0, 0)];
        let turn = |last| Turn {
            last: Some(PathId(last)),
            ..Turn::default()
        };
        assert_eq!(select(&paths, &Tuning::default(), turn(1)), Some(1));
        assert_eq!(select(&paths, &Tuning::default(), turn(7)), Some(0));
    }
}
