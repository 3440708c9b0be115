//! Connections that leave their session, and what becomes of their tasks (RFC 7143 §6.3.4, §7.5, §7.6, §11.14).
//!
//! Below ErrorRecoveryLevel 2 the tasks end with the connection. At level 2 they are kept from the failure or the
//! recovery logout until Time2Wait and Time2Retain have passed; they go on executing, and only their data and status
//! wait. Writes that were complete when they lost their task may still be executed later: that is the ghost write
//! which an initiator has to fence. Invariant: a kept task is either reassigned, ended by the initiator, or ends here.

use std::time::{Duration, Instant};

use crate::ConnectionId;
use crate::async_message::AsyncEvent;
use crate::connection::{Leaving, Phase};
use crate::disk::sense::Sense;
use crate::judge::Rule;
use crate::kept::Shelf;
use crate::target::{Late, Target, Timer};
use crate::task::{Progress, Task};
use crate::wire::serial_before;

/// A connection of a session that ended, while its tasks can still be continued.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) cid: u16,
    /// A logout for recovery has made its tasks free to be reassigned.
    pub(crate) logged_out: bool,
    /// No reassignment should be tried before (RFC 7143 §11.15.3); known once a Logout Response said so.
    pub(crate) wait_until: Option<Instant>,
    /// Connection and StatSN of that response, until it is acknowledged.
    pub(crate) told: Option<(ConnectionId, u32)>,
    pub(crate) deadline: Instant,
    /// The initiator has used it. If not, it may not know that the login succeeded, and then what it calls the last
    /// connection with this CID is an older one.
    pub(crate) used: bool,
    /// Its numbering, for the ExpStatSN of the logout.
    pub(crate) stat_sn: u32,
    pub(crate) acknowledged: Option<u32>,
    /// Answers that were not acknowledged; the SCSI tasks among them are back in the session.
    pub(crate) shelf: Shelf,
}

impl Target {
    /// Lets queued bytes go out, then closes; the session forgets the connection now.
    pub(crate) fn drain(&mut self, now: Instant, id: ConnectionId) {
        self.detach(now, id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.phase = Phase::Draining;
            connection.session = None;
        }
        self.mark_ready(id);
    }

    /// Takes a connection out of its session, which may thereby fail.
    pub(crate) fn detach(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (leaving, cid, times) = (connection.leaving, connection.cid, connection.times);
        let Some(tsih) = connection.session else {
            return;
        };
        let announced = connection.announced;
        let (stat_sn, acknowledged) = (connection.stat_sn, connection.acknowledged);
        let used = connection.used;
        let shelf = std::mem::take(&mut connection.shelf);
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        session.connections.retain(|member| *member != id);
        session.held.retain(|_, held| held.connection != id);
        session.shaken = true;
        let parameters = &session.parameters;
        let (wait, retain) = times.unwrap_or((parameters.time2wait_s, parameters.time2retain_s));
        let recoverable = parameters.error_recovery_level == 2 && retain > 0;
        let times = (seconds(wait), seconds(retain));
        if recoverable && leaving != Leaving::Closed {
            // Immediate commands are not recoverable (RFC 7143 §7.14).
            session
                .tasks
                .retain(|_, task| task.connection != id || !task.command.immediate);
            let lost = Lost {
                cid,
                logged_out: leaving == Leaving::Recovery,
                wait_until: None,
                told: None,
                deadline: now + times.0 + times.1,
                used,
                stat_sn,
                acknowledged,
                shelf,
            };
            self.park(now, tsih, id, lost);
        } else {
            self.orphan_tasks(now, tsih, id);
        }
        self.finish_groups(now, tsih, id);
        self.session_without(now, tsih, times);
        if leaving == Leaving::Failed {
            self.recovery.connections_lost += 1;
            if !announced {
                self.announce_loss(now, tsih, cid, (wait, retain));
            }
        }
    }

    /// Functions that wait go on without this connection; nobody can be told about its own.
    fn finish_groups(&mut self, now: Instant, tsih: u16, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        for group in &mut session.groups {
            group.silent |= group.connection == id;
        }
        if !session.groups.is_empty() {
            self.check_groups(now, tsih);
        }
        self.check_fence(now, tsih);
    }

