//! Several connections that work: joining, sharing commands, leaving.

use super::*;

#[test]
fn further_connections_join_with_the_tsih_and_a_cid_of_their_own() {
    let mut peer = Several::with(several_config(0, 1), keys(&[("MaxConnections", "4")]));
    peer.session.wanted = 3;
    peer.session.open_more(peer.now);
    let first = peer.session.window.peek().0;
    let (second, requests) = peer.login();
    let (third, _) = peer.login();
    assert_eq!(peer.up_cids(), [1, second, third]);
    for request in &requests {
        assert_eq!(request.bhs[14..16], [0, 0x77], "TSIH");
        assert_eq!(request.bhs[20..22], second.to_be_bytes(), "CID");
        assert_eq!(request.cmd_sn(), first);
        assert_eq!(request.bhs[8..14], [0x80, 1, 2, 3, 0, 4], "ISID");
    }
    assert_eq!(requests[0].exp_stat_sn(), 0);
    let text = String::from_utf8(requests[1].data.clone()).unwrap();
    for key in [
        "MaxConnections",
        "InitialR2T",
        "ErrorRecoveryLevel",
        "MaxBurstLength",
    ] {
        assert!(!text.contains(key), "{text}");
    }
    assert!(
        text.contains("HeaderDigest=") && text.contains("MaxRecvDataSegmentLength="),
        "{text}"
    );
    let portals: Vec<_> = peer
        .lines
        .iter()
        .map(|line| line.portal.to_string())
        .collect();
    assert_eq!(portals, ["10.0.0.1:3260", "10.0.0.2:3260", "10.0.0.1:3260"]);
    // The CmdSN of a leading login is that of the first command; no login used one up.
    let key = peer.submit(test_unit_ready());
    let command = peer.one(1);
    assert_eq!(command.cmd_sn(), first);
    peer.answer(1, command.itt());
    peer.good(key);
}

#[test]
fn cmd_sn_is_one_sequence_over_all_connections() {
    let mut peer = Several::up(0, 3);
    let first = peer.session.window.peek().0;
    let tasks: Vec<_> = (0..12).map(|_| peer.submit(read(4096))).collect();
    let mut numbers = Vec::new();
    for cid in [1, 2, 3] {
        let sent = peer.sent(cid);
        assert_eq!(sent.len(), 4);
        let own: Vec<u32> = sent.iter().map(Pdu::cmd_sn).collect();
        assert!(own.is_sorted(), "{own:?}");
        for pdu in sent {
            numbers.push((pdu.cmd_sn(), cid, pdu.itt()));
        }
    }
    numbers.sort_unstable();
    let expected: Vec<u32> = (first..first + 12).collect();
    assert_eq!(numbers.iter().map(|it| it.0).collect::<Vec<_>>(), expected);
    for (_, cid, itt) in numbers {
        let data = peer.data_in(itt, 0, 0, &pattern(4096)).byte(1, 0x81);
        let data = peer.status(cid, data);
        peer.reply(cid, &[data]);
    }
    for key in tasks {
        assert_eq!(contents(peer.good(key)), pattern(4096));
    }
    assert_eq!(peer.session.in_flight(), 0);
}

#[test]
fn commands_go_where_the_least_is_outstanding() {
    let mut peer = Several::up(0, 2);
    peer.submit(read(65_536));
    assert_eq!(peer.sent(1).len(), 1);
    for _ in 0..4 {
        peer.submit(read(4096));
        peer.silent(1);
        assert_eq!(peer.sent(2).len(), 1);
    }
}

#[test]
fn a_command_sent_again_is_followed_by_a_new_one_on_its_connection() {
    let mut peer = Several::up(1, 2);
    peer.session.handle_blocked(Cid(1), true);
    let key = peer.submit(test_unit_ready());
    let command = peer.one(2);
    peer.session.handle_blocked(Cid(1), false);
    // The target never got it, as the answer to a NOP-Out shows.
    let mut again = Vec::new();
    while again.is_empty() {
        peer.wait(Duration::from_secs(1));
        for nop in peer.sent(2) {
            let answer = Pdu::new(0x20, 0x80).put(16, nop.itt()).put(20, NONE);
            let answer = peer.status(2, answer);
            peer.reply(2, &[answer]);
        }
        again = peer.sent(2);
        peer.sent(1);
    }
    assert_eq!(again[0].cmd_sn(), command.cmd_sn());
    peer.exp_cmd_sn = command.cmd_sn().wrapping_add(1);
    peer.answer(2, command.itt());
    peer.good(key);
    // Both are idle; by the load alone the first one would get it.
    peer.submit(test_unit_ready());
    peer.silent(1);
    assert_eq!(peer.one(2).cmd_sn(), command.cmd_sn().wrapping_add(1));
    peer.submit(test_unit_ready());
    assert_eq!(peer.sent(1).len(), 1);
}

