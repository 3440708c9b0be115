//! The sending half of a connection, without the socket: a gather list of headers and payloads.
//!
//! Filled under the session's lock with [`Transmit::push`]; digests are computed afterwards, by
//! [`Transmit::seal`], outside the lock. Headers, padding, digests and small payloads share one
//! arena; larger payloads are referenced, never copied.
//!
//! Invariant: [`Transmit::queued`] and [`Transmit::written`] are positions in the connection's
//! outgoing byte stream, so that whoever remembers where a PDU began and ended can tell whether
//! it was sent not at all, in part, or whole.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Bhs;
use super::digest::Crc32c;

/// Most slices handed to one vectored write: enough for 127 writes with immediate data, two slices
/// each, in one system call.
pub const MAX_SLICES: usize = 256;

/// Payloads up to this length are copied beside their header.
const COPY_BYTES: usize = 1024;

/// Arena of a connection that is not busy, in bytes.
const ARENA_FIRST: usize = 1024;

/// A batch stops growing at this many bytes.
const BATCH_BYTES: u64 = 1 << 20;

/// PDUs waiting to be written, and how much of the stream has been.
#[derive(Debug, Default)]
pub struct Transmit {
    arena: Vec<u8>,
    segments: Vec<Segment>,
    unsealed: Vec<Unsealed>,
    /// Next segment to write, and how much of it is written.
    at: usize,
    at_offset: usize,
    queued: u64,
    written: u64,
    header_digest: bool,
    data_digest: bool,
}

#[derive(Debug)]
enum Segment {
    Arena(Range<usize>),
    Shared(Bytes),
}

/// A PDU whose digests are still to be computed.
#[derive(Debug)]
struct Unsealed {
    header: Range<usize>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    None,
    /// Payload and padding in the arena, digest behind.
    Copied(Range<usize>),
    /// Payload in a segment; padding (in the arena) begins here, digest behind.
    Shared {
        segment: usize,
        padding: Range<usize>,
    },
}

impl Transmit {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self {
            arena: Vec::with_capacity(ARENA_FIRST),
            ..Self::default()
        }
    }

    /// Gives memory back that only a busy connection needs. No effect while bytes wait.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            self.arena = Vec::with_capacity(ARENA_FIRST);
            self.segments = Vec::new();
            self.unsealed = Vec::new();
        }
    }

    /// A new connection: nothing queued, stream position 0, no digests.
    pub fn reset(&mut self) {
        self.clear_batch();
        self.queued = 0;
        self.written = 0;
        self.header_digest = false;
        self.data_digest = false;
    }

    /// Puts the negotiated digests into force for the PDUs pushed from now on.
    pub fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Stream position behind everything pushed, in bytes.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Stream position behind everything the network stack took, in bytes.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether everything pushed has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued == self.written
    }

    /// Whether the batch is long enough; further PDUs wait for the next.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.segments.len() + 3 > MAX_SLICES || self.queued - self.written >= BATCH_BYTES
    }

    /// Appends one PDU. `bhs` already holds the lengths of `ahs` (a multiple of four bytes) and
    /// `data`.
    pub fn push(&mut self, bhs: &Bhs, ahs: &[u8], data: Bytes) {
        super::words::sent(bhs, &data);
        let start = self.arena.len();
        self.arena.extend_from_slice(bhs);
        self.arena.extend_from_slice(ahs);
        let header = start..self.arena.len();
        if self.header_digest {
            self.arena.extend_from_slice(&[0; 4]);
        }
        let sealed_later = self.header_digest || (self.data_digest && !data.is_empty());
        let padding = data.len().wrapping_neg() & 3;
        let body = self.arena.len();
        let data_place = if data.is_empty() {
            self.push_arena(start..body);
            Data::None
        } else if data.len() <= COPY_BYTES {
            self.arena.extend_from_slice(&data);
            self.push_trailer(padding);
            self.push_arena(start..self.arena.len());
            Data::Copied(body..body + data.len() + padding)
        } else {
            self.push_arena(start..body);
            self.queued += data.len() as u64;
            let segment = self.segments.len();
            self.segments.push(Segment::Shared(data));
            self.push_trailer(padding);
            self.push_arena(body..self.arena.len());
            Data::Shared {
                segment,
                padding: body..body + padding,
            }
        };
        if sealed_later {
            self.unsealed.push(Unsealed {
                header,
                data: data_place,
            });
        }
    }

    /// Computes the digests of what was pushed since the last call.
    pub fn seal(&mut self) {
        // Taken out and put back, so that its memory is kept.
        let mut unsealed = std::mem::take(&mut self.unsealed);
        for pdu in unsealed.drain(..) {
            if self.header_digest {
                let mut crc = Crc32c::new();
                crc.update(self.arena.get(pdu.header.clone()).unwrap_or_default());
                self.put(pdu.header.end, crc.to_wire());
            }
            if !self.data_digest {
                continue;
            }
            let mut crc = Crc32c::new();
            let digest_at = match pdu.data {
                Data::None => continue,
                Data::Copied(range) => {
                    crc.update(self.arena.get(range.clone()).unwrap_or_default());
                    range.end
                }
                Data::Shared { segment, padding } => {
                    if let Some(Segment::Shared(data)) = self.segments.get(segment) {
                        crc.update(data);
                    }
                    crc.update(self.arena.get(padding.clone()).unwrap_or_default());
                    padding.end
                }
            };
            self.put(digest_at, crc.to_wire());
        }
        self.unsealed = unsealed;
    }

    /// What to write next.
    pub fn slices<'a>(&'a self, into: &mut SmallVec<[IoSlice<'a>; MAX_SLICES]>) {
        debug_assert!(self.unsealed.is_empty(), "seal before writing");
        let mut skip = self.at_offset;
        for segment in self.segments.iter().skip(self.at).take(MAX_SLICES) {
            let bytes: &[u8] = match segment {
                Segment::Arena(range) => self.arena.get(range.clone()).unwrap_or_default(),
                Segment::Shared(bytes) => bytes,
            };
            into.push(IoSlice::new(bytes.get(skip..).unwrap_or_default()));
            skip = 0;
        }
    }

    /// The network stack took `bytes`.
    pub fn advance(&mut self, bytes: usize) {
        self.written += bytes as u64;
        debug_assert!(self.written <= self.queued);
        if self.written >= self.queued {
            self.clear_batch();
            return;
        }
        let mut left = bytes + self.at_offset;
        while let Some(segment) = self.segments.get(self.at) {
            let len = match segment {
                Segment::Arena(range) => range.len(),
                Segment::Shared(bytes) => bytes.len(),
            };
            if left < len {
                break;
            }
            left -= len;
            self.at += 1;
        }
        self.at_offset = left;
    }

    fn clear_batch(&mut self) {
        self.arena.clear();
        self.segments.clear();
        self.unsealed.clear();
        self.at = 0;
        self.at_offset = 0;
    }

    fn push_trailer(&mut self, padding: usize) {
        self.arena
            .extend_from_slice([0; 3].get(..padding).unwrap_or_default());
        if self.data_digest {
            self.arena.extend_from_slice(&[0; 4]);
        }
    }

    /// Adds arena bytes, joining them to the segment before when they follow it.
    fn push_arena(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.queued += range.len() as u64;
        if let Some(Segment::Arena(last)) = self.segments.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.segments.push(Segment::Arena(range));
    }

    fn put(&mut self, at: usize, digest: [u8; 4]) {
        if let Some(place) = self.arena.get_mut(at..at + 4) {
            place.copy_from_slice(&digest);
        }
    }
}

#[cfg(test)]
mod tests;
