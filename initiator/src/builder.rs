//! Collects what an [`Initiator`] needs and checks it.

use std::time::Duration;

use crate::{ChapCredentials, Initiator, IscsiName, LoadBalancePolicy};

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A key that login does not negotiate, or a value out of its range.
    #[error("{key}={value}: {reason}")]
    Offer {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Credentials that contradict the rules of RFC 7143 §12.1 (too short, both ways equal, ..).
    #[error("credentials: {0}")]
    Credentials(String),
    /// Queue depth 0 or above 4096.
    #[error("queue depth {0} is outside 1..=4096")]
    QueueDepth(u16),
}

/// Settings of an [`Initiator`]; defaults are those of RFC 7143 where it has any.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "stub")]
pub struct Builder {
    name: IscsiName,
    alias: Option<String>,
    chap: Option<ChapCredentials>,
    mutual: Option<ChapCredentials>,
    offers: Vec<(String, String)>,
    queue_depth: u16,
    keepalive: (Duration, Duration),
    policy: LoadBalancePolicy,
    no_path_timeout: Option<Duration>,
    io_deadline: Option<Duration>,
}

impl Builder {
    pub(crate) fn new(name: IscsiName) -> Self {
        Self {
            name,
            alias: None,
            chap: None,
            mutual: None,
            offers: Vec::new(),
            queue_depth: 128,
            keepalive: (Duration::from_secs(5), Duration::from_secs(5)),
            policy: LoadBalancePolicy::ServiceTime,
            no_path_timeout: None,
            io_deadline: None,
        }
    }

    /// InitiatorAlias.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = Some(alias.into());
        self
    }

    /// Authenticate ourselves with CHAP; a target that does not ask for it is refused.
    #[must_use]
    pub fn chap(mut self, credentials: ChapCredentials) -> Self {
        self.chap = Some(credentials);
        self
    }

    /// Demand that the target authenticates itself too.
    #[must_use]
    pub fn mutual_chap(mut self, credentials: ChapCredentials) -> Self {
        self.mutual = Some(credentials);
        self
    }

    /// Offers `value` for `key` at login.
    ///
    /// # Errors
    /// [`BuildError::Offer`] for a key that is not negotiated or a value outside its range.
    pub fn offer(mut self, key: &str, value: &str) -> Result<Self, BuildError> {
        self.offers.push((key.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Commands in flight per session, 1 to 4096.
    #[must_use]
    pub fn queue_depth(mut self, depth: u16) -> Self {
        self.queue_depth = depth;
        self
    }

    /// An idle connection is probed after `interval` and given up `timeout` later.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive = (interval, timeout);
        self
    }

    /// How paths are chosen.
    #[must_use]
    pub fn policy(mut self, policy: LoadBalancePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How long I/O waits while no path is up.
    #[must_use]
    pub fn no_path_timeout(mut self, timeout: Duration) -> Self {
        self.no_path_timeout = Some(timeout);
        self
    }

    /// How long one I/O may take with all its retries.
    #[must_use]
    pub fn io_deadline(mut self, deadline: Duration) -> Self {
        self.io_deadline = Some(deadline);
        self
    }

    /// Checks and builds.
    ///
    /// # Errors
    /// [`BuildError`] for settings that contradict each other or the standard.
    pub fn build(self) -> Result<Initiator, BuildError> {
        crate::placeholder::unused((crate::Lun::ZERO, Duration::ZERO));
        if self.queue_depth == 0 || self.queue_depth > 4096 {
            return Err(BuildError::QueueDepth(self.queue_depth));
        }
        Ok(Initiator::from_builder(self))
    }
}
