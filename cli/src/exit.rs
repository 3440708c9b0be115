//! How a run ends: one number for scripts, a message and a hint for people.

use initiator::{Error, IoError, IoErrorKind, OutcomeCertainty, QueryError, ReservationError};

use crate::url::AddressError;

/// Exit statuses; the numbers are a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// 0: done.
    Done,
    /// 1: a failure that no other number describes.
    Other,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: not one portal could be reached.
    Unreachable,
    /// 4: login refused, or authentication failed.
    Login,
    /// 5: no such target or LUN.
    NotFound,
    /// 6: the device answered a command with an error.
    Device,
    /// 7: nobody knows whether a write happened.
    Unknown,
    /// 8: what was read is not what was written.
    Verification,
    /// 128 + the signal's number: the user stopped it.
    Interrupted(Signal),
}

/// Signals that end a run in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The polite kill.
    Terminate,
    /// The terminal went away.
    Hangup,
}

impl Status {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Login => 4,
            Self::NotFound => 5,
            Self::Device => 6,
            Self::Unknown => 7,
            Self::Verification => 8,
            Self::Interrupted(Signal::Hangup) => 129,
            Self::Interrupted(Signal::Interrupt) => 130,
            Self::Interrupted(Signal::Terminate) => 143,
        }
    }

    /// The status a failed run ends with: that of the first cause that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        // The user's signal decides, whatever state it left things in.
        let causes: Vec<_> = error.chain().filter_map(of_cause).collect();
        let stopped = causes
            .iter()
            .find(|status| matches!(status, Self::Interrupted(_)));
        if let Some(stopped) = stopped {
            return *stopped;
        }
        // Failures that were given as context are no links of the chain.
        let context = error.downcast_ref::<Failure>().map(Failure::status);
        context
            .or_else(|| causes.first().copied())
            .unwrap_or(Self::Other)
    }

    /// What to try, where there is something.
    pub(crate) const fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Login => "-v shows the login step by step",
            Self::NotFound => "'iscsi discover PORTAL' lists targets, 'iscsi ls URL' their LUNs",
            Self::Unknown => {
                "the data may or may not have been written; write the range again, or read it to find out"
            }
            Self::Done
            | Self::Other
            | Self::Usage
            | Self::Unreachable
            | Self::Device
            | Self::Verification
            | Self::Interrupted(_) => return None,
        })
    }
}

/// Failures that arise in the command itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// Read back differs from written.
    #[error("verification failed: the first difference is at byte {offset} of {place}")]
    Verification { offset: u64, place: String },
    /// The demo found something that must not be.
    #[error("{0}")]
    Demo(String),
    /// Writes that may or may not have happened when a run ended.
    #[error(
        "{so_far}: the target acknowledged these, they are not flushed; writes between byte {from} and byte {to} may or may not have been done"
    )]
    WriteUnknown { so_far: String, from: u64, to: u64 },
    /// The target did not carry out what was asked.
    #[error("{0}")]
    Refused(String),
    /// A signal.
    #[error("stopped by {}", match .0 {
        Signal::Interrupt => "Ctrl-C",
        Signal::Terminate => "SIGTERM",
        Signal::Hangup => "SIGHUP",
    })]
    Interrupted(Signal),
    /// The reader of standard output went away.
    #[error("standard output was closed by its reader")]
    OutputClosed,
}

impl Failure {
    const fn status(&self) -> Status {
        match self {
            Self::Usage(_) => Status::Usage,
            Self::Verification { .. } | Self::Demo(_) => Status::Verification,
            Self::WriteUnknown { .. } => Status::Unknown,
            Self::Refused(_) => Status::Device,
            Self::Interrupted(signal) => Status::Interrupted(*signal),
            Self::OutputClosed => Status::Other,
        }
    }
}

