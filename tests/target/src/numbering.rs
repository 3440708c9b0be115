//! Command numbering (RFC 7143 §4.2.2.1): order over all connections, holes, retries, and what the judge remembers.
//!
//! The judge sees every command the initiator sent, also those that a fault kept from the target; the target's own
//! ExpCmdSN moves only over what it received. Invariant: ExpCmdSN passes a number only when its command was delivered,
//! or an abort has plugged it (RFC 7143 §7.11).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::ConnectionId;
use crate::full_feature::Arrival;
use crate::judge::Rule;
use crate::session::{Held, Session};
use crate::target::{Target, Timer};
use crate::wire::framer::RawPdu;
use crate::wire::{Fields as _, serial_before};

/// Numbers remembered; more than any window.
const SEEN_KEPT: usize = 4096;
/// Data held for commands that wait for their turn: PDUs for each.
const HELD_DATA: usize = 4096;

/// What makes a command the same when it is sent again: all of the header but its sequence numbers and lengths, and
/// the additional header segments (RFC 7143 §7.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    opcode_and_flags: [u8; 4],
    middle: [u8; 16],
    cdb: [u8; 16],
    ahs: Bytes,
}

impl Print {
    fn of(pdu: &RawPdu) -> Self {
        let mut this = Self {
            opcode_and_flags: [0; 4],
            middle: [0; 16],
            cdb: [0; 16],
            ahs: pdu.ahs.clone(),
        };
        this.opcode_and_flags.copy_from_slice(&pdu.header[..4]);
        this.middle.copy_from_slice(&pdu.header[8..24]);
        this.cdb.copy_from_slice(&pdu.header[32..48]);
        this
    }
}

#[derive(Debug)]
enum Seen {
    Command {
        print: Print,
        connection: ConnectionId,
    },
    /// Counted as received by an abort.
    Plugged,
}

/// The judge's memory of a session's numbers.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    seen: BTreeMap<u32, Seen>,
    order: VecDeque<u32>,
    /// The number after the highest one seen.
    next: Option<u32>,
    /// Numbers whose command was rejected: free for any command (RFC 7143 §7.3).
    vacated: BTreeSet<u32>,
    /// Numbers whose request was rejected at any time: the initiator has to fill the place again,
    /// unless it knows that the target counts it as received.
    rejected: BTreeSet<u32>,
    /// Numbers that an abort has plugged before their command came.
    plugged: BTreeSet<u32>,
    hole_watched: Option<u32>,
}

impl Numbers {
    fn remember(&mut self, cmd_sn: u32, seen: Seen) {
        if self.seen.insert(cmd_sn, seen).is_none() {
            self.order.push_back(cmd_sn);
        }
        if self.order.len() > SEEN_KEPT
            && let Some(old) = self.order.pop_front()
        {
            self.seen.remove(&old);
        }
        let after = cmd_sn.wrapping_add(1);
        if self.next.is_none_or(|next| serial_before(next, after)) {
            self.next = Some(after);
        }
    }

    /// The command of this number was rejected and counts as not received.
    pub(crate) fn vacate(&mut self, cmd_sn: u32) {
        self.seen.remove(&cmd_sn);
        self.order.retain(|number| *number != cmd_sn);
        self.vacated.insert(cmd_sn);
    }

    /// A request with this number was rejected: whatever comes in its place is no repetition.
    pub(crate) fn note_rejected(&mut self, cmd_sn: u32) {
        self.rejected.insert(cmd_sn);
    }

    /// An abort makes this number count as received.
    pub(crate) fn plug(&mut self, cmd_sn: u32) {
        self.plugged.insert(cmd_sn);
        self.vacated.remove(&cmd_sn);
        if !self.seen.contains_key(&cmd_sn) {
            self.remember(cmd_sn, Seen::Plugged);
        }
    }
}

impl Session {
    /// CmdSN of the initiator's next command, as far as can be seen.
    pub(crate) fn next_cmd_sn(&self) -> u32 {
        match self.numbers.next {
            Some(next) if serial_before(self.exp_cmd_sn, next) => next,
            _ => self.exp_cmd_sn,
        }
    }

    /// Whether the session has only ever had one connection, so that numbers must come without gaps.
    fn sole(&self) -> bool {
        self.joined == 1
    }
}

impl Target {
    /// Judges the number of a request whether or not the target gets to see it.
    pub(crate) fn judge_number(&mut self, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let given = pdu.cmd_sn();
        let last = self.connections.get(&id).and_then(|c| c.last_cmd_sn);
        if pdu.immediate() {
            let next = session.next_cmd_sn();
            let good = if session.sole() {
                given == next
            } else {
                last.is_none_or(|last| serial_before(last, given))
            };
            self.judge.expect(good, Rule::ImmediateCmdSn, || {
                format!("immediate CmdSN {given}, next is {next}")
            });
            return;
        }
        if session.numbers.seen.contains_key(&given) {
            self.judge_again(id, tsih, pdu);
            return;
        }
        let vacant = session.numbers.vacated.remove(&given);
        if !session.in_window(given) {
            let (rule, bound) = if serial_before(given, session.exp_cmd_sn) {
                (Rule::CmdSnReused, session.exp_cmd_sn)
            } else {
                (Rule::CmdSnBeyondWindow, session.max_cmd_sn)
            };
            self.judge
                .note(rule, format!("CmdSN {given}, bound {bound}"));
            return;
        }
        let next = session.next_cmd_sn();
        if session.sole() && !vacant {
            self.judge.expect(given == next, Rule::CmdSnSkipped, || {
                format!("CmdSN {given}, next is {next}")
            });
        } else if !session.shaken && !vacant {
            let good = last.is_none_or(|last| serial_before(last, given));
            self.judge.expect(good, Rule::CmdSnOrder, || {
                format!("CmdSN {given} after {last:?} on this connection")
            });
        }
        let seen = Seen::Command {
            print: Print::of(pdu),
            connection: id,
        };
        session.numbers.remember(given, seen);
        if let Some(connection) = self.connections.get_mut(&id)
            && connection
                .last_cmd_sn
                .is_none_or(|last| serial_before(last, given))
        {
            connection.last_cmd_sn = Some(given);
        }
    }

