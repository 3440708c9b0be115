//! Every rule of the judge fires on a crafted offence; a session that keeps the rules stays unblamed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]
#![expect(clippy::too_many_lines, reason = "tables of offences")]

mod offences;
mod script;

use std::collections::BTreeSet;

use script::{FREE, NAMES, Script, TARGET, pattern, put, rw};
use test_target::{
    Chap, Config, Count, Keys, PduEffect, PduFault, PduFilter, Quirks, Rule, opcode,
};

type Offence = (Rule, fn() -> Script);

fn keys(change: impl FnOnce(&mut Keys)) -> Config {
    let mut config = Config::default();
    change(&mut config.keys);
    config
}

/// Sends one header that is changed before.
fn bent(mut script: Script, opcode: u8, flags: u8, change: impl FnOnce(&mut [u8; 48])) -> Script {
    let mut header = script.request(opcode, flags);
    change(&mut header);
    script.send(header, &[]);
    script
}

/// A first Login Request that is changed before.
fn bent_login(flags: u8, text: &str, change: impl FnOnce(&mut [u8; 48])) -> Script {
    let mut script = Script::new(Config::default());
    let mut header = script.login_header(flags);
    change(&mut header);
    script.send(header, text.as_bytes());
    script
}

fn with_text(text: &str) -> Script {
    bent_login(0x87, &format!("{NAMES}{TARGET}{text}"), |_| {})
}

/// A write of four blocks waiting for its R2T to be answered; gives the tag and the transfer tag.
fn solicited(keys: &str) -> (Script, u32, u32) {
    let mut script = Script::session(Config::default(), keys);
    let header = script.write_command(true, 0, 4);
    script.send(header, &[]);
    let r2t = script.receive().remove(0);
    assert_eq!(r2t.opcode(), opcode::R2T);
    (script, r2t.be32(16), r2t.be32(20))
}

/// A write of `blocks` that announces unsolicited data.
fn announced(blocks: u16, text: &str) -> (Script, u32) {
    let mut script = Script::session(Config::default(), &format!("InitialR2T=No\0{text}"));
    let header = script.write_command(false, 0, blocks);
    script.send(header, &[]);
    let itt = script.line.itt;
    (script, itt)
}

fn chap_login(step2: &str, step3: &str) -> Script {
    let config = Config {
        chap: Some(Chap::one_way("user", b"secret secret 12")),
        ..Config::default()
    };
    let mut script = Script::new(config);
    let answer = script.login(0x00, &format!("{NAMES}{TARGET}AuthMethod=CHAP\0"));
    assert_eq!(answer.value("AuthMethod").as_deref(), Some("CHAP"));
    let answer = script.login(0x00, step2);
    if !step3.is_empty() {
        let challenge = answer.value("CHAP_C").unwrap();
        let header = script.login_header(0x00);
        script.send(header, step3.replace("CHALLENGE", &challenge).as_bytes());
    }
    script
}

fn framing() -> Vec<Offence> {
    vec![
        (Rule::OpcodeIllegal, || {
            bent(Script::plain(), 0x21, 0x80, |_| {})
        }),
        (Rule::ReservedField, || {
            bent(Script::plain(), 0x40, 0x80, |h| h[40] = 1)
        }),
        (Rule::ReservedField, || {
            bent(Script::plain(), 0x01, 0x98, |h| put(h, 20, 0))
        }),
        (Rule::ReservedField, || {
            bent(Script::plain(), 0x42, 0x81, |h| h[40] = 1)
        }),
        (Rule::AhsIllegal, || {
            let mut script = Script::plain();
            let mut header = script.request(0x40, 0x80);
            header[4] = 1;
            script.send(header, &[]);
            script
                .target
                .receive(script.now, script.line.id, &[0, 1, 1, 0]);
            script
        }),
        (Rule::PaddingNonZero, || {
            let mut script = Script::plain();
            let mut header = script.request(0x40, 0x80);
            header[7] = 1;
            script.target.receive(script.now, script.line.id, &header);
            script
                .target
                .receive(script.now, script.line.id, &[1, 0, 0, 1]);
            script
        }),
        (Rule::HeaderDigestWrong, || {
            let mut script = Script::session(Config::default(), "HeaderDigest=CRC32C,None\0");
            let header = script.request(0x40, 0x80);
            let mut bytes = script.bytes(&header, &[]);
            bytes[50] ^= 1;
            script.target.receive(script.now, script.line.id, &bytes);
            script
        }),
        (Rule::DataDigestWrong, || {
            let mut script = Script::session(Config::default(), "DataDigest=CRC32C,None\0");
            let mut header = script.request(0x40, 0x80);
            header[7] = 4;
            let mut bytes = script.bytes(&header, b"ping");
            bytes[54] ^= 1;
            script.target.receive(script.now, script.line.id, &bytes);
            script
        }),
        (Rule::SegmentTooLong, || {
            let mut script = Script::session(keys(|k| k.max_recv_data_segment_bytes = 512), "");
            let header = script.request(0x40, 0x80);
            script.send(header, &[0; 516]);
            script
        }),
        (Rule::DataNotAllowed, || {
            let mut script = Script::plain();
            let header = script.request(0x42, 0x81);
            script.send(header, b"data");
            script
        }),
    ]
}

