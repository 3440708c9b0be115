//! ErrorRecoveryLevel 1 against the target of `tests/target`: PDUs are lost, doubled, delayed and
//! damaged in both directions under a load that checks every byte. No connection is lost, no
//! command fails, nothing is executed twice, and the target's judge finds nothing to complain of.
//!
//! One thread, one made-up clock, and a seed that repeats a run.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

use std::io::IoSlice;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use iscsi::name::{Cid, Isid};
use iscsi::session::{Action, Loan, Placement, Session, SessionConfig, SessionStats, TaskKey};
use iscsi::wire::receiver::{Received, Receiver};
use iscsi::wire::transmit::{MAX_SLICES, Transmit};
use iscsi::wire::{DataIn, Response};
use scsi::{
    Blocks, Bytes, Cdb, Command, DataPhase, IoBuf, Lba, Lun, Outcome, RwOptions, Status,
    TaskAttribute,
};
use smallvec::SmallVec;
use test_target::{
    Config, ConnectionId, Count, IncomingEffect, IncomingFault, PduEffect, PduFault, PduFilter,
    Recovery, Target, opcode,
};

const BLOCK: usize = 512;
/// Blocks of the disk that belong to one worker.
const REGION: usize = 256;
const WORKERS: usize = 12;

/// A session and a target, hand to hand.
struct Rig {
    now: Instant,
    random: fastrand::Rng,
    session: Session,
    cid: Cid,
    receiver: Receiver,
    transmit: Transmit,
    placing: Option<(DataIn, Option<Loan>)>,
    target: Target,
    connection: Option<ConnectionId>,
    /// PDUs in either direction until the next fault, on average.
    fault_every: u32,
    faults: usize,
}

/// One that writes and reads its own part of the disk, one I/O at a time.
struct Worker {
    at: usize,
    contents: Vec<u8>,
    running: Option<(TaskKey, std::ops::Range<usize>)>,
    done: usize,
}

fn offer(config: &mut SessionConfig, keys: &[(&str, &str)]) {
    let level_1 = [
        ("ErrorRecoveryLevel", "1"),
        ("HeaderDigest", "CRC32C"),
        ("DataDigest", "CRC32C"),
        ("MaxRecvDataSegmentLength", "4096"),
        ("MaxBurstLength", "32768"),
        ("FirstBurstLength", "16384"),
    ];
    for (key, value) in level_1.iter().chain(keys) {
        config.offer.set(key, value).unwrap();
    }
}

fn target_config(seed: u64) -> Config {
    let mut config = Config {
        seed,
        data_ack: true,
        sequence_timeout: Some(Duration::from_millis(700)),
        execution_delay: Duration::from_millis(2),
        ..Config::default()
    };
    config.keys.error_recovery_level = 1;
    config.keys.header_digest = vec!["CRC32C".to_owned(), "None".to_owned()];
    config.keys.data_digest = vec!["CRC32C".to_owned(), "None".to_owned()];
    config.keys.max_recv_data_segment_bytes = 4096;
    config
}

