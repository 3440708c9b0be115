//! One connection of a session over the simulated network: its socket, and what is under way in
//! both directions.

use std::io::IoSlice;
use std::time::Instant;

use iscsi::name::Cid;
use iscsi::session::{Action, Loan, Placement};
use iscsi::wire::receiver::{Received, Receiver};
use iscsi::wire::transmit::{MAX_SLICES, Transmit};
use iscsi::wire::{DataIn, Response};
use smallvec::SmallVec;

use crate::net::{Net, Read, SocketId};
use crate::nexus::{Core, Shared};

/// The limit on a data segment during login (RFC 7143 §13.12).
const LOGIN_DATA_BYTES: u32 = 8192;

/// A connection, being dialled or open.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) cid: Cid,
    socket: SocketId,
    open: bool,
    receiver: Receiver,
    transmit: Transmit,
    /// A payload with at least this much to come is read straight into its place.
    direct_bytes: usize,
    /// The Data-In whose payload is under way; without a loan it is thrown away.
    placing: Option<(DataIn, Option<Loan>)>,
}

impl Link {
    pub(crate) fn dial(
        cid: Cid,
        socket: SocketId,
        staging_bytes: usize,
        direct_bytes: usize,
    ) -> Self {
        Self {
            cid,
            socket,
            open: false,
            receiver: Receiver::new(staging_bytes, LOGIN_DATA_BYTES),
            transmit: Transmit::new(),
            direct_bytes,
            placing: None,
        }
    }

    /// Looks whether dialling has ended. `None`: not yet, or long ago; `false`: in failure.
    pub(crate) fn dialled(&mut self, now: Instant, net: &Net, shared: &Shared) -> Option<bool> {
        if self.open {
            return None;
        }
        let result = net.dialled(self.socket)?;
        let mut core = shared.core();
        Some(match result {
            Ok(()) => {
                self.open = true;
                core.session.handle_connected(now, self.cid);
                true
            }
            Err(reason) => {
                core.session.handle_connect_failed(now, self.cid, reason);
                false
            }
        })
    }

    pub(crate) fn logged_in(&mut self, net: &mut Net, action: &Action) {
        if let Action::LoggedIn {
            header_digest,
            data_digest,
            max_recv_bytes,
            ..
        } = action
        {
            self.receiver
                .set_params(*header_digest, *data_digest, *max_recv_bytes);
            if *header_digest && *data_digest {
                net.note_digests(self.socket);
            }
        }
    }

    /// Cuts the connection; bytes that the network took, and memory that was being filled.
    pub(crate) fn cut(self, now: Instant, net: &mut Net, abort: bool) -> (u64, Option<Loan>) {
        net.close(now, self.socket, abort || !self.open);
        let written = if self.open {
            self.transmit.written()
        } else {
            0
        };
        (written, self.placing.and_then(|(_, loan)| loan))
    }

    /// Reads once; `false` when there is nothing.
    pub(crate) fn read(&mut self, now: Instant, net: &mut Net, shared: &Shared) -> bool {
        if !self.open || !shared.core().session.is_open(self.cid) {
            return false;
        }
        let result = match &mut self.placing {
            Some((_, Some(loan)))
                if self.receiver.is_drained()
                    && self.receiver.payload_remaining() >= self.direct_bytes =>
            {
                let space = loan.space();
                let result = net.read(self.socket, space);
                if let Read::Bytes(bytes) = result {
                    self.receiver.placed_directly(&space[..bytes]);
                    loan.filled(bytes);
                }
                result
            }
            _ => {
                let result = net.read(self.socket, self.receiver.space());
                if let Read::Bytes(bytes) = result {
                    self.receiver.filled(bytes);
                }
                result
            }
        };
        match result {
            Read::Bytes(_) => self.take_pdus(now, net, shared),
            Read::Pending => return false,
            Read::End => self.lost(now, shared, None),
            Read::Reset => self.lost(now, shared, Some("connection reset by peer".to_owned())),
        }
        true
    }

    fn lost(&self, now: Instant, shared: &Shared, reason: Option<String>) {
        let mut core = shared.core();
        core.session.handle_lost(now, self.cid, reason);
        assert!(
            core.session.has_actions(),
            "a lost connection is to be closed"
        );
    }

    /// Takes all whole PDUs out of the staging memory, and as much payload as there is.
    fn take_pdus(&mut self, now: Instant, net: &mut Net, shared: &Shared) {
        let mut core = shared.core();
        core.session.handle_heard(now, self.cid);
        loop {
            if let Some((pdu, loan)) = self.placing.take() {
                if !self.place(now, &mut core, pdu, loan) {
                    return;
                }
                continue;
            }
            // A change of parameters counts from the next PDU on; a connection to be closed has no
            // next PDU.
            if let Some(action) = core.session.poll_logged_in(self.cid) {
                self.logged_in(net, &action);
            }
            if !core.session.is_open(self.cid) {
                return;
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

    /// Writes until nothing is left or the network takes no more; whether anything was written.
    pub(crate) fn write(&mut self, now: Instant, net: &mut Net, shared: &Shared) -> bool {
        let mut moved = false;
        while self.open && shared.core().session.is_open(self.cid) {
            if self.transmit.is_empty() {
                let mut core = shared.core();
                if !core.session.wants_transmit(self.cid) {
                    break;
                }
                core.session
                    .poll_transmit(now, self.cid, &mut self.transmit);
                drop(core);
                self.transmit.seal();
                if self.transmit.is_empty() {
                    break;
                }
            }
            let taken = {
                let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
                self.transmit.slices(&mut slices);
                net.write(self.socket, &slices)
            };
            match taken {
                Some(0) => break,
                Some(bytes) => self.transmit.advance(bytes),
                None => {
                    self.lost(now, shared, Some("broken pipe".to_owned()));
                    return true;
                }
            }
            moved = true;
        }
        let blocked = !self.transmit.is_empty();
        shared.core().session.handle_blocked(self.cid, blocked);
        moved
    }
}
