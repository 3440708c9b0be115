//! SCSI Commands: rules of the PDU, immediate data, what is solicited, execution (RFC 7143 §11.3).

use std::time::{Duration, Instant};

use crate::ConnectionId;
use crate::connection::Numbering;
use crate::disk::device::{Reply, Sender, status};
use crate::disk::inquiry;
use crate::disk::reservation::NexusName;
use crate::disk::sense::Sense;
use crate::fault::CommandEffect;
use crate::full_feature::reason;
use crate::hooks::LUNS_CHANGED;
use crate::judge::Rule;
use crate::login::operational::Parameters;
use crate::records::WriteRecord;
use crate::session::Session;
use crate::target::{Target, Timer};
use crate::task::{Burst, Execution, Progress, Task, plan};
use crate::wire::framer::RawPdu;
use crate::wire::request::ScsiCommand;
use crate::wire::{Fields as _, low32, response};

impl Target {
    pub(crate) fn on_command(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let command = ScsiCommand::parse(&pdu.header, &pdu.ahs);
        if !self.tag_free(tsih, command.itt) {
            self.reject(now, id, reason::TASK_IN_PROGRESS, &pdu.header);
            return;
        }
        let Some(session) = self.sessions.get(&tsih) else {
            return;
        };
        let parameters = session.parameters.clone();
        let sender = Sender {
            session: tsih,
            protocol_level: session.parameters.protocol_level,
            initiator_port: session.nexus.port_name(),
            entrance: session.entrance.clone(),
        };
        self.judge_command(&command, pdu.data.len(), &parameters);
        let portal = self
            .connections
            .get(&id)
            .map_or(0, |connection| connection.portal);
        let unit = flat_lun(command.lun)
            .filter(|lun| *lun < self.units.len() && !self.hidden.contains(lun));
        let flat = flat_lun(command.lun).map_or(u64::MAX, |lun| lun as u64);
        let effect = self
            .faults
            .command(command.cdb[0], flat, portal, command.write);
        if let Some(CommandEffect::Reject(reason)) = effect {
            if let Some(session) = self.sessions.get_mut(&tsih) {
                // Its unsolicited data follow before the initiator can know.
                session.note_ended(command.itt);
                if !command.immediate {
                    // RFC 7143 §7.3: its number counts as not received.
                    session.exp_cmd_sn = command.cmd_sn;
                    session.numbers.vacate(command.cmd_sn);
                }
            }
            self.reject(now, id, reason, &pdu.header);
            return;
        }
        self.next_task += 1;
        let execution = Execution {
            unit,
            cdb: canonical(&command.cdb, &command.extended),
            data: Vec::new(),
            sender,
        };
        let mut task = Task::new(self.next_task, id, command, execution);
        task.deviation.delay_execution = self.config.execution_delay;
        apply_effect(&mut task, effect);
        self.prepare(tsih, &mut task, &pdu.data, &parameters);
        let itt = task.command.itt;
        self.enter_task_set(&task);
        if let Some(session) = self.sessions.get_mut(&tsih) {
            session.fast_aborted.remove(&itt);
            session.tasks.insert(itt, task);
        }
        self.watch_sequence(now, tsih, itt, None);
        self.pump(now, tsih, itt);
    }

