//! The login tests of the UNH-IOL initiator suite that concern logic, named by its numbers.

use super::*;

#[test]
fn login_1_1_standard() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let logged_in = done(script.agree(&[
        ("TargetAlias", "Disk One"),
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", "65536"),
        ("MaxBurstLength", "524288"),
        ("FirstBurstLength", "131072"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("MaxOutstandingR2T", "4"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "0"),
        ("MaxConnections", "1"),
    ]));
    let expected = SessionParams {
        max_connections: 1,
        initial_r2t: false,
        immediate_data: true,
        max_burst_bytes: 524_288,
        first_burst_bytes: 131_072,
        time2wait_s: 2,
        time2retain_s: 0,
        max_outstanding_r2t: 4,
        data_pdu_in_order: true,
        data_sequence_in_order: true,
        error_recovery_level: 0,
        task_reporting: crate::text::TaskReporting::Rfc3720,
        protocol_level: 1,
        target_portal_group_tag: Some(crate::name::PortalGroupTag(1)),
        target_alias: Some("Disk One".into()),
    };
    assert_eq!(logged_in.session, expected);
    assert_eq!(logged_in.connection.max_send_bytes, 65_536);
    assert_eq!(logged_in.connection.max_recv_bytes, 262_144);
    assert_eq!(logged_in.cmd_sn, CMD_SN);
    assert_eq!(logged_in.exp_stat_sn, StatSn(102));
    assert_eq!(logged_in.window.max_cmd_sn, CmdSn(154));
    assert!(script.login.poll_transmit().is_none());
    let burst = logged_in
        .keys
        .iter()
        .find(|row| row.key == "MaxBurstLength")
        .unwrap();
    assert_eq!(burst.requested.as_deref(), Some("1048576"));
    assert_eq!(burst.answered.as_deref(), Some("524288"));
    assert_eq!(burst.result, "524288");
    let method = logged_in
        .keys
        .iter()
        .find(|row| row.key == "AuthMethod")
        .unwrap();
    assert_eq!(method.result, "None");
}

#[test]
fn login_2_1_tsih_starts_at_zero_and_stays() {
    let mut script = Scripted::new(config());
    for _ in 0..3 {
        let (request, _) = script.request();
        assert_eq!(request.tsih, Tsih(0));
        let mut response = script.response(&request);
        response.transit = false;
        script.answer(&response, &[]).unwrap();
    }
}

#[test]
fn login_2_2_no_handle_in_the_final_response() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let (request, _) = script.request();
    let mut response = script.response(&request);
    response.tsih = Tsih(0);
    let error = broken(script.answer(&response, &[]));
    assert_eq!(error, ProtocolError::WrongTsih { found: 0 });
}

#[test]
fn login_2_3_handle_of_the_session_for_a_second_connection() {
    let join = || LoginConfig {
        tsih: Tsih(0x99),
        ..config()
    };
    let mut script = Scripted::new(join());
    let (request, pairs) = script.request();
    assert_eq!(request.tsih, Tsih(0x99));
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["InitiatorName", "TargetName", "AuthMethod"]);
    let response = script.response(&request);
    script.answer(&response, &[("AuthMethod", "None")]).unwrap();
    let (request, pairs) = script.request();
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        ["HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength"]
    );
    let response = script.response(&request);
    assert_eq!(done(script.answer(&response, &[])).tsih, Tsih(0x99));

    let mut script = Scripted::new(join());
    script.skip_security();
    let (request, _) = script.request();
    let mut response = script.response(&request);
    response.tsih = Tsih(0x98);
    let error = broken(script.answer(&response, &[]));
    assert_eq!(error, ProtocolError::WrongTsih { found: 0x98 });
}

#[test]
fn login_3_1_transit_bits() {
    let mut script = Scripted::new(config());
    let (request, _) = script.request();
    assert!(request.transit && !request.continue_);
    assert_eq!(request.current, Stage::SecurityNegotiation);
    assert_eq!(request.next, Stage::OperationalNegotiation);
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    let (request, _) = script.request();
    assert!(request.transit && !request.continue_);
    assert_eq!(request.current, Stage::OperationalNegotiation);
    assert_eq!(request.next, Stage::FullFeaturePhase);

    for (transit, next) in [
        (true, Stage::SecurityNegotiation),
        (true, Stage::OperationalNegotiation),
    ] {
        let mut script = Scripted::new(config());
        script.skip_security();
        let (request, _) = script.request();
        let mut response = script.response(&request);
        (response.transit, response.next) = (transit, next);
        let from = Stage::OperationalNegotiation;
        let error = broken(script.answer(&response, &[]));
        assert_eq!(error, ProtocolError::WrongNextStage { from, found: next });
    }
}

