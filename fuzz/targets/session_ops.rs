//! Any sequence of operations on a session against the test target, beside a model of what may
//! become of them; see `world::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| world::operations::run(input));
