//! Any sequence of operations on a session, out of any bytes, beside a model that knows what may
//! become of each of them.
//!
//! [`run`] decodes bytes into what an application, a network and a target do: commands and their
//! end, task management, text, connections that come and go, bytes that arrive in pieces, time,
//! faults that a target may have and lies that none should tell. It panics when
//!
//! - a command, a function or an exchange does not end exactly once, or does not give back the
//!   memory it was given;
//! - an acknowledged write is missing, or one runs that was said not to have been sent (`model`);
//! - the target saw a rule of RFC 7143 broken (a CmdSN used twice, say);
//! - more is kept than was allowed, or timers spin;
//! - the session does not come back once faults stop.
//!
//! After a lie only the first, the memory and the timers are judged: what is on the disk of a
//! target that lies is nobody's promise.
//!
//! Fuzzers drive it (`fuzz/targets/session_ops.rs`), and `tests/tests/operations.rs` with a few
//! thousand sequences on every change.

#![allow(
    clippy::expect_used,
    reason = "test code: what cannot be set up is a failed run"
)]

mod faults;
mod model;

use std::collections::BTreeSet;
use std::task::{Poll, Waker};
use std::time::Duration;

use iscsi::session::{Applied, ManagementFunction, ManagementKey, SessionConfig, TaskKey, TextKey};
use scsi::{
    Bytes, Cdb, Command, Completion, DataPhase, IoBuf, Lba, Lun, NexusState, Outcome, RwOptions,
    Status, TaskAttribute,
};
use test_target::Config;

use crate::rig::{Rig, session_config};
use model::{Model, SLOTS, Tag};

/// Operations of one run.
const OPERATIONS_MAX: usize = 400;
const QUEUE_DEPTH: u16 = 8;
/// PDUs shown when something is wrong.
const PDUS_SHOWN: usize = 100;
/// Functions and exchanges under way at once.
const ASKED_MAX: usize = 8;

/// Bytes that decide; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Mostly small, sometimes large.
    fn bytes(&mut self) -> usize {
        let size = self.byte();
        match size >> 6 {
            0 => usize::from(size),
            1 => usize::from(size & 63) * 48,
            2 => usize::from(size & 63) * 1024,
            _ => usize::MAX,
        }
    }
}

/// A command under way.
enum Running {
    Read {
        slot: usize,
        possible: BTreeSet<Tag>,
    },
    Write {
        slot: usize,
    },
    Other,
}

struct Ops<'a> {
    choices: Choices<'a>,
    rig: Rig,
    model: Model,
    running: Vec<(TaskKey, usize, Running)>,
    managing: Vec<ManagementKey>,
    talking: Vec<TextKey>,
    /// The target has told a lie.
    lied: bool,
    logged_out: bool,
}

/// Runs the operations that `input` says.
///
/// # Panics
/// When something is wrong.
pub fn run(input: &[u8]) {
    run_with(input, false);
}

/// The same with a target that executes what an old session has left after it has accepted the
/// login that reinstates it: to see that this is noticed.
///
/// # Panics
/// When something is wrong.
pub fn run_with_ghosts(input: &[u8]) {
    run_with(input, true);
}

fn run_with(input: &[u8], ghosts: bool) {
    let mut choices = Choices(input);
    let (config, mut target, entropy) = configuration(&mut choices);
    if ghosts {
        target.late_execution = Some(Duration::from_secs(100));
        target.late_execution_after_reinstatement = true;
    }
    let mut ops = Ops {
        choices,
        rig: Rig::new(config, target, entropy),
        model: Model::new(),
        running: Vec::new(),
        managing: Vec::new(),
        talking: Vec::new(),
        lied: false,
        logged_out: false,
    };
    ops.rig.wait(Duration::ZERO);
    for _ in 0..OPERATIONS_MAX {
        if ops.choices.is_empty() {
            break;
        }
        ops.operate();
        ops.collect();
    }
    ops.finish();
}