    /// Rules of the command PDU itself.
    fn judge_command(&mut self, command: &ScsiCommand, data: usize, parameters: &Parameters) {
        let judge = &mut self.judge;
        judge.expect(command.attribute <= 4, Rule::TaskAttribute, || {
            format!("{}", command.attribute)
        });
        judge.expect(data == 0 || command.write, Rule::DataWithoutWrite, || {
            format!("{data} bytes")
        });
        judge.expect(
            command.is_final || command.write,
            Rule::CommandFinal,
            || "F clear without W".to_owned(),
        );
        if data > 0 && command.write {
            judge.expect(
                parameters.immediate_data,
                Rule::ImmediateDataForbidden,
                || format!("{data} bytes"),
            );
            let limit = parameters.first_burst_bytes.min(command.expected) as usize;
            judge.expect(data <= limit, Rule::FirstBurstExceeded, || {
                format!("{data} immediate bytes of {limit}")
            });
        }
        if !command.is_final && command.write {
            judge.expect(!parameters.initial_r2t, Rule::UnsolicitedForbidden, || {
                "F clear".to_owned()
            });
            judge.expect(data < command.expected as usize, Rule::CommandFinal, || {
                format!("F clear although all {data} bytes came with the command")
            });
        }
        let both = command.read && command.write;
        judge.expect(
            both == command.bidirectional_read.is_some(),
            Rule::BidirectionalLength,
            || format!("R and W {both}, length {:?}", command.bidirectional_read),
        );
        if !command.read && !command.write {
            judge.expect(command.expected == 0, Rule::ExpectedLength, || {
                format!("{} without R and W", command.expected)
            });
        }
        let unit = flat_lun(command.lun).and_then(|lun| self.units.get(lun));
        let cdb = canonical(&command.cdb, &command.extended);
        let Some(wanted) = unit.and_then(|unit| unit.transfer_bytes(&cdb)) else {
            return;
        };
        let read = command.bidirectional_read.unwrap_or(command.expected);
        self.judge.expect(
            u64::from(command.expected) == wanted && u64::from(read) == wanted,
            Rule::ExpectedLength,
            || {
                format!(
                    "{} but CDB {:02x?} moves {wanted}",
                    command.expected, command.cdb
                )
            },
        );
    }

    /// Decides how many bytes to collect and how, and takes immediate data.
    fn prepare(&mut self, tsih: u16, task: &mut Task, data: &[u8], parameters: &Parameters) {
        if task.early.is_none() {
            task.early = self.early_reply(tsih, task);
        }
        let expected = task.command.expected;
        if task.early.is_none()
            && let Some(unit) = task.execution.unit.and_then(|unit| self.units.get(unit))
        {
            match unit.data_out_bytes(&task.execution.cdb) {
                Ok(bytes) => {
                    task.device_bytes = bytes;
                    task.wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(expected);
                }
                Err(sense) => task.early = Some(Reply::check(sense)),
            }
        }
        if !task.command.write {
            task.wanted = 0;
            return;
        }
        let immediate = data
            .get(..data.len().min(expected as usize))
            .unwrap_or_default();
        if !parameters.immediate_data && !immediate.is_empty() {
            task.early = Some(Reply::check(Sense::UNEXPECTED_UNSOLICITED));
        }
        task.store(0, immediate);
        let first = low32(immediate.len());
        let mut solicited_from = first;
        if !task.command.is_final {
            let end = parameters.first_burst_bytes.min(expected).max(first);
            task.unsolicited = Some(Burst {
                bytes: 0,
                ..Burst::new(first, end, 0)
            });
            solicited_from = end;
        }
        if task.early.is_none() {
            task.planned = plan(solicited_from, task.wanted, parameters.max_burst_bytes);
            if self.config.shuffle_r2t && !parameters.data_sequence_in_order {
                task.planned.make_contiguous().reverse();
            }
        }
    }

    /// What ends a command before it moves data: no logical unit, a pending unit attention.
    fn early_reply(&mut self, tsih: u16, task: &Task) -> Option<Reply> {
        let opcode = task.execution.cdb[0];
        let Some(unit) = task.execution.unit else {
            return match opcode {
                0x03 | 0x12 | 0xa0 => None,
                _ => Some(Reply::check(Sense::LUN_NOT_SUPPORTED)),
            };
        };
        let attribute = task.command.attribute;
        if let Some(reply) = self.aca_reply(tsih, unit, attribute, &task.execution.cdb) {
            return Some(reply);
        }
        if matches!(opcode, 0x03 | 0x12 | 0xa0) {
            return None;
        }
        let session = self.sessions.get_mut(&tsih)?;
        let attention = session
            .attentions
            .get_mut(&unit)
            .and_then(std::collections::VecDeque::pop_front);
        if let Some(sense) = attention {
            return Some(Reply::check(sense));
        }
        let group = task.execution.sender.entrance.port_group;
        self.access_refuses(unit, group, &task.execution.cdb)
    }

