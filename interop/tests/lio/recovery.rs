//! Error recovery levels 1 and 2 with a kernel whose own recovery works (5.10).

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use interop::cut::Cut;
use interop::iscsi::in_force;
use interop::lio::{DEMO, DISK, Kernel, Lio, PORTALS, isolated_with};
use interop::sandbox::Sandbox;

use crate::connections::level;
use crate::load::{Load, urls};

const LEVEL_2: &str = "-v -k ErrorRecoveryLevel=2 --connections 2";

/// One of two connections is lost under load, in both sessions. LIO agrees to its removal for
/// recovery, and says at the same time that it retains no task (Time2Retain 0, RFC 7143 §11.15.4),
/// so nothing may be reassigned: the sessions start anew, and the writes are fenced.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_connection_that_is_lost_at_level_2_loses_nothing() {
    isolated_with(Kernel::Linux5_10, |sandbox, lio| {
        level_2(sandbox, lio)?;
        let mut load = Load::to(sandbox, 40, &spread(), LEVEL_2)?;
        let cut = Cut::refuse(sandbox, PORTALS[1])?;
        load.says("Logout Request, reason 2")?;
        load.says("the target does not retain the tasks")?;
        cut.restore(sandbox)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn level_1_with_both_digests() {
    isolated_with(Kernel::Linux5_10, |sandbox, lio| {
        let digests = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")];
        lio.set(sandbox, &digests)?;
        level(sandbox, lio, 1)?;
        let options = "-k ErrorRecoveryLevel=1 -k HeaderDigest=CRC32C -k DataDigest=CRC32C";
        let keys = in_force(sandbox, &urls(&[0], DISK, " "), options)?;
        agreed(&keys, "ErrorRecoveryLevel", "1")?;
        agreed(&keys, "HeaderDigest", "CRC32C")?;
        agreed(&keys, "DataDigest", "CRC32C")?;
        let load = Load::with(sandbox, 42, &[0, 1], options)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// Two connections and level 2 for whoever asks, and a look at whether they are agreed on.
fn level_2(sandbox: &Sandbox, lio: &Lio) -> Result<()> {
    lio.set(sandbox, &[("MaxConnections", "2")])?;
    level(sandbox, lio, 2)?;
    let keys = in_force(sandbox, &urls(&[0], DISK, " "), LEVEL_2)?;
    agreed(&keys, "ErrorRecoveryLevel", "2")?;
    agreed(&keys, "MaxConnections", "2")
}

/// Both portals with their portal group: connections of one session may go through either.
fn spread() -> String {
    let url = |portal: &str| format!("iscsi://{portal},1/{DEMO}/{DISK}");
    let urls: Vec<String> = PORTALS.iter().take(2).map(|it| url(it)).collect();
    urls.join(",")
}

fn agreed(keys: &BTreeMap<String, String>, key: &str, value: &str) -> Result<()> {
    let found = keys.get(key).map(String::as_str);
    ensure!(found == Some(value), "{key} became {found:?}");
    Ok(())
}
