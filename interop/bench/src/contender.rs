//! Who is measured, and how each is started for a load.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::child::{self, ALL_CORES, INITIATOR_CORE, pinned};
use crate::matrix::{Cell, Digests, Load, READS_OF_100, Server};
use crate::measure::Outcome;
use crate::tools::Tools;

/// Bytes in flight from which on a mixed load locks the limit's loop up; half of that works.
const MIXED_LIMIT: u64 = 16 << 20;

/// One of those that run in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// `iscsi bench`.
    Ours,
    /// `iscsi bench` over one path, beside a run over two.
    OurOnePath,
    /// `iscsi bench` on one thread, beside a run on several.
    OurOneThread,
    /// `iscsi bench` without digests, beside a run with them.
    OurNoDigests,
    /// libiscsi's asynchronous interface in a small loop.
    Libiscsi,
    /// libiscsi's own load generator.
    IscsiPerf,
    /// What TCP allows.
    Limit,
}

/// Where a target is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) portals: Vec<String>,
    pub(crate) target: &'static str,
    pub(crate) lun: u8,
}

impl Place {
    pub(crate) fn url(&self, portal: &str) -> String {
        format!("iscsi://{portal}/{}/{}", self.target, self.lun)
    }

    pub(crate) fn first(&self) -> Result<&str> {
        Ok(self.portals.first().context("a target without a portal")?)
    }
}

/// What one run gave.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) peak_kib: u64,
}

impl Contender {
    /// Those that can run `cell`, in the order of a round.
    ///
    /// Debian's libiscsi has no data digests and no paths; `iscsi-perf` neither digests nor
    /// writes. The limit has one connection, and writes without reading meanwhile: with much in flight
    /// both ways it and the target wait for each other.
    pub(crate) fn of(cell: &Cell) -> Vec<Self> {
        if cell.paths > 1 {
            return vec![Self::Ours, Self::OurOnePath];
        }
        if cell.threads > 1 {
            return vec![Self::Ours, Self::OurOneThread];
        }
        let mut all = vec![Self::Ours];
        if !cell.digests.data() {
            all.push(Self::Libiscsi);
        }
        if !cell.digests.header() && cell.load == Load::Read && cell.server == Server::Null {
            all.push(Self::IscsiPerf);
        }
        if !(cell.load == Load::Mixed && cell.in_flight() >= MIXED_LIMIT) {
            all.push(Self::Limit);
        }
        all
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OurOnePath => "ours, 1 path",
            Self::OurOneThread => "ours, 1 thread",
            Self::OurNoDigests => "ours, no digests",
            Self::Libiscsi => "libiscsi",
            Self::IscsiPerf => "iscsi-perf",
            Self::Limit => "limit",
        }
    }

    /// Runs `cell` once.
    ///
    /// # Errors
    /// The run failed or said something unexpected.
    pub(crate) fn run(
        self,
        tools: &Tools,
        place: &Place,
        cell: &Cell,
        seconds: f64,
    ) -> Result<Run> {
        let mut command = match self {
            Self::Ours => ours(tools, place, cell, seconds),
            Self::OurOnePath => ours(tools, place, &cell.paths(1), seconds),
            Self::OurOneThread => ours(tools, place, &cell.one_thread(), seconds),
            Self::OurNoDigests => ours(tools, place, &cell.digests(Digests::None), seconds),
            Self::Libiscsi => {
                let mut command = pinned(INITIATOR_CORE, &tools.libiscsi_loop);
                command
                    .arg(place.url(place.first()?))
                    .arg(cell.load.name())
                    .arg(cell.bytes.to_string())
                    .arg(cell.depth.to_string())
                    .arg(seconds.to_string());
                if cell.digests.header() {
                    command.arg("header-digest");
                }
                command
            }
            Self::IscsiPerf => {
                let mut command = pinned(INITIATOR_CORE, "iscsi-perf");
                command
                    .args(["-r", "-m", &cell.depth.to_string()])
                    .args(["-b", &(cell.bytes / 512).to_string()])
                    // Whole seconds only.
                    .args(["-t", &seconds.ceil().to_string()])
                    .arg(place.url(place.first()?));
                command
            }
            Self::Limit => limit(tools, place, cell, seconds)?,
        };
        let limit = Duration::from_secs_f64(seconds) + Duration::from_secs(60);
        let ended = child::run(&mut command, limit)?;
        let outcome = if self == Self::IscsiPerf {
            perf_outcome(&ended, cell, seconds.ceil())?
        } else {
            let said = &ended.stdout;
            serde_json::from_str(said).with_context(|| format!("{} said: {said}", self.name()))?
        };
        Ok(Run {
            outcome,
            peak_kib: ended.peak_kib,
        })
    }
}

