//! ErrorRecoveryLevel 1: what gets lost is asked for again, and nothing is executed twice
//! (RFC 7143 §7, §11.16).

use super::*;

const SNACK: u8 = 0x10;
const SECOND: Duration = Duration::from_secs(1);

/// SNACK types (RFC 7143 §11.16.1).
const DATA: u8 = 0;
const STATUS: u8 = 1;
const DATA_ACK: u8 = 2;
const R_DATA: u8 = 3;

fn level_1(answers: &[(&'static str, &str)]) -> Peer {
    let mut config = config();
    config.offer.set("ErrorRecoveryLevel", "1").unwrap();
    config.offer.set("DataDigest", "CRC32C,None").unwrap();
    config.offer.set("HeaderDigest", "CRC32C,None").unwrap();
    let mut keys = keys(answers);
    for (key, value) in &mut keys {
        if *key == "ErrorRecoveryLevel" {
            *value = "1".into();
        }
    }
    Peer::up(config, keys)
}

fn plain() -> Peer {
    level_1(&[])
}

fn digests() -> Peer {
    level_1(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])
}

impl Peer {
    pub(super) fn has_data_digest(&self) -> bool {
        self.digests.1
    }

    /// The target sends a PDU; on the way a bit of its data flips.
    pub(super) fn reply_damaged(&mut self, pdu: &Pdu) {
        assert!(self.digests.1 && !pdu.data.is_empty());
        let mut bytes = pdu.bhs.to_vec();
        if self.digests.0 {
            bytes.extend_from_slice(&crc32c(&pdu.bhs));
        }
        let mut data = pdu.data.clone();
        data.resize(data.len().next_multiple_of(4), 0);
        let digest = crc32c(&data);
        data[pdu.data.len() / 2] ^= 0x20;
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(&digest);
        self.receive(&bytes);
    }

    /// The only PDU sent is a SNACK of this type: tag, TTT, BegRun and RunLength.
    #[track_caller]
    fn snack(&mut self, kind: u8) -> (u32, u32, u32, u32) {
        let pdu = self.one();
        assert_eq!((pdu.opcode(), pdu.bhs[1]), (SNACK, 0x80 | kind), "{pdu:?}");
        assert!(pdu.data.is_empty());
        assert_eq!(pdu.bhs[4..8], [0; 4]);
        assert_eq!(pdu.word(24), 0, "no CmdSN");
        assert!(kind == DATA_ACK || pdu.lun() == [0; 8]);
        (pdu.itt(), pdu.word(20), pdu.word(40), pdu.word(44))
    }

    /// Sends a command and returns its PDU, the target having taken it.
    fn sent_command(&mut self, command: Command) -> (TaskKey, Pdu) {
        let key = self.submit(0, command);
        let pdu = self.one();
        self.exp_cmd_sn = pdu.cmd_sn().wrapping_add(1);
        (key, pdu)
    }

    /// The answer to a NOP-Out.
    fn nop_answer(&mut self, nop: &Pdu) -> Pdu {
        assert_eq!(nop.opcode(), NOP_OUT);
        self.status(Pdu::new(0x20, 0x80).put(16, nop.itt()).put(20, NONE))
    }

    /// A NOP-In that only tells numbers.
    fn numbers(&self) -> Pdu {
        let pdu = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
        self.windowed(pdu).put(24, self.stat_sn)
    }

    fn reject(&mut self, reason: u8, rejected: &Pdu) -> Pdu {
        let pdu = Pdu::new(0x3f, 0x80).byte(2, reason).put(16, NONE);
        self.status(pdu.with(&rejected.bhs))
    }

    /// The session asks what is lost after two looks; the NOP-Out.
    fn probed_once(&mut self) -> Pdu {
        let mut sent = Vec::new();
        for _ in 0..3 {
            self.wait(SECOND);
            sent = self.sent();
            if !sent.is_empty() {
                break;
            }
        }
        let [nop] = &sent[..] else {
            panic!("not one NOP-Out: {sent:?}")
        };
        nop.clone()
    }

    /// Time passes until the session asks what is lost; the NOP-Out.
    fn probed(&mut self) -> Pdu {
        self.wait(3 * SECOND);
        let sent = self.sent();
        let nop = sent.last().expect("a NOP-Out").clone();
        assert_eq!(nop.opcode(), NOP_OUT);
        assert_ne!(nop.itt(), NONE);
        assert!(nop.is_immediate());
        nop
    }
}

/// Everything but ExpStatSN is the same.
#[track_caller]
fn assert_same_request(one: &Pdu, other: &Pdu) {
    let (mut one, mut other) = (one.clone(), other.clone());
    one.bhs[28..32].fill(0);
    other.bhs[28..32].fill(0);
    assert_eq!(one.bhs, other.bhs);
    assert_eq!(one.data, other.data);
}

// ---- Data-In ----

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

// ---- DataACK ----

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

// ---- Resegmentation ----

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

// ---- Answers ----

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

// ---- Commands ----

#[test]
fn ffp_4_1_a_lost_command_is_sent_again_as_it_was() {
    let mut peer = plain();
    let key = peer.read(512);
    let lost = peer.one();
    let (later, ready) = (peer.submit(0, test_unit_ready()), peer.one());
    let nop = peer.probed();
    assert_eq!(nop.cmd_sn(), ready.cmd_sn().wrapping_add(1));
    // ExpCmdSN still names the first command, though the NOP-Out came behind it.
    assert_eq!(peer.exp_cmd_sn, lost.cmd_sn());
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    let again = peer.one();
    assert_same_request(&again, &lost);
    assert_eq!(again.exp_stat_sn(), peer.stat_sn);
    assert_eq!(peer.session.stats.retried, 1);
    // Now both are there, and the next one has a number of its own.
    peer.exp_cmd_sn = ready.cmd_sn().wrapping_add(1);
    let data = peer.data_in(lost.itt(), 0, 0, &pattern(512));
    let data = peer.last(data);
    let answer = peer.answer(ready.itt(), 0);
    peer.reply(&[data, answer]);
    assert_eq!(contents(peer.ended(key)), pattern(512));
    peer.good(later);
    let (_, next) = peer.sent_command(test_unit_ready());
    assert_eq!(next.cmd_sn(), ready.cmd_sn().wrapping_add(1));
    peer.assert_up();
}

#[test]
fn an_acknowledged_command_is_never_sent_again() {
    let mut peer = plain();
    let (key, _) = peer.sent_command(write(&pattern(512)));
    for _ in 0..10 {
        let nop = peer.probed();
        let answer = peer.nop_answer(&nop);
        peer.reply(&[answer]);
        assert!(peer.sent().iter().all(|pdu| pdu.opcode() == NOP_OUT));
    }
    assert_eq!(peer.session.stats.retried, 0);
    assert!(peer.done(key).is_none());
}

#[test]
fn a_command_is_not_retried_on_the_word_of_a_nop_that_was_sent_before_it() {
    let mut peer = plain();
    let (_, _) = peer.sent_command(test_unit_ready());
    let nop = peer.probed();
    // The new command and the answer cross each other.
    let key = peer.submit(0, test_unit_ready());
    let command = peer.one();
    assert_eq!(command.opcode(), COMMAND);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    peer.silent();
    assert!(peer.done(key).is_none());
}

#[test]
fn a_command_acknowledged_while_its_retry_waits_is_not_sent() {
    let mut peer = plain();
    peer.submit(0, test_unit_ready());
    let lost = peer.one();
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.exp_cmd_sn = lost.cmd_sn().wrapping_add(1);
    let news = peer.numbers();
    peer.reply(&[answer, news]);
    peer.silent();
}

/// A command is lost and aborted before that is noticed; another one is sent behind it.
fn aborted_unseen(mut peer: Peer) -> (Peer, TaskKey, Pdu) {
    let mut command = test_unit_ready();
    command.timeout = SECOND / 2;
    let aborted = peer.submit(0, command);
    let lost = peer.one();
    peer.wait(SECOND / 2);
    let abort = peer.one();
    assert_eq!((abort.bhs[0], abort.bhs[1]), (0x42, 0x81));
    let later = peer.submit(0, test_unit_ready());
    peer.one();
    let answer = peer.task_answer(abort.itt(), 0);
    peer.reply(&[answer]);
    assert_eq!(
        peer.failed(aborted),
        (DeliveryErrorKind::TimedOut, Certainty::Answered)
    );
    assert_eq!(peer.exp_cmd_sn, lost.cmd_sn());
    (peer, later, lost)
}

#[test]
fn a_hole_that_an_abort_has_left_ends_the_session() {
    ends_with_the_hole(plain());
}

#[test]
fn a_hole_ends_a_session_of_level_0_too() {
    ends_with_the_hole(Peer::ready());
}

fn ends_with_the_hole(peer: Peer) {
    let (mut peer, later, lost) = aborted_unseen(peer);
    for _ in 0..4 {
        if !matches!(peer.session.snapshot().phase, "logged in") {
            break;
        }
        peer.wait(SECOND);
        for nop in peer.sent() {
            let answer = peer.nop_answer(&nop);
            peer.reply(&[answer]);
        }
    }
    let cmd_sn = lost.cmd_sn();
    assert_eq!(peer.loss(), Some(LossReason::CmdSnHole { cmd_sn }));
    assert_eq!(
        peer.failed(later),
        (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer)
    );
}

#[test]
fn a_hole_that_an_abort_has_filled_without_saying_so_is_none() {
    let (mut peer, later, lost) = aborted_unseen(plain());
    let nop = peer.probed_once();
    peer.exp_cmd_sn = lost.cmd_sn().wrapping_add(2);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    for _ in 0..5 {
        peer.wait(SECOND);
        for nop in peer.sent() {
            let answer = peer.nop_answer(&nop);
            peer.reply(&[answer]);
        }
    }
    assert!(peer.done(later).is_none());
    peer.assert_up();
}

#[test]
fn a_retried_write_starts_its_unsolicited_data_again() {
    let mut peer = level_1(&[("InitialR2T", "No"), ("FirstBurstLength", "16384")]);
    let data = pattern(16384);
    peer.write(&data);
    let first = peer.sent();
    assert_eq!(first[0].opcode(), COMMAND);
    assert!(first.len() > 1 && first[1].opcode() == DATA_OUT);
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    let again = peer.sent();
    assert_eq!(again.len(), first.len());
    for (again, first) in again.iter().zip(&first) {
        assert_same_request(again, first);
    }
    // Once the target asks for data it has the command.
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    let answer = peer.answer(first[0].itt(), 0);
    peer.reply(&[answer]);
    peer.assert_up();
}

#[test]
fn a_command_is_sent_again_with_its_flags_whatever_was_set_since() {
    let mut peer = level_1(&[("InitialR2T", "No"), ("FirstBurstLength", "16384")]);
    peer.write(&pattern(16384));
    let first = peer.sent();
    assert!(!first[0].is_final() && !first[0].data.is_empty());
    for (key, value) in [("InitialR2T", "Yes"), ("ImmediateData", "No")] {
        let now = peer.now;
        let applied = peer.session.set(now, key, value);
        assert_eq!(applied, Ok(Applied::AtOnce), "{key}");
    }
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    let again = peer.sent();
    assert_eq!(again.len(), first.len());
    for (again, first) in again.iter().zip(&first) {
        assert_same_request(again, first);
    }
}

#[test]
fn a_command_that_never_arrives_ends_the_connection() {
    let mut peer = plain();
    let key = peer.submit(0, test_unit_ready());
    peer.one();
    let mut retries = 0;
    for _ in 0..6 {
        let nop = peer.probed();
        let answer = peer.nop_answer(&nop);
        peer.reply(&[answer]);
        retries += peer.sent().len();
    }
    assert_eq!(retries, 5);
    let what = "a command";
    assert_eq!(peer.loss(), Some(LossReason::NotRecovered { what }));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

// ---- Rejects ----

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

// ---- R2T ----

#[test]
fn a_lost_r2t_is_asked_for_and_one_that_comes_again_is_dropped() {
    let mut peer = plain();
    let data = pattern(16384);
    let (key, command) = peer.sent_command(write(&data));
    let itt = command.itt();
    let lost = peer.r2t(itt, 0x60, 0, 8192, 4096);
    let next = peer.r2t(itt, 0x61, 1, 12288, 4096);
    peer.reply(std::slice::from_ref(&next));
    let sent = peer.sent();
    let snack = sent.iter().find(|pdu| pdu.opcode() == SNACK).unwrap();
    assert_eq!(snack.bhs[1], 0x80 | DATA);
    assert_eq!((snack.itt(), snack.word(40), snack.word(44)), (itt, 0, 1));
    assert_eq!(
        sent.iter().filter(|pdu| pdu.opcode() == DATA_OUT).count(),
        1
    );
    peer.reply(&[next]);
    peer.silent();
    peer.reply(std::slice::from_ref(&lost));
    let out = peer.one();
    assert_eq!((out.word(20), out.word(40)), (0x60, 8192));
    peer.reply(&[lost]);
    peer.silent();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    assert_eq!(peer.session.stats.duplicates, 2);
}

#[test]
fn a_lost_r2t_is_not_asked_for_on_a_timer() {
    // RFC 7143 §7.1.4.1: the target has timers of its own. Data are asked for again.
    for reads in [false, true] {
        let mut peer = plain();
        let command = if reads {
            read(1024)
        } else {
            write(&pattern(16_384))
        };
        let (_, command) = peer.sent_command(command);
        let itt = command.itt();
        let second = if reads {
            peer.data_in(itt, 1, 512, &[1; 512])
        } else {
            peer.r2t(itt, 0x61, 1, 12_288, 4096)
        };
        peer.reply(&[second]);
        let snacks = |sent: Vec<Pdu>| sent.iter().filter(|pdu| pdu.opcode() == SNACK).count();
        assert_eq!(snacks(peer.sent()), 1);
        peer.wait(peer.session.config.recovery.again_after);
        assert_eq!(snacks(peer.sent()), usize::from(reads));
    }
}

// ---- Headers ----

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

// ---- What the load against the target found ----

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

#[test]
fn data_of_commands_sent_again_go_in_the_order_of_the_commands() {
    let mut peer = level_1(&[("InitialR2T", "No"), ("FirstBurstLength", "16384")]);
    let data = pattern(16384);
    let keys = [peer.write(&data), peer.write(&data), peer.write(&data)];
    let sent = peer.sent();
    let commands: Vec<Pdu> = sent
        .into_iter()
        .filter(|pdu| pdu.opcode() == COMMAND)
        .collect();
    assert_eq!(commands.len(), keys.len());
    let rejects = [peer.reject(2, &commands[0]), peer.reject(2, &commands[1])];
    peer.reply(&rejects);
    let sent = peer.sent();
    let order: Vec<_> = sent.iter().map(|pdu| (pdu.opcode(), pdu.itt())).collect();
    let [one, two] = [commands[0].itt(), commands[1].itt()];
    let expected = [
        (COMMAND, one),
        (COMMAND, two),
        (DATA_OUT, one),
        (DATA_OUT, two),
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_nop_from_before_a_retry_says_nothing_about_it() {
    let mut peer = plain();
    peer.write(&pattern(512));
    let lost = peer.one();
    let nop = peer.probed();
    let reject = peer.reject(2, &lost);
    peer.reply(&[reject]);
    assert_eq!(peer.one().opcode(), COMMAND);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    peer.silent();
}
