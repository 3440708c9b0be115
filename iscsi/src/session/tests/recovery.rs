//! Getting back: reinstatement, waiting, giving up, redirections (RFC 7143 §6.3.5, §7).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn first_request(peer: &mut Peer) -> Pdu {
    peer.connected();
    peer.one()
}

#[test]
fn a_reconnect_reinstates_the_session() {
    let mut config = config();
    config.initiator_alias = Some("alias".into());
    config.offer.set("InitialR2T", "Yes").unwrap();
    let mut peer = Peer::new(config);
    let first = first_request(&mut peer);
    let answer = peer.login_answer(&first);
    peer.reply(&[answer]);
    let second = peer.one();
    let answer = peer.login_answer(&second);
    peer.reply(&[answer]);
    peer.assert_up();
    peer.cut();
    peer.wait(Duration::ZERO);
    let again = first_request(&mut peer);
    assert_eq!(again.bhs[8..14], first.bhs[8..14], "the same ISID");
    assert_eq!(again.bhs[14..16], [0, 0], "TSIH 0");
    assert_eq!(again.data, first.data);
    let answer = peer.login_answer(&again);
    peer.reply(&[answer]);
    let operational = peer.one();
    assert_eq!(operational.data, second.data, "the same offer");
    let answer = peer.login_answer(&operational);
    peer.reply(&[answer]);
    assert_eq!(peer.session.state(), NexusState::Up(Incarnation(2)));
    assert_eq!(peer.session.over(), Incarnation(1));
}

#[test]
fn the_stream_position_says_how_far_a_command_got() {
    // The command is 48 bytes behind another of 48.
    for (taken, expected) in [
        (0, Certainty::NotSent),
        (48, Certainty::NotSent),
        (49, Certainty::PartlySent),
        (95, Certainty::PartlySent),
        (96, Certainty::SentNoAnswer),
        (1000, Certainty::SentNoAnswer),
    ] {
        let mut peer = Peer::ready();
        peer.takes = taken;
        let first = peer.submit(0, test_unit_ready());
        let second = peer.submit(0, test_unit_ready());
        peer.pump();
        peer.cut();
        assert_eq!(peer.failed(second).1, expected, "{taken} bytes");
        let other = peer.failed(first).1;
        assert!(other >= expected, "{taken} bytes: {other}");
        peer.assert_clean();
    }
}

#[test]
fn a_write_with_immediate_data_is_sent_with_its_last_byte() {
    for (taken, expected) in [
        (48 + 511, Certainty::PartlySent),
        (48 + 512, Certainty::SentNoAnswer),
    ] {
        let mut peer = Peer::ready();
        peer.takes = taken;
        let key = peer.write(&pattern(512));
        peer.pump();
        peer.cut();
        assert_eq!(peer.failed(key).1, expected);
    }
}

#[test]
fn commands_that_waited_for_the_window_were_not_sent() {
    let mut peer = Peer::new(config());
    peer.window = 1;
    peer.login();
    let sent = peer.submit(0, test_unit_ready());
    let waiting = peer.read(512);
    peer.one();
    peer.cut();
    assert_eq!(peer.failed(sent).1, Certainty::SentNoAnswer);
    assert_eq!(peer.failed(waiting).1, Certainty::NotSent);
    // Nothing of the old life is sent in the new one.
    peer.wait(Duration::ZERO);
    peer.window = 8;
    peer.login();
    peer.silent();
    peer.assert_clean();
}

#[test]
fn submitting_while_down_is_refused_at_once() {
    let mut peer = Peer::ready();
    peer.cut();
    let refused = peer
        .session
        .submit(peer.now, Lun::ZERO, read(512))
        .unwrap_err();
    assert_eq!(refused.data.len(), 512);
    assert!(matches!(
        refused.outcome,
        Outcome::Failed(error)
            if error.kind == DeliveryErrorKind::Down && error.certainty == Certainty::NotSent
    ));
}

