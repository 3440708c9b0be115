//! Drives one session over the simulated network, as `iscsi::net`'s driver does over tokio: read,
//! act, write, timers, for each connection in turn; a connection is cut before the core is told.

use std::sync::Arc;
use std::time::Instant;

use iscsi::name::{Cid, Portal};
use iscsi::session::Action;
use smallvec::SmallVec;

use crate::link::Link;
use crate::net::Net;
use crate::nexus::Shared;
use crate::trace::Trace;

/// One path's driver.
#[derive(Debug)]
pub struct Driver {
    index: usize,
    shared: Arc<Shared>,
    portals: Vec<Portal>,
    staging_bytes: usize,
    direct_bytes: usize,
    links: Vec<Link>,
    /// When the session wants to be looked at, as of the last drive.
    due: Option<Instant>,
    /// Timers that fired.
    pub fired: u64,
}

impl Driver {
    /// A driver for path number `index`. `portals`: those that the network knows, by its indices.
    #[must_use]
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        portals: Vec<Portal>,
        staging_bytes: usize,
        direct_bytes: usize,
    ) -> Self {
        Self {
            index,
            shared,
            portals,
            staging_bytes,
            direct_bytes,
            links: Vec::new(),
            due: None,
            fired: 0,
        }
    }

    /// What callers share with this driver.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// When the session wants to be looked at again, should nobody touch it before.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Does what can be done now, if there can be anything; whether anything was.
    pub fn drive(&mut self, now: Instant, net: &mut Net, trace: &mut Trace) -> bool {
        let touched = net.take_touched(self.index) | self.shared.take_touched();
        if !touched && self.due.is_none_or(|due| due > now) {
            return false;
        }
        let mut moved = false;
        while self.turn(now, net, trace) {
            moved = true;
        }
        self.note_events(now, trace);
        self.shared.publish();
        self.due = self.shared.core().session.poll_timeout();
        moved
    }

    /// Once everything in turn.
    fn turn(&mut self, now: Instant, net: &mut Net, trace: &mut Trace) -> bool {
        let mut more = self.dialled(now, net);
        more |= self.act(now, net, trace);
        // By CID: the list changes while connections are opened and closed.
        let cids: SmallVec<[Cid; 8]> = self.links.iter().map(|link| link.cid).collect();
        for cid in &cids {
            while self.on(*cid, |link, shared| link.read(now, net, shared)) {
                more = true;
                self.act(now, net, trace);
            }
        }
        more |= self.act(now, net, trace);
        self.shared.publish();
        for cid in &cids {
            more |= self.on(*cid, |link, shared| link.write(now, net, shared));
        }
        more | self.timers(now)
    }

    /// Does something with a connection, if it is still there.
    fn on(&mut self, cid: Cid, what: impl FnOnce(&mut Link, &Shared) -> bool) -> bool {
        let link = self.links.iter_mut().find(|link| link.cid == cid);
        link.is_some_and(|link| what(link, &self.shared))
    }

    fn dialled(&mut self, now: Instant, net: &Net) -> bool {
        let before = self.links.len();
        let mut moved = false;
        let shared = &self.shared;
        self.links.retain_mut(|link| {
            let result = link.dialled(now, net, shared);
            moved |= result.is_some();
            result != Some(false)
        });
        moved || self.links.len() != before
    }

    fn note_events(&self, now: Instant, trace: &mut Trace) {
        while let Some(event) = self.shared.core().session.poll_event() {
            trace.note(now, format_args!("path {} {event:?}", self.index));
        }
    }

    fn act(&mut self, now: Instant, net: &mut Net, trace: &mut Trace) -> bool {
        let mut moved = false;
        loop {
            let action = self.shared.core().session.poll_action();
            let Some(action) = action else { return moved };
            moved = true;
            self.note_events(now, trace);
            match &action {
                Action::Connect { cid, portal, .. } => self.connect(now, net, trace, *cid, portal),
                Action::LoggedIn { cid, .. } => {
                    if let Some(link) = self.links.iter_mut().find(|link| link.cid == *cid) {
                        link.logged_in(net, &action);
                    }
                }
                Action::Close { cid, abort } => self.close(now, net, *cid, *abort),
            }
        }
    }

    fn connect(
        &mut self,
        now: Instant,
        net: &mut Net,
        trace: &mut Trace,
        cid: Cid,
        portal: &Portal,
    ) {
        trace.note(
            now,
            format_args!("path {} connection {} dials {portal}", self.index, cid.0),
        );
        match self.portals.iter().position(|known| known == portal) {
            Some(index) => {
                let socket = net.dial(now, self.index, index);
                let link = Link::dial(cid, socket, self.staging_bytes, self.direct_bytes);
                self.links.push(link);
            }
            None => {
                let reason = "no route to host".to_owned();
                let mut core = self.shared.core();
                core.session.handle_connect_failed(now, cid, reason);
            }
        }
    }

    /// Cuts a connection, then tells the core.
    fn close(&mut self, now: Instant, net: &mut Net, cid: Cid, abort: bool) {
        let at = self.links.iter().position(|link| link.cid == cid);
        let (written, loan) = match at {
            Some(at) => self.links.remove(at).cut(now, net, abort),
            None => (0, None),
        };
        let mut core = self.shared.core();
        if let Some(loan) = loan {
            core.session.take_back(loan);
        }
        core.session.handle_closed(now, cid, written);
    }

    fn timers(&mut self, now: Instant) -> bool {
        let mut core = self.shared.core();
        if core.session.poll_timeout().is_none_or(|due| due > now) {
            return false;
        }
        self.fired += 1;
        core.session.handle_timeout(now);
        true
    }
}
