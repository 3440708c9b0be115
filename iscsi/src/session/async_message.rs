//! Asynchronous Messages (RFC 7143 §11.9).

use std::time::{Duration, Instant};

use scsi::{Certainty, DataPhase, DeliveryError, DeliveryErrorKind, Outcome};

use super::Session;
use super::control::Control;
use super::error::LossReason;
use super::event::Event;
use super::task::{Stage, TaskKey};
use crate::name::Cid;
use crate::wire::AsyncMessage;

impl Session {
    /// Events 0 to 5 and 255; anything else is reported and otherwise ignored.
    pub(super) fn async_message(&mut self, now: Instant, cid: Cid, message: &AsyncMessage) {
        let name = event_name(message.event);
        self.push_event(Event::Async {
            event: message.event,
            name,
            lun: message.lun,
        });
        let seconds = |value: u16| Duration::from_secs(u64::from(value));
        match message.event {
            // 4 asks for a negotiation, or a logout; a new login negotiates everything.
            1 | 4 => {
                let limit = seconds(message.parameter3);
                if message.event == 4 || !self.connection_logout_asked(now, cid, limit) {
                    self.logout_requested(now, limit);
                }
            }
            2 => {
                // Parameter1 says which; the loss is dealt with like one that was noticed.
                let dropped = Cid(message.parameter1);
                let dropped = self.connections.get(dropped).map_or(cid, |it| it.cid);
                let wait = seconds(message.parameter2);
                self.reconnect.wait_at_least(now, wait);
                let reason = LossReason::DropAnnounced(message.event);
                self.connection_dropped(now, dropped, reason, wait, seconds(message.parameter3));
            }
            3 => {
                self.reconnect
                    .wait_at_least(now, seconds(message.parameter2));
                self.lose(now, LossReason::DropAnnounced(message.event));
            }
            5 => self.tasks_terminated(cid, message),
            _ => {}
        }
    }

    /// Event 5: the target is ending all tasks of a logical unit, and will not answer them.
    ///
    /// Nothing says when they are over, so a write among them may still run.
    fn tasks_terminated(&mut self, cid: Cid, message: &AsyncMessage) {
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at(index) else {
                continue;
            };
            let key = TaskKey {
                index,
                generation: task.generation,
            };
            if task.lun != message.lun || task.stage != Stage::Sent {
                continue;
            }
            let certainty = match task.data {
                DataPhase::Read(_) => Certainty::Answered,
                DataPhase::Write(_) | DataPhase::Bidirectional(_) | DataPhase::None => {
                    Certainty::SentNoAnswer
                }
            };
            let kind = DeliveryErrorKind::Aborted;
            if task.abandoned && certainty.may_still_run() {
                // Given up by its caller, and never settled in this life.
                self.controls.note_abandoned(1);
            }
            self.finish(key, Outcome::Failed(DeliveryError { kind, certainty }));
        }
        let lun = message.lun;
        self.push_control(cid, Control::Acknowledge { lun });
    }
}

/// AsyncEvent codes in words (RFC 7143 §11.9.1).
fn event_name(event: u8) -> &'static str {
    match event {
        0 => "SCSI asynchronous event",
        1 => "logout request",
        2 => "connection drop notification",
        3 => "session drop notification",
        4 => "negotiation request",
        5 => "task termination",
        248..=255 => "vendor event",
        _ => "reserved event",
    }
}
