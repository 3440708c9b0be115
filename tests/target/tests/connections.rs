//! Several connections, their loss, and ErrorRecoveryLevel 2 (RFC 7143 §6.3.4, §7.1.4.3, §7.2.2, §11.14).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use std::time::Duration;

use script::{Line, Pdu, Script, pattern, put, rw};
use test_target::{
    AsyncEvent, CommandEffect, CommandFault, CommandFilter, Config, Count, IncomingEffect,
    IncomingFault, Keys, ManagementEffect, PduFilter, Rule, opcode,
};

const SECOND: Duration = Duration::from_secs(1);
const LEVEL_TWO: &str = "ErrorRecoveryLevel=2\0MaxConnections=4\0DefaultTime2Wait=0\0DefaultTime2Retain=20\0\
                         MaxRecvDataSegmentLength=512\0";

fn able() -> Config {
    Config {
        keys: Keys {
            error_recovery_level: 2,
            max_connections: 8,
            time2wait_s: 0,
            time2retain_s: 20,
            ..Keys::default()
        },
        ..Config::default()
    }
}

fn level_two(config: Config) -> Script {
    Script::session(config, LEVEL_TWO)
}

/// At most two connections.
fn two_at_most() -> Script {
    let keys = Keys {
        max_connections: 8,
        ..Keys::default()
    };
    let config = Config {
        keys,
        ..Config::default()
    };
    Script::session(config, "MaxConnections=2\0")
}

/// Adds a connection and makes it the current one; the other line is returned.
fn join(script: &mut Script, cid: u16, keys: &str) -> Line {
    join_after(script, cid, keys, 0)
}

fn join_after(script: &mut Script, cid: u16, keys: &str, exp_stat_sn: u32) -> Line {
    let old = script.reconnect(0);
    script.line.tsih = old.tsih;
    script.line.isid = old.isid;
    script.line.cid = cid;
    script.line.cmd_sn = old.cmd_sn;
    script.line.itt = old.itt + 1000;
    script.line.exp_stat_sn = exp_stat_sn;
    script.log_in(keys);
    old
}

fn lose(script: &mut Script, line: &Line) {
    script.target.peer_closed(script.now, line.id);
}

fn fault(script: &mut Script, effect: CommandEffect) {
    script.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect,
    });
}

fn logout(script: &mut Script, reason: u8, cid: u16, exp_stat_sn: u32) -> Pdu {
    let mut h = script.request(0x46, 0x80 | reason);
    put(&mut h, 20, u32::from(cid) << 16);
    put(&mut h, 28, exp_stat_sn);
    script.send(h, &[]);
    script.receive().remove(0)
}

/// TASK REASSIGN; all that comes back.
fn reassign(script: &mut Script, itt: u32, exp_data_sn: u32) -> Vec<Pdu> {
    let mut h = script.request(0x42, 0x88);
    put(&mut h, 20, itt);
    put(&mut h, 36, exp_data_sn);
    script.send(h, &[]);
    script.receive()
}

fn start_read(script: &mut Script, blocks: u16) -> u32 {
    let header = script.command(0xc0, u32::from(blocks) * 512, &rw(0x28, 0, blocks));
    script.send(header, &[]);
    script.line.itt
}

#[test]
fn commands_are_executed_in_order_over_all_connections() {
    let mut script = level_two(able());
    let first = join(&mut script, 1, "");
    let second = std::mem::replace(&mut script.line, first);
    let data = [pattern(512), vec![9; 512]];
    // The second write comes first, on another connection.
    let mut one = script.write_command(true, 0, 1);
    let mut two = script.write_command(true, 0, 1);
    put(&mut two, 28, second.exp_stat_sn);
    let mut first = std::mem::replace(&mut script.line, second);
    script.send(two, &data[1]);
    assert!(script.receive().is_empty());
    std::mem::swap(&mut script.line, &mut first);
    put(&mut one, 28, script.line.exp_stat_sn);
    script.send(one, &data[0]);
    assert_eq!(script.receive()[0].be32(16), script.line.itt - 1);
    std::mem::swap(&mut script.line, &mut first);
    assert_eq!(
        script.receive().len(),
        1,
        "status on the connection of its command"
    );
    assert_eq!(script.target.disk(0).unwrap().read(0, 1), data[1]);
    script.assert_innocent();
}

#[test]
fn a_hole_that_stays_is_noticed() {
    let mut script = level_two(able());
    join(&mut script, 1, "");
    script.line.cmd_sn = script.line.cmd_sn.wrapping_add(1);
    assert!(script.test_unit_ready().is_empty());
    script.pass(SECOND * 59);
    script.assert_innocent();
    script.pass(SECOND);
    assert_eq!(script.rules(), [Rule::CmdSnHole]);
}