/// The failure and its causes in one line; a cause that the text before it already tells is left
/// out.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Status> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.status());
    }
    if cause.is::<AddressError>() {
        return Some(Status::Usage);
    }
    if let Some(io) = cause.downcast_ref::<IoError>() {
        return Some(of_io(io));
    }
    if let Some(error) = cause.downcast_ref::<ReservationError>() {
        return Some(of_reservation(error));
    }
    cause.downcast_ref::<Error>().map(of_error)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no number of its own is 1"
)]
const fn of_reservation(error: &ReservationError) -> Status {
    match error {
        ReservationError::NoKey | ReservationError::OneNexusOnly { .. } => Status::Usage,
        ReservationError::NoPath { .. } => Status::Unreachable,
        ReservationError::Unknown(_) => Status::Unknown,
        ReservationError::NotRegistered { .. }
        | ReservationError::Conflict { .. }
        | ReservationError::NoSuchKey(_)
        | ReservationError::Unsupported
        | ReservationError::Refused { .. } => Status::Device,
        _ => Status::Other,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no number of its own is 1"
)]
fn of_error(error: &Error) -> Status {
    match error {
        Error::NoPortalReachable { .. } | Error::NoSession { .. } => Status::Unreachable,
        Error::Login { .. } => Status::Login,
        Error::NoSuchTarget { .. } | Error::NoSuchLun { .. } => Status::NotFound,
        Error::Query {
            source: QueryError::Refused { .. },
            ..
        } => Status::Device,
        Error::Io(io) => of_io(io),
        _ => Status::Other,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no number of its own is 1"
)]
fn of_io(error: &IoError) -> Status {
    use IoErrorKind as Kind;
    if error.outcome == OutcomeCertainty::Unknown {
        return Status::Unknown;
    }
    match error.kind {
        Kind::NoPath => Status::Unreachable,
        Kind::NoLogicalUnit => Status::NotFound,
        Kind::ReadOnly
        | Kind::Busy
        | Kind::ReservationConflict
        | Kind::Aborted
        | Kind::NotReady
        | Kind::MediumError
        | Kind::HardwareError
        | Kind::IllegalRequest
        | Kind::UnitAttention
        | Kind::DataProtect
        | Kind::NoSpace
        | Kind::ProtectionInformation
        | Kind::Miscompare
        | Kind::ShortTransfer
        | Kind::DeferredError
        | Kind::Device => Status::Device,
        _ => Status::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_contract() {
        let table = [
            (Status::Done, 0),
            (Status::Other, 1),
            (Status::Usage, 2),
            (Status::Unreachable, 3),
            (Status::Login, 4),
            (Status::NotFound, 5),
            (Status::Device, 6),
            (Status::Unknown, 7),
            (Status::Verification, 8),
            (Status::Interrupted(Signal::Interrupt), 130),
        ];
        for (status, code) in table {
            assert_eq!(status.code(), code, "{status:?}");
        }
    }

    #[test]
    fn context_does_not_hide_the_cause() {
        let error = anyhow::Error::new(Failure::Usage("x".to_owned()))
            .context("y")
            .context("z");
        assert_eq!(Status::of(&error), Status::Usage);
        assert_eq!(Status::of(&anyhow::anyhow!("x")), Status::Other);
    }

    #[test]
    fn an_unknown_outcome_outweighs_its_cause_and_a_signal_outweighs_it() {
        let unknown = || Failure::WriteUnknown {
            so_far: String::new(),
            from: 0,
            to: 1,
        };
        let error = anyhow::Error::new(Failure::OutputClosed)
            .context(unknown())
            .context("x");
        assert_eq!(Status::of(&error), Status::Unknown);
        let signal = Signal::Interrupt;
        let error = anyhow::Error::new(Failure::Interrupted(signal)).context(unknown());
        assert_eq!(Status::of(&error), Status::Interrupted(signal));
    }

    #[test]
    fn nothing_is_told_twice() {
        let error = anyhow::anyhow!("refused")
            .context("login: refused")
            .context("copy");
        assert_eq!(message(&error), "copy: login: refused");
    }
}
