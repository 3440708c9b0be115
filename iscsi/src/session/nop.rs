//! NOP-Out and NOP-In: is the target there, are we there (RFC 7143 §11.18, §11.19).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::Connection;
use super::control::{Control, Ping};
use super::error::{LossReason, ProtocolError};
use super::{Session, later};
use crate::name::Cid;
use crate::wire::{Itt, NopIn, Ttt};

/// With a closed window, nothing under way and commands waiting, only a NOP-In can open it; it is
/// asked for this often.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// When the keepalive of any connection has something to do.
    pub(super) fn keepalive_due(&self) -> Option<Instant> {
        let after = self.ping_after();
        let up = self.connections.iter().filter(|it| it.is_up());
        up.map(|connection| self.ping_due(connection, after)).min()
    }

    fn ping_due(&self, connection: &Connection, after: Duration) -> Instant {
        match connection.ping {
            Some(ping) if ping.sent >= connection.last_heard => {
                later(ping.sent, self.config.keepalive.timeout)
            }
            _ => later(connection.last_heard, after),
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
        while let Some(cid) = self.keepalive_overdue(now) {
            let Some(connection) = self.connections.get_mut(cid) else {
                return;
            };
            match connection.ping {
                // Anything heard since the ping proves as much as its answer.
                Some(ping) if ping.sent >= connection.last_heard => {
                    let limit = self.config.keepalive.timeout;
                    self.connection_failed(now, cid, LossReason::KeepaliveTimeout(limit));
                }
                _ => {
                    let itt = self.controls.tag();
                    connection.forget_ping();
                    // Set now, not when encoded: a socket that takes nothing is no excuse.
                    connection.ping = Some(Ping { itt, sent: now });
                    connection.controls.push_back(Control::Ping { itt });
                }
            }
        }
    }

    /// A connection whose keepalive has something to do.
    fn keepalive_overdue(&self, now: Instant) -> Option<Cid> {
        let after = self.ping_after();
        let mut up = self.connections.iter().filter(|it| it.is_up());
        let overdue = up.find(|connection| self.ping_due(connection, after) <= now)?;
        Some(overdue.cid)
    }

    /// Asks the target for a sign of life, on one connection; which the keepalive does by itself
    /// only when nothing else is heard. It has come when [`Session::answered_echo`] is as large as
    /// the number returned; `None`: the session is not up.
    pub fn ask_echo(&mut self) -> Option<u64> {
        if let Some((cid, _)) = self.controls.echo.question
            && self.connections.get(cid).is_some_and(Connection::is_up)
        {
            return Some(self.controls.echo.asked);
        }
        let cid = self.connections.iter().find(|it| it.is_up())?.cid;
        let itt = self.controls.tag();
        let echo = &mut self.controls.echo;
        echo.asked += 1;
        echo.question = Some((cid, itt));
        let asked = echo.asked;
        self.push_control(cid, Control::Echo { itt });
        Some(asked)
    }

    /// See [`Session::ask_echo`].
    #[must_use]
    pub fn answered_echo(&self) -> u64 {
        self.controls.echo.answered
    }

    /// Whether the tag is that of a question that somebody waits for, which is answered now.
    pub(super) fn echoed(&mut self, itt: Itt) -> bool {
        let echo = &mut self.controls.echo;
        if echo.question.is_none_or(|(_, asked)| asked != itt) {
            return false;
        }
        echo.question = None;
        echo.answered = echo.asked;
        true
    }

    /// A NOP-In came: an answer to our ping, or a question (RFC 7143 §11.19).
    pub(super) fn nop_in(
        &mut self,
        now: Instant,
        cid: Cid,
        nop: &NopIn,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        if nop.itt != Itt::RESERVED
            && (self.echoed(nop.itt) || self.probe_answered(now, cid, nop.itt)?)
        {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(());
        };
        if nop.itt != Itt::RESERVED {
            match connection.ping {
                Some(ping) if ping.itt == nop.itt => connection.ping = None,
                // The answer to a ping that anything else had already answered.
                _ => self.stats.late_answers += 1,
            }
            return Ok(());
        }
        if nop.ttt != Ttt::RESERVED {
            // The data come back as they are, as far as the target can take them.
            let limit = connection.params.max_send_bytes as usize;
            let data = data.get(..limit).unwrap_or(data);
            let data = Bytes::copy_from_slice(data);
            connection.push_reply(Control::Reply {
                lun: nop.lun,
                ttt: nop.ttt,
                data,
            });
        }
        Ok(())
    }
}
