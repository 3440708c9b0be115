//! Any sequence of operations on a logical unit over fake paths, out of any bytes, beside a model
//! of what may be on the disk. For fuzzers (`fuzz/targets/unit_ops.rs`) and tests; no part of the
//! crate otherwise.
//!
//! It panics when an I/O does not end exactly once, when an acknowledged write is missing or is
//! overtaken by an older one that a dead path left behind, when blocks stay held after the last
//! fault, or when a path is left with something under way.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scsi::{Bytes, DeliveryErrorKind, FenceError, IoBuf, Nexus as _, NexusState, Status};

use crate::config::Config;
use crate::error::{IoError, OutcomeCertainty};
use crate::logical_unit::LogicalUnit;
use crate::path::{PathSettings, PathSpec};
use crate::queueing::NoPathRetry;
use crate::second_fence::SecondFence;
use crate::select::LoadBalancePolicy;
use crate::signal::{Either, lock, race};
use crate::testing::{Disk, Executor, FakeNexus, Fate, TestClock};

const PATHS: usize = 3;
const SLOTS: u64 = 4;
const SLOT_BYTES: usize = 4096;
const OPERATIONS_MAX: usize = 200;
/// I/Os under way at once.
const RUNNING_MAX: usize = 24;

type Unit = LogicalUnit<FakeNexus, TestClock>;

/// Bytes that decide; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Up to about half a minute, mostly much less.
    fn time(&mut self) -> Duration {
        let byte = u64::from(self.byte());
        Duration::from_millis(byte * byte / 2)
    }
}

/// What may be on the disk. One write at a time for each slot, which is the application's duty.
#[derive(Debug, Default)]
struct Model {
    possible: BTreeMap<u64, BTreeSet<u8>>,
    writing: BTreeSet<u64>,
    /// What reads under way may see.
    reads: BTreeMap<u64, (u64, BTreeSet<u8>)>,
    begun: u64,
    ended: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            possible: (0..SLOTS).map(|slot| (slot, BTreeSet::from([0]))).collect(),
            ..Self::default()
        }
    }

    fn running(&self) -> u64 {
        self.begun - self.ended
    }

    fn begin_write(&mut self, slot: u64, tag: u8) -> bool {
        if !self.writing.insert(slot) {
            return false;
        }
        self.begun += 1;
        self.possible.entry(slot).or_default().insert(tag);
        for (of, seen) in self.reads.values_mut() {
            if *of == slot {
                seen.insert(tag);
            }
        }
        true
    }

    /// `None`: its caller went away.
    fn end_write(&mut self, slot: u64, tag: u8, result: Option<Result<(), IoError>>) {
        assert!(self.writing.remove(&slot), "it ends once");
        self.ended += 1;
        let possible = self.possible.entry(slot).or_default();
        match result {
            Some(Ok(())) => *possible = BTreeSet::from([tag]),
            // A device may have written part of it before the error, our disk never does.
            Some(Err(error)) if error.outcome == OutcomeCertainty::NotDone => {
                possible.remove(&tag);
            }
            Some(Err(_)) | None => {}
        }
    }

    fn begin_read(&mut self, slot: u64) -> u64 {
        self.begun += 1;
        let possible = self.possible.get(&slot).cloned().unwrap_or_default();
        self.reads.insert(self.begun, (slot, possible));
        self.begun
    }

    fn end_read(&mut self, read: u64, result: &Result<(), IoError>, buf: &IoBuf) {
        self.ended += 1;
        let (slot, possible) = self.reads.remove(&read).expect("it ends once");
        assert_eq!(buf.len(), SLOT_BYTES, "the buffer comes back whole");
        if result.is_ok() {
            for seen in buf.as_slice() {
                assert!(
                    possible.contains(seen),
                    "slot {slot} holds {seen}, possible are {possible:?}"
                );
            }
        }
    }
}

struct Bench<'a> {
    choices: Choices<'a>,
    executor: Executor,
    paths: Vec<FakeNexus>,
    unit: Arc<Unit>,
    model: Arc<Mutex<Model>>,
    tag: u8,
}

/// Runs the operations that `input` says.
///
/// # Panics
/// When something is wrong.
pub fn run(input: &[u8]) {
    run_with(input, Duration::ZERO);
}

