//! One TCP connection as the target sees it: receive framing, send queue, status numbering.
//!
//! Invariant: StatSN advances by one for every PDU that takes a status number and for nothing else
//! (RFC 7143 §4.2.2.2), even when a fault loses that PDU.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::async_message::Duty;
use crate::fault::PduEffect;
use crate::kept::Shelf;
use crate::login::Login;
use crate::login::operational::Operational;
use crate::wire::framer::Framer;
use crate::wire::{Fields as _, Header, digest, low32, padding};

/// Where a connection is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    Login(Box<Login>),
    FullFeature,
    /// Nothing is taken any more; queued bytes still go out, then the connection closes.
    Draining,
}

/// Why a connection leaves its session, which decides what becomes of its tasks (RFC 7143 §7.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It broke, or the target dropped it.
    Failed,
    /// Logged out for recovery, explicitly or by a login with its CID.
    Recovery,
    /// Logged out for good.
    Closed,
}

/// How a PDU takes part in status numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Carries StatSN and advances it.
    Status,
    /// Carries the next StatSN without advancing it (R2T, unsolicited NOP-In).
    Next,
    /// StatSN is reserved (Data-In without status).
    Reserved,
}

/// A NOP-In that waits for its answer.
#[derive(Debug, Clone)]
pub(crate) struct Ping {
    pub(crate) lun: u64,
    pub(crate) data: Bytes,
}

/// A text exchange in progress.
#[derive(Debug, Clone)]
pub(crate) struct TextExchange {
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
    pub(crate) gathered: Vec<u8>,
    pub(crate) outgoing: Vec<Vec<u8>>,
    pub(crate) negotiation: Operational,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) portal: usize,
    pub(crate) framer: Framer,
    pub(crate) phase: Phase,
    pub(crate) out: BytesMut,
    pub(crate) stat_sn: u32,
    pub(crate) first_stat_sn: u32,
    /// Last ExpStatSN that the target received, and that the initiator sent.
    pub(crate) acknowledged: Option<u32>,
    pub(crate) judged_acknowledged: Option<u32>,
    /// Answers not acknowledged yet.
    pub(crate) shelf: Shelf,
    /// Highest CmdSN of a non-immediate request sent here for the first time.
    pub(crate) last_cmd_sn: Option<u32>,
    pub(crate) session: Option<u16>,
    pub(crate) cid: u16,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// Longest segment the initiator takes on this connection.
    pub(crate) initiator_segment: usize,
    /// Longest segment this target declared for this connection.
    pub(crate) own_segment: usize,
    /// What replaces it once the answer of this StatSN is acknowledged.
    pub(crate) next_own_segment: Option<(u32, usize)>,
    /// A request of the full feature phase came: the initiator knows that its login succeeded.
    pub(crate) used: bool,
    pub(crate) logout_seen: bool,
    pub(crate) text: Option<TextExchange>,
    pub(crate) pings: BTreeMap<u32, Ping>,
    pub(crate) silent: bool,
    /// Nothing is sent and nothing that comes is looked at.
    pub(crate) stalled: bool,
    /// PDUs that let others pass: how many still, and the bytes.
    pub(crate) delayed: Vec<(u32, Vec<u8>)>,
    /// How it leaves the session.
    pub(crate) leaving: Leaving,
    /// Time2Wait and Time2Retain announced for its end, in seconds.
    pub(crate) times: Option<(u16, u16)>,
    /// What Asynchronous Messages ask of the initiator.
    pub(crate) duties: Vec<Duty>,
    /// Its end was announced by an Async Message.
    pub(crate) announced: bool,
    /// The driver was told to close.
    pub(crate) closing: bool,
}

