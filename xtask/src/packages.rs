//! The Debian packages that `cargo xtask test` needs: the one list of them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{output, run, succeeds};

/// Name of the package and what it is for. The libraries and the `iscsi` command need none of
/// them.
const PACKAGES: [(&str, &str); 15] = [
    ("g++", "compiles libFuzzer's runtime"),
    ("tgt", "the target tgtd"),
    ("istgt", "the target istgt"),
    (
        "libiscsi-bin",
        "foreign initiator tools, for our own target",
    ),
    (
        "libiscsi-dev",
        "its header files, for the bench's load over it",
    ),
    ("valgrind", "counts instructions"),
    ("sg3-utils", "independent decoders of SCSI data"),
    ("tshark", "independent dissector of recorded sessions"),
    (
        "util-linux",
        "unshare and setpriv: namespaces of its own for every test",
    ),
    ("iproute2", "ip: the loopback interface in there"),
    ("nftables", "nft: cuts portals and counts their traffic"),
    (
        "qemu-system-x86",
        "the virtual machine in which the target LIO runs",
    ),
    ("busybox-static", "all the programs in there"),
    ("cpio", "packs them for its kernel"),
    ("kmod", "finds the kernel modules to pack"),
];

/// Installs what is missing.
///
/// Without root or apt-get it only says what to install. That is an error: the steps that need the
/// packages would fail later, and less clearly.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<_> = PACKAGES
        .into_iter()
        .filter(|(name, _)| !is_installed(name))
        .collect();
    if missing.is_empty() {
        println!("all {} Debian packages are installed", PACKAGES.len());
        return Ok(());
    }
    for (name, purpose) in &missing {
        println!("missing: {name} ({purpose})");
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        names.join(" ")
    );
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!(
            "this is not a Debian system; install the counterparts of: {}",
            names.join(" ")
        );
    }
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("not root, so please run: sudo {by_hand}");
    }
    // Some packages want to start their daemon; there is no init system in a container, and a
    // target that listens on port 3260 is not wanted outside of it.
    let mut update = apt_get();
    run(update.args(["update", "--quiet"]))?;
    let mut install = apt_get();
    install
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(&names);
    run(&mut install)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    command
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    query.stderr(std::process::Stdio::null());
    query
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}
