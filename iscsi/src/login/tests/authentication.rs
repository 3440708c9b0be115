//! CHAP through the security stage. The target's side is computed with `auth`'s own hash, whose
//! correctness is that crate's to test; here it is the order, the T bit and what may be skipped.

use auth::{Chap, ChapAlgorithm, ChapCredentials, MutualCredentials, Secret};

use super::*;

const OURS: &str = "isecret123456";
const THEIRS: &str = "tsecret123456";

fn secret(text: &str) -> Secret {
    Secret::from_text(text).unwrap()
}

fn policy(mutual: bool) -> AuthPolicy {
    let algorithms = vec![ChapAlgorithm::Sha3_256, ChapAlgorithm::Md5];
    let ours = ChapCredentials::new("iuser", secret(OURS)).with_algorithms(algorithms);
    let theirs = MutualCredentials {
        name: Some("tuser".into()),
        secret: secret(THEIRS),
    };
    AuthPolicy::Chap(Chap::new(ours, mutual.then_some(theirs)).unwrap())
}

fn chap(mutual: bool) -> Scripted {
    Scripted::new(LoginConfig {
        auth: policy(mutual),
        ..config()
    })
}

const CHALLENGE: [(&str, &str); 3] = [
    ("CHAP_A", "5"),
    ("CHAP_I", "9"),
    ("CHAP_C", "0x00112233445566778899aabbccddeeff"),
];

/// Up to the request that carries our response, which is returned.
fn challenged(script: &mut Scripted) -> (LoginRequest, Vec<(String, String)>) {
    let (request, pairs) = script.request();
    assert!(!request.transit, "nothing is proved yet");
    assert!(
        pairs.contains(&("AuthMethod".into(), "CHAP".into())),
        "and never None beside it"
    );
    let response = script.response(&request);
    script
        .answer(
            &response,
            &[("TargetPortalGroupTag", "1"), ("AuthMethod", "CHAP")],
        )
        .unwrap();
    let (request, pairs) = script.request();
    assert!(!request.transit);
    assert_eq!(pairs, [("CHAP_A".into(), "8,5".into())]);
    let response = script.response(&request);
    script.answer(&response, &CHALLENGE).unwrap();
    script.request()
}

fn expected_response() -> String {
    let challenge: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
    let response = auth::chap::respond(ChapAlgorithm::Md5, 9, &secret(OURS), &challenge);
    auth::binary::encode_hex(&response)
}

#[test]
fn one_way() {
    let mut script = chap(false);
    let (request, pairs) = challenged(&mut script);
    assert!(request.transit && request.next == Stage::OperationalNegotiation);
    let expected = [
        ("CHAP_N".into(), "iuser".into()),
        ("CHAP_R".into(), expected_response()),
    ];
    assert_eq!(pairs, expected);
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    let keys = done(script.agree(&[])).keys;
    let algorithm = keys.iter().find(|row| row.key == "CHAP_A").unwrap();
    assert_eq!(algorithm.requested.as_deref(), Some("8,5"));
    assert_eq!(algorithm.result, "5");
}

/// What the target proves itself with: the answer to the challenge in our last request.
fn proof(pairs: &[(String, String)]) -> String {
    let value = |key: &str| {
        pairs
            .iter()
            .find(|(name, _)| name == key)
            .unwrap()
            .1
            .clone()
    };
    let challenge = auth::binary::decode(&value("CHAP_C"), 1024).unwrap();
    let identifier = value("CHAP_I").parse().unwrap();
    let response = auth::chap::respond(ChapAlgorithm::Md5, identifier, &secret(THEIRS), &challenge);
    auth::binary::encode_hex(&response)
}

#[test]
fn mutual_with_the_proof_beside_the_t_bit() {
    let mut script = chap(true);
    let (request, pairs) = challenged(&mut script);
    assert!(request.transit);
    let proof = proof(&pairs);
    let response = script.response(&request);
    script
        .answer(&response, &[("CHAP_N", "tuser"), ("CHAP_R", &proof)])
        .unwrap();
    done(script.agree(&[]));
}

#[test]
fn mutual_with_the_t_bit_after_the_proof() {
    let mut script = chap(true);
    let (request, pairs) = challenged(&mut script);
    let proof = proof(&pairs);
    let mut response = script.response(&request);
    response.transit = false;
    script
        .answer(&response, &[("CHAP_N", "tuser"), ("CHAP_R", &proof)])
        .unwrap();
    let (request, pairs) = script.request();
    assert!(request.transit && pairs.is_empty());
    let response = script.response(&request);
    script.answer(&response, &[]).unwrap();
    done(script.agree(&[]));
}

