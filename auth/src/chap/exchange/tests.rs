//! Whole exchanges against scripted targets. Every response here was computed with Python's
//! hashlib, as `hash(bytes([identifier]) + secret + challenge)`.

use proptest::prelude::*;

use super::*;
use crate::{ChapCredentials, MutualCredentials, Secret};

const OUR_SECRET: &str = "isecret123456";
const TARGET_SECRET: &str = "tsecret123456";

/// The target's identifier and challenge in most tests.
const CHAP_I_200: (&str, &str) = ("CHAP_I", "200");
const CHAP_C_16: (&str, &str) = ("CHAP_C", "0x00112233445566778899aabbccddeeff");

/// Our responses to them, by algorithm number.
const OUR_RESPONSES: [(&str, &str); 4] = [
    ("5", "0x835ca3870c4dbd6672e72437127308d8"),
    ("6", "0xacc657324851f9036c4a79b06f7e10fa55e7c3b5"),
    (
        "7",
        "0xbb25e75dc0a9836cf5ffeb66e4bc876e1e215872ed21de63f21cd91648e9908d",
    ),
    (
        "8",
        "0xfee201dc0553ecd03a4429d649c737add70080712d23087de6967b1208ededef",
    ),
];

/// The target's responses to identifier 9 and the challenge of bytes 64 to 95.
const PROOFS: [(&str, &str); 4] = [
    ("5", "0x9ee24fc6bc5c88ae4e40cfd4e15acea5"),
    ("6", "0x8a9acdaa13c436ed6030ba75660817892101a584"),
    (
        "7",
        "0x6462b434c68579f6b773823161838a8b4b4fadba117a9b0dbd88f35ef72bd4be",
    ),
    (
        "8",
        "0x91f9ac36ee03d73518719bdd48cf1111313932e07f5cef470565113eae635089",
    ),
];

/// The MD5 response to the same challenge, but with our own secret.
const PROOF_WITH_OUR_SECRET: &str = "0xfd0b1c3c2c1aa05ea3e39b452f718a34";

fn entropy() -> [u8; ENTROPY_BYTES] {
    let mut entropy = [9; ENTROPY_BYTES];
    for (byte, value) in entropy[1..].iter_mut().zip(64..) {
        *byte = value;
    }
    entropy
}

fn credentials() -> ChapCredentials {
    ChapCredentials::new("iuser", Secret::from_text(OUR_SECRET).unwrap())
        .with_algorithms(ChapAlgorithm::ALL.to_vec())
}

fn one_way() -> ChapExchange {
    ChapExchange::start(&Chap::new(credentials(), None).unwrap(), entropy()).0
}

fn mutual_with_name(name: Option<&str>) -> ChapExchange {
    let secret = Secret::from_text(TARGET_SECRET).unwrap();
    let target = MutualCredentials {
        name: name.map(String::from),
        secret,
    };
    ChapExchange::start(&Chap::new(credentials(), Some(target)).unwrap(), entropy()).0
}

fn mutual() -> ChapExchange {
    mutual_with_name(Some("tuser"))
}

/// A mutual exchange that has answered an MD5 challenge.
fn mutual_awaiting_proof() -> ChapExchange {
    let mut exchange = mutual();
    exchange
        .step([("CHAP_A", "5"), CHAP_I_200, CHAP_C_16])
        .unwrap();
    exchange
}

fn expect_failure(mut exchange: ChapExchange, keys: &[(&str, &str)], error: AuthError) {
    assert_eq!(exchange.step(keys.iter().copied()), Err(error), "{keys:?}");
    // And it stays failed.
    assert_eq!(exchange.finish(), Err(AuthError::AlreadyFailed));
    assert_eq!(exchange.step([]), Err(AuthError::AlreadyFailed));
    assert!(!exchange.wants_transit());
}

#[test]
fn the_offer_is_a_list_in_order_of_preference() {
    let chap = |list: &[ChapAlgorithm]| {
        Chap::new(credentials().with_algorithms(list.to_vec()), None).unwrap()
    };
    let offer = |list| ChapExchange::start(&chap(list), entropy()).1;
    assert_eq!(
        offer(&ChapAlgorithm::DEFAULT_OFFER),
        [("CHAP_A", "8,5".to_owned())]
    );
    assert_eq!(offer(&[ChapAlgorithm::Md5]), [("CHAP_A", "5".to_owned())]);
    let own_order = [
        ChapAlgorithm::Sha256,
        ChapAlgorithm::Md5,
        ChapAlgorithm::Sha1,
    ];
    assert_eq!(offer(&own_order), [("CHAP_A", "7,5,6".to_owned())]);
}

