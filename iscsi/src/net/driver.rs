//! The task of one session: does what the core asks, and tells it what happened.
//!
//! A hand-written future, so that one wake-up serves sockets, timer and callers alike. Each poll
//! works in the order read, act, write, timers, and yields after a bounded amount of work.
//!
//! Invariant of the fence: a connection is cut (abortively, unless it was logged out) before the
//! core is told, and only then does any command of it end. One that was logged out is closed after
//! the target has closed it ([`Farewell`]).

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use smallvec::SmallVec;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::connector;
use super::farewell::Farewell;
use super::link::{Dial, Link};
use super::shared::{Outlet, Shared};
use crate::name::Cid;
use crate::session::{Action, Loan};
use crate::wire::transmit::MAX_SLICES;

/// Reads, and writes, of one connection in one poll; then other tasks get their turn.
const BUDGET: usize = 16;

pub(super) struct Driver {
    shared: Arc<Shared>,
    /// One per connection, and never fewer than there were at once; each belongs to the outlet
    /// with the same index.
    links: Vec<Link>,
    /// Connections that were logged out and are not closed yet.
    farewells: Vec<Farewell>,
    timer: Pin<Box<Sleep>>,
    wakes: Vec<Waker>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            links: vec![Link::new()],
            farewells: Vec::new(),
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            wakes: Vec::new(),
        }
    }

    /// The place of a connection.
    fn place_of(&self, cid: Cid) -> Option<usize> {
        let used = |link: &Link| link.cid == cid && !link.is_free();
        self.links.iter().position(used)
    }

    /// A place for a new connection.
    fn free_place(&mut self) -> usize {
        if let Some(at) = self.links.iter().position(Link::is_free) {
            return at;
        }
        self.links.push(Link::new());
        self.shared.writer().outlets.push(Outlet::new());
        self.links.len() - 1
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
                    let at = self.free_place();
                    let mut dial: Dial =
                        Box::pin(async move { connector::connect(&portal, timeout).await });
                    // Polled at once, so that it is registered.
                    let polled = dial.as_mut().poll(cx);
                    if let Some(link) = self.links.get_mut(at) {
                        link.cid = cid;
                        link.dial = Some(dial);
                    }
                    if let Poll::Ready(result) = polled {
                        self.dialled(at, result);
                    }
                }
                Action::LoggedIn {
                    cid,
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                } => {
                    let at = self.place_of(cid);
                    if let Some(link) = at.and_then(|at| self.links.get_mut(at)) {
                        link.set_params(header_digest, data_digest, max_recv_bytes);
                    }
                }
                Action::Close { cid, abort: true } => self.close(cid),
                Action::Close { cid, abort: false } => self.leave(cid, cx),
            }
        }
    }

    fn dialled(&mut self, at: usize, result: io::Result<TcpStream>) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let cid = link.cid;
        link.dial = None;
        let connected = match result {
            Ok(stream) => {
                let (read, write) = stream.into_split();
                link.open(read);
                if let Some(outlet) = self.shared.writer().outlets.get_mut(at) {
                    outlet.open(cid, write);
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        let now = now();
        let mut core = self.shared.core();
        match connected {
            Ok(()) => core.session.handle_connected(now, cid),
            Err(reason) => core.session.handle_connect_failed(now, cid, reason),
        }
    }

    /// Cuts a connection, then tells the core.
    fn close(&mut self, cid: Cid) {
        let place = self.place_of(cid);
        let (loan, written) = place.map_or((None, 0), |at| self.cut(at));
        // The session may be about to log in anew: it does not wait for who leaves in good order.
        let left = std::mem::take(&mut self.farewells);
        let mut core = self.shared.core();
        if let Some(loan) = loan {
            core.session.take_back(loan);
        }
        core.session.handle_closed(now(), cid, written);
        for Farewell { cid, written, .. } in left {
            core.session.handle_closed(now(), cid, written);
        }
    }

    /// Cuts a connection; returns the memory that was being filled, and how much of its stream the
    /// network has taken.
    fn cut(&mut self, at: usize) -> (Option<Loan>, u64) {
        let mut writer = self.shared.writer();
        let written = writer.outlets.get_mut(at).map_or(0, Outlet::cut);
        drop(writer);
        let loan = self.links.get_mut(at).and_then(|link| link.close().0);
        (loan, written)
    }

    /// Has a connection that was logged out closed by the target.
    fn leave(&mut self, cid: Cid, cx: &mut Context<'_>) {
        let Some(at) = self.place_of(cid) else {
            return self.close(cid);
        };
        let (write, written) = match self.shared.writer().outlets.get_mut(at) {
            Some(outlet) => outlet.take(),
            None => (None, 0),
        };
        let (loan, read) = self.links.get_mut(at).map_or((None, None), Link::close);
        if let Some(loan) = loan {
            self.shared.core().session.take_back(loan);
        }
        if let (Some(read), Some(write)) = (read, write) {
            let farewell = Farewell::new(cid, written, read, write);
            self.farewells.push(farewell);
            // Polled at once, so that it is registered.
            self.part(cx);
        } else {
            self.shared
                .core()
                .session
                .handle_closed(now(), cid, written);
        }
    }

    /// Closes what the target has closed.
    fn part(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while let Some(farewell) = self.farewells.get_mut(at) {
            if farewell.poll(cx).is_pending() {
                at += 1;
                continue;
            }
            let Farewell { cid, written, .. } = self.farewells.swap_remove(at);
            let mut core = self.shared.core();
            core.session.handle_closed(now(), cid, written);
        }
    }

    /// Goes on opening connections.
    fn dial(&mut self, cx: &mut Context<'_>) {
        for at in 0..self.links.len() {
            let dial = self.links.get_mut(at).and_then(|link| link.dial.as_mut());
            if let Some(Poll::Ready(result)) = dial.map(|dial| dial.as_mut().poll(cx)) {
                self.dialled(at, result);
            }
        }
    }

    /// Reads until the sockets have nothing or the budget of one is used up (`true`).
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut more = false;
        let mut at = 0;
        while at < self.links.len() {
            let mut reads = 0;
            while let Some(link) = self.links.get_mut(at)
                && link.read(&self.shared, cx)
            {
                self.act(cx);
                reads += 1;
                if reads == BUDGET {
                    more = true;
                    break;
                }
            }
            at += 1;
        }
        more
    }

    /// Writes until nothing is left, no socket takes more, or the budget is used up (`true`).
    fn write(&self, cx: &mut Context<'_>) -> bool {
        let mut writer = self.shared.writer();
        let outlets = &mut writer.outlets;
        let several = outlets.len() > 1;
        for _ in 0..BUDGET {
            self.fill(outlets);
            let mut wrote = false;
            for outlet in outlets.iter_mut() {
                match outlet.write(cx) {
                    Wrote::Nothing => {}
                    Wrote::Bytes => wrote = true,
                    Wrote::Full => {
                        if several && !outlet.blocked {
                            // Others get its commands now.
                            wrote = true;
                            self.blocked(outlet, true);
                        }
                        continue;
                    }
                    Wrote::Failed(error) => {
                        let mut core = self.shared.core();
                        let reason = Some(error.to_string());
                        core.session.handle_lost(now(), outlet.cid, reason);
                        // Again, to close.
                        return true;
                    }
                }
                if outlet.blocked && outlet.transmit.is_empty() {
                    wrote = true;
                    self.blocked(outlet, false);
                }
            }
            if !wrote {
                return false;
            }
        }
        true
    }

    fn blocked(&self, outlet: &mut Outlet, blocked: bool) {
        outlet.blocked = blocked;
        let mut core = self.shared.core();
        core.session.handle_blocked(outlet.cid, blocked);
    }

    /// Asks the core what is to be sent on the connections whose last batch is out. With several,
    /// commands alternate between them, so that none gets everything.
    fn fill(&self, outlets: &mut [Outlet]) {
        let mut empty = false;
        for outlet in outlets.iter_mut() {
            outlet.filling = outlet.half.is_some() && outlet.transmit.is_empty();
            empty |= outlet.filling;
        }
        if !empty {
            return;
        }
        let mut core = self.shared.core();
        loop {
            let mut grown = false;
            for outlet in outlets.iter_mut().filter(|outlet| outlet.filling) {
                if core.session.wants_transmit(outlet.cid) {
                    let before = outlet.transmit.queued();
                    core.session
                        .poll_transmit(now(), outlet.cid, &mut outlet.transmit);
                    grown |= outlet.transmit.queued() != before;
                }
            }
            if !grown || outlets.len() == 1 {
                break;
            }
        }
        drop(core);
        for outlet in outlets.iter_mut().filter(|outlet| outlet.filling) {
            outlet.transmit.seal();
        }
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
            if quiet {
                core.session.release_memory();
            }
            drop(core);
            if quiet {
                for link in &mut self.links {
                    link.release_memory();
                }
                for outlet in &mut self.shared.writer().outlets {
                    outlet.transmit.release_memory();
                }
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
            this.dial(cx);
            this.part(cx);
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
        let dialling = self.links.iter().any(|link| link.dial.is_some());
        let done = core.session.is_closed() && !core.session.has_actions() && !dialling;
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
        let left = self.farewells.iter();
        let mut stopped: Vec<_> = left.map(|it| (it.cid, it.written)).collect();
        for at in 0..self.links.len() {
            let cid = self.links.get(at).map_or(Cid(0), |link| link.cid);
            let (loan, written) = self.cut(at);
            stopped.push((cid, written));
            if let Some(loan) = loan {
                self.shared.core().session.take_back(loan);
            }
        }
        let mut core = self.shared.core();
        core.session.handle_stopped(&stopped);
        core.driver = None;
        self.shared.publish(&mut core);
        core.session.take_wakes(&mut self.wakes);
        drop(core);
        self.wake();
    }
}

/// What became of an attempt to write.
pub(super) enum Wrote {
    /// There was nothing.
    Nothing,
    /// The socket took some.
    Bytes,
    /// The socket takes nothing now.
    Full,
    /// The connection is broken.
    Failed(io::Error),
}

impl Outlet {
    /// Writes once.
    fn write(&mut self, cx: &mut Context<'_>) -> Wrote {
        let Some(half) = self.half.as_mut().filter(|_| !self.transmit.is_empty()) else {
            return Wrote::Nothing;
        };
        let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
        self.transmit.slices(&mut slices);
        let Poll::Ready(result) = Pin::new(half).poll_write_vectored(cx, &slices) else {
            return Wrote::Full;
        };
        drop(slices);
        match result {
            Ok(bytes) => {
                self.transmit.advance(bytes);
                Wrote::Bytes
            }
            Err(error) => Wrote::Failed(error),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "drivers read the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
