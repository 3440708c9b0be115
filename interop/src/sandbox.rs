//! One test, one process, one set of namespaces.
//!
//! [`isolated`] is called from inside a `#[test]`. The first time round it starts the same test
//! binary again, for that one test, under `unshare` with new network, mount and pid namespaces and
//! waits for it; the second time round, in there, it runs the test's body. So the body may use
//! our library directly, not only our binary: it *is* in the namespace.
//!
//! - Network: loopback only, all of 127.0.0.0/8 and `::1`, an empty firewall.
//! - Mount: a private tmpfs on `/run`, where tgtd and istgt keep sockets and pid files, and where
//!   backing files live (nothing waits for a disk).
//! - Pid: when the test's process ends or is killed, the kernel kills everything it started.
//!
//! Without root, user namespaces are tried. Logs of failed tests stay in
//! `target/interop/<test>/`; `INTEROP_KEEP=1` keeps those of the others too, `INTEROP_SHOW=1` shows
//! what they printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::lio;
use crate::process::tail;
use crate::wait;

/// How long one test may take before it is killed, beside what it is asked to take ([`extra`]).
const TEST_LIMIT: Duration = Duration::from_secs(240);
/// Tells the second process who it is: the directory for its logs.
const INSIDE: &str = "ISCSI_INTEROP_INSIDE";

/// Where a test lives: its directories inside the namespaces.
#[derive(Debug)]
pub struct Sandbox {
    scratch: PathBuf,
    logs: PathBuf,
    logs_made: AtomicUsize,
}

impl Sandbox {
    /// Directory in memory for backing files and the like; gone with the test.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A path in the scratch directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Directory for logs; kept when the test fails.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// A fresh path (without extension) for the logs of a program called `name`.
    #[must_use]
    pub(crate) fn next_log(&self, name: &str) -> PathBuf {
        let number = self.logs_made.fetch_add(1, Ordering::Relaxed);
        self.logs.join(format!("{number:02}-{name}.log"))
    }
}

/// Runs `body` in namespaces of its own (see the module's documentation).
///
/// # Panics
/// When the body fails, when it takes longer than the limit, or when the namespaces cannot be
/// made: this is how a test fails.
#[expect(clippy::panic, reason = "a test reports its failure by a panic")]
pub fn isolated(body: impl FnOnce(&Sandbox) -> Result<()>) {
    let done = match std::env::var_os(INSIDE) {
        Some(logs) => inside(PathBuf::from(logs), body),
        None => outside(),
    };
    if let Err(error) = done {
        // Not `{:?}`: whether that prints a backtrace as well depends on the environment.
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        panic!("{}", chain.join("\n  because: "));
    }
}

/// Whether this process is the second one, in the namespaces.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn inside(logs: PathBuf, body: impl FnOnce(&Sandbox) -> Result<()>) -> Result<()> {
    let scratch = PathBuf::from("/run/scratch");
    fs::create_dir_all(&scratch)?;
    body(&Sandbox {
        scratch,
        logs,
        logs_made: AtomicUsize::new(0),
    })
}

fn outside() -> Result<()> {
    build_binaries()?;
    let thread = std::thread::current();
    let test = thread
        .name()
        .filter(|name| *name != "main")
        .context("not called from a test")?;
    let exe = std::env::current_exe()?;
    let logs = log_directory(&exe, test)?;
    let output = logs.join("test-output.txt");
    let file = fs::File::create(&output)?;
    let mut child = namespaces()
        .arg(&exe)
        .args([
            "--exact",
            test,
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INSIDE, &logs)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("starting `setpriv` and `unshare` (package util-linux)")?;
    let waited = wait::until("the test's end", TEST_LIMIT + extra(), || {
        Ok(child.try_wait()?)
    });
    // Only `unshare` itself is killed; the kernel then ends what runs in its pid namespace.
    drop(child.kill());
    drop(child.wait());
    match waited {
        Ok(status) if status.success() => {
            let said = fs::read_to_string(&output).unwrap_or_default();
            ensure!(
                said.contains("1 passed"),
                "the test did not run at all:\n{}",
                tail(&said)
            );
            if std::env::var_os("INTEROP_SHOW").is_some() {
                eprintln!("{}", tail(&said));
            }
            if std::env::var_os("INTEROP_KEEP").is_none() {
                fs::remove_dir_all(&logs)?;
            }
            Ok(())
        }
        Ok(_) => bail!("{}", report(&output, &logs)),
        Err(error) => bail!("{error:#}\n{}", report(&output, &logs)),
    }
}

/// For loads that may be made longer than their test: `LIO_LOAD_SECONDS`.
#[must_use]
pub fn extra() -> Duration {
    let seconds = std::env::var("LIO_LOAD_SECONDS").unwrap_or_default();
    Duration::from_secs(seconds.parse().unwrap_or(0))
}

/// The command line that makes the namespaces and runs its arguments as the first process there.
fn namespaces() -> Command {
    // `setpriv` ends `unshare` when the test runner is killed; `unshare` then ends the rest.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    let prepare = "set -e; mount -t tmpfs tmpfs /run; mkdir -p /run/tgtd; ip link set lo up; \
                   exec \"$@\"";
    command.args(["sh", "-c", prepare, "sh"]);
    // Daemons live in sbin, which is not on everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command
}

fn log_directory(exe: &Path, test: &str) -> Result<PathBuf> {
    let stem = exe.file_stem().unwrap_or_default().to_string_lossy();
    let stem: &str = &stem;
    let binary = stem.rsplit_once('-').map_or(stem, |(name, _hash)| name);
    let logs = profile_directory(exe)?
        .parent()
        .context("no target directory")?
        .join("interop")
        .join(format!("{binary}-{}", test.replace("::", "-")));
    if logs.exists() {
        fs::remove_dir_all(&logs)?;
    }
    fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    Ok(logs)
}

fn report(output: &Path, logs: &Path) -> String {
    let said = fs::read_to_string(output).unwrap_or_default();
    let mut report = format!("logs are in {}\n{}", logs.display(), tail(&said));
    // All of it: on a machine that is gone afterwards this is the only trace of a dead kernel.
    if let Ok(console) = fs::read(logs.join(lio::CONSOLE)) {
        report.push_str("the console of the virtual machine:\n");
        report.push_str(&String::from_utf8_lossy(&console));
    }
    report
}

/// `target/debug`, or whichever profile the test was built with.
pub(crate) fn profile_directory(exe: &Path) -> Result<PathBuf> {
    let deps = exe.parent().context("a test binary in no directory")?;
    Ok(deps
        .parent()
        .context("a test binary outside the target directory")?
        .to_path_buf())
}

/// Builds the binaries that tests drive, once per test process.
///
/// Cargo does not build another package's binaries for a test, so a stale or missing one would
/// otherwise be tested. Where cargo did not start us, what is there is taken.
fn build_binaries() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_with_cargo().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_with_cargo() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let profile = profile_directory(&std::env::current_exe()?)?;
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "-p",
        "iscsi-cli",
        "-p",
        "iscsi-test-target",
        "--bins",
    ]);
    if profile.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    let target = profile.parent().context("no target directory")?;
    let output = command.arg("--target-dir").arg(target).output()?;
    ensure!(
        output.status.success(),
        "building our binaries failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
