//! The login phase, with the numbers of its own suite.

use super::*;
use test_target::{Chap, Redirect};

/// Text of all Login Requests, as keys and values.
fn said(rig: &Rig) -> Vec<(String, String)> {
    pairs(rig.sent(0, opcode::LOGIN))
}

fn pairs(records: Vec<WireRecord>) -> Vec<(String, String)> {
    let text: Vec<u8> = records.into_iter().flat_map(|record| record.data).collect();
    let text = String::from_utf8(text).unwrap();
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').expect("a pair");
        (key.to_owned(), value.to_owned())
    };
    text.split_terminator('\0').map(pair).collect()
}

/// The values that were sent for a key.
fn values(rig: &Rig, key: &str) -> Vec<String> {
    let of = |(name, value): (String, String)| (name == key).then_some(value);
    said(rig).into_iter().filter_map(of).collect()
}

fn offering(keys: &[(&str, &str)]) -> Rig {
    up(|_| {}, |ours| offer(ours, keys))
}

/// A target that adds raw text to its operational answer, and refuses no other way.
fn with_raw(keys: &[(&str, &str)]) -> Rig {
    try_up(
        |target| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            target.quirks.raw_keys = keys.iter().map(own).collect();
        },
        |_| {},
    )
}

/// A target that answers a key with this value.
fn answering(key: &str, value: &str) -> Rig {
    try_up(
        |target| target.quirks.override_values = vec![(key.to_owned(), value.to_owned())],
        |_| {},
    )
}

#[test]
fn login_1_1_standard() {
    let mut rig = plain();
    let key = test_unit_ready(&mut rig);
    rig.settle();
    answer(&mut rig, key);
    let last = rig.heard(0, opcode::LOGIN_RESPONSE).pop().unwrap();
    assert_eq!(last.header[1], 0x87, "to full feature phase");
    innocent(&rig);
}

#[test]
fn login_2_1_tsih_starts_at_zero() {
    let rig = plain();
    for request in rig.sent(0, opcode::LOGIN) {
        assert_eq!(request.header[14..16], [0, 0]);
    }
    innocent(&rig);
}

#[test]
fn login_2_2_a_final_response_without_a_handle_is_refused() {
    let rig = try_up(|target| target.quirks.final_tsih = Some(0), |_| {});
    assert!(!rig.is_up());
    assert!(rig.sent(0, opcode::SCSI_COMMAND).is_empty());
}

#[test]
fn login_2_3_a_second_connection_carries_the_handle() {
    let rig = at_level(0, 2);
    let answers = rig.heard(0, opcode::LOGIN_RESPONSE);
    let final_one = answers.iter().find(|it| it.header[1] == 0x87).unwrap();
    let (_, second) = rig.link(1).unwrap();
    let requests = rig.sent(0, opcode::LOGIN);
    for request in requests.iter().filter(|it| it.connection == second) {
        assert_eq!(request.header[14..16], final_one.header[14..16]);
        assert_ne!(request.header[20..22], requests[0].header[20..22], "CID");
    }
    innocent(&rig);
}

#[test]
fn login_3_1_transit_bits() {
    let rig = plain();
    let requests = rig.sent(0, opcode::LOGIN);
    let flags: Vec<u8> = requests.iter().map(|it| it.header[1]).collect();
    assert_eq!(flags, [0x81, 0x87], "security, operational, full feature");
    innocent(&rig);
}

#[test]
fn login_3_2_delayed_transit() {
    let rig = up(|target| target.quirks.delay_transit = 2, |_| {});
    assert!(rig.sent(0, opcode::LOGIN).len() > 2);
    let answers = rig.heard(0, opcode::LOGIN_RESPONSE);
    assert!(answers.iter().any(|it| it.header[1] & 0x80 == 0));
    innocent(&rig);
}

