//! ErrorRecoveryLevel 1: SNACK, recovery R2Ts, retries (RFC 7143 §7.1.4, §7.8, §11.16).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use std::time::Duration;

use script::{FREE, Pdu, Script, pattern, put, rw};
use test_target::{
    CommandEffect, CommandFault, CommandFilter, Config, Count, IncomingEffect, IncomingFault,
    PduEffect, PduFault, PduFilter, Rule, SnackEffect, opcode,
};

const SECOND: Duration = Duration::from_secs(1);
const SMALL: &str = "MaxRecvDataSegmentLength=512\0";
const DIGESTS: &str = "HeaderDigest=CRC32C\0DataDigest=CRC32C\0";
const SOLICITED: &str = "ImmediateData=No\0InitialR2T=Yes\0";

fn able() -> Config {
    let mut config = Config::default();
    config.keys.error_recovery_level = 2;
    config
}

fn level_one(config: Config, keys: &str) -> Script {
    Script::session(config, &format!("ErrorRecoveryLevel=1\0{keys}"))
}

fn harm(script: &mut Script, code: u8, skip: u32, effect: PduEffect) {
    let filter = PduFilter {
        opcode: Some(code),
        ..PduFilter::default()
    };
    script.target.fault_pdu(PduFault {
        filter,
        count: Count { skip, times: 1 },
        effect,
    });
}

fn lose_incoming(script: &mut Script, code: u8, skip: u32, effect: IncomingEffect) {
    let filter = PduFilter {
        opcode: Some(code),
        ..PduFilter::default()
    };
    script.target.fault_incoming(IncomingFault {
        filter,
        count: Count { skip, times: 1 },
        effect,
    });
}

/// Sends a SNACK; the answers.
fn snack(script: &mut Script, kind: u8, itt: u32, ttt: u32, begin: u32, run: u32) -> Vec<Pdu> {
    let mut h = [0; 48];
    h[0] = 0x10;
    h[1] = 0x80 | kind;
    put(&mut h, 16, itt);
    put(&mut h, 20, ttt);
    put(&mut h, 28, script.line.exp_stat_sn);
    put(&mut h, 40, begin);
    put(&mut h, 44, run);
    script.send(h, &[]);
    script.receive()
}

fn start_read(script: &mut Script, blocks: u16) -> u32 {
    let header = script.command(0xc0, u32::from(blocks) * 512, &rw(0x28, 0, blocks));
    script.send(header, &[]);
    script.line.itt
}

/// Whether two PDUs are the same but for the window.
fn replica(one: &Pdu, two: &Pdu) -> bool {
    one.header[..28] == two.header[..28]
        && one.header[36..] == two.header[36..]
        && one.data == two.data
}

fn text_value(script: &mut Script, keys: &str) -> Option<String> {
    let answer = script.login(0x87, keys);
    answer.value("ErrorRecoveryLevel")
}

#[test]
fn the_level_is_the_lower_one() {
    for (ours, theirs, result) in [(2, "2", "2"), (2, "1", "1"), (1, "2", "1"), (0, "2", "0")] {
        let mut config = Config::default();
        config.keys.error_recovery_level = ours;
        let mut script = Script::new(config);
        let keys = format!(
            "{}{}ErrorRecoveryLevel={theirs}\0",
            script::NAMES,
            script::TARGET
        );
        assert_eq!(text_value(&mut script, &keys).as_deref(), Some(result));
        script.assert_innocent();
    }
    let mut script = Script::new(able());
    let keys = format!(
        "{}SessionType=Discovery\0ErrorRecoveryLevel=2\0",
        script::NAMES
    );
    assert_eq!(text_value(&mut script, &keys).as_deref(), Some("0"));
}