#[test]
fn one_way_with_every_algorithm() {
    for (number, response) in OUR_RESPONSES {
        let mut exchange = one_way();
        assert!(!exchange.wants_transit());
        let keys = exchange
            .step([("CHAP_A", number), CHAP_I_200, CHAP_C_16])
            .unwrap();
        assert_eq!(
            keys,
            [
                ("CHAP_N", "iuser".to_owned()),
                ("CHAP_R", response.to_owned())
            ]
        );
        assert!(exchange.wants_transit());
        // The target's answer carries no key of CHAP.
        assert_eq!(exchange.step([]), Ok(vec![]));
        assert_eq!(exchange.finish(), Ok(()));
    }
}

#[test]
fn mutual_with_every_algorithm() {
    for ((number, response), (_, proof)) in OUR_RESPONSES.into_iter().zip(PROOFS) {
        let mut exchange = mutual();
        // The order of keys in an answer means nothing.
        let keys = exchange
            .step([CHAP_C_16, CHAP_I_200, ("CHAP_A", number)])
            .unwrap();
        let challenge = "0x404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f";
        let expected = [
            ("CHAP_N", "iuser".to_owned()),
            ("CHAP_R", response.to_owned()),
            ("CHAP_I", "9".to_owned()),
            ("CHAP_C", challenge.to_owned()),
        ];
        assert_eq!(keys, expected);
        assert_eq!(exchange.finish(), Err(AuthError::Incomplete));
        assert_eq!(
            exchange.step([("CHAP_R", proof), ("CHAP_N", "tuser")]),
            Ok(vec![])
        );
        assert_eq!(exchange.finish(), Ok(()));
        assert_eq!(
            exchange.chosen().map(|a| a.number().to_string()),
            Some(number.to_owned())
        );
    }
}

#[test]
fn the_longest_challenge_in_either_encoding_and_a_hexadecimal_identifier() {
    let challenge = [0xa5; 1024];
    for text in [
        binary::encode_hex(&challenge),
        binary::encode_base64(&challenge),
    ] {
        let keys = [("CHAP_A", "0x5"), ("CHAP_I", "0xFF"), ("CHAP_C", &text)];
        let keys = one_way().step(keys).unwrap();
        assert_eq!(
            keys[1],
            ("CHAP_R", "0xf12fde6edbf1c2af9b7a1cfac6124890".to_owned())
        );
    }
}

#[test]
fn challenges_that_are_empty_or_too_long_are_refused() {
    let invalid = |source| AuthError::InvalidBinary {
        key: "CHAP_C",
        source,
    };
    let too_long = binary::BinaryError::TooLong { max_bytes: 1024 };
    let cases = [
        (String::from("0x"), binary::BinaryError::Empty),
        (String::from("0b"), binary::BinaryError::Empty),
        (String::new(), binary::BinaryError::NoPrefix),
        (String::from("12345"), binary::BinaryError::NoPrefix),
        (String::from("0xx"), binary::BinaryError::Malformed),
        (binary::encode_hex(&[1; 1025]), too_long),
        (binary::encode_base64(&[1; 1025]), too_long),
    ];
    for (text, source) in cases {
        let keys = [("CHAP_A", "5"), CHAP_I_200, ("CHAP_C", text.as_str())];
        expect_failure(one_way(), &keys, invalid(source));
    }
    assert!(
        one_way()
            .step([("CHAP_A", "5"), CHAP_I_200, ("CHAP_C", "0x1")])
            .is_ok()
    );
}

#[test]
fn only_an_offered_algorithm_may_be_chosen() {
    let two = || {
        let offer = credentials().with_algorithms(ChapAlgorithm::DEFAULT_OFFER.to_vec());
        ChapExchange::start(&Chap::new(offer, None).unwrap(), entropy()).0
    };
    for number in [0, 6, 7, 9, 261, u64::MAX] {
        let text = number.to_string();
        let keys = [("CHAP_A", text.as_str()), CHAP_I_200, CHAP_C_16];
        expect_failure(two(), &keys, AuthError::AlgorithmNotOffered(number));
    }
    for value in [
        "",
        "Reject",
        "5,8",
        "+5",
        "-5",
        "0x",
        "5 ",
        "99999999999999999999",
    ] {
        let error = AuthError::InvalidNumber {
            key: "CHAP_A",
            value: value.to_owned(),
        };
        expect_failure(two(), &[("CHAP_A", value), CHAP_I_200, CHAP_C_16], error);
    }
}

