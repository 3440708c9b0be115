//! One line per row of the table: condition, decision, what the caller would see, whether it may
//! have run. Written from reference tables, not from the code.

use super::*;
use crate::testing::sense as check_condition;
use scsi::{DeliveryError, ScsiAnswer};

fn status(byte: u8) -> Outcome {
    Outcome::Answered(ScsiAnswer {
        status: Status(byte),
        ..ScsiAnswer::good(0)
    })
}

fn check(key: u8, asc: u8, ascq: u8) -> Outcome {
    Outcome::Answered(check_condition(key, asc, ascq))
}

fn none(kind: DeliveryErrorKind, certainty: Certainty) -> Outcome {
    Outcome::Failed(DeliveryError { kind, certainty })
}

#[track_caller]
fn row(outcome: &Outcome, verdict: Verdict, kind: IoErrorKind, ran: bool) {
    let row = classify(outcome);
    assert_eq!(row.verdict(true), verdict, "{outcome:?}");
    if verdict != Verdict::Good {
        assert_eq!(row.kind, kind, "{outcome:?}");
        assert_eq!(may_have_run(row, outcome), ran, "{outcome:?}");
    }
}

fn again_at_once(limit: u8, after: After) -> Verdict {
    again(Pace::AtOnce, limit, after)
}

macro_rules! rows {
    ($($name:ident: $outcome:expr => $verdict:expr, $kind:expr, $ran:expr;)*) => {
        $(#[test]
        fn $name() {
            row(&$outcome, $verdict, $kind, $ran);
        })*
    };
}

const WAIT: Verdict = again(Pace::Tick, PATIENT, After::Up);
const BUSY: Verdict = again(Pace::BackOff, PATIENT, After::Up);
const GONE: Verdict = Verdict::Leave(Trouble::Unusable);
const LOST: Verdict = Verdict::Leave(Trouble::Lost);
const SUSPECT: Verdict = Verdict::Leave(Trouble::Suspect);

use Certainty::{Answered, NotSent, PartlySent, SentNoAnswer};
use DeliveryErrorKind as D;

