//! Commands on their way in: submitting, sending, picking up, giving up (RFC 7143 §11.3).

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use scsi::{
    Certainty, Command, Completion, DataPhase, DeliveryError, DeliveryErrorKind, Lun, NexusState,
    Outcome,
};

use super::control::Abort;
use super::read::{ReadProgress, payload_of};
use super::task::{Ending, Stage, Task, TaskKey};
use super::write::{Opening, WriteProgress};
use super::{Session, later};
use crate::name::Cid;
use crate::serial::{CmdSn, StatSn};
use crate::text::{ConnectionParams, SessionParams};
use crate::wire::transmit::Transmit;
use crate::wire::{Lengths, ScsiCommand, ahs};

impl Session {
    /// Takes a command on. It is sent by a later [`Session::poll_transmit`].
    ///
    /// # Errors
    /// The command's completion, when it cannot be carried: the session is down or closed, the
    /// command is meant for another life, or no slot is free.
    pub fn submit(
        &mut self,
        now: Instant,
        lun: Lun,
        command: Command,
    ) -> Result<TaskKey, Completion> {
        let refusal = match self.state() {
            NexusState::Up(life) if command.only_in.is_none_or(|only| only == life) => None,
            NexusState::Closed => Some(DeliveryErrorKind::Closed),
            NexusState::Up(_) | NexusState::Down(_) | _ => Some(DeliveryErrorKind::Down),
        };
        let expected = lengths(&command.data);
        let (None, Some((expected_bytes, bidirectional_bytes))) = (refusal, expected) else {
            return Err(self.refuse(command, refusal.unwrap_or(DeliveryErrorKind::Unsupported)));
        };
        if self.tasks.len() == self.tasks.capacity() {
            return Err(self.refuse(command, DeliveryErrorKind::Down));
        }
        let deadline = later(now, command.timeout);
        let incarnation = self.lives.newest();
        let Some(key) = self.tasks.insert(|generation| Task {
            generation,
            stage: Stage::Pending,
            lun,
            operation_code: command.cdb.operation_code(),
            cdb: command.cdb,
            attribute: command.attribute,
            // RFC 7144 §5.1.1: 0 below level 2.
            priority: if self.params.protocol_level >= 2 {
                command.priority.min(15)
            } else {
                0
            },
            incarnation,
            timeout: command.timeout,
            deadline,
            data: command.data,
            lent: false,
            expected_bytes,
            bidirectional_bytes,
            cmd_sn: CmdSn(0),
            allegiance: Cid(0),
            stream: (0, 0),
            fate: None,
            read: ReadProgress::default(),
            write: WriteProgress::default(),
            opening: Opening::default(),
            recovery: None,
            ending: Ending::No,
            muted: false,
            abandoned: false,
            timed_out: false,
            waker: None,
            outcome: None,
            submitted: now,
            took: Duration::ZERO,
        }) else {
            // Cannot happen: a slot is free, it was looked at above.
            return Err(Completion {
                outcome: not_sent(DeliveryErrorKind::Down),
                data: DataPhase::None,
                incarnation,
                took: Duration::ZERO,
            });
        };
        self.pending.push_back(key);
        self.next_deadline = Some(
            self.next_deadline
                .map_or(deadline, |next| next.min(deadline)),
        );
        Ok(key)
    }

    pub(crate) fn refuse(&self, command: Command, kind: DeliveryErrorKind) -> Completion {
        Completion {
            outcome: not_sent(kind),
            data: command.data,
            incarnation: self.lives.newest(),
            took: Duration::ZERO,
        }
    }

    /// Picks up the completion of a command, or leaves a waker for it.
    ///
    /// A key that was picked up or abandoned before stays pending for ever.
    pub fn poll_task(&mut self, key: TaskKey, waker: &Waker) -> Poll<Completion> {
        let Some(task) = self.tasks.get_mut(key) else {
            return Poll::Pending;
        };
        if task.lent || task.outcome.is_none() {
            if !task
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
            {
                task.waker = Some(waker.clone());
            }
            return Poll::Pending;
        }
        let Some(outcome) = task.outcome.take() else {
            return Poll::Pending;
        };
        let data = std::mem::take(&mut task.data);
        let (incarnation, took) = (task.incarnation, task.took);
        task.abandoned = true;
        if task.ending == Ending::No {
            self.free(key);
        }
        Poll::Ready(Completion {
            outcome,
            data,
            incarnation,
            took,
        })
    }

