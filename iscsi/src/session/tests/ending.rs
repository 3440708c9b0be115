//! ABORT TASK, LOGICAL UNIT RESET, and what is late (RFC 7143 §11.5, §11.6).

use super::*;

const ABORT_TASK: u8 = 0x81;
const LU_RESET: u8 = 0x85;
const COMPLETE: u8 = 0;
const NOT_SUPPORTED: u8 = 5;

/// A session that sends no pings of its own.
fn quiet() -> SessionConfig {
    let mut config = config();
    config.keepalive.interval = Duration::from_secs(10_000);
    config
}

fn short(mut command: Command, seconds: u64) -> Command {
    command.timeout = Duration::from_secs(seconds);
    command
}

fn seconds(peer: &mut Peer, seconds: u64) {
    peer.wait(Duration::from_secs(seconds));
}

#[test]
fn ffp_19_1_ffp_19_2_ffp_19_3_ffp_2_2_an_abort_byte_by_byte() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    peer.submit(0, test_unit_ready());
    peer.submit(7, short(test_unit_ready(), 2));
    peer.submit(0, test_unit_ready());
    assert_eq!(peer.sent().len(), 3);
    seconds(&mut peer, 2);
    let abort = peer.one();
    let mut expected = [0; 48];
    expected[0] = 0x42;
    expected[1] = ABORT_TASK;
    expected[9] = 7;
    expected[16..20].copy_from_slice(&abort.bhs[16..20]);
    expected[20..24].copy_from_slice(&[0x11, 0x11, 0, 1]);
    // Not consumed: the next command has it.
    expected[24..28].copy_from_slice(&0x1111_1114_u32.to_be_bytes());
    expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
    expected[32..36].copy_from_slice(&0x1111_1112_u32.to_be_bytes());
    assert_eq!(abort.bhs, expected);
    assert_ne!(abort.itt(), 0x1111_0001);
    peer.submit(0, test_unit_ready());
    assert_eq!(peer.one().cmd_sn(), 0x1111_1114);
}

#[test]
fn a_timed_out_command_is_aborted_and_ends_with_the_answer() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, short(read(512), 2));
    peer.one();
    seconds(&mut peer, 2);
    let abort = peer.one();
    assert!(peer.done(key).is_none(), "it may still run");
    let answer = peer.task_answer(abort.itt(), COMPLETE);
    peer.reply(&[answer]);
    let completion = peer.ended(key);
    assert_eq!(completion.data.len(), 512);
    assert!(matches!(
        completion.outcome,
        Outcome::Failed(error)
            if error.kind == DeliveryErrorKind::TimedOut
                && error.certainty == Certainty::Answered
    ));
    peer.assert_up();
    peer.assert_clean();
}

#[test]
fn an_answer_that_crosses_the_abort_counts() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, short(test_unit_ready(), 2));
    let itt = peer.one().itt();
    seconds(&mut peer, 2);
    let abort = peer.one();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    assert_eq!(peer.session.take_freed(), 0, "in quarantine");
    let answer = peer.task_answer(abort.itt(), 1);
    peer.reply(&[answer]);
    assert_eq!(peer.session.take_freed(), 1);
    peer.assert_up();
    peer.assert_clean();
}

#[test]
fn an_answer_after_the_abort_was_answered_is_only_late() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, short(read(512), 2));
    let itt = peer.one().itt();
    seconds(&mut peer, 2);
    let abort = peer.one();
    let answer = peer.task_answer(abort.itt(), COMPLETE);
    peer.reply(&[answer]);
    peer.failed(key);
    let next = peer.read(512);
    assert_ne!(peer.one().itt(), itt);
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    let late = peer.last(data);
    peer.reply(&[late]);
    assert!(peer.done(next).is_none());
    peer.assert_up();
}

#[test]
fn memory_given_back_takes_no_slot_in_use_and_forgets_no_tag() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, short(test_unit_ready(), 2));
    let itt = peer.one().itt();
    peer.session.release_memory();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    peer.session.release_memory();
    // Were the tag unknown now, this would be a protocol error.
    let late = peer.answer(itt, 0);
    peer.reply(&[late]);
    peer.assert_up();
    let next = peer.submit(0, short(test_unit_ready(), 2));
    let again = peer.one().itt();
    assert_ne!(again, itt, "the slot's next generation");
    let answer = peer.answer(again, 0);
    peer.reply(&[answer]);
    peer.good(next);
    peer.assert_clean();
}

#[test]
fn the_ladder_goes_up_step_by_step_and_ends_with_the_session() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(7, short(test_unit_ready(), 2));
    peer.one();
    seconds(&mut peer, 2);
    assert_eq!(peer.one().bhs[1], ABORT_TASK);
    seconds(&mut peer, 10);
    let reset = peer.one();
    assert_eq!((reset.bhs[0], reset.bhs[1]), (0x42, LU_RESET));
    assert_eq!(reset.lun()[1], 7);
    assert_eq!(reset.word(20), NONE, "names no task");
    assert!(peer.done(key).is_none());
    seconds(&mut peer, 15);
    assert_eq!(peer.loss(), Some(LossReason::TaskStuck));
    let expected = (DeliveryErrorKind::TimedOut, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), expected);
}

