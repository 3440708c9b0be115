//! Keeps track of a unit's target port groups, without sending anything.
//!
//! [`Watch`] is told what commands met and what REPORT TARGET PORT GROUPS said; it says when to
//! ask again, which group to ask the target to open, and how each path stands.
//!
//! - One report is asked for at a time, however many unit attentions come.
//! - A refused command counts more than an older report, and for [`DENIED_FOR`] more than a newer
//!   one: a target whose report runs ahead of its ports does not make I/O run in circles.
//! - A transition is waited for as long as the target says that one may take
//!   (IMPLICIT TRANSITION TIME; [`TRANSITION`] without it), then the group counts as standby.
//! - The target is asked to open a group only when I/O has nowhere to go, or when a path into a
//!   preferred group of ours came up. A host that needs nothing never takes a unit away from
//!   another one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use scsi::inquiry::Tpgs;
use scsi::{AccessState, TargetPortGroup, TargetPortGroups};

use super::{PathAccess, TargetPort, is_explicit};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// REPORT TARGET PORT GROUPS; [`Watch::reported`] or [`Watch::unreported`].
    Report,
    /// SET TARGET PORT GROUPS: this group to active/optimized; [`Watch::was_set`].
    Set(u16),
    /// Nothing until then, or until something happens.
    Wait(Instant),
    /// Nothing until something happens.
    Rest,
}

/// A group whose state or preference is another than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) group: u16,
    /// `None`: the group is new.
    pub(crate) from: Option<AccessState>,
    pub(crate) to: AccessState,
    pub(crate) preferred: bool,
}

/// A path, as the watch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) port: TargetPort,
    /// Logged in, and commands that ask about access states can be sent.
    pub(crate) up: bool,
    /// It carries I/O.
    pub(crate) usable: bool,
    /// It is being verified, or is about to be because its group was opened.
    pub(crate) verifying: bool,
}

/// A unit's target port groups over time.
#[derive(Debug)]
pub(crate) struct Watch {
    tpgs: Tpgs,
    groups: Vec<TargetPortGroup>,
    implicit_transition: Option<Duration>,
    /// The extended header was refused once: not asked for again.
    short: bool,
    /// When to ask for a report.
    due: Option<Instant>,
    /// Until the next report when nothing happens.
    interval: Duration,
    interval_range: (Duration, Duration),
    /// Until the next report during a transition.
    poll: Duration,
    /// Groups in transition, since when.
    changing: BTreeMap<u16, Instant>,
    /// States that refused commands told, and until when they count more than reports.
    denied: BTreeMap<u16, (AccessState, Instant)>,
    /// I/O found no path and waits for one until then.
    demand: Option<Instant>,
    /// A group is going to be opened because of that, and has until then.
    open_due: Option<Instant>,
    /// The target would not open a group.
    refused: bool,
    /// Asking for a group is not tried before.
    set_after: Option<Instant>,
    set_pause: Duration,
    /// Groups with a path that is up, at the last look; `None`: never looked.
    up: Option<Vec<u16>>,
    /// States and preferences made known.
    announced: BTreeMap<u16, (AccessState, bool)>,
    /// A preferred group to be opened, when.
    wish: Option<(u16, Instant)>,
}

impl Watch {
    /// `interval`: the shortest and the longest time between two reports when nothing happens.
    pub(crate) fn new(tpgs: Tpgs, interval: (Duration, Duration), now: Instant) -> Self {
        Self {
            tpgs,
            groups: Vec::new(),
            implicit_transition: None,
            short: false,
            due: Some(now),
            interval: interval.0,
            interval_range: interval,
            poll: POLL_MIN,
            changing: BTreeMap::new(),
            denied: BTreeMap::new(),
            demand: None,
            open_due: None,
            refused: false,
            set_after: None,
            set_pause: SET_PAUSE_MIN,
            up: None,
            announced: BTreeMap::new(),
            wish: None,
        }
    }

    /// What INQUIRY says of the unit.
    pub(crate) fn tpgs(&self) -> Tpgs {
        self.tpgs
    }

    /// INQUIRY says this now.
    pub(crate) fn set_tpgs(&mut self, now: Instant, tpgs: Tpgs) {
        if self.tpgs != tpgs {
            self.tpgs = tpgs;
            self.ask(now);
        }
    }

