//! A session and a target, hand to hand: one thread, a clock that moves when it is told to, and
//! every byte under the test's control.
//!
//! Where [`crate::World`] simulates a network with its delays, a [`Rig`] has none: what one side
//! says the other hears when the test says so, as much of it as the test says. That is what
//! conformance tests and the fuzzing of operations want: the state before a step is known.
//!
//! It drives the session as `iscsi::net` does, including the report of how many bytes were written
//! when a connection is closed. What travelled is in the target's own record
//! ([`Target::wire_log`]), which no code of the initiator has touched.

#![allow(
    clippy::expect_used,
    reason = "test code: what cannot be set up is a failed run"
)]

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use iscsi::name::{Cid, Isid, Portal};
use iscsi::session::{Action, Event, Loan, Placement, Session, SessionConfig, TaskKey};
use iscsi::wire::receiver::{Received, Receiver};
use iscsi::wire::transmit::{MAX_SLICES, Transmit};
use iscsi::wire::{DataIn, Response};
use scsi::{Command, Completion, Lun, NexusState};
use smallvec::SmallVec;
use test_target::{Config, ConnectionId, Direction, Target, WireRecord};

/// The limit on a data segment during login (RFC 7143 §13.12).
const LOGIN_DATA_BYTES: u32 = 8192;
const STAGING_BYTES: usize = 64 * 1024;
/// Events kept; the oldest go first.
const EVENTS_MAX: usize = 256;
/// Turns without the passing of time, after which something spins.
const TURNS_MAX: usize = 100_000;

/// Both sides.
pub struct Rig {
    /// The present.
    pub now: Instant,
    /// Our side.
    pub session: Session,
    /// The other side.
    pub target: Target,
    /// Connections cannot be opened while it is set.
    pub refusing: bool,
    /// What the session said of itself, the newest.
    pub events: VecDeque<Event>,
    portals: Vec<Portal>,
    links: Vec<Link>,
}

/// One connection.
struct Link {
    cid: Cid,
    connection: ConnectionId,
    receiver: Receiver,
    transmit: Transmit,
    placing: Option<(DataIn, Option<Loan>)>,
    /// What the target has sent and the session has not heard.
    inbound: VecDeque<u8>,
    /// The target has closed its side; whether by a reset.
    ended: Option<bool>,
}

/// A configuration of a session with `target`.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn session_config(target: &Config) -> SessionConfig {
    let mut portals = portals(target).into_iter();
    let mut config = SessionConfig::new(
        "iqn.2026-01.org.example:rig".parse().expect("a name"),
        target.target_name.parse().expect("a name"),
        portals.next().expect("a portal"),
        Isid::random(1, 1),
    );
    config.group_portals = portals.collect();
    config
}

fn portals(target: &Config) -> Vec<Portal> {
    let addresses = target.portals.iter();
    addresses
        .map(|portal| portal.address.parse().expect("an address"))
        .collect()
}

impl Rig {
    /// Not connected yet. `entropy` is what all of our random bytes are.
    #[must_use]
    pub fn new(config: SessionConfig, target: Config, entropy: u8) -> Self {
        let now = crate::clock::base();
        let portals = portals(&target);
        let entropy = Box::new(move |bytes: &mut [u8]| bytes.fill(entropy));
        Self {
            now,
            session: Session::new(now, config, entropy),
            target: Target::new(target),
            refusing: false,
            events: VecDeque::new(),
            portals,
            links: Vec::new(),
        }
    }

    /// Logged in with as many connections as are wanted, and nothing under way.
    ///
    /// # Panics
    /// When the login fails.
    #[must_use]
    pub fn up(config: SessionConfig, target: Config) -> Self {
        let mut rig = Self::new(config, target, 0x11);
        rig.wait(Duration::ZERO);
        assert!(rig.is_up(), "no login: {:?}", rig.events);
        rig
    }

