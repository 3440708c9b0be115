//! Task management on request (RFC 7143 §4.2.3, §11.5; RFC 7144 §6).

use super::*;

const COMPLETE: u8 = 0;
const NOT_SUPPORTED: u8 = 5;
const SUCCEEDED: u8 = 7;

/// A session that sends no pings of its own.
fn quiet() -> SessionConfig {
    let mut config = config();
    config.keepalive.interval = Duration::from_secs(10_000);
    config
}

fn with(offers: &[(&'static str, &str)]) -> Peer {
    let mut config = quiet();
    let mut keys = keys(&[]);
    for (key, value) in offers {
        config.offer.set(key, value).unwrap();
        let answer = value.split(',').next().unwrap();
        keys.push((key, answer.to_owned()));
    }
    Peer::up(config, keys)
}

fn level_2() -> Peer {
    with(&[("iSCSIProtocolLevel", "2")])
}

fn fast_abort() -> Peer {
    with(&[("TaskReporting", "FastAbort,ResponseFence,RFC3720")])
}

fn manage(peer: &mut Peer, lun: u16, function: ManagementFunction) -> ManagementKey {
    let lun = Lun::from_number(lun);
    peer.session.manage(peer.now, lun, function).unwrap()
}

type Answer = Result<TaskManagementResponse, TaskManagementError>;

fn answered(peer: &mut Peer, key: ManagementKey) -> Option<Answer> {
    match peer.session.poll_management(key, Waker::noop()) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

fn ended(peer: &mut Peer, key: ManagementKey) -> TaskManagementResponse {
    answered(peer, key).expect("an answer").expect("a response")
}

fn large_write() -> Command {
    write(&pattern(16_384))
}

#[test]
fn ffp_19_1_and_19_2_every_function_byte_by_byte() {
    let functions = [
        (ManagementFunction::AbortTaskSet, 0x82, 7),
        (ManagementFunction::ClearAca, 0x83, 7),
        (ManagementFunction::ClearTaskSet, 0x84, 7),
        (ManagementFunction::LogicalUnitReset, 0x85, 7),
        (ManagementFunction::TargetWarmReset, 0x86, 0),
        (ManagementFunction::TargetColdReset, 0x87, 0),
        (ManagementFunction::QueryTaskSet, 0x8a, 7),
        (ManagementFunction::ItNexusReset, 0x8b, 0),
        (ManagementFunction::QueryAsynchronousEvent, 0x8c, 7),
    ];
    for (function, code, lun) in functions {
        let mut peer = level_2();
        peer.submit(7, test_unit_ready());
        peer.one();
        manage(&mut peer, 7, function);
        let request = peer.one();
        let mut expected = [0; 48];
        expected[0] = 0x42;
        expected[1] = code;
        // Reserved unless the function addresses a logical unit (§11.5.3, RFC 7144 §6.3.1).
        expected[9] = lun;
        expected[16..20].copy_from_slice(&request.bhs[16..20]);
        expected[20..24].copy_from_slice(&[0xff; 4]);
        // Carried, not consumed.
        expected[24..28].copy_from_slice(&0x1111_1112_u32.to_be_bytes());
        expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
        assert_eq!(request.bhs, expected, "{function}");
        peer.submit(0, test_unit_ready());
        assert_eq!(peer.one().cmd_sn(), 0x1111_1112);
    }
}

#[test]
fn ffp_19_3_functions_that_name_a_task() {
    for code in [0x81, 0x89] {
        let mut peer = level_2();
        peer.submit(0, test_unit_ready());
        let key = peer.submit(7, test_unit_ready());
        let itt = peer.sent()[1].itt();
        let function = if code == 0x81 {
            ManagementFunction::AbortTask(key)
        } else {
            ManagementFunction::QueryTask(key)
        };
        manage(&mut peer, 3, function);
        let request = peer.one();
        assert_eq!(request.bhs[1], code);
        assert_eq!(request.lun()[1], 7, "the task's own");
        assert_eq!(request.word(20), itt);
        assert_eq!(request.cmd_sn(), 0x1111_1113);
        assert_eq!(request.word(32), 0x1111_1112, "RefCmdSN");
    }
}

#[test]
fn ffp_19_4_1_r2ts_are_answered_while_a_task_set_is_aborted() {
    for function in [
        ManagementFunction::AbortTaskSet,
        ManagementFunction::ClearTaskSet,
        ManagementFunction::LogicalUnitReset,
        ManagementFunction::TargetWarmReset,
    ] {
        let mut peer = level_2();
        let key = peer.submit(7, large_write());
        let itt = peer.one().itt();
        let asked = manage(&mut peer, 7, function);
        let request = peer.one();
        let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
        peer.reply(&[r2t]);
        let data = peer.one();
        assert_eq!(
            (data.opcode(), data.word(20), data.data.len()),
            (DATA_OUT, 3, 8192)
        );
        assert!(data.is_final());
        assert_eq!(answered(&mut peer, asked), None);
        let answer = peer.task_answer(request.itt(), COMPLETE);
        peer.reply(&[answer]);
        assert_eq!(
            peer.failed(key),
            (DeliveryErrorKind::Aborted, Certainty::Answered)
        );
        let response = ended(&mut peer, asked);
        assert_eq!(response.response, ManagementResponse::FunctionComplete);
        assert_eq!(response.ended, 1, "{function}");
        peer.assert_up();
        peer.assert_clean();
    }
}

#[test]
fn ffp_19_4_2_a_response_before_that_of_the_function_counts() {
    let mut peer = level_2();
    let answered_in_time = peer.submit(7, read(512));
    let not = peer.submit(7, read(512));
    let itts: Vec<u32> = peer.sent().iter().map(Pdu::itt).collect();
    let asked = manage(&mut peer, 7, ManagementFunction::AbortTaskSet);
    let request = peer.one();
    let data = peer.data_in(itts[0], 0, 0, &pattern(512));
    let data = peer.last(data);
    peer.reply(&[data]);
    peer.good(answered_in_time);
    // The target waits for this before it answers (§11.6.1).
    let acknowledge = peer.one();
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    assert_eq!(acknowledge.exp_stat_sn(), 0x1003);
    let answer = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(
        peer.failed(not),
        (DeliveryErrorKind::Aborted, Certainty::Answered)
    );
    assert_eq!(ended(&mut peer, asked).ended, 1);
    peer.silent();
}

#[test]
fn ffp_19_4_3_only_tasks_of_its_scope_and_before_it_are_concluded() {
    let mut peer = level_2();
    let before = peer.submit(7, test_unit_ready());
    let elsewhere = peer.submit(8, test_unit_ready());
    peer.sent();
    manage(&mut peer, 7, ManagementFunction::AbortTaskSet);
    let request = peer.one();
    let after = peer.submit(7, test_unit_ready());
    let itt = peer.one().itt();
    let answer = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert!(peer.done(before).is_some());
    assert!(peer.done(elsewhere).is_none());
    assert!(peer.done(after).is_none());
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(after);
    // A reset of the target reaches the other unit as well.
    manage(&mut peer, 0, ManagementFunction::TargetWarmReset);
    let request = peer.one();
    let answer = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert!(peer.done(elsewhere).is_some());
    peer.assert_up();
}

#[test]
fn an_answer_after_the_function_s_is_discarded() {
    let mut peer = level_2();
    let key = peer.submit(7, read(512));
    let itt = peer.one().itt();
    manage(&mut peer, 7, ManagementFunction::AbortTaskSet);
    let request = peer.one();
    let answer = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[answer]);
    let late = peer.data_in(itt, 0, 0, &pattern(512));
    let late = peer.last(late);
    peer.reply(&[late]);
    assert_eq!(contents(peer.ended(key)), vec![0; 512]);
    peer.assert_up();
    assert_eq!(peer.session.snapshot().stats.late_answers, 2);
}

#[test]
fn what_waits_for_the_window_is_not_sent_after_it() {
    let mut peer = Peer::new(quiet());
    peer.window = 0;
    peer.login();
    let key = peer.submit(7, test_unit_ready());
    let other = peer.submit(8, test_unit_ready());
    manage(&mut peer, 7, ManagementFunction::AbortTaskSet);
    assert_eq!(
        peer.failed(key),
        (DeliveryErrorKind::Aborted, Certainty::NotSent)
    );
    assert!(peer.done(other).is_none());
}

#[test]
fn fast_abort_sends_no_more_data() {
    let mut peer = fast_abort();
    let key = peer.submit(7, large_write());
    let other = peer.submit(8, large_write());
    let itts: Vec<u32> = peer.sent().iter().map(Pdu::itt).collect();
    let asked = manage(&mut peer, 7, ManagementFunction::AbortTaskSet);
    let request = peer.one();
    let ours = peer.r2t(itts[0], 3, 0, 8192, 8192);
    let others = peer.r2t(itts[1], 4, 0, 8192, 8192);
    peer.reply(&[ours, others]);
    let data = peer.one();
    assert_eq!((data.opcode(), data.itt()), (DATA_OUT, itts[1]));
    let answer = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(
        peer.failed(key),
        (DeliveryErrorKind::Aborted, Certainty::Answered)
    );
    assert_eq!(ended(&mut peer, asked).ended, 1);
    assert!(peer.done(other).is_none());
    peer.assert_up();
}

#[test]
fn fast_abort_goes_on_with_data_when_the_function_fails() {
    let mut peer = fast_abort();
    let key = peer.submit(7, large_write());
    let itt = peer.one().itt();
    let asked = manage(&mut peer, 7, ManagementFunction::ClearTaskSet);
    let request = peer.one();
    let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
    peer.reply(&[r2t]);
    peer.silent();
    let answer = peer.task_answer(request.itt(), NOT_SUPPORTED);
    peer.reply(&[answer]);
    let response = ended(&mut peer, asked);
    assert_eq!(response.response, ManagementResponse::NotSupported);
    assert_eq!((response.response.is_done(), response.ended), (false, 0));
    let data = peer.one();
    assert_eq!(
        (data.opcode(), data.itt(), data.data.len()),
        (DATA_OUT, itt, 8192)
    );
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
}

#[test]
fn queries_need_level_2_and_leave_tasks_alone() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(7, test_unit_ready());
    peer.one();
    for function in [
        ManagementFunction::QueryTask(key),
        ManagementFunction::QueryTaskSet,
        ManagementFunction::ItNexusReset,
        ManagementFunction::QueryAsynchronousEvent,
    ] {
        let error = peer
            .session
            .manage(peer.now, Lun::ZERO, function)
            .unwrap_err();
        assert_eq!(
            error,
            TaskManagementError::ProtocolLevel { function, level: 1 }
        );
    }
    peer.silent();

    let mut peer = level_2();
    let key = peer.submit(7, test_unit_ready());
    let itt = peer.one().itt();
    let asked = manage(&mut peer, 7, ManagementFunction::QueryTask(key));
    let request = peer.one();
    let answer = peer
        .task_answer(request.itt(), SUCCEEDED)
        .put(8, 0x2a00_0100);
    peer.reply(&[answer]);
    let response = ended(&mut peer, asked);
    assert_eq!(response.response, ManagementResponse::FunctionSucceeded);
    assert_eq!(response.additional, [0x2a, 0, 1]);
    assert_eq!(response.ended, 0);
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    let over = peer
        .session
        .manage(peer.now, Lun::ZERO, ManagementFunction::QueryTask(key));
    assert_eq!(over, Err(TaskManagementError::NoSuchTask));
}

#[test]
fn an_answer_without_a_query_is_a_protocol_error_and_a_late_one_is_not() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let stray = peer.task_answer(0x0001_8000, COMPLETE);
    peer.reply(&[stray]);
    assert!(matches!(peer.loss(), Some(LossReason::Protocol(_))));

    let mut peer = Peer::up(quiet(), keys(&[]));
    let asked = manage(&mut peer, 7, ManagementFunction::ClearAca);
    let request = peer.one();
    peer.wait(Duration::from_secs(10));
    assert_eq!(
        answered(&mut peer, asked),
        Some(Err(TaskManagementError::NoAnswer))
    );
    let late = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[late]);
    peer.assert_up();
}

