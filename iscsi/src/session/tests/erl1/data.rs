//! Data-In that are lost, damaged, repeated, or cut anew.

use super::*;

#[test]
fn ffp_13_1_a_snack_names_the_run_that_is_missing() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(4096));
    let itt = command.itt();
    let data = pattern(4096);
    let part = |peer: &Peer, sn: u32| {
        let at = sn as usize * 512;
        peer.data_in(itt, sn, sn * 512, &data[at..at + 512])
    };
    peer.reply(&[part(&peer, 0), part(&peer, 4)]);
    assert_eq!(peer.snack(DATA), (itt, NONE, 1, 3));
    peer.reply(&[part(&peer, 6)]);
    assert_eq!(peer.snack(DATA), (itt, NONE, 5, 1));
    // The lost ones come in any order; the status is held back until all are there.
    let last = part(&peer, 7);
    let last = peer.last(last);
    let acknowledged = peer.stat_sn.wrapping_sub(1);
    peer.reply(&[last, part(&peer, 3), part(&peer, 5), part(&peer, 1)]);
    assert!(peer.done(key).is_none());
    let (other, command) = peer.sent_command(test_unit_ready());
    assert_eq!(command.exp_stat_sn(), acknowledged, "not acknowledged yet");
    peer.reply(&[part(&peer, 2)]);
    assert_eq!(contents(peer.ended(key)), data);
    let answer = peer.answer(command.itt(), 0);
    peer.reply(&[answer]);
    peer.good(other);
    let (_, command) = peer.sent_command(test_unit_ready());
    assert_eq!(command.exp_stat_sn(), peer.stat_sn);
    assert_eq!(peer.session.stats.data_snacks, 2);
    assert_eq!(peer.session.stats.recovered, 1);
    peer.assert_up();
}

#[test]
fn damaged_data_are_asked_for_again_and_replaced() {
    let mut peer = digests();
    let (key, command) = peer.sent_command(read(1536));
    let itt = command.itt();
    let data = pattern(1536);
    let first = peer.data_in(itt, 0, 0, &data[..512]);
    let second = peer.data_in(itt, 1, 512, &data[512..1024]);
    let third = peer.data_in(itt, 2, 1024, &data[1024..]);
    let third = peer.last(third);
    peer.reply(&[first]);
    peer.reply_damaged(&second);
    assert_eq!(peer.snack(DATA), (itt, NONE, 1, 1));
    peer.reply_damaged(&third);
    assert_eq!(peer.snack(DATA), (itt, NONE, 2, 1));
    peer.reply_damaged(&second);
    assert_eq!(peer.snack(DATA), (itt, NONE, 1, 1));
    peer.reply(&[second, third]);
    assert_eq!(contents(peer.ended(key)), data);
    peer.silent();
    assert_eq!(peer.session.stats.digest_errors, 3);
    peer.assert_up();
    peer.assert_clean();
}

#[test]
fn a_status_lost_with_its_data_comes_back_with_them() {
    let mut peer = digests();
    let (key, command) = peer.sent_command(read(512));
    let (other, ready) = peer.sent_command(test_unit_ready());
    let data = pattern(512);
    let last = peer.data_in(command.itt(), 0, 0, &data);
    let last = peer.last(last);
    let answer = peer.answer(ready.itt(), 0);
    peer.reply_damaged(&last);
    assert_eq!(peer.snack(DATA), (command.itt(), NONE, 0, 1));
    // The answer behind it waits, and nothing else is asked for.
    peer.reply(&[answer]);
    peer.silent();
    assert!(peer.done(other).is_none());
    peer.reply(&[last]);
    assert_eq!(contents(peer.ended(key)), data);
    peer.good(other);
    peer.assert_up();
}

#[test]
fn exp_data_sn_shows_a_lost_tail() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(1024));
    let itt = command.itt();
    let data = pattern(1024);
    let first = peer.data_in(itt, 0, 0, &data[..512]);
    let second = peer.data_in(itt, 1, 512, &data[512..]);
    let answer = peer.answer(itt, 0).put(36, 2);
    peer.reply(&[first, answer]);
    assert_eq!(peer.snack(DATA), (itt, NONE, 1, 1));
    assert!(peer.done(key).is_none());
    peer.reply(&[second]);
    assert_eq!(contents(peer.ended(key)), data);
    peer.assert_up();
}

