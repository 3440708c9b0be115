//! NOP-Out and NOP-In: is the target there, are we there (RFC 7143 §11.18, §11.19).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::control::Control;
use super::error::{LossReason, ProtocolError};
use super::{Session, later};
use crate::wire::{Itt, NopIn, Ttt};

/// With a closed window, nothing under way and commands waiting, only a NOP-In can open it; it is
/// asked for this often.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// When the keepalive has something to do.
    pub(super) fn keepalive_due(&self) -> Instant {
        match self.controls.ping {
            Some(ping) if ping.sent >= self.connection.last_heard => {
                later(ping.sent, self.config.keepalive.timeout)
            }
            _ => later(self.connection.last_heard, self.ping_after()),
        }
    }

    fn ping_after(&self) -> Duration {
        let stuck = !self.pending.is_empty() && !self.window.is_open() && self.in_flight == 0;
        let interval = self.config.keepalive.interval;
        if stuck {
            interval.min(PROBE_INTERVAL)
        } else {
            interval
        }
    }

    pub(super) fn keepalive(&mut self, now: Instant) {
        if now < self.keepalive_due() {
            return;
        }
        match self.controls.ping {
            // Anything heard since the ping proves as much as its answer.
            Some(ping) if ping.sent >= self.connection.last_heard => {
                self.lose(
                    now,
                    LossReason::KeepaliveTimeout(self.config.keepalive.timeout),
                );
            }
            _ => {
                let itt = self.controls.tag();
                self.controls.forget_ping();
                // Set now, not when encoded: a socket that takes nothing is no excuse.
                self.controls.ping = Some(super::control::Ping { itt, sent: now });
                self.controls.push(Control::Ping { itt });
            }
        }
    }

    /// A NOP-In came: an answer to our ping, or a question (RFC 7143 §11.19).
    pub(super) fn nop_in(&mut self, nop: &NopIn, data: &[u8]) -> Result<(), ProtocolError> {
        if nop.itt != Itt::RESERVED {
            match self.controls.ping {
                Some(ping) if ping.itt == nop.itt => self.controls.ping = None,
                // The answer to a ping that anything else had already answered.
                _ => self.stats.late_answers += 1,
            }
            return Ok(());
        }
        if nop.ttt != Ttt::RESERVED {
            // The data come back as they are, as far as the target can take them.
            let limit = self.connection.params.max_send_bytes as usize;
            let data = data.get(..limit).unwrap_or(data);
            let data = Bytes::copy_from_slice(data);
            self.controls.push_reply(Control::Reply {
                lun: nop.lun,
                ttt: nop.ttt,
                data,
            });
        }
        Ok(())
    }
}
