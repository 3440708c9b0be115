//! Golden bytes, written by hand from the tables of SPC-4.

use super::*;

const KEY: ReservationKey = ReservationKey(0x0102_0304_0506_0708);
const OTHER: ReservationKey = ReservationKey(0x1112_1314_1516_1718);
const KEY_BYTES: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const OTHER_BYTES: [u8; 8] = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];

#[test]
fn types() {
    let codes = [1, 3, 5, 6, 7, 8];
    assert_eq!(ReservationType::ALL.map(ReservationType::code), codes);
    for code in 0..=255 {
        let kind = ReservationType::from_code(code);
        assert_eq!(
            kind.map(ReservationType::code),
            codes.contains(&code).then_some(code)
        );
    }
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    assert_eq!(kind.to_string(), "write exclusive, registrants only");
    assert_eq!(ReservationKey(0x12ab).to_string(), "0x12ab");
}

#[test]
fn registered_keys() {
    let mut data = vec![0, 0, 1, 2, 0, 0, 0, 24];
    for key in [KEY_BYTES, OTHER_BYTES, KEY_BYTES] {
        data.extend_from_slice(&key);
    }
    let keys = RegisteredKeys::parse(&data).unwrap();
    assert_eq!(keys.generation, 0x102);
    assert_eq!(keys.keys, [KEY, OTHER, KEY]);
    assert_eq!(keys.needed_bytes, 32);
    // Cut off by the allocation length.
    let part = RegisteredKeys::parse(&data[..31]).unwrap();
    assert_eq!((part.keys.len(), part.needed_bytes), (2, 32));
    // Bytes behind the length are no keys.
    data[7] = 8;
    assert_eq!(RegisteredKeys::parse(&data).unwrap().keys, [KEY]);
    assert!(RegisteredKeys::parse(&data[..7]).is_err());
}

#[test]
fn reservation() {
    let none = Reservation::parse(&[0, 0, 0, 7, 0, 0, 0, 0]).unwrap();
    assert_eq!((none.generation, none.held), (7, None));
    let mut data = vec![0, 0, 0, 8, 0, 0, 0, 16];
    data.extend_from_slice(&KEY_BYTES);
    data.extend_from_slice(&[0, 0, 0, 0, 0, 0x05, 0, 0]);
    let reservation = Reservation::parse(&data).unwrap();
    let held = HeldReservation {
        key: KEY,
        kind: ReservationType::WriteExclusiveRegistrantsOnly,
    };
    assert_eq!(reservation.held, Some(held));
    assert!(Reservation::parse(&data[..21]).is_err());
    assert!(Reservation::parse(&data[..22]).is_ok());
    for (byte, field) in [(0x15, "SCOPE"), (0x02, "TYPE"), (0x0f, "TYPE")] {
        data[21] = byte;
        let error = Reservation::parse(&data).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn capabilities() {
    // CRH, SIP_C, ATP_C, PTPL_C; TMV, ALLOW COMMANDS 3, PTPL_A; all types.
    let all = Capabilities::parse(&[0, 8, 0x1d, 0xb1, 0xea, 0x01, 0, 0]).unwrap();
    let expected = Capabilities {
        compatible_reserve: true,
        specify_initiator_ports: true,
        all_target_ports: true,
        persist_capable: true,
        persist_active: true,
        allow_commands: 3,
        type_mask: Some(0x01ea),
    };
    assert_eq!(all, expected);
    for kind in ReservationType::ALL {
        assert_eq!(all.supports(kind), Some(true), "{kind}");
    }
    // Only exclusive access of all registrants, the one bit of the second byte.
    let one = Capabilities::parse(&[0, 8, 0, 0x80, 0, 0x01, 0, 0]).unwrap();
    assert!(!one.persist_capable && !one.persist_active && !one.all_target_ports);
    for kind in ReservationType::ALL {
        let is_it = kind == ReservationType::ExclusiveAccessAllRegistrants;
        assert_eq!(one.supports(kind), Some(is_it), "{kind}");
    }
    let silent = Capabilities::parse(&[0, 8, 0x01, 0x01, 0xff, 0xff, 0, 0]).unwrap();
    assert_eq!(silent.supports(ReservationType::WriteExclusive), None);
    assert!(Capabilities::parse(&[0; 7]).is_err());
}

fn registrant(key: [u8; 8], flags: u8, kind: u8, port: u8, name: &[u8; 40]) -> Vec<u8> {
    let mut bytes = key.to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 0, flags, kind, 0, 0, 0, 0, 0, port, 0, 0, 0, 44]);
    bytes.extend_from_slice(&[0x45, 0, 0, 40]);
    bytes.extend_from_slice(name);
    bytes
}

fn full_status() -> Vec<u8> {
    let mut data = vec![0, 0, 0, 9, 0, 0, 0, 136];
    let first = b"iqn.1993-08.org.x:a,i,0x00023d000001\0\0\0\0";
    let second = b"iqn.1993-08.org.x:a,i,0x00023d000002\0\0\0\0";
    data.extend(registrant(KEY_BYTES, 0x01, 0x06, 1, first));
    data.extend(registrant(OTHER_BYTES, 0x02, 0x00, 2, second));
    data
}

fn port(isid: u8) -> TransportId {
    TransportId::iscsi("iqn.1993-08.org.x:a", Some([0, 2, 0x3d, 0, 0, isid])).unwrap()
}

