//! The tasks of a lost connection: TASK REASSIGN and retry, seen on the wire.

use super::*;

/// Two connections at ErrorRecoveryLevel 2, with a command sent on the first; its PDU.
fn with(command: Command) -> (Several, TaskKey, Pdu) {
    let mut peer = Several::up(2, 2);
    let key = peer.submit(command);
    let sent = peer.sent(1);
    let pdu = sent.into_iter().next().unwrap();
    (peer, key, pdu)
}

/// The connection is lost, and logged out on the other; `acknowledged`: the target has the command.
fn lose(peer: &mut Several, acknowledged: bool) {
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    assert_eq!(logout.bhs[1], 0x82);
    if acknowledged {
        peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    }
    peer.logged_out(2, logout.itt(), 0, [0, 20]);
}

/// The TASK REASSIGN that must have been sent for a command.
fn reassign(peer: &mut Several, command: &Pdu) -> Pdu {
    let pdu = peer.one(2);
    assert_eq!(pdu.bhs[0], 0x42, "an immediate task management request");
    assert_eq!(pdu.bhs[1], 0x88, "function 8");
    assert_eq!(pdu.lun(), [0; 8], "reserved");
    assert_ne!(pdu.itt(), command.itt(), "a tag of its own");
    assert_eq!(pdu.word(20), command.itt(), "referenced task tag");
    assert_eq!(pdu.word(32), 0, "RefCmdSN is reserved");
    assert_eq!(pdu.cmd_sn(), command.cmd_sn().wrapping_add(1));
    pdu
}

#[test]
fn a_read_goes_on_where_it_was() {
    let (mut peer, key, command) = with(read(8192));
    let data = pattern(8192);
    let first = peer.data_in(command.itt(), 0, 0, &data[..4096]);
    peer.reply(1, &[first]);
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    assert_eq!(request.word(36), 1, "ExpDataSN");
    peer.task_answer(2, request.itt(), 0);
    let rest = peer
        .data_in(command.itt(), 1, 4096, &data[4096..])
        .byte(1, 0x81);
    let rest = peer.status(2, rest);
    peer.reply(2, &[rest]);
    assert_eq!(contents(peer.good(key)), data);
    assert_eq!(peer.session.snapshot().stats.reassigned, 1);
}

#[test]
fn a_payload_that_did_not_come_whole_is_asked_for_again() {
    let (mut peer, key, command) = with(read(8192));
    let data = pattern(8192);
    let first = peer.data_in(command.itt(), 0, 0, &data[..4096]);
    peer.reply(1, &[first]);
    let second = peer.data_in(command.itt(), 1, 4096, &[0xee; 4096]);
    let mut bytes = second.bhs.to_vec();
    bytes.extend_from_slice(&second.data[..1000]);
    peer.receive(1, &bytes);
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    assert_eq!(request.word(36), 1, "ExpDataSN: the second is missing");
    peer.task_answer(2, request.itt(), 0);
    let rest = peer
        .data_in(command.itt(), 1, 4096, &data[4096..])
        .byte(1, 0x81);
    let rest = peer.status(2, rest);
    peer.reply(2, &[rest]);
    assert_eq!(contents(peer.good(key)), data);
}

#[test]
fn what_came_behind_a_gap_is_thrown_away() {
    let (mut peer, key, command) = with(read(8192));
    let data = pattern(8192);
    let first = peer.data_in(command.itt(), 0, 0, &data[..2048]);
    // The second is lost.
    let third = peer.data_in(command.itt(), 2, 4096, &[0xee; 2048]);
    peer.reply(1, &[first, third]);
    assert_eq!(peer.one(1).opcode(), 0x10, "asked for");
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    assert_eq!(request.word(36), 1, "ExpDataSN");
    peer.task_answer(2, request.itt(), 0);
    // The rest comes in other pieces than before.
    let second = peer.data_in(command.itt(), 1, 2048, &data[2048..5000]);
    let rest = peer
        .data_in(command.itt(), 2, 5000, &data[5000..])
        .byte(1, 0x81);
    let rest = peer.status(2, rest);
    peer.reply(2, &[second, rest]);
    assert_eq!(contents(peer.good(key)), data);
}