#[test]
fn a_reset_of_our_own_stops_data_with_fast_abort_only() {
    for reporting in ["FastAbort", "ResponseFence"] {
        let mut config = quiet();
        let offer = "FastAbort,ResponseFence,RFC3720";
        config.offer.set("TaskReporting", offer).unwrap();
        let mut answers = keys(&[]);
        answers.push(("TaskReporting", reporting.to_owned()));
        let mut peer = Peer::up(config, answers);
        let key = peer.submit(7, short(write(&pattern(16_384)), 2));
        let itt = peer.one().itt();
        seconds(&mut peer, 2);
        assert_eq!(peer.one().bhs[1], ABORT_TASK);
        seconds(&mut peer, 10);
        let reset = peer.one();
        assert_eq!(reset.bhs[1], LU_RESET);
        let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
        peer.reply(&[r2t]);
        let data = peer.sent().iter().any(|pdu| pdu.opcode() == DATA_OUT);
        assert_eq!(data, reporting == "ResponseFence", "{reporting}");
        let answer = peer.task_answer(reset.itt(), COMPLETE);
        peer.reply(&[answer]);
        assert_eq!(peer.failed(key).1, Certainty::Answered);
        peer.assert_up();
    }
}

#[test]
fn a_late_answer_to_an_abort_does_not_kill_the_session() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, short(test_unit_ready(), 2));
    peer.one();
    seconds(&mut peer, 2);
    let abort = peer.one();
    seconds(&mut peer, 10);
    let reset = peer.one();
    let late = peer.task_answer(abort.itt(), COMPLETE);
    peer.reply(&[late]);
    peer.assert_up();
    let answer = peer.task_answer(reset.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(peer.failed(key).1, Certainty::Answered);
    peer.assert_clean();
    peer.assert_up();
}

#[test]
fn an_answer_to_a_request_never_made_ends_the_session() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let answer = peer.task_answer(0x0001_8000, COMPLETE);
    peer.reply(&[answer]);
    assert!(peer.loss().is_some());
}

#[test]
fn a_logical_unit_reset_ends_the_tasks_of_its_unit_only_and_only_the_older_ones() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let stuck = peer.submit(7, short(test_unit_ready(), 2));
    let same = peer.submit(7, test_unit_ready());
    let other = peer.submit(8, test_unit_ready());
    assert_eq!(peer.sent().len(), 3);
    seconds(&mut peer, 2);
    let abort = peer.one();
    let answer = peer.task_answer(abort.itt(), NOT_SUPPORTED);
    peer.reply(&[answer]);
    let reset = peer.one();
    assert_eq!(reset.bhs[1], LU_RESET);
    let younger = peer.submit(7, test_unit_ready());
    peer.one();
    let answer = peer.task_answer(reset.itt(), COMPLETE);
    peer.reply(&[answer]);
    let timed_out = (DeliveryErrorKind::TimedOut, Certainty::Answered);
    assert_eq!(peer.failed(stuck), timed_out);
    let aborted = (DeliveryErrorKind::Aborted, Certainty::Answered);
    assert_eq!(peer.failed(same), aborted);
    assert!(peer.done(other).is_none());
    assert!(peer.done(younger).is_none());
    peer.assert_up();
}

#[test]
fn a_reset_frees_the_slot_of_a_task_that_was_answered_before_it() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(7, short(test_unit_ready(), 2));
    let command = peer.one();
    seconds(&mut peer, 2);
    let abort = peer.one();
    let refusal = peer.task_answer(abort.itt(), NOT_SUPPORTED);
    peer.reply(&[refusal]);
    let reset = peer.one();
    let late = peer.answer(command.itt(), 0);
    peer.reply(&[late]);
    peer.good(key);
    assert_eq!(peer.session.take_freed(), 0, "in quarantine");
    let answer = peer.task_answer(reset.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(peer.session.take_freed(), 1);
    peer.assert_clean();
}

#[test]
fn a_task_younger_than_the_reset_under_way_is_ended_too() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let old = peer.submit(7, short(test_unit_ready(), 2));
    peer.one();
    seconds(&mut peer, 2);
    let abort = peer.one();
    let answer = peer.task_answer(abort.itt(), NOT_SUPPORTED);
    peer.reply(&[answer]);
    let reset = peer.one();
    // Sent behind the reset; gets stuck while it is under way.
    let young = peer.submit(7, short(test_unit_ready(), 1));
    peer.one();
    seconds(&mut peer, 1);
    let abort = peer.one();
    let answer = peer.task_answer(abort.itt(), NOT_SUPPORTED);
    peer.reply(&[answer]);
    let second = peer.one();
    assert_eq!(second.bhs[1], LU_RESET);
    let answer = peer.task_answer(reset.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(peer.failed(old).1, Certainty::Answered);
    assert!(peer.done(young).is_none());
    let answer = peer.task_answer(second.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(peer.failed(young).1, Certainty::Answered);
    peer.assert_clean();
}

#[test]
fn one_reset_serves_all_older_tasks_of_the_unit() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let keys: Vec<_> = (0..3)
        .map(|_| peer.submit(7, short(test_unit_ready(), 2)))
        .collect();
    peer.sent();
    seconds(&mut peer, 2);
    assert_eq!(peer.sent().len(), 3, "an ABORT TASK each");
    seconds(&mut peer, 10);
    let reset = peer.one();
    let answer = peer.task_answer(reset.itt(), COMPLETE);
    peer.reply(&[answer]);
    for key in keys {
        assert_eq!(peer.failed(key).1, Certainty::Answered);
    }
    peer.assert_clean();
    peer.assert_up();
}