impl Rig {
    fn new(seed: u64, keys: &[(&str, &str)], target: Config) -> Self {
        let now = world::clock::base();
        let mut config = SessionConfig::new(
            "iqn.2026-01.org.example:careful".parse().unwrap(),
            target.target_name.parse().unwrap(),
            "127.0.0.1:3260".parse().unwrap(),
            Isid::random(1, 1),
        );
        offer(&mut config, keys);
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(0xff));
        let mut this = Self {
            now,
            random: fastrand::Rng::with_seed(seed),
            session: Session::new(now, config, entropy),
            cid: Cid(0),
            receiver: Receiver::new(64 * 1024, 8192),
            transmit: Transmit::new(),
            placing: None,
            target: Target::new(target),
            connection: None,
            fault_every: 0,
            faults: 0,
        };
        this.session.handle_timeout(now);
        while !matches!(this.session.state(), scsi::NexusState::Up(_)) {
            this.step();
        }
        this
    }

    /// Everything that can happen now; then time passes until something can.
    fn step(&mut self) {
        let mut moved = self.act();
        moved |= self.send();
        moved |= self.receive();
        if moved {
            return;
        }
        let next = [self.session.poll_timeout(), self.target.poll_timeout()];
        let next = next
            .into_iter()
            .flatten()
            .min()
            .expect("something to wait for");
        self.now = self.now.max(next);
        self.session.handle_timeout(self.now);
        self.target.handle_timeout(self.now);
    }

    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.session.poll_action() {
            acted = true;
            match action {
                Action::Connect { cid, .. } => {
                    self.cid = cid;
                    self.connection = Some(self.target.connect(self.now, 0));
                    self.session.handle_connected(self.now, cid);
                }
                Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                } => self
                    .receiver
                    .set_params(header_digest, data_digest, max_recv_bytes),
                Action::Close { .. } => {
                    let events: Vec<_> = std::iter::from_fn(|| self.session.poll_event()).collect();
                    panic!("the connection was lost: {events:?}");
                }
            }
        }
        acted
    }

    fn send(&mut self) -> bool {
        let connection = self.connection.unwrap();
        let mut sent = false;
        while self.session.wants_transmit(self.cid) {
            self.session
                .poll_transmit(self.now, self.cid, &mut self.transmit);
            self.transmit.seal();
            if self.transmit.is_empty() {
                break;
            }
            sent = true;
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
                self.transmit.advance(bytes.len());
                self.put_in_faults();
            }
        }
        sent
    }

    fn receive(&mut self) -> bool {
        let mut answer = Vec::new();
        let limit = self.random.usize(100..20_000);
        self.target
            .transmit(self.connection.unwrap(), &mut answer, limit);
        let received = !answer.is_empty();
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let space = self.receiver.space();
            let bytes = space.len().min(rest.len());
            space[..bytes].copy_from_slice(&rest[..bytes]);
            rest = &rest[bytes..];
            self.receiver.filled(bytes);
            while self.take() {
                self.act();
            }
        }
        received
    }

    /// Takes a PDU, or goes on with a payload.
    fn take(&mut self) -> bool {
        let (now, cid) = (self.now, self.cid);
        if let Some((pdu, mut loan)) = self.placing.take() {
            match &mut loan {
                Some(loan) => {
                    let placed = self.receiver.place(loan.space());
                    loan.filled(placed);
                }
                None => {
                    self.receiver.skip();
                }
            }
            match self.receiver.finish_payload() {
                Ok(true) => self.session.handle_placed(now, cid, &pdu, loan),
                Ok(false) => {
                    self.placing = Some((pdu, loan));
                    return false;
                }
                Err(_) => {
                    let pdu = Response::DataIn(pdu);
                    self.session.handle_damaged(now, cid, &pdu, loan);
                }
            }
            return true;
        }
        match self.receiver.take_pdu().unwrap() {
            Received::Incomplete => return false,
            Received::Damaged { header } => self.session.handle_damaged(now, cid, &header, None),
            Received::Pdu { header, data } => self.session.handle_pdu(now, cid, &header, data),
            Received::DataIn { header, bytes } => {
                let loan = match self.session.handle_data_in(now, cid, &header, bytes) {
                    Placement::Into(loan) => Some(loan),
                    Placement::Nothing | Placement::Discard => None,
                };
                self.placing = Some((header, loan));
            }
        }
        true
    }

    /// Now and then something goes wrong with one of the next PDUs.
    fn put_in_faults(&mut self) {
        if self.fault_every == 0 || self.random.u32(..self.fault_every) > 0 {
            return;
        }
        self.faults += 1;
        let count = Count {
            skip: self.random.u32(..8),
            times: 1,
        };
        if self.random.u8(..3) == 0 {
            let effect = match self.random.u8(..2) {
                0 => IncomingEffect::Drop,
                _ => IncomingEffect::DataDigest,
            };
            let wanted = [opcode::SCSI_COMMAND, opcode::DATA_OUT];
            let filter = PduFilter {
                opcode: Some(wanted[self.random.usize(..2)]),
                ..PduFilter::default()
            };
            return self.target.fault_incoming(IncomingFault {
                filter,
                count,
                effect,
            });
        }
        let effect = match self.random.u8(..5) {
            0 => PduEffect::Drop,
            1 => PduEffect::Duplicate,
            2 => PduEffect::FlipData,
            3 => PduEffect::FlipDataDigest,
            _ => PduEffect::Delay(self.random.u32(1..5)),
        };
        let wanted = [
            opcode::DATA_IN,
            opcode::SCSI_RESPONSE,
            opcode::R2T,
            opcode::NOP_IN,
            opcode::DATA_IN,
        ];
        let filter = PduFilter {
            opcode: Some(wanted[self.random.usize(..5)]),
            ..PduFilter::default()
        };
        self.target.fault_pdu(PduFault {
            filter,
            count,
            effect,
        });
    }

    /// Starts the worker's next I/O, or looks whether the last one has ended.
    fn work(&mut self, worker: &mut Worker, ios: usize) {
        if let Some((key, range)) = worker.running.clone() {
            let Poll::Ready(completion) = self.session.poll_task(key, Waker::noop()) else {
                return;
            };
            self.session.take_freed();
            worker.running = None;
            worker.done += 1;
            match completion.outcome {
                Outcome::Answered(answer) => {
                    let sense = answer.sense;
                    assert_eq!(answer.status, Status::GOOD, "{sense:02x?}");
                    assert_eq!(answer.transferred, range.len());
                }
                Outcome::Failed(error) => panic!("{error}"),
            }
            if let DataPhase::Read(buf) = completion.data {
                let right = buf.as_slice() == &worker.contents[range.clone()];
                assert!(right, "bytes {range:?} of worker at block {}", worker.at);
            }
        }
        if worker.done >= ios {
            return;
        }
        let blocks = self.random.usize(1..=REGION / 2);
        let from = self.random.usize(..=REGION - blocks);
        let range = from * BLOCK..(from + blocks) * BLOCK;
        let (lba, blocks) = (Lba((worker.at + from) as u64), Blocks(blocks as u32));
        let (cdb, data) = if self.random.bool() {
            self.random.fill(&mut worker.contents[range.clone()]);
            let data = Bytes::copy_from_slice(&worker.contents[range.clone()]);
            let cdb = Cdb::write(lba, blocks, RwOptions::default());
            (cdb, DataPhase::Write(data))
        } else {
            let cdb = Cdb::read(lba, blocks, RwOptions::default());
            (cdb, DataPhase::Read(IoBuf::zeroed(range.len())))
        };
        let command = Command {
            cdb,
            data,
            attribute: TaskAttribute::Simple,
            priority: 0,
            timeout: Duration::from_secs(60),
            only_in: None,
        };
        let key = self.session.submit(self.now, Lun::ZERO, command).unwrap();
        worker.running = Some((key, range));
    }

    /// Every worker does `ios` I/Os.
    fn run(&mut self, ios: usize) {
        let mut workers: Vec<Worker> = (0..WORKERS)
            .map(|worker| Worker {
                at: worker * REGION,
                contents: vec![0; REGION * BLOCK],
                running: None,
                done: 0,
            })
            .collect();
        let mut steps = 0;
        while workers.iter().any(|worker| worker.done < ios) {
            for worker in &mut workers {
                if worker.done < ios {
                    self.work(worker, ios);
                }
            }
            self.step();
            steps += 1;
            assert!(steps < 1_000_000, "no end: {:?}", self.session);
        }
        for violation in self.target.violations() {
            eprintln!("{violation}");
        }
        assert!(self.target.violations().is_empty());
        for worker in workers {
            let disk = self.target.disk(0).unwrap();
            assert!(disk.read(worker.at as u64, REGION as u32) == worker.contents);
        }
    }

    fn stats(&self) -> (SessionStats, Recovery) {
        (self.session.snapshot().stats, self.target.recovery())
    }
}

