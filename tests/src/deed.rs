//! What an application asks of a session besides I/O: parameters that change while it works, and
//! task management. A second initiator does the latter, too.
//!
//! Whatever is asked must end, well or not, whatever happens to the session meanwhile.

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use fastrand::Rng;
use iscsi::session::{Applied, ManagementFunction, ManagementKey, Session, TextKey};
use scsi::Lun;

use crate::facet::Facets;
use crate::scenario::ms;
use crate::trace::Trace;

/// Something to be asked of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Another value for a key.
    Set(&'static str, String),
    /// The addresses of the target.
    AskTargets,
    /// ABORT TASK for the command that has been under way for the longest.
    AbortOldest,
    /// QUERY TASK for the same.
    QueryOldest,
    /// A function that names no task.
    Manage(ManagementFunction),
}

/// A deed, when it is done, and on whose session: the paths come first, then the second initiator.
pub type Deeds = Vec<(Duration, usize, Deed)>;

/// The deeds of a seed, in order of time. `strangers`: sessions of the second initiator.
#[must_use]
pub fn schedule(facets: Facets, paths: usize, strangers: usize, run_for: Duration) -> Deeds {
    let mut list = Vec::new();
    let mut some = |name: &str, one_in: u8, who: std::ops::Range<usize>, make: Make| {
        let mut rng = facets.of(name);
        if rng.u8(..one_in) != 0 || who.is_empty() {
            return;
        }
        let every = rng.u64(300..6_000);
        let mut at = ms(&mut rng, 0, every);
        while at < run_for {
            let session = rng.usize(who.clone());
            list.push((at, session, make(&mut rng)));
            at += ms(&mut rng, 1, 2 * every);
        }
    };
    some("parameters", 4, 0..paths, parameter);
    some("own task management", 5, 0..paths, management);
    let theirs = paths..paths + strangers;
    some("foreign task management", 1, theirs, foreign);
    list.sort_by_key(|(at, ..)| *at);
    list
}

type Make = fn(&mut Rng) -> Deed;

fn parameter(rng: &mut Rng) -> Deed {
    let yes_no = if rng.bool() { "Yes" } else { "No" }.to_owned();
    match rng.u8(..10) {
        0..=4 => {
            let most = 1 << rng.u32(8..16);
            let bytes = 4 * rng.u32(128..=most);
            Deed::Set("MaxRecvDataSegmentLength", bytes.to_string())
        }
        5 => Deed::Set("InitiatorAlias", format!("alias {}", rng.u8(..))),
        6 => Deed::Set("InitialR2T", yes_no),
        7 => Deed::Set("ImmediateData", yes_no),
        8 => Deed::Set("MaxConnections", rng.u8(1..=4).to_string()),
        _ => Deed::AskTargets,
    }
}

fn management(rng: &mut Rng) -> Deed {
    use ManagementFunction as F;
    match rng.u8(..12) {
        0..=3 => Deed::AbortOldest,
        4 => Deed::QueryOldest,
        5 => Deed::Manage(F::QueryTaskSet),
        6 => Deed::Manage(F::QueryAsynchronousEvent),
        7 => Deed::Manage(F::ClearAca),
        8 => Deed::Manage(F::AbortTaskSet),
        9 => Deed::Manage(F::ItNexusReset),
        _ => foreign(rng),
    }
}

fn foreign(rng: &mut Rng) -> Deed {
    use ManagementFunction as F;
    Deed::Manage(match rng.u8(..8) {
        0 | 1 => F::ClearTaskSet,
        2..=4 => F::LogicalUnitReset,
        5 | 6 => F::TargetWarmReset,
        _ => F::TargetColdReset,
    })
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Text(TextKey),
    Management(ManagementKey),
}

/// What was asked and has not ended.
#[derive(Debug, Default)]
pub struct Asked {
    waiting: Vec<(usize, Key)>,
    /// What ended, well or not.
    pub ended: u64,
}

impl Asked {
    /// Does a deed.
    pub fn begin(
        &mut self,
        now: Instant,
        who: usize,
        deed: &Deed,
        session: &mut Session,
        trace: &mut Trace,
    ) {
        trace.note(now, format_args!("session {who} is asked for {deed:?}"));
        let key = match deed {
            Deed::Set(key, value) => match session.set(now, key, value) {
                Ok(Applied::Renegotiating(key)) => Some(Key::Text(key)),
                Ok(Applied::AtOnce | Applied::NextLogin) | Err(_) => None,
            },
            Deed::AskTargets => session.ask_targets(now, None).ok().map(Key::Text),
            Deed::AbortOldest => oldest(now, session, ManagementFunction::AbortTask),
            Deed::QueryOldest => oldest(now, session, ManagementFunction::QueryTask),
            Deed::Manage(function) => manage(now, session, *function),
        };
        self.waiting.extend(key.map(|key| (who, key)));
    }

    /// Picks up what a session has done.
    pub fn poll(&mut self, now: Instant, who: usize, session: &mut Session, trace: &mut Trace) {
        let waker = Waker::noop();
        let before = self.waiting.len();
        self.waiting.retain(|(asked, key)| {
            if *asked != who {
                return true;
            }
            let (ended, how) = match key {
                Key::Text(key) => match session.poll_text(*key, waker) {
                    Poll::Ready(result) => (true, format!("{result:?}")),
                    Poll::Pending => (false, String::new()),
                },
                Key::Management(key) => match session.poll_management(*key, waker) {
                    Poll::Ready(result) => (true, format!("{result:?}")),
                    Poll::Pending => (false, String::new()),
                },
            };
            if ended {
                trace.note(now, format_args!("session {who} says {how}"));
            }
            !ended
        });
        self.ended += (before - self.waiting.len()) as u64;
    }

    /// Whether nothing is asked of a session.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How much has not ended.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

fn manage(now: Instant, session: &mut Session, function: ManagementFunction) -> Option<Key> {
    let asked = session.manage(now, Lun::ZERO, function);
    asked.ok().map(Key::Management)
}

fn oldest(
    now: Instant,
    session: &mut Session,
    function: fn(iscsi::session::TaskKey) -> ManagementFunction,
) -> Option<Key> {
    let (task, _) = *session.outstanding(Lun::ZERO).first()?;
    manage(now, session, function(task))
}
