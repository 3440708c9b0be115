//! Commands, the command window, StatSN (RFC 7143 §4.2.2, §11.3, §11.4).

use super::*;

const SIMPLE_FINAL_READ: u8 = 0xc1;

#[test]
fn ffp_16_1_1_a_read_command_byte_by_byte() {
    let mut peer = Peer::ready();
    let cdb = Cdb::from_slice(&[0x28, 0, 0, 0, 0x12, 0x34, 0, 0, 2, 0]).unwrap();
    let key = peer.submit(5, command(cdb, DataPhase::Read(IoBuf::zeroed(1024))));
    let pdu = peer.one();
    let mut expected = [0; 48];
    expected[0] = 0x01;
    expected[1] = SIMPLE_FINAL_READ;
    expected[9] = 5;
    expected[16..20].copy_from_slice(&[0x11, 0x11, 0, 0]);
    expected[20..24].copy_from_slice(&[0, 0, 4, 0]);
    expected[24..28].copy_from_slice(&[0x11, 0x11, 0x11, 0x11]);
    expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
    expected[32..42].copy_from_slice(&[0x28, 0, 0, 0, 0x12, 0x34, 0, 0, 2, 0]);
    assert_eq!(pdu.bhs, expected);
    assert_eq!(pdu.data, []);
    assert!(peer.done(key).is_none());
}

#[test]
fn ffp_16_1_2_a_write_command_with_immediate_data() {
    let mut peer = Peer::ready();
    let data = pattern(512);
    peer.write(&data);
    let pdu = peer.one();
    assert_eq!(pdu.bhs[1], 0xa1, "F, W, simple");
    assert_eq!(pdu.word(20), 512);
    assert_eq!(pdu.data, data);
}

#[test]
fn ffp_16_6_expected_data_transfer_length_is_the_buffers() {
    let mut peer = Peer::ready();
    peer.read(4096);
    peer.write(&pattern(1024));
    let key = peer.submit(0, test_unit_ready());
    let lengths: Vec<_> = peer
        .sent()
        .iter()
        .map(|pdu| (pdu.bhs[1] & 0x60, pdu.word(20)))
        .collect();
    assert_eq!(lengths, [(0x40, 4096), (0x20, 1024), (0, 0)]);
    assert!(peer.done(key).is_none());
}

#[test]
fn ffp_1_1_cmd_sn_rises_by_one_from_the_logins() {
    let mut peer = Peer::ready();
    for _ in 0..5 {
        peer.read(512);
    }
    let numbers: Vec<_> = peer.sent().iter().map(Pdu::cmd_sn).collect();
    assert_eq!(numbers, (0x1111_1111..0x1111_1116).collect::<Vec<u32>>());
    let tags: std::collections::HashSet<_> = [peer.read(512), peer.read(512)].into();
    assert_eq!(tags.len(), 2);
}

#[test]
fn cmd_sn_and_tags_cross_their_wraps() {
    let mut peer = Peer::seeded(config(), 0xff);
    peer.login();
    for round in 0..4_u32 {
        let key = peer.submit(0, test_unit_ready());
        let pdu = peer.one();
        assert_eq!(pdu.cmd_sn(), u32::MAX.wrapping_add(round));
        assert_ne!(pdu.itt(), NONE);
        peer.exp_cmd_sn = pdu.cmd_sn().wrapping_add(1);
        peer.max_cmd_sn = peer.exp_cmd_sn.wrapping_add(3);
        let answer = peer.answer(pdu.itt(), 0);
        peer.reply(&[answer]);
        peer.good(key);
    }
    peer.assert_clean();
}

#[test]
fn ffp_2_1_immediate_requests_do_not_consume_a_cmd_sn() {
    let mut peer = Peer::ready();
    let ping = Pdu::new(0x20, 0x80).put(16, NONE).put(20, 9);
    let ping = peer.windowed(ping).put(24, peer.stat_sn);
    peer.reply(&[ping]);
    let answer = peer.one();
    assert_eq!(answer.opcode(), NOP_OUT);
    assert!(answer.is_immediate());
    assert_eq!(answer.cmd_sn(), 0x1111_1111);
    peer.read(512);
    assert_eq!(peer.one().cmd_sn(), 0x1111_1111);
}

