//! The two portal groups of `demo`: one logical unit, two ways that share no fence.

use anyhow::ensure;
use interop::cut::Cut;
use interop::iscsi::iscsi;
use interop::lio::{Access, DISK, PORTALS, isolated};

use crate::load::{Load, urls};

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn both_portal_groups_are_one_logical_unit() {
    isolated(|sandbox, lio| {
        let info = iscsi(sandbox, &format!("info {}", urls(&[0, 1, 2], DISK, " ")))?;
        let info = info.run()?.success()?.text();
        for word in ["10.99.1.15:3260 group 1", "10.99.2.15:3260 group 2"] {
            ensure!(info.contains(word), "{word} is missing in:\n{info}");
        }
        for word in [
            "priority 50, in use",
            "priority 10",
            "target port group 1 active/optimized",
            "target port group 2 active/non-optimized",
        ] {
            ensure!(info.contains(word), "{word} is missing in:\n{info}");
        }
        let load = Load::start(sandbox, 10, &[0, 1, 2])?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// With its own group's other portal up, the fence of a lost path goes through that one.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_fence_goes_through_another_portal_of_its_own_group() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 11, &[0, 1, 2], "-v")?;
        let _cut = Cut::refuse(sandbox, PORTALS[0])?;
        load.says("is fenced")?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// A path whose group has no other portal cannot be fenced while it is away: its uncertain writes
/// wait for it, and no login for it is tried at the other group, which would fence nothing.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn uncertain_writes_wait_for_their_own_portal_group() {
    isolated(|sandbox, lio| {
        // Both are active/optimized, so both carry writes.
        lio.access(sandbox, "ano", Access::Optimized)?;
        let mut load = Load::with(sandbox, 12, &[0, 2], "-v")?;
        let cut = Cut::refuse(sandbox, PORTALS[2])?;
        load.says("fencing path 1")?;
        load.says("no login at 10.99.2.15:3260")?;
        load.still_running()?;
        cut.restore(sandbox)?;
        let done = load.finish_verified(sandbox, lio)?;
        let fenced = done.stderr.find("path 1 is fenced");
        ensure!(fenced.is_some(), "{}", done.stderr);
        Ok(())
    });
}

/// The whole group goes away on purpose, the other one carries on.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_disabled_portal_group_leaves_the_other_one_working() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 13, &[0, 1, 2], "-v")?;
        lio.enable(sandbox, 2, false)?;
        load.says("path 2 is down")?;
        lio.enable(sandbox, 2, true)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}
