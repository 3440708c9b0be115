//! Task management functions (RFC 7143 §11.5, §4.2.3; SAM-5 §7).

use std::time::Instant;

use crate::ConnectionId;
use crate::command::flat_lun;
use crate::connection::Numbering;
use crate::disk::sense::Sense;
use crate::fault::ManagementEffect;
use crate::full_feature::reason;
use crate::judge::Rule;
use crate::target::Target;
use crate::task::Progress;
use crate::wire::framer::RawPdu;
use crate::wire::request::TaskManagement;
use crate::wire::{RESERVED_TAG, response, serial_before};

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_ACA: u8 = 3;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;
const TARGET_COLD_RESET: u8 = 7;
const TASK_REASSIGN: u8 = 8;

/// Responses of RFC 7143 §11.6.1.
pub(crate) mod response_code {
    pub(crate) const COMPLETE: u8 = 0;
    pub(crate) const NO_SUCH_TASK: u8 = 1;
    pub(crate) const NO_SUCH_LUN: u8 = 2;
    pub(crate) const STILL_ALLEGIANT: u8 = 3;
    pub(crate) const REASSIGN_NOT_SUPPORTED: u8 = 4;
    pub(crate) const FUNCTION_NOT_SUPPORTED: u8 = 5;
    pub(crate) const REJECTED: u8 = 255;
}

use response_code::{COMPLETE, FUNCTION_NOT_SUPPORTED, NO_SUCH_LUN, NO_SUCH_TASK};

impl Target {
    pub(crate) fn on_task_management(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
    ) {
        let request = TaskManagement::parse(&pdu.header);
        if !self.tag_free(tsih, request.itt) {
            self.reject(now, id, reason::TASK_IN_PROGRESS, &pdu.header);
            return;
        }
        self.judge_management(id, tsih, &request);
        let effect = self.faults.management(request.function);
        if effect == Some(ManagementEffect::Lose) {
            return;
        }
        if let Some(ManagementEffect::Respond(code)) = effect {
            self.send(
                now,
                id,
                response::task_management(request.itt, code),
                &[],
                Numbering::Status,
            );
            return;
        }
        if request.function == TASK_REASSIGN {
            self.on_reassign(now, id, tsih, &request);
            return;
        }
        let code = self.manage(tsih, &request);
        self.release_held(now, tsih);
        if effect == Some(ManagementEffect::Ignore) {
            return;
        }
        self.send(
            now,
            id,
            response::task_management(request.itt, code),
            &[],
            Numbering::Status,
        );
        if request.function == TARGET_COLD_RESET {
            // All connections end; the response goes out first.
            self.drain(now, id);
            self.end_all_sessions(now);
        }
    }

    fn judge_management(&mut self, id: ConnectionId, tsih: u16, request: &TaskManagement) {
        let judge = &mut self.judge;
        let known = (ABORT_TASK..=TASK_REASSIGN).contains(&request.function);
        judge.expect(known, Rule::TaskManagementFunction, || {
            format!("{}", request.function)
        });
        let names_task = matches!(request.function, ABORT_TASK | TASK_REASSIGN);
        if !names_task {
            judge.expect(
                request.referenced == RESERVED_TAG,
                Rule::TaskManagementReference,
                || {
                    format!(
                        "{:#010x} in function {}",
                        request.referenced, request.function
                    )
                },
            );
            return;
        }
        let Some(session) = self.sessions.get(&tsih) else {
            return;
        };
        let Some(task) = session.tasks.get(&request.referenced) else {
            return;
        };
        if request.function == TASK_REASSIGN {
            // Its LUN is reserved (RFC 7143 §11.5.3).
            return;
        }
        judge.expect(
            task.command.lun == request.lun,
            Rule::TaskManagementReference,
            || {
                format!(
                    "LUN {:#018x} of a task of {:#018x}",
                    request.lun, task.command.lun
                )
            },
        );
        let elsewhere = task.connection != id && session.connections.contains(&task.connection);
        judge.expect(!elsewhere, Rule::TaskManagementAllegiance, || {
            format!("task of {:?} on {id:?}", task.connection)
        });
        let wanted = if task.command.immediate {
            request.cmd_sn
        } else {
            task.command.cmd_sn
        };
        let same = request.ref_cmd_sn == wanted;
        judge.expect(
            request.function != ABORT_TASK || same,
            Rule::TaskManagementRefCmdSn,
            || format!("{} for CmdSN {wanted}", request.ref_cmd_sn),
        );
    }

