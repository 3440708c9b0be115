//! Data-In: where it goes, and whether all of it came (RFC 7143 §11.7).

use std::time::Instant;

use bytes::Bytes;
use scsi::{DataPhase, IoBuf};

use super::error::ProtocolError;
use super::extents::Extents;
use super::recovery::Arrival;
use super::task::{Stage, Task, TaskKey};
use super::{Placement, Session};
use crate::serial::{DataSn, R2tSn};
use crate::wire::DataIn;

/// What a task has received.
#[derive(Debug, Default)]
pub(super) struct ReadProgress {
    next_data_sn: DataSn,
    received: Extents,
    /// All data before this DataSN have been acknowledged by DataACK.
    pub(super) acknowledged: u32,
    /// Nothing has come since the task was reassigned: the target may begin where it was asked
    /// to, or from the start (RFC 7143 §7.2.2).
    resumed: bool,
    /// The ExpDataSN of the reassignment, when the target sends all data again nevertheless: what
    /// is below may not be asked for (RFC 7143 §7.2.2).
    not_below: u32,
}

impl ReadProgress {
    /// The task goes on, on another connection.
    pub(super) fn resume(&mut self) {
        self.resumed = true;
        self.not_below = 0;
    }

    /// Whether a SNACK may ask for Data-In from this number on.
    pub(super) fn may_ask_from(&self, sn: u32) -> bool {
        sn >= self.not_below
    }

    /// The task begins anew.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Leading bytes without a hole.
    pub(super) fn leading(&self) -> u32 {
        self.received.leading()
    }

    /// The DataSN after the highest one that came.
    pub(super) fn next_data_sn(&self) -> DataSn {
        self.next_data_sn
    }

    /// The next Data-In is number `sn`, as far as is known.
    pub(super) fn set_next_data_sn(&mut self, sn: DataSn) {
        self.next_data_sn = sn;
    }

    /// Bytes `from..to` have not come after all.
    pub(super) fn forget(&mut self, from: u32, to: u32) {
        self.received.remove(from, to);
    }
}

impl Task {
    fn check_data_in(&self, header: &DataIn, level: u8) -> Result<(), ProtocolError> {
        if self.lent {
            // Two payloads at once cannot happen on one connection: the first is finished first.
            return Err(ProtocolError::UnexpectedDataIn);
        }
        if header.acknowledge && level > 0 {
            // Without a Target Transfer Tag the field means nothing (RFC 7143 §11.7.4).
            self.check_lun(header.lun)?;
        }
        Ok(())
    }

    /// A Data-In has used up its number.
    fn data_sn_taken(&mut self, sn: DataSn) {
        self.read.next_data_sn = sn.next();
        if self.is_bidirectional() {
            // One sequence for Data-In and R2T (RFC 7143 §4.2.2.4).
            self.write.set_next_r2t_sn(R2tSn(sn.next().0));
        }
    }
}

