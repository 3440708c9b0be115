//! What a completion means: the error table, as data.
//!
//! Multipath is the only retrier, so this table decides for the whole stack. The first row that
//! matches counts. Some rows carry a [`Note`]: something that others want to know of, whatever
//! becomes of the command.

use std::fmt;

use scsi::{AccessState, Certainty, DeliveryErrorKind, Outcome, SenseData, SenseKey, Status};

use crate::error::IoErrorKind;
use crate::path::Trouble;

/// What to do with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done.
    Good,
    /// To the caller, at once; the path is fine.
    Up,
    /// Again on the same path.
    Again {
        /// When.
        pace: Pace,
        /// So many times on one path.
        limit: u8,
        /// And then.
        after: After,
    },
    /// On another path; to the caller when every usable one has said it.
    Elsewhere,
    /// The path has trouble; on another.
    Leave(Trouble),
    /// Again, once the path was looked at.
    LookAgain,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Now.
    AtOnce,
    /// In a second: the device said that it needs time.
    Tick,
    /// After 10 ms, doubling up to a second: the device is busy.
    BackOff,
}

/// When a path has had its tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// To the caller.
    Up,
    /// On another path, then to the caller.
    Elsewhere,
}

/// What a unit attention says has happened to the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attention {
    /// 29h/00h, 01h and 04h: power on, or a reset that may be one. Volatile caches may be empty
    /// and SCSI-2 reservations gone; persistent ones are to be looked at again. Many targets say
    /// this to every new session.
    PowerOn,
    /// Other codes of 29h: a reset, or loss of the I_T nexus, that a cache survives.
    Reset,
    /// 2Ah/01h: mode parameters; the unit may be write-protected now.
    ModeParameters,
    /// 2Ah/03h to 05h: reservations or registrations were preempted or released.
    Reservations,
    /// 2Ah/06h: the access state of a target port group.
    AccessState,
    /// 2Ah/07h: the target failed to change the access state of a target port group.
    TransitionFailed,
    /// 2Ah/09h: the capacity.
    Capacity,
    /// 3Fh/03h: INQUIRY data, hence perhaps who the unit is.
    Inquiry,
    /// 3Fh/0Eh: the target's list of logical units.
    LogicalUnits,
    /// 38h/07h: a threshold of thin provisioning was reached.
    ThinProvisioning,
}

impl Attention {
    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PowerOn => "power on or reset",
            Self::Reset => "reset",
            Self::ModeParameters => "mode parameters changed",
            Self::Reservations => "reservations changed",
            Self::AccessState => "access state changed",
            Self::TransitionFailed => "access state transition failed",
            Self::Capacity => "capacity changed",
            Self::Inquiry => "INQUIRY data changed",
            Self::LogicalUnits => "list of logical units changed",
            Self::ThinProvisioning => "thin provisioning threshold reached",
        }
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What others want to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The unit changed.
    Attention(Attention),
    /// The target port group that carried the command is in this state.
    Denied(AccessState),
    /// The target could not bring a target port group into the state asked for.
    SetFailed,
}

/// A row's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// A status other than CHECK CONDITION.
    Status(Status),
    /// CHECK CONDITION with this sense key, additional sense code and qualifier; `None`: any.
    Sense(u8, Option<u8>, Option<u8>),
    /// No answer, for this reason.
    Delivery(DeliveryErrorKind, Fate),
    /// Everything else.
    Anything,
}

/// How far a command without an answer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// As far as you like.
    Any,
    /// The task is over or never was.
    Over,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    when: When,
    /// What to do with a unit that has target port groups.
    verdict: Verdict,
    /// What the caller sees if it comes to that.
    pub(crate) kind: IoErrorKind,
    /// Whether the command may have had an effect; if not, even one that must not be repeated
    /// may be tried again.
    pub(crate) may_have_run: bool,
    /// What others want to know.
    pub(crate) note: Option<Note>,
}

