//! SCSI Data-Out: every rule of a sequence, and where the bytes go (RFC 7143 §11.7).

use std::time::Instant;

use crate::ConnectionId;
use crate::disk::device::Reply;
use crate::disk::sense::Sense;
use crate::full_feature::reason;
use crate::judge::{Judge, Rule};
use crate::login::operational::Parameters;
use crate::session::Session;
use crate::target::Target;
use crate::task::{Burst, Task};
use crate::wire::framer::RawPdu;
use crate::wire::request::DataOut;
use crate::wire::{RESERVED_TAG, low32};

/// What a Data-Out did to its sequence.
enum Taken {
    More(Burst),
    Complete,
    Bad(Sense),
}

impl Target {
    pub(crate) fn on_data_out(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let data_out = DataOut::parse(&pdu.header);
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let parameters = session.parameters.clone();
        let Some(task) = session
            .tasks
            .get_mut(&data_out.itt)
            .filter(|task| task.connection == id)
        else {
            if session.ended.contains(&data_out.itt) {
                // The task ended while its data were on their way.
                return;
            }
            self.judge
                .note(Rule::DataOutNoTask, format!("ITT {:#010x}", data_out.itt));
            self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
            return;
        };
        if task.early.is_some() && task.unsolicited.is_none() {
            // The task failed already and waits only to say so.
            return;
        }
        let task_id = task.id;
        if data_out.ttt == RESERVED_TAG && overtakes(session, id, task_id) {
            let what = format!(
                "data of ITT {:#010x} before those of an earlier command",
                data_out.itt
            );
            self.judge.note(Rule::UnsolicitedOrder, what);
        }
        let Some(task) = session.tasks.get_mut(&data_out.itt) else {
            return;
        };
        let known = if data_out.ttt == RESERVED_TAG {
            task.unsolicited
        } else {
            task.r2ts.get(&data_out.ttt).copied()
        };
        let Some(mut burst) = known else {
            if data_out.ttt == RESERVED_TAG && parameters.initial_r2t {
                self.judge
                    .note(Rule::UnsolicitedForbidden, "unsolicited Data-Out");
            }
            self.judge.note(
                Rule::DataOutTransferTag,
                format!("TTT {:#010x}", data_out.ttt),
            );
            self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
            return;
        };
        judge_order(task, &data_out, &burst, &parameters, &mut self.judge);
        let taken = take(
            &mut burst,
            &data_out,
            low32(pdu.data.len()),
            &parameters,
            &mut self.judge,
        );
        if !matches!(taken, Taken::Bad(_)) {
            task.store(data_out.offset, &pdu.data);
        }
        settle(task, &data_out, taken, &burst, &mut self.judge);
        self.pump(now, tsih, data_out.itt);
    }

    /// A Data-Out with a bad data digest ends its task (RFC 7143 §7.8, ErrorRecoveryLevel 0).
    pub(crate) fn data_digest_failed(&mut self, now: Instant, tsih: u16, itt: u32) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let Some(task) = session.tasks.get_mut(&itt) else {
            return;
        };
        fail(task, Sense::CRC_ERROR);
        self.pump(now, tsih, itt);
    }
}

/// Whether an earlier command of the connection still owes unsolicited data.
fn overtakes(session: &Session, id: ConnectionId, task_id: u64) -> bool {
    session
        .tasks
        .values()
        .any(|other| other.connection == id && other.id < task_id && other.unsolicited.is_some())
}

/// Books a PDU that was checked.
fn settle(task: &mut Task, data_out: &DataOut, taken: Taken, burst: &Burst, judge: &mut Judge) {
    let unsolicited = data_out.ttt == RESERVED_TAG;
    match taken {
        Taken::More(burst) if unsolicited => task.unsolicited = Some(burst),
        Taken::More(burst) => {
            task.r2ts.insert(data_out.ttt, burst);
        }
        Taken::Complete if unsolicited => end_unsolicited(task, burst, judge),
        Taken::Complete => {
            task.r2ts.remove(&data_out.ttt);
        }
        Taken::Bad(sense) => fail(task, sense),
    }
}

