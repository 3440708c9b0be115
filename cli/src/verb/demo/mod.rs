//! `iscsi demo`: the whole thing in a few seconds, against the embedded target on loopback.
//!
//! Two portals, two paths, one logical unit; one path is cut while writes are in flight, and
//! comes back. At the end everything is read back and compared, and the target says whether it
//! saw the initiator break a rule of RFC 7143.

mod load;
mod pattern;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use initiator::{Initiator, IscsiName, LogicalUnit, Lun, Portal, PortalSpec, TargetSpec};
use serde::Serialize;
use test_target::{Config, Server};

use self::load::{CHUNK_BYTES, Deed, IN_FLIGHT, Tally};
use crate::connect::{Context, with_target};
use crate::exit::Failure;
use crate::output;
use crate::render::table::table;
use crate::size::human;
use crate::view::{self, PathRow};

/// Runs the verb.
///
/// # Errors
/// Anything that goes wrong, data that differ, a rule the target saw broken.
pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let stage = Stage::new(context.output.json);
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    // Time2Wait is how long a lost session must be left alone; the default of 2 s is no fun to watch.
    let mut config = Config::default();
    config.keys.time2wait_s = 0;
    let server = Server::start(config, &[loopback, loopback])
        .await
        .context("the embedded target did not start")?;
    let result = context
        .interrupt
        .guard(play(context, &stage, &server))
        .await;
    server.shutdown().await;
    let report = result?;
    if context.output.json {
        output::print_json(&report)?;
    } else {
        output::print(&report.text())?;
    }
    report.judge()
}

async fn play(context: &Context, stage: &Stage, server: &Server) -> anyhow::Result<Report> {
    let portals: Vec<Portal> = server
        .local_addrs()
        .iter()
        .map(|addr| Portal::from(*addr))
        .collect();
    let [first, second] = portals.as_slice() else {
        anyhow::bail!("two portals expected")
    };
    stage.tell(&format!(
        "a target with an in-memory disk listens at {first} and {second}"
    ))?;

    let name: IscsiName = INITIATOR_NAME.parse()?;
    let initiator = Initiator::builder(name).build()?;
    let found = initiator.discover(first).await?;
    let target = found.first().context("discovery lists no target")?;
    stage.tell(&format!(
        "discovery at {first}: {} over {} portals",
        target.name,
        target.portals.len()
    ))?;

    let spec = TargetSpec {
        name: target.name.clone(),
        portals: target
            .portals
            .iter()
            .map(|(portal, group)| PortalSpec {
                portal: portal.clone(),
                group: *group,
            })
            .collect(),
        all_portals: false,
    };
    with_target(context, &initiator, spec, async |target| {
        anyhow::ensure!(
            target.warnings().is_empty(),
            "not every portal could be logged in to"
        );
        let unit = target.logical_unit(Lun::ZERO).await?;
        let result = show(stage, server, &unit).await;
        unit.close().await;
        result
    })
    .await
}

/// The story itself.
async fn show(stage: &Stage, server: &Server, unit: &LogicalUnit) -> anyhow::Result<Report> {
    stage.tell("logged in over both; each path leads to the same logical unit:")?;
    stage.show(&view::tree(unit).render())?;

    let third = CHUNKS / 3;
    stage.tell(&format!(
        "writing {}, {IN_FLIGHT} writes in flight",
        human(CHUNKS * CHUNK_BYTES)
    ))?;
    let before = load::run(unit, Deed::Write, 0..third, nothing()).await?;
    let mut cut_at = Instant::now();
    let cut = async {
        server.cut(CUT).await?;
        cut_at = Instant::now();
        Ok(())
    };
    let during = load::run(unit, Deed::Write, third..2 * third, cut).await?;
    stage.tell("cut one path in the middle: its connection was reset, its port refuses; writing went on over the other:")?;
    stage.show(&view::tree(unit).render())?;

    server.restore(CUT).await?;
    let outage = wait_for_paths(unit, cut_at).await?;
    stage.tell(&format!(
        "brought it back; the path is in use again {:.1} s after the cut",
        outage.as_secs_f64()
    ))?;
    let after = load::run(unit, Deed::Write, 2 * third..CHUNKS, nothing()).await?;
    unit.flush().await.context("flush")?;
    let written = before.and(during).and(after);
    stage.tell(&format!(
        "wrote the rest over both and flushed; {} writes acknowledged",
        written.chunks
    ))?;

    let read = load::run(unit, Deed::Compare, 0..CHUNKS, nothing()).await?;
    let verdict = if read.difference.is_none() {
        "every byte is as written"
    } else {
        "DATA DIFFER"
    };
    stage.tell(&format!("read everything back: {verdict}"))?;
    stage.show(&view::tree(unit).render())?;
    Ok(Report::new(
        unit,
        &written,
        &read,
        during.slowest,
        outage,
        server,
    ))
}

