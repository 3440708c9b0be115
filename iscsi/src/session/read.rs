//! Data-In: where it goes, and whether all of it came (RFC 7143 §11.7).

use bytes::Bytes;
use scsi::{DataPhase, IoBuf};

use super::error::ProtocolError;
use super::extents::Extents;
use super::task::{Stage, TaskKey};
use super::{Placement, Session};
use crate::serial::DataSn;
use crate::wire::DataIn;

/// What a task has received.
#[derive(Debug, Default)]
pub(super) struct ReadProgress {
    next_data_sn: DataSn,
    received: Extents,
    /// Nothing has come since the task was reassigned: the target may begin where it was asked
    /// to, or from the start (RFC 7143 §7.2.2).
    resumed: bool,
}

impl ReadProgress {
    /// The first Data-In that has not come: what TASK REASSIGN asks for (RFC 7143 §11.5.6).
    pub(super) fn resume_at(&self) -> DataSn {
        self.next_data_sn
    }

    /// The task goes on, on another connection.
    pub(super) fn resume(&mut self) {
        self.resumed = true;
    }

    /// The last Data-In taken, for `[from, to)`, has not come after all.
    fn forget(&mut self, from: usize, to: usize) {
        if let (Ok(from), Ok(to)) = (u32::try_from(from), u32::try_from(to)) {
            self.received.remove(from, to);
            self.next_data_sn = self.next_data_sn.plus(u32::MAX);
        }
    }

    /// The task begins anew.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Leading bytes without a hole.
    pub(super) fn leading(&self) -> u32 {
        self.received.leading()
    }
}

impl Session {
    /// Checks a Data-In against its task and lends the task's memory for the payload.
    pub(super) fn data_in(
        &mut self,
        header: &DataIn,
        bytes: u32,
    ) -> Result<Placement, ProtocolError> {
        let key = TaskKey::from_itt(header.itt);
        let in_order = self.params.data_pdu_in_order && self.params.data_sequence_in_order;
        let Some(task) = self
            .tasks
            .get_mut(key)
            .filter(|task| task.stage == Stage::Sent)
        else {
            return self.late_answer(key).map(|()| Placement::Discard);
        };
        if task.lent {
            // Two payloads at once cannot happen on one connection: the first is finished first.
            return Err(ProtocolError::UnexpectedDataIn);
        }
        let DataPhase::Read(buf) = &mut task.data else {
            // A Data-In that only carries the status of a write would be SCSI Response's job.
            return Err(ProtocolError::UnexpectedDataIn);
        };
        if std::mem::take(&mut task.read.resumed) && header.data_sn == DataSn(0) {
            task.read.restart();
        }
        let expected = task.read.next_data_sn;
        if header.data_sn != expected {
            return Err(ProtocolError::DataSnGap {
                expected: expected.0,
                actual: header.data_sn.0,
            });
        }
        let offset = header.buffer_offset;
        let out_of_bounds = ProtocolError::DataInOutOfBounds { offset, bytes };
        let end = match offset.checked_add(bytes) {
            Some(end) if end <= task.expected_bytes && end as usize <= buf.len() => end,
            _ => return Err(out_of_bounds),
        };
        if in_order && bytes > 0 && offset != task.read.leading() {
            return Err(out_of_bounds);
        }
        if !task.read.received.add(offset, end) {
            return Err(out_of_bounds);
        }
        task.read.next_data_sn = expected.next();
        self.stats.read_bytes += u64::from(bytes);
        if bytes == 0 {
            return Ok(Placement::Nothing);
        }
        task.lent = true;
        Ok(Placement::Into(Loan {
            key,
            buf: std::mem::take(buf),
            start: offset as usize,
            from: offset as usize,
            to: end as usize,
        }))
    }

    /// Takes back lent memory whose payload did not come whole, and counts the Data-In as not
    /// received.
    pub fn take_back(&mut self, loan: Loan) {
        if let Some(task) = self.tasks.get_mut(loan.key) {
            task.read.forget(loan.start, loan.to);
        }
        self.returned(loan);
    }

    /// Takes back lent memory; completes the task when its end had come meanwhile.
    pub(super) fn returned(&mut self, loan: Loan) {
        let Some(task) = self.tasks.get_mut(loan.key) else {
            return;
        };
        task.data = DataPhase::Read(loan.buf);
        task.lent = false;
        if task.outcome.is_some() {
            self.settle_task(loan.key);
        }
    }
}

/// A task's memory, in the driver's hands while payload is being put into it.
#[derive(Debug)]
pub struct Loan {
    pub(super) key: TaskKey,
    pub(super) buf: IoBuf,
    start: usize,
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
