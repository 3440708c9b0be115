//! Answers in the order of StatSN, and those that are missing (RFC 7143 §4.2.2.2, §7.8, §7.9).
//!
//! An answer before its turn is held, and what is missing before it is asked for by Status SNACK.
//! R2T and unsolicited NOP-In carry the next StatSN without using it up, so they show a gap, too.

use std::time::Instant;

use super::held::Front;
use crate::name::Cid;
use crate::serial::StatSn;
use crate::session::Session;
use crate::session::error::{LossReason, ProtocolError};
use crate::session::read::Loan;
use crate::wire::receiver::FrameError;
use crate::wire::{Bhs, Itt, Opcode, Response, SnackRequest, Window, opcode};

/// What an answer's numbers are.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    stat_sn: StatSn,
    window: Window,
    /// The StatSN is its own; otherwise it is the next answer's.
    uses: bool,
}

impl Session {
    /// A PDU other than a Data-In without status came, at a level that recovers.
    pub(in crate::session) fn receive_in_turn(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &Response,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        if self.is_in_turn(now, cid, pdu, data)? {
            self.dispatch(now, cid, pdu, data)?;
        }
        self.deal_with_held(now, cid)
    }

    /// Whether a PDU can be dealt with now. If not, it is held, or of no use.
    fn is_in_turn(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &Response,
        data: &[u8],
    ) -> Result<bool, ProtocolError> {
        let Some(numbers) = numbers(pdu) else {
            return Ok(true);
        };
        let Some(connection) = self.connections.get(cid) else {
            return Ok(false);
        };
        let expected = connection.exp_stat_sn;
        let held = &connection.recovery.held;
        if !numbers.uses {
            if expected.precedes(numbers.stat_sn) {
                self.answers_sent_below(now, cid, numbers.stat_sn)?;
            }
            return Ok(true);
        }
        let offset = numbers.stat_sn.since(expected);
        let missing = held.is_missing(offset);
        if numbers.stat_sn.precedes(expected) || held.has(offset) {
            self.window.update(numbers.window);
            self.stats.duplicates += 1;
            return Ok(false);
        }
        if self.is_stale(now, pdu)? {
            self.window.update(numbers.window);
            self.answers_sent_below(now, cid, numbers.stat_sn)?;
            return Ok(false);
        }
        self.stats.recovered += u64::from(missing);
        self.answers_sent_below(now, cid, numbers.stat_sn)?;
        let complete = self.data_complete(now, pdu)?;
        if offset == 0 && complete {
            return Ok(true);
        }
        self.window.update(numbers.window);
        let refused = offset > 0 && self.is_refused_snack(now, cid, pdu, data)?;
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(false);
        };
        let held = &mut connection.recovery.held;
        let kept = if refused {
            held.done(offset)
        } else {
            held.hold(offset, pdu, data)
        };
        kept.map_err(|_| gap(expected, numbers.stat_sn))?;
        Ok(false)
    }

    /// Deals with the answers whose turn has come.
    pub(super) fn deal_with_held(&mut self, now: Instant, cid: Cid) -> Result<(), ProtocolError> {
        loop {
            let Some(connection) = self.connections.get_mut(cid) else {
                return Ok(());
            };
            let held = &mut connection.recovery.held;
            if held.is_empty() {
                return Ok(());
            }
            let pdu = match held.front() {
                Front::Missing => return Ok(()),
                Front::Done => {
                    held.advance();
                    connection.exp_stat_sn = connection.exp_stat_sn.next();
                    continue;
                }
                Front::Held(pdu) => pdu,
            };
            if !self.is_connected() || !self.data_complete(now, &pdu)? {
                return Ok(());
            }
            let held = self.connections.get_mut(cid);
            let Some(held) = held.and_then(|it| it.recovery.held.take_front()) else {
                return Ok(());
            };
            self.dispatch(now, cid, &held.pdu, &held.data)?;
        }
    }

    /// All answers below `end` have been sent; those that are not here are asked for.
    fn answers_sent_below(
        &mut self,
        now: Instant,
        cid: Cid,
        end: StatSn,
    ) -> Result<(), ProtocolError> {
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(());
        };
        let expected = connection.exp_stat_sn;
        let missing = connection
            .recovery
            .held
            .sent_below(end.since(expected))
            .map_err(|_| gap(expected, end))?;
        if let Some(run) = missing {
            self.ask_for_answers(now, cid, run);
        }
        Ok(())
    }

    /// Asks for answers, given as offset from ExpStatSN and number.
    fn ask_for_answers(&mut self, now: Instant, cid: Cid, (offset, length): (u32, u32)) {
        let due = self.again_at(now);
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        connection.recovery.again.due = Some(due);
        let from = connection.exp_stat_sn.plus(offset);
        self.push_snack(cid, SnackRequest::status(from, length));
    }

    /// Nothing came for a while: asks again for all answers that are missing.
    pub(super) fn ask_again_for_status(&mut self, now: Instant, cid: Cid) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let Some(due) = connection.recovery.again.due else {
            return;
        };
        if due > now {
            return self.recovery.arm(due);
        }
        let runs = connection.recovery.held.missing();
        if runs.is_empty() {
            connection.recovery.again.due = None;
            return;
        }
        let count = connection.recovery.again.count(connection.exp_stat_sn.0);
        if self.too_often(count) {
            let what = "an answer";
            return self.give_up(now, cid, LossReason::NotRecovered { what });
        }
        for run in runs {
            self.ask_for_answers(now, cid, run);
        }
    }

    /// A PDU came whose data digest is wrong; the stream can be followed nevertheless. `loan`:
    /// the memory that the payload of a Data-In was put into.
    pub fn handle_damaged(&mut self, now: Instant, cid: Cid, pdu: &Response, loan: Option<Loan>) {
        self.stats.digest_errors += 1;
        let connected = self.is_connected();
        let connection = self.connections.get_mut(cid);
        let Some(connection) = connection.filter(|it| connected && it.is_up()) else {
            if let Some(loan) = loan {
                self.take_back(loan);
            }
            return self.connection_failed(now, cid, LossReason::from(FrameError::DataDigest));
        };
        connection.last_heard = now;
        let bytes = loan.as_ref().map(|loan| (loan.start, loan.end()));
        if let Some(loan) = loan {
            self.returned(loan);
        }
        if !self.recovers() {
            return self.react(now, cid, ProtocolError::Frame(FrameError::DataDigest));
        }
        let result = if let Response::DataIn(data) = pdu {
            self.data_damaged(now, cid, data, bytes)
        } else if let Some(numbers) = numbers(pdu).filter(|numbers| numbers.uses) {
            self.answer_damaged(now, cid, numbers.stat_sn)
        } else {
            // It has no data segment, or the whole of it means nothing.
            Ok(())
        };
        let result = result.and_then(|()| self.deal_with_held(now, cid));
        if let Err(error) = result {
            self.react(now, cid, error);
        }
        self.advance_logout(now);
    }

    /// An answer was damaged. Nothing of it counts but that its StatSN has been used (RFC 7143
    /// §7.8).
    pub(super) fn answer_damaged(
        &mut self,
        now: Instant,
        cid: Cid,
        stat_sn: StatSn,
    ) -> Result<(), ProtocolError> {
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(());
        };
        let expected = connection.exp_stat_sn;
        let offset = stat_sn.since(expected);
        if stat_sn.precedes(expected) || connection.recovery.held.has(offset) {
            return Ok(());
        }
        let again = connection.recovery.held.is_missing(offset);
        self.answers_sent_below(now, cid, stat_sn.next())?;
        if again {
            // What was sent in its place is damaged, too.
            let Some(connection) = self.connections.get_mut(cid) else {
                return Ok(());
            };
            let count = connection.recovery.again.count(expected.0);
            if self.too_often(count) {
                return Err(ProtocolError::Frame(FrameError::DataDigest));
            }
            self.ask_for_answers(now, cid, (offset, 1));
        }
        Ok(())
    }

    /// An answer was damaged together with the data it came with, which are asked for anyway.
    pub(super) fn answer_comes_with_data(
        &mut self,
        now: Instant,
        cid: Cid,
        stat_sn: StatSn,
    ) -> Result<(), ProtocolError> {
        self.answers_sent_below(now, cid, stat_sn)?;
        let due = self.again_at(now);
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(());
        };
        let expected = connection.exp_stat_sn;
        if stat_sn.precedes(expected) {
            return Ok(());
        }
        let offset = stat_sn.since(expected);
        connection
            .recovery
            .held
            .sent_below(offset.saturating_add(1))
            .map_err(|_| gap(expected, stat_sn))?;
        connection.recovery.again.due = Some(due);
        Ok(())
    }

    /// Whether an answer before its turn is the rejection of a SNACK. That one cannot wait: what
    /// comes before it may be just what was asked for.
    fn is_refused_snack(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &Response,
        data: &[u8],
    ) -> Result<bool, ProtocolError> {
        let Response::Reject(reject) = pdu else {
            return Ok(false);
        };
        let header: Option<&Bhs> = data.first_chunk();
        if header.and_then(|bhs| opcode(bhs).ok()) != Some(Opcode::SnackRequest) {
            return Ok(false);
        }
        self.rejected(now, cid, reject, data)?;
        Ok(true)
    }
}

fn gap(expected: StatSn, actual: StatSn) -> ProtocolError {
    ProtocolError::StatSnGap {
        expected: expected.0,
        actual: actual.0,
    }
}

/// StatSN and window of a PDU that has them.
fn numbers(pdu: &Response) -> Option<Numbers> {
    let (stat_sn, window, uses) = match pdu {
        Response::Scsi(pdu) => (pdu.stat_sn, pdu.window, true),
        Response::Task(pdu) => (pdu.stat_sn, pdu.window, true),
        Response::Text(pdu) => (pdu.stat_sn, pdu.window, true),
        Response::Logout(pdu) => (pdu.stat_sn, pdu.window, true),
        Response::Async(pdu) => (pdu.stat_sn, pdu.window, true),
        Response::Reject(pdu) => (pdu.stat_sn, pdu.window, true),
        Response::NopIn(pdu) => (pdu.stat_sn, pdu.window, pdu.itt != Itt::RESERVED),
        Response::R2t(pdu) => (pdu.stat_sn, pdu.window, false),
        Response::DataIn(pdu) => (pdu.status?.stat_sn, pdu.window, true),
        Response::Login(_) => return None,
    };
    Some(Numbers {
        stat_sn,
        window,
        uses,
    })
}
