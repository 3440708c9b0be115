//! What a path check asks of a path that seems well.
//!
//! When it is asked is [`crate::supervisor`]'s business: at [`crate::Config::probe_interval`]
//! after a change, at twice the time after each good answer, at once on suspicion. A suspected
//! path gets TEST UNIT READY whatever is chosen here, because a command went unanswered, so
//! a command has to be answered; a path that comes back is verified, which is more than any check.

use std::fmt;
use std::str::FromStr;

/// What a path check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Checker {
    /// TEST UNIT READY (SPC-4 §6.47): the unit answers through the path, and says what it has to
    /// say (unit attentions). Like multipathd's `tur`.
    #[default]
    Tur,
    /// REPORT TARGET PORT GROUPS (SPC-4 §6.37), for units that have such groups; others are
    /// asked like [`Checker::Tur`]. Also finds out by itself that a group's state has changed, for
    /// targets that do not tell.
    Rtpg,
    /// A sign of life of the transport alone, in iSCSI a NOP-Out (RFC 7143 §11.18). Costs the
    /// target no SCSI command, and finds neither a unit that hangs nor one that has changed
    /// before the next command meets it.
    Nop,
}

impl Checker {
    /// Every checker.
    pub const ALL: [Self; 3] = [Self::Tur, Self::Rtpg, Self::Nop];

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tur => "tur",
            Self::Rtpg => "rtpg",
            Self::Nop => "nop",
        }
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No checker has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no path checker of this name; there are tur, rtpg and nop")]
pub struct UnknownChecker;

impl FromStr for Checker {
    type Err = UnknownChecker;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|it| it.name() == text);
        named.ok_or(UnknownChecker)
    }
}
