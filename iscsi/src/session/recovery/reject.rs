//! Reject: what the target refuses (RFC 7143 §7.3, §11.17).
//!
//! A Reject ends no task. The rejected command itself was never active, but its CmdSN is missing at
//! the target: it is sent again where that may help, and otherwise aborted, which makes up for the
//! number (RFC 7143 §7.3, §7.11); the caller gets an error. Rejected Data-Out PDUs are for the
//! target to recover. Rejected control PDUs count as answered.

use std::time::Instant;

use super::{Reaction, Session, reaction};
use crate::name::Cid;
use crate::serial::StatSn;
use crate::session::control::Abort;
use crate::session::error::ProtocolError;
use crate::session::task::{Ending, Stage, TaskKey};
use crate::wire::{Bhs, Itt, Opcode, Reject, SnackKind, SnackRequest, opcode};

impl Session {
    /// A Reject came; `data` begin with the header of what was rejected.
    pub(in crate::session) fn rejected(
        &mut self,
        now: Instant,
        cid: Cid,
        reject: &Reject,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        self.stats.rejects += 1;
        let header: Option<&Bhs> = data.first_chunk();
        let pdu = header.and_then(|bhs| opcode(bhs).ok());
        let itt = header.map_or(Itt::RESERVED, crate::wire::itt);
        let error = ProtocolError::Rejected {
            pdu,
            reason: reject.reason,
            name: reject.reason_name(),
        };
        match reaction(&error, self.params.error_recovery_level) {
            Reaction::Ignore => self.note_reject(now, cid, reject, (pdu, itt, header)),
            Reaction::Retry => {
                self.retry(now, cid, TaskKey::from_itt(itt));
                Ok(())
            }
            Reaction::FailTask => {
                self.command_rejected(now, TaskKey::from_itt(itt));
                Ok(())
            }
            Reaction::Snack | Reaction::DropConnection | Reaction::DropSession => Err(error),
        }
    }

    fn note_reject(
        &mut self,
        now: Instant,
        cid: Cid,
        reject: &Reject,
        (pdu, itt, header): (Option<Opcode>, Itt, Option<&Bhs>),
    ) -> Result<(), ProtocolError> {
        match pdu {
            // No less a sign of life than an answer.
            Some(Opcode::NopOut) if self.echoed(itt) => {}
            Some(Opcode::NopOut) => {
                if let Some(connection) = self.connections.get_mut(cid) {
                    connection.ping = connection.ping.filter(|ping| ping.itt != itt);
                }
            }
            Some(Opcode::TaskRequest) => self.management_rejected(now, itt, reject),
            Some(Opcode::TextRequest) => self.text_rejected(now, cid, itt, reject),
            Some(Opcode::LogoutRequest) => self.logout_rejected(now, itt),
            Some(Opcode::DataOut) => {
                if let Some(task) = self.tasks.get_mut(TaskKey::from_itt(itt)) {
                    task.write.data_rejected();
                }
            }
            Some(Opcode::SnackRequest) => {
                let snack = header.and_then(|bhs| SnackRequest::decode(bhs).ok());
                if let Some(snack) = snack {
                    return self.snack_rejected(cid, &snack);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn management_rejected(&mut self, now: Instant, itt: Itt, reject: &Reject) {
        if !self.function_rejected(itt, reject) {
            self.task_request_rejected(now, itt);
        }
    }

    fn logout_rejected(&mut self, now: Instant, itt: Itt) {
        if !self.connection_logout_rejected(now, itt) {
            self.logout_refused(now);
        }
    }

    fn snack_rejected(&mut self, cid: Cid, snack: &SnackRequest) -> Result<(), ProtocolError> {
        match snack.kind {
            SnackKind::DataOrR2t | SnackKind::RData => {
                self.data_snack_rejected(TaskKey::from_itt(snack.itt));
            }
            SnackKind::Status => {
                let Some(connection) = self.connections.get(cid) else {
                    return Ok(());
                };
                let expected = connection.exp_stat_sn;
                let first = StatSn(snack.beg_run);
                // The header is what the target says that ours was: its numbers may be any.
                let asked = |stat_sn: StatSn| stat_sn.since(first) < snack.run_length;
                let missing = connection.recovery.held.missing();
                let mut missing = missing.into_iter().flat_map(|(from, count)| {
                    (0..count).map(move |at| expected.plus(from).plus(at))
                });
                if missing.any(asked) {
                    return Err(ProtocolError::StatSnGap {
                        expected: expected.0,
                        actual: first.plus(snack.run_length).0,
                    });
                }
            }
            SnackKind::DataAck => {}
        }
        Ok(())
    }

    /// The command is not active at the target and will not be.
    fn command_rejected(&mut self, now: Instant, key: TaskKey) {
        let active = |task: &&mut crate::session::task::Task| {
            task.stage == Stage::Sent && task.ending == Ending::No
        };
        if self.tasks.get_mut(key).filter(active).is_some() {
            self.ask_abort(now, key, Abort::Rejected);
        }
    }
}
