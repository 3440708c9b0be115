//! When everything that a life left behind is over (RFC 7143 §4.4.1, §6.3.5).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn two_portals() -> SessionConfig {
    let mut config = config();
    config.group_portals = vec!["10.0.0.2:3260".parse().unwrap()];
    config
}

fn other(peer: &Peer) -> bool {
    peer.dialled
        .last()
        .is_some_and(|portal| portal.to_string() == "10.0.0.2:3260")
}

/// Logs out of a session that was only there to end another.
fn leave(peer: &mut Peer) {
    let request = peer.one();
    assert_eq!(request.opcode(), LOGOUT);
    let answer = Pdu::new(0x26, 0x80).put(16, request.itt());
    let answer = peer.status(answer);
    peer.reply(&[answer]);
    peer.act();
}

#[test]
fn a_cut_life_is_not_over_before_the_target_took_the_next_login() {
    let mut peer = Peer::ready();
    peer.write(&pattern(512));
    peer.one();
    peer.cut();
    assert_eq!(peer.session.over(), Incarnation(0));
    peer.wait(Duration::ZERO);
    peer.connected();
    let request = peer.one();
    assert_eq!(peer.session.over(), Incarnation(0));
    let answer = peer.login_answer(&request);
    peer.reply(&[answer]);
    let request = peer.one();
    assert_eq!(peer.session.over(), Incarnation(0));
    let answer = peer.login_answer(&request);
    peer.reply(&[answer]);
    assert_eq!(peer.session.over(), Incarnation(1));
}

#[test]
fn a_fence_cuts_a_living_session_abortively() {
    let mut peer = Peer::ready();
    let key = peer.write(&pattern(512));
    peer.one();
    peer.session.want_fence(peer.now, Incarnation(1));
    peer.act();
    assert_eq!(peer.closed, [true]);
    assert_eq!(peer.failed(key).1, Certainty::SentNoAnswer);
    peer.wait(Duration::ZERO);
    peer.login();
    assert_eq!(peer.session.over(), Incarnation(1));
    assert_eq!(peer.session.state(), NexusState::Up(Incarnation(2)));
}

#[test]
fn a_fence_for_a_life_that_is_over_or_never_was_does_nothing() {
    let mut peer = Peer::ready();
    peer.cut();
    peer.wait(Duration::ZERO);
    peer.login();
    while peer.session.poll_event().is_some() {}
    peer.session.want_fence(peer.now, Incarnation(1));
    peer.session.want_fence(peer.now, Incarnation(9));
    peer.assert_up();
}

#[test]
fn a_fence_through_another_portal_of_the_group() {
    let mut peer = Peer::up(two_portals(), keys(&[]));
    let key = peer.write(&pattern(512));
    peer.one();
    peer.session.want_fence(peer.now, Incarnation(1));
    peer.wait(Duration::ZERO);
    peer.failed(key);
    assert!(other(&peer));
    peer.login();
    assert_eq!(peer.session.over(), Incarnation(1));
    assert!(
        matches!(peer.session.state(), NexusState::Down(_)),
        "no life"
    );
    leave(&mut peer);
    assert!(!other(&peer), "home again");
    peer.login();
    assert_eq!(peer.session.state(), NexusState::Up(Incarnation(2)));
}

#[test]
fn the_fence_turns_to_the_other_portal_when_home_hangs() {
    let mut peer = Peer::up(two_portals(), keys(&[]));
    peer.cut();
    peer.wait(Duration::ZERO);
    assert!(!other(&peer));
    peer.session.want_fence(peer.now, Incarnation(1));
    // Home takes no connection.
    peer.wait(3 * SECOND);
    assert!(
        peer.dialled
            .iter()
            .any(|p| p.to_string() == "10.0.0.2:3260")
    );
    while !(peer.dialling.is_some() && other(&peer)) {
        let due = peer.session.poll_timeout().unwrap();
        peer.wait(due - peer.now);
    }
    peer.login();
    assert_eq!(peer.session.over(), Incarnation(1));
}

