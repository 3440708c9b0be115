//! A target that is logged in to, over one or more sessions.
//!
//! One session per portal, each reconnecting by itself. Every logical unit takes all sessions as
//! its paths, those that are not up yet included. Sessions that turn out to be of one portal
//! group learn each other's portals, so that any of them can be the fence of another.

mod across;
mod inventory;
mod units;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use iscsi::net::{ConnectError, ConnectErrorKind, LunNexus, SessionHandle};
use mpio::{MAX_PATHS, PathSettings, PathSpec, TokioClock};
use scsi::NexusState;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::inventory::Inventory;
use self::units::{Opened, Units};
use crate::builder::Settings;
use crate::event::{Event, EventReceiver, Events};
use crate::query;
use crate::{
    Error, Geometry, IscsiName, Isid, LogicalUnit, LuIdentity, Lun, Portal, PortalGroupTag,
    SessionSnapshot, plan,
};

/// How long a login waits for the other portals once one has logged in. They go on afterwards.
const GRACE: Duration = Duration::from_secs(2);

/// One portal to log in through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalSpec {
    /// Where.
    pub portal: Portal,
    /// Its portal group, when known.
    pub group: Option<PortalGroupTag>,
}

impl From<Portal> for PortalSpec {
    fn from(portal: Portal) -> Self {
        let group = None;
        Self { portal, group }
    }
}

/// Which target, over which portals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// Its name.
    pub name: IscsiName,
    /// Portals to log in through, one session each.
    pub portals: Vec<PortalSpec>,
    /// Add every portal that SendTargets lists for the target.
    pub all_portals: bool,
}

/// What a logical unit is, disk or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LunDescription {
    /// Its number.
    pub lun: Lun,
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Peripheral device type (SPC-4 §6.6.2): 0 is a disk.
    pub device_type: u8,
    /// Size and block size; `None` when it is no block device or not ready.
    pub geometry: Option<Geometry>,
    /// The identity that paths are compared by; `None` when it could not be asked for.
    pub identity: Option<LuIdentity>,
}

/// A target with its sessions.
///
/// Call [`Target::logout`] when done. Dropped instead, its sessions log out in the background as
/// soon as its logical units are gone too.
#[derive(Debug)]
pub struct Target {
    shared: Arc<Shared>,
    warnings: Vec<(Portal, Error)>,
    /// Passes events on; ends with the target.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<Settings>,
    name: IscsiName,
    paths: Vec<Path>,
    /// Assembled units. Two for one LUN would not know of each other's uncertain writes.
    units: tokio::sync::Mutex<Units>,
    inventory: Inventory,
    events: Arc<Events>,
    /// On which the sessions live.
    runtime: Handle,
}

/// One session.
#[derive(Debug)]
struct Path {
    portal: Portal,
    /// As given or listed; what the login says is better.
    group: Option<PortalGroupTag>,
    isid: Isid,
    handle: SessionHandle,
}

impl Path {
    /// Its portal group as far as known.
    fn group(&self) -> Option<PortalGroupTag> {
        let snapshot = self.handle.snapshot();
        snapshot.session.target_portal_group_tag.or(self.group)
    }

    fn is_up(&self) -> bool {
        matches!(self.handle.snapshot().state, NexusState::Up(_))
    }
}

