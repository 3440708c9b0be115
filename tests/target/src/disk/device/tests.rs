use super::*;
use crate::config::Lun;

fn unit() -> Unit {
    Unit::new(
        Disk::new(Lun {
            blocks: 1000,
            ..Lun::default()
        }),
        false,
    )
}

fn run(unit: &mut Unit, cdb: &[u8], data: &[u8]) -> Reply {
    let mut whole = [0; 16];
    whole[..cdb.len()].copy_from_slice(cdb);
    unit.execute(&whole, data, &Sender::default())
}

#[test]
fn write_then_read_in_every_form() {
    let mut unit = unit();
    let block = [0x5a; 512];
    assert_eq!(
        run(&mut unit, &[0x0a, 0, 0, 1, 1, 0], &block).wrote,
        Some((1, 1))
    );
    assert_eq!(
        run(&mut unit, &[0x2a, 0, 0, 0, 0, 2, 0, 0, 1, 0], &block).wrote,
        Some((2, 1))
    );
    assert_eq!(
        run(&mut unit, &[0xaa, 8, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0], &block).wrote,
        Some((3, 1))
    );
    let write16 = [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0];
    assert_eq!(run(&mut unit, &write16, &block).wrote, Some((4, 1)));
    assert_eq!(
        run(&mut unit, &[0x08, 0, 0, 1, 4, 0], &[]).data,
        vec![0x5a; 2048]
    );
    let read16 = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0];
    assert_eq!(
        run(&mut unit, &read16, &[]).data,
        [vec![0x5a; 512], vec![0; 512]].concat()
    );
}

#[test]
fn ranges_are_kept() {
    let mut unit = unit();
    let reply = run(&mut unit, &[0x28, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0], &[]);
    assert_eq!(reply.sense, Some(Sense::LBA_OUT_OF_RANGE));
    let wrap = [
        0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0, 0,
    ];
    assert_eq!(
        run(&mut unit, &wrap, &[]).sense,
        Some(Sense::LBA_OUT_OF_RANGE)
    );
    assert_eq!(
        run(&mut unit, &[0x28, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0], &[]).status,
        status::GOOD
    );
}

#[test]
fn refusals_have_their_codes() {
    let mut unit = unit();
    assert_eq!(
        run(&mut unit, &[0xc1], &[]).sense,
        Some(Sense::INVALID_OPCODE)
    );
    assert_eq!(
        run(&mut unit, &[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], &[]).sense,
        Some(Sense::cdb_field(1))
    );
    assert_eq!(
        run(&mut unit, &[0x12, 0, 0x80, 0, 255, 0], &[]).sense,
        Some(Sense::cdb_field(2))
    );
}

#[test]
fn short_data_writes_whole_blocks_only() {
    let mut unit = unit();
    assert_eq!(
        run(&mut unit, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 2, 0], &[7; 700]).wrote,
        Some((9, 1))
    );
    assert_eq!(
        run(&mut unit, &[0x08, 0, 0, 10, 1, 0], &[]).data,
        vec![0; 512]
    );
}

#[test]
fn verify_finds_the_offset() {
    let mut unit = unit();
    let mut data = vec![0; 1024];
    let verify = [0x2f, 0x02, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(run(&mut unit, &verify, &data).status, status::GOOD);
    data[600] = 1;
    let sense = run(&mut unit, &verify, &data).sense.unwrap();
    assert_eq!((sense.key, sense.information), (0x0e, Some(600)));
}

#[test]
fn mode_select_turns_descriptor_sense_on() {
    let mut unit = unit();
    let sense = run(&mut unit, &[0x1a, 8, 0x0a, 0, 255, 0], &[]).data;
    assert_eq!(sense.len(), 16);
    let mut list = sense;
    list[0] = 0;
    list[2] = 0;
    list[6] |= 4;
    assert_eq!(
        run(&mut unit, &[0x15, 0x10, 0, 0, 16, 0], &list).status,
        status::GOOD
    );
    assert!(unit.mode.descriptor_sense);
}

#[test]
fn a_reset_keeps_the_contents() {
    let mut unit = unit();
    run(&mut unit, &[0x0a, 0, 0, 1, 1, 0], &[3; 512]);
    run(&mut unit, &[0x1b, 0, 0, 0, 0, 0], &[]);
    assert_eq!(run(&mut unit, &[0x00], &[]).sense, Some(Sense::NOT_READY));
    unit.reset(false);
    assert_eq!(
        run(&mut unit, &[0x08, 0, 0, 1, 1, 0], &[]).data,
        vec![3; 512]
    );
}
