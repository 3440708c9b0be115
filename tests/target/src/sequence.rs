//! Sequences of Data-Out that do not come (RFC 7143 §7.1.4.1): the R2T is sent again, or another one asks for the rest.
//!
//! Only at ErrorRecoveryLevel 1 and above. A request that was replaced stays answerable: data that were merely slow
//! are taken.

use std::time::Instant;

use crate::connection::Numbering;
use crate::data_out::fail;
use crate::disk::sense::Sense;
use crate::target::{Target, Timer};
use crate::task::Burst;
use crate::wire::{RESERVED_TAG, response};

/// Attempts to get the data of one task.
const ATTEMPTS: u32 = 16;

impl Target {
    /// Waits for a sequence: the answer to an R2T, or unsolicited data (`None`).
    pub(crate) fn watch_sequence(&mut self, now: Instant, tsih: u16, itt: u32, ttt: Option<u32>) {
        let Some(session) = self.sessions.get(&tsih) else {
            return;
        };
        if session.parameters.error_recovery_level == 0 {
            return;
        }
        let (Some(task), Some(patience)) = (session.tasks.get(&itt), self.config.sequence_timeout)
        else {
            return;
        };
        let burst = match ttt {
            Some(ttt) => task.r2ts.get(&ttt).copied(),
            None => task.unsolicited,
        };
        if let Some(burst) = burst {
            let timer = Timer::Sequence {
                tsih,
                task: task.id,
                ttt,
                seen: burst.next_sn,
            };
            self.at(now + patience, timer);
        }
    }

    /// A sequence should have come by now.
    pub(crate) fn sequence_due(
        &mut self,
        now: Instant,
        tsih: u16,
        task_id: u64,
        ttt: Option<u32>,
        seen: u32,
    ) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let burst_bytes = session.parameters.max_burst_bytes;
        let live = &session.connections;
        let found = session.tasks.values_mut().find(|task| task.id == task_id);
        let Some(task) = found.filter(|task| live.contains(&task.connection)) else {
            return;
        };
        let itt = task.command.itt;
        let open = match ttt {
            Some(ttt) => task.r2ts.get_mut(&ttt),
            None => task.unsolicited.as_mut(),
        };
        let Some(burst) = open.filter(|_| task.early.is_none()) else {
            return;
        };
        if burst.next_sn != seen {
            self.watch_sequence(now, tsih, itt, ttt);
            return;
        }
        task.asked_again += 1;
        if task.asked_again > ATTEMPTS {
            fail(task, Sense::CRC_ERROR);
        } else if let Some(ttt) = ttt.filter(|_| burst.next_sn == 0 && burst.asked_again == 0) {
            burst.asked_again = 1;
            let (burst, lun, id) = (*burst, task.command.lun, task.connection);
            self.repeat_r2t(now, id, lun, itt, ttt, &burst);
            self.watch_sequence(now, tsih, itt, Some(ttt));
            return;
        } else {
            let burst = *burst;
            match ttt {
                Some(ttt) => {
                    task.r2ts.remove(&ttt);
                }
                None => task.unsolicited = None,
            }
            task.replaced.insert(ttt.unwrap_or(RESERVED_TAG), burst);
            let again = task.plan_missing(&burst, burst_bytes);
            self.recovery.recovery_r2ts += again as u64;
        }
        self.pump(now, tsih, itt);
    }

    /// Sends an R2T again as it was, with the current StatSN (RFC 7143 §11.16).
    pub(crate) fn repeat_r2t(
        &mut self,
        now: Instant,
        id: crate::ConnectionId,
        lun: u64,
        itt: u32,
        ttt: u32,
        burst: &Burst,
    ) {
        self.recovery.r2ts_resent += 1;
        let length = burst.end - burst.start;
        let header = response::r2t(lun, itt, ttt, burst.r2t_sn, burst.start, length);
        self.send(now, id, header, &[], Numbering::Next);
    }
}
