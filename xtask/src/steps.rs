//! `cargo xtask test`: every check and test, as one table.
//!
//! A step that fails does not stop the others, so one run shows everything that is wrong; the
//! summary at the end names each step, how it ended and how long it took. A step that was not run
//! is in the summary, too: nothing is left out silently.
//!
//! To add a step, add a row to [`STEPS`].

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{self, cargo_with};
use crate::{conformance, dependencies, fuzz, instructions, packages, sim, tidy};

struct Step {
    name: &'static str,
    /// What the summary and `--help` say.
    purpose: &'static str,
    run: fn() -> Result<()>,
}

/// Cheap and telling steps come first.
const STEPS: &[Step] = &[
    Step {
        name: "packages",
        purpose: "Debian packages are there",
        run: packages::install,
    },
    Step {
        name: "fmt",
        purpose: "formatting",
        run: fmt,
    },
    Step {
        name: "clippy",
        purpose: "lints, everywhere, as errors",
        run: || cargo("clippy --workspace --all-targets --keep-going -- -D warnings"),
    },
    Step {
        name: "tidy",
        purpose: "house rules",
        run: tidy::run,
    },
    Step {
        name: "dependencies",
        purpose: "licences and sources",
        run: dependencies::run,
    },
    Step {
        name: "doc",
        purpose: "documentation, warnings as errors",
        run: doc,
    },
    Step {
        name: "unit",
        purpose: "unit and integration tests",
        run: || cargo("test --workspace --quiet"),
    },
    Step {
        name: "conformance",
        purpose: "docs/conformance.md says what the tests say",
        run: || conformance::run(&conformance::Options::default()),
    },
    Step {
        name: "oracles",
        purpose: "our codecs against sg3-utils and tshark, our target against strangers",
        run: || cargo("test -p iscsi-scsi -p iscsi -p iscsi-test-target --quiet -- --ignored"),
    },
    Step {
        name: "sim",
        purpose: "1,000 seeds",
        run: || sim::run(&sim::Options::default()),
    },
    Step {
        name: "instructions",
        purpose: "instructions of the data path, against the snapshot",
        run: || instructions::run(&instructions::Options::default()),
    },
    Step {
        name: "fuzz",
        purpose: "a while each",
        run: || fuzz::run(&fuzz::Options::default()),
    },
    Step {
        name: "bench",
        purpose: "every part of the bench for a moment; no figure is judged",
        run: || cargo("run --release --quiet -p iscsi-bench -- --smoke"),
    },
    Step {
        name: "interop",
        purpose: "real targets, foreign initiators",
        run: || cargo("test -p iscsi-interop --quiet -- --ignored --test-threads=4"),
    },
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only these steps
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
    /// Leave these steps out
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    skip: Vec<String>,
}

enum Outcome {
    Passed,
    Failed(anyhow::Error),
    NotRun,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |name: &str| {
        let named = |list: &[String]| list.iter().any(|item| item == name);
        (options.only.is_empty() || named(&options.only)) && !named(&options.skip)
    };
    let mut report = Vec::new();
    for step in STEPS {
        if !wanted(step.name) {
            report.push((step, Outcome::NotRun, Duration::ZERO));
            continue;
        }
        println!("\n==> {}: {}", step.name, step.purpose);
        let (outcome, took) = timed(step.run);
        if let Outcome::Failed(error) = &outcome {
            println!("==> {} FAILED: {error:#}", step.name);
        }
        report.push((step, outcome, took));
    }
    summarize(&report)
}

#[expect(
    clippy::disallowed_methods,
    reason = "timing our own steps, not protocol logic"
)]
fn timed(run: fn() -> Result<()>) -> (Outcome, Duration) {
    let start = Instant::now();
    let outcome = run().map_or_else(Outcome::Failed, |()| Outcome::Passed);
    (outcome, start.elapsed())
}

fn summarize(report: &[(&Step, Outcome, Duration)]) -> Result<()> {
    println!("\nSummary");
    let mut failed = Vec::new();
    for (step, outcome, took) in report {
        let verdict = match outcome {
            Outcome::Passed => "ok",
            Outcome::Failed(_) => {
                failed.push(step.name);
                "FAILED"
            }
            Outcome::NotRun => "not run (as asked)",
        };
        println!(
            "  {:<14}{:>8.1} s  {verdict}",
            step.name,
            took.as_secs_f64()
        );
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("everything that was run passed");
    Ok(())
}

fn step_names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

fn cargo(arguments: &str) -> Result<()> {
    process::run(&mut cargo_with(arguments))
}

fn fmt() -> Result<()> {
    cargo("fmt --all --check")?;
    cargo("fmt --manifest-path fuzz/Cargo.toml --check")
}

fn doc() -> Result<()> {
    let mut command =
        cargo_with("doc --workspace --no-deps --document-private-items --quiet --keep-going");
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}
