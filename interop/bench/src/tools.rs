//! The programs that the bench starts: found, or built.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// Debian packages with the foreign programs and the header file.
const PACKAGES: [&str; 3] = ["libiscsi-bin", "libiscsi-dev", "tgt"];

/// Where they are.
#[derive(Debug)]
pub(crate) struct Tools {
    /// This program.
    pub(crate) bench: String,
    /// `iscsi`.
    pub(crate) iscsi: String,
    /// `libiscsi_loop.c`, compiled.
    pub(crate) libiscsi_loop: String,
}

impl Tools {
    /// Builds `iscsi` (unless `ISCSI_BIN` names one) and the libiscsi loop.
    ///
    /// # Errors
    /// Something is missing; the message says which package has it.
    pub(crate) fn prepare() -> Result<Self> {
        let bench = env::current_exe()?;
        let directory = bench.parent().context("no directory")?.to_path_buf();
        if !["iscsi-perf", "tgtd"].into_iter().all(on_path)
            || !Path::new("/usr/include/iscsi/iscsi.h").exists()
        {
            install()?;
        }
        let iscsi = match env::var_os("ISCSI_BIN") {
            Some(path) => PathBuf::from(path),
            None => build_iscsi(&directory)?,
        };
        Ok(Self {
            bench: text(&bench)?,
            iscsi: text(&iscsi)?,
            libiscsi_loop: compile_loop(&directory)?,
        })
    }
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is no text")?.to_owned())
}

fn on_path(program: &str) -> bool {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Needs root and Debian; elsewhere it tells what to install.
fn install() -> Result<()> {
    let done = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends"])
        .args(PACKAGES)
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => bail!("install these first: {}", PACKAGES.join(" ")),
    }
}

fn build_iscsi(directory: &Path) -> Result<PathBuf> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "-p", "iscsi-cli"]);
    if directory.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    command
        .arg("--target-dir")
        .arg(directory.parent().context("no target directory")?)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    ensure!(command.status()?.success(), "building `iscsi` failed");
    Ok(directory.join("iscsi"))
}

fn compile_loop(directory: &Path) -> Result<String> {
    let program = directory.join("libiscsi_loop");
    let status = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/libiscsi_loop.c"))
        .arg("-liscsi")
        .status()
        .context("starting a C compiler")?;
    ensure!(status.success(), "compiling libiscsi_loop.c failed");
    text(&program)
}
