//! Whole scenarios over fake paths, in virtual time.

#![allow(clippy::wildcard_enum_match_arm)]

use std::sync::Mutex;
use std::time::Duration;

use scsi::{Bytes, DeliveryErrorKind, FenceError, IoBuf, Lba, Status};

use super::*;
use crate::error::{IoErrorKind, OutcomeCertainty};
use crate::event::EventKind;
use crate::identity::Difference;
use crate::path::PathSettings;
use crate::queueing::NoPathRetry;
use crate::select::LoadBalancePolicy;
use crate::signal::{Either, lock, race};
use crate::testing::{DISK_BLOCKS, Disk, Executed, Executor, FakeNexus, Fate, TestClock};
use scsi::{Blocks, Cdb, RwOptions, TaskAttribute};

mod access;
mod change;
mod checkers;
mod fence;
mod outage;
mod overheard;
mod paths;
mod random;
mod second_fence;

type Unit = LogicalUnit<FakeNexus, TestClock>;

/// A disk with paths, and what runs it.
struct Bench {
    executor: Executor,
    disk: Arc<Mutex<Disk>>,
    paths: Vec<FakeNexus>,
}

const GONE: Fate = Fate::Lost {
    kind: DeliveryErrorKind::ConnectionLost,
    executed_after: None,
    down: true,
};

/// Lost with its path, and executed by the target 10 s later if nobody prevents it.
const GHOST: Fate = Fate::Lost {
    kind: DeliveryErrorKind::ConnectionLost,
    executed_after: Some(Duration::from_secs(10)),
    down: true,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Bench {
    fn new(paths: usize) -> Self {
        let executor = Executor::new();
        let disk = Arc::new(Mutex::new(Disk::default()));
        let paths = (0..paths)
            .map(|index| FakeNexus::new(index, &executor.clock, &disk))
            .collect();
        Self {
            executor,
            disk,
            paths,
        }
    }

    fn specs(&self) -> Vec<PathSpec<FakeNexus>> {
        let spec = |nexus: &FakeNexus| PathSpec {
            nexus: nexus.clone(),
            portal_group: None,
            label: String::new(),
            settings: PathSettings::default(),
        };
        self.paths.iter().map(spec).collect()
    }

    fn try_assemble(&self, config: Config) -> Result<Unit, AssembleError> {
        let assembling = LogicalUnit::assemble(self.specs(), config, self.executor.clock.clone());
        let (unit, maintenance) = self.executor.run(assembling)?;
        self.executor.spawn(maintenance);
        Ok(unit)
    }

    fn assemble(&self, config: Config) -> Unit {
        self.try_assemble(config).unwrap()
    }

    /// A unit that uses path 0 as long as it can.
    fn failover(&self) -> Unit {
        self.assemble(Config {
            policy: LoadBalancePolicy::FailoverOnly,
            ..Config::default()
        })
    }

    fn script(&self, path: usize, fates: &[Fate]) {
        self.paths[path].set(|inner| inner.script.extend(fates));
    }

    fn now(&self) -> Duration {
        self.executor.clock.now() - crate::testing::epoch()
    }

    fn read(&self, unit: &Unit, lba: u64) -> Result<u8, IoError> {
        let (result, buf) = self
            .executor
            .run(unit.read_at(lba * 512, IoBuf::zeroed(4096)));
        assert_eq!(buf.len(), 4096, "the buffer comes back whole");
        result.map(|()| buf.as_slice()[0])
    }

    fn write(&self, unit: &Unit, lba: u64, tag: u8) -> Result<(), IoError> {
        self.executor.run(unit.write_at(lba * 512, data(tag)))
    }

    fn log(&self) -> Vec<Executed> {
        lock(&self.disk).log.clone()
    }

    fn state(&self, unit: &Unit, path: usize) -> PathState {
        unit.topology().paths[path].state
    }

    fn pass(&self, time: Duration) {
        self.executor.run(self.executor.pass(time));
    }
}

fn data(tag: u8) -> Bytes {
    Bytes::from(vec![tag; 4096])
}

fn once(lba: u64, tag: u8) -> Executed {
    Executed {
        lba,
        tag,
        late: false,
    }
}

#[test]
fn geometry_and_identity_come_from_the_device() {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config::default());
    let geometry = unit.geometry();
    assert_eq!((geometry.block_bytes, geometry.blocks), (512, DISK_BLOCKS));
    assert_eq!(geometry.bytes(), DISK_BLOCKS * 512);
    assert_eq!(geometry.max_transfer_bytes, 1 << 20);
    assert!(!geometry.read_only);
    let identity = unit.identity().to_string();
    assert_eq!(identity, format!("naa.60{}01", "00".repeat(14)));
}

