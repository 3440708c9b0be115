//! Answers of the RFC's own examples, of no RFC at all, and over several PDUs.

use super::*;
use crate::name::{Portal, PortalGroupTag};
use crate::text::TextError;

fn portal(text: &str) -> Portal {
    text.parse().unwrap()
}

fn parse(text: &[u8]) -> Result<Vec<DiscoveredTarget>, SendTargetsError> {
    let group = Some(PortalGroupTag(7));
    let mut answer = SendTargetsAnswer::new(portal("10.9.9.9:3260"), group);
    answer.push(text, false, true).map(Option::unwrap)
}

fn target(name: &str, portals: &[(&str, u16)]) -> DiscoveredTarget {
    DiscoveredTarget {
        name: name.parse().unwrap(),
        portals: portals
            .iter()
            .map(|(text, tag)| (portal(text), Some(PortalGroupTag(*tag))))
            .collect(),
    }
}

#[test]
fn two_targets_with_two_portals() {
    let text = b"TargetName=iqn.1993-11.com.example:diskarray.sn.8675309\0\
        TargetAddress=10.1.0.45:3000,1\0TargetAddress=10.1.1.45:3000,2\0\
        TargetName=iqn.1993-11.com.example:diskarray.sn.1234567\0\
        TargetAddress=10.1.0.45:3000,1\0TargetAddress=[2001:db8::1],0x10\0\
        TargetAddress=san.example.com,65535\0";
    let expected = [
        target(
            "iqn.1993-11.com.example:diskarray.sn.8675309",
            &[("10.1.0.45:3000", 1), ("10.1.1.45:3000", 2)],
        ),
        target(
            "iqn.1993-11.com.example:diskarray.sn.1234567",
            &[
                ("10.1.0.45:3000", 1),
                ("[2001:db8::1]:3260", 16),
                ("san.example.com:3260", 65_535),
            ],
        ),
    ];
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn without_address_it_is_where_we_asked() {
    let found = parse(b"TargetName=iqn.1993-11.com.example:a\0TargetName=eui.020000023B040506\0");
    let expected = [
        target("iqn.1993-11.com.example:a", &[("10.9.9.9:3260", 7)]),
        target("eui.020000023B040506", &[("10.9.9.9:3260", 7)]),
    ];
    assert_eq!(found.unwrap(), expected);
    assert_eq!(parse(b"").unwrap(), []);
}

#[test]
fn an_address_listed_twice_is_one() {
    let text = b"TargetName=iqn.1993-11.com.example:a\0\
        TargetAddress=10.1.0.45,1\0TargetAddress=10.1.0.45:3260,1\0";
    assert_eq!(parse(text).unwrap()[0].portals.len(), 1);
}

#[test]
fn names_that_reach_nobody() {
    for name in [
        "",
        "../../etc/passwd",
        "iqn.2024-01.a:b\nc",
        "disk",
        "iqn.2024-01.a:b/../c",
    ] {
        let error = parse(format!("TargetName={name}\0").as_bytes()).unwrap_err();
        assert!(
            matches!(error, SendTargetsError::Name { .. }),
            "{name:?}: {error}"
        );
    }
}

#[test]
fn addresses_that_are_none() {
    for address in [
        "",
        "10.0.0.1:0,1",
        "10.0.0.1:70000,1",
        "[::1,1",
        "10.0.0.1,65536",
        "a b,1",
    ] {
        let text = format!("TargetName=iqn.1993-11.com.example:a\0TargetAddress={address}\0");
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(
            matches!(error, SendTargetsError::Address { .. }),
            "{address:?}: {error}"
        );
    }
    let error = parse(b"TargetAddress=10.0.0.1,1\0").unwrap_err();
    assert!(
        matches!(error, SendTargetsError::AddressWithoutTarget { .. }),
        "{error}"
    );
}

#[test]
fn other_keys_have_no_place() {
    let error = parse(b"TargetName=iqn.1993-11.com.example:a\0TargetAlias=b\0").unwrap_err();
    assert_eq!(
        error,
        SendTargetsError::UnexpectedKey {
            key: "TargetAlias".into()
        }
    );
    let error = parse(b"SendTargets=Reject\0").unwrap_err();
    assert_eq!(
        error,
        SendTargetsError::Refused {
            answer: "Reject".into()
        }
    );
    let error = parse(b"TargetName=iqn.1993-11.com.example:a").unwrap_err();
    assert_eq!(error, SendTargetsError::Text(TextError::NotTerminated));
}

#[test]
fn an_answer_over_several_responses() {
    let whole = b"TargetName=iqn.1993-11.com.example:a\0TargetAddress=10.1.0.45,1\0";
    let mut answer = SendTargetsAnswer::new(portal("10.9.9.9:3260"), None);
    let (first, rest) = whole.split_at(50);
    assert_eq!(answer.push(first, true, false).unwrap(), None);
    assert_eq!(
        answer.push(rest, false, false).unwrap(),
        None,
        "F=0: there is more"
    );
    let last = b"TargetName=iqn.1993-11.com.example:b\0";
    let found = answer.push(last, false, true).unwrap().unwrap();
    assert_eq!(
        found[0],
        target("iqn.1993-11.com.example:a", &[("10.1.0.45:3260", 1)])
    );
    assert_eq!(found[1].portals, [(portal("10.9.9.9:3260"), None)]);
}

#[test]
fn everything_is_bounded() {
    let mut answer = SendTargetsAnswer::new(portal("10.9.9.9:3260"), None);
    let chunk = vec![b'A'; 1 << 20];
    for _ in 0..4 {
        answer.push(&chunk, true, false).unwrap();
    }
    let limit = ANSWER_BYTES_MAX;
    let error = answer.push(b"A", true, false).unwrap_err();
    assert_eq!(error, SendTargetsError::Text(TextError::TooLong { limit }));

    let mut text = String::from("TargetName=iqn.1993-11.com.example:a\0");
    for port in 1..=PORTALS_MAX {
        text.push_str(&format!("TargetAddress=10.0.0.1:{port},1\0"));
    }
    assert_eq!(
        parse(text.as_bytes()).unwrap()[0].portals.len(),
        PORTALS_MAX
    );
    text.push_str("TargetAddress=10.0.0.2,1\0");
    let error = parse(text.as_bytes()).unwrap_err();
    assert!(
        matches!(error, SendTargetsError::TooManyPortals { limit: 256, .. }),
        "{error}"
    );

    let text = "TargetName=iqn.1993-11.com.example:a\0".repeat(TARGETS_MAX + 1);
    let error = parse(text.as_bytes()).unwrap_err();
    assert!(
        matches!(error, SendTargetsError::TooManyTargets { .. }),
        "{error}"
    );
}
