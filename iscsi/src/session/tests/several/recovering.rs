//! Lost connections: what is done about the connection itself.

use super::*;
use crate::session::state::CleanupState;
use crate::wire::receiver::FrameError;

#[test]
fn a_lost_connection_is_logged_out_for_recovery_on_another() {
    let mut peer = Several::up(2, 2);
    let stat_sn = peer.line(1).stat_sn;
    peer.cut(1);
    assert_eq!(peer.closed, [(Cid(1), true)]);
    assert_eq!(peer.phase(), "logged in");
    assert!(matches!(peer.session.state(), NexusState::Up(_)));
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    assert_eq!((logout.bhs[0], logout.bhs[1]), (0x46, 0x82), "reason 2");
    assert_eq!(logout.bhs[20..22], 1_u16.to_be_bytes(), "the lost CID");
    assert_eq!(logout.exp_stat_sn(), stat_sn, "of the lost connection");
    peer.logged_out(2, logout.itt(), 0, [0, 20]);
    assert_eq!(peer.up_cids(), [2]);
    // Another one takes its place, under a CID of its own.
    let (cid, requests) = peer.login();
    assert_eq!(requests[0].bhs[14..16], [0, 0x77]);
    assert_eq!(peer.up_cids(), [2, cid]);
    assert_ne!(cid, 1);
    let stats = peer.session.snapshot().stats;
    assert_eq!(
        (stats.connections_lost, stats.losses, stats.logins),
        (1, 0, 1)
    );
}

#[test]
fn a_format_error_ends_every_connection_at_level_2() {
    let mut peer = Several::up(2, 2);
    let key = peer.submit(test_unit_ready());
    peer.one(1);
    let error = crate::wire::WireError::MissingTag {
        pdu: "R2T",
        field: "Target Transfer Tag",
    };
    let (now, frame) = (peer.now, FrameError::Header(error));
    peer.session.handle_frame_error(now, Cid(2), frame);
    peer.act();
    let mut closed = peer.closed.clone();
    closed.sort_by_key(|(cid, _)| cid.0);
    assert_eq!(closed, [(Cid(1), true), (Cid(2), true)]);
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
    // A wrong header digest costs its own connection only.
    let mut peer = Several::up(2, 2);
    let (now, frame) = (peer.now, FrameError::HeaderDigest);
    peer.session.handle_frame_error(now, Cid(2), frame);
    peer.act();
    assert_eq!(peer.closed, [(Cid(2), true)]);
}

#[test]
fn time2wait_passes_before_the_logout() {
    let answers = keys(&[
        ("ErrorRecoveryLevel", "2"),
        ("MaxConnections", "2"),
        ("DefaultTime2Wait", "3"),
        ("DefaultTime2Retain", "20"),
    ]);
    let mut peer = Several::with(several_config(2, 2), answers);
    peer.cut(1);
    peer.wait(Duration::from_millis(2999));
    peer.silent(2);
    peer.wait(Duration::from_millis(1));
    assert_eq!(peer.one(2).opcode(), LOGOUT);
}

#[test]
fn an_announced_drop_has_times_of_its_own() {
    let mut peer = Several::up(2, 2);
    let mut pdu = Pdu::new(0x32, 0x80).put(16, NONE).byte(36, 2);
    (pdu.bhs[39], pdu.bhs[41], pdu.bhs[43]) = (1, 4, 9);
    let pdu = peer.status(2, pdu);
    peer.reply(2, &[pdu]);
    assert_eq!(peer.closed, [(Cid(1), true)]);
    peer.wait(Duration::from_millis(3999));
    peer.silent(2);
    peer.wait(Duration::from_millis(1));
    assert_eq!(peer.one(2).bhs[1], 0x82);
}

#[test]
fn the_only_connection_is_reinstated_with_its_cid() {
    let mut peer = Several::up(2, 1);
    let stat_sn = peer.line(1).stat_sn;
    let key = peer.submit(test_unit_ready());
    let command = peer.one(1);
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    let incarnation = peer.session.state();
    peer.cut(1);
    peer.wait(Duration::ZERO);
    assert!(matches!(peer.session.state(), NexusState::Down(_)));
    assert!(peer.is_pending(key));
    // By way of CLEANUP_WAIT, which alone leads there (RFC 7143 §6.3.4, §8.2).
    let cleanup = |peer: &Several| peer.session.connections.leading().cleanup;
    assert_eq!(cleanup(&peer), Some(CleanupState::InCleanup));
    assert_eq!(peer.session.state, SessionState::Failed);
    let (cid, requests) = peer.login();
    assert_eq!(cid, 1);
    assert_eq!(cleanup(&peer), None);
    assert_eq!(peer.session.state, SessionState::LoggedIn);
    for request in &requests {
        assert_eq!(request.bhs[14..16], [0, 0x77], "TSIH");
        assert_eq!(request.bhs[20..22], 1_u16.to_be_bytes(), "CID");
        assert_eq!(request.cmd_sn(), command.cmd_sn().wrapping_add(1));
    }
    assert_eq!(requests[0].exp_stat_sn(), stat_sn, "of the old connection");
    assert_eq!(peer.session.state(), incarnation, "the same life");
    let reassign = peer.one(1);
    assert_eq!((reassign.bhs[0], reassign.bhs[1]), (0x42, 0x88));
    assert_eq!(reassign.word(20), command.itt());
    peer.task_answer(1, reassign.itt(), 0);
    peer.answer(1, command.itt());
    peer.good(key);
    let stats = peer.session.snapshot().stats;
    assert_eq!((stats.reassigned, stats.retried, stats.losses), (1, 0, 0));
}