#[test]
fn what_is_written_is_read_back() {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config::default());
    bench.write(&unit, 8, 7).unwrap();
    assert_eq!(bench.read(&unit, 8).unwrap(), 7);
    bench.executor.run(unit.flush()).unwrap();
}

#[test]
fn a_read_fails_over_at_once() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.write(&unit, 0, 3).unwrap();
    bench.script(0, &[GONE]);
    let before = bench.now();
    assert_eq!(bench.read(&unit, 0).unwrap(), 3);
    assert_eq!(bench.now() - before, ms(2), "one try there, one here");
    let topology = unit.topology();
    assert_eq!(topology.paths[0].stats.failovers, 1);
    assert_eq!(topology.paths[0].stats.transport_errors, 1);
    bench.pass(ms(1));
    assert_eq!(bench.state(&unit, 0), PathState::Down);
}

#[test]
fn without_a_path_io_queues_and_goes_on_when_one_returns() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let mut events = unit.events();
    for path in &bench.paths {
        path.cut();
    }
    let path = bench.paths[1].clone();
    let executor = bench.executor.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(30)).await;
        path.log_in();
    });
    bench.write(&unit, 0, 1).unwrap();
    assert!(bench.now() >= Duration::from_secs(30));
    assert!(bench.now() < Duration::from_secs(31));
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .map(|e| e.kind)
        .collect();
    assert!(kinds.contains(&EventKind::NoPathLeft), "{kinds:?}");
    assert!(
        kinds
            .iter()
            .any(|kind| matches!(kind, EventKind::PathsBack { .. }))
    );
}

#[test]
fn without_a_path_io_fails_in_the_end() {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config {
        no_path_retry: NoPathRetry::For(Duration::from_secs(7)),
        ..Config::default()
    });
    for path in &bench.paths {
        path.cut();
    }
    let error = bench.read(&unit, 0).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoPath);
    assert_eq!(bench.now().as_secs(), 7);
    assert!(error.to_string().contains("no path"), "{error}");
}

#[test]
fn no_path_retry_fail_and_closed_paths_fail_at_once() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config {
        no_path_retry: NoPathRetry::Fail,
        ..Config::default()
    });
    bench.paths[0].cut();
    assert_eq!(bench.read(&unit, 0).unwrap_err().kind, IoErrorKind::NoPath);
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    bench.paths[0].end();
    bench.pass(ms(1));
    assert_eq!(bench.state(&unit, 0), PathState::Closed);
    assert_eq!(bench.read(&unit, 0).unwrap_err().kind, IoErrorKind::NoPath);
    assert!(bench.now() < Duration::from_secs(1));
}

#[test]
fn a_unit_attention_after_login_is_not_seen_by_the_caller() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    bench.script(0, &[Fate::Sense(6, 0x29, 0), Fate::Sense(6, 0x29, 7)]);
    bench.write(&unit, 0, 1).unwrap();
    assert_eq!(unit.topology().paths[0].stats.retries, 2);
    assert_eq!(bench.log(), [once(0, 1)]);
}

