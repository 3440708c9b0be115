//! What applications hold: a session, and the nexus of one of its logical units.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scsi::{
    Command, Completion, FenceError, Incarnation, Lun, Nexus, NexusState, PingError, ResetError,
};
use tokio::sync::{broadcast, watch};

use super::driver::Driver;
use super::error::{ConnectError, ConnectErrorKind};
use super::shared::{Shared, Status};
use super::submit::execute;
use crate::name::{Cid, Portal};
use crate::session::{
    CloseReason, ConnectionError, Event, ManagementFunction, ManagementResponse, Session,
    SessionConfig, SessionSnapshot, TaskManagementError,
};

/// Longest transfer of one command. Above this, more commands do more than longer ones.
const MAX_TRANSFER_BYTES: usize = 1 << 20;

/// A session that reconnects by itself, until it is logged out or the last handle is dropped.
#[derive(Clone)]
pub struct SessionHandle(Arc<Owner>);

/// Logs the session out when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
    config: SessionConfig,
}

impl SessionHandle {
    /// Starts a session and does not wait for its first login.
    ///
    /// Has to be called within a tokio runtime, on which the session's task then lives.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "drivers read the clock")]
    pub fn start(config: SessionConfig) -> Self {
        let entropy = Box::new(|bytes: &mut [u8]| {
            // What stays zero is no randomness; a login that needs some then refuses to start.
            if getrandom::fill(bytes).is_err() {
                bytes.fill(0);
                tracing::error!("the system has no randomness");
            }
        });
        let session = Session::new(Instant::now(), config.clone(), entropy);
        let shared = Arc::new(Shared::new(session));
        tokio::spawn(Driver::new(Arc::clone(&shared)));
        Self(Arc::new(Owner { shared, config }))
    }

    /// Logs in.
    ///
    /// # Errors
    /// The first attempt failed; the session is closed again.
    pub async fn login(config: SessionConfig) -> Result<Self, ConnectError> {
        let this = Self::start(config);
        match this.first_attempt().await {
            Ok(()) => Ok(this),
            Err(error) => {
                this.with_session(Session::logout);
                Err(error)
            }
        }
    }

    /// Waits until the session is up, or an attempt to get it there has failed.
    ///
    /// # Errors
    /// The attempt's failure; the session goes on trying.
    pub async fn first_attempt(&self) -> Result<(), ConnectError> {
        let mut status = self.0.shared.status.subscribe();
        let done =
            |status: &Status| !matches!(status.state, NexusState::Down(_)) || status.failures > 0;
        let Ok(seen) = status.wait_for(done).await.map(|seen| *seen) else {
            return Err(self.closed());
        };
        match seen.state {
            NexusState::Up(_) => Ok(()),
            NexusState::Down(_) | NexusState::Closed | _ => Err(self.last_failure()),
        }
    }

    fn last_failure(&self) -> ConnectError {
        let snapshot = self.snapshot();
        let Some((portal, reason)) = snapshot.last_failure else {
            return self.closed();
        };
        let target = Some(snapshot.target_name);
        ConnectError {
            portal,
            target,
            kind: ConnectErrorKind::Lost(reason),
        }
    }

    fn closed(&self) -> ConnectError {
        ConnectError {
            portal: self.0.config.portal.clone(),
            target: Some(self.0.config.target_name.clone()),
            kind: ConnectErrorKind::Closed(CloseReason::LoggedOut),
        }
    }

    /// The nexus of one logical unit.
    #[must_use]
    pub fn nexus(&self, lun: Lun) -> LunNexus {
        LunNexus {
            session: self.clone(),
            lun,
        }
    }

    /// Logs out: waits for what is under way, within the logout time limit, and closes. Does
    /// nothing when the session is closed already.
    pub async fn logout(&self) {
        self.with_session(Session::logout);
        let mut status = self.0.shared.status.subscribe();
        // An error means that the driver is gone, and with it the session.
        let _ = status
            .wait_for(|status| status.state == NexusState::Closed)
            .await;
    }

    /// The session at this moment.
    #[must_use]
    pub fn snapshot(&self) -> SessionSnapshot {
        self.0.shared.core().session.snapshot()
    }

    /// Adds a connection to the session, through `portal` of the session's portal group, or
    /// through the next in turn.
    ///
    /// # Errors
    /// The session is not up, or has as many connections as were negotiated.
    pub fn add_connection(&self, portal: Option<Portal>) -> Result<Cid, ConnectionError> {
        let mut added = Err(ConnectionError::NotUp);
        self.with_session(|session, now| added = session.add_connection(now, portal));
        added
    }

    /// Takes one connection out of the session; its commands end before.
    ///
    /// # Errors
    /// The session is not up, or cannot do without that connection.
    pub fn remove_connection(&self, cid: Cid) -> Result<(), ConnectionError> {
        let mut removed = Err(ConnectionError::NotUp);
        self.with_session(|session, now| removed = session.remove_connection(now, cid));
        removed
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventReceiver {
        EventReceiver(self.0.shared.events.subscribe())
    }

    /// Another portal of the home portal's group has become known; it may serve as a fence.
    pub fn add_group_portal(&self, portal: Portal) {
        self.0.shared.core().session.add_group_portal(portal);
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Does something with the session and has the driver look at the result.
    fn with_session(&self, act: impl FnOnce(&mut Session, Instant)) {
        self.0.shared.with_session(act);
    }
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "drivers read the clock")]
    pub(super) fn with_session<T>(&self, act: impl FnOnce(&mut Session, Instant) -> T) -> T {
        let mut core = self.core();
        let done = act(&mut core.session, Instant::now());
        // At once, not by the driver: whoever asks next has to see it, and a driver that has
        // ended tells nobody anything.
        self.publish(&mut core);
        let ring = core.ring();
        drop(core);
        if let Some(driver) = ring {
            driver.wake();
        }
        done
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.with_session(Session::logout);
    }
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionHandle")
            .field(&self.0.shared.core().session)
            .finish()
    }
}