fn numbering() -> Vec<Offence> {
    vec![
        (Rule::CmdSnSkipped, || {
            let mut script = Script::plain();
            script.line.cmd_sn += 1;
            script.test_unit_ready();
            script
        }),
        (Rule::CmdSnReused, || {
            let mut script = Script::plain();
            script.test_unit_ready();
            script.line.cmd_sn = script.line.cmd_sn.wrapping_sub(1);
            script.test_unit_ready();
            script
        }),
        (Rule::CmdSnBeyondWindow, || {
            let mut script = Script::session(
                Config {
                    queue_depth: 4,
                    ..Config::default()
                },
                "",
            );
            script.line.cmd_sn = script.line.cmd_sn.wrapping_add(4);
            script.test_unit_ready();
            script
        }),
        (Rule::ImmediateCmdSn, || {
            bent(Script::plain(), 0x40, 0x80, |h| put(h, 24, 3))
        }),
        (Rule::TaskTagInUse, || {
            let (mut script, _, _) = solicited("ImmediateData=No\0");
            script.line.itt -= 1;
            script.test_unit_ready();
            script
        }),
        (Rule::TaskTagReserved, || {
            bent(Script::plain(), 0x01, 0x80, |h| {
                put(h, 16, FREE);
                put(h, 20, 0);
            })
        }),
        (Rule::ExpStatSnAhead, || {
            bent(Script::plain(), 0x40, 0x80, |h| put(h, 28, 2))
        }),
        (Rule::ExpStatSnBackwards, || {
            let mut script = Script::plain();
            script.test_unit_ready();
            script.test_unit_ready();
            script.line.exp_stat_sn = 1;
            script.test_unit_ready();
            script
        }),
    ]
}

fn commands() -> Vec<Offence> {
    vec![
        (Rule::CommandFinal, || {
            bent(Script::plain(), 0x01, 0x01, |h| put(h, 20, 0))
        }),
        (Rule::CommandFinal, || {
            let mut script = Script::session(Config::default(), "InitialR2T=No\0");
            let header = script.write_command(false, 0, 1);
            script.send(header, &[0; 512]);
            script
        }),
        (Rule::TaskAttribute, || {
            let mut script = Script::plain();
            let mut header = script.command(0x80, 0, &[0; 6]);
            header[1] = 0x85;
            script.send(header, &[]);
            script
        }),
        (Rule::DataWithoutWrite, || {
            let mut script = Script::plain();
            let header = script.command(0x80, 0, &[0; 6]);
            script.send(header, b"data");
            script
        }),
        (Rule::ExpectedLength, || {
            let mut script = Script::plain();
            let header = script.command(0xc0, 512, &rw(0x28, 0, 2));
            script.send(header, &[]);
            script
        }),
        (Rule::ExpectedLength, || {
            let mut script = Script::plain();
            let header = script.command(0x80, 512, &[0; 6]);
            script.send(header, &[]);
            script
        }),
        (Rule::ImmediateDataForbidden, || {
            let mut script = Script::session(Config::default(), "ImmediateData=No\0");
            let header = script.write_command(true, 0, 1);
            script.send(header, &[0; 512]);
            script
        }),
        (Rule::UnsolicitedForbidden, || {
            let mut script = Script::session(Config::default(), "InitialR2T=Yes\0");
            let header = script.write_command(false, 0, 1);
            script.send(header, &[]);
            script
        }),
        (Rule::FirstBurstExceeded, || {
            let mut script = Script::session(Config::default(), "FirstBurstLength=512\0");
            let header = script.write_command(true, 0, 2);
            script.send(header, &[0; 1024]);
            script
        }),
        (Rule::FirstBurstExceeded, || {
            let (mut script, itt) = announced(4, "FirstBurstLength=1024\0");
            let out = script.data_out(itt, FREE, 0, 0, false);
            script.send(out, &[0; 1536]);
            script
        }),
        (Rule::FirstBurstShort, || {
            let (mut script, itt) = announced(4, "");
            let out = script.data_out(itt, FREE, 0, 0, true);
            script.send(out, &[0; 512]);
            assert_eq!(script.receive()[0].opcode(), opcode::R2T);
            script
        }),
        (Rule::UnsolicitedOrder, || {
            let (mut script, _) = announced(2, "");
            let header = script.write_command(false, 8, 2);
            script.send(header, &[]);
            let out = script.data_out(script.line.itt, FREE, 0, 0, true);
            script.send(out, &[0; 1024]);
            script
        }),
    ]
}

