//! Text over several PDUs, both ways (C bit).

use super::*;

#[test]
fn an_answer_over_three_responses() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let whole = text(&[("MaxBurstLength", "4096"), ("FirstBurstLength", "512")]);
    let (first, rest) = whole.split_at(5);
    let (second, third) = rest.split_at(9);
    for part in [first, second] {
        let (request, _) = script.login.poll_transmit().unwrap();
        let mut response = script.response(&request);
        (response.transit, response.continue_) = (false, true);
        let progress = script.login.handle(&response, part);
        assert!(matches!(progress, Ok(Progress::Continue)));
    }
    let (request, text) = script.login.poll_transmit().unwrap();
    assert!(
        text.is_empty(),
        "RFC 7143 §6.2: no data while the answer continues"
    );
    let response = script.response(&request);
    let session = done(script.login.handle(&response, third)).session;
    assert_eq!(
        (session.max_burst_bytes, session.first_burst_bytes),
        (4096, 512)
    );
}

#[test]
fn an_answer_without_end_is_bounded() {
    let mut script = Scripted::new(config());
    let chunk = vec![b'A'; 8192];
    let mut taken = 0;
    let error = loop {
        let (request, _) = script.login.poll_transmit().unwrap();
        let mut response = script.response(&request);
        (response.transit, response.continue_) = (false, true);
        match script.login.handle(&response, &chunk) {
            Ok(_) => taken += chunk.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(taken, 65_536);
    let limit = 65_536;
    let stage = "SecurityNegotiation";
    let source = TextError::TooLong { limit };
    assert_eq!(error, LoginError::Text { stage, source });
}

/// A list of ours longer than a PDU: only answers can make it so.
fn long_answers() -> Scripted {
    let mut script = Scripted::new(config());
    script.skip_security();
    let keys: Vec<String> = (0..400)
        .map(|n| format!("X-com.example.key{n:04}"))
        .collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    script.delay(&pairs).unwrap();
    script
}

#[test]
fn our_list_over_two_requests() {
    let mut script = long_answers();
    let (first, mut whole) = script.login.poll_transmit().unwrap();
    assert_eq!(whole.len(), 8192);
    assert!(first.continue_ && !first.transit);
    let response = script.response(&first);
    script.login.handle(&response, &[]).unwrap();
    let (second, rest) = script.login.poll_transmit().unwrap();
    assert!(!second.continue_ && second.transit);
    whole.extend(rest);
    let pairs = decode(&whole).unwrap();
    assert_eq!(pairs.len(), 400);
    assert!(pairs.iter().all(|pair| pair.value == "NotUnderstood"));
}

#[test]
fn text_before_ours_is_complete_is_an_error() {
    let mut script = long_answers();
    let (request, _) = script.login.poll_transmit().unwrap();
    let response = script.response(&request);
    let error = broken(script.answer(&response, &[("MaxConnections", "1")]));
    assert_eq!(error, ProtocolError::TextWhileContinuing);

    let mut script = long_answers();
    let (request, _) = script.login.poll_transmit().unwrap();
    let mut response = script.response(&request);
    response.transit = true;
    let error = broken(script.answer(&response, &[]));
    assert_eq!(error, ProtocolError::TransitNotAsked);
}

#[test]
fn padding_counted_as_data_is_let_pass() {
    let mut script = Scripted::new(config());
    script.skip_security();
    let (request, _) = script.request();
    let response = script.response(&request);
    let data = b"MaxBurstLength=4096\0\0\0\0";
    assert_eq!(
        done(script.login.handle(&response, data))
            .session
            .max_burst_bytes,
        4096
    );
}
