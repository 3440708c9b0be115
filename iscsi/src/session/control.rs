//! PDUs that are not commands: pings, task management, logout. All are immediate, so a closed
//! command window does not stop them (RFC 7143 §4.2.2.1), but for one that makes up for a CmdSN
//! used before.

use std::time::Instant;

use bytes::Bytes;
use scsi::Lun;

use super::Session;
use super::state::ConnectionEvent;
use super::task::{CONTROL_INDEX, TaskKey};
use crate::name::Cid;
use crate::serial::{CmdSn, DataSn, StatSn};
use crate::wire::transmit::Transmit;
use crate::wire::{
    Itt, Lengths, LogoutReason, LogoutRequest, NopOut, SnackRequest, TaskFunction, TaskRequest, Ttt,
};

/// A control PDU to be sent.
#[derive(Debug)]
pub(super) enum Control {
    /// NOP-Out that answers a NOP-In, with its data.
    Reply { lun: Lun, ttt: Ttt, data: Bytes },
    /// NOP-Out that wants an answer.
    Ping { itt: Itt },
    /// NOP-Out that is not immediate, with the CmdSN of a request that was rejected
    /// (RFC 7143 §7.3).
    Plug { itt: Itt, cmd_sn: CmdSn },
    /// NOP-Out that acknowledges StatSN and wants no answer.
    Acknowledge { lun: Lun },
    /// ABORT TASK.
    Abort { itt: Itt, key: TaskKey },
    /// LOGICAL UNIT RESET.
    Reset { itt: Itt, lun: Lun },
    /// A task management function that somebody asked for.
    Manage { itt: Itt },
    /// Logout: of the session, of this connection, or of the lost connection `cid`. Nothing
    /// follows the first two.
    Logout {
        itt: Itt,
        reason: LogoutReason,
        cid: Cid,
        /// Of the connection to be closed, when that is another one.
        exp_stat_sn: Option<StatSn>,
    },
    /// A command once more, as it was (RFC 7143 §7.2.1).
    Retry { key: TaskKey },
    /// NOP-Out whose answer somebody waits for.
    Echo { itt: Itt },
    /// NOP-Out that asks whether something got lost.
    Probe { itt: Itt },
    /// SNACK Request; DataACK with the task whose data it acknowledges.
    Snack {
        snack: SnackRequest,
        task: Option<TaskKey>,
    },
    /// TASK REASSIGN.
    Reassign { itt: Itt, key: TaskKey },
}

/// Why a task is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    /// It had no answer in time: the ladder goes on when the abort fails.
    Overdue,
    /// Its caller has gone: nobody is in a hurry.
    Abandoned,
    /// Its command was rejected: nothing of it will come, but its CmdSN is missing at the target
    /// (RFC 7143 §7.3).
    Rejected,
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

/// What the session keeps of control PDUs, on whatever connection they went.
#[derive(Debug, Default)]
pub(super) struct Controls {
    last: u16,
    pub(super) asked: Vec<(Itt, Asked, Instant)>,
    abandoned: usize,
    pub(super) echo: Echo,
}

/// Signs of life that callers have asked for; one question serves all who ask meanwhile.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// Under way.
    pub(super) question: Option<(Cid, Itt)>,
    /// Questions so far.
    pub(super) asked: u64,
    /// The newest one that was answered.
    pub(super) answered: u64,
}

impl Controls {
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

    /// Whether a reset that ends the tasks of `lun` is sent and not answered.
    pub(super) fn will_end(&self, lun: Lun) -> bool {
        self.resets_sent().any(|reset| reset == lun)
    }

    /// The logical units whose reset is sent and not answered.
    pub(super) fn resets_sent(&self) -> impl Iterator<Item = Lun> {
        self.asked.iter().filter_map(|(_, asked, _)| match asked {
            Asked::Reset {
                lun,
                cmd_sn: Some(_),
            } => Some(*lun),
            Asked::Reset { cmd_sn: None, .. } | Asked::Abort { .. } => None,
        })
    }

    /// Whether an abort by the ladder of a task is under way.
    pub(super) fn is_aborting(&self, key: TaskKey) -> bool {
        let of_task =
            |asked: &Asked| matches!(asked, Asked::Abort { key: other, .. } if *other == key);
        self.asked.iter().any(|(_, asked, _)| of_task(asked))
    }

    pub(super) fn ending_due(&self) -> Option<Instant> {
        self.asked.iter().map(|(_, _, deadline)| *deadline).min()
    }

