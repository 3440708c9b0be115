//! TASK REASSIGN (RFC 7143 §7.2.2, §11.5.1, §11.5.6): tasks of a lost connection go on where they were.
//!
//! Invariant: the response goes out before the new allegiance takes effect, and a task that was promised ("function
//! complete") is concluded: data from the reference number on, R2Ts for what did not come, and the status.

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::judge::Rule;
use crate::target::Target;
use crate::task::{Progress, Task};
use crate::tmf::response_code;
use crate::wire::request::TaskManagement;
use crate::wire::response;

impl Target {
    /// Answers the request and, when it succeeded, continues the task on this connection.
    pub(crate) fn on_reassign(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        request: &TaskManagement,
    ) {
        let code = self.judge_reassign(now, id, tsih, request);
        let header = response::task_management(request.itt, code);
        self.send(now, id, header, &[], Numbering::Status);
        if code == response_code::COMPLETE {
            self.recovery.reassigned += 1;
            self.resume(now, id, tsih, request.referenced, request.exp_data_sn);
        }
    }

    /// The response code, and what of the request the RFC forbids.
    fn judge_reassign(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        request: &TaskManagement,
    ) -> u8 {
        let judge = &mut self.judge;
        judge.expect(request.immediate, Rule::ReassignImmediate, || {
            "I bit clear".to_owned()
        });
        let Some(session) = self.sessions.get(&tsih) else {
            return response_code::NO_SUCH_TASK;
        };
        let level = session.parameters.error_recovery_level;
        if level < 2 {
            return response_code::REASSIGN_NOT_SUPPORTED;
        }
        let text = self.connections.get(&id).and_then(|c| c.text.as_ref());
        if text.is_some_and(|text| text.itt == request.referenced) {
            return response_code::REJECTED;
        }
        let Some(task) = session.tasks.get(&request.referenced) else {
            return response_code::NO_SUCH_TASK;
        };
        let freed = session
            .lost
            .get(&task.connection)
            .filter(|lost| lost.logged_out);
        let Some(lost) = freed else {
            judge.note(
                Rule::ReassignAllegiant,
                format!(
                    "task {:#010x} of {:?}, which is not logged out",
                    request.referenced, task.connection
                ),
            );
            return response_code::STILL_ALLEGIANT;
        };
        let early = lost.wait_until.is_some_and(|at| now < at);
        judge.expect(!early, Rule::RecoveryTooEarly, || {
            "before Time2Wait of the Logout Response".to_owned()
        });
        let given = request.exp_data_sn;
        let holes = task
            .sent
            .iter()
            .any(|entry| entry.data_sn < given && !entry.delivered);
        let known = given == 0 || given >= task.data_acked && given <= task.input_sn;
        judge.expect(known && !holes, Rule::ReassignExpDataSn, || {
            format!(
                "{given}, acknowledged {}, sent {}, holes {holes}",
                task.data_acked, task.input_sn
            )
        });
        response_code::COMPLETE
    }

    /// Continues a task on another connection.
    pub(crate) fn resume(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        itt: u32,
        exp_data_sn: u32,
    ) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let burst_bytes = session.parameters.max_burst_bytes;
        let Some(task) = session.tasks.get_mut(&itt) else {
            return;
        };
        task.connection = id;
        // RFC 7143 §7.2.2: the tag belonged to the old connection.
        task.snack_tag = 0;
        if exp_data_sn > task.data_acked && exp_data_sn <= task.input_sn {
            task.data_acked = exp_data_sn;
        }
        let task_id = task.id;
        match &task.progress {
            Progress::Collecting => {
                ask_for_the_rest(task, burst_bytes);
                self.pump(now, tsih, itt);
            }
            Progress::Waiting => {}
            Progress::Executed(_) if task.due => self.answer_by_id(now, tsih, task_id),
            Progress::Executed(_) => {}
            Progress::DataSent(_) | Progress::Answered(_) => {
                let Some(mut task) = session.tasks.remove(&itt) else {
                    return;
                };
                let progress = std::mem::replace(&mut task.progress, Progress::Waiting);
                let (Progress::DataSent(reply) | Progress::Answered(reply)) = progress else {
                    return;
                };
                let from = task.data_acked;
                if self.send_rest(now, tsih, &mut task, &reply, from, true) {
                    self.keep_answered(tsih, task, reply);
                } else {
                    self.send_status(now, tsih, task, reply);
                }
            }
        }
        self.forget_if_empty(tsih);
    }

    /// A lost connection whose tasks are all gone has nothing left to recover.
    fn forget_if_empty(&mut self, tsih: u16) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let tasks = &session.tasks;
        session.lost.retain(|id, lost| {
            !lost.logged_out || tasks.values().any(|task| task.connection == *id)
        });
    }
}

/// Data on their way were lost with the connection; all that did not come is asked for by R2Ts.
fn ask_for_the_rest(task: &mut Task, burst_bytes: u32) {
    if task.early.is_some() {
        task.unsolicited = None;
        return;
    }
    for (ttt, burst) in std::mem::take(&mut task.r2ts) {
        task.replaced.insert(ttt, burst);
    }
    task.unsolicited = None;
    task.planned.clear();
    let whole = crate::task::Burst::new(0, task.wanted, 0);
    task.plan_missing(&whole, burst_bytes);
}
