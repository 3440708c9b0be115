//! Runs the contenders in turn.
//!
//! A B A B … instead of A A B B …: what else the machine does then falls on all of them alike,
//! and ratios hold where absolute figures do not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::docs;
use crate::matrix::{self, Cell, SLOW_MBIT, Server};
use crate::report::{Circumstances, Report, Row};
use crate::servers::Target;
use crate::tools::Tools;
use crate::{child, goals, machine, markdown, network, sessions, svg, verify};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// What the goals need.
    Goals,
    /// Everything.
    Matrix,
    /// A little of everything, to see that it works.
    Smoke,
}

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What the goals need, held against the goals; about eight minutes (the default).
    #[arg(long, group = "profile")]
    goals: bool,
    /// Every size, depth, direction, digest and number of paths; about half an hour.
    #[arg(long, group = "profile")]
    matrix: bool,
    /// A little of everything, to see that it works; about a minute. Figures mean nothing.
    #[arg(long, group = "profile")]
    smoke: bool,
    /// Measure nothing; take the JSON of an earlier run.
    #[arg(long, group = "profile", value_name = "FILE")]
    from: Option<PathBuf>,
    /// Only cells whose name contains all of these words, as in `null/randread/4k qd32/`.
    #[arg(long, value_name = "WORDS", default_value = "")]
    filter: String,
    /// Runs of each contender per cell.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Seconds per run.
    #[arg(long)]
    seconds: Option<f64>,
    /// Run both sides before all other processes (needs root), for a machine that is not idle.
    #[arg(long)]
    realtime: bool,
    /// Where to write the result; `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to write the result as tables.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where to draw IOPS and CPU per I/O over depth.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Replace the generated sections of this document, and draw the picture beside it
    /// (`performance.svg`). Not on a loaded machine.
    #[arg(long, value_name = "FILE")]
    write_docs: Option<PathBuf>,
    /// Write documents in spite of load.
    #[arg(long)]
    loaded: bool,
}

/// A cell and who runs in it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) cell: Cell,
    pub(crate) contenders: Vec<Contender>,
}

/// A machine that is busier makes a document a lie.
const BUSY_MOST: f64 = 0.1;

/// Starting and logging in, per run and roughly.
const OVERHEAD_SECONDS: f64 = 0.2;

/// Measures, or takes what was measured, and writes it wherever it was asked for.
///
/// # Errors
/// A tool is missing, a run failed, data were wrong, or no cell matches the filter.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let report = match &args.from {
        Some(path) => {
            let json = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let mut report: Report = serde_json::from_str(&json)?;
            report.goals = goals_of(&report);
            report
        }
        None => measured(args)?,
    };
    if !report.goals.is_empty() {
        say(&markdown::goals_text(&report.goals));
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        if path == Path::new("-") {
            say(&json);
        } else {
            fs::write(path, json)?;
        }
    }
    if let Some(path) = &args.markdown {
        fs::write(path, markdown::whole(&report))?;
    }
    if let Some(path) = &args.svg {
        fs::write(path, svg::draw(&report))?;
    }
    if let Some(path) = &args.write_docs {
        docs::write(path, &report)?;
    }
    Ok(())
}

fn goals_of(report: &Report) -> Vec<goals::Judged> {
    match report.profile {
        Profile::Goals => goals::judge(report),
        Profile::Matrix | Profile::Smoke => Vec::new(),
    }
}

fn measured(args: &RunArgs) -> Result<Report> {
    let profile = match (args.matrix, args.smoke) {
        (true, _) => Profile::Matrix,
        (_, true) => Profile::Smoke,
        (false, false) => Profile::Goals,
    };
    let load_before = machine::load();
    if args.write_docs.is_some() && !args.loaded {
        let busy = machine::busy()?;
        ensure!(
            busy < BUSY_MOST,
            "the processors are busy for {:.0} %: figures of a loaded machine do not belong into \
             a document (--loaded to write them all the same)",
            busy * 100.0
        );
    }
    // May need the network of the host.
    let tools = Tools::prepare()?;
    network::enter()?;
    if args.realtime {
        child::use_realtime();
    }
    let (rounds, seconds) = match profile {
        Profile::Goals => (5, 0.8),
        Profile::Matrix => (3, 0.5),
        Profile::Smoke => (1, 0.4),
    };
    let rounds = args.rounds.unwrap_or(rounds);
    let seconds = args.seconds.unwrap_or(seconds);
    let plans = planned(profile, &args.filter);
    ensure!(!plans.is_empty(), "no cell matches {:?}", args.filter);
    let runs: usize = plans.iter().map(|plan| plan.contenders.len()).sum();
    let runs = u32::try_from(runs)?.saturating_mul(rounds);
    let estimate = f64::from(runs) * (seconds + OVERHEAD_SECONDS) / 60.0;
    let mut circumstances = circumstances(load_before, rounds, seconds);
    say(&format!(
        "{}\nload {}\n{} cells, {runs} runs, about {estimate:.0} minutes\n",
        circumstances.machine,
        circumstances.load_before,
        plans.len(),
    ));
    // A part that was asked for by name is measured alone.
    let whole = args.filter.is_empty();
    let servers = Servers::start(&tools, &plans, whole)?;
    let mut rows = Vec::new();
    for plan in plans {
        let target = servers.of(&plan.cell)?;
        let row = measure(&tools, target, plan, rounds, seconds)?;
        say(&row.text());
        rows.push(row);
    }
    let (mut sessions, mut verified) = (None, Vec::new());
    if whole {
        sessions = Some(sessions_of(&tools, &servers.null, profile, rounds)?);
        let ios = if profile == Profile::Smoke { 500 } else { 4000 };
        verified = verify::all(&tools, servers.tgt()?, ios)?;
        for done in &verified {
            say(&markdown::verified_line(done));
        }
    }
    circumstances.load_after = machine::load();
    say(&format!("load {}\n", circumstances.load_after));
    let mut report = Report {
        profile,
        circumstances,
        rows,
        sessions,
        verified,
        goals: Vec::new(),
    };
    report.goals = goals_of(&report);
    Ok(report)
}