#[test]
fn lost_data_in_comes_again() {
    let mut script = level_one(able(), SMALL);
    let data = pattern(4096);
    script.target.disk_mut(0).unwrap().write(0, &data);
    harm(&mut script, opcode::DATA_IN, 2, PduEffect::Drop);
    let itt = start_read(&mut script, 8);
    let unacknowledged = script.line.exp_stat_sn;
    let pdus = script.receive();
    let numbers: Vec<u32> = pdus.iter().map(|pdu| pdu.be32(36)).collect();
    assert_eq!(numbers, [0, 1, 3, 4, 5, 6, 7]);
    // The status waits until the data are whole.
    let seen = std::mem::replace(&mut script.line.exp_stat_sn, unacknowledged);
    let again = snack(&mut script, 0, itt, FREE, 2, 1);
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].be32(36), again[0].be32(40), &again[0].data[..]),
        (2, 1024, &data[1024..1536])
    );
    // All from a number on, with the status in the last one.
    let again = snack(&mut script, 0, itt, FREE, 5, 0);
    assert_eq!(again.len(), 3);
    assert!(again.iter().zip(&pdus[4..]).all(|(a, b)| replica(a, b)));
    assert_eq!(script.line.exp_stat_sn, seen);
    assert_eq!(script.test_unit_ready().len(), 1);
    script.assert_innocent();
    let answer = snack(&mut script, 0, itt, FREE, 0, 0);
    assert_eq!((answer[0].opcode(), answer[0].header[2]), (0x3f, 4));
    assert_eq!(script.target.recovery().data_snacks, 2);
}

#[test]
fn a_snack_for_what_was_not_sent_learns_the_next_number() {
    let mut script = level_one(able(), SMALL);
    let before = script.line.exp_stat_sn;
    let itt = start_read(&mut script, 4);
    script.receive();
    script.line.exp_stat_sn = before;
    let answer = snack(&mut script, 0, itt, FREE, 3, 2);
    assert_eq!((answer[0].opcode(), answer[0].header[2]), (0x3f, 4));
    assert_eq!(answer[0].be32(36), 4, "the next DataSN");
}

#[test]
fn lost_status_comes_again() {
    let mut config = able();
    config.phase_collapse = false;
    let mut script = level_one(config, "");
    harm(&mut script, opcode::SCSI_RESPONSE, 0, PduEffect::Drop);
    assert!(script.test_unit_ready().is_empty());
    let lost = script.line.exp_stat_sn;
    let later = script.test_unit_ready().remove(0);
    assert_eq!(later.be32(24), lost + 1);
    script.line.exp_stat_sn = lost;
    let again = snack(&mut script, 1, FREE, FREE, lost, 1);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].be32(24), lost);
    assert_eq!(again[0].be32(16), script.line.itt - 1);
    script.line.exp_stat_sn = lost;
    let both = snack(&mut script, 1, FREE, FREE, 0, 0);
    assert_eq!(both.len(), 2);
    assert!(replica(&both[0], &again[0]) && replica(&both[1], &later));
    script.test_unit_ready();
    script.assert_innocent();
}

#[test]
fn a_lost_status_in_data_in_comes_again() {
    let mut script = level_one(able(), SMALL);
    harm(&mut script, opcode::DATA_IN, 1, PduEffect::Drop);
    let lost = script.line.exp_stat_sn;
    start_read(&mut script, 2);
    assert_eq!(script.receive().len(), 1);
    let again = snack(&mut script, 1, FREE, FREE, lost, 1);
    assert_eq!(
        (again[0].opcode(), again[0].header[1], again[0].be32(36)),
        (opcode::DATA_IN, 0x81, 1)
    );
    assert_eq!(again[0].data.len(), 512);
    script.test_unit_ready();
    script.assert_innocent();
}

#[test]
fn every_numbered_answer_comes_again() {
    let mut script = level_one(able(), "");
    for code in [
        opcode::NOP_IN,
        opcode::TASK_MANAGEMENT_RESPONSE,
        opcode::TEXT_RESPONSE,
    ] {
        harm(&mut script, code, 0, PduEffect::FlipHeaderDigest);
        harm(&mut script, code, 0, PduEffect::Drop);
        let lost = script.line.exp_stat_sn;
        let header = match code {
            opcode::NOP_IN => script.request(0x40, 0x80),
            opcode::TEXT_RESPONSE => script.request(0x44, 0x80),
            _ => script.request(0x42, 0x85),
        };
        script.send(header, &[]);
        // Without digests the flip has no effect; the next one is lost.
        assert_eq!(script.receive().len(), 1);
        let header = match code {
            opcode::NOP_IN => script.request(0x40, 0x80),
            opcode::TEXT_RESPONSE => script.request(0x44, 0x80),
            _ => script.request(0x42, 0x85),
        };
        script.send(header, &[]);
        assert!(script.receive().is_empty());
        let again = snack(&mut script, 1, FREE, FREE, lost + 1, 0);
        assert_eq!((again.len(), again[0].opcode()), (1, code));
        assert_eq!(again[0].be32(24), lost + 1);
    }
    script.assert_innocent();
}

