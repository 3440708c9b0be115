//! SNACK: answers, R2Ts and data sent again on request (RFC 7143 §11.16).
//!
//! Invariant: what is sent again is a replica of what was sent, with current window numbers; only R-Data SNACK and
//! reassignment cut data anew. What the initiator acknowledged is gone, and asking for it is an offence.

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::disk::device::status;
use crate::disk::sense::Sense;
use crate::fault::SnackEffect;
use crate::full_feature::reason;
use crate::judge::Rule;
use crate::target::Target;
use crate::task::{Progress, Task};
use crate::wire::framer::RawPdu;
use crate::wire::request::Snack;
use crate::wire::response;
use crate::wire::{Fields as _, RESERVED_TAG, serial_before};

const DATA: u8 = 0;
const STATUS: u8 = 1;
const DATA_ACK: u8 = 2;
const R_DATA: u8 = 3;

/// Where a task is while its data can still be asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Active,
    /// Answered: its index among the kept answers.
    Kept(usize),
}

impl Target {
    pub(crate) fn on_snack(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let snack = Snack::parse(&pdu.header);
        if self.level(tsih) == 0 {
            self.judge.note(Rule::SnackAtLevelZero, "SNACK");
            self.reject(now, id, reason::SNACK, &pdu.header);
            return;
        }
        if !self.judge_snack(&snack) {
            self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
            return;
        }
        match self.faults.snack() {
            Some(SnackEffect::Ignore) => {
                self.recovery.snacks_refused += 1;
                return;
            }
            Some(SnackEffect::Reject(code)) => {
                self.recovery.snacks_refused += 1;
                if snack.kind == STATUS {
                    self.pardon(id);
                }
                self.reject(now, id, code, &pdu.header);
                self.give_up(now, id, tsih, snack.itt);
                return;
            }
            None => {}
        }
        match snack.kind {
            DATA => self.data_snack(now, id, tsih, &snack, pdu),
            STATUS => self.status_snack(now, id, &snack, pdu),
            DATA_ACK => self.data_ack(now, id, tsih, &snack, pdu),
            _ => self.r_data_snack(now, id, tsih, &snack, pdu),
        }
    }

    /// Fields that each kind must have (RFC 7143 §11.16.4–§11.16.7).
    fn judge_snack(&mut self, snack: &Snack) -> bool {
        let tagged = matches!(snack.kind, DATA | R_DATA);
        let tag = (snack.itt != RESERVED_TAG) == tagged;
        let transfer = match snack.kind {
            DATA | STATUS => snack.ttt == RESERVED_TAG,
            R_DATA => snack.ttt != RESERVED_TAG && snack.ttt != 0,
            _ => snack.ttt != RESERVED_TAG,
        };
        let run = match snack.kind {
            DATA_ACK => snack.run == 0,
            R_DATA => snack.run == 0 && snack.begin == 0,
            _ => true,
        };
        self.judge.expect(
            snack.kind <= R_DATA && tag && transfer && run,
            Rule::SnackFields,
            || format!("{snack:?}"),
        )
    }

    /// Takes a task out, to be put back with [`Self::put_back`].
    pub(crate) fn take_task(
        &mut self,
        id: ConnectionId,
        tsih: u16,
        wanted: impl Fn(&Task) -> bool,
    ) -> Option<(Place, Task)> {
        let session = self.sessions.get_mut(&tsih)?;
        let active = session
            .tasks
            .values()
            .find(|task| task.connection == id && wanted(task))
            .map(|task| task.command.itt);
        if let Some(itt) = active {
            return Some((Place::Active, session.tasks.remove(&itt)?));
        }
        let shelf = &mut self.connections.get_mut(&id)?.shelf;
        let index = shelf
            .kept
            .iter()
            .rposition(|record| record.task.as_ref().is_some_and(|task| wanted(task)))?;
        let task = shelf.kept.get_mut(index)?.task.take()?;
        Some((Place::Kept(index), *task))
    }

    pub(crate) fn put_back(&mut self, id: ConnectionId, tsih: u16, place: Place, task: Task) {
        match place {
            Place::Active => {
                if let Some(session) = self.sessions.get_mut(&tsih) {
                    session.tasks.insert(task.command.itt, task);
                }
            }
            Place::Kept(index) => {
                let shelf = self.connections.get_mut(&id).map(|c| &mut c.shelf);
                if let Some(record) = shelf.and_then(|shelf| shelf.kept.get_mut(index)) {
                    record.task = Some(Box::new(task));
                }
            }
        }
    }

