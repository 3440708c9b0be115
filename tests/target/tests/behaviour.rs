//! Full feature phase: windows, faults, task management, late writes, asynchronous messages.
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
    AsyncEvent, CommandEffect, CommandFault, CommandFilter, Config, Count, Keys, Lun,
    ManagementEffect, PduEffect, PduFault, PduFilter, Sense, opcode, status,
};

const SECOND: Duration = Duration::from_secs(1);

fn fault(script: &mut Script, effect: CommandEffect) {
    let fault = CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect,
    };
    script.target.fault_command(fault);
}

fn pdu_fault(script: &mut Script, code: u8, effect: PduEffect) {
    let filter = PduFilter {
        opcode: Some(code),
        ..PduFilter::default()
    };
    script.target.fault_pdu(PduFault {
        filter,
        count: Count::ONCE,
        effect,
    });
}

fn manage(script: &mut Script, function: u8, itt: u32, cmd_sn: u32) -> Option<u8> {
    let mut header = script.request(0x42, 0x80 | function);
    put(&mut header, 20, itt);
    put(&mut header, 32, cmd_sn);
    script.send(header, &[]);
    script.receive().last().map(|pdu| {
        assert_eq!(pdu.opcode(), opcode::TASK_MANAGEMENT_RESPONSE);
        pdu.header[2]
    })
}

fn sense_of(pdu: &Pdu) -> (u8, u8, u8) {
    assert_eq!(pdu.header[3], status::CHECK_CONDITION);
    (pdu.data[4] & 15, pdu.data[14], pdu.data[15])
}

#[test]
fn the_window_closes_and_a_nop_in_opens_it() {
    let mut script = Script::session(
        Config {
            queue_depth: 2,
            ..Config::default()
        },
        "",
    );
    script.target.close_window();
    script.test_unit_ready();
    let answer = script.test_unit_ready().remove(0);
    assert_eq!(
        answer.be32(32),
        answer.be32(28).wrapping_sub(1),
        "MaxCmdSN = ExpCmdSN - 1"
    );
    script.target.open_window(script.now);
    let nop = script.receive().remove(0);
    assert_eq!(
        (nop.opcode(), nop.be32(16), nop.be32(20)),
        (opcode::NOP_IN, FREE, FREE)
    );
    assert_eq!(nop.be32(32), nop.be32(28).wrapping_add(1));
    assert_eq!(script.test_unit_ready().len(), 1);
    script.assert_innocent();
}

#[test]
fn active_tasks_take_window_slots() {
    let mut script = Script::session(
        Config {
            queue_depth: 2,
            ..Config::default()
        },
        "",
    );
    fault(&mut script, CommandEffect::DelayExecution(SECOND));
    assert!(script.test_unit_ready().is_empty());
    let answer = script.test_unit_ready().remove(0);
    assert_eq!(answer.be32(32), answer.be32(28), "one slot is taken");
    script.pass(SECOND);
    let answer = script.receive().remove(0);
    assert_eq!(answer.be32(32), answer.be32(28).wrapping_add(1));
}

#[test]
fn reads_are_cut_by_segment_and_burst_and_can_be_shuffled() {
    let text = "MaxRecvDataSegmentLength=1024\0MaxBurstLength=2048\0DataPDUInOrder=No\0DataSequenceInOrder=No\0";
    let order = |config: Config| {
        let mut script = Script::session(config, text);
        let data = pattern(4096);
        script.target.disk_mut(0).unwrap().write(0, &data);
        assert_eq!(script.read(0, 8), data);
        let header = script.command(0xc0, 4096, &rw(0x28, 0, 8));
        script.send(header, &[]);
        let pdus = script.receive();
        script.assert_innocent();
        let sn: Vec<u32> = pdus
            .iter()
            .filter(|p| p.opcode() == 0x25)
            .map(|p| p.be32(36))
            .collect();
        assert_eq!(sn, [0, 1, 2, 3], "DataSN counts in the order of sending");
        pdus.iter()
            .map(|pdu| (pdu.opcode(), pdu.be32(40), pdu.header[1]))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        order(Config::default()),
        [
            (37, 0, 0),
            (37, 1024, 0x80),
            (37, 2048, 0),
            (37, 3072, 0x81)
        ]
    );
    let separate = Config {
        phase_collapse: false,
        ..Config::default()
    };
    assert_eq!(order(separate).last(), Some(&(0x21, 0, 0x80)));
    let shuffled = Config {
        shuffle_data_in: true,
        ..Config::default()
    };
    assert_eq!(
        order(shuffled),
        [
            (37, 3072, 0),
            (37, 2048, 0x80),
            (37, 1024, 0),
            (37, 0, 0x81)
        ]
    );
}