#[test]
fn data_ack_frees_data() {
    let mut config = able();
    config.data_ack = true;
    config.phase_collapse = false;
    let mut script = level_one(config, &format!("{SMALL}MaxBurstLength=1024\0"));
    let before = script.line.exp_stat_sn;
    let itt = start_read(&mut script, 6);
    let pdus = script.receive();
    script.line.exp_stat_sn = before;
    let flags: Vec<u8> = pdus[..6].iter().map(|pdu| pdu.header[1]).collect();
    assert_eq!(flags, [0, 0xc0, 0, 0xc0, 0, 0xc0], "A at the end of bursts");
    let ttt = pdus[3].be32(20);
    assert_ne!(ttt, FREE);
    assert!(snack(&mut script, 2, FREE, ttt, 4, 0).is_empty());
    assert_eq!(script.target.recovery().data_acks, 1);
    let again = snack(&mut script, 0, itt, FREE, 0, 0);
    let numbers: Vec<u32> = again.iter().map(|pdu| pdu.be32(36)).collect();
    assert_eq!(numbers, [4, 5], "all unacknowledged ones");
    script.assert_innocent();
    let answer = snack(&mut script, 0, itt, FREE, 1, 1);
    assert_eq!(answer[0].opcode(), opcode::REJECT);
}

#[test]
fn no_a_bit_without_recovery() {
    let config = Config {
        data_ack: true,
        ..Config::default()
    };
    let mut script = Script::session(config, "");
    start_read(&mut script, 4);
    assert!(script.receive().iter().all(|pdu| pdu.header[1] & 0x40 == 0));
}

#[test]
fn a_refused_snack_ends_a_task_without_status() {
    let mut script = level_one(able(), SMALL);
    script.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect: CommandEffect::DelayStatus(SECOND),
    });
    let itt = start_read(&mut script, 4);
    let pdus = script.receive();
    assert_eq!(pdus.len(), 4);
    assert!(pdus.iter().all(|pdu| pdu.header[1] & 1 == 0));
    script
        .target
        .fault_snack(Count::ONCE, SnackEffect::Reject(3));
    let answers = snack(&mut script, 0, itt, FREE, 1, 1);
    assert_eq!((answers[0].opcode(), answers[0].header[2]), (0x3f, 3));
    let status = &answers[1];
    assert_eq!((status.opcode(), status.header[3]), (0x21, 2));
    assert_eq!(
        (status.data[4] & 15, status.data[14], status.data[15]),
        (0x0b, 0x11, 0x13)
    );
    script.pass(SECOND);
    assert!(script.receive().is_empty(), "one status only");
    script.assert_innocent();
}

#[test]
fn r_data_snack_cuts_anew_and_tags_the_response() {
    let mut script = level_one(able(), "MaxRecvDataSegmentLength=1024\0");
    let data = pattern(2048);
    script.target.disk_mut(0).unwrap().write(0, &data);
    let before = script.line.exp_stat_sn;
    let itt = start_read(&mut script, 4);
    let first = script.receive();
    assert_eq!(first.len(), 2);
    let stat_sn = first[1].be32(24);
    script.line.exp_stat_sn = before;
    let header = script.request(0x44, 0x80);
    script.send(header, b"MaxRecvDataSegmentLength=512\0");
    assert_eq!(script.receive()[0].opcode(), opcode::TEXT_RESPONSE);
    script.line.exp_stat_sn = before;
    let again = snack(&mut script, 3, itt, 77, 0, 0);
    let cut: Vec<(u32, u32, usize)> = again[..4]
        .iter()
        .map(|pdu| (pdu.be32(36), pdu.be32(40), pdu.data.len()))
        .collect();
    assert_eq!(
        cut,
        [(0, 0, 512), (1, 512, 512), (2, 1024, 512), (3, 1536, 512)]
    );
    assert!(again[..4].iter().all(|pdu| pdu.header[1] & 1 == 0));
    let status = &again[4];
    assert_eq!(status.opcode(), opcode::SCSI_RESPONSE);
    assert_eq!(
        (status.be32(20), status.be32(24), status.be32(36)),
        (77, stat_sn, 4),
        "SNACK Tag, the same StatSN, four Data-In"
    );
    script.line.exp_stat_sn = before;
    let once_more = snack(&mut script, 1, FREE, FREE, stat_sn, 1);
    assert!(replica(&once_more[0], status), "the latest content");
    script.assert_innocent();
}