#[test]
fn a_target_that_skips_its_proof() {
    let mut script = chap(true);
    let (request, _) = challenged(&mut script);
    let response = script.response(&request);
    let error = script.answer(&response, &[]).unwrap_err();
    assert!(matches!(error, LoginError::Auth { .. }), "{error}");
    assert!(script.login.poll_transmit().is_none());
}

#[test]
fn a_target_that_does_not_know_its_secret() {
    let mut script = chap(true);
    let (request, _) = challenged(&mut script);
    let response = script.response(&request);
    let wrong = format!("0x{}", "00".repeat(16));
    let error = script
        .answer(&response, &[("CHAP_N", "tuser"), ("CHAP_R", &wrong)])
        .unwrap_err();
    let source = auth::AuthError::WrongResponse;
    assert_eq!(error, LoginError::Auth { source });
    assert!(
        script.login.fallback().is_none(),
        "we refused, not the target"
    );
}

#[test]
fn authentication_cannot_be_talked_away() {
    for answer in ["None", "Reject", "CHAP,None", "Irrelevant"] {
        let mut script = chap(false);
        let error = script.agree(&[("AuthMethod", answer)]).unwrap_err();
        assert!(
            matches!(error, LoginError::Auth { .. }),
            "{answer}: {error}"
        );
    }
    // Nor by leaving the key out, nor by ending the stage at once.
    let error = chap(false).agree(&[]).unwrap_err();
    let source = auth::AuthError::MissingKey("AuthMethod");
    assert_eq!(error, LoginError::Auth { source });
    let mut script = chap(false);
    let (request, _) = script.request();
    let mut response = script.response(&request);
    (response.transit, response.next) = (true, Stage::OperationalNegotiation);
    let error = broken(script.answer(&response, &[("AuthMethod", "CHAP")]));
    assert_eq!(error, ProtocolError::TransitNotAsked);
}

#[test]
fn chap_keys_out_of_place() {
    let error = Scripted::new(config()).agree(&CHALLENGE).unwrap_err();
    assert!(matches!(error, LoginError::Auth { .. }), "{error}");
    let all = [
        ("AuthMethod", "CHAP"),
        CHALLENGE[0],
        CHALLENGE[1],
        CHALLENGE[2],
    ];
    let error = chap(false).delay(&all).unwrap_err();
    assert!(matches!(error, LoginError::Auth { .. }), "{error}");
}

#[test]
fn auth_method_twice() {
    let mut script = chap(false);
    script.delay(&[("AuthMethod", "CHAP")]).unwrap();
    let error = script.delay(&[("AuthMethod", "CHAP")]).unwrap_err();
    let source = NegotiationError::Repeated {
        key: "AuthMethod".into(),
    };
    assert_eq!(error, LoginError::Negotiation { source });
}

/// Refuses the next request with `status`.
fn refuse(script: &mut Scripted, status: LoginStatus) -> LoginError {
    let (request, _) = script.request();
    let mut response = script.response(&request);
    (response.status_class, response.status_detail) = (status.class, status.detail);
    script.answer(&response, &[]).unwrap_err()
}

fn is_md5_only(policy: Option<&AuthPolicy>) -> bool {
    matches!(policy, Some(AuthPolicy::Chap(chap))
        if chap.initiator().algorithms == [ChapAlgorithm::Md5])
}

#[test]
fn a_list_that_the_target_cannot_read_is_worth_one_more_try() {
    for status in [
        LoginStatus::INITIATOR_ERROR,
        LoginStatus::AUTHENTICATION_FAILURE,
    ] {
        let mut script = chap(false);
        script.delay(&[("AuthMethod", "CHAP")]).unwrap();
        let error = refuse(&mut script, status);
        assert!(matches!(error, LoginError::Rejected { .. }), "{error}");
        assert!(is_md5_only(script.login.fallback()));
    }
    let mut script = chap(false);
    script.delay(&[("AuthMethod", "CHAP")]).unwrap();
    script.delay(&[("CHAP_A", "Reject")]).unwrap_err();
    assert!(is_md5_only(script.login.fallback()));
}

#[test]
fn other_refusals_are_not() {
    let mut script = chap(false);
    script.delay(&[("AuthMethod", "CHAP")]).unwrap();
    refuse(&mut script, LoginStatus::NOT_FOUND);
    assert!(script.login.fallback().is_none());
    // MD5 was chosen already.
    let mut script = chap(false);
    let (request, _) = challenged(&mut script);
    let mut response = script.response(&request);
    (response.status_class, response.status_detail) = (2, 1);
    script.answer(&response, &[]).unwrap_err();
    assert!(script.login.fallback().is_none());
    // Nothing was configured.
    let mut script = Scripted::new(config());
    refuse(&mut script, LoginStatus::AUTHENTICATION_FAILURE);
    assert!(script.login.fallback().is_none());
}

