//! Sequences as RFC 7143 §6.4 and §11.10.4 describe them.

use super::*;
use crate::serial::{CmdSn, StatSn};
use crate::wire::{Itt, Window};

fn response(final_: bool, continue_: bool, ttt: u32) -> TextResponse {
    TextResponse {
        final_,
        continue_,
        lun: Lun::from_number(3),
        itt: Itt(1),
        ttt: Ttt(ttt),
        stat_sn: StatSn(0),
        window: Window {
            exp_cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(1),
        },
    }
}

const LAST: u32 = 0xffff_ffff;

fn exchange(segment_bytes: u32) -> TextExchange {
    TextExchange::new(&[Pair::new("InitiatorAlias", "me")], segment_bytes, 1000, 8)
}

#[test]
fn one_request_and_one_answer() {
    let mut sut = exchange(512);
    let part = sut.poll_request().unwrap();
    assert_eq!((part.final_, part.continue_), (true, false));
    assert_eq!((part.lun, part.ttt), (Lun::ZERO, Ttt::RESERVED));
    assert_eq!(part.data, b"InitiatorAlias=me\0");
    assert_eq!(sut.poll_request(), None, "one at a time");
    let heard = sut.handle(&response(true, false, LAST), b"TargetAlias=you\0");
    let pairs = vec![Pair::new("TargetAlias", "you")];
    let final_ = true;
    assert_eq!(heard, Ok(Heard::Pairs { pairs, final_ }));
}

#[test]
fn an_answer_in_parts_is_fetched_with_empty_requests() {
    let mut sut = exchange(512);
    sut.poll_request().unwrap();
    let heard = sut.handle(&response(false, true, 0x1234_5678), b"TargetAl");
    assert_eq!(heard, Ok(Heard::More));
    let part = sut.poll_request().unwrap();
    assert_eq!((part.final_, part.continue_), (true, false));
    assert_eq!(
        (part.lun, part.ttt),
        (Lun::from_number(3), Ttt(0x1234_5678))
    );
    assert!(part.data.is_empty());
    let heard = sut.handle(&response(true, false, LAST), b"ias=you\0");
    assert!(matches!(heard, Ok(Heard::Pairs { final_: true, .. })));
}

#[test]
fn a_request_in_parts() {
    let mut sut = exchange(10);
    let part = sut.poll_request().unwrap();
    assert_eq!((part.final_, part.continue_), (false, true));
    assert_eq!(part.data, b"InitiatorA");
    assert_eq!(sut.handle(&response(false, false, 7), b""), Ok(Heard::More));
    let part = sut.poll_request().unwrap();
    assert_eq!((part.final_, part.continue_), (true, false));
    assert_eq!(
        (part.data.as_slice(), part.ttt),
        (&b"lias=me\0"[..], Ttt(7))
    );
}

#[test]
fn what_a_target_must_not_do() {
    let fault = |segment_bytes, responses: &[(bool, bool, u32, &[u8])]| {
        let mut sut = exchange(segment_bytes);
        for (final_, continue_, ttt, data) in responses {
            sut.poll_request();
            if let Err(fault) = sut.handle(&response(*final_, *continue_, *ttt), data) {
                return Some(fault);
            }
        }
        None
    };
    // RFC 7143 §11.10.4: with F the tag is to be ignored, whatever it is.
    assert_eq!(fault(512, &[(true, false, 5, b"")]), None);
    assert_eq!(
        fault(10, &[(true, false, LAST, b"")]),
        Some(TextFault::FinalTooEarly)
    );
    assert_eq!(
        fault(10, &[(false, false, 5, b"a=b\0")]),
        Some(TextFault::Interrupted)
    );
    let text = fault(512, &[(true, false, LAST, b"no pair")]);
    assert_eq!(text, Some(TextFault::Text(TextError::NotTerminated)));
    let endless = [(false, true, 5, &b"a"[..]); 9];
    assert_eq!(fault(512, &endless[..8]), None);
    let limit = 8;
    assert_eq!(
        fault(512, &endless),
        Some(TextFault::TooManyRounds { limit })
    );
    let mut sut = exchange(512);
    assert_eq!(
        sut.handle(&response(true, false, LAST), b""),
        Err(TextFault::Unasked)
    );
}

#[test]
fn a_reset_asks_anew() {
    let mut sut = exchange(512);
    sut.poll_request().unwrap();
    sut.handle(&response(false, true, 9), b"half").unwrap();
    sut.reset();
    let part = sut.poll_request().unwrap();
    assert_eq!((part.lun, part.ttt), (Lun::ZERO, Ttt::RESERVED));
    assert!(part.final_ && part.data.is_empty());
    let heard = sut.handle(&response(true, false, LAST), b"a=b\0");
    let pairs = vec![Pair::new("a", "b")];
    assert_eq!(
        heard,
        Ok(Heard::Pairs {
            pairs,
            final_: true
        }),
        "the half is forgotten"
    );
}
