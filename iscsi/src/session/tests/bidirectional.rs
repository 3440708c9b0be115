//! Bidirectional commands, extended CDBs and residuals (RFC 7143 §4.2.2.4, §11.2.2, §11.3.4,
//! §11.4.5, §11.4.6, §11.7.3).

use super::*;
use scsi::{Bidirectional, ReadPart, Residual, ScsiAnswer};

/// XDWRITEREAD (32) or the like: an extended CDB that moves data both ways.
fn both(out: usize, into: usize) -> Command {
    let cdb: Vec<u8> = [0x7f].into_iter().chain(1..32).collect();
    let data = DataPhase::Bidirectional(Box::new(Bidirectional {
        write: Bytes::from(pattern(out)),
        read: IoBuf::zeroed(into),
    }));
    command(Cdb::from_slice(&cdb).unwrap(), data)
}

/// A SCSI Response with flags (o = 0x10, u = 0x08, O = 0x04, U = 0x02) and both residual counts.
fn response(peer: &mut Peer, itt: u32, flags: u8, read: u32, main: u32) -> Pdu {
    let pdu = Pdu::new(0x21, 0x80 | flags).put(16, itt);
    peer.status(pdu.put(40, read).put(44, main))
}

fn read_back(completion: Completion) -> Vec<u8> {
    match completion.data {
        DataPhase::Bidirectional(both) => both.read.as_slice().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn answer_of(completion: &Completion) -> ScsiAnswer {
    match &completion.outcome {
        Outcome::Answered(answer) => answer.clone(),
        Outcome::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn a_bidirectional_command_byte_by_byte() {
    let mut peer = Peer::ready();
    peer.submit(3, both(512, 1024));
    let pdu = peer.one();
    assert_eq!(pdu.bhs[1], 0x80 | 0x40 | 0x20 | 1, "F, R, W, simple");
    assert_eq!(pdu.word(20), 512, "of the write");
    assert_eq!(pdu.bhs[4], 7, "TotalAHSLength in words");
    let expected: Vec<u8> = [0, 17, 1, 0]
        .into_iter()
        .chain(16..32)
        .chain([0, 5, 2, 0, 0, 0, 4, 0])
        .collect();
    assert_eq!(pdu.ahs, expected);
    assert_eq!(pdu.bhs[32..48], {
        let head: Vec<u8> = [0x7f].into_iter().chain(1..16).collect();
        head
    });
    assert_eq!(pdu.data, pattern(512), "immediate");
}

#[test]
fn data_go_both_ways_under_one_sequence_of_numbers() {
    let mut peer = Peer::ready();
    let key = peer.submit(3, both(16_384, 8192));
    let itt = peer.one().itt();
    // Immediate data: 8192. R2T and Data-In share the sequence.
    let first = peer.data_in(itt, 0, 0, &pattern(4096));
    let r2t = peer.r2t(itt, 5, 1, 8192, 8192);
    let last = peer.data_in(itt, 2, 4096, &pattern(4096)).byte(1, 0x80);
    peer.reply(&[first, r2t, last]);
    let data = peer.one();
    assert_eq!(
        (data.opcode(), data.word(20), data.word(40)),
        (DATA_OUT, 5, 8192)
    );
    assert_eq!(data.data, pattern(16_384)[8192..]);
    let answer = response(&mut peer, itt, 0, 0, 0);
    peer.reply(&[answer]);
    let completion = peer.ended(key);
    let answer = answer_of(&completion);
    assert_eq!(
        (answer.residual, answer.transferred),
        (Residual::None, 16_384)
    );
    let read = ReadPart {
        residual: Residual::None,
        transferred: 8192,
    };
    assert_eq!(answer.read_part.as_deref(), Some(&read));
    let expected = [pattern(4096), pattern(4096)].concat();
    assert_eq!(read_back(completion), expected);
    peer.assert_up();
    peer.assert_clean();
}

#[test]
fn a_number_used_twice_across_both_directions_is_a_gap() {
    let mut peer = Peer::ready();
    peer.submit(3, both(16_384, 8192));
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(4096));
    let r2t = peer.r2t(itt, 5, 0, 8192, 8192);
    peer.reply(&[data, r2t]);
    assert!(matches!(
        peer.loss(),
        Some(LossReason::Protocol(ProtocolError::R2tSnGap {
            expected: 1,
            actual: 0
        }))
    ));
}

#[test]
fn the_status_of_a_bidirectional_command_does_not_travel_with_data() {
    let mut peer = Peer::ready();
    let key = peer.submit(3, both(512, 512));
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    let data = peer.last(data);
    peer.reply(&[data]);
    let reason = ProtocolError::StatusInDataIn;
    assert_eq!(peer.loss(), Some(LossReason::Protocol(reason)));
    assert!(matches!(peer.ended(key).data, DataPhase::Bidirectional(_)));
}

#[test]
fn residuals_of_both_directions() {
    for (flags, read, main, expected_read, expected_main) in [
        (0x08, 100, 0, Residual::Underflow(100), Residual::None),
        (0x10, 100, 0, Residual::Overflow(100), Residual::None),
        (0x02, 0, 200, Residual::None, Residual::Underflow(200)),
        (0x04, 0, 200, Residual::None, Residual::Overflow(200)),
        (0x12, 7, 8, Residual::Overflow(7), Residual::Underflow(8)),
        (0x0c, 7, 8, Residual::Underflow(7), Residual::Overflow(8)),
    ] {
        let mut peer = Peer::ready();
        let key = peer.submit(3, both(512, 512));
        let itt = peer.one().itt();
        let missing = if let Residual::Underflow(count) = expected_read {
            count as usize
        } else {
            0
        };
        let data = peer.data_in(itt, 0, 0, &pattern(512 - missing));
        let answer = response(&mut peer, itt, flags, read, main);
        peer.reply(&[data, answer]);
        let answer = peer.answered(key);
        assert_eq!(answer.residual, expected_main, "{flags:#x}");
        let part = answer.read_part.unwrap();
        assert_eq!(part.residual, expected_read, "{flags:#x}");
        assert_eq!(part.transferred, 512 - missing);
        peer.assert_up();
    }
}

#[test]
fn good_without_all_data_read_is_not_believed() {
    let mut peer = Peer::ready();
    peer.submit(3, both(512, 1024));
    let itt = peer.one().itt();
    let data = peer.data_in(itt, 0, 0, &pattern(512));
    let answer = response(&mut peer, itt, 0, 0, 0);
    peer.reply(&[data, answer]);
    let (expected, actual) = (1024, 512);
    let missing = ProtocolError::MissingData { expected, actual };
    assert_eq!(peer.loss(), Some(LossReason::Protocol(missing)));
}

#[test]
fn an_underflow_beyond_what_was_expected_fails_the_command() {
    let mut peer = Peer::ready();
    let key = peer.submit(3, both(512, 1024));
    let itt = peer.one().itt();
    let answer = response(&mut peer, itt, 0x08, 1025, 0);
    peer.reply(&[answer]);
    let failed = (DeliveryErrorKind::TargetFailure, Certainty::Answered);
    assert_eq!(peer.failed(key), failed);
}

#[test]
fn a_command_with_nothing_in_one_direction_is_not_bidirectional() {
    let mut peer = Peer::ready();
    for (out, into) in [(0, 512), (512, 0)] {
        let now = peer.now;
        let refused = peer.session.submit(now, Lun::ZERO, both(out, into));
        let outcome = refused.unwrap_err().outcome;
        let Outcome::Failed(error) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(error.kind, DeliveryErrorKind::Unsupported);
        assert_eq!(error.certainty, Certainty::NotSent);
    }
    peer.silent();
}

#[test]
fn residuals_of_one_direction() {
    // A read, a write and a command without data, each with overflow and underflow.
    let commands: [fn() -> Command; 3] = [|| read(512), || write(&pattern(512)), test_unit_ready];
    for (at, make) in commands.into_iter().enumerate() {
        for (flags, count, expected) in [
            (0x04, 9, Residual::Overflow(9)),
            (0x02, 512, Residual::Underflow(512)),
            // Without a bit the count means nothing.
            (0x00, 9, Residual::None),
        ] {
            if at == 2 && flags == 0x02 || at < 2 && flags == 0 {
                continue;
            }
            let mut peer = Peer::ready();
            let key = peer.submit(0, make());
            let itt = peer.one().itt();
            if at == 0 && flags == 0x04 {
                let data = peer.data_in(itt, 0, 0, &pattern(512));
                peer.reply(&[data]);
            }
            let answer = response(&mut peer, itt, flags, 0, count);
            peer.reply(&[answer]);
            let answer = peer.answered(key);
            assert_eq!(answer.residual, expected, "{at} {flags:#x}");
            assert_eq!(answer.read_part, None);
            let moved = if at < 2 && flags == 0x04 { 512 } else { 0 };
            assert_eq!(answer.transferred, moved);
            peer.assert_up();
        }
    }
}