#[test]
fn ffp_3_1_a_closed_window_lets_nothing_through_until_a_nop_in() {
    let mut peer = Peer::new(config());
    peer.window = 0;
    peer.login();
    let key = peer.read(512);
    peer.silent();
    // Only an immediate NOP-Out may ask whether it has opened; the answer says that it has not.
    peer.wait(Duration::from_secs(1));
    let probe = peer.one();
    assert_eq!((probe.bhs[0], probe.bhs[1]), (0x40, 0x80));
    let answer = peer.status(Pdu::new(0x20, 0x80).put(16, probe.itt()).put(20, NONE));
    peer.reply(&[answer]);
    peer.silent();
    assert!(peer.done(key).is_none());
    peer.max_cmd_sn = peer.exp_cmd_sn;
    let open = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
    let open = peer.windowed(open).put(24, peer.stat_sn);
    peer.reply(&[open]);
    assert_eq!(peer.one().opcode(), COMMAND);
}

#[test]
fn ffp_3_2_a_large_window_is_used() {
    let mut peer = Peer::new(config());
    peer.window = 100;
    peer.login();
    for _ in 0..128 {
        peer.submit(0, test_unit_ready());
    }
    assert_eq!(peer.sent().len(), 100);
}

#[test]
fn ffp_3_3_and_ffp_16_5_a_window_of_one_follows_each_response() {
    let mut peer = Peer::new(config());
    peer.window = 1;
    peer.login();
    let keys: Vec<_> = (0..4).map(|_| peer.submit(0, test_unit_ready())).collect();
    for key in keys {
        let pdu = peer.one();
        // Acknowledged, and still no room.
        peer.exp_cmd_sn += 1;
        peer.wait(Duration::from_millis(10));
        peer.silent();
        peer.max_cmd_sn += 1;
        let answer = peer.answer(pdu.itt(), 0);
        peer.reply(&[answer]);
        peer.good(key);
    }
}

#[test]
fn a_window_that_goes_back_is_ignored() {
    let mut peer = Peer::new(config());
    peer.window = 4;
    peer.login();
    let first = peer.submit(0, test_unit_ready());
    let pdu = peer.one();
    let (exp, max) = (peer.exp_cmd_sn, peer.max_cmd_sn);
    // Stale, then contradictory.
    peer.max_cmd_sn = max - 3;
    let answer = peer.answer(pdu.itt(), 0);
    (peer.exp_cmd_sn, peer.max_cmd_sn) = (exp + 100, exp + 50);
    let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
    let nop = peer.windowed(nop).put(24, peer.stat_sn);
    peer.reply(&[answer, nop]);
    peer.good(first);
    for _ in 0..8 {
        peer.submit(0, test_unit_ready());
    }
    assert_eq!(peer.sent().len(), 3, "up to the MaxCmdSN of the login");
}

#[test]
fn luns_travel_in_sam_addressing() {
    let mut peer = Peer::ready();
    let expected = [
        (0, [0, 0, 0, 0, 0, 0, 0, 0]),
        (255, [0, 255, 0, 0, 0, 0, 0, 0]),
        (256, [0x41, 0, 0, 0, 0, 0, 0, 0]),
        (0x3fff, [0x7f, 0xff, 0, 0, 0, 0, 0, 0]),
    ];
    for (number, bytes) in expected {
        peer.submit(number, test_unit_ready());
        assert_eq!(peer.one().lun(), bytes, "LUN {number}");
    }
}

#[test]
fn a_long_cdb_goes_on_in_an_ahs() {
    let mut peer = Peer::ready();
    let cdb: Vec<u8> = [0x7f].into_iter().chain(1..32).collect();
    let mut wire = Transmit::new();
    peer.submit(0, command(Cdb::from_slice(&cdb).unwrap(), DataPhase::None));
    peer.session.poll_transmit(peer.now, peer.cid, &mut wire);
    let mut slices = smallvec::SmallVec::new();
    wire.slices(&mut slices);
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
    assert_eq!(bytes.len(), 48 + 20);
    assert_eq!(bytes[4], 5, "TotalAHSLength in words");
    assert_eq!(bytes[32..48], cdb[..16]);
    assert_eq!(bytes[48..52], [0, 17, 1, 0], "AHSLength, type, reserved");
    assert_eq!(bytes[52..68], cdb[16..]);
}

#[test]
fn ffp_16_4_5_busy_is_the_callers_to_deal_with() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 0x08);
    peer.reply(&[answer]);
    assert_eq!(peer.answered(key).status, scsi::Status::BUSY);
    peer.wait(Duration::from_secs(1));
    peer.silent();
}