#[test]
fn no_more_connections_than_agreed() {
    let mut script = two_at_most();
    join(&mut script, 1, "");
    let old = script.reconnect(0);
    (script.line.tsih, script.line.cid) = (old.tsih, 2);
    let text = format!("{}{}", script::NAMES, script::TARGET);
    assert_eq!(script.login(0x87, &text).be16(36), 0x0206);
    assert_eq!(script.rules(), [Rule::LoginTsih]);
}

#[test]
fn a_login_that_was_overtaken_is_refused_and_no_offence() {
    let mut script = two_at_most();
    let first = join(&mut script, 1, "");
    // Given up by the initiator, and on its way while others were opened and used.
    let old = script.reconnect(0);
    (script.line.tsih, script.line.cid) = (old.tsih, 2);
    let late = std::mem::replace(&mut script.line, old);
    assert_eq!(script.test_unit_ready().len(), 1);
    script.line = late;
    let text = format!("{}{}", script::NAMES, script::TARGET);
    assert_eq!(script.login(0x87, &text).be16(36), 0x0206);
    script.assert_innocent();
    // One with a CID that has left.
    script.line = first;
    script.line.cmd_sn = script.line.cmd_sn.wrapping_add(1);
    assert_eq!(logout(&mut script, 1, 1, 0).header[2], 0);
    join(&mut script, 3, "");
    let old = script.reconnect(0);
    (script.line.tsih, script.line.cid, script.line.cmd_sn) = (old.tsih, 1, old.cmd_sn);
    assert_eq!(script.login(0x87, &text).be16(36), 0x0206);
    script.assert_innocent();
}

#[test]
fn a_retry_that_is_ignored_is_ignored_with_its_data() {
    for same_connection in [true, false] {
        let keys = format!("{LEVEL_TWO}InitialR2T=No\0ImmediateData=No\0FirstBurstLength=512\0");
        let mut script = Script::session(able(), &keys);
        let data = pattern(1024);
        let mut command = script.write_command(false, 0, 2);
        let itt = script.line.itt;
        let first = script.data_out(itt, script::FREE, 0, 0, true);
        script.send(command, &[]);
        script.send(first, &data[..512]);
        assert_eq!(script.receive()[0].opcode(), 0x31, "the rest is asked for");
        if !same_connection {
            let dead = script.line.clone();
            lose(&mut script, &dead);
            join_after(&mut script, 0, "", dead.exp_stat_sn);
        }
        // The initiator did not hear that the command was received.
        put(&mut command, 28, script.line.exp_stat_sn);
        let again = script.data_out(itt, script::FREE, 0, 0, true);
        script.send(command, &[]);
        script.send(again, &data[..512]);
        assert!(script.receive().is_empty());
        script.assert_innocent();
    }
}

#[test]
fn a_login_whose_success_was_not_heard_of_counts_for_nothing() {
    for used in [false, true] {
        let mut script = level_two(able());
        let itt = start_read(&mut script, 8);
        let dead = script.line.clone();
        script.receive();
        lose(&mut script, &dead);
        join_after(&mut script, 0, "", dead.exp_stat_sn);
        if used {
            script.test_unit_ready();
        }
        // The final Login Response is lost; the numbers that the initiator knows are those of the first connection.
        join_after(&mut script, 0, "", dead.exp_stat_sn.wrapping_add(1000));
        if used {
            assert_eq!(script.rules(), [Rule::LogoutExpStatSn]);
            continue;
        }
        assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 0);
        script.assert_innocent();
    }
}

#[test]
fn a_read_goes_on_from_its_reference_number() {
    for (known, first) in [(3, 3), (0, 0), (8, 8)] {
        let mut script = level_two(able());
        let data = pattern(4096);
        script.target.disk_mut(0).unwrap().write(0, &data);
        let itt = start_read(&mut script, 8);
        let acknowledged = script.line.exp_stat_sn;
        script.receive();
        let dead = script.line.clone();
        lose(&mut script, &dead);
        assert_eq!(script.target.sessions()[0].lost, [(0, false)]);
        join_after(&mut script, 0, "", acknowledged);
        assert_eq!(script.target.sessions()[0].lost, [(0, true)]);
        let pdus = reassign(&mut script, itt, known);
        assert_eq!((pdus[0].opcode(), pdus[0].header[2]), (0x22, 0));
        // The new connection takes the default of 8192 bytes: one PDU for the rest.
        if known < 8 {
            assert_eq!(pdus.len(), 2);
            assert_eq!(
                (pdus[1].be32(36), pdus[1].be32(40), pdus[1].header[1]),
                (first, first * 512, 0x81)
            );
            assert_eq!(pdus[1].data, data[first as usize * 512..]);
        } else {
            assert_eq!((pdus[1].opcode(), pdus[1].header[3]), (0x21, 0));
            assert_eq!(pdus[1].be32(36), 8);
        }
        assert_eq!(script.test_unit_ready().len(), 1);
        assert!(script.target.sessions()[0].lost.is_empty());
        assert_eq!(script.target.recovery().reassigned, 1);
        script.assert_innocent();
    }
}

