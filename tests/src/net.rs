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

use crate::trace::Trace;

/// A connection as the initiator's side names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

/// The way to one portal.
#[derive(Debug, Clone)]
pub struct Link {
    /// One way.
    pub latency: Duration,
    /// Up to this much more, at random.
    pub jitter: Duration,
    /// 0: without limit.
    pub bytes_per_second: u64,
    /// Longest segment; each has a random length up to this.
    pub segment_bytes: usize,
    /// Bytes under way at once, each direction.
    pub window_bytes: usize,
    /// Size of a sender's buffer.
    pub buffer_bytes: usize,
    /// Most bytes that one read returns.
    pub read_bytes: usize,
    /// Nothing leaves the initiator.
    pub up_dead: bool,
    /// Nothing leaves the target.
    pub down_dead: bool,
    /// What becomes of attempts to connect.
    pub dial: Dial,
    /// What the initiator sent is held somewhere and arrives at this time at the earliest.
    pub stuck_until: Option<Instant>,
    /// Flip one bit of what is next sent by the initiator under both digests.
    pub flip_up: bool,
}

/// What becomes of attempts to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// They succeed.
    Accept,
    /// They are refused.
    Refuse,
    /// No answer comes.
    Hang,
}

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
enum End {
    Fin,
    Reset,
}

#[derive(Debug)]
enum Item {
    Data(Vec<u8>),
    End(End),
}

#[derive(Debug, Default)]
struct Pipe {
    buffer: VecDeque<u8>,
    /// Sent once the buffer is empty.
    fin: bool,
    flight: VecDeque<(Instant, Item)>,
    flight_bytes: usize,
    free_at: Option<Instant>,
    last_arrival: Option<Instant>,
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
    state: State,
    target: Option<ConnectionId>,
    client_open: bool,
    server_open: bool,
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
}

impl Pipe {
    fn transmit(
        &mut self,
        now: Instant,
        link: &Link,
        stuck: Option<Instant>,
        rng: &mut Rng,
    ) -> bool {
        let mut moved = false;
        while !self.buffer.is_empty() && self.flight_bytes < link.window_bytes {
            let bytes = rng.usize(1..=link.segment_bytes).min(self.buffer.len());
            let data: Vec<u8> = self.buffer.drain(..bytes).collect();
            let begin = self.free_at.map_or(now, |free| free.max(now));
            let takes = (bytes as u64 * 1_000_000_000)
                .checked_div(link.bytes_per_second)
                .unwrap_or(0);
            let end = begin + Duration::from_nanos(takes);
            self.free_at = Some(end);
            self.depart(end, link, stuck, rng, Item::Data(data));
            self.flight_bytes += bytes;
            moved = true;
        }
        if self.buffer.is_empty() && std::mem::take(&mut self.fin) {
            self.depart(now, link, stuck, rng, Item::End(End::Fin));
            moved = true;
        }
        moved
    }

    fn depart(
        &mut self,
        at: Instant,
        link: &Link,
        stuck: Option<Instant>,
        rng: &mut Rng,
        item: Item,
    ) {
        let jitter = link.jitter.mul_f64(rng.f64());
        let mut arrival = at + link.latency + jitter;
        for earliest in [stuck, self.last_arrival].into_iter().flatten() {
            arrival = arrival.max(earliest);
        }
        self.last_arrival = Some(arrival);
        self.flight.push_back((arrival, item));
    }

    fn arrive(&mut self, now: Instant) -> Option<Item> {
        let (at, _) = self.flight.front()?;
        if *at > now {
            return None;
        }
        let (_, item) = self.flight.pop_front()?;
        if let Item::Data(data) = &item {
            self.flight_bytes -= data.len();
        }
        Some(item)
    }