#[test]
fn a_target_may_send_all_data_again() {
    let (mut peer, key, command) = with(read(8192));
    let data = pattern(8192);
    let first = peer.data_in(command.itt(), 0, 0, &[0xee; 4096]);
    peer.reply(1, &[first]);
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    peer.task_answer(2, request.itt(), 0);
    let again = peer.data_in(command.itt(), 0, 0, &data[..4096]);
    let rest = peer
        .data_in(command.itt(), 1, 4096, &data[4096..])
        .byte(1, 0x81);
    let rest = peer.status(2, rest);
    peer.reply(2, &[again, rest]);
    assert_eq!(contents(peer.good(key)), data);
}

#[test]
fn what_the_reassignment_acknowledged_is_not_asked_for_by_snack() {
    // ExpDataSN 2; the target sends everything again, and one Data-In gets lost.
    for (skipped, asks) in [(1, false), (2, true)] {
        let (mut peer, key, command) = with(read(8192));
        let itt = command.itt();
        let part = |peer: &Several, sn: u32| peer.data_in(itt, sn, sn * 2048, &[1; 2048]);
        let (first, second) = (part(&peer, 0), part(&peer, 1));
        peer.reply(1, &[first, second]);
        lose(&mut peer, true);
        let request = reassign(&mut peer, &command);
        assert_eq!(request.word(36), 2, "ExpDataSN");
        peer.task_answer(2, request.itt(), 0);
        for sn in (0..=skipped + 1).filter(|sn| *sn != skipped) {
            let pdu = part(&peer, sn);
            peer.reply(2, &[pdu]);
        }
        if asks {
            let snack = peer.one(2);
            assert_eq!((snack.opcode(), snack.word(40)), (0x10, 2), "BegRun");
        } else {
            assert_eq!(peer.closed.last(), Some(&(Cid(2), true)), "recovered anew");
        }
        assert!(peer.is_pending(key));
    }
}

#[test]
fn a_snack_tag_ends_with_its_connection() {
    let (mut peer, key, command) = with(read(8192));
    let (itt, data) = (command.itt(), pattern(8192));
    peer.session.max_recv_bytes_changed(Cid(1));
    let ahead = peer.data_in(itt, 1, 4096, &data[4096..]);
    peer.reply(1, &[ahead]);
    let snack = peer.one(1);
    assert_eq!((snack.opcode(), snack.bhs[1]), (0x10, 0x83), "R-Data");
    assert_ne!(snack.word(20), 0, "SNACK Tag");
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    assert_eq!(
        request.word(36),
        0,
        "ExpDataSN: nothing has come for certain"
    );
    peer.task_answer(2, request.itt(), 0);
    for (sn, part) in (0..).zip(data.chunks(4096)) {
        let part = peer.data_in(itt, sn, sn * 4096, part);
        peer.reply(2, &[part]);
    }
    // Its SNACK Tag is 0.
    let answer = Pdu::new(0x21, 0x80).put(16, itt).put(36, 2);
    let answer = peer.status(2, answer);
    peer.reply(2, &[answer]);
    assert_eq!(contents(peer.good(key)), data);
}

#[test]
fn a_lost_status_is_sent_again() {
    let (mut peer, key, command) = with(read(4096));
    let data = peer.data_in(command.itt(), 0, 0, &pattern(4096));
    peer.reply(1, &[data]);
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    assert_eq!(request.word(36), 1);
    peer.task_answer(2, request.itt(), 0);
    peer.answer(2, command.itt());
    assert_eq!(contents(peer.good(key)), pattern(4096));
}

