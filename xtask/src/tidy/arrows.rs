//! Which crate may depend on which. The picture is in ARCHITECTURE.md.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Findings;
use crate::process::{cargo_with, output};

/// What one crate may use of the others.
struct Arrows {
    package: &'static str,
    uses: &'static [&'static str],
    /// In its tests and examples only.
    tests_use: &'static [&'static str],
}

const SCSI: &str = "iscsi-scsi";
const AUTH: &str = "iscsi-auth";
const ISCSI: &str = "iscsi";
const MPIO: &str = "iscsi-mpio";
const INITIATOR: &str = "iscsi-initiator";
const TARGET: &str = "iscsi-test-target";

/// From the bottom to the top. A crate that is not here is a problem, so that adding one means
/// thinking about its place.
const ARROWS: &[Arrows] = &[
    Arrows {
        package: SCSI,
        uses: &[],
        tests_use: &[],
    },
    Arrows {
        package: AUTH,
        uses: &[],
        tests_use: &[],
    },
    Arrows {
        package: ISCSI,
        uses: &[AUTH, SCSI],
        tests_use: &[TARGET],
    },
    // Never `iscsi`: the two meet in `scsi::Nexus`, so multipath can carry other transports.
    Arrows {
        package: MPIO,
        uses: &[SCSI],
        tests_use: &[],
    },
    Arrows {
        package: INITIATOR,
        uses: &[AUTH, ISCSI, MPIO, SCSI],
        tests_use: &[TARGET],
    },
    Arrows {
        package: "iscsi-cli",
        uses: &[INITIATOR, TARGET],
        tests_use: &[],
    },
    // Nothing of the initiator: a target by the same mind would share its misreadings.
    Arrows {
        package: TARGET,
        uses: &[SCSI],
        tests_use: &[],
    },
    Arrows {
        package: "iscsi-tests",
        uses: &[AUTH, ISCSI, MPIO, SCSI, TARGET],
        tests_use: &[INITIATOR],
    },
    Arrows {
        package: "iscsi-instructions",
        uses: &[ISCSI, MPIO, SCSI, "iscsi-tests"],
        tests_use: &[],
    },
    Arrows {
        package: "iscsi-interop",
        uses: &[INITIATOR, TARGET],
        tests_use: &[INITIATOR, ISCSI, SCSI],
    },
    Arrows {
        package: "iscsi-bench",
        uses: &[INITIATOR],
        tests_use: &[],
    },
    Arrows {
        package: "xtask",
        uses: &[],
        tests_use: &[],
    },
];

pub(super) fn check(findings: &mut Findings) -> Result<()> {
    let metadata = output(&mut cargo_with("metadata --format-version 1 --no-deps"))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(arrows) = ARROWS.iter().find(|arrows| arrows.package == name) else {
            findings.problem(format!(
                "crate {name} has no place in xtask/src/tidy/arrows.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"].as_str() == Some("dev");
            let allowed =
                arrows.uses.contains(&used) || (in_tests && arrows.tests_use.contains(&used));
            if names.contains(&used) && !allowed {
                findings.problem(format!("crate {name} must not depend on {used}"));
            }
        }
    }
    Ok(())
}
