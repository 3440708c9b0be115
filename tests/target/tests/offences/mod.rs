//! Offences against the rules of error recovery and of several connections.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use test_target::{
    AsyncEvent, CommandEffect, CommandFault, CommandFilter, Config, Count, IncomingEffect,
    IncomingFault, Keys, PduEffect, PduFault, PduFilter, Rule, opcode,
};

use crate::Offence;
use crate::script::{FREE, Line, Script, put, rw};

fn able() -> Config {
    Config {
        keys: Keys {
            error_recovery_level: 2,
            max_connections: 8,
            time2wait_s: 0,
            time2retain_s: 20,
            ..Keys::default()
        },
        data_ack: true,
        ..Config::default()
    }
}

fn level_two() -> Script {
    Script::session(
        able(),
        "ErrorRecoveryLevel=2\0MaxConnections=4\0DefaultTime2Wait=0\0DefaultTime2Retain=20\0\
         MaxRecvDataSegmentLength=512\0",
    )
}

fn join(script: &mut Script, cid: u16, exp_stat_sn: u32) -> Line {
    let old = script.reconnect(0);
    script.line.tsih = old.tsih;
    script.line.cid = cid;
    script.line.cmd_sn = old.cmd_sn;
    script.line.itt = old.itt + 1000;
    script.line.exp_stat_sn = exp_stat_sn;
    script.log_in("");
    old
}

fn lose_next(script: &mut Script, code: u8) {
    let filter = PduFilter {
        opcode: Some(code),
        ..PduFilter::default()
    };
    script.target.fault_pdu(PduFault {
        filter,
        count: Count::ONCE,
        effect: PduEffect::Drop,
    });
}

fn lose_command(script: &mut Script) -> [u8; 48] {
    script.target.fault_incoming(IncomingFault {
        filter: PduFilter::default(),
        count: Count::ONCE,
        effect: IncomingEffect::Drop,
    });
    let header = script.command(0x80, 0, &[0; 6]);
    script.send(header, &[]);
    header
}

fn snack(script: &mut Script, kind: u8, itt: u32, ttt: u32, begin: u32, run: u32) {
    let mut h = [0; 48];
    h[0] = 0x10;
    h[1] = 0x80 | kind;
    put(&mut h, 16, itt);
    put(&mut h, 20, ttt);
    put(&mut h, 28, script.line.exp_stat_sn);
    put(&mut h, 40, begin);
    put(&mut h, 44, run);
    script.send(h, &[]);
}

/// A read whose status is not acknowledged; its tag, and the transfer tag of its A bit.
fn unacknowledged_read(script: &mut Script) -> (u32, u32) {
    let header = script.command(0xc0, 2048, &rw(0x28, 0, 4));
    script.send(header, &[]);
    let before = script.line.exp_stat_sn;
    let pdus = script.receive();
    script.line.exp_stat_sn = before;
    (script.line.itt, pdus.last().unwrap().be32(20))
}

fn hanging_read(script: &mut Script) -> u32 {
    script.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect: CommandEffect::Hang,
    });
    let header = script.command(0xc0, 512, &rw(0x28, 0, 1));
    script.send(header, &[]);
    script.line.itt
}

fn manage(script: &mut Script, opcode: u8, function: u8, itt: u32, changes: &[(usize, u32)]) {
    let mut header = script.request(opcode, 0x80 | function);
    put(&mut header, 20, itt);
    for (at, value) in changes {
        put(&mut header, *at, *value);
    }
    script.send(header, &[]);
}

/// A session whose connection was lost with an answered read, and reinstated.
fn reinstated() -> (Script, u32) {
    let mut script = level_two();
    let (itt, _) = unacknowledged_read(&mut script);
    let dead = script.line.clone();
    script.target.peer_closed(script.now, dead.id);
    join(&mut script, 0, dead.exp_stat_sn);
    (script, itt)
}

