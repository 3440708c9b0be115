//! The rest of RFC 7143 and RFC 7144: functions for several tasks, response fence, queries, text negotiation in the
//! full feature phase, bidirectional commands, ACA.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use std::time::Duration;

use script::{FREE, Line, Pdu, Script, pattern, put, rw};
use test_target::{
    CommandEffect, CommandFault, CommandFilter, Config, Count, Direction, Keys, Quirks, Rule,
    Sense, TaskReporting, opcode, status,
};

const SECOND: Duration = Duration::from_secs(1);
const SOLICITED: &str = "ImmediateData=No\0InitialR2T=Yes\0";

fn able() -> Config {
    Config {
        keys: Keys {
            max_connections: 8,
            task_reporting: ["RFC3720", "ResponseFence", "FastAbort"]
                .map(str::to_owned)
                .to_vec(),
            protocol_level: 2,
            ..Keys::default()
        },
        ..Config::default()
    }
}

fn modern() -> Script {
    Script::session(able(), "iSCSIProtocolLevel=2\0")
}

fn fault(script: &mut Script, effect: CommandEffect) {
    script.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect,
    });
}

fn hang(script: &mut Script) -> (u32, u32) {
    fault(script, CommandEffect::Hang);
    let number = script.line.cmd_sn;
    assert!(script.test_unit_ready().is_empty());
    (script.line.itt, number)
}

fn manage(script: &mut Script, function: u8, itt: u32, cmd_sn: u32) -> Vec<Pdu> {
    let mut header = script.request(0x42, 0x80 | function);
    put(&mut header, 20, itt);
    put(&mut header, 32, cmd_sn);
    script.send(header, &[]);
    script.receive()
}

fn join(script: &mut Script, cid: u16) -> Line {
    let old = script.reconnect(0);
    script.line.tsih = old.tsih;
    script.line.cid = cid;
    script.line.cmd_sn = old.cmd_sn;
    script.line.itt = old.itt + 1000;
    script.log_in("");
    old
}

/// A write that waits for its data; its tag and R2T.
fn soliciting(script: &mut Script) -> (u32, Pdu) {
    let header = script.write_command(true, 0, 4);
    let itt = script.line.itt;
    script.send(header, &[]);
    (itt, script.receive().remove(0))
}

fn sense_of(pdu: &Pdu) -> (u8, u8, u8) {
    assert_eq!(pdu.header[3], status::CHECK_CONDITION);
    (pdu.data[4] & 15, pdu.data[14], pdu.data[15])
}

#[test]
fn queries_of_rfc_7144() {
    let mut script = modern();
    assert_eq!(script.target.sessions()[0].parameters.protocol_level, 2);
    let (itt, number) = hang(&mut script);
    assert_eq!(manage(&mut script, 9, itt, number)[0].header[2], 7);
    assert_eq!(manage(&mut script, 10, FREE, 0)[0].header[2], 7);
    assert_eq!(manage(&mut script, 1, itt, number)[0].header[2], 0);
    assert_eq!(manage(&mut script, 9, itt, number)[0].header[2], 0);
    assert_eq!(manage(&mut script, 10, FREE, 0)[0].header[2], 0);
    assert_eq!(manage(&mut script, 12, FREE, 0)[0].header[2], 0);
    script.target.unit_attention(0, Sense::new(6, 0x2a, 9));
    let answer = manage(&mut script, 12, FREE, 0).remove(0);
    assert_eq!(answer.header[2], 7);
    assert_eq!(answer.header[8..11], [0x16, 0x2a, 9], "one, of sense key 6");
    assert_eq!(sense_of(&script.test_unit_ready()[0]), (6, 0x2a, 9));
    script.assert_innocent();
}

#[test]
fn an_i_t_nexus_reset_ends_the_session() {
    let mut script = modern();
    hang(&mut script);
    assert_eq!(manage(&mut script, 11, FREE, 0)[0].header[2], 0);
    assert!(script.target.sessions().is_empty());
    assert!(script.target.poll_closed().is_some());
    script.assert_innocent();
}

#[test]
fn without_level_two_the_new_functions_are_unknown() {
    let mut script = Script::session(able(), "");
    assert_eq!(manage(&mut script, 10, FREE, 0)[0].header[2], 5);
    assert_eq!(script.rules(), [Rule::TaskManagementFunction]);
    let mut header = script.command(0x80, 0, &[0; 6]);
    header[2] = 0x50;
    script.send(header, &[]);
    script.receive();
    assert_eq!(script.rules()[1], Rule::ReservedField, "no priority either");
}

