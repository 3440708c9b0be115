//! What tshark makes of our sessions.

use anyhow::{Result, ensure};
use interop::capture::{Capture, Recording};
use interop::iscsi::{iscsi, url};
use interop::istgt::{self, Istgt};
use interop::roundtrip::Roundtrip;
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt};

const DIGESTS: &str = "-k HeaderDigest=CRC32C -k DataDigest=CRC32C";

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_without_digests_is_clean() {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(1 << 20)
            .start(sandbox)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        let recording = recorded(sandbox, |sandbox| {
            Roundtrip::new(&lun).run(sandbox, tgt.image(1)?)
        })?;
        recording.verdict(sandbox)?.clean(false)?;
        ends_with_logouts(sandbox, &recording, ANSWERED)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_with_digests_is_clean() {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(1 << 20)
            .set("HeaderDigest", "CRC32C")
            .set("DataDigest", "CRC32C")
            .start(sandbox)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        let recording = recorded(sandbox, |sandbox| {
            Roundtrip::new(&lun)
                .options(DIGESTS)
                .run(sandbox, tgt.image(1)?)
        })?;
        recording.verdict(sandbox)?.clean(true)?;
        ends_with_logouts(sandbox, &recording, ANSWERED)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_with_digests_and_small_segments_is_clean() {
    isolated(|sandbox| {
        let istgt = Istgt::builder()
            .portal_group(&["127.0.0.1:3260"])
            .set("MaxRecvDataSegmentLength", "4096")
            .disk(1 << 20)
            .start(sandbox)?;
        let lun = url("127.0.0.1", istgt::TARGET, 0);
        let options = format!("{DIGESTS} -k MaxRecvDataSegmentLength=512");
        let recording = recorded(sandbox, |sandbox| {
            Roundtrip::new(&lun)
                .options(&options)
                .run(sandbox, istgt.image(0)?)
        })?;
        recording.verdict(sandbox)?.clean(true)?;
        // istgt sometimes closes the connection in place of an answer.
        ends_with_logouts(sandbox, &recording, ASKED)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn every_verb_that_looks_is_clean_and_logs_out() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .portal("127.0.0.2:3260")
            .disk(1 << 20)
            .start(sandbox)?;
        let target = format!("iscsi://127.0.0.1/{}", tgt::TARGET);
        let recording = recorded(sandbox, |sandbox| {
            for line in [
                "discover 127.0.0.1".to_owned(),
                format!("ls {target}"),
                format!("info {target}/1 --all-paths"),
            ] {
                iscsi(sandbox, &line)?.run()?.success()?;
            }
            Ok(())
        })?;
        recording.verdict(sandbox)?.clean(false)?;
        ends_with_logouts(sandbox, &recording, ANSWERED)
    });
}

fn recorded(sandbox: &Sandbox, sessions: impl FnOnce(&Sandbox) -> Result<()>) -> Result<Recording> {
    let capture = Capture::start(sandbox)?;
    sessions(sandbox)?;
    capture.stop()
}

/// Opcode of a Logout Request.
const ASKED: &str = "0x06";

/// Opcode of a Logout Response.
const ANSWERED: &str = "0x26";

/// Every TCP connection that logged in ends with a Logout.
fn ends_with_logouts(sandbox: &Sandbox, recording: &Recording, logout: &str) -> Result<()> {
    let streams = |opcode: &str| -> Result<Vec<String>> {
        let filter = format!("iscsi.opcode == {opcode}");
        let mut streams = recording.fields(sandbox, &filter, &["tcp.stream"])?;
        streams.sort();
        streams.dedup();
        Ok(streams)
    };
    let (logins, logouts) = (streams("0x23")?, streams(logout)?);
    ensure!(!logins.is_empty(), "no login was recorded");
    ensure!(
        logins == logouts,
        "logged in on {logins:?}, out of {logouts:?}"
    );
    Ok(())
}
