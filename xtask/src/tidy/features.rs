//! Without their feature `tokio`, `iscsi` and `mpio` must build and have no runtime below them:
//! that is the proof that the logic does no I/O.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Findings;
use crate::process::{self, cargo_with};

/// What does I/O, keeps time or draws randomness.
const RUNTIMES: &[&str] = &["tokio", "mio", "socket2", "getrandom", "fastrand", "rand"];

pub(super) fn check(findings: &mut Findings) -> Result<()> {
    for package in ["iscsi", "iscsi-mpio"] {
        let mut check = cargo_with("check --quiet --no-default-features --package");
        if let Err(error) = process::run(check.arg(package)) {
            findings.problem(format!("{package} does not build without tokio: {error}"));
        }
        let mut tree =
            cargo_with("tree --no-default-features --edges normal --prefix none --format {p}");
        let tree = process::output(tree.args(["--package", package]))?;
        let names: BTreeSet<&str> = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        for name in names.intersection(&RUNTIMES.iter().copied().collect()) {
            findings.problem(format!("{package} without tokio still depends on {name}"));
        }
    }
    Ok(())
}
