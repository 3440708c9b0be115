#![allow(clippy::wildcard_enum_match_arm)]

use super::*;
use crate::testing::{at, sense};
use scsi::{Certainty, DeliveryError, DeliveryErrorKind};

const P: PathId = PathId(0);
const Q: PathId = PathId(1);
const ALTERS: Replay = Replay::Never { alters: true };

fn attempt(replay: Replay) -> Attempt {
    Attempt::new(replay, Some(4096), at(0), &Config::default())
}

fn unanswered(kind: DeliveryErrorKind, certainty: Certainty) -> Outcome {
    Outcome::Failed(DeliveryError { kind, certainty })
}

fn lost() -> Outcome {
    unanswered(DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer)
}

fn status(status: Status) -> Outcome {
    Outcome::Answered(ScsiAnswer {
        status,
        ..ScsiAnswer::good(0)
    })
}

fn good() -> Outcome {
    Outcome::Answered(ScsiAnswer::good(4096))
}

fn set(paths: &[PathId]) -> PathSet {
    let mut set = PathSet::default();
    for path in paths {
        set.insert(*path);
    }
    set
}

fn send(stay: Option<PathId>, avoid: &[PathId]) -> Step {
    Step::Send {
        stay,
        avoid: set(avoid),
    }
}

#[track_caller]
fn done(attempt: Attempt) -> Result<ScsiAnswer, IoErrorKind> {
    assert_eq!(attempt.step(), Step::Done);
    attempt.finish().map_err(|error| error.kind)
}

#[test]
fn good_is_the_end() {
    let mut it = attempt(Replay::Free);
    assert_eq!(it.step(), send(None, &[]));
    it.sending(P);
    let aftermath = it.completed(at(1), P, good());
    assert_eq!((aftermath.trouble, aftermath.hold), (None, false));
    assert_eq!(done(it).unwrap().transferred, 4096);
}

#[test]
fn a_lost_read_moves_at_once() {
    let mut it = attempt(Replay::Free);
    it.sending(P);
    let aftermath = it.completed(at(1), P, lost());
    assert_eq!(aftermath.trouble, Some(Trouble::Lost));
    assert!(!aftermath.hold);
    assert_eq!(it.step(), send(None, &[]));
}

#[test]
fn a_lost_write_waits_for_the_fence() {
    for certainty in [Certainty::PartlySent, Certainty::SentNoAnswer] {
        let mut it = attempt(Replay::AfterFence);
        it.sending(P);
        let outcome = unanswered(DeliveryErrorKind::ConnectionLost, certainty);
        let aftermath = it.completed(at(1), P, outcome);
        assert!(aftermath.hold);
        assert_eq!(it.step(), Step::AwaitFence(at(60_000)));
        it.woken(at(59_999));
        assert_eq!(it.step(), Step::AwaitFence(at(60_000)));
        it.fenced(at(59_999));
        assert_eq!(it.step(), send(None, &[]));
        it.sending(Q);
        it.completed(at(59_999), Q, good());
        assert!(done(it).is_ok());
    }
}

#[test]
fn a_write_that_was_not_sent_or_is_over_moves_at_once() {
    for (kind, certainty) in [
        (DeliveryErrorKind::Down, Certainty::NotSent),
        (DeliveryErrorKind::ConnectionLost, Certainty::NotSent),
        (DeliveryErrorKind::TimedOut, Certainty::Answered),
        (DeliveryErrorKind::TargetFailure, Certainty::Answered),
        (DeliveryErrorKind::Aborted, Certainty::Answered),
    ] {
        let mut it = attempt(Replay::AfterFence);
        it.sending(P);
        let aftermath = it.completed(at(1), P, unanswered(kind, certainty));
        assert!(!aftermath.hold, "{kind:?}");
        assert!(matches!(it.step(), Step::Send { .. }), "{kind:?}");
    }
}

#[test]
fn an_unfenced_write_ends_unknown_and_unsettled() {
    let mut it = attempt(Replay::AfterFence);
    it.sending(P);
    it.completed(at(1), P, lost());
    it.woken(at(60_000));
    assert_eq!(it.step(), Step::Done);
    let error = it.finish().unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFenced);
    assert_eq!(error.outcome, OutcomeCertainty::Unknown);
    assert!(!error.settled);
    assert_eq!(error.path, Some(P));
}

#[test]
fn a_fenced_write_that_fails_later_is_unknown_but_settled() {
    let mut it = attempt(Replay::AfterFence);
    it.sending(P);
    it.completed(at(1), P, lost());
    it.fenced(at(2));
    it.sending(Q);
    it.completed(at(3), Q, Outcome::Answered(sense(3, 0x0c, 0)));
    let error = it.finish().unwrap_err();
    assert_eq!(error.kind, IoErrorKind::MediumError);
    assert_eq!(error.outcome, OutcomeCertainty::Unknown);
    assert!(error.settled);
    assert!(!error.sense.is_empty());
}

