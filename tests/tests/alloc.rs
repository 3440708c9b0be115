//! In steady state an I/O of 4 KiB allocates nothing on our side: neither in the session core
//! alone, nor in multipath over a real driver and a real socket.
//!
//! The counter counts per thread; the target lives in another one, or outside of what is measured.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code"
)]

use std::io::IoSlice;
use std::net::SocketAddr;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use iscsi::name::Isid;
use iscsi::net::SessionHandle;
use iscsi::session::{Action, Placement, Session, SessionConfig};
use iscsi::wire::receiver::{Received, Receiver};
use iscsi::wire::transmit::{MAX_SLICES, Transmit};
use mpio::{LogicalUnit, PathSettings, PathSpec, TokioClock};
use scsi::{
    Blocks, Bytes, Cdb, Command, DataPhase, IoBuf, Lba, Lun, Outcome, RwOptions, Status,
    TaskAttribute,
};
use smallvec::SmallVec;
use test_target::{Config, ConnectionId, Server, Target};

/// The first connection of a session.
const CID: iscsi::name::Cid = iscsi::name::Cid(1);
const IO_BYTES: usize = 4096;
const BLOCKS: u32 = 8;
const WARM_UP: usize = 200;
const MEASURED: usize = 1000;
/// Nothing of the kind is due while the test runs.
const FOR_EVER: Duration = Duration::from_secs(100_000);

fn session_config(portal: &str) -> SessionConfig {
    let mut config = SessionConfig::new(
        "iqn.2026-01.org.example:frugal".parse().unwrap(),
        Config::default().target_name.parse().unwrap(),
        portal.parse().unwrap(),
        Isid::random(1, 1),
    );
    config.keepalive.interval = FOR_EVER;
    config
}

/// A session and a target, hand to hand.
struct Pair {
    now: Instant,
    session: Session,
    receiver: Receiver,
    transmit: Transmit,
    target: Target,
    connection: Option<ConnectionId>,
    /// What the session allocated.
    allocations: u64,
}

impl Pair {
    fn new() -> Self {
        let now = world::clock::base();
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let mut this = Self {
            now,
            session: Session::new(now, session_config("127.0.0.1:3260"), entropy),
            receiver: Receiver::new(256 * 1024, 8192),
            transmit: Transmit::new(),
            target: Target::new(Config::default()),
            connection: None,
            allocations: 0,
        };
        this.session.handle_timeout(now);
        while !matches!(this.session.state(), scsi::NexusState::Up(_)) {
            this.act();
            this.exchange();
        }
        this
    }

    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect { cid, .. } => {
                    self.connection = Some(self.target.connect(self.now, 0));
                    self.session.handle_connected(self.now, cid);
                }
                Action::LoggedIn { max_recv_bytes, .. } => {
                    self.receiver.set_params(false, false, max_recv_bytes);
                }
                Action::Close { .. } => panic!("the connection was lost"),
            }
        }
    }

    /// Counts what the session's side allocates in `work`.
    fn count(&mut self, work: impl FnOnce(&mut Self)) {
        let count = measure(|| work(self)).count_total;
        self.allocations += count;
    }

    /// What the session has to say, and what the target answers.
    fn exchange(&mut self) {
        let connection = self.connection.unwrap();
        while self.session.wants_transmit(CID) {
            self.count(|this| {
                this.session
                    .poll_transmit(this.now, CID, &mut this.transmit);
                this.transmit.seal();
            });
            if self.transmit.is_empty() {
                break;
            }
            while !self.transmit.is_empty() {
                let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
                self.transmit.slices(&mut slices);
                let bytes: Vec<u8> = slices
                    .iter()
                    .flat_map(|slice| slice.iter())
                    .copied()
                    .collect();
                drop(slices);
                self.target.receive(self.now, connection, &bytes);
                self.count(|this| this.transmit.advance(bytes.len()));
            }
        }
        let mut answer = Vec::new();
        self.target.transmit(connection, &mut answer, usize::MAX);
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            self.count(|this| {
                let space = this.receiver.space();
                let bytes = space.len().min(rest.len());
                space[..bytes].copy_from_slice(&rest[..bytes]);
                rest = &rest[bytes..];
                this.receiver.filled(bytes);
                this.take_pdus();
            });
        }
    }

    fn take_pdus(&mut self) {
        loop {
            match self.receiver.take_pdu().unwrap() {
                Received::Incomplete => return,
                Received::Damaged { .. } => panic!("no digests"),
                Received::Pdu { header, data } => {
                    self.session.handle_pdu(self.now, CID, &header, data);
                    if self.session.has_actions() {
                        self.act();
                    }
                }
                Received::DataIn { header, bytes } => {
                    let placement = self.session.handle_data_in(self.now, CID, &header, bytes);
                    let Placement::Into(mut loan) = placement else {
                        panic!("nowhere to put the data");
                    };
                    let placed = self.receiver.place(loan.space());
                    loan.filled(placed);
                    assert_eq!(self.receiver.finish_payload(), Ok(true));
                    self.session
                        .handle_placed(self.now, CID, &header, Some(loan));
                }
            }
        }
    }

    fn run(&mut self, cdb: Cdb, data: DataPhase) -> DataPhase {
        let command = Command {
            cdb,
            data,
            attribute: TaskAttribute::Simple,
            priority: 0,
            timeout: FOR_EVER,
            only_in: None,
        };
        let mut command = Some(command);
        let mut key = None;
        self.count(|this| {
            let command = command.take().unwrap();
            key = this.session.submit(this.now, Lun::ZERO, command).ok();
        });
        self.exchange();
        let mut completion = None;
        self.count(|this| {
            if let Poll::Ready(ready) = this.session.poll_task(key.unwrap(), Waker::noop()) {
                completion = Some(ready);
            }
            this.session.take_freed();
        });
        let completion = completion.expect("the target answers at once");
        let Outcome::Answered(answer) = completion.outcome else {
            panic!("{:?}", completion.outcome);
        };
        assert_eq!(
            (answer.status, answer.transferred),
            (Status::GOOD, IO_BYTES)
        );
        completion.data
    }
}

