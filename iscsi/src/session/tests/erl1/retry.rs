//! Commands that never reached the target, and holes in CmdSN order.

use super::*;

#[test]
fn ffp_4_1_a_lost_command_is_sent_again_as_it_was() {
    let mut peer = plain();
    let key = peer.read(512);
    let lost = peer.one();
    let (later, ready) = (peer.submit(0, test_unit_ready()), peer.one());
    let nop = peer.probed();
    assert_eq!(nop.cmd_sn(), ready.cmd_sn().wrapping_add(1));
    // ExpCmdSN still names the first command, though the NOP-Out came behind it.
    assert_eq!(peer.exp_cmd_sn, lost.cmd_sn());
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    let again = peer.one();
    assert_same_request(&again, &lost);
    assert_eq!(again.exp_stat_sn(), peer.stat_sn);
    assert_eq!(peer.session.stats.retried, 1);
    // Now both are there, and the next one has a number of its own.
    peer.exp_cmd_sn = ready.cmd_sn().wrapping_add(1);
    let data = peer.data_in(lost.itt(), 0, 0, &pattern(512));
    let data = peer.last(data);
    let answer = peer.answer(ready.itt(), 0);
    peer.reply(&[data, answer]);
    assert_eq!(contents(peer.ended(key)), pattern(512));
    peer.good(later);
    let (_, next) = peer.sent_command(test_unit_ready());
    assert_eq!(next.cmd_sn(), ready.cmd_sn().wrapping_add(1));
    peer.assert_up();
}

#[test]
fn an_acknowledged_command_is_never_sent_again() {
    let mut peer = plain();
    let (key, _) = peer.sent_command(write(&pattern(512)));
    for _ in 0..10 {
        let nop = peer.probed();
        let answer = peer.nop_answer(&nop);
        peer.reply(&[answer]);
        assert!(peer.sent().iter().all(|pdu| pdu.opcode() == NOP_OUT));
    }
    assert_eq!(peer.session.stats.retried, 0);
    assert!(peer.done(key).is_none());
}

#[test]
fn a_command_is_not_retried_on_the_word_of_a_nop_that_was_sent_before_it() {
    let mut peer = plain();
    let (_, _) = peer.sent_command(test_unit_ready());
    let nop = peer.probed();
    // The new command and the answer cross each other.
    let key = peer.submit(0, test_unit_ready());
    let command = peer.one();
    assert_eq!(command.opcode(), COMMAND);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    peer.silent();
    assert!(peer.done(key).is_none());
}

#[test]
fn a_command_acknowledged_while_its_retry_waits_is_not_sent() {
    let mut peer = plain();
    peer.submit(0, test_unit_ready());
    let lost = peer.one();
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.exp_cmd_sn = lost.cmd_sn().wrapping_add(1);
    let news = peer.numbers();
    peer.reply(&[answer, news]);
    peer.silent();
}

/// A command is lost and aborted before that is noticed; another one is sent behind it.
fn aborted_unseen(mut peer: Peer) -> (Peer, TaskKey, Pdu) {
    let mut command = test_unit_ready();
    command.timeout = SECOND / 2;
    let aborted = peer.submit(0, command);
    let lost = peer.one();
    peer.wait(SECOND / 2);
    let abort = peer.one();
    assert_eq!((abort.bhs[0], abort.bhs[1]), (0x42, 0x81));
    let later = peer.submit(0, test_unit_ready());
    peer.one();
    let answer = peer.task_answer(abort.itt(), 0);
    peer.reply(&[answer]);
    assert_eq!(
        peer.failed(aborted),
        (DeliveryErrorKind::TimedOut, Certainty::Answered)
    );
    assert_eq!(peer.exp_cmd_sn, lost.cmd_sn());
    (peer, later, lost)
}

#[test]
fn a_hole_that_an_abort_has_left_ends_the_session() {
    ends_with_the_hole(plain());
}

#[test]
fn a_hole_ends_a_session_of_level_0_too() {
    ends_with_the_hole(Peer::ready());
}

fn ends_with_the_hole(peer: Peer) {
    let (mut peer, later, lost) = aborted_unseen(peer);
    for _ in 0..4 {
        if !matches!(peer.session.snapshot().phase, "logged in") {
            break;
        }
        peer.wait(SECOND);
        for nop in peer.sent() {
            let answer = peer.nop_answer(&nop);
            peer.reply(&[answer]);
        }
    }
    let cmd_sn = lost.cmd_sn();
    assert_eq!(peer.loss(), Some(LossReason::CmdSnHole { cmd_sn }));
    assert_eq!(
        peer.failed(later),
        (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer)
    );
}

