//! What was lost (full feature phase 4 to 7, 10.2, 13, 16.4.2, 19.5).

use super::*;
use test_target::{
    CommandEffect, CommandFault, CommandFilter, Count, IncomingEffect, IncomingFault, PduEffect,
    PduFault, PduFilter, SnackEffect,
};

fn lose_incoming(rig: &mut Rig, opcode: u8) {
    rig.target.fault_incoming(IncomingFault {
        filter: PduFilter {
            opcode: Some(opcode),
            ..PduFilter::default()
        },
        count: Count::ONCE,
        effect: IncomingEffect::Drop,
    });
}

fn lose(rig: &mut Rig, opcode: u8, skip: u32) {
    rig.target.fault_pdu(PduFault {
        filter: PduFilter {
            opcode: Some(opcode),
            ..PduFilter::default()
        },
        count: Count { skip, times: 1 },
        effect: PduEffect::Drop,
    });
}

#[test]
fn ffp_4_1_a_lost_command_is_sent_again_as_it_was() {
    let mut rig = at_level(1, 1);
    lose_incoming(&mut rig, opcode::SCSI_COMMAND);
    let key = write(&mut rig, 512);
    rig.wait(seconds(5));
    good(&mut rig, key);
    let sent = rig.sent(0, opcode::SCSI_COMMAND);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].connection, sent[1].connection);
    assert_eq!(sent[0].header[..28], sent[1].header[..28], "up to CmdSN");
    assert_eq!(sent[0].header[32..], sent[1].header[32..], "the CDB");
    innocent(&rig);
}

#[test]
fn ffp_5_1_a_gap_in_stat_sn_is_asked_for() {
    let mut rig = at_level(1, 1);
    lose(&mut rig, opcode::SCSI_RESPONSE, 0);
    let first = test_unit_ready(&mut rig);
    let second = test_unit_ready(&mut rig);
    rig.settle();
    answer(&mut rig, first);
    answer(&mut rig, second);
    let lost = rig.heard(0, opcode::SCSI_RESPONSE)[0].clone();
    let snack = one(rig.sent(0, opcode::SNACK));
    assert_eq!(snack.header[1], 0x81, "Status");
    assert_eq!((snack.be32(16), snack.be32(20)), (NONE, NONE));
    assert_eq!((snack.be32(40), snack.be32(44)), (lost.be32(24), 1));
    innocent(&rig);
}

#[test]
fn ffp_6_1_a_recovery_r2t_gets_the_data_again_from_data_sn_0() {
    let mut rig = up(
        |target| {
            target.keys.error_recovery_level = 1;
            target.keys.max_recv_data_segment_bytes = 1024;
        },
        |ours| {
            offer(
                ours,
                &[
                    ("ErrorRecoveryLevel", "1"),
                    ("InitialR2T", "Yes"),
                    ("ImmediateData", "No"),
                ],
            )
        },
    );
    lose_incoming(&mut rig, opcode::DATA_OUT);
    let key = write(&mut rig, 4096);
    rig.wait(seconds(10));
    good(&mut rig, key);
    let outs = rig.sent(0, opcode::DATA_OUT);
    let again = outs[1..].iter().rposition(|out| out.be32(36) == 0);
    let again = &outs[1 + again.expect("a second sequence")..];
    let numbers: Vec<u32> = again.iter().map(|out| out.be32(36)).collect();
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    assert!(rig.heard(0, opcode::R2T).len() >= 2);
    innocent(&rig);
}

#[test]
fn ffp_7_1_ffp_19_5_a_task_is_reassigned_and_goes_on() {
    let mut rig = at_level(2, 2);
    rig.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect: CommandEffect::DelayExecution(seconds(3)),
    });
    let key = read(&mut rig, 4096);
    rig.settle();
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    let old = command.connection;
    let index = (0..2)
        .find(|index| rig.link(*index).unwrap().1 == old)
        .unwrap();
    rig.cut(index);
    rig.wait(seconds(10));
    good(&mut rig, key);
    let logout = one(rig.sent(0, opcode::LOGOUT));
    assert_eq!(logout.header[1], 0x82, "for recovery");
    let request = one(rig.sent(0, opcode::TASK_MANAGEMENT));
    assert_eq!(request.header[..2], [0x42, 0x88], "TASK REASSIGN");
    assert_ne!(request.connection, old);
    assert_eq!(request.be32(20), itt(&command), "Referenced Task Tag");
    assert_ne!(itt(&request), itt(&command));
    assert_eq!(request.be32(36), 0, "ExpDataSN");
    assert_eq!(rig.sent(0, opcode::SCSI_COMMAND).len(), 1, "not sent again");
    innocent(&rig);
}