#[test]
fn medium_errors_go_up_and_leave_the_path_alone() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[Fate::Sense(3, 0x11, 0)]);
    let error = bench.read(&unit, 16).unwrap_err();
    assert_eq!(
        (error.kind, error.lba),
        (IoErrorKind::MediumError, Some(16))
    );
    assert_eq!(error.status, Some(Status::CHECK_CONDITION));
    let text = error.to_string();
    assert!(text.contains("fake 0") && text.contains("LBA 16"), "{text}");
    assert_eq!(bench.state(&unit, 0), PathState::Active);
}

#[test]
fn a_lun_gone_on_all_paths_is_an_error_at_once() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    bench.script(0, &[Fate::Sense(5, 0x25, 0)]);
    bench.script(1, &[Fate::Sense(5, 0x25, 0)]);
    let error = bench.read(&unit, 0).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NoLogicalUnit);
    assert!(bench.now() < Duration::from_secs(1));
}

#[test]
fn misuse_is_refused_before_anything_is_sent() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    bench.paths[0].set(|inner| inner.seen.clear());
    let kind = |offset, len| {
        let (result, buf) = bench.executor.run(unit.read_at(offset, IoBuf::zeroed(len)));
        assert_eq!(buf.len(), len);
        result.unwrap_err().kind
    };
    assert_eq!(kind(1, 512), IoErrorKind::Misaligned);
    assert_eq!(kind(0, 511), IoErrorKind::Misaligned);
    assert_eq!(kind(DISK_BLOCKS * 512, 512), IoErrorKind::OutOfRange);
    assert_eq!(kind((DISK_BLOCKS - 1) * 512, 1024), IoErrorKind::OutOfRange);
    assert_eq!(kind(u64::MAX - 511, 512), IoErrorKind::OutOfRange);
    assert!(bench.paths[0].set(|inner| inner.seen.is_empty()));
    let (result, _) = bench.executor.run(unit.read_at(0, IoBuf::default()));
    result.unwrap();
}

#[test]
fn a_read_only_unit_refuses_writes() {
    let bench = Bench::new(2);
    bench.paths[1].set(|inner| inner.write_protected = true);
    let unit = bench.assemble(Config::default());
    assert!(unit.geometry().read_only);
    let error = bench.write(&unit, 0, 1).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::ReadOnly);
    bench.read(&unit, 0).unwrap();
}

#[test]
fn long_io_is_split_to_what_every_path_carries() {
    let bench = Bench::new(2);
    bench.paths[1].set(|inner| inner.max_transfer = 4096);
    let unit = bench.assemble(Config::default());
    assert_eq!(unit.geometry().max_transfer_bytes, 4096);
    let payload: Vec<u8> = (0..20_u8).flat_map(|n| [n; 512]).collect();
    bench
        .executor
        .run(unit.write_at(512, Bytes::from(payload.clone())))
        .unwrap();
    let (result, buf) = bench
        .executor
        .run(unit.read_at(512, IoBuf::zeroed(20 * 512)));
    result.unwrap();
    assert_eq!(buf.as_slice(), payload);
    // 8 + 8 + 4 blocks, three pieces each way, on both paths.
    let stats: Vec<_> = unit
        .topology()
        .paths
        .iter()
        .map(|path| path.stats.ios)
        .collect();
    assert_eq!(stats.iter().sum::<u64>(), 6);
    assert!(stats.iter().all(|ios| *ios >= 2), "{stats:?}");
}

#[test]
fn a_failing_piece_is_reported_and_the_memory_comes_back_whole() {
    let bench = Bench::new(1);
    bench.paths[0].set(|inner| inner.max_transfer = 4096);
    let unit = bench.assemble(Config {
        split_concurrency: 2,
        ..Config::default()
    });
    bench.script(0, &[Fate::Good, Fate::Sense(3, 0x11, 0)]);
    let (result, buf) = bench
        .executor
        .run(unit.read_at(0, IoBuf::zeroed(10 * 4096)));
    let error = result.unwrap_err();
    assert_eq!(error.kind, IoErrorKind::MediumError);
    assert_eq!((error.lba, error.done_bytes), (Some(8), 4096));
    assert_eq!(buf.len(), 10 * 4096);
    let ios = unit.topology().paths[0].stats.ios;
    assert!(ios < 5, "no further piece is started: {ios}");
}

