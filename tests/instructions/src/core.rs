//! The session core: what an I/O costs between `submit` and the completion, and what a login
//! costs, with framing and digests, without sockets.

use iscsi::session::SessionConfig;
use scsi::{Bytes, DataPhase, IoBuf};
use world::pair::{self, BLOCK_BYTES, Gauge, Pair};

use crate::counted_section;
use crate::work::{Work, work};

const K4: usize = 4 << 10;
const K64: usize = 64 << 10;
const M1: usize = 1 << 20;

pub(crate) const WORK: &[Work] = &[
    work("core/read-4k", || reads(plain(), K4, 1)),
    work("core/read-4k-by-32", || reads(plain(), K4, 32)),
    work("core/read-4k-digests", || reads(digests(), K4, 1)),
    work("core/read-64k", || reads(plain(), K64, 1)),
    work("core/read-64k-digests", || reads(digests(), K64, 1)),
    work("core/write-4k", || writes(plain(), K4, 1)),
    work("core/write-4k-by-32", || writes(plain(), K4, 32)),
    work("core/write-4k-digests", || writes(digests(), K4, 1)),
    work("core/write-64k-solicited", || writes(solicited(), K64, 1)),
    work("core/write-1m", || writes(plain(), M1, 1)),
    work("core/login", logins),
];

/// I/Os that make everything as large as it gets.
const WARM_UP: u64 = 64;
/// I/Os of 4 KiB that are counted; fewer of the longer ones, since the target copies them.
const COUNTED: u64 = 256;
const COUNTED_LONG: u64 = 32;
const LOGINS: u64 = 16;

/// Lets callgrind collect, once it is switched on.
struct Callgrind {
    on: bool,
}

impl Gauge for Callgrind {
    fn ours(&mut self, work: &mut dyn FnMut()) {
        if self.on {
            counted_section(work);
        } else {
            work();
        }
    }
}

fn plain() -> SessionConfig {
    pair::session_config("127.0.0.1:3260")
}

fn digests() -> SessionConfig {
    pair::with_digests(plain())
}

fn solicited() -> SessionConfig {
    let mut config = plain();
    for (key, value) in [("InitialR2T", "Yes"), ("ImmediateData", "No")] {
        config.offer.set(key, value).expect("a key");
    }
    config
}

/// Runs `one` batch after the other, the later ones counted.
fn batches(
    config: SessionConfig,
    bytes: usize,
    depth: usize,
    mut one: impl FnMut(&mut Pair<Callgrind>, u64),
) -> u64 {
    let gauge = Callgrind { on: false };
    let mut pair = Pair::new(config, pair::target_config(), gauge);
    let batch = depth as u64;
    let (warm_up, counted) = if bytes > K4 {
        (COUNTED_LONG, COUNTED_LONG)
    } else {
        (WARM_UP, COUNTED)
    };
    for round in 0..warm_up / batch {
        one(&mut pair, round);
    }
    pair.gauge.on = true;
    for round in 0..counted / batch {
        one(&mut pair, round);
    }
    assert!(pair.violations().is_empty(), "{:?}", pair.violations());
    counted / batch * batch
}

fn lba(round: u64, bytes: usize) -> u64 {
    round % 16 * (bytes / BLOCK_BYTES) as u64
}

fn reads(config: SessionConfig, bytes: usize, depth: usize) -> u64 {
    let mut bufs: Vec<_> = (0..depth)
        .map(|_| DataPhase::Read(IoBuf::zeroed(bytes)))
        .collect();
    batches(config, bytes, depth, |pair, round| {
        let cdb = pair::read(lba(round, bytes), bytes);
        bufs = pair.run(bufs.drain(..).map(|buf| (cdb.clone(), buf)));
    })
}

fn writes(config: SessionConfig, bytes: usize, depth: usize) -> u64 {
    let payload = Bytes::from(vec![0x5a; bytes]);
    batches(config, bytes, depth, |pair, round| {
        let cdb = pair::write(lba(round, bytes), bytes);
        pair.run((0..depth).map(|_| (cdb.clone(), DataPhase::Write(payload.clone()))));
    })
}

fn logins() -> u64 {
    for _ in 0..LOGINS {
        Pair::new(plain(), pair::target_config(), Callgrind { on: true });
    }
    LOGINS
}
