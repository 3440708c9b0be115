//! A session and a target, hand to hand: no network, no time, no tasks, so that what our side
//! costs can be measured to the instruction.
//!
//! A [`Gauge`] sees exactly the work of our side, the same calls in the same order as the driver
//! makes them (`iscsi::net`); what the target and the transport do in between is not ours.

#![allow(
    clippy::expect_used,
    reason = "test code: what cannot be set up is a failed run"
)]

use std::io::IoSlice;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use iscsi::name::{Cid, Isid};
use iscsi::session::{Action, Loan, Placement, Session, SessionConfig, TaskKey};
use iscsi::wire::DataIn;
use iscsi::wire::receiver::{Received, Receiver};
use iscsi::wire::transmit::{MAX_SLICES, Transmit};
use scsi::{
    Blocks, Cdb, Command, DataPhase, Lba, Lun, NexusState, Outcome, RwOptions, Status,
    TaskAttribute,
};
use smallvec::SmallVec;
use test_target::{Config, ConnectionId, Target};

/// Size of a block of the target's unit.
pub const BLOCK_BYTES: usize = 512;

/// Nothing of the kind is due while something is measured.
pub const FOR_EVER: Duration = Duration::from_secs(100_000);

/// The limit on a data segment during login (RFC 7143 §13.12).
const LOGIN_DATA_BYTES: u32 = 8192;

/// More than a login sends.
const LOGIN_BYTES: usize = 4096;

/// As much as the driver reads at once.
const STAGING_BYTES: usize = 256 * 1024;

/// Measures the work of our side in some way.
pub trait Gauge {
    /// Does `work`, which is ours.
    fn ours(&mut self, work: &mut dyn FnMut());
}

/// Our side.
struct Ours {
    now: Instant,
    session: Session,
    ends: Vec<End>,
}

/// Our end of a connection.
struct End {
    cid: Cid,
    connection: ConnectionId,
    receiver: Receiver,
    transmit: Transmit,
    /// Bytes sent.
    carried: usize,
    /// The Data-In whose payload is going by.
    placing: Option<(DataIn, Loan)>,
}

/// Both sides.
pub struct Pair<G> {
    ours: Ours,
    target: Target,
    /// What was measured.
    pub gauge: G,
}

/// The usual configuration of a session with the target at `portal`; never pings.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn session_config(portal: &str) -> SessionConfig {
    let name = |text: &str| text.parse().expect("a name");
    let mut config = SessionConfig::new(
        name("iqn.2026-01.org.example:frugal"),
        name(&Config::default().target_name),
        portal.parse().expect("a portal"),
        Isid::random(1, 1),
    );
    config.keepalive.interval = FOR_EVER;
    config
}

/// The same with both digests.
///
/// # Panics
/// When the keys are none.
#[must_use]
pub fn with_digests(mut config: SessionConfig) -> SessionConfig {
    for key in ["HeaderDigest", "DataDigest"] {
        config.offer.set(key, "CRC32C").expect("a digest");
    }
    config
}

/// A target that keeps no journal, so that it can be used for long.
#[must_use]
pub fn target_config() -> Config {
    Config {
        queue_depth: 128,
        journal: false,
        ..Config::default()
    }
}

impl<G: Gauge> Pair<G> {
    /// Logs in.
    ///
    /// # Panics
    /// When the login fails.
    pub fn new(config: SessionConfig, target: Config, gauge: G) -> Self {
        let now = crate::clock::base();
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let mut this = Self {
            ours: Ours {
                now,
                session: Session::new(now, config, entropy),
                ends: Vec::new(),
            },
            target: Target::new(target),
            gauge,
        };
        this.count(|ours| ours.session.handle_timeout(ours.now));
        for _ in 0..100 {
            this.exchange();
            if matches!(this.ours.session.state(), NexusState::Up(_)) {
                return this;
            }
        }
        panic!("no login: {:?}", this.ours.session);
    }

    fn count(&mut self, mut work: impl FnMut(&mut Ours)) {
        let ours = &mut self.ours;
        self.gauge.ours(&mut || work(ours));
    }

    /// Goes to and fro until neither side has anything to say.
    ///
    /// # Panics
    /// When the connection is lost.
    pub fn exchange(&mut self) {
        loop {
            self.connect();
            let mut moved = false;
            let ends = 0..self.ours.ends.len();
            // Everything is sent before the first answer, so that commands spread.
            while ends
                .clone()
                .fold(false, |sent, index| sent | self.send(index))
            {
                moved = true;
            }
            for index in ends {
                moved |= self.receive(index);
            }
            if !moved && !self.ours.session.has_actions() {
                return;
            }
        }
    }

    fn connect(&mut self) {
        while let Some(action) = self.ours.session.poll_action() {
            let Action::Connect { cid, .. } = action else {
                panic!("{action:?}");
            };
            let now = self.ours.now;
            self.ours.ends.push(End {
                cid,
                connection: self.target.connect(now, 0),
                receiver: Receiver::new(STAGING_BYTES, LOGIN_DATA_BYTES),
                transmit: Transmit::new(),
                carried: 0,
                placing: None,
            });
            self.count(|ours| ours.session.handle_connected(ours.now, cid));
        }
    }

