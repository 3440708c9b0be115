//! What an initiator is held to, test by test as `docs/conformance.md` numbers them, against the
//! independent target of `tests/target`. Every test asserts on the wire, by the target's own record
//! of it, and ends with the target's list of broken rules, which must be empty.
//!
//! `cargo xtask conformance` makes the document out of a run of these and of the tests against a
//! scripted peer in `iscsi`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

mod answers;
mod data;
mod login;
mod numbering;
mod recovery;
mod requests;

use std::time::Duration;

use iscsi::session::{SessionConfig, TaskKey};
use scsi::{
    Blocks, Bytes, Cdb, Command, DataPhase, IoBuf, Lba, Outcome, RwOptions, ScsiAnswer, Status,
    TaskAttribute,
};
use test_target::{Config, WireRecord, opcode};
use world::rig::{Rig, session_config};

/// No tag.
const NONE: u32 = 0xffff_ffff;
const BLOCK: usize = 512;

/// Logged in.
fn up(target: impl FnOnce(&mut Config), ours: impl FnOnce(&mut SessionConfig)) -> Rig {
    let rig = try_up(target, ours);
    assert!(rig.is_up(), "no login: {:?}", rig.events);
    rig
}

/// Logged in, or not.
fn try_up(target: impl FnOnce(&mut Config), ours: impl FnOnce(&mut SessionConfig)) -> Rig {
    let mut config = Config {
        wire_log: 100_000,
        ..Config::default()
    };
    target(&mut config);
    let mut session = session_config(&config);
    ours(&mut session);
    let mut rig = Rig::new(session, config, 0x11);
    rig.wait(Duration::ZERO);
    rig
}

fn plain() -> Rig {
    up(|_| {}, |_| {})
}

/// At an ErrorRecoveryLevel, with data in segments of 1,024 bytes.
fn at_level(level: u8, connections: u16) -> Rig {
    up(
        |target| {
            target.keys.error_recovery_level = level;
            target.keys.max_connections = connections.into();
            target.keys.time2wait_s = 1;
            target.keys.time2retain_s = 20;
        },
        |ours| {
            let (level, connections) = (level.to_string(), connections.to_string());
            offer(
                ours,
                &[
                    ("ErrorRecoveryLevel", &level),
                    ("MaxConnections", &connections),
                    ("MaxRecvDataSegmentLength", "1024"),
                ],
            );
        },
    )
}

fn offer(config: &mut SessionConfig, keys: &[(&str, &str)]) {
    for (key, value) in keys {
        config.offer.set(key, value).unwrap();
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn submit(rig: &mut Rig, cdb: Cdb, data: DataPhase) -> TaskKey {
    let command = Command {
        cdb,
        data,
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: seconds(30),
        only_in: None,
    };
    rig.submit(command).unwrap()
}

fn blocks(bytes: usize) -> Blocks {
    Blocks((bytes / BLOCK) as u32)
}

/// Starts a READ of the first blocks.
fn read(rig: &mut Rig, bytes: usize) -> TaskKey {
    let cdb = Cdb::read(Lba(0), blocks(bytes), RwOptions::default());
    submit(rig, cdb, DataPhase::Read(IoBuf::zeroed(bytes)))
}

/// Starts a WRITE to the first blocks.
fn write(rig: &mut Rig, bytes: usize) -> TaskKey {
    let cdb = Cdb::write(Lba(0), blocks(bytes), RwOptions::default());
    submit(rig, cdb, DataPhase::Write(Bytes::from(pattern(bytes))))
}

fn test_unit_ready(rig: &mut Rig) -> TaskKey {
    submit(rig, Cdb::test_unit_ready(), DataPhase::None)
}

/// How a command was answered, and its data.
#[track_caller]
fn answer(rig: &mut Rig, key: TaskKey) -> (ScsiAnswer, DataPhase) {
    let completion = rig.done(key).expect("it has ended");
    match completion.outcome {
        Outcome::Answered(answer) => (answer, completion.data),
        Outcome::Failed(error) => panic!("{error}"),
    }
}

/// A command ended with GOOD and all of its data; those of a write are on the disk.
#[track_caller]
fn good(rig: &mut Rig, key: TaskKey) {
    let (answer, data) = answer(rig, key);
    assert_eq!(
        (answer.status, answer.transferred),
        (Status::GOOD, data.len())
    );
    let on_disk = |blocks: usize| rig.target.disk(0).unwrap().read(0, blocks as u32);
    match data {
        DataPhase::Read(buf) => assert_eq!(on_disk(buf.len() / BLOCK), buf.as_slice()),
        DataPhase::Write(bytes) => assert_eq!(on_disk(bytes.len() / BLOCK), pattern(bytes.len())),
        DataPhase::None | DataPhase::Bidirectional(_) => {}
    }
}

/// The only one.
#[track_caller]
fn one(records: Vec<WireRecord>) -> WireRecord {
    let [record] = <[_; 1]>::try_from(records).expect("exactly one");
    record
}

fn is_final(record: &WireRecord) -> bool {
    record.header[1] & 0x80 != 0
}

fn itt(record: &WireRecord) -> u32 {
    record.be32(16)
}

fn cmd_sn(record: &WireRecord) -> u32 {
    record.be32(24)
}

/// Nothing that the target has to complain of.
#[track_caller]
fn innocent(rig: &Rig) {
    let violations = rig.target.violations();
    assert!(violations.is_empty(), "{violations:#?}");
}
