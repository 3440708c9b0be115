//! LIO, the target of the Linux kernel, in a virtual machine.
//!
//! `interop/lio/lio-vm.sh` boots Debian's kernel under qemu and configures the target;
//! `interop/lio/guest-init.sh` says what it serves. Here it becomes one more target of the harness:
//!
//! - Every test has a machine of its own, booted within seconds, so that it may break it. Its
//!   three network interfaces are in the test's own network namespace, its process is in the
//!   test's pid namespace: the kernel ends it with the test, however that ends.
//! - Few machines run at a time (`MACHINES`), over all test processes: each takes half a
//!   gigabyte and, without hardware virtualisation, a processor.
//! - The kernel's package is fetched and unpacked once, outside of the namespaces, to
//!   `interop/.cache/lio`.
//!
//! Facts the tests rely on: three portals; target `demo` has the first two in portal group 1 and
//! the third in portal group 2, with the same logical units; all data lives in the guest's memory
//! and is gone when it stops; files under `/luns` are the backing store of two of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::process::Tool;
use crate::sandbox::{self, Sandbox};
use crate::wait;

/// The portals. The first two are portal group 1 of [`DEMO`], the third is its portal group 2.
pub const PORTALS: [&str; 3] = ["10.99.0.15:3260", "10.99.1.15:3260", "10.99.2.15:3260"];
/// The target without authentication, with every kind of logical unit in two portal groups.
pub const DEMO: &str = "iqn.2003-01.org.linux-iscsi.lio-vm:demo";
/// The target that demands CHAP, on the first portal.
pub const CHAP: &str = "iqn.2003-01.org.linux-iscsi.lio-vm:chap";
/// The target that demands both digests and offers error recovery level 2, on the first two.
pub const DIGESTS: &str = "iqn.2003-01.org.linux-iscsi.lio-vm:erl2";
/// LUN of [`DEMO`] whose backing store is the file [`DISK_FILE`], of [`DISK_BYTES`].
pub const DISK: u64 = 1;
/// The guest's file behind [`DISK`].
pub const DISK_FILE: &str = "/luns/thin1";
/// Size of [`DISK`].
pub const DISK_BYTES: u64 = 128 << 20;

/// Where the machine's console is kept, among the logs of a test.
pub(crate) const CONSOLE: &str = "lio/run/console.log";
/// A kernel of Debian's that the machine can boot; the one list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// That of the system the tests run on.
    Own,
    /// 5.10, of the release "bullseye": its LIO survives the loss of a connection at
    /// ErrorRecoveryLevel 2.
    Linux5_10,
}

impl Kernel {
    /// The release it comes from, as `lio-vm.sh` takes it.
    fn suite(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Linux5_10 => "bullseye",
        }
    }
}

/// How many machines run at a time.
const MACHINES: usize = 2;
const BOOT_LIMIT: Duration = Duration::from_secs(130);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// All other tests may have to boot first.
const QUEUE_LIMIT: Duration = Duration::from_secs(1200);

/// Runs `body` in namespaces of its own ([`sandbox::isolated`]) next to a machine of its own.
///
/// # Panics
/// When the body fails, or the machine cannot be started: this is how a test fails.
pub fn isolated(body: impl FnOnce(&Sandbox, &Lio) -> Result<()>) {
    isolated_with(Kernel::Own, body);
}

/// The same with a kernel of choice.
///
/// # Panics
/// As [`isolated`].
#[expect(clippy::panic, reason = "a test reports its failure by a panic")]
pub fn isolated_with(kernel: Kernel, body: impl FnOnce(&Sandbox, &Lio) -> Result<()>) {
    // The first process has the network, the second has none: see `sandbox`.
    let _turn = (!sandbox::is_inside()).then(|| match prepare(kernel) {
        Ok(turn) => turn,
        Err(error) => panic!("no virtual machine for LIO: {error:#}"),
    });
    sandbox::isolated(|sandbox| {
        let lio = Lio::start(sandbox, kernel)?;
        body(sandbox, &lio)
    });
}

/// States a target port group can be brought into.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Active/optimized.
    Optimized,
    /// Active/non-optimized.
    NonOptimized,
    /// Standby.
    Standby,
    /// On the way from one to another, until the next change.
    Transitioning,
}

/// A running virtual machine; stopped when dropped.
#[derive(Debug)]
pub struct Lio {
    state: PathBuf,
    kernel: Kernel,
}

impl Lio {
    fn start(sandbox: &Sandbox, kernel: Kernel) -> Result<Self> {
        // Among the logs, because the guest's console is there.
        let lio = Self {
            state: sandbox.logs().join("lio"),
            kernel,
        };
        lio.script(sandbox)
            .words("start here")
            .limit(BOOT_LIMIT)
            .run()?
            .success()
            .context("booting LIO's virtual machine")?;
        Ok(lio)
    }