/// Events of one session.
#[derive(Debug)]
pub struct EventReceiver(broadcast::Receiver<Event>);

impl EventReceiver {
    /// The next event; `None` when the session is gone. A reader that is too slow misses the
    /// oldest ones.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// One logical unit behind one session.
#[derive(Debug, Clone)]
pub struct LunNexus {
    session: SessionHandle,
    lun: Lun,
}

impl LunNexus {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &SessionHandle {
        &self.session
    }

    /// The logical unit.
    #[must_use]
    pub fn lun(&self) -> Lun {
        self.lun
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.session.0.shared
    }

    /// Waits until `done`, for at most `budget`.
    async fn wait(
        &self,
        budget: Duration,
        mut done: impl FnMut(&Status) -> bool,
    ) -> Result<(), FenceError> {
        let mut status: watch::Receiver<Status> = self.shared().status.subscribe();
        let wait = status.wait_for(|status| done(status) || status.state == NexusState::Closed);
        match tokio::time::timeout(budget, wait).await {
            Ok(Ok(seen)) if done(&seen) => Ok(()),
            Ok(_) => Err(FenceError::Closed),
            Err(_) => Err(FenceError::Unreachable),
        }
    }
}

impl Nexus for LunNexus {
    fn execute(&self, command: Command) -> impl Future<Output = Completion> + Send {
        execute(self.shared(), self.lun, command)
    }

    async fn fence(&self, incarnation: Incarnation, budget: Duration) -> Result<(), FenceError> {
        self.shared()
            .with_session(|session, now| session.want_fence(now, incarnation));
        self.wait(budget, |status| status.over >= incarnation).await
    }

    async fn settle(&self, incarnation: Incarnation, budget: Duration) -> Result<(), FenceError> {
        let alive = |state| state == NexusState::Up(incarnation);
        // What was dropped a moment ago may not have been made known by the driver yet.
        self.shared().publish(&mut self.shared().core());
        let settled = self
            .wait(budget, |status| {
                status.over >= incarnation || !alive(status.state) || status.unsettled == 0
            })
            .await;
        let status = *self.shared().status.borrow();
        if status.over >= incarnation || (alive(status.state) && status.unsettled == 0) {
            return Ok(());
        }
        // Not to be waited out on this connection: what it left has to be fenced.
        settled?;
        self.fence(incarnation, budget).await
    }

    fn state(&self) -> NexusState {
        self.shared().status.borrow().state
    }

    async fn changed(&self, seen: NexusState) -> NexusState {
        let mut status = self.shared().status.subscribe();
        // An error means that the driver is gone, and with it the session.
        status
            .wait_for(|status| status.state != seen)
            .await
            .map_or(NexusState::Closed, |status| status.state)
    }

    async fn reset_logical_unit(
        &self,
        incarnation: Incarnation,
        budget: Duration,
    ) -> Result<(), ResetError> {
        if self.state() != NexusState::Up(incarnation) {
            return Err(ResetError::Down);
        }
        let reset = self.task_management(ManagementFunction::LogicalUnitReset);
        match tokio::time::timeout(budget, reset).await {
            Ok(Ok(answer)) if answer.response == ManagementResponse::FunctionComplete => Ok(()),
            Ok(Ok(answer)) => Err(ResetError::Refused(answer.response.code())),
            Ok(Err(TaskManagementError::Down | TaskManagementError::Closed)) => {
                Err(ResetError::Down)
            }
            Ok(Err(_)) | Err(_) => Err(ResetError::NoAnswer),
        }
    }

    async fn ping(&self, incarnation: Incarnation, budget: Duration) -> Result<(), PingError> {
        let up = NexusState::Up(incarnation);
        if self.state() != up {
            return Err(PingError::Down);
        }
        let asked = self
            .shared()
            .with_session(|session, _| session.ask_echo())
            .ok_or(PingError::Down)?;
        let done = |status: &Status| status.echoed >= asked;
        let waited = self
            .wait(budget, |status| done(status) || status.state != up)
            .await;
        let status = *self.shared().status.borrow();
        match waited {
            _ if status.state != up => Err(PingError::Down),
            Ok(()) => Ok(()),
            Err(_) => Err(PingError::NoAnswer),
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self.state(), NexusState::Down(_)) && self.session.last_failure().says_gone()
    }

    fn max_transfer_bytes(&self) -> usize {
        MAX_TRANSFER_BYTES
    }

    fn queue_depth(&self) -> usize {
        usize::from(self.session.0.config.queue_depth)
    }

    fn describe(&self) -> String {
        let config = &self.session.0.config;
        format!("{} {} LUN {}", config.portal, config.target_name, self.lun)
    }
}