impl Row {
    /// What to do. A unit without target port groups (`asymmetric` false) that says such things
    /// knows no access states: wait, or leave the path until it answers better.
    pub(crate) const fn verdict(&self, asymmetric: bool) -> Verdict {
        match (self.verdict, self.note) {
            (Verdict::Leave(Trouble::NoAccess), Some(Note::Denied(AccessState::Transitioning)))
                if !asymmetric =>
            {
                again(Pace::Tick, PATIENT, After::Up)
            }
            (Verdict::Leave(Trouble::NoAccess), _) if !asymmetric => {
                Verdict::Leave(Trouble::Unusable)
            }
            (verdict, _) => verdict,
        }
    }

    const fn attention(self, attention: Attention) -> Self {
        self.note(Note::Attention(attention))
    }

    const fn note(self, note: Note) -> Self {
        Self {
            note: Some(note),
            ..self
        }
    }
}

/// Waits until the deadline.
const PATIENT: u8 = u8::MAX;

const fn again(pace: Pace, limit: u8, after: After) -> Verdict {
    Verdict::Again { pace, limit, after }
}

const fn refused(when: When, verdict: Verdict, kind: IoErrorKind) -> Row {
    Row {
        when,
        verdict,
        kind,
        may_have_run: false,
        note: None,
    }
}

const fn ran(when: When, verdict: Verdict, kind: IoErrorKind) -> Row {
    Row {
        when,
        verdict,
        kind,
        may_have_run: true,
        note: None,
    }
}

const fn sense(key: u8, asc: u8, ascq: u8) -> When {
    When::Sense(key, Some(asc), Some(ascq))
}

const fn key(key: u8) -> When {
    When::Sense(key, None, None)
}

use IoErrorKind as Kind;

/// Unit attentions come at most one per condition; more than this is a device gone mad.
const ATTENTION: Verdict = again(Pace::AtOnce, 16, After::Up);

const NO_ACCESS: Verdict = Verdict::Leave(Trouble::NoAccess);

