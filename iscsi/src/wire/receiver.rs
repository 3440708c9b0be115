//! Framing: from a byte stream to PDUs, with the payload of a Data-In going straight to its place.
//!
//! Keeps the staged bytes of one connection. The driver reads the socket into [`Receiver::space`],
//! then takes PDUs out with [`Receiver::take_pdu`]. A Data-In is announced as soon as its header is
//! whole; its payload is then placed, piece by piece, into memory that the session names, and the
//! digest is folded over each piece while it is in cache.
//!
//! Invariants: a length is compared with the declared MaxRecvDataSegmentLength before anything is
//! reserved for it; nothing of a PDU is handed out before its header digest is right; no payload
//! other than a Data-In's is handed out before its data digest is right.
//!
//! After a wrong data digest the stream can still be followed, since the lengths were right: the
//! PDU is consumed and reported as damaged, and whoever knows the ErrorRecoveryLevel decides. After
//! a wrong header digest it cannot: the lengths may be what is wrong, and without markers nothing
//! says where the next PDU begins (RFC 7143 §7.8).
//!
//! Does not know tasks, sequence numbers or sockets.

use super::digest::{Crc32c, DIGEST_BYTES};
use super::{BHS_BYTES, Bhs, DataIn, Response, WireError, lengths, padded};

/// The least staging memory, in bytes.
const STAGING_MIN: usize = 4096;

/// Staging memory of a connection that is not busy, in bytes.
const STAGING_FIRST: usize = STAGING_MIN;

/// The receiving half of a connection, without the socket.
#[derive(Debug)]
pub struct Receiver {
    staging: Vec<u8>,
    /// Staging memory grows up to this when reads fill it.
    staging_max: usize,
    /// The last read filled all there was.
    short: bool,
    start: usize,
    end: usize,
    /// What the last handed-out PDU occupied; given up by the next call.
    handed_out: usize,
    header_digest: bool,
    data_digest: bool,
    max_data_bytes: u32,
    payload: Option<Payload>,
}

/// The Data-In payload under way.
#[derive(Debug)]
struct Payload {
    remaining: usize,
    /// Padding and digest that follow.
    padding: usize,
    crc: Crc32c,
}

/// What the staged bytes hold next.
#[derive(Debug)]
pub enum Received<'a> {
    /// No whole header, or no whole PDU: read more.
    Incomplete,
    /// A whole PDU other than Data-In.
    Pdu {
        /// The decoded header.
        header: Response,
        /// Its data segment, without padding, digest checked.
        data: &'a [u8],
    },
    /// A Data-In header; [`Receiver::place`] or [`Receiver::skip`] its `bytes` of payload until
    /// [`Receiver::finish_payload`] says that it is whole.
    DataIn {
        /// The decoded header.
        header: DataIn,
        /// DataSegmentLength.
        bytes: u32,
    },
    /// A whole PDU other than Data-In whose data digest is wrong ([`FrameError::DataDigest`]). It
    /// has been consumed, and no data of it are handed out (RFC 7143 §7.8).
    Damaged {
        /// The decoded header.
        header: Response,
    },
}

/// The stream cannot be followed, or a PDU of it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A header that breaks the RFC.
    #[error(transparent)]
    Header(#[from] WireError),
    /// The header digest is wrong (RFC 7143 §7.8): lengths cannot be trusted any more.
    #[error("wrong header digest")]
    HeaderDigest,
    /// The data digest is wrong (RFC 7143 §7.8). The stream can be followed nevertheless.
    #[error("wrong data digest")]
    DataDigest,
    /// A data segment longer than we declared to take (RFC 7143 §13.12).
    #[error("data segment of {bytes} bytes, MaxRecvDataSegmentLength is {limit}")]
    DataTooLong {
        /// DataSegmentLength.
        bytes: u32,
        /// What we declared.
        limit: u32,
    },
}

impl Receiver {
    /// Staging memory of up to `staging_bytes`, less at first; a PDU with data longer than
    /// `max_data_bytes` (our declared MaxRecvDataSegmentLength) is refused.
    #[must_use]
    pub fn new(staging_bytes: usize, max_data_bytes: u32) -> Self {
        Self {
            staging: vec![0; staging_bytes.clamp(STAGING_MIN, STAGING_FIRST)],
            staging_max: staging_bytes.max(STAGING_MIN),
            short: false,
            start: 0,
            end: 0,
            handed_out: 0,
            header_digest: false,
            data_digest: false,
            max_data_bytes,
            payload: None,
        }
    }