    /// Does whatever a task can do now: ask for data, or be executed.
    pub(crate) fn pump(&mut self, now: Instant, tsih: u16, itt: u32) {
        self.solicit(now, tsih, itt);
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(task) = session.tasks.get_mut(&itt) else {
            return;
        };
        let collecting = matches!(task.progress, Progress::Collecting);
        if !collecting || !task.all_data_here() || task.ending {
            return;
        }
        if self.must_wait(tsih, itt) {
            return;
        }
        let session = self.sessions.get_mut(&tsih);
        let Some(task) = session.and_then(|session| session.tasks.get_mut(&itt)) else {
            return;
        };
        task.progress = Progress::Waiting;
        let (task_id, delay) = (task.id, task.deviation.delay_execution);
        if task.deviation.hang {
            return;
        }
        if delay == Duration::ZERO {
            self.execute_by_id(now, tsih, task_id);
        } else {
            self.at(
                now + delay,
                Timer::Execute {
                    tsih,
                    task: task_id,
                },
            );
        }
    }

    /// Sends R2Ts up to MaxOutstandingR2T once no unsolicited data are awaited.
    fn solicit(&mut self, now: Instant, tsih: u16, itt: u32) {
        loop {
            if self.hold_r2ts {
                return;
            }
            let Some(session) = self.sessions.get_mut(&tsih) else {
                return;
            };
            let parameters = &session.parameters;
            // RFC 7143 §13.19: with recovery, only the last R2T of an ordered transfer can be retried.
            let single = parameters.error_recovery_level > 0 && parameters.data_sequence_in_order;
            let limit = if single {
                1
            } else {
                parameters.max_outstanding_r2t as usize
            };
            let live = &session.connections;
            let Some(task) = session.tasks.get_mut(&itt) else {
                return;
            };
            let idle = task.unsolicited.is_some() || task.r2ts.len() >= limit;
            if idle || task.deviation.withhold_r2t || !live.contains(&task.connection) {
                return;
            }
            let Some((start, mut end)) = task.planned.pop_front() else {
                return;
            };
            end = end.saturating_add(std::mem::take(&mut task.deviation.r2t_beyond));
            let (lun, id) = (task.command.lun, task.connection);
            let r2t_sn = task.next_input_sn();
            let ttt = session.transfer_tag();
            if let Some(task) = session.tasks.get_mut(&itt) {
                task.r2ts.insert(ttt, Burst::new(start, end, r2t_sn));
            }
            let header = response::r2t(lun, itt, ttt, r2t_sn, start, end - start);
            let delivered = self.send(now, id, header, &[], Numbering::Next);
            let session = self.sessions.get_mut(&tsih);
            let task = session.and_then(|session| session.tasks.get_mut(&itt));
            if let Some(burst) = task.and_then(|task| task.r2ts.get_mut(&ttt)) {
                burst.delivered = delivered;
            }
            self.watch_sequence(now, tsih, itt, Some(ttt));
        }
    }

