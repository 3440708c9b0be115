//! Task management, text and parameters with several connections (RFC 7143 §4.2.3, §6.4, §11.6.1).

use super::*;

fn manage(peer: &mut Several, function: ManagementFunction) -> ManagementKey {
    let now = peer.now;
    peer.session.manage(now, Lun::ZERO, function).unwrap()
}

fn ended(peer: &mut Several, key: ManagementKey) -> usize {
    match peer.session.poll_management(key, Waker::noop()) {
        std::task::Poll::Ready(answer) => answer.unwrap().ended,
        std::task::Poll::Pending => panic!("no answer"),
    }
}

/// Two connections, each with a write that waits for R2Ts.
fn writing(reporting: &str) -> (Several, Vec<(u16, TaskKey, u32)>) {
    let mut config = several_config(0, 2);
    config.keepalive.interval = Duration::from_secs(10_000);
    config
        .offer
        .set("TaskReporting", "FastAbort,ResponseFence,RFC3720")
        .unwrap();
    config.offer.set("iSCSIProtocolLevel", "2").unwrap();
    let mut answers = keys(&[("MaxConnections", "2")]);
    answers.push(("TaskReporting", reporting.to_owned()));
    answers.push(("iSCSIProtocolLevel", "2".to_owned()));
    let mut peer = Several::with(config, answers);
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let key = peer.submit(write(&pattern(16_384)));
        for cid in [1, 2] {
            tasks.extend(peer.sent(cid).iter().map(|pdu| (cid, key, pdu.itt())));
        }
    }
    assert_eq!(tasks.len(), 2);
    assert_ne!(tasks[0].0, tasks[1].0, "one on each");
    (peer, tasks)
}

#[test]
fn statuses_are_acknowledged_on_every_connection_while_a_task_set_is_aborted() {
    let (mut peer, tasks) = writing("RFC3720");
    let asked = manage(&mut peer, ManagementFunction::AbortTaskSet);
    let request = peer.one(1);
    assert_eq!((request.opcode(), request.bhs[1]), (TASK_REQUEST, 0x82));
    // What is not acknowledged yet on the other connection is now.
    let acknowledge = peer.one(2);
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    // R2Ts are answered on both, and a status counts.
    for (cid, _, itt) in &tasks {
        peer.r2t(*cid, *itt, 0, 8192, 8192);
        assert_eq!(peer.one(*cid).opcode(), DATA_OUT);
    }
    let (_, first, _) = tasks[0];
    let (cid, second, itt) = tasks[1];
    peer.answer(cid, itt);
    peer.good(second);
    let acknowledge = peer.one(cid);
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    peer.task_answer(1, request.itt(), 0);
    assert_eq!(
        peer.failed(first),
        (DeliveryErrorKind::Aborted, Certainty::Answered)
    );
    assert_eq!(ended(&mut peer, asked), 1);
}

#[test]
fn fast_abort_stops_data_on_the_issuing_connection_and_elsewhere_when_told() {
    let (mut peer, tasks) = writing("FastAbort");
    let asked = manage(&mut peer, ManagementFunction::LogicalUnitReset);
    let request = peer.one(1);
    peer.one(2);
    for (cid, _, itt) in &tasks {
        peer.r2t(*cid, *itt, 0, 8192, 8192);
    }
    peer.silent(1);
    // The other connection has not been told yet (RFC 7143 §4.2.3.4).
    assert_eq!(peer.one(2).opcode(), DATA_OUT);
    let message = Pdu::new(0x32, 0x80).put(16, NONE).byte(36, 5);
    let message = peer.status(2, message);
    peer.reply(2, &[message]);
    let acknowledge = peer.one(2);
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    for (_, key, _) in &tasks {
        assert!(peer.is_pending(*key), "the response ends it");
    }
    peer.task_answer(1, request.itt(), 0);
    for (_, key, _) in &tasks {
        let aborted = (DeliveryErrorKind::Aborted, Certainty::Answered);
        assert_eq!(peer.failed(*key), aborted);
    }
    assert_eq!(ended(&mut peer, asked), 2);
}

