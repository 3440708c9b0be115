//! Codec, table, offer and value rules.

#![allow(clippy::indexing_slicing, reason = "a test may fail by panicking")]

use proptest::prelude::*;

use super::codec::{self, Assembler, Pair, TextError, decode, encode, is_key_name};
use super::keys::{self, Key, KeyStage, Kind, NumberResult, Scope, Senders, Use};
use super::value::parse_number;
use super::{Offer, OfferError};

// ---------------------------------------------------------------- codec

#[test]
fn golden_list() {
    let pairs = [
        Pair::new("A", "1"),
        Pair::new("X-com.example", ""),
        Pair::new("B", "x=y"),
    ];
    assert_eq!(encode(&pairs), b"A=1\0X-com.example=\0B=x=y\0");
    assert_eq!(decode(b"A=1\0X-com.example=\0B=x=y\0").unwrap(), pairs);
    assert_eq!(decode(b"").unwrap(), []);
    assert_eq!(decode(b"\0\0\0").unwrap(), []);
    assert_eq!(decode(b"A=1\0\0\0\0").unwrap(), [Pair::new("A", "1")]);
}

#[test]
fn malformed_lists() {
    assert_eq!(decode(b"A=1"), Err(TextError::NotTerminated));
    assert_eq!(decode(b"A=1\0B"), Err(TextError::NotTerminated));
    assert_eq!(decode(b"A=1\0\0B=1\0"), Err(TextError::EmptyPair));
    assert_eq!(decode(b"\0A=1\0"), Err(TextError::EmptyPair));
    assert_eq!(
        decode(b"A\0"),
        Err(TextError::NoEquals { pair: "A".into() })
    );
    assert_eq!(
        decode(b"=1\0"),
        Err(TextError::BadKeyName {
            name: String::new()
        })
    );
    assert_eq!(
        decode(b"A B=1\0"),
        Err(TextError::BadKeyName { name: "A B".into() })
    );
    assert_eq!(decode(b"A=\xc3\0"), Err(TextError::NotUtf8));
}

#[test]
fn key_names() {
    let longest = "K".repeat(63);
    for name in [
        "A",
        "X-com.example_1+2@3",
        "X#NodeArchitecture",
        "iSCSIProtocolLevel",
        &longest,
    ] {
        assert!(is_key_name(name), "{name}");
    }
    let too_long = "K".repeat(64);
    for name in ["", "1A", "-A", "A B", "A/B", "Ä", &too_long] {
        assert!(!is_key_name(name), "{name}");
    }
}

#[test]
fn values_have_the_length_their_key_allows() {
    let list = |key: &str, bytes: usize| format!("{key}={}\0", "v".repeat(bytes)).into_bytes();
    assert!(decode(&list("TargetAlias", 255)).is_ok());
    assert_eq!(
        decode(&list("TargetAlias", 256)),
        Err(TextError::ValueTooLong {
            key: "TargetAlias".into(),
            bytes: 256,
            limit: 255
        })
    );
    // 1024 bytes in hexadecimal, as one of the targets in use sends.
    assert!(decode(&list("CHAP_C", 2050)).is_ok());
    assert!(decode(&list("CHAP_C", 3000)).is_err());
    assert!(decode(&list("CHAP_N", 256)).is_err());
}

#[test]
fn a_list_split_at_every_byte() {
    let pairs = [
        Pair::new("MaxBurstLength", "512"),
        Pair::new("TargetAlias", "a b"),
    ];
    let bytes = encode(&pairs);
    for at in 0..=bytes.len() {
        let mut assembler = Assembler::new(100);
        assert_eq!(assembler.push(&bytes[..at], true), Ok(None));
        assert_eq!(assembler.is_partial(), at > 0);
        assert_eq!(assembler.push(&bytes[at..], false).unwrap().unwrap(), pairs);
        assert!(!assembler.is_partial());
    }
}

#[test]
fn assembly_is_bounded_to_the_byte() {
    let mut assembler = Assembler::new(8);
    assert_eq!(assembler.push(b"A=12", true), Ok(None));
    assert_eq!(
        assembler.push(b"345\0", false).unwrap().unwrap(),
        [Pair::new("A", "12345")]
    );
    assert_eq!(assembler.push(b"A=12", true), Ok(None));
    assert_eq!(
        assembler.push(b"3456\0", false),
        Err(TextError::TooLong { limit: 8 })
    );
}

