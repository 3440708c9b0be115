//! Our own command, `iscsi`, as a user runs it.
//!
//! The environment is emptied of everything that would change its behaviour, and its home
//! directory is the test's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::Tool;
use crate::sandbox::{Sandbox, profile_directory};

/// Exit statuses of `iscsi`; scripts depend on them.
pub mod exit {
    /// Done.
    pub const DONE: i32 = 0;
    /// A failure none of the others describes.
    pub const FAILURE: i32 = 1;
    /// The command line was wrong.
    pub const USAGE: i32 = 2;
    /// No portal could be reached.
    pub const UNREACHABLE: i32 = 3;
    /// Login refused or authentication failed.
    pub const LOGIN: i32 = 4;
    /// No such target or LUN.
    pub const NO_SUCH: i32 = 5;
    /// The device reported an error.
    pub const IO: i32 = 6;
    /// Nobody knows whether a write was done.
    pub const OUTCOME_UNKNOWN: i32 = 7;
    /// Verification found a difference.
    pub const VERIFY: i32 = 8;
}

/// The initiator name the tests use unless they say otherwise.
pub const INITIATOR: &str = "iqn.2024-01.test:interop-initiator";

const VARIABLES: [&str; 5] = [
    "ISCSI_CHAP_NAME",
    "ISCSI_CHAP_SECRET",
    "ISCSI_MUTUAL_NAME",
    "ISCSI_MUTUAL_SECRET",
    "ISCSI_INITIATOR_NAME",
];

/// Prepares `iscsi` with the words of `line`.
///
/// # Errors
/// When the binary was not built.
pub fn iscsi(sandbox: &Sandbox, line: &str) -> Result<Tool> {
    let binary = binary("iscsi", "ISCSI_BIN")?;
    let mut tool = Tool::new(sandbox, binary).words(line);
    for variable in VARIABLES {
        tool = tool.without_env(variable);
    }
    let home = sandbox.path("home");
    Ok(tool
        .env("ISCSI_INITIATOR_NAME", INITIATOR)
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("NO_COLOR", "1"))
}

/// The URL of a LUN behind a portal.
#[must_use]
pub fn url(portal: &str, target: &str, lun: u64) -> String {
    format!("iscsi://{portal}/{target}/{lun}")
}

/// The value in force of every key of the first session, as `iscsi info --json` tells.
///
/// # Errors
/// When the command fails or lists no keys.
pub fn in_force(sandbox: &Sandbox, url: &str, options: &str) -> Result<BTreeMap<String, String>> {
    let info = iscsi(sandbox, &format!("info {url} {options} --json"))?;
    let info = info.run()?.success()?.json()?;
    let keys = info.pointer("/sessions/0/keys").and_then(Value::as_array);
    let text = |key: &Value, name: &str| Some(key.get(name)?.as_str()?.to_owned());
    let keys = keys.with_context(|| format!("no keys in {info}"))?.iter();
    Ok(keys
        .filter_map(|key| Some((text(key, "key")?, text(key, "result")?)))
        .collect())
}

/// Where a binary of the workspace is: in the variable `variable`, or next to the test's.
///
/// # Errors
/// When there is none.
pub fn binary(name: &str, variable: &str) -> Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => profile_directory(&std::env::current_exe()?)?.join(name),
    };
    ensure!(
        path.is_file(),
        "{} is not there: build the workspace or set {variable}",
        path.display()
    );
    Ok(path)
}