    /// Whether commands are carried.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.session.state(), NexusState::Up(_))
    }

    /// Connections that are open.
    #[must_use]
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// The connection of a link, on both sides.
    #[must_use]
    pub fn link(&self, index: usize) -> Option<(Cid, ConnectionId)> {
        let link = self.links.get(index)?;
        Some((link.cid, link.connection))
    }

    /// Does what the session asks; whether it asked for anything.
    pub fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.session.poll_action() {
            acted = true;
            match action {
                Action::Connect { cid, portal, .. } => self.connect(cid, &portal),
                Action::LoggedIn { cid, .. } => self.logged_in(cid, &action),
                Action::Close { cid, .. } => self.close(cid),
            }
        }
        while let Some(event) = self.session.poll_event() {
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
        acted
    }

    fn connect(&mut self, cid: Cid, portal: &Portal) {
        let at = self.portals.iter().position(|known| known == portal);
        let Some(at) = at.filter(|_| !self.refusing) else {
            let reason = "connection refused".to_owned();
            return self.session.handle_connect_failed(self.now, cid, reason);
        };
        self.links.push(Link {
            cid,
            connection: self.target.connect(self.now, at),
            receiver: Receiver::new(STAGING_BYTES, LOGIN_DATA_BYTES),
            transmit: Transmit::new(),
            placing: None,
            inbound: VecDeque::new(),
            ended: None,
        });
        self.session.handle_connected(self.now, cid);
    }

    fn logged_in(&mut self, cid: Cid, action: &Action) {
        if let Action::LoggedIn {
            header_digest,
            data_digest,
            max_recv_bytes,
            ..
        } = action
            && let Some(link) = self.links.iter_mut().find(|link| link.cid == cid)
        {
            link.receiver
                .set_params(*header_digest, *data_digest, *max_recv_bytes);
        }
    }

    fn close(&mut self, cid: Cid) {
        let at = self.links.iter().position(|link| link.cid == cid);
        let written = match at {
            Some(at) => {
                let link = self.links.remove(at);
                self.target.peer_closed(self.now, link.connection);
                if let Some((_, Some(loan))) = link.placing {
                    self.session.take_back(loan);
                }
                link.transmit.written()
            }
            None => 0,
        };
        self.session.handle_closed(self.now, cid, written);
    }

    /// Sends up to `limit` bytes of what the session has to say on a link; how many it were.
    pub fn send(&mut self, index: usize, limit: usize) -> usize {
        let mut sent = 0;
        while sent < limit {
            let Some(link) = self.links.get_mut(index) else {
                break;
            };
            if link.transmit.is_empty() {
                if !self.session.wants_transmit(link.cid) {
                    break;
                }
                self.session
                    .poll_transmit(self.now, link.cid, &mut link.transmit);
                link.transmit.seal();
            }
            let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
            link.transmit.slices(&mut slices);
            let bytes: Vec<u8> = slices
                .iter()
                .flat_map(|slice| slice.iter())
                .copied()
                .take(limit - sent)
                .collect();
            drop(slices);
            if bytes.is_empty() {
                break;
            }
            link.transmit.advance(bytes.len());
            if link.ended.is_none() {
                self.target.receive(self.now, link.connection, &bytes);
            }
            sent += bytes.len();
        }
        if let Some(link) = self.links.get(index) {
            let blocked = !link.transmit.is_empty();
            self.session.handle_blocked(link.cid, blocked);
        }
        self.note_closed();
        sent
    }

    /// Lets up to `limit` bytes of what the target has to say arrive; how many it were.
    pub fn receive(&mut self, index: usize, limit: usize) -> usize {
        self.fetch(index);
        let Some(link) = self.links.get_mut(index) else {
            return 0;
        };
        let cid = link.cid;
        let limit = limit.min(link.inbound.len());
        let mut bytes: VecDeque<u8> = link.inbound.drain(..limit).collect();
        while !bytes.is_empty() {
            // A link that was closed meanwhile hears nothing any more.
            let Some(link) = self.links.iter_mut().find(|link| link.cid == cid) else {
                return limit;
            };
            let (now, _) = bytes.as_slices();
            let space = link.receiver.space();
            let taken = space.len().min(now.len());
            space[..taken].copy_from_slice(&now[..taken]);
            bytes.drain(..taken);
            link.receiver.filled(taken);
            self.session.handle_heard(self.now, cid);
            while self.take(cid) {
                self.act();
            }
        }
        self.act();
        self.hang_up(cid);
        limit
    }

    /// Takes what the target has sent off its hands.
    fn fetch(&mut self, index: usize) {
        if let Some(link) = self.links.get_mut(index) {
            let mut answer = Vec::new();
            self.target
                .transmit(link.connection, &mut answer, usize::MAX);
            link.inbound.extend(answer);
        }
        self.note_closed();
    }

    fn note_closed(&mut self) {
        while let Some((connection, reset)) = self.target.poll_closed() {
            let of = |link: &&mut Link| link.connection == connection;
            if let Some(link) = self.links.iter_mut().find(of) {
                link.ended = Some(reset);
                if reset {
                    link.inbound.clear();
                }
            }
        }
    }

    /// Tells the session of the end of its stream, once it has heard everything before.
    fn hang_up(&mut self, cid: Cid) -> bool {
        let of = |link: &&Link| link.cid == cid;
        let Some(link) = self.links.iter().find(of) else {
            return false;
        };
        let (Some(reset), true) = (link.ended, link.inbound.is_empty()) else {
            return false;
        };
        let reason = reset.then(|| "reset".to_owned());
        self.session.handle_lost(self.now, cid, reason);
        self.act()
    }

    /// Takes a PDU, or goes on with a payload; `false` when bytes are missing.
    fn take(&mut self, cid: Cid) -> bool {
        let now = self.now;
        let session = &mut self.session;
        let of = |link: &&mut Link| link.cid == cid;
        let Some(link) = self.links.iter_mut().find(of) else {
            return false;
        };
        if let Some((pdu, loan)) = link.placing.take() {
            return place(now, session, link, pdu, loan);
        }
        if !session.is_open(cid) {
            return false;
        }
        match link.receiver.take_pdu() {
            Ok(Received::Incomplete) => return false,
            Ok(Received::Pdu { header, data }) => session.handle_pdu(now, cid, &header, data),
            Ok(Received::Damaged { header }) => session.handle_damaged(now, cid, &header, None),
            Ok(Received::DataIn { header, bytes }) => {
                let loan = match session.handle_data_in(now, cid, &header, bytes) {
                    Placement::Into(loan) => Some(loan),
                    Placement::Nothing | Placement::Discard => None,
                };
                link.placing = Some((header, loan));
            }
            Err(error) => {
                session.handle_frame_error(now, cid, error);
                self.act();
                return false;
            }
        }
        true
    }

    /// The network loses a connection: neither side hears more.
    pub fn cut(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        link.ended = Some(true);
        link.inbound.clear();
        let (cid, connection) = (link.cid, link.connection);
        self.target.peer_closed(self.now, connection);
        self.hang_up(cid);
    }

    /// Goes to and fro until neither side has anything to say. No time passes.
    ///
    /// # Panics
    /// When they never stop.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut moved = self.act();
            // Everything is sent before the first answer, so that commands spread.
            for index in 0..self.links.len() {
                moved |= self.send(index, usize::MAX) > 0;
            }
            for index in (0..self.links.len()).rev() {
                moved |= self.receive(index, usize::MAX) > 0;
            }
            let cids: Vec<Cid> = self.links.iter().map(|link| link.cid).collect();
            for cid in cids {
                moved |= self.hang_up(cid);
            }
            if !moved {
                return;
            }
        }
        panic!("they talk without end: {:?}", self.session);
    }

    /// Time passes; whatever is due in between is done when it is due.
    ///
    /// # Panics
    /// When timers spin.
    pub fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        // A generous number of timers for the time, so that a spinning one is noticed.
        let limit = 1000 + time.as_millis() as usize;
        for _ in 0..limit {
            let due = self.session.poll_timeout();
            if due.is_some_and(|due| due <= self.now) {
                self.session.handle_timeout(self.now);
            }
            self.settle();
            let due = [self.session.poll_timeout(), self.target.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            self.target.handle_timeout(self.now);
        }
        panic!("timers spin: {:?}", self.session);
    }

    /// Starts a command.
    ///
    /// # Errors
    /// Its completion, when the session does not take it.
    pub fn submit(&mut self, command: Command) -> Result<TaskKey, Completion> {
        self.session.submit(self.now, Lun::ZERO, command)
    }

    /// A command's completion, once it has ended.
    pub fn done(&mut self, key: TaskKey) -> Option<Completion> {
        let polled = self.session.poll_task(key, Waker::noop());
        self.session.take_freed();
        match polled {
            Poll::Ready(completion) => Some(completion),
            Poll::Pending => None,
        }
    }

    /// What the target's record says, a line for each PDU: time, connection, direction, then of
    /// the header opcode, flags, bytes 2 and 3, both tags and the words from byte 24 on.
    #[must_use]
    pub fn told(&self) -> String {
        let mut text = String::new();
        for record in self.target.wire_log() {
            let at = record.at.saturating_duration_since(crate::clock::base());
            let way = match record.direction {
                Direction::In => "->",
                Direction::Out { whole: true } => "<-",
                Direction::Out { whole: false } => "x-",
            };
            let (id, head) = (record.connection.0, &record.header[..4]);
            let words: Vec<String> = (16..48)
                .step_by(4)
                .map(|at| format!("{:08x}", record.be32(at)))
                .collect();
            let (words, bytes) = (words.join(" "), record.data_bytes);
            text += &format!("{at:?} {id} {way} {head:02x?} {words} + {bytes}\n");
        }
        text
    }

    /// What the session has sent since `from` records of the wire log, with this opcode.
    #[must_use]
    pub fn sent(&self, from: usize, opcode: u8) -> Vec<WireRecord> {
        let ours =
            |record: &&WireRecord| record.direction == Direction::In && record.opcode() == opcode;
        let log = self.target.wire_log().iter().skip(from);
        log.filter(ours).cloned().collect()
    }

    /// What the target has sent since `from` records of the wire log, with this opcode, whether it
    /// arrived or not.
    #[must_use]
    pub fn heard(&self, from: usize, opcode: u8) -> Vec<WireRecord> {
        let theirs =
            |record: &&WireRecord| record.direction != Direction::In && record.opcode() == opcode;
        let log = self.target.wire_log().iter().skip(from);
        log.filter(theirs).cloned().collect()
    }

    /// Records of the wire log so far.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.target.wire_log().len()
    }
}

fn place(
    now: Instant,
    session: &mut Session,
    link: &mut Link,
    pdu: DataIn,
    mut loan: Option<Loan>,
) -> bool {
    match &mut loan {
        Some(loan) => {
            let placed = link.receiver.place(loan.space());
            loan.filled(placed);
        }
        None => {
            link.receiver.skip();
        }
    }
    match link.receiver.finish_payload() {
        Ok(false) => {
            link.placing = Some((pdu, loan));
            return false;
        }
        Ok(true) => session.handle_placed(now, link.cid, &pdu, loan),
        Err(_) => {
            let pdu = Response::DataIn(pdu);
            session.handle_damaged(now, link.cid, &pdu, loan);
        }
    }
    true
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig")
            .field("session", &self.session)
            .field("connections", &self.session.connections())
            .field("links", &self.links.len())
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