#[test]
fn splitting() {
    let lengths = |bytes: usize, limit: usize| -> Vec<usize> {
        codec::split(&vec![b'x'; bytes], limit)
            .iter()
            .map(Vec::len)
            .collect()
    };
    assert_eq!(lengths(0, 8192), [0]);
    assert_eq!(lengths(8192, 8192), [8192]);
    assert_eq!(lengths(8193, 8192), [8192, 1]);
    assert_eq!(lengths(3, 0), [1, 1, 1]);
}

// ---------------------------------------------------------------- numbers

#[test]
fn numbers() {
    for (text, number) in [
        ("0", 0),
        ("10", 10),
        ("0x0", 0),
        ("0X1f", 31),
        ("0x00fF", 255),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_number(text), Some(number), "{text}");
    }
    for text in [
        "",
        "00",
        "01",
        "+1",
        "-1",
        "1 ",
        "1k",
        "0x",
        "0x+1",
        "0xg",
        "18446744073709551616",
    ] {
        assert_eq!(parse_number(text), None, "{text}");
    }
}

// ---------------------------------------------------------------- table

/// RFC 7143 §13 once more, typed from the text by hand: name, default, LO/IO, SW/CO, result.
const RFC: &[(&str, Option<&str>, Use, Scope, &str)] = &[
    (
        "HeaderDigest",
        Some("None"),
        Use::LoginOnly,
        Scope::Connection,
        "list",
    ),
    (
        "DataDigest",
        Some("None"),
        Use::LoginOnly,
        Scope::Connection,
        "list",
    ),
    (
        "MaxConnections",
        Some("1"),
        Use::LeadingOnly,
        Scope::Session,
        "1-65535 min",
    ),
    (
        "SendTargets",
        None,
        Use::FullFeatureOnly,
        Scope::Session,
        "other",
    ),
    ("TargetAlias", None, Use::Always, Scope::Session, "other"),
    ("InitiatorAlias", None, Use::Always, Scope::Session, "other"),
    ("TargetAddress", None, Use::Always, Scope::Session, "other"),
    (
        "TargetPortalGroupTag",
        None,
        Use::LoginOnly,
        Scope::Session,
        "0-65535 declared",
    ),
    (
        "InitialR2T",
        Some("Yes"),
        Use::LeadingOnly,
        Scope::Session,
        "or",
    ),
    (
        "ImmediateData",
        Some("Yes"),
        Use::LeadingOnly,
        Scope::Session,
        "and",
    ),
    (
        "MaxRecvDataSegmentLength",
        Some("8192"),
        Use::Always,
        Scope::Connection,
        "512-16777215 declared",
    ),
    (
        "MaxBurstLength",
        Some("262144"),
        Use::LeadingOnly,
        Scope::Session,
        "512-16777215 min",
    ),
    (
        "FirstBurstLength",
        Some("65536"),
        Use::LeadingOnly,
        Scope::Session,
        "512-16777215 min",
    ),
    (
        "DefaultTime2Wait",
        Some("2"),
        Use::LeadingOnly,
        Scope::Session,
        "0-3600 max",
    ),
    (
        "DefaultTime2Retain",
        Some("20"),
        Use::LeadingOnly,
        Scope::Session,
        "0-3600 min",
    ),
    (
        "MaxOutstandingR2T",
        Some("1"),
        Use::LeadingOnly,
        Scope::Session,
        "1-65535 min",
    ),
    (
        "DataPDUInOrder",
        Some("Yes"),
        Use::LeadingOnly,
        Scope::Session,
        "or",
    ),
    (
        "DataSequenceInOrder",
        Some("Yes"),
        Use::LeadingOnly,
        Scope::Session,
        "or",
    ),
    (
        "ErrorRecoveryLevel",
        Some("0"),
        Use::LeadingOnly,
        Scope::Session,
        "0-2 min",
    ),
    (
        "SessionType",
        Some("Normal"),
        Use::LeadingOnly,
        Scope::Session,
        "other",
    ),
    (
        "TaskReporting",
        Some("RFC3720"),
        Use::LeadingOnly,
        Scope::Session,
        "list",
    ),
    (
        "iSCSIProtocolLevel",
        Some("1"),
        Use::LeadingOnly,
        Scope::Session,
        "0-31 min",
    ),
];

