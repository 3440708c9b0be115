//! SNACK Requests: asking for PDUs again, and acknowledging data (RFC 7143 §11.16).

use bytes::Bytes;

use super::gaps::Run;
use crate::name::Cid;
use crate::serial::StatSn;
use crate::session::Session;
use crate::session::control::Control;
use crate::wire::transmit::Transmit;
use crate::wire::{Lengths, SnackKind, SnackRequest};

/// DataACKs of a connection that may wait at once. A target that asks for more without reading
/// does not get all of them: they free its memory, nothing of ours depends on them.
const ACKS_MAX: usize = 64;

impl Session {
    /// Queues a SNACK.
    pub(super) fn push_snack(&mut self, cid: Cid, snack: SnackRequest) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let is_ack = |control: &Control| matches!(control, Control::Snack(snack) if snack.kind == SnackKind::DataAck);
        if snack.kind == SnackKind::DataAck
            && connection.controls.iter().filter(|it| is_ack(it)).count() >= ACKS_MAX
            && let Some(oldest) = connection.controls.iter().position(is_ack)
        {
            connection.controls.remove(oldest);
        }
        connection.controls.push_back(Control::Snack(snack));
    }

    /// Sends a SNACK. It is not numbered, so the command window does not stop it.
    pub(in crate::session) fn transmit_snack(
        &mut self,
        snack: SnackRequest,
        exp_stat_sn: StatSn,
        out: &mut Transmit,
    ) {
        match snack.kind {
            SnackKind::DataOrR2t => self.stats.data_snacks += 1,
            SnackKind::Status => self.stats.status_snacks += 1,
            SnackKind::DataAck => self.stats.data_acks += 1,
            SnackKind::RData => self.stats.r_data_snacks += 1,
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
