//! Everything that can happen to one portal group, each under a verified copy over both portals.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop::cut::{Cut, tap_bytes};
use interop::data::MIB;
use interop::foreign::{Ended, Report};
use interop::iscsi::{INITIATOR, exit, iscsi};
use interop::lio::{DISK, Lio, PORTALS, isolated};
use interop::sandbox::Sandbox;
use rustix::process::Signal;

use crate::load::{Load, beyond, until_said, urls};

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_link_that_goes_down_and_comes_back_loses_nothing() {
    isolated(|sandbox, lio| {
        let mut load = Load::start(sandbox, 1, &[0, 1])?;
        lio.link(sandbox, 0, "down")?;
        load.gets_on()?;
        lio.link(sandbox, 0, "up")?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_portal_that_swallows_packets_loses_nothing() {
    isolated(|sandbox, lio| {
        let mut load = Load::start(sandbox, 2, &[0, 1])?;
        let cut = Cut::black_hole(sandbox, PORTALS[0])?;
        load.gets_on()?;
        cut.restore(sandbox)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn connections_that_are_reset_lose_nothing() {
    isolated(|sandbox, lio| {
        let mut load = Load::start(sandbox, 3, &[0, 1])?;
        let cut = Cut::refuse(sandbox, PORTALS[0])?;
        load.gets_on()?;
        cut.restore(sandbox)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// As at a restart of the target: all sessions end, logins are refused for a while.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_disabled_portal_group_is_waited_for() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 4, &[0, 1], "-v")?;
        lio.enable(sandbox, 1, false)?;
        // Both paths have noticed, and at least one login was refused meanwhile.
        load.says("0x0301")?;
        load.still_running()?;
        lio.enable(sandbox, 1, true)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// Removing an initiator from the access list ends its sessions at once.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn an_access_list_entry_that_is_removed_ends_sessions_but_loses_nothing() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 5, &[0, 1], "-v")?;
        // Making the entry takes over the running sessions with their logical units. An entry made
        // by hand would lose its units first, and the copy would rightly fail.
        let acl = format!("$iscsi/$iqn:demo/tpgt_1/acls/{INITIATOR}");
        lio.exec(sandbox, &format!("mkdir {acl} && rmdir {acl}"))?;
        load.says("lost")?;
        // Afterwards everybody may log in again, this initiator as well.
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_reset_by_a_second_initiator_loses_nothing() {
    isolated(|sandbox, lio| {
        let mut load = Load::start(sandbox, 6, &[0, 1])?;
        second_initiator_resets(sandbox)?;
        load.still_running()?;
        second_initiator_resets(sandbox)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// libiscsi's multipath test resets the logical unit once through each portal.
fn second_initiator_resets(sandbox: &Sandbox) -> Result<()> {
    let (one, two) = (urls(&[0], DISK, ""), urls(&[1], DISK, ""));
    let report = Report::of(sandbox, "ALL.MultipathIO.Reset", &[&one, &two])?;
    let passed = report.that(Ended::Passed);
    ensure!(passed == ["MultipathIO.Reset"], "{report:?}");
    Ok(())
}

/// LIO tells nobody that a disk has another size. A new command sees it.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_resized_disk_is_seen_in_its_new_size() {
    isolated(|sandbox, lio| {
        let info = format!("info {}", urls(&[0, 1], RESIZED, " "));
        let shows = |bytes: u64| -> Result<()> {
            let text = iscsi(sandbox, &info)?.run()?.success()?.text();
            ensure!(text.contains(&format!("({bytes} bytes")), "{text}");
            Ok(())
        };
        shows(64 << 20)?;
        resize(sandbox, lio, "96M")?;
        shows(96 << 20)?;
        let beyond = format!("read {} --offset 80M --length 4k", urls(&[0], RESIZED, " "));
        iscsi(sandbox, &beyond)?.run()?.success()?;
        resize(sandbox, lio, "32M")?;
        shows(32 << 20)?;
        iscsi(sandbox, &beyond)?
            .run()?
            .expect(exit::FAILURE)?
            .says(&["beyond the end", "33554432"])?;
        Ok(())
    });
}

/// A path that comes back to a disk that has grown is used as far as the disk was known; one that
/// comes back to a smaller disk is not used, and says why.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_path_that_comes_back_to_a_resized_disk_takes_no_more_than_was_known() {
    isolated(|sandbox, lio| {
        comes_back_to(sandbox, lio, "96M", "path 0 is used again")?;
        let difference = "path 0 leads to another unit: 196608 blocks there and 65536 blocks here";
        comes_back_to(sandbox, lio, "32M", difference)
    });
}

/// Resizes the disk while the first path is away and another load runs.
fn comes_back_to(sandbox: &Sandbox, lio: &Lio, size: &str, expected: &str) -> Result<()> {
    let bench = format!("bench {} -v --json", urls(&[0, 1], RESIZED, " "));
    let bench = iscsi(sandbox, &bench)?.words("--rw randread --bs 4k --qd 4 --time 40");
    let mut bench = bench.limit(Duration::from_secs(60)).start()?;
    beyond(&mut bench, tap_bytes() + MIB)?;
    let cut = Cut::refuse(sandbox, PORTALS[0])?;
    until_said(&mut bench, "path 0 is down")?;
    resize(sandbox, lio, size)?;
    cut.restore(sandbox)?;
    until_said(&mut bench, expected)?;
    bench.signal(Signal::INT)?;
    bench.finish()?;
    Ok(())
}

/// The logical unit whose backing store can be resized.
const RESIZED: u64 = 3;

fn resize(sandbox: &Sandbox, lio: &Lio, size: &str) -> Result<()> {
    let resize = format!("truncate -s {size} /luns/grow3; losetup -c /dev/loop0");
    lio.exec(sandbox, &resize)?;
    Ok(())
}