fn payload() -> Bytes {
    let payload = IoBuf::zeroed(IO_BYTES).freeze();
    // The first reference makes it shareable; applications write the same memory again and again.
    let _shared = payload.slice(..);
    payload
}

#[test]
fn the_session_core_allocates_nothing() {
    let mut pair = Pair::new();
    let mut data = DataPhase::Read(IoBuf::zeroed(IO_BYTES));
    let payload = payload();
    for round in 0..WARM_UP + MEASURED {
        if round == WARM_UP {
            pair.allocations = 0;
        }
        let lba = Lba(8 * round as u64 % 1000);
        let write = Cdb::write(lba, Blocks(BLOCKS), RwOptions::default());
        let _: DataPhase = pair.run(write, DataPhase::Write(payload.clone()));
        data = pair.run(Cdb::read(lba, Blocks(BLOCKS), RwOptions::default()), data);
    }
    assert_eq!(pair.allocations, 0, "in {MEASURED} reads and writes");
    assert_eq!(pair.target.violations(), []);
}

/// A target in a thread of its own, which counts for itself.
fn serve() -> (SocketAddr, std::sync::mpsc::Sender<()>) {
    let (say, address) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime
            .block_on(Server::start(Config::default(), &[any]))
            .unwrap();
        say.send(server.local_addrs()[0]).unwrap();
        // Ends when the test does.
        let _ = stopped.recv();
    });
    (address.recv().unwrap(), stop)
}

#[test]
fn multipath_over_a_socket_allocates_nothing() {
    let (address, _stop) = serve();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let unit = runtime.block_on(async {
        let session = SessionHandle::login(session_config(&address.to_string()))
            .await
            .unwrap();
        let path = PathSpec {
            nexus: session.nexus(Lun::ZERO),
            portal_group: None,
            label: String::new(),
            settings: PathSettings::default(),
        };
        let config = mpio::Config {
            probe_interval: FOR_EVER,
            probe_interval_max: FOR_EVER,
            ..mpio::Config::default()
        };
        let (unit, maintenance) = LogicalUnit::assemble(vec![path], config, TokioClock)
            .await
            .unwrap();
        tokio::spawn(maintenance);
        unit
    });
    let payload = payload();
    let mut bufs = [(); 4].map(|()| Some(IoBuf::zeroed(IO_BYTES)));
    let mut work = |rounds: usize| {
        runtime.block_on(async {
            for round in 0..rounds {
                let offset = (IO_BYTES * (round % 100)) as u64;
                unit.write_at(offset, payload.clone()).await.unwrap();
                // Several at once, so that batches are made as well.
                let mut read = |at: usize| unit.read_at(offset, bufs[at].take().unwrap());
                let done = tokio::join!(read(0), read(1), read(2), read(3));
                for (slot, (result, buf)) in bufs.iter_mut().zip([done.0, done.1, done.2, done.3]) {
                    result.unwrap();
                    assert_eq!(buf.len(), IO_BYTES);
                    *slot = Some(buf);
                }
            }
        });
    };
    work(WARM_UP);
    // Entering the runtime costs something by itself.
    let entry = measure(|| work(0)).count_total;
    let measured = measure(|| work(MEASURED)).count_total;
    assert_eq!(
        measured - entry,
        0,
        "in {MEASURED} writes and as many reads, four times"
    );
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![0_u8; 100])));
    assert_eq!(counted.count_total, 1);
}
