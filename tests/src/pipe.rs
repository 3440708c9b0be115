//! One direction of a simulated connection, and the conditions on its way.
//!
//! What is under way arrives in order, whatever becomes of the sender; what waits in the sender's
//! buffer can be thrown away. Nothing here knows who sends or receives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// What is under way, with the bytes themselves kept by the [`Pipe`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    Data(usize),
    End(End),
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// First what is under way, then what waits in the sender's buffer.
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) flight_bytes: usize,
    pub(crate) flight: VecDeque<(Instant, Item)>,
    /// Sent once the buffer is empty.
    pub(crate) fin: bool,
    pub(crate) free_at: Option<Instant>,
    pub(crate) last_arrival: Option<Instant>,
}

impl Pipe {
    pub(crate) fn buffered(&self) -> usize {
        self.bytes.len() - self.flight_bytes
    }

    /// Throws away what has not left.
    pub(crate) fn forget_buffered(&mut self) {
        self.bytes.truncate(self.flight_bytes);
    }

    /// Throws away what is under way; the end of it is all that counts now.
    pub(crate) fn forget_flight(&mut self) {
        self.flight.clear();
        self.bytes.drain(..self.flight_bytes);
        self.flight_bytes = 0;
    }

    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        link: &Link,
        stuck: Option<Instant>,
        rng: &mut Rng,
    ) -> bool {
        let mut moved = false;
        while self.buffered() > 0 && self.flight_bytes < link.window_bytes {
            let bytes = rng.usize(1..=link.segment_bytes).min(self.buffered());
            let begin = self.free_at.map_or(now, |free| free.max(now));
            let takes = (bytes as u64 * 1_000_000_000)
                .checked_div(link.bytes_per_second)
                .unwrap_or(0);
            let end = begin + Duration::from_nanos(takes);
            self.free_at = Some(end);
            self.depart(end, link, stuck, rng, Item::Data(bytes));
            self.flight_bytes += bytes;
            moved = true;
        }
        if self.buffered() == 0 && std::mem::take(&mut self.fin) {
            self.depart(now, link, stuck, rng, Item::End(End::Fin));
            moved = true;
        }
        moved
    }

    pub(crate) fn depart(
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

    /// What has arrived by now; its bytes, if any, are put in place of what `into` held.
    pub(crate) fn arrive(&mut self, now: Instant, into: &mut Vec<u8>) -> Option<Item> {
        let (at, item) = self.flight.front().copied()?;
        if at > now {
            return None;
        }
        self.flight.pop_front();
        if let Item::Data(bytes) = item {
            into.clear();
            take(&mut self.bytes, bytes, |part| into.extend_from_slice(part));
            self.flight_bytes -= bytes;
        }
        Some(item)
    }

    /// What is under way arrives at this time at the earliest, and what follows comes behind.
    pub(crate) fn hold(&mut self, until: Instant) {
        for (arrival, _) in &mut self.flight {
            *arrival = (*arrival).max(until);
            self.last_arrival = self.last_arrival.max(Some(*arrival));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.flight.front().map(|(at, _)| *at)
    }
}

/// Takes the first bytes out of a queue, in up to two parts.
pub(crate) fn take(queue: &mut VecDeque<u8>, bytes: usize, mut with: impl FnMut(&[u8])) {
    let (first, second) = queue.as_slices();
    let head = bytes.min(first.len());
    with(&first[..head]);
    with(&second[..bytes - head]);
    queue.drain(..bytes);
}