#[test]
fn a_connection_whose_socket_is_full_gets_no_commands() {
    let mut peer = Several::up(0, 2);
    peer.session.handle_blocked(Cid(1), true);
    for _ in 0..3 {
        peer.submit(read(4096));
    }
    peer.silent(1);
    assert_eq!(peer.sent(2).len(), 3);
    peer.session.handle_blocked(Cid(1), false);
    peer.submit(read(4096));
    assert_eq!(peer.sent(1).len(), 1);
}

#[test]
fn an_answer_on_another_connection_is_a_broken_protocol() {
    let mut peer = Several::up(0, 2);
    peer.submit(test_unit_ready());
    let itt = peer.one(1).itt();
    peer.answer(2, itt);
    let events: Vec<_> = std::iter::from_fn(|| peer.session.poll_event()).collect();
    let wrong = events.iter().any(|event| {
        matches!(
            event,
            Event::Lost {
                reason: LossReason::Protocol(ProtocolError::WrongConnection { .. }),
                ..
            }
        )
    });
    assert!(wrong, "{events:?}");
}

#[test]
fn stat_sn_is_counted_on_each_connection() {
    let mut peer = Several::up(0, 2);
    for _ in 0..3 {
        let key = peer.submit(test_unit_ready());
        let itt = peer.one(1).itt();
        peer.answer(1, itt);
        peer.good(key);
    }
    peer.submit(read(4096));
    peer.submit(read(4096));
    let (one, two) = (peer.one(1), peer.one(2));
    let numbers = [peer.line(1).stat_sn, peer.line(2).stat_sn];
    assert_eq!([one.exp_stat_sn(), two.exp_stat_sn()], numbers);
}

#[test]
fn each_connection_is_asked_whether_it_lives() {
    let mut peer = Several::up(0, 2);
    peer.wait(Duration::from_secs(3));
    // The first one is heard of, the other is not.
    let key = peer.submit(test_unit_ready());
    let itt = peer.one(1).itt();
    peer.answer(1, itt);
    peer.good(key);
    peer.wait(Duration::from_secs(2));
    peer.silent(1);
    assert_eq!(peer.one(2).opcode(), NOP_OUT);
    assert_eq!(peer.phase(), "logged in");
    // No answer: at ErrorRecoveryLevel 0 the session ends with it.
    peer.wait(Duration::from_secs(5));
    assert_eq!(peer.phase(), "connecting");
}

#[test]
fn losing_one_at_level_0_loses_the_session() {
    let mut peer = Several::up(0, 2);
    let first = peer.submit(read(4096));
    let second = peer.submit(read(4096));
    peer.one(1);
    peer.line(2).takes = 0;
    peer.pump();
    peer.cut(1);
    assert_eq!(peer.closed, [(Cid(1), true), (Cid(2), true)]);
    let lost = DeliveryErrorKind::ConnectionLost;
    assert_eq!(peer.failed(first), (lost, Certainty::SentNoAnswer));
    assert_eq!(peer.failed(second), (lost, Certainty::SentNoAnswer));
    peer.wait(Duration::ZERO);
    assert_eq!(peer.dialling.len(), 1, "a new leading connection");
}

#[test]
fn how_much_was_sent_is_known_of_each_connection() {
    let mut peer = Several::up(0, 2);
    peer.line(2).takes = 0;
    let first = peer.submit(read(4096));
    let second = peer.submit(read(4096));
    peer.pump();
    peer.cut(1);
    let lost = DeliveryErrorKind::ConnectionLost;
    assert_eq!(peer.failed(first), (lost, Certainty::SentNoAnswer));
    assert_eq!(peer.failed(second), (lost, Certainty::NotSent));
}