#[test]
fn every_registration() {
    let data = full_status();
    let status = FullStatus::parse(&data).unwrap();
    let expected = [
        Registrant {
            key: KEY,
            all_target_ports: false,
            holds: Some(ReservationType::ExclusiveAccessRegistrantsOnly),
            target_port: 1,
            initiator: port(1),
        },
        Registrant {
            key: OTHER,
            all_target_ports: true,
            holds: None,
            target_port: 2,
            initiator: port(2),
        },
    ];
    assert_eq!((status.generation, status.needed_bytes), (9, 144));
    assert_eq!(status.registrants, expected);
    let part = FullStatus::parse(&data[..143]).unwrap();
    assert_eq!(part.registrants, expected[..1]);
    assert_eq!(part.needed_bytes, 144);
}

#[test]
fn a_registration_that_contradicts_itself_is_refused() {
    // A descriptor too short for the TransportID it says it holds.
    let mut data = full_status();
    data[8 + 23] = 43;
    assert!(FullStatus::parse(&data).is_err());
    // A holder with a type that does not exist.
    let mut data = full_status();
    data[8 + 13] = 0x02;
    assert!(FullStatus::parse(&data).is_err());
    // Who does not hold it has no type to be wrong.
    let mut data = full_status();
    data[8 + 68 + 13] = 0xff;
    assert!(FullStatus::parse(&data).is_ok());
}

/// The descriptor block and the parameter list.
fn golden(out: &PersistentReserveOut) -> (Vec<u8>, Vec<u8>) {
    let (cdb, list) = out.to_command();
    assert_eq!(list.len(), usize::from(cdb.as_slice()[8]));
    (cdb.as_slice().to_vec(), list.to_vec())
}

fn cdb(action: u8, kind: u8, len: u8) -> Vec<u8> {
    vec![0x5f, action, kind, 0, 0, 0, 0, 0, len, 0]
}

fn list(key: [u8; 8], other: [u8; 8], flags: u8) -> Vec<u8> {
    [&key[..], &other, &[0, 0, 0, 0, flags, 0, 0, 0]].concat()
}

#[test]
fn requests_of_24_bytes() {
    let none = [0; 8];
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    let with = Registration {
        persist: true,
        all_target_ports: false,
    };
    let all_ports = Registration {
        persist: false,
        all_target_ports: true,
    };
    let (key, new, victim) = (KEY, OTHER, OTHER);
    for (out, action, kind, expected) in [
        (
            PersistentReserveOut::Register {
                key,
                new,
                with,
                also: Vec::new(),
            },
            0,
            0,
            list(KEY_BYTES, OTHER_BYTES, 0x01),
        ),
        (
            PersistentReserveOut::RegisterAndIgnore {
                new,
                with: all_ports,
            },
            6,
            0,
            list(none, OTHER_BYTES, 0x04),
        ),
        (
            PersistentReserveOut::Reserve { key, kind },
            1,
            5,
            list(KEY_BYTES, none, 0),
        ),
        (
            PersistentReserveOut::Release { key, kind },
            2,
            5,
            list(KEY_BYTES, none, 0),
        ),
        (
            PersistentReserveOut::Clear { key },
            3,
            0,
            list(KEY_BYTES, none, 0),
        ),
        (
            PersistentReserveOut::Preempt { key, victim, kind },
            4,
            5,
            list(KEY_BYTES, OTHER_BYTES, 0),
        ),
        (
            PersistentReserveOut::PreemptAndAbort { key, victim, kind },
            5,
            5,
            list(KEY_BYTES, OTHER_BYTES, 0),
        ),
    ] {
        assert_eq!(golden(&out), (cdb(action, kind, 24), expected), "{out:?}");
    }
}

#[test]
fn registering_for_others() {
    let out = PersistentReserveOut::Register {
        key: ReservationKey::NONE,
        new: KEY,
        with: Registration::default(),
        also: vec![port(1), port(2)],
    };
    let mut expected = list([0; 8], KEY_BYTES, 0x08);
    expected.extend_from_slice(&[0, 0, 0, 88]);
    for name in [
        b"iqn.1993-08.org.x:a,i,0x00023d000001\0\0\0\0",
        b"iqn.1993-08.org.x:a,i,0x00023d000002\0\0\0\0",
    ] {
        expected.extend_from_slice(&[0x45, 0, 0, 40]);
        expected.extend_from_slice(name);
    }
    assert_eq!(golden(&out), (cdb(0, 0, 116), expected));
}

#[test]
fn moving() {
    let out = PersistentReserveOut::RegisterAndMove {
        key: KEY,
        new: OTHER,
        unregister: true,
        persist: true,
        target_port: 0x0203,
        to: port(2),
        kind: ReservationType::WriteExclusive,
    };
    let mut expected = [&KEY_BYTES[..], &OTHER_BYTES, &[0, 0x03, 2, 3, 0, 0, 0, 44]].concat();
    expected.extend_from_slice(&[0x45, 0, 0, 40]);
    expected.extend_from_slice(b"iqn.1993-08.org.x:a,i,0x00023d000002\0\0\0\0");
    assert_eq!(golden(&out), (cdb(7, 1, 68), expected));
}

proptest::proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        let _ = RegisteredKeys::parse(&bytes);
        let _ = Reservation::parse(&bytes);
        let _ = Capabilities::parse(&bytes);
        let _ = FullStatus::parse(&bytes);
    }

    /// A right answer with one byte changed gets further.
    #[test]
    fn nearly_right_bytes(at in 0_usize..144, byte: u8, len in 0_usize..=144) {
        let mut data = full_status();
        data[at] = byte;
        let _ = FullStatus::parse(&data[..len]);
    }
}
