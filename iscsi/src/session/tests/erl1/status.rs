//! Answers that are lost or damaged, known by StatSN, and the lost last one.

use super::*;

#[test]
fn ffp_5_1_a_stat_sn_gap_is_noticed_and_recovered() {
    let mut peer = plain();
    let (first, one) = peer.sent_command(test_unit_ready());
    let (second, two) = peer.sent_command(test_unit_ready());
    let (third, three) = peer.sent_command(test_unit_ready());
    let next = peer.stat_sn;
    let lost = [peer.answer(one.itt(), 0), peer.answer(two.itt(), 8)];
    let answer = peer.answer(three.itt(), 0);
    peer.reply(std::slice::from_ref(&answer));
    assert_eq!(peer.snack(STATUS), (NONE, NONE, next, 2));
    assert!(peer.done(third).is_none(), "answers count in order");
    let (_, command) = peer.sent_command(test_unit_ready());
    assert_eq!(command.exp_stat_sn(), next);
    peer.reply(&[lost[1].clone(), answer]);
    assert!(peer.done(second).is_none());
    peer.reply(&lost);
    peer.good(first);
    assert_eq!(peer.answered(second).status, scsi::Status(8));
    peer.good(third);
    let (_, command) = peer.sent_command(test_unit_ready());
    assert_eq!(command.exp_stat_sn(), next.wrapping_add(3));
    let stats = peer.session.stats;
    assert_eq!((stats.status_snacks, stats.duplicates), (1, 2));
    assert_eq!(stats.recovered, 2);
    peer.assert_up();
}

#[test]
fn stat_sn_gaps_are_recovered_across_the_wrap() {
    let mut peer = Peer::new({
        let mut config = config();
        config.offer.set("ErrorRecoveryLevel", "1").unwrap();
        config
    });
    peer.keys = keys(&[("ErrorRecoveryLevel", "1")]);
    // Two answers of the login, then the last number before 0.
    peer.stat_sn = u32::MAX - 2;
    peer.login();
    let (first, one) = peer.sent_command(test_unit_ready());
    let (second, two) = peer.sent_command(test_unit_ready());
    let lost = peer.answer(one.itt(), 0);
    let answer = peer.answer(two.itt(), 0);
    peer.reply(&[answer]);
    assert_eq!(peer.snack(STATUS), (NONE, NONE, u32::MAX, 1));
    peer.reply(&[lost]);
    peer.good(first);
    peer.good(second);
}

#[test]
fn nop_in_and_r2t_show_a_lost_answer_without_being_one() {
    for with_r2t in [false, true] {
        let mut peer = plain();
        let (key, command) = peer.sent_command(test_unit_ready());
        let (writing, write) = peer.sent_command(write(&pattern(16384)));
        let lost = peer.answer(command.itt(), 0);
        let pdu = if with_r2t {
            peer.r2t(write.itt(), 5, 0, 8192, 8192)
        } else {
            peer.numbers()
        };
        peer.reply(&[pdu]);
        let sent = peer.sent();
        let snack = sent.iter().find(|pdu| pdu.opcode() == SNACK).unwrap();
        let expected = lost.word(24);
        assert_eq!((snack.word(40), snack.word(44)), (expected, 1));
        assert_eq!(sent.len(), 1 + usize::from(with_r2t));
        peer.reply(&[lost]);
        peer.good(key);
        assert!(peer.done(writing).is_none());
        peer.assert_up();
    }
}

#[test]
fn a_damaged_answer_counts_only_as_lost() {
    let mut peer = digests();
    let (key, command) = peer.sent_command(test_unit_ready());
    let (other, ready) = peer.sent_command(test_unit_ready());
    let answer = peer.answer(command.itt(), 2).with(&[0, 2, 0x70, 0]);
    let stat_sn = answer.word(24);
    for _ in 0..3 {
        peer.reply_damaged(&answer);
        assert_eq!(peer.snack(STATUS), (NONE, NONE, stat_sn, 1));
        assert!(peer.done(key).is_none());
    }
    let good = peer.answer(ready.itt(), 0);
    peer.reply(&[good, answer]);
    assert_eq!(peer.answered(key).status, scsi::Status::CHECK_CONDITION);
    peer.good(other);
    peer.silent();
    peer.assert_up();
}

#[test]
fn an_answer_that_is_always_damaged_ends_the_connection() {
    let mut peer = digests();
    let (key, command) = peer.sent_command(test_unit_ready());
    let answer = peer.answer(command.itt(), 2).with(&[0, 2, 0x70, 0]);
    for _ in 0..6 {
        peer.reply_damaged(&answer);
        peer.assert_up();
    }
    peer.reply_damaged(&answer);
    let digest = ProtocolError::Frame(crate::wire::receiver::FrameError::DataDigest);
    assert_eq!(peer.loss(), Some(LossReason::Protocol(digest)));
    peer.failed(key);
}