#[test]
fn login_3_1_more_than_was_asked() {
    let mut script = Scripted::new(config());
    let (request, _) = script.request();
    let mut response = script.response(&request);
    response.next = Stage::FullFeaturePhase;
    let error = broken(script.answer(&response, &[]));
    assert!(
        matches!(error, ProtocolError::WrongNextStage { .. }),
        "{error}"
    );
}

#[test]
fn login_3_2_delayed_transit() {
    let mut script = Scripted::new(config());
    for _ in 0..3 {
        script.delay(&[]).unwrap();
        assert_eq!(script.login.stage(), "SecurityNegotiation");
    }
    let (request, pairs) = script.request();
    assert!(request.transit, "still asking");
    assert!(pairs.is_empty(), "nothing is sent twice");
    let response = script.response(&request);
    script.answer(&response, &[("AuthMethod", "None")]).unwrap();
    script.delay(&[("ErrorRecoveryLevel", "0")]).unwrap();
    script.delay(&[]).unwrap();
    let (request, pairs) = script.request();
    assert!(request.transit && pairs.is_empty());
    let response = script.response(&request);
    done(script.answer(&response, &[("MaxConnections", "1")]));
}

#[test]
fn login_4_1_and_4_2_first_stat_sn() {
    for start in [0, 1, 0x8000_0000, u32::MAX] {
        let mut script = Scripted::new(config());
        script.stat_sn = start;
        script.skip_security();
        let logged_in = done(script.agree(&[]));
        assert_eq!(logged_in.exp_stat_sn, StatSn(start.wrapping_add(2)));
    }
}

#[test]
fn login_4_2_a_gap_in_stat_sn() {
    let mut script = Scripted::new(config());
    script.skip_security();
    script.stat_sn += 1;
    let error = broken(script.agree(&[]));
    let (expected, found) = (StatSn(101), StatSn(102));
    assert_eq!(error, ProtocolError::WrongStatSn { expected, found });
}

#[test]
fn login_5_1_exp_stat_sn_acknowledges() {
    let mut script = Scripted::new(config());
    let (request, _) = script.request();
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    for expected in [101, 102] {
        let (request, _) = script.request();
        assert_eq!(request.exp_stat_sn, StatSn(expected));
        let mut response = script.response(&request);
        response.transit = false;
        script.answer(&response, &[]).unwrap();
    }
}

#[test]
fn login_6_1_a_key_is_sent_once() {
    let mut script = Scripted::new(config());
    let mut seen = std::collections::BTreeSet::new();
    let (request, pairs) = script.request();
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    let mut all = pairs;
    for _ in 0..3 {
        let (request, pairs) = script.request();
        all.extend(pairs);
        let mut response = script.response(&request);
        response.transit = false;
        script.answer(&response, &[]).unwrap();
    }
    assert!(all.len() > 15);
    for (key, _) in all {
        assert!(seen.insert(key.clone()), "{key} twice");
    }
}

#[test]
fn login_6_2_a_key_twice_in_one_response() {
    for (key, value) in [
        ("MaxBurstLength", "512"),
        ("MaxRecvDataSegmentLength", "512"),
        ("TargetAlias", "a"),
        ("TaskReporting", "RFC3720"),
        ("IFMarker", "No"),
        ("X-com.example", "1"),
    ] {
        let error = refused(config(), &[(key, value), (key, value)]);
        assert_eq!(error, NegotiationError::Repeated { key: key.into() });
    }
}

#[test]
fn login_6_3_a_key_twice_in_two_responses() {
    let mut script = Scripted::new(config());
    script.skip_security();
    script.delay(&[("MaxBurstLength", "512")]).unwrap();
    let error = script.agree(&[("MaxBurstLength", "512")]).unwrap_err();
    assert!(matches!(
        error,
        LoginError::Negotiation {
            source: NegotiationError::Repeated { .. }
        }
    ));

    // Also over stages: the tag came in the security stage.
    let mut script = Scripted::new(config());
    script.skip_security();
    let error = script.agree(&[("TargetPortalGroupTag", "1")]).unwrap_err();
    assert!(matches!(
        error,
        LoginError::Negotiation {
            source: NegotiationError::Repeated { .. }
        }
    ));
}

#[test]
fn login_6_3_target_address_may_be_repeated() {
    let pairs = [
        ("TargetAddress", "10.0.0.1,1"),
        ("TargetAddress", "10.0.0.2,1"),
    ];
    settle(config(), &pairs).unwrap();
}

