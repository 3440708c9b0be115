//! What can go wrong, in terms an application can act on.

use std::fmt;

use iscsi::discovery::DiscoveryError;
use iscsi::login::{LoginError, LoginStatus};
use iscsi::net::{ConnectError, ConnectErrorKind};
use iscsi::session::LossReason;
use mpio::{AssembleError, IoError, ProbeError};

use crate::{IscsiName, Lun, Portal, QueryError};

/// Failure of an operation of this crate. Its text names what was attempted, the portal, the
/// target, the stage, the status in words and in numbers, and what to try.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No portal was given.
    #[error("no portal was given")]
    NoPortal,
    /// More portals than a logical unit can have paths, or more sessions to one target than
    /// there are session identifiers.
    #[error("{given} sessions to {target} are too many, at most {max} are possible")]
    TooManySessions {
        /// To which target.
        target: IscsiName,
        /// How many there would be.
        given: usize,
        /// How many there can be.
        max: usize,
    },
    /// A portal was named twice. Two sessions over one portal fail together, so they are no two
    /// paths, and a slip of the pen would look like redundancy.
    #[error("{target}: portal {portal} was named twice, as path {first} and path {second}")]
    PortalTwice {
        /// Of which target.
        target: IscsiName,
        /// Which portal.
        portal: Portal,
        /// Its place in the list, from 0.
        first: usize,
        /// Its other place.
        second: usize,
    },
    /// The state directory cannot keep a session identifier; nothing was sent.
    #[error("session identifiers: {0}")]
    State(#[from] crate::StateError),
    /// More discoveries under way at once than there are session identifiers.
    #[error("too many discoveries are under way")]
    TooManyDiscoveries,
    /// Not one portal answered.
    #[error("{}no portal reachable: {}; check address, port and firewall", For(.target), Tried(.tried))]
    NoPortalReachable {
        /// To which target; `None` for discovery.
        target: Option<IscsiName>,
        /// Each portal with what happened there.
        tried: Vec<ConnectError>,
    },
    /// The target refused the login, authentication failed, or the protocol was broken.
    #[error("login failed: {source}")]
    Login {
        /// Where, to which target, in which stage, why.
        source: Box<ConnectError>,
    },
    /// Discovery got an answer that cannot be used.
    #[error("discovery failed: {source}")]
    Discovery {
        /// Where and why.
        source: Box<ConnectError>,
    },
    /// The portal does not know the target (login status 0x0203 or 0x0204, or absent from
    /// SendTargets).
    #[error("no target {target} at portal {portal} ({reason}); discovery lists those that exist")]
    NoSuchTarget {
        /// Which target.
        target: IscsiName,
        /// Who was asked.
        portal: Portal,
        /// How it said so.
        reason: String,
    },
    /// The target has no such logical unit.
    #[error("target {target} has no logical unit {lun}; REPORT LUNS lists those that exist")]
    NoSuchLun {
        /// Which target.
        target: IscsiName,
        /// Which LUN.
        lun: Lun,
    },
    /// The paths do not make a logical unit.
    #[error("target {target}, LUN {lun}: {source}")]
    Assemble {
        /// Which target.
        target: IscsiName,
        /// Which LUN.
        lun: Lun,
        /// Why.
        source: Box<AssembleError>,
    },
    /// A target was named twice among those that present one unit.
    #[error("{target} was named twice, with LUN {first} and LUN {second}")]
    TargetTwice {
        /// Which target.
        target: IscsiName,
        /// With which LUN first.
        first: Lun,
        /// With which LUN again.
        second: Lun,
    },
    /// Several targets show equal units that nothing tells from different ones: they have no
    /// unique identifier. Within one target a serial number does; across targets it does not.
    #[error(
        "{identity} has no unique identifier, so {} may present different units", List(.targets)
    )]
    WeakIdentity {
        /// Which targets.
        targets: Vec<IscsiName>,
        /// What the unit calls itself.
        identity: String,
    },
    /// Ports of different targets have one relative target port identifier: the targets do not
    /// know of each other, and what they say of access states cannot be put together.
    #[error("{left} and {right} both call themselves relative target port {port}")]
    PortClash {
        /// Label of one path.
        left: String,
        /// Label of the other.
        right: String,
        /// The identifier (SPC-4 §7.8.6.8).
        port: u16,
    },
    /// The unit is in use already, over other paths: two units would not know of each other's
    /// lost writes.
    #[error("target {target}, LUN {lun} is in use over other paths; close that unit first")]
    InUse {
        /// Which target.
        target: IscsiName,
        /// Which LUN.
        lun: Lun,
    },
    /// The unit was closed while writes were uncertain, and the target may still execute them.
    #[error(
        "target {target}, LUN {lun}: {ranges} lost writes of an earlier use may still be executed \
         by the target; the unit can be used again once its lost paths are back"
    )]
    Unsettled {
        /// Which target.
        target: IscsiName,
        /// Which LUN.
        lun: Lun,
        /// How many ranges are held.
        ranges: usize,
    },
    /// A question to a logical unit had no good answer, on any path.
    #[error("target {target}, LUN {lun}: {source}")]
    Query {
        /// Which target.
        target: IscsiName,
        /// Which LUN.
        lun: Lun,
        /// Why.
        source: QueryError,
    },
    /// No session to the target is up at the moment.
    #[error("no session to {target} is up; they are being reconnected")]
    NoSession {
        /// Which target.
        target: IscsiName,
    },
    /// Sessions that did not end in time; they go on trying in the background.
    #[error("no end of the logout from {target} at {}", List(.portals))]
    Logout {
        /// Which target.
        target: IscsiName,
        /// Where.
        portals: Vec<Portal>,
    },
    /// An I/O failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Error {
    /// Of one failed discovery.
    pub(crate) fn of_discovery(error: ConnectError) -> Self {
        if error.is_unreachable() {
            return Self::NoPortalReachable {
                target: None,
                tried: vec![error],
            };
        }
        let source = Box::new(error);
        match login_error(&source) {
            Some(_) => Self::Login { source },
            None => Self::Discovery { source },
        }
    }

    /// Of one portal that did not log in.
    pub(crate) fn of_login(target: &IscsiName, error: ConnectError) -> Self {
        if error.is_unreachable() {
            return Self::NoPortalReachable {
                target: Some(target.clone()),
                tried: vec![error],
            };
        }
        if let Some(LoginError::Rejected { status, .. }) = login_error(&error)
            && says_no_target(*status)
        {
            return Self::NoSuchTarget {
                target: target.clone(),
                portal: error.portal.clone(),
                reason: status.to_string(),
            };
        }
        let source = Box::new(error);
        Self::Login { source }
    }

    /// Of a login that failed everywhere: what a target said weighs more than silence.
    pub(crate) fn of_logins(target: &IscsiName, errors: Vec<ConnectError>) -> Self {
        let told = errors.iter().find(|error| !error.is_unreachable());
        match told {
            Some(error) => Self::of_login(target, error.clone()),
            None => Self::NoPortalReachable {
                target: Some(target.clone()),
                tried: errors,
            },
        }
    }

    /// Of paths that made no logical unit.
    pub(crate) fn of_assembly(target: &IscsiName, lun: Lun, source: AssembleError) -> Self {
        let target = target.clone();
        if let AssembleError::NoUsablePath {
            problem, others, ..
        } = &source
        {
            let problems = || std::iter::once(problem).chain(others.iter().map(|(_, p)| p));
            // Paths that are down have no say.
            if problems().all(|problem| *problem == ProbeError::Down) {
                return Self::NoSession { target };
            }
            if problems().all(|p| matches!(p, ProbeError::Down | ProbeError::NoLogicalUnit)) {
                return Self::NoSuchLun { target, lun };
            }
        }
        let source = Box::new(source);
        Self::Assemble {
            target,
            lun,
            source,
        }
    }
}

