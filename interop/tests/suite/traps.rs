//! What real targets do that trips initiators: one test for each trap known.
//!
//! Some concern other initiators only, and are here so that ours stays out of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop::capture::Capture;
use interop::iscsi::{exit, iscsi, url};
use interop::istgt::{self, Istgt, IstgtBuilder};
use interop::roundtrip::Roundtrip;
use interop::sandbox::isolated;
use interop::tgt::{self, Tgt, TgtBuilder};

/// istgt advances ExpCmdSN for an immediate Text Request; libiscsi's Logout then hangs.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn logout_after_send_targets_does_not_hang_at_istgt() {
    isolated(|sandbox| {
        let _istgt = istgt().start(sandbox)?;
        let capture = Capture::start(sandbox)?;
        iscsi(sandbox, "discover 127.0.0.1")?
            .limit(Duration::from_secs(5))
            .run()?
            .success()?;
        let recording = capture.stop()?;
        let logouts = recording.fields(sandbox, "iscsi.opcode == 0x26", &["iscsi.opcode"])?;
        ensure!(logouts.len() == 1, "the Logout was not answered");
        Ok(())
    });
}

/// istgt answers an AuthMethod it does not like with the value Reject and status 0.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn auth_method_reject_with_status_success_is_a_failure() {
    isolated(|sandbox| {
        // It wants CHAP, we offer None.
        let _istgt = istgt().chap("iuser", "isecret123456").start(sandbox)?;
        iscsi(sandbox, &read(&url("127.0.0.1", istgt::TARGET, 0)))?
            .run()?
            .expect(exit::LOGIN)?
            .says(&["127.0.0.1:3260", istgt::TARGET])?;
        Ok(())
    });
}

/// The same the other way round: it wants None, we insist on CHAP.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn chap_is_not_given_up_when_istgt_does_not_want_it() {
    isolated(|sandbox| {
        let _istgt = istgt().start(sandbox)?;
        iscsi(sandbox, &read(&url("127.0.0.1", istgt::TARGET, 0)))?
            .env("ISCSI_CHAP_NAME", "iuser")
            .env("ISCSI_CHAP_SECRET", "isecret123456")
            .run()?
            .expect(exit::LOGIN)?;
        Ok(())
    });
}

/// tgtd takes CHAP_A=7 and computes SHA-1: who offers SHA-256 first is locked out.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn the_default_algorithms_avoid_the_sha256_of_tgtd_that_is_none() {
    isolated(|sandbox| {
        let _tgt = tgtd().chap("iuser", "isecret123456").start(sandbox)?;
        let with = |options: &str| -> Result<_> {
            Ok(iscsi(sandbox, &read(&url("127.0.0.1", tgt::TARGET, 1)))?
                .words(options)
                .env("ISCSI_CHAP_NAME", "iuser")
                .env("ISCSI_CHAP_SECRET", "isecret123456"))
        };
        with("")?.run()?.success()?;
        // Whoever insists gets a refusal, not a hang.
        with("--chap-alg sha256")?
            .run()?
            .expect(exit::LOGIN)?
            .says(&["127.0.0.1:3260"])?;
        Ok(())
    });
}

/// A Login Response with T=0 and keys of its own: the login has to go on until T=1.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_login_that_takes_another_round_is_finished() {
    isolated(|sandbox| {
        let tgt = tgtd().set("ErrorRecoveryLevel", "2").start(sandbox)?;
        Roundtrip::new(&url("127.0.0.1", tgt::TARGET, 1)).run(sandbox, tgt.image(1)?)
    });
}

/// istgt that demands digests answers `HeaderDigest=None` with the value Reject and status 0.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_digest_rejected_with_status_success_is_a_failure_that_names_the_key() {
    isolated(|sandbox| {
        let istgt = istgt().digests("Header Data").start(sandbox)?;
        let lun = url("127.0.0.1", istgt::TARGET, 0);
        iscsi(sandbox, &read(&lun))?
            .words("-k HeaderDigest=None -k DataDigest=None")
            .run()?
            .expect(exit::LOGIN)?
            .says(&["HeaderDigest", "Reject"])?;
        Roundtrip::new(&lun)
            .options("-k HeaderDigest=CRC32C -k DataDigest=CRC32C")
            .run(sandbox, istgt.image(0)?)
    });
}