#[test]
fn reinstatement_is_tried_until_time2retain_is_over() {
    let mut peer = Several::up(2, 1);
    let key = peer.submit(write(&pattern(512)));
    peer.one(1);
    peer.cut(1);
    let lost_at = peer.now;
    let mut attempts = 0;
    while peer.phase() == "logged in" {
        peer.wait(Duration::from_millis(100));
        if peer.phase() == "logged in" && !peer.dialling.is_empty() {
            let (cid, portal) = peer.dialling[0].clone();
            assert_eq!(cid, Cid(1));
            let expected = ["10.0.0.1:3260", "10.0.0.2:3260"][attempts % 2];
            assert_eq!(portal.to_string(), expected);
            attempts += 1;
            peer.refuse();
        }
        assert!(
            peer.now - lost_at < Duration::from_secs(60),
            "never given up"
        );
    }
    assert!(attempts > 3);
    assert!(
        peer.now - lost_at >= Duration::from_secs(20),
        "{:?}",
        peer.now - lost_at
    );
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
    peer.wait(Duration::from_secs(20));
    let (cid, requests) = peer.login();
    assert_ne!(cid, 1);
    assert_eq!(requests[0].bhs[14..16], [0, 0], "session reinstatement");
}

#[test]
fn a_target_that_has_forgotten_the_session_is_taken_at_its_word() {
    let mut peer = Several::up(2, 1);
    let key = peer.submit(write(&pattern(512)));
    peer.one(1);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    peer.connected();
    let request = peer.one(1);
    let mut answer = Pdu::new(0x23, 0).byte(36, 2).byte(37, 0x0a);
    answer.bhs[8..14].copy_from_slice(&request.bhs[8..14]);
    answer.bhs[15] = 0x77;
    let answer = peer.status(1, answer.put(16, request.itt()));
    peer.reply(1, &[answer]);
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
    peer.wait(Duration::from_secs(1));
    let (_, requests) = peer.login();
    assert_eq!(requests[0].bhs[14..16], [0, 0], "session reinstatement");
}

#[test]
fn without_time_to_retain_the_session_is_lost_at_level_2() {
    let answers = keys(&[("ErrorRecoveryLevel", "2")]);
    let mut peer = Several::with(several_config(2, 1), answers);
    peer.cut(1);
    assert_eq!(peer.session.snapshot().stats.losses, 1);
}

#[test]
fn the_connection_that_carried_the_logout_is_lost_itself() {
    let mut peer = Several::up(2, 3);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    assert_eq!(logout.bhs[20..22], 1_u16.to_be_bytes());
    peer.cut(2);
    peer.wait(Duration::ZERO);
    let logouts = peer.sent(3);
    let mut cids: Vec<_> = logouts.iter().map(|it| it.bhs[21]).collect();
    cids.sort_unstable();
    assert_eq!(cids, [1, 2]);
    for logout in logouts {
        assert_eq!(logout.bhs[1], 0x82);
        peer.logged_out(3, logout.itt(), 0, [0, 20]);
    }
    assert_eq!(peer.up_cids(), [3]);
    assert_eq!(peer.phase(), "logged in");
}

