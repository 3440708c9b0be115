//! One connection as the driver has it: the dial, the reading half, what is staged of it.
//!
//! The writing half is beside those of the other connections in [`super::shared::Writer`], because
//! callers write, too.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::driver::now;
use super::shared::{Core, Shared};
use crate::name::Cid;
use crate::session::{Action, Loan, Placement};
use crate::wire::receiver::{Received, Receiver};
use crate::wire::{DataIn, Response};

/// Staging memory of a busy connection, in bytes.
const STAGING_BYTES: usize = 256 * 1024;

/// The limit on a data segment during login (RFC 7143 §13.12).
const LOGIN_DATA_BYTES: u32 = 8192;

/// Payload that is copied with the core locked; longer ones are copied without.
const COPY_LOCKED_BYTES: u32 = 16 * 1024;

/// A payload with at least this much to come is read straight into its place.
const DIRECT_BYTES: usize = 64 * 1024;

/// What is read ahead into the staging memory while payloads are that long: enough for the next
/// header. More would take the payload itself there, to be copied once more.
const READ_AHEAD_BYTES: usize = 4096;

pub(super) type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

pub(super) struct Link {
    pub(super) cid: Cid,
    pub(super) dial: Option<Dial>,
    half: Option<OwnedReadHalf>,
    receiver: Receiver,
    /// The Data-In whose payload is under way; without a loan it is thrown away.
    placing: Option<(DataIn, Option<Loan>)>,
    /// The last PDU was a Data-In of at least [`DIRECT_BYTES`]; the next one likely is too.
    long: bool,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            cid: Cid(0),
            dial: None,
            half: None,
            receiver: Receiver::new(STAGING_BYTES, LOGIN_DATA_BYTES),
            placing: None,
            long: false,
        }
    }

    /// Whether it has neither a connection nor one to come.
    pub(super) fn is_free(&self) -> bool {
        self.dial.is_none() && self.half.is_none()
    }

    /// Reads from `half` from now on.
    pub(super) fn open(&mut self, half: OwnedReadHalf) {
        self.half = Some(half);
        self.receiver.reset(LOGIN_DATA_BYTES);
    }

    /// Stops reading; returns the memory that was being filled.
    pub(super) fn close(&mut self) -> Option<Loan> {
        self.dial = None;
        self.half = None;
        self.placing.take().and_then(|(_, loan)| loan)
    }

    pub(super) fn release_memory(&mut self) {
        self.receiver.release_memory();
    }

    /// Puts what a login settled into force.
    pub(super) fn set_params(&mut self, header_digest: bool, data_digest: bool, bytes: u32) {
        self.receiver.set_params(header_digest, data_digest, bytes);
    }

    /// Reads once and takes what came; `false` when there is nothing to read.
    pub(super) fn read(&mut self, shared: &Arc<Shared>, cx: &mut Context<'_>) -> bool {
        let Some(half) = &mut self.half else {
            return false;
        };
        let half = Pin::new(half);
        let direct_bytes = if self.long { 1 } else { DIRECT_BYTES };
        let result = match &mut self.placing {
            Some((_, Some(loan)))
                if self.receiver.is_drained()
                    && self.receiver.payload_remaining() >= direct_bytes =>
            {
                let mut buf = ReadBuf::new(loan.space());
                let Poll::Ready(result) = half.poll_read(cx, &mut buf) else {
                    return false;
                };
                let filled = buf.filled();
                let bytes = filled.len();
                self.receiver.placed_directly(filled);
                loan.filled(bytes);
                result.map(|()| bytes)
            }
            placing => {
                let mut space = self.receiver.space();
                // A payload that is thrown away needs no place.
                if self.long && !matches!(placing, Some((_, None))) {
                    let ahead = space.len().min(READ_AHEAD_BYTES);
                    space = space.get_mut(..ahead).unwrap_or_default();
                }
                let mut buf = ReadBuf::new(space);
                let Poll::Ready(result) = half.poll_read(cx, &mut buf) else {
                    return false;
                };
                let bytes = buf.filled().len();
                self.receiver.filled(bytes);
                result.map(|()| bytes)
            }
        };
        match result {
            Ok(0) => self.lost(shared, None),
            Ok(_) => self.take_pdus(shared),
            Err(error) => self.lost(shared, Some(error.to_string())),
        }
        true
    }

    fn lost(&self, shared: &Shared, reason: Option<String>) {
        let mut core = shared.core();
        core.session.handle_lost(now(), self.cid, reason);
    }

    /// Takes all whole PDUs out of the staging memory, and as much payload as there is.
    fn take_pdus(&mut self, shared: &Shared) {
        let now = now();
        let mut core = shared.core();
        core.session.handle_heard(now, self.cid);
        loop {
            if let Some((pdu, loan)) = self.placing.take() {
                if !self.place(now, &mut core, pdu, loan) {
                    return;
                }
                continue;
            }
            if core.session.has_actions() {
                // A change of parameters counts from the next PDU on; a connection to be closed
                // has no next PDU.
                if let Some(Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                }) = core.session.poll_logged_in(self.cid)
                {
                    self.set_params(header_digest, data_digest, max_recv_bytes);
                }
                if !core.session.is_open(self.cid) {
                    return;
                }
            }
            match self.receiver.take_pdu() {
                Ok(Received::Incomplete) => return,
                Ok(Received::Pdu { header, data }) => {
                    self.long = false;
                    core.session.handle_pdu(now, self.cid, &header, data);
                }
                Ok(Received::Damaged { header }) => {
                    core.session.handle_damaged(now, self.cid, &header, None);
                }
                Ok(Received::DataIn { header, bytes }) => {
                    let loan = match core.session.handle_data_in(now, self.cid, &header, bytes) {
                        Placement::Into(loan) => Some(loan),
                        Placement::Nothing | Placement::Discard => None,
                    };
                    self.placing = Some((header, loan));
                    self.long = bytes as usize >= DIRECT_BYTES;
                    if bytes > COPY_LOCKED_BYTES {
                        drop(core);
                        self.copy_staged();
                        core = shared.core();
                    }
                }
                Err(error) => {
                    core.session.handle_frame_error(now, self.cid, error);
                    return;
                }
            }
        }
    }

    /// Moves staged payload to its place.
    fn copy_staged(&mut self) {
        match &mut self.placing {
            Some((_, Some(loan))) => {
                let bytes = self.receiver.place(loan.space());
                loan.filled(bytes);
            }
            Some((_, None)) => {
                self.receiver.skip();
            }
            None => {}
        }
    }

    /// Goes on with a payload; `false` while bytes of it are missing.
    fn place(&mut self, now: Instant, core: &mut Core, pdu: DataIn, loan: Option<Loan>) -> bool {
        self.placing = Some((pdu, loan));
        self.copy_staged();
        let finished = self.receiver.finish_payload();
        if finished == Ok(false) {
            return false;
        }
        let loan = self.placing.take().and_then(|(_, loan)| loan);
        match finished {
            Ok(_) => core.session.handle_placed(now, self.cid, &pdu, loan),
            Err(_) => {
                let pdu = Response::DataIn(pdu);
                core.session.handle_damaged(now, self.cid, &pdu, loan);
            }
        }
        true
    }
}