/// Discovery of a target that has no account for it, with the credentials meant for the target's
/// sessions: libiscsi fails with "did not return CHAP_N".
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn credentials_for_sessions_do_not_get_into_the_way_of_discovery() {
    isolated(|sandbox| {
        let _tgt = tgtd()
            .chap("iuser", "isecret123456")
            .mutual_chap("tuser", "tsecret654321")
            .start(sandbox)?;
        let info = format!("info {} --all-paths", url("127.0.0.1", tgt::TARGET, 1));
        iscsi(sandbox, &info)?
            .env("ISCSI_CHAP_NAME", "iuser")
            .env("ISCSI_CHAP_SECRET", "isecret123456")
            .env("ISCSI_MUTUAL_NAME", "tuser")
            .env("ISCSI_MUTUAL_SECRET", "tsecret654321")
            .run()?
            .success()?;
        Ok(())
    });
}

/// tgtd's window at login is one command, istgt's 31; both open later.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_command_window_that_starts_small_is_respected() {
    isolated(|sandbox| {
        let _tgt = tgtd().start(sandbox)?;
        deep_queue(sandbox, &url("127.0.0.1", tgt::TARGET, 1))
    });
}

/// See above.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn the_window_of_istgt_is_respected() {
    isolated(|sandbox| {
        let _istgt = istgt().start(sandbox)?;
        deep_queue(sandbox, &url("127.0.0.1", istgt::TARGET, 0))
    });
}

/// Targets ping; a NOP-In that wants an answer must get it or the target drops the session.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn pings_of_the_target_are_answered() {
    isolated(|sandbox| {
        let tgt = tgtd()
            .iscsi_option("nop_interval=1")
            .iscsi_option("nop_count=1")
            .start(sandbox)?;
        let capture = Capture::start(sandbox)?;
        let (reader, writer) = std::io::pipe()?;
        let line = format!(
            "read {} --offset 0 --length 16M",
            url("127.0.0.1", tgt::TARGET, 1)
        );
        // The pipe is not read, so the session idles while tgtd pings it.
        let program = iscsi(sandbox, &line)?.stdout_to(writer).start()?;
        let ping = "iscsi.opcode == 0x20 && iscsi.targettransfertag != 0xffffffff";
        interop::wait::until("some pings", Duration::from_secs(20), || {
            Ok((capture.count_so_far(sandbox, ping)? >= 3).then_some(()))
        })?;
        ensure!(
            tgt.sessions(sandbox)?.len() == 1,
            "tgtd dropped the session"
        );
        drop(reader);
        drop(program);
        let recording = capture.stop()?;
        let pings = recording.fields(sandbox, ping, &["iscsi.opcode"])?;
        let answer = "iscsi.opcode == 0x00 && iscsi.targettransfertag != 0xffffffff";
        let answers = recording.fields(sandbox, answer, &["iscsi.opcode"])?;
        ensure!(!pings.is_empty(), "tgtd did not ping");
        ensure!(
            pings.len() == answers.len(),
            "{} pings, {} answers",
            pings.len(),
            answers.len()
        );
        Ok(())
    });
}

fn deep_queue(sandbox: &interop::sandbox::Sandbox, lun: &str) -> Result<()> {
    let bench = format!("bench {lun} --rw randread --bs 4k --qd 128 --time 1 --json");
    let done = iscsi(sandbox, &bench)?.run()?.success()?.json()?;
    ensure!(
        done.get("errors").and_then(serde_json::Value::as_u64) == Some(0),
        "{done}"
    );
    let iops = done
        .get("iops")
        .and_then(serde_json::Value::as_f64)
        .unwrap_or_default();
    ensure!(iops > 100.0, "{done}");
    Ok(())
}

fn tgtd() -> TgtBuilder {
    Tgt::builder().portal("127.0.0.1:3260").disk(64 << 20)
}

fn istgt() -> IstgtBuilder {
    Istgt::builder()
        .portal_group(&["127.0.0.1:3260"])
        .disk(64 << 20)
}

fn read(lun: &str) -> String {
    format!("read {lun} --offset 0 --length 4k")
}