#[test]
fn data_that_come_again_are_dropped_before_and_after_the_end() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(1024));
    let itt = command.itt();
    let data = pattern(1024);
    let first = peer.data_in(itt, 0, 0, &data[..512]);
    let forged = peer.data_in(itt, 0, 0, &[0xee; 512]);
    let second = peer.data_in(itt, 1, 512, &data[512..]);
    let second = peer.last(second);
    peer.reply(&[first, forged.clone(), second.clone(), forged.clone()]);
    assert_eq!(contents(peer.ended(key)), data);
    // Picked up: the memory belongs to the caller again.
    peer.reply(&[second, forged]);
    peer.assert_up();
    peer.silent();
    peer.assert_clean();
}

#[test]
fn what_does_not_come_is_asked_for_again_until_the_limit() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(1024));
    let itt = command.itt();
    let second = peer.data_in(itt, 1, 512, &[1; 512]);
    peer.reply(&[second]);
    assert_eq!(peer.snack(DATA), (itt, NONE, 0, 1));
    let snacks = |sent: Vec<Pdu>| sent.iter().filter(|pdu| pdu.opcode() == SNACK).count();
    for _ in 0..5 {
        peer.wait(SECOND);
        // The target lives: it answers every NOP-Out.
        let sent = peer.sent();
        for nop in sent.iter().filter(|pdu| pdu.opcode() == NOP_OUT) {
            let answer = peer.nop_answer(nop);
            peer.reply(&[answer]);
        }
        assert_eq!(snacks(sent), 1);
        peer.assert_up();
    }
    peer.wait(SECOND - Duration::from_millis(1));
    peer.assert_up();
    peer.wait(Duration::from_millis(1));
    let what = "data";
    assert_eq!(peer.loss(), Some(LossReason::NotRecovered { what }));
    assert_eq!(peer.failed(key).0, DeliveryErrorKind::ConnectionLost);
}

#[test]
fn progress_resets_the_count() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(8192));
    let itt = command.itt();
    let data = pattern(8192);
    let part = |peer: &Peer, sn: u32| {
        let at = sn as usize * 512;
        peer.data_in(itt, sn, sn * 512, &data[at..at + 512])
    };
    peer.reply(&[part(&peer, 15)]);
    assert_eq!(peer.snack(DATA), (itt, NONE, 0, 15));
    for sn in 0..15 {
        peer.wait(SECOND);
        assert!(!peer.sent().is_empty());
        peer.reply(&[part(&peer, sn)]);
    }
    let answer = peer.answer(itt, 0).put(36, 16);
    peer.reply(&[answer]);
    assert_eq!(contents(peer.ended(key)), data);
    peer.assert_up();
}

#[test]
fn a_number_that_nobody_counted_up_to_ends_the_connection() {
    for sn in [70_000, u32::MAX] {
        let mut peer = plain();
        let (key, command) = peer.sent_command(read(1024));
        let pdu = peer.data_in(command.itt(), sn, 0, &[1; 512]);
        peer.reply(&[pdu]);
        let gap = ProtocolError::DataSnGap {
            expected: 0,
            actual: sn,
        };
        assert_eq!(peer.loss(), Some(LossReason::Protocol(gap)));
        peer.failed(key);
    }
}

#[test]
fn ffp_16_4_1_a_crc_error_of_the_target_reaches_the_caller() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(write(&pattern(512)));
    let sense = [0, 18, 0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x47, 5];
    let answer = peer.answer(command.itt(), 2).with(&sense);
    peer.reply(&[answer]);
    let answer = peer.answered(key);
    assert_eq!(answer.status, scsi::Status::CHECK_CONDITION);
    assert_eq!(answer.sense[12..14], [0x47, 5]);
    peer.silent();
}

