//! The session against a scripted target.
//!
//! [`Peer`] plays target and driver. Its PDUs are made and read byte by byte, after the figures of
//! RFC 7143 §11 and without the crate's own codec, so that a mistake in the codec shows.
//! Tests are named after the numbers of `docs/conformance.md` or after what they watch over.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::missing_panics_doc,
    reason = "a test may fail by panicking"
)]

mod arbitrary;
mod bidirectional;
mod commands;
mod ending;
mod erl1;
mod faults;
mod fence;
mod keepalive;
mod leaving;
mod management;
mod reads;
mod recovery;
mod several;
mod text;
mod writes;

use std::task::Waker;

use bytes::Bytes;
use scsi::{
    Blocks, Cdb, Certainty, Command, Completion, DataPhase, DeliveryErrorKind, IoBuf, Lba, Lun,
    Outcome, RwOptions, TaskAttribute,
};

use super::*;
use crate::wire::Response;
use crate::wire::receiver::{Received, Receiver};

/// One PDU as it travelled.
#[derive(Clone)]
pub(super) struct Pdu {
    pub(super) bhs: [u8; 48],
    pub(super) ahs: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl std::fmt::Debug for Pdu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?} + {} bytes", self.bhs, self.data.len())
    }
}

pub(super) const NOP_OUT: u8 = 0x00;
pub(super) const COMMAND: u8 = 0x01;
pub(super) const TASK_REQUEST: u8 = 0x02;
pub(super) const TEXT: u8 = 0x04;
pub(super) const DATA_OUT: u8 = 0x05;
pub(super) const LOGOUT: u8 = 0x06;

/// "No tag".
pub(super) const NONE: u32 = 0xffff_ffff;

impl Pdu {
    /// A PDU of the target: opcode and byte 1, everything else 0.
    pub(super) fn new(opcode: u8, flags: u8) -> Self {
        let mut bhs = [0; 48];
        bhs[0] = opcode;
        bhs[1] = flags;
        Self {
            bhs,
            ahs: Vec::new(),
            data: Vec::new(),
        }
    }

    pub(super) fn byte(mut self, at: usize, value: u8) -> Self {
        self.bhs[at] = value;
        self
    }

    pub(super) fn put(mut self, at: usize, value: u32) -> Self {
        self.bhs[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn with(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self.bhs[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        self
    }

    pub(super) fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    pub(super) fn is_immediate(&self) -> bool {
        self.bhs[0] & 0x40 != 0
    }

    pub(super) fn is_final(&self) -> bool {
        self.bhs[1] & 0x80 != 0
    }

    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bhs[at..at + 4].try_into().unwrap())
    }

    pub(super) fn lun(&self) -> [u8; 8] {
        self.bhs[8..16].try_into().unwrap()
    }

    pub(super) fn itt(&self) -> u32 {
        self.word(16)
    }

    pub(super) fn cmd_sn(&self) -> u32 {
        self.word(24)
    }

    pub(super) fn exp_stat_sn(&self) -> u32 {
        self.word(28)
    }
}

/// CRC32C bit by bit, as RFC 7143 §13.1 and RFC 3385 define it.
pub(super) fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    (!crc).to_le_bytes()
}

