#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::disk::inquiry::Entrance;

fn host(number: u8) -> Sender {
    Sender {
        session: number.into(),
        protocol_level: 1,
        initiator_port: format!("iqn.2026-01.x:h{number},i,0x80000000000{number}"),
        entrance: Entrance {
            port_group: 0,
            target_name: String::new(),
            group: 1,
            port: 1,
        },
    }
}

fn cdb(opcode: u8, action: u8, kind: u8) -> Cdb {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2]) = (opcode, action, kind);
    cdb[8] = 24;
    cdb
}

/// Status, or additional sense, and what others feel.
fn out(
    sut: &mut Registry,
    host_number: u8,
    action: u8,
    kind: u8,
    keys: (u64, u64),
) -> Result<(u8, Consequences), Sense> {
    let mut list = keys.0.to_be_bytes().to_vec();
    list.extend(keys.1.to_be_bytes());
    list.resize(24, 0);
    let (reply, then) = sut.change(&cdb(0x5f, action, kind), &list, &host(host_number))?;
    Ok((reply.status, then))
}

fn good(sut: &mut Registry, host: u8, action: u8, kind: u8, keys: (u64, u64)) -> Consequences {
    let (status, then) = out(sut, host, action, kind, keys).unwrap();
    assert_eq!(status, 0);
    then
}

fn refused(sut: &mut Registry, host: u8, action: u8, kind: u8, keys: (u64, u64)) {
    assert_eq!(out(sut, host, action, kind, keys).unwrap().0, 0x18);
}

fn report(sut: &Registry, action: u8) -> Vec<u8> {
    let mut cdb = cdb(0x5e, action, 0);
    cdb[7] = 1;
    sut.report(&cdb).unwrap().data
}

fn passes(sut: &Registry, host_number: u8, opcode: u8) -> bool {
    !sut.conflicts(&host(host_number), &cdb(opcode, 0, 0))
}

fn three() -> Registry {
    let mut sut = Registry::default();
    for number in 1..=3 {
        good(&mut sut, number, 0, 0, (0, 0x10 + u64::from(number)));
    }
    sut
}

#[test]
fn registering_needs_the_key_that_is_there() {
    let mut sut = Registry::default();
    refused(&mut sut, 1, 0, 0, (7, 9));
    good(&mut sut, 1, 0, 0, (0, 9));
    refused(&mut sut, 1, 0, 0, (0, 10));
    good(&mut sut, 1, 6, 0, (0, 10));
    assert_eq!(
        report(&sut, 0),
        [0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 10]
    );
    good(&mut sut, 1, 0, 0, (10, 0));
    good(&mut sut, 1, 0, 0, (0, 0));
    assert_eq!(report(&sut, 0), [0, 0, 0, 3, 0, 0, 0, 0]);
}

#[test]
fn who_passes_a_reservation() {
    const READ: u8 = 0x28;
    const WRITE: u8 = 0x2a;
    // Type, then (holder, registered, stranger) reading and writing.
    let table = [
        (1, [true, true, true], [true, false, false]),
        (3, [true, false, false], [true, false, false]),
        (5, [true, true, true], [true, true, false]),
        (6, [true, true, false], [true, true, false]),
        (7, [true, true, true], [true, true, false]),
        (8, [true, true, false], [true, true, false]),
    ];
    for (kind, reads, writes) in table {
        let mut sut = three();
        good(&mut sut, 1, 1, kind, (0x11, 0));
        let seen = |opcode| [1, 2, 9].map(|number| passes(&sut, number, opcode));
        assert_eq!(seen(READ), reads, "reads under type {kind}");
        assert_eq!(seen(WRITE), writes, "writes under type {kind}");
        for always in [0x00, 0x12, 0x5e, 0x5f, 0xa0] {
            assert_eq!(seen(always), [true; 3]);
        }
    }
}

#[test]
fn only_the_holder_releases_and_the_others_are_told() {
    let mut sut = three();
    good(&mut sut, 1, 1, 5, (0x11, 0));
    refused(&mut sut, 2, 1, 5, (0x12, 0));
    assert_eq!(good(&mut sut, 2, 2, 5, (0x12, 0)), Consequences::default());
    assert!(sut.held.is_some());
    assert_eq!(
        out(&mut sut, 1, 2, 6, (0x11, 0)).unwrap_err(),
        INVALID_RELEASE
    );
    let then = good(&mut sut, 1, 2, 5, (0x11, 0));
    let told: Vec<_> = then
        .attentions
        .iter()
        .map(|(who, sense)| (who.clone(), *sense))
        .collect();
    assert_eq!(
        told,
        [2, 3].map(|number| (NexusName::of(&host(number)), RELEASED))
    );
    assert_eq!(report(&sut, 1), [0, 0, 0, 3, 0, 0, 0, 0]);
}

