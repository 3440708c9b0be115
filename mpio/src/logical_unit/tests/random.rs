//! Random outcomes, random order, one oracle.
//!
//! The disk executes what a dead path left behind at a random later time unless the path was
//! fenced before. Every block remembers which write it carries; writers never overlap each other
//! (the application's duty), so what a block may hold is known exactly.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a block may hold: the last acknowledged write, and those whose fate is unknown.
#[derive(Default)]
struct Model {
    acknowledged: BTreeMap<u64, u8>,
    unknown: BTreeMap<u64, Vec<u8>>,
    /// Writes sent to the target more than once without a fence would show here.
    ended: u32,
}

fn fate() -> impl Strategy<Value = Fate> {
    let kind = prop_oneof![
        Just(DeliveryErrorKind::ConnectionLost),
        Just(DeliveryErrorKind::TimedOut),
    ];
    let lost = (kind, proptest::option::of(0..30_000_u64), any::<bool>()).prop_map(
        |(kind, late, down)| Fate::Lost {
            kind,
            executed_after: late.map(ms),
            down,
        },
    );
    prop_oneof![
        8 => Just(Fate::Good),
        3 => lost,
        1 => Just(Fate::NotSent(DeliveryErrorKind::Down)),
        1 => Just(Fate::Answered(DeliveryErrorKind::TargetFailure)),
        1 => Just(Fate::Status(Status::BUSY)),
        1 => Just(Fate::Sense(6, 0x29, 7)),
        1 => Just(Fate::Sense(0xb, 0x47, 0)),
        1 => Just(Fate::Sense(3, 0x0c, 0)),
        1 => Just(Fate::Sense(6, 0x3f, 0x03)),
        1 => (1..3000_u64).prop_map(|time| Fate::Slow(ms(time))),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Read(u64),
    Write(u64),
    /// All slots at once.
    Burst,
    /// Dropped after so many milliseconds.
    Dropped(u64, u64),
    Cut(usize),
    LogIn(usize),
    FencesFail(usize, bool),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4_u64).prop_map(Op::Read),
        6 => (0..4_u64).prop_map(Op::Write),
        2 => Just(Op::Burst),
        2 => (0..4_u64, 0..50_u64).prop_map(|(slot, time)| Op::Dropped(slot, time)),
        1 => (0..2_usize).prop_map(Op::Cut),
        2 => (0..2_usize).prop_map(Op::LogIn),
        1 => (0..2_usize, any::<bool>()).prop_map(|(path, fail)| Op::FencesFail(path, fail)),
        1 => (0..20_000_u64).prop_map(Op::Pass),
    ]
}

impl Model {
    fn wrote(&mut self, slot: u64, tag: u8, result: Result<(), IoError>) {
        self.ended += 1;
        match result {
            Ok(()) => {
                self.acknowledged.insert(slot, tag);
                // Whatever was unknown before is over: this write could not start earlier.
                self.unknown.remove(&slot);
            }
            Err(error) if error.outcome == OutcomeCertainty::Unknown => {
                self.unknown.entry(slot).or_default().push(tag);
            }
            // A device may have written part of it before the error, our disk never does.
            Err(_) => {}
        }
    }

    fn read(&mut self, slot: u64, result: Result<u8, IoError>) {
        self.ended += 1;
        if let Ok(seen) = result {
            self.check(slot, seen);
        }
    }

    fn check(&self, slot: u64, seen: u8) {
        let last = self.acknowledged.get(&slot).copied().unwrap_or(0);
        let unknown = self.unknown.get(&slot).cloned().unwrap_or_default();
        assert!(
            seen == last || unknown.contains(&seen),
            "slot {slot} holds {seen}, acknowledged {last}, unknown {unknown:?}"
        );
    }
}

fn perform(bench: &Bench, unit: &Unit, model: &mut Model, op: &Op, tag: u8) {
    match *op {
        Op::Read(slot) => model.read(slot, bench.read(unit, slot * 8)),
        Op::Write(slot) => model.wrote(slot, tag, bench.write(unit, slot * 8, tag)),
        Op::Burst => {
            let write = |slot: u64| async move { unit.write_at(slot * 4096, data(tag)).await };
            let results = Mutex::new(Vec::new());
            let one = |slot| {
                let results = &results;
                async move {
                    let result = write(slot).await;
                    lock(results).push((slot, result));
                }
            };
            let all = join(join(one(0), one(1)), join(one(2), one(3)));
            bench.executor.run(all);
            for (slot, result) in results.into_inner().unwrap() {
                model.wrote(slot, tag, result);
            }
        }
        Op::Dropped(slot, time) => {
            let write = unit.write_at(slot * 4096, data(tag));
            let ended = bench
                .executor
                .run(race(write, bench.executor.pass(ms(time))));
            match ended {
                Either::Left(result) => model.wrote(slot, tag, result),
                Either::Right(()) => {
                    model.ended += 1;
                    model.unknown.entry(slot).or_default().push(tag);
                }
            }
        }
        Op::Cut(path) => {
            if matches!(bench.paths[path].state(), NexusState::Up(_)) {
                bench.paths[path].cut();
            }
        }
        Op::LogIn(path) => {
            if matches!(bench.paths[path].state(), NexusState::Down(_)) {
                // As a real login does: it reinstates the session, so nothing of it survives.
                bench.paths[path].reinstate();
            }
        }
        Op::FencesFail(path, fail) => bench.paths[path].set(|inner| {
            inner.fence_error = fail.then_some(FenceError::Unreachable);
        }),
        Op::Pass(time) => bench.pass(ms(time)),
    }
}

fn finish(bench: &Bench, unit: &Unit, model: &Model) {
    for path in &bench.paths {
        path.set(|inner| {
            inner.fence_error = None;
            inner.script.clear();
        });
        if matches!(path.state(), NexusState::Down(_)) {
            path.reinstate();
        }
    }
    bench.pass(Duration::from_secs(120));
    for slot in 0..4 {
        let seen = bench.read(unit, slot * 8).unwrap();
        model.check(slot, seen);
        bench.write(unit, slot * 8, 255).unwrap();
        assert_eq!(bench.read(unit, slot * 8).unwrap(), 255);
    }
    bench.pass(Duration::from_secs(60));
    for slot in 0..4 {
        assert_eq!(
            bench.read(unit, slot * 8).unwrap(),
            255,
            "nothing lands later"
        );
    }
    let topology = unit.topology();
    assert_eq!(topology.held_ranges, 0);
    for path in &topology.paths {
        assert_eq!((path.in_flight, path.in_flight_bytes), (0, 0));
    }
}

proptest! {
    #[test]
    fn no_acknowledged_write_is_lost_or_overtaken(
        scripts in proptest::collection::vec(proptest::collection::vec(fate(), 0..20), 2),
        ops in proptest::collection::vec(op(), 1..30),
        policy in proptest::sample::select(LoadBalancePolicy::ALL.to_vec()),
    ) {
        let bench = Bench::new(2);
        let unit = bench.assemble(Config { policy, ..Config::default() });
        for (path, script) in scripts.iter().enumerate() {
            bench.script(path, script);
        }
        let mut model = Model::default();
        let mut io = 0;
        for (index, op) in ops.iter().enumerate() {
            let tag = u8::try_from(index + 1).unwrap();
            io += match op {
                Op::Read(_) | Op::Write(_) | Op::Dropped(..) => 1,
                Op::Burst => 4,
                _ => 0,
            };
            perform(&bench, &unit, &mut model, op, tag);
        }
        prop_assert_eq!(model.ended, io, "each I/O ends exactly once");
        finish(&bench, &unit, &model);
    }
}