#[test]
fn a_write_goes_on_as_the_target_asks() {
    let (mut peer, key, command) = with(write(&pattern(16_384)));
    assert_eq!(command.data.len(), 8192, "immediate");
    // The first R2T is served in part only: the network takes a header and some bytes.
    peer.line(1).takes = 1000;
    peer.r2t(1, command.itt(), 0, 8192, 8192);
    peer.sent(1);
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    assert_eq!(request.word(36), 0, "ExpDataSN is of reads");
    peer.silent(2);
    peer.task_answer(2, request.itt(), 0);
    peer.silent(2);
    // The target has lost more than that, and counts on.
    peer.r2t(2, command.itt(), 1, 4096, 12_288);
    let sent = peer.sent(2);
    let mut at = 4096;
    for pdu in &sent {
        assert_eq!(
            (pdu.opcode(), pdu.itt(), pdu.word(20)),
            (DATA_OUT, command.itt(), 0x99)
        );
        assert_eq!(pdu.word(40) as usize, at);
        assert_eq!(pdu.data, pattern(16_384)[at..at + pdu.data.len()]);
        at += pdu.data.len();
    }
    assert_eq!(at, 16_384);
    assert!(sent.last().unwrap().is_final());
    peer.answer(2, command.itt());
    peer.good(key);
}

#[test]
fn a_write_whose_data_are_all_there_gets_its_status() {
    let (mut peer, key, command) = with(write(&pattern(512)));
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    peer.task_answer(2, request.itt(), 0);
    peer.answer(2, command.itt());
    peer.good(key);
}

#[test]
fn a_status_before_all_data_is_not_believed_after_a_reassignment() {
    let (mut peer, key, command) = with(write(&pattern(16_384)));
    peer.line(1).takes = 1000;
    peer.r2t(1, command.itt(), 0, 8192, 8192);
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    peer.task_answer(2, request.itt(), 0);
    // 8,192 bytes of it were never sent.
    peer.answer(2, command.itt());
    assert_eq!(peer.session.snapshot().stats.losses, 1);
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
}

#[test]
fn a_command_that_the_target_never_took_is_sent_again_as_it_was() {
    for sent in [usize::MAX, 20, 0] {
        let mut peer = Several::up(2, 2);
        peer.line(1).takes = sent;
        let key = peer.submit(write(&pattern(8192)));
        let other = peer.submit(test_unit_ready());
        peer.pump();
        let later = peer.one(2);
        let number = later.cmd_sn().wrapping_sub(1);
        lose(&mut peer, false);
        let again = peer.one(2);
        assert_eq!(again.bhs[0], COMMAND, "not immediate");
        assert_eq!(again.cmd_sn(), number, "the hole");
        assert_eq!(again.itt(), key.itt().0);
        assert_eq!(again.data, pattern(8192));
        assert_eq!(again.word(20), 8192);
        peer.exp_cmd_sn = number.wrapping_add(2);
        peer.answer(2, again.itt());
        peer.answer(2, later.itt());
        peer.good(key);
        peer.good(other);
        let stats = peer.session.snapshot().stats;
        assert_eq!((stats.retried, stats.reassigned), (1, 0));
        // The next command has the next number.
        peer.submit(test_unit_ready());
        assert_eq!(peer.one(2).cmd_sn(), number.wrapping_add(2));
    }
}

#[test]
fn a_retried_command_is_the_same_in_every_field() {
    let (mut peer, _, command) = with(read(4096));
    lose(&mut peer, false);
    let again = peer.one(2);
    let without_ack = |pdu: &Pdu| [&pdu.bhs[..28], &pdu.bhs[32..]].concat();
    assert_eq!(without_ack(&again), without_ack(&command));
}

#[test]
fn holes_are_filled_in_order_and_before_new_commands() {
    let mut peer = Several::up(2, 2);
    peer.session.handle_blocked(Cid(2), true);
    let old: Vec<_> = (0..3).map(|_| peer.submit(test_unit_ready())).collect();
    let numbers: Vec<u32> = peer.sent(1).iter().map(Pdu::cmd_sn).collect();
    peer.session.handle_blocked(Cid(2), false);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    // Submitted while the window of the target cannot move.
    peer.logged_out(2, logout.itt(), 0, [0, 20]);
    peer.submit(test_unit_ready());
    let sent: Vec<u32> = peer.sent(2).iter().map(Pdu::cmd_sn).collect();
    assert_eq!(sent[..3], numbers);
    assert_eq!(sent[3], numbers[2].wrapping_add(1));
    assert!(old.into_iter().all(|key| peer.is_pending(key)));
}

