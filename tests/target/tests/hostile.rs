//! No input makes the target panic, hang in a loop, or answer what it should not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use std::time::Duration;

use proptest::prelude::*;
use script::{NAMES, Script, TARGET};
use test_target::Config;

fn drain(script: &mut Script) {
    let mut sink = Vec::new();
    script
        .target
        .transmit(script.line.id, &mut sink, usize::MAX);
    while script.target.poll_closed().is_some() {}
    script.now += Duration::from_secs(3);
    script.target.handle_timeout(script.now);
}

fn opcode() -> impl Strategy<Value = u8> {
    prop_oneof![
        0_u8..=6,
        Just(0x10),
        Just(0x10),
        0x40_u8..=0x46,
        any::<u8>()
    ]
}

/// A header with plausible numbers, so that checks behind the first one are reached.
fn header() -> impl Strategy<Value = ([u8; 48], Vec<u8>)> {
    let data = prop::collection::vec(any::<u8>(), 0..600);
    (
        prop::array::uniform32(any::<u8>()),
        prop::array::uniform16(any::<u8>()),
        opcode(),
        0_u8..2,
        any::<bool>(),
        data,
    )
        .prop_map(|(front, back, opcode, ahs, known, data)| {
            let mut header = [0; 48];
            header[..32].copy_from_slice(&front);
            header[32..].copy_from_slice(&back);
            header[0] = opcode;
            header[4] = ahs;
            if known {
                header[8..16].fill(0);
                header[16..20].copy_from_slice(&101_u32.to_be_bytes());
                header[24..28].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
                header[28..32].copy_from_slice(&1_u32.to_be_bytes());
                header[32] =
                    [0x28, 0x2a, 0x12, 0x9e, 0x42, 0x89, 0x5a, 0x55][usize::from(back[0]) % 8];
            }
            (header, data)
        })
}

proptest! {
    #[test]
    fn any_bytes_before_login(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut script = Script::new(Config::default());
        for chunk in chunks {
            script.target.receive(script.now, script.line.id, &chunk);
            drain(&mut script);
        }
    }

    #[test]
    fn any_text_in_login(text in prop::collection::vec(any::<u8>(), 0..300), flags in any::<u8>()) {
        let mut script = Script::new(Config::default());
        let whole = [NAMES.as_bytes(), TARGET.as_bytes(), &text].concat();
        let header = script.login_header(flags);
        script.send(header, &whole);
        drain(&mut script);
        let header = script.login_header(0x87);
        script.send(header, &text);
        drain(&mut script);
    }

    #[test]
    fn any_pdus_with_recovery(pdus in prop::collection::vec(header(), 1..16), leave in 0_usize..16) {
        let mut config = Config::default();
        config.keys.error_recovery_level = 2;
        config.keys.max_connections = 4;
        config.keys.time2retain_s = 20;
        let mut script = Script::session(config, "ErrorRecoveryLevel=2\0MaxConnections=4\0");
        for (at, (header, data)) in pdus.into_iter().enumerate() {
            script.send(header, &data);
            if header[4] != 0 {
                script.target.receive(script.now, script.line.id, &[0, 5, 2, 0]);
            }
            drain(&mut script);
            if at == leave {
                let id = script.line.id;
                script.target.peer_closed(script.now, id);
                let old = script.reconnect(0);
                script.line.tsih = old.tsih;
                let text = format!("{NAMES}{TARGET}");
                let header = script.login_header(0x87);
                script.send(header, text.as_bytes());
                drain(&mut script);
            }
        }
        script.reconnect(0);
        script.log_in("");
        prop_assert_eq!(script.test_unit_ready().len(), 1);
    }

    #[test]
    fn any_pdus_in_a_session(pdus in prop::collection::vec(header(), 1..12)) {
        let mut script = Script::plain();
        for (header, data) in pdus {
            script.send(header, &data);
            if header[4] != 0 {
                script.target.receive(script.now, script.line.id, &[0, 5, 2, 0]);
            }
            drain(&mut script);
        }
        // Whatever happened, a new session works. It takes the place of the old one, whose ordered tasks would hold
        // back those of others.
        script.reconnect(0);
        script.log_in("");
        prop_assert_eq!(script.test_unit_ready().len(), 1);
    }
}