    pub(crate) fn execute_by_id(&mut self, now: Instant, tsih: u16, task_id: u64) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(task) = session.tasks.values_mut().find(|task| task.id == task_id) else {
            return;
        };
        let (itt, deviation) = (task.command.itt, task.deviation);
        let reply = match task.early.take() {
            Some(reply) => reply,
            None => {
                // The answer needs the unit still; the data have served.
                let data = std::mem::take(&mut task.execution.data);
                let mut execution = task.execution.clone();
                execution.data = data;
                self.execute(now, tsih, itt, &execution, false)
            }
        };
        let Some(task) = self
            .sessions
            .get_mut(&tsih)
            .and_then(|session| session.tasks.get_mut(&itt))
        else {
            return;
        };
        let (failed, unit, cdb) = (
            reply.status == status::CHECK_CONDITION,
            task.execution.unit,
            task.execution.cdb,
        );
        task.progress = Progress::Executed(reply);
        if failed {
            self.establish_aca(tsih, unit, &cdb);
        }
        if deviation.hang_after {
            return;
        }
        if deviation.delay_answer == Duration::ZERO {
            self.answer_by_id(now, tsih, task_id);
        } else {
            self.at(
                now + deviation.delay_answer,
                Timer::Answer {
                    tsih,
                    task: task_id,
                },
            );
        }
    }

    /// Runs a command on its logical unit and journals what it wrote.
    fn execute(
        &mut self,
        now: Instant,
        tsih: u16,
        itt: u32,
        execution: &Execution,
        late: bool,
    ) -> Reply {
        let cdb = &execution.cdb;
        if cdb[0] == 0xa0 {
            return self.report_luns(tsih, cdb);
        }
        let Some(index) = execution.unit else {
            return match cdb[0] {
                0x12 => {
                    let mut data = inquiry::absent();
                    data.truncate(usize::from(cdb.be16(3)));
                    Reply::good(data)
                }
                _ => Reply::good(Sense::LUN_NOT_SUPPORTED.encode(cdb[1] & 1 != 0)),
            };
        };
        let attention = (cdb[0] == 0x03)
            .then(|| {
                self.sessions
                    .get_mut(&tsih)?
                    .attentions
                    .get_mut(&index)?
                    .pop_front()
            })
            .flatten();
        let Some(unit) = self.units.get_mut(index) else {
            return Reply::check(Sense::LUN_NOT_SUPPORTED);
        };
        if let Some(sense) = attention {
            return unit.request_sense(cdb, sense);
        }
        if let Some(reply) = self.access_reply(now, tsih, index, execution, late) {
            return reply;
        }
        let Some(unit) = self.units.get_mut(index) else {
            return Reply::check(Sense::LUN_NOT_SUPPORTED);
        };
        let mut reply = match cdb[0] {
            _ if unit.reservations.conflicts(&execution.sender, cdb) => Reply {
                status: status::RESERVATION_CONFLICT,
                ..Reply::default()
            },
            0x5e => unit.reservations.report(cdb).unwrap_or_else(Reply::check),
            0x5f => return self.change_reservations(index, execution),
            _ => unit.execute(cdb, &execution.data, &execution.sender),
        };
        self.mark_tpgs(cdb, &mut reply);
        self.mark_inquiry(cdb, &mut reply);
        if let Some((lba, blocks)) = reply.wrote
            && self.config.journal
        {
            let data_hash = fnv(&execution.data);
            self.journal.push(WriteRecord {
                lun: index,
                lba,
                blocks,
                at: now,
                tsih,
                itt,
                data_hash,
                late,
            });
        }
        reply
    }

    /// PERSISTENT RESERVE OUT, and what the other nexuses get to feel of it.
    fn change_reservations(&mut self, index: usize, execution: &Execution) -> Reply {
        let Some(unit) = self.units.get_mut(index) else {
            return Reply::check(Sense::LUN_NOT_SUPPORTED);
        };
        let registry = &mut unit.reservations;
        let changed = registry.change(&execution.cdb, &execution.data, &execution.sender);
        let (reply, then) = match changed {
            Ok(changed) => changed,
            Err(sense) => return Reply::check(sense),
        };
        for nexus in then.aborted {
            for tsih in self.sessions_of(&nexus) {
                self.abort_where(Some(tsih), Some(index));
            }
        }
        for (nexus, sense) in then.attentions {
            for tsih in self.sessions_of(&nexus) {
                if let Some(session) = self.sessions.get_mut(&tsih) {
                    session.attention(index, sense);
                }
            }
        }
        reply
    }

    fn sessions_of(&self, nexus: &NexusName) -> Vec<u16> {
        let of = |session: &Session| {
            session.nexus.group == nexus.group && session.nexus.port_name() == nexus.initiator_port
        };
        let sessions = self.sessions.iter().filter(|(_, session)| of(session));
        sessions.map(|(tsih, _)| *tsih).collect()
    }

    fn report_luns(&mut self, tsih: u16, cdb: &[u8; 16]) -> Reply {
        if !matches!(cdb[2], 0..=2) {
            return Reply::check(Sense::cdb_field(2));
        }
        let limit = cdb.be32(6) as usize;
        if limit < 16 {
            return Reply::check(Sense::cdb_field(6));
        }
        // SELECT REPORT 01h asks for well-known logical units only; there are none.
        let count = if cdb[2] == 1 { 0 } else { self.units.len() };
        let luns: Vec<usize> = (0..count)
            .filter(|lun| !self.hidden.contains(lun))
            .collect();
        let mut data = low32(luns.len() * 8).to_be_bytes().to_vec();
        data.extend([0; 4]);
        for lun in luns {
            data.extend(wire_lun(lun).to_be_bytes());
        }
        // Who has the list need not be told that it has changed (SAM-5 §5.14.5).
        if let Some(session) = self.sessions.get_mut(&tsih) {
            for waiting in session.attentions.values_mut() {
                waiting.retain(|sense| *sense != LUNS_CHANGED);
            }
        }
        data.truncate(limit);
        Reply::good(data)
    }

    pub(crate) fn execute_late(&mut self, now: Instant, key: u64) {
        if let Some(late) = self.late.remove(&key) {
            self.execute(now, late.tsih, late.itt, &late.execution, true);
        }
    }
}