    /// A session without connections waits to be continued or reinstated, for a while.
    fn session_without(&mut self, now: Instant, tsih: u16, times: (Duration, Duration)) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        if session.connections.is_empty() {
            session.failures += 1;
            let failures = session.failures;
            self.at(now + times.0 + times.1, Timer::Expire { tsih, failures });
        }
    }

    /// Other connections of the session are told (RFC 7143 §7.1.4.3).
    fn announce_loss(&mut self, now: Instant, tsih: u16, cid: u16, times: (u16, u16)) {
        if !self.config.announce_lost_connections {
            return;
        }
        let witness = self
            .sessions
            .get(&tsih)
            .filter(|session| session.parameters.error_recovery_level == 2)
            .and_then(|session| session.connections.first().copied());
        if let Some(witness) = witness {
            let event = AsyncEvent::Raw {
                code: 2,
                vcode: 0,
                parameters: [cid, times.0, times.1],
                data: Vec::new(),
            };
            self.send_async(now, witness, &event);
        }
    }

    /// Keeps the tasks of a connection for reassignment.
    fn park(&mut self, now: Instant, tsih: u16, id: ConnectionId, mut lost: Lost) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        for record in &mut lost.shelf.kept {
            // An initiator that used the tag again had received the answer.
            if let Some(task) = record.task.take()
                && !session.tasks.contains_key(&task.command.itt)
            {
                session.tasks.insert(task.command.itt, *task);
            }
        }
        let deadline = lost.deadline;
        session.lost.insert(id, lost);
        self.at(
            deadline,
            Timer::Retain {
                tsih,
                connection: id,
            },
        );
        debug_assert!(deadline >= now, "tasks are kept for some time");
    }

    /// A lost or living connection is logged out for recovery; its tasks are free to be reassigned from now on.
    /// `exp_stat_sn` acknowledges answers of that connection (RFC 7143 §11.14.4, §11.12.9).
    pub(crate) fn free_for_reassignment(
        &mut self,
        now: Instant,
        tsih: u16,
        id: ConnectionId,
        exp_stat_sn: u32,
    ) {
        self.check_last_acknowledgement(tsih, id, exp_stat_sn);
        let times = self.logout_times(tsih);
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(lost) = session.lost.get_mut(&id) else {
            return;
        };
        lost.logged_out = true;
        lost.deadline = now + seconds(times.0) + seconds(times.1);
        let deadline = lost.deadline;
        self.at(
            deadline,
            Timer::Retain {
                tsih,
                connection: id,
            },
        );
        if let Some(session) = self.sessions.get_mut(&tsih)
            && session.connections.is_empty()
        {
            session.failures += 1;
            let failures = session.failures;
            self.at(deadline, Timer::Expire { tsih, failures });
        }
    }

    /// The last ExpStatSN of a connection that is gone, given by its logout.
    fn check_last_acknowledgement(&mut self, tsih: u16, id: ConnectionId, given: u32) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(lost) = session.lost.get_mut(&id) else {
            return;
        };
        // The target may have forgotten the last connection with this CID, and still know an older one.
        let superseded = session.cids.get(&lost.cid) != Some(&id);
        if !lost.used || superseded {
            return;
        }
        let back = lost
            .acknowledged
            .is_some_and(|last| serial_before(given, last));
        let ahead = serial_before(lost.stat_sn, given);
        let (next, last) = (lost.stat_sn, lost.acknowledged);
        if !self
            .judge
            .expect(!back && !ahead, Rule::LogoutExpStatSn, || {
                format!("{given} for a connection at {next}, acknowledged {last:?}")
            })
        {
            return;
        }
        lost.shelf.judge(given, &mut self.judge);
        lost.acknowledged = Some(given);
        let acknowledged = lost.shelf.acknowledge(given);
        session.note_told(id, given);
        for record in acknowledged {
            // Its task went back to the session when the connection was lost.
            let itt = crate::wire::Fields::be32(&record.header[..], 16);
            let answered = session.tasks.get(&itt).is_some_and(|task| {
                task.connection == id && matches!(task.progress, Progress::Answered(_))
            });
            if answered {
                session.end_task(itt);
            }
        }
    }

    /// Time2Wait and Time2Retain of Logout Responses, in seconds.
    pub(crate) fn logout_times(&self, tsih: u16) -> (u16, u16) {
        let session = self.sessions.get(&tsih);
        self.config.logout_times.unwrap_or_else(|| {
            session.map_or((0, 0), |session| {
                let parameters = &session.parameters;
                (parameters.time2wait_s, parameters.time2retain_s)
            })
        })
    }

    /// The time for reassigning the tasks of a connection is over.
    pub(crate) fn retain_due(&mut self, now: Instant, tsih: u16, id: ConnectionId) {
        let due = self
            .sessions
            .get(&tsih)
            .and_then(|session| session.lost.get(&id))
            .is_some_and(|lost| lost.deadline <= now);
        if due {
            self.forget_lost(now, tsih, id);
        }
    }

    /// Ends the tasks of a lost connection and what is known of it.
    pub(crate) fn forget_lost(&mut self, now: Instant, tsih: u16, id: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(&tsih) {
            session.lost.remove(&id);
        }
        self.orphan_tasks(now, tsih, id);
    }

    /// Ends the tasks of a connection. Complete writes may still be executed; everything else of them is gone.
    pub(crate) fn orphan_tasks(&mut self, now: Instant, tsih: u16, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let nexus = session.nexus.clone();
        let ended = session.take_tasks_of(id);
        session.report_cleared(&ended);
        self.recovery.tasks_ended += count(&ended);
        for task in ended {
            let pending = matches!(task.progress, Progress::Waiting) && !task.deviation.hang;
            if !pending || task.early.is_some() || !task.command.write {
                continue;
            }
            let key = self.next_task;
            self.next_task += 1;
            let delay = task.deviation.delay_execution;
            let due = now + self.config.late_execution.unwrap_or(delay);
            let late = Late {
                nexus: nexus.clone(),
                tsih,
                itt: task.command.itt,
                execution: task.execution,
            };
            self.late.insert(key, late);
            self.at(due, Timer::Late(key));
        }
    }

    /// Ends the tasks of a connection for good: a logout that closes it.
    pub(crate) fn discard_tasks(&mut self, tsih: u16, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let ended = session.take_tasks_of(id);
        session.report_cleared(&ended);
        self.recovery.tasks_ended += count(&ended);
    }
}

