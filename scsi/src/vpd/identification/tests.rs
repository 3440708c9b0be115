use super::*;

/// Page 83h out of descriptors: code set and protocol, flags and type, designator.
fn page(descriptors: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (b0, b1, bytes) in descriptors {
        body.extend_from_slice(&[*b0, *b1, 0, u8::try_from(bytes.len()).unwrap()]);
        body.extend_from_slice(bytes);
    }
    let mut page = vec![0, 0x83];
    page.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    page.extend_from_slice(&body);
    page
}

fn parse(descriptors: &[(u8, u8, &[u8])]) -> Vec<Designator> {
    DeviceIdentification::parse(&page(descriptors))
        .unwrap()
        .designators
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of all types")]
fn every_type() {
    let long: [u8; 16] = [0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let cases: [(u8, &[u8], DesignatorId, &str); 12] = [
        (
            1,
            b"ACME    serial 1",
            DesignatorId::T10Vendor {
                vendor: "ACME".to_owned(),
                id: b"serial 1"[..].into(),
            },
            "t10.ACME:serial 1",
        ),
        (
            2,
            &long[..8],
            DesignatorId::Eui64(Eui64::Plain([0x60, 1, 2, 3, 4, 5, 6, 7])),
            "eui.6001020304050607",
        ),
        (
            2,
            &long[..12],
            DesignatorId::Eui64(Eui64::WithDirectory([
                0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
            ])),
            "eui.600102030405060708090a0b",
        ),
        (
            2,
            &long,
            DesignatorId::Eui64(Eui64::WithExtension(long)),
            "eui.600102030405060708090a0b0c0d0e0f",
        ),
        (
            3,
            &long,
            DesignatorId::Naa(Naa::RegisteredExtended(long)),
            "naa.600102030405060708090a0b0c0d0e0f",
        ),
        (
            3,
            &[0x50, 1, 2, 3, 4, 5, 6, 7],
            DesignatorId::Naa(Naa::Registered([0x50, 1, 2, 3, 4, 5, 6, 7])),
            "naa.5001020304050607",
        ),
        (
            4,
            &[0, 0, 0x12, 0x34],
            DesignatorId::RelativeTargetPort(0x1234),
            "relative target port 4660",
        ),
        (
            5,
            &[0, 0, 0, 2],
            DesignatorId::TargetPortGroup(2),
            "target port group 2",
        ),
        (
            6,
            &[0, 0, 0, 3],
            DesignatorId::LogicalUnitGroup(3),
            "logical unit group 3",
        ),
        (
            7,
            &long,
            DesignatorId::Md5(long),
            "md5.600102030405060708090a0b0c0d0e0f",
        ),
        (
            8,
            b"iqn.2024-01.test:disk\0\0\0",
            DesignatorId::ScsiName("iqn.2024-01.test:disk".to_owned()),
            "iqn.2024-01.test:disk",
        ),
        (
            0xa,
            &[
                0x10, 0, 0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
            ],
            DesignatorId::Uuid(long),
            "uuid.600102030405060708090a0b0c0d0e0f",
        ),
    ];
    for (kind, bytes, id, text) in cases {
        let found = parse(&[(1, kind, bytes)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, id);
        assert_eq!(*found[0].bytes, *bytes);
        assert_eq!(found[0].to_string(), text);
    }
}

#[test]
fn association_code_set_and_protocol() {
    let port = [0, 0, 0, 1];
    let found = parse(&[
        (0x01, 0x03, &[0x31, 0, 0, 0, 0, 0, 0, 1]),
        (0x51, 0x94, &port),
        (0x53, 0xa8, b"iqn.x\0\0\0"),
        (0x01, 0x34, &port),
        // PIV does not count for a logical unit; without PIV there is no protocol.
        (0x52, 0x81, b"ACME    "),
        (0x51, 0x15, &[0, 0, 0, 7]),
    ]);
    let seen: Vec<_> = found
        .iter()
        .map(|designator| {
            (
                designator.association,
                designator.code_set,
                designator.protocol,
            )
        })
        .collect();
    use Association::{LogicalUnit, Reserved, TargetDevice, TargetPort};
    use CodeSet::{Ascii, Binary, Utf8};
    assert_eq!(
        seen,
        [
            (LogicalUnit, Binary, None),
            (TargetPort, Binary, Some(5)),
            (TargetDevice, Utf8, Some(5)),
            (Reserved, Binary, None),
            (LogicalUnit, Ascii, None),
            (TargetPort, Binary, None),
        ]
    );
    let identification = DeviceIdentification { designators: found };
    assert_eq!(identification.relative_target_port(), Some(1));
    assert_eq!(identification.target_port_group(), Some(7));
    assert_eq!(identification.of(LogicalUnit).count(), 2);
}

#[test]
fn what_contradicts_its_type_stays_raw() {
    let cases: [(u8, &[u8]); 9] = [
        (0, b"anything"),
        (1, b"short"),
        (2, &[0; 9]),
        (3, &[0x60; 8]),
        (3, &[]),
        (4, &[0, 1]),
        (8, &[0xff, 0xfe]),
        (8, b"iqn.\x1b[2J"),
        (0xa, &[0x20; 18]),
    ];
    for (kind, bytes) in cases {
        let found = parse(&[(1, kind, bytes), (1, 5, &[0, 0, 0, 9])]);
        assert_eq!(found[0].id, DesignatorId::Other, "{kind} {bytes:?}");
        assert_eq!(*found[0].bytes, *bytes);
        assert_eq!(found[1].id, DesignatorId::TargetPortGroup(9));
    }
    assert_eq!(
        parse(&[(1, 0xf, &[0xab, 0xcd])])[0].to_string(),
        "type fh: abcd"
    );
}

#[test]
fn cut_and_lying_pages() {
    let mut data = page(&[(1, 5, &[0, 0, 0, 1]), (1, 5, &[0, 0, 0, 2])]);
    let whole = data.len();
    let count = |data: &[u8]| DeviceIdentification::parse(data).unwrap().designators.len();
    assert_eq!(count(&data), 2);
    assert_eq!(count(&data[..whole - 1]), 1);
    assert_eq!(count(&data[..4]), 0);
    // The page's length ends within the second designator.
    data[3] -= 1;
    assert_eq!(count(&data), 1);
    assert!(DeviceIdentification::parse(&data[..3]).is_err());
    data[1] = 0x80;
    assert!(DeviceIdentification::parse(&data).is_err());
}

proptest::proptest! {
    #[test]
    fn any_bytes(mut bytes: Vec<u8>) {
        use crate::vpd::{SupportedPages, UnitSerialNumber};
        for code in [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2] {
            if let Some(page) = bytes.get_mut(1) {
                *page = code;
            }
            let _ = SupportedPages::parse(&bytes);
            let _ = UnitSerialNumber::parse(&bytes);
            let _ = crate::vpd::limits::BlockLimits::parse(&bytes);
            let _ = crate::vpd::characteristics::BlockDeviceCharacteristics::parse(&bytes);
            let _ = crate::vpd::provisioning::LogicalBlockProvisioning::parse(&bytes);
            if let Ok(identification) = DeviceIdentification::parse(&bytes) {
                for designator in identification.designators {
                    let _ = designator.to_string();
                }
            }
        }
    }
}