pub(crate) fn numbering() -> Vec<Offence> {
    vec![
        (Rule::CmdSnOrder, || {
            let mut script = level_two();
            join(&mut script, 1, 0);
            let first = script.command(0x80, 0, &[0; 6]);
            let second = script.command(0x80, 0, &[0; 6]);
            script.send(second, &[]);
            script.send(first, &[]);
            script
        }),
        (Rule::CmdSnHole, || {
            let mut script = level_two();
            join(&mut script, 1, 0);
            script.line.cmd_sn = script.line.cmd_sn.wrapping_add(2);
            script.test_unit_ready();
            script.pass(Duration::from_secs(60));
            script
        }),
        (Rule::RetryDiffers, || {
            let mut script = level_two();
            let mut header = lose_command(&mut script);
            put(&mut header, 16, 9999);
            script.send(header, &[]);
            script
        }),
        (Rule::RetryDiffers, || {
            let mut script = level_two();
            let mut header = lose_command(&mut script);
            header[32] = 0x1b;
            script.send(header, &[]);
            script
        }),
        (Rule::RetryConnection, || {
            let mut script = level_two();
            let mut header = lose_command(&mut script);
            join(&mut script, 1, 0);
            put(&mut header, 28, script.line.exp_stat_sn);
            script.send(header, &[]);
            script
        }),
        (Rule::ExpStatSnLost, || {
            let mut script = Script::plain();
            lose_next(&mut script, opcode::SCSI_RESPONSE);
            script.test_unit_ready();
            script.test_unit_ready();
            script.test_unit_ready();
            script
        }),
    ]
}

pub(crate) fn snacks() -> Vec<Offence> {
    vec![
        (Rule::SnackFields, || {
            let mut script = level_two();
            snack(&mut script, 5, FREE, FREE, 0, 0);
            script
        }),
        (Rule::SnackFields, || {
            let mut script = level_two();
            snack(&mut script, 1, 7, FREE, 0, 0);
            script
        }),
        (Rule::SnackFields, || {
            let mut script = level_two();
            let (itt, _) = unacknowledged_read(&mut script);
            snack(&mut script, 3, itt, 0, 0, 0);
            script
        }),
        (Rule::SnackFields, || {
            let mut script = level_two();
            let (_, ttt) = unacknowledged_read(&mut script);
            snack(&mut script, 2, FREE, ttt, 4, 1);
            script
        }),
        (Rule::SnackUnsent, || {
            let mut script = level_two();
            let (itt, _) = unacknowledged_read(&mut script);
            snack(&mut script, 0, itt, FREE, 3, 2);
            script
        }),
        (Rule::SnackUnsent, || {
            let mut script = level_two();
            snack(&mut script, 1, FREE, FREE, 50, 1);
            script
        }),
        (Rule::SnackUnsent, || {
            let mut script = level_two();
            let (_, ttt) = unacknowledged_read(&mut script);
            snack(&mut script, 2, FREE, ttt, 5, 0);
            script
        }),
        (Rule::SnackAcknowledged, || {
            let mut script = level_two();
            script.test_unit_ready();
            script.test_unit_ready();
            snack(&mut script, 1, FREE, FREE, 1, 1);
            script
        }),
        (Rule::SnackAcknowledged, || {
            let mut script = level_two();
            let (itt, ttt) = unacknowledged_read(&mut script);
            snack(&mut script, 2, FREE, ttt, 4, 0);
            snack(&mut script, 0, itt, FREE, 1, 1);
            script
        }),
        (Rule::SnackAcknowledged, || {
            let mut script = level_two();
            let (itt, _) = unacknowledged_read(&mut script);
            script.line.exp_stat_sn += 1;
            snack(&mut script, 0, itt, FREE, 1, 1);
            script
        }),
        (Rule::SnackResegment, || {
            let mut script = level_two();
            let (itt, _) = unacknowledged_read(&mut script);
            let header = script.request(0x44, 0x80);
            script.send(header, b"MaxRecvDataSegmentLength=1024\0");
            snack(&mut script, 0, itt, FREE, 1, 1);
            script
        }),
        (Rule::DataAckTag, || {
            let mut script = level_two();
            let (_, ttt) = unacknowledged_read(&mut script);
            snack(&mut script, 2, FREE, ttt.wrapping_add(1), 4, 0);
            script
        }),
        (Rule::DataAckHoles, || {
            let mut script = level_two();
            lose_next(&mut script, opcode::DATA_IN);
            let (_, ttt) = unacknowledged_read(&mut script);
            snack(&mut script, 2, FREE, ttt, 4, 0);
            script
        }),
    ]
}

