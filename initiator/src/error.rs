//! What can go wrong, in terms an application can act on.

use crate::{IoError, IscsiName, Lun, Portal};

/// Failure of an operation of this crate. Its text names what was attempted, the portal, the
/// target, the stage, the status in words and in numbers, and what to try.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not one portal answered.
    #[error("no portal reachable: {}", tried.iter().map(|(portal, why)| format!("{portal}: {why}")).collect::<Vec<_>>().join("; "))]
    NoPortalReachable {
        /// Each portal with what happened there.
        tried: Vec<(Portal, String)>,
    },
    /// The target refused the login, or authentication failed.
    #[error("login to {target:?} at {portal} failed: {reason}")]
    Login {
        /// Where.
        portal: Portal,
        /// To which target; `None` for a discovery session.
        target: Option<IscsiName>,
        /// Stage, status in words and numbers.
        reason: String,
    },
    /// The portal does not know the target (login status 0203, or absent from SendTargets).
    #[error("no target {target} at {portal}")]
    NoSuchTarget {
        /// Which target.
        target: IscsiName,
        /// Who was asked.
        portal: Portal,
    },
    /// The target has no such logical unit.
    #[error("target {target} has no logical unit {lun:?}")]
    NoSuchLun {
        /// Which target.
        target: IscsiName,
        /// Which LUN.
        lun: Lun,
    },
    /// The paths do not lead to the same logical unit.
    #[error("the paths do not lead to one logical unit: {0}")]
    Assemble(String),
    /// A command failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Not there yet.
    #[error("{0} is not there yet")]
    Unsupported(&'static str),
}