#[test]
fn priority_and_status_qualifier_need_level_two() {
    let busy = CommandEffect::Qualified(status::BUSY, None, 0x0123);
    let mut script = modern();
    fault(&mut script, busy.clone());
    let mut header = script.command(0x80, 0, &[0; 6]);
    header[2] = 0x50;
    script.send(header, &[]);
    let answer = script.receive().remove(0);
    assert_eq!((answer.header[3], answer.be16(8)), (status::BUSY, 0x0123));
    script.assert_innocent();
    let mut script = Script::plain();
    fault(&mut script, busy);
    let answer = script.test_unit_ready().remove(0);
    assert_eq!((answer.header[3], answer.be16(8)), (status::BUSY, 0));
    let header = script.command(0xc0, 96, &[0x12, 0, 0, 0, 96, 0]);
    script.send(header, &[]);
    assert_eq!(script.receive()[0].data[60..62], [0x09, 0x61]);
}

#[test]
fn task_reporting_is_the_first_that_both_know() {
    for (offer, result) in [
        ("FastAbort,ResponseFence,RFC3720", TaskReporting::FastAbort),
        ("ResponseFence,RFC3720", TaskReporting::ResponseFence),
        ("RFC3720,ResponseFence", TaskReporting::Rfc3720),
    ] {
        let script = Script::session(able(), &format!("TaskReporting={offer}\0"));
        assert_eq!(
            script.target.sessions()[0].parameters.task_reporting,
            result
        );
        script.assert_innocent();
    }
}

#[test]
fn an_abort_of_a_task_set_waits_for_data_asked_for() {
    for function in [2, 4, 5] {
        let mut script = Script::session(able(), SOLICITED);
        let (itt, r2t) = soliciting(&mut script);
        assert!(manage(&mut script, function, FREE, 0).is_empty());
        let out = script.data_out(itt, r2t.be32(20), 0, 0, false);
        script.send(out, &[1; 512]);
        assert!(script.receive().is_empty());
        let out = script.data_out(itt, r2t.be32(20), 1, 512, true);
        script.send(out, &[1; 1536]);
        let pdus = script.receive();
        assert_eq!(pdus.len(), 1, "the response, and no status after it");
        assert_eq!((pdus[0].opcode(), pdus[0].header[2]), (0x22, 0));
        assert!(script.target.journal().is_empty());
        script.assert_innocent();
    }
}

#[test]
fn an_abort_of_a_task_set_waits_for_commands_before_it() {
    let mut script = Script::session(able(), "MaxConnections=2\0");
    join(&mut script, 1);
    script.line.cmd_sn = script.line.cmd_sn.wrapping_add(1);
    assert!(manage(&mut script, 2, FREE, 0).is_empty());
    script.line.cmd_sn = script.line.cmd_sn.wrapping_sub(1);
    let pdus = script.test_unit_ready();
    let opcodes: Vec<u8> = pdus.iter().map(Pdu::opcode).collect();
    assert_eq!(opcodes, [0x21, 0x22]);
    // A reset of the target counts them as received.
    script.line.cmd_sn = script.line.cmd_sn.wrapping_add(1);
    assert_eq!(manage(&mut script, 6, FREE, 0)[0].header[2], 0);
    let number = script.target.sessions()[0].exp_cmd_sn;
    assert_eq!(number, script.line.cmd_sn);
    script.assert_innocent();
}

#[test]
fn fast_abort_does_not_wait_and_tells_other_connections() {
    let keys =
        format!("TaskReporting=FastAbort,ResponseFence,RFC3720\0MaxConnections=2\0{SOLICITED}");
    let mut script = Script::session(able(), &keys);
    let (itt, r2t) = soliciting(&mut script);
    let mut first = join(&mut script, 1);
    let (own, own_r2t) = soliciting(&mut script);
    let second_sn = script.line.exp_stat_sn;
    // The fence wants acknowledgements of the other connection first.
    let mut pdus = manage(&mut script, 2, FREE, 0);
    std::mem::swap(&mut script.line, &mut first);
    let notices = script.receive();
    assert_eq!(
        (notices[0].opcode(), notices[0].header[36]),
        (opcode::ASYNC_MESSAGE, 5)
    );
    // Data for it may still come there until the event is acknowledged.
    let out = script.data_out(itt, r2t.be32(20), 0, 0, true);
    script.send(out, &[1; 2048]);
    let mut nop = script.request(0x40, 0x80);
    put(&mut nop, 16, FREE);
    nop[8..16].copy_from_slice(&notices[0].header[8..16]);
    script.send(nop, &[]);
    std::mem::swap(&mut script.line, &mut first);
    pdus.extend(script.receive());
    assert_eq!(pdus.len(), 1);
    assert_eq!((pdus[0].opcode(), pdus[0].be32(24)), (0x22, second_sn));
    script.assert_innocent();
    let out = script.data_out(own, own_r2t.be32(20), 0, 0, true);
    script.send(out, &[1; 2048]);
    assert_eq!(script.rules(), [Rule::FastAbortData]);
}

