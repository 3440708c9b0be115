//! Task management functions that end several tasks (RFC 7143 §4.2.3.2–§4.2.3.4, RFC 7144 §6.3).
//!
//! With standard semantics such a function waits until every transfer tag of the issuing session's affected tasks was
//! answered; with FastAbort it does not, and other connections are told by an Asynchronous Message. Either way it waits
//! for the commands before it, or, when it is about the whole target, counts them as received. Invariant: no affected
//! task is answered after the response.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::ConnectionId;
use crate::command::flat_lun;
use crate::disk::sense::Sense;
use crate::judge::Rule;
use crate::login::operational::TaskReporting;
use crate::session::Session;
use crate::target::{Target, Timer};
use crate::task::Task;
use crate::tmf::function::{
    ABORT_TASK_SET, CLEAR_TASK_SET, I_T_NEXUS_RESET, LOGICAL_UNIT_RESET, TARGET_COLD_RESET,
    TARGET_WARM_RESET,
};
use crate::tmf::response_code::COMPLETE;
use crate::wire::request::TaskManagement;
use crate::wire::{response, serial_before};

/// More commands than any window holds.
const PLUG_LIMIT: u32 = 4096;

/// Tasks remembered after a FastAbort.
const FAST_ABORTED_KEPT: usize = 4096;

/// A function that waits for data or commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) connection: ConnectionId,
    pub(crate) request: TaskManagement,
    /// Its response is lost by a fault.
    pub(crate) silent: bool,
}

impl Group {
    fn affects(&self, task: &Task) -> bool {
        match self.request.function {
            TARGET_WARM_RESET | TARGET_COLD_RESET | I_T_NEXUS_RESET => true,
            _ => task.command.lun == self.request.lun,
        }
    }

    /// Whether nothing has to be waited for any more.
    fn ready(&self, session: &Session) -> bool {
        let behind =
            self.request.immediate && serial_before(session.exp_cmd_sn, self.request.cmd_sn);
        let fast = session.parameters.task_reporting == TaskReporting::FastAbort;
        let transfers = session.tasks.values().any(|task| {
            self.affects(task)
                && task.awaits_data()
                && session.connections.contains(&task.connection)
        });
        !behind && (fast || !transfers)
    }
}