fn ours(tools: &Tools, place: &Place, cell: &Cell, seconds: f64) -> Command {
    // Several threads run where an application's would: wherever the scheduler puts them.
    let core = if cell.threads > 1 {
        ALL_CORES
    } else {
        INITIATOR_CORE
    };
    let mut command = pinned(core, &tools.iscsi);
    command.arg("bench");
    for portal in place.portals.iter().take(cell.paths.into()) {
        command.arg(place.url(portal));
    }
    command
        .args(["--initiator-name", "iqn.2026-01.org.example:bench"])
        .args(["--rw", cell.load.name()])
        .args(["--bs", &cell.bytes.to_string()])
        .args(["--qd", &cell.depth.to_string()])
        .args(["--time", &format!("{}ms", (seconds * 1000.0).round())])
        .args(["--mix", &READS_OF_100.to_string()])
        .args(["--threads", &cell.threads.to_string()])
        .arg("--json");
    if cell.sharded {
        command.arg("--sharded");
    }
    if cell.digests.header() {
        command.args(["-k", "HeaderDigest=CRC32C"]);
    }
    if cell.digests.data() {
        command.args(["-k", "DataDigest=CRC32C"]);
    }
    command
}

fn limit(tools: &Tools, place: &Place, cell: &Cell, seconds: f64) -> Result<Command> {
    let mut command = pinned(INITIATOR_CORE, &tools.bench);
    command
        .args(["limit", "--portal", place.first()?])
        .args(["--target", place.target])
        .args(["--lun", &place.lun.to_string()])
        .args(["--rw", cell.load.name()])
        .args(["--bs", &cell.bytes.to_string()])
        .args(["--qd", &cell.depth.to_string()])
        .args(["--time", &seconds.to_string()]);
    if cell.digests.header() {
        command.arg("--header-digest");
    }
    if cell.digests.data() {
        command.arg("--data-digest");
    }
    Ok(command)
}

/// The last average that `iscsi-perf` printed; its CPU time is that of its whole life.
fn perf_outcome(ended: &child::Ended, cell: &Cell, seconds: f64) -> Result<Outcome> {
    let iops =
        average(&ended.stdout).with_context(|| format!("iscsi-perf said: {}", ended.stdout))?;
    Ok(Outcome {
        iops,
        bytes_per_second: iops * f64::from(cell.bytes),
        cpu_us_per_io: ended.cpu.as_secs_f64() * 1e6 / (iops * seconds).max(1.0),
        latency_us: None,
        errors: 0,
    })
}

fn average(said: &str) -> Option<f64> {
    let (_, last) = said.rsplit_once("iops average ")?;
    last.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_average_of_iscsi_perf_counts() {
        let said = "00:00:01 - lba 1, iops current 6292 (24 MB/s), iops average 6292 (24 MB/s), \
                    in_flight 32, busy 0        \riops average 4881 (19 MB/s)   \n\nfinished.\n";
        assert_eq!(average(said), Some(4881.0));
        assert_eq!(average("finished."), None);
    }
}
