//! Failover only: one path as long as it is usable.
//!
//! A preferred path is used whenever it is usable, so I/O goes back to it by itself ("Fail Over
//! Only" of Microsoft's, "Fixed" of VMware's). Without one, I/O stays where it went, whatever
//! comes back ("most recently used").

use super::{PathView, Turn};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], turn: Turn) -> Option<usize> {
    let preferred = paths.iter().any(|path| path.settings.preferred);
    let fits = |path: &PathView| path.settings.preferred == preferred;
    let last = paths
        .iter()
        .position(|path| fits(path) && turn.last == Some(path.id));
    last.or_else(|| paths.iter().position(fits))
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;
    use crate::path::PathId;

    fn after(last: u8) -> Turn {
        Turn {
            last: Some(PathId(last)),
            ..Turn::default()
        }
    }

    #[test]
    fn stays_with_the_last_path_however_loaded_and_leaves_it_only_when_gone() {
        let paths = [view(0, 0, 0), view(1, 100, 1 << 20)];
        assert_eq!(select(&paths, after(1)), Some(1));
        let rest = [view(0, 0, 0), view(2, 0, 0)];
        assert_eq!(select(&rest, after(1)), Some(0));
        assert_eq!(select(&paths, Turn::default()), Some(0));
    }

    #[test]
    fn goes_back_to_a_preferred_path() {
        let mut paths = [view(0, 0, 0), view(1, 0, 0), view(2, 0, 0)];
        paths[1].settings.preferred = true;
        assert_eq!(select(&paths, after(0)), Some(1));
        assert_eq!(select(&paths[..1], after(1)), Some(0));
        // Of two, the one used last.
        paths[2].settings.preferred = true;
        assert_eq!(select(&paths, after(2)), Some(2));
        assert_eq!(select(&paths, after(0)), Some(1));
    }
}
