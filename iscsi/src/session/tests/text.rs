//! Text exchanges and parameters in full feature phase (RFC 7143 §6.4, §7.12, §11.10, §11.11, §13).

use super::*;
use crate::text::exchange::TextFault;
use crate::text::{NegotiationError, OfferError, Pair};

fn quiet() -> SessionConfig {
    let mut config = config();
    config.keepalive.interval = Duration::from_secs(10_000);
    config
}

fn ready() -> Peer {
    Peer::up(quiet(), keys(&[]))
}

fn set(peer: &mut Peer, key: &str, value: &str) -> Result<Applied, SetError> {
    let now = peer.now;
    peer.session.set(now, key, value)
}

/// Sets a key that needs a Text Request.
fn declare(peer: &mut Peer, bytes: &str) -> TextKey {
    match set(peer, "MaxRecvDataSegmentLength", bytes) {
        Ok(Applied::Renegotiating(key)) => key,
        other => panic!("{other:?}"),
    }
}

fn outcome(peer: &mut Peer, key: TextKey) -> Option<Result<TextOutcome, TextExchangeError>> {
    match peer.session.poll_text(key, Waker::noop()) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

fn done() -> Option<Result<TextOutcome, TextExchangeError>> {
    Some(Ok(TextOutcome::Done(Vec::new())))
}

/// A Text Response; `flags`: F = 0x80, C = 0x40.
fn response(peer: &mut Peer, flags: u8, itt: u32, ttt: u32, text: &[u8]) -> Pdu {
    let mut pdu = Pdu::new(0x24, flags).put(16, itt).put(20, ttt).with(text);
    if ttt != NONE {
        pdu = pdu.byte(9, 5);
    }
    peer.status(pdu)
}

/// Answers a text request for good.
fn finish(peer: &mut Peer, request: &Pdu, text: &[u8]) {
    let answer = response(peer, 0x80, request.itt(), NONE, text);
    peer.reply(&[answer]);
}

#[test]
fn ffp_18_1_a_text_request_byte_by_byte() {
    let mut peer = ready();
    let key = declare(&mut peer, "65536");
    let request = peer.one();
    let mut expected = [0; 48];
    expected[0] = 0x04;
    expected[1] = 0x80;
    expected[7] = 31;
    expected[16..20].copy_from_slice(&request.bhs[16..20]);
    expected[20..24].copy_from_slice(&[0xff; 4]);
    expected[24..28].copy_from_slice(&0x1111_1111_u32.to_be_bytes());
    expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
    assert_eq!(request.bhs, expected);
    assert_eq!(request.data, b"MaxRecvDataSegmentLength=65536\0");
    // It has used up a CmdSN.
    peer.submit(0, test_unit_ready());
    assert_eq!(peer.one().cmd_sn(), 0x1111_1112);
    assert_eq!(outcome(&mut peer, key), None);
    finish(&mut peer, &request, b"");
    assert_eq!(outcome(&mut peer, key), done());
}

#[test]
fn both_sides_declare_a_new_segment_length_and_it_counts_at_the_end() {
    let mut peer = ready();
    let writing = peer.write(&pattern(16_384));
    let itt = peer.one().itt();
    let key = declare(&mut peer, "16384");
    let request = peer.one();
    assert_eq!(
        peer.session.snapshot().connection.max_recv_bytes,
        262_144,
        "not yet"
    );
    let answer = response(
        &mut peer,
        0,
        request.itt(),
        9,
        b"MaxRecvDataSegmentLength=4096\0",
    );
    peer.reply(&[answer]);
    assert_eq!(
        peer.session.snapshot().connection.max_send_bytes,
        8192,
        "not yet"
    );
    let more = peer.one();
    assert_eq!((more.opcode(), more.data.len()), (TEXT, 0));
    finish(&mut peer, &more, b"");
    assert_eq!(outcome(&mut peer, key), done());
    let snapshot = peer.session.snapshot();
    assert_eq!(snapshot.connection.max_recv_bytes, 16_384);
    assert_eq!(snapshot.connection.max_send_bytes, 4096);
    let row = snapshot
        .keys
        .iter()
        .find(|row| row.key == "MaxRecvDataSegmentLength")
        .unwrap();
    assert_eq!(row.requested.as_deref(), Some("16384"));
    assert_eq!(row.answered.as_deref(), Some("4096"));
    assert_eq!(row.result, "receive 16384, send 4096");
    // Data-Out are cut to the target's new length.
    let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
    peer.reply(&[r2t]);
    let lengths: Vec<usize> = peer.sent().iter().map(|pdu| pdu.data.len()).collect();
    assert_eq!(lengths, [4096, 4096]);
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(writing);
    // The receiver takes our new length, and no more.
    let reading = peer.read(32_768);
    let itt = peer.one().itt();
    let fits = peer.data_in(itt, 0, 0, &pattern(16_384));
    peer.reply(&[fits]);
    peer.assert_up();
    let too_long = peer.data_in(itt, 1, 16_384, &pattern(16_384 - 4 + 512));
    peer.reply(&[too_long]);
    assert!(matches!(peer.loss(), Some(LossReason::Protocol(_))));
    assert!(peer.done(reading).is_some());
    // The next login declares it from the start.
    peer.wait(Duration::from_secs(1));
    peer.connected();
    peer.one();
}

#[test]
fn ffp_18_2_one_tag_and_empty_requests_while_the_answer_continues() {
    let mut peer = ready();
    let key = peer.session.ask_targets(peer.now, None).unwrap();
    let first = peer.one();
    assert_eq!(first.data, b"SendTargets=\0");
    let answer = response(
        &mut peer,
        0x40,
        first.itt(),
        0x1234,
        b"TargetName=iqn.2024-01.test:disk1\0Tar",
    );
    peer.reply(&[answer]);
    let second = peer.one();
    assert_eq!((second.opcode(), second.bhs[1]), (TEXT, 0x80));
    assert_eq!((second.itt(), second.word(20)), (first.itt(), 0x1234));
    assert_eq!(second.lun()[1], 5, "copied like the tag");
    assert!(second.data.is_empty());
    assert_eq!(second.is_immediate(), first.is_immediate());
    assert_eq!(second.cmd_sn(), first.cmd_sn() + 1);
    finish(&mut peer, &second, b"getAddress=10.0.0.1:3260,1\0");
    let pairs = vec![
        Pair::new("TargetName", "iqn.2024-01.test:disk1"),
        Pair::new("TargetAddress", "10.0.0.1:3260,1"),
    ];
    assert_eq!(outcome(&mut peer, key), Some(Ok(TextOutcome::Done(pairs))));
}

#[test]
fn ffp_18_3_1_the_tag_of_a_final_response_is_ignored() {
    let mut peer = ready();
    let key = declare(&mut peer, "65536");
    let request = peer.one();
    let answer = response(&mut peer, 0x80, request.itt(), 7, b"");
    peer.reply(&[answer]);
    // RFC 7143 §11.10.4: the exchange is over as if the tag were not there.
    assert_eq!(outcome(&mut peer, key), done());
    peer.assert_up();
    declare(&mut peer, "32768");
    assert_eq!(peer.one().word(20), NONE, "the next one begins anew");
}

#[test]
fn ffp_18_3_2_a_response_that_goes_on_without_a_tag_is_a_format_error() {
    let mut peer = ready();
    declare(&mut peer, "65536");
    let request = peer.one();
    let answer = response(&mut peer, 0, request.itt(), NONE, b"");
    peer.reply(&[answer]);
    assert!(matches!(
        peer.loss(),
        Some(LossReason::Protocol(ProtocolError::Frame(_)))
    ));
}

#[test]
fn ffp_18_4_a_target_s_other_keys_get_their_answers() {
    let mut peer = ready();
    let key = declare(&mut peer, "65536");
    let request = peer.one();
    let text = b"MaxBurstLength=512\0X-com.example.speed=9\0TargetAlias=me\0";
    let answer = response(&mut peer, 0, request.itt(), 9, text);
    peer.reply(&[answer]);
    let more = peer.one();
    assert_eq!(
        more.data,
        b"MaxBurstLength=Reject\0X-com.example.speed=NotUnderstood\0"
    );
    finish(&mut peer, &more, b"");
    assert_eq!(outcome(&mut peer, key), done());
    let snapshot = peer.session.snapshot();
    assert_eq!(snapshot.session.max_burst_bytes, 16_384);
    assert_eq!(snapshot.session.target_alias.as_deref(), Some("me"));
}

#[test]
fn ffp_18_5_a_key_that_comes_twice_resets_the_negotiation() {
    let mut peer = ready();
    let key = declare(&mut peer, "65536");
    let request = peer.one();
    let text = b"TargetAlias=a\0TargetAlias=b\0";
    let answer = response(&mut peer, 0, request.itt(), 9, text);
    peer.reply(&[answer]);
    let reset = peer.one();
    assert_eq!((reset.opcode(), reset.bhs[1]), (TEXT, 0x80));
    assert_eq!(
        (reset.itt(), reset.word(20)),
        (request.itt(), NONE),
        "a reset"
    );
    assert_eq!(reset.lun(), [0; 8]);
    finish(&mut peer, &reset, b"");
    let failed = outcome(&mut peer, key).unwrap().unwrap_err();
    let repeated = NegotiationError::Repeated {
        key: "TargetAlias".into(),
    };
    assert_eq!(failed, TextExchangeError::Negotiation(repeated));
    assert_eq!(peer.session.snapshot().connection.max_recv_bytes, 262_144);
    peer.assert_up();
    // The connection can be negotiated on again.
    let key = declare(&mut peer, "32768");
    let request = peer.one();
    finish(&mut peer, &request, b"");
    assert_eq!(outcome(&mut peer, key), done());
}

#[test]
fn a_reject_ends_the_negotiation_and_nothing_else() {
    // The last one was Negotiation Reset in RFC 3720: a failure like others (§11.17.1, §7.12).
    for code in [0x05, 0x0a, 0x0b] {
        let mut peer = ready();
        let key = declare(&mut peer, "65536");
        let request = peer.one();
        let reject = Pdu::new(0x3f, 0x80).byte(2, code).put(16, NONE);
        let reject = peer.status(reject.with(&request.bhs));
        peer.reply(&[reject]);
        let failed = outcome(&mut peer, key).unwrap().unwrap_err();
        assert!(
            matches!(failed, TextExchangeError::Rejected { reason, .. } if reason == code),
            "{failed}"
        );
        assert_eq!(peer.session.snapshot().connection.max_recv_bytes, 262_144);
        peer.assert_up();
    }
}

#[test]
fn the_number_of_a_rejected_text_request_is_made_up_for() {
    for taken in [false, true] {
        let mut peer = ready();
        declare(&mut peer, "65536");
        let request = peer.one();
        let key = peer.submit(0, test_unit_ready());
        let command = peer.one();
        if taken {
            // The target has counted it, although it did not have to (RFC 7143 §7.3).
            peer.exp_cmd_sn = command.cmd_sn();
        }
        let reject = Pdu::new(0x3f, 0x80).byte(2, 4).put(16, NONE);
        let reject = peer.status(reject.with(&request.bhs));
        peer.reply(&[reject]);
        if taken {
            peer.silent();
        } else {
            let nop = peer.one();
            assert_eq!((nop.bhs[0], nop.data.len()), (NOP_OUT, 0));
            assert_eq!(nop.cmd_sn(), request.cmd_sn());
            assert_ne!(nop.itt(), NONE, "it is a request");
            assert_eq!(nop.word(20), NONE);
            let answer = Pdu::new(0x20, 0x80).put(16, nop.itt()).put(20, NONE);
            let answer = peer.status(answer);
            peer.reply(&[answer]);
        }
        let answer = peer.answer(command.itt(), 0);
        peer.reply(&[answer]);
        peer.good(key);
        peer.assert_up();
    }
}

#[test]
fn a_proposal_in_the_last_response_is_a_protocol_error() {
    let mut peer = ready();
    declare(&mut peer, "65536");
    let request = peer.one();
    finish(&mut peer, &request, b"MaxBurstLength=512\0");
    let key = "MaxBurstLength".to_owned();
    let fault = ProtocolError::Text(TextFault::ProposalInFinal { key });
    assert_eq!(peer.loss(), Some(LossReason::Protocol(fault)));
}

#[test]
fn one_request_at_a_time_and_a_long_one_in_parts() {
    let mut peer = Peer::up(quiet(), keys(&[("MaxRecvDataSegmentLength", "512")]));
    let alias = "a".repeat(255);
    let now = peer.now;
    let first = peer.session.set(now, "InitiatorAlias", &alias).unwrap();
    let second = peer.session.set(now, "InitiatorAlias", "b").unwrap();
    let (Applied::Renegotiating(first), Applied::Renegotiating(second)) = (first, second) else {
        panic!("{first:?}, {second:?}");
    };
    let request = peer.one();
    assert_eq!(request.data.len(), 15 + 255 + 1);
    finish(&mut peer, &request, b"");
    assert_eq!(outcome(&mut peer, first), done());
    let request = peer.one();
    assert_eq!(request.data, b"InitiatorAlias=b\0");
    finish(&mut peer, &request, b"");
    assert_eq!(outcome(&mut peer, second), done());
}

#[test]
fn a_closed_window_holds_a_text_request_back() {
    let mut peer = Peer::new(quiet());
    peer.window = 0;
    peer.login();
    let key = declare(&mut peer, "65536");
    peer.silent();
    peer.max_cmd_sn = peer.max_cmd_sn.wrapping_add(1);
    let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
    let nop = peer.windowed(nop).put(24, peer.stat_sn);
    peer.reply(&[nop]);
    let request = peer.one();
    finish(&mut peer, &request, b"");
    assert_eq!(outcome(&mut peer, key), done());
}

#[test]
fn a_target_that_does_not_answer_text_keeps_its_session() {
    let mut peer = ready();
    let key = declare(&mut peer, "65536");
    let request = peer.one();
    peer.wait(Duration::from_millis(9_999));
    assert_eq!(outcome(&mut peer, key), None);
    peer.wait(Duration::from_millis(1));
    assert_eq!(
        outcome(&mut peer, key),
        Some(Err(TextExchangeError::NoAnswer))
    );
    // It is not asked again: its late answer could not be told from another's.
    let key = declare(&mut peer, "32768");
    assert_eq!(
        outcome(&mut peer, key),
        Some(Err(TextExchangeError::NoAnswer))
    );
    peer.silent();
    finish(&mut peer, &request, b"");
    peer.assert_up();
    assert_eq!(peer.session.snapshot().connection.max_recv_bytes, 262_144);
}

#[test]
fn an_answer_to_nothing_is_a_protocol_error() {
    let mut peer = ready();
    let stray = response(&mut peer, 0x80, 0x0001_8000, NONE, b"");
    peer.reply(&[stray]);
    assert!(matches!(
        peer.loss(),
        Some(LossReason::Protocol(ProtocolError::UnknownTask { .. }))
    ));
}

#[test]
fn a_lost_connection_leaves_it_to_the_next_login() {
    let mut peer = ready();
    let key = declare(&mut peer, "65536");
    let targets = peer.session.ask_targets(peer.now, None).unwrap();
    peer.one();
    peer.cut();
    assert_eq!(outcome(&mut peer, key), Some(Ok(TextOutcome::NextLogin)));
    assert_eq!(
        outcome(&mut peer, targets),
        Some(Err(TextExchangeError::Down))
    );
    assert_eq!(
        set(&mut peer, "MaxBurstLength", "65536"),
        Ok(Applied::NextLogin)
    );
    peer.wait(Duration::from_secs(1));
    peer.connected();
    let request = peer.one();
    let answer = peer.login_answer(&request);
    peer.reply(&[answer]);
    let offer = String::from_utf8(peer.one().data).unwrap();
    assert!(
        offer.contains("MaxRecvDataSegmentLength=65536\0"),
        "{offer}"
    );
    assert!(offer.contains("MaxBurstLength=65536\0"), "{offer}");
}

#[test]
fn ffp_20_4_a_request_to_negotiate_is_met_at_once() {
    let mut peer = ready();
    let message = peer.async_message(4, [0, 0, 3]);
    peer.reply(&[message]);
    let request = peer.one();
    assert_eq!(
        (request.bhs[0], request.bhs[1]),
        (0x44, 0x80),
        "immediate: in time whatever the window"
    );
    assert_eq!((request.word(20), request.data.len()), (NONE, 0));
    let text = b"MaxRecvDataSegmentLength=1024\0";
    let answer = response(&mut peer, 0, request.itt(), 9, text);
    peer.reply(&[answer]);
    let more = peer.one();
    assert!(more.is_immediate());
    // Asked again meanwhile: one is pending.
    let message = peer.async_message(4, [0, 0, 3]);
    peer.reply(&[message]);
    peer.silent();
    finish(&mut peer, &more, b"");
    assert_eq!(peer.session.snapshot().connection.max_send_bytes, 1024);
    peer.assert_up();
}

#[test]
fn ffp_20_4_a_target_that_leaves_text_unanswered_is_logged_out_instead() {
    let mut peer = ready();
    let message = peer.async_message(4, [0, 0, 3]);
    peer.reply(&[message]);
    peer.one();
    peer.wait(Duration::from_secs(10));
    peer.assert_up();
    let message = peer.async_message(4, [0, 0, 3]);
    peer.reply(&[message]);
    assert_eq!(peer.one().opcode(), LOGOUT);
}

#[test]
fn what_only_restricts_this_side_counts_at_once() {
    let negotiated = keys(&[("InitialR2T", "No"), ("DefaultTime2Wait", "2")]);
    let mut peer = Peer::up(quiet(), negotiated);
    let shape = |peer: &mut Peer| {
        peer.write(&pattern(4096));
        let sent = peer.sent();
        (sent[0].is_final(), sent[0].data.len(), sent.len())
    };
    assert_eq!(shape(&mut peer), (true, 4096, 1));
    assert_eq!(set(&mut peer, "ImmediateData", "No"), Ok(Applied::AtOnce));
    assert_eq!(shape(&mut peer), (false, 0, 2));
    assert_eq!(set(&mut peer, "InitialR2T", "Yes"), Ok(Applied::AtOnce));
    assert_eq!(shape(&mut peer), (true, 0, 1));
    assert_eq!(set(&mut peer, "ImmediateData", "Yes"), Ok(Applied::AtOnce));
    assert_eq!(set(&mut peer, "InitialR2T", "No"), Ok(Applied::AtOnce));
    assert_eq!(shape(&mut peer), (true, 4096, 1));
    assert_eq!(set(&mut peer, "DefaultTime2Wait", "5"), Ok(Applied::AtOnce));
    assert_eq!(
        set(&mut peer, "DefaultTime2Wait", "1"),
        Ok(Applied::NextLogin)
    );
    peer.cut();
    peer.wait(Duration::from_millis(4_999));
    assert_eq!(peer.dialling, None);
    peer.wait(Duration::from_millis(1));
    assert!(peer.dialling.is_some());
}

#[test]
fn what_the_login_settled_waits_for_the_next() {
    let mut peer = ready();
    // InitialR2T=Yes was negotiated: nothing unsolicited now.
    for (key, value, applied) in [
        ("InitialR2T", "No", Applied::NextLogin),
        ("InitialR2T", "Yes", Applied::AtOnce),
        ("MaxBurstLength", "524288", Applied::NextLogin),
        ("MaxBurstLength", "16384", Applied::AtOnce),
        ("HeaderDigest", "CRC32C", Applied::NextLogin),
        ("MaxRecvDataSegmentLength", "262144", Applied::AtOnce),
    ] {
        assert_eq!(set(&mut peer, key, value), Ok(applied), "{key}={value}");
        assert_eq!(
            peer.session.offer().get(key_named(key)).as_deref(),
            Some(value),
            "requested"
        );
    }
    peer.silent();
}

fn key_named(name: &str) -> crate::text::Key {
    crate::text::Key::find(name).unwrap()
}

#[test]
fn what_cannot_be_set() {
    let mut peer = ready();
    let unknown = set(&mut peer, "Foo", "1").unwrap_err();
    assert!(matches!(
        unknown,
        SetError::Offer(OfferError::UnknownKey { .. })
    ));
    let range = set(&mut peer, "MaxRecvDataSegmentLength", "100").unwrap_err();
    assert!(matches!(
        range,
        SetError::Offer(OfferError::OutOfRange { .. })
    ));
    let clash = set(&mut peer, "FirstBurstLength", "16777215").unwrap_err();
    assert!(matches!(
        clash,
        SetError::Offer(OfferError::FirstBurstAboveMaxBurst { .. })
    ));
    assert_eq!(
        peer.session
            .offer()
            .get(key_named("FirstBurstLength"))
            .as_deref(),
        Some("262144"),
        "as before"
    );
    for alias in ["", "a\0b", &"a".repeat(256)] {
        let error = set(&mut peer, "InitiatorAlias", alias).unwrap_err();
        assert!(matches!(error, SetError::BadAlias { .. }), "{error}");
    }
    peer.silent();
    peer.session.logout(peer.now);
    peer.cut();
    assert_eq!(set(&mut peer, "ImmediateData", "No"), Err(SetError::Closed));
}
