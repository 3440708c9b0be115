//! Multipath's share of an I/O: the same read and write through a bare nexus that answers at once,
//! and through a logical unit over one and over two of them.

use mpio::{Config, LogicalUnit, PathSettings, PathSpec};
use scsi::{Bytes, Cdb, Command, DataPhase, IoBuf, Nexus as _, TaskAttribute};
use world::clock::base;
use world::pair;

use crate::counted_section;
use crate::instantly::{Frozen, Instantly, at_once};
use crate::work::{Work, work};

pub(crate) const WORK: &[Work] = &[
    work("multipath/read-bare", bare_reads),
    work("multipath/read-one-path", || reads(1)),
    work("multipath/read-two-paths", || reads(2)),
    work("multipath/write-bare", bare_writes),
    work("multipath/write-one-path", || writes(1)),
    work("multipath/write-two-paths", || writes(2)),
];

const BYTES: usize = 4096;
const WARM_UP: u64 = 64;
const COUNTED: u64 = 256;

fn repeat(mut operation: impl FnMut(u64)) -> u64 {
    (0..WARM_UP).for_each(&mut operation);
    counted_section(&mut || (0..COUNTED).for_each(&mut operation));
    COUNTED
}

fn command(cdb: Cdb, data: DataPhase) -> Command {
    Command {
        cdb,
        data,
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: pair::FOR_EVER,
        only_in: None,
    }
}

fn bare_reads() -> u64 {
    let mut data = DataPhase::Read(IoBuf::zeroed(BYTES));
    repeat(|round| {
        let lent = std::mem::replace(&mut data, DataPhase::None);
        let command = command(pair::read(round * 8, BYTES), lent);
        data = at_once(Instantly.execute(command)).data;
    })
}

fn bare_writes() -> u64 {
    let payload = Bytes::from(vec![7; BYTES]);
    repeat(|round| {
        let data = DataPhase::Write(payload.clone());
        let command = command(pair::write(round * 8, BYTES), data);
        at_once(Instantly.execute(command));
    })
}

fn unit(paths: usize) -> LogicalUnit<Instantly, Frozen> {
    let path = || PathSpec {
        nexus: Instantly,
        portal_group: None,
        label: String::new(),
        settings: PathSettings::default(),
    };
    let paths = (0..paths).map(|_| path()).collect();
    let made = at_once(LogicalUnit::assemble(
        paths,
        Config::default(),
        Frozen(base()),
    ));
    made.expect("a unit").0
}

fn reads(paths: usize) -> u64 {
    let unit = unit(paths);
    let mut buf = IoBuf::zeroed(BYTES);
    repeat(|round| {
        let (result, back) = at_once(unit.read_at(round * 4096, std::mem::take(&mut buf)));
        result.expect("read");
        buf = back;
    })
}

fn writes(paths: usize) -> u64 {
    let unit = unit(paths);
    let payload = Bytes::from(vec![7; BYTES]);
    repeat(|round| {
        at_once(unit.write_at(round * 4096, payload.clone())).expect("written");
    })
}
