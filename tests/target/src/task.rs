//! A SCSI task from its command to its answer, and the bursts of data it collects (RFC 7143 §11.7, §11.8).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ConnectionId;
use crate::disk::device::{Cdb, Reply, Sender};
use crate::ranges::Ranges;
use crate::wire::request::ScsiCommand;
use crate::wire::response::Residual;
use crate::wire::{Header, low32};

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
    /// The initiator has ended it with F, whether or not the target knows.
    pub(crate) closed: bool,
    /// The R2T arrived whole, as far as the target's faults are concerned.
    pub(crate) delivered: bool,
    /// How often the target has asked again because nothing came.
    pub(crate) asked_again: u32,
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
            closed: false,
            delivered: true,
            asked_again: 0,
        }
    }
}

/// A Data-In that was sent, so that it can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct SentData {
    pub(crate) data_sn: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Ends a sequence.
    pub(crate) last: bool,
    pub(crate) header: Header,
    pub(crate) delivered: bool,
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
    /// The data were sent; the status waits for its time.
    DataSent(Reply),
    /// Status was sent. Such a task is kept until the status is acknowledged.
    Answered(Reply),
}

/// Answers that lie or come late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Deviation {
    pub(crate) delay_execution: Duration,
    pub(crate) delay_answer: Duration,
    pub(crate) delay_status: Duration,
    pub(crate) hang: bool,
    pub(crate) hang_after: bool,
    pub(crate) withhold_r2t: bool,
    pub(crate) r2t_beyond: u32,
    pub(crate) data_beyond: u32,
    pub(crate) data_short: Option<u32>,
    pub(crate) response: Option<u8>,
    pub(crate) qualifier: u16,
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
    /// The next R2TSN or DataSN; both share one sequence (RFC 7143 §4.2.2.4).
    pub(crate) input_sn: u32,
    /// Bytes that came, and that count.
    pub(crate) received: Ranges,
    /// Requests for data that others have replaced. What still comes for them is taken.
    pub(crate) replaced: BTreeMap<u32, Burst>,
    /// How often the target has asked again for data that did not come.
    pub(crate) asked_again: u32,
    /// Data-In not acknowledged by DataACK.
    pub(crate) sent: Vec<SentData>,
    /// Count of Data-In of this task.
    pub(crate) data_ins: u32,
    /// First DataSN not acknowledged (RFC 7143 §11.5.6).
    pub(crate) data_acked: u32,
    /// Transfer tags of Data-In with the A bit, and the DataSN after each.
    pub(crate) ack_tags: BTreeMap<u32, u32>,
    /// A function is about to end it.
    pub(crate) ending: bool,
    /// The time of its answer came while it had no connection.
    pub(crate) due: bool,
    /// What the device would have moved against what was expected.
    pub(crate) residual: Residual,
    /// The same for the data of a bidirectional command that were read.
    pub(crate) read_residual: Residual,
    /// Tag of the last R-Data SNACK, or 0.
    pub(crate) snack_tag: u32,
    /// Longest segment of the initiator when the data were sent.
    pub(crate) sent_segment: usize,
    pub(crate) deviation: Deviation,
}

impl Task {
    pub(crate) fn new(
        id: u64,
        connection: ConnectionId,
        command: ScsiCommand,
        execution: Execution,
    ) -> Self {
        Self {
            id,
            connection,
            command,
            execution,
            progress: Progress::Collecting,
            wanted: 0,
            device_bytes: 0,
            early: None,
            unsolicited: None,
            r2ts: BTreeMap::new(),
            planned: VecDeque::new(),
            input_sn: 0,
            received: Ranges::default(),
            replaced: BTreeMap::new(),
            asked_again: 0,
            sent: Vec::new(),
            data_ins: 0,
            data_acked: 0,
            ack_tags: BTreeMap::new(),
            ending: false,
            due: false,
            residual: Residual::None,
            read_residual: Residual::None,
            snack_tag: 0,
            sent_segment: 0,
            deviation: Deviation::default(),
        }
    }

    /// The next number of the sequence that R2T and Data-In share.
    pub(crate) fn next_input_sn(&mut self) -> u32 {
        let sn = self.input_sn;
        self.input_sn = sn.wrapping_add(1);
        sn
    }

    /// What the device answered, once it has.
    pub(crate) fn reply(&self) -> Option<&Reply> {
        match &self.progress {
            Progress::Executed(reply) | Progress::DataSent(reply) | Progress::Answered(reply) => {
                Some(reply)
            }
            Progress::Collecting | Progress::Waiting => None,
        }
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.reply().map_or(0, |reply| reply.data.len())
    }

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
        self.received.add(offset, low32(end));
    }

    /// Asks again for what of a burst did not come.
    pub(crate) fn plan_missing(&mut self, burst: &Burst, burst_bytes: u32) -> usize {
        let end = burst.end.min(self.wanted);
        let missing = self.received.missing(burst.start, end.max(burst.start));
        let mut again = VecDeque::new();
        for (start, end) in missing {
            again.extend(plan(start, end, burst_bytes));
        }
        let count = again.len();
        again.append(&mut self.planned);
        self.planned = again;
        count
    }

    /// Whether the initiator owes data that were asked for or announced.
    pub(crate) fn awaits_data(&self) -> bool {
        self.unsolicited.is_some() || !self.r2ts.is_empty()
    }

    pub(crate) fn all_data_here(&self) -> bool {
        self.unsolicited.is_none() && self.r2ts.is_empty() && self.planned.is_empty()
    }
}

/// Cuts what is to be solicited into bursts.
pub(crate) fn plan(from: u32, to: u32, burst: u32) -> VecDeque<(u32, u32)> {
    let mut out = VecDeque::new();
    let mut at = from;
    while at < to {
        let end = at.saturating_add(burst.max(512)).min(to);
        out.push_back((at, end));
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_cover_the_rest() {
        assert_eq!(plan(100, 2100, 1000), [(100, 1100), (1100, 2100)]);
        assert!(plan(5, 5, 1000).is_empty());
    }
}
