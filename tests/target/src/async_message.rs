//! Asynchronous Messages (RFC 7143 §11.9): what the target tells unasked.

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::disk::sense::Sense;
use crate::judge::Rule;
use crate::lost::seconds;
use crate::target::Target;
use crate::wire::framer::RawPdu;
use crate::wire::{Fields as _, Header, RESERVED_TAG, opcode, response, serial_before};

/// An event of RFC 7143 §11.9.1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AsyncEvent {
    /// Code 0: a SCSI asynchronous event with sense data, on a LUN.
    Scsi {
        /// Logical unit.
        lun: u64,
        /// What happened.
        sense: Sense,
    },
    /// Code 1: the initiator must log out within `seconds`.
    RequestLogout {
        /// Parameter3.
        seconds: u16,
    },
    /// Code 2: this target drops connection `cid`; the hook drops it after the message.
    DropConnection {
        /// Parameter1; `None` means the connection the message travels on.
        cid: Option<u16>,
        /// Parameter2, Time2Wait in seconds.
        wait_s: u16,
        /// Parameter3, Time2Retain in seconds.
        retain_s: u16,
    },
    /// Code 3: this target drops all connections of the session; the hook does so after the message.
    DropSession {
        /// Parameter2, Time2Wait in seconds.
        wait_s: u16,
        /// Parameter3, Time2Retain in seconds.
        retain_s: u16,
    },
    /// Code 4: the initiator must start a negotiation within `seconds`.
    Renegotiate {
        /// Parameter3.
        seconds: u16,
    },
    /// Code 5: all tasks of a LUN are terminated (FastAbort).
    TasksTerminated {
        /// Logical unit.
        lun: u64,
    },
    /// Any other code, e.g. 255, with its parameters and data as they are.
    Raw {
        /// AsyncEvent.
        code: u8,
        /// AsyncVCode.
        vcode: u8,
        /// Parameter1 to Parameter3.
        parameters: [u16; 3],
        /// Data segment.
        data: Vec<u8>,
    },
}

/// What an event asks of the initiator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duty {
    code: u8,
    lun: u64,
    seconds: u16,
    stat_sn: u32,
    /// When the initiator was first seen to know.
    known: Option<Instant>,
}

impl Target {
    /// Sends an Asynchronous Message on a connection, and does what it announces.
    pub fn send_async(&mut self, now: Instant, id: ConnectionId, event: &AsyncEvent) {
        let own_cid = self
            .connections
            .get(&id)
            .map_or(0, |connection| connection.cid);
        let (header, data) = match event {
            AsyncEvent::Scsi { lun, sense } => {
                let bytes = sense.encode(self.config.descriptor_sense);
                let mut data = u16::try_from(bytes.len())
                    .unwrap_or(0)
                    .to_be_bytes()
                    .to_vec();
                data.extend(bytes);
                (response::async_message(wire(*lun), 0, 0, [0; 3]), data)
            }
            AsyncEvent::RequestLogout { seconds } => (
                response::async_message(0, 1, 0, [0, 0, *seconds]),
                Vec::new(),
            ),
            AsyncEvent::DropConnection {
                cid,
                wait_s,
                retain_s,
            } => {
                let parameters = [cid.unwrap_or(own_cid), *wait_s, *retain_s];
                (response::async_message(0, 2, 0, parameters), Vec::new())
            }
            AsyncEvent::DropSession { wait_s, retain_s } => (
                response::async_message(0, 3, 0, [0, *wait_s, *retain_s]),
                Vec::new(),
            ),
            AsyncEvent::Renegotiate { seconds } => (
                response::async_message(0, 4, 0, [0, 0, *seconds]),
                Vec::new(),
            ),
            AsyncEvent::TasksTerminated { lun } => (
                response::async_message(wire(*lun), 5, 0, [0; 3]),
                Vec::new(),
            ),
            AsyncEvent::Raw {
                code,
                vcode,
                parameters,
                data,
            } => (
                response::async_message(0, *code, *vcode, *parameters),
                data.clone(),
            ),
        };
        self.send_event(now, id, header, &data);
        self.follow_up(now, id, event);
    }

    /// Task Termination (code 5) for a LUN as the wire has it.
    pub(crate) fn send_termination(&mut self, now: Instant, id: ConnectionId, lun: u64) {
        let header = response::async_message(lun, 5, 0, [0; 3]);
        self.send_event(now, id, header, &[]);
    }

