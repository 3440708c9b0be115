//! What a target sends, sorted (RFC 7143 §11).

use std::time::Instant;

use scsi::{
    Certainty, DataPhase, DeliveryError, DeliveryErrorKind, Outcome, ReadPart, Residual,
    ScsiAnswer, Status,
};

use super::connection::Work;
use super::error::ProtocolError;
use super::read::Loan;
use super::recovery;
use super::task::{Stage, TaskKey};
use super::{Phase, Placement, Session};
use crate::name::Cid;
use crate::serial::StatSn;
use crate::wire::receiver::FrameError;
use crate::wire::{DataIn, Itt, ResidualField, Response, ScsiResponse, Window};

/// Longest sense data kept (SPC-4 §4.5.1).
const SENSE_MAX: usize = 252;

/// Residuals of a status: of the command, or of its write and of its read.
#[derive(Debug, Clone, Copy)]
struct Residuals {
    main: ResidualField,
    read: ResidualField,
}

/// One direction of a command that has a status (RFC 7143 §11.4.5).
#[derive(Debug, Clone, Copy)]
struct Part {
    residual: Residual,
    /// Bytes of an underflow.
    missing: u32,
    /// Bytes that the status says have moved.
    claimed: u32,
    /// Bytes that have.
    moved: u32,
}

impl Part {
    fn new(expected: u32, moved: u32, field: ResidualField) -> Result<Self, ProtocolError> {
        let count = field.count;
        let (residual, missing) = if field.underflow {
            (Residual::Underflow(count), count)
        } else if field.overflow {
            (Residual::Overflow(count), 0)
        } else {
            (Residual::None, 0)
        };
        let bad = || ProtocolError::BadResidual {
            residual: missing,
            expected,
        };
        Ok(Self {
            residual,
            missing,
            claimed: expected.checked_sub(missing).ok_or_else(bad)?,
            moved,
        })
    }

    fn transferred(&self) -> usize {
        self.moved.min(self.claimed) as usize
    }
}

impl Session {
    /// A whole PDU came, other than Data-In.
    pub fn handle_pdu(&mut self, now: Instant, cid: Cid, pdu: &Response, data: &[u8]) {
        self.latest = now;
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
        let result = if self.recovers() {
            self.receive_in_turn(now, cid, pdu, data)
        } else {
            self.dispatch(now, cid, pdu, data)
        };
        if let Err(error) = result {
            self.react(now, cid, error);
        }
        self.advance_logout(now);
    }