#[test]
fn a_write_goes_on_by_new_r2ts() {
    let mut script = Script::session(able(), &format!("{LEVEL_TWO}MaxBurstLength=1024\0"));
    let data = pattern(4096);
    let header = script.write_command(true, 7, 8);
    let itt = script.line.itt;
    script.send(header, &data[..512]);
    let r2t = script.receive().remove(0);
    assert_eq!(r2t.be32(40), 512);
    let mut out = script.data_out(itt, r2t.be32(20), 0, 512, false);
    out[8..16].copy_from_slice(&r2t.header[8..16]);
    script.send(out, &data[512..1024]);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join_after(&mut script, 0, "", dead.exp_stat_sn);
    let pdus = reassign(&mut script, itt, 0);
    assert_eq!((pdus[0].opcode(), pdus[0].header[2]), (0x22, 0));
    let mut r2t = pdus[1].clone();
    assert_eq!(
        (r2t.be32(36), r2t.be32(40)),
        (1, 1024),
        "numbered on, for what did not come"
    );
    loop {
        let (at, bytes) = (r2t.be32(40) as usize, r2t.be32(44) as usize);
        let out = script.data_out(itt, r2t.be32(20), 0, at as u32, true);
        script.send(out, &data[at..at + bytes]);
        r2t = script.receive().remove(0);
        if r2t.opcode() != opcode::R2T {
            break;
        }
    }
    assert_eq!((r2t.opcode(), r2t.header[3]), (0x21, 0));
    assert_eq!(script.target.disk(0).unwrap().read(7, 8), data);
    assert_eq!(script.target.journal().len(), 1);
    script.assert_innocent();
}

#[test]
fn a_task_is_executed_once_and_its_status_sent_again() {
    let mut script = level_two(able());
    let header = script.write_command(true, 0, 1);
    let itt = script.line.itt;
    let before = script.line.exp_stat_sn;
    script.send(header, &[5; 512]);
    assert_eq!(script.receive().len(), 1, "a status that we lose");
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join_after(&mut script, 0, "", before);
    let pdus = reassign(&mut script, itt, 0);
    assert_eq!((pdus[1].opcode(), pdus[1].header[3]), (0x21, 0));
    assert_eq!(script.target.journal().len(), 1);
    script.test_unit_ready();
    assert!(script.target.sessions()[0].tasks.is_empty());
    script.assert_innocent();
}

#[test]
fn a_task_finishes_while_nobody_is_connected() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::DelayExecution(SECOND * 5));
    let header = script.write_command(true, 0, 1);
    let itt = script.line.itt;
    script.send(header, &[5; 512]);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    script.pass(SECOND * 6);
    assert!(!script.target.journal()[0].late);
    join_after(&mut script, 0, "", dead.exp_stat_sn);
    let pdus = reassign(&mut script, itt, 0);
    assert_eq!((pdus[1].opcode(), pdus[1].header[3]), (0x21, 0));
    script.assert_innocent();
}

#[test]
fn an_acknowledged_status_ends_the_task_at_the_logout() {
    let mut script = level_two(able());
    let itt = start_read(&mut script, 1);
    script.receive();
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join(&mut script, 1, "");
    let answer = logout(&mut script, 2, 0, dead.exp_stat_sn);
    assert_eq!((answer.opcode(), answer.header[2]), (0x26, 0));
    assert_eq!((answer.be16(40), answer.be16(42)), (0, 20));
    assert_eq!(
        reassign(&mut script, itt, 0)[0].header[2],
        1,
        "no such task"
    );
    script.assert_innocent();
}

#[test]
fn a_living_connection_is_removed_for_recovery_by_another() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::DelayAnswer(SECOND * 3));
    let itt = start_read(&mut script, 2);
    let first = join(&mut script, 1, "");
    let answer = reassign(&mut script, itt, 0);
    assert_eq!(answer[0].header[2], 3, "still allegiant");
    assert_eq!(script.rules(), [Rule::ReassignAllegiant]);
    assert_eq!(logout(&mut script, 2, 0, first.exp_stat_sn).header[2], 0);
    assert_eq!(script.target.poll_closed(), Some((first.id, false)));
    assert_eq!(reassign(&mut script, itt, 0).len(), 1, "not finished yet");
    script.pass(SECOND * 3);
    assert_eq!(script.receive().len(), 1, "two blocks with their status");
    assert_eq!(script.target.recovery().recovery_logouts, 1);
}

