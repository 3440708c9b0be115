//! Protocol efficiency: how many round trips an I/O takes, and how many I/Os are done per round
//! trip, on a network where nothing but distance costs time.
//!
//! Time is virtual, so every figure is exact, and one round trip too many is a difference of the
//! snapshot. If a change is meant: `INSTA_UPDATE=always cargo test -p iscsi-tests --test
//! efficiency`, and the reason in the commit.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "test code"
)]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iscsi::name::Isid;
use iscsi::session::{Session, SessionConfig};
use mpio::{Clock as _, LogicalUnit, PathSettings, PathSpec};
use scsi::{Bytes, IoBuf, NexusState};
use test_target::{Config, Portal, Target};
use world::clock::{SimClock, base};
use world::executor::Executor;
use world::net::{Dial, Link, Net};
use world::nexus::{Setting, Shared, SimNexus};
use world::pair::{self, FOR_EVER};
use world::path::Driver;
use world::trace::Trace;

const K4: usize = 4 << 10;
const M1: usize = 1 << 20;
const NEAR: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_millis(50);
/// I/Os of each client.
const IOS: u32 = 4;

type Unit = LogicalUnit<SimNexus, SimClock>;

/// Sessions, multipath and a target, and a network between them.
struct Lab {
    clock: SimClock,
    executor: Executor,
    net: Net,
    drivers: Vec<Driver>,
    target: Target,
    trace: Trace,
}

/// A way of some length, and nothing else in it.
fn link(round_trip: Duration) -> Link {
    Link {
        latency: round_trip / 2,
        jitter: Duration::ZERO,
        bytes_per_second: 0,
        segment_bytes: 1 << 16,
        window_bytes: 1 << 30,
        buffer_bytes: 1 << 30,
        read_bytes: 1 << 20,
        up_dead: false,
        down_dead: false,
        dial: Dial::Accept,
        stuck_until: None,
        flip_up: false,
    }
}

fn address(path: usize) -> String {
    format!("192.0.2.{}:3260", path + 1)
}

impl Lab {
    fn new(round_trip: Duration, paths: usize, keys: &[(&str, &str)]) -> Self {
        let now = base();
        let clock = SimClock::new(now);
        let portals: Vec<iscsi::name::Portal> = (0..paths)
            .map(|path| address(path).parse().unwrap())
            .collect();
        let mut drivers = Vec::new();
        for path in 0..paths {
            let mut config = pair::session_config(&address(path));
            config.isid = Isid::random(1, path as u16);
            for (key, value) in keys {
                config.offer.set(key, value).unwrap();
            }
            drivers.push(driver(now, &clock, path, config, &portals));
        }
        let portal = |path| Portal {
            address: address(path),
            group: 1,
        };
        let mut config = Config {
            portals: (0..paths).map(portal).collect(),
            ..pair::target_config()
        };
        // What is offered decides.
        config.keys.first_burst_bytes = 1 << 20;
        Self {
            clock,
            executor: Executor::default(),
            net: Net::new(vec![link(round_trip); paths], 1),
            drivers,
            target: Target::new(config),
            trace: Trace::new(now, false),
        }
    }