rows! {
    good: status(0x00) => Verdict::Good, Kind::Device, true;
    condition_met: status(0x04) => Verdict::Good, Kind::Device, true;
    busy: status(0x08) => BUSY, Kind::Busy, false;
    task_set_full: status(0x28) => BUSY, Kind::Busy, false;
    reservation_conflict: status(0x18) => Verdict::Up, Kind::ReservationConflict, false;
    aca_active: status(0x30) => again(Pace::Tick, 5, After::Up), Kind::Busy, false;
    task_aborted: status(0x40) => again_at_once(5, After::Up), Kind::Aborted, true;
    reserved_status: status(0x22) => Verdict::Up, Kind::Device, true;

    recovered_error: check(1, 0x17, 0) => Verdict::Good, Kind::Device, true;
    no_sense_key: check(0, 0, 0) => Verdict::Up, Kind::Device, true;
    becoming_ready: check(2, 0x04, 0x01) => WAIT, Kind::NotReady, false;
    needs_start: check(2, 0x04, 0x02) => Verdict::Up, Kind::NotReady, false;
    manual_intervention: check(2, 0x04, 0x03) => Verdict::Elsewhere, Kind::NotReady, false;
    in_transition: check(2, 0x04, 0x0a) => NO_ACCESS, Kind::NotReady, false;
    standby: check(2, 0x04, 0x0b) => NO_ACCESS, Kind::NotReady, false;
    unavailable: check(2, 0x04, 0x0c) => NO_ACCESS, Kind::NotReady, false;
    not_accessible: check(2, 0x04, 0x14) => again(Pace::Tick, 5, After::Up), Kind::NotReady, false;
    no_medium: check(2, 0x3a, 0x00) => Verdict::Up, Kind::NotReady, false;

    unrecovered_read: check(3, 0x11, 0x00) => Verdict::Up, Kind::MediumError, true;
    write_error: check(3, 0x0c, 0x00) => Verdict::Up, Kind::MediumError, true;
    timeout_on_unit: check(4, 0x3e, 0x02) => again(Pace::Tick, 3, After::Up), Kind::HardwareError, true;
    overlapped_target_port: check(4, 0x4b, 0x06) => again_at_once(3, After::Up), Kind::HardwareError, true;
    set_target_port_groups_failed: check(4, 0x67, 0x0a) => Verdict::Up, Kind::HardwareError, true;
    internal_target_failure: check(4, 0x44, 0x00) => Verdict::Up, Kind::HardwareError, true;

    no_logical_unit: check(5, 0x25, 0x00) => GONE, Kind::NoLogicalUnit, false;
    invalid_opcode: check(5, 0x20, 0x00) => Verdict::Up, Kind::IllegalRequest, false;
    out_of_range: check(5, 0x21, 0x00) => Verdict::Up, Kind::IllegalRequest, false;
    invalid_field_in_cdb: check(5, 0x24, 0x00) => Verdict::Up, Kind::IllegalRequest, false;
    invalid_field_in_list: check(5, 0x26, 0x00) => Verdict::Up, Kind::IllegalRequest, false;

    power_on_or_reset: check(6, 0x29, 0x00) => ATTENTION, Kind::UnitAttention, false;
    nexus_loss: check(6, 0x29, 0x07) => ATTENTION, Kind::UnitAttention, false;
    bus_device_reset: check(6, 0x29, 0x03) => ATTENTION, Kind::UnitAttention, false;
    mode_parameters_changed: check(6, 0x2a, 0x01) => Verdict::LookAgain, Kind::UnitAttention, false;
    reservations_preempted: check(6, 0x2a, 0x03) => ATTENTION, Kind::UnitAttention, false;
    reservations_released: check(6, 0x2a, 0x04) => ATTENTION, Kind::UnitAttention, false;
    registrations_preempted: check(6, 0x2a, 0x05) => ATTENTION, Kind::UnitAttention, false;
    access_state_changed: check(6, 0x2a, 0x06) => ATTENTION, Kind::UnitAttention, false;
    transition_failed: check(6, 0x2a, 0x07) => ATTENTION, Kind::UnitAttention, false;
    capacity_changed: check(6, 0x2a, 0x09) => Verdict::LookAgain, Kind::UnitAttention, false;
    inquiry_changed: check(6, 0x3f, 0x03) => Verdict::LookAgain, Kind::UnitAttention, false;
    luns_changed: check(6, 0x3f, 0x0e) => Verdict::LookAgain, Kind::UnitAttention, false;
    thin_soft_threshold: check(6, 0x38, 0x07) => ATTENTION, Kind::UnitAttention, false;

    thin_full: check(7, 0x27, 0x07) => Verdict::Up, Kind::NoSpace, true;
    write_protected: check(7, 0x27, 0x00) => Verdict::Up, Kind::DataProtect, false;
    protection_information: check(0xb, 0x10, 0x01) => Verdict::Up, Kind::ProtectionInformation, true;
    aborted_command: check(0xb, 0x47, 0x00) => again_at_once(5, After::Elsewhere), Kind::Aborted, true;
    miscompare: check(0xe, 0x1d, 0x00) => Verdict::Up, Kind::Miscompare, true;
    vendor_specific: check(9, 0x80, 0x00) => Verdict::Up, Kind::Device, true;

    down: none(D::Down, NotSent) => LOST, Kind::Transport(D::Down), false;
    closed: none(D::Closed, NotSent) => LOST, Kind::Transport(D::Closed), false;
    lost_not_sent: none(D::ConnectionLost, NotSent) => LOST, Kind::Transport(D::ConnectionLost), false;
    lost_partly_sent: none(D::ConnectionLost, PartlySent) => LOST, Kind::Transport(D::ConnectionLost), true;
    lost_sent: none(D::ConnectionLost, SentNoAnswer) => LOST, Kind::Transport(D::ConnectionLost), true;
    timed_out_not_sent: none(D::TimedOut, NotSent) => SUSPECT, Kind::Transport(D::TimedOut), false;
    timed_out_aborted: none(D::TimedOut, Answered) => SUSPECT, Kind::Transport(D::TimedOut), true;
    timed_out_sent: none(D::TimedOut, SentNoAnswer) => SUSPECT, Kind::Transport(D::TimedOut), true;
    aborted_and_over: none(D::Aborted, Answered) => again_at_once(5, After::Elsewhere), Kind::Aborted, true;
    aborted_who_knows: none(D::Aborted, SentNoAnswer) => SUSPECT, Kind::Aborted, true;
    target_failure: none(D::TargetFailure, Answered) => again_at_once(2, After::Elsewhere), Kind::Transport(D::TargetFailure), true;
    target_failure_unsure: none(D::TargetFailure, SentNoAnswer) => SUSPECT, Kind::Transport(D::TargetFailure), true;
    unsupported: none(D::Unsupported, NotSent) => Verdict::Up, Kind::Unsupported, false;
}