    fn next(&self) -> Option<Instant> {
        self.flight.front().map(|(at, _)| *at)
    }
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
        }
    }

    /// Starts to connect.
    pub fn dial(&mut self, now: Instant, portal: usize) -> SocketId {
        self.next += 1;
        let id = SocketId(self.next);
        let connection = Connection {
            portal,
            state: State::Dialling(now + self.links[portal].latency * 2),
            target: None,
            client_open: true,
            server_open: false,
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
        for (to, byte) in into.iter_mut().zip(connection.arrived.drain(..bytes)) {
            *to = byte;
        }
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
            let room = room.saturating_sub(connection.up.buffer.len());
            let bytes = slice.len().min(room);
            connection.up.buffer.extend(&slice[..bytes]);
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
        if connection.state != State::Open {
            self.connections.remove(&id);
            return;
        }
        if abort {
            connection.up.buffer.clear();
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
                connection.down.buffer.clear();
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
                let up = &mut connection.up;
                for (arrival, _) in &mut up.flight {
                    *arrival = (*arrival).max(now + time);
                    // What follows comes behind.
                    up.last_arrival = up.last_arrival.max(Some(*arrival));
                }
            }
        }
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
        let ids: Vec<SocketId> = self.connections.keys().copied().collect();
        for id in ids {
            moved |= self.advance_dial(now, id, target, trace);
            moved |= self.deliver_up(now, id, target, trace);
            moved |= self.deliver_down(now, id, trace);
            moved |= self.take_up(now, id);
            moved |= self.take_down(now, id, target);
        }
        self.connections
            .retain(|_, connection| connection.client_open || connection.server_open);
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
            connection.down.buffer.clear();
            if !link.down_dead {
                connection
                    .down
                    .depart(now, link, None, &mut self.rng, Item::End(End::Reset));
            }
        } else {
            connection.down.fin = true;
        }
    }

    fn advance_dial(
        &mut self,
        now: Instant,
        id: SocketId,
        target: &mut Target,
        trace: &mut Trace,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let link = &self.links[connection.portal];
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
        now: Instant,
        id: SocketId,
        target: &mut Target,
        trace: &mut Trace,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let Some(peer) = connection.target else {
            return false;
        };
        let link = &mut self.links[connection.portal];
        let mut moved = false;
        while let Some(item) = connection.up.arrive(now) {
            moved = true;
            match item {
                Item::Data(mut data) if connection.server_open => {
                    if link.flip_up && connection.digests && !connection.flipped {
                        link.flip_up = false;
                        connection.flipped = true;
                        self.flipped.insert(peer);
                        let at = self.rng.usize(..data.len());
                        data[at] ^= 1 << self.rng.u8(..8);
                        trace.note(now, format_args!("net {} bit flipped", id.0));
                    }
                    trace.note(now, format_args!("net {} up {}", id.0, data.len()));
                    target.receive(now, peer, &data);
                }
                Item::Data(_) => {
                    // Nobody is there any more; the kernel answers with a reset.
                    if !link.down_dead {
                        let item = Item::End(End::Reset);
                        connection.down.depart(now, link, None, &mut self.rng, item);
                    }
                }
                Item::End(_) => {
                    trace.note(now, format_args!("net {} up end", id.0));
                    connection.server_open = false;
                    connection.up.flight.clear();
                    connection.up.flight_bytes = 0;
                    target.peer_closed(now, peer);
                }
            }
        }
        moved
    }

    /// What arrives at the initiator.
    fn deliver_down(&mut self, now: Instant, id: SocketId, trace: &mut Trace) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let link = &self.links[connection.portal];
        let mut moved = false;
        while let Some(item) = connection.down.arrive(now) {
            moved = true;
            match item {
                Item::Data(data) if connection.client_open => {
                    trace.note(now, format_args!("net {} down {}", id.0, data.len()));
                    connection.arrived.extend(data);
                }
                Item::Data(_) | Item::End(End::Fin) if !connection.client_open => {
                    if connection.server_open && !link.up_dead {
                        let stuck = link.stuck_until;
                        let item = Item::End(End::Reset);
                        connection.up.depart(now, link, stuck, &mut self.rng, item);
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

    fn take_up(&mut self, now: Instant, id: SocketId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let link = &self.links[connection.portal];
        !link.up_dead
            && connection
                .up
                .transmit(now, link, link.stuck_until, &mut self.rng)
    }

    fn take_down(&mut self, now: Instant, id: SocketId, target: &mut Target) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let link = &self.links[connection.portal];
        let mut moved = false;
        if let Some(peer) = connection.target.filter(|_| connection.server_open) {
            let room = link
                .buffer_bytes
                .saturating_sub(connection.down.buffer.len());
            let mut out = Vec::new();
            target.transmit(peer, &mut out, room);
            moved |= !out.is_empty();
            connection.down.buffer.extend(out);
        }
        if !link.down_dead {
            moved |= connection.down.transmit(now, link, None, &mut self.rng);
        }
        moved
    }
}