#[test]
fn nothing_of_the_secret_is_printed() {
    let mut script = chap(true);
    challenged(&mut script);
    let config = LoginConfig {
        auth: policy(true),
        ..config()
    };
    let printed = format!("{:?} {config:?}", script.login);
    assert!(!printed.contains(OURS) && !printed.contains(THEIRS));
}

#[test]
fn chap_does_not_start_without_randomness() {
    for mutual in [false, true] {
        let config = LoginConfig {
            auth: policy(mutual),
            ..config()
        };
        let error = Login::start(config.clone(), &mut |_| {}).unwrap_err();
        assert_eq!(error, LoginError::NoRandomness);
        assert!(Login::start(config, &mut |bytes| bytes.fill(1)).is_ok());
    }
}

fn forgoing() -> Scripted {
    Scripted::new(LoginConfig {
        auth: AuthPolicy::Forgo,
        ..config()
    })
}

#[test]
fn with_nothing_to_authenticate_one_exchange_is_enough() {
    let mut script = forgoing();
    let (request, pairs) = script.request();
    assert!(request.transit);
    assert_eq!(request.current, Stage::OperationalNegotiation);
    assert_eq!(request.next, Stage::FullFeaturePhase);
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys[..3], ["InitiatorName", "SessionType", "TargetName"]);
    assert!(keys.contains(&"MaxRecvDataSegmentLength"), "{keys:?}");
    assert!(!keys.contains(&"AuthMethod"), "{keys:?}");
    let response = script.response(&request);
    let logged_in = done(script.answer(&response, &[("TargetPortalGroupTag", "7")]));
    assert_eq!(
        logged_in.session.target_portal_group_tag.map(|tag| tag.0),
        Some(7)
    );
    let method = logged_in.keys.iter().find(|row| row.key == "AuthMethod");
    assert_eq!(method.unwrap().result, "None");
}

#[test]
fn a_target_that_wants_the_security_stage_gets_it_once() {
    for (class, detail) in [(2, 0), (2, 1), (2, 2), (2, 7), (2, 11)] {
        let mut script = forgoing();
        let (request, _) = script.request();
        let mut response = script.response(&request);
        (response.status_class, response.status_detail) = (class, detail);
        response.transit = false;
        assert!(script.answer(&response, &[]).is_err());
        let fallback = script.login.fallback().cloned();
        assert_eq!(fallback, Some(AuthPolicy::None), "{class}/{detail}");
        // That login asks, and has no further way.
        let mut asking = Scripted::new(config());
        let (request, pairs) = asking.request();
        assert!(pairs.contains(&("AuthMethod".into(), "None".into())));
        let mut response = asking.response(&request);
        (response.status_class, response.status_detail) = (class, detail);
        assert!(asking.answer(&response, &[]).is_err());
        assert!(asking.login.fallback().is_none());
    }
    // These are not about the stage.
    for (class, detail) in [(2, 3), (2, 4), (2, 6), (3, 0), (3, 1)] {
        let mut script = forgoing();
        let (request, _) = script.request();
        let mut response = script.response(&request);
        (response.status_class, response.status_detail) = (class, detail);
        assert!(script.answer(&response, &[]).is_err());
        assert!(script.login.fallback().is_none(), "{class}/{detail}");
    }
}

#[test]
fn an_answer_in_the_stage_that_was_left_out_is_taken_as_a_wish_for_it() {
    let mut script = forgoing();
    let (request, _) = script.request();
    let mut response = script.response(&request);
    response.current = Stage::SecurityNegotiation;
    response.next = Stage::OperationalNegotiation;
    broken(script.answer(&response, &[("AuthMethod", "CHAP")]));
    assert_eq!(script.login.fallback(), Some(&AuthPolicy::None));
}

#[test]
fn a_target_that_closes_instead_of_answering_is_asked_once_more() {
    let mut script = forgoing();
    script.request();
    script.login.handle_closed();
    assert_eq!(script.login.fallback(), Some(&AuthPolicy::None));
    // Not after an answer, and not in the security stage.
    let mut script = forgoing();
    script.delay(&[("TargetPortalGroupTag", "1")]).unwrap();
    script.request();
    script.login.handle_closed();
    assert!(script.login.fallback().is_none());
    let mut script = Scripted::new(config());
    script.request();
    script.login.handle_closed();
    assert!(script.login.fallback().is_none());
}