#[test]
fn all_connections_lost_at_once_come_back_each_under_its_cid() {
    let mut peer = Several::up(2, 2);
    let keys = [peer.submit(read(4096)), peer.submit(read(4096))];
    let itts = [peer.one(1).itt(), peer.one(2).itt()];
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(2);
    peer.cut(1);
    peer.cut(2);
    peer.wait(Duration::ZERO);
    assert!(matches!(peer.session.state(), NexusState::Down(_)));
    let dialled: Vec<_> = peer.dialling.iter().map(|(cid, _)| cid.0).collect();
    assert_eq!(dialled, [1, 2]);
    peer.login();
    let reassign = peer.one(1);
    assert_eq!((reassign.bhs[1], reassign.word(20)), (0x88, itts[0]));
    peer.task_answer(1, reassign.itt(), 0);
    peer.login();
    let reassign = peer.one(2);
    assert_eq!((reassign.bhs[1], reassign.word(20)), (0x88, itts[1]));
    peer.task_answer(2, reassign.itt(), 0);
    for (cid, itt) in [(1, itts[0]), (2, itts[1])] {
        let data = peer.data_in(itt, 0, 0, &pattern(4096)).byte(1, 0x81);
        let data = peer.status(cid, data);
        peer.reply(cid, &[data]);
    }
    for key in keys {
        assert_eq!(contents(peer.good(key)), pattern(4096));
    }
}

#[test]
fn a_session_that_has_lost_all_connections_goes_on_with_a_new_one() {
    // RFC 7143 §6.3.6: a new CID will do.
    let mut peer = Several::up(2, 1);
    peer.session.add_connection(peer.now, None).unwrap();
    peer.cut(1);
    assert_eq!(peer.session.snapshot().session_state, SessionState::Failed);
    let (cid, _) = peer.login();
    assert_eq!(cid, 2);
    let state = peer.session.snapshot().session_state;
    assert_eq!(state, SessionState::LoggedIn);
    // The old one was being dialled when the new one came.
    peer.refuse();
    peer.wait(Duration::from_secs(1));
    let logout = peer.one(2);
    assert_eq!((logout.bhs[1], logout.word(20)), (0x82, 0x0001_0000));
    peer.logged_out(2, logout.itt(), 0, [0, 20]);
    peer.session.logout(peer.now);
    let logout = peer.one(2);
    peer.logged_out(2, logout.itt(), 0, [0, 0]);
    assert!(peer.session.is_closed());
}

#[test]
fn a_logout_for_recovery_that_fails_ends_the_session() {
    for response in [2, 3] {
        let mut peer = Several::up(2, 2);
        let key = peer.submit(write(&pattern(512)));
        peer.one(1);
        peer.cut(1);
        peer.wait(Duration::ZERO);
        let logout = peer.one(2);
        peer.logged_out(2, logout.itt(), response, [0, 0]);
        let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
        assert_eq!(peer.failed(key), unknown);
        assert_eq!(peer.session.snapshot().stats.losses, 1);
    }
    let mut peer = Several::up(2, 2);
    peer.cut(1);
    peer.wait(Duration::from_secs(5));
    assert_eq!(peer.session.snapshot().stats.losses, 1, "no answer");
}

#[test]
fn at_level_1_the_tasks_of_a_lost_connection_end_with_a_logout() {
    let mut peer = Several::up(1, 2);
    let taken = peer.submit(write(&pattern(512)));
    let itt = peer.one(1).itt();
    // Acknowledged by the answer to another command.
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(2);
    let other = peer.submit(test_unit_ready());
    let second = peer.one(2).itt();
    peer.answer(2, second);
    peer.good(other);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    let logout = peer.one(2);
    assert_eq!(logout.bhs[1], 0x81, "reason 1");
    assert!(peer.is_pending(taken));
    peer.logged_out(2, logout.itt(), 0, [0, 0]);
    let ended = (DeliveryErrorKind::ConnectionLost, Certainty::Answered);
    assert_eq!(peer.failed(taken), ended);
    assert_eq!(peer.phase(), "logged in");
    assert_ne!(itt, second);
}

#[test]
fn a_connection_that_is_lost_again_and_again_ends_the_session() {
    let mut peer = Several::up(2, 1);
    for round in 0..9 {
        assert_eq!(peer.session.snapshot().stats.losses, 0, "round {round}");
        peer.cut(1);
        peer.wait(Duration::ZERO);
        if peer.session.snapshot().stats.losses == 0 {
            peer.login();
        }
    }
    assert_eq!(peer.session.snapshot().stats.losses, 1);
}

#[test]
fn a_logout_of_the_session_does_not_wait_for_a_recovery() {
    let mut peer = Several::up(2, 2);
    let key = peer.submit(test_unit_ready());
    peer.one(1);
    peer.cut(1);
    peer.wait(Duration::ZERO);
    peer.one(2);
    peer.session.logout(peer.now);
    peer.wait(Duration::from_secs(5));
    let sent = peer.sent(2);
    let logout = sent.last().unwrap();
    assert_eq!((logout.opcode(), logout.bhs[1]), (LOGOUT, 0x80));
    peer.logged_out(2, logout.itt(), 0, [0, 0]);
    assert!(peer.session.is_closed());
    let unknown = (DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(key), unknown);
}