#[test]
fn policies_distribute_as_they_say() {
    let share = |policy, slow: bool| {
        let bench = Bench::new(2);
        let unit = bench.assemble(Config {
            policy,
            ..Config::default()
        });
        if slow {
            bench.paths[1].set(|inner| inner.latency = ms(9));
        }
        bench.executor.run(async {
            // Four at a time.
            let worker = || async {
                for _ in 0..50 {
                    unit.read_at(0, IoBuf::zeroed(4096)).await.0.unwrap();
                }
            };
            join(join(worker(), worker()), join(worker(), worker())).await;
        });
        let topology = unit.topology();
        (topology.paths[0].stats.ios, topology.paths[1].stats.ios)
    };
    assert_eq!(share(LoadBalancePolicy::FailoverOnly, false), (200, 0));
    assert_eq!(share(LoadBalancePolicy::RoundRobin, true), (100, 100));
    let (fast, slow) = share(LoadBalancePolicy::ServiceTime, false);
    assert_eq!((fast, slow), (100, 100));
    let (fast, slow) = share(LoadBalancePolicy::ServiceTime, true);
    assert!(fast > 3 * slow, "{fast}:{slow}");
}

async fn join(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut a_done, mut b_done) = (false, false);
    poll_fn(|cx| {
        a_done = a_done || a.as_mut().poll(cx).is_ready();
        b_done = b_done || b.as_mut().poll(cx).is_ready();
        if a_done && b_done {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn the_policy_can_be_changed_while_it_runs() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    for _ in 0..4 {
        bench.read(&unit, 0).unwrap();
    }
    unit.set_policy(LoadBalancePolicy::RoundRobin);
    for _ in 0..4 {
        bench.read(&unit, 0).unwrap();
    }
    let topology = unit.topology();
    assert_eq!(topology.policy, LoadBalancePolicy::RoundRobin);
    assert_eq!(
        (topology.paths[0].stats.ios, topology.paths[1].stats.ios),
        (6, 2)
    );
}

#[test]
fn raw_commands_are_carried_and_not_replayed() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let write = || Command {
        cdb: Cdb::write(Lba(0), Blocks(8), RwOptions::default()),
        data: DataPhase::Write(data(5)),
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: Duration::from_secs(5),
        only_in: None,
    };
    let (result, data) = bench.executor.run(unit.execute(write()));
    assert_eq!(result.unwrap().status, Status::GOOD);
    assert_eq!(data.len(), 4096);
    bench.script(0, &[GHOST]);
    let (result, data) = bench.executor.run(unit.execute(write()));
    let error = result.unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotRepeatable);
    assert_eq!(
        (error.outcome, error.settled),
        (OutcomeCertainty::Unknown, true)
    );
    assert_eq!(data.len(), 4096);
    assert_eq!(bench.log(), [once(0, 5)]);
    assert_eq!(bench.paths[0].set(|inner| inner.fences.len()), 1);
}

#[test]
fn close_ends_what_waits_and_refuses_the_rest() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    let mut events = unit.events();
    bench.paths[0].cut();
    let other = unit.clone();
    let executor = bench.executor.clone();
    bench.executor.spawn(async move {
        executor.pass(Duration::from_secs(2)).await;
        other.close().await;
    });
    let error = bench.read(&unit, 0).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::Closed);
    assert_eq!(bench.now().as_secs(), 2);
    assert_eq!(bench.read(&unit, 0).unwrap_err().kind, IoErrorKind::Closed);
    bench.executor.run(unit.close());
    bench
        .executor
        .run(async { while events.recv().await.is_some() {} });
}

#[test]
fn maintenance_ends_with_the_last_handle() {
    let bench = Bench::new(1);
    let assembling = LogicalUnit::assemble(
        bench.specs(),
        Config::default(),
        bench.executor.clock.clone(),
    );
    let (unit, maintenance) = bench.executor.run(assembling).unwrap();
    let again = unit.clone();
    drop(unit);
    drop(again);
    bench.executor.run(maintenance);
}