fn data_out() -> Vec<Offence> {
    vec![
        (Rule::DataOutNoTask, || {
            let mut script = Script::plain();
            let out = script.data_out(77, FREE, 0, 0, true);
            script.send(out, &[0; 512]);
            script
        }),
        (Rule::DataOutTransferTag, || {
            let (mut script, itt, ttt) = solicited("");
            let out = script.data_out(itt, ttt ^ 1, 0, 0, true);
            script.send(out, &[0; 2048]);
            script
        }),
        (Rule::DataOutLun, || {
            let (mut script, itt, ttt) = solicited("");
            let mut out = script.data_out(itt, ttt, 0, 0, true);
            out[9] = 1;
            script.send(out, &[0; 2048]);
            script
        }),
        (Rule::DataOutSn, || {
            let (mut script, itt, ttt) = solicited("");
            let out = script.data_out(itt, ttt, 1, 0, true);
            script.send(out, &[0; 2048]);
            script
        }),
        (Rule::DataOutOffset, || {
            let (mut script, itt, ttt) = solicited("");
            let out = script.data_out(itt, ttt, 0, 512, true);
            script.send(out, &[0; 1536]);
            script
        }),
        (Rule::DataOutLength, || {
            let (mut script, itt, ttt) = solicited("");
            let out = script.data_out(itt, ttt, 0, 0, true);
            script.send(out, &[0; 512]);
            script
        }),
        (Rule::DataOutLength, || {
            let (mut script, itt, ttt) = solicited("");
            let out = script.data_out(itt, ttt, 0, 0, true);
            script.send(out, &[0; 2560]);
            script
        }),
        (Rule::DataOutFinal, || {
            let (mut script, itt, ttt) = solicited("");
            let out = script.data_out(itt, ttt, 0, 0, false);
            script.send(out, &[0; 2048]);
            script
        }),
        (Rule::R2tOrder, || {
            let text = "MaxBurstLength=1024\0FirstBurstLength=512\0MaxOutstandingR2T=2\0";
            let (mut script, itt, ttt) = solicited(text);
            let out = script.data_out(itt, ttt.wrapping_add(1), 0, 1024, true);
            script.send(out, &[0; 1024]);
            script
        }),
    ]
}