impl Target {
    /// Begins a function for several tasks; its logical unit exists.
    pub(crate) fn start_group(&mut self, now: Instant, tsih: u16, group: Group) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let whole = matches!(
            group.request.function,
            TARGET_WARM_RESET | TARGET_COLD_RESET | I_T_NEXUS_RESET
        );
        if whole && group.request.immediate {
            let (from, to) = (session.exp_cmd_sn, group.request.cmd_sn);
            for ahead in 0..to.wrapping_sub(from).min(PLUG_LIMIT) {
                if serial_before(from.wrapping_add(ahead), to) {
                    session.numbers.plug(from.wrapping_add(ahead));
                }
            }
        }
        for task in session
            .tasks
            .values_mut()
            .filter(|task| group.affects(task))
        {
            // No more is asked for, and what comes is not executed.
            task.planned.clear();
            task.ending = true;
        }
        session.groups.push(group);
        self.release_held(now, tsih);
        self.check_groups(now, tsih);
        if let Some(patience) = self.config.hole_patience {
            let itt = group.request.itt;
            self.at(now + patience, Timer::Group { tsih, itt });
        }
    }

    /// Completes the functions that have waited long enough.
    pub(crate) fn check_groups(&mut self, now: Instant, tsih: u16) {
        while let Some(session) = self.sessions.get_mut(&tsih) {
            let ready = session.groups.iter().position(|group| group.ready(session));
            let Some(group) = ready.map(|at| session.groups.remove(at)) else {
                return;
            };
            self.complete_group(now, tsih, group);
        }
    }

    fn complete_group(&mut self, now: Instant, tsih: u16, group: Group) {
        let request = group.request;
        let unit = flat_lun(request.lun);
        let function = request.function;
        self.announce_fast_abort(now, tsih, &group);
        match function {
            ABORT_TASK_SET => self.abort_where(Some(tsih), unit),
            CLEAR_TASK_SET => {
                self.abort_where(None, unit);
                self.attention(unit, Sense::CLEARED, Some(tsih));
            }
            LOGICAL_UNIT_RESET => {
                self.abort_where(None, unit);
                self.reset_units(unit);
                self.attention(unit, Sense::LUN_RESET, None);
            }
            I_T_NEXUS_RESET => self.abort_where(Some(tsih), None),
            _ => {
                self.abort_where(None, None);
                self.reset_units(None);
                self.attention(None, Sense::RESET, None);
            }
        }
        let id = group.connection;
        if !group.silent {
            let header = response::task_management(request.itt, COMPLETE);
            self.send_fenced(now, tsih, id, header);
        }
        match function {
            TARGET_COLD_RESET => {
                // All connections end; the response goes out first.
                self.drain(now, id);
                self.end_all_sessions(now);
            }
            I_T_NEXUS_RESET => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.leaving = crate::connection::Leaving::Closed;
                }
                self.drain(now, id);
                self.end_session(now, tsih);
            }
            _ => {}
        }
    }

    /// Asynchronous Message 5 on every other connection with affected tasks (RFC 7143 §4.2.3.4, target d).
    fn announce_fast_abort(&mut self, now: Instant, tsih: u16, group: &Group) {
        let fast =
            |session: &Session| session.parameters.task_reporting == TaskReporting::FastAbort;
        let Some(issuer) = self.sessions.get_mut(&tsih) else {
            return;
        };
        if fast(issuer) {
            let tags = issuer.tasks.iter().filter(|(_, task)| group.affects(task));
            let ended: Vec<(u32, ConnectionId)> =
                tags.map(|(itt, _)| (*itt, group.connection)).collect();
            if issuer.fast_aborted.len() > FAST_ABORTED_KEPT {
                issuer.fast_aborted.clear();
            }
            issuer.fast_aborted.extend(ended);
        }
        let issuer_is_fast = fast(issuer);
        let own_only = matches!(group.request.function, ABORT_TASK_SET | I_T_NEXUS_RESET);
        let mut notices: BTreeMap<(ConnectionId, u64), ()> = BTreeMap::new();
        for (number, session) in &self.sessions {
            if !fast(session) || own_only && *number != tsih || *number == tsih && !issuer_is_fast {
                continue;
            }
            let affected = session.tasks.values().filter(|task| group.affects(task));
            for task in affected.filter(|task| session.connections.contains(&task.connection)) {
                if task.connection != group.connection {
                    notices.insert((task.connection, task.command.lun), ());
                }
            }
        }
        for (id, lun) in notices.into_keys() {
            self.send_termination(now, id, lun);
        }
    }

    /// A function has waited too long. Connections that owe data are dropped to complete it (RFC 7143 §11.5.1).
    pub(crate) fn group_due(&mut self, now: Instant, tsih: u16, itt: u32) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let found = session.groups.iter().find(|group| group.request.itt == itt);
        let Some(group) = found.copied() else {
            return;
        };
        let mut owing = BTreeMap::new();
        for task in session.tasks.values() {
            let live = session.connections.contains(&task.connection);
            if group.affects(task) && task.awaits_data() && live {
                let asked = task
                    .r2ts
                    .values()
                    .any(|burst| burst.delivered && !burst.closed);
                let guilty = owing.entry(task.connection).or_insert(false);
                *guilty |= asked;
            }
        }
        for (id, guilty) in owing {
            self.judge.open(id, now);
            self.judge.expect(!guilty, Rule::MultiTaskAbortData, || {
                "R2Ts of affected tasks are not answered".to_owned()
            });
            self.close(now, id, true);
        }
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let left = session
            .groups
            .iter()
            .position(|group| group.request.itt == itt);
        if let Some(group) = left.map(|at| session.groups.remove(at)) {
            self.complete_group(now, tsih, group);
        }
    }
}
