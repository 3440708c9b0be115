//! The targets, each on a core of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::child::{Running, TARGET_CORE, pinned};
use crate::contender::Place;
use crate::matrix::Digests;
use crate::null;
use crate::tools::Tools;

const TGT_TARGET: &str = "iqn.2026-01.org.example:tgt";
/// A control number that no other tgtd of this machine is likely to have.
fn tgt_control() -> String {
    (10_000 + std::process::id() % 20_000).to_string()
}

const TGT_BYTES: usize = 256 << 20;

/// A running target; ends when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) place: Place,
    _process: Running,
    image: Option<PathBuf>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(image) = &self.image {
            // Whoever removed it before has done our work.
            let _ = fs::remove_file(image);
        }
    }
}

impl Target {
    /// The null target with two portals; `rate` Mbit/s per connection, 0 for no limit.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn null(tools: &Tools, rate: u32) -> Result<Self> {
        let mut command = pinned(TARGET_CORE, &tools.bench);
        command
            .args(["null-target", "--listen", "127.0.0.1:0"])
            .args(["--listen", "127.0.0.2:0"])
            .args(["--rate", &rate.to_string()])
            .stderr(Stdio::null());
        let (process, portals) = Running::start_until(&mut command, "listening on ", 2)?;
        Ok(Self {
            place: Place {
                portals,
                target: null::TARGET,
                lun: 0,
            },
            _process: process,
            image: None,
        })
    }

    /// The file in which it stores.
    ///
    /// # Errors
    /// It stores nothing.
    pub(crate) fn image(&self) -> Result<&Path> {
        self.image
            .as_deref()
            .context("a target that stores nothing")
    }

    /// Has tgtd insist on these digests.
    ///
    /// # Errors
    /// It is not tgtd.
    pub(crate) fn demand(&self, digests: Digests) -> Result<()> {
        let value = |on| if on { "CRC32C" } else { "None" };
        let update = ["--op", "update", "--mode", "target", "--tid", "1"];
        for (name, on) in [
            ("HeaderDigest", digests.header()),
            ("DataDigest", digests.data()),
        ] {
            admin(&[&update[..], &["--name", name, "--value", value(on)]].concat())?;
        }
        Ok(())
    }

    /// tgtd with a file in memory and two portals.
    ///
    /// # Errors
    /// It does not start, for want of root for example.
    pub(crate) fn tgt() -> Result<Self> {
        fs::create_dir_all("/run/tgtd").context("the directory of tgtd's control socket")?;
        let image = PathBuf::from(format!("/dev/shm/iscsi-bench-{}.img", std::process::id()));
        let mut content = vec![0; TGT_BYTES];
        fastrand::Rng::with_seed(3).fill(&mut content);
        fs::write(&image, &content)?;
        // Free now; who takes one meanwhile makes tgtd fail, and that is told.
        let free = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let mut portals = Vec::new();
        for listener in free {
            portals.push(listener.local_addr()?.to_string());
        }
        let mut command = pinned(TARGET_CORE, "tgtd");
        let address = format!("portal={}", portals.join(",portal="));
        command
            .env("PATH", PATH)
            .args(["-f", "-C", &tgt_control(), "--iscsi", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let target = Self {
            place: Place {
                portals,
                target: TGT_TARGET,
                lun: 1,
            },
            _process: Running::start(&mut command)?,
            image: Some(image.clone()),
        };
        let image = image.display().to_string();
        let new = ["--op", "new", "--mode"];
        admin_in_time(&[&new[..], &["target", "--tid", "1", "-T", TGT_TARGET]].concat())?;
        let unit = ["logicalunit", "--tid", "1", "--lun", "1", "-b", &image];
        admin(&[&new[..], &unit].concat())?;
        admin(&[
            "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL",
        ])?;
        Ok(target)
    }
}

const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Repeats until tgtd listens to its control socket.
#[expect(
    clippy::disallowed_methods,
    reason = "tgtd does not tell when it is ready"
)]
fn admin_in_time(words: &[&str]) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match admin(words) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
}

fn admin(words: &[&str]) -> Result<()> {
    let output = Command::new("tgtadm")
        .env("PATH", PATH)
        .args(["-C", &tgt_control(), "--lld", "iscsi"])
        .args(words)
        .output()
        .context("starting tgtadm")?;
    ensure!(
        output.status.success(),
        "tgtadm {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
