//! Where a target listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::PortalGroupTag;

/// The well-known port of iSCSI.
pub const DEFAULT_PORT: u16 = 3260;

/// A host: an address, or a name to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A DNS name, in lower case.
    Name(String),
}

/// A network portal of a target: host and TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Portal {
    /// Where.
    pub host: Host,
    /// TCP port, never 0.
    pub port: u16,
}

/// Why a text is not a portal or a target address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortalError {
    /// Neither an address nor a DNS name.
    #[error("{text:?} is neither an IP address nor a host name")]
    Host {
        /// What stands where the host should.
        text: String,
    },
    /// `[` without `]`, or something other than an IPv6 address between them.
    #[error("{text:?}: an IPv6 address is expected between brackets")]
    Brackets {
        /// The whole text.
        text: String,
    },
    /// Not a number from 1 to 65535.
    #[error("{text:?} is not a TCP port")]
    Port {
        /// What stands where the port should.
        text: String,
    },
    /// Not a number of 16 bits.
    #[error("{text:?} is not a portal group tag")]
    GroupTag {
        /// What stands where the tag should.
        text: String,
    },
}

impl Portal {
    /// Reads a TargetAddress (RFC 7143 §13.8): a portal, and after a comma the tag of its portal
    /// group, which SendTargets answers carry and redirections do not.
    ///
    /// # Errors
    ///
    /// [`PortalError`] naming the part that is wrong.
    pub fn parse_target_address(text: &str) -> Result<(Self, Option<PortalGroupTag>), PortalError> {
        match text.rsplit_once(',') {
            None => Ok((text.parse()?, None)),
            Some((portal, tag)) => Ok((portal.parse()?, Some(tag.parse()?))),
        }
    }
}

impl FromStr for Portal {
    type Err = PortalError;

    /// `host`, `host:port`, `[v6]`, `[v6]:port`, or an IPv6 address alone. Without a port it is
    /// [`DEFAULT_PORT`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix('[') {
            let brackets = || PortalError::Brackets { text: text.into() };
            let (address, behind) = rest.split_once(']').ok_or_else(brackets)?;
            let address: Ipv6Addr = address.parse().map_err(|_| brackets())?;
            let port = match behind.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if behind.is_empty() => DEFAULT_PORT,
                None => return Err(brackets()),
            };
            return Ok(Self::from(SocketAddr::from((address, port))));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self::from(SocketAddr::from((address, DEFAULT_PORT))));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, DEFAULT_PORT),
        };
        Ok(Self {
            host: host.parse()?,
            port,
        })
    }
}

fn parse_port(text: &str) -> Result<u16, PortalError> {
    // The standard parser would take a sign.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(PortalError::Port { text: text.into() }),
    }
}

impl FromStr for Host {
    type Err = PortalError;

    /// An address (IPv6 without brackets) or a DNS name (RFC 1123, and `_`, which occurs).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let labels_fit = name.len() <= 253 && name.split('.').all(is_label);
        // "300.1.1.1" is a mistyped address, not a name.
        let numeric = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if labels_fit && !numeric {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(PortalError::Host { text: text.into() })
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl From<SocketAddr> for Portal {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: Host::Ip(address.ip()),
            port: address.port(),
        }
    }
}

impl From<Ipv4Addr> for Host {
    fn from(address: Ipv4Addr) -> Self {
        Self::Ip(address.into())
    }
}

impl From<Ipv6Addr> for Host {
    fn from(address: Ipv6Addr) -> Self {
        Self::Ip(address.into())
    }
}

impl fmt::Display for Host {
    /// Without brackets: what a resolver takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => f.pad(name),
        }
    }
}

impl fmt::Display for Portal {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host @ (Host::Ip(IpAddr::V4(_)) | Host::Name(_)) => write!(f, "{host}:{}", self.port),
        }
    }
}
