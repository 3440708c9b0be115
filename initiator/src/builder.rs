//! Collects what an [`Initiator`] needs and checks it.

use std::time::Duration;

use auth::Chap;
use iscsi::login::AuthPolicy;
use iscsi::text::Offer;

use crate::{
    AuthError, ChapCredentials, Initiator, IscsiName, LoadBalancePolicy, MutualCredentials,
    OfferError,
};

/// Most commands in flight of one session.
const QUEUE_DEPTH_MAX: u16 = 4096;

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A key that cannot be offered, a value out of its range, or values that exclude each other.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Credentials that break the rules of RFC 7143 §12.1 (too short, equal both ways, ..).
    #[error("CHAP: {0}")]
    Credentials(#[from] AuthError),
    /// The target is to authenticate itself, and we are not: RFC 7143 §12.1.3 has no such thing.
    #[error("mutual CHAP needs credentials of our own too")]
    MutualAlone,
    /// The alias is empty, longer than 255 bytes, or contains a control character.
    #[error("the alias must have 1 to 255 bytes and no control character")]
    Alias,
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
    mutual: Option<MutualCredentials>,
    short_secrets: bool,
    offer: Offer,
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
            short_secrets: false,
            offer: Offer::default(),
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
    pub fn mutual_chap(mut self, credentials: MutualCredentials) -> Self {
        self.mutual = Some(credentials);
        self
    }

    /// Takes secrets below 96 bits, which RFC 7143 §12.1.3 allows only on a protected network.
    #[must_use]
    pub fn allow_short_secrets(mut self) -> Self {
        self.short_secrets = true;
        self
    }

    /// Offers `value` for `key` at login.
    ///
    /// # Errors
    /// [`BuildError::Offer`] for a key that is not negotiated or a value outside its range.
    pub fn offer(mut self, key: &str, value: &str) -> Result<Self, BuildError> {
        self.offer.set(key, value)?;
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
        if self.queue_depth == 0 || self.queue_depth > QUEUE_DEPTH_MAX {
            return Err(BuildError::QueueDepth(self.queue_depth));
        }
        let alias_fits = |alias: &String| {
            (1..=255).contains(&alias.len()) && !alias.chars().any(char::is_control)
        };
        if !self.alias.as_ref().is_none_or(alias_fits) {
            return Err(BuildError::Alias);
        }
        self.offer.check()?;
        let _auth = self.auth_policy()?;
        Ok(Initiator::from_builder(self))
    }

    fn auth_policy(&self) -> Result<AuthPolicy, BuildError> {
        let Some(ours) = self.chap.clone() else {
            return match self.mutual {
                None => Ok(AuthPolicy::None),
                Some(_) => Err(BuildError::MutualAlone),
            };
        };
        let mutual = self.mutual.clone();
        let chap = if self.short_secrets {
            Chap::with_short_secrets(ours, mutual)?
        } else {
            Chap::new(ours, mutual)?
        };
        Ok(AuthPolicy::Chap(chap))
    }
}