#[test]
fn a_device_error_means_not_done() {
    let mut it = attempt(Replay::AfterFence);
    it.sending(P);
    it.completed(at(3), P, status(Status::RESERVATION_CONFLICT));
    let error = it.finish().unwrap_err();
    assert_eq!(error.kind, IoErrorKind::ReservationConflict);
    assert_eq!(error.outcome, OutcomeCertainty::NotDone);
    assert_eq!(error.status, Some(Status::RESERVATION_CONFLICT));
}

#[test]
fn raw_commands_are_repeated_only_when_not_executed() {
    for outcome in [
        Outcome::Answered(sense(6, 0x29, 0)),
        status(Status::BUSY),
        unanswered(DeliveryErrorKind::Down, Certainty::NotSent),
    ] {
        let mut it = attempt(ALTERS);
        it.sending(P);
        it.completed(at(1), P, outcome);
        assert_ne!(it.step(), Step::Done);
    }
    let mut it = attempt(ALTERS);
    it.sending(P);
    it.completed(at(1), P, Outcome::Answered(sense(0xb, 0x47, 0)));
    assert_eq!(done(it).unwrap(), sense(0xb, 0x47, 0));
    let mut it = attempt(ALTERS);
    it.sending(P);
    let over = unanswered(DeliveryErrorKind::TargetFailure, Certainty::Answered);
    assert!(!it.completed(at(1), P, over).hold);
    let error = it.finish().unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotRepeatable);
    assert_eq!(
        (error.outcome, error.settled),
        (OutcomeCertainty::Unknown, true)
    );
}

#[test]
fn a_lost_raw_write_is_fenced_before_it_fails() {
    let mut it = attempt(ALTERS);
    it.sending(P);
    assert!(it.completed(at(1), P, lost()).hold);
    assert_eq!(it.step(), Step::AwaitFence(at(60_000)));
    it.fenced(at(2));
    assert_eq!(it.step(), Step::Done);
    let error = it.finish().unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotRepeatable);
    assert_eq!(
        (error.outcome, error.settled),
        (OutcomeCertainty::Unknown, true)
    );
}

#[test]
fn a_lost_raw_command_without_blocks_fails_at_once() {
    let mut it = attempt(Replay::Never { alters: false });
    it.sending(P);
    assert!(!it.completed(at(1), P, lost()).hold);
    assert_eq!(done(it), Err(IoErrorKind::NotRepeatable));
}

#[test]
fn unit_attentions_stay_on_the_path_and_are_bounded() {
    let mut it = attempt(Replay::Free);
    for _ in 0..16 {
        it.sending(P);
        it.completed(at(1), P, Outcome::Answered(sense(6, 0x29, 7)));
        assert_eq!(it.step(), send(Some(P), &[]));
    }
    it.sending(P);
    it.completed(at(1), P, Outcome::Answered(sense(6, 0x29, 7)));
    assert_eq!(done(it), Err(IoErrorKind::UnitAttention));
}

#[test]
fn busy_backs_off_and_ends_with_the_deadline() {
    let mut it = attempt(Replay::AfterFence);
    let mut now = at(0);
    let mut pauses = Vec::new();
    loop {
        it.sending(P);
        it.completed(now, P, status(Status::BUSY));
        match it.step() {
            Step::Sleep(until) => {
                pauses.push((until - now).as_millis());
                it.woken(now);
                assert_eq!(it.step(), Step::Sleep(until), "not before it is time");
                now = until;
                it.woken(now);
                assert_eq!(it.step(), send(Some(P), &[]));
            }
            step => {
                assert_eq!(step, Step::Done);
                break;
            }
        }
    }
    assert_eq!(pauses[..8], [10, 20, 40, 80, 160, 320, 640, 1000]);
    assert_eq!(now, at(60_000));
    assert_eq!(done(it), Err(IoErrorKind::Busy));
}

#[test]
fn aborted_commands_get_five_more_tries_here_then_elsewhere() {
    let aborted = || Outcome::Answered(sense(0xb, 0x47, 0));
    let mut it = attempt(Replay::AfterFence);
    for _ in 0..5 {
        it.sending(P);
        it.completed(at(1), P, aborted());
        assert_eq!(it.step(), send(Some(P), &[]));
    }
    it.sending(P);
    it.completed(at(1), P, aborted());
    assert_eq!(it.step(), send(None, &[P]));
    for _ in 0..6 {
        it.sending(Q);
        it.completed(at(1), Q, aborted());
    }
    assert_eq!(it.step(), send(None, &[P, Q]));
    it.exhausted(at(1));
    assert_eq!(done(it), Err(IoErrorKind::Aborted));
}

#[test]
fn manual_intervention_is_asked_once_on_each_path() {
    let mut it = attempt(Replay::Free);
    it.sending(P);
    let aftermath = it.completed(at(1), P, Outcome::Answered(sense(2, 4, 3)));
    assert_eq!(aftermath.trouble, None, "the path is not to blame");
    assert_eq!(it.step(), send(None, &[P]));
    it.exhausted(at(1));
    assert_eq!(done(it), Err(IoErrorKind::NotReady));
}

