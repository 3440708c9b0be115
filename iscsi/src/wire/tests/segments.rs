//! Additional header segments.

use proptest::prelude::*;
use scsi::Cdb;

use super::ahs::{Ahs, cdb_head, put_bidirectional_read, put_extended_cdb, segments};
use super::*;

fn all(bytes: &[u8]) -> Vec<Result<Ahs<'_>, WireError>> {
    segments(bytes).collect()
}

#[test]
fn an_extended_cdb_of_22_bytes() {
    let bytes: Vec<u8> = (0x7f..0x95).collect();
    let cdb = Cdb::from_slice(&bytes).unwrap();
    let mut out = vec![0xee];
    // RFC 7143 §11.2.2.3: AHSLength = CDBLength - 15 = 7; 2 bytes of padding.
    assert_eq!(put_extended_cdb(&cdb, &mut out), 12);
    assert_eq!(
        out,
        [0xee, 0, 7, 1, 0, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0, 0]
    );
    assert_eq!(cdb_head(&cdb)[..], bytes[..16]);
    assert_eq!(all(&out[1..]), [Ok(Ahs::ExtendedCdb(&bytes[16..]))]);
}

#[test]
fn a_short_cdb_needs_no_segment() {
    for length in [6, 10, 12, 16] {
        let cdb = Cdb::from_slice(&vec![0x5a; length]).unwrap();
        let mut out = Vec::new();
        assert_eq!(put_extended_cdb(&cdb, &mut out), 0);
        assert!(out.is_empty());
        let head = cdb_head(&cdb);
        assert!(head[..length].iter().all(|byte| *byte == 0x5a));
        assert!(head[length..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_longest_cdb_fits() {
    let cdb = Cdb::from_slice(&[1; Cdb::MAX_BYTES]).unwrap();
    let mut out = Vec::new();
    assert_eq!(put_extended_cdb(&cdb, &mut out), 248);
    assert_eq!(out[..4], [0, 245, 1, 0]);
}

#[test]
fn a_bidirectional_read_length() {
    let mut out = Vec::new();
    assert_eq!(put_bidirectional_read(0x0102_0304, &mut out), 8);
    assert_eq!(out, [0, 5, 2, 0, 1, 2, 3, 4]);
    assert_eq!(all(&out), [Ok(Ahs::BidirectionalReadBytes(0x0102_0304))]);
}

#[test]
fn several_segments_in_a_row() {
    // Unknown type 9 with two bytes, padded by three; reserved bits of AHSType set.
    let bytes = [
        0, 2, 0xc9, 0xaa, 0xbb, 0, 0, 0, 0, 5, 2, 0, 0, 0, 2, 0, 0, 2, 1, 0, 0x77, 0, 0, 0,
    ];
    assert_eq!(
        all(&bytes),
        [
            Ok(Ahs::Unknown {
                kind: 9,
                specific: &[0xaa, 0xbb]
            }),
            Ok(Ahs::BidirectionalReadBytes(512)),
            Ok(Ahs::ExtendedCdb(&[0x77])),
        ]
    );
}

#[test]
fn lengths_that_do_not_fit_end_the_walk() {
    for (bytes, offset, length) in [
        (&[0, 6, 1, 0, 1, 2, 3, 4][..], 0, 6),
        (&[0xff, 0xff, 9, 0], 0, 0xffff),
        (&[0, 1, 1, 0], 0, 1),
        (&[0, 4, 2, 0, 1, 2, 3, 4], 0, 4),
        (&[0, 1], 0, 0),
        (&[0, 1, 9, 0, 0, 9, 9, 0], 4, 9),
    ] {
        let found = all(bytes);
        assert_eq!(
            found.last(),
            Some(&Err(WireError::BadAhsLength { offset, length })),
            "{bytes:?}"
        );
        assert_eq!(found.iter().filter(|item| item.is_err()).count(), 1);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_walked_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..1020)) {
        // Each segment takes at least four bytes.
        prop_assert!(all(&bytes).len() <= bytes.len().div_ceil(4));
    }

    #[test]
    fn long_cdbs_come_back(bytes in prop::collection::vec(any::<u8>(), 17..=260)) {
        let cdb = Cdb::from_slice(&bytes).unwrap();
        let mut out = Vec::new();
        let written = put_extended_cdb(&cdb, &mut out);
        prop_assert_eq!(usize::from(written), out.len());
        prop_assert_eq!(written % 4, 0);
        let head = cdb_head(&cdb);
        prop_assert_eq!(all(&out), [Ok(Ahs::ExtendedCdb(&bytes[16..]))]);
        prop_assert_eq!(&head[..], &bytes[..16]);
    }
}
