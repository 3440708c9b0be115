//! What the target refuses, and how it is mended.

use super::*;

#[test]
fn a_command_rejected_for_its_data_digest_is_sent_again_at_once() {
    let mut peer = plain();
    let key = peer.write(&pattern(512));
    let lost = peer.one();
    let reject = peer.reject(2, &lost);
    peer.reply(&[reject]);
    let again = peer.one();
    assert_same_request(&again, &lost);
    peer.exp_cmd_sn = lost.cmd_sn().wrapping_add(1);
    let answer = peer.answer(lost.itt(), 0);
    peer.reply(&[answer]);
    peer.good(key);
}

#[test]
fn a_rejected_command_is_aborted_and_costs_no_session_at_any_level() {
    for (mut peer, reason) in [(plain(), 9), (Peer::ready(), 4), (Peer::ready(), 2)] {
        let key = peer.submit(3, test_unit_ready());
        let command = peer.one();
        let (other, ready) = (peer.submit(0, test_unit_ready()), peer.one());
        let reject = peer.reject(reason, &command);
        peer.reply(&[reject]);
        // The abort makes up for the CmdSN (RFC 7143 §7.3).
        let abort = peer.one();
        assert_eq!((abort.opcode(), abort.bhs[1]), (TASK_REQUEST, 0x81));
        assert_eq!(abort.lun(), command.lun());
        assert_eq!(
            (abort.word(20), abort.word(32)),
            (command.itt(), command.cmd_sn())
        );
        assert!(peer.done(key).is_none());
        peer.exp_cmd_sn = ready.cmd_sn().wrapping_add(1);
        let over = peer.task_answer(abort.itt(), 0);
        let answer = peer.answer(ready.itt(), 0);
        peer.reply(&[over, answer]);
        let failure = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
        assert_eq!(peer.failed(key), failure);
        peer.good(other);
        peer.assert_up();
        peer.assert_clean();
    }
}

#[test]
fn ffp_6_1_a_recovery_r2t_gets_the_data_again_from_data_sn_0() {
    let mut peer = plain();
    let data = pattern(16384);
    let (key, command) = peer.sent_command(write(&data));
    let itt = command.itt();
    let r2t = peer.r2t(itt, 0x51, 0, 8192, 8192);
    peer.reply(&[r2t]);
    let rejected = peer.one();
    assert_eq!((rejected.opcode(), rejected.word(36)), (DATA_OUT, 0));
    let reject = peer.reject(2, &rejected);
    let recovery = peer.r2t(itt, 0x52, 1, 8192, 8192);
    peer.reply(&[reject, recovery]);
    let again = peer.one();
    assert_eq!(
        (again.word(20), again.word(36), again.word(40)),
        (0x52, 0, 8192)
    );
    assert_eq!(again.data, data[8192..]);
    assert!(again.is_final());
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    peer.assert_up();
}

#[test]
fn good_status_without_the_rejected_data_is_not_believed() {
    for mut peer in [plain(), Peer::ready()] {
        let (key, command) = peer.sent_command(write(&pattern(16384)));
        let r2t = peer.r2t(command.itt(), 0x51, 0, 8192, 8192);
        peer.reply(&[r2t]);
        let rejected = peer.one();
        let reject = peer.reject(2, &rejected);
        peer.reply(&[reject]);
        peer.assert_up();
        let answer = peer.answer(command.itt(), 0);
        peer.reply(&[answer]);
        assert!(peer.loss().is_some());
        peer.failed(key);
    }
}

#[test]
fn a_reject_may_be_read_after_the_r2t_that_mends_it() {
    let mut peer = plain();
    let (other, ready) = peer.sent_command(test_unit_ready());
    let data = pattern(16384);
    let (key, command) = peer.sent_command(write(&data));
    let itt = command.itt();
    let r2t = peer.r2t(itt, 0x51, 0, 8192, 8192);
    peer.reply(&[r2t]);
    let rejected = peer.one();
    // The Reject waits behind an answer that got lost.
    let lost = peer.answer(ready.itt(), 0);
    let reject = peer.reject(2, &rejected);
    let recovery = peer.r2t(itt, 0x52, 1, 8192, 8192);
    peer.reply(&[reject, recovery]);
    let sent = peer.sent();
    assert_eq!(
        sent.iter().filter(|pdu| pdu.opcode() == DATA_OUT).count(),
        1
    );
    peer.reply(&[lost]);
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(other);
    peer.good(key);
}
