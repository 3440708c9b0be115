//! Login: stages, CHAP, negotiation results, quirks, reinstatement, several connections.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use md5::Digest as _;
use script::{NAMES, Pdu, Script, TARGET};
use test_target::{Chap, Config, Keys, Portal, Quirks, Redirect, Rule};

const SECRET: &[u8] = b"secret of initiator";
const OTHER: &[u8] = b"secret of target";

fn quirky(quirks: Quirks) -> Script {
    Script::new(Config {
        quirks,
        ..Config::default()
    })
}

fn status(pdu: &Pdu) -> u16 {
    pdu.be16(36)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("0x").unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The peer's computation, written apart from the target's.
fn proof(algorithm: &str, identifier: u8, secret: &[u8], challenge: &[u8]) -> String {
    let whole = [&[identifier][..], secret, challenge].concat();
    match algorithm {
        "5" => hex(&md5::Md5::digest(&whole)),
        "6" => hex(&sha1::Sha1::digest(&whole)),
        "7" => hex(&sha2::Sha256::digest(&whole)),
        _ => hex(&sha3::Sha3_256::digest(&whole)),
    }
}

fn chap_config(change: impl FnOnce(&mut Chap)) -> Config {
    let mut chap = Chap::one_way("user", SECRET);
    change(&mut chap);
    Config {
        chap: Some(chap),
        ..Config::default()
    }
}

/// Runs CHAP up to the answer to CHAP_N; `extra` is sent with it.
fn chap(config: Config, algorithm: &str, secret: &[u8], extra: &str) -> (Script, Pdu) {
    let mut script = Script::new(config);
    let answer = script.login(0x00, &format!("{NAMES}{TARGET}AuthMethod=CHAP,None\0"));
    assert_eq!(answer.value("AuthMethod").as_deref(), Some("CHAP"));
    assert_eq!(answer.value("TargetPortalGroupTag").as_deref(), Some("1"));
    let answer = script.login(0x00, &format!("CHAP_A={algorithm}\0"));
    let chosen = answer.value("CHAP_A").unwrap();
    let identifier = answer.value("CHAP_I").unwrap().parse().unwrap();
    let challenge = unhex(&answer.value("CHAP_C").unwrap());
    let response = proof(&chosen, identifier, secret, &challenge);
    let answer = script.login(0x81, &format!("CHAP_N=user\0CHAP_R={response}\0{extra}"));
    (script, answer)
}

#[test]
fn chap_with_every_algorithm_and_long_challenges() {
    for (offer, chosen) in [("5", 5), ("6", 6), ("7", 7), ("8", 8), ("9,7,5", 7)] {
        let config = chap_config(|chap| chap.challenge_bytes = 1024);
        let (mut script, answer) = chap(config, offer, SECRET, "");
        assert_eq!(
            (status(&answer), answer.header[1]),
            (0, 0x81),
            "algorithm {chosen}"
        );
        let answer = script.login(0x87, "MaxBurstLength=65536\0");
        assert_eq!(answer.header[1], 0x87);
        assert_eq!(answer.value("MaxBurstLength").as_deref(), Some("65536"));
        script.assert_innocent();
    }
}

#[test]
fn wrong_secrets_and_missing_chap_are_refused() {
    let (script, answer) = chap(chap_config(|_| {}), "5", b"something else", "");
    assert_eq!(status(&answer), 0x0201);
    script.assert_innocent();
    let mut script = Script::new(chap_config(|_| {}));
    let answer = script.login(0x81, &format!("{NAMES}{TARGET}AuthMethod=None\0"));
    assert_eq!(status(&answer), 0x0201);
    let mut script = Script::new(chap_config(|_| {}));
    let answer = script.login(0x87, &format!("{NAMES}{TARGET}"));
    assert_eq!(
        status(&answer),
        0x0201,
        "the security stage cannot be skipped"
    );
    let mut script = Script::new(chap_config(|chap| chap.algorithms = vec![7]));
    script.login(0x00, &format!("{NAMES}{TARGET}AuthMethod=CHAP\0"));
    assert_eq!(status(&script.login(0x00, "CHAP_A=5\0")), 0x0201);
}

#[test]
fn mutual_chap_proves_the_target() {
    let config = || chap_config(|chap| chap.mutual = Some(("target".to_owned(), OTHER.to_vec())));
    let extra = "CHAP_I=9\0CHAP_C=0x00112233445566778899aabbccddeeff\0";
    let (script, answer) = chap(config(), "7", SECRET, extra);
    let challenge = unhex("0x00112233445566778899aabbccddeeff");
    assert_eq!(answer.value("CHAP_N").as_deref(), Some("target"));
    assert_eq!(
        answer.value("CHAP_R"),
        Some(proof("7", 9, OTHER, &challenge))
    );
    assert_eq!(answer.header[1], 0x81);
    script.assert_innocent();
    let mut lying = config();
    lying.quirks.chap_wrong_response = true;
    let (_, answer) = chap(lying, "7", SECRET, extra);
    assert_ne!(
        answer.value("CHAP_R"),
        Some(proof("7", 9, OTHER, &challenge))
    );
    let (_, answer) = chap(chap_config(|_| {}), "7", SECRET, extra);
    assert_eq!(
        status(&answer),
        0x0201,
        "a challenge without a mutual secret"
    );
}

#[test]
fn results_follow_the_functions_of_the_keys() {
    let keys = Keys {
        initial_r2t: false,
        immediate_data: false,
        max_burst_bytes: 8192,
        first_burst_bytes: 4096,
        time2wait_s: 5,
        time2retain_s: 7,
        max_outstanding_r2t: 3,
        ..Keys::default()
    };
    let mut script = Script::new(Config {
        keys,
        ..Config::default()
    });
    let answer = script.log_in(
        "HeaderDigest=None,CRC32C\0InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=0x4000\0\
         FirstBurstLength=1024\0DefaultTime2Wait=2\0DefaultTime2Retain=20\0MaxOutstandingR2T=9\0\
         DataPDUInOrder=Yes\0DataSequenceInOrder=No\0ErrorRecoveryLevel=2\0MaxConnections=4\0\
         MaxRecvDataSegmentLength=4096\0IFMarker=Yes\0OFMarkInt=2048~4096\0X-org.example.flag=1\0\
         TaskReporting=FastAbort,ResponseFence,RFC3720\0iSCSIProtocolLevel=2\0",
    );
    for (key, value) in [
        ("HeaderDigest", "None"),
        ("InitialR2T", "No"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "8192"),
        ("FirstBurstLength", "1024"),
        ("DefaultTime2Wait", "5"),
        ("DefaultTime2Retain", "7"),
        ("MaxOutstandingR2T", "3"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "No"),
        ("ErrorRecoveryLevel", "0"),
        ("MaxConnections", "1"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("IFMarker", "Reject"),
        ("OFMarkInt", "Reject"),
        ("TaskReporting", "RFC3720"),
        ("X-org.example.flag", "NotUnderstood"),
        ("TargetPortalGroupTag", "1"),
    ] {
        assert_eq!(answer.value(key).as_deref(), Some(value), "{key}");
    }
    let parameters = &script.target.sessions()[0].parameters;
    assert_eq!(parameters.initiator_segment_bytes, 4096);
    assert_eq!(
        (parameters.max_burst_bytes, parameters.first_burst_bytes),
        (8192, 1024)
    );
    script.assert_innocent();
}

#[test]
fn the_first_burst_never_exceeds_the_longest() {
    let keys = Keys {
        max_burst_bytes: 16_384,
        first_burst_bytes: 262_144,
        ..Keys::default()
    };
    let mut script = Script::new(Config {
        keys,
        ..Config::default()
    });
    let answer = script.log_in("FirstBurstLength=262144\0MaxBurstLength=262144\0");
    assert_eq!(answer.value("FirstBurstLength").as_deref(), Some("16384"));
    assert_eq!(answer.value("MaxBurstLength").as_deref(), Some("16384"));
    script.assert_innocent();
}

#[test]
fn the_transit_bit_can_be_held_back() {
    let mut script = quirky(Quirks {
        delay_transit: 2,
        ..Quirks::default()
    });
    assert_eq!(
        script.login(0x87, &format!("{NAMES}{TARGET}")).header[1],
        0x04
    );
    assert_eq!(script.login(0x87, "").header[1], 0x04);
    assert_eq!(script.login(0x87, "").header[1], 0x87);
    script.assert_innocent();
}

#[test]
fn answers_can_be_split_with_the_c_bit() {
    let mut script = quirky(Quirks {
        split_answers_bytes: Some(10),
        ..Quirks::default()
    });
    let mut answer = script.login(0x87, &format!("{NAMES}{TARGET}"));
    let mut text = answer.text();
    while answer.header[1] & 0x40 != 0 {
        assert_eq!(answer.header[1] & 0x80, 0);
        assert!(answer.data.len() <= 10);
        answer = script.login(0x87, "");
        text += &answer.text();
    }
    assert_eq!(answer.header[1], 0x87);
    assert_eq!(
        text,
        "TargetPortalGroupTag=1\0MaxRecvDataSegmentLength=262144\0"
    );
    script.assert_innocent();
}

#[test]
fn requests_may_be_split_too() {
    let mut script = Script::new(Config::default());
    let text = format!("{NAMES}{TARGET}MaxBurstLength=4096\0");
    let (first, second) = text.split_at(40);
    let answer = script.login(0x44, first);
    assert_eq!((answer.header[1], answer.data.len()), (0x04, 0));
    let answer = script.login(0x87, second);
    assert_eq!(answer.value("MaxBurstLength").as_deref(), Some("4096"));
    assert_eq!(answer.header[1], 0x87);
    script.assert_innocent();
}

#[test]
fn redirects_failures_and_lies() {
    let redirect = Redirect {
        address: "192.0.2.1:3260,2".to_owned(),
        permanent: true,
        portal: None,
    };
    let mut script = quirky(Quirks {
        redirect: Some(redirect),
        ..Quirks::default()
    });
    let answer = script.login(0x87, &format!("{NAMES}{TARGET}"));
    assert_eq!(status(&answer), 0x0102);
    assert_eq!(
        answer.value("TargetAddress").as_deref(),
        Some("192.0.2.1:3260,2")
    );

    let quirks = Quirks {
        login_status: Some(0x0301),
        login_status_times: Some(1),
        ..Quirks::default()
    };
    let mut script = quirky(quirks);
    assert_eq!(
        status(&script.login(0x87, &format!("{NAMES}{TARGET}"))),
        0x0301
    );
    assert_eq!(
        script.target.poll_closed().map(|(_, reset)| reset),
        Some(false)
    );
    script.reconnect(0);
    assert_eq!(status(&script.login(0x87, &format!("{NAMES}{TARGET}"))), 0);

    let quirks = Quirks {
        override_values: vec![("MaxBurstLength".to_owned(), "16777215".to_owned())],
        not_understood: vec!["InitialR2T".to_owned()],
        reject: vec!["ImmediateData".to_owned()],
        unanswered: vec!["MaxOutstandingR2T".to_owned()],
        ..Quirks::default()
    };
    let mut script = quirky(quirks);
    let text = "MaxBurstLength=4096\0InitialR2T=No\0ImmediateData=No\0MaxOutstandingR2T=2\0";
    let answer = script.login(0x87, &format!("{NAMES}{TARGET}{text}"));
    assert_eq!(answer.value("MaxBurstLength").as_deref(), Some("16777215"));
    assert_eq!(answer.value("InitialR2T").as_deref(), Some("NotUnderstood"));
    assert_eq!(answer.value("ImmediateData").as_deref(), Some("Reject"));
    assert_eq!(answer.value("MaxOutstandingR2T"), None);
    script.assert_innocent();
}

#[test]
fn keys_started_by_the_target_are_awaited() {
    let started = vec![("MaxBurstLength".to_owned(), "8192".to_owned())];
    let mut script = quirky(Quirks {
        started_keys: started,
        ..Quirks::default()
    });
    let answer = script.login(0x87, &format!("{NAMES}{TARGET}"));
    assert_eq!(answer.header[1], 0x04);
    assert_eq!(answer.value("MaxBurstLength").as_deref(), Some("8192"));
    let answer = script.login(0x87, "MaxBurstLength=4096\0");
    assert_eq!((answer.header[1], answer.data.len()), (0x87, 0));
    assert_eq!(script.target.sessions()[0].parameters.max_burst_bytes, 4096);
    script.assert_innocent();
}

#[test]
fn offers_that_settle_themselves_and_declarations_want_no_answer() {
    let started = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("TargetAlias", "alias"),
    ];
    let started_keys = started
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    let mut script = quirky(Quirks {
        started_keys,
        ..Quirks::default()
    });
    let answer = script.login(0x87, &format!("{NAMES}{TARGET}"));
    assert_eq!(answer.header[1], 0x87);
    let parameters = &script.target.sessions()[0].parameters;
    assert!(parameters.initial_r2t && !parameters.immediate_data);
    script.assert_innocent();
}

#[test]
fn unknown_targets_and_sessions_are_named_so() {
    let mut script = Script::new(Config::default());
    let answer = script.login(
        0x87,
        &format!("{NAMES}TargetName=iqn.2026-01.org.example:other\0"),
    );
    assert_eq!(status(&answer), 0x0203);
    let mut script = Script::new(Config::default());
    script.line.tsih = 77;
    assert_eq!(
        status(&script.login(0x87, &format!("{NAMES}{TARGET}"))),
        0x020a
    );
    assert_eq!(script.rules(), [Rule::LoginTsih]);
}

#[test]
fn the_same_nexus_replaces_its_session() {
    let portals = vec![
        Portal {
            address: "192.0.2.1:3260".to_owned(),
            group: 1,
        },
        Portal {
            address: "192.0.2.2:3260".to_owned(),
            group: 1,
        },
        Portal {
            address: "192.0.2.3:3260".to_owned(),
            group: 2,
        },
    ];
    let mut script = Script::session(
        Config {
            portals,
            ..Config::default()
        },
        "",
    );
    let old = script.reconnect(2);
    script.log_in("");
    assert_eq!(
        script.target.sessions().len(),
        2,
        "another portal group is another nexus"
    );
    let other = script.reconnect(1);
    script.log_in("");
    let sessions = script.target.sessions();
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|session| session.tsih != old.tsih));
    assert!(sessions.iter().any(|session| session.tsih == other.tsih));
    assert_eq!(script.target.poll_closed(), Some((old.id, true)));
    script.reconnect(1);
    script.line.isid[5] = 2;
    script.log_in("");
    assert_eq!(
        script.target.sessions().len(),
        3,
        "another ISID is another nexus"
    );
    script.assert_innocent();
}