#[test]
fn login_7_1_request_fields() {
    let mut script = Scripted::new(config());
    for _ in 0..2 {
        let (request, _) = script.request();
        assert_eq!((request.version_max, request.version_min), (0, 0));
        assert_eq!(request.isid, ISID);
        assert_eq!(request.itt, ITT);
        assert_eq!(request.cid, Cid(7));
        assert_eq!(request.cmd_sn, CMD_SN);
        let response = script.response(&request);
        let _ = script.answer(&response, &[]);
    }
}

#[test]
fn login_7_1_golden_text() {
    let mut script = Scripted::new(LoginConfig {
        initiator_alias: Some("host one".into()),
        ..config()
    });
    let (request, text) = script.login.poll_transmit().unwrap();
    let golden: &[u8] = b"InitiatorName=iqn.2024-01.test:initiator\0InitiatorAlias=host one\0\
        SessionType=Normal\0TargetName=iqn.2024-01.test:disk1\0AuthMethod=None\0";
    assert_eq!(text, golden);
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    let (_, text) = script.login.poll_transmit().unwrap();
    let golden: &[u8] = b"HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0InitialR2T=No\0\
        ImmediateData=Yes\0MaxRecvDataSegmentLength=262144\0MaxBurstLength=1048576\0\
        FirstBurstLength=262144\0DefaultTime2Wait=0\0DefaultTime2Retain=0\0MaxOutstandingR2T=8\0\
        DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0";
    assert_eq!(text, golden);
}

#[test]
fn login_7_2_list() {
    let both = || offering(&[("HeaderDigest", "CRC32C,None")]);
    assert!(
        settle(both(), &[("HeaderDigest", "CRC32C")])
            .unwrap()
            .connection
            .header_digest
    );
    assert!(
        !settle(both(), &[("HeaderDigest", "None")])
            .unwrap()
            .connection
            .header_digest
    );
    for answer in ["CRC32C,None", "crc32c", "MD5", ""] {
        let error = refused(both(), &[("HeaderDigest", answer)]);
        assert!(
            matches!(error, NegotiationError::BadAnswer { .. }),
            "{answer}: {error}"
        );
    }
}

#[test]
fn login_7_3_unacceptable_auth_method() {
    for answer in ["CHAP", "Reject", "KRB5", "NotUnderstood"] {
        let mut script = Scripted::new(config());
        let error = script.delay(&[("AuthMethod", answer)]).unwrap_err();
        assert!(
            matches!(error, LoginError::Auth { .. }),
            "{answer}: {error}"
        );
        assert!(error.to_string().contains("give it a CHAP name"), "{error}");
        assert!(matches!(script.agree_again(), LoginError::Over));
    }
}

impl Scripted {
    /// A failed login stays failed.
    fn agree_again(&mut self) -> LoginError {
        assert!(self.login.poll_transmit().is_none());
        let request = LoginRequest {
            transit: true,
            continue_: false,
            current: Stage::SecurityNegotiation,
            next: Stage::OperationalNegotiation,
            version_max: 0,
            version_min: 0,
            isid: ISID,
            tsih: Tsih(0),
            itt: ITT,
            cid: Cid(7),
            cmd_sn: CMD_SN,
            exp_stat_sn: StatSn(0),
        };
        let response = self.response(&request);
        self.login.handle(&response, &[]).unwrap_err()
    }
}

#[test]
fn login_7_4_first_burst_above_the_offer() {
    let error = refused(config(), &[("FirstBurstLength", "262145")]);
    assert_eq!(
        error,
        NegotiationError::BadAnswer {
            key: Key::FirstBurstLength,
            offered: "262144".into(),
            answer: "262145".into(),
        }
    );
}

#[test]
fn login_7_5_invalid_boolean() {
    for answer in ["yes", "YES", "true", "1", "", "Yes "] {
        let error = refused(config(), &[("ImmediateData", answer)]);
        assert!(
            matches!(error, NegotiationError::BadAnswer { .. }),
            "{answer}: {error}"
        );
    }
}

#[test]
fn login_7_6_unknown_key() {
    let mut script = Scripted::new(config());
    script.delay(&[("X-com.example.one", "1")]).unwrap();
    let (request, pairs) = script.request();
    assert_eq!(
        pairs,
        [("X-com.example.one".into(), "NotUnderstood".into())]
    );
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    script
        .delay(&[("Xyz", "a,b"), ("MaxConnections", "1")])
        .unwrap();
    let (request, pairs) = script.request();
    assert!(request.transit);
    assert_eq!(pairs, [("Xyz".into(), "NotUnderstood".into())]);
}