    /// A new connection: nothing staged, no digests, the limit that holds during login.
    pub fn reset(&mut self, max_data_bytes: u32) {
        self.start = 0;
        self.end = 0;
        self.handed_out = 0;
        self.payload = None;
        self.set_params(false, false, max_data_bytes);
    }

    /// Gives memory back that only a busy connection needs. No effect while bytes are staged.
    pub fn release_memory(&mut self) {
        self.give_up_handed_out();
        if self.start == self.end && self.staging.len() > STAGING_FIRST {
            self.staging = vec![0; STAGING_FIRST];
        }
        self.short = false;
    }

    /// Puts what a login negotiated into force, from the next PDU on.
    pub fn set_params(&mut self, header_digest: bool, data_digest: bool, max_data_bytes: u32) {
        self.header_digest = header_digest;
        self.data_digest = data_digest;
        self.max_data_bytes = max_data_bytes;
    }

    /// Where the next bytes of the stream go. Never empty after [`Received::Incomplete`].
    pub fn space(&mut self) -> &mut [u8] {
        self.give_up_handed_out();
        if std::mem::take(&mut self.short) && self.staging.len() < self.staging_max {
            let more = self.staging.len().saturating_mul(4).min(self.staging_max);
            self.staging.resize(more, 0);
        }
        if self.start > 0 && self.end == self.staging.len() {
            self.staging.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.staging.get_mut(self.end..).unwrap_or_default()
    }

    /// `bytes` have been put into [`Receiver::space`].
    pub fn filled(&mut self, bytes: usize) {
        self.end = self.end.saturating_add(bytes).min(self.staging.len());
        self.short = self.end == self.staging.len();
    }

    /// Takes the next PDU.
    ///
    /// # Errors
    /// The stream cannot be followed any more; the connection has to be dropped.
    pub fn take_pdu(&mut self) -> Result<Received<'_>, FrameError> {
        self.give_up_handed_out();
        debug_assert!(self.payload.is_none(), "finish the payload first");
        let Some(header_bytes) = self.check_header()? else {
            return Ok(Received::Incomplete);
        };
        let bhs = self.peek_bhs();
        let lengths = lengths(&bhs);
        let header = Response::decode(&bhs)?;
        let data_bytes = lengths.data_bytes as usize;
        let trailer = padded(lengths.data_bytes) as usize - data_bytes
            + if self.data_digest && data_bytes > 0 {
                DIGEST_BYTES
            } else {
                0
            };
        if let Response::DataIn(header) = header {
            self.start += header_bytes;
            self.payload = Some(Payload {
                remaining: data_bytes,
                padding: trailer,
                crc: Crc32c::new(),
            });
            super::words::received(&bhs, &[]);
            return Ok(Received::DataIn {
                header,
                bytes: lengths.data_bytes,
            });
        }
        let total = header_bytes + data_bytes + trailer;
        if self.staged() < total {
            self.reserve(total);
            return Ok(Received::Incomplete);
        }
        let from = self.start + header_bytes;
        if self.data_digest && data_bytes > 0 {
            let covered = total - DIGEST_BYTES;
            let (body, digest) = (
                self.slice(from, self.start + covered),
                self.slice(self.start + covered, self.start + total),
            );
            let mut crc = Crc32c::new();
            crc.update(body);
            if crc.to_wire() != *digest {
                self.handed_out = total;
                return Ok(Received::Damaged { header });
            }
        }
        self.handed_out = total;
        let data = self.slice(from, from + data_bytes);
        super::words::received(&bhs, data);
        Ok(Received::Pdu { header, data })
    }

    /// Copies staged payload of the Data-In under way into `into`, which is where the next byte
    /// of payload belongs; returns how many bytes were placed.
    pub fn place(&mut self, into: &mut [u8]) -> usize {
        let bytes = self.payload_staged().min(into.len());
        let from = self.start;
        if let (Some(to), Some(staged)) =
            (into.get_mut(..bytes), self.staging.get(from..from + bytes))
        {
            to.copy_from_slice(staged);
        }
        self.consume_payload(bytes);
        bytes
    }

