//! Drives one session over the simulated network, as `iscsi::net`'s driver does over tokio: read,
//! act, write, timers; the connection is cut before the core is told.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use iscsi::name::{Cid, Portal};
use iscsi::session::{Action, Loan, Placement};
use iscsi::wire::receiver::{Received, Receiver};
use iscsi::wire::transmit::{MAX_SLICES, Transmit};
use iscsi::wire::{DataIn, Response};
use smallvec::SmallVec;

use crate::net::{Net, Read, SocketId};
use crate::nexus::{Core, Shared};
use crate::trace::Trace;

/// The limit on a data segment during login (RFC 7143 §13.12).
const LOGIN_DATA_BYTES: u32 = 8192;

/// One path's driver.
#[derive(Debug)]
pub struct Driver {
    index: usize,
    shared: Arc<Shared>,
    portals: Vec<Portal>,
    cid: Cid,
    dial: Option<SocketId>,
    socket: Option<SocketId>,
    receiver: Receiver,
    transmit: Transmit,
    /// A payload with at least this much to come is read straight into its place.
    direct_bytes: usize,
    /// The Data-In whose payload is under way; without a loan it is thrown away.
    placing: Option<(DataIn, Option<Loan>)>,
    /// Timers that fired.
    pub fired: u64,
}

