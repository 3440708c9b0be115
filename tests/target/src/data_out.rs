//! SCSI Data-Out: every rule of a sequence, and where the bytes go (RFC 7143 §11.7).

use std::time::Instant;

use crate::ConnectionId;
use crate::disk::device::Reply;
use crate::disk::sense::Sense;
use crate::full_feature::{Arrival, reason};
use crate::judge::{Judge, Rule};
use crate::login::operational::Parameters;
use crate::session::Session;
use crate::target::Target;
use crate::task::{Burst, Task};
use crate::wire::framer::RawPdu;
use crate::wire::request::DataOut;
use crate::wire::{RESERVED_TAG, low32};

/// What a Data-Out did to its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    More,
    Complete,
    Bad(Sense),
}

impl Target {
    pub(crate) fn on_data_out(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
        arrival: Arrival,
    ) {
        if !self.hold_data(id, tsih, pdu, arrival) {
            self.take_data_out(now, id, tsih, pdu, arrival, true);
        }
    }

    /// `in_turn` is false for data that had to wait for their command.
    pub(crate) fn take_data_out(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
        arrival: Arrival,
        in_turn: bool,
    ) {
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
            if session.fast_aborted.get(&data_out.itt) == Some(&id) {
                let what = format!("data of ITT {:#010x}", data_out.itt);
                self.judge.note(Rule::FastAbortData, what);
            }
            let shelf = self.connections.get(&id).map(|c| &c.shelf);
            let crossed = shelf.is_some_and(|shelf| shelf.replaced(data_out.itt, data_out.ttt));
            if crossed || session.excused(data_out.itt) {
                // The task ended while its data were on their way, or its command was not received.
                return;
            }
            if data_out.ttt == RESERVED_TAG && session.repeated.contains(&data_out.itt) {
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
        if in_turn && data_out.ttt == RESERVED_TAG && overtakes(session, id, task_id) {
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
        let Some(burst) = known else {
            let good = self.take_replaced(tsih, &data_out, pdu, arrival);
            if !good {
                self.no_sequence(now, id, tsih, &data_out, parameters.initial_r2t, pdu);
            }
            return;
        };
        judge_order(task, &data_out, &burst, &parameters, &mut self.judge);
        self.book(tsih, &data_out, pdu, burst, arrival);
        self.pump(now, tsih, data_out.itt);
    }

    /// Data for a request that another one has replaced are good; they may spare the other one.
    fn take_replaced(
        &mut self,
        tsih: u16,
        data_out: &DataOut,
        pdu: &RawPdu,
        arrival: Arrival,
    ) -> bool {
        let session = self.sessions.get_mut(&tsih);
        let Some(task) = session.and_then(|session| session.tasks.get_mut(&data_out.itt)) else {
            return false;
        };
        let Some(burst) = task.replaced.get(&data_out.ttt) else {
            return false;
        };
        let end = u64::from(data_out.offset) + pdu.data.len() as u64;
        let inside = burst.start <= data_out.offset && end <= u64::from(burst.end);
        if inside && arrival == Arrival::Whole {
            task.store(data_out.offset, &pdu.data);
        }
        inside
    }

    /// Data that nobody asked for.
    fn no_sequence(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        data_out: &DataOut,
        initial_r2t: bool,
        pdu: &RawPdu,
    ) {
        let session = self.sessions.get(&tsih);
        if data_out.ttt == RESERVED_TAG
            && session.is_some_and(|session| session.repeated.contains(&data_out.itt))
        {
            return;
        }
        if data_out.ttt == RESERVED_TAG && initial_r2t {
            self.judge
                .note(Rule::UnsolicitedForbidden, "unsolicited Data-Out");
        }
        self.judge.note(
            Rule::DataOutTransferTag,
            format!("TTT {:#010x}", data_out.ttt),
        );
        self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
    }

    /// Judges a PDU of a known sequence, and takes what the target received of it.
    fn book(
        &mut self,
        tsih: u16,
        data_out: &DataOut,
        pdu: &RawPdu,
        mut burst: Burst,
        arrival: Arrival,
    ) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let parameters = session.parameters.clone();
        let Some(task) = session.tasks.get_mut(&data_out.itt) else {
            return;
        };
        let bytes = low32(pdu.data.len());
        let taken = take(&mut burst, data_out, bytes, &parameters, &mut self.judge);
        if let Taken::Bad(sense) = taken {
            fail(task, sense);
            return;
        }
        if arrival == Arrival::Whole {
            task.store(data_out.offset, &pdu.data);
        }
        let level = parameters.error_recovery_level;
        if arrival == Arrival::Damaged && level == 0 {
            // Recovery within the command is not for this session (RFC 7143 §7.8).
            fail(task, Sense::CRC_ERROR);
            return;
        }
        let unsolicited = data_out.ttt == RESERVED_TAG;
        burst.closed = taken == Taken::Complete;
        if taken == Taken::More || arrival == Arrival::Lost {
            if unsolicited {
                task.unsolicited = Some(burst);
            } else {
                task.r2ts.insert(data_out.ttt, burst);
            }
            return;
        }
        if unsolicited {
            task.unsolicited = None;
        } else {
            task.r2ts.remove(&data_out.ttt);
        }
        let whole = burst.bytes >= burst.end - burst.start;
        if unsolicited && !whole {
            let what = format!("{} bytes of {}", burst.bytes, burst.end - burst.start);
            self.judge.note(Rule::FirstBurstShort, what);
        }
        if task.early.is_some() {
            return;
        }
        // What is missing is asked for; a sequence that was short by the initiator's fault, too, so that it is not
        // punished with a hang.
        let again = task.plan_missing(&burst, parameters.max_burst_bytes);
        if whole && again > 0 && level == 0 {
            fail(task, Sense::CRC_ERROR);
        } else if whole {
            self.recovery.recovery_r2ts += again as u64;
        }
    }
}

/// Whether an earlier command of the connection still owes unsolicited data. Data that were sent and got lost on the
/// way are not owed.
fn overtakes(session: &Session, id: ConnectionId, task_id: u64) -> bool {
    session.tasks.values().any(|other| {
        other.connection == id
            && other.id < task_id
            && other.unsolicited.is_some_and(|burst| !burst.closed)
    })
}

/// Ends a task early without waiting for the rest of its data.
pub(crate) fn fail(task: &mut Task, sense: Sense) {
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
        // A sequence that was ended and got lost on the way stays open for the target only.
        let owed = task.r2ts.values().filter(|open| !open.closed);
        let oldest = owed.map(|open| open.r2t_sn).min();
        let oldest = oldest.unwrap_or(burst.r2t_sn);
        judge.expect(burst.r2t_sn <= oldest, Rule::R2tOrder, || {
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
    judge.expect(!burst.closed, Rule::DataOutFinal, || {
        format!("DataSN {} after F", data_out.data_sn)
    });
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
    Taken::More
}
