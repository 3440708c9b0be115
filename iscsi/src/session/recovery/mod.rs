//! Error recovery above level 0 (RFC 7143 §7).
//!
//! # Within a command and within a connection: level 1 (§7.1.4.1, §7.1.4.2)
//!
//! PDUs get lost although TCP loses nothing: whoever finds a digest wrong throws the PDU away. At
//! level 0 that ends the session. From level 1 on it is asked for again:
//!
//! - [`mod@reaction`]: which error asks for what, one table;
//! - `gaps`, `data`: Data-In and R2T that are missing, by DataSN, R2TSN and ExpDataSN; a status is
//!   held back until the data of its task are there;
//! - `resegment`: data cut anew after a change of our MaxRecvDataSegmentLength;
//! - `acknowledge`: DataACK;
//! - `held`, `status`: answers that are missing, by StatSN; later ones wait for their turn;
//! - `retry`: commands that never reached the target are sent again as they were;
//! - `tail`: NOP-Out where silence may mean that the last PDU of all was lost;
//! - `reject`: what the target refuses.
//!
//! Invariants: at level 0 nothing here is reached but by a compare; a task and a connection own
//! memory for recovery only while something of theirs is missing; everything kept is bounded; what
//! has been asked for too often, or for too long, is not asked for again: the connection is dropped,
//! and the next level acts.
//!
//! # Of a connection: level 2 (§7.1.4.3)
//!
//! - `connection`: a connection is lost, the session lives on;
//! - `reassign`: its tasks go on elsewhere.

mod acknowledge;
mod connection;
mod data;
mod gaps;
mod held;
pub mod reaction;
mod reassign;
mod reject;
mod resegment;
mod retry;
mod snack;
mod status;
mod tail;

use std::time::Instant;

use scsi::{Certainty, DeliveryError, DeliveryErrorKind, Lun, Outcome};
use smallvec::SmallVec;

pub use self::reaction::{Reaction, reaction};

pub(super) use self::data::without_data;
pub(super) use self::gaps::Arrival;
use self::gaps::Gaps;
use self::held::HeldAnswers;
pub(super) use self::reassign::Adrift;
use self::tail::Probe;
use super::error::{LossReason, ProtocolError};
use super::task::{Stage, TaskKey};
use super::{Session, later};
use crate::name::Cid;
use crate::serial::CmdSn;
use crate::wire::Ttt;

/// When something missing is asked for again, and how often it was without effect.
#[derive(Debug, Default, Clone, Copy)]
struct Again {
    due: Option<Instant>,
    /// The lowest missing number when it was last counted.
    low: u32,
    count: u8,
}

impl Again {
    /// Counts an attempt that had no effect on the lowest missing number.
    fn count(&mut self, low: u32) -> u8 {
        if low != self.low {
            self.low = low;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// What a task keeps while, and after, something of it was missing.
#[derive(Debug, Default)]
pub(super) struct TaskRecovery {
    /// Missing DataSNs of a read, R2TSNs of a write.
    gaps: Gaps,
    again: Again,
    /// Something of it was asked for again.
    asked: bool,
    /// DataACKs that wait until the data before are there, by the DataSN after the one that asked.
    acks: SmallVec<[(Lun, Ttt, u32); 1]>,
    /// Our MaxRecvDataSegmentLength has changed since it was sent (RFC 7143 §11.16.3).
    resegment: bool,
    /// Tag of the last R-Data SNACK; 0: none. From the first one on data are known by their offset
    /// only, since the target numbers them anew.
    snack_tag: u32,
    /// The target rejected the SNACK: its status comes instead (RFC 7143 §7.8).
    rejected: bool,
    /// Times the command was sent again.
    retries: u8,
}

/// What a connection keeps.
#[derive(Debug, Default)]
pub(super) struct ConnectionRecovery {
    pub(super) held: HeldAnswers,
    again: Again,
    probe: Option<Probe>,
    /// Something was under way at the last look for a lost tail.
    was_busy: bool,
}

impl ConnectionRecovery {
    /// The connection is gone, or new.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What the session keeps.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Nothing is to be asked for again before this.
    due: Option<Instant>,
    /// The last look for a lost tail.
    sampled: Instant,
    /// ExpCmdSN at that look, when commands were not acknowledged.
    unacknowledged: Option<CmdSn>,
    /// No command had this number any more.
    hole: bool,
    /// At level 0: a command had no answer in time, and there are numbers that the target has not
    /// acknowledged.
    doubt: bool,
}

impl Recovery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: None,
            sampled: now,
            unacknowledged: None,
            hole: false,
            doubt: false,
        }
    }

    fn arm(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |earliest| earliest.min(due)));
    }
}

impl Session {
    /// Whether missing PDUs are asked for again (ErrorRecoveryLevel 1 and 2).
    pub(super) fn recovers(&self) -> bool {
        self.params.error_recovery_level > 0
    }

    /// Does what the table says about an error that could not be dealt with on the spot.
    pub(super) fn react(&mut self, now: Instant, cid: Cid, error: ProtocolError) {
        match reaction(&error, self.params.error_recovery_level) {
            Reaction::Ignore => self.stats.duplicates += 1,
            Reaction::DropSession => self.lose(now, LossReason::Protocol(error)),
            // Not possible, or it would have been done.
            Reaction::FailTask | Reaction::Snack | Reaction::Retry | Reaction::DropConnection => {
                self.give_up(now, cid, LossReason::Protocol(error));
            }
        }
    }

    /// Ends a task that was answered in a way that cannot be used; everything else goes on.
    pub(super) fn fail_task(
        &mut self,
        key: TaskKey,
        error: ProtocolError,
    ) -> Result<(), ProtocolError> {
        if reaction(&error, self.params.error_recovery_level) != Reaction::FailTask {
            return Err(error);
        }
        let (kind, certainty) = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
        self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        Ok(())
    }

    /// Level 1 has come to its end with a connection: the next level acts.
    fn give_up(&mut self, now: Instant, cid: Cid, reason: LossReason) {
        self.connection_failed(now, cid, reason);
    }

    /// When recovery has something to do.
    pub(super) fn recovery_due(&self) -> Option<Instant> {
        if !self.recovers() {
            return self.doubt_due();
        }
        [self.recovery.due, self.tail_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Asks again for what did not come, and looks for what nobody knows is missing.
    pub(super) fn recovery_timeouts(&mut self, now: Instant) {
        if !self.recovers() {
            if self.is_connected() && self.doubt_due().is_some_and(|due| due <= now) {
                self.look_for_tail(now);
            }
            return;
        }
        if self.recovery.due.is_some_and(|due| due <= now) {
            self.recovery.due = None;
            self.ask_again(now);
        }
        if self.is_connected() && self.tail_due().is_some_and(|due| due <= now) {
            self.look_for_tail(now);
        }
    }

    fn ask_again(&mut self, now: Instant) {
        let cids: SmallVec<[Cid; 4]> = self.connections.iter().map(|it| it.cid).collect();
        for cid in cids {
            self.ask_again_for_status(now, cid);
        }
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at(index).filter(|it| it.stage == Stage::Sent) else {
                continue;
            };
            let generation = task.generation;
            if task.recovery.is_some() && self.is_connected() {
                self.ask_again_for_data(now, TaskKey { index, generation });
            }
        }
    }

    /// When something asked for now is asked for again.
    fn again_at(&mut self, now: Instant) -> Instant {
        let due = later(now, self.config.recovery.again_after);
        self.recovery.arm(due);
        due
    }

    /// Whether something has been asked for as often as is allowed.
    fn too_often(&self, count: u8) -> bool {
        count > self.config.recovery.attempts
    }
}
