//! Weighted paths: always the path with the lowest weight; of equals, the first. Microsoft's
//! meaning of the word: a weight is a cost.

use super::PathView;

/// Index of the path to use.
pub(super) fn select(paths: &[PathView]) -> Option<usize> {
    let weighed = paths.iter().enumerate();
    weighed
        .min_by_key(|(_, path)| path.settings.weight)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    #[test]
    fn the_lowest_weight_then_the_first() {
        let mut paths = [view(0, 0, 0), view(1, 50, 1 << 20), view(2, 0, 0)];
        for (path, weight) in paths.iter_mut().zip([20, 10, 10]) {
            path.settings.weight = weight;
        }
        assert_eq!(select(&paths), Some(1));
        assert_eq!(select(&[paths[0], paths[2]]), Some(1));
        assert_eq!(select(&paths[..1]), Some(0));
    }
}
