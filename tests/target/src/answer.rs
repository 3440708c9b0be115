//! Answers of SCSI tasks: Data-In sequences, status, residuals (RFC 7143 §11.4, §11.7).

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::disk::device::{Reply, status};
use crate::target::Target;
use crate::task::{Progress, Task};
use crate::wire::low32;
use crate::wire::response::{self, Residual};

/// One Data-In to be: offset, end, and whether it ends a sequence.
type Segment = (usize, usize, bool);

impl Target {
    pub(crate) fn answer_by_id(&mut self, now: Instant, tsih: u16, task_id: u64) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(itt) = session
            .tasks
            .values()
            .find(|task| task.id == task_id)
            .map(|task| task.command.itt)
        else {
            return;
        };
        let Some(mut task) = session.end_task(itt) else {
            return;
        };
        let Progress::Executed(reply) = std::mem::replace(&mut task.progress, Progress::Waiting)
        else {
            return;
        };
        self.answer(now, tsih, &task, reply);
    }

    fn answer(&mut self, now: Instant, tsih: u16, task: &Task, mut reply: Reply) {
        let id = task.connection;
        let expected = task.command.expected as usize;
        let residual = residual(task, &reply);
        if !task.command.read {
            reply.data.clear();
        }
        reply.data.truncate(expected);
        if let Some(short) = task.deviation.data_short {
            reply.data.truncate(short as usize);
        }
        let extra = task.deviation.data_beyond as usize;
        reply.data.resize(reply.data.len() + extra, 0xee);
        if let Some(code) = task.deviation.response {
            let header = response::scsi_response(task.command.itt, code, 0, Residual::None, 0);
            self.send(now, id, header, &[], Numbering::Status);
            return;
        }
        let residual = if task.deviation.data_short.is_some() {
            Residual::None
        } else {
            residual
        };
        let (sent, done) = self.send_data(now, tsih, task, &reply, residual);
        if done {
            return;
        }
        let data = self.sense_segment(task, &reply);
        let exp_data_sn = sent + task.r2t_sn;
        let header =
            response::scsi_response(task.command.itt, 0, reply.status, residual, exp_data_sn);
        self.send(now, id, header, &data, Numbering::Status);
    }

    /// SenseLength and sense data (RFC 7143 §11.4.7).
    fn sense_segment(&self, task: &Task, reply: &Reply) -> Vec<u8> {
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

    /// Sends the data; returns how many PDUs, and whether the last of them carried the status.
    fn send_data(
        &mut self,
        now: Instant,
        tsih: u16,
        task: &Task,
        reply: &Reply,
        residual: Residual,
    ) -> (u32, bool) {
        let id = task.connection;
        let Some(session) = self.sessions.get(&tsih) else {
            return (0, true);
        };
        let parameters = &session.parameters;
        let burst = parameters.max_burst_bytes as usize;
        let shuffle = self.config.shuffle_data_in;
        let (shuffle_pdus, shuffle_bursts) = (
            shuffle && !parameters.data_pdu_in_order,
            shuffle && !parameters.data_sequence_in_order,
        );
        let segment = self.segment_limit(id);
        let segments = segments(
            reply.data.len(),
            burst,
            segment,
            shuffle_pdus,
            shuffle_bursts,
        );
        let itt = task.command.itt;
        let mut data_sn = 0;
        if self.config.quirks.empty_data_in && !segments.is_empty() {
            let header = response::data_in(itt, false, data_sn, 0);
            self.send(now, id, header, &[], Numbering::Reserved);
            data_sn += 1;
        }
        let collapse = self.config.phase_collapse && reply.status == status::GOOD;
        let count = segments.len();
        for (at, (start, end, last)) in segments.into_iter().enumerate() {
            let mut header = response::data_in(itt, last, data_sn, low32(start));
            data_sn += 1;
            let with_status = collapse && at + 1 == count;
            if with_status {
                header = response::with_status(header, reply.status, residual);
            }
            let numbering = if with_status {
                Numbering::Status
            } else {
                Numbering::Reserved
            };
            self.send(
                now,
                id,
                header,
                reply.data.get(start..end).unwrap_or_default(),
                numbering,
            );
        }
        (data_sn, collapse && count > 0)
    }

    fn segment_limit(&self, id: ConnectionId) -> usize {
        self.connections
            .get(&id)
            .map_or(8192, |connection| connection.initiator_segment.max(1))
    }
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
