//! SNACK Requests: asking for PDUs again, and acknowledging data (RFC 7143 §11.16).

use bytes::Bytes;

use super::gaps::Run;
use crate::name::Cid;
use crate::serial::StatSn;
use crate::session::Session;
use crate::session::control::Control;
use crate::session::task::{Stage, TaskKey};
use crate::wire::transmit::Transmit;
use crate::wire::{Lengths, SnackKind, SnackRequest};

/// DataACKs of a connection that may wait at once. A target that asks for more without reading
/// does not get all of them: they free its memory, nothing of ours depends on them.
const ACKS_MAX: usize = 64;

impl Session {
    /// Queues a SNACK that asks for something.
    pub(super) fn push_snack(&mut self, cid: Cid, snack: SnackRequest) {
        self.push_control(cid, Control::Snack { snack, task: None });
    }

    /// Queues a DataACK for data of `key`.
    pub(super) fn push_data_ack(&mut self, cid: Cid, key: TaskKey, snack: SnackRequest) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let is_ack = |control: &Control| matches!(control, Control::Snack { task: Some(_), .. });
        if connection.controls.iter().filter(|it| is_ack(it)).count() >= ACKS_MAX
            && let Some(oldest) = connection.controls.iter().position(is_ack)
        {
            connection.controls.remove(oldest);
        }
        let task = Some(key);
        connection
            .controls
            .push_back(Control::Snack { snack, task });
    }

    /// Sends a SNACK, unless what it is about has settled since it was queued: with the ExpStatSN
    /// that it carries, it would come too late (RFC 7143 §11.7.2, §11.16.1). It is not numbered, so
    /// the command window does not stop it.
    pub(in crate::session) fn transmit_snack(
        &mut self,
        cid: Cid,
        mut snack: SnackRequest,
        task: Option<TaskKey>,
        out: &mut Transmit,
    ) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let exp_stat_sn = connection.exp_stat_sn;
        let of_task = |key| self.tasks.get(key).filter(|task| task.stage == Stage::Sent);
        match snack.kind {
            SnackKind::DataAck => {
                if task.and_then(of_task).is_none() {
                    // Whatever goes next acknowledges the status, and by that the data.
                    return self.acknowledge_by_status(cid);
                }
                self.stats.data_acks += 1;
            }
            SnackKind::Status => {
                let first = StatSn(snack.beg_run);
                if first.precedes(exp_stat_sn) {
                    let come = exp_stat_sn.since(first);
                    snack.beg_run = exp_stat_sn.0;
                    snack.run_length = snack.run_length.saturating_sub(come);
                }
                if snack.run_length == 0 {
                    return;
                }
                self.stats.status_snacks += 1;
            }
            SnackKind::DataOrR2t | SnackKind::RData => {
                let key = TaskKey::from_itt(snack.itt);
                let Some(task) = of_task(key) else {
                    return;
                };
                let recovery = task.recovery.as_deref();
                if snack.kind == SnackKind::DataOrR2t
                    && task.reads()
                    && let Some(recovery) = recovery.filter(|it| it.resegment)
                {
                    // The segment length has changed while it waited.
                    if !recovery.by_offset() {
                        self.ask_for_all_data(key);
                    }
                    return;
                }
                if task.reads() && connection.text.is_resegmenting() {
                    // What to ask for is not known before the declaration is answered
                    // (RFC 7143 §11.16.3); what is missing then is asked for again.
                    return;
                }
                let to = snack.beg_run.saturating_add(snack.run_length);
                if snack.kind == SnackKind::RData {
                    self.stats.r_data_snacks += 1;
                } else if task.misses_any(snack.beg_run, to) {
                    self.stats.data_snacks += 1;
                } else {
                    return;
                }
            }
        }
        let pdu = SnackRequest {
            exp_stat_sn,
            ..snack
        };
        out.push(&pdu.encode(Lengths::default()), &[], Bytes::new());
    }
}

impl Run {
    /// The SNACK for these Data-In or R2T PDUs of a task.
    pub(super) fn snack(self, itt: crate::wire::Itt) -> SnackRequest {
        SnackRequest::data_or_r2t(itt, self.from, self.length())
    }
}
