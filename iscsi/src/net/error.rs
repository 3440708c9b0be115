//! Why there is no session.

use std::time::Duration;

use crate::discovery::DiscoveryError;
use crate::login::{LoginError, LoginStatus};
use crate::name::{IscsiName, Portal};
use crate::session::{CloseReason, LossReason};

/// A session could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectError {
    /// The portal tried last.
    pub portal: Portal,
    /// The target, unless it was discovery.
    pub target: Option<IscsiName>,
    /// What went wrong.
    pub kind: ConnectErrorKind,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// Connecting or logging in failed.
    #[error(transparent)]
    Lost(#[from] LossReason),
    /// Discovery failed.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// It took too long.
    #[error("no end within {limit:?}, in stage {stage}")]
    Timeout {
        /// The stage in words.
        stage: &'static str,
        /// The time allowed.
        limit: Duration,
    },
    /// The session was closed meanwhile.
    #[error("{0}")]
    Closed(CloseReason),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "portal {}", self.portal)?;
        if let Some(target) = &self.target {
            write!(f, ", target {target}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}

impl ConnectError {
    /// Whether the target said that it is not there: not found, or removed (RFC 7143 §11.13.5).
    #[must_use]
    pub fn says_gone(&self) -> bool {
        let ConnectErrorKind::Lost(LossReason::Login(LoginError::Rejected { status, .. })) =
            &self.kind
        else {
            return false;
        };
        matches!(
            *status,
            LoginStatus::NOT_FOUND | LoginStatus::TARGET_REMOVED
        )
    }

    /// Whether the target could not be reached at all, so that another portal may do.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.kind,
            ConnectErrorKind::Lost(
                LossReason::Transport(_)
                    | LossReason::ClosedByTarget
                    | LossReason::ConnectTimeout(_)
                    | LossReason::LoginTimeout { .. }
            ) | ConnectErrorKind::Timeout { .. }
        )
    }
}
