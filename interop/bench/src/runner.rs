//! Runs the contenders in turn.
//!
//! A B A B … instead of A A B B …: what else the machine does then falls on all of them alike,
//! and ratios hold where absolute figures do not.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::child;
use crate::contender::Contender;
use crate::matrix::{self, Cell, Server};
use crate::report::{Report, Row};
use crate::servers::Target;
use crate::svg;
use crate::tools::Tools;

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A minute's worth of cells, short runs.
    #[arg(long)]
    quick: bool,
    /// Only cells whose name contains all of these words, as in `null/randread/4k qd32/`.
    #[arg(long, value_name = "WORDS", default_value = "")]
    filter: String,
    /// Runs of each contender per cell.
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds per run.
    #[arg(long)]
    seconds: Option<f64>,
    /// Run both sides before all other processes (needs root), for a machine that is not idle.
    #[arg(long)]
    realtime: bool,
    /// Limit of each connection of the null target in Mbit/s.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Where to write the result.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to draw IOPS and CPU per I/O over depth.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs the matrix and prints it as it goes.
///
/// # Errors
/// A tool is missing, a run failed, or no cell matches the filter.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let tools = Tools::prepare()?;
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 5 });
    let seconds = args.seconds.unwrap_or(if args.quick { 0.5 } else { 2.0 });
    let mut cells = if args.quick {
        matrix::quick()
    } else {
        matrix::all()
    };
    cells.retain(|cell| {
        let name = cell.name();
        args.filter
            .split_whitespace()
            .all(|word| name.contains(word))
    });
    ensure!(!cells.is_empty(), "no cell matches {:?}", args.filter);
    if args.realtime {
        child::use_realtime();
    }
    let load_before = load();
    say(&format!("{}\nload {load_before}\n", machine()));
    let null = Target::null(&tools, args.rate)?;
    let tgt = if cells.iter().any(|cell| cell.server == Server::Tgt) {
        Some(Target::tgt()?)
    } else {
        None
    };
    let mut rows = Vec::new();
    for cell in cells {
        let target = match cell.server {
            Server::Null => &null,
            Server::Tgt => tgt.as_ref().context("tgtd is not running")?,
        };
        let row = measure(&tools, target, cell, rounds, seconds)?;
        say(&row.text());
        rows.push(row);
    }
    let report = Report {
        machine: machine(),
        load_before,
        load_after: load(),
        rounds,
        seconds,
        rows,
    };
    say(&format!("load {}\n", report.load_after));
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(path) = &args.svg {
        fs::write(path, svg::draw(&report))?;
    }
    Ok(())
}

fn measure(tools: &Tools, target: &Target, cell: Cell, rounds: u32, seconds: f64) -> Result<Row> {
    let mut runs = BTreeMap::new();
    for _ in 0..rounds {
        for contender in Contender::of(&cell) {
            let run = contender
                .run(tools, &target.place, &cell, seconds)
                .with_context(|| format!("{} in {}", contender.name(), cell.name()))?;
            runs.entry(contender).or_insert_with(Vec::new).push(run);
        }
    }
    Ok(Row::new(cell, &runs))
}

/// Processor, number of cores, kernel.
fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// The load averages, which say how far to trust absolute figures.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

#[expect(clippy::print_stdout, reason = "a result")]
fn say(text: &str) {
    println!("{text}");
}
