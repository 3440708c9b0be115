//! What a target sends, sorted (RFC 7143 §11).

use std::time::Instant;

use scsi::{
    Certainty, DataPhase, DeliveryError, DeliveryErrorKind, Outcome, Residual, ScsiAnswer, Status,
};

use super::connection::Work;
use super::error::{LossReason, ProtocolError};
use super::read::Loan;
use super::task::{Stage, TaskKey};
use super::{Phase, Placement, Session};
use crate::name::Cid;
use crate::serial::StatSn;
use crate::wire::receiver::FrameError;
use crate::wire::{
    Bhs, DataIn, Itt, Opcode, Reject, ResidualField, Response, ScsiResponse, Window, opcode,
};

/// Longest sense data kept (SPC-4 §4.5.1).
const SENSE_MAX: usize = 252;

impl Session {
    /// A whole PDU came, other than Data-In.
    pub fn handle_pdu(&mut self, now: Instant, cid: Cid, pdu: &Response, data: &[u8]) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        connection.last_heard = now;
        if matches!(connection.work, Work::LoggingIn { .. }) {
            return self.member_login(now, cid, pdu, data);
        }
        let is_up = connection.is_up();
        if let Phase::LoggingIn { .. } = self.phase {
            return self.login_response(now, pdu, data);
        }
        if !is_up || !self.is_connected() {
            return;
        }
        if let Err(error) = self.dispatch(now, cid, pdu, data) {
            self.broke_protocol(now, cid, error);
        }
        self.advance_logout(now);
    }

    fn dispatch(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &Response,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        match pdu {
            Response::Scsi(response) => {
                if self.status_is_next(cid, response.stat_sn, response.window)? {
                    self.check_allegiance(cid, response.itt)?;
                    self.scsi_response(response, data)?;
                    self.acknowledge_for_functions(cid);
                }
            }
            Response::R2t(r2t) => {
                self.window.update(r2t.window);
                self.check_allegiance(cid, r2t.itt)?;
                self.ready_to_transfer(r2t)?;
            }
            Response::NopIn(nop) => {
                if nop.itt == Itt::RESERVED {
                    // Carries the next StatSN without using it up.
                    self.window.update(nop.window);
                    self.nop_in(cid, nop, data)?;
                } else if self.status_is_next(cid, nop.stat_sn, nop.window)? {
                    self.nop_in(cid, nop, data)?;
                }
            }
            Response::Task(response) => {
                if self.status_is_next(cid, response.stat_sn, response.window)? {
                    self.task_response(now, response)?;
                }
            }
            Response::Logout(response) => {
                if self.status_is_next(cid, response.stat_sn, response.window)? {
                    self.logout_response(now, response)?;
                }
            }
            Response::Async(message) => {
                if self.status_is_next(cid, message.stat_sn, message.window)? {
                    self.async_message(now, cid, message, data);
                }
            }
            Response::Reject(reject) => {
                if self.status_is_next(cid, reject.stat_sn, reject.window)? {
                    self.rejected(now, cid, reject, data)?;
                }
            }
            Response::Login(_) => {
                return Err(ProtocolError::UnexpectedPdu {
                    pdu: "Login Response",
                });
            }
            Response::Text(response) => {
                if self.status_is_next(cid, response.stat_sn, response.window)? {
                    self.text_response(now, cid, response, data)?;
                }
            }
            Response::DataIn(_) => {
                return Err(ProtocolError::UnexpectedPdu {
                    pdu: "SCSI Data-In",
                });
            }
        }
        Ok(())
    }

    /// The header of a Data-In came: where its `bytes` of payload go. Once they are there,
    /// [`Session::handle_placed`] has to follow.
    pub fn handle_data_in(
        &mut self,
        now: Instant,
        cid: Cid,
        pdu: &DataIn,
        bytes: u32,
    ) -> Placement {
        let connected = self.is_connected();
        let connection = self.connections.get_mut(cid);
        let Some(connection) = connection.filter(|it| connected && it.is_up()) else {
            return Placement::Discard;
        };
        connection.last_heard = now;
        self.window.update(pdu.window);
        let placed = self
            .check_allegiance(cid, pdu.itt)
            .and_then(|()| self.data_in(pdu, bytes));
        placed.unwrap_or_else(|error| {
            self.broke_protocol(now, cid, error);
            Placement::Discard
        })
    }

    /// The payload of a Data-In is placed, with the right digest; its memory comes back.
    pub fn handle_placed(&mut self, now: Instant, cid: Cid, pdu: &DataIn, loan: Option<Loan>) {
        if let Some(loan) = loan {
            self.returned(loan);
        }
        let connected = self.is_connected();
        let connection = self.connections.get_mut(cid);
        let Some(connection) = connection.filter(|it| connected && it.is_up()) else {
            return;
        };
        connection.last_heard = now;
        let Some(status) = pdu.status else { return };
        let result = self
            .status_is_next(cid, status.stat_sn, pdu.window)
            .and_then(|next| {
                if next {
                    let key = TaskKey::from_itt(pdu.itt);
                    self.end_with_status(key, Status(status.status), 0, status.residual, &[])?;
                    self.acknowledge_for_functions(cid);
                }
                Ok(())
            });
        if let Err(error) = result {
            self.broke_protocol(now, cid, error);
        }
        self.advance_logout(now);
    }

    /// The stream cannot be followed any more.
    pub fn handle_frame_error(&mut self, now: Instant, cid: Cid, error: FrameError) {
        if error == FrameError::HeaderDigest {
            self.stats.digest_errors += 1;
        }
        self.connection_failed(now, cid, LossReason::from(error));
    }

    /// A PDU came whose data digest is wrong; the stream can be followed nevertheless. `loan`:
    /// the memory that the payload of a Data-In was put into.
    pub fn handle_damaged(&mut self, now: Instant, cid: Cid, _pdu: &Response, loan: Option<Loan>) {
        if let Some(loan) = loan {
            self.take_back(loan);
        }
        self.stats.digest_errors += 1;
        self.connection_failed(now, cid, LossReason::from(FrameError::DataDigest));
    }

    /// The target broke the protocol on a connection. What may be the fault of the network ends
    /// the connection, everything else the session.
    fn broke_protocol(&mut self, now: Instant, cid: Cid, error: ProtocolError) {
        let network = matches!(
            error,
            ProtocolError::Frame(_)
                | ProtocolError::StatSnGap { .. }
                | ProtocolError::DataSnGap { .. }
                | ProtocolError::R2tSnGap { .. }
        );
        let reason = LossReason::Protocol(error);
        if network {
            self.connection_failed(now, cid, reason);
        } else {
            self.lose(now, reason);
        }
    }

    /// Everything about a task comes on the connection that its command was sent on
    /// (RFC 7143 §4.2.5.1).
    fn check_allegiance(&self, cid: Cid, itt: Itt) -> Result<(), ProtocolError> {
        if self.connections.len() == 1 {
            return Ok(());
        }
        let task = self.tasks.get(TaskKey::from_itt(itt));
        match task.filter(|task| task.stage == Stage::Sent) {
            Some(task) if task.allegiance != cid => Err(ProtocolError::WrongConnection {
                itt: itt.0,
                allegiance: task.allegiance,
                cid,
            }),
            _ => Ok(()),
        }
    }

    /// Bytes came that do not make a whole PDU yet.
    pub fn handle_heard(&mut self, now: Instant, cid: Cid) {
        if let Some(connection) = self.connections.get_mut(cid) {
            connection.last_heard = now;
        }
    }

    /// Takes the StatSN and window numbers of a response. `false`: seen before, to be ignored.
    fn status_is_next(
        &mut self,
        cid: Cid,
        stat_sn: StatSn,
        window: Window,
    ) -> Result<bool, ProtocolError> {
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(false);
        };
        let expected = connection.exp_stat_sn;
        if expected.precedes(stat_sn) {
            // At ErrorRecoveryLevel 0 nothing can fetch what was skipped.
            return Err(ProtocolError::StatSnGap {
                expected: expected.0,
                actual: stat_sn.0,
            });
        }
        self.window.update(window);
        if stat_sn != expected {
            return Ok(false);
        }
        connection.exp_stat_sn = expected.next();
        Ok(true)
    }

    fn scsi_response(&mut self, response: &ScsiResponse, data: &[u8]) -> Result<(), ProtocolError> {
        let key = TaskKey::from_itt(response.itt);
        if response.response != 0 {
            // "Target failure" and vendor codes: over, but no SCSI status (§11.4.3).
            if self
                .tasks
                .get(key)
                .is_none_or(|task| task.stage != Stage::Sent)
            {
                return self.late_answer(key);
            }
            let (kind, certainty) = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
            self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
            return Ok(());
        }
        let sense = match data {
            [a, b, rest @ ..] => {
                let bytes = usize::from(u16::from_be_bytes([*a, *b])).min(SENSE_MAX);
                rest.get(..bytes).unwrap_or(rest)
            }
            _ => &[],
        };
        let status = Status(response.status);
        self.end_with_status(key, status, response.qualifier, response.residual, sense)
    }

    /// Ends a task with the device's status, after a look at whether the data agree with it.
    fn end_with_status(
        &mut self,
        key: TaskKey,
        status: Status,
        qualifier: u16,
        residual: ResidualField,
        sense: &[u8],
    ) -> Result<(), ProtocolError> {
        let Some(task) = self.tasks.get(key).filter(|task| task.stage == Stage::Sent) else {
            return self.late_answer(key);
        };
        let expected = task.expected_bytes;
        let residual = match residual {
            ResidualField {
                underflow: true,
                count,
                ..
            } => Residual::Underflow(count),
            ResidualField {
                overflow: true,
                count,
                ..
            } => Residual::Overflow(count),
            _ => Residual::None,
        };
        let missing = if let Residual::Underflow(count) = residual {
            count
        } else {
            0
        };
        let Some(claimed) = expected.checked_sub(missing) else {
            return Err(ProtocolError::BadResidual {
                residual: missing,
                expected,
            });
        };
        let actual = match task.data {
            DataPhase::Read(_) => task.read.leading(),
            DataPhase::Write(_) | DataPhase::Bidirectional(_) => task.write.granted(),
            DataPhase::None => 0,
        };
        let unsent = task.write.is_sending();
        if status == Status::GOOD && (actual < claimed || (unsent && missing == 0)) {
            // Nothing is acknowledged that was not done.
            return Err(ProtocolError::MissingData {
                expected: claimed,
                actual,
            });
        }
        let answer = ScsiAnswer {
            status,
            sense: sense.into(),
            residual,
            transferred: actual.min(claimed) as usize,
            read_part: None,
            qualifier: if self.params.protocol_level >= 2 {
                qualifier
            } else {
                0
            },
        };
        self.finish(key, Outcome::Answered(answer));
        Ok(())
    }

    /// An answer for a task that is not under way: harmless when it once was.
    pub(super) fn late_answer(&mut self, key: TaskKey) -> Result<(), ProtocolError> {
        let never_sent = self
            .tasks
            .get(key)
            .is_some_and(|task| task.stage == Stage::Pending);
        if never_sent || !self.tasks.was_used(key) {
            return Err(ProtocolError::UnknownTask { itt: key.itt().0 });
        }
        self.stats.late_answers += 1;
        Ok(())
    }

    /// A Reject came (RFC 7143 §11.17). What a rejected command or its data left behind is
    /// unknown at ErrorRecoveryLevel 0, so the session is dropped; rejected control PDUs only
    /// count as answered.
    fn rejected(
        &mut self,
        now: Instant,
        cid: Cid,
        reject: &Reject,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        let header: Option<&Bhs> = data.first_chunk();
        let rejected = header.and_then(|bhs| Some((opcode(bhs).ok()?, crate::wire::itt(bhs))));
        match rejected {
            Some((Opcode::NopOut, itt)) => {
                if let Some(connection) = self.connections.get_mut(cid)
                    && connection.ping.is_some_and(|ping| ping.itt == itt)
                {
                    connection.ping = None;
                }
                Ok(())
            }
            Some((Opcode::TaskRequest, itt)) => {
                if !self.function_rejected(itt, reject) {
                    self.task_request_rejected(now, itt);
                }
                Ok(())
            }
            Some((Opcode::TextRequest, itt)) => {
                self.text_rejected(now, cid, itt, reject);
                Ok(())
            }
            Some((Opcode::LogoutRequest, itt)) => {
                if !self.connection_logout_rejected(now, itt) {
                    self.logout_refused(now);
                }
                Ok(())
            }
            _ => {
                let reason = reject.reason;
                Err(ProtocolError::Rejected {
                    reason,
                    name: reject_reason(reason),
                })
            }
        }
    }
}

/// Reject reasons in words (RFC 7143 §11.17.1).
fn reject_reason(reason: u8) -> &'static str {
    match reason {
        0x02 => "data digest error",
        0x03 => "SNACK reject",
        0x04 => "protocol error",
        0x05 => "command not supported",
        0x06 => "immediate command reject",
        0x07 => "task in progress",
        0x08 => "invalid data acknowledgement",
        0x09 => "invalid PDU field",
        0x0a => "long operation reject",
        0x0b => "deprecated reason",
        0x0c => "waiting for logout",
        _ => "reserved reason",
    }
}
