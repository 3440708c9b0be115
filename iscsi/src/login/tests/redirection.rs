//! Status classes 1 to 3.

use super::*;
use crate::name::Portal;

fn refuse(class: u8, detail: u8, data: &[u8]) -> LoginError {
    let mut script = Scripted::new(config());
    let (request, _) = script.request();
    let mut response = script.response(&request);
    response.status_class = class;
    response.status_detail = detail;
    // RFC 7143 §11.13.5: nothing else means anything then.
    response.transit = false;
    response.current = Stage::FullFeaturePhase;
    response.stat_sn = StatSn(0);
    script.login.handle(&response, data).unwrap_err()
}

#[test]
fn login_23_1_both_kinds_of_redirection() {
    for (detail, permanent) in [(1, false), (2, true), (9, false)] {
        for (address, portal) in [
            ("127.0.0.2:3260", "127.0.0.2:3260"),
            ("127.0.0.2", "127.0.0.2:3260"),
            ("[::1]:5003", "[::1]:5003"),
            ("[::1]", "[::1]:3260"),
            ("storage.example.com:860", "storage.example.com:860"),
            ("10.0.0.1:3260,1", "10.0.0.1:3260"),
        ] {
            let error = refuse(1, detail, &text(&[("TargetAddress", address)]));
            let portal: Portal = portal.parse().unwrap();
            assert_eq!(error, LoginError::Redirected { permanent, portal });
        }
    }
}

#[test]
fn a_redirection_counts_after_the_security_stage_too() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let (request, _) = script.request();
    let mut response = script.response(&request);
    (response.status_class, response.status_detail) = (1, 1);
    let error = script.answer(&response, &[("TargetAddress", "127.0.0.2")]);
    assert!(matches!(
        error,
        Err(LoginError::Redirected {
            permanent: false,
            ..
        })
    ));
}

#[test]
fn login_23_1_redirections_to_nowhere() {
    let error = broken(Err(refuse(1, 1, &[])));
    assert_eq!(error, ProtocolError::RedirectWithoutAddress);
    for address in [
        "",
        ":3260",
        "[::1",
        "host:0",
        "host:99999",
        "a b:1",
        "10.0.0.1:3260,x",
    ] {
        let error = broken(Err(refuse(1, 1, &text(&[("TargetAddress", address)]))));
        assert!(
            matches!(error, ProtocolError::RedirectAddress { .. }),
            "{address}"
        );
    }
    let error = refuse(1, 2, b"no text at all");
    assert!(matches!(error, LoginError::Text { .. }), "{error}");
}

#[test]
fn refusals_keep_their_status() {
    for status in LoginStatus::ALL.iter().filter(|status| status.class >= 2) {
        let error = refuse(status.class, status.detail, b"");
        let stage = "SecurityNegotiation";
        assert_eq!(
            error,
            LoginError::Rejected {
                stage,
                status: *status
            }
        );
        let words = error.to_string();
        assert!(
            words.contains(stage) && words.contains(status.words()),
            "{words}"
        );
        assert!(
            words.contains(&format!("{:#06x}", status.code())),
            "{words}"
        );
    }
    let error = refuse(7, 7, b"");
    assert!(matches!(error, LoginError::Rejected { status, .. } if status.code() == 0x0707));
}

#[test]
fn a_refusal_for_another_task_is_none() {
    let mut script = Scripted::new(config());
    let (request, _) = script.request();
    let mut response = script.response(&request);
    (response.itt, response.status_class) = (Itt(0), 2);
    let error = broken(script.answer(&response, &[]));
    assert!(matches!(error, ProtocolError::WrongTag { .. }), "{error}");
}

fn portal(n: u8) -> Portal {
    format!("10.0.0.{n}:3260").parse().unwrap()
}

#[test]
fn a_trail_ends_at_its_limit() {
    let mut trail = RedirectTrail::new(portal(1), 2);
    trail.follow(&portal(2)).unwrap();
    trail.follow(&portal(3)).unwrap();
    let error = trail.follow(&portal(4)).unwrap_err();
    assert_eq!(
        error,
        RedirectError::TooMany {
            limit: 2,
            portal: portal(4)
        }
    );
    assert_eq!(trail.visited(), [portal(1), portal(2), portal(3)]);
}

#[test]
fn a_trail_does_not_run_in_circles() {
    let mut trail = RedirectTrail::new(portal(1), REDIRECTS_MAX);
    assert_eq!(
        trail.follow(&portal(1)),
        Err(RedirectError::Loop { portal: portal(1) })
    );
    trail.follow(&portal(2)).unwrap();
    assert_eq!(
        trail.follow(&portal(1)),
        Err(RedirectError::Loop { portal: portal(1) })
    );
}
