//! Logout and Asynchronous Messages (RFC 7143 §11.9, §11.14, §11.15).

use super::*;

fn logged_out(peer: &mut Peer, request: &Pdu, response: u8) -> Pdu {
    let answer = Pdu::new(0x26, 0x80)
        .byte(2, response)
        .put(16, request.itt());
    peer.status(answer)
}

#[test]
fn a_logout_byte_by_byte_and_a_close_without_reset() {
    let mut peer = Peer::ready();
    peer.session.logout(peer.now);
    let request = peer.one();
    let mut expected = [0; 48];
    expected[0] = 0x46;
    expected[1] = 0x80;
    expected[16..20].copy_from_slice(&request.bhs[16..20]);
    expected[24..28].copy_from_slice(&[0x11; 4]);
    expected[28..32].copy_from_slice(&[0, 0, 0x10, 2]);
    assert_eq!(request.bhs, expected);
    let answer = logged_out(&mut peer, &request, 0);
    peer.reply(&[answer]);
    assert!(peer.session.is_closed());
    assert_eq!(peer.closed, [false]);
    assert_eq!(peer.session.over(), Incarnation(1));
    assert_eq!(peer.session.poll_timeout(), None);
}

#[test]
fn a_logout_waits_for_what_is_under_way() {
    let mut peer = Peer::ready();
    let key = peer.write(&pattern(16_384));
    let itt = peer.one().itt();
    peer.session.logout(peer.now);
    let refused = peer.session.submit(peer.now, Lun::ZERO, test_unit_ready());
    assert!(refused.is_err());
    let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
    peer.reply(&[r2t]);
    assert_eq!(peer.one().opcode(), DATA_OUT);
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    let request = peer.one();
    assert_eq!(request.opcode(), LOGOUT);
    let answer = logged_out(&mut peer, &request, 0);
    peer.reply(&[answer]);
    assert!(peer.session.is_closed());
}

#[test]
fn ffp_17_1_nothing_follows_a_logout() {
    let mut few = config();
    few.timeouts.logout = Duration::from_secs(100);
    let mut peer = Peer::up(few, keys(&[]));
    let mut stuck = write(&pattern(16_384));
    stuck.timeout = Duration::from_secs(120);
    let key = peer.submit(0, stuck);
    let itt = peer.one().itt();
    peer.session.logout(peer.now);
    // The time for draining passes with the target alive.
    for _ in 0..99 {
        peer.wait(Duration::from_secs(1));
        let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
        let nop = peer.windowed(nop).put(24, peer.stat_sn);
        peer.reply(&[nop]);
    }
    peer.silent();
    peer.wait(Duration::from_secs(1));
    let request = peer.one();
    assert_eq!(request.opcode(), LOGOUT);
    // Whatever the target does now: an R2T, pings, silence, a command overdue.
    let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
    let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, 77);
    let nop = peer.windowed(nop).put(24, peer.stat_sn);
    peer.reply(&[r2t, nop]);
    peer.session.abandon(peer.now, key);
    peer.silent();
    for _ in 0..50 {
        peer.wait(Duration::from_secs(1));
        let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, 77);
        let nop = peer.windowed(nop).put(24, peer.stat_sn);
        peer.reply(&[nop]);
        peer.silent();
    }
    assert!(!peer.session.wants_transmit(peer.cid));
    let answer = logged_out(&mut peer, &request, 0);
    peer.reply(&[answer]);
    assert!(peer.session.is_closed());
    peer.assert_clean();
}

#[test]
fn a_logout_that_is_not_answered_is_bounded() {
    for answer in [None, Some(3)] {
        let mut peer = Peer::ready();
        let key = peer.submit(0, test_unit_ready());
        peer.one();
        peer.session.logout(peer.now);
        peer.wait(Duration::from_secs(5));
        let request = peer.sent().pop().unwrap();
        assert_eq!(request.opcode(), LOGOUT);
        match answer {
            Some(response) => {
                let answer = logged_out(&mut peer, &request, response);
                peer.reply(&[answer]);
            }
            None => peer.wait(Duration::from_secs(5)),
        }
        peer.act();
        assert!(peer.session.is_closed());
        assert_eq!(peer.closed, [true], "cut");
        assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
        assert_eq!(peer.session.over(), Incarnation(0), "nobody knows");
    }
}

#[test]
fn a_dropped_command_that_waited_for_the_window_does_not_hold_up_the_logout() {
    let mut peer = Peer::new(config());
    peer.window = 0;
    peer.login();
    let key = peer.submit(0, test_unit_ready());
    peer.session.logout(peer.now);
    peer.silent();
    peer.session.abandon(peer.now, key);
    assert_eq!(peer.one().opcode(), LOGOUT);
}