#[test]
fn a_reservation_ends_with_the_registration_of_its_holder_or_of_all() {
    let mut sut = three();
    good(&mut sut, 1, 1, 5, (0x11, 0));
    let then = good(&mut sut, 1, 0, 0, (0x11, 0));
    assert_eq!(then.attentions.len(), 2);
    assert!(sut.held.is_none());

    let mut sut = three();
    good(&mut sut, 1, 1, 7, (0x11, 0));
    good(&mut sut, 1, 0, 0, (0x11, 0));
    good(&mut sut, 2, 0, 0, (0x12, 0));
    assert!(!passes(&sut, 1, 0x2a) && passes(&sut, 3, 0x2a));
    good(&mut sut, 3, 0, 0, (0x13, 0));
    assert!(passes(&sut, 1, 0x2a));
}

#[test]
fn preempting_the_holder_takes_over() {
    let mut sut = three();
    good(&mut sut, 1, 1, 5, (0x11, 0));
    refused(&mut sut, 2, 4, 5, (0x12, 0x99));
    let then = good(&mut sut, 2, 5, 5, (0x12, 0x11));
    let one = NexusName::of(&host(1));
    assert_eq!(then.aborted, std::slice::from_ref(&one));
    assert_eq!(then.attentions, [(one, REGISTRATIONS_PREEMPTED)]);
    assert!(!passes(&sut, 1, 0x2a) && passes(&sut, 3, 0x2a));
    // READ RESERVATION: key of the new holder, type.
    assert_eq!(
        report(&sut, 1)[8..],
        [0, 0, 0, 0, 0, 0, 0, 0x12, 0, 0, 0, 0, 0, 5, 0, 0]
    );
}

#[test]
fn preempting_another_only_takes_its_registration() {
    let mut sut = three();
    good(&mut sut, 1, 1, 5, (0x11, 0));
    let then = good(&mut sut, 2, 4, 5, (0x12, 0x13));
    assert_eq!(then.aborted, []);
    assert_eq!(sut.holder_key(sut.held.as_ref().unwrap()), 0x11);
    assert!(!passes(&sut, 3, 0x2a));
}

#[test]
fn preempting_oneself_keeps_the_registration() {
    let mut sut = Registry::default();
    for number in 1..=3 {
        good(&mut sut, number, 0, 0, (0, 0x77));
    }
    good(&mut sut, 1, 1, 5, (0x77, 0));
    good(&mut sut, 2, 4, 5, (0x77, 0x77));
    assert_eq!(sut.held.as_ref().unwrap().by, NexusName::of(&host(2)));
    assert!(passes(&sut, 2, 0x2a) && !passes(&sut, 1, 0x2a) && !passes(&sut, 3, 0x2a));
}

#[test]
fn clear_takes_everything_and_tells() {
    let mut sut = three();
    good(&mut sut, 1, 1, 8, (0x11, 0));
    let then = good(&mut sut, 2, 3, 0, (0x12, 0));
    assert_eq!(then.attentions.len(), 2);
    assert!(
        then.attentions
            .iter()
            .all(|(_, sense)| *sense == RESERVATIONS_PREEMPTED)
    );
    assert_eq!(report(&sut, 0), [0, 0, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn full_status_names_the_initiator_port() {
    let mut sut = Registry::default();
    good(&mut sut, 1, 0, 0, (0, 0x11));
    good(&mut sut, 1, 1, 6, (0x11, 0));
    let data = report(&sut, 3);
    let expected = b"iqn.2026-01.x:h1,i,0x800000000001\0\0\0";
    assert_eq!(data[8..16], 0x11_u64.to_be_bytes());
    assert_eq!(data[20..22], [1, 6]);
    assert_eq!(data[26..28], [0, 1]);
    assert_eq!(data[32..36], [0x45, 0, 0, 36]);
    assert_eq!(data[36..], expected[..36]);
}

#[test]
fn what_survives_a_power_cycle() {
    let mut sut = three();
    sut.power_cycle();
    assert!(sut.registrations.is_empty());
    let mut list = vec![0; 8];
    list.extend(5_u64.to_be_bytes());
    list.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    sut.change(&cdb(0x5f, 0, 0), &list, &host(1)).unwrap();
    sut.power_cycle();
    assert_eq!(sut.registrations.len(), 1);
    list[20] = 0x08;
    assert!(sut.change(&cdb(0x5f, 6, 0), &list, &host(1)).is_err());
}