/// The table.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    // Status alone.
    ran(When::Status(Status::GOOD), Verdict::Good, Kind::Device),
    ran(When::Status(Status::CONDITION_MET), Verdict::Good, Kind::Device),
    refused(When::Status(Status::BUSY), again(Pace::BackOff, PATIENT, After::Up), Kind::Busy),
    refused(When::Status(Status::TASK_SET_FULL), again(Pace::BackOff, PATIENT, After::Up), Kind::Busy),
    refused(When::Status(Status::RESERVATION_CONFLICT), Verdict::Up, Kind::ReservationConflict),
    refused(When::Status(Status::ACA_ACTIVE), again(Pace::Tick, 5, After::Up), Kind::Busy),
    // A final status: the task is over, no fence. Somebody else resets the unit.
    ran(When::Status(Status::TASK_ABORTED), again(Pace::AtOnce, 5, After::Up), Kind::Aborted),

    // 1h RECOVERED ERROR: done, with a remark.
    ran(key(0x1), Verdict::Good, Kind::Device),

    // 2h NOT READY.
    refused(sense(0x2, 0x04, 0x01), again(Pace::Tick, PATIENT, After::Up), Kind::NotReady),
    refused(sense(0x2, 0x04, 0x02), Verdict::Up, Kind::NotReady),
    refused(sense(0x2, 0x04, 0x03), Verdict::Elsewhere, Kind::NotReady),
    // The target port group gives no access now: through another, or when it does again.
    refused(sense(0x2, 0x04, 0x0a), NO_ACCESS, Kind::NotReady).note(Note::Denied(AccessState::Transitioning)),
    refused(sense(0x2, 0x04, 0x0b), NO_ACCESS, Kind::NotReady).note(Note::Denied(AccessState::Standby)),
    refused(sense(0x2, 0x04, 0x0c), NO_ACCESS, Kind::NotReady).note(Note::Denied(AccessState::Unavailable)),
    refused(sense(0x2, 0x04, 0x14), again(Pace::Tick, 5, After::Up), Kind::NotReady),
    refused(key(0x2), Verdict::Up, Kind::NotReady),

    // 3h MEDIUM ERROR, 4h HARDWARE ERROR: the same on every path.
    ran(key(0x3), Verdict::Up, Kind::MediumError),
    ran(sense(0x4, 0x3e, 0x02), again(Pace::Tick, 3, After::Up), Kind::HardwareError),
    ran(sense(0x4, 0x4b, 0x06), again(Pace::AtOnce, 3, After::Up), Kind::HardwareError),
    ran(sense(0x4, 0x67, 0x0a), Verdict::Up, Kind::HardwareError).note(Note::SetFailed),
    ran(key(0x4), Verdict::Up, Kind::HardwareError),

    // 5h ILLEGAL REQUEST.
    refused(sense(0x5, 0x25, 0x00), Verdict::Leave(Trouble::Unusable), Kind::NoLogicalUnit),
    refused(key(0x5), Verdict::Up, Kind::IllegalRequest),

    // 6h UNIT ATTENTION: the command was not executed.
    refused(sense(0x6, 0x29, 0x00), ATTENTION, Kind::UnitAttention).attention(Attention::PowerOn),
    refused(sense(0x6, 0x29, 0x01), ATTENTION, Kind::UnitAttention).attention(Attention::PowerOn),
    refused(sense(0x6, 0x29, 0x04), ATTENTION, Kind::UnitAttention).attention(Attention::PowerOn),
    refused(When::Sense(0x6, Some(0x29), None), ATTENTION, Kind::UnitAttention).attention(Attention::Reset),
    refused(sense(0x6, 0x2a, 0x01), Verdict::LookAgain, Kind::UnitAttention).attention(Attention::ModeParameters),
    refused(sense(0x6, 0x2a, 0x03), ATTENTION, Kind::UnitAttention).attention(Attention::Reservations),
    refused(sense(0x6, 0x2a, 0x04), ATTENTION, Kind::UnitAttention).attention(Attention::Reservations),
    refused(sense(0x6, 0x2a, 0x05), ATTENTION, Kind::UnitAttention).attention(Attention::Reservations),
    refused(sense(0x6, 0x2a, 0x06), ATTENTION, Kind::UnitAttention).attention(Attention::AccessState),
    refused(sense(0x6, 0x2a, 0x07), ATTENTION, Kind::UnitAttention).attention(Attention::TransitionFailed),
    refused(sense(0x6, 0x2a, 0x09), Verdict::LookAgain, Kind::UnitAttention).attention(Attention::Capacity),
    refused(sense(0x6, 0x3f, 0x03), Verdict::LookAgain, Kind::UnitAttention).attention(Attention::Inquiry),
    refused(sense(0x6, 0x3f, 0x0e), Verdict::LookAgain, Kind::UnitAttention).attention(Attention::LogicalUnits),
    refused(sense(0x6, 0x38, 0x07), ATTENTION, Kind::UnitAttention).attention(Attention::ThinProvisioning),
    refused(key(0x6), ATTENTION, Kind::UnitAttention),

    // 7h DATA PROTECT.
    ran(sense(0x7, 0x27, 0x07), Verdict::Up, Kind::NoSpace),
    refused(key(0x7), Verdict::Up, Kind::DataProtect),

    // Bh ABORTED COMMAND.
    ran(When::Sense(0xb, Some(0x10), None), Verdict::Up, Kind::ProtectionInformation),
    ran(key(0xb), again(Pace::AtOnce, 5, After::Elsewhere), Kind::Aborted),

    // Eh MISCOMPARE.
    ran(key(0xe), Verdict::Up, Kind::Miscompare),

    // No answer. `may_have_run` follows from the certainty, see `undelivered`.
    refused(delivery(DeliveryErrorKind::Down), Verdict::Leave(Trouble::Lost), Kind::Transport(DeliveryErrorKind::Down)),
    refused(delivery(DeliveryErrorKind::Closed), Verdict::Leave(Trouble::Lost), Kind::Transport(DeliveryErrorKind::Closed)),
    ran(delivery(DeliveryErrorKind::ConnectionLost), Verdict::Leave(Trouble::Lost), Kind::Transport(DeliveryErrorKind::ConnectionLost)),
    ran(delivery(DeliveryErrorKind::TimedOut), Verdict::Leave(Trouble::Suspect), Kind::Transport(DeliveryErrorKind::TimedOut)),
    ran(When::Delivery(DeliveryErrorKind::Aborted, Fate::Over), again(Pace::AtOnce, 5, After::Elsewhere), Kind::Aborted),
    ran(delivery(DeliveryErrorKind::Aborted), Verdict::Leave(Trouble::Suspect), Kind::Aborted),
    ran(When::Delivery(DeliveryErrorKind::TargetFailure, Fate::Over), again(Pace::AtOnce, 2, After::Elsewhere), Kind::Transport(DeliveryErrorKind::TargetFailure)),
    ran(delivery(DeliveryErrorKind::TargetFailure), Verdict::Leave(Trouble::Suspect), Kind::Transport(DeliveryErrorKind::TargetFailure)),
    refused(delivery(DeliveryErrorKind::Unsupported), Verdict::Up, Kind::Unsupported),
];

