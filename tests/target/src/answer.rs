//! Answers of SCSI tasks: Data-In sequences, status, residuals (RFC 7143 §11.4, §11.7).

use std::time::{Duration, Instant};

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::disk::device::{Reply, status};
use crate::target::{Target, Timer};
use crate::task::{Progress, SentData, Task};
use crate::wire::response::{self, Residual};
use crate::wire::{Fields as _, Header, low32};

/// One Data-In to be: offset, end, and whether it ends a sequence.
pub(crate) type Segment = (usize, usize, bool);

impl Target {
    /// Answers a task that was executed, unless it has no connection at the moment.
    pub(crate) fn answer_by_id(&mut self, now: Instant, tsih: u16, task_id: u64) {
        let Some(mut task) = self.take_live(tsih, task_id) else {
            return;
        };
        let Progress::Executed(mut reply) =
            std::mem::replace(&mut task.progress, Progress::Waiting)
        else {
            self.untake(tsih, task);
            return;
        };
        if let Some(code) = task.deviation.response {
            let header = response::scsi_response(task.command.itt, code, 0, Residual::None, 0);
            self.send(now, task.connection, header, &[], Numbering::Status);
            self.keep_answered(tsih, task, Reply::default());
            return;
        }
        let residual = residual(&task, &reply);
        let expected = task.command.read_expected() as usize;
        if task.command.bidirectional_read.is_some() {
            let good = reply.status == status::GOOD;
            let moved = if good { reply.data.len() as u64 } else { 0 };
            task.read_residual = difference(moved, expected as u64);
        }
        if !task.command.read {
            reply.data.clear();
        }
        reply.data.truncate(expected);
        if let Some(short) = task.deviation.data_short {
            reply.data.truncate(short as usize);
        }
        let extra = task.deviation.data_beyond as usize;
        reply.data.resize(reply.data.len() + extra, 0xee);
        task.residual = if task.deviation.data_short.is_some() {
            Residual::None
        } else {
            residual
        };
        let segments = self.fresh_segments(tsih, &task, &reply);
        let delay = task.deviation.delay_status;
        let later = delay > Duration::ZERO;
        let done = self.send_segments(now, tsih, &mut task, &reply, segments, !later);
        if done {
            self.keep_answered(tsih, task, reply);
        } else if later {
            task.progress = Progress::DataSent(reply);
            self.untake(tsih, task);
            self.at(
                now + delay,
                Timer::Status {
                    tsih,
                    task: task_id,
                },
            );
        } else {
            self.send_status(now, tsih, task, reply);
        }
    }

    /// Sends the status of a task whose data were sent.
    pub(crate) fn status_by_id(&mut self, now: Instant, tsih: u16, task_id: u64) {
        let Some(mut task) = self.take_live(tsih, task_id) else {
            return;
        };
        if let Progress::DataSent(reply) = &mut task.progress {
            let reply = std::mem::take(reply);
            self.send_status(now, tsih, task, reply);
        } else {
            self.untake(tsih, task);
        }
    }

    /// Takes a task out of its session, if its connection lives.
    fn take_live(&mut self, tsih: u16, task_id: u64) -> Option<Task> {
        let session = self.sessions.get_mut(&tsih)?;
        let task = session.tasks.values_mut().find(|task| task.id == task_id)?;
        if !session.connections.contains(&task.connection) {
            task.due = true;
            return None;
        }
        if session.fence.is_some() {
            session.fenced.push(task_id);
            return None;
        }
        let itt = task.command.itt;
        session.tasks.remove(&itt)
    }

    fn untake(&mut self, tsih: u16, task: Task) {
        if let Some(session) = self.sessions.get_mut(&tsih) {
            session.tasks.insert(task.command.itt, task);
        }
    }

    pub(crate) fn send_status(&mut self, now: Instant, tsih: u16, task: Task, reply: Reply) {
        let (header, data) = self.status_of(&task, &reply);
        self.send(now, task.connection, header, &data, Numbering::Status);
        self.keep_answered(tsih, task, reply);
    }

