//! The answer to SendTargets (RFC 7143 Appendix C).
//!
//! Names and addresses are validated before anybody else sees them, and every count is bounded.
//! One bad record fails the whole answer: a target that cannot spell its own name is better known
//! than half hidden.

use thiserror::Error;

use crate::name::{IscsiName, NameError, Portal, PortalError, PortalGroupTag};
use crate::text::codec::Assembler;
use crate::text::{Key, Pair, TextError};

/// Most text taken in one answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most targets taken in one answer.
pub const TARGETS_MAX: usize = 16_384;
/// Most portals taken for one target.
pub const PORTALS_MAX: usize = 256;

/// A target and where it can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredTarget {
    /// Its name.
    pub name: IscsiName,
    /// Its portals in the order listed, each with the tag of its portal group. The tag is missing
    /// when the target listed no address and did not tell its tag at login either.
    pub portals: Vec<(Portal, Option<PortalGroupTag>)>,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendTargetsError {
    /// Malformed text, or too much of it.
    #[error("malformed SendTargets answer: {0}")]
    Text(#[from] TextError),
    /// A name that RFC 7143 §4.2.7 forbids.
    #[error("SendTargets lists the target name {name:?}: {source}")]
    Name {
        /// The name as it came.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// An address that RFC 7143 §13.8 does not know.
    #[error("SendTargets lists the address {address:?} for {target}: {source}")]
    Address {
        /// The target it belongs to.
        target: IscsiName,
        /// The address as it came.
        address: String,
        /// What is wrong with it.
        source: PortalError,
    },
    /// An address before the first name.
    #[error("SendTargets lists the address {address:?} before any target name")]
    AddressWithoutTarget {
        /// The address as it came.
        address: String,
    },
    /// Any other key.
    #[error("{key} has no place in a SendTargets answer (RFC 7143 Appendix C)")]
    UnexpectedKey {
        /// The key's name.
        key: String,
    },
    /// The target refused the request itself.
    #[error("the target answered SendTargets={answer:?}")]
    Refused {
        /// Reject, NotUnderstood or Irrelevant.
        answer: String,
    },
    /// Too many targets.
    #[error("SendTargets lists more than {limit} targets")]
    TooManyTargets {
        /// How many are taken.
        limit: usize,
    },
    /// Too many portals.
    #[error("SendTargets lists more than {limit} portals for {target}")]
    TooManyPortals {
        /// The target they belong to.
        target: IscsiName,
        /// How many are taken.
        limit: usize,
    },
}

/// Collects an answer that may take several Text Responses.
#[derive(Debug)]
pub struct SendTargetsAnswer {
    assembler: Assembler,
    /// Bytes still allowed over all lists of the answer.
    bytes_left: usize,
    pairs: Vec<Pair>,
    asked_at: Portal,
    group: Option<PortalGroupTag>,
}

impl SendTargetsAnswer {
    /// An answer from the portal `asked_at`, of the portal group `group` if its login told.
    /// Targets listed without an address are reached there.
    #[must_use]
    pub const fn new(asked_at: Portal, group: Option<PortalGroupTag>) -> Self {
        Self {
            assembler: Assembler::new(ANSWER_BYTES_MAX),
            bytes_left: ANSWER_BYTES_MAX,
            pairs: Vec::new(),
            asked_at,
            group,
        }
    }

    /// Takes the data of one Text Response with its C and F bits. `None`: the answer goes on, ask
    /// for the rest with an empty request.
    ///
    /// # Errors
    ///
    /// When the answer is malformed, or more than is taken.
    pub fn push(
        &mut self,
        data: &[u8],
        continue_: bool,
        final_: bool,
    ) -> Result<Option<Vec<DiscoveredTarget>>, SendTargetsError> {
        let limit = ANSWER_BYTES_MAX;
        let left = self.bytes_left.checked_sub(data.len());
        self.bytes_left = left.ok_or(TextError::TooLong { limit })?;
        if let Some(pairs) = self.assembler.push(data, continue_)? {
            self.pairs.extend(pairs);
        }
        if continue_ || !final_ {
            return Ok(None);
        }
        let pairs = std::mem::take(&mut self.pairs);
        self.targets(&pairs).map(Some)
    }

    /// Reads an answer that is whole.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn targets(
        &self,
        pairs: &[Pair],
    ) -> Result<Vec<DiscoveredTarget>, SendTargetsError> {
        let mut targets: Vec<DiscoveredTarget> = Vec::new();
        for pair in pairs {
            match Key::find(&pair.key) {
                Some(Key::TargetName) => {
                    if targets.len() >= TARGETS_MAX {
                        let limit = TARGETS_MAX;
                        return Err(SendTargetsError::TooManyTargets { limit });
                    }
                    targets.push(DiscoveredTarget {
                        name: parse_name(&pair.value)?,
                        portals: Vec::new(),
                    });
                }
                Some(Key::TargetAddress) => add_portal(targets.last_mut(), &pair.value)?,
                Some(Key::SendTargets) => {
                    let answer = pair.value.clone();
                    return Err(SendTargetsError::Refused { answer });
                }
                _ => {
                    let key = pair.key.clone();
                    return Err(SendTargetsError::UnexpectedKey { key });
                }
            }
        }
        for target in &mut targets {
            if target.portals.is_empty() {
                target.portals.push((self.asked_at.clone(), self.group));
            }
        }
        Ok(targets)
    }
}

fn parse_name(text: &str) -> Result<IscsiName, SendTargetsError> {
    text.parse().map_err(|source| SendTargetsError::Name {
        name: text.to_owned(),
        source,
    })
}

fn add_portal(
    target: Option<&mut DiscoveredTarget>,
    address: &str,
) -> Result<(), SendTargetsError> {
    let Some(target) = target else {
        return Err(SendTargetsError::AddressWithoutTarget {
            address: address.to_owned(),
        });
    };
    let portal =
        Portal::parse_target_address(address).map_err(|source| SendTargetsError::Address {
            target: target.name.clone(),
            address: address.to_owned(),
            source,
        })?;
    if target.portals.contains(&portal) {
        return Ok(());
    }
    if target.portals.len() >= PORTALS_MAX {
        return Err(SendTargetsError::TooManyPortals {
            target: target.name.clone(),
            limit: PORTALS_MAX,
        });
    }
    target.portals.push(portal);
    Ok(())
}