#[test]
fn a_connection_is_logged_out_when_its_commands_have_ended() {
    let mut peer = Several::up(0, 2);
    let key = peer.submit(test_unit_ready());
    let itt = peer.one(1).itt();
    peer.session.remove_connection(peer.now, Cid(1)).unwrap();
    peer.silent(1);
    let other = peer.submit(read(4096));
    peer.silent(1);
    let read_itt = peer.one(2).itt();
    peer.answer(1, itt);
    peer.good(key);
    let logout = peer.one(1);
    assert_eq!((logout.bhs[0], logout.bhs[1]), (0x46, 0x81), "reason 1");
    assert_eq!(logout.bhs[20..22], 1_u16.to_be_bytes());
    peer.logged_out(1, logout.itt(), 0, [0, 0]);
    assert_eq!(peer.closed, [(Cid(1), false)]);
    assert_eq!(peer.up_cids(), [2]);
    assert!(peer.dialling.is_empty());
    let data = peer.data_in(read_itt, 0, 0, &pattern(4096)).byte(1, 0x81);
    let data = peer.status(2, data);
    peer.reply(2, &[data]);
    peer.good(other);
    let error = peer.session.remove_connection(peer.now, Cid(2));
    assert_eq!(error, Err(ConnectionError::Last { cid: Cid(2) }));
    let error = peer.session.remove_connection(peer.now, Cid(1));
    assert_eq!(error, Err(ConnectionError::Unknown { cid: Cid(1) }));
    peer.session.add_connection(peer.now, None).unwrap();
    let (cid, _) = peer.login();
    assert_eq!(peer.up_cids(), [2, cid]);
    let error = peer.session.add_connection(peer.now, None);
    assert_eq!(error, Err(ConnectionError::TooMany { limit: 2 }));
}

#[test]
fn commands_that_do_not_end_are_ended_by_the_logout_of_their_connection() {
    let mut peer = Several::up(0, 2);
    let key = peer.submit(write(&pattern(512)));
    peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
    peer.one(1);
    peer.session.remove_connection(peer.now, Cid(1)).unwrap();
    peer.wait(Duration::from_secs(5));
    let logout = peer.sent(1).pop().unwrap();
    assert_eq!(logout.bhs[1], 0x81);
    assert!(peer.is_pending(key));
    peer.logged_out(1, logout.itt(), 0, [0, 0]);
    let ended = (DeliveryErrorKind::ConnectionLost, Certainty::Answered);
    assert_eq!(peer.failed(key), ended);
    assert_eq!(peer.phase(), "logged in");
}

#[test]
fn a_target_that_wants_one_connection_logged_out_gets_that() {
    let mut peer = Several::up(0, 2);
    let mut pdu = Pdu::new(0x32, 0x80).put(16, NONE).byte(36, 1);
    pdu.bhs[43] = 3;
    let pdu = peer.status(2, pdu);
    peer.reply(2, &[pdu]);
    let logout = peer.one(2);
    assert_eq!((logout.opcode(), logout.bhs[1]), (LOGOUT, 0x81));
    peer.silent(1);
    peer.logged_out(2, logout.itt(), 0, [0, 0]);
    assert_eq!(peer.up_cids(), [1]);
    assert_eq!(peer.phase(), "logged in");
    // As many as were wanted are wanted still.
    let (cid, _) = peer.login();
    assert_eq!(peer.up_cids(), [1, cid]);
}

#[test]
fn the_target_gets_the_connection_closed_at_level_2_too() {
    // Asked by the target, by the application, and by the one after the other.
    for (application, target, reason) in [(false, true, 1), (true, false, 2), (true, true, 1)] {
        let mut peer = Several::up(2, 2);
        let key = peer.submit(write(&pattern(512)));
        peer.exp_cmd_sn = peer.exp_cmd_sn.wrapping_add(1);
        peer.one(1);
        if application {
            peer.session.remove_connection(peer.now, Cid(1)).unwrap();
        }
        if target {
            let mut pdu = Pdu::new(0x32, 0x80).put(16, NONE).byte(36, 1);
            pdu.bhs[43] = 4;
            let pdu = peer.status(1, pdu);
            peer.reply(1, &[pdu]);
        }
        peer.wait(Duration::from_secs(if target { 2 } else { 5 }));
        let logout = peer.sent(1).pop().unwrap();
        assert_eq!((logout.opcode(), logout.bhs[1]), (LOGOUT, 0x80 | reason));
        peer.logged_out(1, logout.itt(), 0, [0, 20]);
        if reason == 1 {
            let ended = (DeliveryErrorKind::ConnectionLost, Certainty::Answered);
            assert_eq!(peer.failed(key), ended);
        } else {
            assert!(peer.is_pending(key), "it goes on elsewhere");
        }
        assert_eq!(peer.phase(), "logged in");
    }
}

