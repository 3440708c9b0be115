//! What a target must not do, and that it costs the session and nothing else.

use super::*;

fn lost_by(pdu: impl FnOnce(&mut Peer) -> Pdu) -> LossReason {
    let mut peer = Peer::ready();
    let key = peer.read(512);
    peer.one();
    let pdu = pdu(&mut peer);
    peer.reply(&[pdu]);
    let loss = peer.loss().expect("the session is dropped");
    assert_eq!(contents(peer.ended(key)).len(), 512);
    peer.assert_clean();
    assert_eq!(peer.closed, [true]);
    peer.wait(Duration::ZERO);
    peer.login();
    assert_eq!(peer.session.state(), NexusState::Up(Incarnation(2)));
    loss
}

#[test]
fn pdus_that_do_not_belong_here() {
    for opcode in [0x00, 0x01, 0x05, 0x10, 0x07, 0x1c, 0x27, 0x3c] {
        lost_by(|_| Pdu::new(opcode, 0x80));
    }
    lost_by(|peer| peer.status(Pdu::new(0x23, 0x87)));
    lost_by(|peer| peer.status(Pdu::new(0x24, 0x80).put(16, 1).put(20, NONE)));
    lost_by(|peer| peer.status(Pdu::new(0x26, 0x80).put(16, 1)));
}

#[test]
fn a_reject_without_a_header_ends_the_session() {
    lost_by(|peer| {
        let reject = Pdu::new(0x3f, 0x80).byte(2, 9).put(16, NONE);
        peer.status(reject.with(&[0; 20]))
    });
}

#[test]
fn additional_headers_from_a_target_are_refused() {
    lost_by(|peer| {
        let mut pdu = peer.answer(0x1111_0000, 0).with(&[0; 8]);
        // Two words of AHS, no data.
        pdu.bhs[4] = 2;
        pdu.bhs[7] = 0;
        pdu
    });
}

#[test]
fn anything_but_a_login_response_in_the_login_ends_the_attempt() {
    for opcode in [0x20, 0x21, 0x25, 0x32, 0x3f] {
        let mut peer = Peer::new(config());
        peer.connected();
        peer.one();
        let pdu = Pdu::new(opcode, 0x80)
            .put(16, 1)
            .put(20, NONE)
            .with(&[0; 48]);
        let pdu = peer.status(pdu);
        peer.reply(&[pdu]);
        peer.act();
        let phase = peer.session.snapshot().phase;
        assert_eq!(phase, "waiting to reconnect", "{opcode:#x}");
        assert_eq!(peer.closed, [true], "{opcode:#x}");
    }
}