#[test]
fn the_identifier_is_one_byte() {
    for value in ["256", "0x100", "-1", "", "0x", "x"] {
        let error = AuthError::InvalidNumber {
            key: "CHAP_I",
            value: value.to_owned(),
        };
        expect_failure(
            one_way(),
            &[("CHAP_A", "5"), ("CHAP_I", value), CHAP_C_16],
            error,
        );
    }
    for value in ["0", "255"] {
        assert!(
            one_way()
                .step([("CHAP_A", "5"), ("CHAP_I", value), CHAP_C_16])
                .is_ok()
        );
    }
}

#[test]
fn each_key_is_needed_once_and_no_other() {
    let all = [("CHAP_A", "5"), CHAP_I_200, CHAP_C_16];
    for (missing, key) in [(0, "CHAP_A"), (1, "CHAP_I"), (2, "CHAP_C")] {
        let mut keys = all.to_vec();
        keys.remove(missing);
        expect_failure(one_way(), &keys, AuthError::MissingKey(key));
    }
    expect_failure(one_way(), &[], AuthError::MissingKey("CHAP_A"));
    for at in 0..all.len() {
        let keys: Vec<_> = all.into_iter().chain([all[at]]).collect();
        expect_failure(one_way(), &keys, AuthError::DuplicateKey(all[at].0));
    }
    for other in ["CHAP_N", "CHAP_R", "chap_a", "SRP_U", "TargetAlias"] {
        let keys: Vec<_> = all.into_iter().chain([(other, "1")]).collect();
        expect_failure(one_way(), &keys, AuthError::UnexpectedKey(other.to_owned()));
    }
}

#[test]
fn keys_after_the_end_are_errors() {
    let mut exchange = one_way();
    exchange
        .step([("CHAP_A", "5"), CHAP_I_200, CHAP_C_16])
        .unwrap();
    let proof = [("CHAP_N", "tuser"), ("CHAP_R", PROOFS[0].1)];
    expect_failure(
        exchange,
        &proof,
        AuthError::UnexpectedKey("CHAP_N".to_owned()),
    );

    let mut exchange = mutual_awaiting_proof();
    exchange.step(proof).unwrap();
    expect_failure(
        exchange,
        &proof,
        AuthError::UnexpectedKey("CHAP_N".to_owned()),
    );
}

#[test]
fn a_target_cannot_skip_its_part() {
    assert_eq!(one_way().finish(), Err(AuthError::Incomplete));
    assert_eq!(mutual().finish(), Err(AuthError::Incomplete));
    assert_eq!(mutual_awaiting_proof().finish(), Err(AuthError::Incomplete));
    expect_failure(
        mutual_awaiting_proof(),
        &[],
        AuthError::MissingKey("CHAP_N"),
    );
    let only_name = [("CHAP_N", "tuser")];
    expect_failure(
        mutual_awaiting_proof(),
        &only_name,
        AuthError::MissingKey("CHAP_R"),
    );
    let only_proof = [("CHAP_R", PROOFS[0].1)];
    expect_failure(
        mutual_awaiting_proof(),
        &only_proof,
        AuthError::MissingKey("CHAP_N"),
    );
}

#[test]
fn our_own_challenge_is_never_answered() {
    let ours = binary::encode_hex(&entropy()[1..]);
    // With our identifier and with another one, in both encodings.
    for challenge in [ours, binary::encode_base64(&entropy()[1..])] {
        for identifier in ["9", "10"] {
            let keys = [
                ("CHAP_A", "5"),
                ("CHAP_I", identifier),
                ("CHAP_C", challenge.as_str()),
            ];
            expect_failure(mutual(), &keys, AuthError::Reflected("challenge"));
        }
    }
}

#[test]
fn our_own_response_proves_nothing() {
    let keys = [("CHAP_N", "tuser"), ("CHAP_R", OUR_RESPONSES[0].1)];
    expect_failure(
        mutual_awaiting_proof(),
        &keys,
        AuthError::Reflected("response"),
    );
}

#[test]
fn a_target_that_uses_our_secret_is_refused() {
    let keys = [("CHAP_N", "tuser"), ("CHAP_R", PROOF_WITH_OUR_SECRET)];
    expect_failure(mutual_awaiting_proof(), &keys, AuthError::SharedSecret);
}

