//! Task management that somebody asks for (RFC 7143 §4.2.3, §11.5, §11.6; RFC 7144 §6). What the
//! session does by itself about commands without an answer is in `ending`.
//!
//! A function that ends several tasks keeps them alive until its response: R2Ts are answered
//! (unless TaskReporting is FastAbort) and statuses count, because all of them were sent before the
//! response. With the response every affected task that has none is over. When no response comes,
//! the session is dropped: nobody may be left with tasks of which nothing is known.
//!
//! Statuses are acknowledged at once while such a function is under way, on every connection: a
//! target waits for that before it responds (RFC 7143 §11.6.1).

use std::task::{Poll, Waker};
use std::time::Instant;

use scsi::{Certainty, DeliveryError, DeliveryErrorKind, Lun, NexusState, Outcome};

use super::connection::Connection;
use super::control::Control;
use super::error::LossReason;
use super::task::{Ending, Stage, TaskKey};
use super::{Session, later};
use crate::name::Cid;
use crate::serial::{CmdSn, StatSn};
use crate::text::TaskReporting;
use crate::wire::transmit::Transmit;
use crate::wire::{Itt, Lengths, Reject, TaskFunction, TaskResponse};

mod words;

pub use words::{
    ManagementFunction, ManagementResponse, TaskManagementError, TaskManagementResponse,
};

/// Functions that may be asked for at once.
const FUNCTIONS_MAX: usize = 64;

/// Names a function that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ManagementKey(u64);

/// Whom a function reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Nobody: it only asks, or clears a condition.
    Nothing,
    /// One task.
    Task(TaskKey),
    /// The tasks of a logical unit.
    Unit(Lun),
    /// Every task of the session.
    Session,
}

/// A function that was asked for.
#[derive(Debug)]
struct Function {
    key: ManagementKey,
    itt: Itt,
    function: ManagementFunction,
    lun: Lun,
    scope: Scope,
    /// Where its request goes, and its response comes from.
    cid: Cid,
    /// The tasks before it are affected; `None` until the request is encoded.
    cmd_sn: Option<CmdSn>,
    deadline: Instant,
    waker: Option<Waker>,
    /// Nobody waits for it.
    forgotten: bool,
    outcome: Option<Result<TaskManagementResponse, TaskManagementError>>,
}

impl Function {
    fn is_waiting(&self) -> bool {
        self.outcome.is_none()
    }

    /// Whether its request went out and it reaches the tasks of `lun`.
    fn reaches(&self, lun: Lun) -> bool {
        let in_scope = match self.scope {
            Scope::Unit(unit) => unit == lun,
            Scope::Session => true,
            Scope::Nothing | Scope::Task(_) => false,
        };
        in_scope && self.is_waiting() && self.cmd_sn.is_some()
    }
}

/// All functions asked for and not picked up.
#[derive(Debug, Default)]
pub(super) struct Functions {
    all: Vec<Function>,
    last: u64,
}

impl Functions {
    /// When the next one has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.all.iter().filter(|it| it.is_waiting());
        waiting.map(|it| it.deadline).min()
    }

    /// Whether statuses are to be acknowledged at once.
    pub(super) fn wants_acknowledgements(&self) -> bool {
        let reaches_several = |it: &Function| matches!(it.scope, Scope::Unit(_) | Scope::Session);
        self.all
            .iter()
            .any(|it| it.is_waiting() && it.cmd_sn.is_some() && reaches_several(it))
    }

    /// Whether a function under way will end the tasks of `lun`.
    pub(super) fn will_end(&self, lun: Lun) -> bool {
        self.all.iter().any(|it| it.reaches(lun))
    }

    fn waiting(&mut self, itt: Itt) -> Option<&mut Function> {
        self.all
            .iter_mut()
            .find(|it| it.itt == itt && it.is_waiting())
    }
}

