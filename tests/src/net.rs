//! Simulated TCP between the paths and the target.
//!
//! A connection is two pipes. Each has a send buffer of limited size (what the sender's kernel
//! holds), a limited number of bytes under way, and a receive queue. An abortive close throws the
//! send buffer away, but what is under way still arrives, in order, possibly much later: that is
//! where writes from the past come from. A dead direction transmits nothing; what was in the send
//! buffer goes out when it comes back to life, if the connection still exists.
//!
//! Conditions are those of the way to one portal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::time::{Duration, Instant};

use fastrand::Rng;
use test_target::{ConnectionId, Target};

pub use crate::pipe::{Dial, Link};
use crate::pipe::{End, Item, Pipe, take};
use crate::trace::Trace;

/// A connection as the initiator's side names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Pending,
    /// The peer has closed.
    End,
    /// The connection was reset.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dialling(Instant),
    Hanging,
    Refused,
    Open,
}

#[derive(Debug)]
struct Connection {
    portal: usize,
    /// Who dialled.
    owner: usize,
    state: State,
    target: Option<ConnectionId>,
    client_open: bool,
    server_open: bool,
    /// The target may have something to send.
    wants: bool,
    up: Pipe,
    down: Pipe,
    arrived: VecDeque<u8>,
    ended: Option<End>,
    /// Both digests are in force.
    digests: bool,
    flipped: bool,
}

/// All connections.
#[derive(Debug)]
pub struct Net {
    /// One for each portal.
    pub links: Vec<Link>,
    connections: BTreeMap<SocketId, Connection>,
    next: u64,
    rng: Rng,
    /// Connections with a byte that the network changed.
    flipped: BTreeSet<ConnectionId>,
    /// When the initiator closed its side of a connection.
    left: BTreeMap<ConnectionId, Instant>,
    /// By owner: whether something has changed for it.
    touched: Vec<bool>,
    scratch: Vec<u8>,
}