#[test]
fn wrong_proofs_are_refused() {
    let (_, good) = PROOFS[0];
    let flipped = good.replace(&good[2..3], if &good[2..3] == "0" { "1" } else { "0" });
    let shorter = &good[..good.len() - 2];
    let longer = format!("{good}00");
    for response in [&flipped, shorter, &longer, "0x00", PROOFS[1].1] {
        let keys = [("CHAP_N", "tuser"), ("CHAP_R", response)];
        expect_failure(mutual_awaiting_proof(), &keys, AuthError::WrongResponse);
    }
    let malformed = [("CHAP_N", "tuser"), ("CHAP_R", "none")];
    let source = binary::BinaryError::NoPrefix;
    let error = AuthError::InvalidBinary {
        key: "CHAP_R",
        source,
    };
    expect_failure(mutual_awaiting_proof(), &malformed, error);
}

#[test]
fn the_configured_name_must_be_proved() {
    let keys = [("CHAP_N", "Tuser"), ("CHAP_R", PROOFS[0].1)];
    let error = AuthError::WrongName {
        expected: "tuser".into(),
        found: "Tuser".into(),
    };
    expect_failure(mutual_awaiting_proof(), &keys, error);

    let mut any_name = mutual_with_name(None);
    any_name
        .step([("CHAP_A", "5"), CHAP_I_200, CHAP_C_16])
        .unwrap();
    assert_eq!(any_name.step(keys), Ok(vec![]));
}

#[test]
fn fallback_to_md5_where_it_can_help() {
    let is_md5_only = |exchange: &ChapExchange| {
        let fallback = exchange.fallback();
        fallback.map(|chap| chap.initiator().algorithms == [ChapAlgorithm::Md5])
    };
    // Login refused at the sight of the list.
    assert_eq!(is_md5_only(&one_way()), Some(true));
    // The list was answered, but not with one of its members.
    for keys in [
        vec![("CHAP_A", "Reject")],
        vec![("CHAP_A", "9"), CHAP_I_200, CHAP_C_16],
    ] {
        let mut exchange = one_way();
        exchange.step(keys).unwrap_err();
        assert_eq!(is_md5_only(&exchange), Some(true));
    }
    // 7 was taken, but our answer in SHA-256 was refused.
    for mut exchange in [one_way(), mutual()] {
        exchange
            .step([("CHAP_A", "7"), CHAP_I_200, CHAP_C_16])
            .unwrap();
        assert_eq!(is_md5_only(&exchange), Some(true));
    }
}

#[test]
fn no_fallback_where_it_cannot_help_or_would_hide_a_fraud() {
    // MD5 was used already: the secret is wrong.
    let mut exchange = one_way();
    exchange
        .step([("CHAP_A", "5"), CHAP_I_200, CHAP_C_16])
        .unwrap();
    assert!(exchange.fallback().is_none());
    // We refused the target.
    let mut exchange = mutual();
    exchange
        .step([("CHAP_A", "8"), CHAP_I_200, CHAP_C_16])
        .unwrap();
    exchange
        .step([("CHAP_N", "tuser"), ("CHAP_R", PROOFS[0].1)])
        .unwrap_err();
    assert!(exchange.fallback().is_none());
    // The target has proved itself with SHA3-256: it knows its numbers.
    let mut exchange = mutual();
    exchange
        .step([("CHAP_A", "8"), CHAP_I_200, CHAP_C_16])
        .unwrap();
    exchange
        .step([("CHAP_N", "tuser"), ("CHAP_R", PROOFS[3].1)])
        .unwrap();
    assert!(exchange.fallback().is_none());
}

#[test]
fn debug_shows_neither_secret_nor_challenge_nor_response() {
    let shown = format!("{:#?}", mutual_awaiting_proof());
    assert!(
        shown.contains("iuser") && shown.contains("AwaitProof"),
        "{shown}"
    );
    for hidden in [
        OUR_SECRET,
        TARGET_SECRET,
        "4041",
        "64",
        &OUR_RESPONSES[0].1[2..],
    ] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

proptest! {
    /// Whatever a target says, the exchange ends in an error or in an answer, and mutual CHAP is
    /// never complete without the one right proof.
    #[test]
    fn no_answer_panics_or_completes_mutual_chap(
        answers in prop::collection::vec(
            prop::collection::vec(
                (prop::sample::select(vec!["CHAP_A", "CHAP_C", "CHAP_I", "CHAP_N", "CHAP_R", "X"]),
                 "(5|8|200|0x[0-9a-f]{0,40}|0b[A-Za-z0-9+/=]{0,40}|.{0,8})"),
                0..5),
            0..4),
    ) {
        let mut exchange = mutual();
        for answer in &answers {
            let keys = answer.iter().map(|(name, value)| (*name, value.as_str()));
            let _ = exchange.step(keys);
        }
        prop_assert!(exchange.finish().is_err());
    }
}