#[test]
fn a_status_snack_that_is_rejected_ends_the_connection() {
    let mut peer = plain();
    let (_, one) = peer.sent_command(test_unit_ready());
    let (_, two) = peer.sent_command(test_unit_ready());
    let lost = peer.answer(one.itt(), 0);
    let answer = peer.answer(two.itt(), 0);
    peer.reply(&[answer]);
    let snack = peer.one();
    assert_eq!(snack.word(40), lost.word(24));
    let reject = peer.reject(4, &snack);
    peer.reply(&[reject]);
    assert!(matches!(
        peer.loss(),
        Some(LossReason::Protocol(ProtocolError::StatSnGap { .. }))
    ));
}

#[test]
fn the_run_that_a_reject_claims_we_asked_for_may_be_of_any_length() {
    let mut peer = plain();
    let (key, one) = peer.sent_command(test_unit_ready());
    let (_, two) = peer.sent_command(test_unit_ready());
    let lost = peer.answer(one.itt(), 0);
    let answer = peer.answer(two.itt(), 0);
    peer.reply(&[answer]);
    let snack = peer.one();
    peer.reply(&[lost]);
    peer.good(key);
    // Not what we sent: everything there can be. Nothing is missing, so it is only noted.
    let claimed = snack.put(44, u32::MAX);
    let reject = peer.reject(4, &claimed);
    peer.reply(&[reject]);
    peer.assert_up();
}

#[test]
fn the_rejection_of_a_snack_that_is_no_longer_needed_is_noted() {
    let mut peer = plain();
    let (first, one) = peer.sent_command(test_unit_ready());
    let (second, two) = peer.sent_command(test_unit_ready());
    let lost = peer.answer(one.itt(), 0);
    let answer = peer.answer(two.itt(), 0);
    peer.reply(&[answer]);
    let snack = peer.one();
    peer.reply(&[lost]);
    peer.good(first);
    peer.good(second);
    let reject = peer.reject(4, &snack);
    peer.reply(&[reject]);
    peer.assert_up();
    assert_eq!(peer.session.stats.rejects, 1);
}

#[test]
fn an_abort_is_not_answered_before_the_status_that_came_first() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(Command {
        timeout: SECOND,
        ..test_unit_ready()
    });
    peer.wait(SECOND);
    let sent = peer.sent();
    let abort = sent
        .iter()
        .find(|pdu| pdu.opcode() == TASK_REQUEST)
        .unwrap();
    let lost = peer.answer(command.itt(), 0);
    let over = peer.task_answer(abort.itt(), 1);
    peer.reply(&[over]);
    assert!(peer.done(key).is_none());
    peer.reply(&[lost]);
    peer.good(key);
    peer.assert_clean();
}

#[test]
fn a_lost_last_answer_is_found_by_a_nop() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(test_unit_ready());
    let lost = peer.answer(command.itt(), 0);
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    assert_eq!(peer.snack(STATUS), (NONE, NONE, lost.word(24), 1));
    peer.reply(&[lost]);
    peer.good(key);
    peer.assert_up();
}

#[test]
fn a_lost_nop_is_followed_by_another() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(test_unit_ready());
    peer.probed();
    let nop = peer.probed();
    let lost = peer.answer(command.itt(), 0);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    assert_eq!(peer.snack(STATUS).2, lost.word(24));
    peer.reply(&[lost]);
    peer.good(key);
}

#[test]
fn nothing_is_asked_for_while_nothing_is_under_way() {
    let mut peer = plain();
    peer.wait(4 * SECOND);
    peer.silent();
    let mut level_0 = Peer::ready();
    level_0.submit(0, test_unit_ready());
    level_0.one();
    level_0.wait(4 * SECOND);
    level_0.silent();
}

#[test]
fn a_wrong_header_digest_ends_the_connection() {
    let mut peer = digests();
    let (key, command) = peer.sent_command(test_unit_ready());
    let answer = peer.answer(command.itt(), 0);
    let mut bytes = answer.bhs.to_vec();
    bytes.extend_from_slice(&crc32c(&answer.bhs));
    bytes[3] ^= 1;
    peer.receive(&bytes);
    let digest = ProtocolError::Frame(crate::wire::receiver::FrameError::HeaderDigest);
    assert_eq!(peer.loss(), Some(LossReason::Protocol(digest)));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
    assert_eq!(peer.session.stats.digest_errors, 1);
}

#[test]
fn what_has_settled_while_it_waited_is_not_asked_for() {
    let mut peer = plain();
    let (first, one) = peer.sent_command(test_unit_ready());
    let (second, two) = peer.sent_command(test_unit_ready());
    let (third, three) = peer.sent_command(test_unit_ready());
    let (reading, read) = peer.sent_command(read(1024));
    let [one, two] = [peer.answer(one.itt(), 0), peer.answer(two.itt(), 0)];
    let three = peer.answer(three.itt(), 0);
    let parts = [
        peer.data_in(read.itt(), 0, 0, &[1; 512]),
        peer.data_in(read.itt(), 1, 512, &[2; 512]),
    ];
    // One answer and all data come late, but before the SNACKs are on their way.
    peer.reply(&[three, one, parts[1].clone(), parts[0].clone()]);
    assert_eq!(peer.snack(STATUS).2, two.word(24));
    peer.reply(&[two]);
    for key in [first, second, third] {
        peer.good(key);
    }
    let answer = peer.answer(read.itt(), 0).put(36, 2);
    peer.reply(&[answer]);
    peer.good(reading);
    peer.silent();
}