    fn data_snack(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        snack: &Snack,
        pdu: &RawPdu,
    ) {
        let Some((place, mut task)) =
            self.take_task(id, tsih, |task| task.command.itt == snack.itt)
        else {
            self.unknown_task(now, id, tsih, snack, pdu);
            return;
        };
        let next = task.input_sn;
        let all = snack.begin == 0 && snack.run == 0;
        let begin = if all { task.data_acked } else { snack.begin };
        let end = match snack.run {
            0 => next,
            run => begin.saturating_add(run),
        };
        let unsent = begin > next || end > next;
        let acknowledged = begin < task.data_acked;
        let nothing = !all && begin >= next;
        self.judge
            .expect(!acknowledged, Rule::SnackAcknowledged, || {
                format!("DataSN {begin}, acknowledged up to {}", task.data_acked)
            });
        self.judge.expect(!unsent, Rule::SnackUnsent, || {
            format!("{begin} to {end}, next is {next}")
        });
        if unsent || acknowledged || nothing {
            self.put_back(id, tsih, place, task);
            let mut header = response::reject(reason::PROTOCOL_ERROR);
            header.put(36, &next.to_be_bytes());
            self.send(now, id, header, &pdu.header, Numbering::Status);
            return;
        }
        let segment = self.segment_limit(id);
        let resized = task.data_ins > 0 && task.sent_segment != segment;
        self.judge.expect(!resized, Rule::SnackResegment, || {
            format!("segments of {} bytes, now {segment}", task.sent_segment)
        });
        self.recovery.data_snacks += 1;
        self.repeat_data(now, id, &mut task, begin, end);
        self.put_back(id, tsih, place, task);
    }

    /// Sends Data-In and R2T of a range of numbers again.
    fn repeat_data(
        &mut self,
        now: Instant,
        id: ConnectionId,
        task: &mut Task,
        begin: u32,
        end: u32,
    ) {
        let mut sent = std::mem::take(&mut task.sent);
        for entry in sent
            .iter_mut()
            .filter(|entry| (begin..end).contains(&entry.data_sn))
        {
            let data = task.reply().map(|reply| reply.data.as_slice());
            let part = data.and_then(|data| data.get(entry.start..entry.end));
            entry.delivered |= self.resend(now, id, entry.header, part.unwrap_or_default());
        }
        task.sent = sent;
        let open = task.r2ts.iter().chain(&task.replaced);
        let mut again: Vec<_> = open
            .filter(|(ttt, burst)| **ttt != RESERVED_TAG && (begin..end).contains(&burst.r2t_sn))
            .map(|(ttt, burst)| (*ttt, *burst))
            .collect();
        again.sort_by_key(|(_, burst)| burst.r2t_sn);
        let (lun, itt) = (task.command.lun, task.command.itt);
        for (ttt, burst) in again {
            self.repeat_r2t(now, id, lun, itt, ttt, &burst);
        }
    }