/// A 32-byte CDB that this device knows as its 10-byte form: XDWRITEREAD (SBC-3 §5.45). Others stay what they are, and
/// are refused.
fn canonical(cdb: &[u8; 16], extended: &[u8]) -> [u8; 16] {
    let known = cdb[0] == 0x7f && cdb.be16(8) == 0x0007 && extended.len() == 16 && cdb[7] == 0x18;
    let lba = u64::from(cdb.be32(12)) << 32 | u64::from(extended.be32(0));
    let blocks = u16::try_from(extended.be32(12));
    let (true, Ok(lba), Ok(blocks)) = (known, u32::try_from(lba), blocks) else {
        return *cdb;
    };
    let mut short = [0; 16];
    (short[0], short[1], short[9]) = (0x53, cdb[10], cdb[1]);
    short.put(2, &lba.to_be_bytes());
    short.put(7, &blocks.to_be_bytes());
    short
}

fn apply_effect(task: &mut Task, effect: Option<CommandEffect>) {
    let deviation = &mut task.deviation;
    match effect {
        None | Some(CommandEffect::Reject(_)) => {}
        Some(CommandEffect::DelayExecution(delay)) => deviation.delay_execution = delay,
        Some(CommandEffect::DelayAnswer(delay)) => deviation.delay_answer = delay,
        Some(CommandEffect::DelayStatus(delay)) => deviation.delay_status = delay,
        Some(CommandEffect::Hang) => deviation.hang = true,
        Some(CommandEffect::HangAfterExecution) => deviation.hang_after = true,
        Some(CommandEffect::WithholdR2t) => deviation.withhold_r2t = true,
        Some(CommandEffect::R2tBeyond(bytes)) => deviation.r2t_beyond = bytes,
        Some(CommandEffect::DataBeyond(bytes)) => deviation.data_beyond = bytes,
        Some(CommandEffect::DataShort(bytes)) => deviation.data_short = Some(bytes),
        Some(CommandEffect::Response(code)) => {
            deviation.response = Some(code);
            task.early = Some(Reply::default());
        }
        Some(CommandEffect::Qualified(status, sense, qualifier)) => {
            deviation.qualifier = qualifier;
            task.early = Some(Reply {
                status,
                sense,
                ..Reply::default()
            });
        }
        Some(CommandEffect::Status(status, sense)) => {
            task.early = Some(Reply {
                status,
                sense,
                ..Reply::default()
            });
        }
    }
}

/// The number of a LUN in single-level peripheral or flat format (SAM-5 §4.7).
pub(crate) fn flat_lun(lun: u64) -> Option<usize> {
    let [first, second, rest @ ..] = lun.to_be_bytes();
    if rest != [0; 6] {
        return None;
    }
    match first >> 6 {
        0 if first == 0 => Some(usize::from(second)),
        1 => Some(usize::from(first & 0x3f) << 8 | usize::from(second)),
        _ => None,
    }
}

fn wire_lun(lun: usize) -> u64 {
    let low = (lun & 0x3fff) as u64;
    if low < 256 {
        low << 48
    } else {
        (0x4000 | low) << 48
    }
}

fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luns_in_both_formats() {
        for lun in [0, 1, 255, 256, 16383] {
            assert_eq!(flat_lun(wire_lun(lun)), Some(lun));
        }
        assert_eq!(flat_lun(0x4005 << 48), Some(5));
        assert_eq!(flat_lun(1), None);
        assert_eq!(flat_lun(0xc101 << 48), None);
    }
}
