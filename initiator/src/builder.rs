//! Collects what an [`Initiator`] needs and checks it.

use std::path::PathBuf;
use std::time::Duration;

use auth::Chap;
use iscsi::login::AuthPolicy;
use iscsi::session::{Backoff, Keepalive, SessionConfig, Timeouts};
use iscsi::text::Offer;
use tokio::runtime::Handle;

use crate::isids::Isids;
use crate::runtime::Shards;
use crate::state::{Slot, StateError};
use crate::{
    AuthError, ChapCredentials, Checker, Failback, Initiator, IscsiName, Isid, LoadBalancePolicy,
    MutualCredentials, NoPathRetry, OfferError, Portal, Runtime, SecondFence, Tuning,
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
    /// Discovery is to authenticate, and there is nothing to do it with.
    #[error("discovery with CHAP needs CHAP credentials")]
    DiscoveryAlone,
    /// The alias is empty, longer than 255 bytes, or contains a control character.
    #[error("the alias must have 1 to 255 bytes and no control character")]
    Alias,
    /// Queue depth 0 or above 4096.
    #[error("queue depth {0} is outside 1..=4096")]
    QueueDepth(u16),
    /// The state directory cannot be used.
    #[error("session identifiers: {0}")]
    State(#[from] StateError),
    /// Session identifiers were given and a directory to find them in as well.
    #[error("a base ISID and a state directory exclude each other")]
    TwoIdentities,
    /// The operating system gave no threads for [`Runtime::Sharded`].
    #[error("the threads of a sharded runtime cannot be started: {0}")]
    Threads(String),
    /// The operating system gave no random bytes for the session identifiers.
    #[error("the system has no randomness: {0}")]
    Randomness(String),
}

/// Whether discovery sessions authenticate.
///
/// Discovery tells names and addresses, nothing more; whatever it says, the login to a target
/// authenticates as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DiscoveryAuth {
    /// Without, as most targets have it; with the configured CHAP when the target insists.
    #[default]
    IfAsked,
    /// Never.
    None,
    /// Always with the configured CHAP; a target that would do without is refused.
    Chap,
}

/// Settings of an [`Initiator`].
#[derive(Debug, Clone)]
pub struct Builder {
    name: IscsiName,
    alias: Option<String>,
    chap: Option<ChapCredentials>,
    mutual: Option<MutualCredentials>,
    short_secrets: bool,
    discovery_auth: DiscoveryAuth,
    offer: Offer,
    queue_depth: u16,
    keepalive: Keepalive,
    timeouts: Timeouts,
    isid: Option<Isid>,
    state_directory: Option<PathBuf>,
    reconnect_deadline: Option<Duration>,
    multipath: mpio::Config,
    runtime: Runtime,
}

impl Builder {
    pub(crate) fn new(name: IscsiName) -> Self {
        Self {
            name,
            alias: None,
            chap: None,
            mutual: None,
            short_secrets: false,
            discovery_auth: DiscoveryAuth::default(),
            offer: Offer::default(),
            queue_depth: 128,
            keepalive: Keepalive::default(),
            timeouts: Timeouts::default(),
            isid: None,
            state_directory: None,
            reconnect_deadline: None,
            multipath: mpio::Config::default(),
            runtime: Runtime::default(),
        }
    }

    /// On which threads sessions live; the runtime of the caller by default.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// InitiatorAlias, a name for people.
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

    /// Whether discovery sessions authenticate.
    #[must_use]
    pub fn discovery_auth(mut self, auth: DiscoveryAuth) -> Self {
        self.discovery_auth = auth;
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

    /// Wants up to `count` connections per session (MaxConnections), over the portals of the
    /// session's portal group in turn; the target may allow fewer.
    ///
    /// # Errors
    /// [`BuildError::Offer`] for 0.
    pub fn connections(self, count: u16) -> Result<Self, BuildError> {
        self.offer("MaxConnections", &count.to_string())
    }

    /// Wants recovery up to `level` (ErrorRecoveryLevel, RFC 7143 §7.1.5): 1 asks for lost PDUs
    /// again, 2 also carries commands over from a lost connection. The target may allow less.
    ///
    /// # Errors
    /// [`BuildError::Offer`] above 2.
    pub fn error_recovery_level(self, level: u8) -> Result<Self, BuildError> {
        self.offer("ErrorRecoveryLevel", &level.to_string())
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
        self.keepalive = Keepalive { interval, timeout };
        self
    }

    /// Time limits of connecting, login, task management and logout.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The base of all session identifiers, instead of a random one made by [`Builder::build`].
    /// The last 16 bits are replaced. With the same base after a restart, sessions reinstate
    /// those of the life before, and persistent reservations go on to hold.
    #[must_use]
    pub fn isid(mut self, base: Isid) -> Self {
        self.isid = Some(base);
        self
    }

    /// Keeps session identifiers in `directory`, so that each path is the same I_T nexus in the
    /// next run: persistent reservations go on to hold, and a login ends what a killed run left
    /// at the target, its last writes included. Made if it does not exist. Initiators that run at
    /// the same time share a directory without harm, on one host: each has its own identifiers.
    #[must_use]
    pub fn state_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state_directory = Some(directory.into());
        self
    }