impl Driver {
    /// A driver for path number `index`. `portals`: those that the network knows, by its indices.
    #[must_use]
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        portals: Vec<Portal>,
        staging_bytes: usize,
        direct_bytes: usize,
    ) -> Self {
        Self {
            index,
            shared,
            portals,
            cid: Cid(0),
            dial: None,
            socket: None,
            receiver: Receiver::new(staging_bytes, LOGIN_DATA_BYTES),
            transmit: Transmit::new(),
            direct_bytes,
            placing: None,
            fired: 0,
        }
    }

    /// What callers share with this driver.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// When the session wants to be looked at again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.shared.core().session.poll_timeout()
    }

    /// Does what can be done now; whether anything was.
    pub fn drive(&mut self, now: Instant, net: &mut Net, trace: &mut Trace) -> bool {
        let mut moved = false;
        loop {
            let mut more = false;
            if let Some(dial) = self.dial
                && let Some(result) = net.dialled(dial)
            {
                self.dialled(now, dial, result);
                more = true;
            }
            more |= self.act(now, net, trace);
            more |= self.read(now, net, trace);
            more |= self.act(now, net, trace);
            self.shared.publish();
            more |= self.write(now, net);
            more |= self.timers(now);
            if !more {
                break;
            }
            moved = true;
        }
        self.note_events(now, trace);
        self.shared.publish();
        moved
    }

    fn note_events(&self, now: Instant, trace: &mut Trace) {
        while let Some(event) = self.shared.core().session.poll_event() {
            trace.note(now, format_args!("path {} {event:?}", self.index));
        }
    }

    fn act(&mut self, now: Instant, net: &mut Net, trace: &mut Trace) -> bool {
        let mut moved = false;
        loop {
            let action = self.shared.core().session.poll_action();
            let Some(action) = action else { return moved };
            moved = true;
            self.note_events(now, trace);
            match action {
                Action::Connect { cid, portal, .. } => {
                    self.cid = cid;
                    trace.note(now, format_args!("path {} dials {portal}", self.index));
                    match self.portals.iter().position(|known| *known == portal) {
                        Some(index) => self.dial = Some(net.dial(now, index)),
                        None => {
                            let reason = "no route to host".to_owned();
                            let mut core = self.shared.core();
                            core.session.handle_connect_failed(now, cid, reason);
                        }
                    }
                }
                Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                } => self.logged_in(net, header_digest, data_digest, max_recv_bytes),
                Action::Close { cid, abort } => self.close(now, net, cid, abort),
            }
        }
    }

    fn logged_in(&mut self, net: &mut Net, header: bool, data: bool, max_recv_bytes: u32) {
        self.receiver.set_params(header, data, max_recv_bytes);
        if let (Some(socket), true) = (self.socket, header && data) {
            net.note_digests(socket);
        }
    }

    fn dialled(&mut self, now: Instant, dial: SocketId, result: Result<(), String>) {
        self.dial = None;
        let mut core = self.shared.core();
        match result {
            Ok(()) => {
                self.socket = Some(dial);
                self.receiver.reset(LOGIN_DATA_BYTES);
                self.transmit.reset();
                core.session.handle_connected(now, self.cid);
            }
            Err(reason) => core.session.handle_connect_failed(now, self.cid, reason),
        }
    }

    /// Cuts the connection, then tells the core.
    fn close(&mut self, now: Instant, net: &mut Net, cid: Cid, abort: bool) {
        let mut written = 0;
        if let Some(dial) = self.dial.take() {
            net.close(now, dial, true);
        }
        if let Some(socket) = self.socket.take() {
            written = self.transmit.written();
            net.close(now, socket, abort);
        }
        self.transmit.reset();
        let loan = self.placing.take().and_then(|(_, loan)| loan);
        let mut core = self.shared.core();
        if let Some(loan) = loan {
            core.session.take_back(loan);
        }
        core.session.handle_closed(now, cid, written);
    }

    fn read(&mut self, now: Instant, net: &mut Net, trace: &mut Trace) -> bool {
        let mut moved = false;
        while let Some(socket) = self.socket {
            let result = match &mut self.placing {
                Some((_, Some(loan)))
                    if self.receiver.is_drained()
                        && self.receiver.payload_remaining() >= self.direct_bytes =>
                {
                    let space = loan.space();
                    let result = net.read(socket, space);
                    if let Read::Bytes(bytes) = result {
                        self.receiver.placed_directly(&space[..bytes]);
                        loan.filled(bytes);
                    }
                    result
                }
                _ => {
                    let result = net.read(socket, self.receiver.space());
                    if let Read::Bytes(bytes) = result {
                        self.receiver.filled(bytes);
                    }
                    result
                }
            };
            match result {
                Read::Bytes(_) => self.take_pdus(now, net),
                Read::Pending => return moved,
                Read::End => self.lost(now, None),
                Read::Reset => self.lost(now, Some("connection reset by peer".to_owned())),
            }
            moved = true;
            self.act(now, net, trace);
        }
        moved
    }

    fn lost(&self, now: Instant, reason: Option<String>) {
        let mut core = self.shared.core();
        core.session.handle_lost(now, self.cid, reason);
        assert!(
            core.session.has_actions(),
            "a lost connection is to be closed"
        );
    }

    /// Takes all whole PDUs out of the staging memory, and as much payload as there is.
    fn take_pdus(&mut self, now: Instant, net: &mut Net) {
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
                let Some(Action::LoggedIn {
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                    ..
                }) = core.session.poll_logged_in(self.cid)
                else {
                    return;
                };
                self.logged_in(net, header_digest, data_digest, max_recv_bytes);
                continue;
            }
            match self.receiver.take_pdu() {
                Ok(Received::Incomplete) => return,
                Ok(Received::Pdu { header, data }) => {
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
                }
                Err(error) => {
                    core.session.handle_frame_error(now, self.cid, error);
                    return;
                }
            }
        }
    }

    /// Goes on with a payload; `false` while bytes of it are missing.
    fn place(
        &mut self,
        now: Instant,
        core: &mut Core,
        pdu: DataIn,
        mut loan: Option<Loan>,
    ) -> bool {
        match &mut loan {
            Some(loan) => {
                let bytes = self.receiver.place(loan.space());
                loan.filled(bytes);
            }
            None => {
                self.receiver.skip();
            }
        }
        match self.receiver.finish_payload() {
            Ok(false) => {
                self.placing = Some((pdu, loan));
                return false;
            }
            Ok(true) => core.session.handle_placed(now, self.cid, &pdu, loan),
            Err(_) => {
                let pdu = Response::DataIn(pdu);
                core.session.handle_damaged(now, self.cid, &pdu, loan);
            }
        }
        true
    }

    fn write(&mut self, now: Instant, net: &mut Net) -> bool {
        let mut moved = false;
        while let Some(socket) = self.socket {
            if self.transmit.is_empty() {
                let mut core = self.shared.core();
                if !core.session.wants_transmit(self.cid) {
                    return moved;
                }
                core.session
                    .poll_transmit(now, self.cid, &mut self.transmit);
                drop(core);
                self.transmit.seal();
                if self.transmit.is_empty() {
                    return moved;
                }
            }
            let taken = {
                let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
                self.transmit.slices(&mut slices);
                net.write(socket, &slices)
            };
            match taken {
                Some(0) => return moved,
                Some(bytes) => self.transmit.advance(bytes),
                None => {
                    self.lost(now, Some("broken pipe".to_owned()));
                    return true;
                }
            }
            moved = true;
        }
        moved
    }

    fn timers(&mut self, now: Instant) -> bool {
        let mut core = self.shared.core();
        if core.session.poll_timeout().is_none_or(|due| due > now) {
            return false;
        }
        self.fired += 1;
        core.session.handle_timeout(now);
        true
    }
}