    /// What the session has to say on a connection.
    fn send(&mut self, index: usize) -> bool {
        let mut moved = false;
        loop {
            self.count(|ours| ours.fill(index));
            let end = &mut self.ours.ends[index];
            if end.transmit.is_empty() {
                return moved;
            }
            moved = true;
            let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
            end.transmit.slices(&mut slices);
            let mut sent = 0;
            for slice in &slices {
                self.target.receive(self.ours.now, end.connection, slice);
                sent += slice.len();
            }
            drop(slices);
            end.carried += sent;
            self.count(|ours| ours.ends[index].transmit.advance(sent));
        }
    }

    /// What the target has to say on a connection.
    fn receive(&mut self, index: usize) -> bool {
        let mut answer = Vec::new();
        let connection = self.ours.ends[index].connection;
        self.target.transmit(connection, &mut answer, usize::MAX);
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            self.count(|ours| {
                ours.ends[index].receiver.space();
            });
            // The kernel's part: it copies into what we have offered.
            let space = self.ours.ends[index].receiver.space();
            let taken = space.len().min(rest.len());
            space[..taken].copy_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            self.count(|ours| {
                ours.ends[index].receiver.filled(taken);
                ours.take_pdus(index);
            });
        }
        !answer.is_empty()
    }

    /// Runs commands that are all under way at once; gives their data back in the same order.
    ///
    /// # Panics
    /// When one does not end with GOOD and all of its bytes.
    pub fn run(&mut self, commands: impl IntoIterator<Item = (Cdb, DataPhase)>) -> Vec<DataPhase> {
        let mut commands: Vec<_> = commands
            .into_iter()
            .map(|(cdb, data)| {
                (
                    data.len(),
                    Some(Command {
                        cdb,
                        data,
                        attribute: TaskAttribute::Simple,
                        priority: 0,
                        timeout: FOR_EVER,
                        only_in: None,
                    }),
                )
            })
            .collect();
        let mut keys: Vec<TaskKey> = Vec::with_capacity(commands.len());
        let mut completions = Vec::with_capacity(commands.len());
        for (_, command) in &mut commands {
            self.count(|ours| {
                if let Some(command) = command.take() {
                    keys.extend(ours.session.submit(ours.now, Lun::ZERO, command));
                }
            });
        }
        self.exchange();
        for key in keys {
            self.count(|ours| {
                if let Poll::Ready(ready) = ours.session.poll_task(key, Waker::noop()) {
                    completions.push(ready);
                }
                ours.session.take_freed();
            });
        }
        assert_eq!(
            completions.len(),
            commands.len(),
            "all are answered at once"
        );
        let ends = completions.into_iter().zip(commands);
        ends.map(|(completion, (bytes, _))| {
            let Outcome::Answered(answer) = completion.outcome else {
                panic!("{:?}", completion.outcome);
            };
            assert_eq!((answer.status, answer.transferred), (Status::GOOD, bytes));
            completion.data
        })
        .collect()
    }

    /// Connections that have carried commands.
    #[must_use]
    pub fn connections(&self) -> usize {
        let ends = self.ours.ends.iter();
        ends.filter(|end| end.carried > LOGIN_BYTES).count()
    }

    /// Rules that the target saw broken.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let violations = self.target.violations().iter();
        violations.map(ToString::to_string).collect()
    }
}

impl Ours {
    fn fill(&mut self, index: usize) {
        let End { cid, transmit, .. } = &mut self.ends[index];
        if transmit.is_empty() && self.session.wants_transmit(*cid) {
            self.session.poll_transmit(self.now, *cid, transmit);
            transmit.seal();
        }
    }

    fn take_pdus(&mut self, index: usize) {
        let (now, session) = (self.now, &mut self.session);
        let end = &mut self.ends[index];
        session.handle_heard(now, end.cid);
        loop {
            if let Some((header, mut loan)) = end.placing.take() {
                let bytes = end.receiver.place(loan.space());
                loan.filled(bytes);
                if !end.receiver.finish_payload().expect("right digests") {
                    end.placing = Some((header, loan));
                    return;
                }
                session.handle_placed(now, end.cid, &header, Some(loan));
            }
            if session.has_actions()
                && let Some(Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                }) = session.poll_logged_in(end.cid)
            {
                end.receiver
                    .set_params(header_digest, data_digest, max_recv_bytes);
            }
            match end.receiver.take_pdu().expect("right headers") {
                Received::Incomplete => return,
                Received::Pdu { header, data } => session.handle_pdu(now, end.cid, &header, data),
                Received::Damaged { header } => panic!("damaged: {header:?}"),
                Received::DataIn { header, bytes } => {
                    let placement = session.handle_data_in(now, end.cid, &header, bytes);
                    let Placement::Into(loan) = placement else {
                        panic!("nowhere to put the data");
                    };
                    end.placing = Some((header, loan));
                }
            }
        }
    }
}

/// READ of `bytes` at block `lba`.
#[must_use]
pub fn read(lba: u64, bytes: usize) -> Cdb {
    Cdb::read(Lba(lba), blocks(bytes), RwOptions::default())
}

/// WRITE of `bytes` at block `lba`.
#[must_use]
pub fn write(lba: u64, bytes: usize) -> Cdb {
    Cdb::write(Lba(lba), blocks(bytes), RwOptions::default())
}

fn blocks(bytes: usize) -> Blocks {
    Blocks((bytes / BLOCK_BYTES) as u32)
}
