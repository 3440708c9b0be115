//! A session: command numbering, tasks, pending unit attentions (RFC 7143 §4.2.2.1, §4.4.3.1).
//!
//! Invariants: ExpCmdSN only grows; MaxCmdSN never goes back (in serial order); a task tag names one task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ConnectionId;
use crate::disk::inquiry::Entrance;
use crate::disk::sense::Sense;
use crate::fence::Fence;
use crate::full_feature::Arrival;
use crate::group::Group;
use crate::login::operational::Parameters;
use crate::lost::Lost;
use crate::numbering::Numbers;
use crate::task::Task;
use crate::wire::framer::RawPdu;
use crate::wire::serial_before;

/// What makes two sessions the same I_T nexus (RFC 7143 §4.4.3.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nexus {
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    pub(crate) group: u16,
}

impl Nexus {
    /// The initiator port in the form of a TransportID (SPC-4 §7.6.4.6).
    pub(crate) fn port_name(&self) -> String {
        let isid: String = self.isid.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{},i,0x{isid}", self.initiator)
    }
}

/// A non-immediate request that came before its predecessors.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) connection: ConnectionId,
    pub(crate) pdu: RawPdu,
    /// Its unsolicited data that came meanwhile.
    pub(crate) data: Vec<(RawPdu, Arrival)>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) nexus: Nexus,
    pub(crate) discovery: bool,
    pub(crate) entrance: Entrance,
    pub(crate) parameters: Parameters,
    pub(crate) connections: Vec<ConnectionId>,
    pub(crate) exp_cmd_sn: u32,
    pub(crate) max_cmd_sn: u32,
    pub(crate) window_closed: bool,
    pub(crate) held: BTreeMap<u32, Held>,
    pub(crate) numbers: Numbers,
    /// Connections that ever joined.
    pub(crate) joined: u32,
    /// A connection was lost: its last PDUs may have been lost with it.
    pub(crate) shaken: bool,
    /// Connections that ended and whose tasks wait to be continued elsewhere.
    pub(crate) lost: BTreeMap<ConnectionId, Lost>,
    pub(crate) tasks: BTreeMap<u32, Task>,
    /// Tags of tasks that ended lately: data for them may still be on its way.
    pub(crate) ended: VecDeque<u32>,
    /// Tags of tasks whose command came again and was ignored: so are the unsolicited data that came with it.
    pub(crate) repeated: BTreeSet<u32>,
    /// Those of them that the target aborted.
    pub(crate) aborted: VecDeque<u32>,
    /// Transfer tags of Data-In whose DataACK may still come, to no use.
    pub(crate) dead_tags: VecDeque<u32>,
    /// CIDs that ever were in the session, and the last connection with each.
    pub(crate) cids: BTreeMap<u16, ConnectionId>,
    /// Functions that wait to end several tasks.
    pub(crate) groups: Vec<Group>,
    /// Tasks ended by FastAbort, and the connection on which no more data may come for them.
    pub(crate) fast_aborted: BTreeMap<u32, ConnectionId>,
    pub(crate) fence: Option<Fence>,
    /// Executed tasks that wait for the fence.
    pub(crate) fenced: Vec<u64>,
    pub(crate) next_ttt: u32,
    pub(crate) attentions: BTreeMap<usize, VecDeque<Sense>>,
    /// Raised each time the session loses its last connection; tells an old expiry timer from a new one.
    pub(crate) failures: u64,
}

const ENDED_KEPT: usize = 1024;

impl Session {
    /// Opens the window as far as free task slots allow.
    pub(crate) fn advance_window(&mut self, depth: u32) {
        if self.window_closed {
            return;
        }
        let active = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let free = depth.saturating_sub(active);
        let wanted = self.exp_cmd_sn.wrapping_add(free).wrapping_sub(1);
        if serial_before(self.max_cmd_sn, wanted) {
            self.max_cmd_sn = wanted;
        }
    }

