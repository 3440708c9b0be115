//! Stand-ins for types that the crates below do not have yet. Each goes away when the real one
//! lands; users import all of them from the crate root and never notice.

use std::time::Duration;

use crate::{IoBuf, Lun};
use scsi::Bytes;

pub use iscsi::name::{Isid, PortalGroupTag, Tsih};
pub use iscsi::text::params::{ConnectionParams, NegotiatedKey, SessionParams};

/// A name of RFC 7143 §4.2.7. Stand-in for `iscsi::name::IscsiName`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IscsiName(String);

/// A string that is no iSCSI name. Stand-in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an iSCSI name: {0:?}")]
pub struct NameError(String);

impl std::str::FromStr for IscsiName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if ["iqn.", "eui.", "naa."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            Ok(Self(name.to_owned()))
        } else {
            Err(NameError(name.to_owned()))
        }
    }
}

impl std::fmt::Display for IscsiName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Address and TCP port of a target. Stand-in for `iscsi::name::Portal`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Portal {
    /// Address or DNS name.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// The host part of a portal. Stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address.
    Ip(std::net::IpAddr),
    /// A DNS name.
    Name(String),
}

/// A string that is no portal. Stand-in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a portal: {0:?}")]
pub struct PortalError(String);

impl std::str::FromStr for Portal {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Self, PortalError> {
        let bad = || PortalError(text.to_owned());
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self {
                host: Host::Ip(address.ip()),
                port: address.port(),
            });
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(Self {
                host: Host::Ip(ip),
                port: 3260,
            });
        }
        let (host, port) = text.split_once(':').unwrap_or((text, "3260"));
        if host.is_empty() {
            return Err(bad());
        }
        let port = port.parse().map_err(|_| bad())?;
        Ok(Self {
            host: Host::Name(host.to_owned()),
            port,
        })
    }
}

impl std::fmt::Display for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Ip(std::net::IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A CHAP secret. Stand-in for `auth::Secret`.
#[derive(Clone)]
pub struct Secret(#[allow(dead_code)] Vec<u8>);

impl Secret {
    /// Takes the secret's bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// CHAP algorithm. Stand-in for `auth`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChapAlgorithm {
    /// 5.
    Md5,
    /// 6.
    Sha1,
    /// 7.
    Sha256,
    /// 8.
    Sha3_256,
}

/// Name and secret of one side. Stand-in.
#[derive(Debug, Clone)]
pub struct ChapCredentials {
    /// CHAP_N.
    pub name: String,
    /// The secret.
    pub secret: Secret,
    /// Algorithms offered, most wanted first; empty means all.
    pub algorithms: Vec<ChapAlgorithm>,
}

/// A target as SendTargets lists it. Stand-in for `iscsi::discovery::DiscoveredTarget`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredTarget {
    /// Its name.
    pub name: IscsiName,
    /// Its portals with their groups.
    pub portals: Vec<(Portal, PortalGroupTag)>,
}

/// How paths are chosen. Stand-in for `mpio::LoadBalancePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadBalancePolicy {
    /// One path until it fails.
    FailoverOnly,
    /// In turn.
    RoundRobin,
    /// The path that would finish first.
    ServiceTime,
}

/// What a session is doing. Stand-in.
#[derive(Debug, Clone)]
pub struct SessionSnapshot {
    /// In words: "logged in", "reconnecting", ...
    pub state: String,
    /// Where this path belongs.
    pub home: Portal,
    /// Where it is connected at the moment.
    pub portal: Option<Portal>,
    /// ISID.
    pub isid: Isid,
    /// TSIH; 0 when never logged in.
    pub tsih: Tsih,
    /// Parameters in force.
    pub session: SessionParams,
    /// Parameters in force.
    pub connection: ConnectionParams,
    /// Requested and negotiated side by side.
    pub keys: Vec<NegotiatedKey>,
    /// Why it is not up.
    pub last_error: Option<String>,
}

/// Size and limits of a logical unit. Stand-in for `mpio::Geometry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// Bytes per logical block.
    pub block_bytes: u32,
    /// Number of logical blocks.
    pub blocks: u64,
    /// WRITE is refused.
    pub read_only: bool,
}

/// Stand-in for `mpio::LuIdentity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuIdentity(pub String);

/// Stand-in for `mpio::Topology`.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The paths.
    pub paths: Vec<PathView>,
    /// How paths are chosen.
    pub policy: LoadBalancePolicy,
}

/// One path of a [`Topology`]. Stand-in.
#[derive(Debug, Clone)]
pub struct PathView {
    /// Name for people.
    pub label: String,
    /// State in words.
    pub state: String,
    /// Portal group.
    pub portal_group: Option<u16>,
    /// Commands completed.
    pub completed: u64,
    /// Commands failed.
    pub failed: u64,
}

/// Whether a failed write may have happened. Stand-in for `mpio::OutcomeCertainty`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeCertainty {
    /// Certainly not done.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// Stand-in for `mpio::IoErrorKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoErrorKind {
    /// The device said no.
    Device,
    /// No path in time.
    NoPath,
    /// Offset, length or alignment.
    Invalid,
    /// Not there yet.
    Unsupported,
}

/// Stand-in for `mpio::IoError`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind:?} ({outcome:?})")]
pub struct IoError {
    /// What.
    pub kind: IoErrorKind,
    /// Whether it may have happened.
    pub outcome: OutcomeCertainty,
}

/// Stand-in for `mpio::LogicalUnit<iscsi::net::LunNexus, mpio::TokioClock>`.
#[derive(Debug, Clone)]
pub struct LogicalUnit {
    geometry: Geometry,
    identity: LuIdentity,
}

const STUB: IoError = IoError {
    kind: IoErrorKind::Unsupported,
    outcome: OutcomeCertainty::NotDone,
};

#[allow(clippy::unused_async, missing_docs)]
impl LogicalUnit {
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[must_use]
    pub fn identity(&self) -> &LuIdentity {
        &self.identity
    }

    pub async fn read_at(&self, _offset: u64, buf: IoBuf) -> (Result<(), IoError>, IoBuf) {
        (Err(STUB), buf)
    }

    pub async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), IoError> {
        Err(STUB)
    }

    pub async fn flush(&self) -> Result<(), IoError> {
        Err(STUB)
    }

    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology {
            paths: Vec::new(),
            policy: LoadBalancePolicy::ServiceTime,
        }
    }

    pub fn set_policy(&self, _policy: LoadBalancePolicy) {}

    pub async fn close(&self) {}
}

/// Keeps signatures honest until the bodies exist.
pub(crate) fn unused(_: (Lun, Duration)) {}