#[test]
fn the_last_connection_removes_itself_for_recovery() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    let exp_stat_sn = script.line.exp_stat_sn;
    let answer = logout(&mut script, 2, 0, exp_stat_sn);
    assert_eq!((answer.header[2], answer.be16(42)), (0, 20));
    assert_eq!(script.target.sessions().len(), 1);
    join(&mut script, 5, "");
    assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 0);
    script.assert_innocent();
}

#[test]
fn a_wait_in_the_logout_response_holds() {
    let mut config = able();
    config.logout_times = Some((3, 10));
    let mut script = level_two(config);
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join(&mut script, 1, "");
    let answer = logout(&mut script, 2, 0, dead.exp_stat_sn);
    assert_eq!((answer.be16(40), answer.be16(42)), (3, 10));
    script.pass(SECOND * 2);
    assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 0);
    assert_eq!(script.rules(), [Rule::RecoveryTooEarly]);
}

#[test]
fn a_wait_that_was_not_heard_of_does_not_hold_after_a_login() {
    for heard in [false, true] {
        let mut config = able();
        config.logout_times = Some((3, 10));
        let mut script = level_two(config);
        fault(&mut script, CommandEffect::Hang);
        let itt = start_read(&mut script, 2);
        let dead = script.line.clone();
        lose(&mut script, &dead);
        join(&mut script, 1, "");
        let known = script.line.exp_stat_sn;
        logout(&mut script, 2, 0, dead.exp_stat_sn);
        if heard {
            script.test_unit_ready();
        } else {
            script.line.exp_stat_sn = known;
        }
        let witness = script.line.clone();
        lose(&mut script, &witness);
        // The initiator cannot know that the logout has succeeded, and takes the CID by a login.
        join_after(&mut script, 0, "", dead.exp_stat_sn);
        assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 0);
        if heard {
            assert_eq!(script.rules(), [Rule::RecoveryTooEarly]);
        } else {
            script.assert_innocent();
        }
    }
}

#[test]
fn numbers_of_a_forgotten_connection_are_not_those_of_an_older_one() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::Hang);
    start_read(&mut script, 2);
    let oldest = script.line.clone();
    lose(&mut script, &oldest);
    join_after(&mut script, 0, "", oldest.exp_stat_sn);
    for _ in 0..8 {
        script.test_unit_ready();
    }
    let newer = join(&mut script, 1, "");
    // With nothing to retain, the target forgets the newer connection, but not the task of the oldest.
    let event = AsyncEvent::DropConnection {
        cid: None,
        wait_s: 0,
        retain_s: 0,
    };
    script.target.send_async(script.now, newer.id, &event);
    logout(&mut script, 2, 0, newer.exp_stat_sn);
    script.assert_innocent();
}

#[test]
fn tasks_nobody_reassigns_end_with_an_attention() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    let dead = script.line.clone();
    join(&mut script, 1, "");
    lose(&mut script, &dead);
    let notice = script.receive().remove(0);
    assert_eq!(
        (
            notice.opcode(),
            notice.header[36],
            notice.be16(38),
            notice.be16(42)
        ),
        (0x32, 2, 0, 20),
        "the other connection is told"
    );
    script.pass(SECOND * 19);
    assert_eq!(script.target.sessions()[0].tasks, [itt]);
    script.pass(SECOND);
    assert!(script.target.sessions()[0].tasks.is_empty());
    assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 1);
    let answer = script.test_unit_ready().remove(0);
    assert_eq!(
        (answer.data[4] & 15, answer.data[14], answer.data[15]),
        (6, 0x47, 0x7f)
    );
    script.assert_innocent();
}

#[test]
fn a_write_whose_task_ended_may_still_happen() {
    let mut config = able();
    config.late_execution = Some(SECOND * 7);
    let mut script = level_two(config);
    fault(&mut script, CommandEffect::DelayExecution(SECOND * 100));
    let header = script.write_command(true, 0, 1);
    script.send(header, &[5; 512]);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    script.pass(SECOND * 20);
    assert!(script.target.sessions().is_empty(), "session timeout");
    assert_eq!(script.target.late_writes(), 1);
    script.pass(SECOND * 7);
    assert!(script.target.journal()[0].late);
}