#[test]
fn ffp_10_2_and_13_2_the_a_bit_is_answered_with_data_ack() {
    let mut rig = up(
        |target| {
            target.keys.error_recovery_level = 1;
            target.data_ack = true;
        },
        |ours| {
            offer(
                ours,
                &[
                    ("ErrorRecoveryLevel", "1"),
                    ("MaxRecvDataSegmentLength", "1024"),
                    ("MaxBurstLength", "4096"),
                    ("FirstBurstLength", "4096"),
                ],
            );
        },
    );
    let key = read(&mut rig, 8192);
    // In pieces, so that the status does not come with the first A bit.
    rig.send(0, usize::MAX);
    rig.receive(0, 4 * (48 + 1024));
    rig.settle();
    good(&mut rig, key);
    let data = rig.heard(0, opcode::DATA_IN);
    let asking = data.iter().find(|pdu| pdu.header[1] & 0x40 != 0).unwrap();
    let ack = rig.sent(0, opcode::SNACK)[0].clone();
    assert_eq!(ack.header[1], 0x82, "DataACK");
    assert_eq!(itt(&ack), NONE);
    assert_eq!(ack.be32(20), asking.be32(20), "Target Transfer Tag");
    assert_eq!(ack.header[8..16], asking.header[8..16], "LUN");
    assert_eq!((ack.be32(40), ack.be32(44)), (4, 0), "BegRun, RunLength");
    innocent(&rig);
}

#[test]
fn ffp_13_1_a_snack_names_the_run_that_is_missing() {
    let mut rig = at_level(1, 1);
    lose(&mut rig, opcode::DATA_IN, 2);
    lose(&mut rig, opcode::DATA_IN, 2);
    let key = read(&mut rig, 8192);
    rig.settle();
    good(&mut rig, key);
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    let snack = rig.sent(0, opcode::SNACK)[0].clone();
    assert_eq!(snack.header[..2], [0x10, 0x80], "Data/R2T");
    assert_eq!((itt(&snack), snack.be32(20)), (itt(&command), NONE));
    assert_eq!(snack.be32(40), 2, "BegRun");
    assert!((1..=2).contains(&snack.be32(44)), "RunLength");
    innocent(&rig);
}

#[test]
fn ffp_16_4_2_a_rejected_snack_ends_the_command_which_is_not_retried() {
    let mut rig = at_level(1, 1);
    lose(&mut rig, opcode::DATA_IN, 2);
    rig.target.fault_snack(Count::ONCE, SnackEffect::Reject(3));
    let key = read(&mut rig, 8192);
    rig.wait(seconds(20));
    let completion = rig.done(key).expect("it has ended");
    match completion.outcome {
        Outcome::Answered(answer) => assert_ne!(answer.status, Status::GOOD),
        Outcome::Failed(_) => {}
    }
    assert_eq!(rig.sent(0, opcode::SCSI_COMMAND).len(), 1);
    assert_eq!(one(rig.heard(0, opcode::REJECT)).header[2], 3);
    innocent(&rig);
}

#[test]
fn after_a_new_segment_length_missing_data_are_asked_for_cut_anew() {
    // RFC 7143 §11.16.3.
    let mut rig = at_level(1, 1);
    rig.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect: CommandEffect::DelayStatus(seconds(3)),
    });
    lose(&mut rig, opcode::DATA_IN, 1);
    lose(&mut rig, opcode::DATA_IN, 2);
    let key = read(&mut rig, 4096);
    // Only the first one arrives before the declaration.
    rig.send(0, usize::MAX);
    rig.receive(0, 48 + 1024);
    let now = rig.now;
    rig.session
        .set(now, "MaxRecvDataSegmentLength", "512")
        .unwrap();
    rig.wait(seconds(15));
    good(&mut rig, key);
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    let snacks = rig.sent(0, opcode::SNACK);
    let snack = snacks.first().expect("a SNACK");
    assert_eq!(snack.header[..2], [0x10, 0x83], "R-Data");
    assert_eq!(itt(snack), itt(&command));
    assert!(![0, NONE].contains(&snack.be32(20)), "SNACK Tag");
    assert_eq!((snack.be32(40), snack.be32(44)), (0, 0), "all of it");
    assert_eq!(rig.session.snapshot().stats.losses, 0);
    innocent(&rig);
}