    /// A number seen before: a retry keeps everything, and its connection (RFC 7143 §7.2.1).
    fn judge_again(&mut self, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let given = pdu.cmd_sn();
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        if session.numbers.rejected.contains(&given) {
            return;
        }
        let level = session.parameters.error_recovery_level;
        let live = session.connections.clone();
        let Some(Seen::Command { print, connection }) = session.numbers.seen.get_mut(&given) else {
            return;
        };
        let now = Print::of(pdu);
        let same = *print == now;
        let same_tag = print.middle.be32(8) == now.middle.be32(8);
        if level == 0 && !(same && session.shaken) {
            self.judge
                .note(Rule::CmdSnReused, format!("CmdSN {given} twice"));
            return;
        }
        self.recovery.retries += 1;
        if *connection == id {
            self.judge.expect(same, Rule::RetryDiffers, || {
                format!("CmdSN {given}: {now:02x?} after {print:02x?}")
            });
            return;
        }
        if live.contains(connection) {
            let what = format!("CmdSN {given}, whose connection {connection:?} still lives");
            self.judge.note(Rule::RetryConnection, what);
        }
        // After a logout that ended the command, another one may fill its place.
        self.judge
            .expect(same || !same_tag, Rule::RetryDiffers, || {
                format!("CmdSN {given}: {now:02x?} after {print:02x?}")
            });
        *connection = id;
        *print = now;
    }

    /// Immediate requests pass, others wait for their turn.
    pub(crate) fn order(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: RawPdu) {
        if pdu.immediate() {
            self.dispatch(now, id, tsih, &pdu);
            return;
        }
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let (given, expected) = (pdu.cmd_sn(), session.exp_cmd_sn);
        if !session.in_window(given) || session.numbers.plugged.contains(&given) {
            // RFC 7143 §4.2.2.1: ignored silently. Its unsolicited data are ignored with it.
            if session.tasks.contains_key(&pdu.itt()) {
                session.repeated.insert(pdu.itt());
            } else {
                session.note_ended(pdu.itt());
            }
            return;
        }
        if given == expected {
            session.exp_cmd_sn = expected.wrapping_add(1);
            self.dispatch(now, id, tsih, &pdu);
            self.release_held(now, tsih);
            return;
        }
        let held = Held {
            connection: id,
            pdu,
            data: Vec::new(),
        };
        session.held.entry(given).or_insert(held);
        if session.numbers.hole_watched != Some(expected)
            && let Some(patience) = self.config.hole_patience
        {
            session.numbers.hole_watched = Some(expected);
            self.at(now + patience, Timer::Hole { tsih, expected });
        }
    }

    /// Keeps unsolicited data of a command that waits for its turn; `false` when there is no such command.
    pub(crate) fn hold_data(
        &mut self,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
        arrival: Arrival,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return false;
        };
        let found = session
            .held
            .values_mut()
            .find(|held| held.connection == id && held.pdu.itt() == pdu.itt());
        let Some(held) = found else {
            return false;
        };
        if held.data.len() < HELD_DATA {
            held.data.push((pdu.clone(), arrival));
        }
        true
    }

    /// Delivers what was waiting for the number that ExpCmdSN has reached.
    pub(crate) fn release_held(&mut self, now: Instant, tsih: u16) {
        while let Some(session) = self.sessions.get_mut(&tsih) {
            let next = session.exp_cmd_sn;
            if session.numbers.plugged.remove(&next) {
                session.exp_cmd_sn = next.wrapping_add(1);
                session.held.remove(&next);
                continue;
            }
            let Some(held) = session.held.remove(&next) else {
                return;
            };
            session.exp_cmd_sn = next.wrapping_add(1);
            self.judge.open(held.connection, now);
            self.dispatch(now, held.connection, tsih, &held.pdu);
            for (data, arrival) in held.data {
                self.take_data_out(now, held.connection, tsih, &data, arrival, false);
            }
        }
    }

    /// A hole should have been closed by now.
    pub(crate) fn hole_due(&mut self, now: Instant, tsih: u16, expected: u32) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        if session.numbers.hole_watched == Some(expected) {
            session.numbers.hole_watched = None;
        }
        let Some(waiting) = session.held.values().next().map(|held| held.connection) else {
            return;
        };
        if session.exp_cmd_sn == expected {
            self.judge.open(waiting, now);
            self.judge
                .note(Rule::CmdSnHole, format!("CmdSN {expected} never came"));
        }
    }
}