    /// Drops staged payload of the Data-In under way (a late answer, a task that is gone).
    pub fn skip(&mut self) -> usize {
        let bytes = self.payload_staged();
        self.consume_payload(bytes);
        bytes
    }

    /// Payload bytes of the Data-In under way that are still to be placed.
    #[must_use]
    pub fn payload_remaining(&self) -> usize {
        self.payload.as_ref().map_or(0, |payload| payload.remaining)
    }

    /// Whether the payload may be read from the socket past the staging memory.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.staged() == 0
    }

    /// `bytes` of payload were read from the socket straight into their place.
    pub fn placed_directly(&mut self, bytes: &[u8]) {
        if let Some(payload) = &mut self.payload {
            debug_assert!(bytes.len() <= payload.remaining);
            if self.data_digest {
                payload.crc.update(bytes);
            }
            payload.remaining = payload.remaining.saturating_sub(bytes.len());
        }
    }

    /// Takes padding and digest once all payload is placed; `false` while bytes are missing.
    ///
    /// # Errors
    /// [`FrameError::DataDigest`] when the digest is wrong; the PDU has been consumed.
    pub fn finish_payload(&mut self) -> Result<bool, FrameError> {
        let Some(payload) = &mut self.payload else {
            return Ok(true);
        };
        if payload.remaining > 0 {
            return Ok(false);
        }
        let trailer = payload.padding;
        if self.end - self.start < trailer {
            return Ok(false);
        }
        let from = self.start;
        self.start += trailer;
        let trailer = self.staging.get(from..from + trailer).unwrap_or_default();
        let mut verdict = Ok(true);
        if let (true, Some((padding, digest))) =
            (self.data_digest, trailer.split_last_chunk::<DIGEST_BYTES>())
        {
            payload.crc.update(padding);
            if payload.crc.to_wire() != *digest {
                verdict = Err(FrameError::DataDigest);
            }
        }
        self.payload = None;
        verdict
    }

    /// Length of BHS, AHS and header digest once all of them are staged and right.
    fn check_header(&mut self) -> Result<Option<usize>, FrameError> {
        if self.staged() < BHS_BYTES {
            return Ok(None);
        }
        let lengths = lengths(&self.peek_bhs());
        let covered = BHS_BYTES + usize::from(lengths.ahs_bytes);
        let total = covered + if self.header_digest { DIGEST_BYTES } else { 0 };
        if self.staged() < total {
            self.reserve(total);
            return Ok(None);
        }
        if self.header_digest {
            let mut crc = Crc32c::new();
            crc.update(self.slice(self.start, self.start + covered));
            if crc.to_wire() != *self.slice(self.start + covered, self.start + total) {
                return Err(FrameError::HeaderDigest);
            }
        }
        if lengths.data_bytes > self.max_data_bytes {
            return Err(FrameError::DataTooLong {
                bytes: lengths.data_bytes,
                limit: self.max_data_bytes,
            });
        }
        Ok(Some(total))
    }

    fn peek_bhs(&self) -> Bhs {
        let mut bhs = [0; BHS_BYTES];
        bhs.copy_from_slice(self.slice(self.start, self.start + BHS_BYTES));
        bhs
    }

    fn staged(&self) -> usize {
        self.end - self.start
    }

    fn payload_staged(&self) -> usize {
        self.staged().min(self.payload_remaining())
    }

    fn consume_payload(&mut self, bytes: usize) {
        if let Some(payload) = &mut self.payload {
            if self.data_digest {
                payload.crc.update(
                    self.staging
                        .get(self.start..self.start + bytes)
                        .unwrap_or_default(),
                );
            }
            payload.remaining -= bytes;
            self.start += bytes;
        }
    }

    fn slice(&self, from: usize, to: usize) -> &[u8] {
        self.staging.get(from..to).unwrap_or_default()
    }

    fn give_up_handed_out(&mut self) {
        self.start += std::mem::take(&mut self.handed_out);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes sure that a PDU of `total` bytes can be staged whole. `total` has been bounded by
    /// the declared MaxRecvDataSegmentLength and the 1,020 bytes of AHS.
    fn reserve(&mut self, total: usize) {
        if self.staging.len() - self.start < total && self.start > 0 {
            self.staging.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.staging.len() < total {
            self.staging.resize(total, 0);
        }
    }
}

#[cfg(test)]
mod tests;
