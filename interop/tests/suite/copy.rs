//! `iscsi cp` of 256 MiB over two portals of tgtd while portals break.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use interop::cut::{Cut, Meter, loopback_bytes};
use interop::data::{MIB, pattern_file, sha256};
use interop::iscsi::{exit, iscsi, url};
use interop::process::{Finished, Running, Tool};
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt};
use interop::wait;

const SIZE: u64 = 256 * MIB;
const PORTALS: [&str; 2] = ["127.0.0.1:3260", "127.0.0.2:3260"];
const COPY_LIMIT: Duration = Duration::from_secs(90);

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_copy_there_and_back_survives_the_loss_of_a_portal() {
    isolated(|sandbox| {
        let tgt = two_portals(sandbox)?;
        let (source, back) = (sandbox.path("source"), sandbox.path("back"));
        pattern_file(&source, 42, SIZE)?;
        let expected = sha256(sandbox, &source)?;
        copy_with_a_cut(sandbox, &source, Path::new(&both_paths()))?;
        ensure!(
            sha256(sandbox, tgt.image(1)?)? == expected,
            "the disk differs from the source"
        );
        copy_with_a_cut(sandbox, Path::new(&both_paths()), &back)?;
        ensure!(sha256(sandbox, &back)? == expected, "the copy back differs");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_verified_copy_survives_a_portal_that_falls_silent() {
    isolated(|sandbox| {
        let tgt = two_portals(sandbox)?;
        let source = sandbox.path("source");
        pattern_file(&source, 43, SIZE)?;
        let copy = start_copy(sandbox, &source, Path::new(&both_paths()), "--verify")?;
        let copy = after(copy, SIZE / 3)?;
        // Nothing comes back, not even a reset: only the keepalive can tell.
        let _cut = Cut::black_hole(sandbox, PORTALS[1])?;
        copy.finish()?.success()?;
        ensure!(
            sha256(sandbox, tgt.image(1)?)? == sha256(sandbox, &source)?,
            "the disk differs"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn with_every_portal_gone_a_copy_waits_and_goes_on() {
    isolated(|sandbox| {
        let tgt = two_portals(sandbox)?;
        let source = sandbox.path("source");
        pattern_file(&source, 44, SIZE)?;
        let copy = start_copy(sandbox, &source, Path::new(&both_paths()), "")?;
        let mut copy = after(copy, SIZE / 3)?;
        let cuts = cut_all(sandbox)?;
        until_silent()?;
        copy.still_running()?;
        for cut in cuts {
            cut.restore(sandbox)?;
        }
        copy.finish()?.success()?;
        ensure!(
            sha256(sandbox, tgt.image(1)?)? == sha256(sandbox, &source)?,
            "the disk differs"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn with_every_portal_gone_for_good_reading_ends_with_a_clear_error() {
    isolated(|sandbox| {
        let _tgt = two_portals(sandbox)?;
        let back = sandbox.path("back");
        let paths = both_paths();
        let copy = start_copy(sandbox, Path::new(&paths), &back, "--no-path-retry 3")?;
        let copy = after(copy, SIZE / 3)?;
        let _cuts = cut_all(sandbox)?;
        gives_up(copy)?
            .expect(exit::UNREACHABLE)?
            .says(&["no path", "127.0.0."])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn with_every_portal_gone_for_good_writing_says_what_is_uncertain() {
    isolated(|sandbox| {
        let _tgt = two_portals(sandbox)?;
        let source = sandbox.path("source");
        pattern_file(&source, 45, SIZE)?;
        let paths = both_paths();
        // An uncertain write is waited for until the I/O's own deadline: some path may settle it.
        let options = "--no-path-retry 3 --io-deadline 6";
        let copy = start_copy(sandbox, &source, Path::new(&paths), options)?;
        let copy = after(copy, SIZE / 3)?;
        let _cuts = cut_all(sandbox)?;
        // Writes were in flight: nobody can know which of them the target has done.
        gives_up(copy)?
            .expect(exit::OUTCOME_UNKNOWN)?
            .says(&["have been done"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_portal_that_comes_back_is_used_again() {
    isolated(|sandbox| {
        let _tgt = two_portals(sandbox)?;
        let meters = meters(sandbox)?;
        let urls = PORTALS.map(|portal| url(portal, tgt::TARGET, 1)).join(" ");
        let bench = format!("bench {urls} --rw randread --bs 64k --qd 8 --time 40");
        let mut bench = iscsi(sandbox, &bench)?.limit(COPY_LIMIT).start()?;
        flows(sandbox, &mut bench, &meters[0])?;
        flows(sandbox, &mut bench, &meters[1])?;
        let cut = Cut::refuse(sandbox, PORTALS[0])?;
        flows(sandbox, &mut bench, &meters[1])?;
        cut.restore(sandbox)?;
        flows(sandbox, &mut bench, &meters[0])?;
        flows(sandbox, &mut bench, &meters[1])?;
        Ok(())
    });
}

/// A target that dies takes its sessions with it, and the data it has acknowledged stays.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_target_that_is_killed_and_started_again_is_no_end() {
    isolated(|sandbox| {
        let builder = Tgt::builder()
            .portal(PORTALS[0])
            .portal(PORTALS[1])
            .disk(SIZE);
        let tgt = builder.start(sandbox)?;
        let (source, paths) = (sandbox.path("source"), both_paths());
        pattern_file(&source, 46, SIZE)?;
        let copy = start_copy(sandbox, &source, Path::new(&paths), "--verify")?;
        let copy = after(copy, SIZE / 3)?;
        drop(tgt);
        let tgt = builder.start(sandbox)?;
        copy.finish()?.success()?;
        ensure!(
            sha256(sandbox, tgt.image(1)?)? == sha256(sandbox, &source)?,
            "the disk differs"
        );
        Ok(())
    });
}

/// Copies while the busier portal is gone between the first and the second third.
fn copy_with_a_cut(sandbox: &Sandbox, from: &Path, to: &Path) -> Result<()> {
    let [one, two] = meters(sandbox)?;
    let before = loopback_bytes()?;
    let copy = start_copy(sandbox, from, to, "")?;
    let copy = after(copy, SIZE / 3)?;
    let [first, second] = PORTALS;
    let busier = if two.bytes(sandbox)? > one.bytes(sandbox)? {
        second
    } else {
        first
    };
    let cut = Cut::refuse(sandbox, busier)?;
    let copy = beyond(copy, before + SIZE * 2 / 3)?;
    cut.restore(sandbox)?;
    copy.finish()?.success()?;
    one.detach(sandbox)?;
    two.detach(sandbox)
}

/// The end of a copy that is to give up 3 seconds after the last path was lost.
fn gives_up(copy: Running) -> Result<Finished> {
    let watch = wait::Stopwatch::start();
    let finished = copy.finish()?;
    let waited = watch.elapsed();
    ensure!(
        waited >= Duration::from_secs(3),
        "it gave up after {waited:?}"
    );
    ensure!(
        waited < Duration::from_secs(20),
        "it gave up only after {waited:?}"
    );
    Ok(finished)
}

fn start_copy(sandbox: &Sandbox, from: &Path, to: &Path, options: &str) -> Result<Running> {
    let tool: Tool = iscsi(sandbox, "cp")?.arg(from).arg(to).words(options);
    tool.limit(COPY_LIMIT).start()
}

/// Waits until `bytes` more have gone over the wire.
fn after(program: Running, bytes: u64) -> Result<Running> {
    let goal = loopback_bytes()? + bytes;
    beyond(program, goal)
}

fn beyond(mut program: Running, goal: u64) -> Result<Running> {
    wait::until("the copy to get on", COPY_LIMIT, || {
        program.still_running()?;
        Ok((loopback_bytes()? >= goal).then_some(()))
    })?;
    Ok(program)
}

/// Waits until a portal carries a mebibyte more.
fn flows(sandbox: &Sandbox, program: &mut Running, meter: &Meter) -> Result<()> {
    let goal = meter.bytes(sandbox)? + MIB;
    wait::until("traffic over the portal", Duration::from_secs(30), || {
        program.still_running()?;
        Ok((meter.bytes(sandbox)? >= goal).then_some(()))
    })
}

/// Waits until hardly anything moves any more.
fn until_silent() -> Result<()> {
    let mut last = (loopback_bytes()?, wait::Stopwatch::start());
    wait::until("silence on the wire", Duration::from_secs(20), || {
        let now = loopback_bytes()?;
        if now > last.0 + 4096 {
            last = (now, wait::Stopwatch::start());
        }
        Ok((last.1.elapsed() > Duration::from_millis(500)).then_some(()))
    })
}

fn two_portals(sandbox: &Sandbox) -> Result<Tgt> {
    Tgt::builder()
        .portal(PORTALS[0])
        .portal(PORTALS[1])
        .disk(SIZE)
        .start(sandbox)
}

fn both_paths() -> String {
    PORTALS.map(|portal| url(portal, tgt::TARGET, 1)).join(",")
}

fn cut_all(sandbox: &Sandbox) -> Result<Vec<Cut>> {
    PORTALS
        .iter()
        .map(|portal| Cut::refuse(sandbox, portal))
        .collect()
}

fn meters(sandbox: &Sandbox) -> Result<[Meter; 2]> {
    Ok([
        Meter::attach(sandbox, PORTALS[0])?,
        Meter::attach(sandbox, PORTALS[1])?,
    ])
}
