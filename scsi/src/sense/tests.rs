use super::*;

fn parse(bytes: &[u8]) -> SenseData {
    SenseData::parse(bytes).unwrap()
}

#[test]
fn fixed_of_eighteen_bytes() {
    let data = parse(&[
        0xf0, 0, 0x25, 0, 0, 0x10, 0x20, 10, 0, 0, 0, 7, 0x24, 0, 3, 0xcd, 0, 2,
    ]);
    let expected = SenseData {
        format: SenseFormat::Fixed,
        deferred: false,
        key: SenseKey::ILLEGAL_REQUEST,
        code: AdditionalSense::INVALID_FIELD_IN_CDB,
        information: Some(0x1020),
        command_specific: Some(7),
        key_specific: Some(KeySpecific::FieldPointer {
            in_cdb: true,
            bit: Some(5),
            byte: 2,
        }),
        replaceable_unit: Some(3),
        filemark: false,
        end_of_medium: false,
        incorrect_length: true,
        overflow: false,
    };
    assert_eq!(data, expected);
    assert_eq!(
        data.to_string(),
        "ILLEGAL REQUEST (5h), INVALID FIELD IN CDB (24h/00h), information 0x1020, \
         byte 2 bit 5 of the CDB"
    );
    assert!(data.is(SenseKey(5), AdditionalSense::new(0x24, 0)));
}

#[test]
fn plain_display() {
    let data = parse(&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0]);
    assert_eq!(
        data.to_string(),
        "ILLEGAL REQUEST (5h), LOGICAL UNIT NOT SUPPORTED (25h/00h)"
    );
}

#[test]
fn fixed_of_every_length() {
    let whole = [
        0xf1, 0, 0xd4, 1, 2, 3, 4, 10, 5, 6, 7, 8, 0x44, 0, 9, 0x80, 1, 2,
    ];
    assert!(SenseData::parse(&[]).is_err());
    assert!(SenseData::parse(&whole[..2]).is_err());
    let three = parse(&whole[..3]);
    assert!(three.deferred && three.filemark && three.end_of_medium && three.overflow);
    assert_eq!(three.key, SenseKey::HARDWARE_ERROR);
    assert_eq!(three.information, None);
    assert_eq!(parse(&whole[..6]).information, None);
    assert_eq!(parse(&whole[..7]).information, Some(0x0102_0304));
    assert_eq!(parse(&whole[..11]).command_specific, None);
    assert_eq!(parse(&whole[..13]).code, AdditionalSense::new(0x44, 0));
    assert_eq!(parse(&whole[..14]).replaceable_unit, None);
    assert_eq!(parse(&whole[..17]).key_specific, None);
    assert_eq!(
        parse(&whole).key_specific,
        Some(KeySpecific::RetryCount(0x0102))
    );
}

#[test]
fn fixed_beyond_its_own_length_is_not_read() {
    // Additional length 4: bytes 12 and on are not sense data.
    let data = parse(&[
        0x70, 0, 5, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x25, 1, 9, 0xc0, 0, 1,
    ]);
    assert_eq!(data.code, AdditionalSense::NONE);
    assert_eq!((data.replaceable_unit, data.key_specific), (None, None));
    // Without VALID the information field does not count.
    assert_eq!(parse(&[0x70, 0, 3, 0, 0, 0, 9]).information, None);
}

#[test]
fn descriptors_are_walked_with_the_right_stride() {
    let sense = [
        0x72, 0x05, 0x26, 0x02, 0x80, 0, 0, 40, // header, SDAT_OVFL
        0x00, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2, // information
        0x80, 0x02, 0xee, 0xee, // a vendor's
        0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, // command specific
        0x02, 0x06, 0, 0, 0x8b, 0, 8, 0, // sense key specific
        0x03, 0x02, 0, 4, // field replaceable unit
        0x04, 0x02, 0, 0xff, // behind the additional length
    ];
    let data = parse(&sense);
    let expected = SenseData {
        format: SenseFormat::Descriptor,
        deferred: false,
        key: SenseKey::ILLEGAL_REQUEST,
        code: AdditionalSense::new(0x26, 2),
        information: Some(0x1_0000_0002),
        command_specific: Some(9),
        key_specific: Some(KeySpecific::FieldPointer {
            in_cdb: false,
            bit: Some(3),
            byte: 8,
        }),
        replaceable_unit: Some(4),
        filemark: false,
        end_of_medium: false,
        incorrect_length: false,
        overflow: true,
    };
    assert_eq!(data, expected);
    let kinds: Vec<u8> = descriptors(&sense)
        .map(|descriptor| descriptor.kind)
        .collect();
    assert_eq!(kinds, [0, 0x80, 1, 2, 3]);
    // Cut in the middle of a descriptor: those before it stay.
    assert_eq!(parse(&sense[..30]).information, Some(0x1_0000_0002));
    assert_eq!(parse(&sense[..30]).command_specific, None);
}