#[test]
fn answers_of_the_old_connection_reach_nobody() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, test_unit_ready());
    let itt = peer.one().itt();
    let old = peer.cid;
    peer.cut();
    peer.failed(key);
    peer.wait(Duration::ZERO);
    peer.login();
    let new = peer.submit(0, test_unit_ready());
    assert_ne!(peer.one().itt(), itt);
    let stale = peer.answer(itt, 0);
    peer.cid = old;
    peer.reply(&[stale]);
    peer.session.handle_lost(peer.now, old, None);
    peer.session
        .handle_connect_failed(peer.now, old, String::new());
    assert!(peer.done(new).is_none());
    assert_eq!(peer.session.snapshot().phase, "logged in");
}

#[test]
fn time2wait_is_waited_before_the_new_login() {
    let mut peer = Peer::up(config(), keys(&[("DefaultTime2Wait", "3")]));
    peer.cut();
    peer.wait(Duration::from_millis(2900));
    assert_eq!(peer.dialling, None);
    peer.wait(Duration::from_millis(100));
    peer.login();
}

#[test]
fn attempts_back_off_with_jitter_up_to_the_limit() {
    let mut peer = Peer::new(config());
    let mut waits = Vec::new();
    for _ in 0..12 {
        peer.refuse();
        let due = peer.session.poll_timeout().unwrap();
        waits.push(due - peer.now);
        peer.wait(due - peer.now);
    }
    for (wait, nominal) in waits.iter().zip([250, 500, 1000, 2000, 4000, 8000, 15_000]) {
        let nominal = Duration::from_millis(nominal);
        assert!(
            *wait >= nominal * 3 / 4 && *wait <= nominal * 5 / 4,
            "{wait:?}"
        );
    }
    assert!(waits.iter().all(|wait| *wait <= 15 * SECOND * 5 / 4));
}

#[test]
fn it_gives_up_in_time_and_says_why() {
    let mut config = config();
    config.give_up_after = Some(30 * SECOND);
    let mut peer = Peer::up(config, keys(&[]));
    peer.wait(SECOND);
    peer.cut();
    let lost = peer.now;
    while !peer.session.is_closed() {
        let due = peer.session.poll_timeout().unwrap();
        peer.wait(due - peer.now);
        if peer.dialling.is_some() {
            peer.refuse();
        }
    }
    let took = peer.now - lost;
    assert!(took >= 30 * SECOND && took < 50 * SECOND, "{took:?}");
    let last = std::iter::from_fn(|| peer.session.poll_event()).last();
    assert!(matches!(
        last,
        Some(Event::Closed {
            reason: CloseReason::GaveUp {
                last: LossReason::Transport(_),
                ..
            }
        })
    ));
    assert_eq!(peer.session.state(), NexusState::Closed);
}

#[test]
fn a_target_that_takes_logins_and_drops_them_is_not_asked_without_a_pause() {
    let mut peer = Peer::ready();
    let begin = peer.now;
    for _ in 0..10 {
        peer.cut();
        while peer.dialling.is_none() {
            let due = peer.session.poll_timeout().unwrap();
            peer.wait(due - peer.now);
        }
        peer.login();
    }
    assert!(peer.now - begin > 20 * SECOND, "{:?}", peer.now - begin);
    // A life of some length ends that.
    let nop = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
    for _ in 0..3 {
        peer.wait(4 * SECOND);
        let nop = peer.windowed(nop.clone()).put(24, peer.stat_sn);
        peer.reply(&[nop]);
    }
    peer.cut();
    peer.wait(Duration::ZERO);
    assert!(peer.dialling.is_some());
}

#[test]
fn a_connection_and_a_login_that_never_end_are_bounded() {
    let mut peer = Peer::new(config());
    peer.wait(5 * SECOND);
    assert_eq!(peer.closed.len(), 1);
    assert_eq!(peer.session.failures(), 1);
    peer.wait(SECOND);
    peer.connected();
    peer.one();
    peer.wait(15 * SECOND);
    assert_eq!(peer.session.failures(), 2);
    let snapshot = peer.session.snapshot();
    assert!(matches!(
        snapshot.last_failure,
        Some((_, LossReason::LoginTimeout { .. }))
    ));
}