#[test]
fn ffp_16_4_2_a_rejected_snack_ends_the_command_which_is_not_retried() {
    // RFC 7143 §7.8 a.1: the status was not sent yet. a.2: it was.
    for status_sent in [false, true] {
        let mut peer = plain();
        let (key, command) = peer.sent_command(read(1024));
        let itt = command.itt();
        let second = peer.data_in(itt, 1, 512, &[1; 512]);
        let second = if status_sent {
            peer.last(second)
        } else {
            second
        };
        peer.reply(&[second]);
        let snack = peer.one();
        assert_eq!(snack.opcode(), SNACK);
        let reject = peer.reject(3, &snack);
        peer.reply(&[reject]);
        let expected = if status_sent {
            [0x47, 0x05]
        } else {
            assert!(peer.done(key).is_none());
            let sense = [0, 18, 0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0x13];
            let answer = peer.answer(itt, 2).put(36, 2).with(&sense);
            peer.reply(&[answer]);
            [0x11, 0x13]
        };
        let answer = peer.answered(key);
        assert_eq!(answer.status, scsi::Status::CHECK_CONDITION);
        assert_eq!(answer.sense[2], 0x0b);
        assert_eq!(answer.sense[12..14], expected);
        peer.wait(4 * SECOND);
        assert!(peer.sent().iter().all(|pdu| pdu.opcode() == NOP_OUT));
        // What the caller does next is a new command.
        let (_, again) = peer.sent_command(read(1024));
        assert_ne!(again.itt(), itt);
        assert_eq!(again.cmd_sn(), command.cmd_sn().wrapping_add(1));
    }
}

#[test]
fn after_a_change_of_the_segment_length_all_data_are_asked_for_anew() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(2048));
    let itt = command.itt();
    let data = pattern(2048);
    let first = peer.data_in(itt, 0, 0, &data[..512]);
    peer.reply(&[first]);
    let cid = peer.cid;
    peer.session.max_recv_bytes_changed(cid);
    let third = peer.data_in(itt, 2, 1024, &data[1024..1536]);
    peer.reply(&[third]);
    let (tag, snack_tag, beg_run, run_length) = peer.snack(R_DATA);
    assert_eq!((tag, beg_run, run_length), (itt, 0, 0));
    assert!(snack_tag != 0 && snack_tag != NONE);
    // What was sent before the target read the SNACK, with a status that does not count.
    let last = peer.data_in(itt, 3, 1536, &data[1536..]);
    let last = peer.last(last);
    peer.reply(&[last]);
    assert!(peer.done(key).is_none());
    // The new cut; the new status has the old StatSN.
    let first = peer.data_in(itt, 0, 0, &data[..1024]);
    let second = peer.data_in(itt, 1, 1024, &data[1024..]);
    peer.stat_sn = peer.stat_sn.wrapping_sub(1);
    let answer = peer.answer(itt, 0).put(36, 2).put(20, snack_tag);
    peer.reply(&[first, second, answer]);
    assert_eq!(contents(peer.ended(key)), data);
    peer.assert_up();
    assert_eq!(peer.session.stats.r_data_snacks, 1);
}

#[test]
fn nothing_is_asked_for_while_the_segment_length_is_being_declared() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(2048));
    let itt = command.itt();
    let data = pattern(2048);
    let now = peer.now;
    let declaring = peer.session.set(now, "MaxRecvDataSegmentLength", "1024");
    assert!(matches!(declaring, Ok(Applied::Renegotiating(_))));
    let request = peer.one();
    // Cut before the target has read it; the first is missing.
    let second = peer.data_in(itt, 1, 512, &data[512..1024]);
    peer.reply(&[second]);
    peer.silent();
    let answer = peer.status(Pdu::new(0x24, 0x80).put(16, request.itt()).put(20, NONE));
    peer.reply(&[answer]);
    peer.wait(Duration::from_secs(1));
    let (tag, snack_tag, ..) = peer.snack(R_DATA);
    assert_eq!(tag, itt);
    let first = peer.data_in(itt, 0, 0, &data[..1024]);
    let second = peer.data_in(itt, 1, 1024, &data[1024..]);
    let answer = peer.answer(itt, 0).put(36, 2).put(20, snack_tag);
    peer.reply(&[first, second, answer]);
    assert_eq!(contents(peer.ended(key)), data);
    peer.assert_up();
}
