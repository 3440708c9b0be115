//! Digests and padding against values made by hand, partial writes at every byte, positions.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking"
)]

use super::*;

/// CRC32C bit by bit.
fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).to_le_bytes()
}

fn payload(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at * 7 % 253) as u8).collect()
}

/// What the network gets, `step` bytes at a time.
fn drain(sut: &mut Transmit, step: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    while !sut.is_empty() {
        let mut slices = SmallVec::new();
        sut.slices(&mut slices);
        assert!(slices.len() <= MAX_SLICES);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        drop(slices);
        assert!(!bytes.is_empty(), "there is something to write");
        let taken = bytes.len().min(step);
        stream.extend(&bytes[..taken]);
        sut.advance(taken);
    }
    stream
}

/// A PDU as RFC 7143 §11.1 lays it out.
fn expected(bhs: &Bhs, ahs: &[u8], data: &[u8], header: bool, with_data: bool) -> Vec<u8> {
    let mut bytes = [&bhs[..], ahs].concat();
    if header {
        bytes.extend(crc32c(&bytes));
    }
    let mut padded = data.to_vec();
    padded.resize(data.len().next_multiple_of(4), 0);
    bytes.extend(&padded);
    if with_data && !data.is_empty() {
        bytes.extend(crc32c(&padded));
    }
    bytes
}

const SIZES: [usize; 9] = [0, 1, 3, 4, 1023, 1024, 1025, 2047, 5000];

#[test]
fn every_size_with_every_digest_written_in_every_step() {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut whole = Vec::new();
        let fill = |sut: &mut Transmit, whole: &mut Vec<u8>| {
            sut.set_digests(header, data);
            for (at, size) in SIZES.into_iter().enumerate() {
                let bhs = [at as u8; 48];
                let ahs = vec![0xa5; at % 3 * 4];
                sut.push(&bhs, &ahs, payload(size));
                whole.extend(expected(&bhs, &ahs, &payload(size), header, data));
            }
            sut.seal();
        };
        fill(&mut Transmit::new(), &mut whole);
        for step in [1, 2, 3, 7, 47, 48, 49, 1000, usize::MAX] {
            let mut sut = Transmit::new();
            fill(&mut sut, &mut Vec::new());
            assert_eq!(sut.queued(), whole.len() as u64);
            assert_eq!(drain(&mut sut, step), whole, "{header} {data} {step}");
            assert_eq!(sut.written(), whole.len() as u64);
        }
    }
}

#[test]
fn a_write_cut_at_every_byte_goes_on_where_it_was() {
    let mut whole = Vec::new();
    let fill = |sut: &mut Transmit| {
        sut.set_digests(true, true);
        for size in [0, 5, 1025] {
            sut.push(&[size as u8; 48], &[], payload(size));
        }
        sut.seal();
    };
    for size in [0, 5, 1025] {
        whole.extend(expected(&[size as u8; 48], &[], &payload(size), true, true));
    }
    for cut in 1..whole.len() {
        let mut sut = Transmit::new();
        fill(&mut sut);
        sut.advance(cut);
        assert_eq!(sut.written(), cut as u64);
        assert!(!sut.is_empty());
        assert_eq!(drain(&mut sut, usize::MAX), whole[cut..], "cut at {cut}");
    }
}

#[test]
fn positions_go_on_over_batches_and_begin_again_with_a_connection() {
    let mut sut = Transmit::new();
    sut.push(&[1; 48], &[], payload(3));
    assert_eq!((sut.queued(), sut.written()), (52, 0));
    drain(&mut sut, 10);
    sut.push(&[2; 48], &[], payload(2000));
    assert_eq!((sut.queued(), sut.written()), (2100, 52));
    sut.advance(50);
    assert_eq!(sut.written(), 102);
    sut.reset();
    assert_eq!((sut.queued(), sut.written()), (0, 0));
    assert!(sut.is_empty());
    sut.push(&[3; 48], &[], Bytes::new());
    assert_eq!(drain(&mut sut, usize::MAX), [3; 48]);
}

#[test]
fn digests_of_an_old_connection_are_not_those_of_a_new_one() {
    let mut sut = Transmit::new();
    sut.set_digests(true, true);
    sut.push(&[1; 48], &[], payload(5));
    sut.seal();
    sut.reset();
    sut.push(&[2; 48], &[], payload(5));
    sut.seal();
    assert_eq!(
        drain(&mut sut, usize::MAX),
        expected(&[2; 48], &[], &payload(5), false, false)
    );
}

#[test]
fn a_batch_is_bounded_and_never_has_more_slices_than_one_write_takes() {
    for size in [0, 512, 1025, 8192, 1 << 20] {
        let mut sut = Transmit::new();
        sut.set_digests(true, true);
        let mut pushed = 0;
        while !sut.is_full() {
            sut.push(&[7; 48], &[], payload(size));
            pushed += 1;
            assert!(pushed < 100_000, "no end");
        }
        sut.seal();
        let mut slices = SmallVec::new();
        sut.slices(&mut slices);
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        assert_eq!(bytes as u64, sut.queued(), "one write can take all of it");
    }
}

#[test]
fn long_payloads_are_not_copied() {
    let data = payload(4096);
    let mut sut = Transmit::new();
    sut.push(&[1; 48], &[], data.clone());
    let mut slices = SmallVec::new();
    sut.slices(&mut slices);
    assert!(slices.iter().any(|slice| slice.as_ptr() == data.as_ptr()));
}