/// A refusal without a status is still something else than a portal nobody answers at.
#[test]
fn a_target_that_closes_in_the_middle_of_a_login_is_named_for_it() {
    let mut peer = Peer::new(config());
    peer.connected();
    peer.one();
    let (now, cid) = (peer.now, peer.cid);
    peer.session.handle_lost(now, cid, None);
    peer.act();
    let snapshot = peer.session.snapshot();
    let Some((_, LossReason::ClosedInLogin { stage })) = snapshot.last_failure else {
        panic!("{:?}", snapshot.last_failure);
    };
    assert_eq!(stage, "SecurityNegotiation");
}

/// A redirection in answer to the first Login Request.
fn redirect(peer: &mut Peer, detail: u8, to: &str) {
    let request = first_request(peer);
    let mut answer = peer.login_answer(&request);
    answer = answer.with(format!("TargetAddress={to}\0").as_bytes());
    answer.bhs[36] = 1;
    answer.bhs[37] = detail;
    peer.reply(&[answer]);
    peer.act();
}

fn portals(peer: &Peer) -> Vec<String> {
    peer.dialled.iter().map(ToString::to_string).collect()
}

#[test]
fn redirections_are_followed_for_now_or_for_good() {
    for (detail, next) in [(1, "10.0.0.1:3260"), (2, "10.0.0.9:3261")] {
        let mut peer = Peer::new(config());
        redirect(&mut peer, detail, "10.0.0.9:3261");
        peer.login();
        peer.cut();
        peer.wait(Duration::ZERO);
        assert_eq!(portals(&peer), ["10.0.0.1:3260", "10.0.0.9:3261", next]);
        assert_eq!(peer.session.failures(), 0);
    }
}

#[test]
fn circles_of_redirections_end_with_an_error_and_a_wait() {
    let mut peer = Peer::new(config());
    redirect(&mut peer, 1, "10.0.0.2:3260");
    redirect(&mut peer, 1, "10.0.0.1:3260");
    assert_eq!(peer.dialling, None);
    let snapshot = peer.session.snapshot();
    assert!(matches!(
        snapshot.last_failure,
        Some((_, LossReason::Redirect(_)))
    ));
    assert!(peer.session.poll_timeout().unwrap() > peer.now);
}

#[test]
fn a_redirection_to_a_portal_that_is_down_is_no_circle() {
    let mut peer = Peer::new(config());
    for _ in 0..3 {
        redirect(&mut peer, 1, "10.0.0.2:3260");
        peer.refuse();
        let snapshot = peer.session.snapshot();
        assert!(matches!(
            snapshot.last_failure,
            Some((_, LossReason::Transport(_)))
        ));
        peer.wait(20 * SECOND);
        if peer.dialling.is_none() {
            let due = peer.session.poll_timeout().unwrap();
            peer.wait(due - peer.now);
        }
    }
}

#[test]
fn a_target_that_redirects_for_ever_is_left_alone_after_some() {
    let mut peer = Peer::new(config());
    for hop in 2..200 {
        if peer.dialling.is_none() {
            return;
        }
        redirect(&mut peer, 1, &format!("10.0.0.{hop}:3260"));
    }
    panic!("no limit");
}

#[test]
fn a_login_refused_is_tried_again_later() {
    let mut peer = Peer::new(config());
    let request = first_request(&mut peer);
    let mut answer = peer.login_answer(&request);
    answer.bhs[36] = 3;
    answer.bhs[37] = 1;
    peer.reply(&[answer]);
    peer.act();
    assert_eq!(peer.session.failures(), 1);
    assert_eq!(peer.closed, [true]);
    peer.wait(SECOND);
    peer.login();
}

#[test]
fn a_driver_that_stops_leaves_nobody_waiting() {
    let mut peer = Peer::ready();
    let key = peer.submit(0, read(512));
    peer.one();
    peer.session
        .handle_stopped(&[(peer.cid, peer.out.written())]);
    assert!(peer.session.is_closed());
    assert_eq!(contents(peer.ended(key)).len(), 512);
    peer.assert_clean();
    assert!(!peer.session.has_actions());
}

#[test]
fn events_nobody_reads_are_bounded() {
    let mut peer = Peer::new(config());
    for _ in 0..1000 {
        peer.refuse();
        let due = peer.session.poll_timeout().unwrap();
        peer.wait(due - peer.now);
    }
    assert!(peer.session.events.len() <= 64);
}