    /// The caller does not wait any more. A command that was not sent is forgotten; one that was
    /// is aborted, and keeps its memory until no answer can come any more.
    pub fn abandon(&mut self, now: Instant, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| !task.abandoned) else {
            return;
        };
        task.abandoned = true;
        task.waker = None;
        match task.stage {
            Stage::Pending => {
                self.forget_pending(key);
                self.free(key);
                self.advance_logout(now);
            }
            Stage::Sent => {
                self.controls.note_abandoned(1);
                if self
                    .tasks
                    .get(key)
                    .is_some_and(|task| task.ending == Ending::No)
                {
                    self.ask_abort(now, key, Abort::Abandoned);
                }
            }
            Stage::Done => {
                if !task.lent {
                    self.settle_task(key);
                }
            }
        }
    }

    /// Takes a command out of the queue, so that commands given up while the window is closed
    /// do not pile up.
    pub(super) fn forget_pending(&mut self, key: TaskKey) {
        self.pending.retain(|pending| *pending != key);
    }

    /// Sends pending commands while the window is open and the batch has room.
    pub(super) fn transmit_commands(&mut self, cid: Cid, out: &mut Transmit) {
        while !out.is_full() && self.window.is_open() && !self.pending.is_empty() {
            if self.connections.scheduled() != Some(cid) {
                return;
            }
            let Some(connection) = self.connections.get_mut(cid) else {
                return;
            };
            let Some(key) = self.pending.pop_front() else {
                return;
            };
            let Some(task) = self
                .tasks
                .get_mut(key)
                .filter(|task| task.stage == Stage::Pending)
            else {
                continue;
            };
            let opening = task.new_opening(&self.params, &connection.params);
            task.opening = opening;
            task.cmd_sn = self.window.take();
            task.allegiance = cid;
            task.stage = Stage::Sent;
            let begin = out.queued();
            task.push_command(key, opening, connection.exp_stat_sn, out);
            task.stream = (begin, out.queued());
            task.write.open(opening);
            if task.write.is_sending() {
                connection.sending.push_back(key);
            }
            self.in_flight += 1;
            connection.take_on(task.expected_bytes);
            connection.commands += 1;
            connection.owes_command = false;
            self.stats.written_bytes += u64::from(opening.immediate);
            self.stats.commands += 1;
        }
    }

    /// Ends a task. Its memory goes back as soon as the driver has none of it.
    pub(super) fn finish(&mut self, key: TaskKey, outcome: Outcome) {
        let Some(task) = self
            .tasks
            .get_mut(key)
            .filter(|task| task.stage != Stage::Done)
        else {
            return;
        };
        if task.stage == Stage::Sent {
            self.adrift.progress();
            self.in_flight -= 1;
            if let Some(connection) = self.connections.get_mut(task.allegiance) {
                connection.let_go(task.expected_bytes);
            }
            if task.abandoned {
                self.controls.note_settled();
            }
        }
        task.stage = Stage::Done;
        task.took = self.latest.saturating_duration_since(task.submitted);
        task.outcome = Some(outcome);
        if !task.lent {
            self.settle_task(key);
        }
    }

    /// The task has an outcome and its memory: tell whoever waits, or free it.
    pub(super) fn settle_task(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if let Some(waker) = task.waker.take() {
            self.wakes.push(waker);
        }
        if task.abandoned && task.ending == Ending::No {
            self.free(key);
        } else if task.abandoned {
            task.data = DataPhase::None;
        }
    }

    /// The tag's quarantine is over.
    pub(super) fn release_tag(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        task.ending = Ending::No;
        if task.stage == Stage::Done && task.abandoned && !task.lent {
            self.free(key);
        }
    }

    fn free(&mut self, key: TaskKey) {
        if self.tasks.remove(key.index) {
            self.freed += 1;
        }
    }

    /// Every connection is gone: every task ends, with what is known of how far it got.
    pub(super) fn end_all_tasks(&mut self) {
        self.pending.clear();
        self.fail_functions(None);
        self.fail_texts(None);
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at(index) else {
                continue;
            };
            let key = TaskKey {
                index,
                generation: task.generation,
            };
            let connection = self.connections.get(task.allegiance);
            let certainty = match task.stage {
                Stage::Pending => Certainty::NotSent,
                Stage::Sent => task.certainty(connection.map_or(u64::MAX, |it| it.written)),
                Stage::Done => Certainty::SentNoAnswer,
            };
            let kind = if task.timed_out {
                DeliveryErrorKind::TimedOut
            } else {
                DeliveryErrorKind::ConnectionLost
            };
            // No answer can come any more, so no tag needs quarantine.
            self.release_tag(key);
            self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        }
        for connection in self.connections.iter_mut() {
            connection.clear();
        }
        self.controls.reset();
    }
}