    pub(crate) fn in_window(&self, cmd_sn: u32) -> bool {
        !serial_before(cmd_sn, self.exp_cmd_sn) && !serial_before(self.max_cmd_sn, cmd_sn)
    }

    /// A transfer tag never equal to the reserved one nor to one of the last four billion.
    pub(crate) fn transfer_tag(&mut self) -> u32 {
        let tag = self.next_ttt;
        self.next_ttt = self.next_ttt.wrapping_add(1);
        if self.next_ttt == crate::wire::RESERVED_TAG {
            self.next_ttt = 0;
        }
        tag
    }

    pub(crate) fn end_task(&mut self, itt: u32) -> Option<Task> {
        let task = self.tasks.remove(&itt)?;
        self.note_ended(itt);
        Some(task)
    }

    /// Data for this tag may still be on their way, without fault of the initiator.
    pub(crate) fn note_ended(&mut self, itt: u32) {
        if self.ended.len() >= ENDED_KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back(itt);
        self.repeated.remove(&itt);
    }

    /// Ends a task that will never be answered.
    pub(crate) fn abort(&mut self, itt: u32) -> Option<Task> {
        let task = self.end_task(itt)?;
        if self.aborted.len() >= ENDED_KEPT {
            self.aborted.pop_front();
        }
        self.aborted.push_back(itt);
        self.retire_tags(task.ack_tags.keys().copied());
        Some(task)
    }

    /// Transfer tags of Data-In that the target itself has made void.
    pub(crate) fn retire_tags(&mut self, tags: impl Iterator<Item = u32>) {
        self.dead_tags.extend(tags);
        while self.dead_tags.len() > ENDED_KEPT {
            self.dead_tags.pop_front();
        }
    }

    /// Whether the tag is that of a task management function in progress.
    pub(crate) fn manages(&self, itt: u32) -> bool {
        self.groups.iter().any(|group| group.request.itt == itt)
    }

    /// Whether the target ended the task of this tag without an answer.
    pub(crate) fn aborted(&self, itt: u32) -> bool {
        self.aborted.contains(&itt)
    }

    /// Whether PDUs for this tag may come without fault of the initiator.
    pub(crate) fn excused(&self, itt: u32) -> bool {
        self.ended.contains(&itt)
    }

    pub(crate) fn attention(&mut self, lun: usize, sense: Sense) {
        let queue = self.attentions.entry(lun).or_default();
        if !queue.contains(&sense) {
            queue.push_back(sense);
        }
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Session {
    Session {
        nexus: Nexus {
            initiator: "iqn.2026-01.x:i".into(),
            isid: [0; 6],
            group: 1,
        },
        discovery: false,
        entrance: Entrance::default(),
        parameters: Parameters::default(),
        connections: Vec::new(),
        exp_cmd_sn: 0xffff_fffe,
        max_cmd_sn: 0xffff_fffd,
        window_closed: false,
        held: BTreeMap::new(),
        numbers: Numbers::default(),
        joined: 1,
        shaken: false,
        lost: BTreeMap::new(),
        tasks: BTreeMap::new(),
        ended: VecDeque::new(),
        repeated: BTreeSet::new(),
        aborted: VecDeque::new(),
        dead_tags: VecDeque::new(),
        cids: BTreeMap::new(),
        groups: Vec::new(),
        fast_aborted: BTreeMap::new(),
        fence: None,
        fenced: Vec::new(),
        next_ttt: 0xffff_fffe,
        attentions: BTreeMap::new(),
        failures: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_wraps_and_never_shrinks() {
        let mut session = sample();
        session.advance_window(4);
        assert_eq!(session.max_cmd_sn, 1);
        assert!(session.in_window(0xffff_ffff) && session.in_window(1) && !session.in_window(2));
        session.advance_window(1);
        assert_eq!(session.max_cmd_sn, 1);
        assert_eq!(session.transfer_tag(), 0xffff_fffe);
        assert_eq!(session.transfer_tag(), 0);
    }
}
