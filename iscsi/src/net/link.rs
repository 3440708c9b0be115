//! One connection as the driver has it: the dial, the reading half, what is staged of it.
//!
//! The writing half is beside those of the other connections in [`super::shared::Writer`], because
//! callers write, too.

use std::future::Future;
use std::io::{self, IoSliceMut, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use socket2::SockRef;
use tokio::io::Interest;
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

/// A payload with at least this much to come is read straight into its place, and what follows it
/// into the staging memory, in one system call.
const DIRECT_BYTES: usize = 64 * 1024;

/// What is read ahead into the staging memory while payloads are that long: enough for the next
/// header. More would take the next payload there, to be copied once more.
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

    /// Stops reading; returns the memory that was being filled, and what it was filled from.
    pub(super) fn close(&mut self) -> (Option<Loan>, Option<OwnedReadHalf>) {
        self.dial = None;
        let loan = self.placing.take().and_then(|(_, loan)| loan);
        (loan, self.half.take())
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
        let Some(half) = &self.half else {
            return false;
        };
        let direct_bytes = if self.long { 1 } else { DIRECT_BYTES };
        let direct =
            self.receiver.is_drained() && self.receiver.payload_remaining() >= direct_bytes;
        let mut ahead = self.receiver.space();
        let (place, thrown_away) = match &mut self.placing {
            Some((_, Some(loan))) if direct => (loan.space(), false),
            placing => (&mut [][..], matches!(placing, Some((_, None)))),
        };
        let place_bytes = place.len();
        // A payload that is thrown away needs no place.
        if self.long && !thrown_away || place_bytes > 0 {
            let bytes = ahead.len().min(READ_AHEAD_BYTES);
            ahead = ahead.get_mut(..bytes).unwrap_or_default();
        }
        let Poll::Ready(result) = receive(half.as_ref(), cx, place, ahead) else {
            return false;
        };
        let bytes = *result.as_ref().unwrap_or(&0);
        let placed = bytes.min(place_bytes);
        if let Some((_, Some(loan))) = &mut self.placing
            && placed > 0
        {
            let filled = loan.space().get(..placed).unwrap_or_default();
            self.receiver.placed_directly(filled);
            loan.filled(placed);
        }
        self.receiver.filled(bytes - placed);
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

/// Reads once, into `place` and then into `ahead`.
fn receive(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    place: &mut [u8],
    ahead: &mut [u8],
) -> Poll<io::Result<usize>> {
    let space = place.len() + ahead.len();
    let socket = SockRef::from(stream);
    let mut socket = &*socket;
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let mut received = None;
        let result = stream.try_io(Interest::READABLE, || {
            let bytes = if place.is_empty() {
                socket.read(ahead)?
            } else {
                socket.read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(ahead)])?
            };
            received = Some(bytes);
            if (1..space).contains(&bytes) {
                // There was no more: wait for the next readiness without asking for it in vain.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (received, result) {
            (Some(bytes), _) => return Poll::Ready(Ok(bytes)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            (None, _) => {}
        }
    }
}