    /// A new life: nothing is outstanding.
    pub(super) fn reset(&mut self) {
        self.asked.clear();
        self.echo.question = None;
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
    /// Queues a control PDU on a connection.
    pub(super) fn push_control(&mut self, cid: Cid, control: Control) {
        if let Some(connection) = self.connections.get_mut(cid) {
            connection.controls.push_back(control);
        }
    }

    /// Sends what is queued on a connection.
    pub(super) fn transmit_controls(&mut self, now: Instant, cid: Cid, out: &mut Transmit) {
        while !out.is_full() {
            let connection = self.connections.get_mut(cid);
            let Some(connection) = connection else { return };
            let Some(control) = connection.controls.pop_front() else {
                return;
            };
            if let Control::Ping { itt } = control {
                connection.ping = Some(Ping { itt, sent: now });
            } else if let Control::Logout {
                exp_stat_sn: None, ..
            } = control
            {
                connection.controls.clear();
                connection.happened(ConnectionEvent::LogoutSent);
            }
            if let Control::Probe { itt } = control {
                connection.recovery.probe_sent(itt, self.window.peek());
            }
            let exp_stat_sn = connection.exp_stat_sn;
            if let Control::Retry { key } = control {
                self.transmit_retry(key, cid, exp_stat_sn, out);
            } else if let Control::Snack { snack, task } = control {
                self.transmit_snack(cid, snack, task, out);
            } else {
                self.transmit_control(cid, control, exp_stat_sn, out);
            }
        }
    }

    fn transmit_control(&mut self, cid: Cid, control: Control, ack: StatSn, out: &mut Transmit) {
        match control {
            Control::Reply { lun, ttt, data } => {
                self.nop_out(lun, Itt::RESERVED, ttt, ack, data, out);
            }
            Control::Ping { itt } | Control::Probe { itt } | Control::Echo { itt } => {
                self.stats.pings += 1;
                self.nop_out(Lun::ZERO, itt, Ttt::RESERVED, ack, Bytes::new(), out);
            }
            Control::Plug { itt, cmd_sn } => {
                let pdu = NopOut {
                    immediate: false,
                    lun: Lun::ZERO,
                    itt,
                    ttt: Ttt::RESERVED,
                    cmd_sn,
                    exp_stat_sn: ack,
                };
                out.push(&pdu.encode(Lengths::default()), &[], Bytes::new());
            }
            Control::Acknowledge { lun } => {
                self.nop_out(lun, Itt::RESERVED, Ttt::RESERVED, ack, Bytes::new(), out);
            }
            Control::Abort { itt, key } => {
                let Some(task) = self.tasks.get(key) else {
                    return;
                };
                self.stats.aborts += 1;
                let request = TaskRequest {
                    referenced: key.itt(),
                    ref_cmd_sn: task.cmd_sn,
                    ..self.task_request(TaskFunction::AbortTask, task.lun, itt, ack)
                };
                out.push(&request.encode(Lengths::default()), &[], Bytes::new());
            }
            Control::Reset { itt, lun } => self.transmit_reset(cid, itt, lun, ack, out),
            Control::Manage { itt } => self.transmit_function(itt, ack, out),
            // They need their connection.
            Control::Retry { .. } | Control::Snack { .. } => {}
            Control::Reassign { itt, key } => {
                let Some(task) = self.tasks.get(key) else {
                    return;
                };
                let function = TaskFunction::TaskReassign;
                let request = TaskRequest {
                    referenced: key.itt(),
                    exp_data_sn: task.exp_data_sn(),
                    // The LUN is reserved (RFC 7143 §11.5.3).
                    ..self.task_request(function, Lun::ZERO, itt, ack)
                };
                out.push(&request.encode(Lengths::default()), &[], Bytes::new());
            }
            Control::Logout {
                itt,
                reason,
                cid,
                exp_stat_sn,
            } => {
                let pdu = LogoutRequest {
                    immediate: true,
                    reason,
                    itt,
                    cid,
                    cmd_sn: self.window.peek(),
                    exp_stat_sn: exp_stat_sn.unwrap_or(ack),
                };
                out.push(&pdu.encode(Lengths::default()), &[], Bytes::new());
            }
        }
    }

    /// LOGICAL UNIT RESET: the tasks before it are affected.
    fn transmit_reset(&mut self, cid: Cid, itt: Itt, lun: Lun, ack: StatSn, out: &mut Transmit) {
        self.stats.lu_resets += 1;
        let here = self.window.peek();
        for (tag, asked, _) in &mut self.controls.asked {
            if let (true, Asked::Reset { cmd_sn, .. }) = (*tag == itt, asked) {
                *cmd_sn = Some(here);
            }
        }
        let request = self.task_request(TaskFunction::LogicalUnitReset, lun, itt, ack);
        out.push(&request.encode(Lengths::default()), &[], Bytes::new());
        self.unit_function_sent(Some(lun), cid, here);
    }

    fn nop_out(
        &self,
        lun: Lun,
        itt: Itt,
        ttt: Ttt,
        exp_stat_sn: StatSn,
        data: Bytes,
        out: &mut Transmit,
    ) {
        let pdu = NopOut {
            immediate: true,
            lun,
            itt,
            ttt,
            cmd_sn: self.window.peek(),
            exp_stat_sn,
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

    /// An immediate request that names no task.
    pub(super) fn task_request(
        &self,
        function: TaskFunction,
        lun: Lun,
        itt: Itt,
        exp_stat_sn: StatSn,
    ) -> TaskRequest {
        TaskRequest {
            immediate: true,
            function,
            lun,
            itt,
            referenced: Itt::RESERVED,
            cmd_sn: self.window.peek(),
            exp_stat_sn,
            ref_cmd_sn: CmdSn(0),
            exp_data_sn: DataSn(0),
        }
    }
}