impl Session {
    /// Checks a Data-In against its task and lends the task's memory for the payload.
    pub(super) fn data_in(
        &mut self,
        now: Instant,
        header: &DataIn,
        bytes: u32,
    ) -> Result<Placement, ProtocolError> {
        let key = TaskKey::from_itt(header.itt);
        let level = self.params.error_recovery_level;
        let in_order = self.params.data_pdu_in_order && self.params.data_sequence_in_order;
        if level > 0 {
            let checked = header.check_acknowledge();
            checked.map_err(|error| ProtocolError::Frame(error.into()))?;
        }
        let Some(task) = self
            .tasks
            .get_mut(key)
            .filter(|task| task.stage == Stage::Sent)
        else {
            return self.late_answer(key).map(|()| Placement::Discard);
        };
        task.check_data_in(header, level)?;
        let sn = header.data_sn;
        if std::mem::take(&mut task.read.resumed) && sn == DataSn(0) {
            let acknowledged = task.exp_data_sn();
            task.read.restart();
            task.read.not_below = acknowledged.0;
            task.recovery = None;
        }
        let arrival = if sn == task.read.next_data_sn {
            Arrival::Next
        } else {
            task.data_sn_out_of_turn(sn.0, level)?
        };
        if arrival == Arrival::Duplicate {
            self.stats.duplicates += 1;
            return Ok(Placement::Discard);
        }
        let recovering = task.is_recovering();
        let over = task.is_resegmented();
        let expected = task.read_bytes();
        let status = header.status.is_some();
        let buf = destination(&mut task.data, status)?;
        let offset = header.buffer_offset;
        let out_of_bounds = ProtocolError::DataInOutOfBounds { offset, bytes };
        let end = match offset.checked_add(bytes) {
            Some(end) if end <= expected && end as usize <= buf.len() => end,
            _ => return Err(out_of_bounds),
        };
        if in_order && bytes > 0 && offset != task.read.leading() && !recovering {
            return Err(out_of_bounds);
        }
        let received = &mut task.read.received;
        if !(received.add(offset, end) || over && received.cover(offset, end).is_some()) {
            return Err(out_of_bounds);
        }
        self.stats.read_bytes += u64::from(bytes);
        let placement = if bytes == 0 {
            Placement::Nothing
        } else {
            task.lent = true;
            Placement::Into(Loan {
                key,
                sn,
                buf: std::mem::take(buf),
                start: offset,
                from: offset as usize,
                to: end as usize,
            })
        };
        if arrival != Arrival::Filled {
            task.data_sn_taken(sn);
        }
        if arrival != Arrival::Next {
            self.after_out_of_turn(now, key, arrival);
        }
        Ok(placement)
    }

    /// Takes back lent memory whose payload did not come whole, and counts the Data-In as not
    /// received.
    pub fn take_back(&mut self, loan: Loan) {
        if let Some(task) = self.tasks.get_mut(loan.key) {
            task.not_received(loan.sn, loan.start, loan.end());
        }
        self.returned(loan);
    }

    /// Takes back lent memory; completes the task when its end had come meanwhile.
    pub(super) fn returned(&mut self, loan: Loan) {
        let Some(task) = self.tasks.get_mut(loan.key) else {
            return;
        };
        if let DataPhase::Bidirectional(both) = &mut task.data {
            both.read = loan.buf;
        } else {
            task.data = DataPhase::Read(loan.buf);
        }
        task.lent = false;
        if task.outcome.is_some() {
            self.settle_task(loan.key);
        }
    }
}

/// The memory that Data-In belong into; `status`: with one in the PDU.
fn destination(data: &mut DataPhase, status: bool) -> Result<&mut IoBuf, ProtocolError> {
    match data {
        DataPhase::Read(buf) => Ok(buf),
        DataPhase::Bidirectional(_) if status => Err(ProtocolError::StatusInDataIn),
        DataPhase::Bidirectional(both) => Ok(&mut both.read),
        // A Data-In that only carries the status of a write would be SCSI Response's job.
        DataPhase::None | DataPhase::Write(_) => Err(ProtocolError::UnexpectedDataIn),
    }
}

/// A task's memory, in the driver's hands while payload is being put into it.
#[derive(Debug)]
pub struct Loan {
    pub(super) key: TaskKey,
    pub(super) sn: DataSn,
    pub(super) buf: IoBuf,
    pub(super) start: u32,
    from: usize,
    to: usize,
}

impl Loan {
    /// Where the next bytes of payload go; empty when all are placed.
    pub fn space(&mut self) -> &mut [u8] {
        self.buf
            .as_mut_slice()
            .get_mut(self.from..self.to)
            .unwrap_or_default()
    }

    /// The offset where it ends, in bytes.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.to).unwrap_or(u32::MAX)
    }

    /// `bytes` have been put there.
    pub fn filled(&mut self, bytes: usize) {
        self.from = self.from.saturating_add(bytes).min(self.to);
    }
}

/// A write's payload is never lent: it is shared.
pub(super) fn payload_of(data: &DataPhase) -> &Bytes {
    static NOTHING: Bytes = Bytes::new();
    match data {
        DataPhase::Write(bytes) => bytes,
        DataPhase::Bidirectional(both) => &both.write,
        DataPhase::None | DataPhase::Read(_) => &NOTHING,
    }
}