#[test]
fn a_logout_ends_the_session_whatever_it_is_doing() {
    let mut waiting = Peer::new(config());
    waiting.refuse();
    waiting.session.logout(waiting.now);
    waiting.act();
    assert!(waiting.session.is_closed());

    let mut connecting = Peer::new(config());
    connecting.session.logout(connecting.now);
    connecting.act();
    assert!(connecting.session.is_closed());
    assert_eq!(connecting.dialling, None);

    let mut logging_in = Peer::new(config());
    logging_in.connected();
    logging_in.one();
    logging_in.session.logout(logging_in.now);
    logging_in.act();
    assert!(logging_in.session.is_closed());

    let mut closed = Peer::ready();
    closed.session.logout(closed.now);
    closed.cut();
    assert!(closed.session.is_closed());
    closed.session.logout(closed.now);
    closed.wait(Duration::from_secs(100));
    assert_eq!(closed.dialled.len(), 1);
}

#[test]
fn ffp_14_1_and_20_1_a_logout_request_is_followed_by_a_logout_and_a_login() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let message = peer.async_message(1, [0, 0, 10]);
    peer.reply(&[message]);
    peer.silent();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    let request = peer.one();
    assert_eq!((request.opcode(), request.bhs[1]), (LOGOUT, 0x80));
    let answer = logged_out(&mut peer, &request, 0);
    // Below ErrorRecoveryLevel 2 Time2Wait of the response is to be ignored (RFC 7143 §11.15.3).
    let answer = answer.put(40, 3600 << 16);
    peer.reply(&[answer]);
    assert_eq!(peer.session.over(), Incarnation(1));
    peer.wait(Duration::from_secs(2));
    peer.login();
    assert_eq!(peer.session.state(), NexusState::Up(Incarnation(2)));
}

#[test]
fn time2wait_of_a_logout_response_counts_when_the_logout_failed() {
    let mut config = config();
    config.honour_time2wait = true;
    let mut peer = Peer::up(config, keys(&[]));
    let message = peer.async_message(1, [0, 0, 10]);
    peer.reply(&[message]);
    let request = peer.one();
    assert_eq!(request.opcode(), LOGOUT);
    // Cleanup failed; the next login, an implicit logout, is to wait for 30 s.
    let answer = logged_out(&mut peer, &request, 3).put(40, 30 << 16);
    peer.reply(&[answer]);
    assert_eq!(peer.closed, [true], "cut");
    peer.wait(Duration::from_millis(29_900));
    assert_eq!(peer.dialling, None);
    peer.wait(Duration::from_secs(3));
    assert!(peer.dialling.is_some());
}

#[test]
fn a_logout_request_is_met_in_its_time_though_a_command_hangs() {
    let mut peer = Peer::ready();
    peer.submit(0, test_unit_ready());
    peer.one();
    let message = peer.async_message(1, [0, 0, 4]);
    peer.reply(&[message]);
    peer.wait(Duration::from_secs(2));
    assert_eq!(peer.one().opcode(), LOGOUT);
}

#[test]
fn ffp_20_2_and_20_3_an_announced_drop_is_waited_out() {
    for event in [2, 3] {
        let mut peer = Peer::ready();
        let key = peer.submit(0, test_unit_ready());
        peer.one();
        let cid = peer.cid.0;
        let message = peer.async_message(event, [cid, 7, 20]);
        peer.reply(&[message]);
        peer.act();
        assert_eq!(peer.loss(), Some(LossReason::DropAnnounced(event)));
        assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
        peer.wait(Duration::from_millis(6900));
        assert_eq!(peer.dialling, None, "Time2Wait");
        peer.wait(Duration::from_millis(100));
        peer.login();
        assert_eq!(peer.session.over(), Incarnation(1));
    }
}

#[test]
fn other_async_messages_do_not_cost_the_session() {
    for event in [0, 6, 200, 248, 255] {
        let mut peer = Peer::ready();
        let message = peer.async_message(event, [0xffff; 3]);
        let message = if event == 0 {
            message.with(&[0; 20])
        } else {
            message
        };
        peer.reply(&[message]);
        peer.assert_up();
        peer.read(512);
        assert_eq!(peer.one().exp_stat_sn(), 0x1003, "it used up a StatSN");
    }
}

#[test]
fn async_message_5_ends_the_tasks_of_its_unit_and_is_acknowledged() {
    let mut peer = Peer::ready();
    let reading = peer.submit(7, read(512));
    let writing = peer.submit(7, write(&pattern(512)));
    let dropped = peer.submit(7, write(&pattern(512)));
    let other = peer.submit(8, test_unit_ready());
    peer.sent();
    peer.session.abandon(peer.now, dropped);
    peer.one();
    let message = peer.async_message(5, [0; 3]).byte(9, 7);
    peer.reply(&[message]);
    assert_eq!(peer.failed(reading).1, Certainty::Answered);
    assert_eq!(peer.failed(writing).1, Certainty::SentNoAnswer);
    assert!(peer.done(other).is_none());
    let acknowledge = peer.one();
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    assert_eq!(acknowledge.word(20), NONE);
    assert_eq!(acknowledge.lun()[1], 7);
    assert_eq!(acknowledge.exp_stat_sn(), 0x1003);
    assert_eq!(
        peer.session.unsettled(),
        1,
        "the dropped write may still run"
    );
    peer.assert_up();
}