#[test]
fn silence_on_every_path_is_tried_again() {
    let mut it = attempt(Replay::Free);
    it.sending(P);
    let silent = unanswered(DeliveryErrorKind::TimedOut, Certainty::Answered);
    let aftermath = it.completed(at(1), P, silent);
    assert_eq!(aftermath.trouble, Some(Trouble::Suspect));
    assert_eq!(it.step(), send(None, &[P]));
    it.exhausted(at(1));
    assert_eq!(it.step(), Step::Sleep(at(1_001)));
    it.woken(at(1_001));
    assert_eq!(it.step(), send(None, &[]));
}

#[test]
fn without_a_path_it_waits_so_long_and_no_longer() {
    let patience = Some(Patience::Until(at(5_100)));
    let mut it = attempt(Replay::Free);
    it.no_path(at(100), set(&[P]), patience);
    assert_eq!(it.step(), Step::AwaitChange(at(5_100)));
    it.woken(at(3_000));
    it.no_path(at(3_000), set(&[P]), patience);
    assert_eq!(it.step(), Step::AwaitChange(at(5_100)));
    it.woken(at(5_100));
    it.no_path(at(5_100), set(&[P]), patience);
    assert_eq!(done(it), Err(IoErrorKind::NoPath));
}

#[test]
fn time_without_any_path_does_not_count_towards_the_deadline() {
    let mut it = attempt(Replay::Free);
    it.no_path(at(10_000), set(&[P]), Some(Patience::Endless));
    it.postpone(Duration::from_secs(300));
    it.woken(at(310_000));
    it.sending(P);
    it.completed(at(310_001), P, lost());
    // 60 s of its own, of which 10 are gone.
    it.no_path(at(310_001), set(&[P]), None);
    assert_eq!(it.step(), Step::AwaitChange(at(360_000)));
}

#[test]
fn a_unit_that_is_gone_on_every_path_is_gone() {
    let gone = || Outcome::Answered(sense(5, 0x25, 0));
    let mut it = attempt(Replay::Free);
    it.sending(P);
    let aftermath = it.completed(at(1), P, gone());
    assert_eq!(aftermath.trouble, Some(Trouble::Unusable));
    it.no_path(at(1), set(&[P, Q]), None);
    assert_eq!(it.step(), Step::AwaitChange(at(60_000)));
    it.woken(at(2));
    it.sending(Q);
    it.completed(at(3), Q, gone());
    it.no_path(at(3), set(&[P, Q]), None);
    assert_eq!(done(it), Err(IoErrorKind::NoLogicalUnit));
}

#[test]
fn attempts_are_bounded() {
    let config = Config {
        max_attempts: 3,
        ..Config::default()
    };
    let mut it = Attempt::new(Replay::Free, None, at(0), &config);
    for _ in 0..3 {
        assert!(matches!(it.step(), Step::Send { .. }));
        it.sending(P);
        it.completed(at(1), P, lost());
    }
    let kind = IoErrorKind::Transport(DeliveryErrorKind::ConnectionLost);
    assert_eq!(done(it), Err(kind));
}

#[test]
fn a_held_range_is_waited_for_until_the_deadline() {
    let mut it = attempt(Replay::AfterFence);
    it.range_held(at(5), false, None);
    assert_eq!(it.step(), Step::AwaitChange(at(60_000)));
    it.woken(at(60_000));
    it.range_held(at(60_000), false, None);
    assert_eq!(done(it), Err(IoErrorKind::RangeHeld));
    let mut it = attempt(Replay::AfterFence);
    it.range_held(at(5), true, None);
    assert_eq!(done(it), Err(IoErrorKind::RangeHeld));
    let mut it = attempt(Replay::AfterFence);
    it.range_held(at(5), false, Some(Patience::Until(at(900))));
    assert_eq!(it.step(), Step::AwaitChange(at(900)));
    it.woken(at(900));
    it.range_held(at(900), false, Some(Patience::Until(at(900))));
    assert_eq!(done(it), Err(IoErrorKind::RangeHeld));
}

#[test]
fn a_short_transfer_is_no_success() {
    for residual in [Residual::Underflow(512), Residual::None] {
        let mut it = attempt(Replay::Free);
        it.sending(P);
        let short = ScsiAnswer {
            residual,
            ..ScsiAnswer::good(4096 - 512)
        };
        it.completed(at(1), P, Outcome::Answered(short));
        assert_eq!(done(it), Err(IoErrorKind::ShortTransfer));
    }
}

#[test]
fn closing_ends_what_waits_and_says_what_is_unknown() {
    let mut it = attempt(Replay::AfterFence);
    it.sending(P);
    it.completed(at(1), P, lost());
    it.closed();
    let error = it.finish().unwrap_err();
    assert_eq!(error.kind, IoErrorKind::Closed);
    assert_eq!(
        (error.outcome, error.settled),
        (OutcomeCertainty::Unknown, false)
    );
}