#[test]
fn a_fence_holds_what_comes_after_it() {
    let mut script = Script::session(
        able(),
        "TaskReporting=ResponseFence,RFC3720\0MaxConnections=2\0",
    );
    // A status on the first connection that is not acknowledged.
    let before = script.line.exp_stat_sn;
    assert_eq!(script.test_unit_ready().len(), 1);
    script.line.exp_stat_sn = before;
    let mut first = join(&mut script, 1);
    assert!(manage(&mut script, 5, FREE, 0).is_empty(), "fenced");
    std::mem::swap(&mut script.line, &mut first);
    let ping = script.receive().remove(0);
    assert_eq!(ping.opcode(), opcode::NOP_IN);
    script.line.exp_stat_sn = before.wrapping_add(1);
    let mut pong = script.request(0x40, 0x80);
    put(&mut pong, 16, FREE);
    put(&mut pong, 20, ping.be32(20));
    script.send(pong, &[]);
    let held = script.command(0x80, 0, &[0; 6]);
    script.line.cmd_sn = script.line.cmd_sn.wrapping_add(0);
    std::mem::swap(&mut script.line, &mut first);
    assert_eq!(script.receive().remove(0).opcode(), 0x22);
    // The response is not acknowledged: a status of the other connection waits.
    script.target.receive(script.now, first.id, &held);
    std::mem::swap(&mut script.line, &mut first);
    assert!(script.receive().is_empty());
    std::mem::swap(&mut script.line, &mut first);
    let mut nop = script.request(0x40, 0x80);
    put(&mut nop, 16, FREE);
    put(&mut nop, 24, script.target.sessions()[0].exp_cmd_sn);
    script.send(nop, &[]);
    std::mem::swap(&mut script.line, &mut first);
    assert_eq!(script.receive().len(), 1);
    script.assert_innocent();
}

#[test]
fn a_new_segment_limit_of_the_initiator_counts_when_the_negotiation_is_over() {
    let mut script = Script::plain();
    let mut header = script.request(0x44, 0x00);
    let itt = script.line.itt;
    script.send(header, b"MaxRecvDataSegmentLength=512\0");
    let answer = script.receive().remove(0);
    assert!(!answer.is_final());
    let length = |script: &mut Script| {
        let header = script.command(0xc0, 1024, &rw(0x28, 0, 2));
        script.send(header, &[]);
        script.receive()[0].data.len()
    };
    assert_eq!(length(&mut script), 1024);
    header = script.request(0x44, 0x80);
    put(&mut header, 16, itt);
    put(&mut header, 20, answer.be32(20));
    script.send(header, &[]);
    assert!(script.receive()[0].is_final());
    assert_eq!(length(&mut script), 512);
    script.assert_innocent();
}

#[test]
fn a_negotiation_can_be_reset_by_both() {
    let mut script = Script::plain();
    let header = script.request(0x44, 0x00);
    let itt = script.line.itt;
    script.send(header, b"MaxRecvDataSegmentLength=512\0");
    let answer = script.receive().remove(0);
    // The same key again in one negotiation.
    let mut header = script.request(0x44, 0x80);
    put(&mut header, 16, itt);
    put(&mut header, 20, answer.be32(20));
    script.send(header, b"MaxRecvDataSegmentLength=1024\0");
    let reject = script.receive().remove(0);
    assert_eq!((reject.opcode(), reject.header[2]), (0x3f, 4));
    assert_eq!(script.rules(), [Rule::KeyTwice]);
    let mut script = Script::new(Config {
        quirks: Quirks {
            text_rejects: 1,
            delay_text_final: 1,
            ..Quirks::default()
        },
        ..Config::default()
    });
    script.log_in("");
    let header = script.request(0x44, 0x80);
    script.send(header, b"MaxRecvDataSegmentLength=512\0");
    assert_eq!(script.receive()[0].opcode(), opcode::REJECT);
    let header = script.request(0x44, 0x80);
    let itt = script.line.itt;
    script.send(header, b"MaxRecvDataSegmentLength=512\0");
    let answer = script.receive().remove(0);
    assert!(!answer.is_final() && answer.be32(20) != FREE);
    // A reserved transfer tag starts anew.
    let mut header = script.request(0x44, 0x80);
    put(&mut header, 16, itt);
    script.send(header, b"MaxRecvDataSegmentLength=1024\0");
    assert!(script.receive()[0].is_final());
    script.assert_innocent();
}

