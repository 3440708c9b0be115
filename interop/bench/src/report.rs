//! Medians with their spread, ratios, and the JSON and the lines made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::contender::{Contender, Run};
use crate::goals::Judged;
use crate::matrix::Cell;
use crate::runner::Profile;
use crate::sessions::SessionSummary;
use crate::verify::Verified;

/// A figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Figure {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// What one contender did in a cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) iops: Figure,
    pub(crate) bytes_per_second: Figure,
    /// CPU time of the initiator.
    pub(crate) cpu_us_per_io: Figure,
    pub(crate) p50_us: Option<Figure>,
    pub(crate) p99_us: Option<Figure>,
    /// p99 divided by p50, run by run.
    pub(crate) tail: Option<Figure>,
    /// Most memory resident, in KiB.
    pub(crate) peak_kib: Figure,
    pub(crate) errors: u64,
}

impl Summary {
    /// `None` without a run.
    #[expect(clippy::cast_precision_loss, reason = "KiB for display")]
    pub(crate) fn of(runs: &[Run]) -> Option<Self> {
        let all = |value: fn(&Run) -> f64| Figure::of(runs.iter().map(value).collect());
        let latency = |value: fn(&crate::measure::Latency) -> f64| {
            let known = runs
                .iter()
                .filter_map(|run| run.outcome.latency_us.as_ref());
            Figure::of(known.map(value).collect())
        };
        Some(Self {
            iops: all(|run| run.outcome.iops)?,
            bytes_per_second: all(|run| run.outcome.bytes_per_second)?,
            cpu_us_per_io: all(|run| run.outcome.cpu_us_per_io)?,
            p50_us: latency(|known| known.p50),
            p99_us: latency(|known| known.p99),
            tail: latency(|known| known.p99 / known.p50),
            peak_kib: all(|run| run.peak_kib as f64)?,
            errors: runs.iter().map(|run| run.outcome.errors).sum(),
        })
    }
}

/// Ours divided by another's: by medians, with the least and the greatest ratio of one round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) iops: Figure,
    pub(crate) cpu_us_per_io: Figure,
    pub(crate) p50_us: Option<Figure>,
    pub(crate) p99_us: Option<Figure>,
}

impl Ratio {
    fn of(ours: &[Run], other: &[Run]) -> Option<Self> {
        let by = |value: fn(&Run) -> Option<f64>| {
            let of = |runs: &[Run]| -> Vec<f64> { runs.iter().filter_map(value).collect() };
            let (ours, other) = (of(ours), of(other));
            let rounds = ours.iter().zip(&other).map(|(a, b)| a / b).collect();
            let median = Figure::of(ours)?.median / Figure::of(other)?.median;
            Some(Figure {
                median,
                ..Figure::of(rounds)?
            })
        };
        Some(Self {
            iops: by(|run| Some(run.outcome.iops))?,
            cpu_us_per_io: by(|run| Some(run.outcome.cpu_us_per_io))?,
            p50_us: by(|run| run.outcome.latency_us.map(|latency| latency.p50)),
            p99_us: by(|run| run.outcome.latency_us.map(|latency| latency.p99)),
        })
    }
}

/// A cell and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) cell: Cell,
    pub(crate) results: BTreeMap<Contender, Summary>,
    /// Ours to each of the others.
    pub(crate) ratios: BTreeMap<Contender, Ratio>,
}

impl Row {
    pub(crate) fn new(cell: Cell, runs: &BTreeMap<Contender, Vec<Run>>) -> Self {
        let results: BTreeMap<_, _> = runs
            .iter()
            .filter_map(|(contender, runs)| Some((*contender, Summary::of(runs)?)))
            .collect();
        let ours = runs.get(&Contender::Ours);
        let ratios = runs
            .iter()
            .filter(|(contender, _)| **contender != Contender::Ours)
            .filter_map(|(contender, other)| Some((*contender, Ratio::of(ours?, other)?)))
            .collect();
        Self {
            name: cell.name(),
            cell,
            results,
            ratios,
        }
    }

    /// Lines of the table: one per contender.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.name);
        for (contender, result) in &self.results {
            let micros = |figure: Option<Figure>| {
                figure.map_or_else(|| "-".to_owned(), |figure| format!("{:.1}", figure.median))
            };
            let iops = result.iops;
            let cpu = result.cpu_us_per_io;
            let ratio = self
                .ratios
                .get(contender)
                .map_or_else(String::new, |ratio| {
                    format!(
                        "ours: {:.2}x IOPS, {:.2}x CPU",
                        ratio.iops.median, ratio.cpu_us_per_io.median
                    )
                });
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  {:<16}{:>9.0} IOPS ({:.0}..{:.0}) {:>6.2} GB/s {:>8.2} us CPU ({:.2}..{:.2}) \
                 p50 {:>7} p99 {:>8} {:>6.1} MiB  {ratio}",
                contender.name(),
                iops.median,
                iops.min,
                iops.max,
                result.bytes_per_second.median / 1e9,
                cpu.median,
                cpu.min,
                cpu.max,
                micros(result.p50_us),
                micros(result.p99_us),
                result.peak_kib.median / 1024.0,
            );
            if result.errors > 0 {
                let _ = writeln!(text, "  {:<16}{} ERRORS", "", result.errors);
            }
        }
        text
    }
}

/// Where and when it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    /// The command line.
    pub(crate) command: String,
    /// Of our sources.
    pub(crate) commit: String,
    pub(crate) machine: String,
    pub(crate) libiscsi: String,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
}

/// Everything, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) profile: Profile,
    pub(crate) circumstances: Circumstances,
    pub(crate) rows: Vec<Row>,
    pub(crate) sessions: Option<SessionSummary>,
    /// What the run with checked data did; it fails the whole bench when data are wrong.
    pub(crate) verified: Vec<Verified>,
    pub(crate) goals: Vec<Judged>,
}

impl Report {
    /// What came of `cell`.
    pub(crate) fn row(&self, cell: &Cell) -> Option<&Row> {
        self.rows.iter().find(|row| row.cell == *cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Outcome;

    #[test]
    fn medians_lie_between_the_ends() {
        let figure = |values: &[f64]| Figure::of(values.to_vec()).map(|f| (f.min, f.median, f.max));
        assert_eq!(figure(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(figure(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(figure(&[]), None);
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_spread_of_rounds() {
        let run = |iops: f64| Run {
            outcome: Outcome {
                iops,
                bytes_per_second: 0.0,
                cpu_us_per_io: 2.0,
                latency_us: None,
                errors: 0,
            },
            peak_kib: 1,
        };
        let ours = [30.0, 60.0, 40.0].map(run);
        let other = [10.0, 30.0, 20.0].map(run);
        let ratio = Ratio::of(&ours, &other).unwrap();
        let Figure { median, min, max } = ratio.iops;
        assert_eq!((min, median, max), (2.0, 2.0, 3.0));
        assert!(ratio.p50_us.is_none());
    }
}
