use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Result<IscsiName, NameError> {
    text.parse()
}

fn portal(text: &str) -> Result<Portal, PortalError> {
    text.parse()
}

#[test]
fn names_of_the_three_types_are_taken() {
    // The examples of RFC 7143 §4.2.7.4 to §4.2.7.6.
    for text in [
        "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
        "iqn.2001-04.com.example",
        "iqn.2001-04.com.example:storage.tape1.sys1.xyz",
        "eui.02004567a425678d",
        "naa.52004567ba64678d",
        "naa.62004567ba64678d0123456789abcdef",
    ] {
        assert_eq!(name(text).unwrap().as_str(), text);
    }
}

#[test]
fn upper_case_is_folded() {
    let folded = name("IQN.2001-04.com.Example:Disk.A").unwrap();
    assert_eq!(folded.as_str(), "iqn.2001-04.com.example:disk.a");
    assert_eq!(folded, name("iqn.2001-04.COM.example:disk.a").unwrap());
    assert_eq!(
        name("eui.02004567A425678D").unwrap().as_str(),
        "eui.02004567a425678d"
    );
}

#[test]
fn the_longest_name_has_223_bytes() {
    let of = |bytes: usize| format!("iqn.2001-04.com.example:{}", "a".repeat(bytes - 24));
    assert_eq!(name(&of(223)).unwrap().as_str().len(), 223);
    assert_eq!(name(&of(224)), Err(NameError::TooLong { bytes: 224 }));
    assert_eq!(name(""), Err(NameError::Empty));
}

#[test]
fn forbidden_characters_are_named_with_their_place() {
    for (text, character, at) in [
        ("iqn.2001-04.com.example:../../etc", '/', 26),
        ("iqn.2001-04.com.example:a b", ' ', 25),
        ("iqn.2001-04.com.example:a\n", '\n', 25),
        ("iqn.2001-04.com.example:a\0", '\0', 25),
        ("iqn.2001-04.com.example:a_b", '_', 25),
        ("iqn.2001-04.com.example:ä", 'ä', 24),
        ("iqn.2001-04.com.example,1", ',', 23),
    ] {
        assert_eq!(name(text), Err(NameError::Character { character, at }));
    }
}

#[test]
fn malformed_names_are_refused_by_rule() {
    for text in [
        "disk1",
        "iqn",
        "iqn2001-04.com",
        "nqn.2014-08.org.nvmexpress:x",
    ] {
        assert_eq!(name(text), Err(NameError::Type), "{text}");
    }
    for text in [
        "iqn.",
        "iqn.com.example:x",
        "iqn.2001-4.com.example",
        "iqn.2001-13.com.example",
        "iqn.2001-00.com.example",
        "iqn.20010-1.com.example",
    ] {
        assert_eq!(name(text), Err(NameError::Date), "{text}");
    }
    for text in [
        "iqn.2001-04",
        "iqn.2001-04.",
        "iqn.2001-04:x",
        "iqn.2001-04.:x",
        "iqn.2001-04.com..example:x",
    ] {
        assert_eq!(name(text), Err(NameError::Authority), "{text}");
    }
    for text in [
        "eui.02004567a425678",
        "eui.02004567a425678dd",
        "eui.0200-567a425678d",
    ] {
        assert!(
            matches!(name(text), Err(NameError::Digits { kind: "eui.", .. })),
            "{text}"
        );
    }
    assert!(matches!(
        name("naa.52004567ba64678d0"),
        Err(NameError::Digits { kind: "naa.", .. })
    ));
}

#[test]
fn random_isids_carry_type_10b() {
    let isid = Isid::random(0xff12_3456, 0x0007);
    assert_eq!(isid.0, [0x80, 0x12, 0x34, 0x56, 0x00, 0x07]);
    assert_eq!(isid.to_string(), "801234560007");
    assert_eq!(isid.qualifier(), 7);
    assert_eq!(
        isid.with_qualifier(0x0102).0,
        [0x80, 0x12, 0x34, 0x56, 0x01, 0x02]
    );
}