impl Task {
    /// How far its command got, when the network has taken `written` bytes of its connection's
    /// stream.
    pub(super) fn certainty(&self, written: u64) -> Certainty {
        let (begin, end) = self.stream;
        match self.fate {
            Some(fate) => fate,
            None if written <= begin => Certainty::NotSent,
            None if written < end => Certainty::PartlySent,
            None => Certainty::SentNoAnswer,
        }
    }

    /// How its command begins, with the parameters in force.
    fn new_opening(&self, session: &SessionParams, connection: &ConnectionParams) -> Opening {
        match &self.data {
            DataPhase::Write(_) | DataPhase::Bidirectional(_) => {
                Opening::new(self.expected_bytes, session, connection)
            }
            DataPhase::None | DataPhase::Read(_) => Opening::default(),
        }
    }

    /// Encodes the command's PDU. Every call makes the same, but for ExpStatSN.
    pub(super) fn push_command(
        &self,
        key: TaskKey,
        opening: Opening,
        exp_stat_sn: StatSn,
        out: &mut Transmit,
    ) {
        let pdu = ScsiCommand {
            immediate: false,
            final_: opening.unsolicited_end == opening.immediate,
            read: match self.data {
                DataPhase::Read(_) => self.expected_bytes > 0,
                DataPhase::Bidirectional(_) => true,
                DataPhase::None | DataPhase::Write(_) => false,
            },
            write: match self.data {
                DataPhase::Write(_) => self.expected_bytes > 0,
                DataPhase::Bidirectional(_) => true,
                DataPhase::None | DataPhase::Read(_) => false,
            },
            attribute: self.attribute,
            priority: self.priority,
            lun: self.lun,
            itt: key.itt(),
            expected_data_bytes: self.expected_bytes,
            cmd_sn: self.cmd_sn,
            exp_stat_sn,
            cdb: ahs::cdb_head(&self.cdb),
        };
        let mut extended = Vec::new();
        let mut ahs_bytes = ahs::put_extended_cdb(&self.cdb, &mut extended);
        if self.is_bidirectional() {
            ahs_bytes += ahs::put_bidirectional_read(self.bidirectional_bytes, &mut extended);
        }
        let immediate = if opening.immediate > 0 {
            payload_of(&self.data).slice(..opening.immediate as usize)
        } else {
            Bytes::new()
        };
        let lengths = Lengths {
            ahs_bytes,
            data_bytes: opening.immediate,
        };
        out.push(&pdu.encode(lengths), &extended, immediate);
    }
}

/// Expected Data Transfer Length and Bidirectional Read Expected Data Transfer Length
/// (RFC 7143 §11.3.4). `None`: nothing that the fields can hold, or a bidirectional command
/// without data in one direction, which is none.
fn lengths(data: &DataPhase) -> Option<(u32, u32)> {
    let bytes = |len: usize| u32::try_from(len).ok();
    match data {
        DataPhase::Bidirectional(both) => {
            let (write, read) = (bytes(both.write.len())?, bytes(both.read.len())?);
            (write > 0 && read > 0).then_some((write, read))
        }
        DataPhase::None | DataPhase::Read(_) | DataPhase::Write(_) => Some((bytes(data.len())?, 0)),
    }
}

fn not_sent(kind: DeliveryErrorKind) -> Outcome {
    Outcome::Failed(DeliveryError {
        kind,
        certainty: Certainty::NotSent,
    })
}
