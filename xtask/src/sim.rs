//! `cargo xtask sim`: the simulation of crate `iscsi-tests`, which owns the logic and the output.

use anyhow::Result;

use crate::process;

/// Seeds that a change must survive.
const SEEDS_OF_A_CHANGE: u32 = 1000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = SEEDS_OF_A_CHANGE)]
    seeds: u32,
    /// Run only this seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Print what happens
    #[arg(long, requires = "seed")]
    trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seeds: SEEDS_OF_A_CHANGE,
            seed: None,
            trace: false,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = process::cargo_with("run --release --quiet -p iscsi-tests --bin sim --");
    match options.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => command.args(["--seeds", &options.seeds.to_string()]),
    };
    if options.trace {
        command.arg("--trace");
    }
    process::run(&mut command)
}