impl Target {
    /// Starts all sessions and waits for the first, a little for the others. `spare` are portals
    /// beyond what a logical unit can use.
    pub(crate) async fn login(
        settings: Arc<Settings>,
        name: IscsiName,
        portals: Vec<PortalSpec>,
        spare: Vec<PortalSpec>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared::start(settings, name, portals)?);
        let target = Self {
            tasks: Mutex::new(shared.follow_sessions()),
            warnings: Vec::new(),
            shared,
        };
        let spares = spare.len();
        let failures = target.first_attempts().await;
        if !target.shared.paths.iter().any(Path::is_up) {
            let name = target.shared.name.clone();
            // Nothing is up, so this takes no time.
            let _ = target.logout().await;
            return Err(Error::of_logins(&name, failures));
        }
        target.shared.regroup();
        let failed = |error: ConnectError| {
            let portal = error.portal.clone();
            (portal, Error::of_login(&target.shared.name, error))
        };
        let unused = |spare: &PortalSpec| {
            let error = Error::TooManySessions {
                target: target.shared.name.clone(),
                given: target.shared.paths.len() + spares,
                max: MAX_PATHS,
            };
            (spare.portal.clone(), error)
        };
        let warnings = failures.into_iter().map(failed);
        let warnings = warnings.chain(spare.iter().map(unused)).collect();
        Ok(Self { warnings, ..target })
    }

    /// Waits for the first attempt of every session, but not long once one is up. Returns how
    /// the others fared so far.
    async fn first_attempts(&self) -> Vec<ConnectError> {
        let paths = &self.shared.paths;
        let mut attempts = JoinSet::new();
        for (index, path) in paths.iter().enumerate() {
            let handle = path.handle.clone();
            attempts.spawn(async move { (index, handle.first_attempt().await) });
        }
        let mut outcomes: Vec<Option<Result<(), ConnectError>>> = vec![None; paths.len()];
        let mut until = None;
        loop {
            let attempt = match until {
                None => attempts.join_next().await,
                Some(until) => {
                    let attempt = tokio::time::timeout_at(until, attempts.join_next()).await;
                    attempt.ok().flatten()
                }
            };
            let Some(attempt) = attempt else { break };
            // A task of ours that was cancelled: the runtime is shutting down.
            let Ok((index, outcome)) = attempt else {
                continue;
            };
            if outcome.is_ok() {
                until = until.or_else(|| Some(tokio::time::Instant::now() + GRACE));
            }
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
        }
        let failure = |(path, outcome): (&Path, Option<Result<(), ConnectError>>)| match outcome {
            Some(outcome) => outcome.err(),
            None => Some(ConnectError {
                portal: path.portal.clone(),
                target: Some(self.shared.name.clone()),
                kind: ConnectErrorKind::Timeout {
                    stage: path.handle.snapshot().phase,
                    limit: GRACE,
                },
            }),
        };
        paths.iter().zip(outcomes).filter_map(failure).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &IscsiName {
        &self.shared.name
    }

    /// Portals that had not logged in when [`crate::Initiator::login`] returned, with the reason.
    /// They are tried further, except those that SendTargets listed beyond what one logical unit
    /// can use ([`Error::TooManySessions`]); [`Target::sessions`] tells how they fare now.
    #[must_use]
    pub fn warnings(&self) -> &[(Portal, Error)] {
        &self.warnings
    }

    /// What a logical unit is. Works for devices that are no disks too.
    ///
    /// # Errors
    /// [`Error::NoSuchLun`], [`Error::Query`], [`Error::NoSession`].
    pub async fn describe_lun(&self, lun: Lun) -> Result<LunDescription, Error> {
        let no_such_lun = || Error::NoSuchLun {
            target: self.shared.name.clone(),
            lun,
        };
        let asked = self.shared.on_some_path(lun, async |nexus| {
            let inquiry = query::inquiry(nexus).await?;
            Ok((inquiry, nexus.clone()))
        });
        let (path, (inquiry, nexus)) = match asked.await {
            Ok(answer) => answer,
            Err(Error::Query { source, .. }) if source.says_no_lun() => return Err(no_such_lun()),
            Err(error) => return Err(error),
        };
        if !inquiry.is_present() {
            return Err(no_such_lun());
        }
        // A unit that is not ready has no size to tell, and is described all the same.
        let config = self.shared.settings.multipath();
        let found = mpio::describe(&nexus, &TokioClock, config).await;
        // What the unit had to tell may have been told to these commands.
        self.shared.look_again(lun, path).await;
        let (identity, geometry) = match found {
            Ok(found) => (Some(found.identity), found.geometry),
            Err(_) => (None, None),
        };
        Ok(LunDescription {
            lun,
            vendor: inquiry.vendor,
            product: inquiry.product,
            revision: inquiry.revision,
            device_type: inquiry.device_type.0,
            geometry,
            identity,
        })
    }

    /// All sessions, including those that are not up, with their last failure.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionSnapshot> {
        let snapshot = |path: &Path| path.handle.snapshot();
        self.shared.paths.iter().map(snapshot).collect()
    }

    pub(crate) fn session_handles(&self) -> impl Iterator<Item = &SessionHandle> {
        self.shared.paths.iter().map(|path| &path.handle)
    }

    /// The runtime on which the target's sessions live. With [`crate::Runtime::Sharded`] a task
    /// spawned there shares the thread with them, which is the fastest place for I/O.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventReceiver {
        self.shared.events.subscribe()
    }

    /// Closes the logical units and logs every session out, bounded in time. Flushing is the
    /// caller's business. Sessions that were lost under a write are given the chance to come back
    /// before.
    ///
    /// # Errors
    /// [`Error::Logout`] for sessions that did not end in time, [`Error::Unsettled`] when the
    /// target may still execute a write that got lost.
    pub async fn logout(self) -> Result<(), Error> {
        let shared = &self.shared;
        // Twice: for commands under way, and for the answer to the Logout.
        let patience = shared.settings.timeouts().logout;
        let limit = patience.saturating_mul(2);
        let units = std::mem::take(&mut *shared.units.lock().await);
        let mut closing = JoinSet::new();
        for Opened { unit, .. } in units.values() {
            let unit = unit.clone();
            closing.spawn(async move {
                unit.close().await;
                let _ = tokio::time::timeout(patience, unit.settled()).await;
            });
        }
        // What does not end in time ends with its session.
        let _ = tokio::time::timeout(limit, async {
            while closing.join_next().await.is_some() {}
        })
        .await;
        closing.shutdown().await;
        shared.leave(limit).await?;
        for (lun, Opened { unit, .. }) in units {
            // The sessions are closed, so that this takes no time, whichever way it is.
            let settled = tokio::time::timeout(limit, unit.settled()).await;
            if settled != Ok(true) {
                return Err(shared.unsettled(lun, &unit));
            }
        }
        Ok(())
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Starts a session per portal; waits for none.
    fn start(
        settings: Arc<Settings>,
        name: IscsiName,
        portals: Vec<PortalSpec>,
    ) -> Result<Self, Error> {
        let too_many = |given, max| Error::TooManySessions {
            target: name.clone(),
            given,
            max,
        };
        if portals.len() > MAX_PATHS {
            return Err(too_many(portals.len(), MAX_PATHS));
        }
        let groups: Vec<_> = portals.iter().map(|it| (&it.portal, it.group)).collect();
        let runtime = settings.runtime();
        // Sessions start on the runtime that is entered.
        let entered = runtime.enter();
        let mut paths = Vec::with_capacity(portals.len());
        for (index, PortalSpec { portal, group }) in portals.iter().enumerate() {
            let isid = settings.isids.lease(&name, portal)?;
            let isid = isid.ok_or_else(|| too_many(portals.len(), 0))?;
            let peers = plan::peers(&groups, index);
            let config = settings.session(&name, portal.clone(), peers, isid);
            paths.push(Path {
                portal: portal.clone(),
                group: *group,
                isid,
                handle: SessionHandle::start(config),
            });
        }
        drop(entered);
        Ok(Self {
            settings,
            paths,
            units: tokio::sync::Mutex::default(),
            inventory: Inventory::default(),
            events: Arc::default(),
            runtime,
            name,
        })
    }

    /// Logs every session out, each within `limit`.
    async fn leave(&self, limit: Duration) -> Result<(), Error> {
        let mut leaving = JoinSet::new();
        for (index, path) in self.paths.iter().enumerate() {
            let handle = path.handle.clone();
            leaving.spawn(async move {
                let left = tokio::time::timeout(limit, handle.logout()).await;
                (index, left.is_ok())
            });
        }
        let mut left = vec![false; self.paths.len()];
        while let Some(done) = leaving.join_next().await {
            if let Ok((index, true)) = done
                && let Some(left) = left.get_mut(index)
            {
                *left = true;
            }
        }
        let mut portals = Vec::new();
        for (path, left) in self.paths.iter().zip(left) {
            if left {
                self.settings.isids.release(Some(&self.name), path.isid);
            } else {
                portals.push(path.portal.clone());
            }
        }
        if portals.is_empty() {
            return Ok(());
        }
        let target = self.name.clone();
        Err(Error::Logout { target, portals })
    }

    fn unsettled(&self, lun: Lun, unit: &LogicalUnit) -> Error {
        Error::Unsettled {
            target: self.name.clone(),
            lun,
            ranges: unit.topology().held_ranges,
        }
    }

    /// Passes the sessions' events on, and looks at the portal groups again after each login.
    fn follow_sessions(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for path in &self.paths {
            let mut happenings = path.handle.events();
            let (this, portal) = (Arc::downgrade(self), path.portal.clone());
            let pass_on = async move {
                while let Some(event) = happenings.recv().await {
                    let Some(this) = Weak::upgrade(&this) else {
                        return;
                    };
                    if matches!(event, iscsi::session::Event::LoggedIn { .. }) {
                        this.regroup();
                        // Nobody has told this session what has changed before it.
                        this.inventory.want_again();
                    }
                    let portal = portal.clone();
                    this.events.send(Event::Session { portal, event });
                }
            };
            tasks.spawn_on(pass_on, &self.runtime);
        }
        tasks.spawn_on(inventory::follow(self), &self.runtime);
        tasks
    }

    /// Sessions of one portal group learn each other's portals.
    fn regroup(&self) {
        let groups: Vec<_> = self
            .paths
            .iter()
            .map(|it| (&it.portal, it.group()))
            .collect();
        for (index, path) in self.paths.iter().enumerate() {
            for portal in plan::peers(&groups, index) {
                path.handle.add_group_portal(portal);
            }
        }
    }

    /// All sessions as paths of a logical unit.
    fn path_specs(&self, lun: Lun) -> Vec<PathSpec<LunNexus>> {
        let spec = |(index, path): (usize, &Path)| {
            let before = self.paths.iter().take(index);
            let label = match before.filter(|other| other.portal == path.portal).count() {
                0 => path.portal.to_string(),
                nth => format!("{} #{}", path.portal, nth + 1),
            };
            PathSpec {
                nexus: path.handle.nexus(lun),
                portal_group: path.group().map(|tag| tag.0),
                label,
                settings: PathSettings::default(),
            }
        };
        self.paths.iter().enumerate().map(spec).collect()
    }
}