impl Session {
    /// Asks the target for a task management function. Commands of its scope that wait for the
    /// command window are ended at once: they are not to be sent after it.
    ///
    /// `lun` counts for functions that address a logical unit; for one that names a task, the
    /// task's own counts.
    ///
    /// # Errors
    /// Nothing is sent: the session is down, the function belongs to a higher
    /// iSCSIProtocolLevel than was negotiated (RFC 7144 §6.3), the task it names is over, or too
    /// many functions are under way.
    pub fn manage(
        &mut self,
        now: Instant,
        lun: Lun,
        function: ManagementFunction,
    ) -> Result<ManagementKey, TaskManagementError> {
        match self.state() {
            NexusState::Up(_) => {}
            NexusState::Closed => return Err(TaskManagementError::Closed),
            NexusState::Down(_) | _ => return Err(TaskManagementError::Down),
        }
        let level = self.params.protocol_level;
        if function.needs_level() > level {
            return Err(TaskManagementError::ProtocolLevel { function, level });
        }
        self.functions
            .all
            .retain(|it| it.is_waiting() || !it.forgotten);
        if self.functions.all.len() >= FUNCTIONS_MAX {
            return Err(TaskManagementError::Busy);
        }
        let (lun, scope, cid) = self.place(lun, function)?;
        self.forget_waiting(scope);
        self.functions.last += 1;
        let key = ManagementKey(self.functions.last);
        let itt = self.controls.tag();
        let limit = match scope {
            Scope::Nothing | Scope::Task(_) => self.config.timeouts.abort_task,
            Scope::Unit(_) | Scope::Session => self.config.timeouts.lu_reset,
        };
        self.functions.all.push(Function {
            key,
            itt,
            function,
            lun,
            scope,
            cid,
            cmd_sn: None,
            deadline: later(now, limit),
            waker: None,
            forgotten: false,
            outcome: None,
        });
        self.push_control(cid, Control::Manage { itt });
        Ok(key)
    }

    /// The LUN field, whom it reaches, and the connection it has to travel on.
    fn place(
        &mut self,
        lun: Lun,
        function: ManagementFunction,
    ) -> Result<(Lun, Scope, Cid), TaskManagementError> {
        let any = self.any_connection();
        Ok(match function {
            ManagementFunction::AbortTask(key) | ManagementFunction::QueryTask(key) => {
                let sent = |task: &&mut super::task::Task| task.stage == Stage::Sent;
                let task = self.tasks.get_mut(key).filter(sent);
                let task = task.ok_or(TaskManagementError::NoSuchTask)?;
                let allegiance = self.connections.get(task.allegiance);
                if !allegiance.is_some_and(Connection::may_send) {
                    return Err(TaskManagementError::Recovering);
                }
                let scope = if matches!(function, ManagementFunction::QueryTask(_)) {
                    Scope::Nothing
                } else {
                    // The tag stays in quarantine until the answer is in.
                    task.ending = Ending::Asked;
                    Scope::Task(key)
                };
                // Where the task is, its answer comes before ours (RFC 7143 §11.5.1).
                (task.lun, scope, task.allegiance)
            }
            ManagementFunction::AbortTaskSet
            | ManagementFunction::ClearTaskSet
            | ManagementFunction::LogicalUnitReset => (lun, Scope::Unit(lun), any),
            ManagementFunction::ClearAca
            | ManagementFunction::QueryTaskSet
            | ManagementFunction::QueryAsynchronousEvent => (lun, Scope::Nothing, any),
            ManagementFunction::TargetWarmReset
            | ManagementFunction::TargetColdReset
            | ManagementFunction::ItNexusReset => (Lun::ZERO, Scope::Session, any),
        })
    }

    /// A connection for requests that may go on any.
    pub(super) fn any_connection(&self) -> Cid {
        let mut all = self.connections.iter();
        all.find(|it| it.takes_commands())
            .unwrap_or_else(|| self.connections.leading())
            .cid
    }

