//! Ending commands that have no answer: ABORT TASK, then LOGICAL UNIT RESET, then the session
//! (RFC 7143 §11.5, §11.6).
//!
//! A tag that an abort names stays in quarantine until the abort is answered or the connection is
//! gone: a late answer meets the old command's own memory, or none.

use std::time::Instant;

use scsi::{Certainty, DeliveryError, DeliveryErrorKind, Lun, Outcome};

use super::control::{Abort, Asked, Control};
use super::error::{LossReason, ProtocolError};
use super::event::Event;
use super::task::{Ending, Stage, TaskKey};
use super::{Session, later};
use crate::serial::CmdSn;
use crate::wire::{Itt, TaskResponse};

/// Task management responses (RFC 7143 §11.6.1).
const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;
const NO_SUCH_LUN: u8 = 2;

impl Session {
    /// Starts to end the commands whose time is up.
    pub(super) fn end_overdue_tasks(&mut self, now: Instant) {
        if self.next_deadline.is_none_or(|next| now < next) {
            return;
        }
        let mut next: Option<Instant> = None;
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at(index) else {
                continue;
            };
            let key = TaskKey {
                index,
                generation: task.generation,
            };
            let deadline = task.deadline;
            if task.stage == Stage::Done || task.ending == Ending::Asked {
                continue;
            }
            if now < deadline {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                continue;
            }
            self.overdue(now, key);
        }
        self.next_deadline = next;
    }

    fn overdue(&mut self, now: Instant, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let event = Event::CommandTimedOut {
            lun: task.lun,
            operation_code: task.operation_code,
        };
        task.timed_out = true;
        let stage = task.stage;
        self.stats.timeouts += 1;
        self.push_event(event);
        self.doubt_numbers(now);
        if stage == Stage::Pending {
            self.forget_pending(key);
            let (kind, certainty) = (DeliveryErrorKind::TimedOut, Certainty::NotSent);
            self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        } else {
            self.ask_abort(now, key, Abort::Overdue);
        }
    }

    pub(super) fn ask_abort(&mut self, now: Instant, key: TaskKey, why: Abort) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        task.ending = Ending::Asked;
        // Where the task is (RFC 7143 §11.5.1).
        let cid = task.allegiance;
        let itt = self.controls.tag();
        let deadline = later(now, self.config.timeouts.abort_task);
        self.controls
            .asked
            .push((itt, Asked::Abort { key, why }, deadline));
        self.push_control(cid, Control::Abort { itt, key });
    }

    /// Has the logical unit of a task reset, unless a reset that reaches the task is under way.
    fn ask_reset(&mut self, now: Instant, lun: Lun, task: CmdSn) {
        let reaches = |(_, asked, _): &(Itt, Asked, Instant)| match asked {
            Asked::Reset { lun: other, cmd_sn } => {
                *other == lun && cmd_sn.is_none_or(|reset| task.precedes(reset))
            }
            Asked::Abort { .. } => false,
        };
        if self.controls.asked.iter().any(reaches) {
            return;
        }
        let itt = self.controls.tag();
        let deadline = later(now, self.config.timeouts.lu_reset);
        let cmd_sn = None;
        self.controls
            .asked
            .push((itt, Asked::Reset { lun, cmd_sn }, deadline));
        let cid = self.any_connection();
        self.push_control(cid, Control::Reset { itt, lun });
    }

    /// A connection is lost: resets that may have gone on it are asked for again on another, since
    /// immediate requests do not outlive their connection (RFC 7143 §7.14). A second reset does no
    /// harm.
    pub(super) fn reset_again(&mut self, now: Instant) {
        for at in 0..self.controls.asked.len() {
            let tag = self.controls.tag();
            let deadline = later(now, self.config.timeouts.lu_reset);
            let Some((itt, Asked::Reset { lun, cmd_sn }, due)) = self.controls.asked.get_mut(at)
            else {
                continue;
            };
            (*itt, *cmd_sn, *due) = (tag, None, deadline);
            let (itt, lun) = (tag, *lun);
            let cid = self.any_connection();
            self.push_control(cid, Control::Reset { itt, lun });
        }
    }

    /// A task management response came.
    pub(super) fn task_response(
        &mut self,
        now: Instant,
        response: &TaskResponse,
    ) -> Result<(), ProtocolError> {
        if self.function_response(now, response) {
            return Ok(());
        }
        let at = self
            .controls
            .asked
            .iter()
            .position(|(itt, ..)| *itt == response.itt);
        let Some(at) = at else {
            if self.reassign_response(now, response.itt, response.response) {
                return Ok(());
            }
            if !self.controls.was_used(response.itt) {
                let itt = response.itt.0;
                return Err(ProtocolError::UnknownTask { itt });
            }
            // The ladder did not wait for it; whatever came after the request settles the tasks.
            self.stats.late_answers += 1;
            return Ok(());
        };
        let (itt, asked, _) = self.controls.asked.swap_remove(at);
        let over = matches!(response.response, COMPLETE | NO_SUCH_TASK | NO_SUCH_LUN);
        match asked {
            Asked::Abort { key, why } if over => {
                if response.response == NO_SUCH_TASK {
                    self.end_forgotten(key);
                }
                // Had there been a status, it would have come before this response.
                if why == Abort::Rejected {
                    let (kind, certainty) = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
                    self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
                }
                self.end_aborted(key);
                self.release_tag(key);
            }
            Asked::Abort { key, why } => self.abort_failed(now, key, why),
            Asked::Reset { cmd_sn: None, .. } => {
                return Err(ProtocolError::UnknownTask { itt: itt.0 });
            }
            Asked::Reset {
                lun,
                cmd_sn: Some(cmd_sn),
            } if over => {
                self.end_affected(Some(lun), cmd_sn);
            }
            Asked::Reset { .. } => self.lose(now, LossReason::TaskStuck),
        }
        Ok(())
    }

    /// A task management request was rejected, which answers it.
    pub(super) fn task_request_rejected(&mut self, now: Instant, itt: Itt) {
        let Some(at) = self.controls.asked.iter().position(|(tag, ..)| *tag == itt) else {
            self.reassign_rejected(now, itt);
            return;
        };
        let (_, asked, _) = self.controls.asked.swap_remove(at);
        self.ending_failed(now, asked);
    }

    /// Requests without an answer in time.
    pub(super) fn ending_timeouts(&mut self, now: Instant) {
        while let Some(at) = self
            .controls
            .asked
            .iter()
            .position(|(_, _, due)| *due <= now)
        {
            let (_, asked, _) = self.controls.asked.swap_remove(at);
            self.ending_failed(now, asked);
        }
    }

    fn ending_failed(&mut self, now: Instant, asked: Asked) {
        match asked {
            Asked::Abort { key, why } => self.abort_failed(now, key, why),
            Asked::Reset { .. } => self.lose(now, LossReason::TaskStuck),
        }
    }

    fn abort_failed(&mut self, now: Instant, key: TaskKey, why: Abort) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.stage == Stage::Done {
            // It was answered meanwhile; only the abort was not. The tag can be used again once
            // the next generation makes it another tag.
            self.release_tag(key);
            return;
        }
        match why {
            Abort::Overdue | Abort::Rejected => {
                let (lun, cmd_sn) = (task.lun, task.cmd_sn);
                self.ask_reset(now, lun, cmd_sn);
            }
            Abort::Abandoned => {
                task.ending = Ending::No;
                task.deadline = later(now, task.timeout);
                let deadline = task.deadline;
                self.next_deadline = Some(
                    self.next_deadline
                        .map_or(deadline, |next| next.min(deadline)),
                );
            }
        }
    }

    /// The target knows nothing of a task. If that task has lost its connection, the target may
    /// have given it up when Time2Retain ended, which does not say that its execution has stopped.
    fn end_forgotten(&mut self, key: TaskKey) {
        if self.tasks.get(key).is_some_and(|task| task.fate.is_some()) {
            self.end_unanswered(key, Certainty::SentNoAnswer);
        }
    }

    /// Ends a task that the target says is over; `false` when it had ended before.
    pub(super) fn end_aborted(&mut self, key: TaskKey) -> bool {
        self.end_unanswered(key, Certainty::Answered)
    }

    fn end_unanswered(&mut self, key: TaskKey, certainty: Certainty) -> bool {
        let Some(task) = self.tasks.get(key).filter(|task| task.stage != Stage::Done) else {
            return false;
        };
        let kind = if task.timed_out {
            DeliveryErrorKind::TimedOut
        } else {
            DeliveryErrorKind::Aborted
        };
        self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        true
    }

    /// A logical unit was reset, or all of them: the tasks sent before the request are over, those
    /// of other logical units are not. How many had no status.
    pub(super) fn end_affected(&mut self, lun: Option<Lun>, reset: CmdSn) -> usize {
        let mut ended = 0;
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at(index) else {
                continue;
            };
            let key = TaskKey {
                index,
                generation: task.generation,
            };
            // Also those that were answered meanwhile: the reset ends their tags' quarantine.
            if lun.is_none_or(|lun| task.lun == lun)
                && task.stage != Stage::Pending
                && task.cmd_sn.precedes(reset)
            {
                self.controls.asked.retain(
                    |(_, asked, _)| !matches!(asked, Asked::Abort { key: other, .. } if *other == key),
                );
                ended += usize::from(self.end_aborted(key));
                self.release_tag(key);
            }
        }
        ended
    }
}
