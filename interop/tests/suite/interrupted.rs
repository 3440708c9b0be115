//! Copies that are stopped, by the user or by circumstances: said clearly, sessions logged out.

use std::fs;
use std::io::{PipeReader, Read as _, pipe};
use std::time::Duration;

use anyhow::{Result, ensure};
use interop::capture::Capture;
use interop::cut::loopback_bytes;
use interop::data::{MIB, pattern_file, same};
use interop::iscsi::{exit, iscsi, url};
use interop::process::{Running, Tool};
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt};
use interop::wait;
use rustix::process::Signal;

const SIZE: u64 = 256 * MIB;
/// 128 + SIGINT, as a shell reports it.
const INTERRUPTED: i32 = 130;
/// 128 + SIGTERM.
const TERMINATED: i32 = 143;

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn ctrl_c_while_a_disk_is_written_tells_how_far_it_got() {
    isolated(|sandbox| {
        let tgt = tgtd(sandbox)?;
        let source = sandbox.path("source");
        pattern_file(&source, 7, SIZE)?;
        let copy = start(iscsi(sandbox, "cp")?.arg(&source).arg(lun()))?;
        copy.signal(Signal::INT)?;
        copy.finish()?
            .expect(INTERRUPTED)?
            .says(&["ctrl-c", "written"])?;
        no_session_left(sandbox, &tgt)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_stopped_copy_leaves_an_existing_file_as_it_was() {
    isolated(|sandbox| {
        let tgt = tgtd(sandbox)?;
        let target_file = sandbox.path("precious");
        fs::write(&target_file, "precious")?;
        let copy = start(iscsi(sandbox, "cp")?.arg(lun()).arg(&target_file))?;
        copy.signal(Signal::TERM)?;
        copy.finish()?.expect(TERMINATED)?;
        same("the old file", b"precious", &fs::read(&target_file)?)?;
        no_session_left(sandbox, &tgt)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn ctrl_c_logs_out_on_the_wire() {
    isolated(|sandbox| {
        let _tgt = tgtd(sandbox)?;
        let capture = Capture::start(sandbox)?;
        let (mut reader, program) = read_into_a_pipe(sandbox)?;
        let mut first = [0; 4096];
        reader.read_exact(&mut first)?;
        // Nobody reads on, so the program is stuck in the middle of its work.
        program.signal(Signal::INT)?;
        program.finish()?.expect(INTERRUPTED)?;
        let recording = capture.stop()?;
        let logouts = recording.fields(sandbox, "iscsi.opcode == 0x26", &["iscsi.opcode"])?;
        ensure!(
            logouts.len() == 1,
            "{} logouts were answered",
            logouts.len()
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_reader_that_goes_away_ends_the_read() {
    isolated(|sandbox| {
        let tgt = tgtd(sandbox)?;
        let (mut reader, program) = read_into_a_pipe(sandbox)?;
        let mut first = [0; 4096];
        reader.read_exact(&mut first)?;
        drop(reader);
        program.finish()?.expect(exit::FAILURE)?.says(&["closed"])?;
        no_session_left(sandbox, &tgt)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_full_disk_is_reported_and_nothing_half_done_looks_whole() {
    isolated(|sandbox| {
        let tgt = tgtd(sandbox)?;
        let small = sandbox.path("small");
        fs::create_dir(&small)?;
        Tool::new(sandbox, "mount")
            .words("-t tmpfs -o size=1m tmpfs")
            .arg(&small)
            .run()?
            .success()?;
        let copy = small.join("copy");
        iscsi(sandbox, "cp")?
            .arg(lun())
            .arg(&copy)
            .run()?
            .expect(exit::FAILURE)?
            .says(&["no space left", "copy"])?;
        ensure!(!copy.exists(), "half a file passes for a copy");
        no_session_left(sandbox, &tgt)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_source_larger_than_the_disk_is_refused_before_anything_is_written() {
    isolated(|sandbox| {
        let tgt = tgtd(sandbox)?;
        let source = sandbox.path("source");
        pattern_file(&source, 8, SIZE + 512)?;
        let done = iscsi(sandbox, "cp")?.arg(&source).arg(lun()).run()?;
        ensure!(![Some(0), None].contains(&done.code()), "{done:?}");
        ensure!(
            interop::data::bytes_in_use(tgt.image(1)?)? == 0,
            "something was written"
        );
        Ok(())
    });
}

/// Starts a copy and waits until it is well under way.
fn start(tool: Tool) -> Result<Running> {
    let goal = loopback_bytes()? + SIZE / 8;
    let mut copy = tool.start()?;
    wait::until("the copy to get under way", Duration::from_secs(30), || {
        copy.still_running()?;
        Ok((loopback_bytes()? >= goal).then_some(()))
    })?;
    Ok(copy)
}

fn read_into_a_pipe(sandbox: &Sandbox) -> Result<(PipeReader, Running)> {
    let (reader, writer) = pipe()?;
    let line = format!("read {} --offset 0 --length {SIZE}", lun());
    let program = iscsi(sandbox, &line)?.stdout_to(writer).start()?;
    Ok((reader, program))
}

/// tgtd itself soon knows of no session any more.
fn no_session_left(sandbox: &Sandbox, tgt: &Tgt) -> Result<()> {
    wait::until(
        "tgtd to see the end of all sessions",
        Duration::from_secs(5),
        || Ok(tgt.sessions(sandbox)?.is_empty().then_some(())),
    )
}

fn tgtd(sandbox: &Sandbox) -> Result<Tgt> {
    Tgt::builder()
        .portal("127.0.0.1:3260")
        .disk(SIZE)
        .start(sandbox)
}

fn lun() -> String {
    url("127.0.0.1", tgt::TARGET, 1)
}
