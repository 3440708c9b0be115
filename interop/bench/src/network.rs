//! A network of the bench's own: a namespace with a loopback interface and nothing else.
//!
//! In there is no firewall and no other traffic, and TCP uses CUBIC, the kernel's default, whatever
//! the host is set to. BBR, for one, paces what it sends; at the speed of a loopback interface its
//! timers cost as much as an I/O and cut what the other side reads into random pieces, so that BBR
//! is what is measured.
//!
//! The bench starts itself again in there, so that all targets and contenders are in the same one,
//! and the kernel takes it away when they have ended.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Tells the bench that it is in there.
const INSIDE: &str = "ISCSI_BENCH_INSIDE";

/// For all connections.
const CONGESTION_CONTROL: &str = "cubic";

/// What leads to the loopback interface.
const ROUTES: [&str; 2] = ["127.0.0.0/8", "127.0.0.1"];

/// Returns in the namespace. Without the right to make one, in the host's network.
///
/// # Errors
/// It cannot be set up.
pub(crate) fn enter() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return set_up();
    }
    let mut trial = Command::new("unshare");
    trial.args(["--net", "true"]).stderr(Stdio::null());
    if !trial.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let error = Command::new("unshare")
        .arg("--net")
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("starting `unshare`")
}

/// The congestion control of the connections that are measured.
pub(crate) fn congestion_control() -> String {
    if env::var_os(INSIDE).is_some() {
        return CONGESTION_CONTROL.to_owned();
    }
    let of_host = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    of_host.unwrap_or_default().trim().to_owned()
}

fn set_up() -> Result<()> {
    ip("link set lo up")?;
    for route in ROUTES {
        ip(&format!(
            "route replace local {route} dev lo proto kernel scope host src 127.0.0.1 table local \
             congctl {CONGESTION_CONTROL}"
        ))?;
    }
    Ok(())
}

fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.context("starting `ip` (Debian: iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
