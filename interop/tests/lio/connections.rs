//! Several connections in one session, and error recovery level 1, with a target that has them.
//!
//! Losing one of several connections is left to [`crate::recovery`], and level 2 with it: the kernel
//! of this machine falls over when such a session is reinstated (see `docs/interop-lio.md`).

use anyhow::{Context as _, Result, ensure};
use interop::iscsi::{in_force, iscsi};
use interop::lio::{DISK, Lio, isolated};
use interop::sandbox::Sandbox;
use serde_json::Value;

use crate::load::{Load, urls};

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn four_connections_carry_one_session() {
    isolated(|sandbox, lio| {
        lio.set(sandbox, &[("MaxConnections", "4")])?;
        let info = format!("info {} --connections 4 --json", urls(&[0], DISK, " "));
        let info = iscsi(sandbox, &info)?.run()?.success()?.json()?;
        let connections = info.pointer("/sessions/0/connections");
        let connections = connections.and_then(Value::as_array).map(Vec::len);
        ensure!(connections == Some(4), "{info:#}");
        let load = Load::with(sandbox, 30, &[0, 1], "--connections 4")?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn recovery_level_1_with_two_connections() {
    isolated(|sandbox, lio| {
        lio.set(sandbox, &[("MaxConnections", "2")])?;
        level(sandbox, lio, 1)?;
        let options = "-k ErrorRecoveryLevel=1 --connections 2";
        let keys = in_force(sandbox, &urls(&[0], DISK, " "), options)?;
        let agreed = keys.get("ErrorRecoveryLevel").map(String::as_str);
        ensure!(agreed == Some("1"), "ErrorRecoveryLevel became {agreed:?}");
        let load = Load::with(sandbox, 32, &[0, 1], options)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// What a login gets at most; the parameter of that name does not count.
pub(crate) fn level(sandbox: &Sandbox, lio: &Lio, level: u8) -> Result<()> {
    let script = format!("echo {level} >$iscsi/$iqn:demo/tpgt_1/attrib/default_erl");
    lio.exec(sandbox, &script).context("default_erl")?;
    Ok(())
}