fn login() -> Vec<Offence> {
    vec![
        (Rule::PhaseWrong, || {
            bent(Script::new(Config::default()), 0x40, 0x80, |_| {})
        }),
        (Rule::PhaseWrong, || {
            let mut script = Script::plain();
            let header = script.login_header(0x87);
            script.send(header, &[]);
            script
        }),
        (Rule::DiscoveryOnly, || {
            let mut script = Script::new(Config::default());
            script.login(0x87, &format!("{NAMES}SessionType=Discovery\0"));
            script.test_unit_ready();
            script
        }),
        (Rule::LoginImmediate, || {
            bent_login(0x87, &format!("{NAMES}{TARGET}"), |h| h[0] = 0x03)
        }),
        (Rule::LoginVersion, || {
            bent_login(0x87, &format!("{NAMES}{TARGET}"), |h| h[2] = 1)
        }),
        (Rule::LoginStage, || {
            bent_login(0x84, &format!("{NAMES}{TARGET}"), |_| {})
        }),
        (Rule::LoginStage, || {
            bent_login(0x0a, &format!("{NAMES}{TARGET}"), |_| {})
        }),
        (Rule::LoginContinue, || {
            bent_login(0xc7, &format!("{NAMES}{TARGET}"), |_| {})
        }),
        (Rule::LoginFieldsChange, || {
            let mut script = Script::new(Config::default());
            script.login(0x04, &format!("{NAMES}{TARGET}"));
            script.line.isid[5] = 9;
            let header = script.login_header(0x87);
            script.send(header, &[]);
            script
        }),
        (Rule::LoginCmdSn, || {
            let mut script = Script::new(Config::default());
            script.login(0x04, &format!("{NAMES}{TARGET}"));
            script.line.cmd_sn += 1;
            let header = script.login_header(0x87);
            script.send(header, &[]);
            script
        }),
        (Rule::LoginIsid, || {
            bent_login(0x87, &format!("{NAMES}{TARGET}"), |h| h[8] = 0xc0)
        }),
        (Rule::LoginTsih, || {
            bent_login(0x87, &format!("{NAMES}{TARGET}"), |h| h[15] = 5)
        }),
        (Rule::LoginSegment, || {
            let filler: String = (0..700).map(|n| format!("X-org.example.{n}=y\0")).collect();
            with_text(&filler)
        }),
        (Rule::LoginContinueEmpty, || {
            let quirks = Quirks {
                split_answers_bytes: Some(16),
                ..Quirks::default()
            };
            let mut script = Script::new(Config {
                quirks,
                ..Config::default()
            });
            script.login(0x87, &format!("{NAMES}{TARGET}"));
            script.login(0x87, "MaxBurstLength=1024\0");
            script
        }),
    ]
}

fn text_keys() -> Vec<Offence> {
    vec![
        (Rule::TextSyntax, || with_text("NoValue\0")),
        (Rule::TextSyntax, || with_text("MaxBurstLength=1024")),
        (Rule::KeyName, || with_text("lower=1\0")),
        (Rule::KeyTwice, || {
            with_text("MaxBurstLength=1024\0MaxBurstLength=1024\0")
        }),
        (Rule::KeyTwice, || {
            let mut script = Script::new(Config::default());
            script.login(0x04, &format!("{NAMES}{TARGET}InitialR2T=No\0"));
            script.login(0x87, "InitialR2T=No\0");
            script
        }),
        (Rule::KeyValue, || with_text("MaxBurstLength=511\0")),
        (Rule::KeyValue, || with_text("InitialR2T=yes\0")),
        (Rule::KeyValue, || with_text("HeaderDigest=CRC16\0")),
        (Rule::KeyValue, || {
            with_text("MaxRecvDataSegmentLength=16777216\0")
        }),
        (Rule::KeyValue, || with_text("ErrorRecoveryLevel=3\0")),
        (Rule::KeyPlace, || {
            bent_login(
                0x81,
                &format!("{NAMES}{TARGET}MaxBurstLength=1024\0"),
                |_| {},
            )
        }),
        (Rule::KeyPlace, || {
            let mut script = Script::plain();
            let header = script.request(0x04, 0x80);
            script.send(header, b"MaxBurstLength=1024\0");
            script
        }),
        (Rule::KeyPlace, || {
            let mut script = Script::new(Config::default());
            script.login(0x04, &format!("{NAMES}SessionType=Discovery\0"));
            script.login(
                0x87,
                "InitiatorAlias=me\0TargetName=iqn.2026-01.org.example:late\0",
            );
            script
        }),
        (Rule::KeyUnanswered, || {
            let started = vec![("MaxBurstLength".to_owned(), "4096".to_owned())];
            let quirks = Quirks {
                started_keys: started,
                ..Quirks::default()
            };
            let mut script = Script::new(Config {
                quirks,
                ..Config::default()
            });
            let answer = script.login(0x87, &format!("{NAMES}{TARGET}"));
            assert_eq!(answer.header[1] & 0x80, 0, "T waits for the answer");
            script.login(0x87, "");
            script
        }),
        (Rule::NameMissing, || bent_login(0x87, TARGET, |_| {})),
        (Rule::NameMissing, || bent_login(0x87, NAMES, |_| {})),
        (Rule::NameIllegal, || {
            bent_login(
                0x87,
                &format!("InitiatorName=iqn.2026-01.Bad Name\0{TARGET}"),
                |_| {},
            )
        }),
        (Rule::FirstBurstAboveMax, || {
            with_text("MaxBurstLength=1024\0FirstBurstLength=2048\0")
        }),
    ]
}