#[test]
fn a_load_under_faults_loses_no_connection_and_no_byte() {
    let variants: [&[(&str, &str)]; 4] = [
        &[],
        &[("InitialR2T", "Yes"), ("ImmediateData", "No")],
        &[("InitialR2T", "No"), ("ImmediateData", "No")],
        &[
            ("DataPDUInOrder", "No"),
            ("DataSequenceInOrder", "No"),
            ("MaxOutstandingR2T", "4"),
        ],
    ];
    let mut total = SessionStats::default();
    for (seed, keys) in (1..).zip(variants.iter().cycle()).take(4) {
        let mut rig = Rig::new(seed, keys, target_config(seed));
        rig.fault_every = 6;
        rig.run(100);
        let (ours, theirs) = rig.stats();
        assert!(rig.faults > 20, "seed {seed}: {} faults", rig.faults);
        assert_eq!((ours.losses, ours.timeouts, ours.aborts), (0, 0, 0));
        assert_eq!(ours.data_acks, theirs.data_acks, "seed {seed}");
        total.data_snacks += ours.data_snacks;
        total.status_snacks += ours.status_snacks;
        total.data_acks += ours.data_acks;
        total.retried += ours.retried;
        total.duplicates += ours.duplicates;
        total.recovered += ours.recovered;
        total.digest_errors += ours.digest_errors;
        total.rejects += ours.rejects;
    }
    for (what, count) in [
        ("data SNACKs", total.data_snacks),
        ("status SNACKs", total.status_snacks),
        ("DataACKs", total.data_acks),
        ("retries", total.retried),
        ("duplicates", total.duplicates),
        ("recovered", total.recovered),
        ("digest errors", total.digest_errors),
        ("rejects", total.rejects),
    ] {
        assert!(count > 0, "no {what}: {total:?}");
    }
}

#[test]
fn without_faults_nothing_is_asked_for_again() {
    let mut rig = Rig::new(9, &[], target_config(9));
    rig.run(50);
    let (ours, theirs) = rig.stats();
    assert_eq!(
        (ours.data_snacks, ours.status_snacks, ours.retried),
        (0, 0, 0)
    );
    assert_eq!((ours.duplicates, ours.rejects), (0, 0));
    assert!(theirs.data_acks > 0);
}
