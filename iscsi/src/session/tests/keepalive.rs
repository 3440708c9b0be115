//! NOP-Out and NOP-In (RFC 7143 §11.18, §11.19).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ping(peer: &Peer, ttt: u32, data: &[u8]) -> Pdu {
    let pdu = Pdu::new(0x20, 0x80).put(16, NONE).put(20, ttt).with(data);
    peer.windowed(pdu).put(24, peer.stat_sn)
}

#[test]
fn ffp_15_1_a_ping_is_answered_byte_by_byte() {
    let mut peer = Peer::ready();
    let mut question = ping(&peer, 0x1234_5678, b"hello");
    question.bhs[8..16].copy_from_slice(&[0x41, 0x23, 0, 0, 0, 0, 0, 0]);
    peer.reply(&[question]);
    let answer = peer.one();
    let mut expected = [0; 48];
    expected[0] = 0x40;
    expected[1] = 0x80;
    expected[7] = 5;
    expected[8..10].copy_from_slice(&[0x41, 0x23]);
    expected[16..20].copy_from_slice(&[0xff; 4]);
    expected[20..24].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
    expected[24..28].copy_from_slice(&[0x11; 4]);
    expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
    assert_eq!(answer.bhs, expected);
    assert_eq!(answer.data, b"hello");
}

#[test]
fn a_ping_without_a_tag_wants_no_answer() {
    let mut peer = Peer::ready();
    let question = ping(&peer, NONE, &[]);
    peer.reply(&[question]);
    peer.silent();
    peer.assert_up();
}

#[test]
fn the_ping_data_come_back_as_far_as_the_target_takes_them() {
    let mut peer = Peer::up(config(), keys(&[("MaxRecvDataSegmentLength", "512")]));
    let question = ping(&peer, 5, &pattern(4000));
    peer.reply(&[question]);
    assert_eq!(peer.one().data, pattern(512));
}

#[test]
fn ffp_15_2_a_silent_target_is_pinged_then_given_up() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    peer.one();
    peer.wait(4 * SECOND);
    peer.silent();
    peer.wait(SECOND);
    let own = peer.one();
    assert_eq!((own.bhs[0], own.bhs[1], own.word(20)), (0x40, 0x80, NONE));
    assert_ne!(own.itt(), NONE);
    assert_eq!(own.cmd_sn(), 0x1111_1112);
    peer.wait(4 * SECOND);
    assert_eq!(peer.session.snapshot().phase, "logged in");
    peer.wait(SECOND);
    let expected = LossReason::KeepaliveTimeout(5 * SECOND);
    assert_eq!(peer.loss(), Some(expected));
    assert_eq!(peer.closed, [true]);
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn an_answered_ping_keeps_the_session() {
    let mut peer = Peer::ready();
    for _ in 0..20 {
        peer.wait(5 * SECOND);
        let own = peer.one();
        peer.wait(SECOND);
        let answer = Pdu::new(0x20, 0x80).put(16, own.itt()).put(20, NONE);
        let answer = peer.status(answer);
        peer.reply(&[answer]);
    }
    peer.assert_up();
    assert_eq!(peer.session.snapshot().stats.pings, 20);
    // ffp_15_3: each answer used up a StatSN, and the next ping confirms it.
    peer.wait(5 * SECOND);
    assert_eq!(peer.one().exp_stat_sn(), 0x1002 + 20);
}

#[test]
fn whatever_comes_proves_that_the_target_lives() {
    let mut peer = Peer::ready();
    for _ in 0..10 {
        peer.wait(4 * SECOND);
        let anything = ping(&peer, NONE, &[]);
        peer.reply(&[anything]);
    }
    peer.silent();
    peer.assert_up();
}

#[test]
fn a_late_answer_to_a_ping_is_only_late() {
    let mut peer = Peer::ready();
    peer.wait(5 * SECOND);
    let first = peer.one();
    peer.wait(SECOND);
    let anything = ping(&peer, NONE, &[]);
    peer.reply(&[anything]);
    peer.wait(5 * SECOND);
    let second = peer.one();
    assert_ne!(first.itt(), second.itt());
    for pdu in [first, second] {
        let answer = Pdu::new(0x20, 0x80).put(16, pdu.itt()).put(20, NONE);
        let answer = peer.status(answer);
        peer.reply(&[answer]);
    }
    peer.assert_up();
}

#[test]
fn a_network_that_takes_nothing_is_no_excuse() {
    let mut peer = Peer::ready();
    peer.takes = 0;
    peer.submit(0, test_unit_ready());
    peer.wait(10 * SECOND);
    let expected = LossReason::KeepaliveTimeout(5 * SECOND);
    assert_eq!(peer.loss(), Some(expected));
}

#[test]
fn a_network_that_takes_nothing_but_talks_does_not_pile_up_pings() {
    let mut peer = Peer::ready();
    peer.takes = 0;
    let mut patient = test_unit_ready();
    patient.timeout = 100_000 * SECOND;
    peer.submit(0, patient);
    for _ in 0..1000 {
        peer.wait(6 * SECOND);
        let anything = ping(&peer, NONE, &[]);
        peer.reply(&[anything]);
    }
    peer.takes = usize::MAX;
    assert!(peer.sent().len() <= 2);
}

#[test]
fn pings_that_nobody_reads_the_answers_of_are_bounded() {
    let mut peer = Peer::ready();
    peer.takes = 0;
    peer.read(512);
    peer.pump();
    for tag in 0..10_000 {
        let question = ping(&peer, tag, b"x");
        peer.reply(&[question]);
    }
    peer.takes = usize::MAX;
    let sent = peer.sent();
    assert_eq!(sent.len(), 1 + 32);
    assert_eq!(sent.last().unwrap().word(20), 9999);
}

#[test]
fn a_rejected_ping_proves_that_the_target_lives() {
    let mut peer = Peer::ready();
    peer.wait(5 * SECOND);
    let own = peer.one();
    let reject = Pdu::new(0x3f, 0x80).byte(2, 5).put(16, NONE).with(&own.bhs);
    let reject = peer.status(reject);
    peer.reply(&[reject]);
    peer.wait(SECOND);
    peer.assert_up();
}

fn echo_answer(peer: &mut Peer, question: &Pdu) {
    let answer = Pdu::new(0x20, 0x80).put(16, question.itt()).put(20, NONE);
    let answer = peer.status(answer);
    peer.reply(&[answer]);
}

#[test]
fn a_sign_of_life_that_was_asked_for_is_the_answer_to_that_question() {
    let mut peer = Peer::ready();
    let asked = peer.session.ask_echo().unwrap();
    // Who asks meanwhile waits for the same answer.
    assert_eq!(peer.session.ask_echo(), Some(asked));
    let question = peer.one();
    assert_eq!((question.bhs[0], question.bhs[1]), (0x40, 0x80));
    assert_eq!(question.word(20), NONE);
    let other = ping(&peer, NONE, &[]);
    peer.reply(&[other]);
    assert!(peer.session.answered_echo() < asked);
    echo_answer(&mut peer, &question);
    assert_eq!(peer.session.answered_echo(), asked);
    // The next one is asked anew.
    let next = peer.session.ask_echo().unwrap();
    assert!(next > asked);
    let again = peer.one();
    assert_ne!(again.itt(), question.itt());
    let reject = Pdu::new(0x3f, 0x80)
        .byte(2, 5)
        .put(16, NONE)
        .with(&again.bhs);
    let reject = peer.status(reject);
    peer.reply(&[reject]);
    assert_eq!(peer.session.answered_echo(), next);
    peer.assert_up();
}