#[test]
fn async_message_2_about_a_connection_that_is_not_ours_drops_nothing() {
    let mut peer = Peer::ready();
    let cid = peer.cid.0;
    let message = peer.async_message(2, [cid + 1, 7, 20]);
    peer.reply(&[message]);
    peer.assert_up();
}

#[test]
fn the_details_of_an_async_message_are_told() {
    let told = |peer: &mut Peer| {
        peer.act();
        let mut last = None;
        while let Some(event) = peer.session.poll_event() {
            if let Event::Async { .. } = event {
                last = Some(event);
            }
        }
        last.unwrap()
    };
    let mut peer = Peer::ready();
    let message = peer.async_message(250, [1, 2, 3]).byte(37, 0x99);
    let message = message.byte(9, 4).with(&[0, 2, 0xaa, 0xbb, 1, 2, 3]);
    peer.reply(&[message]);
    let expected = Event::Async {
        event: 250,
        name: "vendor event",
        lun: Lun::from_number(4),
        vendor_code: 0x99,
        parameters: [1, 2, 3],
        sense: [0xaa, 0xbb].into(),
        data: [1, 2, 3].into(),
    };
    assert_eq!(told(&mut peer), expected);
    // A SenseLength beyond the end, and a single byte.
    for (data, expected) in [(&[0xff, 0xff, 7][..], &[7][..]), (&[9][..], &[][..])] {
        let message = peer.async_message(0, [0; 3]).with(data);
        peer.reply(&[message]);
        let Event::Async { sense, .. } = told(&mut peer) else {
            panic!("another event");
        };
        assert_eq!(*sense, *expected);
    }
    peer.assert_up();
}

#[test]
fn async_message_5_stops_data_before_it_is_acknowledged() {
    let mut peer = Peer::ready();
    let key = peer.submit(7, write(&pattern(16_384)));
    let itt = peer.one().itt();
    let r2t = peer.r2t(itt, 3, 0, 8192, 8192);
    let message = peer.async_message(5, [0; 3]).byte(9, 7);
    // Both are here before anything is sent.
    peer.reply(&[r2t, message]);
    let acknowledge = peer.one();
    assert_eq!((acknowledge.bhs[0], acknowledge.itt()), (0x40, NONE));
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
}

#[test]
fn async_message_5_about_our_own_function_leaves_the_end_to_its_response() {
    let mut peer = Peer::ready();
    let key = peer.submit(7, write(&pattern(16_384)));
    peer.one();
    let (now, lun) = (peer.now, Lun::from_number(7));
    let function = ManagementFunction::LogicalUnitReset;
    peer.session.manage(now, lun, function).unwrap();
    let request = peer.one();
    let message = peer.async_message(5, [0; 3]).byte(9, 7);
    peer.reply(&[message]);
    assert_eq!(peer.one().lun()[1], 7, "acknowledged");
    assert!(peer.done(key).is_none());
    let answer = peer.task_answer(request.itt(), 0);
    peer.reply(&[answer]);
    assert_eq!(
        peer.failed(key).1,
        Certainty::Answered,
        "it is certainly over"
    );
}

#[test]
fn ffp_14_1_no_new_commands_after_a_logout_request() {
    let mut peer = Peer::new(config());
    peer.window = 1;
    peer.login();
    let sent = peer.submit(0, test_unit_ready());
    let waiting = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let message = peer.async_message(1, [0, 0, 10]);
    peer.reply(&[message]);
    let expected = (DeliveryErrorKind::Down, Certainty::NotSent);
    assert_eq!(peer.failed(waiting), expected);
    let state = peer.session.snapshot().connections[0].state;
    assert_eq!(state, ConnectionState::LogoutRequested);
    // Asked again (T12), and once more after the Logout is out (T14).
    let message = peer.async_message(1, [0, 0, 10]);
    peer.reply(&[message]);
    peer.max_cmd_sn = peer.max_cmd_sn.wrapping_add(8);
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(sent);
    let request = peer.one();
    assert_eq!(request.opcode(), LOGOUT);
    let message = peer.async_message(1, [0, 0, 10]);
    peer.reply(&[message]);
    peer.silent();
    let state = peer.session.snapshot().connections[0].state;
    assert_eq!(state, ConnectionState::InLogout);
    let answer = logged_out(&mut peer, &request, 0);
    peer.reply(&[answer]);
    peer.act();
    let snapshot = peer.session.snapshot();
    assert_eq!(snapshot.session_state, SessionState::Free);
}

#[test]
fn the_session_follows_the_states_of_the_rfc() {
    let state = |peer: &Peer| peer.session.snapshot().session_state;
    let mut peer = Peer::new(config());
    assert_eq!(state(&peer), SessionState::Free);
    peer.login();
    assert_eq!(state(&peer), SessionState::LoggedIn);
    peer.cut();
    assert_eq!(state(&peer), SessionState::Failed);
    peer.wait(Duration::from_secs(1));
    peer.login();
    assert_eq!(state(&peer), SessionState::LoggedIn);
    peer.session.logout(peer.now);
    let request = peer.one();
    let answer = logged_out(&mut peer, &request, 0);
    peer.reply(&[answer]);
    peer.act();
    assert_eq!(state(&peer), SessionState::Free);
}