    /// Deals with a PDU whose turn it is.
    pub(super) fn dispatch(
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
                self.ready_to_transfer(now, r2t)?;
            }
            Response::NopIn(nop) => {
                if nop.itt == Itt::RESERVED {
                    // Carries the next StatSN without using it up.
                    self.window.update(nop.window);
                    self.nop_in(now, cid, nop, data)?;
                } else if self.status_is_next(cid, nop.stat_sn, nop.window)? {
                    self.nop_in(now, cid, nop, data)?;
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
            // Its payload has been dealt with.
            Response::DataIn(data) => self.data_in_status(cid, data)?,
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
        let joining = connection.as_ref();
        if joining.is_some_and(|it| matches!(it.work, Work::LoggingIn { .. }))
            || matches!(self.phase, Phase::LoggingIn { .. })
        {
            // What does not belong into a login ends it (RFC 7143 §4.2.4).
            self.handle_pdu(now, cid, &Response::DataIn(*pdu), &[]);
            return Placement::Discard;
        }
        let Some(connection) = connection.filter(|it| connected && it.is_up()) else {
            return Placement::Discard;
        };
        connection.last_heard = now;
        self.window.update(pdu.window);
        let placed = self
            .check_allegiance(cid, pdu.itt)
            .and_then(|()| self.data_in(now, pdu, bytes));
        placed.unwrap_or_else(|error| {
            self.react(now, cid, error);
            Placement::Discard
        })
    }

    /// The payload of a Data-In is placed, with the right digest; its memory comes back.
    pub fn handle_placed(&mut self, now: Instant, cid: Cid, pdu: &DataIn, loan: Option<Loan>) {
        self.latest = now;
        if let Some(loan) = loan {
            self.returned(loan);
        }
        let connected = self.is_connected();
        let connection = self.connections.get_mut(cid);
        let Some(connection) = connection.filter(|it| connected && it.is_up()) else {
            return;
        };
        connection.last_heard = now;
        let result = if self.recovers() {
            self.data_in_placed(now, cid, pdu)
        } else {
            self.data_in_status(cid, pdu)
        };
        if let Err(error) = result {
            self.react(now, cid, error);
        }
        if pdu.status.is_some() || self.recovers() {
            self.advance_logout(now);
        }
    }

    /// The status that a Data-In may carry.
    fn data_in_status(&mut self, cid: Cid, pdu: &DataIn) -> Result<(), ProtocolError> {
        let Some(status) = pdu.status else {
            return Ok(());
        };
        if self.status_is_next(cid, status.stat_sn, pdu.window)? {
            let key = TaskKey::from_itt(pdu.itt);
            let residuals = Residuals {
                main: status.residual,
                read: ResidualField::default(),
            };
            self.end_with_status(key, Status(status.status), 0, residuals, &[])?;
            self.acknowledge_for_functions(cid);
        }
        Ok(())
    }

    /// The stream cannot be followed any more.
    pub fn handle_frame_error(&mut self, now: Instant, cid: Cid, error: FrameError) {
        if error == FrameError::HeaderDigest {
            self.stats.digest_errors += 1;
        }
        self.react(now, cid, ProtocolError::Frame(error));
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
        // Half of all numbers away it is neither before nor after, which is a gap, too.
        if stat_sn != expected && !stat_sn.precedes(expected) {
            // From ErrorRecoveryLevel 1 on it would have been held back before it came here.
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
        if !connection.recovery.held.is_empty() {
            connection.recovery.held.advance();
        }
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
        let residuals = Residuals {
            main: response.residual,
            read: response.bidirectional_read,
        };
        self.end_with_status(key, status, response.qualifier, residuals, sense)
    }

    /// Ends a task with the device's status, after a look at whether the data agree with it.
    fn end_with_status(
        &mut self,
        key: TaskKey,
        status: Status,
        qualifier: u16,
        residuals: Residuals,
        sense: &[u8],
    ) -> Result<(), ProtocolError> {
        let Some(task) = self.tasks.get(key).filter(|task| task.stage == Stage::Sent) else {
            return self.late_answer(key);
        };
        let both = task.is_bidirectional();
        let moved = match task.data {
            DataPhase::Read(_) => task.read.leading(),
            DataPhase::Write(_) | DataPhase::Bidirectional(_) => task.write.granted(),
            DataPhase::None => 0,
        };
        let main = Part::new(task.expected_bytes, moved, residuals.main);
        let read = if both {
            let leading = task.read.leading();
            Part::new(task.bidirectional_bytes, leading, residuals.read).map(Some)
        } else {
            Ok(None)
        };
        let (main, read) = match main.and_then(|main| Ok((main, read?))) {
            Ok(parts) => parts,
            Err(error) => return self.fail_task(key, error),
        };
        let unsent = task.write.owes_data() && main.missing == 0;
        let lacks_data = task.lacks_data();
        if status == Status::GOOD && !lacks_data {
            // Nothing is acknowledged that was not done.
            let short = |part: &Part| part.moved < part.claimed;
            let short = [Some(main), read].into_iter().flatten().find(short);
            if let Some(part) = short.or_else(|| unsent.then_some(main)) {
                return Err(ProtocolError::MissingData {
                    expected: part.claimed,
                    actual: part.moved,
                });
            }
        }
        let answer = ScsiAnswer {
            status,
            sense: sense.into(),
            residual: main.residual,
            transferred: main.transferred(),
            read_part: read.map(|read| {
                Box::new(ReadPart {
                    residual: read.residual,
                    transferred: read.transferred(),
                })
            }),
            // RFC 7144 §5.2.1: nothing below level 2.
            qualifier: if self.params.protocol_level >= 2 {
                qualifier
            } else {
                0
            },
        };
        if task.recovery.is_some() {
            let answer = recovery::without_data(answer, lacks_data);
            self.stats.recovered += u64::from(!lacks_data);
            self.finish(key, Outcome::Answered(answer));
            return Ok(());
        }
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
}
