//! The machine that is measured on: what it is, and whether it does anything else.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor, number of cores, kernel.
pub(crate) fn name() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// What a program says, if there is such a program.
pub(crate) fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().ok().filter(|o| o.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| "unknown".to_owned())
}

/// The load averages, which say how far to trust absolute figures.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// How long is looked for other work.
const LOOK: Duration = Duration::from_secs(2);

/// The part of all processors' time that goes into something, for a moment. The load average
/// would still tell of our own run before this one.
///
/// # Errors
/// The system does not tell.
#[expect(clippy::disallowed_methods, reason = "it watches for a while")]
#[expect(clippy::cast_precision_loss, reason = "a part for people")]
pub(crate) fn busy() -> Result<f64> {
    let before = times()?;
    std::thread::sleep(LOOK);
    let after = times()?;
    let idle = after.idle.saturating_sub(before.idle);
    let all = after.all.saturating_sub(before.all);
    Ok(1.0 - idle as f64 / all.max(1) as f64)
}

/// Clock ticks of all processors.
struct Times {
    idle: u64,
    all: u64,
}

fn times() -> Result<Times> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse(&stat).context("an odd /proc/stat")
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, guest times that are
/// in the first two as well.
fn parse(stat: &str) -> Option<Times> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Result<Vec<u64>, _> = line.split_whitespace().take(8).map(str::parse).collect();
    let ticks = ticks.ok()?;
    Some(Times {
        idle: ticks.get(3)? + ticks.get(4)?,
        all: ticks.iter().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_disks_is_not_busy() {
        let times = parse("cpu  10 1 20 500 30 2 3 4 7 7\ncpu0 1 2 3\n").unwrap();
        assert_eq!((times.idle, times.all), (530, 570));
        assert!(parse("intr 1").is_none());
    }
}
