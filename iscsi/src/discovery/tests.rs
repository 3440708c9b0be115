//! Answers of the RFC's own examples, of no RFC at all, and over several PDUs.

use std::time::Duration;

use scsi::Lun;

use super::*;
use crate::login::AuthPolicy;
use crate::name::{Isid, Portal, PortalGroupTag, Tsih};
use crate::serial::{CmdSn, StatSn};
use crate::text::{Offer, TextError};
use crate::wire::transmit::Transmit;
use crate::wire::{Bhs, Itt, LoginResponse, NopIn, Response, Stage, TextResponse, Ttt, Window};

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

/// A discovery session whose login is done; the target takes commands up to `max_cmd_sn`.
fn asking(max_cmd_sn: u32) -> DiscoverySession {
    let config = DiscoveryConfig {
        initiator_name: "iqn.2024-01.test:initiator".parse().unwrap(),
        portal: portal("10.9.9.9:3260"),
        isid: Isid([0x80, 1, 2, 3, 0, 4]),
        auth: AuthPolicy::None,
        offer: Offer::default(),
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    let mut sut = DiscoverySession::start(&config, &mut |_| ()).unwrap();
    let mut last = &b"TargetPortalGroupTag=1\0"[..];
    for (stat_sn, (current, next)) in [
        (Stage::SecurityNegotiation, Stage::OperationalNegotiation),
        (Stage::OperationalNegotiation, Stage::FullFeaturePhase),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(sent(&mut sut).map(|bhs| bhs[0]), Some(0x43));
        let response = LoginResponse {
            transit: true,
            continue_: false,
            current,
            next,
            version_max: 0,
            version_active: 0,
            isid: Isid([0x80, 1, 2, 3, 0, 4]),
            tsih: Tsih(9),
            itt: Itt(0),
            stat_sn: StatSn(u32::try_from(stat_sn).unwrap()),
            window: window(max_cmd_sn),
            status_class: 0,
            status_detail: 0,
        };
        sut.handle_pdu(&Response::Login(response), last).unwrap();
        last = b"";
    }
    sut
}

fn window(max_cmd_sn: u32) -> Window {
    Window {
        exp_cmd_sn: CmdSn(1),
        max_cmd_sn: CmdSn(max_cmd_sn),
    }
}

/// The header of the one PDU that it sends now.
fn sent(sut: &mut DiscoverySession) -> Option<Bhs> {
    let mut out = Transmit::new();
    sut.poll_transmit(&mut out);
    out.seal();
    let mut slices = smallvec::SmallVec::new();
    out.slices(&mut slices);
    slices.first()?.first_chunk().copied()
}

#[test]
fn a_closed_window_holds_send_targets_back() {
    let mut sut = asking(0);
    assert_eq!(sent(&mut sut), None, "MaxCmdSN is below the request's");
    let nop = NopIn {
        lun: Lun::ZERO,
        itt: Itt::RESERVED,
        ttt: Ttt::RESERVED,
        stat_sn: StatSn(2),
        window: window(1),
    };
    sut.handle_pdu(&Response::NopIn(nop), b"").unwrap();
    let request = sent(&mut sut).unwrap();
    assert_eq!(
        (request[0], request[24..28].to_vec()),
        (0x04, vec![0, 0, 0, 1])
    );
    // The answer goes on, and does not open the window for the request that asks for the rest.
    let part = TextResponse {
        final_: false,
        continue_: true,
        lun: Lun::ZERO,
        itt: Itt(1),
        ttt: Ttt(5),
        stat_sn: StatSn(2),
        window: window(1),
    };
    sut.handle_pdu(&Response::Text(part), b"Target").unwrap();
    assert_eq!(sent(&mut sut), None);
    let nop = NopIn {
        window: window(2),
        ..nop
    };
    sut.handle_pdu(&Response::NopIn(nop), b"").unwrap();
    assert_eq!(sent(&mut sut).unwrap()[20..24], [0, 0, 0, 5]);
}
