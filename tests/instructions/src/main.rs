//! Work of a fixed size, for counting the instructions of the data path.
//!
//! `cargo xtask instructions` runs each [`work::Work`] under callgrind and compares the counts per
//! operation with `tests/instructions/counts.txt`. Nothing here depends on time, on randomness or
//! on the order of a hash map, so that the same program gives the same counts.
//!
//! Counted is what happens inside of [`counted_section`] and nothing else: callgrind is told to
//! collect between its entry and its return. Setting up, the target's share and the warm-up stay
//! outside.

#![expect(clippy::print_stdout, reason = "xtask reads it")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is a failed run"
)]

mod codec;
mod core;
mod instantly;
mod multipath;
mod work;

use std::process::ExitCode;

use work::Work;

/// Everything that is counted, by topic.
fn all() -> impl Iterator<Item = &'static Work> {
    codec::WORK.iter().chain(core::WORK).chain(multipath::WORK)
}

/// callgrind collects in here; the name is what `xtask` gives to `--toggle-collect`. Not generic
/// and not inlined, so that there is one function of this name; never nested, since an inner call
/// would end the collecting.
#[inline(never)]
fn counted_section(work: &mut dyn FnMut()) {
    work();
}

/// Without an argument lists the work; with a name does it and says how many operations it was.
fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for work in all() {
            println!("{}", work.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(work) = all().find(|work| work.name == name) else {
        println!("no such work: {name}");
        return ExitCode::FAILURE;
    };
    println!("{}", (work.run)());
    ExitCode::SUCCESS
}