#[test]
fn login_4_1_and_4_2_any_first_stat_sn_is_acknowledged() {
    for first in [0, 1, 0x7fff_ffff, 0xffff_fffe] {
        let mut rig = up(|target| target.first_stat_sn = first, |_| {});
        let key = test_unit_ready(&mut rig);
        rig.settle();
        answer(&mut rig, key);
        let requests = rig.sent(0, opcode::LOGIN);
        assert_eq!(requests[1].be32(28), first.wrapping_add(1), "ExpStatSN");
        let command = one(rig.sent(0, opcode::SCSI_COMMAND));
        assert_eq!(command.be32(28), first.wrapping_add(2));
        innocent(&rig);
    }
}

#[test]
fn login_5_1_exp_stat_sn_acknowledges() {
    let rig = plain();
    let requests = rig.sent(0, opcode::LOGIN);
    for (next, before) in requests[1..]
        .iter()
        .zip(rig.heard(0, opcode::LOGIN_RESPONSE))
    {
        assert_eq!(next.be32(28), before.be32(24) + 1);
    }
    innocent(&rig);
}

#[test]
fn login_6_1_a_key_is_sent_once() {
    let rig = plain();
    let mut keys: Vec<String> = said(&rig).into_iter().map(|(key, _)| key).collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
    innocent(&rig);
}

#[test]
fn login_6_2_a_key_twice_in_one_response_is_refused() {
    let rig = with_raw(&[("MaxBurstLength", "4096"), ("MaxBurstLength", "4096")]);
    assert!(!rig.is_up());
}

#[test]
fn login_7_1_request_fields() {
    let rig = plain();
    let request = rig.sent(0, opcode::LOGIN)[0].clone();
    assert_eq!(
        request.header[..4],
        [0x43, 0x81, 0, 0],
        "immediate, version 0"
    );
    assert_eq!(request.header[8] & 0xc0, 0x80, "a random ISID");
    let again = rig.sent(0, opcode::LOGIN)[1].clone();
    assert_eq!(request.header[8..28], again.header[8..28], "ISID to CmdSN");
    innocent(&rig);
}

#[test]
fn login_7_2_a_list_of_digests() {
    let list = [
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "CRC32C,None"),
    ];
    let rig = offering(&list);
    for (key, value) in list {
        assert_eq!(values(&rig, key), [value]);
    }
    innocent(&rig);
}

#[test]
fn login_7_3_an_unacceptable_auth_method() {
    let rig = try_up(
        |target| target.chap = Some(Chap::one_way("user", b"secret secret")),
        |_| {},
    );
    assert!(!rig.is_up());
    assert_eq!(values(&rig, "AuthMethod").first().unwrap(), "None");
}

#[test]
fn login_7_4_first_burst_above_the_offer_is_refused() {
    assert!(!answering("FirstBurstLength", "16777215").is_up());
}

#[test]
fn login_7_5_an_invalid_boolean_is_refused() {
    assert!(!answering("ImmediateData", "Maybe").is_up());
}

#[test]
fn login_7_6_an_unknown_key_is_not_understood() {
    let rig = up(
        |target| {
            let key = ("X-org.example.unknown".to_owned(), "1".to_owned());
            target.quirks.started_keys = vec![key];
        },
        |_| {},
    );
    assert_eq!(values(&rig, "X-org.example.unknown"), ["NotUnderstood"]);
    innocent(&rig);
}

#[test]
fn login_9_1_digests_offered_as_set() {
    let rig = offering(&[("HeaderDigest", "CRC32C"), ("DataDigest", "None")]);
    assert_eq!(values(&rig, "HeaderDigest"), ["CRC32C"]);
    assert_eq!(values(&rig, "DataDigest"), ["None"]);
    innocent(&rig);
}

#[test]
fn login_9_2_a_digest_that_was_not_offered_is_refused() {
    assert!(!answering("HeaderDigest", "CRC64").is_up());
}