fn security() -> Vec<Offence> {
    vec![
        (Rule::ChapOrder, || {
            chap_login("CHAP_N=user\0CHAP_R=0x00\0", "")
        }),
        (Rule::ChapOrder, || {
            chap_login("CHAP_A=5\0", "CHAP_I=1\0CHAP_C=0x01\0")
        }),
        (Rule::ChapValue, || chap_login("CHAP_A=five,5\0", "")),
        (Rule::ChapValue, || {
            chap_login("CHAP_A=5\0", "CHAP_N=user\0CHAP_R=0x0011\0")
        }),
        (Rule::ChapReflected, || {
            let mut chap = Chap::one_way("user", b"secret secret 12");
            chap.mutual = Some(("target".to_owned(), b"other secret 345".to_vec()));
            let mut script = Script::new(Config {
                chap: Some(chap),
                ..Config::default()
            });
            script.login(0x00, &format!("{NAMES}{TARGET}AuthMethod=CHAP\0"));
            let answer = script.login(0x00, "CHAP_A=5\0");
            let challenge = answer.value("CHAP_C").unwrap();
            let proof = md5_proof(
                &answer.value("CHAP_I").unwrap(),
                b"secret secret 12",
                &challenge,
            );
            script.login(
                0x81,
                &format!("CHAP_N=user\0CHAP_R={proof}\0CHAP_I=1\0CHAP_C={challenge}\0"),
            );
            script
        }),
    ]
}

fn exchanges() -> Vec<Offence> {
    vec![
        (Rule::TextFlags, || {
            bent(Script::plain(), 0x04, 0xc0, |_| {})
        }),
        (Rule::TextTransferTag, || {
            bent(Script::plain(), 0x04, 0x80, |h| put(h, 20, 5))
        }),
        (Rule::TextTaskTag, || {
            let mut script = Script::plain();
            let header = script.request(0x04, 0x00);
            script.send(header, b"SendTargets=\0");
            bent(script, 0x04, 0x80, |_| {})
        }),
        (Rule::NopFinal, || bent(Script::plain(), 0x40, 0x00, |_| {})),
        (Rule::NopTransferTag, || {
            bent(Script::plain(), 0x40, 0x80, |h| {
                put(h, 16, FREE);
                put(h, 20, 99);
            })
        }),
        (Rule::NopReply, || {
            let mut script = Script::plain();
            let ttt = script
                .target
                .send_ping(script.now, script.line.id, 1, b"hello")
                .unwrap();
            bent(script, 0x40, 0x80, |h| {
                put(h, 16, FREE);
                put(h, 20, ttt);
            })
        }),
        (Rule::NopNoTask, || {
            bent(Script::plain(), 0x00, 0x80, |h| put(h, 16, FREE))
        }),
        (Rule::TaskManagementFunction, || {
            bent(Script::plain(), 0x42, 0x89, |_| {})
        }),
        (Rule::TaskManagementReference, || {
            bent(Script::plain(), 0x42, 0x85, |h| put(h, 20, 7))
        }),
        (Rule::TaskManagementReference, || {
            let (script, itt, _) = solicited("");
            bent(script, 0x42, 0x81, |h| {
                h[9] = 3;
                put(h, 20, itt);
                put(h, 32, 0xffff_fff0);
            })
        }),
        (Rule::TaskManagementRefCmdSn, || {
            let (script, itt, _) = solicited("");
            bent(script, 0x42, 0x81, |h| put(h, 20, itt))
        }),
        (Rule::SnackAtLevelZero, || {
            bent(Script::plain(), 0x10, 0x81, |_| {})
        }),
        (Rule::LogoutReason, || {
            bent(Script::plain(), 0x46, 0x82, |h| put(h, 20, 0))
        }),
        (Rule::LogoutConnection, || {
            bent(Script::plain(), 0x46, 0x81, |h| put(h, 20, 7 << 16))
        }),
        (Rule::AfterLogout, || {
            let script = bent(Script::plain(), 0x46, 0x80, |h| put(h, 20, 0));
            bent(script, 0x40, 0x80, |_| {})
        }),
    ]
}

fn offences() -> Vec<Offence> {
    [
        offences::numbering(),
        offences::snacks(),
        offences::reassignment(),
        offences::tasks_and_events(),
        framing(),
        numbering(),
        commands(),
        data_out(),
        login(),
        text_keys(),
        security(),
        exchanges(),
    ]
    .concat()
}