#[test]
fn a_reset_without_an_answer_costs_the_session() {
    let mut peer = Peer::up(quiet(), keys(&[]));
    let key = peer.submit(7, test_unit_ready());
    peer.one();
    let asked = manage(&mut peer, 7, ManagementFunction::LogicalUnitReset);
    peer.one();
    peer.wait(Duration::from_millis(14_999));
    assert_eq!(answered(&mut peer, asked), None);
    peer.wait(Duration::from_millis(1));
    assert_eq!(
        answered(&mut peer, asked),
        Some(Err(TaskManagementError::NoAnswer))
    );
    let function = "LOGICAL UNIT RESET";
    assert_eq!(
        peer.loss(),
        Some(LossReason::ManagementTimeout { function })
    );
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn a_cold_reset_and_a_nexus_reset_end_the_session_and_everything_in_it() {
    for function in [
        ManagementFunction::TargetColdReset,
        ManagementFunction::ItNexusReset,
    ] {
        let mut peer = level_2();
        let key = peer.submit(7, large_write());
        let itt = peer.one().itt();
        let asked = manage(&mut peer, 0, function);
        let request = peer.one();
        // Until the response R2Ts are answered, as for any function on several tasks.
        let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
        peer.reply(&[r2t]);
        assert_eq!(peer.one().opcode(), DATA_OUT);
        let answer = peer.task_answer(request.itt(), COMPLETE);
        peer.reply(&[answer]);
        assert_eq!(ended(&mut peer, asked).ended, 1);
        assert_eq!(
            peer.failed(key),
            (DeliveryErrorKind::Aborted, Certainty::Answered)
        );
        let name = function.name();
        assert_eq!(
            peer.loss(),
            Some(LossReason::ResetOnRequest { function: name })
        );
        assert_eq!(
            peer.session.over(),
            Incarnation(1),
            "nothing of it is alive"
        );
        peer.wait(Duration::from_millis(500));
        peer.login();
    }
}

#[test]
fn a_connection_that_goes_before_the_answer_is_told() {
    let mut peer = level_2();
    let asked = manage(&mut peer, 0, ManagementFunction::TargetColdReset);
    peer.one();
    peer.cut();
    assert_eq!(
        answered(&mut peer, asked),
        Some(Err(TaskManagementError::ConnectionLost))
    );
    let down = peer
        .session
        .manage(peer.now, Lun::ZERO, ManagementFunction::ClearAca);
    assert_eq!(down, Err(TaskManagementError::Down));
}

#[test]
fn a_rejected_request_is_told_and_its_task_goes_on() {
    let mut peer = level_2();
    let key = peer.submit(7, test_unit_ready());
    let itt = peer.one().itt();
    let asked = manage(&mut peer, 7, ManagementFunction::AbortTask(key));
    let request = peer.one();
    let reject = Pdu::new(0x3f, 0x80)
        .byte(2, 6)
        .put(16, NONE)
        .with(&request.bhs);
    let reject = peer.status(reject);
    peer.reply(&[reject]);
    let answer = answered(&mut peer, asked).unwrap().unwrap_err();
    assert!(
        matches!(answer, TaskManagementError::Rejected { reason: 6, .. }),
        "{answer}"
    );
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    peer.assert_clean();
}

#[test]
fn nobody_has_to_wait_for_the_answer() {
    let mut peer = level_2();
    let key = peer.submit(7, test_unit_ready());
    peer.one();
    let asked = manage(&mut peer, 7, ManagementFunction::AbortTaskSet);
    peer.session.forget_management(asked);
    let request = peer.one();
    let answer = peer.task_answer(request.itt(), COMPLETE);
    peer.reply(&[answer]);
    assert_eq!(
        peer.failed(key),
        (DeliveryErrorKind::Aborted, Certainty::Answered)
    );
    assert_eq!(answered(&mut peer, asked), None);
    // None of them is kept.
    for _ in 0..200 {
        let asked = manage(&mut peer, 7, ManagementFunction::ClearAca);
        peer.session.forget_management(asked);
        let request = peer.one();
        let answer = peer.task_answer(request.itt(), COMPLETE);
        peer.reply(&[answer]);
    }
    for _ in 0..64 {
        manage(&mut peer, 7, ManagementFunction::ClearAca);
    }
    let busy = peer
        .session
        .manage(peer.now, Lun::ZERO, ManagementFunction::ClearAca);
    assert_eq!(busy, Err(TaskManagementError::Busy));
}

#[test]
fn task_attributes_priority_and_qualifier() {
    let attributes = [
        (TaskAttribute::Untagged, 0),
        (TaskAttribute::Simple, 1),
        (TaskAttribute::Ordered, 2),
        (TaskAttribute::HeadOfQueue, 3),
        (TaskAttribute::Aca, 4),
    ];
    for (attribute, code) in attributes {
        let mut peer = level_2();
        let mut command = test_unit_ready();
        command.attribute = attribute;
        command.priority = 9;
        let key = peer.submit(0, command);
        let pdu = peer.one();
        assert_eq!(pdu.bhs[1], 0x80 | code);
        assert_eq!(pdu.bhs[2], 0x90, "PRI is the upper half");
        let mut busy = peer.answer(pdu.itt(), 8);
        busy.bhs[8..10].copy_from_slice(&[0x12, 0x34]);
        peer.reply(&[busy]);
        assert_eq!(peer.answered(key).qualifier, 0x1234);
    }
    // Below level 2 both are reserved.
    let mut peer = Peer::ready();
    let mut command = test_unit_ready();
    command.priority = 9;
    let key = peer.submit(0, command);
    let pdu = peer.one();
    assert_eq!(pdu.bhs[2], 0);
    let mut busy = peer.answer(pdu.itt(), 8);
    busy.bhs[8..10].copy_from_slice(&[0x12, 0x34]);
    peer.reply(&[busy]);
    assert_eq!(peer.answered(key).qualifier, 0);
}

#[test]
fn the_time_limit_of_a_task_counts_again_after_a_refused_abort() {
    let mut peer = level_2();
    let mut command = test_unit_ready();
    command.timeout = Duration::from_secs(2);
    let key = peer.submit(7, command);
    peer.one();
    let asked = manage(&mut peer, 7, ManagementFunction::AbortTask(key));
    let request = peer.one();
    // Its time is up while the target makes up its mind.
    peer.wait(Duration::from_secs(3));
    let answer = peer.task_answer(request.itt(), 255);
    peer.reply(&[answer]);
    let response = ended(&mut peer, asked);
    assert_eq!(response.ended, 0);
    peer.wait(Duration::ZERO);
    let again = peer.one();
    assert_eq!((again.bhs[1], again.word(20)), (0x81, request.word(20)));
    let answer = peer.task_answer(again.itt(), 0);
    peer.reply(&[answer]);
    let (kind, certainty) = (DeliveryErrorKind::TimedOut, Certainty::Answered);
    assert_eq!(peer.failed(key), (kind, certainty));
}
