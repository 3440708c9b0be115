use super::*;

const NAME: &str = "iqn.2026-11.org.example:disk1";

fn url(text: &str) -> Url {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn kind(text: &str) -> UrlErrorKind {
    text.parse::<Url>().expect_err(text).what
}

fn lun_bytes(text: &str) -> [u8; 8] {
    url(&format!("iscsi://h/{NAME}/{text}"))
        .lun
        .expect("a LUN")
        .to_bytes()
}

#[test]
fn every_part_is_found() {
    let all = url(&format!("iscsi://192.0.2.7:13260,5/{NAME}/3"));
    assert_eq!(all.portal.to_string(), "192.0.2.7:13260");
    assert_eq!(all.group, Some(PortalGroupTag(5)));
    assert_eq!(all.target.expect("a target").to_string(), NAME);
    assert_eq!(all.lun, Some(Lun::from_bytes([0, 3, 0, 0, 0, 0, 0, 0])));

    let short = url(&format!("iscsi://storage.example/{NAME}/0"));
    assert_eq!(short.portal.to_string(), "storage.example:3260");
    assert_eq!(short.group, None);
}

#[test]
fn ipv6_stands_in_brackets() {
    let six = url(&format!("iscsi://[2001:db8::1]:860,1/{NAME}/0"));
    assert_eq!(six.portal.to_string(), "[2001:db8::1]:860");
    assert_eq!(url("iscsi://[::1]").portal.to_string(), "[::1]:3260");
    let bare = kind(&format!("iscsi://2001:db8::1/{NAME}/0"));
    assert!(bare.to_string().contains("brackets"), "{bare}");
}

#[test]
fn target_and_lun_may_be_left_out_from_the_end() {
    assert_eq!(url("iscsi://h").target, None);
    assert_eq!(url("iscsi://h/").target, None);
    assert_eq!(url(&format!("iscsi://h/{NAME}")).lun, None);
    assert_eq!(url(&format!("iscsi://h/{NAME}/")).lun, None);
    assert_eq!(kind("iscsi://h//0"), UrlErrorKind::NoTarget);
}

#[test]
fn luns_use_the_addressing_of_sam() {
    assert_eq!(lun_bytes("255"), [0, 255, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lun_bytes("256"), [0x41, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lun_bytes("16383"), [0x7f, 0xff, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lun_bytes("16384"), [0xd2, 0, 0x40, 0, 0, 0, 0, 0]);
    assert_eq!(lun_bytes("0x1f"), [0, 0x1f, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lun_bytes("0xc101000000000002"), [0xc1, 1, 0, 0, 0, 0, 0, 2]);
    for bad in [
        "65536",
        "-1",
        "+1",
        "0x",
        "0xg",
        "1 ",
        "x",
        "0x10000",
        "99999999999",
    ] {
        assert_eq!(
            kind(&format!("iscsi://h/{NAME}/{bad}")),
            UrlErrorKind::Lun(bad.to_owned())
        );
    }
}

#[test]
fn a_lun_is_shown_as_it_is_typed() {
    for text in [
        "0",
        "255",
        "256",
        "16383",
        "0xc101000000000002",
        "0x4001000000000001",
    ] {
        let shown = url(&format!("iscsi://h/{NAME}/{text}")).to_string();
        assert_eq!(shown, format!("iscsi://h:3260/{NAME}/{text}"));
    }
}

#[test]
fn the_wrong_part_is_named() {
    assert_eq!(kind("http://h/x/0"), UrlErrorKind::Scheme);
    assert_eq!(kind("iscsi:/h"), UrlErrorKind::Scheme);
    assert!(matches!(kind("iscsi://"), UrlErrorKind::Portal { .. }));
    assert!(matches!(
        kind("iscsi://:3260/"),
        UrlErrorKind::Portal { .. }
    ));
    assert!(matches!(
        kind("iscsi://h:99999/"),
        UrlErrorKind::Portal { .. }
    ));
    assert!(matches!(kind("iscsi://h:/"), UrlErrorKind::Portal { .. }));
    assert_eq!(
        kind("iscsi://h,65536/"),
        UrlErrorKind::Group("65536".to_owned())
    );
    assert_eq!(kind("iscsi://h,/"), UrlErrorKind::Group(String::new()));
    assert!(matches!(
        kind("iscsi://h/disk/0"),
        UrlErrorKind::Target { .. }
    ));
    assert_eq!(
        kind(&format!("iscsi://h/{NAME}/0/more")),
        UrlErrorKind::Trailing("/more".to_owned())
    );
}

#[test]
fn a_secret_in_a_url_is_refused_and_not_repeated() {
    let error = format!("iscsi://me%hunter2secret@h/{NAME}/0")
        .parse::<Url>()
        .expect_err("refused");
    assert_eq!(error.what, UrlErrorKind::Credentials);
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = parse_portal_argument("me%hunter2secret@h").expect_err("refused");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn lists_split_at_the_scheme_only() {
    let list = format!("iscsi://a,1/{NAME}/0,iscsi://b:1,2/{NAME}/0,ISCSI://c/{NAME}/0");
    assert_eq!(
        split_list(&list),
        [
            format!("iscsi://a,1/{NAME}/0"),
            format!("iscsi://b:1,2/{NAME}/0"),
            format!("ISCSI://c/{NAME}/0")
        ]
    );
    let Ok(Side::Unit(unit)) = list.parse::<Side>() else {
        panic!("no unit")
    };
    assert_eq!(unit.portals.len(), 3);
    assert_eq!("a,b.img".parse::<Side>(), Ok(Side::File("a,b.img".into())));
}

#[test]
fn paths_of_different_units_do_not_join() {
    let one = url(&format!("iscsi://a/{NAME}/0"));
    let other_lun = url(&format!("iscsi://b/{NAME}/1"));
    let other_name = url(&format!("iscsi://b/{NAME}2/0"));
    let joined = Address::join(&[one.clone(), other_lun]);
    assert!(
        matches!(joined, Err(AddressError::Different { .. })),
        "{joined:?}"
    );
    let joined = Address::join(&[one.clone(), other_name]);
    assert!(
        matches!(joined, Err(AddressError::Targets { .. })),
        "{joined:?}"
    );
    let twice = Address::join(&[one.clone(), one.clone()]);
    let (first, other) = (one.to_string(), one.to_string());
    assert_eq!(twice, Err(AddressError::Twice { first, other }));
    assert!(Address::join(&[url("iscsi://a")]).is_err());
    assert!(Address::join(&[url(&format!("iscsi://a/{NAME}"))]).is_err());
    assert_eq!(Address::join(&[]), Err(AddressError::Empty));
}

#[test]
fn a_unit_of_several_targets_has_their_portals_apart() {
    let urls = [
        url(&format!("iscsi://a/{NAME}/0")),
        url(&format!("iscsi://a/{NAME}2/7")),
        url(&format!("iscsi://b/{NAME}/0")),
    ];
    let address = Address::join_targets(&urls).unwrap();
    assert!(address.check(true).is_ok());
    assert!(address.check(false).is_err());
    let parts = address.parts();
    assert_eq!(parts.len(), 2);
    assert_eq!((parts[0].portals.len(), parts[1].portals.len()), (2, 1));
    assert_eq!(parts[1].lun.to_string(), "7");
    let third = url(&format!("iscsi://c/{NAME}2/8"));
    let differ = Address::join_targets(&[urls[1].clone(), third]);
    assert!(matches!(differ, Err(AddressError::Different { .. })));
}

#[test]
fn discover_takes_a_portal_with_or_without_the_scheme() {
    for text in [
        "192.0.2.1",
        "192.0.2.1:3260",
        "iscsi://192.0.2.1",
        "iscsi://192.0.2.1:3260,1/",
    ] {
        let portal = parse_portal_argument(text).expect(text);
        assert_eq!(portal.to_string(), "192.0.2.1:3260");
    }
    assert!(parse_portal_argument("").is_err());
    assert!(
        parse_portal_argument("::1").is_err(),
        "ambiguous without brackets"
    );
}

proptest::proptest! {
    #[test]
    fn never_panics(text in ".{0,80}", path in "[-a-z0-9.:/,@%\\[\\]]{0,60}") {
        let _ = text.parse::<Side>();
        let _ = parse_portal_argument(&text);
        let _ = format!("iscsi://{path}").parse::<Side>();
    }

    #[test]
    fn what_is_shown_reads_back_the_same(
        host in "[a-z][a-z0-9-]{0,10}[a-z0-9]", port in 1_u16.., group: Option<u16>, lun: u64,
    ) {
        let group = group.map(|group| format!(",{group}")).unwrap_or_default();
        let text = format!("iscsi://{host}:{port}{group}/{NAME}/{lun:#018x}");
        let first = url(&text);
        proptest::prop_assert_eq!(url(&first.to_string()), first);
    }
}
