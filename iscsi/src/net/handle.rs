//! What applications hold: a session, and the nexus of one of its logical units.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use scsi::{Command, Completion, FenceError, Incarnation, Lun, Nexus, NexusState};
use smallvec::SmallVec;
use tokio::sync::{broadcast, watch};

use super::driver::Driver;
use super::error::{ConnectError, ConnectErrorKind};
use super::shared::{Outlet, Shared, Status};
use crate::name::{Cid, Portal};
use crate::session::{
    CloseReason, ConnectionError, Event, Session, SessionConfig, SessionSnapshot, TaskKey,
};
use crate::wire::transmit::MAX_SLICES;

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
    #[expect(clippy::disallowed_methods, reason = "drivers read the clock")]
    async fn execute(&self, command: Command) -> Completion {
        let shared = self.shared();
        let started = Instant::now();
        // Trying first is cheaper, and never gets before those who wait. Waiting fails only when
        // closed, which this semaphore never is.
        if let Ok(permit) = shared.slots.try_acquire() {
            permit.forget();
        } else if let Ok(permit) = shared.slots.acquire().await {
            permit.forget();
        }
        let completion = Submitted {
            shared,
            lun: self.lun,
            command: Some(command),
            key: None,
        }
        .await;
        Completion {
            took: started.elapsed(),
            ..completion
        }
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

/// Hands a command to the core, with the waker of who waits for it; writes it at once when nothing
/// is before it. More may follow at once, but the target then wakes up while they are made, which
/// measured better at depth 8 and 32 than one write for all.
#[expect(clippy::disallowed_methods, reason = "drivers read the clock")]
fn submit(
    shared: &Shared,
    lun: Lun,
    command: Command,
    waker: &Waker,
) -> Result<TaskKey, Completion> {
    let now = Instant::now();
    let mut core = shared.core();
    let idle = core.session.idle_connection();
    let key = core.session.submit(now, lun, command)?;
    // Not sent yet, so it is pending: this only leaves the waker.
    let polled = core.session.poll_task(key, waker);
    debug_assert!(polled.is_pending());
    let due = core.session.poll_timeout();
    let in_time = core
        .armed
        .is_some_and(|armed| due.is_none_or(|due| armed <= due));
    // Trying does not wait, so the lock order cannot be hurt.
    let writer = idle
        .filter(|cid| in_time && core.session.wants_transmit(*cid))
        .and_then(|cid| Some((cid, shared.writer.try_lock().ok()?)));
    if let Some((cid, mut writer)) = writer {
        let mut outlets = writer.outlets.iter_mut();
        let outlet = outlets.find(|outlet| outlet.cid == cid && outlet.transmit.is_empty());
        if let Some(Outlet {
            transmit,
            half: Some(half),
            ..
        }) = outlet
        {
            core.session.poll_transmit(now, cid, transmit);
            // More than one batch: the driver goes on.
            let more = core.session.wants_transmit(cid);
            drop(core);
            transmit.seal();
            let written = {
                let mut slices = SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
                transmit.slices(&mut slices);
                half.try_write_vectored(&slices)
            };
            // An error shows on the reading side too; the driver handles it there.
            transmit.advance(written.unwrap_or(0));
            if transmit.is_empty() && !more {
                return Ok(key);
            }
            core = shared.core();
        }
    }
    let ring = core.ring();
    drop(core);
    if let Some(driver) = ring {
        driver.wake();
    }
    Ok(key)
}

/// A command that is submitted when first polled, which saves taking the lock once more to leave
/// the waker, and then waited for; dropped, it gives the command up. Owns one permit of the slots
/// until the command is submitted, which then owns it.
struct Submitted<'a> {
    shared: &'a Shared,
    lun: Lun,
    command: Option<Command>,
    key: Option<TaskKey>,
}

impl Future for Submitted<'_> {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        if let Some(command) = self.command.take() {
            return match submit(self.shared, self.lun, command, cx.waker()) {
                Ok(key) => {
                    self.key = Some(key);
                    Poll::Pending
                }
                Err(completion) => {
                    self.shared.slots.add_permits(1);
                    Poll::Ready(completion)
                }
            };
        }
        let Some(key) = self.key else {
            return Poll::Pending;
        };
        let mut core = self.shared.core();
        let polled = core.session.poll_task(key, cx.waker());
        let freed = core.session.take_freed();
        drop(core);
        if freed > 0 {
            self.shared.slots.add_permits(freed);
        }
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        if self.command.is_some() {
            self.shared.slots.add_permits(1);
        }
        if let Some(key) = self.key.take() {
            self.shared
                .with_session(|session, now| session.abandon(now, key));
        }
    }
}
