//! The policies at work, in virtual time: what they make of equal paths and of a slow one.
//!
//! Each path serves one command at a time, as a link of limited bandwidth does. The load is
//! closed: so many I/Os are always under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use scsi::{Command, Completion, FenceError, Incarnation, IoBuf, MediaAccess, Nexus, NexusState};

use crate::clock::Clock;
use crate::config::Config;
use crate::logical_unit::LogicalUnit;
use crate::path::{PathSettings, PathSpec};
use crate::select::LoadBalancePolicy;
use crate::signal::{Signal, lock};
use crate::testing::{Disk, Executor, FakeNexus, TestClock, at};

/// A path that takes a fixed time for each command, one after the other.
struct Link {
    inner: FakeNexus,
    clock: TestClock,
    service: Duration,
    free_at: Mutex<Instant>,
}

impl Nexus for Link {
    async fn execute(&self, command: Command) -> Completion {
        let started = self.clock.now();
        if command.cdb.media_access() != MediaAccess::None {
            let end = {
                let mut free_at = lock(&self.free_at);
                *free_at = self.clock.now().max(*free_at) + self.service;
                *free_at
            };
            self.clock.sleep_until(end).await;
        }
        let completion = self.inner.execute(command).await;
        Completion {
            took: self.clock.now() - started,
            ..completion
        }
    }

    async fn fence(&self, incarnation: Incarnation, budget: Duration) -> Result<(), FenceError> {
        self.inner.fence(incarnation, budget).await
    }

    fn state(&self) -> NexusState {
        self.inner.state()
    }

    async fn changed(&self, seen: NexusState) -> NexusState {
        self.inner.changed(seen).await
    }

    fn max_transfer_bytes(&self) -> usize {
        self.inner.max_transfer_bytes()
    }