#[test]
fn a_reset_of_our_own_is_acknowledged_and_ends_the_tasks_everywhere() {
    let (mut peer, tasks) = writing("FastAbort");
    // Both run out of time, their aborts are left unanswered, and one reset serves both.
    peer.wait(Duration::from_secs(30));
    assert_eq!(
        (peer.one(1).bhs[1], peer.one(2).bhs[1]),
        (0x81, 0x81),
        "ABORT TASK"
    );
    peer.wait(Duration::from_secs(10));
    let request = peer.one(1);
    assert_eq!(request.bhs[1], 0x85, "LOGICAL UNIT RESET");
    let acknowledge = peer.one(2);
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    for (cid, _, itt) in &tasks {
        peer.r2t(*cid, *itt, 0, 8192, 8192);
    }
    peer.silent(1);
    assert_eq!(peer.one(2).opcode(), DATA_OUT);
    // Told so, the other connection waits for the response as well.
    let message = Pdu::new(0x32, 0x80).put(16, NONE).byte(36, 5);
    let message = peer.status(2, message);
    peer.reply(2, &[message]);
    assert_eq!(peer.one(2).opcode(), NOP_OUT);
    for (_, key, _) in &tasks {
        assert!(peer.is_pending(*key), "the response ends it");
    }
    peer.task_answer(1, request.itt(), 0);
    for (_, key, _) in &tasks {
        assert_eq!(peer.failed(*key).1, Certainty::Answered);
    }
}

#[test]
fn a_function_names_a_task_on_the_connection_of_the_task() {
    let (mut peer, tasks) = writing("RFC3720");
    for (cid, key, itt) in tasks {
        manage(&mut peer, ManagementFunction::QueryTask(key));
        let request = peer.one(cid);
        assert_eq!((request.bhs[1], request.word(20)), (0x89, itt));
        manage(&mut peer, ManagementFunction::AbortTask(key));
        let request = peer.one(cid);
        assert_eq!((request.bhs[1], request.word(20)), (0x81, itt));
        peer.task_answer(cid, request.itt(), 0);
        assert_eq!(peer.failed(key).0, DeliveryErrorKind::Aborted);
    }
}

#[test]
fn a_new_segment_length_is_declared_on_every_connection() {
    let mut peer = Several::up(0, 2);
    let now = peer.now;
    let set = peer.session.set(now, "MaxRecvDataSegmentLength", "65536");
    let Ok(Applied::Renegotiating(key)) = set else {
        panic!("{set:?}");
    };
    for cid in [1, 2] {
        let request = peer.one(cid);
        assert_eq!((request.opcode(), request.is_immediate()), (TEXT, true));
        assert_eq!(request.data, b"MaxRecvDataSegmentLength=65536\0");
        assert!(peer.session.poll_text(key, Waker::noop()).is_pending());
        let pdu = Pdu::new(0x24, 0x80).put(16, request.itt()).put(20, NONE);
        let pdu = peer.status(cid, pdu);
        peer.reply(cid, &[pdu]);
    }
    assert!(peer.session.poll_text(key, Waker::noop()).is_ready());
}

#[test]
fn the_number_of_connections_follows_max_connections_at_once() {
    let mut peer = Several::up(0, 3);
    let now = peer.now;
    let fewer = peer.session.set(now, "MaxConnections", "1");
    assert_eq!(fewer, Ok(Applied::AtOnce));
    for cid in [2, 3] {
        let request = peer.one(cid);
        assert_eq!((request.opcode(), request.bhs[1]), (LOGOUT, 0x81));
        peer.logged_out(cid, request.itt(), 0, [0, 0]);
    }
    assert_eq!(peer.up_cids(), [1]);
    let more = peer.session.set(now, "MaxConnections", "2");
    assert_eq!(more, Ok(Applied::AtOnce));
    peer.login();
    assert_eq!(peer.up_cids().len(), 2);
    // More than was negotiated needs a login.
    let most = peer.session.set(now, "MaxConnections", "4");
    assert_eq!(most, Ok(Applied::NextLogin));
}
