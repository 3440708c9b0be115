//! The goals: what must be how much better than what, and whether it is.
//!
//! All are ratios of figures from one run, so that they mean something on any machine, except
//! memory and the rate of logins.

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::matrix::{Cell, Digests, K4, K64, K256, Load, M1, Server};
use crate::report::{Figure, Report};
use crate::runner::Plan;
use crate::sessions::SessionSummary;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Iops,
    Cpu,
    P50,
    P99,
    /// Our p99 to our p50.
    Tail,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
use Bound::{AtLeast, AtMost};

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(bound) => value >= bound,
            AtMost(bound) => value <= bound,
        }
    }

    /// How far off, as a part of the bound.
    fn missed_by(self, value: f64) -> f64 {
        match self {
            AtLeast(bound) => (bound - value) / bound,
            AtMost(bound) => (value - bound) / bound,
        }
    }

    fn text(self) -> String {
        match self {
            AtLeast(bound) => format!("≥ {bound}"),
            AtMost(bound) => format!("≤ {bound}"),
        }
    }
}

/// Ours in `cell`, compared with `than` in the same cell.
#[derive(Debug, Clone, Copy)]
struct Goal {
    cell: Cell,
    what: What,
    than: Contender,
    bound: Bound,
}

/// A goal and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) workload: String,
    pub(crate) goal: String,
    /// `×`, `KiB`, `/s`; nothing for a count.
    pub(crate) unit: String,
    /// `None`: not measured.
    pub(crate) figure: Option<Figure>,
    pub(crate) met: bool,
    /// As a part of the bound; 0 when met.
    pub(crate) missed_by: f64,
}

fn goals() -> Vec<Goal> {
    let mut goals = Vec::new();
    against_libiscsi(&mut goals);
    against_ourselves(&mut goals);
    goals
}

fn add(goals: &mut Vec<Goal>, cell: Cell, rows: &[(What, Contender, Bound)]) {
    goals.extend(rows.iter().map(|&(what, than, bound)| Goal {
        cell,
        what,
        than,
        bound,
    }));
}

fn against_libiscsi(goals: &mut Vec<Goal>) {
    use Contender::{Libiscsi, Limit};
    use What::{Cpu, Iops, P50, P99};
    let small = [
        (Load::Read, 32, 1.6, 0.85, 0.45),
        (Load::Write, 32, 3.0, 0.85, 0.25),
        (Load::Read, 128, 4.0, 0.75, 0.25),
        (Load::Write, 128, 4.0, 0.8, 0.25),
    ];
    for (load, depth, faster, of_limit, cpu) in small {
        let rows = [
            (Iops, Libiscsi, AtLeast(faster)),
            (Iops, Limit, AtLeast(of_limit)),
            (Cpu, Libiscsi, AtMost(cpu)),
        ];
        add(goals, Cell::plain(load, K4, depth), &rows);
    }
    for load in [Load::Read, Load::Write] {
        let rows = [
            (P50, Libiscsi, AtMost(1.05)),
            // At depth 1 the limit is a bare ping-pong.
            (P50, Limit, AtMost(1.15)),
            (P99, Libiscsi, AtMost(1.0)),
        ];
        add(goals, Cell::plain(load, K4, 1), &rows);
    }
    for bytes in [K256, M1] {
        for load in [Load::Read, Load::Write] {
            for depth in [1, 8, 32, 128] {
                let rows = [
                    (Iops, Libiscsi, AtLeast(1.0)),
                    (Cpu, Libiscsi, AtMost(0.95)),
                ];
                add(goals, Cell::plain(load, bytes, depth), &rows);
            }
        }
    }
}

fn against_ourselves(goals: &mut Vec<Goal>) {
    use Contender::{OurNoDigests, OurOnePath, OurOneThread};
    use What::{Iops, Tail};
    let both = |load, bytes, depth| Cell::plain(load, bytes, depth).digests(Digests::Both);
    for (cell, bound) in [
        (both(Load::Read, K4, 32), 0.85),
        (both(Load::Read, M1, 8), 0.8),
        (both(Load::Write, M1, 8), 0.8),
    ] {
        add(goals, cell, &[(Iops, OurNoDigests, AtLeast(bound))]);
    }
    let slow = Cell::plain(Load::Read, K64, 32).server(Server::Slow);
    for (cell, bound) in [
        (Cell::plain(Load::Read, K4, 32), 1.0),
        (Cell::plain(Load::Write, K4, 32), 1.0),
        (slow, 1.9),
    ] {
        add(goals, cell.paths(2), &[(Iops, OurOnePath, AtLeast(bound))]);
    }
    let many = |depth| Cell::plain(Load::Read, K4, depth).threads(2);
    for (one, deep) in [(many(1), many(32)), (many(1).sharded(), many(32).sharded())] {
        add(goals, one, &[(Tail, OurOneThread, AtMost(3.0))]);
        add(goals, deep, &[(Iops, OurOneThread, AtLeast(0.8))]);
    }
}

/// The cells that the goals need, and those of the picture.
pub(crate) fn plan() -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let mut want = |cell: Cell, contenders: &[Contender]| {
        let known = plans.iter().position(|plan| plan.cell == cell);
        let at = known.unwrap_or_else(|| {
            plans.push(Plan {
                cell,
                contenders: vec![Contender::Ours],
            });
            plans.len() - 1
        });
        if let Some(plan) = plans.get_mut(at) {
            plan.contenders.extend(contenders);
            plan.contenders.sort_unstable();
            plan.contenders.dedup();
        }
    };
    for goal in goals() {
        want(goal.cell, &[goal.than]);
    }
    // libiscsi's own program beside our loop over libiscsi: neither must be slower.
    want(Cell::plain(Load::Read, K4, 32), &[Contender::IscsiPerf]);
    for load in [Load::Read, Load::Write] {
        let picture = [Contender::Libiscsi, Contender::Limit];
        want(Cell::plain(load, K4, 8), &picture);
        for bytes in [K256, M1] {
            want(Cell::plain(load, bytes, 8), &picture);
        }
    }
    for (load, bytes) in [(Load::Read, K4), (Load::Read, M1), (Load::Write, M1)] {
        let depth = if bytes == K4 { 32 } else { 8 };
        let cell = Cell::plain(load, bytes, depth).digests(Digests::Both);
        want(cell, &[Contender::Limit]);
    }
    plans
}

