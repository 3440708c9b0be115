//! Target port groups: states that change by hook, by command and in time, and who hears of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use std::time::Duration;

use script::{Line, Script, pattern};
use test_target::{
    Alua, Config, Lun, PortGroup, Portal, Told, access_state as state, opcode, status,
};

const SECOND: Duration = Duration::from_secs(1);

fn group(id: u16, state: u8) -> PortGroup {
    PortGroup {
        id,
        state,
        preferred: false,
    }
}

/// Portals 0 and 1 in groups 10 and 20, which are not the portal group tags.
fn config(alua: Alua) -> Config {
    let portal = |tag| Portal {
        address: format!("127.0.0.1:326{tag}"),
        group: tag,
    };
    Config {
        portals: vec![portal(1), portal(2)],
        luns: vec![Lun::default(), Lun::default()],
        alua: Some(Alua {
            group_of_portal: vec![10, 20],
            groups: vec![group(10, state::OPTIMIZED), group(20, state::STANDBY)],
            ..alua
        }),
        ..Config::default()
    }
}

/// Sessions through both portals; the script's line is the first, the second is returned.
fn two(alua: Alua) -> (Script, Line) {
    let mut script = Script::session(config(alua), "");
    let first = script.reconnect(1);
    script.log_in("");
    let second = std::mem::replace(&mut script.line, first);
    (script, second)
}

fn through(script: &mut Script, line: &mut Line, act: impl FnOnce(&mut Script) -> Sense) -> Sense {
    std::mem::swap(&mut script.line, line);
    let result = act(script);
    std::mem::swap(&mut script.line, line);
    result
}

/// Sense key, code and qualifier; zeros with GOOD.
type Sense = (u8, u8, u8);
const GOOD: Sense = (0, 0, 0);
const CHANGED: Sense = (6, 0x2a, 0x06);
const STANDBY: Sense = (2, 0x04, 0x0b);
const TRANSITION: Sense = (2, 0x04, 0x0a);

fn ready(script: &mut Script) -> Sense {
    let pdu = script.test_unit_ready().remove(0);
    assert_eq!(pdu.opcode(), opcode::SCSI_RESPONSE);
    match pdu.header[3] {
        status::GOOD => GOOD,
        _ => (pdu.data[4] & 15, pdu.data[14], pdu.data[15]),
    }
}

