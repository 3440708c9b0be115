//! The response fence (RFC 7143 §4.2.2.3.3): a response between all before and all after it, over all connections.
//!
//! Only for sessions of several connections with TaskReporting=ResponseFence or FastAbort, and here only for responses
//! of functions that end several tasks and of CLEAR ACA. While a fence stands, SCSI responses of the session wait.

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::login::operational::TaskReporting;
use crate::target::Target;
use crate::wire::{Header, serial_before};

/// A fence that stands.
#[derive(Debug)]
pub(crate) struct Fence {
    connection: ConnectionId,
    /// StatSNs to be acknowledged first.
    before: Vec<(ConnectionId, u32)>,
    /// The response, until it was sent.
    response: Option<Header>,
    /// Number after that of the response, once it was sent.
    after: u32,
}

impl Target {
    /// Sends a response behind a fence where one is due.
    pub(crate) fn send_fenced(
        &mut self,
        now: Instant,
        tsih: u16,
        id: ConnectionId,
        header: Header,
    ) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let due = session.parameters.task_reporting >= TaskReporting::ResponseFence;
        if !due || session.connections.len() < 2 || session.fence.is_some() {
            self.send(now, id, header, &[], Numbering::Status);
            return;
        }
        let members = session.connections.clone();
        let unacknowledged = |member: &ConnectionId| {
            let connection = self.connections.get(member)?;
            let open = connection.acknowledged != Some(connection.stat_sn);
            open.then_some((*member, connection.stat_sn))
        };
        let before: Vec<_> = members.iter().filter_map(unacknowledged).collect();
        let asked: Vec<ConnectionId> = before.iter().map(|(member, _)| *member).collect();
        if let Some(session) = self.sessions.get_mut(&tsih) {
            session.fence = Some(Fence {
                connection: id,
                before,
                response: Some(header),
                after: 0,
            });
        }
        for member in asked {
            self.ping(now, member, 0, &[]);
        }
        self.check_fence(now, tsih);
    }

    /// Moves a fence on after acknowledgements, or the loss of a connection.
    pub(crate) fn check_fence(&mut self, now: Instant, tsih: u16) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(fence) = &mut session.fence else {
            return;
        };
        let acknowledged = |member: ConnectionId, stat_sn: u32| {
            let connection = self.connections.get(&member);
            let last = connection
                .filter(|connection| connection.session == Some(tsih))
                .map(|connection| connection.acknowledged);
            // A connection that is gone acknowledges nothing any more.
            last.is_none_or(|last| last.is_some_and(|last| !serial_before(last, stat_sn)))
        };
        fence
            .before
            .retain(|(member, stat_sn)| !acknowledged(*member, *stat_sn));
        if !fence.before.is_empty() {
            return;
        }
        let id = fence.connection;
        if let Some(header) = fence.response.take() {
            let next = self.connections.get(&id).map_or(0, |c| c.stat_sn);
            fence.after = next.wrapping_add(1);
            self.send(now, id, header, &[], Numbering::Status);
            return;
        }
        if acknowledged(id, fence.after) {
            session.fence = None;
            let waiting = std::mem::take(&mut session.fenced);
            for task_id in waiting {
                self.answer_by_id(now, tsih, task_id);
                self.status_by_id(now, tsih, task_id);
            }
        }
    }
}