    /// Ends the commands of a scope that have not been sent.
    fn forget_waiting(&mut self, scope: Scope) {
        let of_scope = |lun: Lun| match scope {
            Scope::Unit(unit) => unit == lun,
            Scope::Session => true,
            Scope::Nothing | Scope::Task(_) => false,
        };
        let tasks = &self.tasks;
        let keys: Vec<TaskKey> = self
            .pending
            .iter()
            .copied()
            .filter(|key| tasks.get(*key).is_some_and(|task| of_scope(task.lun)))
            .collect();
        for key in keys {
            self.forget_pending(key);
            let (kind, certainty) = (DeliveryErrorKind::Aborted, Certainty::NotSent);
            self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        }
    }

    /// Picks up what became of a function, or leaves a waker for it.
    ///
    /// A key that was picked up or forgotten before stays pending for ever.
    pub fn poll_management(
        &mut self,
        key: ManagementKey,
        waker: &Waker,
    ) -> Poll<Result<TaskManagementResponse, TaskManagementError>> {
        let Some(at) = self.functions.all.iter().position(|it| it.key == key) else {
            return Poll::Pending;
        };
        let Some(function) = self.functions.all.get_mut(at) else {
            return Poll::Pending;
        };
        let Some(outcome) = function.outcome.take() else {
            function.waker = Some(waker.clone());
            return Poll::Pending;
        };
        self.functions.all.swap_remove(at);
        Poll::Ready(outcome)
    }

    /// Nobody waits for a function any more. It is carried out all the same.
    pub fn forget_management(&mut self, key: ManagementKey) {
        let named = |it: &&mut Function| it.key == key;
        if let Some(function) = self.functions.all.iter_mut().find(named) {
            function.forgotten = true;
            function.waker = None;
        }
        self.functions
            .all
            .retain(|it| it.is_waiting() || !it.forgotten);
    }

    /// Encodes the request of a function.
    pub(super) fn transmit_function(&mut self, itt: Itt, ack: StatSn, out: &mut Transmit) {
        let here = self.window.peek();
        let Some(function) = self.functions.waiting(itt) else {
            return;
        };
        function.cmd_sn = Some(here);
        let (what, lun, scope, cid) = (
            function.function,
            function.lun,
            function.scope,
            function.cid,
        );
        let code = what.code();
        self.stats.task_management += 1;
        if code == TaskFunction::AbortTask {
            self.stats.aborts += 1;
        } else if code == TaskFunction::LogicalUnitReset {
            self.stats.lu_resets += 1;
        }
        let mut request = self.task_request(code, lun, itt, ack);
        if let ManagementFunction::AbortTask(key) | ManagementFunction::QueryTask(key) = what {
            request.referenced = key.itt();
            request.ref_cmd_sn = self.tasks.get(key).map_or(CmdSn(0), |task| task.cmd_sn);
        }
        out.push(
            &request.encode(Lengths::default()),
            &[],
            bytes::Bytes::new(),
        );
        match scope {
            Scope::Unit(lun) => self.unit_function_sent(Some(lun), cid, here),
            Scope::Session => self.unit_function_sent(None, cid, here),
            Scope::Nothing | Scope::Task(_) => {}
        }
    }

    /// A function that ends the tasks of a logical unit, or all, has been sent on `cid`: with
    /// FastAbort no more data go there for the tasks before it (RFC 7143 §4.2.3.4), and the
    /// statuses that the target waits for are acknowledged on the other connections.
    pub(super) fn unit_function_sent(&mut self, lun: Option<Lun>, cid: Cid, before: CmdSn) {
        if self.params.task_reporting == TaskReporting::FastAbort {
            self.mute_tasks(lun, cid, Some(before));
        }
        let others = self.connections.iter();
        let others = others.filter(|it| it.cid != cid && it.may_send());
        let others: Vec<Cid> = others.map(|it| it.cid).collect();
        for other in others {
            self.push_control(other, Control::Acknowledge { lun: Lun::ZERO });
        }
    }