    /// Status was sent: without recovery that is the end of the task, else it waits for the acknowledgement.
    pub(crate) fn keep_answered(&mut self, tsih: u16, mut task: Task, reply: Reply) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        if session.parameters.error_recovery_level == 0 {
            session.note_ended(task.command.itt);
            return;
        }
        task.progress = Progress::Answered(reply);
        let bytes = self.config.kept_bytes;
        match self.connections.get_mut(&task.connection) {
            Some(connection) if connection.session == Some(tsih) => {
                connection.shelf.attach(task, bytes);
            }
            _ => {
                // Sending it ended the connection; the task is as answered as if it had died now.
                let itt = task.command.itt;
                session.tasks.entry(itt).or_insert(task);
            }
        }
    }

    /// SenseLength and sense data (RFC 7143 §11.4.7).
    pub(crate) fn sense_segment(&self, task: &Task, reply: &Reply) -> Vec<u8> {
        let Some(sense) = &reply.sense else {
            return Vec::new();
        };
        let unit = task.execution.unit.and_then(|unit| self.units.get(unit));
        let descriptor = unit.map_or(self.config.descriptor_sense, |unit| {
            unit.mode.descriptor_sense
        });
        let bytes = sense.encode(descriptor);
        let mut data = u16::try_from(bytes.len())
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec();
        data.extend(bytes);
        data
    }

    /// How the data of an answer are cut.
    fn fresh_segments(&self, tsih: u16, task: &Task, reply: &Reply) -> Vec<Segment> {
        let Some(session) = self.sessions.get(&tsih) else {
            return Vec::new();
        };
        let parameters = &session.parameters;
        let shuffle = self.config.shuffle_data_in;
        segments(
            reply.data.len(),
            parameters.max_burst_bytes as usize,
            self.segment_limit(task.connection),
            shuffle && !parameters.data_pdu_in_order,
            shuffle && !parameters.data_sequence_in_order,
        )
    }

    /// Sends data; `true` when the last PDU carried the status.
    pub(crate) fn send_segments(
        &mut self,
        now: Instant,
        tsih: u16,
        task: &mut Task,
        reply: &Reply,
        segments: Vec<Segment>,
        may_collapse: bool,
    ) -> bool {
        let level = self.level(tsih);
        task.sent_segment = self.segment_limit(task.connection);
        if self.config.quirks.empty_data_in && !segments.is_empty() {
            let data_sn = task.next_input_sn();
            task.data_ins += 1;
            let header = response::data_in(task.command.itt, false, data_sn, 0);
            self.send_data_in(now, task, header, (0, 0, false), reply, level);
        }
        let collapse = may_collapse
            && self.config.phase_collapse
            && reply.status == status::GOOD
            && !task.command.write
            && task.snack_tag == 0;
        let count = segments.len();
        for (at, segment) in segments.into_iter().enumerate() {
            let (start, _, last) = segment;
            let data_sn = task.next_input_sn();
            task.data_ins += 1;
            let mut header = response::data_in(task.command.itt, last, data_sn, low32(start));
            if last && self.config.data_ack && level > 0 {
                header = self.ask_for_ack(tsih, task, header, data_sn);
            }
            if collapse && at + 1 == count {
                header = response::with_status(header, reply.status, task.residual);
            }
            self.send_data_in(now, task, header, segment, reply, level);
        }
        collapse && count > 0
    }

    /// Sets the A bit with its tag and LUN (RFC 7143 §11.7.2, §11.7.4).
    fn ask_for_ack(
        &mut self,
        tsih: u16,
        task: &mut Task,
        mut header: Header,
        data_sn: u32,
    ) -> Header {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return header;
        };
        let ttt = session.transfer_tag();
        task.ack_tags.insert(ttt, data_sn.wrapping_add(1));
        header[1] |= 0x40;
        header.put(8, &task.command.lun.to_be_bytes());
        header.put(20, &ttt.to_be_bytes());
        header
    }

    fn send_data_in(
        &mut self,
        now: Instant,
        task: &mut Task,
        mut header: Header,
        (start, end, last): Segment,
        reply: &Reply,
        level: u8,
    ) {
        let id = task.connection;
        let data = reply.data.get(start..end).unwrap_or_default();
        let numbering = if header[1] & 1 != 0 {
            Numbering::Status
        } else {
            Numbering::Reserved
        };
        let stat_sn = self.connections.get(&id).map_or(0, |c| c.stat_sn);
        let delivered = self.send(now, id, header, data, numbering);
        if level == 0 {
            return;
        }
        if numbering == Numbering::Status {
            header.put(24, &stat_sn.to_be_bytes());
        }
        task.sent.push(SentData {
            data_sn: header.be32(36),
            start,
            end,
            last,
            header,
            delivered,
        });
    }

    /// Sends the data from a DataSN on again, cut as the connection wants it now; `true` as above.
    pub(crate) fn send_rest(
        &mut self,
        now: Instant,
        tsih: u16,
        task: &mut Task,
        reply: &Reply,
        from: u32,
        may_collapse: bool,
    ) -> bool {
        let limit = self.segment_limit(task.connection);
        let mut sent = std::mem::take(&mut task.sent);
        sent.retain(|entry| entry.data_sn >= from);
        let Some(first) = sent.first() else {
            return false;
        };
        // Whatever is sent now takes the numbers of what it replaces.
        let replaced = task.input_sn.wrapping_sub(first.data_sn);
        task.input_sn = first.data_sn;
        task.data_ins = task.data_ins.wrapping_sub(replaced);
        let void = std::mem::take(&mut task.ack_tags);
        if let Some(session) = self.sessions.get_mut(&tsih) {
            session.retire_tags(void.into_keys());
        }
        let again = recut(&sent, limit);
        self.send_segments(now, tsih, task, reply, again, may_collapse)
    }

    pub(crate) fn segment_limit(&self, id: ConnectionId) -> usize {
        self.connections
            .get(&id)
            .map_or(8192, |connection| connection.initiator_segment.max(1))
    }
}