    /// Sends an event; the judge remembers what it asks for, if it arrives.
    fn send_event(&mut self, now: Instant, id: ConnectionId, header: Header, data: &[u8]) {
        let stat_sn = self.connections.get(&id).map_or(0, |c| c.stat_sn);
        let delivered = self.send(now, id, header, data, Numbering::Status);
        let wanted = matches!(header[36], 1 | 4 | 5);
        if let Some(connection) = self
            .connections
            .get_mut(&id)
            .filter(|_| delivered && wanted)
        {
            connection.duties.push(Duty {
                code: header[36],
                lun: header.be64(8),
                seconds: header.be16(42),
                stat_sn,
                known: None,
            });
        }
    }

    /// Looks at what the initiator sends on a connection that owes something.
    pub(crate) fn judge_duties(&mut self, now: Instant, id: ConnectionId, pdu: &RawPdu) {
        let grace = self.config.async_grace;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        for duty in &mut connection.duties {
            if duty.known.is_none() && serial_before(duty.stat_sn, pdu.exp_stat_sn()) {
                duty.known = Some(now);
            }
        }
        let cid = connection.cid;
        let code = pdu.opcode();
        let mut late = Vec::new();
        let mut wrong = None;
        connection.duties.retain(|duty| {
            let logout = code == opcode::LOGOUT;
            let reason = pdu.header[1] & 0x7f;
            let ours = logout && (reason == 0 || pdu.header.be16(20) == cid);
            if duty.code == 1 && ours && reason > 1 {
                wrong = Some(reason);
            }
            let done = match duty.code {
                1 => ours,
                4 => logout || code == opcode::TEXT,
                _ => {
                    let bare = code == opcode::NOP_OUT && pdu.itt() == RESERVED_TAG;
                    logout || bare && pdu.header.be64(8) == duty.lun && duty.known.is_some()
                }
            };
            let overdue = duty
                .known
                .is_some_and(|at| now > at + seconds(duty.seconds) + grace);
            if overdue && !done {
                late.push(*duty);
            }
            !done && !overdue
        });
        if let Some(reason) = wrong {
            self.judge
                .note(Rule::AsyncLogout, format!("Logout with reason {reason}"));
        }
        for duty in late {
            let rule = match duty.code {
                1 => Rule::AsyncLogout,
                4 => Rule::AsyncNegotiation,
                _ => Rule::AsyncTermination,
            };
            self.judge
                .note(rule, format!("nothing {} s after the event", duty.seconds));
        }
    }

    fn follow_up(&mut self, now: Instant, id: ConnectionId, event: &AsyncEvent) {
        let Some(tsih) = self
            .connections
            .get(&id)
            .and_then(|connection| connection.session)
        else {
            return;
        };
        let members = self
            .sessions
            .get(&tsih)
            .map(|session| session.connections.clone())
            .unwrap_or_default();
        match event {
            AsyncEvent::DropConnection {
                cid: Some(cid),
                wait_s,
                retain_s,
            } => {
                let named: Vec<ConnectionId> = members
                    .into_iter()
                    .filter(|member| self.connections.get(member).is_some_and(|c| c.cid == *cid))
                    .collect();
                for member in named {
                    self.drop_after(now, member, (*wait_s, *retain_s));
                }
            }
            AsyncEvent::DropConnection {
                cid: None,
                wait_s,
                retain_s,
            } => self.drop_after(now, id, (*wait_s, *retain_s)),
            AsyncEvent::DropSession { wait_s, retain_s } => {
                for member in members {
                    self.drop_after(now, member, (*wait_s, *retain_s));
                }
            }
            AsyncEvent::TasksTerminated { lun } => {
                self.abort_where(Some(tsih), usize::try_from(*lun).ok());
            }
            AsyncEvent::Scsi { .. }
            | AsyncEvent::RequestLogout { .. }
            | AsyncEvent::Renegotiate { .. }
            | AsyncEvent::Raw { .. } => {}
        }
    }
}

impl Target {
    /// Drops a connection with the times that were announced, once everything is sent.
    fn drop_after(&mut self, now: Instant, id: ConnectionId, times: (u16, u16)) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.times = Some(times);
            connection.announced = true;
        }
        self.drain(now, id);
    }
}

fn wire(lun: u64) -> u64 {
    lun << 48
}
