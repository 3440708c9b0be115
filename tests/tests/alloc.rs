//! In steady state an I/O allocates nothing on our side: neither in the session core alone, nor
//! in multipath over real drivers and real sockets; whatever its size, with digests and without.
//!
//! The counter counts per thread; the target lives in another one, or outside of what is measured.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code"
)]

use std::net::SocketAddr;

use allocation_counter::measure;
use iscsi::name::Isid;
use iscsi::net::SessionHandle;
use iscsi::session::SessionConfig;
use mpio::{LogicalUnit, PathSettings, PathSpec, TokioClock};
use scsi::{Bytes, DataPhase, IoBuf, Lun};
use test_target::{Config, Portal, Server};
use world::pair::{self, BLOCK_BYTES, FOR_EVER, Gauge, Pair};

const SMALL: usize = 4 << 10;
const LARGE: usize = 64 << 10;
const WARM_UP: usize = 100;
const MEASURED: usize = 500;
/// As many commands at once, so that batches are made as well.
const DEPTH: usize = 4;

/// Counts what the session allocates.
#[derive(Default)]
struct Allocations(u64);

impl Gauge for Allocations {
    fn ours(&mut self, work: &mut dyn FnMut()) {
        self.0 += measure(work).count_total;
    }
}

fn payload(bytes: usize) -> Bytes {
    let payload = IoBuf::zeroed(bytes).freeze();
    // The first reference makes it shareable; applications write the same memory again and again.
    let _shared = payload.slice(..);
    payload
}

/// What the core allocates in reads and writes of `bytes` over one connection.
fn core_allocates(config: SessionConfig, bytes: usize) -> u64 {
    let (allocations, connections) = allocates(config, pair::target_config(), bytes);
    assert_eq!(connections, 1);
    allocations
}

/// What the core allocates in reads and writes of `bytes`, and over how many connections.
fn allocates(config: SessionConfig, target: Config, bytes: usize) -> (u64, usize) {
    let mut pair = Pair::new(config, target, Allocations::default());
    let mut bufs: Vec<_> = (0..DEPTH)
        .map(|_| DataPhase::Read(IoBuf::zeroed(bytes)))
        .collect();
    let payload = payload(bytes);
    for round in 0..WARM_UP + MEASURED {
        if round == WARM_UP {
            pair.gauge = Allocations::default();
        }
        let lba = |at: usize| ((round + at) % 100 * bytes / BLOCK_BYTES) as u64;
        let writes = (0..DEPTH).map(|at| {
            let data = DataPhase::Write(payload.clone());
            (pair::write(lba(at), bytes), data)
        });
        pair.run(writes);
        let reads = bufs.into_iter().enumerate();
        bufs = pair.run(reads.map(|(at, buf)| (pair::read(lba(at), bytes), buf)));
    }
    assert_eq!(pair.violations(), [""; 0]);
    (pair.gauge.0, pair.connections())
}

#[test]
fn the_session_core_allocates_nothing() {
    for bytes in [SMALL, LARGE] {
        let plain = pair::session_config("127.0.0.1:3260");
        assert_eq!(core_allocates(plain, bytes), 0, "{bytes} bytes");
    }
}

#[test]
fn nor_does_it_with_digests() {
    for bytes in [SMALL, LARGE] {
        let digests = pair::with_digests(pair::session_config("127.0.0.1:3260"));
        assert_eq!(core_allocates(digests, bytes), 0, "{bytes} bytes");
    }
}

#[test]
fn nor_when_the_data_of_writes_are_asked_for() {
    let mut config = pair::session_config("127.0.0.1:3260");
    for (key, value) in [("InitialR2T", "Yes"), ("ImmediateData", "No")] {
        config.offer.set(key, value).unwrap();
    }
    assert_eq!(core_allocates(config, LARGE), 0);
}