    /// A SNACK for a task that is not there: its status was acknowledged, or the target has aborted it.
    fn unknown_task(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        snack: &Snack,
        pdu: &RawPdu,
    ) {
        let aborted = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.aborted(snack.itt));
        let full = self
            .connections
            .get(&id)
            .is_some_and(|connection| connection.shelf.overflowed);
        self.judge
            .expect(aborted || full, Rule::SnackAcknowledged, || {
                format!("no unacknowledged task {:#010x}", snack.itt)
            });
        self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
    }

    fn status_snack(&mut self, now: Instant, id: ConnectionId, snack: &Snack, pdu: &RawPdu) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let next = connection.stat_sn;
        let first = connection.shelf.kept.front().map(|record| record.stat_sn);
        let acknowledged = connection.acknowledged.or(first).unwrap_or(next);
        let all = snack.begin == 0 && snack.run == 0;
        let begin = if all { acknowledged } else { snack.begin };
        let end = match snack.run {
            0 => next,
            run => begin.wrapping_add(run),
        };
        let early = serial_before(begin, acknowledged);
        let unsent = serial_before(next, end) || serial_before(next, begin);
        let nothing = !all && begin == next;
        self.judge.expect(!early, Rule::SnackAcknowledged, || {
            format!("StatSN {begin}, acknowledged up to {acknowledged}")
        });
        self.judge.expect(!unsent, Rule::SnackUnsent, || {
            format!("StatSN {begin} to {end}, next is {next}")
        });
        if early || unsent || nothing {
            self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
            return;
        }
        let wanted: Vec<_> = connection
            .shelf
            .kept
            .iter()
            .filter(|record| record.stat_sn.wrapping_sub(begin) < end.wrapping_sub(begin))
            .map(|record| (record.header, record.data.clone()))
            .collect();
        if wanted.len() < end.wrapping_sub(begin) as usize {
            self.recovery.snacks_refused += 1;
            self.pardon(id);
            self.reject(now, id, reason::SNACK, &pdu.header);
            return;
        }
        self.recovery.status_snacks += 1;
        for (header, data) in wanted {
            self.resend(now, id, header, &data);
        }
    }

    /// Answers that are refused now cannot be waited for.
    fn pardon(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.shelf.undelivered.clear();
        }
    }

    fn data_ack(&mut self, now: Instant, id: ConnectionId, tsih: u16, snack: &Snack, pdu: &RawPdu) {
        let found = self.take_task(id, tsih, |task| task.ack_tags.contains_key(&snack.ttt));
        let Some((place, mut task)) = found else {
            let session = self.sessions.get(&tsih);
            let void = session.is_some_and(|session| session.dead_tags.contains(&snack.ttt));
            self.judge.expect(void, Rule::DataAckTag, || {
                format!("TTT {:#010x} of no unacknowledged Data-In", snack.ttt)
            });
            self.reject(now, id, reason::INVALID_DATA_ACK, &pdu.header);
            return;
        };
        let judge = &mut self.judge;
        judge.expect(snack.lun == task.command.lun, Rule::DataAckTag, || {
            format!("LUN {:#018x}", snack.lun)
        });
        let sent = snack.begin <= task.input_sn && snack.begin >= task.data_acked;
        judge.expect(sent, Rule::SnackUnsent, || {
            format!("DataACK of {}, sent {}", snack.begin, task.input_sn)
        });
        let holes: Vec<u32> = task
            .sent
            .iter()
            .filter(|entry| entry.data_sn < snack.begin && !entry.delivered)
            .map(|entry| entry.data_sn)
            .collect();
        judge.expect(holes.is_empty(), Rule::DataAckHoles, || {
            format!("BegRun {}, not received: {holes:?}", snack.begin)
        });
        if sent {
            self.recovery.data_acks += 1;
            task.data_acked = snack.begin;
            task.sent.retain(|entry| entry.data_sn >= snack.begin);
            task.ack_tags.retain(|_, upto| *upto > snack.begin);
        } else {
            self.reject(now, id, reason::INVALID_DATA_ACK, &pdu.header);
        }
        self.put_back(id, tsih, place, task);
    }

    /// All unacknowledged data again, cut anew, and a SCSI Response with the tag (RFC 7143 §11.16.3).
    fn r_data_snack(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        snack: &Snack,
        pdu: &RawPdu,
    ) {
        let Some((place, mut task)) =
            self.take_task(id, tsih, |task| task.command.itt == snack.itt)
        else {
            self.unknown_task(now, id, tsih, snack, pdu);
            return;
        };
        let fresh = task.snack_tag != snack.ttt;
        self.judge.expect(fresh, Rule::SnackFields, || {
            format!("SNACK Tag {:#010x} again", snack.ttt)
        });
        self.recovery.r_data_snacks += 1;
        task.snack_tag = snack.ttt;
        if let Some(reply) = task.reply().cloned() {
            let from = task.data_acked;
            self.send_rest(now, tsih, &mut task, &reply, from, false);
        }
        if let Place::Kept(index) = place
            && let Some(reply) = task.reply()
        {
            let (header, data) = self.status_of(&task, reply);
            self.replace_status(now, id, index, header, &data);
        }
        self.put_back(id, tsih, place, task);
    }

    /// Another SCSI Response with the StatSN of the one before.
    fn replace_status(
        &mut self,
        now: Instant,
        id: ConnectionId,
        index: usize,
        mut header: crate::wire::Header,
        data: &[u8],
    ) {
        let shelf = self.connections.get_mut(&id).map(|c| &mut c.shelf);
        let Some(record) = shelf.and_then(|shelf| shelf.kept.get_mut(index)) else {
            return;
        };
        header.put(24, &record.stat_sn.to_be_bytes());
        record.header = header;
        record.data = data.to_vec();
        self.resend(now, id, header, data);
    }

    /// A refused SNACK ends a task whose status was not sent (RFC 7143 §7.8).
    fn give_up(&mut self, now: Instant, id: ConnectionId, tsih: u16, itt: u32) {
        let session = self.sessions.get_mut(&tsih);
        let Some(task) = session.and_then(|session| session.tasks.get_mut(&itt)) else {
            return;
        };
        if task.connection == id
            && let Progress::DataSent(reply) = &mut task.progress
        {
            reply.status = status::CHECK_CONDITION;
            reply.sense = Some(Sense::SNACK_REJECTED);
            let task_id = task.id;
            self.status_by_id(now, tsih, task_id);
        }
    }

    /// Header and data of a task's SCSI Response.
    pub(crate) fn status_of(
        &self,
        task: &Task,
        reply: &crate::disk::device::Reply,
    ) -> (crate::wire::Header, Vec<u8>) {
        let residual = task.residual;
        let itt = task.command.itt;
        let mut header = response::scsi_response(itt, 0, reply.status, residual, task.data_ins);
        header[1] |= task.read_residual.flags() << 2;
        header.put(40, &task.read_residual.count().to_be_bytes());
        header.put(20, &task.snack_tag.to_be_bytes());
        let connection = self.connections.get(&task.connection);
        let session = connection.and_then(|connection| connection.session);
        if session.is_some_and(|tsih| self.protocol_level(tsih) >= 2) {
            header.put(8, &task.deviation.qualifier.to_be_bytes());
        }
        (header, self.sense_segment(task, reply))
    }
}