    /// A session that does not come back within `deadline` after a loss is given up for good.
    /// Otherwise it tries for ever.
    #[must_use]
    pub fn reconnect_deadline(mut self, deadline: Duration) -> Self {
        self.reconnect_deadline = Some(deadline);
        self
    }

    /// How paths are chosen.
    #[must_use]
    pub fn policy(mut self, policy: LoadBalancePolicy) -> Self {
        self.multipath.policy = policy;
        self
    }

    /// What the policies are told.
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.multipath.tuning = tuning;
        self
    }

    /// What is done about a lost write when its session cannot be reinstated.
    #[must_use]
    pub fn second_fence(mut self, fence: SecondFence) -> Self {
        self.multipath.second_fence = fence;
        self
    }

    /// Writes are held so much longer after the target has confirmed a fence, for targets known
    /// to confirm before the old tasks have ended.
    #[must_use]
    pub fn fence_settle(mut self, time: Duration) -> Self {
        self.multipath.fence_settle = time;
        self
    }

    /// How long I/O waits while no path is up: not at all, for a time, for ever. Changeable later
    /// ([`crate::LogicalUnit::set_no_path_retry`]).
    #[must_use]
    pub fn no_path_retry(mut self, retry: NoPathRetry) -> Self {
        self.multipath.no_path_retry = retry;
        self
    }

    /// What a path check asks of a path that seems well: TEST UNIT READY by default.
    #[must_use]
    pub fn checker(mut self, checker: Checker) -> Self {
        self.multipath.checker = checker;
        self
    }

    /// When I/O goes back to a better group of paths. Changeable later
    /// ([`crate::LogicalUnit::set_failback`]).
    #[must_use]
    pub fn failback(mut self, failback: Failback) -> Self {
        self.multipath.failback = failback;
        self
    }

    /// How long one I/O may take with all its retries.
    #[must_use]
    pub fn io_deadline(mut self, deadline: Duration) -> Self {
        self.multipath.io_deadline = deadline;
        self
    }

    /// How long one command may take before it is ended (ABORT TASK first).
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.multipath.command_timeout = timeout;
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
        let auth = self.auth_policy()?;
        if self.discovery_auth == DiscoveryAuth::Chap && auth == AuthPolicy::Forgo {
            return Err(BuildError::DiscoveryAlone);
        }
        let shards = match self.runtime {
            Runtime::Current => None,
            Runtime::Sharded { threads } => Some(
                Shards::start(threads).map_err(|error| BuildError::Threads(error.to_string()))?,
            ),
        };
        Ok(Initiator::new(Settings {
            shards,
            isids: self.isids()?,
            auth,
            builder: self,
        }))
    }

    fn isids(&self) -> Result<Isids, BuildError> {
        match (self.isid, &self.state_directory) {
            (Some(_), Some(_)) => Err(BuildError::TwoIdentities),
            (Some(base), None) => Ok(Isids::new(base)),
            (None, Some(directory)) => {
                let fresh = random_base()?;
                Ok(Isids::kept(Slot::take(directory, &self.name, fresh)?))
            }
            (None, None) => Ok(Isids::new(random_base()?)),
        }
    }

    fn auth_policy(&self) -> Result<AuthPolicy, BuildError> {
        let Some(ours) = self.chap.clone() else {
            return match self.mutual {
                // A round trip less; a target that wants to be asked is asked then.
                None => Ok(AuthPolicy::Forgo),
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

fn random_base() -> Result<Isid, BuildError> {
    let entropy = getrandom::u32().map_err(|error| BuildError::Randomness(error.to_string()))?;
    Ok(Isid::random(entropy, 0))
}

/// What was built: checked, and shared by all that an initiator starts.
#[derive(Debug)]
pub(crate) struct Settings {
    builder: Builder,
    pub(crate) auth: AuthPolicy,
    pub(crate) isids: Isids,
    /// With [`Runtime::Sharded`].
    shards: Option<Shards>,
}

impl Settings {
    /// The runtime of the next login, which is called in a runtime.
    pub(crate) fn runtime(&self) -> Handle {
        let shard = self.shards.as_ref().and_then(Shards::next);
        shard.unwrap_or_else(Handle::current)
    }

    pub(crate) const fn name(&self) -> &IscsiName {
        &self.builder.name
    }

    pub(crate) const fn offer(&self) -> &Offer {
        &self.builder.offer
    }

    pub(crate) const fn timeouts(&self) -> Timeouts {
        self.builder.timeouts
    }

    pub(crate) const fn discovery_auth(&self) -> DiscoveryAuth {
        self.builder.discovery_auth
    }

    pub(crate) const fn multipath(&self) -> &mpio::Config {
        &self.builder.multipath
    }

    /// What one session needs.
    pub(crate) fn session(
        &self,
        target: &IscsiName,
        portal: Portal,
        group_portals: Vec<Portal>,
        isid: Isid,
    ) -> SessionConfig {
        let settings = &self.builder;
        SessionConfig {
            initiator_alias: settings.alias.clone(),
            group_portals,
            auth: self.auth.clone(),
            offer: settings.offer.clone(),
            queue_depth: settings.queue_depth,
            keepalive: settings.keepalive,
            timeouts: settings.timeouts,
            backoff: Backoff::default(),
            give_up_after: settings.reconnect_deadline,
            ..SessionConfig::new(settings.name.clone(), target.clone(), portal, isid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn builder() -> Builder {
        Initiator::builder("iqn.2001-04.com.example:us".parse().unwrap())
    }

    fn ours(secret: &str) -> ChapCredentials {
        ChapCredentials::new("us", Secret::from_text(secret).unwrap())
    }

    fn theirs(secret: &str) -> MutualCredentials {
        MutualCredentials {
            name: None,
            secret: Secret::from_text(secret).unwrap(),
        }
    }

    fn refusal(builder: Builder) -> BuildError {
        builder.build().unwrap_err()
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        assert_eq!(refusal(builder().queue_depth(0)), BuildError::QueueDepth(0));
        assert_eq!(
            refusal(builder().queue_depth(4097)),
            BuildError::QueueDepth(4097)
        );
        assert_eq!(refusal(builder().alias("")), BuildError::Alias);
        assert_eq!(refusal(builder().alias("a\nb")), BuildError::Alias);
        assert_eq!(
            refusal(builder().mutual_chap(theirs("tsecret123456"))),
            BuildError::MutualAlone
        );
        assert_eq!(
            refusal(builder().discovery_auth(DiscoveryAuth::Chap)),
            BuildError::DiscoveryAlone
        );
        let equal = builder()
            .chap(ours("isecret123456"))
            .mutual_chap(theirs("isecret123456"));
        assert!(matches!(refusal(equal), BuildError::Credentials(_)));
        assert!(matches!(
            builder().offer("MaxBurstLength", "1"),
            Err(BuildError::Offer(_))
        ));
        assert!(matches!(
            builder().offer("MaxBurst", "1"),
            Err(BuildError::Offer(_))
        ));
    }

    #[test]
    fn short_secrets_need_consent() {
        let short = builder().chap(ours("elevenbytes"));
        assert!(matches!(refusal(short.clone()), BuildError::Credentials(_)));
        assert!(short.allow_short_secrets().build().is_ok());
    }

    #[test]
    fn every_initiator_gets_a_base_of_its_own() {
        let base = |initiator: &Initiator| {
            let name = "iqn.2001-04.com.example:t".parse().unwrap();
            let portal = "192.0.2.1".parse().unwrap();
            let isids = &initiator.settings().isids;
            isids.lease(&name, &portal).unwrap().unwrap()
        };
        let (one, two) = (builder().build().unwrap(), builder().build().unwrap());
        // 24 random bits each; a chance of 1 in 16 million to fail.
        assert_ne!(base(&one), base(&two));
        assert_eq!(base(&one).0[0], 0x80);
        let given = Isid::enterprise(0x1234, 9);
        let fixed = builder().isid(given).build().unwrap();
        assert_eq!(base(&fixed), Isid::enterprise(0x1234, 0));
        let both = builder().isid(given).state_directory("/nowhere");
        assert_eq!(refusal(both), BuildError::TwoIdentities);
    }
}
