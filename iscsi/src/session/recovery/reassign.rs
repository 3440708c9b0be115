//! Tasks that outlive their connection (RFC 7143 §7.2).
//!
//! Once the target has confirmed that the old connection is gone, every command of it is in one of
//! two conditions, told apart by ExpCmdSN as it then stands:
//!
//! - *acknowledged*: the target has it. TASK REASSIGN (function 8) moves it to another connection,
//!   where it goes on: a read from the first Data-In that is missing, a write as the target's next
//!   R2Ts say.
//! - *not acknowledged*: the target has not, or has thrown it away (§11.14). It leaves a hole in
//!   CmdSN order that nothing else can fill, so the same PDU is sent again, with its tag and CmdSN
//!   (§7.2.1).
//!
//! Invariant: **no command is executed twice.** A reassigned command is not sent again. A retried
//! one has a CmdSN that the target has not passed yet; should it have passed it after all, it
//! ignores the copy (§4.2.2.1). What cannot be settled by these two ends with the session, and is
//! reported as of unknown outcome, for the fence to settle.

use std::time::{Duration, Instant};

use scsi::{Certainty, DeliveryError, DeliveryErrorKind, Outcome};

use super::super::connection::Remedy;
use super::super::control::{Asked, Control};
use super::super::error::LossReason;
use super::super::event::Event;
use super::super::task::{Ending, Stage, TaskKey};
use super::super::{Phase, Session, later};
use crate::name::Cid;
use crate::wire::{Itt, LogoutResponse};

/// Task management responses (RFC 7143 §11.6.1).
const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;

/// Tasks without a connection, and what is being done about them.
#[derive(Debug)]
pub(in super::super) struct Adrift {
    /// In CmdSN order, each with the moments between which it is to be reassigned.
    tasks: Vec<Waiting>,
    /// TASK REASSIGN without an answer.
    asked: Vec<(Itt, TaskKey, Instant)>,
    pub(super) strikes: u32,
    pub(super) last_loss: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    key: TaskKey,
    not_before: Instant,
    until: Instant,
}

impl Adrift {
    pub(in super::super) fn new(now: Instant) -> Self {
        Self {
            tasks: Vec::new(),
            asked: Vec::new(),
            strikes: 0,
            last_loss: now,
        }
    }

    /// A command has ended: losses before it are not in a row with those after it.
    pub(in super::super) fn progress(&mut self) {
        self.strikes = 0;
    }

    /// A new life: nothing of the old one is left.
    pub(in super::super) fn clear(&mut self) {
        self.tasks.clear();
        self.asked.clear();
        self.strikes = 0;
    }
}

impl Session {
    /// The target has confirmed that a connection is gone: what becomes of its tasks.
    ///
    /// `response`: of the Logout that did it; none when a login did.
    pub(in super::super) fn set_adrift(
        &mut self,
        now: Instant,
        cid: Cid,
        remedy: Remedy,
        response: Option<&LogoutResponse>,
    ) {
        let keys = self.tasks_of(cid);
        if let Some(connection) = self.connections.get_mut(cid) {
            connection.in_flight = 0;
            connection.outstanding_bytes = 0;
        }
        let seconds = |value: u16| Duration::from_secs(u64::from(value));
        let (wait, retain) = match response {
            Some(response) => (
                seconds(response.time2wait_s),
                seconds(response.time2retain_s),
            ),
            None => (Duration::ZERO, seconds(self.params.time2retain_s)),
        };
        let wait = if self.config.honour_time2wait {
            wait
        } else {
            Duration::ZERO
        };
        let not_before = later(now, wait);
        let until = later(not_before, retain);
        for key in keys {
            let Some(task) = self.tasks.get_mut(key) else {
                continue;
            };
            let acknowledged = self.window.has_acknowledged(task.cmd_sn);
            let waiting = match (acknowledged, remedy) {
                (true, Remedy::Terminate) => {
                    // Ended by the logout (RFC 7143 §11.14.5).
                    self.release_tag(key);
                    self.finish(key, lost(Certainty::Answered));
                    continue;
                }
                (true, Remedy::Reassign) if retain == Duration::ZERO => {
                    // The target says that it keeps no task; when they end it does not say.
                    return self.lose(now, LossReason::TasksNotRetained);
                }
                (true, Remedy::Reassign) => Waiting {
                    key,
                    not_before,
                    until,
                },
                // A hole is filled at once: nothing behind it is executed before.
                (false, _) => Waiting {
                    key,
                    not_before: now,
                    until: later(now, super::super::FAR),
                },
            };
            self.adrift.tasks.push(waiting);
        }
        self.distribute(now);
    }

    /// A connection is cut, to be recovered: how far its commands got is known now, and not any
    /// more when the same CID has another stream.
    pub(in super::super) fn note_fates(&mut self, cid: Cid) {
        let written = self.connections.get(cid).map_or(u64::MAX, |it| it.written);
        for key in self.tasks_of(cid) {
            if let Some(task) = self.tasks.get_mut(key) {
                task.fate = Some(task.certainty(written));
            }
        }
    }