    /// The groups of the last report, with what refused commands told since.
    pub(crate) fn groups(&self, now: Instant) -> Vec<TargetPortGroup> {
        let effective = |group: &TargetPortGroup| TargetPortGroup {
            state: self.state_of(now, group.id).unwrap_or(group.state),
            ..group.clone()
        };
        self.groups.iter().map(effective).collect()
    }

    /// How long the target says that a transition may take.
    pub(crate) fn implicit_transition(&self) -> Option<Duration> {
        self.implicit_transition
    }

    /// Whether to ask for the extended header.
    pub(crate) fn extended(&self) -> bool {
        !self.short
    }

    /// The extended header was refused.
    pub(crate) fn refused_extended(&mut self) {
        self.short = true;
    }

    /// Something may have changed: ask for a report.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.min(now)));
        self.interval = self.interval_range.0;
    }

    /// A command was refused because of the access state of its port's group.
    pub(crate) fn denied(&mut self, now: Instant, port: TargetPort, state: AccessState) {
        if let Some(group) = self.group_of(port).map(|group| group.id) {
            let until = now.checked_add(DENIED_FOR).unwrap_or(now);
            self.denied.insert(group, (state, until));
            if state == AccessState::Transitioning {
                self.changing.entry(group).or_insert(now);
            } else {
                self.changing.remove(&group);
            }
        }
        self.ask(now);
    }

    /// I/O found no path and waits for one until then.
    pub(crate) fn demand(&mut self, now: Instant, until: Instant) {
        if is_explicit(self.tpgs) && !self.refused && self.open_due.is_none() {
            self.open_due = now.checked_add(self.limit());
        }
        self.demand = self.demand.max(Some(until)).max(self.open_due);
    }

    /// The target is about to give access to a path, and has until then.
    pub(crate) fn change_due(&self, now: Instant) -> Option<Instant> {
        let open_due = self.open_due.filter(|due| now < *due);
        self.transition_ends(now).max(open_due)
    }

    fn limit(&self) -> Duration {
        self.implicit_transition.unwrap_or(TRANSITION)
    }

    /// The administrator wants the preferred group to be opened, if there is one that is not.
    pub(crate) fn want_preferred(&mut self, now: Instant) {
        let closed = |group: &&TargetPortGroup| {
            group.preferred && group.state != AccessState::ActiveOptimized
        };
        let group = self.groups.iter().find(closed);
        if let Some(group) = group.filter(|_| is_explicit(self.tpgs)) {
            self.wish = Some((group.id, now));
        }
    }

    /// What is another than when this was last asked, however it was learnt.
    pub(crate) fn news(&mut self, now: Instant) -> Vec<Change> {
        let mut news = Vec::new();
        for group in self.groups(now) {
            let is = (group.state, group.preferred);
            let was = self.announced.insert(group.id, is);
            if was != Some(is) {
                news.push(Change {
                    group: group.id,
                    from: was.map(|(state, _)| state),
                    to: group.state,
                    preferred: group.preferred,
                });
            }
        }
        news
    }

    /// What the target reports.
    pub(crate) fn reported(&mut self, now: Instant, report: TargetPortGroups) {
        self.implicit_transition = report.implicit_transition;
        self.groups = report.groups;
        self.groups.truncate(GROUPS_MAX);
        self.denied.retain(|_, (_, until)| now < *until);
        let ids: Vec<(u16, AccessState)> = self
            .groups
            .iter()
            .map(|group| (group.id, group.state))
            .collect();
        self.changing.retain(|group, _| {
            let denied = self.denied.get(group).map(|denied| denied.0);
            let state = ids
                .iter()
                .find(|(id, _)| id == group)
                .map(|(_, state)| *state);
            denied.or(state) == Some(AccessState::Transitioning)
        });
        for (group, state) in ids {
            if state == AccessState::Transitioning {
                self.changing.entry(group).or_insert(now);
            }
        }
        if self.transition_ends(now).is_some() {
            self.report_in(now, self.poll);
            self.poll = self.poll.saturating_mul(2).min(POLL_MAX);
        } else {
            self.poll = POLL_MIN;
            let undisturbed = self.due.is_none();
            self.report_in(now, self.interval);
            if undisturbed {
                self.interval = self.interval.saturating_mul(2).min(self.interval_range.1);
            }
        }
    }

    /// Unless one was asked for meanwhile.
    fn report_in(&mut self, now: Instant, pause: Duration) {
        self.due = self.due.or_else(|| now.checked_add(pause));
    }

    /// No path brought a report.
    pub(crate) fn unreported(&mut self, now: Instant) {
        self.due = now.checked_add(self.poll.max(RETRY_MIN));
        self.poll = self.poll.saturating_mul(2).min(POLL_MAX);
    }

    /// The target has (not) opened a group.
    pub(crate) fn was_set(&mut self, now: Instant, group: u16, good: bool) {
        self.wish = self.wish.filter(|wish| wish.0 != group);
        self.denied.remove(&group);
        if good {
            self.demand = None;
            self.set_pause = SET_PAUSE_MIN;
        } else {
            self.refused = true;
            self.open_due = None;
        }
        // The report tells what came of it; not again before.
        self.set_after = now.checked_add(self.set_pause);
        if !good {
            self.set_pause = self.set_pause.saturating_mul(2).min(SET_PAUSE_MAX);
        }
        self.ask(now);
    }

    /// When the last transition that is still waited for must have ended; `None`: none is.
    pub(crate) fn transition_ends(&self, now: Instant) -> Option<Instant> {
        let limit = self.limit();
        let end = |since: &Instant| since.checked_add(limit).filter(|end| now < *end);
        self.changing.values().filter_map(end).max()
    }

    /// Whether a report says of groups what is known already.
    pub(crate) fn is_known(&self, report: &TargetPortGroups) -> bool {
        let known = |group: &TargetPortGroup| {
            let mut groups = self.groups.iter();
            groups.any(|it| {
                (it.id, it.state, it.preferred) == (group.id, group.state, group.preferred)
            })
        };
        let all = report.groups.iter().take(GROUPS_MAX);
        report.groups.len().min(GROUPS_MAX) == self.groups.len() && all.clone().all(known)
    }

    /// How the target lets a path through this port reach the unit.
    pub(crate) fn access(&self, now: Instant, port: TargetPort) -> Option<PathAccess> {
        let group = self.group_of(port)?;
        Some(PathAccess {
            group: group.id,
            port: port.port,
            state: self.state_of(now, group.id)?,
            preferred: group.preferred,
        })
    }

    /// What to do. `patience`: a preferred group is to be opened so long after a path into it came
    /// up; `None`: never.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        paths: &[Sight],
        patience: Option<Duration>,
    ) -> Action {
        if self.tpgs == Tpgs::None {
            return Action::Rest;
        }
        self.note_up(now, paths, patience);
        if let Some(group) = self.group_to_set(now, paths) {
            return Action::Set(group);
        }
        let any_up = paths.iter().any(|path| path.up);
        let due = self.due.filter(|_| any_up);
        if due.is_some_and(|due| due <= now) {
            // Whoever asks from now on gets another one.
            self.due = None;
            return Action::Report;
        }
        let denied = self.denied.values().map(|denied| denied.1);
        let transition = self.transition_ends(now);
        let set = self
            .set_after
            .filter(|_| self.demand.is_some() || self.wish.is_some());
        let wish = self.wish.map(|wish| wish.1);
        let later = denied.chain(transition).chain(due).chain(set).chain(wish);
        match later.filter(|time| *time > now).min() {
            Some(time) => Action::Wait(time),
            None => Action::Rest,
        }
    }

    fn group_of(&self, port: TargetPort) -> Option<&TargetPortGroup> {
        let by_id = |id| self.groups.iter().find(|group| group.id == id);
        let by_port = |id| self.groups.iter().find(|group| group.ports.contains(&id));
        let named = port.group.and_then(by_id);
        named.or_else(|| port.port.and_then(by_port))
    }

    fn state_of(&self, now: Instant, id: u16) -> Option<AccessState> {
        let group = self.groups.iter().find(|group| group.id == id)?;
        let denied = self.denied.get(&id).filter(|denied| now < denied.1);
        let state = denied.map_or(group.state, |denied| denied.0);
        let late = || {
            let since = self.changing.get(&id);
            since.is_some_and(|since| now.saturating_duration_since(*since) >= self.limit())
        };
        let stuck = state == AccessState::Transitioning && late();
        Some(if stuck { AccessState::Standby } else { state })
    }

    /// A path into a preferred group that came up: its group is to be opened.
    fn note_up(&mut self, now: Instant, paths: &[Sight], patience: Option<Duration>) {
        if self.groups.is_empty() {
            return;
        }
        let up_ports = paths.iter().filter(|path| path.up).map(|path| path.port);
        let up: Vec<u16> = up_ports
            .filter_map(|port| self.group_of(port).map(|group| group.id))
            .collect();
        let Some(before) = self.up.replace(up.clone()) else {
            return;
        };
        if !is_explicit(self.tpgs) {
            return;
        }
        let at = patience.and_then(|time| now.checked_add(time));
        let came = self.groups.iter().find(|group| {
            let optimized = group.state == AccessState::ActiveOptimized;
            let came_up = up.contains(&group.id) && !before.contains(&group.id);
            group.preferred && came_up && !optimized
        });
        if let (Some(group), Some(at)) = (came, at) {
            self.wish = Some((group.id, at));
        }
        // What went away again is not wished for.
        self.wish = self.wish.filter(|wish| up.contains(&wish.0));
    }

    /// Whether a path into a group that is open is being verified: I/O is about to have its path.
    fn is_opening(&self, now: Instant, paths: &[Sight]) -> bool {
        let mut verifying = paths.iter().filter(|path| path.verifying);
        verifying.any(|path| {
            let access = self.access(now, path.port);
            access.is_some_and(|access| access.carries_io())
        })
    }

    fn group_to_set(&mut self, now: Instant, paths: &[Sight]) -> Option<u16> {
        if !is_explicit(self.tpgs) || self.set_after.is_some_and(|after| now < after) {
            return None;
        }
        if self.transition_ends(now).is_some() {
            return None;
        }
        if let Some((group, at)) = self.wish
            && at <= now
        {
            return Some(group);
        }
        if paths.iter().any(|path| path.usable) {
            (self.demand, self.open_due) = (None, None);
            self.refused = false;
        }
        self.demand = self.demand.filter(|until| now < *until);
        if self.demand.is_none() || self.due.is_some_and(|due| due <= now) {
            // What the report says first; the groups may be open already.
            return None;
        }
        if self.is_opening(now, paths) {
            // Opening another group may close this one, and so on in a circle.
            return None;
        }
        let rank = |group: &TargetPortGroup| {
            let state = match self.state_of(now, group.id) {
                Some(AccessState::Standby) => 0,
                Some(AccessState::Unavailable) => 1,
                Some(
                    AccessState::ActiveOptimized
                    | AccessState::ActiveNonOptimized
                    | AccessState::Offline
                    | AccessState::LbaDependent
                    | AccessState::Transitioning
                    | AccessState::Reserved(_),
                )
                | None => return None,
            };
            Some((!group.preferred, state, group.id))
        };
        let up = paths.iter().filter(|path| path.up);
        let groups = up.filter_map(|path| self.group_of(path.port));
        groups.filter_map(rank).min().map(|(_, _, id)| id)
    }
}

/// How long a transition may take when the target does not say (as multipath's `alua` handler).
const TRANSITION: Duration = Duration::from_secs(60);
/// A refused command counts more than reports for so long.
const DENIED_FOR: Duration = Duration::from_millis(100);
/// First and longest pause between two reports during a transition.
const POLL_MIN: Duration = Duration::from_millis(50);
/// See above.
const POLL_MAX: Duration = Duration::from_secs(2);
/// Pause after a report that failed.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// First and longest pause between two tries to open a group.
const SET_PAUSE_MIN: Duration = Duration::from_secs(1);
/// See above.
const SET_PAUSE_MAX: Duration = Duration::from_secs(32);
/// More groups than this are not looked at; the number comes from the device.
const GROUPS_MAX: usize = 256;

#[cfg(test)]
mod tests;