/// `lies_for`: a target executes what it has left so long after it said that it was over.
fn run_with(input: &[u8], lies_for: Duration) {
    let mut choices = Choices(input);
    let executor = Executor::new();
    let disk = Arc::new(Mutex::new(Disk::default()));
    let paths: Vec<_> = (0..PATHS)
        .map(|index| FakeNexus::new(index, &executor.clock, &disk))
        .collect();
    for path in &paths {
        path.set(|inner| inner.lies_for = lies_for);
    }
    let specs = paths.iter().map(|nexus| PathSpec {
        nexus: nexus.clone(),
        portal_group: None,
        label: String::new(),
        settings: PathSettings::default(),
    });
    let config = configuration(&mut choices);
    let assembling = LogicalUnit::assemble(specs.collect(), config, executor.clock.clone());
    let (unit, maintenance) = executor.run(assembling).expect("good paths");
    executor.spawn(maintenance);
    let mut bench = Bench {
        choices,
        executor,
        paths,
        unit: Arc::new(unit),
        model: Arc::new(Mutex::new(Model::new())),
        tag: 0,
    };
    for _ in 0..OPERATIONS_MAX {
        if bench.choices.0.is_empty() {
            break;
        }
        bench.operate();
    }
    bench.finish();
}

fn configuration(choices: &mut Choices<'_>) -> Config {
    let policies = LoadBalancePolicy::ALL;
    Config {
        policy: policies[choices.below(policies.len())],
        no_path_retry: match choices.below(3) {
            0 => NoPathRetry::Fail,
            1 => NoPathRetry::For(Duration::from_secs(5)),
            _ => NoPathRetry::Queue,
        },
        second_fence: if choices.flag() {
            SecondFence::LuReset
        } else {
            SecondFence::None
        },
        io_deadline: Duration::from_secs([2, 30][choices.below(2)]),
        ..Config::default()
    }
}

