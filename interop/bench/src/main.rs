//! The bench: our initiator beside libiscsi and beside what TCP allows.
//!
//! `cargo run --release -p iscsi-bench` measures what the goals need and says which are met,
//! `-- --matrix` measures everything, `-- --smoke` shows in a minute that all of it works.
//! `docs/performance.md` says how it is measured. Without a subcommand it is the runner; the
//! subcommands are the parts that the runner starts in processes of their own, and can be used by
//! hand.

mod child;
mod contender;
mod docs;
mod frames;
mod gather;
mod goals;
mod limit;
mod machine;
mod markdown;
mod matrix;
mod measure;
mod network;
mod null;
mod pdu;
mod report;
mod runner;
mod servers;
mod sessions;
mod svg;
mod tools;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    about = "Measures our initiator beside libiscsi and beside what TCP allows",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: runner::RunArgs,
}

/// The parts of the bench that run in processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// A target that does no work.
    NullTarget(null::NullArgs),
    /// The load without a library.
    Limit(limit::LimitArgs),
    /// Login rate and memory per session.
    Sessions(sessions::SessionsArgs),
    /// A mixed load with every byte checked.
    Verify(verify::VerifyArgs),
}

#[expect(clippy::print_stdout, reason = "a result")]
fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.part {
        None => runner::run(&cli.run),
        Some(Part::NullTarget(args)) => null::run(&args),
        Some(Part::Limit(args)) => {
            println!("{}", serde_json::to_string(&limit::run(&args)?)?);
            Ok(())
        }
        Some(Part::Sessions(args)) => sessions::run(&args),
        Some(Part::Verify(args)) => verify::run(&args),
    }
}