#[test]
fn the_node_architecture_is_taken_without_an_answer() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let pair = ("X#NodeArchitecture", "ExampleOS/v1234,Firmware/2.0.0.5");
    script.delay(&[pair]).unwrap();
    let (request, pairs) = script.request();
    assert_eq!(pairs, []);
    let response = script.response(&request);
    done(script.answer(&response, &[]));
}

#[test]
fn login_7_6_unknown_key_in_the_final_response_is_let_pass() {
    settle(config(), &[("X-com.example", "1")]).unwrap();
}

#[test]
fn login_7_6_reserved_constants_are_no_proposals() {
    for (key, value) in [
        ("X-com.example", "Reject"),
        ("TaskReporting", "NotUnderstood"),
    ] {
        let error = refused(config(), &[(key, value)]);
        assert!(
            matches!(error, NegotiationError::ReservedConstant { .. }),
            "{error}"
        );
    }
}

#[test]
fn login_8_1_responses_that_break_a_rule() {
    type Spoil = fn(&mut LoginResponse);
    let cases: [(Spoil, &str); 7] = [
        (|r| r.itt = Itt(1), "WrongTag"),
        (|r| r.isid = Isid([0; 6]), "WrongIsid"),
        (|r| r.version_active = 1, "Version"),
        (|r| r.version_max = 2, "Version"),
        (|r| r.current = Stage::SecurityNegotiation, "WrongStage"),
        (|r| r.continue_ = true, "TransitWithContinue"),
        (|r| r.window.exp_cmd_sn = CmdSn(9), "WrongExpCmdSn"),
    ];
    for (spoil, name) in cases {
        let mut script = Scripted::new(config());
        script.skip_security();
        let (request, _) = script.request();
        let mut response = script.response(&request);
        spoil(&mut response);
        let error = broken(script.answer(&response, &[]));
        assert!(format!("{error:?}").starts_with(name), "{name}: {error:?}");
        assert!(matches!(script.agree_again(), LoginError::Over));
    }
}

#[test]
fn login_8_1_a_response_without_request() {
    let mut script = Scripted::new(config());
    let (request, _) = script.request();
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    let again = script.response(&request);
    assert_eq!(
        broken(script.answer(&again, &[])),
        ProtocolError::Unsolicited
    );
}

#[test]
fn login_8_1_malformed_text() {
    for data in [
        &b"MaxBurstLength"[..],
        b"MaxBurstLength=1",
        b"=1\0",
        b"\0A=1\0",
        b"A=\xff\0",
    ] {
        let mut script = Scripted::new(config());
        let (request, _) = script.request();
        let response = script.response(&request);
        let error = script.login.handle(&response, data).unwrap_err();
        assert!(
            matches!(error, LoginError::Text { .. }),
            "{data:?}: {error}"
        );
    }
}

#[test]
fn login_8_1_a_login_without_end() {
    let mut script = Scripted::new(config());
    for _ in 0..RESPONSES_MAX {
        script.delay(&[]).unwrap();
    }
    let error = script.delay(&[]).unwrap_err();
    assert!(
        matches!(error, LoginError::TooManyRounds { limit: 64, .. }),
        "{error}"
    );
}

#[test]
fn login_9_1_digests_offered_as_set() {
    let config = offering(&[("HeaderDigest", "CRC32C"), ("DataDigest", "None,CRC32C")]);
    let mut script = Scripted::new(config);
    script.skip_security();
    let (_, pairs) = script.request();
    assert!(pairs.contains(&("HeaderDigest".into(), "CRC32C".into())));
    assert!(pairs.contains(&("DataDigest".into(), "None,CRC32C".into())));
}