fn report(script: &mut Script) -> Vec<u8> {
    let cdb = [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let header = script.command(0xc0, 256, &cdb);
    script.send(header, &[]);
    let pdus = script.receive();
    let data = pdus.iter().filter(|pdu| pdu.opcode() == opcode::DATA_IN);
    data.flat_map(|pdu| pdu.data.clone()).collect()
}

/// SET TARGET PORT GROUPS of one group.
fn set(script: &mut Script, group: u16, state: u8) -> Sense {
    let cdb = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
    let header = script.command(0xa0, 8, &cdb);
    let [high, low] = group.to_be_bytes();
    script.send(header, &[0, 0, 0, 0, state, 0, high, low]);
    let pdu = script.receive().remove(0);
    match pdu.header[3] {
        status::GOOD => GOOD,
        _ => (pdu.data[4] & 15, pdu.data[14], pdu.data[15]),
    }
}

#[test]
fn inquiry_tells_of_groups_and_where_one_came_in() {
    let (mut script, _) = two(Alua::default());
    let inquire = |script: &mut Script, cdb: &[u8]| {
        let header = script.command(0xc0, 255, cdb);
        script.send(header, &[]);
        script.receive().remove(0).data
    };
    let standard = inquire(&mut script, &[0x12, 0, 0, 0, 255, 0]);
    assert_eq!(standard[5] >> 4 & 3, 3);
    let page = inquire(&mut script, &[0x12, 1, 0x83, 0, 255, 0]);
    let designator = |kind: u8, number: u8| {
        let wanted = [0x51, 0x80 | kind, 0, 4, 0, 0, 0, number];
        page.windows(8).any(|bytes| bytes == wanted)
    };
    assert!(designator(0x14, 1), "relative target port 1: {page:02x?}");
    assert!(designator(0x15, 10), "target port group 10: {page:02x?}");
    assert_eq!(
        report(&mut script),
        [
            0, 0, 0, 28, 0x10, 10, 0, 0, // extended header: 10 s
            0x00, 0xcf, 0, 10, 0, 0, 0, 1, 0, 0, 0, 1, // group 10, port 1
            0x02, 0xcf, 0, 20, 0, 0, 0, 1, 0, 0, 0, 2, // group 20, port 2
        ]
    );
    script.assert_innocent();
}

#[test]
fn a_change_is_told_once_to_every_nexus_or_to_those_of_the_group() {
    for (told, first) in [
        (Told::Everybody, CHANGED),
        (Told::Group, GOOD),
        (Told::Nobody, GOOD),
    ] {
        let (mut script, mut second) = two(Alua {
            told,
            ..Alua::default()
        });
        assert_eq!(through(&mut script, &mut second, ready), STANDBY);
        script
            .target
            .set_access_state(Some(0), 20, state::NON_OPTIMIZED);
        // The same again is no change.
        script
            .target
            .set_access_state(Some(0), 20, state::NON_OPTIMIZED);
        let seen = if told == Told::Nobody { GOOD } else { CHANGED };
        assert_eq!(ready(&mut script), first, "{told:?}");
        assert_eq!(ready(&mut script), GOOD);
        assert_eq!(through(&mut script, &mut second, ready), seen, "{told:?}");
        assert_eq!(through(&mut script, &mut second, ready), GOOD);
        // The other logical unit has its own states.
        assert_eq!(script.target.access_state(1, 20), Some(state::STANDBY));
        assert_eq!(report(&mut script)[13 + 12], 2, "altered by the target");
    }
}

#[test]
fn a_command_changes_states_and_tells_all_but_its_sender() {
    let (mut script, mut second) = two(Alua {
        others_become: Some(state::NON_OPTIMIZED),
        ..Alua::default()
    });
    let open = |script: &mut Script| set(script, 20, state::OPTIMIZED);
    assert_eq!(through(&mut script, &mut second, open), GOOD);
    assert_eq!(script.target.access_state(0, 20), Some(state::OPTIMIZED));
    assert_eq!(
        script.target.access_state(0, 10),
        Some(state::NON_OPTIMIZED)
    );
    assert_eq!(through(&mut script, &mut second, ready), GOOD);
    assert_eq!(ready(&mut script), CHANGED);
    assert_eq!(ready(&mut script), GOOD);
    assert_eq!(report(&mut script)[13 + 12], 1, "altered by a command");
    assert_eq!(set(&mut script, 99, 0), (5, 0x26, 0));
    assert_eq!(set(&mut script, 10, 4), (5, 0x26, 0));
    script.target.config_mut().alua.as_mut().unwrap().refuse_set = true;
    assert_eq!(set(&mut script, 10, 0), (4, 0x67, 0x0a));
    script.assert_innocent();
}

#[test]
fn a_transition_takes_its_time_to_the_millisecond() {
    let (mut script, mut second) = two(Alua::default());
    let now = script.now;
    script
        .target
        .begin_transition(now, None, 20, state::OPTIMIZED, SECOND);
    assert_eq!(through(&mut script, &mut second, ready), TRANSITION);
    let open = |script: &mut Script| set(script, 20, state::OPTIMIZED);
    assert_eq!(through(&mut script, &mut second, open), TRANSITION);
    assert_eq!(ready(&mut script), GOOD, "the other group is as it was");
    script.pass(Duration::from_millis(999));
    assert_eq!(through(&mut script, &mut second, ready), TRANSITION);
    script.pass(Duration::from_millis(1));
    assert_eq!(through(&mut script, &mut second, ready), CHANGED);
    assert_eq!(through(&mut script, &mut second, ready), GOOD);
}

#[test]
fn a_write_whose_data_come_too_late_for_the_state_is_refused_and_changes_nothing() {
    let mut script = Script::session(
        config(Alua::default()),
        "InitialR2T=Yes\0ImmediateData=No\0",
    );
    let data = pattern(512);
    let header = script.write_command(true, 7, 1);
    script.send(header, &[]);
    let r2t = script.receive().remove(0);
    assert_eq!(r2t.opcode(), opcode::R2T);
    script.target.set_access_state(None, 10, state::STANDBY);
    let header = script.data_out(r2t.be32(16), r2t.be32(20), 0, 0, true);
    script.send(header, &data);
    let pdu = script.receive().remove(0);
    assert_eq!(pdu.header[3], status::CHECK_CONDITION);
    assert_eq!((pdu.data[4] & 15, pdu.data[14], pdu.data[15]), STANDBY);
    assert!(script.target.journal().is_empty());
    script.assert_innocent();
}

#[test]
fn the_target_tells_all_when_it_fails_to_move() {
    let (mut script, mut second) = two(Alua::default());
    script.target.fail_transition(Some(0));
    assert_eq!(ready(&mut script), (6, 0x2a, 0x07));
    assert_eq!(through(&mut script, &mut second, ready), (6, 0x2a, 0x07));
    assert_eq!(through(&mut script, &mut second, ready), STANDBY);
}