#[test]
fn a_second_connection_joins_the_session() {
    let keys = Keys {
        max_connections: 4,
        ..Keys::default()
    };
    let mut script = Script::session(
        Config {
            keys,
            ..Config::default()
        },
        "MaxConnections=2\0",
    );
    let first = script.reconnect(0);
    script.line.tsih = first.tsih;
    script.line.cid = 1;
    script.log_in("");
    assert_eq!(script.line.tsih, first.tsih);
    assert_eq!(script.target.sessions()[0].connections.len(), 2);
    // Commands of two connections form one sequence.
    let second = script.line.clone();
    assert!(
        script
            .target
            .sessions()
            .iter()
            .all(|session| session.exp_cmd_sn == second.cmd_sn)
    );
    script.line.cmd_sn = second.cmd_sn.wrapping_add(1);
    assert!(
        script.test_unit_ready().is_empty(),
        "waits for the command before it"
    );
    let ahead = std::mem::replace(&mut script.line, first);
    assert_eq!(script.test_unit_ready().len(), 1);
    script.line = ahead;
    assert_eq!(script.receive().len(), 1);
    script.assert_innocent();
}

#[test]
fn discovery_lists_every_portal_in_pieces() {
    let portals = vec![
        Portal {
            address: "192.0.2.1:3260".to_owned(),
            group: 1,
        },
        Portal {
            address: "[2001:db8::1]:3260".to_owned(),
            group: 2,
        },
    ];
    let listed = vec![(
        "iqn.2026-01.org.example:b".to_owned(),
        vec!["192.0.2.9:3260,1".to_owned()],
    )];
    let quirks = Quirks {
        split_answers_bytes: Some(50),
        ..Quirks::default()
    };
    let mut script = Script::new(Config {
        portals,
        listed_targets: listed,
        quirks,
        ..Config::default()
    });
    let answer = script.login(0x87, &format!("{NAMES}SessionType=Discovery\0"));
    assert_eq!(answer.header[1], 0x44, "the answer to the login is cut too");
    let answer = script.login(0x87, "");
    assert_eq!(answer.header[1], 0x87);
    let header = script.request(0x04, 0x80);
    let itt = script.line.itt;
    script.send(header, b"SendTargets=All\0");
    let mut text = String::new();
    loop {
        let part = script.receive().remove(0);
        text += &part.text();
        if part.is_final() {
            assert_eq!(part.be32(20), script::FREE);
            break;
        }
        assert_ne!(part.be32(20), script::FREE);
        let mut header = script.request(0x04, 0x80);
        script::put(&mut header, 16, itt);
        script::put(&mut header, 20, part.be32(20));
        script.send(header, b"");
    }
    assert_eq!(
        text,
        "TargetName=iqn.2026-01.org.example:test-target\0TargetAddress=192.0.2.1:3260,1\0\
         TargetAddress=[2001:db8::1]:3260,2\0TargetName=iqn.2026-01.org.example:b\0\
         TargetAddress=192.0.2.9:3260,1\0"
    );
    script.assert_innocent();
}
