//! SCSI status codes (SAM-5 §5.3).

/// The status byte of a command. Values SAM does not define are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u8);

impl Status {
    /// Done.
    pub const GOOD: Self = Self(0x00);
    /// Sense data tell what happened.
    pub const CHECK_CONDITION: Self = Self(0x02);
    /// PRE-FETCH: fits the cache; COMPARE: equal.
    pub const CONDITION_MET: Self = Self(0x04);
    /// The logical unit cannot take the command now.
    pub const BUSY: Self = Self(0x08);
    /// Another I_T nexus holds a reservation.
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    /// No room in the task set.
    pub const TASK_SET_FULL: Self = Self(0x28);
    /// An ACA condition is in force.
    pub const ACA_ACTIVE: Self = Self(0x30);
    /// Ended by another I_T nexus.
    pub const TASK_ABORTED: Self = Self(0x40);

    /// The standard's name, or `None` for a reserved value.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::GOOD => "GOOD",
            Self::CHECK_CONDITION => "CHECK CONDITION",
            Self::CONDITION_MET => "CONDITION MET",
            Self::BUSY => "BUSY",
            Self::RESERVATION_CONFLICT => "RESERVATION CONFLICT",
            Self::TASK_SET_FULL => "TASK SET FULL",
            Self::ACA_ACTIVE => "ACA ACTIVE",
            Self::TASK_ABORTED => "TASK ABORTED",
            _ => return None,
        })
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({:#04x})",
            self.name().unwrap_or("reserved status"),
            self.0
        )
    }
}
