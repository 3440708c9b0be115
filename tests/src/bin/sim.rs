//! Runs seeds of the simulation and tells which ones fail.
//!
//! `sim --seeds N` runs the seeds 0 to N-1; `sim --seed S` runs one, with `--trace` event by event.
//! `--asymmetric` has target port groups in every seed; `--haunted` takes the scenario of writes from
//! the past instead of the general one.

#![allow(clippy::print_stdout, reason = "a program")]

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use world::sweep::{self, Summary};
use world::{Report, Sabotage, Scenario};

/// Failures shown in full.
const SHOWN: usize = 10;

#[derive(Debug, Default)]
struct Options {
    seeds: Option<u64>,
    seed: Option<u64>,
    from: u64,
    trace: bool,
    haunted: bool,
    asymmetric: bool,
    sabotage: bool,
}

fn main() -> Result<ExitCode> {
    let options = parse(std::env::args().skip(1))?;
    let make = |seed| {
        let mut scenario = if options.haunted {
            Scenario::haunted(seed)
        } else if options.asymmetric {
            Scenario::asymmetric(seed)
        } else {
            Scenario::random(seed)
        };
        if options.sabotage {
            scenario.sabotage = Sabotage::LyingFence;
        }
        scenario
    };
    let failures = match options.seed {
        Some(seed) => {
            let report = sweep::run(make(seed), options.trace);
            println!(
                "seed {seed}: {} events in {:.1} s, hash {:016x}",
                report.events,
                report.took.as_secs_f64(),
                report.hash
            );
            println!("{:?}", report.tally);
            if report.problems.is_empty() {
                Vec::new()
            } else {
                vec![report]
            }
        }
        None => {
            let summary = sweep::sweep(options.from, options.seeds.unwrap_or(1000), make);
            describe(&summary);
            summary.failures
        }
    };
    for report in failures.iter().take(SHOWN) {
        show(report, &options);
    }
    Ok(match failures.len() {
        0 => ExitCode::SUCCESS,
        count => {
            println!("{count} seeds failed");
            ExitCode::FAILURE
        }
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64> {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} needs a number"))?;
            value.parse().with_context(|| format!("{argument} {value}"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = Some(number()?),
            "--seed" => options.seed = Some(number()?),
            "--from" => options.from = number()?,
            "--trace" => options.trace = true,
            "--haunted" => options.haunted = true,
            "--asymmetric" => options.asymmetric = true,
            "--lying-fence" => options.sabotage = true,
            _ => bail!(
                "unknown argument {argument}; known: --seeds N, --from N, --seed S, --trace, --haunted, --asymmetric, --lying-fence"
            ),
        }
    }
    Ok(options)
}

fn describe(summary: &Summary) {
    println!(
        "{} runs, {:.0} s of virtual time, {} events, {} failures",
        summary.runs,
        summary.took.as_secs_f64(),
        summary.events,
        summary.failures.len()
    );
    println!("{:?}", summary.tally);
}

fn show(report: &Report, options: &Options) {
    println!("\nseed {} fails:", report.seed);
    for problem in &report.problems {
        println!("  {problem}");
    }
    let kind = match (options.haunted, options.asymmetric) {
        (true, _) => " --haunted",
        (false, true) => " --asymmetric",
        (false, false) => "",
    };
    println!(
        "  again: cargo run --release -p iscsi-tests --bin sim -- --seed {} --trace{kind}",
        report.seed
    );
}