/// Each by itself (reason 1, its own CID), the last one together with the session (reason 0).
#[test]
fn a_session_leaves_its_further_connections_before_it_ends() {
    let mut peer = Several::up(0, 3);
    peer.session.logout(peer.now);
    peer.silent(1);
    for cid in [2, 3] {
        let own = peer.one(cid);
        assert_eq!((own.opcode(), own.bhs[1]), (LOGOUT, 0x81));
        assert_eq!(own.bhs[20..22], cid.to_be_bytes());
        peer.silent(1);
        peer.logged_out(cid, own.itt(), 0, [0, 0]);
    }
    let logout = peer.one(1);
    assert_eq!((logout.opcode(), logout.bhs[1]), (LOGOUT, 0x80));
    peer.logged_out(1, logout.itt(), 0, [0, 0]);
    assert_eq!(peer.closed.len(), 3);
    assert!(peer.session.is_closed());
}

/// A target that does not answer for a connection is asked for the session all the same.
#[test]
fn a_further_connection_that_is_not_logged_out_holds_nothing_up() {
    let mut peer = Several::up(0, 2);
    peer.session.logout(peer.now);
    peer.one(2);
    let limit = peer.session.config.timeouts.logout;
    peer.wait(limit - Duration::from_millis(1));
    assert!(peer.sent(1).iter().all(|pdu| pdu.opcode() != LOGOUT));
    peer.wait(Duration::from_millis(1));
    let logout = peer.sent(1).pop().unwrap();
    assert_eq!((logout.opcode(), logout.bhs[1]), (LOGOUT, 0x80));
    peer.logged_out(1, logout.itt(), 0, [0, 0]);
    assert!(peer.session.is_closed());
}

#[test]
fn nothing_follows_the_logout_of_the_session_on_any_connection() {
    let mut peer = Several::up(0, 2);
    let keys = [read(1024), read(1024)].map(|command| peer.submit(command));
    peer.one(1);
    peer.one(2);
    peer.session.logout(peer.now);
    // Neither command ends, so the Logout goes when the time for them is up.
    peer.wait(peer.session.config.timeouts.logout);
    peer.sent(2);
    let last = peer.sent(1).pop().unwrap();
    assert_eq!((last.opcode(), last.bhs[1]), (LOGOUT, 0x80));
    // A ping, which would be answered, and a caller who goes, whose command would be aborted.
    let ping = Pdu::new(0x20, 0x80).put(16, NONE).put(20, 7);
    let ping = peer.windowed(ping);
    let stat_sn = peer.line(2).stat_sn;
    peer.reply(2, &[ping.put(24, stat_sn)]);
    peer.session.abandon(peer.now, keys[1]);
    peer.act();
    peer.silent(1);
    peer.silent(2);
}

#[test]
fn a_session_goes_on_without_connections_that_it_cannot_have() {
    let mut config = several_config(0, 3);
    config.connections = Some(1);
    let mut peer = Several::with(config, keys(&[("MaxConnections", "4")]));
    peer.session.wanted = 2;
    peer.session.open_more(peer.now);
    peer.refuse();
    assert_eq!(peer.phase(), "logged in");
    peer.wait(Duration::from_secs(1));
    let (cid, portal) = peer.dialling[0].clone();
    assert_eq!(
        (cid, portal.to_string().as_str()),
        (Cid(2), "10.0.0.2:3260")
    );
    // Tried again; now the target says that it has too many.
    peer.connected();
    let request = peer.one(2);
    let mut answer = Pdu::new(0x23, 0).byte(36, 2).byte(37, 6);
    answer.bhs[8..14].copy_from_slice(&request.bhs[8..14]);
    answer.bhs[15] = 0x77;
    let answer = peer.status(2, answer.put(16, request.itt()));
    peer.reply(2, &[answer]);
    peer.wait(Duration::from_secs(2));
    assert_eq!(peer.up_cids(), [1]);
    assert!(peer.dialling.is_empty(), "a refusal of class 2 is final");
    assert_eq!(peer.phase(), "logged in");
}

#[test]
fn a_portal_of_another_group_is_not_joined() {
    let mut peer = Several::with(several_config(0, 1), keys(&[("MaxConnections", "4")]));
    peer.session.wanted = 2;
    peer.session.open_more(peer.now);
    peer.group = 2;
    let cid = peer.connected();
    for _ in 0..2 {
        let request = peer.one(cid);
        let answer = peer.login_answer(cid, &request);
        peer.reply(cid, &[answer]);
    }
    assert_eq!(peer.up_cids(), [1]);
    assert_eq!(peer.closed, [(Cid(cid), true)]);
}