fn configuration(choices: &mut Choices<'_>) -> (SessionConfig, Config, u8) {
    let bits = [choices.byte(), choices.byte(), choices.byte()];
    let flag = |at: usize| bits[at / 8] >> (at % 8) & 1 == 1;
    let yes_no = |at| if flag(at) { "Yes" } else { "No" };
    let level = bits[0] % 3;
    let connections = 1 + u32::from(bits[1] & 1) * 2;
    let mut target = Config {
        wire_log: PDUS_SHOWN,
        queue_depth: [2, 32][usize::from(flag(10))],
        phase_collapse: flag(11),
        data_ack: flag(12),
        shuffle_data_in: flag(13),
        shuffle_r2t: flag(13),
        execution_delay: Duration::from_millis([0, 30][usize::from(flag(14))]),
        late_execution: flag(15).then_some(Duration::from_secs(4)),
        ..Config::default()
    };
    target.luns[0].blocks = 4096;
    target.keys.max_connections = connections;
    target.keys.error_recovery_level = level;
    target.keys.time2wait_s = 1;
    target.keys.time2retain_s = 10;
    target.keys.max_recv_data_segment_bytes = [512, 8192][usize::from(flag(16))];
    target.keys.protocol_level = 2;
    let mut config = session_config(&target);
    config.queue_depth = QUEUE_DEPTH;
    let digest = if flag(17) { "CRC32C" } else { "None" };
    let (level, connections) = (level.to_string(), connections.to_string());
    let keys = [
        ("HeaderDigest", digest),
        ("DataDigest", digest),
        ("ErrorRecoveryLevel", level.as_str()),
        ("MaxConnections", connections.as_str()),
        ("MaxOutstandingR2T", "1"),
        (
            "MaxRecvDataSegmentLength",
            ["1024", "16384"][usize::from(flag(18))],
        ),
        ("MaxBurstLength", "16384"),
        ("FirstBurstLength", "4096"),
        ("InitialR2T", yes_no(19)),
        ("ImmediateData", yes_no(20)),
        ("DataPDUInOrder", yes_no(21)),
        ("DataSequenceInOrder", yes_no(22)),
        ("iSCSIProtocolLevel", "2"),
    ];
    for (key, value) in keys {
        config.offer.set(key, value).expect("a legal offer");
    }
    // Numbers and tags begin near their end, or not.
    let entropy = if flag(23) { 0xff } else { 0x11 };
    (config, target, entropy)
}