#[test]
fn the_answer_to_a_raw_command_is_handed_over_whatever_it_is() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    bench.script(0, &[Fate::Sense(6, 0x29, 0), Fate::Sense(3, 0x11, 0)]);
    let command = Command {
        cdb: Cdb::read(Lba(0), Blocks(1), RwOptions::default()),
        data: DataPhase::Read(IoBuf::zeroed(512)),
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: Duration::from_secs(5),
        only_in: None,
    };
    let (result, data) = bench.executor.run(unit.execute(command));
    let answer = result.unwrap();
    assert_eq!(answer.status, Status::CHECK_CONDITION);
    assert_eq!((answer.sense[2], answer.sense[12]), (3, 0x11));
    assert_eq!(data.len(), 512);
}

#[test]
fn reads_that_keep_getting_lost_end_soon_after_the_deadline() {
    let bench = Bench::new(2);
    let unit = bench.failover();
    let lost = Fate::Lost {
        kind: DeliveryErrorKind::ConnectionLost,
        executed_after: None,
        down: false,
    };
    for index in 0..2 {
        bench.script(index, &[lost; 6]);
        bench.paths[index].set(|inner| inner.latency = Duration::from_secs(45));
    }
    let error = bench.read(&unit, 0).unwrap_err();
    assert_eq!(
        error.kind,
        IoErrorKind::Transport(DeliveryErrorKind::ConnectionLost)
    );
    // One was under way at the deadline after 60 s; none was sent after it.
    assert!(
        bench.now() < Duration::from_secs(60 + 45),
        "{:?}",
        bench.now()
    );
}

#[test]
fn a_deferred_error_told_to_a_path_check_reaches_the_next_flush() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config::default());
    bench.write(&unit, 0, 3).unwrap();
    bench.paths[0].set(|inner| inner.probe_script.push_back(Fate::Deferred));
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.state(&unit, 0), PathState::Active);
    let error = bench.executor.run(unit.flush()).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::DeferredError);
    assert!(!error.sense.is_empty());
    bench.executor.run(unit.flush()).unwrap();
}

#[test]
fn a_path_that_fails_fast_does_not_look_fast() {
    let bench = Bench::new(1);
    let unit = bench.assemble(Config {
        policy: LoadBalancePolicy::HistoricalServiceTime,
        ..Config::default()
    });
    let known = || {
        let table = unit.unit().table.load();
        table.entries[0].path.history.speed().service_ns
    };
    bench.script(0, &[Fate::Sense(3, 0x11, 0)]);
    bench.read(&unit, 0).unwrap_err();
    bench.executor.run(unit.flush()).unwrap();
    assert_eq!(known(), None);
    bench.script(0, &[Fate::Slow(ms(7))]);
    bench.read(&unit, 0).unwrap();
    assert_eq!(known(), Some(7_000_000));
}

#[test]
fn settings_of_a_path_change_while_it_is_used() {
    let bench = Bench::new(2);
    let unit = bench.assemble(Config {
        policy: LoadBalancePolicy::WeightedPaths,
        ..Config::default()
    });
    let shares = || {
        let paths = unit.topology().paths;
        (paths[0].stats.reads, paths[1].stats.reads)
    };
    let before = shares();
    bench.read(&unit, 0).unwrap();
    assert_eq!(shares(), (before.0 + 1, before.1));
    let heavy = PathSettings {
        weight: 5,
        ..PathSettings::default()
    };
    let [first, _] = &unit.topology().paths[..] else {
        panic!("two paths");
    };
    assert!(unit.set_path_settings(first.id, heavy));
    assert_eq!(unit.topology().paths[0].settings, heavy);
    bench.read(&unit, 0).unwrap();
    assert_eq!(shares(), (before.0 + 1, before.1 + 1));
    assert!(!unit.set_path_settings(PathId(2), heavy));
}
