//! The initiator: discovery and login.

use std::sync::Arc;

use iscsi::discovery::DiscoveryConfig;
use iscsi::login::{AuthPolicy, LoginError, LoginStatus};
use mpio::MAX_PATHS;
use tokio::task::JoinSet;

use crate::builder::{DiscoveryAuth, Settings};
use crate::error::login_error;
use crate::plan::{self, Addresses};
use crate::{
    Builder, DiscoveredTarget, Error, Host, IscsiName, Portal, PortalSpec, Target, TargetSpec,
};

/// An iSCSI initiator: a name, credentials and settings. Cheap to clone; needs a tokio runtime
/// when used.
#[derive(Debug, Clone)]
pub struct Initiator {
    settings: Arc<Settings>,
}

impl Initiator {
    /// Starts from the initiator's name.
    #[must_use]
    pub fn builder(name: IscsiName) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self { settings }
    }

    #[cfg(test)]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks a portal for its targets (SendTargets=All in a discovery session).
    ///
    /// # Errors
    /// [`Error::NoPortalReachable`], [`Error::Login`], [`Error::Discovery`].
    pub async fn discover(&self, portal: &Portal) -> Result<Vec<DiscoveredTarget>, Error> {
        let chap = match (self.settings.discovery_auth(), &self.settings.auth) {
            (DiscoveryAuth::Chap, auth) => return self.ask(portal, auth).await,
            (DiscoveryAuth::IfAsked, auth @ AuthPolicy::Chap(_)) => Some(auth),
            (DiscoveryAuth::IfAsked | DiscoveryAuth::None, _) => None,
        };
        match (self.ask(portal, &AuthPolicy::None).await, chap) {
            (Err(Error::Login { source }), Some(auth))
                if login_error(&source).is_some_and(asks_for_authentication) =>
            {
                self.ask(portal, auth).await
            }
            (result, _) => result,
        }
    }

    /// One discovery session.
    async fn ask(
        &self,
        portal: &Portal,
        auth: &AuthPolicy,
    ) -> Result<Vec<DiscoveredTarget>, Error> {
        let settings = &self.settings;
        let timeouts = settings.timeouts();
        let lease = settings
            .isids
            .lease_for_discovery()
            .ok_or(Error::TooManyDiscoveries)?;
        let found = iscsi::net::discover(DiscoveryConfig {
            initiator_name: settings.name().clone(),
            portal: portal.clone(),
            isid: lease.isid,
            auth: auth.clone(),
            offer: settings.offer().clone(),
            connect_timeout: timeouts.connect,
            timeout: timeouts.login.saturating_add(timeouts.connect),
        })
        .await;
        found.map_err(Error::of_discovery)
    }

    /// Logs in over every portal given, in parallel. At least one must succeed; the others go on
    /// in the background ([`Target::warnings`] tells which).
    ///
    /// # Errors
    /// [`Error::NoPortalReachable`], [`Error::Login`], [`Error::NoSuchTarget`]; with
    /// [`TargetSpec::all_portals`] those of [`Initiator::discover`] too.
    pub async fn login(&self, target: TargetSpec) -> Result<Target, Error> {
        let TargetSpec {
            name,
            portals,
            all_portals,
        } = target;
        if portals.is_empty() {
            return Err(Error::NoPortal);
        }
        if let Some((first, second, portal)) = plan::twice(&portals) {
            return Err(Error::PortalTwice {
                target: name,
                portal,
                first,
                second,
            });
        }
        let given = portals.len();
        let (portals, spare) = if all_portals {
            let mut portals = self.all_portals(&name, portals).await?;
            // What was asked for by name is not cut off, and fails if it is too much.
            let spare = portals.split_off(portals.len().min(given.max(MAX_PATHS)));
            (portals, spare)
        } else {
            (portals, Vec::new())
        };
        Target::login(Arc::clone(&self.settings), name, portals, spare).await
    }

    /// The portals given, and all others that the target lists.
    async fn all_portals(
        &self,
        name: &IscsiName,
        given: Vec<PortalSpec>,
    ) -> Result<Vec<PortalSpec>, Error> {
        let (asked, found) = self.first_answer(&given).await?;
        let listed = found.into_iter().find(|target| target.name == *name);
        let Some(DiscoveredTarget { portals, .. }) = listed else {
            return Err(Error::NoSuchTarget {
                target: name.clone(),
                portal: asked,
                reason: "not listed by SendTargets".to_owned(),
            });
        };
        let mut addresses = Addresses::new();
        for portal in given
            .iter()
            .map(|given| &given.portal)
            .chain(portals.iter().map(|(portal, _)| portal))
        {
            if let Host::Name(host) = &portal.host
                && !addresses.contains_key(portal)
            {
                // A name that does not resolve fails later, where its portal is used.
                let lookup = tokio::net::lookup_host((host.as_str(), portal.port));
                let limit = self.settings.timeouts().connect;
                if let Ok(Ok(resolved)) = tokio::time::timeout(limit, lookup).await {
                    addresses.insert(portal.clone(), resolved.collect());
                }
            }
        }
        Ok(plan::merge(given, &portals, &addresses))
    }

    /// Asks all portals at once and takes the first answer, so that one that is away costs
    /// nothing.
    async fn first_answer(
        &self,
        given: &[PortalSpec],
    ) -> Result<(Portal, Vec<DiscoveredTarget>), Error> {
        let mut questions = JoinSet::new();
        for PortalSpec { portal, .. } in given {
            let (this, portal) = (self.clone(), portal.clone());
            questions.spawn(async move {
                let found = this.discover(&portal).await;
                found.map(|found| (portal, found))
            });
        }
        let mut tried = Vec::new();
        let mut told = None;
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(Error::NoPortalReachable { tried: one, .. })) => tried.extend(one),
                Ok(Err(error)) => told = told.or(Some(error)),
                // A task of ours that was cancelled: the runtime is shutting down.
                Err(_) => {}
            }
        }
        Err(told.unwrap_or(Error::NoPortalReachable {
            target: None,
            tried,
        }))
    }
}

/// Whether a login without authentication was refused for that.
fn asks_for_authentication(error: &LoginError) -> bool {
    if let LoginError::Rejected { status, .. } = error {
        return *status == LoginStatus::AUTHENTICATION_FAILURE
            || *status == LoginStatus::AUTHORIZATION_FAILURE;
    }
    matches!(error, LoginError::Auth { .. })
}
