//! The task of one session: does what the core asks, and tells it what happened.
//!
//! A hand-written future, so that one wake-up serves socket, timer and callers alike. Each poll
//! works in the order read, act, write, timers, and yields after a bounded amount of work.
//!
//! Invariant of the fence: a connection is cut (abortively, unless it was logged out) before the
//! core is told, and only then does any command of it end.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Sleep;

use super::connector;
use super::shared::{Core, Shared};
use crate::name::Cid;
use crate::session::{Action, Loan, Placement};
use crate::wire::receiver::{Received, Receiver};
use crate::wire::transmit::MAX_SLICES;
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

/// Reads, and writes, in one poll; then other tasks get their turn.
const BUDGET: usize = 16;

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

pub(super) struct Driver {
    shared: Arc<Shared>,
    cid: Cid,
    dial: Option<Dial>,
    half: Option<OwnedReadHalf>,
    receiver: Receiver,
    /// The Data-In whose payload is under way; without a loan it is thrown away.
    placing: Option<(DataIn, Option<Loan>)>,
    /// The last PDU was a Data-In of at least [`DIRECT_BYTES`]; the next one likely is too.
    long: bool,
    timer: Pin<Box<Sleep>>,
    wakes: Vec<Waker>,
    /// The last connection's stream position when it was closed.
    written: u64,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            cid: Cid(0),
            dial: None,
            half: None,
            receiver: Receiver::new(STAGING_BYTES, LOGIN_DATA_BYTES),
            placing: None,
            long: false,
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            wakes: Vec::new(),
            written: 0,
        }
    }

    /// Does what the core asks, until it asks nothing more.
    fn act(&mut self, cx: &mut Context<'_>) {
        loop {
            let mut core = self.shared.core();
            let Some(action) = core.session.poll_action() else {
                self.shared.publish(&mut core);
                core.session.take_wakes(&mut self.wakes);
                return;
            };
            drop(core);
            match action {
                Action::Connect {
                    cid,
                    portal,
                    timeout,
                } => {
                    self.cid = cid;
                    let mut dial: Dial =
                        Box::pin(async move { connector::connect(&portal, timeout).await });
                    // Polled at once, so that it is registered.
                    if let Poll::Ready(result) = dial.as_mut().poll(cx) {
                        self.dialled(result);
                    } else {
                        self.dial = Some(dial);
                    }
                }
                Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                } => {
                    self.receiver
                        .set_params(header_digest, data_digest, max_recv_bytes);
                }
                Action::Close { cid, abort } => self.close(cid, abort),
            }
        }
    }

    fn dialled(&mut self, result: io::Result<TcpStream>) {
        self.dial = None;
        let connected = match result {
            Ok(stream) => {
                let (read, write) = stream.into_split();
                self.half = Some(read);
                self.receiver.reset(LOGIN_DATA_BYTES);
                let mut writer = self.shared.writer();
                writer.transmit.reset();
                writer.half = Some(write);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        let now = now();
        let mut core = self.shared.core();
        match connected {
            Ok(()) => core.session.handle_connected(now, self.cid),
            Err(reason) => core.session.handle_connect_failed(now, self.cid, reason),
        }
    }

    /// Cuts the connection, then tells the core.
    fn close(&mut self, cid: Cid, abort: bool) {
        let loan = self.cut(abort);
        let mut core = self.shared.core();
        if let Some(loan) = loan {
            core.session.take_back(loan);
        }
        core.session.handle_closed(now(), cid, self.written);
    }

    /// Cuts the connection, if there is one; returns the memory that was being filled.
    fn cut(&mut self, abort: bool) -> Option<Loan> {
        self.dial = None;
        let mut writer = self.shared.writer();
        self.written = 0;
        if let Some(write) = writer.half.take() {
            self.written = writer.transmit.written();
            if abort {
                // RST, and nothing that the kernel still holds is sent any more.
                if let Err(error) = write.as_ref().set_zero_linger() {
                    tracing::warn!(%error, "a connection could not be made to close abortively");
                }
                write.forget();
            }
        }
        writer.transmit.reset();
        drop(writer);
        self.half = None;
        self.placing.take().and_then(|(_, loan)| loan)
    }

    /// Reads until the socket has nothing or the budget is used up; `true` in the latter case.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..BUDGET {
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
                Ok(0) => self.lost(None),
                Ok(_) => self.take_pdus(),
                Err(error) => self.lost(Some(error.to_string())),
            }
            self.act(cx);
        }
        true
    }

    fn lost(&self, reason: Option<String>) {
        self.shared
            .core()
            .session
            .handle_lost(now(), self.cid, reason);
    }

    /// Takes all whole PDUs out of the staging memory, and as much payload as there is.
    fn take_pdus(&mut self) {
        let now = now();
        let shared = Arc::clone(&self.shared);
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
                let Some(action) = core.session.poll_logged_in(self.cid) else {
                    return;
                };
                if let Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                } = action
                {
                    self.receiver
                        .set_params(header_digest, data_digest, max_recv_bytes);
                }
                continue;
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

    /// Writes until nothing is left, the socket takes no more, or the budget is used up (`true`).
    fn write(&self, cx: &mut Context<'_>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut writer = shared.writer();
        let writer = &mut *writer;
        for _ in 0..BUDGET {
            let Some(half) = &mut writer.half else {
                return false;
            };
            if writer.transmit.is_empty() {
                let mut core = shared.core();
                if !core.session.wants_transmit(self.cid) {
                    return false;
                }
                core.session
                    .poll_transmit(now(), self.cid, &mut writer.transmit);
                drop(core);
                writer.transmit.seal();
                if writer.transmit.is_empty() {
                    return false;
                }
            }
            let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
            writer.transmit.slices(&mut slices);
            let Poll::Ready(result) = Pin::new(half).poll_write_vectored(cx, &slices) else {
                return false;
            };
            drop(slices);
            match result {
                Ok(bytes) => writer.transmit.advance(bytes),
                Err(error) => {
                    shared
                        .core()
                        .session
                        .handle_lost(now(), self.cid, Some(error.to_string()));
                    // Again, to close.
                    return true;
                }
            }
        }
        true
    }

    /// Does what is due and sets the timer; `true` when something was due.
    fn timers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut core = self.shared.core();
        let Some(due) = core.session.poll_timeout() else {
            core.armed = None;
            return false;
        };
        let now = now();
        if due <= now {
            core.session.handle_timeout(now);
            let quiet = core.session.is_quiet();
            drop(core);
            if quiet {
                self.receiver.release_memory();
                self.shared.writer().transmit.release_memory();
            }
            return true;
        }
        // The timer may only be moved forward: that a deadline has moved back is found out when
        // it fires.
        if core.armed.is_none_or(|armed| due < armed || armed <= now) {
            core.armed = Some(due);
            self.timer.as_mut().reset(due.into());
        }
        drop(core);
        if self.timer.as_mut().poll(cx).is_ready() {
            self.shared.core().armed = None;
            return true;
        }
        false
    }

    fn wake(&mut self) {
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        {
            let mut core = this.shared.core();
            core.rung = false;
            if !core
                .driver
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
            {
                core.driver = Some(cx.waker().clone());
            }
        }
        for _ in 0..BUDGET {
            if let Some(dial) = &mut this.dial
                && let Poll::Ready(result) = dial.as_mut().poll(cx)
            {
                this.dialled(result);
            }
            this.act(cx);
            let mut more = this.read(cx);
            this.act(cx);
            this.wake();
            more |= this.write(cx);
            more |= this.timers(cx);
            if !more {
                return this.finished();
            }
        }
        // Others first; the rest in the next poll.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver {
    /// Ready when the session has ended and nothing is left to tell.
    fn finished(&mut self) -> Poll<()> {
        let mut core = self.shared.core();
        self.shared.publish(&mut core);
        core.session.take_wakes(&mut self.wakes);
        let done = core.session.is_closed() && !core.session.has_actions() && self.dial.is_none();
        if done {
            core.driver = None;
        }
        drop(core);
        self.wake();
        if done { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Driver {
    /// A driver that ends before its session (its runtime is gone, it panicked) leaves nobody
    /// waiting.
    fn drop(&mut self) {
        let loan = self.cut(true);
        let mut core = self.shared.core();
        if let Some(loan) = loan {
            core.session.take_back(loan);
        }
        core.session.handle_stopped(&[(self.cid, self.written)]);
        core.driver = None;
        self.shared.publish(&mut core);
        core.session.take_wakes(&mut self.wakes);
        drop(core);
        self.wake();
    }
}

#[expect(clippy::disallowed_methods, reason = "drivers read the clock")]
fn now() -> Instant {
    Instant::now()
}