#[test]
fn a_lost_r2t_comes_again() {
    let mut script = level_one(able(), SOLICITED);
    harm(&mut script, opcode::R2T, 0, PduEffect::Drop);
    let header = script.write_command(true, 3, 2);
    let itt = script.line.itt;
    script.send(header, &[]);
    assert!(script.receive().is_empty());
    let r2t = snack(&mut script, 0, itt, FREE, 0, 0).remove(0);
    assert_eq!(
        (r2t.opcode(), r2t.be32(36), r2t.be32(44)),
        (opcode::R2T, 0, 1024)
    );
    // By itself, too, when nothing comes.
    script.pass(SECOND * 2);
    let again = script.receive().remove(0);
    assert!(replica(&again, &r2t));
    let data = pattern(1024);
    let out = script.data_out(itt, r2t.be32(20), 0, 0, true);
    script.send(out, &data);
    assert_eq!(script.receive()[0].header[3], 0);
    assert_eq!(script.target.disk(0).unwrap().read(3, 2), data);
    script.assert_innocent();
}

#[test]
fn damaged_data_out_is_rejected_and_asked_for() {
    let mut script = level_one(able(), &format!("{DIGESTS}{SOLICITED}"));
    let data = pattern(2048);
    let header = script.write_command(true, 0, 4);
    let itt = script.line.itt;
    script.send(header, &[]);
    let r2t = script.receive().remove(0);
    lose_incoming(&mut script, opcode::DATA_OUT, 1, IncomingEffect::DataDigest);
    for (sn, at) in [(0, 0), (1, 512), (2, 1024), (3, 1536)] {
        let out = script.data_out(itt, r2t.be32(20), sn, at, sn == 3);
        script.send(out, &data[at as usize..at as usize + 512]);
    }
    let answers = script.receive();
    assert_eq!((answers[0].opcode(), answers[0].header[2]), (0x3f, 2));
    assert_eq!(answers[0].data[40..44], 512_u32.to_be_bytes());
    let again = &answers[1];
    assert_eq!(
        (
            again.opcode(),
            again.be32(36),
            again.be32(40),
            again.be32(44)
        ),
        (opcode::R2T, 1, 512, 512),
        "a recovery R2T for what was damaged"
    );
    assert_ne!(again.be32(20), r2t.be32(20));
    let out = script.data_out(itt, again.be32(20), 0, 512, true);
    script.send(out, &data[512..1024]);
    assert_eq!(script.receive()[0].header[3], 0);
    assert_eq!(script.target.disk(0).unwrap().read(0, 4), data);
    script.assert_innocent();
}

#[test]
fn lost_data_out_is_asked_for_even_at_the_end() {
    for lost in [1, 3] {
        let mut script = level_one(able(), SOLICITED);
        let data = pattern(2048);
        let header = script.write_command(true, 0, 4);
        let itt = script.line.itt;
        script.send(header, &[]);
        let r2t = script.receive().remove(0);
        lose_incoming(&mut script, opcode::DATA_OUT, lost, IncomingEffect::Drop);
        for (sn, at) in [(0, 0), (1, 512), (2, 1024), (3, 1536)] {
            let out = script.data_out(itt, r2t.be32(20), sn, at, sn == 3);
            script.send(out, &data[at as usize..at as usize + 512]);
        }
        if lost == 3 {
            assert!(script.receive().is_empty());
            script.pass(SECOND * 2);
            assert!(script.receive().is_empty(), "something had come since");
            script.pass(SECOND * 2);
        }
        let again = script.receive().remove(0);
        assert_eq!((again.opcode(), again.be32(40)), (0x31, lost * 512));
        let out = script.data_out(itt, again.be32(20), 0, lost * 512, true);
        script.send(out, &data[lost as usize * 512..lost as usize * 512 + 512]);
        assert_eq!(script.receive()[0].header[3], 0);
        assert_eq!(script.target.disk(0).unwrap().read(0, 4), data);
        script.assert_innocent();
    }
}

