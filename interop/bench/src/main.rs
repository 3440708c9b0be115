//! The bench: our initiator beside libiscsi and beside what TCP allows.
//!
//! `cargo run --release -p iscsi-bench -- --quick` for a minute's worth, without `--quick` for the
//! whole matrix. Without a subcommand it is the runner; the subcommands are the parts that the
//! runner starts in processes of their own, and can be used by hand.

mod child;
mod contender;
mod frames;
mod gather;
mod limit;
mod matrix;
mod measure;
mod null;
mod pdu;
mod report;
mod runner;
mod servers;
mod sessions;
mod svg;
mod tools;

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
    }
}