/// Ends a task early without waiting for the rest of its data.
fn fail(task: &mut Task, sense: Sense) {
    task.early = Some(Reply::check(sense));
    task.unsolicited = None;
    task.r2ts.clear();
    task.planned.clear();
}

fn judge_order(
    task: &Task,
    data_out: &DataOut,
    burst: &Burst,
    parameters: &Parameters,
    judge: &mut Judge,
) {
    if data_out.ttt == RESERVED_TAG {
        // RFC 7143 §11.7.4 wants the LUN with a transfer tag only; without one it is reserved.
        let good = data_out.lun == 0 || data_out.lun == task.command.lun;
        judge.expect(good, Rule::DataOutLun, || format!("{:#018x}", data_out.lun));
        return;
    }
    judge.expect(data_out.lun == task.command.lun, Rule::DataOutLun, || {
        format!("{:#018x}", data_out.lun)
    });
    if parameters.data_sequence_in_order {
        let oldest = task
            .r2ts
            .values()
            .map(|open| open.r2t_sn)
            .min()
            .unwrap_or(burst.r2t_sn);
        judge.expect(burst.r2t_sn == oldest, Rule::R2tOrder, || {
            format!("data for R2TSN {} before {oldest}", burst.r2t_sn)
        });
    }
}

/// Checks one PDU against its sequence.
fn take(
    burst: &mut Burst,
    data_out: &DataOut,
    bytes: u32,
    parameters: &Parameters,
    judge: &mut Judge,
) -> Taken {
    let unsolicited = data_out.ttt == RESERVED_TAG;
    let what = || format!("DataSN {} for {}", data_out.data_sn, burst.next_sn);
    if !judge.expect(data_out.data_sn == burst.next_sn, Rule::DataOutSn, what) {
        // A sequence error; without recovery the task ends (RFC 7143 §7.9).
        return Taken::Bad(Sense::CRC_ERROR);
    }
    burst.next_sn = data_out.data_sn.wrapping_add(1);
    let end = u64::from(data_out.offset) + u64::from(bytes);
    if parameters.data_pdu_in_order {
        let good = data_out.offset == burst.next_offset;
        let what = || format!("offset {} for {}", data_out.offset, burst.next_offset);
        if !judge.expect(good, Rule::DataOutOffset, what) {
            return Taken::Bad(Sense::CRC_ERROR);
        }
    }
    if data_out.offset < burst.start || end > u64::from(burst.end) {
        let rule = if unsolicited {
            Rule::FirstBurstExceeded
        } else {
            Rule::DataOutLength
        };
        judge.note(
            rule,
            format!(
                "{}..{end} outside {}..{}",
                data_out.offset, burst.start, burst.end
            ),
        );
        return Taken::Bad(if unsolicited {
            Sense::UNEXPECTED_UNSOLICITED
        } else {
            Sense::CRC_ERROR
        });
    }
    burst.next_offset = data_out.offset.saturating_add(bytes);
    burst.bytes = burst.bytes.saturating_add(bytes);
    let full = burst.bytes >= burst.end - burst.start;
    if data_out.is_final {
        if !full && !unsolicited {
            judge.note(
                Rule::DataOutLength,
                format!("F after {} of {}", burst.bytes, burst.end - burst.start),
            );
            return Taken::Bad(Sense::NOT_ENOUGH_UNSOLICITED);
        }
        return Taken::Complete;
    }
    if full {
        judge.note(
            Rule::DataOutFinal,
            format!("F clear after all {} bytes", burst.bytes),
        );
        return Taken::Complete;
    }
    Taken::More(*burst)
}

fn end_unsolicited(task: &mut Task, burst: &Burst, judge: &mut Judge) {
    task.unsolicited = None;
    if burst.bytes < burst.end - burst.start {
        let what = format!("{} bytes of {}", burst.bytes, burst.end - burst.start);
        judge.note(Rule::FirstBurstShort, what);
        // What is missing is asked for, so that the initiator is not punished with a hang.
        if task.early.is_none() {
            let missing = burst.start + burst.bytes;
            task.planned
                .push_front((missing, burst.end.min(task.wanted).max(missing)));
            task.planned.retain(|(start, end)| start < end);
        }
    }
}