#[test]
fn a_refused_reassignment_ends_the_session_and_leaves_the_outcome_open() {
    for response in [3, 4, 5, 255] {
        let (mut peer, key, command) = with(write(&pattern(512)));
        lose(&mut peer, true);
        let request = reassign(&mut peer, &command);
        peer.task_answer(2, request.itt(), response);
        let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
        assert_eq!(peer.failed(key), unknown, "response {response}");
        assert_eq!(peer.session.snapshot().stats.losses, 1);
        let events: Vec<_> = std::iter::from_fn(|| peer.session.poll_event()).collect();
        let refused = LossReason::ReassignRefused { response };
        let told = events
            .iter()
            .any(|event| matches!(event, Event::Lost { reason, .. } if *reason == refused));
        assert!(told, "{events:?}");
    }
}

#[test]
fn an_unanswered_reassignment_ends_the_session() {
    let (mut peer, key, command) = with(write(&pattern(512)));
    lose(&mut peer, true);
    reassign(&mut peer, &command);
    let limit = peer.session.config.timeouts.abort_task;
    for _ in 0..2 {
        // The other connection lives.
        peer.wait(limit / 2 - Duration::from_millis(1));
        for pdu in peer.sent(2) {
            let answer = Pdu::new(0x20, 0x80).put(16, pdu.itt()).put(20, NONE);
            let answer = peer.status(2, answer);
            peer.reply(2, &[answer]);
        }
    }
    assert!(peer.is_pending(key));
    peer.wait(Duration::from_millis(2));
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
}

#[test]
fn a_task_that_the_target_has_given_up_may_still_run() {
    let (mut peer, key, command) = with(write(&pattern(512)));
    lose(&mut peer, true);
    let request = reassign(&mut peer, &command);
    peer.task_answer(2, request.itt(), 1);
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
    assert_eq!(peer.phase(), "logged in");
}

#[test]
fn so_may_one_that_is_aborted_after_its_connection_was_lost() {
    for (moved, certainty) in [
        (false, Certainty::Answered),
        (true, Certainty::SentNoAnswer),
    ] {
        let mut command = write(&pattern(512));
        command.timeout = Duration::from_secs(2);
        let (mut peer, key, command) = with(command);
        let mut cid = 1;
        if moved {
            lose(&mut peer, true);
            let request = reassign(&mut peer, &command);
            peer.task_answer(2, request.itt(), 0);
            cid = 2;
        } else {
            peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
        }
        peer.wait(Duration::from_secs(2));
        let sent = peer.sent(cid);
        let abort = sent.iter().find(|pdu| pdu.bhs[1] == 0x81).unwrap();
        assert_eq!((abort.bhs[0], abort.word(20)), (0x42, command.itt()));
        peer.task_answer(cid, abort.itt(), 1);
        assert_eq!(peer.failed(key), (DeliveryErrorKind::TimedOut, certainty));
    }
}

#[test]
fn the_second_connection_is_lost_before_it_has_taken_the_task() {
    for answered in [false, true] {
        let mut peer = Several::up(2, 3);
        let key = peer.submit(read(4096));
        let command = peer.one(1);
        lose(&mut peer, true);
        let first = peer.one(2);
        assert_eq!((first.bhs[1], first.word(20)), (0x88, command.itt()));
        if answered {
            peer.task_answer(2, first.itt(), 0);
        }
        peer.cut(2);
        peer.wait(Duration::ZERO);
        let logout = peer.one(3);
        assert_eq!((logout.bhs[1], logout.bhs[21]), (0x82, 2));
        peer.logged_out(3, logout.itt(), 0, [0, 20]);
        let second = peer.one(3);
        assert_eq!((second.bhs[1], second.word(20)), (0x88, command.itt()));
        assert_ne!(second.itt(), first.itt());
        peer.task_answer(3, second.itt(), 0);
        let data = peer
            .data_in(command.itt(), 0, 0, &pattern(4096))
            .byte(1, 0x81);
        let data = peer.status(3, data);
        peer.reply(3, &[data]);
        assert_eq!(contents(peer.good(key)), pattern(4096));
    }
}