#[expect(clippy::unused_async, reason = "stands where a future belongs")]
async fn nothing() -> anyhow::Result<()> {
    Ok(())
}

/// Waits until every path carries I/O again; gives the time since the cut.
async fn wait_for_paths(unit: &LogicalUnit, cut_at: Instant) -> anyhow::Result<Duration> {
    let all_back = async {
        // Polling, because a missed event would end the demo with a wrong claim.
        while !view::paths(&unit.topology()).iter().all(|path| path.usable) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_back)
        .await
        .context("the path did not come back")?;
    Ok(cut_at.elapsed())
}

/// Tells the story with the time since it began; silent when JSON is asked for.
struct Stage {
    begun: Instant,
    quiet: bool,
}

impl Stage {
    fn new(quiet: bool) -> Self {
        Self {
            begun: Instant::now(),
            quiet,
        }
    }

    fn tell(&self, line: &str) -> anyhow::Result<()> {
        self.show(&format!(
            "[{:5.2} s] {line}\n",
            self.begun.elapsed().as_secs_f64()
        ))
    }

    fn show(&self, text: &str) -> anyhow::Result<()> {
        if self.quiet {
            Ok(())
        } else {
            output::print(text)
        }
    }
}

/// The numbers; the serialized form is the JSON output.
#[derive(Debug, Serialize)]
struct Report {
    bytes: u64,
    write_bytes_per_second: f64,
    read_bytes_per_second: f64,
    /// The longest any write waited while a path was lost.
    slowest_write_during_cut_ms: f64,
    path_back_after_ms: f64,
    first_difference: Option<u64>,
    violations: Vec<String>,
    paths: Vec<PathRow>,
}

impl Report {
    fn new(
        unit: &LogicalUnit,
        written: &Tally,
        read: &Tally,
        slowest: Duration,
        outage: Duration,
        server: &Server,
    ) -> Self {
        Self {
            bytes: written.chunks * CHUNK_BYTES,
            write_bytes_per_second: written.rate(),
            read_bytes_per_second: read.rate(),
            slowest_write_during_cut_ms: slowest.as_secs_f64() * 1e3,
            path_back_after_ms: outage.as_secs_f64() * 1e3,
            first_difference: read.difference,
            violations: server
                .violations()
                .iter()
                .map(ToString::to_string)
                .collect(),
            paths: view::paths(&unit.topology()),
        }
    }

    fn text(&self) -> String {
        let facts = [
            (
                "written",
                format!(
                    "{}, {:.0} MB/s",
                    human(self.bytes),
                    self.write_bytes_per_second / 1e6
                ),
            ),
            (
                "read back",
                format!(
                    "{}, {:.0} MB/s",
                    human(self.bytes),
                    self.read_bytes_per_second / 1e6
                ),
            ),
            (
                "longest wait of a write",
                format!(
                    "{:.0} ms, while the path was lost",
                    self.slowest_write_during_cut_ms
                ),
            ),
            (
                "path back after",
                format!("{:.0} ms", self.path_back_after_ms),
            ),
            (
                "bytes that differ",
                if self.first_difference.is_none() {
                    "none".to_owned()
                } else {
                    "SOME".to_owned()
                },
            ),
            (
                "rules the target saw broken",
                match self.violations.len() {
                    0 => "none".to_owned(),
                    n => format!("{n}: {}", self.violations.join("; ")),
                },
            ),
        ];
        let rows = facts.map(|(name, value)| vec![name.to_owned(), value]);
        table(&["result", ""], rows, &[])
    }

    fn judge(&self) -> anyhow::Result<()> {
        if let Some(offset) = self.first_difference {
            let place = "the demo's disk".to_owned();
            return Err(Failure::Verification { offset, place }.into());
        }
        if let Some(first) = self.violations.first() {
            return Err(Failure::Demo(format!("the target saw a rule broken: {first}")).into());
        }
        Ok(())
    }
}

/// The demo's own name: it must not create or need the user's.
const INITIATOR_NAME: &str = "iqn.2026-11.org.example:iscsi-demo";

/// Chunks written in all: 48 MiB.
const CHUNKS: u64 = 768;

/// The portal that is cut.
const CUT: usize = 0;

/// How long a path may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);