/// What is not in the table goes up: retrying what one does not understand helps nobody.
static OTHERWISE: Row = ran(When::Anything, Verdict::Up, IoErrorKind::Device);

/// A deferred error is about an earlier write, which was acknowledged and then lost in a cache.
/// Trying again would hide that from the only one who can do something about it.
static DEFERRED: Row = refused(When::Anything, Verdict::Up, IoErrorKind::DeferredError);

/// A delivery error nobody has thought of yet: the path is looked at.
static UNDELIVERED: Row = ran(
    When::Anything,
    Verdict::Leave(Trouble::Suspect),
    IoErrorKind::Aborted,
);

const fn delivery(kind: DeliveryErrorKind) -> When {
    When::Delivery(kind, Fate::Any)
}

/// The row for an outcome.
pub(crate) fn classify(outcome: &Outcome) -> &'static Row {
    let (found, otherwise) = match outcome {
        Outcome::Answered(answer) if answer.status == Status::CHECK_CONDITION => {
            let row = match SenseData::parse(&answer.sense) {
                Ok(sense) if sense.deferred => Some(&DEFERRED),
                Ok(sense) => find(|when| matches_sense(when, sense_triple(&sense))),
                Err(_) => None,
            };
            (row, &OTHERWISE)
        }
        Outcome::Answered(answer) => {
            let row = find(|when| *when == When::Status(answer.status));
            (row, &OTHERWISE)
        }
        Outcome::Failed(error) => {
            let over = !error.certainty.may_still_run();
            let row = find(|when| match when {
                When::Delivery(kind, fate) => *kind == error.kind && (*fate == Fate::Any || over),
                When::Status(_) | When::Sense(..) | When::Anything => false,
            });
            (row, &UNDELIVERED)
        }
    };
    found.unwrap_or(otherwise)
}

fn find(mut matches: impl FnMut(&When) -> bool) -> Option<&'static Row> {
    TABLE.iter().find(|row| matches(&row.when))
}

fn matches_sense(when: &When, (key, asc, ascq): (u8, u8, u8)) -> bool {
    match when {
        When::Sense(k, a, q) => {
            *k == key && a.is_none_or(|a| a == asc) && q.is_none_or(|q| q == ascq)
        }
        When::Status(_) | When::Delivery(..) | When::Anything => false,
    }
}

/// Whether the command may have had an effect, by the row and by how far it got.
pub(crate) fn may_have_run(row: &Row, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered(_) => row.may_have_run,
        Outcome::Failed(error) => error.certainty != Certainty::NotSent,
    }
}

/// Sense key, additional sense code and qualifier.
fn sense_triple(sense: &SenseData) -> (u8, u8, u8) {
    (sense.key.0, sense.code.asc, sense.code.ascq)
}

/// Whether sense data say ILLEGAL REQUEST: the device does not know what was asked.
pub(crate) fn is_illegal_request(sense: &[u8]) -> bool {
    SenseData::parse(sense).is_ok_and(|sense| sense.key == SenseKey::ILLEGAL_REQUEST)
}

/// Whether sense data say INVALID COMMAND OPERATION CODE.
pub(crate) fn is_unknown_command(sense: &[u8]) -> bool {
    SenseData::parse(sense).is_ok_and(|sense| sense_triple(&sense) == (0x5, 0x20, 0x00))
}

/// Sense data for people, whatever they are.
pub(crate) fn sense_in_words(sense: &[u8]) -> impl fmt::Display + '_ {
    Words(sense)
}

struct Words<'a>(&'a [u8]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SenseData::parse(self.0) {
            Ok(sense) => sense.fmt(f),
            Err(error) => write!(f, "unreadable sense data: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