#[test]
fn session_reinstatement_ends_kept_tasks() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::DelayExecution(SECOND * 5));
    let header = script.write_command(true, 0, 1);
    script.send(header, &[5; 512]);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    script.reconnect(0);
    script.log_in(LEVEL_TWO);
    assert_eq!(script.target.sessions().len(), 1);
    script.pass(SECOND * 100);
    assert!(script.target.journal().is_empty());
    script.assert_innocent();
}

#[test]
fn below_level_two_tasks_end_with_their_connection() {
    let mut script = Script::session(able(), "ErrorRecoveryLevel=1\0MaxConnections=4\0");
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    join(&mut script, 0, "");
    assert!(script.target.sessions()[0].tasks.is_empty());
    assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 4);
    let answer = script.test_unit_ready().remove(0);
    assert_eq!((answer.data[14], answer.data[15]), (0x47, 0x7f));
    let answer = logout(&mut script, 2, 0, 0);
    assert_eq!(answer.header[2], 2, "connection recovery not supported");
}

#[test]
fn reassignment_can_be_refused() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join_after(&mut script, 0, "", dead.exp_stat_sn);
    script
        .target
        .fault_function(8, Count::ONCE, ManagementEffect::Respond(255));
    assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 255);
    script
        .target
        .fault_function(8, Count::ONCE, ManagementEffect::Lose);
    assert!(reassign(&mut script, itt, 0).is_empty());
    assert_eq!(reassign(&mut script, itt, 0)[0].header[2], 0);
    script.assert_innocent();
}

#[test]
fn a_command_lost_with_its_connection_is_retried_on_another() {
    let mut script = level_two(able());
    script.target.fault_incoming(IncomingFault {
        filter: PduFilter {
            opcode: Some(opcode::SCSI_COMMAND),
            ..PduFilter::default()
        },
        count: Count::ONCE,
        effect: IncomingEffect::Drop,
    });
    let lost = script.command(0x80, 0, &[0; 6]);
    script.send(lost, &[]);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join_after(&mut script, 0, "", dead.exp_stat_sn);
    assert!(script.test_unit_ready().is_empty(), "behind the hole");
    let mut retry = lost;
    put(&mut retry, 28, script.line.exp_stat_sn);
    script.send(retry, &[]);
    assert_eq!(script.receive().len(), 2);
    script.assert_innocent();
}

#[test]
fn an_abort_of_a_task_without_connection_succeeds() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    let cmd_sn = script.line.cmd_sn.wrapping_sub(1);
    let dead = script.line.clone();
    lose(&mut script, &dead);
    join_after(&mut script, 0, "", dead.exp_stat_sn);
    let mut abort = script.request(0x42, 0x81);
    put(&mut abort, 20, itt);
    put(&mut abort, 32, cmd_sn);
    script.send(abort, &[]);
    assert_eq!(script.receive()[0].header[2], 0);
    assert!(script.target.sessions()[0].tasks.is_empty());
    script.assert_innocent();
}

#[test]
fn announced_times_hold_for_the_tasks() {
    let mut script = level_two(able());
    fault(&mut script, CommandEffect::Hang);
    let itt = start_read(&mut script, 2);
    let first = join(&mut script, 1, "");
    let event = AsyncEvent::DropConnection {
        cid: Some(0),
        wait_s: 1,
        retain_s: 2,
    };
    let id = script.line.id;
    script.target.send_async(script.now, id, &event);
    let pdus = script.receive();
    assert_eq!(pdus.len(), 1, "announced once");
    assert_eq!((pdus[0].header[36], pdus[0].be16(38)), (2, 0));
    assert_eq!(
        script.target.poll_closed(),
        None,
        "what is queued goes first"
    );
    let mut rest = Vec::new();
    script.target.transmit(first.id, &mut rest, 1000);
    assert_eq!(script.target.poll_closed(), Some((first.id, false)));
    script.pass(SECOND * 2);
    assert_eq!(script.target.sessions()[0].tasks, [itt]);
    script.pass(SECOND);
    assert!(script.target.sessions()[0].tasks.is_empty());
    script.assert_innocent();
}

#[test]
fn a_tag_is_free_after_its_answer() {
    let mut script = level_two(able());
    let itt = start_read(&mut script, 1);
    script.receive();
    let dead = script.line.clone();
    lose(&mut script, &dead);
    // The old acknowledgement says nothing of the answer, but the tag is used again.
    let old = dead.exp_stat_sn.wrapping_sub(1);
    join_after(&mut script, 0, "", old);
    script.line.itt = itt - 1;
    assert_eq!(script.test_unit_ready().len(), 1);
    assert_eq!(script.line.itt, itt);
    script.assert_innocent();
}