#[test]
fn enterprise_isids_carry_type_01b() {
    assert_eq!(
        Isid::enterprise(0x0000_37a5, 1).0,
        [0x40, 0x00, 0x37, 0xa5, 0x00, 0x01]
    );
}

#[test]
fn portals_are_read_in_every_form() {
    for (text, host, port) in [
        ("192.0.2.1", Host::Ip([192, 0, 2, 1].into()), 3260),
        ("192.0.2.1:860", Host::Ip([192, 0, 2, 1].into()), 860),
        ("[::1]", Host::Ip(Ipv6Addr::LOCALHOST.into()), 3260),
        ("[::1]:3261", Host::Ip(Ipv6Addr::LOCALHOST.into()), 3261),
        ("::1", Host::Ip(Ipv6Addr::LOCALHOST.into()), 3260),
        ("San-1.example", Host::Name("san-1.example".into()), 3260),
        ("localhost:65535", Host::Name("localhost".into()), 65535),
    ] {
        assert_eq!(portal(text), Ok(Portal { host, port }), "{text}");
    }
}

#[test]
fn portals_are_shown_with_port_and_brackets() {
    assert_eq!(portal("::1").unwrap().to_string(), "[::1]:3260");
    assert_eq!(portal("192.0.2.1").unwrap().to_string(), "192.0.2.1:3260");
    assert_eq!(portal("san:1").unwrap().to_string(), "san:1");
}

#[test]
fn malformed_portals_are_refused_by_part() {
    for text in [
        "",
        "300.1.1.1",
        "1.2.3",
        "a b",
        "a/b",
        "-a",
        "a..b",
        "a%0a",
        "ä",
    ] {
        assert!(
            matches!(portal(text), Err(PortalError::Host { .. })),
            "{text}"
        );
    }
    for text in ["a:", "a:0", "a:65536", "a:+1", "a:b", "::1:x", "[::1]:"] {
        assert!(
            matches!(portal(text), Err(PortalError::Port { .. })),
            "{text}"
        );
    }
    for text in ["[::1", "[192.0.2.1]", "[]", "[::1]3260", "[::1%eth0]"] {
        assert!(
            matches!(portal(text), Err(PortalError::Brackets { .. })),
            "{text}"
        );
    }
}

#[test]
fn target_addresses_carry_a_group_tag() {
    let both = |text| Portal::parse_target_address(text);
    assert_eq!(
        both("192.0.2.1:3261,2").unwrap(),
        (portal("192.0.2.1:3261").unwrap(), Some(PortalGroupTag(2)))
    );
    assert_eq!(
        both("[2001:db8::1]:3260,65535").unwrap(),
        (portal("2001:db8::1").unwrap(), Some(PortalGroupTag(65535)))
    );
    assert_eq!(
        both("san.example").unwrap(),
        (portal("san.example").unwrap(), None)
    );
    for text in ["a,", "a,65536", "a,-1", "a,1x"] {
        assert!(
            matches!(both(text), Err(PortalError::GroupTag { .. })),
            "{text}"
        );
    }
    assert!(matches!(both("a,1,2"), Err(PortalError::Host { .. })));
}

proptest! {
    #[test]
    fn accepted_names_are_normal_and_stable(text in "(iqn\\.2001-04\\.|eui\\.|naa\\.)?[ -~äß\\n]{0,40}") {
        if let Ok(first) = name(&text) {
            prop_assert!(first.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b)));
            prop_assert_eq!(name(first.as_str()).unwrap(), first);
        }
    }

    #[test]
    fn shown_portals_read_back(ip in any::<std::net::IpAddr>(), port in 1_u16..) {
        let shown = Portal { host: Host::Ip(ip), port };
        prop_assert_eq!(portal(&shown.to_string()).unwrap(), shown);
    }

    #[test]
    fn parsing_never_panics(text in "\\PC*") {
        let _ = (name(&text), portal(&text), Portal::parse_target_address(&text));
    }
}
