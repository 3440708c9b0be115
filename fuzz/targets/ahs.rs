//! Any bytes as additional header segments: the walk ends, and stays inside.
#![no_main]

use iscsi::wire::ahs::{Ahs, segments};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut total = 0;
    for segment in segments(bytes) {
        total += match segment {
            Ok(Ahs::ExtendedCdb(part) | Ahs::Unknown { specific: part, .. }) => 3 + part.len(),
            Ok(_) => 8,
            Err(_) => 0,
        };
    }
    assert!(total <= bytes.len());
});
