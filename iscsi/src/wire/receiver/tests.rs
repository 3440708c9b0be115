//! A stream of mixed PDUs, cut at every byte, with and without digests.
//!
//! PDUs are made by hand and digests computed bit by bit, so that neither the codec nor the
//! digest is its own judge.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking"
)]

use proptest::prelude::*;

use super::*;

/// RFC 3720 appendix B.4 gives this CRC for 32 bytes of zeroes; see the first test.
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

#[test]
fn the_judge_knows_the_published_values() {
    assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
    assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    let rising: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&rising), [0x4e, 0x79, 0xdd, 0x46]);
}

fn pdu(opcode: u8, itt: u32, data: &[u8], digests: (bool, bool)) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0] = opcode;
    bytes[1] = 0x80;
    bytes[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    bytes[16..20].copy_from_slice(&itt.to_be_bytes());
    bytes[20..24].copy_from_slice(&[0xff; 4]);
    if digests.0 {
        bytes.extend(crc32c(&bytes));
    }
    let mut padded = data.to_vec();
    padded.resize(data.len().next_multiple_of(4), 0);
    bytes.extend(&padded);
    if digests.1 && !data.is_empty() {
        bytes.extend(crc32c(&padded));
    }
    bytes
}

const NOP_IN: u8 = 0x20;
const RESPONSE: u8 = 0x21;
const DATA_IN: u8 = 0x25;

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 % 253) as u8).collect()
}

/// Opcode, tag and data of each PDU taken out.
type Seen = Vec<(u8, u32, Vec<u8>)>;

/// The driver's loop. `direct`: payloads longer than this are read past the staging memory.
struct Reader {
    receiver: Receiver,
    placing: Option<(u32, Vec<u8>, usize)>,
    direct: usize,
    seen: Seen,
}

impl Reader {
    fn new(digests: (bool, bool), staging: usize, direct: usize) -> Self {
        let mut receiver = Receiver::new(staging, 65_536);
        receiver.set_params(digests.0, digests.1, 65_536);
        Self {
            receiver,
            placing: None,
            direct,
            seen: Vec::new(),
        }
    }

    fn take(&mut self) -> Result<bool, FrameError> {
        if let Some((itt, buf, at)) = &mut self.placing {
            *at += self.receiver.place(&mut buf[*at..]);
            if !self.receiver.finish_payload()? {
                return Ok(false);
            }
            assert_eq!(*at, buf.len());
            let (itt, buf) = (*itt, std::mem::take(buf));
            self.placing = None;
            self.seen.push((DATA_IN, itt, buf));
            return Ok(true);
        }
        match self.receiver.take_pdu()? {
            Received::Incomplete => return Ok(false),
            Received::DataIn { header, bytes } => {
                self.placing = Some((header.itt.0, vec![0; bytes as usize], 0));
            }
            Received::Pdu { header, data } => {
                let (opcode, itt) = match header {
                    Response::NopIn(nop) => (NOP_IN, nop.itt.0),
                    Response::Scsi(response) => (RESPONSE, response.itt.0),
                    other => panic!("{other:?}"),
                };
                let data = data.to_vec();
                self.seen.push((opcode, itt, data));
            }
            Received::Damaged { .. } => return Err(FrameError::DataDigest),
        }
        Ok(true)
    }

