//! A record of the PDUs that passed, for tests that assert on the wire.
//!
//! Off unless [`crate::Config::wire_log`] says how many to keep. Incoming PDUs are recorded as they came, whatever a
//! fault makes of them; outgoing ones as they were meant, with whether they arrived whole.

use std::collections::VecDeque;
use std::time::Instant;

use crate::ConnectionId;
use crate::wire::Header;

/// Which way a PDU went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the initiator.
    In,
    /// To the initiator; `whole` is false when a fault lost or damaged it.
    Out {
        /// It arrived as it was meant.
        whole: bool,
    },
}

/// One PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRecord {
    /// When.
    pub at: Instant,
    /// On which connection.
    pub connection: ConnectionId,
    /// Which way.
    pub direction: Direction,
    /// Its Basic Header Segment.
    pub header: Header,
    /// Its additional header segments.
    pub ahs: Vec<u8>,
    /// Its data segment, up to 512 bytes of it.
    pub data: Vec<u8>,
    /// Length of its data segment in bytes.
    pub data_bytes: usize,
}

impl WireRecord {
    /// Opcode without the I bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    /// Big-endian number at a byte of the header; 0 outside of it.
    #[must_use]
    pub fn be32(&self, at: usize) -> u32 {
        crate::wire::Fields::be32(&self.header[..], at)
    }
}

impl std::fmt::Display for WireRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = match self.direction {
            Direction::In => "in",
            Direction::Out { whole: true } => "out",
            Direction::Out { whole: false } => "out (lost)",
        };
        let (header, bytes) = (&self.header, self.data_bytes);
        write!(f, "{:?} {way} {:#04x} ", self.connection, header[0])?;
        write!(f, "{:02x?} ", &header[1..4])?;
        write!(f, "itt {:08x} {:08x}", self.be32(16), self.be32(20))?;
        // CmdSN and ExpStatSN of an initiator; StatSN, ExpCmdSN and MaxCmdSN of a target.
        for at in [24, 28, 32, 36, 40] {
            write!(f, " {}", self.be32(at))?;
        }
        write!(f, " {bytes} bytes")
    }
}

/// The newest PDUs.
#[derive(Debug, Default)]
pub(crate) struct WireLog {
    pub(crate) records: VecDeque<WireRecord>,
}

const DATA_KEPT: usize = 512;

impl WireLog {
    pub(crate) fn note(
        &mut self,
        limit: usize,
        at: Instant,
        connection: ConnectionId,
        direction: Direction,
        (header, ahs, data): (&Header, &[u8], &[u8]),
    ) {
        if limit == 0 {
            return;
        }
        if self.records.len() >= limit {
            self.records.pop_front();
        }
        self.records.push_back(WireRecord {
            at,
            connection,
            direction,
            header: *header,
            ahs: ahs.to_vec(),
            data: data.get(..DATA_KEPT).unwrap_or(data).to_vec(),
            data_bytes: data.len(),
        });
    }
}
