//! `iscsi://host[:port][,tpgt]/target/lun`, and lists of them.
//!
//! Each part is checked on its own so that the message can point at the one that is wrong.
//! Credentials never belong into a URL: they would end in shell histories, process lists and
//! logs, so a user part is refused with a pointer to the options that carry them.

use initiator::{IscsiName, Lun, Portal, PortalGroupTag};

/// How every URL begins.
pub(crate) const SCHEME: &str = "iscsi://";

/// A portal, and as much of a target and a LUN as was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Where.
    pub(crate) portal: Portal,
    /// The portal's group, when the user knows it.
    pub(crate) group: Option<PortalGroupTag>,
    /// Which target.
    pub(crate) target: Option<IscsiName>,
    /// Which logical unit; never without a target.
    pub(crate) lun: Option<Lun>,
}

/// What is wrong with a URL, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {what}")]
pub(crate) struct UrlError {
    url: String,
    what: UrlErrorKind,
}

/// The part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlErrorKind {
    #[error("a URL begins with iscsi://, as in iscsi://192.0.2.1/iqn.2003-01.org.example:disk/0")]
    Scheme,
    #[error(
        "credentials do not belong into a URL; use --chap-name and --chap-secret-file, or ISCSI_CHAP_NAME and ISCSI_CHAP_SECRET"
    )]
    Credentials,
    #[error("portal '{portal}': {reason}")]
    Portal { portal: String, reason: String },
    #[error("portal group tag '{0}' is not a number from 0 to 65535")]
    Group(String),
    #[error("target name '{name}': {reason}")]
    Target { name: String, reason: String },
    #[error("LUN '{0}' is neither a number from 0 to 65535 nor 0x and up to 16 hex digits")]
    Lun(String),
    #[error("'{0}' follows the LUN; a URL ends there")]
    Trailing(String),
    #[error("no target name; give {SCHEME}host/iqn…/lun (iscsi discover lists the names)")]
    NoTarget,
    #[error("no LUN; give {SCHEME}host/iqn…/lun (iscsi ls lists them)")]
    NoLun,
}

impl std::str::FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // A user part may hold a secret: such a URL is not repeated in the message.
        let shown = match text.rfind('@') {
            Some(at) => format!("{SCHEME}…{}", text.get(at..).unwrap_or_default()),
            None => text.to_owned(),
        };
        parse(text).map_err(|what| UrlError { url: shown, what })
    }
}

fn parse(text: &str) -> Result<Url, UrlErrorKind> {
    let rest = text
        .get(..SCHEME.len())
        .filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
        .and_then(|_| text.get(SCHEME.len()..))
        .ok_or(UrlErrorKind::Scheme)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(UrlErrorKind::Credentials);
    }
    let (portal, group) = parse_authority(authority)?;
    let (target, lun) = match path.split_once('/') {
        None => (path, None),
        Some((target, lun)) => (target, Some(lun)),
    };
    let target = match target {
        "" if lun.is_some_and(|lun| !lun.is_empty()) => return Err(UrlErrorKind::NoTarget),
        "" => None,
        name => Some(parse_target(name)?),
    };
    let lun = match lun.unwrap_or_default() {
        "" => None,
        text => Some(parse_lun_and_end(text)?),
    };
    Ok(Url {
        portal,
        group,
        target,
        lun,
    })
}

fn parse_authority(authority: &str) -> Result<(Portal, Option<PortalGroupTag>), UrlErrorKind> {
    let (portal, group) = match authority.rsplit_once(',') {
        None => (authority, None),
        Some((portal, tag)) => {
            let number = decimal::<u16>(tag).ok_or_else(|| UrlErrorKind::Group(tag.to_owned()))?;
            (portal, Some(PortalGroupTag(number)))
        }
    };
    Ok((parse_portal(portal)?, group))
}

fn parse_portal(portal: &str) -> Result<Portal, UrlErrorKind> {
    let refuse = |reason: String| UrlErrorKind::Portal {
        portal: portal.to_owned(),
        reason,
    };
    if portal.is_empty() {
        return Err(refuse("no host".to_owned()));
    }
    if !portal.starts_with('[') && portal.matches(':').count() > 1 {
        return Err(refuse(
            "an IPv6 address goes in brackets, as in [2001:db8::1]:3260".to_owned(),
        ));
    }
    portal
        .parse()
        .map_err(|error: initiator::PortalError| refuse(error.to_string()))
}

fn parse_target(name: &str) -> Result<IscsiName, UrlErrorKind> {
    name.parse()
        .map_err(|error: initiator::NameError| UrlErrorKind::Target {
            name: name.to_owned(),
            reason: error.to_string(),
        })
}

fn parse_lun_and_end(text: &str) -> Result<Lun, UrlErrorKind> {
    let (lun, trailing) = text.split_once('/').unwrap_or((text, ""));
    if !trailing.is_empty() {
        return Err(UrlErrorKind::Trailing(format!("/{trailing}")));
    }
    parse_lun(lun).ok_or_else(|| UrlErrorKind::Lun(lun.to_owned()))
}

/// Decimal, or `0x` and hex. All 16 hex digits are the eight bytes as they travel; a shorter
/// number is encoded the way devices do it (SAM-5 §4.7.5).
fn parse_lun(text: &str) -> Option<Lun> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.len() < 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u16::from_str_radix(hex, 16).ok().map(Lun::from_number)
        }
        _ => text.parse().ok(),
    }
}

/// Digits only: no sign, no blanks, unlike `str::parse`.
fn decimal<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}", self.portal)?;
        if let Some(group) = self.group {
            write!(f, ",{}", group.0)?;
        }
        if let Some(target) = &self.target {
            write!(f, "/{target}")?;
            if let Some(lun) = self.lun {
                write!(f, "/{}", lun)?;
            }
        }
        Ok(())
    }
}

