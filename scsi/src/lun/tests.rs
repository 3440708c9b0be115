use super::*;

fn lun(value: u64) -> Lun {
    Lun::from_bytes(value.to_be_bytes())
}

#[test]
fn numbers_take_the_encoding_devices_report() {
    for (number, wire) in [
        (0, 0x0000_0000_0000_0000),
        (255, 0x00ff_0000_0000_0000),
        (256, 0x4100_0000_0000_0000),
        (300, 0x412c_0000_0000_0000),
        (16383, 0x7fff_0000_0000_0000),
        (16384, 0xd200_4000_0000_0000),
        (65535, 0xd200_ffff_0000_0000),
    ] {
        assert_eq!(Lun::from_number(number), lun(wire), "{number}");
        assert_eq!(lun(wire).number(), Some(u64::from(number)));
        assert_eq!(lun(wire).to_string(), number.to_string());
    }
    assert_eq!(Lun::flat_space(5), Some(lun(0x4005_0000_0000_0000)));
    assert_eq!(Lun::flat_space(16384), None);
}

#[test]
fn every_addressing_method() {
    let cases = [
        (
            0x0300_0000_0000_0000,
            LunAddress::Peripheral { bus: 3, unit: 0 },
        ),
        (0x4001_0000_0000_0000, LunAddress::FlatSpace(1)),
        (
            0x8a65_0000_0000_0000,
            LunAddress::LogicalUnit {
                target: 0x0a,
                bus: 3,
                unit: 5,
            },
        ),
        (0xc101_0000_0000_0000, LunAddress::WellKnown(1)),
        (
            0xd201_0203_0000_0000,
            LunAddress::ExtendedFlatSpace {
                number: 0x01_0203,
                long: false,
            },
        ),
        (
            0xe201_0203_0405_0000,
            LunAddress::ExtendedFlatSpace {
                number: 0x01_0203_0405,
                long: true,
            },
        ),
        (u64::MAX, LunAddress::NotSpecified),
        (
            0xf500_0000_0000_0000,
            LunAddress::Unknown {
                length: 3,
                method: 5,
            },
        ),
    ];
    for (wire, address) in cases {
        assert_eq!(lun(wire).address(), address, "{wire:016x}");
    }
    assert_eq!(Lun::REPORT_LUNS, Lun::well_known(1));
    assert!(Lun::REPORT_LUNS.is_well_known());
    assert!(!Lun::ZERO.is_well_known());
}

#[test]
fn levels() {
    let three = lun(0x0304_0105_4007_0000);
    let second = three.next_level().unwrap();
    assert_eq!(second, lun(0x0105_4007_0000_0000));
    let third = second.next_level().unwrap();
    assert_eq!(third.number(), Some(7));
    assert_eq!(third.next_level(), None);
    // A number is only given to a LUN of one level.
    assert_eq!(three.number(), None);
    assert_eq!(lun(0x0001_0000_0000_0001).number(), None);
    assert_eq!(Lun::REPORT_LUNS.number(), None);
}

#[test]
fn text() {
    assert_eq!("0".parse(), Ok(Lun::ZERO));
    assert_eq!("300".parse(), Ok(lun(0x412c_0000_0000_0000)));
    assert_eq!("0xC101000000000000".parse(), Ok(Lun::REPORT_LUNS));
    // The same number by another method is another LUN and keeps its digits.
    let flat = lun(0x4005_0000_0000_0000);
    assert_eq!(flat.to_string(), "0x4005000000000000");
    assert_eq!(flat.to_string().parse(), Ok(flat));
    for wrong in [
        "",
        "-1",
        "+1",
        "65536",
        "1 ",
        "0x",
        "0x1",
        "0x00000000000000000",
        "0x+000000000000000",
        "0x000000000000000g",
        "ten",
        "99999999999999999999",
    ] {
        assert!(wrong.parse::<Lun>().is_err(), "{wrong:?}");
    }
}

#[test]
fn list() {
    let mut data = vec![0, 0, 0, 16, 0, 0, 0, 0];
    data.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    data.extend_from_slice(&[0x41, 0x2c, 0, 0, 0, 0, 0, 0]);
    data.extend_from_slice(&[0xee; 8]);
    let list = LunList::parse(&data).unwrap();
    assert_eq!(list.luns, [lun(0x0001 << 48), lun(0x412c << 48)]);
    assert_eq!(list.needed_bytes, 24);
    assert!(list.is_whole(24) && !list.is_whole(23));
}

#[test]
fn list_that_claims_more_than_it_has() {
    let mut data = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    data.extend_from_slice(&[0; 12]);
    let list = LunList::parse(&data).unwrap();
    assert_eq!(list.luns, [Lun::ZERO]);
    assert_eq!(list.needed_bytes, 0x1_0000_0007);
    assert!(!list.is_whole(data.len()));
    assert!(LunList::parse(&data[..7]).is_err());
    assert_eq!(LunList::parse(&[0; 8]).unwrap().luns, []);
}

proptest::proptest! {
    #[test]
    fn text_reads_back(value: u64) {
        let lun = lun(value);
        proptest::prop_assert_eq!(lun.to_string().parse(), Ok(lun));
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        let room = bytes.len() / 8;
        if let Ok(list) = LunList::parse(&bytes) {
            proptest::prop_assert!(list.luns.len() <= room);
        }
    }

    #[test]
    fn any_text(text in ".*") {
        let _ = text.parse::<Lun>();
    }
}
