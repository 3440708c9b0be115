//! Asymmetric access (SPC-4 §5.15): what it means for a path.
//!
//! A path belongs to the target port group that VPD page 83h names for its port; group
//! identifiers need not be iSCSI's portal group tags. The group's state and preference make the
//! path's priority, with the numbers of multipath-tools' `alua` prioritizer. Paths of units
//! without asymmetric access all have [`PRIORITY_CONST`].

use scsi::AccessState;

/// Priority of a path that no target port group says anything about.
pub(crate) const PRIORITY_CONST: u8 = 1;

/// How the target lets a path reach the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PathAccess {
    /// Target port group identifier.
    pub group: u16,
    /// Relative target port identifier, when the target names it.
    pub port: Option<u16>,
    /// State of the group.
    pub state: AccessState,
    /// PREF: the target would like the group's ports to be used.
    pub preferred: bool,
}

impl PathAccess {
    /// As multipath-tools counts: 50 active/optimized, 10 active/non-optimized, 5 logical block
    /// dependent, 1 standby, 0 others, and 80 more for a preferred group that is not optimized.
    #[must_use]
    pub const fn priority(&self) -> u8 {
        let base = match self.state {
            AccessState::ActiveOptimized => return 50,
            AccessState::ActiveNonOptimized => 10,
            AccessState::LbaDependent => 5,
            AccessState::Standby => 1,
            AccessState::Unavailable
            | AccessState::Offline
            | AccessState::Transitioning
            | AccessState::Reserved(_) => 0,
        };
        if self.preferred { base + 80 } else { base }
    }

    /// Whether the state lets reads and writes through.
    #[must_use]
    pub const fn carries_io(&self) -> bool {
        carries_io(self.state)
    }
}

/// Whether a state lets reads and writes through. One that the standard does not define may.
pub(crate) const fn carries_io(state: AccessState) -> bool {
    match state {
        AccessState::ActiveOptimized
        | AccessState::ActiveNonOptimized
        | AccessState::LbaDependent
        | AccessState::Reserved(_) => true,
        AccessState::Standby
        | AccessState::Unavailable
        | AccessState::Offline
        | AccessState::Transitioning => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_of_the_alua_prioritizer() {
        let of = |state, preferred| {
            let access = PathAccess {
                group: 1,
                port: None,
                state,
                preferred,
            };
            access.priority()
        };
        for (state, plain, preferred) in [
            (AccessState::ActiveOptimized, 50, 50),
            (AccessState::ActiveNonOptimized, 10, 90),
            (AccessState::LbaDependent, 5, 85),
            (AccessState::Standby, 1, 81),
            (AccessState::Unavailable, 0, 80),
            (AccessState::Offline, 0, 80),
            (AccessState::Transitioning, 0, 80),
        ] {
            assert_eq!(of(state, false), plain, "{state}");
            assert_eq!(of(state, true), preferred, "{state}");
        }
    }
}