fn md5_proof(identifier: &str, secret: &[u8], challenge: &str) -> String {
    use md5::Digest as _;
    let bytes: Vec<u8> = (2..challenge.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&challenge[at..at + 2], 16).unwrap())
        .collect();
    let mut hash = md5::Md5::new();
    hash.update([identifier.parse::<u8>().unwrap()]);
    hash.update(secret);
    hash.update(bytes);
    hash.finalize()
        .iter()
        .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn every_rule_fires_on_its_offence() {
    for (index, (rule, offend)) in offences().into_iter().enumerate() {
        let script = offend();
        let rules = script.rules();
        assert!(
            rules.contains(&rule),
            "offence {index}: {rule:?} not among {rules:?}"
        );
        let found = script
            .target
            .violations()
            .iter()
            .find(|v| v.rule == rule)
            .unwrap();
        assert_eq!(found.section, rule.section());
        assert!(!found.what.is_empty());
    }
}

#[test]
fn every_rule_has_an_offence() {
    let covered: BTreeSet<Rule> = offences().into_iter().map(|(rule, _)| rule).collect();
    let missing: Vec<&Rule> = Rule::ALL
        .iter()
        .filter(|rule| !covered.contains(rule))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn an_honest_session_is_not_blamed() {
    let text = "HeaderDigest=CRC32C,None\0DataDigest=CRC32C,None\0InitialR2T=No\0ImmediateData=Yes\0\
                FirstBurstLength=2048\0MaxBurstLength=4096\0MaxRecvDataSegmentLength=4096\0MaxOutstandingR2T=2\0";
    let mut script = Script::session(Config::default(), text);
    let data = pattern(16 * 512);
    let header = script.write_command(false, 3, 16);
    let itt = script.line.itt;
    script.send(header, &data[..512]);
    let out = script.data_out(itt, FREE, 0, 512, false);
    script.send(out, &data[512..1024]);
    let out = script.data_out(itt, FREE, 1, 1024, true);
    script.send(out, &data[1024..2048]);
    let mut status = None;
    while status.is_none() {
        for pdu in script.receive() {
            if pdu.opcode() == opcode::R2T {
                let (at, bytes) = (pdu.be32(40) as usize, pdu.be32(44) as usize);
                let out = script.data_out(itt, pdu.be32(20), 0, at as u32, false);
                script.send(out, &data[at..at + 512]);
                let out = script.data_out(itt, pdu.be32(20), 1, at as u32 + 512, true);
                script.send(out, &data[at + 512..at + bytes]);
            } else {
                status = Some(pdu);
            }
        }
    }
    assert_eq!(status.unwrap().header[3], 0);
    assert_eq!(script.read(3, 16), data);
    assert_eq!(script.target.disk(0).unwrap().read(3, 16), data);

    let ttt = script
        .target
        .send_ping(script.now, script.line.id, 0, b"hello")
        .unwrap();
    assert_eq!(script.receive()[0].data, b"hello");
    let mut header = script.request(0x40, 0x80);
    put(&mut header, 16, FREE);
    put(&mut header, 20, ttt);
    script.send(header, b"hello");
    assert!(script.target.pings_answered(script.line.id));
    let header = script.request(0x00, 0x80);
    script.send(header, b"ping");
    assert_eq!(script.receive()[0].data, b"ping");
    let mut header = script.request(0x46, 0x80);
    put(&mut header, 20, 0);
    script.send(header, &[]);
    assert_eq!(script.receive()[0].opcode(), opcode::LOGOUT_RESPONSE);
    assert!(script.target.sessions().is_empty());
    script.assert_innocent();
}

#[test]
fn a_lost_response_is_not_the_initiators_fault_until_it_is_acknowledged() {
    let mut script = Script::plain();
    let filter = PduFilter {
        opcode: Some(opcode::SCSI_RESPONSE),
        ..PduFilter::default()
    };
    script.target.fault_pdu(PduFault {
        filter,
        count: Count::ONCE,
        effect: PduEffect::Drop,
    });
    assert!(script.test_unit_ready().is_empty());
    let answer = script.test_unit_ready();
    assert_eq!(answer[0].be32(24), 2, "the lost status used up StatSN 1");
    script.assert_innocent();
    script.test_unit_ready();
    assert_eq!(script.rules(), [Rule::ExpStatSnLost]);
}