#[test]
fn login_9_3_crc32c() {
    let keys = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")];
    let mut rig = offering(&keys);
    let key = write(&mut rig, 4096);
    rig.settle();
    good(&mut rig, key);
    let key = read(&mut rig, 4096);
    rig.settle();
    good(&mut rig, key);
    // The target has computed every digest itself.
    innocent(&rig);
}

#[test]
fn login_10_1_max_connections_is_the_lower_of_both() {
    let rig = up(
        |target| target.keys.max_connections = 2,
        |ours| offer(ours, &[("MaxConnections", "4")]),
    );
    assert_eq!(
        values(&rig, "MaxConnections"),
        ["4"],
        "once, in the leading login"
    );
    assert_eq!(rig.links(), 2);
    innocent(&rig);
}

#[test]
fn login_11_1_names_in_the_first_request() {
    let rig = plain();
    let first = pairs(vec![rig.sent(0, opcode::LOGIN)[0].clone()]);
    for (key, value) in [
        ("InitiatorName", "iqn.2026-01.org.example:rig"),
        ("TargetName", "iqn.2026-01.org.example:test-target"),
    ] {
        assert!(first.contains(&(key.to_owned(), value.to_owned())));
    }
    innocent(&rig);
}

#[test]
fn login_12_1_markers_are_rejected() {
    let rig = up(
        |target| {
            let key = ("OFMarker".to_owned(), "Yes".to_owned());
            target.quirks.started_keys = vec![key];
        },
        |_| {},
    );
    // RFC 7143 §13.25: no other answer is allowed.
    let answer = values(&rig, "OFMarker");
    assert!(answer == ["Reject"] || answer == ["No"], "{answer:?}");
}

#[test]
fn login_13_1_immediate_data_is_an_and() {
    for (ours, theirs, result) in [
        ("Yes", true, true),
        ("Yes", false, false),
        ("No", true, false),
        ("No", false, false),
    ] {
        let mut rig = up(
            |target| target.keys.immediate_data = theirs,
            |config| offer(config, &[("ImmediateData", ours)]),
        );
        let key = write(&mut rig, 512);
        rig.settle();
        good(&mut rig, key);
        let command = one(rig.sent(0, opcode::SCSI_COMMAND));
        assert_eq!(command.data_bytes > 0, result, "{ours} {theirs}");
        innocent(&rig);
    }
}

#[test]
fn login_13_2_initial_r2t_is_an_or() {
    for (ours, theirs, result) in [
        ("Yes", true, true),
        ("Yes", false, true),
        ("No", true, true),
        ("No", false, false),
    ] {
        let mut rig = up(
            |target| target.keys.initial_r2t = theirs,
            |config| offer(config, &[("InitialR2T", ours), ("ImmediateData", "No")]),
        );
        let key = write(&mut rig, 512);
        rig.settle();
        good(&mut rig, key);
        assert_eq!(
            rig.heard(0, opcode::R2T).len() == 1,
            result,
            "{ours} {theirs}"
        );
        innocent(&rig);
    }
}

#[test]
fn login_14_1_segments_are_declared_per_direction() {
    let mut rig = up(
        |target| target.keys.max_recv_data_segment_bytes = 2048,
        |ours| offer(ours, &[("MaxRecvDataSegmentLength", "1024")]),
    );
    let key = write(&mut rig, 8192);
    rig.settle();
    good(&mut rig, key);
    let key = read(&mut rig, 8192);
    rig.settle();
    good(&mut rig, key);
    let longest = |records: Vec<WireRecord>| records.iter().map(|it| it.data_bytes).max();
    assert_eq!(longest(rig.sent(0, opcode::SCSI_COMMAND)), Some(2048));
    assert_eq!(longest(rig.heard(0, opcode::DATA_IN)), Some(1024));
    innocent(&rig);
}