impl crate::session::Session {
    /// Logout Responses of a connection below an ExpStatSN were received.
    pub(crate) fn note_told(&mut self, id: ConnectionId, exp_stat_sn: u32) {
        for lost in self.lost.values_mut() {
            let heard = |(by, stat_sn): &mut (ConnectionId, u32)| {
                *by == id && serial_before(*stat_sn, exp_stat_sn)
            };
            lost.told.take_if(heard);
        }
    }

    /// A login takes a CID: it is an implicit logout, which announces no wait. An earlier explicit one counts only
    /// if its response was received; else the times that were negotiated apply (RFC 7143 §7.5.1, §7.5.2).
    pub(crate) fn forget_unheard_waits(&mut self, cid: u16) {
        for lost in self.lost.values_mut().filter(|lost| lost.cid == cid) {
            if lost.told.take().is_some() {
                lost.wait_until = None;
            }
        }
    }

    fn take_tasks_of(&mut self, id: ConnectionId) -> Vec<Task> {
        let tags: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.connection == id)
            .map(|(itt, _)| *itt)
            .collect();
        tags.into_iter()
            .filter_map(|itt| self.end_task(itt))
            .collect()
    }

    /// SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT (RFC 7143 §11.14.5).
    fn report_cleared(&mut self, ended: &[Task]) {
        for task in ended {
            if let Some(unit) = task.execution.unit
                && !matches!(task.progress, Progress::Answered(_))
            {
                self.attention(unit, Sense::CLEARED_BY_EVENT);
            }
        }
    }
}

fn count(tasks: &[Task]) -> u64 {
    tasks
        .iter()
        .filter(|task| !matches!(task.progress, Progress::Answered(_)))
        .count() as u64
}

pub(crate) fn seconds(count: u16) -> Duration {
    Duration::from_secs(u64::from(count))
}