fn planned(profile: Profile, filter: &str) -> Vec<Plan> {
    let usual = |cell: Cell| Plan {
        contenders: Contender::of(&cell),
        cell,
    };
    let mut plans: Vec<Plan> = match profile {
        Profile::Goals => goals::plan(),
        Profile::Matrix => matrix::all().into_iter().map(usual).collect(),
        Profile::Smoke => matrix::smoke().into_iter().map(usual).collect(),
    };
    plans.retain(|plan| {
        let name = plan.cell.name();
        filter.split_whitespace().all(|word| name.contains(word))
    });
    plans
}

fn sessions_of(
    tools: &Tools,
    null: &Target,
    profile: Profile,
    rounds: u32,
) -> Result<sessions::SessionSummary> {
    let (logins, sessions) = match profile {
        Profile::Smoke => (50, 100),
        Profile::Goals | Profile::Matrix => (1000, 1000),
    };
    let summary = sessions::compare(tools, &null.place, rounds, logins, sessions)?;
    say(&markdown::sessions_text(&summary));
    Ok(summary)
}

/// The targets that the plans need.
struct Servers {
    null: Target,
    slow: Option<Target>,
    tgt: Option<Target>,
}

impl Servers {
    fn start(tools: &Tools, plans: &[Plan], whole: bool) -> Result<Self> {
        let needed = |server| plans.iter().any(|plan| plan.cell.server == server);
        Ok(Self {
            null: Target::null(tools, 0)?,
            slow: if needed(Server::Slow) {
                Some(Target::null(tools, SLOW_MBIT)?)
            } else {
                None
            },
            tgt: if whole || needed(Server::Tgt) {
                Some(Target::tgt()?)
            } else {
                None
            },
        })
    }

    fn of(&self, cell: &Cell) -> Result<&Target> {
        match cell.server {
            Server::Null => Ok(&self.null),
            Server::Slow => self.slow.as_ref().context("not started"),
            Server::Tgt => self.tgt(),
        }
    }

    fn tgt(&self) -> Result<&Target> {
        self.tgt.as_ref().context("tgtd was not started")
    }
}

fn measure(tools: &Tools, target: &Target, plan: Plan, rounds: u32, seconds: f64) -> Result<Row> {
    let Plan { cell, contenders } = plan;
    let mut runs = BTreeMap::new();
    for _ in 0..rounds {
        for contender in &contenders {
            let run = contender
                .run(tools, &target.place, &cell, seconds)
                .with_context(|| format!("{} in {}", contender.name(), cell.name()))?;
            ensure!(
                run.outcome.iops > 0.0 && run.outcome.errors == 0,
                "{} in {}: {:?}",
                contender.name(),
                cell.name(),
                run.outcome
            );
            runs.entry(*contender).or_insert_with(Vec::new).push(run);
        }
    }
    Ok(Row::new(cell, &runs))
}

fn circumstances(load_before: String, rounds: u32, seconds: f64) -> Circumstances {
    Circumstances {
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        commit: machine::said("git", &["describe", "--always", "--dirty"]),
        machine: format!(
            "{}, TCP with {}",
            machine::name(),
            network::congestion_control()
        ),
        libiscsi: machine::said("dpkg-query", &["-W", "-f", "${Version}", "libiscsi7"]),
        load_before,
        load_after: String::new(),
        rounds,
        seconds,
    }
}

#[expect(clippy::print_stdout, reason = "a result")]
fn say(text: &str) {
    println!("{text}");
}
