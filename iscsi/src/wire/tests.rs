//! Golden headers, written out by hand from the drawings of RFC 7143 §11.

use super::*;

#[test]
fn padding_goes_to_whole_words() {
    assert_eq!([0, 1, 3, 4, 5].map(padded), [0, 4, 4, 4, 8]);
    assert_eq!(padded(u32::MAX), u32::MAX - 3);
}