impl Ops<'_> {
    fn operate(&mut self) {
        match self.choices.byte() % 32 {
            0..4 => self.read(),
            4..9 => self.write(),
            9 => self.probe(),
            10 => self.abandon(),
            11 => self.manage(),
            12 => self.talk(),
            13 => self.connections(),
            14..18 => self.send_some(),
            18..22 => self.receive_some(),
            22..24 => self.rig.settle(),
            24 => {
                let limit = self.choices.byte();
                let time = Duration::from_millis(u64::from(limit) * u64::from(limit));
                self.rig.wait(time);
            }
            25 => {
                let link = self.link();
                self.rig.cut(link);
            }
            26 => self.rig.refusing = self.choices.flag(),
            27 => self.fence(),
            28..31 => self.fault(),
            _ => match self.choices.byte() {
                0 => {
                    self.rig.session.logout(self.rig.now);
                    self.logged_out = true;
                }
                1..32 => self.lie(),
                _ => self.fault(),
            },
        }
    }

    fn link(&mut self) -> usize {
        let links = self.rig.links();
        self.choices.below(links)
    }

    fn send_some(&mut self) {
        let (link, bytes) = (self.link(), self.choices.bytes());
        self.rig.act();
        self.rig.send(link, bytes);
    }

    fn receive_some(&mut self) {
        let (link, bytes) = (self.link(), self.choices.bytes());
        self.rig.receive(link, bytes);
    }

    fn command(&mut self, cdb: Cdb, data: DataPhase) -> Option<(TaskKey, usize)> {
        let bytes = data.len();
        let seconds = 1 + self.choices.below(8) as u64;
        let attributes = [TaskAttribute::Simple, TaskAttribute::Ordered];
        let command = Command {
            cdb,
            data,
            attribute: attributes[self.choices.below(2)],
            priority: 0,
            timeout: Duration::from_secs(seconds),
            only_in: None,
        };
        match self.rig.submit(command) {
            Ok(key) => Some((key, bytes)),
            Err(completion) => {
                assert_eq!(completion.data.len(), bytes, "the buffer comes back");
                None
            }
        }
    }

    fn read(&mut self) {
        let slot = self.choices.below(SLOTS);
        let (lba, blocks) = model::place(slot);
        let cdb = Cdb::read(Lba(lba), scsi::Blocks(blocks), RwOptions::default());
        let buf = IoBuf::zeroed(blocks as usize * model::BLOCK);
        let possible = self.model.possible(slot);
        if let Some((key, bytes)) = self.command(cdb, DataPhase::Read(buf)) {
            let running = Running::Read { slot, possible };
            self.running.push((key, bytes, running));
        }
    }

    fn write(&mut self) {
        let slot = self.choices.below(SLOTS);
        let Some(tag) = self.model.begin(slot) else {
            return;
        };
        for (_, _, running) in &mut self.running {
            if let Running::Read { slot: of, possible } = running
                && *of == slot
            {
                possible.insert(tag);
            }
        }
        let (lba, blocks) = model::place(slot);
        let cdb = Cdb::write(Lba(lba), scsi::Blocks(blocks), RwOptions::default());
        let data = Bytes::from(model::contents(slot, tag));
        match self.command(cdb, DataPhase::Write(data)) {
            Some((key, bytes)) => self.running.push((key, bytes, Running::Write { slot })),
            None => {
                let (certainty, life) = (scsi::Certainty::NotSent, scsi::Incarnation(0));
                self.model.failed(slot, certainty, life);
            }
        }
    }

    fn probe(&mut self) {
        if let Some((key, bytes)) = self.command(Cdb::test_unit_ready(), DataPhase::None) {
            self.running.push((key, bytes, Running::Other));
        }
    }

    fn abandon(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = self.choices.below(self.running.len());
        let (key, _, running) = self.running.swap_remove(at);
        let life = self.rig.session.snapshot().incarnation;
        self.rig.session.abandon(self.rig.now, key);
        self.rig.session.take_freed();
        if let Running::Write { slot } = running {
            self.model.abandoned(slot, life);
        }
    }

    fn manage(&mut self) {
        let which = self.choices.byte();
        let at = self.choices.below(self.running.len());
        let task = self.running.get(at).map(|(key, ..)| *key);
        let function = match (which % 11, task) {
            (0 | 1, Some(task)) => ManagementFunction::AbortTask(task),
            (2, Some(task)) => ManagementFunction::QueryTask(task),
            (3, _) => ManagementFunction::ClearTaskSet,
            (4, _) => ManagementFunction::LogicalUnitReset,
            (5, _) => ManagementFunction::TargetWarmReset,
            (6, _) => ManagementFunction::TargetColdReset,
            (7, _) => ManagementFunction::QueryTaskSet,
            (8, _) => ManagementFunction::ItNexusReset,
            (9, _) => ManagementFunction::QueryAsynchronousEvent,
            _ => ManagementFunction::AbortTaskSet,
        };
        if self.managing.len() < ASKED_MAX
            && let Ok(key) = self.rig.session.manage(self.rig.now, Lun::ZERO, function)
        {
            if which > 200 {
                self.rig.session.forget_management(key);
            } else {
                self.managing.push(key);
            }
        }
    }

    fn talk(&mut self) {
        let settings = [
            ("MaxRecvDataSegmentLength", "512"),
            ("MaxRecvDataSegmentLength", "8192"),
            ("InitiatorAlias", "me"),
            ("ImmediateData", "No"),
            ("InitialR2T", "Yes"),
        ];
        let which = self.choices.byte();
        if self.talking.len() >= ASKED_MAX {
            return;
        }
        let (now, session) = (self.rig.now, &mut self.rig.session);
        let key = if which >= 128 {
            session.ask_targets(now, None).ok()
        } else {
            let (key, value) = settings[usize::from(which) % settings.len()];
            match session.set(now, key, value) {
                Ok(Applied::Renegotiating(key)) => Some(key),
                Ok(Applied::AtOnce | Applied::NextLogin) | Err(_) => None,
            }
        };
        if which % 16 == 15
            && let Some(key) = key
        {
            session.forget_text(key);
        } else {
            self.talking.extend(key);
        }
    }

    fn connections(&mut self) {
        let (which, link) = (self.choices.flag(), self.link());
        let (now, session) = (self.rig.now, &mut self.rig.session);
        // Refusals are part of the game.
        if which {
            let _ = session.add_connection(now, None);
        } else if let Some(connection) = session.connections().get(link) {
            let _ = session.remove_connection(now, connection.cid);
        }
    }

    fn fence(&mut self) {
        if let NexusState::Up(life) | NexusState::Down(life) = self.rig.session.state() {
            self.rig.session.want_fence(self.rig.now, life);
        }
    }

    /// Picks up what has ended.
    fn collect(&mut self) {
        self.rig.act();
        let mut at = 0;
        while let Some((key, ..)) = self.running.get(at) {
            let key = *key;
            match self.rig.done(key) {
                Some(completion) => {
                    assert!(self.rig.done(key).is_none(), "it ends once");
                    let (_, bytes, running) = self.running.swap_remove(at);
                    assert_eq!(completion.data.len(), bytes, "the buffer comes back");
                    self.ended(running, completion);
                }
                None => at += 1,
            }
        }
        let session = &mut self.rig.session;
        let waker = Waker::noop();
        self.managing
            .retain(|key| session.poll_management(*key, waker).is_pending());
        self.talking
            .retain(|key| session.poll_text(*key, waker) == Poll::Pending);
        assert!(session.capacity() <= usize::from(QUEUE_DEPTH));
        assert!(session.in_flight() <= usize::from(QUEUE_DEPTH));
        assert!(self.rig.links() <= 4, "{} connections", self.rig.links());
        self.model.look(&self.rig.session);
    }

    fn ended(&mut self, running: Running, completion: Completion) {
        match (running, completion.outcome) {
            (Running::Write { slot }, Outcome::Answered(answer)) => {
                if answer.status == Status::GOOD {
                    self.model.acknowledged(slot);
                } else {
                    let life = completion.incarnation;
                    self.model.failed(slot, scsi::Certainty::Answered, life);
                }
            }
            (Running::Write { slot }, Outcome::Failed(error)) => {
                let life = completion.incarnation;
                self.model.failed(slot, error.certainty, life);
            }
            (Running::Read { slot, possible }, Outcome::Answered(answer)) => {
                if let (Status::GOOD, DataPhase::Read(buf), false) =
                    (answer.status, &completion.data, self.lied)
                {
                    model::check(slot, &buf.as_slice()[..answer.transferred], &possible);
                }
            }
            (Running::Read { .. }, Outcome::Failed(_)) | (Running::Other, _) => {}
        }
    }

    /// All faults stop: everything ends, and what may be on the disk is.
    fn finish(&mut self) {
        self.heal();
        self.rig.wait(Duration::from_secs(150));
        self.collect();
        let left: Vec<_> = self.running.iter().map(|(key, ..)| key).collect();
        assert!(left.is_empty(), "{left:?} never end: {:?}", self.rig);
        assert!(self.managing.is_empty(), "every function ends");
        assert!(self.talking.is_empty(), "every exchange ends");
        if !self.lied && !self.logged_out {
            assert!(self.rig.is_up(), "it comes back: {:?}", self.rig.events);
            if self.model.is_haunted() {
                // As multipath does, before anything else is written there.
                self.fence();
                self.rig.wait(Duration::from_secs(60));
                self.collect();
                assert!(!self.model.is_haunted(), "the fence stands");
                assert!(self.rig.is_up(), "it comes back: {:?}", self.rig.events);
            }
            self.read_all();
        }
        self.rig.session.logout(self.rig.now);
        self.rig.wait(Duration::from_secs(60));
        self.collect();
        assert!(self.rig.session.is_closed(), "{:?}", self.rig.session);
        assert_eq!(self.rig.links(), 0);
        let session = &self.rig.session;
        assert_eq!(session.free_slots(), session.capacity(), "no slot is lost");
        assert_eq!(session.unsettled(), 0);
        if !self.lied {
            let violations = self.rig.target.violations();
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }

    fn read_all(&mut self) {
        for slot in 0..SLOTS {
            let (lba, blocks) = model::place(slot);
            let cdb = Cdb::read(Lba(lba), scsi::Blocks(blocks), RwOptions::default());
            let bytes = blocks as usize * model::BLOCK;
            for attempt in 0.. {
                let data = DataPhase::Read(IoBuf::zeroed(bytes));
                let (key, _) = self.command(cdb.clone(), data).expect("the session is up");
                self.rig.wait(Duration::from_secs(1));
                let completion = self.rig.done(key).expect("it ends");
                let Outcome::Answered(answer) = completion.outcome else {
                    panic!("{:?}: {:?}", completion.outcome, self.rig);
                };
                // Unit attentions, one after the other.
                if answer.status == Status::CHECK_CONDITION && attempt < 8 {
                    continue;
                }
                assert_eq!((answer.status, answer.transferred), (Status::GOOD, bytes));
                if let DataPhase::Read(buf) = completion.data {
                    model::check(slot, buf.as_slice(), &self.model.possible(slot));
                }
                break;
            }
        }
    }
}

impl Drop for Ops<'_> {
    /// Shows how it came to that.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}{:?}", self.rig.told(), self.rig);
        }
    }
}
