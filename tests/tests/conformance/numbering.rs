//! Command numbering, the window, immediate delivery (full feature phase 1 to 3, 16.5).

use super::*;

#[test]
fn ffp_1_1_cmd_sn_rises_by_one_for_each_command() {
    let mut rig = plain();
    let login = rig.sent(0, opcode::LOGIN)[0].clone();
    let keys: Vec<_> = (0..5).map(|_| test_unit_ready(&mut rig)).collect();
    rig.settle();
    let sent = rig.sent(0, opcode::SCSI_COMMAND);
    let numbers: Vec<u32> = sent.iter().map(cmd_sn).collect();
    let first = cmd_sn(&login);
    assert_eq!(numbers, (first..first + 5).collect::<Vec<_>>());
    for key in keys {
        answer(&mut rig, key);
    }
    innocent(&rig);
}

#[test]
fn ffp_2_1_an_immediate_request_carries_the_next_number_and_leaves_it() {
    let mut rig = plain();
    rig.wait(seconds(6));
    let ping = rig.sent(0, opcode::NOP_OUT)[0].clone();
    assert_eq!(ping.header[0], 0x40, "the I bit");
    test_unit_ready(&mut rig);
    rig.settle();
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    assert_eq!(cmd_sn(&ping), cmd_sn(&command));
    innocent(&rig);
}

#[test]
fn ffp_3_1_a_closed_window_lets_nothing_through_until_a_nop_in() {
    let mut rig = up(|target| target.queue_depth = 1, |_| {});
    rig.target.close_window();
    let first = test_unit_ready(&mut rig);
    let second = test_unit_ready(&mut rig);
    rig.settle();
    answer(&mut rig, first);
    assert_eq!(rig.sent(0, opcode::SCSI_COMMAND).len(), 1);
    assert!(rig.done(second).is_none());
    rig.target.open_window(rig.now);
    rig.settle();
    assert_eq!(rig.sent(0, opcode::SCSI_COMMAND).len(), 2);
    answer(&mut rig, second);
    innocent(&rig);
}

#[test]
fn ffp_3_2_a_large_window_is_used() {
    let mut rig = up(|target| target.queue_depth = 100, |_| {});
    for _ in 0..100 {
        test_unit_ready(&mut rig);
    }
    rig.send(0, usize::MAX);
    assert_eq!(rig.sent(0, opcode::SCSI_COMMAND).len(), 100);
    innocent(&rig);
}

#[test]
fn ffp_3_3_and_16_5_a_window_of_one_follows_each_response() {
    let mut rig = up(|target| target.queue_depth = 1, |_| {});
    let keys: Vec<_> = (0..3).map(|_| test_unit_ready(&mut rig)).collect();
    for sent in 1..=3 {
        rig.send(0, usize::MAX);
        assert_eq!(rig.sent(0, opcode::SCSI_COMMAND).len(), sent);
        rig.receive(0, usize::MAX);
    }
    for key in keys {
        answer(&mut rig, key);
    }
    innocent(&rig);
}