#[test]
fn data_for_a_replaced_request_may_cross_the_status() {
    for foreign in [false, true] {
        let mut script = level_one(able(), SOLICITED);
        let data = pattern(1024);
        let header = script.write_command(true, 0, 2);
        let itt = script.line.itt;
        script.send(header, &[]);
        let first = script.receive().remove(0);
        // Asked for again, then replaced.
        script.pass(SECOND * 2);
        assert!(replica(&script.receive()[0], &first));
        script.pass(SECOND * 2);
        let second = script.receive().remove(0);
        assert_ne!(first.be32(20), second.be32(20));
        let answer = script.data_out(itt, second.be32(20), 0, 0, true);
        let ttt = if foreign { 77 } else { first.be32(20) };
        let late = script.data_out(itt, ttt, 0, 0, true);
        script.send(answer, &data);
        script.send(late, &data);
        assert_eq!(script.receive()[0].header[3], 0);
        if foreign {
            assert_eq!(script.rules(), [Rule::DataOutNoTask]);
        } else {
            script.assert_innocent();
        }
    }
}

#[test]
fn a_sequence_that_got_lost_is_not_owed() {
    let keys = "MaxBurstLength=512\0FirstBurstLength=512\0MaxOutstandingR2T=2\0DataPDUInOrder=Yes\0\
                DataSequenceInOrder=Yes\0";
    let mut script = Script::session(Config::default(), &format!("{keys}{SOLICITED}"));
    let header = script.write_command(true, 0, 2);
    let itt = script.line.itt;
    script.send(header, &[]);
    let r2ts = script.receive();
    assert_eq!(r2ts.len(), 2);
    lose_incoming(&mut script, opcode::DATA_OUT, 0, IncomingEffect::Drop);
    for (r2t, at) in r2ts.iter().zip([0, 512]) {
        let out = script.data_out(itt, r2t.be32(20), 0, at, true);
        script.send(out, &[1; 512]);
    }
    script.assert_innocent();
}

#[test]
fn lost_unsolicited_data_are_solicited() {
    let mut script = level_one(able(), "InitialR2T=No\0ImmediateData=No\0");
    let data = pattern(1024);
    let header = script.write_command(false, 0, 2);
    let itt = script.line.itt;
    lose_incoming(&mut script, opcode::DATA_OUT, 0, IncomingEffect::Drop);
    script.send(header, &[]);
    let out = script.data_out(itt, FREE, 0, 0, false);
    script.send(out, &data[..512]);
    let out = script.data_out(itt, FREE, 1, 512, true);
    script.send(out, &data[512..]);
    let r2t = script.receive().remove(0);
    assert_eq!((r2t.be32(40), r2t.be32(44)), (0, 512));
    let out = script.data_out(itt, r2t.be32(20), 0, 0, true);
    script.send(out, &data[..512]);
    assert_eq!(script.receive()[0].header[3], 0);
    assert_eq!(script.target.disk(0).unwrap().read(0, 2), data);
    script.assert_innocent();
}

#[test]
fn without_recovery_lost_data_end_the_write() {
    let mut script = Script::session(Config::default(), SOLICITED);
    let header = script.write_command(true, 0, 2);
    let itt = script.line.itt;
    script.send(header, &[]);
    let r2t = script.receive().remove(0);
    lose_incoming(&mut script, opcode::DATA_OUT, 0, IncomingEffect::Drop);
    let out = script.data_out(itt, r2t.be32(20), 0, 0, false);
    script.send(out, &[1; 512]);
    let out = script.data_out(itt, r2t.be32(20), 1, 512, true);
    script.send(out, &[1; 512]);
    let status = script.receive().remove(0);
    assert_eq!((status.header[3], status.data[14]), (2, 0x47));
    script.assert_innocent();
}

#[test]
fn a_lost_command_is_a_hole_until_it_is_retried() {
    let mut script = level_one(able(), "InitialR2T=No\0");
    lose_incoming(&mut script, opcode::SCSI_COMMAND, 0, IncomingEffect::Drop);
    let lost = script.command(0x80, 0, &[0; 6]);
    script.send(lost, &[]);
    // A write behind it, with its unsolicited data, has to wait.
    let data = pattern(1024);
    let header = script.write_command(false, 9, 2);
    let itt = script.line.itt;
    script.send(header, &data[..512]);
    let out = script.data_out(itt, FREE, 0, 512, true);
    script.send(out, &data[512..]);
    assert!(script.receive().is_empty());
    let nop = script.request(0x40, 0x80);
    script.send(nop, &[]);
    let pong = script.receive().remove(0);
    assert_eq!(
        pong.be32(28),
        u32::from_be_bytes(lost[24..28].try_into().unwrap())
    );
    let mut retry = lost;
    put(&mut retry, 28, script.line.exp_stat_sn);
    script.send(retry, &[]);
    let answers = script.receive();
    assert_eq!(answers.len(), 2);
    assert_eq!((answers[0].be32(16), answers[1].be32(16)), (itt - 1, itt));
    assert_eq!(script.target.disk(0).unwrap().read(9, 2), data);
    // Once more is ignored in silence.
    put(&mut retry, 28, script.line.exp_stat_sn);
    script.send(retry, &[]);
    assert!(script.receive().is_empty());
    assert_eq!(script.target.recovery().retries, 2);
    script.assert_innocent();
}

