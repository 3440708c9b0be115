//! Data-In (RFC 7143 §11.7).

use super::*;

#[test]
fn ffp_10_1_status_in_the_last_data_in() {
    let mut peer = Peer::ready();
    let key = peer.read(1536);
    let itt = peer.one().itt();
    let data = pattern(1536);
    let first = peer.data_in(itt, 0, 0, &data[..1024]);
    let last = peer.data_in(itt, 1, 1024, &data[1024..]);
    let last = peer.last(last);
    peer.reply(&[first]);
    assert!(peer.done(key).is_none());
    peer.reply(&[last]);
    let completion = peer.ended(key);
    let Outcome::Answered(answer) = &completion.outcome else {
        panic!("{completion:?}")
    };
    assert_eq!(
        (answer.status, answer.transferred),
        (scsi::Status::GOOD, 1536)
    );
    assert_eq!(contents(completion), data);
    peer.assert_clean();
}

#[test]
fn status_in_a_response_of_its_own() {
    let mut peer = Peer::ready();
    let key = peer.read(512);
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512)).byte(1, 0x80);
    let answer = peer.answer(itt, 0).put(36, 1);
    peer.reply(&[data, answer]);
    assert_eq!(contents(peer.ended(key)), pattern(512));
}

#[test]
fn ffp_11_1_2_an_empty_data_in_is_legal() {
    let mut peer = Peer::ready();
    let key = peer.read(512);
    let itt = peer.one().itt();
    let empty = peer.data_in(itt, 0, 0, &[]);
    let data = peer.data_in(itt, 1, 0, &pattern(512));
    let last = peer.data_in(itt, 2, 512, &[]);
    let last = peer.last(last);
    peer.reply(&[empty, data, last]);
    assert_eq!(contents(peer.ended(key)), pattern(512));
    peer.assert_up();
}

#[test]
fn odd_lengths_are_padded_with_and_without_digests() {
    for digest in ["None", "CRC32C"] {
        let mut config = config();
        config.offer.set("HeaderDigest", digest).unwrap();
        config.offer.set("DataDigest", digest).unwrap();
        let answers = keys(&[("HeaderDigest", digest), ("DataDigest", digest)]);
        let mut peer = Peer::up(config, answers);
        let cdb = Cdb::inquiry(255);
        let key = peer.submit(0, command(cdb, DataPhase::Read(IoBuf::zeroed(255))));
        let itt = peer.one().itt();
        let first = peer.data_in(itt, 0, 0, &pattern(13));
        let last = peer.data_in(itt, 1, 13, &pattern(37)[13..]);
        let last = peer.last(last).byte(1, 0x83).put(44, 255 - 37);
        peer.reply(&[first, last]);
        let completion = peer.ended(key);
        let Outcome::Answered(answer) = &completion.outcome else {
            panic!("{completion:?}")
        };
        assert_eq!(answer.transferred, 37);
        assert_eq!(answer.residual, scsi::Residual::Underflow(218));
        assert_eq!(contents(completion)[..37], pattern(37));
    }
}

#[test]
fn wrong_digests_end_the_session_and_no_read() {
    for header in [true, false] {
        let mut config = config();
        config.offer.set("HeaderDigest", "CRC32C").unwrap();
        config.offer.set("DataDigest", "CRC32C").unwrap();
        let answers = keys(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]);
        let mut peer = Peer::up(config, answers);
        let key = peer.read(512);
        let itt = peer.one().itt();
        let data = peer.data_in(itt, 0, 0, &pattern(512));
        let pdu = peer.last(data);
        let mut bytes = pdu.bhs.to_vec();
        bytes.extend(crc32c(&pdu.bhs));
        bytes.extend(&pdu.data);
        bytes.extend(crc32c(&pdu.data));
        // One bit of the status, or of the payload.
        bytes[if header { 3 } else { 300 }] ^= 1;
        peer.receive(&bytes);
        let loss = peer.loss();
        assert!(
            matches!(loss, Some(LossReason::Protocol(ProtocolError::Frame(_)))),
            "{loss:?}"
        );
        assert_eq!(peer.closed, [true]);
        assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
        assert_eq!(peer.session.snapshot().stats.digest_errors, 1);
    }
}