    /// Lets time pass until `done`; how much that was.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.clock.now();
        loop {
            self.settle();
            let now = self.clock.now();
            if done(self) {
                return now - begun;
            }
            let sessions = self.drivers.iter().filter_map(Driver::next).min();
            let next = [
                self.clock.next(),
                self.net.next(),
                self.target.poll_timeout(),
                sessions,
            ];
            let next = next
                .into_iter()
                .flatten()
                .min()
                .expect("nothing to wait for");
            self.clock.advance(next.max(now + Duration::from_nanos(1)));
        }
    }

    /// Does everything that can be done at this moment.
    fn settle(&mut self) {
        let now = self.clock.now();
        loop {
            let mut moved = self.executor.run(1_000) > 0;
            for driver in &mut self.drivers {
                moved |= driver.drive(now, &mut self.net, &mut self.trace);
            }
            if self.target.poll_timeout().is_some_and(|due| due <= now) {
                self.target.handle_timeout(now);
                moved = true;
            }
            moved |= self.net.step(now, &mut self.target, &mut self.trace);
            if !moved {
                return;
            }
        }
    }

    fn login(&mut self) -> Duration {
        self.until(|lab| {
            let state = |driver: &Driver| driver.shared().core().session.state();
            let mut states = lab.drivers.iter().map(state);
            states.all(|state| matches!(state, NexusState::Up(_)))
        })
    }

    fn assemble(&mut self) -> (Unit, Duration) {
        let paths = self.drivers.iter().map(|driver| PathSpec {
            nexus: SimNexus(Arc::clone(driver.shared())),
            portal_group: None,
            label: String::new(),
            settings: PathSettings::default(),
        });
        let config = mpio::Config {
            probe_interval: FOR_EVER,
            probe_interval_max: FOR_EVER,
            ..mpio::Config::default()
        };
        let assembling = LogicalUnit::assemble(paths.collect(), config, self.clock.clone());
        let made = Arc::new(Mutex::new(None));
        let result = Arc::clone(&made);
        let task = self.executor.spawn(async move {
            *result.lock().unwrap() = Some(assembling.await.expect("a unit"));
        });
        let took = self.until(|lab| !lab.executor.is_running(task));
        let (unit, maintenance) = made.lock().unwrap().take().expect("a unit");
        self.executor.spawn(maintenance);
        (unit, took)
    }
}

fn driver(
    now: Instant,
    clock: &SimClock,
    path: usize,
    config: SessionConfig,
    portals: &[iscsi::name::Portal],
) -> Driver {
    let setting = Setting {
        label: String::new(),
        depth: usize::from(config.queue_depth),
        max_transfer_bytes: 16 << 20,
        lying_fence: false,
    };
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let session = Session::new(now, config, entropy);
    let shared = Arc::new(Shared::new(session, clock.clone(), setting));
    Driver::new(path, shared, portals.to_vec(), 256 * 1024, 64 * 1024)
}

/// What every client does, over and over.
#[derive(Clone, Copy)]
enum Io {
    Read(usize),
    Write(usize),
}

/// Round trips of one I/O, and I/Os per round trip, with `depth` of them under way.
fn efficiency(
    io: Io,
    keys: &[(&str, &str)],
    round_trip: Duration,
    paths: usize,
    depth: u32,
) -> (f64, f64) {
    let mut lab = Lab::new(round_trip, paths, keys);
    lab.login();
    let (unit, _) = lab.assemble();
    let tasks: Vec<_> = (0..depth)
        .map(|client| lab.executor.spawn(client_of(unit.clone(), io, client)))
        .collect();
    let took = lab.until(|lab| !tasks.iter().any(|task| lab.executor.is_running(*task)));
    assert!(lab.target.violations().is_empty());
    let round_trips = took.as_secs_f64() / round_trip.as_secs_f64();
    let ios = f64::from(IOS);
    (round_trips / ios, ios * f64::from(depth) / round_trips)
}

async fn client_of(unit: Unit, io: Io, client: u32) {
    let offset = u64::from(client) << 20;
    for _ in 0..IOS {
        match io {
            Io::Read(bytes) => {
                let (result, _) = unit
                    .read_at(offset % (32 << 20), IoBuf::zeroed(bytes))
                    .await;
                result.unwrap();
            }
            Io::Write(bytes) => {
                let data = Bytes::from(vec![1; bytes]);
                unit.write_at(offset % (32 << 20), data).await.unwrap();
            }
        }
    }
}

