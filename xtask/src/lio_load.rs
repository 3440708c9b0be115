//! `cargo xtask lio-load`: everything that can happen to paths, under a verified load on LIO.
//!
//! The test `storm` of crate `iscsi-interop` owns the logic and the table that it prints.

use anyhow::Result;

use crate::process;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long; whatever was begun is finished
    #[arg(long, default_value_t = 10)]
    minutes: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let seconds = options.minutes.saturating_mul(60);
    let arguments = "test -p iscsi-interop --test lio -- --ignored --nocapture storm::";
    let mut command = process::cargo_with(arguments);
    command.env("LIO_LOAD_SECONDS", seconds.to_string());
    command.env("INTEROP_SHOW", "1");
    process::run(&mut command)
}