#[test]
fn the_target_can_change_its_own_limit() {
    let mut config = able();
    config.quirks.text_keys = vec![("MaxRecvDataSegmentLength".to_owned(), "512".to_owned())];
    let mut script = Script::session(config, "");
    let header = script.request(0x44, 0x80);
    script.send(header, &[]);
    let answer = script.receive().remove(0);
    assert_eq!(
        answer.value("MaxRecvDataSegmentLength").as_deref(),
        Some("512")
    );
    // Sent before the answer was known, this is no offence.
    let mut header = script.request(0x40, 0x80);
    put(&mut header, 28, script.line.exp_stat_sn.wrapping_sub(1));
    script.send(header, &[1; 600]);
    script.receive();
    script.assert_innocent();
    let header = script.request(0x40, 0x80);
    script.send(header, &[]);
    let header = script.request(0x40, 0x80);
    script.send(header, &[1; 600]);
    assert_eq!(script.rules(), [Rule::SegmentTooLong]);
}

#[test]
fn keys_can_be_split_over_several_requests() {
    let mut script = Script::plain();
    let header = script.request(0x44, 0x40);
    let itt = script.line.itt;
    script.send(header, b"MaxRecvDataSegm");
    let answer = script.receive().remove(0);
    assert_eq!((answer.header[1], answer.data.len()), (0, 0));
    let mut header = script.request(0x44, 0x80);
    put(&mut header, 16, itt);
    put(&mut header, 20, answer.be32(20));
    script.send(header, b"entLength=512\0");
    assert!(script.receive()[0].is_final());
    let header = script.command(0xc0, 1024, &rw(0x28, 0, 2));
    script.send(header, &[]);
    assert_eq!(script.receive()[0].data.len(), 512);
    script.assert_innocent();
}