#[test]
fn sense_data_come_with_the_status() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let mut sense = vec![0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];
    sense.splice(0..0, [0, 18]);
    let answer = peer.answer(itt, 2).with(&sense);
    peer.reply(&[answer]);
    let answer = peer.answered(key);
    assert_eq!(*answer.sense, sense[2..]);
    assert!(answer.sense_data().is_some());
    // They may come with any status (RFC 7144 §5.2.2).
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 8).with(&sense);
    peer.reply(&[answer]);
    assert_eq!(*peer.answered(key).sense, sense[2..]);
}

#[test]
fn a_sense_length_that_lies_is_cut_to_what_came() {
    for (data, kept) in [
        (&[0xff, 0xff, 0x70, 0, 6][..], 3),
        (&[0][..], 0),
        (&[0, 0, 0x70][..], 0),
    ] {
        let mut peer = Peer::ready();
        let key = peer.submit(0, test_unit_ready());
        let itt = peer.one().itt();
        let answer = peer.answer(itt, 2).with(data);
        peer.reply(&[answer]);
        assert_eq!(peer.answered(key).sense.len(), kept);
    }
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let mut long = vec![0x10, 0];
    long.resize(4000, 1);
    let answer = peer.answer(itt, 2).with(&long);
    peer.reply(&[answer]);
    assert_eq!(peer.answered(key).sense.len(), 252);
}

#[test]
fn a_target_failure_is_no_status() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 0).byte(2, 1);
    peer.reply(&[answer]);
    let expected = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
    assert_eq!(peer.failed(key), expected);
    peer.assert_up();
}

#[test]
fn stat_sn_counts_only_where_it_means_something() {
    let mut peer = Peer::ready();
    let reading = peer.read(1024);
    let writing = peer.write(&pattern(16_384));
    let sent = peer.sent();
    let data = pattern(512);
    // A StatSN in a Data-In without S, in an R2T and in a NOP-In that asks nothing of it.
    let plain = peer
        .data_in(sent[0].itt(), 0, 0, &data)
        .put(24, 0xdead_beef);
    let r2t = peer.r2t(sent[1].itt(), 7, 0, 8192, 8192).put(24, 0x7777);
    let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
    let nop = peer.windowed(nop).put(24, 0x1234);
    peer.reply(&[plain, r2t, nop]);
    let out = peer.one();
    assert_eq!(out.exp_stat_sn(), 0x1002, "as the login left it");
    let last = peer.data_in(sent[0].itt(), 1, 512, &data);
    let last = peer.last(last);
    let answer = peer.answer(sent[1].itt(), 0);
    peer.reply(&[last, answer]);
    peer.good(reading);
    peer.good(writing);
    peer.read(512);
    assert_eq!(peer.one().exp_stat_sn(), 0x1004);
}

#[test]
fn ffp_5_1_a_gap_in_stat_sn_ends_the_session_at_level_0() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    peer.stat_sn += 1;
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    let gap = ProtocolError::StatSnGap {
        expected: 0x1002,
        actual: 0x1003,
    };
    assert_eq!(peer.loss(), Some(LossReason::Protocol(gap)));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn a_stat_sn_half_of_all_numbers_away_ends_the_session() {
    // Neither before nor after (RFC 7143 §4.2.2.2 allows less than that).
    for (away, lost) in [(1 << 31, true), ((1 << 31) + 1, false)] {
        let mut peer = Peer::ready();
        let key = peer.submit(0, test_unit_ready());
        let itt = peer.one().itt();
        peer.stat_sn = peer.stat_sn.wrapping_add(away);
        let answer = peer.answer(itt, 0);
        peer.reply(&[answer]);
        assert_eq!(peer.loss().is_some(), lost);
        assert_eq!(peer.done(key).is_some(), lost);
    }
}

#[test]
fn a_response_seen_before_is_not_taken_again() {
    let mut peer = Peer::ready();
    let first = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer.clone(), answer.clone()]);
    peer.good(first);
    // The slot is used again, under another tag.
    let second = peer.submit(0, test_unit_ready());
    assert_ne!(peer.one().itt(), itt);
    peer.reply(&[answer]);
    assert!(peer.done(second).is_none());
    peer.assert_up();
}

