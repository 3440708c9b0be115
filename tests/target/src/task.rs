//! A SCSI task from its command to its answer, and the bursts of data it collects (RFC 7143 §11.7, §11.8).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ConnectionId;
use crate::disk::device::{Cdb, Reply, Sender};
use crate::wire::request::ScsiCommand;

/// One sequence of Data-Out PDUs: unsolicited, or the answer to one R2T.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Where the next PDU starts when PDUs are in order.
    pub(crate) next_offset: u32,
    pub(crate) next_sn: u32,
    /// Bytes that came.
    pub(crate) bytes: u32,
    /// Order of issue, for DataSequenceInOrder.
    pub(crate) r2t_sn: u32,
}

impl Burst {
    pub(crate) fn new(start: u32, end: u32, r2t_sn: u32) -> Self {
        Self {
            start,
            end,
            next_offset: start,
            next_sn: 0,
            bytes: 0,
            r2t_sn,
        }
    }
}

/// All that is needed to execute a command, free of its session.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) unit: Option<usize>,
    pub(crate) cdb: Cdb,
    pub(crate) data: Vec<u8>,
    pub(crate) sender: Sender,
}

/// How far a task is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Data are on their way.
    Collecting,
    /// Waits for its time, or for ever.
    Waiting,
    /// Executed; the answer waits for its time.
    Executed(Reply),
}

/// Answers that lie or come late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Deviation {
    pub(crate) delay_execution: Duration,
    pub(crate) delay_answer: Duration,
    pub(crate) hang: bool,
    pub(crate) hang_after: bool,
    pub(crate) withhold_r2t: bool,
    pub(crate) r2t_beyond: u32,
    pub(crate) data_beyond: u32,
    pub(crate) data_short: Option<u32>,
    pub(crate) response: Option<u8>,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) connection: ConnectionId,
    pub(crate) command: ScsiCommand,
    pub(crate) execution: Execution,
    pub(crate) progress: Progress,
    /// Bytes to collect: what the device wants, no more than the initiator expects.
    pub(crate) wanted: u32,
    /// Bytes the device wants altogether.
    pub(crate) device_bytes: u64,
    /// An end decided before the data came; unsolicited data are still swallowed.
    pub(crate) early: Option<Reply>,
    pub(crate) unsolicited: Option<Burst>,
    pub(crate) r2ts: BTreeMap<u32, Burst>,
    /// R2Ts still to be sent: offset and end.
    pub(crate) planned: VecDeque<(u32, u32)>,
    pub(crate) r2t_sn: u32,
    pub(crate) deviation: Deviation,
}

impl Task {
    /// Puts data at its place; the buffer grows only by what came and never beyond the expected length.
    pub(crate) fn store(&mut self, offset: u32, data: &[u8]) {
        let end = (offset as usize)
            .saturating_add(data.len())
            .min(self.command.expected as usize);
        let buffer = &mut self.execution.data;
        if buffer.len() < end {
            buffer.resize(end, 0);
        }
        if let Some(slot) = buffer.get_mut(offset as usize..end) {
            slot.copy_from_slice(data.get(..slot.len()).unwrap_or_default());
        }
    }

    pub(crate) fn all_data_here(&self) -> bool {
        self.unsolicited.is_none() && self.r2ts.is_empty() && self.planned.is_empty()
    }
}