#[test]
fn hanging_portals_get_more_time_in_every_round() {
    let mut peer = Peer::up(two_portals(), keys(&[]));
    peer.write(&pattern(512));
    peer.one();
    peer.cut();
    peer.session.want_fence(peer.now, Incarnation(1));
    let mut seen = Vec::new();
    while peer.dialled.len() < 10 {
        let dialled = peer.dialled.len();
        let before = peer.now;
        // Nobody answers; what is due is done until the next portal is dialled.
        while peer.dialled.len() == dialled {
            peer.now = peer.session.poll_timeout().unwrap().max(peer.now);
            peer.session.handle_timeout(peer.now);
            peer.act();
        }
        seen.push((other(&peer), peer.now - before));
    }
    assert!(seen.iter().any(|(other, _)| *other) && seen.iter().any(|(other, _)| !other));
    let longest = seen.iter().map(|(_, time)| *time).max().unwrap();
    assert!(longest > SECOND, "a slow network is served, too: {seen:?}");
    let soon: Duration = seen.iter().take(3).map(|(_, time)| *time).sum();
    assert!(soon < 2 * SECOND, "both portals soon get a try: {seen:?}");
}

#[test]
fn a_login_in_another_group_is_no_fence() {
    let mut peer = Peer::up(two_portals(), keys(&[]));
    peer.write(&pattern(512));
    peer.one();
    peer.session.want_fence(peer.now, Incarnation(1));
    peer.wait(Duration::ZERO);
    assert!(other(&peer));
    // Listed as of the group, but it is not.
    peer.group = 2;
    peer.login();
    assert_eq!(peer.session.over(), Incarnation(0));
    leave(&mut peer);
    assert_eq!(peer.session.over(), Incarnation(0), "nor is its logout");
    assert!(!other(&peer));
    peer.group = 1;
    peer.login();
    assert_eq!(peer.session.over(), Incarnation(1));
}

#[test]
fn lives_in_another_group_do_not_make_the_first_ones_over() {
    let mut peer = Peer::ready();
    // The target redirects to another group; two lives there.
    peer.group = 2;
    for _ in 0..2 {
        peer.cut();
        while peer.dialling.is_none() {
            let due = peer.session.poll_timeout().unwrap();
            peer.wait(due - peer.now);
        }
        peer.login();
    }
    assert_eq!(peer.session.state(), NexusState::Up(Incarnation(3)));
    assert_eq!(peer.session.over(), Incarnation(0));
    peer.group = 1;
    peer.cut();
    while peer.dialling.is_none() {
        let due = peer.session.poll_timeout().unwrap();
        peer.wait(due - peer.now);
    }
    peer.login();
    assert_eq!(
        peer.session.over(),
        Incarnation(2),
        "the third lived elsewhere"
    );
}

#[test]
fn a_fence_does_not_wait_for_a_long_backoff() {
    let mut peer = Peer::ready();
    peer.cut();
    for _ in 0..10 {
        while peer.dialling.is_none() {
            let due = peer.session.poll_timeout().unwrap();
            peer.wait(due - peer.now);
        }
        peer.refuse();
    }
    assert!(peer.session.poll_timeout().unwrap() > peer.now + 5 * SECOND);
    peer.session.want_fence(peer.now, Incarnation(1));
    peer.wait(Duration::ZERO);
    assert!(peer.dialling.is_some());
    // And goes on being quick.
    for _ in 0..10 {
        peer.refuse();
        peer.wait(SECOND);
        assert!(peer.dialling.is_some());
    }
}

#[test]
fn dropped_writes_are_unsettled_until_their_life_is_over() {
    let mut peer = Peer::ready();
    let key = peer.write(&pattern(512));
    peer.one();
    peer.session.abandon(peer.now, key);
    assert_eq!(peer.session.unsettled(), 1);
    peer.cut();
    peer.assert_clean();
    assert_eq!(peer.session.over(), Incarnation(0));
}