#[test]
fn an_empty_data_in_counts_as_one() {
    let mut config = Config::default();
    config.quirks.empty_data_in = true;
    let mut script = Script::session(config, "");
    let header = script.command(0xc0, 512, &rw(0x28, 0, 1));
    script.send(header, &[]);
    let pdus = script.receive();
    let seen: Vec<_> = pdus
        .iter()
        .map(|pdu| (pdu.be32(36), pdu.data.len(), pdu.header[1]))
        .collect();
    assert_eq!(seen, [(0, 0, 0), (1, 512, 0x81)]);
}

#[test]
fn a_bad_data_digest_ends_the_write() {
    let mut script = Script::session(Config::default(), "DataDigest=CRC32C,None\0");
    let header = script.write_command(true, 0, 1);
    script.send(header, &[]);
    let r2t = script.receive().remove(0);
    let mut out = script.data_out(r2t.be32(16), r2t.be32(20), 0, 0, true);
    out[6] = 2;
    let mut bytes = script.bytes(&out, &[7; 512]);
    *bytes.last_mut().unwrap() ^= 1;
    script.target.receive(script.now, script.line.id, &bytes);
    let answers = script.receive();
    assert_eq!(
        (answers[0].opcode(), answers[0].header[2]),
        (opcode::REJECT, 2)
    );
    assert_eq!(sense_of(&answers[1]), (0x0b, 0x47, 5));
    assert!(script.target.journal().is_empty());
}