    fn manage(&mut self, tsih: u16, request: &TaskManagement) -> u8 {
        let unit = flat_lun(request.lun).filter(|lun| *lun < self.units.len());
        let needs_lun = matches!(
            request.function,
            ABORT_TASK_SET | CLEAR_ACA | CLEAR_TASK_SET | LOGICAL_UNIT_RESET
        );
        if needs_lun && unit.is_none() {
            return NO_SUCH_LUN;
        }
        match request.function {
            ABORT_TASK => self.abort_task(tsih, request),
            ABORT_TASK_SET => {
                self.abort_where(Some(tsih), unit);
                COMPLETE
            }
            CLEAR_TASK_SET => {
                self.abort_where(None, unit);
                self.attention(unit, Sense::CLEARED, Some(tsih));
                COMPLETE
            }
            LOGICAL_UNIT_RESET => {
                self.abort_where(None, unit);
                self.reset_units(unit);
                self.attention(unit, Sense::LUN_RESET, None);
                COMPLETE
            }
            TARGET_WARM_RESET | TARGET_COLD_RESET => {
                self.abort_where(None, None);
                self.reset_units(None);
                self.attention(None, Sense::RESET, None);
                COMPLETE
            }
            _ => FUNCTION_NOT_SUPPORTED,
        }
    }

    fn abort_task(&mut self, tsih: u16, request: &TaskManagement) -> u8 {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return NO_SUCH_TASK;
        };
        let answered = session
            .tasks
            .get(&request.referenced)
            .is_some_and(|task| matches!(task.progress, Progress::Answered(_)));
        if session.abort(request.referenced).is_some() {
            return if answered { NO_SUCH_TASK } else { COMPLETE };
        }
        // A command that has not arrived, within the window, is taken as received and aborted (RFC 7143 §11.6.1).
        let number = request.ref_cmd_sn;
        if session.in_window(number) && serial_before(number, request.cmd_sn) {
            session.held.remove(&number);
            session.numbers.plug(number);
            session.note_ended(request.referenced);
            return COMPLETE;
        }
        NO_SUCH_TASK
    }

    /// Ends tasks of one session or of all, on one logical unit or on all; late writes with them.
    pub(crate) fn abort_where(&mut self, tsih: Option<u16>, unit: Option<usize>) {
        let honest = !self.config.late_execution_after_reinstatement;
        for (number, session) in &mut self.sessions {
            if tsih.is_some_and(|only| only != *number) {
                continue;
            }
            let tags: Vec<u32> = session
                .tasks
                .iter()
                .filter(|(_, task)| unit.is_none() || task.execution.unit == unit)
                .map(|(itt, _)| *itt)
                .collect();
            for itt in tags {
                session.abort(itt);
            }
        }
        if honest {
            self.late.retain(|_, late| {
                tsih.is_some_and(|only| only != late.tsih)
                    || unit.is_some() && late.execution.unit != unit
            });
        }
    }

    fn reset_units(&mut self, unit: Option<usize>) {
        let descriptor = self.config.descriptor_sense;
        for (index, state) in self.units.iter_mut().enumerate() {
            if unit.is_none_or(|only| only == index) {
                state.reset(descriptor);
            }
        }
    }

    /// Queues a unit attention on one logical unit or all, for every session but `except`.
    pub(crate) fn attention(&mut self, unit: Option<usize>, sense: Sense, except: Option<u16>) {
        let count = self.units.len();
        for (tsih, session) in &mut self.sessions {
            if except == Some(*tsih) {
                continue;
            }
            for lun in (0..count).filter(|lun| unit.is_none_or(|only| only == *lun)) {
                session.attention(lun, sense);
            }
        }
    }
}