pub(crate) fn reassignment() -> Vec<Offence> {
    vec![
        (Rule::TaskManagementAllegiance, || {
            let mut script = level_two();
            let itt = hanging_read(&mut script);
            let number = script.line.cmd_sn.wrapping_sub(1);
            join(&mut script, 1, 0);
            manage(&mut script, 0x42, 1, itt, &[(32, number)]);
            script
        }),
        (Rule::ReassignImmediate, || {
            let (mut script, itt) = reinstated();
            manage(&mut script, 0x02, 8, itt, &[]);
            script
        }),
        (Rule::ReassignAllegiant, || {
            let mut script = level_two();
            let itt = hanging_read(&mut script);
            let dead = script.line.clone();
            script.target.peer_closed(script.now, dead.id);
            join(&mut script, 1, 0);
            manage(&mut script, 0x42, 8, itt, &[]);
            script
        }),
        (Rule::ReassignExpDataSn, || {
            let (mut script, itt) = reinstated();
            manage(&mut script, 0x42, 8, itt, &[(36, 5)]);
            script
        }),
        (Rule::ReassignExpDataSn, || {
            let mut script = level_two();
            lose_next(&mut script, opcode::DATA_IN);
            let (itt, _) = unacknowledged_read(&mut script);
            let dead = script.line.clone();
            script.target.peer_closed(script.now, dead.id);
            join(&mut script, 0, dead.exp_stat_sn);
            manage(&mut script, 0x42, 8, itt, &[(36, 2)]);
            script
        }),
        (Rule::RecoveryTooEarly, || {
            let mut script = level_two();
            script.target.config_mut().logout_times = Some((5, 5));
            let itt = hanging_read(&mut script);
            let dead = script.line.clone();
            script.target.peer_closed(script.now, dead.id);
            join(&mut script, 1, 0);
            manage(&mut script, 0x46, 2, 0, &[(28, dead.exp_stat_sn)]);
            manage(&mut script, 0x42, 8, itt, &[]);
            script
        }),
        (Rule::LogoutExpStatSn, || {
            let mut script = level_two();
            script.test_unit_ready();
            let dead = script.line.clone();
            script.target.peer_closed(script.now, dead.id);
            join(&mut script, 0, dead.exp_stat_sn.wrapping_add(7));
            script
        }),
    ]
}

/// An event is sent, and another PDU shows that it was received.
fn told(event: &AsyncEvent) -> Script {
    let mut script = Script::plain();
    let id = script.line.id;
    script.target.send_async(script.now, id, event);
    script.receive();
    script.test_unit_ready();
    script
}

/// Nothing came of it for a long time.
fn forgotten(event: &AsyncEvent) -> Script {
    let mut script = told(event);
    script.pass(Duration::from_secs(18));
    script.test_unit_ready();
    assert!(script.rules().is_empty(), "{:?}", script.rules());
    script.pass(Duration::from_secs(1));
    script.test_unit_ready();
    script
}

/// A write on a session with these keys that waits for its data, and an abort of its task set.
fn aborted_write(keys: &str) -> (Script, u32, u32) {
    let mut config = able();
    config.keys.task_reporting = vec!["FastAbort".to_owned()];
    let keys = format!("ImmediateData=No\0InitialR2T=Yes\0{keys}");
    let mut script = Script::session(config, &keys);
    let header = script.write_command(true, 0, 1);
    let itt = script.line.itt;
    script.send(header, &[]);
    let ttt = script.receive()[0].be32(20);
    manage(&mut script, 0x42, 2, FREE, &[]);
    (script, itt, ttt)
}

pub(crate) fn tasks_and_events() -> Vec<Offence> {
    vec![
        (Rule::MultiTaskAbortData, || {
            let (mut script, _, _) = aborted_write("");
            script.pass(Duration::from_secs(60));
            script
        }),
        (Rule::FastAbortData, || {
            let (mut script, itt, ttt) =
                aborted_write("TaskReporting=FastAbort,ResponseFence,RFC3720\0");
            let out = script.data_out(itt, ttt, 0, 0, true);
            script.send(out, &[0; 512]);
            script
        }),
        (Rule::AsyncLogout, || {
            forgotten(&AsyncEvent::RequestLogout { seconds: 3 })
        }),
        (Rule::AsyncLogout, || {
            let mut script = level_two();
            let id = script.line.id;
            let event = AsyncEvent::RequestLogout { seconds: 3 };
            script.target.send_async(script.now, id, &event);
            script.receive();
            manage(&mut script, 0x46, 2, 0, &[]);
            script
        }),
        (Rule::AsyncNegotiation, || {
            forgotten(&AsyncEvent::Renegotiate { seconds: 3 })
        }),
        (Rule::AsyncTermination, || {
            let mut script = told(&AsyncEvent::TasksTerminated { lun: 0 });
            script.pass(Duration::from_secs(16));
            script.test_unit_ready();
            script
        }),
        (Rule::BidirectionalLength, || {
            let mut script = Script::plain();
            let header = script.command(0xe0, 512, &rw(0x53, 0, 1));
            script.send(header, &[0; 512]);
            script
        }),
    ]
}
