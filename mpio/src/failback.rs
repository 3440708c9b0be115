//! Which priority group carries I/O, and when I/O goes back to a better one.
//!
//! Paths of equal priority are one group (dm-multipath's `group_by_prio`); policies choose inside
//! the group in use. When no path of that group is usable any more, I/O moves to the best one left
//! at once; what happens when a better one returns is [`Failback`]. A pure function of what the
//! paths are and of the time; the only thing remembered is which group is in use.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::path::{PathId, PathSet};

/// When I/O goes back to a better group of paths, as multipath-tools defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Failback {
    /// At once.
    #[default]
    Immediate,
    /// Only when [`crate::LogicalUnit::fail_back`] is called.
    Manual,
    /// When the first path of the better group comes up. If the target made the group better,
    /// because another host asked for it, I/O stays.
    FollowOver,
    /// When the better group has been usable for this long.
    After(Duration),
}

impl Failback {
    /// How long after a preferred way has come up again I/O may go back to it; `None`: never by
    /// itself.
    pub(crate) const fn patience(self) -> Option<Duration> {
        match self {
            Self::Immediate | Self::FollowOver => Some(Duration::ZERO),
            Self::After(time) => Some(time),
            Self::Manual => None,
        }
    }
}

impl fmt::Display for Failback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immediate => f.write_str("immediate"),
            Self::Manual => f.write_str("manual"),
            Self::FollowOver => f.write_str("followover"),
            Self::After(time) => write!(f, "{}", time.as_secs()),
        }
    }
}

/// Not a mode of failback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mode of failback; known: immediate, manual, followover, a number of seconds")]
pub struct UnknownFailback(pub String);

/// As in `multipath.conf`: a word, or seconds.
impl FromStr for Failback {
    type Err = UnknownFailback;

    fn from_str(text: &str) -> Result<Self, UnknownFailback> {
        match text.trim() {
            "immediate" => Ok(Self::Immediate),
            "manual" => Ok(Self::Manual),
            "followover" => Ok(Self::FollowOver),
            seconds => match seconds.parse::<u32>() {
                Ok(0) => Ok(Self::Immediate),
                Ok(seconds) => Ok(Self::After(Duration::from_secs(seconds.into()))),
                Err(_) => Err(UnknownFailback(text.to_owned())),
            },
        }
    }
}

/// Why I/O moved to another group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SwitchReason {
    /// No path of the old group is usable.
    Failover,
    /// The new group is better, and the mode of failback lets I/O go there.
    Failback,
    /// The administrator asked for it.
    Administrator,
}

impl fmt::Display for SwitchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::Administrator => "asked for",
        })
    }
}

/// A path, as the choice of a group sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) path: PathId,
    pub(crate) priority: u8,
    /// It can carry I/O.
    pub(crate) usable: bool,
    /// It is logged in and healthy, whether or not the target gives access through it.
    pub(crate) up: bool,
}

/// A move to another group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) reason: SwitchReason,
}

/// Remembers which group is in use.
#[derive(Debug)]
pub(crate) struct Chooser {
    mode: Failback,
    /// Paths of the group in use.
    members: PathSet,
    /// Its priority; `None`: nothing was usable yet.
    priority: Option<u8>,
    /// Paths that were up at the last look.
    up: PathSet,
    /// A better group is usable since.
    better_since: Option<Instant>,
    /// The next look goes to the best group, whatever the mode.
    asked: bool,
}

impl Chooser {
    pub(crate) fn new(mode: Failback) -> Self {
        Self {
            mode,
            members: PathSet::default(),
            priority: None,
            up: PathSet::default(),
            better_since: None,
            asked: false,
        }
    }

    pub(crate) fn mode(&self) -> Failback {
        self.mode
    }

    /// Another mode from the next look on.
    pub(crate) fn set_mode(&mut self, mode: Failback) {
        self.mode = mode;
    }

    /// The administrator wants the best group to be used; takes effect with the next look.
    pub(crate) fn ask(&mut self) {
        self.asked = true;
    }

    /// Priority of the group in use; the last one's while nothing is usable.
    pub(crate) fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// When to look again although nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.mode {
            Failback::After(time) => self.better_since?.checked_add(time),
            Failback::Immediate | Failback::Manual | Failback::FollowOver => None,
        }
    }

    /// Looks at the paths: which group carries I/O from now on? Returns a move, if it is one.
    pub(crate) fn look(&mut self, now: Instant, paths: &[Candidate]) -> Option<Switch> {
        let was_up = std::mem::replace(&mut self.up, set_of(paths, |path| path.up));
        let best = best_of(paths, |_| true)?;
        let current = best_of(paths, |path| self.members.contains(path.path));
        let asked = std::mem::take(&mut self.asked);
        let (to, reason) = match current {
            Some(current) if current >= best => (current, SwitchReason::Failback),
            Some(_) if asked => (best, SwitchReason::Administrator),
            Some(current) => {
                let since = *self.better_since.get_or_insert(now);
                if self.may_go_back(now, since, best, paths, was_up) {
                    (best, SwitchReason::Failback)
                } else {
                    self.join(paths, current);
                    return None;
                }
            }
            None => (best, SwitchReason::Failover),
        };
        self.better_since = None;
        let moved = current != Some(to);
        let from = current.or(self.priority);
        self.join(paths, to);
        moved.then_some(Switch {
            from: from?,
            to,
            reason,
        })
    }

    fn join(&mut self, paths: &[Candidate], priority: u8) {
        self.priority = Some(priority);
        self.members = set_of(paths, |path| path.priority == priority);
    }

    fn may_go_back(
        &self,
        now: Instant,
        since: Instant,
        best: u8,
        paths: &[Candidate],
        was_up: PathSet,
    ) -> bool {
        match self.mode {
            Failback::Immediate => true,
            Failback::Manual => false,
            Failback::FollowOver => !paths
                .iter()
                .any(|path| path.priority == best && path.usable && was_up.contains(path.path)),
            Failback::After(time) => now.saturating_duration_since(since) >= time,
        }
    }
}

/// The highest priority among usable paths that fit.
fn best_of(paths: &[Candidate], fits: impl Fn(&Candidate) -> bool) -> Option<u8> {
    let usable = paths.iter().filter(|path| path.usable && fits(path));
    usable.map(|path| path.priority).max()
}

fn set_of(paths: &[Candidate], fits: impl Fn(&Candidate) -> bool) -> PathSet {
    let mut set = PathSet::default();
    for path in paths.iter().filter(|path| fits(path)) {
        set.insert(path.path);
    }
    set
}

#[cfg(test)]
mod tests;