/// What the target answers in the operational stage.
pub(super) type Keys = Vec<(&'static str, String)>;

pub(super) fn keys(pairs: &[(&'static str, &str)]) -> Keys {
    let defaults = [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("MaxConnections", "1"),
        ("InitialR2T", "Yes"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", "8192"),
        ("MaxBurstLength", "16384"),
        ("FirstBurstLength", "8192"),
        ("DefaultTime2Wait", "0"),
        ("DefaultTime2Retain", "0"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "0"),
    ];
    defaults
        .into_iter()
        .map(|(key, value)| {
            let set = pairs.iter().find(|pair| pair.0 == key);
            (key, set.map_or(value, |pair| pair.1).to_owned())
        })
        .collect()
}

pub(super) fn config() -> SessionConfig {
    SessionConfig::new(
        "iqn.2024-01.test:initiator".parse().unwrap(),
        "iqn.2024-01.test:disk1".parse().unwrap(),
        "10.0.0.1:3260".parse().unwrap(),
        crate::name::Isid([0x80, 1, 2, 3, 0, 4]),
    )
}

/// Target and driver of one session.
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) out: Transmit,
    receiver: Receiver,
    pub(super) keys: Keys,
    pub(super) group: u16,
    /// The target's numbers.
    pub(super) stat_sn: u32,
    pub(super) exp_cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
    /// Width of the window after a login.
    pub(super) window: u32,
    /// Connects asked for and not answered.
    pub(super) dialling: Option<(Cid, Portal)>,
    pub(super) dialled: Vec<Portal>,
    /// The cid in use, and how the last ones were closed (`true`: abortively).
    pub(super) cid: Cid,
    pub(super) closed: Vec<bool>,
    /// Bytes that the network takes; the rest stays with us.
    pub(super) takes: usize,
    digests: (bool, bool),
    placing: Option<(crate::wire::DataIn, Option<Loan>)>,
    /// Sent, and not yet looked at.
    stream: Vec<u8>,
    /// The LUN field of each command, by its tag.
    luns: std::collections::BTreeMap<u32, [u8; 8]>,
}

impl Peer {
    pub(super) fn new(config: SessionConfig) -> Self {
        Self::seeded(config, 0x11)
    }

    /// Tags and numbers begin at four times and twice `seed`.
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    pub(super) fn seeded(config: SessionConfig, seed: u8) -> Self {
        let now = Instant::now();
        let mut peer = Self {
            session: Session::new(now, config, Box::new(move |bytes| bytes.fill(seed))),
            now,
            out: Transmit::new(),
            receiver: Receiver::new(4096, 8192),
            keys: keys(&[]),
            group: 1,
            stat_sn: 0x1000,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            window: 64,
            dialling: None,
            dialled: Vec::new(),
            cid: Cid(0),
            closed: Vec::new(),
            takes: usize::MAX,
            digests: (false, false),
            placing: None,
            stream: Vec::new(),
            luns: std::collections::BTreeMap::new(),
        };
        peer.wait(Duration::ZERO);
        peer
    }

    /// Logged in, with the target's answers.
    pub(super) fn up(config: SessionConfig, answers: Keys) -> Self {
        let mut peer = Self::new(config);
        peer.keys = answers;
        peer.login();
        peer
    }

    /// Logged in with RFC-like defaults.
    pub(super) fn ready() -> Self {
        Self::up(config(), keys(&[]))
    }

    /// Does what the session asks, as a driver does.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect { cid, portal, .. } => {
                    self.dialled.push(portal.clone());
                    self.dialling = Some((cid, portal));
                }
                Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                } => {
                    self.digests = (header_digest, data_digest);
                    self.receiver
                        .set_params(header_digest, data_digest, max_recv_bytes);
                }
                Action::Close { cid, abort } => {
                    self.closed.push(abort);
                    self.dialling = None;
                    if let Some((_, Some(loan))) = self.placing.take() {
                        self.session.take_back(loan);
                    }
                    let written = self.out.written();
                    self.out.reset();
                    self.stream.clear();
                    self.session.handle_closed(self.now, cid, written);
                }
            }
        }
    }

    /// Time passes; whatever is due in between is done when it is due.
    pub(super) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut turns = 0;
        loop {
            self.act();
            self.pump();
            let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            turns += 1;
            assert!(turns < 10_000, "the timer spins");
        }
        self.now = until;
        self.act();
    }

    /// Moves what is to be sent into the network, as far as that takes it.
    pub(super) fn pump(&mut self) {
        loop {
            if self.out.is_empty() {
                self.session
                    .poll_transmit(self.now, self.cid, &mut self.out);
                self.out.seal();
            }
            let mut slices = smallvec::SmallVec::new();
            self.out.slices(&mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            drop(slices);
            let taken = bytes.len().min(self.takes);
            self.stream.extend_from_slice(&bytes[..taken]);
            self.out.advance(taken);
            self.takes = self.takes.saturating_sub(taken);
            if taken == 0 {
                return;
            }
        }
    }

    /// Everything the initiator has sent since the last look.
    pub(super) fn sent(&mut self) -> Vec<Pdu> {
        self.act();
        self.pump();
        let mut pdus = Vec::new();
        while let Some(pdu) = self.next_sent() {
            pdus.push(pdu);
        }
        pdus
    }

    /// Takes a whole PDU out of the stream; a part of one stays.
    fn next_sent(&mut self) -> Option<Pdu> {
        let head: [u8; 48] = *self.stream.first_chunk()?;
        let digest = |on: bool| if on { 4 } else { 0 };
        let header = 48 + usize::from(head[4]) * 4;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let data_at = header + digest(self.digests.0);
        let data_end = data_at + length.next_multiple_of(4);
        let end = data_end + digest(self.digests.1 && length > 0);
        if self.stream.len() < end {
            return None;
        }
        let bytes: Vec<u8> = self.stream.drain(..end).collect();
        if self.digests.0 {
            assert_eq!(bytes[header..data_at], crc32c(&bytes[..header]));
        }
        if self.digests.1 && length > 0 {
            assert_eq!(bytes[data_end..], crc32c(&bytes[data_at..data_end]));
        }
        let pdu = Pdu {
            bhs: head,
            ahs: bytes[48..header].to_vec(),
            data: bytes[data_at..data_at + length].to_vec(),
        };
        if pdu.opcode() == COMMAND {
            self.luns.insert(pdu.itt(), pdu.lun());
        }
        Some(pdu)
    }

    /// The only PDU sent since the last look.
    pub(super) fn one(&mut self) -> Pdu {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.into_iter().next().unwrap()
    }

    pub(super) fn silent(&mut self) {
        let sent = self.sent();
        assert!(sent.is_empty(), "{sent:?}");
    }

    /// The TCP connection opens.
    pub(super) fn connected(&mut self) {
        self.act();
        let (cid, _) = self.dialling.take().expect("a connection is asked for");
        self.cid = cid;
        self.digests = (false, false);
        self.out.reset();
        self.receiver.reset(8192);
        self.stream.clear();
        self.session.handle_connected(self.now, cid);
    }

    pub(super) fn refuse(&mut self) {
        self.act();
        let (cid, _) = self.dialling.take().expect("a connection is asked for");
        self.session
            .handle_connect_failed(self.now, cid, "refused".into());
        self.act();
    }

    /// Connects and logs in.
    pub(super) fn login(&mut self) {
        self.connected();
        for _ in 0..2 {
            let request = self.one();
            let answer = self.login_answer(&request);
            self.reply(&[answer]);
        }
        self.act();
        assert!(self.session.snapshot().phase.starts_with("logg"));
    }

    /// Agrees to a Login Request.
    pub(super) fn login_answer(&mut self, request: &Pdu) -> Pdu {
        assert_eq!(request.bhs[0], 0x43, "an immediate Login Request");
        let operational = request.bhs[1] >> 2 & 3 == 1;
        let text: String = if operational {
            let pairs = self.keys.iter();
            pairs
                .map(|(key, value)| format!("{key}={value}\0"))
                .collect()
        } else {
            format!("TargetPortalGroupTag={}\0AuthMethod=None\0", self.group)
        };
        self.exp_cmd_sn = request.cmd_sn();
        self.max_cmd_sn = self.exp_cmd_sn.wrapping_add(self.window).wrapping_sub(1);
        let mut answer = Pdu::new(0x23, request.bhs[1]);
        answer.bhs[8..14].copy_from_slice(&request.bhs[8..14]);
        answer.bhs[15] = if operational { 0x77 } else { 0 };
        let answer = answer.put(16, request.itt()).with(text.as_bytes());
        self.status(answer)
    }

    /// Gives a PDU the window.
    pub(super) fn windowed(&self, pdu: Pdu) -> Pdu {
        pdu.put(28, self.exp_cmd_sn).put(32, self.max_cmd_sn)
    }

    /// Gives a PDU the next StatSN and the window.
    pub(super) fn status(&mut self, pdu: Pdu) -> Pdu {
        let pdu = self.windowed(pdu).put(24, self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        pdu
    }

    /// A SCSI Response.
    pub(super) fn answer(&mut self, itt: u32, status: u8) -> Pdu {
        self.status(Pdu::new(0x21, 0x80).byte(3, status).put(16, itt))
    }

    /// A Data-In without status.
    pub(super) fn data_in(&self, itt: u32, sn: u32, offset: u32, data: &[u8]) -> Pdu {
        let pdu = Pdu::new(0x25, 0).put(16, itt).put(20, NONE);
        self.windowed(pdu.put(36, sn).put(40, offset).with(data))
    }

    /// Gives a Data-In F, S and GOOD.
    pub(super) fn last(&mut self, pdu: Pdu) -> Pdu {
        let pdu = pdu.byte(1, 0x81);
        self.status(pdu)
    }

    pub(super) fn r2t(&self, itt: u32, ttt: u32, sn: u32, offset: u32, bytes: u32) -> Pdu {
        let pdu = Pdu::new(0x31, 0x80).put(16, itt).put(20, ttt);
        let mut pdu = pdu.put(36, sn).put(40, offset).put(44, bytes);
        if let Some(lun) = self.luns.get(&itt) {
            pdu.bhs[8..16].copy_from_slice(lun);
        }
        self.windowed(pdu).put(24, self.stat_sn)
    }

    pub(super) fn task_answer(&mut self, itt: u32, response: u8) -> Pdu {
        self.status(Pdu::new(0x22, 0x80).byte(2, response).put(16, itt))
    }

    pub(super) fn async_message(&mut self, event: u8, parameters: [u16; 3]) -> Pdu {
        let mut pdu = Pdu::new(0x32, 0x80).put(16, NONE).byte(36, event);
        for (at, value) in [38, 40, 42].into_iter().zip(parameters) {
            pdu.bhs[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        self.status(pdu)
    }

    /// The target sends `pdus`, with the digests in force.
    pub(super) fn reply(&mut self, pdus: &[Pdu]) {
        let mut bytes = Vec::new();
        for pdu in pdus {
            bytes.extend_from_slice(&pdu.bhs);
            if self.digests.0 {
                bytes.extend_from_slice(&crc32c(&pdu.bhs));
            }
            let mut data = pdu.data.clone();
            data.resize(data.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(&data);
            if self.digests.1 && !data.is_empty() {
                bytes.extend_from_slice(&crc32c(&data));
            }
        }
        self.receive(&bytes);
    }

    /// Bytes come in, as a driver takes them.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        loop {
            self.act();
            let phase = &self.session.phase;
            if !self.session.is_connected() && !matches!(phase, Phase::LoggingIn { .. }) {
                // Nobody reads any more.
                return;
            }
            if self.take() {
                continue;
            }
            if bytes.is_empty() {
                return;
            }
            let space = self.receiver.space();
            let taken = bytes.len().min(space.len());
            space[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.receiver.filled(taken);
        }
    }

    /// Takes a PDU, or goes on with a payload; `false` when more bytes are needed.
    fn take(&mut self) -> bool {
        let (now, cid, session) = (self.now, self.cid, &mut self.session);
        if let Some((header, mut loan)) = self.placing.take() {
            if let Some(loan) = &mut loan {
                let placed = self.receiver.place(loan.space());
                loan.filled(placed);
            } else {
                self.receiver.skip();
            }
            match self.receiver.finish_payload() {
                Ok(true) => session.handle_placed(now, cid, &header, loan),
                Err(_) => {
                    let pdu = Response::DataIn(header);
                    session.handle_damaged(now, cid, &pdu, loan);
                }
                Ok(false) => {
                    self.placing = Some((header, loan));
                    return false;
                }
            }
            return true;
        }
        match self.receiver.take_pdu() {
            Ok(Received::Incomplete) => return false,
            Ok(Received::Pdu { header, data }) => session.handle_pdu(now, cid, &header, data),
            Ok(Received::Damaged { header }) => session.handle_damaged(now, cid, &header, None),
            Ok(Received::DataIn { header, bytes }) => {
                let loan = match session.handle_data_in(now, cid, &header, bytes) {
                    Placement::Into(loan) => Some(loan),
                    Placement::Nothing | Placement::Discard => None,
                };
                self.placing = Some((header, loan));
            }
            Err(error) => session.handle_frame_error(now, cid, error),
        }
        true
    }

    /// The network breaks.
    pub(super) fn cut(&mut self) {
        self.session
            .handle_lost(self.now, self.cid, Some("cut".into()));
        self.act();
    }

    pub(super) fn submit(&mut self, lun: u16, command: Command) -> TaskKey {
        self.session
            .submit(self.now, Lun::from_number(lun), command)
            .unwrap()
    }

    pub(super) fn read(&mut self, bytes: usize) -> TaskKey {
        self.submit(0, read(bytes))
    }

    pub(super) fn write(&mut self, data: &[u8]) -> TaskKey {
        self.submit(0, write(data))
    }

    pub(super) fn done(&mut self, key: TaskKey) -> Option<Completion> {
        match self.session.poll_task(key, Waker::noop()) {
            std::task::Poll::Ready(completion) => Some(completion),
            std::task::Poll::Pending => None,
        }
    }

    /// The completion of a command that has ended.
    pub(super) fn ended(&mut self, key: TaskKey) -> Completion {
        self.done(key).expect("the command has ended")
    }

    /// The status of a command that was answered.
    pub(super) fn answered(&mut self, key: TaskKey) -> scsi::ScsiAnswer {
        match self.ended(key).outcome {
            Outcome::Answered(answer) => answer,
            Outcome::Failed(error) => panic!("{error}"),
        }
    }

    /// Picks up a command that must have ended with GOOD.
    pub(super) fn good(&mut self, key: TaskKey) {
        assert_eq!(self.answered(key).status, scsi::Status::GOOD);
    }

    pub(super) fn failed(&mut self, key: TaskKey) -> (DeliveryErrorKind, Certainty) {
        match self.ended(key).outcome {
            Outcome::Answered(answer) => panic!("{answer:?}"),
            Outcome::Failed(error) => (error.kind, error.certainty),
        }
    }

    /// Why the connection was lost last; `None` while it is up.
    pub(super) fn loss(&mut self) -> Option<LossReason> {
        self.act();
        let mut last = None;
        while let Some(event) = self.session.poll_event() {
            if let Event::Lost { reason, .. } = event {
                last = Some(reason);
            }
        }
        last
    }

    pub(super) fn assert_up(&mut self) {
        self.act();
        assert_eq!(self.loss(), None);
        assert_eq!(self.session.snapshot().phase, "logged in");
    }

    /// Nothing of the session's is left behind.
    pub(super) fn assert_clean(&self) {
        assert_eq!(self.session.in_flight(), 0);
        assert_eq!(self.session.unsettled(), 0);
        assert_eq!(self.session.tasks.len(), 0);
        assert!(self.session.pending.is_empty());
    }
}

pub(super) fn command(cdb: Cdb, data: DataPhase) -> Command {
    Command {
        cdb,
        data,
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: Duration::from_secs(30),
        only_in: None,
    }
}

pub(super) fn read(bytes: usize) -> Command {
    let blocks = Blocks((bytes / 512) as u32);
    let cdb = Cdb::read(Lba(0), blocks, RwOptions::default());
    command(cdb, DataPhase::Read(IoBuf::zeroed(bytes)))
}

pub(super) fn write(data: &[u8]) -> Command {
    let blocks = Blocks((data.len() / 512) as u32);
    let cdb = Cdb::write(Lba(0), blocks, RwOptions::default());
    command(cdb, DataPhase::Write(Bytes::copy_from_slice(data)))
}

pub(super) fn test_unit_ready() -> Command {
    command(Cdb::test_unit_ready(), DataPhase::None)
}

/// `bytes` bytes that differ from their neighbours.
pub(super) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// What a completed read holds.
pub(super) fn contents(completion: Completion) -> Vec<u8> {
    match completion.data {
        DataPhase::Read(buf) => buf.as_slice().to_vec(),
        other => panic!("{other:?}"),
    }
}