/// Holds the report against the goals.
pub(crate) fn judge(report: &Report) -> Vec<Judged> {
    let of_cells = goals().into_iter().map(|goal| {
        let figure = measured(report, &goal);
        let (what, than) = (goal.what.text(), goal.than.name());
        let text = match goal.what {
            What::Tail => format!("{what} {} × p50", goal.bound.text()),
            What::Iops | What::Cpu | What::P50 | What::P99 => {
                format!("{what} {} × {than}", goal.bound.text())
            }
        };
        judged(workload(&goal.cell), text, "×", figure, goal.bound)
    });
    of_cells
        .chain(of_sessions(report.sessions.as_ref()))
        .collect()
}

fn measured(report: &Report, goal: &Goal) -> Option<Figure> {
    let row = report.row(&goal.cell)?;
    if goal.what == What::Tail {
        return row.results.get(&Contender::Ours)?.tail;
    }
    let ratio = row.ratios.get(&goal.than)?;
    match goal.what {
        What::Iops => Some(ratio.iops),
        What::Cpu => Some(ratio.cpu_us_per_io),
        What::P50 => ratio.p50_us,
        What::P99 => ratio.p99_us,
        What::Tail => None,
    }
}

fn of_sessions(sessions: Option<&SessionSummary>) -> Vec<Judged> {
    let one = |value: f64| Figure {
        median: value,
        min: value,
        max: value,
    };
    let row = |workload: &str, text: &str, unit, figure: Option<Figure>, bound: Bound| {
        let goal = format!("{text} {} {unit}", bound.text());
        judged(
            workload.to_owned(),
            goal.trim_end().to_owned(),
            unit,
            figure,
            bound,
        )
    };
    let memory = "memory";
    vec![
        row(
            memory,
            "sessions to one target in one process",
            "",
            sessions.map(|s| one(s.sessions.into())),
            AtLeast(1000.0),
        ),
        row(
            memory,
            "per idle session beyond the first",
            "KiB",
            sessions.map(|s| one(s.kib_per_further_session)),
            AtMost(64.0),
        ),
        row(
            memory,
            "per session that was used and is idle again",
            "KiB",
            sessions.map(|s| one(s.kib_per_used_session)),
            AtMost(64.0),
        ),
        row(
            "logins in sequence, no CHAP",
            "logins",
            "/s",
            sessions.map(|s| s.logins_per_second),
            AtLeast(1000.0),
        ),
        row(
            "logins in sequence, no CHAP",
            "to libiscsi's",
            "×",
            sessions.map(|s| s.to_libiscsi),
            AtLeast(1.0),
        ),
    ]
}

impl What {
    const fn text(self) -> &'static str {
        match self {
            Self::Iops => "IOPS",
            Self::Cpu => "CPU per I/O",
            Self::P50 => "p50",
            Self::P99 | Self::Tail => "p99",
        }
    }
}

fn judged(
    workload: String,
    goal: String,
    unit: &str,
    figure: Option<Figure>,
    bound: Bound,
) -> Judged {
    let met = figure.is_some_and(|figure| bound.holds(figure.median));
    let missed_by = match figure {
        Some(figure) if !met => bound.missed_by(figure.median),
        Some(_) | None => 0.0,
    };
    Judged {
        workload,
        goal,
        unit: unit.to_owned(),
        figure,
        met,
        missed_by,
    }
}

/// A cell as people call it.
fn workload(cell: &Cell) -> String {
    let load = match cell.load {
        Load::Read => "read",
        Load::Write => "write",
        Load::Mixed => "70/30 mix",
    };
    let size = match cell.bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    };
    let mut text = format!("{size} {load}, depth {}", cell.depth);
    if cell.digests.data() {
        text.push_str(", both digests");
    }
    if cell.paths > 1 {
        text.push_str(", two paths");
    }
    if cell.server == Server::Slow {
        text.push_str(" of 100 Mbit/s");
    }
    if cell.threads > 1 {
        text.push_str(", multi-thread runtime");
    }
    if cell.sharded {
        text.push_str(", sessions sharded");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_missed_beyond() {
        let judge = |value: f64, bound| {
            let figure = Figure::of(vec![value]);
            let judged = judged(String::new(), String::new(), "×", figure, bound);
            (judged.met, judged.missed_by)
        };
        assert_eq!(judge(1.5, AtLeast(1.5)), (true, 0.0));
        assert_eq!(judge(1.0, AtLeast(2.0)), (false, 0.5));
        assert_eq!(judge(0.25, AtMost(0.25)), (true, 0.0));
        assert_eq!(judge(0.75, AtMost(0.5)), (false, 0.5));
        let unmeasured = judged(String::new(), String::new(), "", None, AtMost(1.0));
        assert!(!unmeasured.met, "what was not measured is not met");
    }

    #[test]
    fn the_plan_has_what_every_goal_compares() {
        let plan = plan();
        for goal in goals() {
            let planned = plan.iter().find(|plan| plan.cell == goal.cell).unwrap();
            assert!(planned.contenders.contains(&goal.than), "{goal:?}");
            assert!(planned.contenders.contains(&Contender::Ours));
        }
    }
}
