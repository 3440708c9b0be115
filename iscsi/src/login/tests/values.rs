//! Numbers and booleans against their result functions, and target-started keys.

use super::*;

fn accepted(key: &str, offer: &str, answer: &str) -> SessionParams {
    settle(offering(&[(key, offer)]), &[(key, answer)])
        .unwrap_or_else(|error| panic!("{key}={offer} / {answer}: {error}"))
        .session
}

fn bad_answer(key: &str, offer: &str, answer: &str) {
    let error = refused(offering(&[(key, offer)]), &[(key, answer)]);
    let expected = NegotiationError::BadAnswer {
        key: Key::find(key).unwrap(),
        offered: offer.into(),
        answer: answer.into(),
    };
    assert_eq!(error, expected, "{key}={offer} / {answer}");
}

#[test]
fn login_10_1_max_connections() {
    assert_eq!(accepted("MaxConnections", "4", "4").max_connections, 4);
    assert_eq!(accepted("MaxConnections", "4", "1").max_connections, 1);
    bad_answer("MaxConnections", "4", "5");
    bad_answer("MaxConnections", "4", "0");
    bad_answer("MaxConnections", "4", "65536");
}

#[test]
fn login_13_1_and_boolean() {
    assert!(accepted("ImmediateData", "Yes", "Yes").immediate_data);
    assert!(!accepted("ImmediateData", "Yes", "No").immediate_data);
    assert!(!accepted("ImmediateData", "No", "No").immediate_data);
    bad_answer("ImmediateData", "No", "Yes");
}

#[test]
fn login_13_2_or_boolean() {
    for key in ["InitialR2T", "DataPDUInOrder", "DataSequenceInOrder"] {
        let get = |session: SessionParams| match key {
            "InitialR2T" => session.initial_r2t,
            "DataPDUInOrder" => session.data_pdu_in_order,
            _ => session.data_sequence_in_order,
        };
        assert!(!get(accepted(key, "No", "No")), "{key}");
        assert!(get(accepted(key, "No", "Yes")), "{key}");
        assert!(get(accepted(key, "Yes", "Yes")), "{key}");
        bad_answer(key, "Yes", "No");
    }
}

#[test]
fn login_13_3_answers_that_may_be_left_out() {
    let config = offering(&[("ImmediateData", "No"), ("InitialR2T", "Yes")]);
    let session = settle(config, &[]).unwrap().session;
    assert!(!session.immediate_data && session.initial_r2t);
}

