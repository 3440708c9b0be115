//! Processes pinned to a core, with what they cost.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Core of the initiator.
pub(crate) const INITIATOR_CORE: &str = "0";
/// Core of the target.
pub(crate) const TARGET_CORE: &str = "1";
/// Both.
pub(crate) const ALL_CORES: &str = "0,1";

/// How often a running process is looked at for its memory.
const LOOK: Duration = Duration::from_millis(20);

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) stdout: String,
    /// User and system time of its whole life; in steps of a clock tick.
    pub(crate) cpu: Duration,
    /// Most memory it had resident.
    pub(crate) peak_kib: u64,
}

/// Whether pinned processes run before all others (SCHED_FIFO), for a machine that is not idle.
static REALTIME: AtomicBool = AtomicBool::new(false);

/// Has all processes that are prepared from now on run before all others.
pub(crate) fn use_realtime() {
    REALTIME.store(true, Ordering::Relaxed);
}

/// Prepares `program` to run on these cores, as `taskset` names them.
pub(crate) fn pinned(cores: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]);
    if REALTIME.load(Ordering::Relaxed) {
        command.args(["chrt", "--fifo", "5"]);
    }
    command.arg(program).stdin(Stdio::null());
    command
}

/// Runs it to its end.
///
/// # Errors
/// It fails, or does not end within `limit`; then it is killed.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Ended> {
    let line = format!("{command:?}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command
        .spawn()
        .with_context(|| format!("starting {line}"))?;
    let mut child = Running(child);
    let id = child.0.id();
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.context("no process id")?;
    let until = Instant::now() + limit;
    let mut peak_kib = 0;
    // The process is left a zombie until its times have been read.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), options)?.is_none() {
        peak_kib = status_kib(id, "VmHWM").unwrap_or(peak_kib);
        ensure!(Instant::now() < until, "{line} does not end");
        std::thread::sleep(LOOK);
    }
    let cpu = times(id)?;
    let status = child.0.wait()?;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    if let (Some(out), Some(err)) = (&mut child.0.stdout, &mut child.0.stderr) {
        out.read_to_string(&mut stdout)?;
        err.read_to_string(&mut stderr)?;
    }
    ensure!(
        status.success(),
        "{line} ended with {status}:\n{stdout}{stderr}"
    );
    Ok(Ended {
        stdout,
        cpu,
        peak_kib,
    })
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Starts it and leaves it to itself.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let line = format!("{command:?}");
        let child = command
            .spawn()
            .with_context(|| format!("starting {line}"))?;
        Ok(Self(child))
    }

    /// Starts it and waits for `count` lines that begin with `prefix`; returns their rests.
    ///
    /// # Errors
    /// It ends before.
    pub(crate) fn start_until(
        command: &mut Command,
        prefix: &str,
        count: usize,
    ) -> Result<(Self, Vec<String>)> {
        let mut this = Self::start(command.stdout(Stdio::piped()))?;
        let stdout = this.0.stdout.take().context("no output")?;
        let mut found = Vec::new();
        for line in BufReader::new(stdout).lines() {
            if let Some(rest) = line?.strip_prefix(prefix) {
                found.push(rest.to_owned());
            }
            if found.len() == count {
                return Ok((this, found));
            }
        }
        bail!("{command:?} ended before it was ready")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either may fail because it has ended already, which is just as well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A line of `/proc/<id>/status` in KiB.
pub(crate) fn status_kib(id: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .ok()
}

/// User and system time out of `/proc/<id>/stat`.
fn times(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("an odd /proc/*/stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let ticks = next().zip(next()).map(|(user, system)| user + system);
    let ticks = ticks.context("an odd /proc/*/stat")?;
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_micros(ticks * 1_000_000 / hertz))
}
