//! Headers in and out, one at a time. The bytes are by hand from RFC 7143 §11, so that they do
//! not change with our encoder.

use std::hint::black_box;

use iscsi::wire::{Bhs, DataOut, Lengths, Response, ScsiCommand};

use crate::counted_section;
use crate::work::{Work, work};

pub(crate) const WORK: &[Work] = &[
    work("encode/scsi-command", || {
        let command = ScsiCommand::decode(&READ).expect("a command");
        let lengths = Lengths::default();
        repeat(|| {
            black_box(black_box(&command).encode(black_box(lengths)));
        })
    }),
    work("encode/data-out", || {
        let data_out = DataOut::decode(&DATA_OUT).expect("a Data-Out");
        let lengths = Lengths::default();
        repeat(|| {
            black_box(black_box(&data_out).encode(black_box(lengths)));
        })
    }),
    work("decode/data-in", || decode(&DATA_IN)),
    work("decode/scsi-response", || decode(&SCSI_RESPONSE)),
    work("decode/r2t", || decode(&R2T)),
];

const OPERATIONS: u64 = 1000;

fn repeat(mut operation: impl FnMut()) -> u64 {
    counted_section(&mut || {
        for _ in 0..OPERATIONS {
            operation();
        }
    });
    OPERATIONS
}

fn decode(bhs: &Bhs) -> u64 {
    assert!(Response::decode(bhs).is_ok(), "the bytes are right");
    repeat(|| {
        let _ = black_box(Response::decode(black_box(bhs)));
    })
}

/// A header: opcode and flags, then words at their offsets.
const fn header(first: [u8; 4], words: &[(usize, u32)]) -> Bhs {
    let mut bhs = [0; 48];
    let mut index = 0;
    while index < 4 {
        bhs[index] = first[index];
        index += 1;
    }
    let mut word = 0;
    while word < words.len() {
        let (at, value) = words[word];
        let bytes = value.to_be_bytes();
        let mut byte = 0;
        while byte < 4 {
            bhs[at + byte] = bytes[byte];
            byte += 1;
        }
        word += 1;
    }
    bhs
}

const TAG: u32 = 0x0001_0002;
const NO_TAG: u32 = 0xffff_ffff;
const CMD_SN: u32 = 100;
const STAT_SN: u32 = 200;
const MAX_CMD_SN: u32 = CMD_SN + 127;

/// SCSI Command, final, read, simple: READ (10) of eight blocks.
const READ: Bhs = header(
    [0x01, 0xc1, 0, 0],
    &[
        (16, TAG),
        (20, 4096),
        (24, CMD_SN),
        (28, STAT_SN),
        (32, 0x2800_0000),
        (36, 0x0800_0000),
        (40, 0x0800_0000),
    ],
);

const DATA_OUT: Bhs = header(
    [0x05, 0x80, 0, 0],
    &[(16, TAG), (20, 7), (28, STAT_SN), (36, 1), (40, 65_536)],
);

/// The last Data-In of a read, with status.
const DATA_IN: Bhs = header(
    [0x25, 0x81, 0, 0],
    &[
        (4, 4096),
        (16, TAG),
        (20, NO_TAG),
        (24, STAT_SN),
        (28, CMD_SN),
        (32, MAX_CMD_SN),
    ],
);

const SCSI_RESPONSE: Bhs = header(
    [0x21, 0x80, 0, 0],
    &[(16, TAG), (24, STAT_SN), (28, CMD_SN), (32, MAX_CMD_SN)],
);

const R2T: Bhs = header(
    [0x31, 0x80, 0, 0],
    &[
        (16, TAG),
        (20, 7),
        (24, STAT_SN),
        (28, CMD_SN),
        (32, MAX_CMD_SN),
        (40, 262_144),
        (44, 262_144),
    ],
);
