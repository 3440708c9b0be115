//! Logout, text and task management (full feature phase 2.2, 17 to 19).

use super::*;
use iscsi::session::{Applied, ManagementFunction};
use scsi::Lun;
use test_target::{CommandEffect, CommandFault, CommandFilter, Count};

fn hang(rig: &mut Rig) {
    rig.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect: CommandEffect::Hang,
    });
}

#[test]
fn ffp_2_2_ffp_19_1_ffp_19_2_ffp_19_3_an_abort() {
    let mut rig = plain();
    hang(&mut rig);
    let key = test_unit_ready(&mut rig);
    rig.settle();
    let function = ManagementFunction::AbortTask(key);
    rig.session.manage(rig.now, Lun::ZERO, function).unwrap();
    rig.settle();
    assert!(rig.done(key).is_some());
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    let abort = one(rig.sent(0, opcode::TASK_MANAGEMENT));
    assert_eq!(abort.header[..2], [0x42, 0x81], "immediate, ABORT TASK");
    assert_eq!(cmd_sn(&abort), cmd_sn(&command) + 1);
    assert_eq!(abort.header[8..16], command.header[8..16], "LUN");
    assert_eq!(abort.be32(20), itt(&command), "Referenced Task Tag");
    assert_eq!(abort.be32(32), cmd_sn(&command), "RefCmdSN");
    test_unit_ready(&mut rig);
    rig.settle();
    let next = rig.sent(0, opcode::SCSI_COMMAND)[1].clone();
    assert_eq!(cmd_sn(&next), cmd_sn(&abort), "not consumed");
    innocent(&rig);
}

#[test]
fn ffp_19_4_2_a_response_before_that_of_the_function_counts() {
    let mut rig = up(|target| target.execution_delay = seconds(2), |_| {});
    let first = test_unit_ready(&mut rig);
    rig.wait(seconds(1));
    hang(&mut rig);
    let second = test_unit_ready(&mut rig);
    rig.settle();
    let function = ManagementFunction::AbortTaskSet;
    // Both answers travel together.
    rig.session.manage(rig.now, Lun::ZERO, function).unwrap();
    rig.now += seconds(1);
    rig.target.handle_timeout(rig.now);
    rig.settle();
    answer(&mut rig, first);
    let completion = rig.done(second).expect("it has ended");
    assert!(matches!(completion.outcome, Outcome::Failed(_)));
    let request = one(rig.sent(0, opcode::TASK_MANAGEMENT));
    assert_eq!(request.header[1], 0x82);
    innocent(&rig);
}

#[test]
fn ffp_17_1_nothing_follows_a_logout() {
    let mut rig = plain();
    rig.session.logout(rig.now);
    assert!(rig.send(0, usize::MAX) > 0);
    let _ = rig.session.submit(
        rig.now,
        Lun::ZERO,
        Command {
            cdb: Cdb::test_unit_ready(),
            data: DataPhase::None,
            attribute: TaskAttribute::Simple,
            priority: 0,
            timeout: seconds(1),
            only_in: None,
        },
    );
    assert_eq!(rig.send(0, usize::MAX), 0);
    rig.settle();
    let logout = one(rig.sent(0, opcode::LOGOUT));
    assert_eq!(logout.header[..2], [0x46, 0x80]);
    let last = rig.target.wire_log().iter().rev();
    let last = last
        .clone()
        .find(|it| it.direction == test_target::Direction::In);
    assert_eq!(last.unwrap().opcode(), opcode::LOGOUT);
    assert!(rig.session.is_closed());
    innocent(&rig);
}

#[test]
fn ffp_18_1_a_text_request() {
    let mut rig = plain();
    let (now, key) = (rig.now, "MaxRecvDataSegmentLength");
    let applied = rig.session.set(now, key, "65536");
    assert!(matches!(applied, Ok(Applied::Renegotiating(_))));
    rig.settle();
    let text = one(rig.sent(0, opcode::TEXT));
    assert_eq!((text.header[0] & 0x3f, text.header[1]), (0x04, 0x80), "F");
    assert_eq!(
        (text.be32(20), text.header[8..16].to_vec()),
        (NONE, vec![0; 8])
    );
    assert_eq!(text.data, b"MaxRecvDataSegmentLength=65536\0");
    innocent(&rig);
}

#[test]
fn ffp_18_2_one_tag_and_empty_requests_while_the_answer_continues() {
    let mut rig = up(
        |target| target.quirks.split_answers_bytes = Some(20),
        |_| {},
    );
    rig.session.ask_targets(rig.now, None).unwrap();
    rig.settle();
    let asked = rig.sent(0, opcode::TEXT);
    let answers = rig.heard(0, opcode::TEXT_RESPONSE);
    assert!(asked.len() > 2 && asked.len() == answers.len());
    for (next, before) in asked[1..].iter().zip(&answers) {
        assert_eq!(itt(next), itt(&asked[0]));
        assert_eq!(next.be32(20), before.be32(20), "the target's tag");
        assert_eq!(next.header[8..16], before.header[8..16], "its LUN");
        assert_eq!(next.data_bytes, 0);
    }
    innocent(&rig);
}

/// Declares a segment length to a target that answers with these keys; what was sent.
fn declare(keys: &[(&str, &str)]) -> (Rig, Vec<WireRecord>) {
    let mut rig = up(
        |target| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            target.quirks.text_keys = keys.iter().map(own).collect();
            target.quirks.delay_text_final = 1;
        },
        |_| {},
    );
    let (now, key) = (rig.now, "MaxRecvDataSegmentLength");
    rig.session.set(now, key, "65536").unwrap();
    rig.settle();
    let sent = rig.sent(0, opcode::TEXT);
    (rig, sent)
}

#[test]
fn ffp_18_4_other_keys_of_the_target_get_their_answers() {
    let (rig, sent) = declare(&[("X-org.example.unknown", "1")]);
    let said: Vec<u8> = sent.iter().flat_map(|text| text.data.clone()).collect();
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("X-org.example.unknown=NotUnderstood\0"),
        "{said}"
    );
    assert!(rig.is_up());
    innocent(&rig);
}
