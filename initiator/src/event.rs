//! What happens to a target's sessions and paths, in one stream, for people and programs.

use std::fmt;
use std::sync::OnceLock;

use tokio::sync::broadcast;

use crate::{Lun, Portal};

/// Events kept for a slow reader.
const EVENTS_KEPT: usize = 256;

/// Something that happened. Its `Display` is one line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// To a session.
    Session {
        /// Its home portal.
        portal: Portal,
        /// What.
        event: iscsi::session::Event,
    },
    /// To the paths of a logical unit.
    Unit {
        /// Which.
        lun: Lun,
        /// What.
        event: mpio::EventKind,
    },
    /// The target has other logical units than before (REPORT LUNS).
    LunsChanged {
        /// Those that are new, in the target's order.
        came: Vec<Lun>,
        /// Those that are no longer there.
        went: Vec<Lun>,
    },
    /// The reader was too slow; so many events are lost.
    Missed {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { portal, event } => write!(f, "session over {portal}: {}", Words(event)),
            Self::Unit { lun, event } => write!(f, "LUN {lun}: {event}"),
            Self::LunsChanged { came, went } => {
                f.write_str("the target's logical units are others:")?;
                for (sign, luns) in [('+', came), ('-', went)] {
                    for lun in luns {
                        write!(f, " {sign}{lun}")?;
                    }
                }
                Ok(())
            }
            Self::Missed { count } => write!(f, "{count} events were missed"),
        }
    }
}

/// A session's event in words.
struct Words<'a>(&'a iscsi::session::Event);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use iscsi::session::Event as It;
        match self.0 {
            It::LoggedIn { portal, .. } => write!(f, "logged in through {portal}"),
            It::Lost { reason, .. } => write!(f, "lost: {reason}"),
            It::AttemptFailed {
                portal,
                reason,
                next_in,
            } => write!(f, "no login at {portal}: {reason}; again in {next_in:.1?}"),
            It::Redirected {
                from,
                to,
                permanent,
            } => {
                let term = if *permanent { "permanently" } else { "for now" };
                write!(f, "{from} sends us to {to} {term}")
            }
            It::Fenced { .. } => f.write_str("all that was under way before is over"),
            It::CommandTimedOut {
                lun,
                operation_code,
            } => write!(
                f,
                "no answer in time to command {operation_code:#04x} of LUN {lun}"
            ),
            It::Async {
                event, name, lun, ..
            } => {
                write!(f, "Async Message {event} ({name}), LUN {lun}")
            }
            It::Renegotiated {
                max_recv_bytes,
                max_send_bytes,
            } => write!(
                f,
                "data segments of {max_recv_bytes} bytes in, {max_send_bytes} bytes out from now on"
            ),
            It::ConnectionAdded { cid, portal } => {
                write!(f, "connection {cid} through {portal} logged in")
            }
            It::ConnectionFailed {
                cid,
                portal,
                reason,
            } => write!(f, "no connection {cid} through {portal}: {reason}"),
            It::ConnectionLost { cid, reason } => write!(f, "connection {cid} lost: {reason}"),
            It::ConnectionRemoved { cid } => write!(f, "connection {cid} logged out"),
            It::TasksMoved {
                reassigned,
                retried,
            } => write!(
                f,
                "commands of a connection that is gone: {reassigned} reassigned, {retried} sent again"
            ),
            It::Closed { reason } => write!(f, "closed: {reason}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Where a target's events are made known. Takes no memory until somebody listens.
#[derive(Debug, Default)]
pub(crate) struct Events(OnceLock<broadcast::Sender<Event>>);

impl Events {
    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = self.0.get() {
            // No receiver is fine.
            let _ = sender.send(event);
        }
    }

    pub(crate) fn subscribe(&self) -> EventReceiver {
        let sender = self.0.get_or_init(|| broadcast::Sender::new(EVENTS_KEPT));
        EventReceiver(sender.subscribe())
    }
}

/// Receives the events of a target from the moment it was made.
#[derive(Debug)]
pub struct EventReceiver(broadcast::Receiver<Event>);

impl EventReceiver {
    /// The next event; `None` when the target is gone. May be dropped without losing an event.
    pub async fn recv(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Event::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