    /// Stops Data-Out on one connection for the tasks of a logical unit, or of all, that were sent
    /// before `before`.
    pub(super) fn mute_tasks(&mut self, lun: Option<Lun>, cid: Cid, before: Option<CmdSn>) {
        for index in self.tasks.indices() {
            if let Some(task) = self.tasks.at_mut(index)
                && task.stage == Stage::Sent
                && task.allegiance == cid
                && lun.is_none_or(|lun| task.lun == lun)
                && before.is_none_or(|before| task.cmd_sn.precedes(before))
            {
                task.muted = true;
            }
        }
        let tasks = &self.tasks;
        if let Some(connection) = self.connections.get_mut(cid) {
            connection
                .sending
                .retain(|key| tasks.get(*key).is_some_and(|task| !task.muted));
        }
    }

    /// Goes on with Data-Out: the function that would have ended the tasks has failed.
    fn unmute(&mut self) {
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at_mut(index).filter(|task| task.muted) else {
                continue;
            };
            task.muted = false;
            let key = TaskKey {
                index,
                generation: task.generation,
            };
            if task.stage == Stage::Sent
                && task.write.is_sending()
                && let Some(connection) = self.connections.get_mut(task.allegiance)
            {
                connection.sending.push_back(key);
            }
        }
    }

    /// A task management response came; `false` when it answers no function of ours.
    pub(super) fn function_response(&mut self, now: Instant, response: &TaskResponse) -> bool {
        let level = self.params.protocol_level;
        let Some(function) = self.functions.waiting(response.itt) else {
            return false;
        };
        let (what, scope, cmd_sn) = (function.function, function.scope, function.cmd_sn);
        let answer = ManagementResponse::from_code(response.response);
        let ended = if what.concludes(answer) {
            self.conclude(scope, cmd_sn)
        } else {
            self.release_scope(scope);
            0
        };
        let outcome = TaskManagementResponse {
            response: answer,
            additional: if level >= 2 {
                response.additional
            } else {
                [0; 3]
            },
            ended,
        };
        self.settle_function(response.itt, Ok(outcome));
        let cuts = matches!(
            what,
            ManagementFunction::TargetColdReset | ManagementFunction::ItNexusReset
        );
        if cuts && answer == ManagementResponse::FunctionComplete {
            // The target drops all connections (RFC 7143 §11.5.1, RFC 7144 §6.3), and with them
            // the session: nothing of it is alive.
            self.end_lives();
            let function = what.name();
            self.lose(now, LossReason::ResetOnRequest { function });
        }
        true
    }

    /// Every task of the scope that has no status is over. How many there were.
    fn conclude(&mut self, scope: Scope, cmd_sn: Option<CmdSn>) -> usize {
        match (scope, cmd_sn) {
            (Scope::Task(key), _) => {
                let ended = usize::from(self.end_aborted(key));
                self.release_tag(key);
                ended
            }
            (Scope::Unit(lun), Some(before)) => self.end_affected(Some(lun), before),
            (Scope::Session, Some(before)) => self.end_affected(None, before),
            (Scope::Nothing | Scope::Unit(_) | Scope::Session, _) => 0,
        }
    }

    /// The function failed: its tasks go on.
    fn release_scope(&mut self, scope: Scope) {
        match scope {
            Scope::Task(key) => self.goes_on(key),
            Scope::Unit(_) | Scope::Session => self.unmute(),
            Scope::Nothing => {}
        }
    }

    /// A task is not aborted after all: its own time limit counts again, unless the ladder that
    /// ends commands without an answer has got hold of it.
    fn goes_on(&mut self, key: TaskKey) {
        if self.controls.is_aborting(key) {
            return;
        }
        self.release_tag(key);
        if let Some(task) = self.tasks.get(key) {
            let deadline = task.deadline;
            let next = self.next_deadline;
            self.next_deadline = Some(next.map_or(deadline, |next| next.min(deadline)));
        }
    }

    fn settle_function(
        &mut self,
        itt: Itt,
        outcome: Result<TaskManagementResponse, TaskManagementError>,
    ) {
        let Some(function) = self.functions.waiting(itt) else {
            return;
        };
        function.outcome = Some(outcome);
        if let Some(waker) = function.waker.take() {
            self.wakes.push(waker);
        }
        self.functions
            .all
            .retain(|it| it.is_waiting() || !it.forgotten);
    }

    /// A request was rejected; `false` when it was no function of ours.
    pub(super) fn function_rejected(&mut self, itt: Itt, reject: &Reject) -> bool {
        let Some(scope) = self.functions.waiting(itt).map(|it| it.scope) else {
            return false;
        };
        self.release_scope(scope);
        let (reason, name) = (reject.reason, reject.reason_name());
        self.settle_function(itt, Err(TaskManagementError::Rejected { reason, name }));
        true
    }

    /// Functions without a response in time.
    pub(super) fn function_timeouts(&mut self, now: Instant) {
        let overdue = |it: &Function| it.is_waiting() && it.deadline <= now;
        while let Some(function) = self.functions.all.iter().find(|it| overdue(it)) {
            let (itt, scope, cid) = (function.itt, function.scope, function.cid);
            let what = function.function.name();
            let sent = function.cmd_sn.is_some();
            if let Some(connection) = self.connections.get_mut(cid) {
                connection.controls.retain(
                    |control| !matches!(control, Control::Manage { itt: other } if *other == itt),
                );
            }
            self.release_scope(scope);
            self.settle_function(itt, Err(TaskManagementError::NoAnswer));
            if sent && matches!(scope, Scope::Unit(_) | Scope::Session) {
                // Tasks may be over or not; only a new session knows (RFC 7143 §4.2.3.3).
                return self.lose(now, LossReason::ManagementTimeout { function: what });
            }
        }
    }

    /// No response can come any more for functions on `cid`, or on any connection.
    pub(super) fn fail_functions(&mut self, cid: Option<Cid>) {
        let lost = |it: &Function| it.is_waiting() && cid.is_none_or(|cid| it.cid == cid);
        while let Some((itt, scope)) = self
            .functions
            .all
            .iter()
            .find(|it| lost(it))
            .map(|it| (it.itt, it.scope))
        {
            if cid.is_some() {
                // The session lives on, and with it the tasks that the function would have ended.
                self.release_scope(scope);
            }
            self.settle_function(itt, Err(TaskManagementError::ConnectionLost));
        }
    }

    /// The commands of a logical unit that are under way, oldest first, for functions that name a
    /// task.
    #[must_use]
    pub fn outstanding(&self, lun: Lun) -> Vec<(TaskKey, u8)> {
        let mut found: Vec<_> = self
            .tasks
            .indices()
            .filter_map(|index| Some((index, self.tasks.at(index)?)))
            .filter(|(_, task)| task.lun == lun && task.stage == Stage::Sent)
            .map(|(index, task)| {
                let generation = task.generation;
                (
                    task.deadline,
                    TaskKey { index, generation },
                    task.operation_code,
                )
            })
            .collect();
        found.sort_by_key(|(deadline, ..)| *deadline);
        found
            .into_iter()
            .map(|(_, key, code)| (key, code))
            .collect()
    }

    /// Acknowledges a status at once when a target may be waiting for that.
    pub(super) fn acknowledge_for_functions(&mut self, cid: Cid) {
        if !self.functions.wants_acknowledgements() && self.controls.resets_sent().next().is_none()
        {
            return;
        }
        if let Some(connection) = self.connections.get_mut(cid).filter(|it| it.may_send())
            && connection.controls.is_empty()
        {
            let lun = Lun::ZERO;
            connection.controls.push_back(Control::Acknowledge { lun });
        }
    }
}
