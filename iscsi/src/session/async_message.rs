//! Asynchronous Messages (RFC 7143 §11.9).

use std::time::{Duration, Instant};

use scsi::{Certainty, DataPhase, DeliveryError, DeliveryErrorKind, Outcome};

use super::Session;
use super::control::Control;
use super::error::LossReason;
use super::event::Event;
use super::state::ConnectionEvent;
use super::task::{Stage, TaskKey};
use crate::name::Cid;
use crate::wire::AsyncMessage;

/// Most sense data and event data told on, in bytes.
const SENSE_MAX: usize = 252;
const DATA_MAX: usize = 1024;

impl Session {
    /// Events 0 to 5; anything else is reported and otherwise ignored.
    pub(super) fn async_message(
        &mut self,
        now: Instant,
        cid: Cid,
        message: &AsyncMessage,
        data: &[u8],
    ) {
        let (sense, rest) = sense_and_rest(data);
        self.push_event(Event::Async {
            event: message.event,
            name: event_name(message.event),
            lun: message.lun,
            vendor_code: message.vendor_code,
            parameters: [message.parameter1, message.parameter2, message.parameter3],
            sense: sense.into(),
            data: rest.into(),
        });
        let seconds = |value: u16| Duration::from_secs(u64::from(value));
        match message.event {
            1 => {
                let connection = self.connections.get_mut(cid);
                if let Some(connection) = connection.filter(|it| it.is_up()) {
                    connection.happened(ConnectionEvent::LogoutAsked);
                }
                let limit = seconds(message.parameter3);
                if !self.connection_logout_asked(now, cid, limit) {
                    self.logout_requested(now, limit);
                }
            }
            // Of a connection that is not there (any more), nothing has to be saved.
            2 if self.connections.get(Cid(message.parameter1)).is_none() => {}
            2 => {
                // The loss is dealt with like one that was noticed.
                let wait = seconds(message.parameter2);
                self.reconnect.wait_at_least(now, wait);
                let (dropped, retain) = (Cid(message.parameter1), seconds(message.parameter3));
                let reason = LossReason::DropAnnounced(message.event);
                self.connection_dropped(now, dropped, reason, wait, retain);
            }
            3 => {
                self.reconnect
                    .wait_at_least(now, seconds(message.parameter2));
                self.lose(now, LossReason::DropAnnounced(message.event));
            }
            4 => self.negotiation_requested(now, cid, seconds(message.parameter3)),
            5 => self.tasks_terminated(cid, message),
            _ => {}
        }
    }

    /// Event 5: the target is ending all tasks of a logical unit (RFC 7143 §4.2.3.4, §11.9.1). Data
    /// stop, then the message is acknowledged.
    ///
    /// When a function of ours is the reason, its response says that they are over. Otherwise
    /// nothing does and no answer will come, so a write among them may still run.
    fn tasks_terminated(&mut self, cid: Cid, message: &AsyncMessage) {
        let lun = message.lun;
        self.mute_tasks(Some(lun), cid, None);
        self.push_control(cid, Control::Acknowledge { lun });
        if self.functions.will_end(lun) || self.controls.will_end(lun) {
            return;
        }
        for index in self.tasks.indices() {
            let Some(task) = self.tasks.at(index) else {
                continue;
            };
            let key = TaskKey {
                index,
                generation: task.generation,
            };
            if task.lun != lun || task.stage != Stage::Sent || task.allegiance != cid {
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
    }
}

/// Sense data and what follows them (RFC 7143 §11.9.4).
fn sense_and_rest(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return (&[], &[]);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    let (sense, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
    (
        sense.get(..SENSE_MAX).unwrap_or(sense),
        rest.get(..DATA_MAX).unwrap_or(rest),
    )
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