#[test]
fn a_command_that_was_never_sent_is_never_aborted() {
    let mut peer = Peer::new(quiet());
    peer.window = 0;
    peer.login();
    let overdue = peer.submit(0, short(test_unit_ready(), 2));
    let dropped = peer.submit(0, test_unit_ready());
    peer.session.abandon(peer.now, dropped);
    seconds(&mut peer, 2);
    let expected = (DeliveryErrorKind::TimedOut, Certainty::NotSent);
    assert_eq!(peer.failed(overdue), expected);
    peer.assert_clean();
    let probes = peer.sent();
    assert!(probes.iter().all(|pdu| pdu.opcode() == NOP_OUT));
    assert_eq!(peer.session.take_freed(), 2);
}

#[test]
fn a_dropped_command_is_aborted_and_settled_by_the_answer() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.write(&pattern(512));
    let itt = peer.one().itt();
    peer.session.abandon(peer.now, key);
    assert_eq!(peer.session.unsettled(), 1);
    let abort = peer.one();
    assert_eq!((abort.bhs[1], abort.word(20)), (ABORT_TASK, itt));
    assert_eq!(peer.session.take_freed(), 0);
    let answer = peer.task_answer(abort.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(peer.session.take_freed(), 1);
    peer.assert_clean();
}

#[test]
fn a_dropped_command_whose_abort_fails_is_not_forgotten() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, short(write(&pattern(512)), 20));
    peer.one();
    peer.session.abandon(peer.now, key);
    let abort = peer.one();
    let answer = peer.task_answer(abort.itt(), NOT_SUPPORTED);
    peer.reply(&[answer]);
    assert_eq!(peer.session.unsettled(), 1);
    // It gets its own time, then the ladder.
    seconds(&mut peer, 20);
    assert_eq!(peer.one().bhs[1], ABORT_TASK);
    seconds(&mut peer, 10);
    let reset = peer.one();
    assert_eq!(reset.bhs[1], LU_RESET);
    let answer = peer.task_answer(reset.itt(), COMPLETE);
    peer.reply(&[answer]);
    peer.assert_clean();
    peer.assert_up();
}

#[test]
fn dropping_twice_or_late_is_harmless() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.session.abandon(peer.now, key);
    peer.session.abandon(peer.now, key);
    assert_eq!(peer.session.take_freed(), 1);
    let next = peer.submit(0, test_unit_ready());
    peer.session.abandon(peer.now, key);
    peer.one();
    assert!(peer.done(key).is_none());
    assert_eq!(peer.session.in_flight(), 1);
    peer.session.abandon(peer.now, next);
    assert_eq!(peer.one().bhs[1], ABORT_TASK);
}

#[test]
fn a_rejected_abort_goes_up_the_ladder() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    peer.submit(0, short(test_unit_ready(), 2));
    peer.one();
    seconds(&mut peer, 2);
    let abort = peer.one();
    let reject = Pdu::new(0x3f, 0x80)
        .byte(2, 5)
        .put(16, NONE)
        .with(&abort.bhs);
    let reject = peer.status(reject);
    peer.reply(&[reject]);
    assert_eq!(peer.one().bhs[1], LU_RESET);
    peer.assert_up();
}

#[test]
fn ffp_19_4_1_r2ts_are_answered_until_the_abort_is() {
    let mut peer = Peer::up(quiet(), keys(&[("ImmediateData", "No")]));
    peer.submit(0, short(write(&pattern(1024)), 2));
    let itt = peer.one().itt();
    seconds(&mut peer, 2);
    peer.one();
    let r2t = peer.r2t(itt, 4, 0, 0, 1024);
    peer.reply(&[r2t]);
    let out = peer.one();
    assert_eq!((out.opcode(), out.word(20)), (DATA_OUT, 4));
}

#[test]
fn thousands_of_dropped_commands_leave_nothing() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    for _ in 0..5000 {
        let key = peer.write(&pattern(512));
        peer.exp_cmd_sn += 1;
        peer.max_cmd_sn += 1;
        peer.one();
        peer.session.abandon(peer.now, key);
        let abort = peer.one();
        let answer = peer.task_answer(abort.itt(), COMPLETE);
        peer.reply(&[answer]);
    }
    assert_eq!(peer.session.take_freed(), 5000);
    peer.assert_clean();
    peer.assert_up();
}