#[test]
fn the_table_says_what_the_rfc_says() {
    for (name, default, usage, scope, result) in RFC {
        let spec = Key::find(name)
            .unwrap_or_else(|| panic!("{name} is missing"))
            .spec();
        let kind = match spec.kind {
            Kind::Boolean(keys::BooleanResult::And) => "and".to_owned(),
            Kind::Boolean(keys::BooleanResult::Or) => "or".to_owned(),
            Kind::Number {
                min,
                max,
                result: NumberResult::Minimum,
            } => format!("{min}-{max} min"),
            Kind::Number {
                min,
                max,
                result: NumberResult::Maximum,
            } => format!("{min}-{max} max"),
            Kind::DeclaredNumber { min, max } => format!("{min}-{max} declared"),
            Kind::List(_) => "list".to_owned(),
            Kind::Declared | Kind::Authentication | Kind::Request | Kind::Obsolete => {
                "other".to_owned()
            }
        };
        assert_eq!(
            (&spec.default, &spec.usage, &spec.scope, kind.as_str()),
            (default, usage, scope, *result),
            "{name}"
        );
    }
}

#[test]
fn the_table_is_consistent() {
    for key in Key::ALL {
        let spec = key.spec();
        assert_eq!(spec.key, *key);
        assert_eq!(Key::find(spec.name), Some(*key));
        assert!(is_key_name(spec.name), "{key}");
        assert!(spec.section.starts_with("RFC 71"), "{key}");
        assert!(!spec.about.is_empty(), "{key}");
        if spec.settable {
            assert_eq!(spec.stage, KeyStage::Operational, "{key}");
            assert_eq!(spec.senders, Senders::Both, "{key}");
            assert!(spec.default.is_some(), "{key}");
        }
    }
    assert_eq!(Key::find("maxburstlength"), None, "case matters");
}

#[test]
fn the_documentation_lists_every_key() {
    let text = keys::document();
    assert_eq!(text.lines().count(), Key::ALL.len() + 2);
    assert!(text.contains(
        "| DefaultTime2Wait | 0 to 3600; maximum | 2 | session | leading login | both | yes |"
    ));
    for line in text.lines() {
        assert_eq!(line.matches('|').count(), 9, "{line}");
    }
}

// ---------------------------------------------------------------- offer

fn set(key: &str, value: &str) -> Result<Offer, OfferError> {
    let mut offer = Offer::default();
    offer.set(key, value).map(|()| offer)
}

#[test]
fn offers_that_can_be_made() {
    for (key, value) in [
        ("HeaderDigest", "CRC32C"),
        ("DataDigest", "None,CRC32C"),
        ("MaxConnections", "65535"),
        ("InitialR2T", "Yes"),
        ("MaxRecvDataSegmentLength", "16777215"),
        ("MaxBurstLength", "0x1000"),
        ("DefaultTime2Wait", "3600"),
        ("TaskReporting", "ResponseFence,RFC3720"),
        ("TaskReporting", "FastAbort,ResponseFence,RFC3720"),
        ("iSCSIProtocolLevel", "1"),
        ("iSCSIProtocolLevel", "2"),
    ] {
        let offer = set(key, value).unwrap_or_else(|error| panic!("{key}={value}: {error}"));
        offer.check().unwrap();
        let expected = if value == "0x1000" { "4096" } else { value };
        assert_eq!(
            offer.get(Key::find(key).unwrap()).as_deref(),
            Some(expected)
        );
    }
    Offer::default().check().unwrap();
    assert_eq!(Offer::default().get(Key::TaskReporting), None);
}

