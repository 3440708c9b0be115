//! The report as tables for people.

use std::fmt::Write as _;

use crate::contender::Contender;
use crate::goals::Judged;
use crate::report::{Circumstances, Figure, Ratio, Report, Row, Summary};
use crate::sessions::SessionSummary;
use crate::verify::Verified;

/// Everything that the report has.
pub(crate) fn whole(report: &Report) -> String {
    let mut text = circumstances(&report.circumstances);
    if !report.goals.is_empty() {
        let _ = write!(text, "\n{}", goals(&report.goals));
    }
    if let Some(sessions) = &report.sessions {
        let _ = write!(text, "\n{}", sessions_text(sessions));
    }
    for done in &report.verified {
        let _ = write!(text, "\n{}", verified_line(done));
    }
    let _ = write!(text, "\n\n{}", rows(&report.rows));
    text
}

/// Where, when and how.
pub(crate) fn circumstances(of: &Circumstances) -> String {
    format!(
        "`iscsi-bench {}` at commit {}: {}; Debian's libiscsi {}; {} rounds of {} s; load average \
         {} before, {} after.\n",
        of.command,
        of.commit,
        of.machine,
        of.libiscsi,
        of.rounds,
        of.seconds,
        of.load_before,
        of.load_after,
    )
}

/// The goals as a table.
pub(crate) fn goals(goals: &[Judged]) -> String {
    let met = goals.iter().filter(|goal| goal.met).count();
    let mut text = format!("{met} of {} goals are met.\n\n", goals.len());
    text.push_str("| workload | goal | measured (least..most of a round) | |\n|---|---|---|---|\n");
    for goal in goals {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            goal.workload,
            goal.goal,
            measured(goal),
            if goal.met { "met" } else { "**missed**" },
        );
    }
    text
}

/// The goals for a terminal.
pub(crate) fn goals_text(goals: &[Judged]) -> String {
    let mut text = String::new();
    for goal in goals {
        let verdict = if goal.met { "met   " } else { "MISSED" };
        let (workload, wanted) = (&goal.workload, &goal.goal);
        let _ = writeln!(
            text,
            "{verdict}  {workload:<45} {wanted:<48} {}",
            measured(goal)
        );
    }
    let met = goals.iter().filter(|goal| goal.met).count();
    let _ = writeln!(text, "{met} of {} goals are met", goals.len());
    text
}

fn measured(goal: &Judged) -> String {
    let Some(figure) = goal.figure else {
        return "not measured".to_owned();
    };
    let digits = if figure.median.abs() >= 100.0 { 0 } else { 2 };
    let mut text = format!("{:.digits$}", figure.median);
    if figure.min < figure.max {
        let _ = write!(text, " ({:.digits$}..{:.digits$})", figure.min, figure.max);
    }
    if !goal.unit.is_empty() {
        let _ = write!(text, " {}", goal.unit);
    }
    if !goal.met {
        let _ = write!(text, ", off by {:.0} %", goal.missed_by * 100.0);
    }
    text
}

/// All cells, one line per contender.
pub(crate) fn rows(rows: &[Row]) -> String {
    let mut text = String::from(
        "| cell | who | IOPS (least..most) | GB/s | CPU µs per I/O | p50 µs | p99 µs | MiB \
         | ours to it: IOPS | CPU |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let mut name = row.name.as_str();
        for (contender, result) in &row.results {
            line(
                &mut text,
                name,
                *contender,
                result,
                row.ratios.get(contender),
            );
            name = "";
        }
    }
    text
}

fn line(text: &mut String, name: &str, who: Contender, result: &Summary, ratio: Option<&Ratio>) {
    let with_ends = |figure: Figure, digits: usize| {
        format!(
            "{:.digits$} ({:.digits$}..{:.digits$})",
            figure.median, figure.min, figure.max
        )
    };
    let micros = |figure: Option<Figure>| {
        figure.map_or_else(|| "–".to_owned(), |figure| format!("{:.1}", figure.median))
    };
    let (iops, cpu) = ratio.map_or_else(Default::default, |ratio| {
        let times = |figure: Figure| format!("{:.2}×", figure.median);
        (times(ratio.iops), times(ratio.cpu_us_per_io))
    });
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {:.2} | {} | {} | {} | {:.1} | {iops} | {cpu} |",
        who.name(),
        with_ends(result.iops, 0),
        result.bytes_per_second.median / 1e9,
        with_ends(result.cpu_us_per_io, 2),
        micros(result.p50_us),
        micros(result.p99_us),
        result.peak_kib.median / 1024.0,
    );
}

/// What sessions cost.
pub(crate) fn sessions_text(of: &SessionSummary) -> String {
    let rate = |figure: Figure| {
        format!(
            "{:.0} ({:.0}..{:.0})",
            figure.median, figure.min, figure.max
        )
    };
    format!(
        "Logins per second in sequence: ours {}, libiscsi {}. With {} sessions in one process: \
         {:.1} KiB per idle session beyond the first, {:.1} KiB per session that was used at depth \
         32 with 64 KiB and is idle again.\n",
        rate(of.logins_per_second),
        rate(of.libiscsi_logins_per_second),
        of.sessions,
        of.kib_per_further_session,
        of.kib_per_used_session,
    )
}

/// What was checked.
pub(crate) fn verified_line(of: &Verified) -> String {
    format!(
        "Checked against tgtd, {} path(s), {}: {} reads and {} writes of 4 KiB, 64 KiB and 1 MiB \
         ({} MiB), and what tgtd stored; all right.\n",
        of.paths,
        if of.digests {
            "both digests"
        } else {
            "no digests"
        },
        of.reads,
        of.writes,
        of.bytes >> 20,
    )
}