impl Connection {
    pub(crate) fn new(portal: usize, login: Login, first_stat_sn: u32) -> Self {
        Self {
            portal,
            framer: Framer::default(),
            phase: Phase::Login(Box::new(login)),
            out: BytesMut::new(),
            stat_sn: first_stat_sn,
            first_stat_sn,
            acknowledged: None,
            judged_acknowledged: None,
            shelf: Shelf::default(),
            last_cmd_sn: None,
            session: None,
            cid: 0,
            header_digest: false,
            data_digest: false,
            initiator_segment: 8192,
            own_segment: 8192,
            next_own_segment: None,
            used: false,
            logout_seen: false,
            text: None,
            pings: BTreeMap::new(),
            silent: false,
            stalled: false,
            delayed: Vec::new(),
            leaving: Leaving::Failed,
            times: None,
            duties: Vec::new(),
            announced: false,
            closing: false,
        }
    }

    /// Stamps the status number.
    pub(crate) fn number(&mut self, header: &mut Header, numbering: Numbering) {
        match numbering {
            Numbering::Status => {
                header.put(24, &self.stat_sn.to_be_bytes());
                self.stat_sn = self.stat_sn.wrapping_add(1);
            }
            Numbering::Next => header.put(24, &self.stat_sn.to_be_bytes()),
            Numbering::Reserved => {}
        }
    }

    /// Encodes a numbered PDU into the send queue, harmed as `effect` says; whether it arrives whole.
    pub(crate) fn encode(
        &mut self,
        header: &Header,
        data: &[u8],
        effect: Option<&PduEffect>,
    ) -> bool {
        if self.silent {
            return false;
        }
        let mut header = *header;
        let mut data = data;
        match effect {
            Some(PduEffect::Drop | PduEffect::Reset) => return false,
            Some(PduEffect::Silence) => {
                self.silent = true;
                return false;
            }
            Some(PduEffect::ReplaceData(replacement)) => data = replacement,
            _ => {}
        }
        header.put24(5, low32(data.len()));
        match effect {
            Some(PduEffect::Patch(patches)) => {
                for (at, value) in patches {
                    header.put(*at, &[*value]);
                }
            }
            Some(PduEffect::ClaimLength(bytes)) => header.put24(5, *bytes),
            _ => {}
        }
        if let Some(PduEffect::Delay(others)) = effect {
            let waiting = std::mem::take(&mut self.out);
            self.put(&header, data, effect);
            let late = std::mem::replace(&mut self.out, waiting);
            self.delayed.push((*others, late.to_vec()));
            return true;
        }
        let copies = if effect == Some(&PduEffect::Duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            self.put(&header, data, effect);
        }
        self.let_pass();
        let flipped = match effect {
            Some(PduEffect::FlipHeaderDigest) => self.header_digest,
            Some(PduEffect::FlipDataDigest | PduEffect::FlipData) => {
                self.data_digest && !data.is_empty()
            }
            _ => false,
        };
        !flipped
    }

    /// One more PDU has passed those that are delayed.
    fn let_pass(&mut self) {
        for (others, _) in &mut self.delayed {
            *others = others.saturating_sub(1);
        }
        let due = self.delayed.iter().take_while(|(others, _)| *others == 0);
        let count = due.count();
        for (_, bytes) in self.delayed.drain(..count) {
            self.out.extend_from_slice(&bytes);
        }
    }

    fn put(&mut self, header: &Header, data: &[u8], effect: Option<&PduEffect>) {
        let pad = [0; 3];
        let pad = pad.get(..padding(data.len())).unwrap_or_default();
        self.out.reserve(header.len() + data.len() + pad.len() + 8);
        self.out.extend_from_slice(header);
        if self.header_digest {
            let mut sum = digest(&[header]);
            sum[0] ^= u8::from(effect == Some(&PduEffect::FlipHeaderDigest));
            self.out.extend_from_slice(&sum);
        }
        if data.is_empty() {
            return;
        }
        self.out.extend_from_slice(data);
        if effect == Some(&PduEffect::FlipData)
            && let Some(last) = self.out.last_mut()
        {
            *last ^= 0x10;
        }
        self.out.extend_from_slice(pad);
        if self.data_digest {
            let mut sum = digest(&[data, pad]);
            sum[0] ^= u8::from(effect == Some(&PduEffect::FlipDataDigest));
            self.out.extend_from_slice(&sum);
        }
    }
}