    /// The tasks with allegiance to a connection that have been sent and not answered, in CmdSN
    /// order.
    fn tasks_of(&self, cid: Cid) -> Vec<TaskKey> {
        let mut keys: Vec<_> = self
            .tasks
            .indices()
            .filter_map(|index| {
                let task = self.tasks.at(index)?;
                let generation = task.generation;
                let ours = task.stage == Stage::Sent && task.allegiance == cid;
                ours.then_some((task.cmd_sn, TaskKey { index, generation }))
            })
            .collect();
        let oldest = self.window.acknowledged();
        keys.sort_by_key(|(cmd_sn, _)| cmd_sn.since(oldest.plus(1 << 31)));
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Gives tasks that are adrift to connections, as soon as they may be and there is one.
    pub(in super::super) fn distribute(&mut self, now: Instant) {
        if self.adrift.tasks.is_empty() || !matches!(self.phase, Phase::Up) {
            return;
        }
        let mut left = Vec::new();
        let mut moved = (0, 0);
        for waiting in std::mem::take(&mut self.adrift.tasks) {
            if waiting.not_before > now {
                left.push(waiting);
                continue;
            }
            let Some(cid) = self.connections.least_loaded() else {
                left.push(waiting);
                continue;
            };
            match self.send_to(now, waiting.key, cid) {
                Some(Sent::Again) => moved.1 += 1,
                Some(Sent::Reassignment) => moved.0 += 1,
                None => {}
            }
        }
        self.adrift.tasks = left;
        let (reassigned, retried) = moved;
        if reassigned + retried > 0 {
            self.push_event(Event::TasksMoved {
                reassigned,
                retried,
            });
        }
    }

    /// Moves one task to a connection: by sending it again, by TASK REASSIGN, or, when it is to
    /// end, by an ABORT TASK there, which moves it as well (RFC 7143 §11.5.1).
    fn send_to(&mut self, now: Instant, key: TaskKey, cid: Cid) -> Option<Sent> {
        let itt = self.controls.tag();
        let in_order = self.params.data_pdu_in_order && self.params.data_sequence_in_order;
        let task = self.tasks.get_mut(key)?;
        if task.stage != Stage::Sent {
            return None;
        }
        let acknowledged = self.window.has_acknowledged(task.cmd_sn);
        task.allegiance = cid;
        task.fate = Some(Certainty::SentNoAnswer);
        task.change_connection(acknowledged, in_order);
        let (ending, bytes) = (task.ending, task.expected_bytes);
        self.connections.get_mut(cid)?.take_on(bytes);
        let deadline = later(now, self.config.timeouts.abort_task);
        if !acknowledged {
            self.push_control(cid, Control::Retry { key });
        }
        if ending == Ending::Asked {
            // The request may have been lost with the connection; under a new tag it is another.
            let mut asked = self.controls.asked.iter_mut();
            let of_task =
                |asked: &Asked| matches!(asked, Asked::Abort { key: it, .. } if *it == key);
            if let Some(entry) = asked.find(|entry| of_task(&entry.1)) {
                (entry.0, entry.2) = (itt, deadline);
                self.push_control(cid, Control::Abort { itt, key });
            }
        } else if acknowledged {
            self.adrift.asked.push((itt, key, deadline));
            self.push_control(cid, Control::Reassign { itt, key });
        }
        Some(if acknowledged {
            Sent::Reassignment
        } else {
            Sent::Again
        })
    }

    /// Reassignments under way on a connection that is lost: their tasks are lost with it.
    pub(super) fn forget_reassignments(&mut self, cid: Cid) {
        let tasks = &self.tasks;
        let elsewhere = |key: TaskKey| tasks.get(key).is_some_and(|task| task.allegiance != cid);
        self.adrift.asked.retain(|(_, key, _)| elsewhere(*key));
    }

    /// A task management response; `false` when it answers no TASK REASSIGN.
    pub(in super::super) fn reassign_response(
        &mut self,
        now: Instant,
        itt: Itt,
        response: u8,
    ) -> bool {
        let Some(at) = self.adrift.asked.iter().position(|(tag, ..)| *tag == itt) else {
            return false;
        };
        let (_, key, _) = self.adrift.asked.swap_remove(at);
        match response {
            COMPLETE => self.stats.reassigned += 1,
            // The target had it and has given it up, likely because its Time2Retain ended before
            // ours did. That the task is forgotten does not say that its execution has stopped.
            NO_SUCH_TASK => self.finish(key, lost(Certainty::SentNoAnswer)),
            _ => self.lose(now, LossReason::ReassignRefused { response }),
        }
        true
    }

    /// A TASK REASSIGN was rejected; `false`: it was none.
    pub(in super::super) fn reassign_rejected(&mut self, now: Instant, itt: Itt) -> bool {
        let ours = self.adrift.asked.iter().any(|(tag, ..)| *tag == itt);
        if ours {
            self.lose(now, LossReason::ReassignRefused { response: 255 });
        }
        ours
    }

    /// When something about tasks adrift is due.
    pub(in super::super) fn adrift_due(&self) -> Option<Instant> {
        let served = self.connections.least_loaded().is_some();
        let waiting = self.adrift.tasks.iter();
        let tasks = waiting.map(|it| if served { it.not_before } else { it.until });
        let asked = self.adrift.asked.iter().map(|(.., deadline)| *deadline);
        tasks.chain(asked).min()
    }

    pub(in super::super) fn adrift_timeouts(&mut self, now: Instant) {
        if self
            .adrift
            .asked
            .iter()
            .any(|(.., deadline)| *deadline <= now)
        {
            return self.lose(now, LossReason::ReassignTimeout);
        }
        self.distribute(now);
        if self.adrift.tasks.iter().any(|waiting| waiting.until <= now) {
            self.lose(now, LossReason::ReassignTimeout);
        }
    }
}

/// How a task went to another connection.
enum Sent {
    /// Its command once more.
    Again,
    /// TASK REASSIGN, or ABORT TASK.
    Reassignment,
}

fn lost(certainty: Certainty) -> Outcome {
    let kind = DeliveryErrorKind::ConnectionLost;
    Outcome::Failed(DeliveryError { kind, certainty })
}