#[test]
fn login_14_1_data_segments_are_declared_per_direction() {
    for (declared, bytes) in [("512", 512), ("16777215", 16_777_215), ("0x10000", 65_536)] {
        let pairs = [("MaxRecvDataSegmentLength", declared)];
        let connection = settle(config(), &pairs).unwrap().connection;
        assert_eq!(connection.max_send_bytes, bytes);
        assert_eq!(connection.max_recv_bytes, 262_144);
    }
    let connection = settle(config(), &[]).unwrap().connection;
    assert_eq!(
        connection.max_send_bytes, 8192,
        "the default when nothing is declared"
    );
    for declared in [
        "0",
        "511",
        "16777216",
        "18446744073709551616",
        "-1",
        "8k",
        "",
        "0x",
        "08192",
    ] {
        let error = refused(config(), &[("MaxRecvDataSegmentLength", declared)]);
        let expected = NegotiationError::BadDeclaration {
            key: Key::MaxRecvDataSegmentLength,
            value: declared.into(),
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn login_15_1_max_burst() {
    for (answer, bytes) in [("1048576", 1_048_576), ("8192", 8192), ("512", 512)] {
        let session = accepted("MaxBurstLength", "1048576", answer);
        assert_eq!(session.max_burst_bytes, bytes);
        assert!(session.first_burst_bytes <= bytes, "the default is cut");
    }
    bad_answer("MaxBurstLength", "8192", "8193");
    bad_answer("MaxBurstLength", "8192", "511");
}

#[test]
fn login_16_1_first_burst_within_max_burst() {
    let config = offering(&[("MaxBurstLength", "65536"), ("FirstBurstLength", "65536")]);
    let pairs = [("MaxBurstLength", "65536"), ("FirstBurstLength", "512")];
    assert_eq!(
        settle(config, &pairs).unwrap().session.first_burst_bytes,
        512
    );
}

#[test]
fn login_16_2_first_burst_answered_above_max_burst() {
    let pairs = [("MaxBurstLength", "4096"), ("FirstBurstLength", "8192")];
    let error = refused(config(), &pairs);
    let (first, max) = (8192, 4096);
    assert_eq!(
        error,
        NegotiationError::FirstBurstAboveMaxBurst { first, max }
    );
}

#[test]
fn several_r2ts_with_recovery_and_sequences_that_the_target_ordered_are_borne() {
    let wanted = [
        ("ErrorRecoveryLevel", "1"),
        ("DataSequenceInOrder", "No"),
        ("MaxOutstandingR2T", "8"),
    ];
    let answer = |ordered, r2ts| {
        [
            ("ErrorRecoveryLevel", "1"),
            ("DataSequenceInOrder", ordered),
            ("MaxOutstandingR2T", r2ts),
        ]
    };
    let session = |ordered, r2ts| {
        let settled = settle(offering(&wanted), &answer(ordered, r2ts));
        settled.unwrap().session
    };
    assert_eq!(session("Yes", "1").max_outstanding_r2t, 1);
    // RFC 7143 §13.19 forbids the target this, but it would take its R2Ts being refused for worse.
    assert_eq!(session("Yes", "8").max_outstanding_r2t, 8);
    assert_eq!(session("No", "8").max_outstanding_r2t, 8);
}

#[test]
fn login_16_3_first_burst_without_unsolicited_data() {
    let off = [("InitialR2T", "Yes"), ("ImmediateData", "No")];
    let pairs = [
        off[0],
        off[1],
        ("MaxBurstLength", "4096"),
        ("FirstBurstLength", "Irrelevant"),
    ];
    let session = settle(offering(&off), &pairs).unwrap().session;
    assert_eq!(
        session.first_burst_bytes, 4096,
        "never above MaxBurstLength"
    );
    // The target turned unsolicited data off, so the key means nothing any more.
    let session = settle(config(), &pairs).unwrap().session;
    assert!(session.initial_r2t && !session.immediate_data);
    // With unsolicited data the default holds, and was offered.
    let session = settle(config(), &[("FirstBurstLength", "Irrelevant")])
        .unwrap()
        .session;
    assert_eq!(session.first_burst_bytes, 65_536);
    let config = offering(&[("FirstBurstLength", "4096")]);
    let error = refused(config, &[("FirstBurstLength", "Irrelevant")]);
    assert_eq!(
        error,
        NegotiationError::Undecided {
            key: Key::FirstBurstLength,
            offered: "4096".into(),
            default: "65536",
        }
    );
}

#[test]
fn login_17_1_time2retain_is_the_minimum() {
    assert_eq!(accepted("DefaultTime2Retain", "20", "5").time2retain_s, 5);
    assert_eq!(accepted("DefaultTime2Retain", "20", "0").time2retain_s, 0);
    bad_answer("DefaultTime2Retain", "20", "21");
}

#[test]
fn login_18_1_time2wait_is_the_maximum() {
    assert_eq!(accepted("DefaultTime2Wait", "2", "2").time2wait_s, 2);
    assert_eq!(accepted("DefaultTime2Wait", "2", "3600").time2wait_s, 3600);
    bad_answer("DefaultTime2Wait", "2", "1");
    bad_answer("DefaultTime2Wait", "2", "3601");
}

#[test]
fn login_19_1_max_outstanding_r2t() {
    assert_eq!(
        accepted("MaxOutstandingR2T", "8", "1").max_outstanding_r2t,
        1
    );
    bad_answer("MaxOutstandingR2T", "8", "9");
    bad_answer("MaxOutstandingR2T", "8", "0");
}

#[test]
fn login_20_1_error_recovery_level() {
    assert_eq!(
        accepted("ErrorRecoveryLevel", "0", "0").error_recovery_level,
        0
    );
    bad_answer("ErrorRecoveryLevel", "0", "1");
}

#[test]
fn login_20_1_a_level_that_the_target_starts_is_lowered() {
    // Every key is in our first operational request, so only keys outside the offer can be
    // started by the target; these are the two of the table.
    let mut script = Scripted::new(config());
    script.skip_security();
    let keys = [
        ("iSCSIProtocolLevel", "2"),
        ("TaskReporting", "FastAbort,ResponseFence,RFC3720"),
    ];
    script.delay(&keys).unwrap();
    let (request, pairs) = script.request();
    let expected = [
        ("iSCSIProtocolLevel".to_owned(), "1".to_owned()),
        ("TaskReporting".to_owned(), "ResponseFence".to_owned()),
    ];
    assert_eq!(pairs, expected);
    let response = script.response(&request);
    let keys = done(script.answer(&response, &[])).keys;
    let level = keys
        .iter()
        .find(|row| row.key == "iSCSIProtocolLevel")
        .unwrap();
    assert_eq!(
        (level.requested.as_deref(), level.result.as_str()),
        (None, "1")
    );
}

#[test]
fn a_started_key_without_acceptable_value_is_rejected() {
    for (key, value) in [
        ("TaskReporting", "FastAbort"),
        ("TaskReporting", "Sooner"),
        ("iSCSIProtocolLevel", "32"),
        ("iSCSIProtocolLevel", "0~2"),
    ] {
        let mut script = Scripted::new(config());
        script.skip_security();
        script.delay(&[(key, value)]).unwrap();
        let (_, pairs) = script.request();
        assert_eq!(pairs, [(key.to_owned(), "Reject".to_owned())], "{value}");
    }
}

#[test]
fn a_started_list_gets_the_first_of_its_values_that_we_have() {
    for (proposed, chosen) in [
        ("Sooner,FastAbort,ResponseFence,RFC3720", "ResponseFence"),
        ("RFC3720,ResponseFence", "RFC3720"),
    ] {
        let mut script = Scripted::new(config());
        script.skip_security();
        script.delay(&[("TaskReporting", proposed)]).unwrap();
        let (_, pairs) = script.request();
        assert_eq!(pairs, [("TaskReporting".to_owned(), chosen.to_owned())]);
    }
}

#[test]
fn a_started_key_with_the_transit_bit_is_an_error() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let error = broken(script.agree(&[("iSCSIProtocolLevel", "1")]));
    let key = "iSCSIProtocolLevel".into();
    assert_eq!(error, ProtocolError::AnswerAfterTransit { key });
}

#[test]
fn optional_keys_may_be_refused() {
    for answer in ["NotUnderstood", "Reject", "Irrelevant"] {
        let offer = [
            ("TaskReporting", "ResponseFence,RFC3720"),
            ("iSCSIProtocolLevel", "2"),
        ];
        let pairs = [("TaskReporting", answer), ("iSCSIProtocolLevel", answer)];
        let settled = settle(offering(&offer), &pairs).unwrap();
        assert_eq!(settled.session.protocol_level, 1, "RFC 7144 §7.1.1");
        let keys = settled.keys;
        let row = keys.iter().find(|row| row.key == "TaskReporting").unwrap();
        assert_eq!(row.answered.as_deref(), Some(answer));
        assert_eq!(row.result, "RFC3720");
    }
}

#[test]
fn the_protocol_level_is_the_minimum() {
    let level = |offer: &[(&str, &str)], pairs: &[(&str, &str)]| {
        settle(offering(offer), pairs)
            .unwrap()
            .session
            .protocol_level
    };
    let two = [("iSCSIProtocolLevel", "2")];
    assert_eq!(level(&two, &two), 2);
    assert_eq!(level(&two, &[("iSCSIProtocolLevel", "1")]), 1);
    assert_eq!(level(&two, &[]), 1, "a target that ignores the key");
    assert_eq!(level(&[], &[]), 1);
    let error = refused(offering(&two), &[("iSCSIProtocolLevel", "3")]);
    assert!(
        matches!(error, NegotiationError::BadAnswer { .. }),
        "{error}"
    );
}

#[test]
fn required_keys_may_not_be_refused() {
    let error = refused(config(), &[("MaxBurstLength", "NotUnderstood")]);
    assert!(
        matches!(error, NegotiationError::NotUnderstood { .. }),
        "{error}"
    );
    let error = refused(config(), &[("MaxBurstLength", "Reject")]);
    assert!(
        matches!(error, NegotiationError::Rejected { .. }),
        "{error}"
    );
    let error = refused(config(), &[("MaxRecvDataSegmentLength", "Reject")]);
    assert!(
        matches!(error, NegotiationError::Rejected { .. }),
        "{error}"
    );
    let error = refused(config(), &[("InitiatorName", "NotUnderstood")]);
    assert!(
        matches!(error, NegotiationError::NotUnderstood { .. }),
        "{error}"
    );
}

#[test]
fn login_23_1_portal_group_tag() {
    for (text, tag) in [("0", 0), ("1", 1), ("65535", 65_535), ("0xFFFF", 65_535)] {
        let mut script = Scripted::new(config());
        script.agree(&[("TargetPortalGroupTag", text)]).unwrap();
        let session = done(script.agree(&[])).session;
        assert_eq!(session.target_portal_group_tag.unwrap().0, tag);
    }
    for text in ["65536", "", "one", "-1"] {
        let error = refused_in_security(&[("TargetPortalGroupTag", text)]);
        assert!(
            matches!(error, NegotiationError::BadDeclaration { .. }),
            "{error}"
        );
    }
}

fn refused_in_security(pairs: &[(&str, &str)]) -> NegotiationError {
    match Scripted::new(config()).agree(pairs) {
        Err(LoginError::Negotiation { source }) => source,
        other => panic!("not refused: {other:?}"),
    }
}
