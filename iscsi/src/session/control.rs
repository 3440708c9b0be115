//! PDUs that are not commands: pings, task management, logout. All are immediate, so a closed
//! command window does not stop them (RFC 7143 §4.2.2.1).

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use scsi::Lun;

use super::Session;
use super::task::{CONTROL_INDEX, TaskKey};
use crate::name::Cid;
use crate::serial::{CmdSn, DataSn};
use crate::wire::transmit::Transmit;
use crate::wire::{
    Itt, Lengths, LogoutReason, LogoutRequest, NopOut, TaskFunction, TaskRequest, Ttt,
};

/// Answers to a target's pings that may wait at once; a target that asks faster than it reads
/// gets only the newest answered.
const REPLIES_MAX: usize = 32;

/// A control PDU to be sent.
#[derive(Debug)]
pub(super) enum Control {
    /// NOP-Out that answers a NOP-In, with its data.
    Reply { lun: Lun, ttt: Ttt, data: Bytes },
    /// NOP-Out that wants an answer.
    Ping { itt: Itt },
    /// NOP-Out that acknowledges StatSN and wants no answer.
    Acknowledge { lun: Lun },
    /// ABORT TASK.
    Abort { itt: Itt, key: TaskKey },
    /// LOGICAL UNIT RESET.
    Reset { itt: Itt, lun: Lun },
    /// Logout of the session; nothing follows it.
    Logout { itt: Itt },
}

/// Why a task is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    /// It had no answer in time: the ladder goes on when the abort fails.
    Overdue,
    /// Its caller has gone: nobody is in a hurry.
    Abandoned,
}