/// XDWRITEREAD with its additional header segments; `expected` bytes are to be read.
fn xdwriteread(script: &mut Script, long: bool, expected: u32, data: &[u8]) {
    let mut header = script.command(0xe0, 1024, &rw(0x53, 8, 2));
    let mut ahs = vec![0, 5, 2, 0];
    ahs.extend(expected.to_be_bytes());
    if long {
        header[32..48].fill(0);
        (header[32], header[39], header[41]) = (0x7f, 0x18, 0x07);
        // The second half of the LBA and the length are in the additional header segment: 32 - 15 bytes with the
        // reserved one.
        ahs.extend([0, 17, 1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    }
    header[4] = (ahs.len() / 4) as u8;
    header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    let bytes = [&header[..], &ahs, data].concat();
    script.target.receive(script.now, script.line.id, &bytes);
}

#[test]
fn bidirectional_commands_move_data_both_ways() {
    for long in [false, true] {
        let mut script = Script::session(Config::default(), "MaxRecvDataSegmentLength=512\0");
        let old = pattern(1024);
        let new = vec![0xff; 1024];
        script.target.disk_mut(0).unwrap().write(8, &old);
        xdwriteread(&mut script, long, 1024, &new[..512]);
        let r2t = script.receive().remove(0);
        assert_eq!((r2t.opcode(), r2t.be32(36)), (opcode::R2T, 0));
        let out = script.data_out(script.line.itt, r2t.be32(20), 0, 512, true);
        script.send(out, &new[512..]);
        let pdus = script.receive();
        let read: Vec<u8> = pdus[..2].iter().flat_map(|pdu| pdu.data.clone()).collect();
        assert!(read.iter().zip(&old).all(|(mixed, old)| *mixed == !old));
        let numbers: Vec<u32> = pdus[..2].iter().map(|pdu| pdu.be32(36)).collect();
        assert_eq!(numbers, [1, 2], "numbered with the R2T");
        let status = &pdus[2];
        assert_eq!((status.opcode(), status.header[1]), (0x21, 0x80));
        assert_eq!((status.header[3], status.be32(36)), (0, 2));
        assert_eq!(script.target.disk(0).unwrap().read(8, 2), new);
        script.assert_innocent();
    }
}

#[test]
fn bidirectional_residuals_have_their_own_fields() {
    let mut script = Script::plain();
    xdwriteread(&mut script, false, 1536, &[0; 1024]);
    let status = script.receive().pop().unwrap();
    assert_eq!((status.header[1], status.be32(40)), (0x88, 512), "u");
    assert_eq!(script.rules(), [Rule::ExpectedLength]);
    xdwriteread(&mut script, false, 512, &[0; 1024]);
    let status = script.receive().pop().unwrap();
    assert_eq!((status.header[1], status.be32(40)), (0x90, 512), "o");
}

#[test]
fn aca_keeps_others_out_until_it_is_cleared() {
    let mut config = able();
    config.aca = true;
    let mut script = Script::session(config, "");
    let header = script.command(0xc0, 96, &[0x12, 0, 0, 0, 96, 0]);
    script.send(header, &[]);
    assert_eq!(script.receive()[0].data[3] & 0x20, 0x20, "NORMACA");
    // An illegal LBA with NACA.
    let mut cdb = rw(0x28, 0x00ff_ffff, 1);
    cdb[9] = 0x04;
    let header = script.command(0xc0, 512, &cdb);
    script.send(header, &[]);
    assert_eq!(sense_of(&script.receive()[0]), (5, 0x21, 0));
    assert_eq!(script.test_unit_ready()[0].header[3], status::ACA_ACTIVE);
    let mut header = script.command(0x80, 0, &[0; 6]);
    header[1] = 0x84;
    script.send(header, &[]);
    assert_eq!(script.receive()[0].header[3], 0, "an ACA task passes");
    assert_eq!(manage(&mut script, 3, FREE, 0)[0].header[2], 0);
    assert_eq!(script.test_unit_ready()[0].header[3], 0);
    let mut header = script.command(0x80, 0, &[0; 6]);
    header[1] = 0x84;
    script.send(header, &[]);
    assert_eq!(sense_of(&script.receive()[0]), (5, 0x49, 0));
    script.assert_innocent();
}

#[test]
fn ordered_tasks_wait_for_all_before_them_and_hold_back_simple_ones() {
    let mut script = Script::plain();
    fault(&mut script, CommandEffect::DelayExecution(SECOND));
    let mut send = |attribute: u8| {
        let mut header = script.command(0x80, 0, &[0; 6]);
        header[1] = 0x80 | attribute;
        script.send(header, &[]);
        script.line.itt
    };
    let (late, ordered, simple, first) = (send(1), send(2), send(1), send(3));
    let tags = |pdus: Vec<Pdu>| pdus.iter().map(|pdu| pdu.be32(16)).collect::<Vec<_>>();
    assert_eq!(
        tags(script.receive()),
        [first],
        "head of queue waits for nothing"
    );
    script.pass(SECOND);
    assert_eq!(tags(script.receive()), [late, ordered, simple]);
    // What is aborted holds nobody back.
    let (itt, number) = hang(&mut script);
    let mut header = script.command(0x80, 0, &[0; 6]);
    header[1] = 0x82;
    script.send(header, &[]);
    assert!(script.receive().is_empty());
    let pdus = manage(&mut script, 1, itt, number);
    assert_eq!(pdus.len(), 2);
    script.assert_innocent();
}

#[test]
fn the_wire_log_keeps_the_newest() {
    let mut script = Script::session(
        Config {
            wire_log: 2,
            ..Config::default()
        },
        "",
    );
    script.test_unit_ready();
    let log = script.target.wire_log();
    assert_eq!(log.len(), 2);
    assert_eq!((log[0].direction, log[0].opcode()), (Direction::In, 1));
    assert_eq!(
        (log[1].direction, log[1].opcode()),
        (Direction::Out { whole: true }, 0x21)
    );
    assert_eq!(log[0].be32(16), log[1].be32(16));
}

#[test]
fn a_function_that_waits_in_vain_drops_the_connection() {
    let mut script = Script::session(able(), SOLICITED);
    soliciting(&mut script);
    assert!(manage(&mut script, 2, FREE, 0).is_empty());
    script.pass(SECOND * 60);
    assert_eq!(script.rules(), [Rule::MultiTaskAbortData]);
    assert_eq!(script.target.poll_closed(), Some((script.line.id, true)));
}