    fn queue_depth(&self) -> usize {
        self.inner.queue_depth()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

struct Load {
    policy: LoadBalancePolicy,
    /// Microseconds that each path takes for a command.
    paths: &'static [u64],
    depth: u64,
    ios: u64,
    /// Every stream reads on where it stopped, from the beginning of the disk; else anywhere.
    sequential: bool,
    settings: fn(usize) -> PathSettings,
}

impl Load {
    fn random(policy: LoadBalancePolicy, paths: &'static [u64], depth: u64) -> Self {
        Self {
            policy,
            paths,
            depth,
            ios: 4000,
            sequential: false,
            settings: |_| PathSettings::default(),
        }
    }

    /// I/Os per second, and those of each path.
    fn run(&self) -> (f64, Vec<u64>) {
        let executor = Executor::new();
        let clock = executor.clock.clone();
        let disk = Arc::new(Mutex::new(Disk::default()));
        let spec = |(index, &us): (usize, &u64)| {
            let inner = FakeNexus::new(index, &clock, &disk);
            inner.set(|inner| inner.latency = Duration::ZERO);
            PathSpec {
                nexus: Link {
                    inner,
                    clock: clock.clone(),
                    service: Duration::from_micros(us),
                    free_at: Mutex::new(at(0)),
                },
                portal_group: None,
                label: String::new(),
                settings: (self.settings)(index),
            }
        };
        let specs = self.paths.iter().enumerate().map(spec).collect();
        let config = Config {
            policy: self.policy,
            ..Config::default()
        };
        let assembling = LogicalUnit::assemble(specs, config, clock.clone());
        let (unit, maintenance) = executor.run(assembling).unwrap();
        executor.spawn(maintenance);
        let left = Arc::new(AtomicU64::new(self.ios));
        let ended = Arc::new(Signal::default());
        let started = clock.now();
        for stream in 0..self.depth {
            let work = work(unit.clone(), stream, self.sequential, Arc::clone(&left));
            let ended = Arc::clone(&ended);
            executor.spawn(async move {
                work.await;
                ended.raise();
            });
        }
        executor.run(async {
            while ended.version() < self.depth {
                ended.after(ended.version()).await;
            }
        });
        let seconds = (clock.now() - started).as_secs_f64();
        let shares: Vec<_> = unit.topology().paths.iter().map(|p| p.stats.ios).collect();
        assert_eq!(shares.iter().sum::<u64>(), self.ios);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        (self.ios as f64 / seconds, shares)
    }
}

async fn work(
    unit: LogicalUnit<Link, TestClock>,
    stream: u64,
    sequential: bool,
    left: Arc<AtomicU64>,
) {
    let mut random = fastrand::Rng::with_seed(stream);
    let mut block = 4088;
    let mut buf = IoBuf::zeroed(4096);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
    {
        block = if sequential {
            (block + 8) % 4096
        } else {
            random.u64(..512) * 8
        };
        let (result, back) = unit.read_at(block * 512, buf).await;
        result.unwrap();
        buf = back;
    }
}

const EQUAL: &[u64] = &[100, 100];
const ONE_SLOW: &[u64] = &[1000, 100];

fn rate(policy: LoadBalancePolicy, paths: &'static [u64], depth: u64) -> f64 {
    Load::random(policy, paths, depth).run().0
}

#[test]
fn the_default_is_no_worse_than_round_robin_on_equal_paths() {
    for depth in [1, 2, 8, 32] {
        let round_robin = rate(LoadBalancePolicy::RoundRobin, EQUAL, depth);
        let service_time = rate(LoadBalancePolicy::default(), EQUAL, depth);
        assert!(
            service_time >= round_robin * 0.99,
            "depth {depth}: {service_time} against {round_robin}"
        );
    }
}

#[test]
fn the_default_is_clearly_better_when_one_path_is_ten_times_slower() {
    // The two together could do 11000.
    for (depth, at_least) in [(8, 9_000.0), (32, 10_000.0)] {
        let round_robin = rate(LoadBalancePolicy::RoundRobin, ONE_SLOW, depth);
        let service_time = rate(LoadBalancePolicy::default(), ONE_SLOW, depth);
        assert!(round_robin < 2_050.0, "depth {depth}: {round_robin}");
        assert!(service_time > at_least, "depth {depth}: {service_time}");
    }
}

#[test]
fn policies_that_see_load_or_speed_use_both_paths_well() {
    for policy in [
        LoadBalancePolicy::LeastQueueDepth,
        LoadBalancePolicy::LeastBlocks,
        LoadBalancePolicy::HistoricalServiceTime,
        LoadBalancePolicy::Latency,
    ] {
        let equal = rate(policy, EQUAL, 32);
        assert!(equal > 19_800.0, "{policy}: {equal}");
        let one_slow = rate(policy, ONE_SLOW, 32);
        assert!(one_slow > 10_000.0, "{policy}: {one_slow}");
    }
}

#[test]
fn policies_that_learn_avoid_the_slow_path_even_when_nothing_waits() {
    // One at a time: load says nothing, and half of all would go to the slow path.
    let blind = rate(LoadBalancePolicy::default(), ONE_SLOW, 1);
    assert!(blind < 2_000.0, "{blind}");
    for (policy, at_least) in [
        (LoadBalancePolicy::HistoricalServiceTime, 9_000.0),
        (LoadBalancePolicy::Latency, 9_000.0),
    ] {
        let (rate, shares) = Load::random(policy, ONE_SLOW, 1).run();
        assert!(rate > at_least, "{policy}: {rate}");
        assert!(shares[0] > 0, "{policy}: never looks at the slow path");
    }
}

#[test]
fn fixed_choices_are_kept() {
    let share = |policy, settings: fn(usize) -> PathSettings| {
        let paths: &[u64] = &[100, 100, 100];
        let load = Load {
            settings,
            ..Load::random(policy, paths, 8)
        };
        load.run().1
    };
    let second_preferred = |index| PathSettings {
        preferred: index == 1,
        ..PathSettings::default()
    };
    let foo = LoadBalancePolicy::FailoverOnly;
    assert_eq!(share(foo, second_preferred), [0, 4000, 0]);
    let falling_weights = |index| PathSettings {
        weight: 9 - u32::try_from(index).unwrap(),
        ..PathSettings::default()
    };
    let weighted = LoadBalancePolicy::WeightedPaths;
    assert_eq!(share(weighted, falling_weights), [0, 0, 4000]);
    let first_standby = |index| PathSettings {
        standby: index == 0,
        ..PathSettings::default()
    };
    let subset = LoadBalancePolicy::RoundRobinSubset;
    assert_eq!(share(subset, first_standby), [0, 2000, 2000]);
}

#[test]
fn a_stream_stays_on_one_path_with_least_blocks() {
    // Once over the whole disk.
    let load = Load {
        sequential: true,
        ios: 512,
        ..Load::random(LoadBalancePolicy::LeastBlocks, EQUAL, 1)
    };
    assert_eq!(load.run().1, [512, 0]);
    let service_time = Load {
        policy: LoadBalancePolicy::ServiceTime,
        ..load
    };
    assert_eq!(service_time.run().1, [256, 256]);
}