impl Net {
    /// A network with these ways.
    #[must_use]
    pub fn new(links: Vec<Link>, seed: u64) -> Self {
        Self {
            links,
            connections: BTreeMap::new(),
            next: 0,
            rng: Rng::with_seed(seed),
            flipped: BTreeSet::new(),
            left: BTreeMap::new(),
            touched: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Whether something has changed for an owner of connections since this was last asked.
    pub fn take_touched(&mut self, owner: usize) -> bool {
        self.touched.get_mut(owner).is_some_and(std::mem::take)
    }

    /// Starts to connect, for `owner`, who can ask with [`Self::take_touched`].
    pub fn dial(&mut self, now: Instant, owner: usize, portal: usize) -> SocketId {
        if self.touched.len() <= owner {
            self.touched.resize(owner + 1, false);
        }
        self.next += 1;
        let id = SocketId(self.next);
        let connection = Connection {
            portal,
            owner,
            state: State::Dialling(now + self.links[portal].latency * 2),
            target: None,
            client_open: true,
            server_open: false,
            wants: false,
            up: Pipe::default(),
            down: Pipe::default(),
            arrived: VecDeque::new(),
            ended: None,
            digests: false,
            flipped: false,
        };
        self.connections.insert(id, connection);
        id
    }

    /// How an attempt to connect went; `None` while it is under way.
    #[must_use]
    pub fn dialled(&self, id: SocketId) -> Option<Result<(), String>> {
        match self.connections.get(&id).map(|connection| connection.state) {
            Some(State::Open) => Some(Ok(())),
            Some(State::Refused) => Some(Err("connection refused".to_owned())),
            Some(State::Dialling(_) | State::Hanging) => None,
            None => Some(Err("no such connection".to_owned())),
        }
    }

    /// Takes bytes that have arrived.
    pub fn read(&mut self, id: SocketId, into: &mut [u8]) -> Read {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Read::Reset;
        };
        if connection.ended == Some(End::Reset) {
            return Read::Reset;
        }
        let most = self.links[connection.portal].read_bytes;
        let bytes = connection.arrived.len().min(into.len()).min(most);
        if bytes == 0 {
            return match connection.ended {
                Some(_) => Read::End,
                None => Read::Pending,
            };
        }
        let mut at = 0;
        take(&mut connection.arrived, bytes, |part| {
            into[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        });
        Read::Bytes(bytes)
    }

    /// Hands bytes to the network; how many it took, or `None` after a reset.
    pub fn write(&mut self, id: SocketId, slices: &[IoSlice<'_>]) -> Option<usize> {
        let connection = self.connections.get_mut(&id)?;
        if connection.ended == Some(End::Reset) {
            return None;
        }
        let room = self.links[connection.portal].buffer_bytes;
        let mut taken = 0;
        for slice in slices {
            let room = room.saturating_sub(connection.up.buffered());
            let bytes = slice.len().min(room);
            connection.up.bytes.extend(&slice[..bytes]);
            taken += bytes;
            if bytes < slice.len() {
                break;
            }
        }
        Some(taken)
    }

    /// Both digests are in force from now on.
    pub fn note_digests(&mut self, id: SocketId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.digests = true;
        }
    }

    /// Closes the initiator's side; `abort`: with a reset, and nothing more is sent.
    pub fn close(&mut self, now: Instant, id: SocketId, abort: bool) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let link = &self.links[connection.portal];
        connection.client_open = false;
        if let Some(peer) = connection.target {
            self.left.insert(peer, now);
        }
        if connection.state != State::Open {
            self.connections.remove(&id);
            return;
        }
        if abort {
            connection.up.forget_buffered();
            connection.up.fin = false;
            if !link.up_dead {
                let stuck = link.stuck_until;
                let item = Item::End(End::Reset);
                connection.up.depart(now, link, stuck, &mut self.rng, item);
            }
        } else {
            connection.up.fin = true;
        }
    }

    /// Breaks all connections to a portal, as a box on the way does that sends a reset.
    pub fn reset(&mut self, now: Instant, portal: usize, client: bool, server: bool) {
        let link = self.links[portal].clone();
        for connection in self.connections.values_mut() {
            if connection.portal != portal || connection.state != State::Open {
                continue;
            }
            if client {
                connection.down.forget_buffered();
                connection
                    .down
                    .depart(now, &link, None, &mut self.rng, Item::End(End::Reset));
            }
            if server {
                let stuck = link.stuck_until;
                connection
                    .up
                    .depart(now, &link, stuck, &mut self.rng, Item::End(End::Reset));
            }
        }
    }

    /// What was sent to a portal, and what is sent from now on, takes so much longer; zero ends it.
    pub fn stick(&mut self, now: Instant, portal: usize, time: Duration) {
        self.links[portal].stuck_until = (time > Duration::ZERO).then_some(now + time);
        for connection in self.connections.values_mut() {
            if connection.portal == portal {
                connection.up.hold(now + time);
            }
        }
    }

    /// What is under way on one of the connections to a portal, and what is sent on it from now on,
    /// arrives so much later, in both directions.
    pub fn lag(&mut self, now: Instant, portal: usize, number: usize, time: Duration) {
        let mut all: Vec<_> = self.connections.values_mut().collect();
        all.retain(|it| it.portal == portal && it.state == State::Open);
        let count = all.len().max(1);
        if let Some(connection) = all.into_iter().nth(number % count) {
            connection.up.hold(now + time);
            connection.down.hold(now + time);
        }
    }

    /// Whether the initiator had closed its side of a connection by then: what still arrives of it
    /// was sent before, in another state of things.
    #[must_use]
    pub fn was_left(&self, id: ConnectionId, by: Instant) -> bool {
        self.left.get(&id).is_some_and(|at| *at <= by)
    }

    /// Whether the network changed a byte on this connection.
    #[must_use]
    pub fn was_flipped(&self, id: ConnectionId) -> bool {
        self.flipped.contains(&id)
    }

    /// When something arrives next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let of = |connection: &Connection| {
            let dial = match connection.state {
                State::Dialling(at) => Some(at),
                State::Hanging | State::Refused | State::Open => None,
            };
            [dial, connection.up.next(), connection.down.next()]
                .into_iter()
                .flatten()
                .min()
        };
        self.connections.values().filter_map(of).min()
    }

    /// Moves what can be moved now; whether anything was.
    pub fn step(&mut self, now: Instant, target: &mut Target, trace: &mut Trace) -> bool {
        let mut moved = false;
        while let Some((id, reset)) = target.poll_closed() {
            moved = true;
            self.closed_by_target(now, id, reset);
        }
        for peer in target.take_ready() {
            let mut all = self.connections.values_mut();
            if let Some(connection) = all.find(|connection| connection.target == Some(peer)) {
                connection.wants = true;
            }
        }
        let mut over = false;
        for (id, connection) in &mut self.connections {
            let mut way = Way {
                now,
                id: *id,
                link: &mut self.links[connection.portal],
                rng: &mut self.rng,
                scratch: &mut self.scratch,
                flipped: &mut self.flipped,
            };
            let mut heard = way.advance_dial(connection, target, trace);
            moved |= way.deliver_up(connection, target, trace);
            heard |= way.deliver_down(connection, trace);
            heard |= way.take_up(connection);
            moved |= heard | way.take_down(connection, target);
            self.touched[connection.owner] |= heard;
            over |= !connection.client_open && !connection.server_open;
        }
        if over {
            self.connections
                .retain(|_, connection| connection.client_open || connection.server_open);
        }
        moved
    }

    fn closed_by_target(&mut self, now: Instant, id: ConnectionId, reset: bool) {
        let found = self
            .connections
            .values_mut()
            .find(|connection| connection.target == Some(id));
        let Some(connection) = found else { return };
        let link = &self.links[connection.portal];
        if reset {
            connection.server_open = false;
            connection.down.forget_buffered();
            if !link.down_dead {
                connection
                    .down
                    .depart(now, link, None, &mut self.rng, Item::End(End::Reset));
            }
        } else {
            connection.down.fin = true;
        }
    }
}