/// A task management request without an answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Abort {
        key: TaskKey,
        why: Abort,
    },
    /// `cmd_sn`: the tasks before it are affected; `None` until the request is encoded.
    Reset {
        lun: Lun,
        cmd_sn: Option<CmdSn>,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ping {
    pub(super) itt: Itt,
    pub(super) sent: Instant,
}

/// Control PDUs queued and outstanding.
#[derive(Debug, Default)]
pub(super) struct Controls {
    queue: VecDeque<Control>,
    last: u16,
    pub(super) ping: Option<Ping>,
    pub(super) asked: Vec<(Itt, Asked, Instant)>,
    abandoned: usize,
    /// The Logout has been encoded: nothing may follow it (RFC 7143 §11.14).
    logged_out: bool,
}

impl Controls {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the Logout has been encoded.
    pub(super) fn is_logged_out(&self) -> bool {
        self.logged_out
    }

    pub(super) fn push(&mut self, control: Control) {
        self.queue.push_back(control);
    }

    pub(super) fn push_reply(&mut self, control: Control) {
        let waiting = |control: &Control| matches!(control, Control::Reply { .. });
        if self.queue.iter().filter(|control| waiting(control)).count() >= REPLIES_MAX
            && let Some(oldest) = self.queue.iter().position(waiting)
        {
            self.queue.remove(oldest);
        }
        self.queue.push_back(control);
    }

    /// Takes back a ping that no socket has taken; the next one asks the same.
    pub(super) fn forget_ping(&mut self) {
        self.queue
            .retain(|control| !matches!(control, Control::Ping { .. }));
    }

    /// A tag that no task has and that no other control PDU has had for a long time.
    pub(super) fn tag(&mut self) -> Itt {
        self.last = self.last.wrapping_add(1);
        TaskKey {
            index: CONTROL_INDEX,
            generation: self.last,
        }
        .itt()
    }

    /// Whether the tag is one of [`Controls::tag`]'s.
    pub(super) fn was_used(&self, itt: Itt) -> bool {
        TaskKey::from_itt(itt).index == CONTROL_INDEX && self.last > 0
    }

    pub(super) fn ending_due(&self) -> Option<Instant> {
        self.asked.iter().map(|(_, _, deadline)| *deadline).min()
    }

    /// A new connection: nothing is queued or outstanding.
    pub(super) fn reset(&mut self) {
        self.queue.clear();
        self.ping = None;
        self.asked.clear();
        self.logged_out = false;
        // What a life left behind is not settled one by one any more, but fenced.
        self.abandoned = 0;
    }

    pub(super) fn note_abandoned(&mut self, tasks: usize) {
        self.abandoned += tasks;
    }

    pub(super) fn note_settled(&mut self) {
        self.abandoned = self.abandoned.saturating_sub(1);
    }

    pub(super) fn unsettled(&self) -> usize {
        self.abandoned
    }
}

impl Session {
    /// Sends what is queued.
    pub(super) fn transmit_controls(&mut self, now: Instant, out: &mut Transmit) {
        while !out.is_full() {
            let Some(control) = self.controls.queue.pop_front() else {
                return;
            };
            self.transmit_control(now, control, out);
        }
    }

    fn transmit_control(&mut self, now: Instant, control: Control, out: &mut Transmit) {
        match control {
            Control::Reply { lun, ttt, data } => self.nop_out(lun, Itt::RESERVED, ttt, data, out),
            Control::Ping { itt } => {
                self.stats.pings += 1;
                self.controls.ping = Some(Ping { itt, sent: now });
                self.nop_out(Lun::ZERO, itt, Ttt::RESERVED, Bytes::new(), out);
            }
            Control::Acknowledge { lun } => {
                self.nop_out(lun, Itt::RESERVED, Ttt::RESERVED, Bytes::new(), out);
            }
            Control::Abort { itt, key } => {
                let Some(task) = self.tasks.get(key) else {
                    return;
                };
                self.stats.aborts += 1;
                let (lun, cmd_sn) = (task.lun, task.cmd_sn);
                self.task_request(TaskFunction::AbortTask, lun, itt, key.itt(), cmd_sn, out);
            }
            Control::Reset { itt, lun } => {
                self.stats.lu_resets += 1;
                let function = TaskFunction::LogicalUnitReset;
                let here = self.window.peek();
                for (tag, asked, _) in &mut self.controls.asked {
                    if let (true, Asked::Reset { cmd_sn, .. }) = (*tag == itt, asked) {
                        *cmd_sn = Some(here);
                    }
                }
                self.task_request(function, lun, itt, Itt::RESERVED, CmdSn(0), out);
            }
            Control::Logout { itt } => {
                let pdu = LogoutRequest {
                    immediate: true,
                    reason: LogoutReason::CloseSession,
                    itt,
                    cid: Cid(0),
                    cmd_sn: self.window.peek(),
                    exp_stat_sn: self.connection.exp_stat_sn,
                };
                out.push(&pdu.encode(Lengths::default()), &[], Bytes::new());
                self.controls.queue.clear();
                self.controls.logged_out = true;
            }
        }
    }

    fn nop_out(&self, lun: Lun, itt: Itt, ttt: Ttt, data: Bytes, out: &mut Transmit) {
        let pdu = NopOut {
            immediate: true,
            lun,
            itt,
            ttt,
            cmd_sn: self.window.peek(),
            exp_stat_sn: self.connection.exp_stat_sn,
        };
        let data_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        out.push(
            &pdu.encode(Lengths {
                ahs_bytes: 0,
                data_bytes,
            }),
            &[],
            data,
        );
    }

    fn task_request(
        &self,
        function: TaskFunction,
        lun: Lun,
        itt: Itt,
        referenced: Itt,
        ref_cmd_sn: CmdSn,
        out: &mut Transmit,
    ) {
        let pdu = TaskRequest {
            immediate: true,
            function,
            lun,
            itt,
            referenced,
            cmd_sn: self.window.peek(),
            exp_stat_sn: self.connection.exp_stat_sn,
            ref_cmd_sn,
            exp_data_sn: DataSn(0),
        };
        out.push(&pdu.encode(Lengths::default()), &[], Bytes::new());
    }
}