#[test]
fn the_wait_that_the_logout_response_asks_for_is_kept() {
    let (mut peer, _, command) = with(read(4096));
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    peer.logged_out(2, logout.itt(), 0, [4, 20]);
    peer.wait(Duration::from_millis(3999));
    peer.silent(2);
    peer.wait(Duration::from_millis(1));
    reassign(&mut peer, &command);
}

#[test]
fn tasks_that_the_target_does_not_retain_are_of_unknown_outcome() {
    let (mut peer, key, _) = with(write(&pattern(512)));
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    peer.logged_out(2, logout.itt(), 0, [0, 0]);
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
}

#[test]
fn a_task_to_be_aborted_is_not_reassigned_but_aborted_elsewhere() {
    let (mut peer, key, command) = with(write(&pattern(512)));
    peer.session.abandon(peer.now, key);
    let abort = peer.one(1);
    assert_eq!(abort.bhs[1], 0x81);
    lose(&mut peer, true);
    let again = peer.one(2);
    assert_eq!((again.bhs[0], again.bhs[1]), (0x42, 0x81), "ABORT TASK");
    assert_eq!(
        (again.word(20), again.word(32)),
        (command.itt(), command.cmd_sn())
    );
    assert_ne!(again.itt(), abort.itt());
    assert_eq!(peer.session.unsettled(), 1);
    peer.task_answer(2, again.itt(), 0);
    assert_eq!(peer.session.unsettled(), 0);
    assert_eq!(peer.session.in_flight(), 0);
    assert_eq!(peer.session.tasks.len(), 0);
}

#[test]
fn a_task_whose_wanted_abort_went_with_its_connection_is_reassigned() {
    let (mut peer, key, command) = with(write(&pattern(512)));
    let (now, function) = (peer.now, ManagementFunction::AbortTask(key));
    let asked = peer.session.manage(now, Lun::ZERO, function).unwrap();
    assert_eq!(peer.one(1).bhs[1], 0x81);
    lose(&mut peer, true);
    let answer = peer.session.poll_management(asked, Waker::noop());
    let lost = Err(TaskManagementError::ConnectionLost);
    assert_eq!(answer, std::task::Poll::Ready(lost));
    let request = reassign(&mut peer, &command);
    peer.task_answer(2, request.itt(), 0);
    peer.answer(2, command.itt());
    peer.good(key);
}

#[test]
fn a_session_that_ends_after_a_retry_does_not_say_that_nothing_was_sent() {
    let mut peer = Several::up(2, 2);
    peer.line(1).takes = 0;
    let key = peer.submit(write(&pattern(512)));
    peer.pump();
    peer.line(2).takes = 48;
    lose(&mut peer, false);
    peer.session.want_fence(peer.now, Incarnation(1));
    peer.act();
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
}

#[test]
fn a_reset_that_went_with_its_connection_is_asked_for_again() {
    let mut peer = Several::up(2, 2);
    let mut command = test_unit_ready();
    command.timeout = Duration::from_secs(1);
    let key = peer.submit(command);
    let task = peer.one(1);
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    peer.wait(Duration::from_secs(1));
    let abort = peer.one(1);
    assert_eq!(abort.bhs[1], 0x81);
    peer.task_answer(1, abort.itt(), 255);
    let reset = peer.one(1);
    assert_eq!(reset.bhs[..2], [0x42, 0x85], "LOGICAL UNIT RESET");
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let sent = peer.sent(2);
    let again = sent.iter().find(|pdu| pdu.bhs[..2] == [0x42, 0x85]);
    let again = again.expect("the reset").clone();
    assert_ne!(again.itt(), reset.itt());
    let logout = sent.iter().find(|pdu| pdu.opcode() == LOGOUT);
    let logout = logout.expect("the logout").itt();
    peer.task_answer(2, again.itt(), 0);
    peer.logged_out(2, logout, 0, [0, 20]);
    assert_eq!(
        peer.failed(key),
        (DeliveryErrorKind::TimedOut, Certainty::Answered)
    );
    assert_eq!(peer.session.snapshot().stats.losses, 0);
    assert_eq!(task.opcode(), COMMAND);
}