#[test]
fn a_hole_that_an_abort_has_filled_without_saying_so_is_none() {
    let (mut peer, later, lost) = aborted_unseen(plain());
    let nop = peer.probed_once();
    peer.exp_cmd_sn = lost.cmd_sn().wrapping_add(2);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    for _ in 0..5 {
        peer.wait(SECOND);
        for nop in peer.sent() {
            let answer = peer.nop_answer(&nop);
            peer.reply(&[answer]);
        }
    }
    assert!(peer.done(later).is_none());
    peer.assert_up();
}

#[test]
fn a_retried_write_starts_its_unsolicited_data_again() {
    let mut peer = level_1(&[("InitialR2T", "No"), ("FirstBurstLength", "16384")]);
    let data = pattern(16384);
    peer.write(&data);
    let first = peer.sent();
    assert_eq!(first[0].opcode(), COMMAND);
    assert!(first.len() > 1 && first[1].opcode() == DATA_OUT);
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    let again = peer.sent();
    assert_eq!(again.len(), first.len());
    for (again, first) in again.iter().zip(&first) {
        assert_same_request(again, first);
    }
    // Once the target asks for data it has the command.
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    let answer = peer.answer(first[0].itt(), 0);
    peer.reply(&[answer]);
    peer.assert_up();
}

#[test]
fn a_command_is_sent_again_with_its_flags_whatever_was_set_since() {
    let mut peer = level_1(&[("InitialR2T", "No"), ("FirstBurstLength", "16384")]);
    peer.write(&pattern(16384));
    let first = peer.sent();
    assert!(!first[0].is_final() && !first[0].data.is_empty());
    for (key, value) in [("InitialR2T", "Yes"), ("ImmediateData", "No")] {
        let now = peer.now;
        let applied = peer.session.set(now, key, value);
        assert_eq!(applied, Ok(Applied::AtOnce), "{key}");
    }
    let nop = peer.probed();
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    let again = peer.sent();
    assert_eq!(again.len(), first.len());
    for (again, first) in again.iter().zip(&first) {
        assert_same_request(again, first);
    }
}

#[test]
fn a_command_that_never_arrives_ends_the_connection() {
    let mut peer = plain();
    let key = peer.submit(0, test_unit_ready());
    peer.one();
    let mut retries = 0;
    for _ in 0..6 {
        let nop = peer.probed();
        let answer = peer.nop_answer(&nop);
        peer.reply(&[answer]);
        retries += peer.sent().len();
    }
    assert_eq!(retries, 5);
    let what = "a command";
    assert_eq!(peer.loss(), Some(LossReason::NotRecovered { what }));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn data_of_commands_sent_again_go_in_the_order_of_the_commands() {
    let mut peer = level_1(&[("InitialR2T", "No"), ("FirstBurstLength", "16384")]);
    let data = pattern(16384);
    let keys = [peer.write(&data), peer.write(&data), peer.write(&data)];
    let sent = peer.sent();
    let commands: Vec<Pdu> = sent
        .into_iter()
        .filter(|pdu| pdu.opcode() == COMMAND)
        .collect();
    assert_eq!(commands.len(), keys.len());
    let rejects = [peer.reject(2, &commands[0]), peer.reject(2, &commands[1])];
    peer.reply(&rejects);
    let sent = peer.sent();
    let order: Vec<_> = sent.iter().map(|pdu| (pdu.opcode(), pdu.itt())).collect();
    let [one, two] = [commands[0].itt(), commands[1].itt()];
    let expected = [
        (COMMAND, one),
        (COMMAND, two),
        (DATA_OUT, one),
        (DATA_OUT, two),
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_nop_from_before_a_retry_says_nothing_about_it() {
    let mut peer = plain();
    peer.write(&pattern(512));
    let lost = peer.one();
    let nop = peer.probed();
    let reject = peer.reject(2, &lost);
    peer.reply(&[reject]);
    assert_eq!(peer.one().opcode(), COMMAND);
    let answer = peer.nop_answer(&nop);
    peer.reply(&[answer]);
    peer.silent();
}
