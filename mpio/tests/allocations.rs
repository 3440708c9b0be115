//! Multipath costs no heap allocation per I/O in steady state.

#![allow(clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mpio::{Clock, Config, LoadBalancePolicy, LogicalUnit, PathSettings, PathSpec};
use scsi::{
    Bytes, Command, Completion, DataPhase, FenceError, Incarnation, IoBuf, Nexus, NexusState,
    Outcome, ScsiAnswer,
};

/// Always up, always GOOD, at once: what is left is multipath.
struct Instantly;

const LIFE: Incarnation = Incarnation(1);

impl Nexus for Instantly {
    async fn execute(&self, mut command: Command) -> Completion {
        let cdb = command.cdb.as_slice();
        let mut len = command.data.len();
        if let DataPhase::Read(buf) = &mut command.data {
            let answer: &[u8] = match (cdb[0], cdb[2]) {
                (0x12, 0) if cdb[1] == 0 => &[0, 0, 5, 2, 31],
                (0x12, 0) => &[0, 0, 0, 2, 0x80, 0x83],
                (0x12, 0x80) => &[0, 0x80, 0, 1, b'1'],
                (0x12, _) => &[0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7],
                (0x9e, _) => &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0],
                (0x1a, _) => &[3, 0, 0, 0],
                _ => &[],
            };
            buf.as_mut_slice()[..answer.len()].copy_from_slice(answer);
            if cdb[0] == 0x12 {
                len = answer.len().max(if cdb[1] == 0 { 36 } else { 0 });
            }
        }
        Completion {
            outcome: Outcome::Answered(ScsiAnswer::good(len)),
            data: command.data,
            incarnation: LIFE,
            took: Duration::ZERO,
        }
    }

    async fn fence(&self, _: Incarnation, _: Duration) -> Result<(), FenceError> {
        Ok(())
    }

    fn state(&self) -> NexusState {
        NexusState::Up(LIFE)
    }

    async fn changed(&self, _: NexusState) -> NexusState {
        std::future::pending().await
    }

    fn max_transfer_bytes(&self) -> usize {
        1 << 20
    }

    fn queue_depth(&self) -> usize {
        128
    }

    fn describe(&self) -> String {
        "instant".into()
    }
}

#[derive(Clone)]
struct Frozen(Instant);

impl Clock for Frozen {
    fn now(&self) -> Instant {
        self.0
    }

    fn sleep_until(&self, _: Instant) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn unit(policy: LoadBalancePolicy) -> LogicalUnit<Instantly, Frozen> {
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    let clock = Frozen(Instant::now());
    let spec = |label: &str| PathSpec {
        nexus: Instantly,
        portal_group: None,
        label: label.into(),
        settings: PathSettings::default(),
    };
    let config = Config {
        policy,
        ..Config::default()
    };
    let paths = vec![spec("a"), spec("b")];
    at_once(LogicalUnit::assemble(paths, config, clock))
        .expect("assembled")
        .0
}

#[test]
fn none_per_read_and_write() {
    for policy in LoadBalancePolicy::ALL {
        let unit = unit(policy);
        let mut buf = IoBuf::zeroed(4096);
        let data = Bytes::from(vec![7; 4096]);
        let mut round = |count: u64| {
            for n in 0..count {
                let (result, back) = at_once(unit.read_at(n * 4096, std::mem::take(&mut buf)));
                result.expect("read");
                buf = back;
                at_once(unit.write_at(n * 4096, data.clone())).expect("written");
            }
        };
        round(8);
        let counted = allocation_counter::measure(|| round(1000));
        assert_eq!(counted.count_total, 0, "{policy}");
        assert_eq!(buf.len(), 4096);
        let shares = unit
            .topology()
            .paths
            .iter()
            .map(|path| path.stats.ios)
            .sum::<u64>();
        assert_eq!(shares, 2 * 1008);
    }
}

#[test]
fn the_counter_sees_allocations() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert!(counted.count_total > 0);
}

#[test]
fn futures_stay_small() {
    let unit = unit(LoadBalancePolicy::default());
    let read = size_of_val(&unit.read_at(0, IoBuf::default()));
    let write = size_of_val(&unit.write_at(0, Bytes::new()));
    // Of which the nexus has about 300.
    assert!(read <= 2048 && write <= 2048, "{read}, {write}");
}
