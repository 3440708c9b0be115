//! R2Ts that are lost or come again.

use super::*;

#[test]
fn a_lost_r2t_is_asked_for_and_one_that_comes_again_is_dropped() {
    let mut peer = plain();
    let data = pattern(16384);
    let (key, command) = peer.sent_command(write(&data));
    let itt = command.itt();
    let lost = peer.r2t(itt, 0x60, 0, 8192, 4096);
    let next = peer.r2t(itt, 0x61, 1, 12288, 4096);
    peer.reply(std::slice::from_ref(&next));
    let sent = peer.sent();
    let snack = sent.iter().find(|pdu| pdu.opcode() == SNACK).unwrap();
    assert_eq!(snack.bhs[1], 0x80 | DATA);
    assert_eq!((snack.itt(), snack.word(40), snack.word(44)), (itt, 0, 1));
    assert_eq!(
        sent.iter().filter(|pdu| pdu.opcode() == DATA_OUT).count(),
        1
    );
    peer.reply(&[next]);
    peer.silent();
    peer.reply(std::slice::from_ref(&lost));
    let out = peer.one();
    assert_eq!((out.word(20), out.word(40)), (0x60, 8192));
    peer.reply(&[lost]);
    peer.silent();
    let answer = peer.answer(itt, 0);
    peer.reply(&[answer]);
    peer.good(key);
    assert_eq!(peer.session.stats.duplicates, 2);
}

#[test]
fn a_lost_r2t_is_not_asked_for_on_a_timer() {
    // RFC 7143 §7.1.4.1: the target has timers of its own. Data are asked for again.
    for reads in [false, true] {
        let mut peer = plain();
        let command = if reads {
            read(1024)
        } else {
            write(&pattern(16_384))
        };
        let (_, command) = peer.sent_command(command);
        let itt = command.itt();
        let second = if reads {
            peer.data_in(itt, 1, 512, &[1; 512])
        } else {
            peer.r2t(itt, 0x61, 1, 12_288, 4096)
        };
        peer.reply(&[second]);
        let snacks = |sent: Vec<Pdu>| sent.iter().filter(|pdu| pdu.opcode() == SNACK).count();
        assert_eq!(snacks(peer.sent()), 1);
        peer.wait(peer.session.config.recovery.again_after);
        assert_eq!(snacks(peer.sent()), usize::from(reads));
    }
}
