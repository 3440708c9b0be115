//! Task management functions (RFC 7143 §11.5, §4.2.3; SAM-5 §7).

use std::time::Instant;

use crate::ConnectionId;
use crate::command::flat_lun;
use crate::connection::Numbering;
use crate::disk::sense::Sense;
use crate::fault::ManagementEffect;
use crate::full_feature::reason;
use crate::group::Group;
use crate::judge::Rule;
use crate::target::Target;
use crate::task::Progress;
use crate::wire::framer::RawPdu;
use crate::wire::request::TaskManagement;
use crate::wire::{Fields as _, RESERVED_TAG, response, serial_before};

/// Functions of RFC 7143 §11.5.1 and RFC 7144 §6.3.
pub(crate) mod function {
    pub(crate) const ABORT_TASK: u8 = 1;
    pub(crate) const ABORT_TASK_SET: u8 = 2;
    pub(crate) const CLEAR_ACA: u8 = 3;
    pub(crate) const CLEAR_TASK_SET: u8 = 4;
    pub(crate) const LOGICAL_UNIT_RESET: u8 = 5;
    pub(crate) const TARGET_WARM_RESET: u8 = 6;
    pub(crate) const TARGET_COLD_RESET: u8 = 7;
    pub(crate) const TASK_REASSIGN: u8 = 8;
    pub(crate) const QUERY_TASK: u8 = 9;
    pub(crate) const QUERY_TASK_SET: u8 = 10;
    pub(crate) const I_T_NEXUS_RESET: u8 = 11;
    pub(crate) const QUERY_ASYNC_EVENT: u8 = 12;
}

use function::{
    ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA, CLEAR_TASK_SET, I_T_NEXUS_RESET, LOGICAL_UNIT_RESET,
    QUERY_ASYNC_EVENT, QUERY_TASK, QUERY_TASK_SET, TARGET_COLD_RESET, TARGET_WARM_RESET,
    TASK_REASSIGN,
};

/// Responses of RFC 7143 §11.6.1.
pub(crate) mod response_code {
    pub(crate) const COMPLETE: u8 = 0;
    pub(crate) const NO_SUCH_TASK: u8 = 1;
    pub(crate) const NO_SUCH_LUN: u8 = 2;
    pub(crate) const STILL_ALLEGIANT: u8 = 3;
    pub(crate) const REASSIGN_NOT_SUPPORTED: u8 = 4;
    pub(crate) const FUNCTION_NOT_SUPPORTED: u8 = 5;
    /// RFC 7144 §6.4.2.
    pub(crate) const SUCCEEDED: u8 = 7;
    pub(crate) const REJECTED: u8 = 255;
}

use response_code::{
    COMPLETE, FUNCTION_NOT_SUPPORTED, NO_SUCH_LUN, NO_SUCH_TASK, REJECTED, SUCCEEDED,
};

