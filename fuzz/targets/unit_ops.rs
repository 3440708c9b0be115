//! Any sequence of operations on a logical unit over fake paths, beside a model of what may be on
//! the disk; see `mpio::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mpio::fuzzing::run(input));
