//! Auto contingent allegiance (SAM-5 §5.9): after a CHECK CONDITION of a command with NACA set, only ACA tasks of the
//! faulted nexus pass until CLEAR ACA.
//!
//! Off unless [`crate::Config::aca`] is set; then INQUIRY says NORMACA. One condition per logical unit.

use crate::disk::device::{Cdb, Reply, status};
use crate::disk::sense::Sense;
use crate::target::Target;

const ACA_ATTRIBUTE: u8 = 4;

/// NACA of a CDB's CONTROL byte (SAM-5 §5.2).
pub(crate) fn naca(cdb: &Cdb) -> bool {
    let control = match cdb[0] >> 5 {
        0 => cdb[5],
        1 | 2 => cdb[9],
        5 => cdb[11],
        4 => cdb[15],
        // Variable length CDBs have it in byte 1.
        _ => cdb[1],
    };
    control & 0x04 != 0
}

impl Target {
    /// The end of a command that an ACA condition, or its absence, keeps out.
    pub(crate) fn aca_reply(
        &self,
        tsih: u16,
        index: usize,
        attribute: u8,
        cdb: &Cdb,
    ) -> Option<Reply> {
        if !self.config.aca {
            return None;
        }
        let ended = |status: u8| {
            Some(Reply {
                status,
                ..Reply::default()
            })
        };
        match self.faulted.get(&index) {
            None if attribute == ACA_ATTRIBUTE => Some(Reply::check(Sense::INVALID_MESSAGE)),
            None => None,
            Some(faulted) if *faulted == tsih => {
                if attribute == ACA_ATTRIBUTE {
                    None
                } else {
                    ended(status::ACA_ACTIVE)
                }
            }
            Some(_) if naca(cdb) => ended(status::ACA_ACTIVE),
            Some(_) => ended(status::BUSY),
        }
    }

    /// Says NORMACA in standard INQUIRY data.
    pub(crate) fn mark_inquiry(&self, cdb: &Cdb, reply: &mut Reply) {
        let standard = cdb[0] == 0x12 && cdb[1] & 1 == 0;
        if let Some(flags) = reply.data.get_mut(3)
            && self.config.aca
            && standard
        {
            *flags |= 0x20;
        }
    }

    /// A command ended in CHECK CONDITION.
    pub(crate) fn establish_aca(&mut self, tsih: u16, index: Option<usize>, cdb: &Cdb) {
        if let Some(index) = index.filter(|_| self.config.aca && naca(cdb)) {
            self.faulted.entry(index).or_insert(tsih);
        }
    }

    /// CLEAR ACA; without a condition of this nexus it changes nothing.
    pub(crate) fn clear_aca(&mut self, index: Option<usize>, tsih: u16) {
        if let Some(index) = index
            && self.faulted.get(&index) == Some(&tsih)
        {
            self.faulted.remove(&index);
        }
    }
}