/// Distance, paths and depth of a column.
type Column = (&'static str, Duration, usize, u32);

/// Name, I/O and what is offered of a row.
type Row = (&'static str, Io, &'static [(&'static str, &'static str)]);

fn table(columns: &[Column], rows: &[Row]) -> String {
    let mut text = format!("{:<52}", "round trips of an I/O, I/Os per round trip");
    for (name, ..) in columns {
        let _ = write!(text, "{name:>16}");
    }
    text.push('\n');
    for (name, io, keys) in rows {
        let _ = write!(text, "{name:<52}");
        for (_, round_trip, paths, depth) in columns {
            let (round_trips, ios) = efficiency(*io, keys, *round_trip, *paths, *depth);
            let cell = format!("{round_trips:.2} {ios:>7.2}");
            let _ = write!(text, "{cell:>16}");
        }
        text.push('\n');
    }
    text
}

#[test]
fn small_transfers_take_one_round_trip_each() {
    // The last two are beyond the 128 commands that a session has under way.
    let columns = [
        ("depth 1", NEAR, 1, 1),
        ("depth 8", NEAR, 1, 8),
        ("depth 32", NEAR, 1, 32),
        ("50 ms, d 32", FAR, 1, 32),
        ("depth 256", NEAR, 1, 256),
        ("2 paths, d 256", NEAR, 2, 256),
    ];
    let rows: [Row; 5] = [
        ("4 KiB read", Io::Read(K4), &[]),
        ("4 KiB write, immediate", Io::Write(K4), &[]),
        (
            "4 KiB write, ImmediateData=No, InitialR2T=No",
            Io::Write(K4),
            &[("ImmediateData", "No")],
        ),
        (
            "4 KiB write, ImmediateData=Yes, InitialR2T=Yes",
            Io::Write(K4),
            &[("InitialR2T", "Yes")],
        ),
        (
            "4 KiB write, ImmediateData=No, InitialR2T=Yes",
            Io::Write(K4),
            &[("ImmediateData", "No"), ("InitialR2T", "Yes")],
        ),
    ];
    let table = table(&columns, &rows);
    insta::assert_snapshot!(table);
}

#[test]
fn long_writes_take_as_many_as_their_bursts_ask_for() {
    const ONE_R2T: (&str, &str) = ("MaxOutstandingR2T", "1");
    const SHORT: (&str, &str) = ("MaxBurstLength", "262144");
    let columns = [
        ("depth 1", NEAR, 1, 1),
        ("depth 4", NEAR, 1, 4),
        ("50 ms, d 4", FAR, 1, 4),
        ("2 paths, d 4", NEAR, 2, 4),
    ];
    let rows: [Row; 8] = [
        ("1 MiB read", Io::Read(M1), &[]),
        ("1 MiB read, bursts of 256 KiB", Io::Read(M1), &[SHORT]),
        ("1 MiB write, first burst of 256 KiB", Io::Write(M1), &[]),
        (
            "1 MiB write, first burst of 1 MiB",
            Io::Write(M1),
            &[("FirstBurstLength", "1048576")],
        ),
        (
            "1 MiB write, first burst of 64 KiB",
            Io::Write(M1),
            &[("FirstBurstLength", "65536")],
        ),
        (
            "1 MiB write, bursts of 256 KiB, 8 R2Ts",
            Io::Write(M1),
            &[SHORT],
        ),
        (
            "1 MiB write, bursts of 256 KiB, 1 R2T",
            Io::Write(M1),
            &[SHORT, ONE_R2T],
        ),
        (
            "1 MiB write, same, InitialR2T=Yes, ImmediateData=No",
            Io::Write(M1),
            &[
                SHORT,
                ONE_R2T,
                ("InitialR2T", "Yes"),
                ("ImmediateData", "No"),
            ],
        ),
    ];
    let table = table(&columns, &rows);
    insta::assert_snapshot!(table);
}

#[test]
fn getting_there() {
    let mut text = String::new();
    for (name, paths) in [("one path", 1), ("two paths", 2)] {
        let mut lab = Lab::new(NEAR, paths, &[]);
        let login = lab.login().as_secs_f64() / NEAR.as_secs_f64();
        let (_, assembling) = lab.assemble();
        let assembling = assembling.as_secs_f64() / NEAR.as_secs_f64();
        let _ = writeln!(
            text,
            "{name}: {login:.0} round trips to connect and log in, {assembling:.0} to assemble a unit"
        );
    }
    insta::assert_snapshot!(text);
}