impl Bench<'_> {
    fn operate(&mut self) {
        match self.choices.byte() % 24 {
            0..4 => self.read(),
            4..9 => self.write(),
            9 => self.write_and_go_away(),
            10 => self.flush(),
            11..15 => {
                let (path, fate) = (self.choices.below(PATHS), self.fate());
                self.paths[path].set(|inner| inner.script.push_back(fate));
            }
            15 => {
                let (path, fate) = (self.choices.below(PATHS), self.fate());
                self.paths[path].set(|inner| inner.probe_script.push_back(fate));
            }
            16 => {
                let path = &self.paths[self.choices.below(PATHS)];
                if matches!(path.state(), NexusState::Up(_)) {
                    path.cut();
                }
            }
            17 => self.log_in(),
            18 => {
                let (path, fails) = (self.choices.below(PATHS), self.choices.flag());
                let error = fails.then_some(FenceError::Unreachable);
                self.paths[path].set(|inner| inner.fence_error = error);
            }
            19 => {
                let (path, down) = (self.choices.below(PATHS), self.choices.flag());
                self.paths[path].set(|inner| inner.fence_leaves_down = down);
            }
            20 => {
                let policies = LoadBalancePolicy::ALL;
                let policy = policies[self.choices.below(policies.len())];
                self.unit.set_policy(policy);
            }
            21 => {
                let path = self.choices.below(PATHS);
                let attention = [(6, 0x29, 0), (6, 0x2a, 1), (6, 0x3f, 3)][self.choices.below(3)];
                self.paths[path].set(|inner| inner.attentions.push_back(attention));
            }
            _ => {
                let time = self.choices.time();
                self.executor.run(self.executor.pass(time));
            }
        }
    }

    fn fate(&mut self) -> Fate {
        let kinds = [
            DeliveryErrorKind::ConnectionLost,
            DeliveryErrorKind::TimedOut,
        ];
        match self.choices.below(12) {
            0..5 => Fate::Lost {
                kind: kinds[self.choices.below(2)],
                executed_after: self.choices.flag().then(|| self.choices.time()),
                down: self.choices.flag(),
            },
            5 => Fate::NotSent(DeliveryErrorKind::Down),
            6 => Fate::Answered(DeliveryErrorKind::TargetFailure),
            7 => Fate::Status(Status::BUSY),
            8 => Fate::Sense(6, 0x29, 7),
            9 => Fate::Sense(0xb, 0x47, 0),
            10 => Fate::Sense(3, 0x0c, 0),
            _ => Fate::Slow(self.choices.time()),
        }
    }

    fn log_in(&mut self) {
        let path = &self.paths[self.choices.below(PATHS)];
        if matches!(path.state(), NexusState::Down(_)) {
            // As a real login does: it reinstates the session, so nothing of it survives.
            path.reinstate();
        }
    }

    fn may_start(&self) -> bool {
        lock(&self.model).running() < RUNNING_MAX as u64
    }

    fn read(&mut self) {
        let slot = self.choices.below(SLOTS as usize) as u64;
        if !self.may_start() {
            return;
        }
        let (unit, model) = (Arc::clone(&self.unit), Arc::clone(&self.model));
        let read = lock(&model).begin_read(slot);
        self.executor.spawn(async move {
            let at = slot * SLOT_BYTES as u64;
            let (result, buf) = unit.read_at(at, IoBuf::zeroed(SLOT_BYTES)).await;
            lock(&model).end_read(read, &result, &buf);
        });
    }

    /// The next write's slot and contents, unless there is one under way.
    fn next_write(&mut self) -> Option<(u64, u8)> {
        let slot = self.choices.below(SLOTS as usize) as u64;
        // 255 is what the end writes.
        self.tag = self.tag % 254 + 1;
        let may = self.may_start() && lock(&self.model).begin_write(slot, self.tag);
        may.then_some((slot, self.tag))
    }

    fn write(&mut self) {
        let Some((slot, tag)) = self.next_write() else {
            return;
        };
        let (unit, model) = (Arc::clone(&self.unit), Arc::clone(&self.model));
        self.executor.spawn(async move {
            let at = slot * SLOT_BYTES as u64;
            let result = unit.write_at(at, contents(tag)).await;
            lock(&model).end_write(slot, tag, Some(result));
        });
    }

    fn write_and_go_away(&mut self) {
        let time = self.choices.time() / 16;
        let Some((slot, tag)) = self.next_write() else {
            return;
        };
        let (unit, model) = (Arc::clone(&self.unit), Arc::clone(&self.model));
        let executor = self.executor.clone();
        self.executor.spawn(async move {
            let write = unit.write_at(slot * SLOT_BYTES as u64, contents(tag));
            let result = match race(write, executor.pass(time)).await {
                Either::Left(result) => Some(result),
                Either::Right(()) => None,
            };
            lock(&model).end_write(slot, tag, result);
        });
    }

    fn flush(&self) {
        if !self.may_start() {
            return;
        }
        let (unit, model) = (Arc::clone(&self.unit), Arc::clone(&self.model));
        lock(&model).begun += 1;
        self.executor.spawn(async move {
            // How it ends is not in the model: the disk has no cache to lose.
            let _ = unit.flush().await;
            lock(&model).ended += 1;
        });
    }

    /// All faults stop: everything ends, and what may be on the disk is.
    fn finish(&self) {
        for path in &self.paths {
            path.set(|inner| {
                inner.fence_error = None;
                inner.fence_leaves_down = false;
                inner.script.clear();
                inner.probe_script.clear();
                inner.attentions.clear();
            });
            if matches!(path.state(), NexusState::Down(_)) {
                path.reinstate();
            }
        }
        self.executor
            .run(self.executor.pass(Duration::from_secs(180)));
        assert_eq!(lock(&self.model).running(), 0, "each I/O ends");
        for slot in 0..SLOTS {
            self.settled(slot);
        }
        // Nothing lands later.
        self.executor
            .run(self.executor.pass(Duration::from_secs(60)));
        for slot in 0..SLOTS {
            assert_eq!(self.contents(slot), [255; SLOT_BYTES]);
        }
        let topology = self.unit.topology();
        assert_eq!(topology.held_ranges, 0, "nothing stays held");
        for path in &topology.paths {
            assert_eq!((path.in_flight, path.in_flight_bytes), (0, 0));
        }
    }

    /// Reads a slot, and writes it for the last time.
    fn settled(&self, slot: u64) {
        let seen = self.contents(slot);
        let possible = lock(&self.model).possible.get(&slot).cloned();
        let possible = possible.unwrap_or_default();
        for byte in seen {
            assert!(
                possible.contains(&byte),
                "slot {slot} holds {byte}, possible are {possible:?}"
            );
        }
        let write = self.unit.write_at(slot * SLOT_BYTES as u64, contents(255));
        self.executor.run(write).expect("all is well again");
    }

    fn contents(&self, slot: u64) -> Vec<u8> {
        let buf = IoBuf::zeroed(SLOT_BYTES);
        let read = self.unit.read_at(slot * SLOT_BYTES as u64, buf);
        let (result, buf) = self.executor.run(read);
        result.expect("all is well again");
        buf.as_slice().to_vec()
    }
}

fn contents(tag: u8) -> Bytes {
    Bytes::from(vec![tag; SLOT_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = random.usize(4..300);
        (0..bytes).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn any_operations_end_and_lose_nothing() {
        for seed in 0..500 {
            let run = std::panic::catch_unwind(|| run(&input(seed)));
            assert!(run.is_ok(), "seed {seed}");
        }
    }

    #[test]
    fn a_fence_that_does_not_hold_is_noticed() {
        let noticed = |seed: &u64| {
            let lies_for = Duration::from_secs(4);
            std::panic::catch_unwind(|| run_with(&input(*seed), lies_for)).is_err()
        };
        assert!((0..500).any(|seed| noticed(&seed)));
    }
}