    /// `bytes` come in one piece.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        loop {
            while self.take()? {}
            if bytes.is_empty() {
                return Ok(());
            }
            let remaining = self.receiver.payload_remaining();
            let taken = match &mut self.placing {
                Some((_, buf, at)) if self.receiver.is_drained() && remaining >= self.direct => {
                    let taken = bytes.len().min(remaining);
                    buf[*at..*at + taken].copy_from_slice(&bytes[..taken]);
                    *at += taken;
                    self.receiver.placed_directly(&bytes[..taken]);
                    taken
                }
                _ => {
                    let space = self.receiver.space();
                    assert!(!space.is_empty(), "an empty read looks like the end");
                    let taken = bytes.len().min(space.len());
                    space[..taken].copy_from_slice(&bytes[..taken]);
                    self.receiver.filled(taken);
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
    }
}

fn stream(digests: (bool, bool)) -> (Vec<u8>, Seen) {
    let parts = [
        (DATA_IN, 1, payload(13)),
        (RESPONSE, 2, payload(18)),
        (DATA_IN, 3, payload(0)),
        (NOP_IN, 4, payload(0)),
        (DATA_IN, 5, payload(64)),
        (NOP_IN, 6, payload(3)),
        (DATA_IN, 7, payload(1)),
    ];
    let bytes = parts
        .iter()
        .flat_map(|(opcode, itt, data)| pdu(*opcode, *itt, data, digests))
        .collect();
    (bytes, parts.to_vec())
}

const DIGESTS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

#[test]
fn a_stream_cut_at_every_byte() {
    for digests in DIGESTS {
        let (bytes, expected) = stream(digests);
        for cut in 0..=bytes.len() {
            let mut sut = Reader::new(digests, 4096, usize::MAX);
            sut.feed(&bytes[..cut]).unwrap();
            sut.feed(&bytes[cut..]).unwrap();
            assert_eq!(sut.seen, expected, "{digests:?}, cut at {cut}");
        }
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte() {
    for digests in DIGESTS {
        for direct in [1, 4, usize::MAX] {
            let (bytes, expected) = stream(digests);
            let mut sut = Reader::new(digests, 4096, direct);
            for byte in bytes.chunks(1) {
                sut.feed(byte).unwrap();
            }
            assert_eq!(sut.seen, expected);
        }
    }
}

#[test]
fn payloads_longer_than_the_staging_memory_staged_or_direct() {
    for digests in DIGESTS {
        for (direct, chunk) in [(1, 1000), (16, 7), (8192, 5000), (usize::MAX, 4099)] {
            let data = payload(40_001);
            let mut bytes = pdu(DATA_IN, 1, &data, digests);
            // A whole PDU of that size makes the staging memory grow.
            bytes.extend(pdu(NOP_IN, 2, &data, digests));
            bytes.extend(pdu(DATA_IN, 3, &data, digests));
            let mut sut = Reader::new(digests, 4096, direct);
            for chunk in bytes.chunks(chunk) {
                sut.feed(chunk).unwrap();
            }
            let expected = [(DATA_IN, 1), (NOP_IN, 2), (DATA_IN, 3)]
                .map(|(opcode, itt)| (opcode, itt, data.clone()));
            assert_eq!(sut.seen, expected);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_found_before_anything_is_handed_out() {
    let good = pdu(RESPONSE, 2, &payload(18), (true, true));
    for bit in 0..(48 + 4) * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut sut = Reader::new((true, true), 4096, usize::MAX);
        // A length that is wrong makes it wait for more at worst; with enough bytes it is found.
        bytes.resize(bytes.len() + 2048, 0);
        assert_eq!(sut.feed(&bytes), Err(FrameError::HeaderDigest), "bit {bit}");
        assert_eq!(sut.seen, []);
    }
}

#[test]
fn every_flipped_bit_of_data_and_padding_is_found() {
    for opcode in [RESPONSE, DATA_IN] {
        let good = pdu(opcode, 2, &payload(18), (true, true));
        for bit in (48 + 4) * 8..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut sut = Reader::new((true, true), 4096, usize::MAX);
            assert_eq!(sut.feed(&bytes), Err(FrameError::DataDigest), "bit {bit}");
            assert_eq!(sut.seen, []);
        }
    }
}

#[test]
fn a_damaged_pdu_is_consumed_and_the_next_one_comes_out() {
    for damaged in [RESPONSE, DATA_IN] {
        let mut bytes = pdu(damaged, 2, &payload(18), (true, true));
        let at = bytes.len() - 9;
        bytes[at] ^= 0x10;
        bytes.extend(pdu(NOP_IN, 3, &payload(5), (true, true)));
        for cut in 0..bytes.len() {
            let mut sut = Reader::new((true, true), 4096, usize::MAX);
            let mut errors = 0;
            for part in [&bytes[..cut], &bytes[cut..]] {
                let mut part = part;
                while let Err(error) = sut.feed(std::mem::take(&mut part)) {
                    assert_eq!(error, FrameError::DataDigest);
                    sut.placing = None;
                    errors += 1;
                }
            }
            assert_eq!(errors, 1, "cut at {cut}");
            assert_eq!(sut.seen, [(NOP_IN, 3, payload(5))], "cut at {cut}");
        }
    }
}

#[test]
fn a_skipped_payload_is_checked_as_well() {
    for wrong in [false, true] {
        let mut bytes = pdu(DATA_IN, 2, &payload(19), (true, true));
        let last = bytes.len() - 8;
        bytes[last] ^= u8::from(wrong);
        let mut sut = Receiver::new(4096, 8192);
        sut.set_params(true, true, 8192);
        sut.space()[..bytes.len()].copy_from_slice(&bytes);
        sut.filled(bytes.len());
        assert!(matches!(
            sut.take_pdu(),
            Ok(Received::DataIn { bytes: 19, .. })
        ));
        assert_eq!(sut.skip(), 19);
        let expected = if wrong {
            Err(FrameError::DataDigest)
        } else {
            Ok(true)
        };
        assert_eq!(sut.finish_payload(), expected);
        assert!(matches!(sut.take_pdu(), Ok(Received::Incomplete)));
    }
}

#[test]
fn a_segment_over_the_limit_is_refused_by_its_header() {
    for opcode in [RESPONSE, DATA_IN] {
        let mut header = pdu(opcode, 1, &[], (false, false));
        header[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
        let mut sut = Reader::new((false, false), 4096, usize::MAX);
        let expected = FrameError::DataTooLong {
            bytes: 0x00ff_ffff,
            limit: 65_536,
        };
        assert_eq!(sut.feed(&header), Err(expected));
        assert!(sut.receiver.staging.len() <= 4096, "nothing was reserved");
    }
}

#[test]
fn parameters_hold_from_the_next_pdu_on() {
    let mut bytes = pdu(NOP_IN, 1, &payload(5), (false, false));
    bytes.extend(pdu(NOP_IN, 2, &payload(5), (true, true)));
    let mut sut = Receiver::new(4096, 8192);
    sut.space()[..bytes.len()].copy_from_slice(&bytes);
    sut.filled(bytes.len());
    assert!(matches!(sut.take_pdu(), Ok(Received::Pdu { .. })));
    sut.set_params(true, true, 8192);
    assert!(matches!(sut.take_pdu(), Ok(Received::Pdu { data, .. }) if data == payload(5)));
    assert!(matches!(sut.take_pdu(), Ok(Received::Incomplete)));
}

#[test]
fn a_new_connection_begins_with_nothing() {
    let mut sut = Reader::new((true, true), 4096, usize::MAX);
    sut.feed(&pdu(DATA_IN, 1, &payload(100), (true, true))[..80])
        .unwrap();
    sut.receiver.reset(8192);
    sut.placing = None;
    sut.feed(&pdu(NOP_IN, 9, &payload(4), (false, false)))
        .unwrap();
    assert_eq!(sut.seen, [(NOP_IN, 9, payload(4))]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        cuts in prop::collection::vec(1_usize..300, 0..40),
        header in any::<bool>(),
        data in any::<bool>(),
    ) {
        let mut sut = Reader::new((header, data), 4096, 64);
        let mut rest = bytes.as_slice();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            if sut.feed_any(head).is_err() {
                return Ok(());
            }
        }
    }
}

impl Reader {
    /// As [`Reader::feed`], for any PDU.
    fn feed_any(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        loop {
            if self.placing.is_some() {
                if self.take()? {
                    continue;
                }
            } else {
                match self.receiver.take_pdu()? {
                    Received::Incomplete => {}
                    Received::DataIn { header, bytes } => {
                        self.placing = Some((header.itt.0, vec![0; bytes as usize], 0));
                        continue;
                    }
                    Received::Pdu { .. } | Received::Damaged { .. } => continue,
                }
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let space = self.receiver.space();
            let taken = bytes.len().min(space.len());
            assert_ne!(taken, 0);
            space[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.receiver.filled(taken);
        }
    }
}

#[test]
fn staging_memory_grows_when_reads_fill_it_and_is_given_back() {
    let mut sut = Receiver::new(256 * 1024, 8192);
    let first = sut.space().len();
    assert_eq!(first, STAGING_FIRST);
    sut.filled(first - 1);
    assert_eq!(sut.space().len(), 1, "a read that left room proves nothing");
    sut.filled(1);
    assert_eq!(sut.space().len(), 3 * first);
    sut.release_memory();
    assert_eq!(sut.space().len(), 3 * first, "what is staged stays");
    sut.filled(3 * first);
    assert_eq!(sut.space().len(), 12 * first);
    sut.filled(12 * first);
    assert_eq!(sut.space().len(), 48 * first);
    sut.filled(48 * first);
    assert!(sut.space().is_empty(), "never beyond the limit");
    sut.reset(8192);
    sut.release_memory();
    assert_eq!(sut.space().len(), first);
}
