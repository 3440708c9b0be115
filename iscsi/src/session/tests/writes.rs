//! Immediate, unsolicited and solicited data (RFC 7143 §4.2.4, §11.7, §11.8).

use super::*;

/// Keys for a write: InitialR2T, ImmediateData, and MaxRecvDataSegmentLength of 1,024,
/// FirstBurstLength of 4,096, MaxBurstLength of 8,192.
fn peer(initial_r2t: &str, immediate: &str, more: &[(&'static str, &str)]) -> Peer {
    let mut config = config();
    config.offer.set("InitialR2T", initial_r2t).unwrap();
    config.offer.set("ImmediateData", immediate).unwrap();
    let mut pairs = vec![
        ("InitialR2T", initial_r2t),
        ("ImmediateData", immediate),
        ("MaxRecvDataSegmentLength", "1024"),
        ("FirstBurstLength", "4096"),
        ("MaxBurstLength", "8192"),
    ];
    for (key, value) in more {
        if *key == "DataSequenceInOrder" {
            config.offer.set(key, value).unwrap();
        }
        pairs.push((key, value));
    }
    Peer::up(config, keys(&pairs))
}

/// Offset, length, DataSN, F of a Data-Out.
type Out = (u32, usize, u32, bool);

/// The Data-Outs among what was sent, which must be nothing else.
fn outs(pdus: &[Pdu]) -> Vec<Out> {
    pdus.iter()
        .map(|pdu| {
            assert_eq!(pdu.opcode(), DATA_OUT);
            let offset = pdu.word(40) as usize;
            assert_eq!(pdu.data, pattern(65_536)[offset..offset + pdu.data.len()]);
            (pdu.word(40), pdu.data.len(), pdu.word(36), pdu.is_final())
        })
        .collect()
}

/// Length of the immediate data and F of the command, then the unsolicited Data-Outs.
fn opening(peer: &mut Peer, bytes: usize) -> (usize, bool, Vec<Out>) {
    peer.write(&pattern(bytes));
    let sent = peer.sent();
    assert_eq!(sent[0].opcode(), COMMAND);
    assert_eq!(sent[0].data, pattern(sent[0].data.len()));
    for out in &sent[1..] {
        assert_eq!(out.word(20), NONE, "unsolicited: no TTT");
        assert_eq!(out.itt(), sent[0].itt());
    }
    (sent[0].data.len(), sent[0].is_final(), outs(&sent[1..]))
}

#[test]
fn ffp_16_2_1_and_8_2_nothing_unsolicited() {
    let mut peer = peer("Yes", "No", &[]);
    assert_eq!(opening(&mut peer, 16_384), (0, true, vec![]));
}

#[test]
fn ffp_16_2_2_immediate_only() {
    let mut peer = peer("Yes", "Yes", &[]);
    assert_eq!(opening(&mut peer, 16_384), (1024, true, vec![]));
    assert_eq!(opening(&mut peer, 512), (512, true, vec![]));
}

#[test]
fn ffp_16_2_3_and_8_3_unsolicited_without_immediate() {
    let mut peer = peer("No", "No", &[]);
    let expected = vec![
        (0, 1024, 0, false),
        (1024, 1024, 1, false),
        (2048, 1024, 2, false),
        (3072, 1024, 3, true),
    ];
    assert_eq!(opening(&mut peer, 16_384), (0, false, expected));
    assert_eq!(opening(&mut peer, 512), (0, false, vec![(0, 512, 0, true)]));
}

#[test]
fn ffp_16_2_4_and_8_1_immediate_unsolicited_then_solicited() {
    let mut peer = peer("No", "Yes", &[]);
    let key = peer.write(&pattern(8192));
    let sent = peer.sent();
    let command = &sent[0];
    assert_eq!((command.data.len(), command.is_final()), (1024, false));
    let expected = [
        (1024, 1024, 0, false),
        (2048, 1024, 1, false),
        (3072, 1024, 2, true),
    ];
    assert_eq!(outs(&sent[1..]), expected);
    let r2t = peer.r2t(command.itt(), 0xabcd, 0, 4096, 4096);
    peer.reply(&[r2t]);
    let solicited = peer.sent();
    assert!(solicited.iter().all(|out| out.word(20) == 0xabcd));
    let expected = [
        (4096, 1024, 0, false),
        (5120, 1024, 1, false),
        (6144, 1024, 2, false),
        (7168, 1024, 3, true),
    ];
    assert_eq!(outs(&solicited), expected);
    let answer = peer.answer(command.itt(), 0);
    peer.reply(&[answer]);
    assert_eq!(peer.answered(key).transferred, 8192);
    peer.assert_clean();
}

#[test]
fn ffp_11_2_1_a_transfer_that_fits_the_command_needs_nothing_more() {
    let mut peer = peer("No", "Yes", &[]);
    assert_eq!(opening(&mut peer, 1024), (1024, true, vec![]));
    let expected = vec![(1024, 512, 0, true)];
    assert_eq!(opening(&mut peer, 1536), (1024, false, expected));
}

#[test]
fn ffp_12_1_ffp_9_1_a_data_out_byte_by_byte() {
    let mut peer = peer("Yes", "No", &[]);
    peer.submit(3, write(&pattern(1024)));
    let command = peer.one();
    let r2t = peer.r2t(command.itt(), 0xcafe_f00d, 0, 512, 512);
    let first = peer.r2t(command.itt(), 0xdead_beef, 0, 0, 512);
    peer.reply(&[first]);
    let out = peer.one();
    let mut expected = [0; 48];
    expected[0] = 0x05;
    expected[1] = 0x80;
    expected[6] = 2;
    expected[9] = 3;
    expected[16..20].copy_from_slice(&[0x11, 0x11, 0, 0]);
    expected[20..24].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
    assert_eq!(out.bhs, expected);
    peer.reply(&[r2t.put(36, 1)]);
    expected[20..24].copy_from_slice(&[0xca, 0xfe, 0xf0, 0x0d]);
    expected[42] = 2;
    assert_eq!(peer.one().bhs, expected);
}

#[test]
fn ffp_12_2_ffp_11_3_ffp_11_4_several_r2ts_count_from_zero_each() {
    let mut peer = peer("Yes", "No", &[("MaxOutstandingR2T", "2")]);
    peer.write(&pattern(4096));
    let itt = peer.one().itt();
    let one = peer.r2t(itt, 1, 0, 0, 2048);
    let two = peer.r2t(itt, 2, 1, 2048, 2048);
    peer.reply(&[one, two]);
    let sent = peer.sent();
    let tags: Vec<_> = sent.iter().map(|out| out.word(20)).collect();
    assert_eq!(tags, [1, 1, 2, 2]);
    let expected = [
        (0, 1024, 0, false),
        (1024, 1024, 1, true),
        (2048, 1024, 0, false),
        (3072, 1024, 1, true),
    ];
    assert_eq!(outs(&sent), expected);
}

#[test]
fn ffp_12_3_r2ts_out_of_order_when_that_was_negotiated() {
    let mut peer = peer("Yes", "No", &[("DataSequenceInOrder", "No")]);
    let key = peer.write(&pattern(3072));
    let itt = peer.one().itt();
    for (sn, offset) in [(0, 2048), (1, 0), (2, 1024)] {
        let r2t = peer.r2t(itt, 50 + sn, sn, offset, 1024);
        peer.reply(&[r2t]);
        let out = peer.one();
        assert_eq!(outs(std::slice::from_ref(&out)), [(offset, 1024, 0, true)]);
        assert_eq!(out.word(20), 50 + sn);
    }
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    assert_eq!(peer.answered(key).transferred, 3072);
}

#[test]
fn ffp_12_4_r2ts_of_parallel_commands_and_luns() {
    let mut peer = peer("Yes", "No", &[]);
    peer.submit(1, write(&pattern(2048)));
    peer.submit(300, write(&pattern(2048)));
    let sent = peer.sent();
    let second = peer.r2t(sent[1].itt(), 21, 0, 0, 2048);
    let first = peer.r2t(sent[0].itt(), 11, 0, 0, 2048);
    peer.reply(&[second, first]);
    let outs = peer.sent();
    let of = |pdu: &Pdu| (pdu.itt(), pdu.word(20), pdu.lun());
    assert_eq!(of(&outs[0]), (sent[1].itt(), 21, sent[1].lun()));
    assert_eq!(of(&outs[2]), (sent[0].itt(), 11, sent[0].lun()));
    assert_eq!(outs[0].lun(), [0x41, 44, 0, 0, 0, 0, 0, 0]);
    assert_eq!(outs.len(), 4);
}

#[test]
fn ffp_11_1_1_segments_within_the_targets_limit() {
    for limit in ["512", "1024", "16777215"] {
        let answers = keys(&[
            ("InitialR2T", "No"),
            ("MaxRecvDataSegmentLength", limit),
            ("FirstBurstLength", "65536"),
            ("MaxBurstLength", "1048576"),
        ]);
        let mut peer = Peer::up(config(), answers);
        peer.write(&pattern(60_000 / 512 * 512));
        let sent = peer.sent();
        let limit: usize = limit.parse().unwrap();
        assert!(sent.iter().all(|pdu| pdu.data.len() <= limit));
        let total: usize = sent.iter().map(|pdu| pdu.data.len()).sum();
        assert_eq!(total, 59_904);
        if limit > 65_536 {
            assert_eq!(sent.len(), 1);
        }
    }
}

#[test]
fn all_but_the_last_data_out_are_whole_words() {
    let answers = keys(&[
        ("InitialR2T", "No"),
        ("ImmediateData", "No"),
        ("MaxRecvDataSegmentLength", "1023"),
        ("FirstBurstLength", "4096"),
    ]);
    let mut peer = Peer::up(config(), answers);
    peer.write(&pattern(3071));
    let sent = peer.sent();
    let lengths: Vec<usize> = sent.iter().map(|pdu| pdu.data.len()).collect();
    assert_eq!(lengths, [0, 1020, 1020, 1020, 11]);
    assert!(sent.last().unwrap().is_final());
}

/// The session's end after this R2T to a write of 16,384 bytes.
fn fault(sn: u32, offset: u32, bytes: u32) -> Option<LossReason> {
    let mut peer = peer("Yes", "No", &[("MaxOutstandingR2T", "1")]);
    let key = peer.write(&pattern(16_384));
    let itt = peer.one().itt();
    let r2t = peer.r2t(itt, 9, sn, offset, bytes);
    peer.reply(&[r2t]);
    let loss = peer.loss();
    if loss.is_some() {
        assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
        peer.assert_clean();
    }
    loss
}

#[test]
fn r2ts_are_held_to_the_buffer_and_the_burst() {
    let bad = |offset, bytes, fault| {
        Some(LossReason::Protocol(ProtocolError::BadR2t {
            offset,
            bytes,
            fault,
        }))
    };
    assert_eq!(fault(0, 0, 8192), None);
    assert_eq!(fault(0, 0, 8193), bad(0, 8193, R2tFault::TooLong));
    assert_eq!(fault(0, 16_380, 8), bad(16_380, 8, R2tFault::OutOfBounds));
    assert_eq!(
        fault(0, u32::MAX, 2),
        bad(u32::MAX, 2, R2tFault::OutOfBounds)
    );
    assert_eq!(fault(0, 512, 512), bad(512, 512, R2tFault::OutOfOrder));
    assert!(matches!(
        fault(1, 0, 512),
        Some(LossReason::Protocol(ProtocolError::R2tSnGap { .. }))
    ));
    assert!(matches!(
        fault(0, 0, 0),
        Some(LossReason::Protocol(ProtocolError::Frame(_)))
    ));
}

#[test]
fn an_r2t_of_another_logical_unit_gets_no_data() {
    for (lun, lost) in [(7, false), (0, true), (8, true)] {
        let mut peer = Peer::ready();
        peer.submit(7, write(&pattern(16_384)));
        let itt = peer.one().itt();
        let r2t = peer.r2t(itt, 1, 0, 8192, 8192).byte(9, lun);
        peer.reply(&[r2t]);
        let reason = peer.loss();
        let wrong = matches!(
            reason,
            Some(LossReason::Protocol(ProtocolError::WrongLun { .. }))
        );
        assert_eq!(wrong, lost, "{reason:?}");
        let data = peer.sent().iter().any(|pdu| pdu.opcode() == DATA_OUT);
        assert_eq!(data, !lost);
    }
}

#[test]
fn an_r2t_before_the_command_went_out_sends_nothing() {
    let mut peer = peer("Yes", "No", &[]);
    peer.write(&pattern(512));
    // Not pumped: the command is still ours.
    let r2t = peer.r2t(0x1111_0000, 1, 0, 0, 512);
    peer.reply(&[r2t]);
    assert!(peer.loss().is_some());
}

#[test]
fn an_r2t_for_a_finished_write_sends_nothing() {
    let mut peer = peer("Yes", "No", &[]);
    let key = peer.write(&pattern(1024));
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 2);
    let r2t = peer.r2t(itt, 1, 0, 0, 1024);
    peer.reply(&[answer, r2t]);
    peer.silent();
    assert_eq!(peer.answered(key).status, scsi::Status::CHECK_CONDITION);
    peer.assert_up();
}

#[test]
fn an_early_end_stops_the_data() {
    let mut peer = peer("Yes", "No", &[]);
    peer.takes = 2048;
    let key = peer.write(&pattern(8192));
    let itt = peer.one().itt();
    let r2t = peer.r2t(itt, 1, 0, 0, 8192);
    peer.reply(&[r2t]);
    let answer = peer.answer(itt, 2);
    peer.reply(&[answer]);
    assert_eq!(peer.answered(key).status, scsi::Status::CHECK_CONDITION);
    peer.assert_up();
    peer.assert_clean();
}

#[test]
fn good_for_data_that_never_left_is_not_believed() {
    let mut peer = peer("Yes", "No", &[]);
    let key = peer.write(&pattern(8192));
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    let missing = ProtocolError::MissingData {
        expected: 8192,
        actual: 0,
    };
    assert_eq!(peer.loss(), Some(LossReason::Protocol(missing)));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn good_while_the_last_burst_is_still_ours_is_not_believed() {
    let mut peer = peer("Yes", "No", &[]);
    let key = peer.write(&pattern(2048));
    let itt = peer.one().itt();
    let r2t = peer.r2t(itt, 1, 0, 0, 2048);
    let answer = peer.answer(itt, 0);
    // Both at once: no Data-Out has been made yet.
    peer.reply(&[r2t, answer]);
    assert!(peer.loss().is_some());
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn unsolicited_data_go_in_the_order_of_their_commands() {
    let mut peer = peer("No", "No", &[]);
    for _ in 0..3 {
        peer.write(&pattern(2048));
    }
    let order: Vec<_> = peer
        .sent()
        .iter()
        .filter(|pdu| pdu.opcode() == DATA_OUT)
        .map(Pdu::itt)
        .collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(order, sorted);
    assert_eq!(order.len(), 6);
}

#[test]
fn unsolicited_data_of_more_than_one_batch_all_go_out() {
    let mut config = config();
    config
        .offer
        .set("MaxRecvDataSegmentLength", "262144")
        .unwrap();
    let answers = keys(&[
        ("InitialR2T", "No"),
        ("MaxRecvDataSegmentLength", "2048"),
        ("FirstBurstLength", "262144"),
        ("MaxBurstLength", "262144"),
    ]);
    let mut peer = Peer::up(config, answers);
    peer.write(&pattern(262_144));
    // One batch, as a caller writes it: the session has to say that there is more.
    peer.session
        .poll_transmit(peer.now, peer.cid, &mut peer.out);
    assert!(peer.session.wants_transmit(peer.cid));
    peer.out.seal();
    let sent = peer.sent();
    let total: usize = sent.iter().map(|pdu| pdu.data.len()).sum();
    assert_eq!((sent.len(), total), (128, 262_144));
    assert!(!peer.session.wants_transmit(peer.cid) || peer.session.idle_connection().is_some());
}

#[test]
fn digests_cover_the_padding() {
    let mut config = config();
    config.offer.set("HeaderDigest", "CRC32C").unwrap();
    config.offer.set("DataDigest", "CRC32C").unwrap();
    let answers = keys(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]);
    let mut peer = Peer::up(config, answers);
    for bytes in [1, 2, 3, 5, 1023, 1025, 4097, 8191] {
        let cdb = Cdb::from_slice(&[0x0a, 0, 0, 0, 1, 0]).unwrap();
        let data = Bytes::from(pattern(bytes));
        peer.submit(0, command(cdb, DataPhase::Write(data)));
        // `sent` checks the digests bit by bit.
        assert_eq!(peer.one().data, pattern(bytes));
    }
}

#[test]
fn a_maximum_of_zero_is_refused_at_login() {
    let mut peer = Peer::new(config());
    peer.keys = keys(&[("MaxRecvDataSegmentLength", "0")]);
    peer.connected();
    for _ in 0..2 {
        let request = peer.one();
        let answer = peer.login_answer(&request);
        peer.reply(&[answer]);
    }
    peer.act();
    assert_eq!(peer.session.failures(), 1);
    assert_eq!(peer.session.snapshot().phase, "waiting to reconnect");
}