#[test]
fn offers_that_cannot() {
    let key = |name: &str| Key::find(name).unwrap();
    assert_eq!(
        set("Foo", "1"),
        Err(OfferError::UnknownKey { key: "Foo".into() })
    );
    let error = set("maxburstlength", "512").unwrap_err().to_string();
    assert!(error.contains("did you mean MaxBurstLength"), "{error}");
    for name in [
        "InitiatorName",
        "TargetName",
        "AuthMethod",
        "CHAP_A",
        "IFMarker",
        "SendTargets",
    ] {
        assert_eq!(
            set(name, "x"),
            Err(OfferError::NotSettable { key: key(name) })
        );
    }
    for (name, value) in [
        ("ImmediateData", "yes"),
        ("HeaderDigest", "MD5"),
        ("HeaderDigest", ""),
        ("HeaderDigest", "CRC32C,CRC32C"),
        ("MaxBurstLength", "64k"),
        ("MaxBurstLength", ""),
    ] {
        let value = value.to_owned();
        let error = set(name, &value).unwrap_err();
        assert_eq!(
            error,
            OfferError::BadValue {
                key: key(name),
                value
            }
        );
    }
    for (name, value, min, max) in [
        ("MaxBurstLength", "511", 512, 16_777_215),
        ("MaxBurstLength", "16777216", 512, 16_777_215),
        ("MaxRecvDataSegmentLength", "0", 512, 16_777_215),
        ("ErrorRecoveryLevel", "3", 0, 2),
        ("MaxConnections", "4294967297", 1, 65_535),
    ] {
        let value = value.to_owned();
        let error = set(name, &value).unwrap_err();
        assert_eq!(
            error,
            OfferError::OutOfRange {
                key: key(name),
                value,
                min,
                max
            }
        );
    }
    for (name, value) in [
        ("iSCSIProtocolLevel", "3"),
        ("TaskReporting", "RFC3720"),
        ("TaskReporting", "FastAbort"),
    ] {
        let error = set(name, value).unwrap_err();
        assert!(
            matches!(error, OfferError::NotImplemented { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn first_burst_against_max_burst() {
    let mut offer = set("MaxBurstLength", "4096").unwrap();
    assert_eq!(
        offer.get(Key::FirstBurstLength).as_deref(),
        Some("4096"),
        "follows down"
    );
    offer.check().unwrap();
    offer.set("FirstBurstLength", "8192").unwrap();
    let (first, max) = (8192, 4096);
    assert_eq!(
        offer.check(),
        Err(OfferError::FirstBurstAboveMaxBurst { first, max })
    );
    offer.set("MaxBurstLength", "8192").unwrap();
    offer.check().unwrap();
}

#[test]
fn recovery_with_ordered_sequences_allows_one_r2t() {
    let mut offer = set("ErrorRecoveryLevel", "1").unwrap();
    let r2ts = |offer: &Offer| offer.get(Key::MaxOutstandingR2T);
    assert_eq!(r2ts(&offer).as_deref(), Some("1"), "nobody chose it");
    offer.check().unwrap();
    offer.set("DataSequenceInOrder", "No").unwrap();
    assert_eq!(r2ts(&offer).as_deref(), Some("8"));
    offer.check().unwrap();
    offer.set("DataSequenceInOrder", "Yes").unwrap();
    offer.set("MaxOutstandingR2T", "2").unwrap();
    assert_eq!(offer.check(), Err(OfferError::TooManyR2ts { r2ts: 2 }));
    offer.set("ErrorRecoveryLevel", "0").unwrap();
    offer.check().unwrap();
}

#[test]
fn connection_recovery_wants_tasks_to_be_retained() {
    for (level, retain) in [("0", "0"), ("1", "0"), ("2", "20")] {
        let mut offer = set("ErrorRecoveryLevel", level).unwrap();
        assert_eq!(offer.get(Key::DefaultTime2Retain).as_deref(), Some(retain));
        offer.set("DefaultTime2Retain", "7").unwrap();
        assert_eq!(offer.get(Key::DefaultTime2Retain).as_deref(), Some("7"));
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn lists_survive_the_journey(
        pairs in prop::collection::vec(("[A-Z][a-z.+@_-]{0,20}", "[ -~]{0,40}"), 1..8),
        limit in 1usize..64,
    ) {
        let pairs: Vec<Pair> = pairs.into_iter().map(|(key, value)| Pair::new(key, value)).collect();
        let mut segments = codec::split(&encode(&pairs), limit);
        let mut assembler = Assembler::new(4096);
        let mut whole = None;
        while let Some(segment) = segments.pop_front() {
            prop_assert!(segment.len() <= limit);
            whole = assembler.push(&segment, !segments.is_empty()).unwrap();
        }
        prop_assert_eq!(whole.unwrap(), pairs);
    }

    #[test]
    fn setting_anything_keeps_the_offer_legal(
        sets in prop::collection::vec(
            (0..Key::ALL.len(), "Yes|No|None|CRC32C|[0-9]{1,6}|.{0,6}"), 0..20)
    ) {
        let mut offer = Offer::default();
        for (index, value) in sets {
            let _ = offer.set(Key::ALL[index].name(), &value);
        }
        for (key, value) in offer.iter() {
            if let Kind::Number { min, max, .. } | Kind::DeclaredNumber { min, max } = key.spec().kind {
                let number: u32 = value.parse().unwrap();
                prop_assert!((min..=max).contains(&number));
            }
        }
    }
}