/// Who has no target port groups cannot mean them.
#[test]
fn access_states_of_units_without_target_port_groups() {
    for (ascq, verdict) in [(0x0a, WAIT), (0x0b, GONE), (0x0c, GONE)] {
        assert_eq!(classify(&check(2, 0x04, ascq)).verdict(false), verdict);
    }
    let other = classify(&check(2, 0x04, 0x01));
    assert_eq!(other.verdict(false), WAIT);
}

#[test]
fn what_others_are_told() {
    use Attention as A;
    let attention = |attention| Some(Note::Attention(attention));
    for (outcome, note) in [
        (check(6, 0x29, 0x00), attention(A::PowerOn)),
        (check(6, 0x29, 0x07), attention(A::Reset)),
        (check(6, 0x2a, 0x01), attention(A::ModeParameters)),
        (check(6, 0x2a, 0x03), attention(A::Reservations)),
        (check(6, 0x2a, 0x04), attention(A::Reservations)),
        (check(6, 0x2a, 0x05), attention(A::Reservations)),
        (check(6, 0x2a, 0x06), attention(A::AccessState)),
        (check(6, 0x2a, 0x07), attention(A::TransitionFailed)),
        (check(6, 0x2a, 0x09), attention(A::Capacity)),
        (check(6, 0x3f, 0x03), attention(A::Inquiry)),
        (check(6, 0x3f, 0x0e), attention(A::LogicalUnits)),
        (check(6, 0x38, 0x07), attention(A::ThinProvisioning)),
        (check(6, 0x2a, 0x0a), None),
        (
            check(2, 0x04, 0x0a),
            Some(Note::Denied(AccessState::Transitioning)),
        ),
        (
            check(2, 0x04, 0x0b),
            Some(Note::Denied(AccessState::Standby)),
        ),
        (
            check(2, 0x04, 0x0c),
            Some(Note::Denied(AccessState::Unavailable)),
        ),
        (check(2, 0x04, 0x01), None),
        (check(4, 0x67, 0x0a), Some(Note::SetFailed)),
        (status(0x08), None),
        (none(D::ConnectionLost, SentNoAnswer), None),
    ] {
        assert_eq!(classify(&outcome).note, note, "{outcome:?}");
    }
}

#[test]
fn check_condition_without_sense_goes_up() {
    row(&status(0x02), Verdict::Up, Kind::Device, true);
}

#[test]
fn a_deferred_error_is_not_hidden_by_a_retry() {
    let mut answer = check_condition(6, 0x29, 0);
    answer.sense[0] = 0x71;
    let outcome = Outcome::Answered(answer);
    row(&outcome, Verdict::Up, Kind::DeferredError, false);
}

#[test]
fn every_row_can_be_reached() {
    // A row behind one that swallows it would be dead.
    for (index, row) in TABLE.iter().enumerate() {
        let outcome = match row.when {
            When::Status(it) => status(it.0),
            When::Sense(key, asc, ascq) => check(key, asc.unwrap_or(0xfe), ascq.unwrap_or(0xfe)),
            When::Delivery(kind, Fate::Over) => none(kind, Answered),
            When::Delivery(kind, Fate::Any) => none(kind, SentNoAnswer),
            When::Anything => continue,
        };
        assert!(
            std::ptr::eq(classify(&outcome), row),
            "row {index}: {row:?}"
        );
    }
}
