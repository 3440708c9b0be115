//! The initiator: discovery and login.

use std::sync::Arc;

use crate::{Builder, DiscoveredTarget, Error, IscsiName, Portal, Target, TargetSpec};

/// An iSCSI initiator: a name, credentials and settings. Cheap to clone; needs a tokio runtime
/// when used.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "stub")]
pub struct Initiator {
    settings: Arc<Builder>,
}

impl Initiator {
    /// Starts from the initiator's name.
    #[must_use]
    pub fn builder(name: IscsiName) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn from_builder(builder: Builder) -> Self {
        Self {
            settings: Arc::new(builder),
        }
    }

    /// Asks a portal for its targets (SendTargets=All in a discovery session).
    ///
    /// # Errors
    /// [`Error::NoPortalReachable`], [`Error::Login`].
    #[allow(clippy::unused_async, reason = "stub")]
    pub async fn discover(&self, _portal: &Portal) -> Result<Vec<DiscoveredTarget>, Error> {
        Err(Error::Unsupported("discovery"))
    }

    /// Logs in over every portal given, in parallel. At least one must succeed; the others go on
    /// in the background.
    ///
    /// # Errors
    /// [`Error::NoPortalReachable`], [`Error::Login`], [`Error::NoSuchTarget`].
    #[allow(clippy::unused_async, reason = "stub")]
    pub async fn login(&self, _target: TargetSpec) -> Result<Target, Error> {
        Err(Error::Unsupported("login"))
    }
}
