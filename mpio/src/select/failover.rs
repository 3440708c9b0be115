//! Failover only: the path used last, as long as it is usable; else the first.
//!
//! Never goes back by itself to a path that has returned (most recently used).

use super::{PathView, Turn};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], turn: Turn) -> Option<usize> {
    let last = turn
        .last
        .and_then(|last| paths.iter().position(|path| path.id == last));
    last.or_else(|| (!paths.is_empty()).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;
    use crate::path::PathId;

    #[test]
    fn stays_with_the_last_path_however_loaded_and_leaves_it_only_when_gone() {
        let paths = [view(0, 0, 0), view(1, 100, 1 << 20)];
        let turn = Turn {
            last: Some(PathId(1)),
            ..Turn::default()
        };
        assert_eq!(select(&paths, turn), Some(1));
        let rest = [view(0, 0, 0), view(2, 0, 0)];
        assert_eq!(select(&rest, turn), Some(0));
        assert_eq!(select(&paths, Turn::default()), Some(0));
    }
}
