//! DataACK: the A bit and its answer.

use super::*;

#[test]
fn ffp_10_2_and_13_2_the_a_bit_is_answered_with_data_ack() {
    let mut peer = plain();
    let key = peer.submit(3, read(1536));
    let itt = peer.one().itt();
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    let asking = |pdu: Pdu, ttt: u32| {
        let mut pdu = pdu.byte(1, 0xc0).put(20, ttt);
        pdu.bhs[9] = 3;
        pdu
    };
    let first = asking(peer.data_in(itt, 0, 0, &[1; 512]), 0x77);
    peer.reply(&[first]);
    let ack = peer.one();
    assert_eq!((ack.opcode(), ack.bhs[1]), (SNACK, 0x80 | DATA_ACK));
    assert_eq!(ack.lun(), [0, 3, 0, 0, 0, 0, 0, 0]);
    let words = [ack.itt(), ack.word(20), ack.word(40), ack.word(44)];
    assert_eq!(words, [NONE, 0x77, 1, 0]);
    assert_eq!(ack.exp_stat_sn(), peer.stat_sn);
    // With a hole before it, the acknowledgement waits.
    let third = asking(peer.data_in(itt, 2, 1024, &[3; 512]), 0x88);
    peer.reply(&[third]);
    assert_eq!(peer.snack(DATA), (itt, NONE, 1, 1));
    let second = peer.data_in(itt, 1, 512, &[2; 512]);
    peer.reply(&[second]);
    assert_eq!(peer.snack(DATA_ACK), (NONE, 0x88, 3, 0));
    let answer = peer.answer(itt, 0).put(36, 3);
    peer.reply(&[answer]);
    peer.good(key);
    assert_eq!(peer.session.stats.data_acks, 2);
}

#[test]
fn an_a_bit_with_the_status_is_acknowledged_by_exp_stat_sn() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(512));
    let data = peer.data_in(command.itt(), 0, 0, &[1; 512]).put(20, 0x99);
    let data = peer.last(data).byte(1, 0xc1);
    peer.reply(&[data]);
    peer.good(key);
    let nop = peer.one();
    assert_eq!((nop.opcode(), nop.itt()), (NOP_OUT, NONE));
    assert_eq!(nop.exp_stat_sn(), peer.stat_sn);
}

#[test]
fn an_a_bit_for_another_logical_unit_is_a_broken_protocol() {
    let mut peer = plain();
    let (_, command) = peer.sent_command(read(1024));
    let data = peer.data_in(command.itt(), 0, 0, &[1; 512]);
    let data = data.byte(1, 0xc0).byte(9, 3).put(20, 0x77);
    peer.reply(&[data]);
    let reason = peer.loss();
    assert!(
        matches!(
            reason,
            Some(LossReason::Protocol(ProtocolError::WrongLun { .. }))
        ),
        "{reason:?}"
    );
}

#[test]
fn the_a_bit_is_ignored_at_level_0() {
    let mut peer = Peer::ready();
    let key = peer.read(1024);
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &[1; 512]);
    peer.reply(&[data.byte(1, 0xc0).put(20, 0x77)]);
    peer.silent();
    // Not even that the tag is missing counts there.
    let data = peer.data_in(itt, 1, 512, &[1; 256]);
    peer.reply(&[data.byte(1, 0x40).put(20, NONE)]);
    peer.silent();
    let data = peer.data_in(itt, 2, 768, &[1; 256]);
    let data = peer.last(data);
    peer.reply(&[data]);
    peer.good(key);
}

#[test]
fn an_a_bit_without_a_tag_is_a_protocol_error_where_it_counts() {
    let mut peer = plain();
    let (_, command) = peer.sent_command(read(1024));
    let data = peer.data_in(command.itt(), 0, 0, &[1; 512]);
    peer.reply(&[data.byte(1, 0xc0).put(20, NONE)]);
    assert!(matches!(
        peer.loss(),
        Some(LossReason::Protocol(ProtocolError::Frame(
            crate::wire::receiver::FrameError::Header(_)
        )))
    ));
}

#[test]
fn a_data_ack_that_the_status_has_overtaken_becomes_its_acknowledgement() {
    let mut peer = plain();
    let (key, command) = peer.sent_command(read(1024));
    let first = peer.data_in(command.itt(), 0, 0, &[1; 512]);
    let first = first.byte(1, 0xc0).put(20, 0x77);
    let second = peer.data_in(command.itt(), 1, 512, &[1; 512]);
    let second = peer.last(second);
    peer.reply(&[first, second]);
    peer.good(key);
    let nop = peer.one();
    assert_eq!((nop.opcode(), nop.itt()), (NOP_OUT, NONE));
    assert_eq!(nop.exp_stat_sn(), peer.stat_sn);
}

#[test]
fn an_a_bit_that_comes_again_is_not_answered_again() {
    let mut peer = plain();
    let (_, command) = peer.sent_command(read(1024));
    let first = peer.data_in(command.itt(), 0, 0, &[1; 512]);
    let first = first.byte(1, 0xc0).put(20, 0x77);
    peer.reply(&[first.clone(), first.clone()]);
    assert_eq!(peer.snack(DATA_ACK), (NONE, 0x77, 1, 0));
    peer.reply(&[first]);
    peer.silent();
}

#[test]
fn postponed_data_acks_are_sent_one_by_one() {
    let mut peer = plain();
    let (_, command) = peer.sent_command(read(2048));
    let part = |peer: &Peer, sn: u32| {
        let pdu = peer.data_in(command.itt(), sn, sn * 512, &[1; 512]);
        pdu.byte(1, 0xc0).put(20, 0x70 + sn)
    };
    peer.reply(&[part(&peer, 1), part(&peer, 2)]);
    assert_eq!(peer.snack(DATA), (command.itt(), NONE, 0, 1));
    let first = peer.data_in(command.itt(), 0, 0, &[1; 512]);
    peer.reply(&[first]);
    let acks = peer.sent();
    let fields: Vec<_> = acks
        .iter()
        .map(|pdu| (pdu.word(20), pdu.word(40)))
        .collect();
    assert_eq!(fields, [(0x71, 2), (0x72, 3)]);
}