/// One connection at one moment, with the conditions on its way.
struct Way<'a> {
    now: Instant,
    id: SocketId,
    link: &'a mut Link,
    rng: &'a mut Rng,
    scratch: &'a mut Vec<u8>,
    flipped: &'a mut BTreeSet<ConnectionId>,
}

impl Way<'_> {
    fn advance_dial(
        &self,
        connection: &mut Connection,
        target: &mut Target,
        trace: &mut Trace,
    ) -> bool {
        let (now, id, link) = (self.now, self.id, &*self.link);
        let dead = link.up_dead || link.down_dead || link.dial == Dial::Hang;
        let next = match connection.state {
            State::Dialling(at) if at > now => return false,
            State::Dialling(_) if dead => State::Hanging,
            State::Dialling(_) if link.dial == Dial::Refuse => State::Refused,
            State::Dialling(_) => {
                let portal = connection.portal;
                connection.target = Some(target.connect(now, portal));
                connection.server_open = true;
                trace.note(now, format_args!("net {} open to portal {portal}", id.0));
                State::Open
            }
            State::Hanging if !dead => State::Dialling(now + link.latency * 2),
            State::Hanging | State::Refused | State::Open => return false,
        };
        connection.state = next;
        true
    }

    /// What arrives at the target.
    fn deliver_up(
        &mut self,
        connection: &mut Connection,
        target: &mut Target,
        trace: &mut Trace,
    ) -> bool {
        let Some(peer) = connection.target else {
            return false;
        };
        let (now, id, link) = (self.now, self.id, &mut *self.link);
        let mut moved = false;
        while let Some(item) = connection.up.arrive(now, self.scratch) {
            moved = true;
            match item {
                Item::Data(_) if connection.server_open => {
                    let data = &mut *self.scratch;
                    if link.flip_up && connection.digests && !connection.flipped {
                        link.flip_up = false;
                        connection.flipped = true;
                        self.flipped.insert(peer);
                        let at = self.rng.usize(..data.len());
                        data[at] ^= 1 << self.rng.u8(..8);
                        trace.note(now, format_args!("net {} bit flipped", id.0));
                    }
                    trace.count(now, "up", id.0, data.len() as u64);
                    target.receive(now, peer, data);
                }
                Item::Data(_) => {
                    // Nobody is there any more; the kernel answers with a reset.
                    if !link.down_dead {
                        let item = Item::End(End::Reset);
                        connection.down.depart(now, link, None, self.rng, item);
                    }
                }
                Item::End(_) => {
                    trace.note(now, format_args!("net {} up end", id.0));
                    connection.server_open = false;
                    connection.up.forget_flight();
                    target.peer_closed(now, peer);
                }
            }
        }
        moved
    }

    /// What arrives at the initiator.
    fn deliver_down(&mut self, connection: &mut Connection, trace: &mut Trace) -> bool {
        let (now, id, link) = (self.now, self.id, &*self.link);
        let mut moved = false;
        while let Some(item) = connection.down.arrive(now, self.scratch) {
            moved = true;
            match item {
                Item::Data(bytes) if connection.client_open => {
                    trace.count(now, "down", id.0, bytes as u64);
                    connection.arrived.extend(&self.scratch[..]);
                }
                Item::Data(_) | Item::End(End::Fin) if !connection.client_open => {
                    if connection.server_open && !link.up_dead {
                        let stuck = link.stuck_until;
                        let item = Item::End(End::Reset);
                        connection.up.depart(now, link, stuck, self.rng, item);
                    }
                }
                Item::Data(_) => {}
                Item::End(end) => {
                    trace.note(now, format_args!("net {} down end", id.0));
                    connection.ended.get_or_insert(end);
                }
            }
        }
        moved
    }

    fn take_up(&mut self, connection: &mut Connection) -> bool {
        let link = &*self.link;
        let stuck = link.stuck_until;
        !link.up_dead && connection.up.transmit(self.now, link, stuck, self.rng)
    }

    fn take_down(&mut self, connection: &mut Connection, target: &mut Target) -> bool {
        let link = &*self.link;
        let mut moved = false;
        let open = connection.server_open && connection.wants;
        if let Some(peer) = connection.target.filter(|_| open) {
            let room = link.buffer_bytes.saturating_sub(connection.down.buffered());
            if room > 0 {
                self.scratch.clear();
                target.transmit(peer, self.scratch, room);
                connection.wants = self.scratch.len() == room;
                moved |= !self.scratch.is_empty();
                connection.down.bytes.extend(&self.scratch[..]);
            }
        }
        if !link.down_dead {
            moved |= connection.down.transmit(self.now, link, None, self.rng);
        }
        moved
    }
}