fn says_no_target(status: LoginStatus) -> bool {
    status == LoginStatus::NOT_FOUND || status == LoginStatus::TARGET_REMOVED
}

/// The failure of a login, if that is what it was.
pub(crate) fn login_error(error: &ConnectError) -> Option<&LoginError> {
    if let ConnectErrorKind::Lost(LossReason::Login(error))
    | ConnectErrorKind::Discovery(DiscoveryError::Login(error)) = &error.kind
    {
        return Some(error);
    }
    None
}

/// "target x: ", or nothing.
struct For<'a>(&'a Option<IscsiName>);

impl fmt::Display for For<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(target) => write!(f, "target {target}: "),
            None => Ok(()),
        }
    }
}

/// Portals and what happened there.
struct Tried<'a>(&'a [ConnectError]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", error.portal, error.kind)?;
        }
        Ok(())
    }
}

/// Portals, or names.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, it) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{it}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> IscsiName {
        "iqn.2001-04.com.example:disk".parse().unwrap()
    }

    fn unreachable(portal: &str) -> ConnectError {
        ConnectError {
            portal: portal.parse().unwrap(),
            target: Some(target()),
            kind: LossReason::Transport("connection refused".into()).into(),
        }
    }

    fn rejected(portal: &str, status: LoginStatus) -> ConnectError {
        let stage = "SecurityNegotiation";
        ConnectError {
            kind: LossReason::Login(LoginError::Rejected { stage, status }).into(),
            ..unreachable(portal)
        }
    }

    #[test]
    fn silence_everywhere_names_every_portal() {
        let error = Error::of_logins(
            &target(),
            vec![unreachable("192.0.2.1"), unreachable("[::1]:99")],
        );
        assert_eq!(
            error.to_string(),
            "target iqn.2001-04.com.example:disk: no portal reachable: \
             192.0.2.1:3260: connection refused; [::1]:99: connection refused; \
             check address, port and firewall"
        );
    }

    #[test]
    fn what_a_target_said_weighs_more_than_silence() {
        let refused = rejected("192.0.2.2", LoginStatus::AUTHENTICATION_FAILURE);
        let error = Error::of_logins(&target(), vec![unreachable("192.0.2.1"), refused]);
        assert!(matches!(error, Error::Login { .. }));
        let text = error.to_string();
        for part in [
            "192.0.2.2:3260",
            "example:disk",
            "SecurityNegotiation",
            "0x0201",
            "secret",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let unknown = rejected("192.0.2.2", LoginStatus::NOT_FOUND);
        let error = Error::of_logins(&target(), vec![unreachable("192.0.2.1"), unknown]);
        assert!(matches!(error, Error::NoSuchTarget { .. }));
    }

    #[test]
    fn no_unit_behind_any_path_that_is_up_is_no_such_lun() {
        let assembly = |problems: Vec<ProbeError>| {
            let mut problems = problems
                .into_iter()
                .map(|problem| ("p".to_owned(), problem));
            let (label, problem) = problems.next().unwrap();
            let others = problems.collect();
            let source = AssembleError::NoUsablePath {
                label,
                problem,
                others,
            };
            Error::of_assembly(&target(), Lun::ZERO, source)
        };
        use ProbeError::{Down, NoLogicalUnit};
        assert!(matches!(
            assembly(vec![Down, NoLogicalUnit]),
            Error::NoSuchLun { .. }
        ));
        assert!(matches!(
            assembly(vec![Down, Down]),
            Error::NoSession { .. }
        ));
        let bad = ProbeError::BadCapacity {
            blocks: 0,
            block_bytes: 0,
        };
        assert!(matches!(
            assembly(vec![NoLogicalUnit, bad]),
            Error::Assemble { .. }
        ));
    }
}