    /// Runs a shell command in the guest and returns what it printed. `$iscsi` and `$core` are the
    /// directories of the target's configuration, `$iqn` is the start of every target's name.
    ///
    /// # Errors
    /// When the guest does not answer (it is made to panic then, so that the error ends with a
    /// trace of its kernel), is dead, or the command fails.
    pub fn exec(&self, sandbox: &Sandbox, command: &str) -> Result<String> {
        let done = self.script(sandbox).arg("exec").arg(command);
        let done = done.limit(COMMAND_LIMIT).run()?.success();
        Ok(done
            .with_context(|| format!("in the guest: {command}"))?
            .text())
    }

    /// Takes the link of a portal (its number in [`PORTALS`]) down, or up again.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn link(&self, sandbox: &Sandbox, portal: usize, state: &str) -> Result<()> {
        self.script(sandbox)
            .words(&format!("link {portal} {state}"))
            .run()?
            .success()?;
        Ok(())
    }

    /// Enables or disables a portal group of [`DEMO`]; disabling closes its sessions.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn enable(&self, sandbox: &Sandbox, group: u16, on: bool) -> Result<()> {
        let on = u8::from(on);
        self.exec(
            sandbox,
            &format!("echo {on} >$iscsi/$iqn:demo/tpgt_{group}/enable"),
        )?;
        Ok(())
    }

    /// Brings a target port group of [`DISK`] (`ao`, group 1, or `ano`, group 2) into a state.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn access(&self, sandbox: &Sandbox, group: &str, state: Access) -> Result<()> {
        let state = match state {
            Access::Optimized => 0,
            Access::NonOptimized => 1,
            Access::Standby => 2,
            Access::Transitioning => 15,
        };
        self.exec(
            sandbox,
            &format!("echo {state} >$core/fileio_1/thin1/alua/{group}/alua_access_state"),
        )?;
        Ok(())
    }

    /// Sets what portal group 1 of [`DEMO`] answers for these keys in the logins that follow.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn set(&self, sandbox: &Sandbox, keys: &[(&str, &str)]) -> Result<()> {
        let mut script = String::from("set -e; cd $iscsi/$iqn:demo/tpgt_1/param");
        for (key, value) in keys {
            script.push_str(&format!("; printf {value} >{key}"));
        }
        self.exec(sandbox, &script)?;
        Ok(())
    }

    /// SHA-256 of the first `length` bytes of [`DISK`], computed in the guest from its file.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn disk_sha256(&self, sandbox: &Sandbox, length: u64) -> Result<String> {
        ensure!(length <= DISK_BYTES, "the disk is shorter");
        let sum = self.exec(
            sandbox,
            &format!("head -c {length} {DISK_FILE} | sha256sum"),
        )?;
        let sum = sum.split_whitespace().next();
        Ok(sum.context("no checksum from the guest")?.to_owned())
    }

    fn script(&self, sandbox: &Sandbox) -> Tool {
        Tool::new(sandbox, script())
            .env("LIO_DIR", &self.state)
            .env("LIO_SUITE", self.kernel.suite())
    }
}

impl Drop for Lio {
    fn drop(&mut self) {
        // If this fails, the end of the pid namespace is near anyway.
        drop(command("stop").env("LIO_DIR", &self.state).status());
    }
}

/// Fetches what the machine boots from and waits for a free place; it is held until dropped.
fn prepare(kernel: Kernel) -> Result<File> {
    static OWN: OnceLock<Result<(), String>> = OnceLock::new();
    static LINUX5_10: OnceLock<Result<(), String>> = OnceLock::new();
    let once = match kernel {
        Kernel::Own => &OWN,
        Kernel::Linux5_10 => &LINUX5_10,
    };
    let built = once.get_or_init(|| build(kernel).map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)?;
    let places: Vec<File> = (0..MACHINES)
        .map(|place| Ok(File::create(cache().join(format!("machine{place}.lock")))?))
        .collect::<Result<_>>()?;
    wait::until("other virtual machines to end", QUEUE_LIMIT, || {
        let free = |place: &&File| flock(place, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(places.iter().find(free).map(File::try_clone))
    })?
    .context("keeping the lock")
}

fn build(kernel: Kernel) -> Result<()> {
    let mut command = command("build");
    let built = command.env("LIO_SUITE", kernel.suite()).output()?;
    if !built.status.success() {
        bail!("{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(())
}

fn command(verb: &str) -> Command {
    let mut command = Command::new(script());
    command.arg(verb);
    command
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lio/lio-vm.sh")
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/lio")
}
