//! What tests and simulations do to a running target.

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::disk::sense::Sense;
use crate::fault::{CommandFault, Count, IncomingFault, ManagementEffect, PduFault, SnackEffect};
use crate::target::Target;
use crate::wire::{Header, RESERVED_TAG, response};

/// REPORTED LUNS DATA HAS CHANGED.
pub(crate) const LUNS_CHANGED: Sense = Sense::new(0x06, 0x3f, 0x0e);

impl Target {
    /// Adds a fault of commands behind those in force.
    pub fn fault_command(&mut self, fault: CommandFault) {
        self.faults.commands.push(fault);
    }

    /// Adds a fault of outgoing PDUs.
    pub fn fault_pdu(&mut self, fault: PduFault) {
        self.faults.pdus.push(fault);
    }

    /// Adds a fault of task management requests.
    pub fn fault_management(&mut self, count: Count, effect: ManagementEffect) {
        self.faults.management.push((None, count, effect));
    }

    /// Adds a fault of task management requests with one function code (RFC 7143 §11.5.1), e.g. 8 to refuse a
    /// reassignment.
    pub fn fault_function(&mut self, function: u8, count: Count, effect: ManagementEffect) {
        self.faults.management.push((Some(function), count, effect));
    }

    /// Adds a fault of incoming PDUs.
    pub fn fault_incoming(&mut self, fault: IncomingFault) {
        self.faults.incoming.push(fault);
    }

    /// Adds a fault of SNACKs.
    pub fn fault_snack(&mut self, count: Count, effect: SnackEffect) {
        self.faults.snacks.push((count, effect));
    }

    /// Lets a connection stand still, or go on: nothing is sent, and what comes waits.
    pub fn stall_connection(&mut self, now: Instant, id: ConnectionId, stalled: bool) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.stalled = stalled;
        if !stalled {
            self.take_pdus(now, id);
            self.mark_ready(id);
        }
    }

    /// Removes all faults; what they did stays done.
    pub fn clear_faults(&mut self) {
        self.faults = Default::default();
    }

    /// Lets MaxCmdSN of every session stand still, so that the window closes as commands come in
    /// (MaxCmdSN = ExpCmdSN − 1). MaxCmdSN cannot be taken back (RFC 7143 §4.2.2.1).
    pub fn close_window(&mut self) {
        for session in self.sessions.values_mut() {
            session.window_closed = true;
        }
    }

    /// Opens the windows and says so with a NOP-In that wants no answer on every connection.
    pub fn open_window(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            session.window_closed = false;
        }
        for id in self.all_in_session() {
            self.send(
                now,
                id,
                response::nop_in(RESERVED_TAG, RESERVED_TAG, 0),
                &[],
                Numbering::Next,
            );
        }
    }

    /// Every PDU carries ExpCmdSN and MaxCmdSN this much lower than they are; 0 ends it.
    pub fn stale_window(&mut self, lag: u32) {
        self.stale_window = lag;
    }

    /// Sends no R2T while `hold`; what was held goes out when it ends.
    pub fn hold_r2ts(&mut self, now: Instant, hold: bool) {
        self.hold_r2ts = hold;
        if hold {
            return;
        }
        let waiting: Vec<(u16, u32)> = self
            .sessions
            .iter()
            .flat_map(|(tsih, session)| session.tasks.keys().map(|itt| (*tsih, *itt)))
            .collect();
        for (tsih, itt) in waiting {
            self.pump(now, tsih, itt);
        }
    }

    /// Sends a NOP-In that wants an answer; its transfer tag is returned.
    pub fn send_ping(
        &mut self,
        now: Instant,
        id: ConnectionId,
        lun: u64,
        data: &[u8],
    ) -> Option<u32> {
        self.ping(now, id, lun << 48, data)
    }

    /// Whether every ping on a connection was answered.
    #[must_use]
    pub fn pings_answered(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id)
            .is_none_or(|connection| connection.pings.is_empty())
    }

    /// Sends a Reject that claims `offender` was the header of a bad PDU.
    pub fn send_reject(&mut self, now: Instant, id: ConnectionId, reason: u8, offender: &Header) {
        self.reject(now, id, reason, offender);
    }

    /// Sends any PDU as it is; StatSN, ExpCmdSN and MaxCmdSN are stamped, and StatSN advances when `takes_status`.
    pub fn send_raw(
        &mut self,
        now: Instant,
        id: ConnectionId,
        header: &Header,
        data: &[u8],
        takes_status: bool,
    ) {
        let numbering = if takes_status {
            Numbering::Status
        } else {
            Numbering::Next
        };
        self.send(now, id, *header, data, numbering);
    }

    /// Sends bytes that are no PDU at all.
    pub fn send_bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.out.extend_from_slice(bytes);
            self.mark_ready(id);
        }
    }

    /// Ends a connection: by a reset, or after what is queued was sent.
    pub fn drop_connection(&mut self, now: Instant, id: ConnectionId, reset: bool) {
        if reset {
            self.close(now, id, true);
        } else {
            self.drain(now, id);
        }
    }

    /// Ends all connections and sessions as a power cycle does: tasks and late writes are gone, contents stay.
    pub fn restart(&mut self, now: Instant) {
        self.abort_where(None, None);
        self.late.clear();
        let open: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in open {
            self.close(now, id, true);
        }
        self.end_all_sessions(now);
        for unit in &mut self.units {
            unit.reservations.power_cycle();
        }
    }

    pub(crate) fn end_all_sessions(&mut self, now: Instant) {
        let all: Vec<u16> = self.sessions.keys().copied().collect();
        for tsih in all {
            self.end_session(now, tsih);
        }
    }

    /// Queues a unit attention for a LUN on every session.
    pub fn unit_attention(&mut self, lun: usize, sense: Sense) {
        self.attention(Some(lun), sense, None);
    }

    /// Presents a LUN or no longer does, and queues REPORTED LUNS DATA HAS CHANGED on every LUN of every session.
    pub fn present(&mut self, lun: usize, presented: bool) {
        let changed = if presented {
            self.hidden.remove(&lun)
        } else {
            self.hidden.insert(lun)
        };
        if changed {
            self.attention(None, LUNS_CHANGED, None);
        }
    }

    /// Puts another disk behind a LUN and queues INQUIRY DATA HAS CHANGED.
    pub fn replace(&mut self, lun: usize, disk: crate::Lun) {
        if let Some(unit) = self.units.get_mut(lun) {
            unit.disk = crate::Disk::new(disk);
            self.attention(Some(lun), Sense::new(0x06, 0x3f, 0x03), None);
        }
    }

    /// Changes the size of a LUN and queues CAPACITY DATA HAS CHANGED.
    pub fn resize(&mut self, lun: usize, blocks: u64) {
        if let Some(unit) = self.units.get_mut(lun) {
            unit.disk.resize(blocks.max(1));
            self.attention(Some(lun), Sense::new(0x06, 0x2a, 0x09), None);
        }
    }

    /// Writes that wait to be executed although their connection is gone.
    #[must_use]
    pub fn late_writes(&self) -> usize {
        self.late.len()
    }

    /// Direct access to a disk, e.g. to fill it before a test.
    pub fn disk_mut(&mut self, lun: usize) -> Option<&mut crate::Disk> {
        self.units.get_mut(lun).map(|unit| &mut unit.disk)
    }

    fn all_in_session(&self) -> Vec<ConnectionId> {
        self.sessions
            .values()
            .flat_map(|session| session.connections.iter().copied())
            .collect()
    }
}