/// Response code and additional information, now or when the time has come.
enum Managed {
    Now(u8, [u8; 3]),
    Later,
}

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
        let silent = effect == Some(ManagementEffect::Ignore);
        let (code, information) = match self.manage(now, id, tsih, &request, silent) {
            Managed::Later => return,
            Managed::Now(code, information) => (code, information),
        };
        self.release_held(now, tsih);
        if silent {
            return;
        }
        let mut header = response::task_management(request.itt, code);
        header.put(8, &information);
        if request.function == CLEAR_ACA {
            self.send_fenced(now, tsih, id, header);
        } else {
            self.send(now, id, header, &[], Numbering::Status);
        }
    }

    fn judge_management(&mut self, id: ConnectionId, tsih: u16, request: &TaskManagement) {
        let judge = &mut self.judge;
        let modern = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.parameters.protocol_level >= 2);
        let last = if modern {
            QUERY_ASYNC_EVENT
        } else {
            TASK_REASSIGN
        };
        let known = (ABORT_TASK..=last).contains(&request.function);
        judge.expect(known, Rule::TaskManagementFunction, || {
            format!("{}", request.function)
        });
        let names_task = matches!(request.function, ABORT_TASK | TASK_REASSIGN | QUERY_TASK);
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
        judge.expect(same, Rule::TaskManagementRefCmdSn, || {
            format!("{} for CmdSN {wanted}", request.ref_cmd_sn)
        });
    }

    /// Does what was asked, or begins it.
    fn manage(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        request: &TaskManagement,
        silent: bool,
    ) -> Managed {
        let unit = flat_lun(request.lun).filter(|lun| *lun < self.units.len());
        let needs_lun = matches!(
            request.function,
            ABORT_TASK_SET
                | CLEAR_ACA
                | CLEAR_TASK_SET
                | LOGICAL_UNIT_RESET
                | QUERY_TASK_SET
                | QUERY_ASYNC_EVENT
        );
        let modern = self.protocol_level(tsih) >= 2;
        if request.function >= QUERY_TASK && !modern {
            return Managed::Now(FUNCTION_NOT_SUPPORTED, [0; 3]);
        }
        if needs_lun && unit.is_none() {
            return Managed::Now(NO_SUCH_LUN, [0; 3]);
        }
        match request.function {
            ABORT_TASK => Managed::Now(self.abort_task(tsih, request), [0; 3]),
            ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET | TARGET_WARM_RESET
            | TARGET_COLD_RESET | I_T_NEXUS_RESET => {
                let group = Group {
                    connection: id,
                    request: *request,
                    silent,
                };
                self.start_group(now, tsih, group);
                Managed::Later
            }
            CLEAR_ACA => {
                self.clear_aca(unit, tsih);
                Managed::Now(COMPLETE, [0; 3])
            }
            QUERY_TASK => Managed::Now(self.query_task(now, id, tsih, request), [0; 3]),
            QUERY_TASK_SET => Managed::Now(self.query_task_set(tsih, request), [0; 3]),
            QUERY_ASYNC_EVENT => self.query_event(tsih, unit),
            _ => Managed::Now(FUNCTION_NOT_SUPPORTED, [0; 3]),
        }
    }

    /// RFC 7144 §6.3: present means not answered yet. Asked for on another connection after a logout, it takes the task
    /// over.
    fn query_task(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        request: &TaskManagement,
    ) -> u8 {
        let Some(session) = self.sessions.get(&tsih) else {
            return COMPLETE;
        };
        if session.manages(request.referenced) {
            return REJECTED;
        }
        let Some(task) = session.tasks.get(&request.referenced) else {
            return COMPLETE;
        };
        let freed = session.lost.get(&task.connection);
        if freed.is_some_and(|lost| lost.logged_out) {
            self.resume(now, id, tsih, request.referenced, 0);
        }
        SUCCEEDED
    }

    fn query_task_set(&self, tsih: u16, request: &TaskManagement) -> u8 {
        let any = self.sessions.get(&tsih).is_some_and(|session| {
            session
                .tasks
                .values()
                .any(|task| task.command.lun == request.lun)
        });
        if any { SUCCEEDED } else { COMPLETE }
    }

    /// The pending unit attention, as SAM-5 §7.9 puts it into the additional response information.
    fn query_event(&self, tsih: u16, unit: Option<usize>) -> Managed {
        let queue = self
            .sessions
            .get(&tsih)
            .zip(unit)
            .and_then(|(session, unit)| session.attentions.get(&unit));
        let Some((first, count)) =
            queue.and_then(|queue| queue.front().map(|first| (first, queue.len())))
        else {
            return Managed::Now(COMPLETE, [0; 3]);
        };
        let depth: u8 = if count == 1 { 0x10 } else { 0x20 };
        Managed::Now(SUCCEEDED, [depth | first.key, first.asc, first.ascq])
    }

    fn abort_task(&mut self, tsih: u16, request: &TaskManagement) -> u8 {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return NO_SUCH_TASK;
        };
        if session.manages(request.referenced) {
            return REJECTED;
        }
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

    pub(crate) fn reset_units(&mut self, unit: Option<usize>) {
        let descriptor = self.config.descriptor_sense;
        self.faulted
            .retain(|index, _| unit.is_some_and(|only| only != *index));
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