#[test]
fn nor_over_two_connections() {
    let mut config = pair::session_config("127.0.0.1:3260");
    config.offer.set("MaxConnections", "2").unwrap();
    config.connections = Some(2);
    let mut target = pair::target_config();
    target.keys.max_connections = 2;
    for bytes in [SMALL, LARGE] {
        let (allocations, connections) = allocates(config.clone(), target.clone(), bytes);
        assert_eq!((allocations, connections), (0, 2), "{bytes} bytes");
    }
}

/// A target in a thread of its own, which counts for itself.
fn serve(portals: usize) -> (Vec<SocketAddr>, std::sync::mpsc::Sender<()>) {
    let (say, addresses) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let any = vec![SocketAddr::from(([127, 0, 0, 1], 0)); portals];
        let portal = Portal {
            address: "127.0.0.1:0".to_owned(),
            group: 1,
        };
        let config = Config {
            portals: vec![portal; portals],
            ..pair::target_config()
        };
        let server = runtime.block_on(Server::start(config, &any)).unwrap();
        say.send(server.local_addrs()).unwrap();
        // Ends when the test does.
        let _ = stopped.recv();
    });
    (addresses.recv().unwrap(), stop)
}

/// Reads and writes of `bytes` over as many paths as there are addresses.
async fn unit(addresses: &[SocketAddr], digests: bool) -> LogicalUnit<Nexus, TokioClock> {
    let mut paths = Vec::new();
    for (qualifier, address) in (1..).zip(addresses) {
        let mut config = pair::session_config(&address.to_string());
        config.isid = Isid::random(1, qualifier);
        if digests {
            config = pair::with_digests(config);
        }
        let session = SessionHandle::login(config).await.unwrap();
        paths.push(PathSpec {
            nexus: session.nexus(Lun::ZERO),
            portal_group: None,
            label: String::new(),
            settings: PathSettings::default(),
        });
    }
    let config = mpio::Config {
        probe_interval: FOR_EVER,
        probe_interval_max: FOR_EVER,
        ..mpio::Config::default()
    };
    let (unit, maintenance) = LogicalUnit::assemble(paths, config, TokioClock)
        .await
        .unwrap();
    tokio::spawn(maintenance);
    unit
}

type Nexus = iscsi::net::LunNexus;

/// What multipath over `paths` sockets allocates in reads and writes of `bytes`.
fn multipath_allocates(paths: usize, digests: bool, bytes: usize) -> u64 {
    let (addresses, _stop) = serve(paths);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let unit = runtime.block_on(unit(&addresses, digests));
    let payload = payload(bytes);
    let mut bufs = [(); DEPTH].map(|()| Some(IoBuf::zeroed(bytes)));
    let mut work = |rounds: usize| {
        runtime.block_on(async {
            for round in 0..rounds {
                let offset = (bytes * (round % 100)) as u64;
                unit.write_at(offset, payload.clone()).await.unwrap();
                let mut read = |at: usize| unit.read_at(offset, bufs[at].take().unwrap());
                let done = tokio::join!(read(0), read(1), read(2), read(3));
                for (slot, (result, buf)) in bufs.iter_mut().zip([done.0, done.1, done.2, done.3]) {
                    result.unwrap();
                    assert_eq!(buf.len(), bytes);
                    *slot = Some(buf);
                }
            }
        });
    };
    work(WARM_UP);
    // Entering the runtime costs something by itself.
    let entry = measure(|| work(0)).count_total;
    let measured = measure(|| work(MEASURED)).count_total;
    let shares = unit.topology().paths;
    assert!(shares.iter().all(|path| path.stats.ios > 0), "idle paths");
    measured - entry
}

#[test]
fn multipath_over_sockets_allocates_nothing() {
    for (paths, digests, bytes) in [
        (1, false, SMALL),
        (2, false, SMALL),
        (2, false, LARGE),
        (2, true, SMALL),
        (2, true, LARGE),
    ] {
        let allocations = multipath_allocates(paths, digests, bytes);
        assert_eq!(
            allocations, 0,
            "{paths} paths, digests: {digests}, {bytes} bytes; in {MEASURED} rounds"
        );
    }
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![0_u8; 100])));
    assert_eq!(counted.count_total, 1);
}