/// A read of 1,024 bytes that gets these Data-Ins; why the session was lost.
fn fate(pdus: &[(u32, u32, usize)]) -> Option<LossReason> {
    let mut peer = Peer::ready();
    let key = peer.read(1024);
    let itt = peer.one().itt();
    for &(sn, offset, bytes) in pdus {
        let pdu = peer.data_in(itt, sn, offset, &pattern(bytes));
        peer.reply(&[pdu]);
    }
    if peer.session.in_flight() == 0 {
        // The memory came back whatever happened.
        assert_eq!(contents(peer.ended(key)).len(), 1024);
    }
    peer.loss()
}

#[test]
fn data_in_is_held_to_the_buffer() {
    for (offset, bytes) in [
        (0, 1028),
        (1020, 8),
        (1024, 1),
        (u32::MAX, 4),
        (u32::MAX - 2, 4),
    ] {
        let expected = ProtocolError::DataInOutOfBounds {
            offset,
            bytes: u32::try_from(bytes).unwrap(),
        };
        assert_eq!(
            fate(&[(0, offset, bytes)]),
            Some(LossReason::Protocol(expected))
        );
    }
}

#[test]
fn a_gap_in_data_sn_is_noticed() {
    let gap = |expected, actual| {
        Some(LossReason::Protocol(ProtocolError::DataSnGap {
            expected,
            actual,
        }))
    };
    assert_eq!(fate(&[(1, 0, 512)]), gap(0, 1));
    assert_eq!(fate(&[(0, 0, 512), (2, 512, 512)]), gap(1, 2));
    assert_eq!(fate(&[(0, 0, 512), (0, 512, 512)]), gap(1, 0));
    assert_eq!(fate(&[(0, 0, 512), (1, 512, 512)]), None);
}

#[test]
fn holes_and_overlaps_are_refused_in_order() {
    assert!(fate(&[(0, 512, 512)]).is_some());
    assert!(fate(&[(0, 0, 512), (1, 256, 512)]).is_some());
    assert!(fate(&[(0, 0, 512), (1, 0, 512)]).is_some());
}