/// Joins what is contiguous within a sequence, and cuts it anew.
fn recut(sent: &[SentData], limit: usize) -> Vec<Segment> {
    let mut runs: Vec<Segment> = Vec::new();
    for entry in sent.iter().filter(|entry| entry.start < entry.end) {
        match runs.last_mut() {
            Some((_, end, last)) if !*last && *end == entry.start => {
                *end = entry.end;
                *last = entry.last;
            }
            _ => runs.push((entry.start, entry.end, entry.last)),
        }
    }
    let mut out = Vec::new();
    for (from, to, last) in runs {
        let mut at = from;
        while at < to {
            let end = (at + limit.max(1)).min(to);
            out.push((at, end, last && end == to));
            at = end;
        }
    }
    out
}

/// Cuts data into bursts and segments; F ends each burst in the order of sending.
fn segments(
    total: usize,
    burst: usize,
    segment: usize,
    shuffle_pdus: bool,
    shuffle_bursts: bool,
) -> Vec<Segment> {
    let cut = |from: usize, to: usize, step: usize| {
        (from..to)
            .step_by(step.max(1))
            .map(move |at| (at, (at + step.max(1)).min(to)))
            .collect::<Vec<_>>()
    };
    let mut bursts = cut(0, total, burst);
    if shuffle_bursts {
        bursts.reverse();
    }
    let mut out = Vec::new();
    for (from, to) in bursts {
        let mut parts = cut(from, to, segment);
        if shuffle_pdus {
            parts.reverse();
        }
        let count = parts.len();
        out.extend(
            parts
                .into_iter()
                .enumerate()
                .map(|(at, (start, end))| (start, end, at + 1 == count)),
        );
    }
    out
}

/// What the device would have moved against what the initiator expected (RFC 7143 §11.4.5).
fn residual(task: &Task, reply: &Reply) -> Residual {
    let expected = u64::from(task.command.expected);
    let moved = if task.command.write {
        task.device_bytes
    } else {
        reply.data.len() as u64
    };
    let moved = if reply.status == status::GOOD {
        moved
    } else {
        0
    };
    difference(moved, expected)
}

fn difference(moved: u64, expected: u64) -> Residual {
    let clamp = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    match moved.cmp(&expected) {
        std::cmp::Ordering::Equal => Residual::None,
        std::cmp::Ordering::Greater => Residual::Over(clamp(moved - expected)),
        std::cmp::Ordering::Less => Residual::Under(clamp(expected - moved)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_keeps_its_sequences() {
        let entry = |data_sn, start, end, last| SentData {
            data_sn,
            start,
            end,
            last,
            header: [0; 48],
            delivered: true,
        };
        let sent = [
            entry(2, 1000, 1600, false),
            entry(3, 1600, 2000, true),
            entry(4, 2000, 2500, true),
        ];
        assert_eq!(
            recut(&sent, 512),
            [(1000, 1512, false), (1512, 2000, true), (2000, 2500, true)]
        );
    }

    #[test]
    fn segments_end_bursts_with_f() {
        assert_eq!(
            segments(2500, 1000, 600, false, false),
            [
                (0, 600, false),
                (600, 1000, true),
                (1000, 1600, false),
                (1600, 2000, true),
                (2000, 2500, true)
            ]
        );
        assert_eq!(
            segments(1700, 1000, 600, true, true),
            [
                (1600, 1700, false),
                (1000, 1600, true),
                (600, 1000, false),
                (0, 600, true)
            ]
        );
        assert!(segments(0, 1000, 600, false, false).is_empty());
    }
}