#[test]
fn login_9_2_a_digest_that_was_not_offered() {
    let error = refused(config(), &[("DataDigest", "CRC32C")]);
    assert!(
        matches!(
            error,
            NegotiationError::BadAnswer {
                key: Key::DataDigest,
                ..
            }
        ),
        "{error}"
    );
    let error = refused(config(), &[("DataDigest", "Reject")]);
    assert_eq!(
        error,
        NegotiationError::Rejected {
            key: Key::DataDigest,
            offered: "None".into(),
        }
    );
    // Silence means None, which was not offered.
    let error = refused(offering(&[("HeaderDigest", "CRC32C")]), &[]);
    assert!(
        matches!(
            error,
            NegotiationError::Undecided {
                key: Key::HeaderDigest,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn login_9_3_crc32c() {
    let config = offering(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]);
    let pairs = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")];
    let connection = settle(config, &pairs).unwrap().connection;
    assert!(connection.header_digest && connection.data_digest);
}

#[test]
fn login_11_1_names_in_the_first_request() {
    let mut script = Scripted::new(config());
    let (_, pairs) = script.request();
    assert!(pairs.contains(&("InitiatorName".into(), "iqn.2024-01.test:initiator".into())));
    assert!(pairs.contains(&("TargetName".into(), "iqn.2024-01.test:disk1".into())));
    for (key, value) in [
        ("InitiatorName", "iqn.2024-01.a:b"),
        ("TargetName", "iqn.2024-01.a:b"),
    ] {
        let error = refused(config(), &[(key, value)]);
        assert!(
            matches!(error, NegotiationError::NotForTarget { .. }),
            "{error}"
        );
    }
}

#[test]
fn login_12_1_markers_are_rejected() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let markers = [
        ("IFMarker", "Yes"),
        ("OFMarker", "No"),
        ("IFMarkInt", "2048~8192"),
        ("OFMarkInt", "1"),
    ];
    script.delay(&markers).unwrap();
    let (_, pairs) = script.request();
    let rejected = markers.map(|(key, _)| (key.to_owned(), "Reject".to_owned()));
    assert_eq!(pairs, rejected);
}

#[test]
fn login_21_1_session_type() {
    let mut script = Scripted::new(LoginConfig {
        session: SessionKind::Discovery,
        ..offering(&[
            ("ErrorRecoveryLevel", "2"),
            ("iSCSIProtocolLevel", "2"),
            ("TaskReporting", "ResponseFence,RFC3720"),
        ])
    });
    let (request, pairs) = script.request();
    assert!(pairs.contains(&("SessionType".into(), "Discovery".into())));
    assert!(!pairs.iter().any(|(key, _)| key == "TargetName"));
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    let (request, pairs) = script.request();
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    // RFC 7143 §13: everything else means nothing in a Discovery session.
    let expected = [
        "HeaderDigest",
        "DataDigest",
        "MaxRecvDataSegmentLength",
        "DefaultTime2Wait",
        "DefaultTime2Retain",
        "ErrorRecoveryLevel",
    ];
    assert_eq!(keys, expected);
    let level = ("ErrorRecoveryLevel".into(), "0".into());
    assert!(pairs.contains(&level), "whatever else is offered (§13.21)");
    let mut response = script.response(&request);
    response.transit = false;
    script
        .answer(&response, &[("MaxConnections", "4")])
        .unwrap();
    let (_, pairs) = script.request();
    assert_eq!(pairs, [("MaxConnections".into(), "Irrelevant".into())]);
}

#[test]
fn a_discovery_session_recovers_from_nothing() {
    let discovery = || LoginConfig {
        session: SessionKind::Discovery,
        ..offering(&[("ErrorRecoveryLevel", "2")])
    };
    // Whatever is offered to targets (RFC 7143 §7.4.1).
    let mut script = Scripted::new(discovery());
    script.skip_security();
    let (_, pairs) = script.request();
    assert!(pairs.contains(&("ErrorRecoveryLevel".into(), "0".into())));
    let error = refused(discovery(), &[("ErrorRecoveryLevel", "1")]);
    assert!(
        matches!(error, NegotiationError::BadAnswer { .. }),
        "{error}"
    );
}

#[test]
fn login_22_1_operational_keys_do_not_belong_into_the_security_stage() {
    let mut script = Scripted::new(config());
    let (_, pairs) = script.request();
    assert!(
        !pairs
            .iter()
            .any(|(key, _)| key.starts_with("Max") || key.contains("Digest"))
    );
    let mut script = Scripted::new(config());
    let error = script.agree(&[("MaxBurstLength", "512")]).unwrap_err();
    let source = NegotiationError::WrongStage {
        key: Key::MaxBurstLength,
    };
    assert_eq!(error, LoginError::Negotiation { source });
    let error = refused(config(), &[("AuthMethod", "None")]);
    assert_eq!(
        error,
        NegotiationError::WrongStage {
            key: Key::AuthMethod
        }
    );
}

#[test]
fn a_target_that_counts_the_login_is_followed() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let (request, _) = script.request();
    let mut response = script.response(&request);
    response.window.exp_cmd_sn = CMD_SN.next();
    assert_eq!(done(script.answer(&response, &[])).cmd_sn, CMD_SN.next());
}

#[test]
fn an_alias_that_cannot_travel() {
    for alias in ["", "a\0b", &"x".repeat(256)] {
        let config = LoginConfig {
            initiator_alias: Some(alias.into()),
            ..config()
        };
        let error = Login::start(config, &mut |_| {}).unwrap_err();
        assert_eq!(error, LoginError::BadAlias);
    }
}