#[test]
fn several_r2ts_are_open_at_once_and_can_be_shuffled() {
    let text = "InitialR2T=Yes\0FirstBurstLength=512\0MaxBurstLength=1024\0MaxOutstandingR2T=3\0\
                DataSequenceInOrder=No\0";
    for (shuffle_r2t, offsets) in [(false, [0, 1024, 2048]), (true, [3072, 2048, 1024])] {
        let mut script = Script::session(
            Config {
                shuffle_r2t,
                ..Config::default()
            },
            text,
        );
        let data = pattern(4096);
        let header = script.write_command(true, 5, 8);
        script.send(header, &[]);
        let r2ts = script.receive();
        assert_eq!(
            r2ts.iter().map(|r2t| r2t.be32(40)).collect::<Vec<_>>(),
            offsets
        );
        assert_eq!(
            r2ts.iter().map(|r2t| r2t.be32(36)).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let mut open = r2ts;
        let mut last = None;
        while let Some(r2t) = open.pop() {
            let (at, bytes) = (r2t.be32(40) as usize, r2t.be32(44) as usize);
            let out = script.data_out(r2t.be32(16), r2t.be32(20), 0, at as u32, true);
            script.send(out, &data[at..at + bytes]);
            for pdu in script.receive() {
                if pdu.opcode() == opcode::R2T {
                    open.push(pdu)
                } else {
                    last = Some(pdu)
                }
            }
        }
        assert_eq!(last.unwrap().header[3], 0);
        assert_eq!(script.read(5, 8), data);
        script.assert_innocent();
    }
}

#[test]
fn held_r2ts_go_out_when_released() {
    let mut script = Script::plain();
    script.target.hold_r2ts(script.now, true);
    let header = script.write_command(true, 0, 2);
    script.send(header, &[]);
    assert!(script.receive().is_empty());
    script.target.hold_r2ts(script.now, false);
    assert_eq!(script.receive()[0].opcode(), opcode::R2T);
}

#[test]
fn commands_fail_as_ordered() {
    let mut script = Script::plain();
    fault(&mut script, CommandEffect::Status(status::BUSY, None));
    assert_eq!(script.test_unit_ready()[0].header[3], status::BUSY);
    fault(
        &mut script,
        CommandEffect::Status(status::CHECK_CONDITION, Some(Sense::new(4, 0x44, 0))),
    );
    assert_eq!(sense_of(&script.test_unit_ready()[0]), (4, 0x44, 0));
    fault(&mut script, CommandEffect::Response(1));
    let answer = script.test_unit_ready().remove(0);
    assert_eq!((answer.header[2], answer.header[3]), (1, 0));
    fault(&mut script, CommandEffect::Reject(4));
    let answer = script.test_unit_ready().remove(0);
    assert_eq!(
        (answer.opcode(), answer.header[2], answer.data.len()),
        (opcode::REJECT, 4, 48)
    );
    // RFC 7143 §7.3: the number of a rejected command is free, and wants to be filled.
    assert_eq!(answer.be32(28), script.line.cmd_sn.wrapping_sub(1));
    script.line.cmd_sn = script.line.cmd_sn.wrapping_sub(1);
    fault(&mut script, CommandEffect::Hang);
    assert!(script.test_unit_ready().is_empty());
    script.pass(SECOND * 1000);
    assert!(script.receive().is_empty());
    script.assert_innocent();
}

#[test]
fn answers_can_be_late_and_writes_with_them() {
    let mut script = Script::plain();
    fault(&mut script, CommandEffect::DelayAnswer(SECOND));
    let header = script.write_command(true, 0, 1);
    script.send(header, &[7; 512]);
    assert_eq!(script.target.journal().len(), 1, "executed at once");
    assert!(script.receive().is_empty());
    assert_eq!(script.target.poll_timeout(), Some(script.now + SECOND));
    script.pass(SECOND);
    assert_eq!(script.receive().len(), 1);
    fault(&mut script, CommandEffect::DelayExecution(SECOND));
    let header = script.write_command(true, 0, 1);
    script.send(header, &[8; 512]);
    assert_eq!(script.target.journal().len(), 1, "not executed yet");
    script.pass(SECOND);
    assert_eq!(script.receive().len(), 1);
    assert_eq!(script.target.disk(0).unwrap().read(0, 1), [8; 512]);
}

#[test]
fn lies_about_lengths() {
    let mut script = Script::plain();
    fault(&mut script, CommandEffect::DataBeyond(512));
    let header = script.command(0xc0, 512, &rw(0x28, 0, 1));
    script.send(header, &[]);
    let sum: usize = script.receive().iter().map(|pdu| pdu.data.len()).sum();
    assert_eq!(sum, 1024);
    fault(&mut script, CommandEffect::DataShort(100));
    let header = script.command(0xc0, 512, &rw(0x28, 0, 1));
    script.send(header, &[]);
    let pdu = script.receive().remove(0);
    assert_eq!(
        (pdu.data.len(), pdu.header[1] & 6),
        (100, 0),
        "short without a residual"
    );
    fault(&mut script, CommandEffect::R2tBeyond(512));
    let header = script.write_command(true, 0, 1);
    script.send(header, &[]);
    assert_eq!(script.receive()[0].be32(44), 1024);
}

#[test]
fn pdus_are_harmed_as_ordered() {
    let mut script = Script::session(
        Config::default(),
        "DataDigest=CRC32C,None\0HeaderDigest=CRC32C,None\0",
    );
    let raw = |script: &mut Script| {
        let header = script.command(0xc0, 512, &rw(0x28, 0, 1));
        script.send(header, &[]);
        let mut bytes = Vec::new();
        script
            .target
            .transmit(script.line.id, &mut bytes, usize::MAX);
        bytes
    };
    let digests = |bytes: &[u8]| {
        let header = crc32c::crc32c(&bytes[..48]).to_le_bytes() == bytes[48..52];
        let data = crc32c::crc32c(&bytes[52..564]).to_le_bytes() == bytes[564..568];
        (header, data)
    };
    assert_eq!(digests(&raw(&mut script)), (true, true));
    pdu_fault(&mut script, opcode::DATA_IN, PduEffect::FlipHeaderDigest);
    assert_eq!(digests(&raw(&mut script)), (false, true));
    pdu_fault(&mut script, opcode::DATA_IN, PduEffect::FlipDataDigest);
    assert_eq!(digests(&raw(&mut script)), (true, false));
    pdu_fault(&mut script, opcode::DATA_IN, PduEffect::FlipData);
    assert_eq!(digests(&raw(&mut script)), (true, false));
    pdu_fault(
        &mut script,
        opcode::DATA_IN,
        PduEffect::Patch(vec![(43, 9)]),
    );
    let bytes = raw(&mut script);
    assert_eq!((digests(&bytes), bytes[43]), ((true, true), 9));
    pdu_fault(
        &mut script,
        opcode::DATA_IN,
        PduEffect::ClaimLength(0xff_ffff),
    );
    assert_eq!(raw(&mut script)[5..8], [0xff; 3]);
    pdu_fault(&mut script, opcode::DATA_IN, PduEffect::Duplicate);
    assert_eq!(raw(&mut script).len(), 2 * 568);
    pdu_fault(&mut script, opcode::DATA_IN, PduEffect::Silence);
    assert!(raw(&mut script).is_empty());
    assert!(raw(&mut script).is_empty(), "and stays silent");
    assert_eq!(script.target.poll_closed(), None);
}

#[test]
fn a_fault_can_reset_the_connection() {
    let mut script = Script::plain();
    pdu_fault(&mut script, opcode::SCSI_RESPONSE, PduEffect::Reset);
    assert!(script.test_unit_ready().is_empty());
    assert_eq!(script.target.poll_closed(), Some((script.line.id, true)));
}

#[test]
fn abort_task_ends_it_for_good() {
    let mut script = Script::plain();
    fault(&mut script, CommandEffect::DelayExecution(SECOND));
    let header = script.write_command(true, 0, 1);
    let (itt, cmd_sn) = (script.line.itt, script.line.cmd_sn.wrapping_sub(1));
    script.send(header, &[7; 512]);
    assert_eq!(manage(&mut script, 1, itt, cmd_sn), Some(0));
    script.pass(SECOND * 2);
    assert!(script.receive().is_empty());
    assert!(script.target.journal().is_empty());
    assert_eq!(
        manage(&mut script, 1, itt, cmd_sn),
        Some(1),
        "no such task any more"
    );
    script.assert_innocent();
}

#[test]
fn resets_end_tasks_and_raise_attentions() {
    let luns = vec![
        Lun::default(),
        Lun {
            serial: "B".to_owned(),
            ..Lun::default()
        },
    ];
    let mut script = Script::session(
        Config {
            luns,
            ..Config::default()
        },
        "",
    );
    fault(&mut script, CommandEffect::Hang);
    assert!(script.test_unit_ready().is_empty());
    assert_eq!(manage(&mut script, 5, FREE, 0), Some(0));
    assert!(script.target.sessions()[0].tasks.is_empty());
    assert_eq!(sense_of(&script.test_unit_ready()[0]), (6, 0x29, 3));
    assert_eq!(script.test_unit_ready()[0].header[3], 0);
    let mut header = script.request(0x42, 0x85);
    header[9] = 9;
    script.send(header, &[]);
    assert_eq!(script.receive()[0].header[2], 2, "no such LUN");
    assert_eq!(manage(&mut script, 8, 5, 0), Some(4), "no reassignment");
    script
        .target
        .fault_management(Count::ONCE, ManagementEffect::Respond(255));
    assert_eq!(manage(&mut script, 5, FREE, 0), Some(255));
    script
        .target
        .fault_management(Count::ONCE, ManagementEffect::Lose);
    assert_eq!(manage(&mut script, 5, FREE, 0), None);
    assert_eq!(manage(&mut script, 7, FREE, 0), Some(0));
    assert!(
        script.target.sessions().is_empty(),
        "cold reset ends the sessions"
    );
    script.assert_innocent();
}

/// A complete write not executed yet, on a connection that then breaks.
fn ghost(config: Config) -> Script {
    let mut script = Script::session(
        Config {
            execution_delay: SECOND,
            ..config
        },
        "",
    );
    let header = script.write_command(true, 0, 1);
    script.send(header, &[7; 512]);
    let id = script.line.id;
    script.target.peer_closed(script.now, id);
    assert_eq!(script.target.late_writes(), 1);
    script
}

#[test]
fn a_late_write_happens_without_reinstatement() {
    let mut script = ghost(Config {
        late_execution: Some(SECOND * 30),
        ..Config::default()
    });
    script.pass(SECOND * 29);
    assert!(script.target.journal().is_empty());
    script.reconnect(0);
    script.line.isid[5] = 77;
    script.log_in("");
    script.pass(SECOND);
    let record = &script.target.journal()[0];
    assert!(record.late, "another nexus fences nothing");
    assert_eq!(
        (record.lun, record.lba, record.blocks, record.at),
        (0, 0, 1, script.now)
    );
    script.assert_innocent();
}

#[test]
fn reinstatement_ends_late_writes_unless_the_target_lies() {
    let mut script = ghost(Config::default());
    script.reconnect(0);
    script.log_in("");
    assert_eq!(script.target.late_writes(), 0);
    script.pass(SECOND * 100);
    assert!(script.target.journal().is_empty());
    let mut script = ghost(Config {
        late_execution_after_reinstatement: true,
        ..Config::default()
    });
    script.reconnect(0);
    script.log_in("");
    script.pass(SECOND);
    assert_eq!(script.target.journal().len(), 1);
}

#[test]
fn incomplete_writes_die_with_their_connection() {
    let mut script = Script::plain();
    let header = script.write_command(true, 0, 2);
    script.send(header, &[7; 512]);
    assert_eq!(script.receive()[0].opcode(), opcode::R2T);
    let id = script.line.id;
    script.target.peer_closed(script.now, id);
    assert_eq!(script.target.late_writes(), 0);
}

#[test]
fn lost_sessions_expire() {
    let keys = Keys {
        time2wait_s: 2,
        time2retain_s: 3,
        ..Keys::default()
    };
    let mut script = Script::session(
        Config {
            keys,
            ..Config::default()
        },
        "DefaultTime2Retain=20\0",
    );
    let id = script.line.id;
    script.target.peer_closed(script.now, id);
    script.pass(SECOND * 4);
    assert_eq!(script.target.sessions().len(), 1);
    script.pass(SECOND);
    assert!(script.target.sessions().is_empty());
}

#[test]
fn asynchronous_messages_have_their_fields() {
    let mut script = Script::plain();
    let (now, id) = (script.now, script.line.id);
    script
        .target
        .send_async(now, id, &AsyncEvent::RequestLogout { seconds: 9 });
    let pdu = script.receive().remove(0);
    assert_eq!(
        (pdu.opcode(), pdu.header[36], pdu.be16(42), pdu.be32(16)),
        (opcode::ASYNC_MESSAGE, 1, 9, FREE)
    );
    script.target.send_async(
        now,
        id,
        &AsyncEvent::Scsi {
            lun: 1,
            sense: Sense::new(6, 0x2a, 9),
        },
    );
    let pdu = script.receive().remove(0);
    assert_eq!(
        (pdu.header[36], pdu.header[9], pdu.data.len(), pdu.data[1]),
        (0, 1, 20, 18)
    );
    script.target.send_async(
        now,
        id,
        &AsyncEvent::DropConnection {
            cid: None,
            wait_s: 3,
            retain_s: 4,
        },
    );
    let pdu = script.receive().remove(0);
    assert_eq!(
        (pdu.header[36], pdu.be16(38), pdu.be16(40), pdu.be16(42)),
        (2, 0, 3, 4)
    );
    assert_eq!(script.target.poll_closed(), Some((id, false)));
    script.assert_innocent();
}

#[test]
fn pings_come_by_the_clock() {
    let mut script = Script::session(
        Config {
            ping_every: Some(SECOND),
            ..Config::default()
        },
        "",
    );
    assert!(script.receive().is_empty());
    script.pass(SECOND);
    let ping = script.receive().remove(0);
    assert_eq!((ping.opcode(), ping.be32(16)), (opcode::NOP_IN, FREE));
    assert_ne!(ping.be32(20), FREE);
    assert!(!script.target.pings_answered(script.line.id));
}

#[test]
fn unit_attention_residuals_and_sizes() {
    let mut script = Script::session(
        Config {
            unit_attention_at_login: true,
            ..Config::default()
        },
        "",
    );
    let header = script.command(0xc0, 36, &[0x12, 0, 0, 0, 36, 0]);
    script.send(header, &[]);
    assert_eq!(
        script.receive()[0].header[3],
        0,
        "INQUIRY does not report it"
    );
    assert_eq!(sense_of(&script.test_unit_ready()[0]), (6, 0x29, 0));
    assert_eq!(script.test_unit_ready()[0].header[3], 0);
    let header = script.command(0xc0, 255, &[0x12, 0, 0, 0, 255, 0]);
    script.send(header, &[]);
    let pdu = script.receive().remove(0);
    assert_eq!(
        (pdu.header[1] & 6, pdu.be32(44)),
        (2, 255 - 96),
        "underflow"
    );
    let header = script.command(0xc0, 10, &[0x12, 0, 0, 0, 96, 0]);
    script.send(header, &[]);
    let pdu = script.receive().remove(0);
    assert_eq!(
        (pdu.header[1] & 6, pdu.be32(44), pdu.data.len()),
        (4, 86, 10),
        "overflow"
    );
    script.target.resize(0, 5000);
    assert_eq!(sense_of(&script.test_unit_ready()[0]), (6, 0x2a, 9));
    let header = script.command(0xc0, 8, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    script.send(header, &[]);
    assert_eq!(script.receive()[0].data[..4], 4999_u32.to_be_bytes());
}

#[test]
fn a_missing_lun_is_told_apart() {
    let mut script = Script::plain();
    let mut header = script.command(0xc0, 36, &[0x12, 0, 0, 0, 36, 0]);
    header[9] = 5;
    script.send(header, &[]);
    assert_eq!(script.receive()[0].data[0], 0x7f);
    let mut header = script.command(0x80, 0, &[0; 6]);
    header[9] = 5;
    script.send(header, &[]);
    assert_eq!(sense_of(&script.receive()[0]), (5, 0x25, 0));
}

#[test]
fn a_restart_keeps_the_blocks_only() {
    let mut script = Script::plain();
    assert_eq!(script.write(4, &[9; 1024]).header[3], 0);
    let old = script.line.id;
    script.target.restart(script.now);
    assert_eq!(script.target.poll_closed(), Some((old, true)));
    assert!(script.target.sessions().is_empty());
    script.reconnect(0);
    script.log_in("");
    assert_eq!(script.read(4, 2), [9; 1024]);
    script.assert_innocent();
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let run = || {
        let mut script = Script::plain();
        let header = script.write_command(true, 0, 2);
        script.send(header, &[]);
        script.receive().remove(0).header
    };
    assert_eq!(run(), run());
}