#[test]
fn data_in_any_order_when_that_was_negotiated() {
    let mut config = config();
    config.offer.set("DataPDUInOrder", "No").unwrap();
    config.offer.set("DataSequenceInOrder", "No").unwrap();
    let answers = keys(&[("DataPDUInOrder", "No"), ("DataSequenceInOrder", "No")]);
    let mut peer = Peer::up(config, answers);
    let key = peer.read(2048);
    let itt = peer.one().itt();
    let data = pattern(2048);
    for (sn, part) in [3_usize, 0, 2, 1].into_iter().enumerate() {
        let from = part * 512;
        let pdu = peer.data_in(itt, sn as u32, from as u32, &data[from..from + 512]);
        peer.reply(&[pdu]);
    }
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    assert_eq!(contents(peer.ended(key)), data);

    // The same bytes twice are refused all the same: they would hide a hole.
    let key = peer.read(1024);
    let itt = peer.one().itt();
    let one = peer.data_in(itt, 0, 512, &data[..512]);
    let two = peer.data_in(itt, 1, 512, &data[..512]);
    peer.reply(&[one, two]);
    assert!(peer.loss().is_some());
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn good_with_missing_data_is_not_believed() {
    let mut peer = Peer::ready();
    let key = peer.read(1024);
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    let last = peer.last(data);
    peer.reply(&[last]);
    let missing = ProtocolError::MissingData {
        expected: 1024,
        actual: 512,
    };
    assert_eq!(peer.loss(), Some(LossReason::Protocol(missing)));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn an_underflow_says_how_much_is_valid() {
    let mut peer = Peer::ready();
    let key = peer.read(1024);
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    let last = peer.last(data).byte(1, 0x83).put(44, 512);
    peer.reply(&[last]);
    let answer = peer.answered(key);
    assert_eq!(answer.transferred, 512);
    assert_eq!(answer.residual, scsi::Residual::Underflow(512));
    peer.assert_up();
}

#[test]
fn a_residual_beyond_the_transfer_fails_the_command_alone() {
    let mut peer = Peer::ready();
    let key = peer.read(1024);
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 0).byte(1, 0x82).put(44, 1025);
    peer.reply(&[answer]);
    let failure = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
    assert_eq!(peer.failed(key), failure);
    peer.assert_up();
    peer.assert_clean();
}

#[test]
fn a_check_condition_in_the_middle_says_how_much_came() {
    let mut peer = Peer::ready();
    let key = peer.read(1024);
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    let answer = peer.answer(itt, 2).byte(1, 0x82).put(44, 512);
    peer.reply(&[data, answer]);
    assert_eq!(peer.answered(key).transferred, 512);
}

#[test]
fn data_for_a_command_that_reads_nothing_ends_the_session() {
    let mut peer = Peer::ready();
    let key = peer.write(&pattern(512));
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    peer.reply(&[data]);
    let unexpected = LossReason::Protocol(ProtocolError::UnexpectedDataIn);
    assert_eq!(peer.loss(), Some(unexpected));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn data_after_the_status_touch_nobody() {
    let mut peer = Peer::ready();
    let key = peer.read(512);
    let itt = peer.one().itt();
    let answer = peer.answer(itt, 2);
    let late = peer.data_in(itt, 0, 0, &pattern(512));
    peer.reply(&[answer, late]);
    assert_eq!(contents(peer.ended(key)), vec![0; 512]);
    let again = peer.read(512);
    peer.one();
    let late = peer.data_in(itt, 0, 0, &pattern(512));
    peer.reply(&[late]);
    assert!(peer.done(again).is_none());
    assert_eq!(peer.session.snapshot().stats.late_answers, 2);
    peer.assert_up();
}

#[test]
fn a_segment_longer_than_declared_is_refused() {
    let mut peer = Peer::ready();
    let key = peer.read(1 << 20);
    let itt = peer.one().itt();
    let mut pdu = peer.data_in(itt, 0, 0, &[]);
    // 256 KiB is what the default offer declares.
    pdu.bhs[5..8].copy_from_slice(&[4, 0, 1]);
    peer.reply(&[pdu]);
    let loss = peer.loss();
    assert!(matches!(
        loss,
        Some(LossReason::Protocol(ProtocolError::Frame(
            crate::wire::receiver::FrameError::DataTooLong { .. }
        )))
    ));
    assert_eq!(contents(peer.ended(key)).len(), 1 << 20);
}

#[test]
fn the_memory_comes_back_when_the_connection_breaks_in_the_middle_of_a_payload() {
    let mut peer = Peer::ready();
    let key = peer.read(4096);
    let itt = peer.one().itt();
    let pdu = peer.data_in(itt, 0, 0, &pattern(4096));
    let bytes = [&pdu.bhs[..], &pdu.data[..1000]].concat();
    peer.receive(&bytes);
    assert!(peer.done(key).is_none());
    peer.cut();
    let completion = peer.ended(key);
    assert_eq!(contents(completion).len(), 4096);
    peer.assert_clean();
}

#[test]
fn a_read_given_up_in_the_middle_of_a_payload_keeps_its_memory_until_the_answer() {
    let mut peer = Peer::ready();
    let key = peer.read(4096);
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(4096));
    let pdu = peer.last(data);
    let bytes = [&pdu.bhs[..], &pdu.data].concat();
    peer.receive(&bytes[..1000]);
    peer.session.abandon(peer.now, key);
    let abort = peer.one();
    assert_eq!(abort.opcode(), TASK_REQUEST);
    peer.receive(&bytes[1000..]);
    assert_eq!(peer.session.in_flight(), 0);
    assert_eq!(peer.session.take_freed(), 0, "the tag is in quarantine");
    let answer = peer.task_answer(abort.itt(), 1);
    peer.reply(&[answer]);
    assert_eq!(peer.session.take_freed(), 1);
    peer.assert_clean();
    peer.assert_up();
}