/// A target over the portals of several URLs, and a LUN if all name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The target's name.
    pub(crate) target: IscsiName,
    /// Where to log in; no portal twice.
    pub(crate) portals: Vec<(Portal, Option<PortalGroupTag>)>,
    /// The logical unit.
    pub(crate) lun: Lun,
    /// The same unit at other targets.
    pub(crate) others: Vec<Part>,
}

/// One of several targets that present a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The target's name.
    pub(crate) target: IscsiName,
    /// Where to log in; no portal twice.
    pub(crate) portals: Vec<(Portal, Option<PortalGroupTag>)>,
    /// The unit's number there.
    pub(crate) lun: Lun,
}

/// URLs that do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("no URL")]
    Empty,
    #[error(
        "{first} and {other} name different logical units; several URLs are several paths to one"
    )]
    Different { first: String, other: String },
    #[error(
        "{first} and {other} are different targets; if they present one logical unit, read, write, cp, bench, paths and pr use both with --across-targets"
    )]
    Targets { first: IscsiName, other: IscsiName },
    #[error("{first} and {other} name one portal; a path is named once")]
    Twice { first: String, other: String },
}

impl Address {
    /// Joins URLs of one logical unit of one target.
    ///
    /// # Errors
    /// [`AddressError`] when one lacks its target or LUN, when they differ, or when two name one
    /// portal.
    pub(crate) fn join(urls: &[Url]) -> Result<Self, AddressError> {
        let address = Self::join_targets(urls)?;
        address.check(false)?;
        Ok(address)
    }

    /// Joins URLs of one logical unit, be it over several targets.
    ///
    /// # Errors
    /// [`AddressError`] when one lacks its target or LUN, when two of one target name different
    /// units, or when two name one portal of one target.
    pub(crate) fn join_targets(urls: &[Url]) -> Result<Self, AddressError> {
        let mut parts: Vec<(&Url, Part)> = Vec::new();
        for url in urls {
            let lacks = |what| UrlError {
                url: url.to_string(),
                what,
            };
            let target = url.target.clone();
            let target = target.ok_or_else(|| lacks(UrlErrorKind::NoTarget))?;
            let lun = url.lun.ok_or_else(|| lacks(UrlErrorKind::NoLun))?;
            let both = |first: &Url| (first.to_string(), url.to_string());
            let known = parts.iter_mut().find(|(_, part)| part.target == target);
            let Some((first, part)) = known else {
                let portals = vec![(url.portal.clone(), url.group)];
                let part = Part {
                    target,
                    portals,
                    lun,
                };
                parts.push((url, part));
                continue;
            };
            if part.lun != lun {
                let (first, other) = both(first);
                return Err(AddressError::Different { first, other });
            }
            let mut earlier = urls.iter().take_while(|it| !std::ptr::eq(*it, url));
            let same = |it: &&Url| it.portal == url.portal && it.target == url.target;
            if let Some(earlier) = earlier.find(same) {
                let (first, other) = both(earlier);
                return Err(AddressError::Twice { first, other });
            }
            part.portals.push((url.portal.clone(), url.group));
        }
        let mut parts = parts.into_iter().map(|(_, part)| part);
        let Part {
            target,
            portals,
            lun,
        } = parts.next().ok_or(AddressError::Empty)?;
        Ok(Self {
            target,
            portals,
            lun,
            others: parts.collect(),
        })
    }

    /// Whether it may be used: several targets only when that was asked for.
    ///
    /// # Errors
    /// [`AddressError::Targets`].
    pub(crate) fn check(&self, across_targets: bool) -> Result<(), AddressError> {
        match self.others.first() {
            Some(other) if !across_targets => Err(AddressError::Targets {
                first: self.target.clone(),
                other: other.target.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The unit at each target.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let first = Part {
            target: self.target.clone(),
            portals: self.portals.clone(),
            lun: self.lun,
        };
        let others = self.others.iter().cloned();
        std::iter::once(first).chain(others).collect()
    }
}

/// Splits `iscsi://a/t/0,iscsi://b/t/0` into its URLs. A comma also stands before a portal group
/// tag, so only one that is followed by the scheme separates.
pub(crate) fn split_list(text: &str) -> Vec<&str> {
    let lower = text.to_ascii_lowercase();
    let separator = format!(",{SCHEME}");
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in lower.match_indices(&separator) {
        parts.push(text.get(start..at).unwrap_or_default());
        start = at.saturating_add(1);
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// Whether an argument means URLs and not a file.
pub(crate) fn looks_like_url(text: &str) -> bool {
    text.get(..SCHEME.len())
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    /// A file's path.
    File(std::path::PathBuf),
    /// A logical unit.
    Unit(Address),
}

impl std::str::FromStr for Side {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if !looks_like_url(text) {
            return Ok(Self::File(text.into()));
        }
        let urls = split_list(text)
            .into_iter()
            .map(str::parse)
            .collect::<Result<Vec<Url>, _>>()?;
        Address::join_targets(&urls).map(Self::Unit)
    }
}

/// A portal given alone: `host[:port]`, or a URL without a target.
pub(crate) fn parse_portal_argument(text: &str) -> Result<Portal, UrlError> {
    if looks_like_url(text) {
        return text.parse::<Url>().map(|url| url.portal);
    }
    let error = |what| UrlError {
        url: text.to_owned(),
        what,
    };
    if text.contains('@') {
        return Err(UrlError {
            url: "PORTAL".to_owned(),
            what: UrlErrorKind::Credentials,
        });
    }
    parse_portal(text).map_err(error)
}

#[cfg(test)]
mod tests;
