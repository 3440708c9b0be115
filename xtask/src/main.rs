//! The project's automation, run as `cargo xtask`.
//!
//! `cargo xtask test` is the one command that judges a change: it runs every step of the table in
//! [`steps`], and so does `.ci/run`. The other verbs run single parts of it, with more options.
//!
//! Everything here is plain `std::process` around cargo; nothing in the project depends on this
//! crate, and it depends on none of the others.

#![expect(
    clippy::print_stdout,
    reason = "talking to a person on a terminal is its job"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "it reads our own sources and cargo's output; a panic is report enough"
)]

mod conformance;
mod dependencies;
mod fuzz;
mod instructions;
mod lio_load;
mod packages;
mod process;
mod sim;
mod steps;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Checks, tests, simulates and fuzzes the project"
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run everything that judges a change, and sum it up at the end
    Test(steps::Options),
    /// Check what the compiler cannot: direction of imports, purity of protocol code, file sizes
    Tidy,
    /// Check licences and sources of every dependency against deny.toml
    Dependencies,
    /// Run the simulation; with --seed one run of it
    Sim(sim::Options),
    /// Run the conformance tests and compare docs/conformance.md with what they say
    Conformance(conformance::Options),
    /// Fuzz the parsers, every one of them unless one is named
    Fuzz(fuzz::Options),
    /// Count instructions of the data path and compare them with the snapshot
    Instructions(instructions::Options),
    /// Let everything happen to paths under a verified load on LIO, and print the longest stalls
    LioLoad(lio_load::Options),
    /// Install the Debian packages that the interop tests need (as root)
    Packages,
}

fn main() -> ExitCode {
    let done = match Args::parse().verb {
        Verb::Test(options) => steps::run(&options),
        Verb::Tidy => tidy::run(),
        Verb::Dependencies => dependencies::run(),
        Verb::Sim(options) => sim::run(&options),
        Verb::Conformance(options) => conformance::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Instructions(options) => instructions::run(&options),
        Verb::LioLoad(options) => lio_load::run(&options),
        Verb::Packages => packages::install(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
