//! `cargo xtask fuzz`: libFuzzer on the stable toolchain.
//!
//! The crate in `fuzz/` stands outside of the workspace. It is built with coverage counters by
//! compiler flags that stable takes, so nothing has to be installed but a C++ compiler for
//! libFuzzer's runtime. There is no address sanitizer (that needs nightly): the code under test has
//! no `unsafe`, and what can go wrong in it (a panic, an overflow, an endless loop, memory without
//! bound) is caught without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, cargo, root};

/// Per target, when a change is judged.
const SECONDS_OF_A_CHANGE: u32 = 20;

/// What `cargo fuzz` passes as well, less the sanitizer. `trace-compares` lets libFuzzer learn the
/// constants that parsers compare with.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long to run each target
    // 0 would mean for ever.
    #[arg(long, default_value_t = SECONDS_OF_A_CHANGE, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// The one target to run; all of them otherwise
    target: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: SECONDS_OF_A_CHANGE,
            target: None,
        }
    }
}

struct Running {
    target: String,
    log: PathBuf,
    child: Child,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut targets = targets()?;
    if let Some(wanted) = &options.target {
        targets.retain(|target| target == wanted);
        ensure!(
            !targets.is_empty(),
            "there is no fuzz target {wanted} in fuzz/targets"
        );
    }
    let binaries = build()?;
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = 0;
    for batch in targets.chunks(at_once) {
        let batch: Vec<Running> = batch
            .iter()
            .map(|target| start(&binaries, target, options.seconds))
            .collect::<Result<_>>()?;
        for running in batch {
            if !finish(running)? {
                failed += 1;
            }
        }
    }
    ensure!(
        failed == 0,
        "{failed} fuzz targets failed; the inputs are in fuzz/artifacts"
    );
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/targets")).context("fuzz/targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

/// Builds every target and gives the directory with the binaries.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target_dir = root().join("fuzz/target");
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--quiet",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]);
    // Naming the host as target keeps the flags away from build scripts and macros.
    build
        .args(["--target", &host])
        .arg("--target-dir")
        .arg(&target_dir);
    process::run(build.env("RUSTFLAGS", FLAGS))?;
    Ok(target_dir.join(host).join("release"))
}

fn host() -> Result<String> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn start(binaries: &Path, target: &str, seconds: u32) -> Result<Running> {
    let fuzz = root().join("fuzz");
    // libFuzzer writes what it finds into the first directory: not the committed one.
    let found = fuzz.join("target/corpus").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for dir in [&found, &artifacts] {
        fs::create_dir_all(dir)?;
    }
    let log = fuzz.join("target").join(format!("{target}.log"));
    let mut command = Command::new(binaries.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // Seconds for one input: nothing here is allowed to be slow.
        .arg("-timeout=5")
        .arg("-rss_limit_mb=1024")
        .arg(found);
    let seeds = fuzz.join("corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let output = fs::File::create(&log)?;
    command.stdout(output.try_clone()?).stderr(output);
    let child = command.spawn().with_context(|| process::shown(&command))?;
    Ok(Running {
        target: target.to_owned(),
        log,
        child,
    })
}

/// Waits for a run; false if it found something.
fn finish(mut running: Running) -> Result<bool> {
    let status = running.child.wait()?;
    let log = fs::read(&running.log)?;
    let log = String::from_utf8_lossy(&log);
    let target = &running.target;
    if status.success() {
        let done = log.lines().rev().find(|line| line.starts_with("Done "));
        println!("{target}: {}", done.unwrap_or("done"));
    } else {
        println!("{target}: FAILED ({status})");
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        tail.iter().rev().for_each(|line| println!("    {line}"));
    }
    Ok(status.success())
}