#[test]
fn login_15_1_and_16_1_bursts_are_the_lower_of_both() {
    let mut rig = up(
        |target| {
            target.keys.max_burst_bytes = 4096;
            target.keys.first_burst_bytes = 1024;
        },
        |ours| offer(ours, &[("InitialR2T", "No"), ("ImmediateData", "No")]),
    );
    let key = write(&mut rig, 16_384);
    rig.settle();
    good(&mut rig, key);
    let outs = rig.sent(0, opcode::DATA_OUT);
    let unsolicited = outs.iter().filter(|out| out.be32(20) == NONE);
    assert_eq!(unsolicited.map(|out| out.data_bytes).sum::<usize>(), 1024);
    let r2ts = rig.heard(0, opcode::R2T);
    assert!(r2ts.iter().all(|r2t| r2t.be32(44) <= 4096));
    innocent(&rig);
}

#[test]
fn login_16_2_first_burst_answered_above_max_burst_is_refused() {
    let rig = try_up(
        |target| {
            let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let values = [
                pair("FirstBurstLength", "8192"),
                pair("MaxBurstLength", "4096"),
            ];
            target.quirks.override_values = values.into();
        },
        |_| {},
    );
    assert!(!rig.is_up());
}

#[test]
fn login_17_1_and_18_1_time2wait_is_the_maximum_and_time2retain_the_minimum() {
    let rig = up(
        |target| {
            target.keys.time2wait_s = 3;
            target.keys.time2retain_s = 9;
        },
        |ours| {
            offer(
                ours,
                &[("DefaultTime2Wait", "1"), ("DefaultTime2Retain", "20")],
            );
        },
    );
    assert_eq!(values(&rig, "DefaultTime2Wait"), ["1"]);
    assert_eq!(values(&rig, "DefaultTime2Retain"), ["20"]);
    let params = rig.session.snapshot().session;
    assert_eq!((params.time2wait_s, params.time2retain_s), (3, 9));
    innocent(&rig);
}

#[test]
fn login_19_1_max_outstanding_r2t_is_the_lower_of_both() {
    let rig = up(
        |target| target.keys.max_outstanding_r2t = 2,
        |ours| offer(ours, &[("MaxOutstandingR2T", "8")]),
    );
    assert_eq!(values(&rig, "MaxOutstandingR2T"), ["8"]);
    assert_eq!(rig.session.snapshot().session.max_outstanding_r2t, 2);
    innocent(&rig);
}

#[test]
fn login_20_1_error_recovery_level_is_the_lower_of_both() {
    let rig = up(
        |target| target.keys.error_recovery_level = 1,
        |ours| offer(ours, &[("ErrorRecoveryLevel", "2")]),
    );
    assert_eq!(values(&rig, "ErrorRecoveryLevel"), ["2"]);
    assert_eq!(rig.session.snapshot().session.error_recovery_level, 1);
    innocent(&rig);
}

#[test]
fn login_21_1_the_session_type_is_said_first_or_not_at_all() {
    let rig = plain();
    let first = pairs(vec![rig.sent(0, opcode::LOGIN)[0].clone()]);
    let kind = first.iter().find(|(key, _)| key == "SessionType");
    assert!(kind.is_none_or(|(_, value)| value == "Normal"));
    innocent(&rig);
}

#[test]
fn login_22_1_auth_method_is_offered_in_the_security_stage() {
    let rig = plain();
    let first = rig.sent(0, opcode::LOGIN)[0].clone();
    assert_eq!(first.header[1] >> 2 & 3, 0, "CSG");
    let first = pairs(vec![first]);
    assert!(first.contains(&("AuthMethod".to_owned(), "None".to_owned())));
    innocent(&rig);
}

#[test]
fn login_23_1_a_redirect_is_followed() {
    let rig = up(
        |target| {
            target.portals.push(test_target::Portal {
                address: "127.0.0.2:3260".to_owned(),
                group: 1,
            });
            target.quirks.redirect = Some(Redirect {
                address: "127.0.0.2:3260,1".to_owned(),
                permanent: false,
                portal: Some(0),
            });
        },
        |_| {},
    );
    assert_eq!(rig.session.snapshot().portal.to_string(), "127.0.0.2:3260");
    innocent(&rig);
}