#[test]
fn stream_and_block_descriptors() {
    let stream = parse(&[0x73, 0, 0, 1, 0, 0, 0, 4, 0x04, 2, 0, 0xe0]);
    assert!(stream.deferred && stream.filemark);
    assert!(stream.end_of_medium && stream.incorrect_length);
    let block = parse(&[0x72, 3, 0x11, 0, 0, 0, 0, 4, 0x05, 2, 0, 0x20]);
    assert!(block.incorrect_length && !block.filemark);
}

#[test]
fn direct_access_descriptor() {
    let mut sense = vec![0x72, 0x03, 0x11, 0x00, 0, 0, 0, 32, 0x0d, 0x1e, 0xa0, 0];
    sense.extend_from_slice(&[0x80, 0, 5, 6]);
    sense.extend_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
    sense.extend_from_slice(&0x1112_1314_1516_1718_u64.to_be_bytes());
    sense.extend_from_slice(&[0; 8]);
    assert_eq!(sense.len(), 40);
    let data = parse(&sense);
    assert_eq!(data.information, Some(0x0102_0304_0506_0708));
    assert_eq!(data.command_specific, Some(0x1112_1314_1516_1718));
    assert_eq!(data.key_specific, Some(KeySpecific::RetryCount(5)));
    assert_eq!(data.replaceable_unit, Some(6));
    assert!(data.incorrect_length);
}

#[test]
fn short_descriptor_format() {
    assert!(SenseData::parse(&[0x72]).is_err());
    let data = parse(&[0x72, 0x06, 0x29]);
    assert_eq!(data.key, SenseKey::UNIT_ATTENTION);
    assert_eq!(data.code, AdditionalSense::POWER_ON_OR_RESET);
    // A descriptor of length 0 and one cut off after its type.
    let data = parse(&[0x72, 6, 0x2a, 9, 0, 0, 0, 3, 0x00, 0x00, 0x01]);
    assert_eq!(data.code, AdditionalSense::CAPACITY_CHANGED);
    assert_eq!((data.information, data.command_specific), (None, None));
}

#[test]
fn key_specific_by_key() {
    let of = |key, bytes| KeySpecific::parse(SenseKey(key), bytes);
    assert_eq!(of(2, [0x80, 0x80, 0]), Some(KeySpecific::Progress(0x8000)));
    assert_eq!(KeySpecific::Progress(0x8000).to_string(), "50 % done");
    assert_eq!(
        of(6, [0x81, 0, 0]),
        Some(KeySpecific::UnitAttentionOverflow(true))
    );
    assert_eq!(
        of(0xa, [0xa0, 0, 3]),
        Some(KeySpecific::SegmentPointer {
            in_segment: true,
            bit: None,
            byte: 3
        })
    );
    // Without SKSV, and for a key that defines nothing.
    assert_eq!(of(5, [0x40, 0, 1]), None);
    assert_eq!(of(0xb, [0x80, 0, 1]), None);
}

#[test]
fn unknown_response_codes() {
    for code in [0x00, 0x6f, 0x74, 0x7f, 0xff] {
        assert_eq!(
            SenseData::parse(&[code; 18]),
            Err(ParseError::BadField {
                what: "sense data",
                field: "RESPONSE CODE",
                value: u64::from(code & 0x7f)
            })
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes(mut bytes: Vec<u8>, code in 0x70_u8..=0x73) {
        let _ = SenseData::parse(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = code;
        }
        if let Ok(data) = SenseData::parse(&bytes) {
            let _ = data.to_string();
        }
        let total: usize = descriptors(&bytes).map(|descriptor| descriptor.bytes.len() + 2).sum();
        proptest::prop_assert!(total <= bytes.len());
    }
}