#[test]
fn a_damaged_command_is_rejected_and_retried_with_its_data() {
    let mut script = level_one(able(), DIGESTS);
    lose_incoming(
        &mut script,
        opcode::SCSI_COMMAND,
        0,
        IncomingEffect::DataDigest,
    );
    let header = script.write_command(true, 5, 1);
    script.send(header, &[3; 512]);
    let reject = script.receive().remove(0);
    assert_eq!((reject.opcode(), reject.header[2]), (0x3f, 2));
    assert_eq!(reject.be32(28), 0xffff_fff0, "ExpCmdSN stays");
    let mut retry = header;
    put(&mut retry, 28, script.line.exp_stat_sn);
    script.send(retry, &[3; 512]);
    assert_eq!(script.receive()[0].header[3], 0);
    assert_eq!(script.target.journal().len(), 1);
    script.assert_innocent();
}

#[test]
fn an_abort_fills_the_place_of_a_lost_command() {
    let mut script = level_one(able(), "");
    lose_incoming(&mut script, opcode::SCSI_COMMAND, 0, IncomingEffect::Drop);
    let lost = script.command(0x80, 0, &[0; 6]);
    let itt = script.line.itt;
    script.send(lost, &[]);
    assert!(script.test_unit_ready().is_empty(), "waits behind the hole");
    let mut abort = script.request(0x42, 0x81);
    put(&mut abort, 20, itt);
    abort[32..36].copy_from_slice(&lost[24..28]);
    script.send(abort, &[]);
    let answers = script.receive();
    let mut codes: Vec<u8> = answers.iter().map(Pdu::opcode).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0x21, 0x22]);
    let response = answers.iter().find(|pdu| pdu.opcode() == 0x22).unwrap();
    assert_eq!(response.header[2], 0);
    // The command itself comes too late.
    let mut late = lost;
    put(&mut late, 28, script.line.exp_stat_sn);
    script.send(late, &[]);
    assert!(script.receive().is_empty());
    script.assert_innocent();
}

#[test]
fn kept_answers_are_bounded() {
    let mut config = able();
    config.kept_answers = 2;
    let mut script = level_one(config, "");
    let first = script.line.exp_stat_sn;
    for _ in 0..3 {
        let mut header = script.command(0x80, 0, &[0; 6]);
        put(&mut header, 28, first);
        script.send(header, &[]);
        script.receive();
    }
    script.line.exp_stat_sn = first;
    let answer = snack(&mut script, 1, FREE, FREE, first, 1);
    assert_eq!((answer[0].opcode(), answer[0].header[2]), (0x3f, 3));
    script.line.exp_stat_sn = first;
    let kept = snack(&mut script, 1, FREE, FREE, first + 2, 1);
    assert_eq!(kept[0].be32(24), first + 2);
    script.assert_innocent();
}

#[test]
fn a_delayed_pdu_comes_behind_others() {
    let mut script = level_one(able(), "");
    harm(&mut script, opcode::SCSI_RESPONSE, 0, PduEffect::Delay(1));
    let first = script.line.exp_stat_sn;
    assert!(script.test_unit_ready().is_empty());
    let both = script.test_unit_ready();
    assert_eq!((both[0].be32(24), both[1].be32(24)), (first + 1, first));
}

#[test]
fn a_stalled_connection_goes_on() {
    let mut script = level_one(able(), "");
    let id = script.line.id;
    script.target.stall_connection(script.now, id, true);
    assert!(script.test_unit_ready().is_empty());
    script.target.stall_connection(script.now, id, false);
    assert_eq!(script.receive().len(), 1);
    script.assert_innocent();
}