#[test]
fn an_answer_to_a_tag_that_never_was_ends_the_session() {
    for itt in [0x0000_0080, 0x1111_7fff, 0x1111_8000, 0x1234_ffff] {
        let mut peer = Peer::ready();
        let answer = peer.answer(itt, 0);
        peer.reply(&[answer]);
        let unknown = LossReason::Protocol(ProtocolError::UnknownTask { itt });
        assert_eq!(peer.loss(), Some(unknown));
    }
}

#[test]
fn an_answer_to_a_command_that_waits_for_the_window_ends_the_session() {
    let mut peer = Peer::new(config());
    peer.window = 0;
    peer.login();
    let key = peer.submit(0, test_unit_ready());
    peer.silent();
    let answer = peer.answer(0x1111_0000, 0);
    peer.reply(&[answer]);
    let loss = peer.loss();
    assert!(matches!(
        loss,
        Some(LossReason::Protocol(ProtocolError::UnknownTask { .. }))
    ));
    assert_eq!(peer.failed(key).1, Certainty::NotSent);
}

#[test]
fn a_command_for_another_life_is_not_sent() {
    let mut peer = Peer::ready();
    let mut stale = test_unit_ready();
    stale.only_in = Some(Incarnation(7));
    let refused = peer.session.submit(peer.now, Lun::ZERO, stale).unwrap_err();
    assert!(matches!(
        refused.outcome,
        Outcome::Failed(error) if error.certainty == Certainty::NotSent
    ));
    peer.silent();
}

#[test]
fn no_more_commands_than_slots() {
    let mut few = config();
    few.queue_depth = 3;
    let mut peer = Peer::up(few, keys(&[]));
    let keys: Vec<_> = (0..3).map(|_| peer.submit(0, read(512))).collect();
    let refused = peer.session.submit(peer.now, Lun::ZERO, read(512));
    let completion = refused.unwrap_err();
    assert_eq!(completion.data.len(), 512, "the memory comes back");
    let sent = peer.sent();
    let last = peer.data_in(sent[1].itt(), 0, 0, &pattern(512));
    let last = peer.last(last);
    peer.reply(&[last]);
    peer.good(keys[1]);
    assert_eq!(peer.session.take_freed(), 1);
    peer.read(512);
}

#[test]
fn time_limits_of_for_ever_are_taken() {
    let mut patient = config();
    patient.keepalive.interval = Duration::MAX;
    patient.keepalive.timeout = Duration::MAX;
    patient.timeouts.connect = Duration::MAX;
    patient.timeouts.login = Duration::MAX;
    patient.timeouts.abort_task = Duration::MAX;
    patient.timeouts.logout = Duration::MAX;
    patient.give_up_after = Some(Duration::MAX);
    patient.backoff.first = Duration::MAX;
    patient.backoff.max = Duration::MAX;
    let mut peer = Peer::new(patient);
    peer.refuse();
    while peer.dialling.is_none() {
        let due = peer.session.poll_timeout().unwrap();
        peer.wait(due - peer.now);
    }
    peer.login();
    let mut command = test_unit_ready();
    command.timeout = Duration::MAX;
    let key = peer.submit(0, command);
    peer.sent();
    peer.session.abandon(peer.now, key);
    peer.session.logout(peer.now);
    assert!(peer.session.poll_timeout().is_some());
}

#[test]
fn the_table_takes_no_more_than_the_queue_depth_and_no_tag_twice() {
    let mut config = config();
    config.queue_depth = 2;
    let mut peer = Peer::up(config, keys(&[]));
    assert_eq!(peer.session.capacity(), 2);
    let first = peer.submit(0, read(512));
    let second = peer.submit(0, read(512));
    let refused = peer.session.submit(peer.now, Lun::ZERO, read(512));
    let refused = refused.unwrap_err();
    assert_eq!(refused.data.len(), 512, "the memory comes back");
    let tags: Vec<u32> = peer.sent().iter().map(Pdu::itt).collect();
    assert_eq!(tags.len(), 2);
    let answer = peer.answer(tags[1], 8);
    peer.reply(&[answer]);
    assert_eq!(peer.answered(second).status, scsi::Status::BUSY);
    let third = peer.submit(0, read(512));
    let again = peer.one().itt();
    assert!(
        !tags.contains(&again),
        "a slot is used again, its tag is not"
    );
    assert_eq!(again & 0xffff, tags[1] & 0xffff);
    for key in [first, third] {
        assert!(peer.done(key).is_none());
    }
}
