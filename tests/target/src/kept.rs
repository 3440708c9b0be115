//! Answers kept for retransmission until ExpStatSN acknowledges them (RFC 7143 §4.2.2.2, §7.1.4.2).
//!
//! Kept at ErrorRecoveryLevel 1 and above only. An answered SCSI task lives in the record of its status, with its
//! data, so that Data-In can be sent again too. Invariant: records are in the order of their StatSN, without gaps
//! except for those forgotten because the shelf was full. What is acknowledged without having been delivered is the
//! judge's business.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::ConnectionId;
use crate::full_feature::Arrival;
use crate::judge::{Judge, Rule};
use crate::target::Target;
use crate::task::Task;
use crate::wire::framer::RawPdu;
use crate::wire::{Fields as _, Header, opcode, serial_before};

/// A numbered answer that was sent.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) stat_sn: u32,
    pub(crate) header: Header,
    pub(crate) data: Vec<u8>,
    /// The SCSI task whose status this is.
    pub(crate) task: Option<Box<Task>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.data.len() + self.task.as_ref().map_or(0, |task| task.kept_bytes())
    }
}

/// Everything of one connection that waits to be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) kept: VecDeque<Kept>,
    /// StatSNs that a fault kept from the initiator.
    pub(crate) undelivered: BTreeSet<u32>,
    /// Something was forgotten before it was acknowledged.
    pub(crate) overflowed: bool,
}

impl Shelf {
    /// A Data-In with status has been sent again: its data have come, too.
    fn data_delivered(&mut self, stat_sn: u32, data_sn: u32) {
        let mut kept = self.kept.iter_mut();
        let record = kept.find(|record| record.stat_sn == stat_sn);
        let task = record.and_then(|record| record.task.as_deref_mut());
        let sent = task.and_then(|task| task.sent.iter_mut().find(|it| it.data_sn == data_sn));
        if let Some(sent) = sent {
            sent.delivered = true;
        }
    }

    /// Keeps an answer; the oldest ones go when there are more than `answers` or more than `bytes`.
    pub(crate) fn keep(&mut self, record: Kept, answers: usize, bytes: usize) {
        self.kept.push_back(record);
        while self.kept.len() > answers.max(1) {
            self.kept.pop_front();
            self.overflowed = true;
        }
        self.bound(bytes);
    }

    /// Attaches a task to the status just sent.
    pub(crate) fn attach(&mut self, task: Task, bytes: usize) {
        if let Some(record) = self.kept.back_mut() {
            record.task = Some(Box::new(task));
        }
        self.bound(bytes);
    }

    fn bound(&mut self, bytes: usize) {
        let mut held: usize = self.kept.iter().map(Kept::bytes).sum();
        while held > bytes && self.kept.len() > 1 {
            let gone = self.kept.pop_front();
            held -= gone.as_ref().map_or(0, Kept::bytes);
            self.overflowed = true;
        }
    }

    /// Forgets what is acknowledged, and says which answers those were.
    pub(crate) fn acknowledge(&mut self, exp_stat_sn: u32) -> Vec<Kept> {
        let mut out = Vec::new();
        while let Some(front) = self.kept.front()
            && serial_before(front.stat_sn, exp_stat_sn)
        {
            out.extend(self.kept.pop_front());
        }
        out
    }

    /// Whether an answered task had replaced this request for data: the data for both may be on their way when
    /// those for one of them let the task end.
    pub(crate) fn replaced(&self, itt: u32, ttt: u32) -> bool {
        let tasks = self.kept.iter().filter_map(|record| record.task.as_ref());
        let mut same = tasks.filter(|task| task.command.itt == itt);
        same.any(|task| task.replaced.contains_key(&ttt))
    }

    /// Notes an acknowledgement of answers that never arrived.
    pub(crate) fn judge(&mut self, exp_stat_sn: u32, judge: &mut Judge) {
        let early: Vec<u32> = self
            .undelivered
            .iter()
            .copied()
            .filter(|stat_sn| serial_before(*stat_sn, exp_stat_sn))
            .collect();
        for stat_sn in early {
            self.undelivered.remove(&stat_sn);
            let what = format!("ExpStatSN {exp_stat_sn}, but StatSN {stat_sn} was never received");
            judge.note(Rule::ExpStatSnLost, what);
        }
    }
}

/// StatSN of a header that takes one.
pub(crate) fn numbered(header: &Header) -> Option<u32> {
    let takes = match header[0] & 0x3f {
        opcode::R2T => false,
        opcode::DATA_IN => header[1] & 1 != 0,
        opcode::NOP_IN => header.be32(16) != crate::wire::RESERVED_TAG,
        _ => true,
    };
    takes.then(|| header.be32(24))
}

impl Target {
    /// ExpStatSN never goes back and never acknowledges what was not sent, or not received (RFC 7143 §4.2.2.2).
    pub(crate) fn check_acknowledgement(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pdu: &RawPdu,
        arrival: Arrival,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let elsewhere = pdu.opcode() == opcode::LOGOUT
            && pdu.header[1] & 0x7f != 0
            && pdu.header.be16(20) != connection.cid;
        if elsewhere {
            // RFC 7143 §11.14.4: it is that of the connection to be closed.
            return;
        }
        let given = pdu.exp_stat_sn();
        let next = connection.stat_sn;
        if serial_before(next, given) {
            self.judge.note(
                Rule::ExpStatSnAhead,
                format!("{given}, next StatSN is {next}"),
            );
            return;
        }
        if let Some(last) = connection.judged_acknowledged
            && serial_before(given, last)
        {
            self.judge
                .note(Rule::ExpStatSnBackwards, format!("{given} after {last}"));
            return;
        }
        connection.judged_acknowledged = Some(given);
        if let Some((stat_sn, bytes)) = connection.next_own_segment
            && serial_before(stat_sn, given)
        {
            connection.own_segment = bytes;
            connection.next_own_segment = None;
        }
        connection.shelf.judge(given, &mut self.judge);
        let session = connection.session;
        if let Some(session) = session.and_then(|tsih| self.sessions.get_mut(&tsih)) {
            session.note_told(id, given);
        }
        if arrival == Arrival::Whole {
            connection.acknowledged = Some(given);
            let gone = connection.shelf.acknowledge(given);
            self.acknowledged(now, id, gone);
        }
    }

    /// What waits for acknowledgements goes on.
    fn acknowledged(&mut self, now: Instant, id: ConnectionId, gone: Vec<Kept>) {
        let Some(tsih) = self.connections.get(&id).and_then(|c| c.session) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        for task in gone.into_iter().filter_map(|record| record.task) {
            session.note_ended(task.command.itt);
        }
        if session.fence.is_some() {
            self.check_fence(now, tsih);
        }
    }

    /// Sends a kept PDU again with current window numbers; says whether it arrives whole.
    pub(crate) fn resend(
        &mut self,
        now: Instant,
        id: ConnectionId,
        header: Header,
        data: &[u8],
    ) -> bool {
        let delivered = self.queue(now, id, header, data);
        if delivered
            && let Some(stat_sn) = numbered(&header)
            && let Some(connection) = self.connections.get_mut(&id)
        {
            let shelf = &mut connection.shelf;
            shelf.undelivered.remove(&stat_sn);
            if header[0] & 0x3f == opcode::DATA_IN {
                shelf.data_delivered(stat_sn, header.be32(36));
            }
        }
        delivered
    }
}
