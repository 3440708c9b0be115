//! Strangers against our own target: it has to satisfy initiators that were not written for it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use interop::capture::Capture;
use interop::data::{MIB, pattern_file};
use interop::foreign::Report;
use interop::iscsi::iscsi;
use interop::own::{Own, TARGET};
use interop::process::Tool;
use interop::sandbox::isolated;

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn libiscsi_lists_portals_and_logical_units() {
    isolated(|sandbox| {
        let portals = ["127.0.0.1:3260", "127.0.0.2:3260,2", "[::1]:3260"];
        let own = Own::start(sandbox, &portals, "--lun 64M --lun 32M,4096")?;
        for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let listed = Tool::new(sandbox, "iscsi-ls")
                .arg("--show-luns")
                .arg(format!("iscsi://{host}"))
                .run()?
                .success()?
                .text();
            ensure!(listed.matches(TARGET).count() == portals.len(), "{listed}");
            ensure!(listed.contains("Portal:127.0.0.2:3260,2"), "{listed}");
            ensure!(
                listed.contains("Lun:0") && listed.contains("Lun:1"),
                "{listed}"
            );
        }
        no_violation(own)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn libiscsi_reads_identity_and_capacity() {
    isolated(|sandbox| {
        let own = Own::start(sandbox, &["127.0.0.1:3260"], "--lun 64M --lun 32M,4096")?;
        let inquiry = Tool::new(sandbox, "iscsi-inq")
            .arg(lun(0))
            .run()?
            .success()?
            .text();
        ensure!(
            inquiry.contains("Peripheral Device Type:DIRECT_ACCESS"),
            "{inquiry}"
        );
        for (page, holds) in [(0x00, "0x83"), (0x80, "TESTTARGET"), (0x83, "NAA")] {
            // It understands decimal numbers only.
            let options = format!("--evpd=1 --pagecode={page}");
            let vpd = Tool::new(sandbox, "iscsi-inq").words(&options).arg(lun(0));
            let text = vpd.run()?.success()?.text();
            ensure!(text.contains(holds), "page {page:#x}: {text}");
        }
        for (number, bytes) in [(0, 64_u64 << 20), (1, 32 << 20)] {
            let size = Tool::new(sandbox, "iscsi-readcapacity16")
                .arg("-s")
                .arg(lun(number));
            let size = size.run()?.success()?.text();
            ensure!(size.trim() == bytes.to_string(), "LUN {number}: {size}");
        }
        no_violation(own)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn libiscsi_reads_at_depth() {
    isolated(|sandbox| {
        let own = Own::start(sandbox, &["127.0.0.1:3260"], "--queue-depth 64")?;
        let perf = Tool::new(sandbox, "iscsi-perf")
            .words("-m 32 -b 8 -t 2 -r")
            .arg(lun(0));
        let done = perf.limit(Duration::from_secs(20)).run()?.success()?;
        ensure!(
            done.everything().contains("iops average"),
            "{}",
            done.everything()
        );
        no_violation(own)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn libiscsi_authenticates_in_both_directions() {
    isolated(|sandbox| {
        let secrets = [("isecret", "isecret123456"), ("tsecret", "tsecret654321")];
        for (file, secret) in secrets {
            std::fs::write(sandbox.path(file), secret)?;
        }
        let options = format!(
            "--chap iuser:{} --mutual tuser:{} --challenge 64",
            sandbox.path("isecret").display(),
            sandbox.path("tsecret").display()
        );
        let own = Own::start(sandbox, &["127.0.0.1:3260"], &options)?;
        let inquiry = |secret: &str| {
            Tool::new(sandbox, "iscsi-inq")
                .arg(lun(0))
                .env("LIBISCSI_CHAP_USERNAME", "iuser")
                .env("LIBISCSI_CHAP_PASSWORD", secret)
        };
        inquiry("isecret123456").run()?.success()?;
        inquiry("isecret123456")
            .env("LIBISCSI_CHAP_TARGET_USERNAME", "tuser")
            .env("LIBISCSI_CHAP_TARGET_PASSWORD", "tsecret654321")
            .run()?
            .success()?;
        ensure!(
            inquiry("wrong-secret-12").run()?.code() != Some(0),
            "a wrong secret was taken"
        );
        let nobody = Tool::new(sandbox, "iscsi-inq").arg(lun(0)).run()?;
        ensure!(nobody.code() != Some(0), "no secret at all was taken");
        no_violation(own)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tshark_finds_its_digests_right() {
    isolated(|sandbox| {
        let _own = Own::start(sandbox, &["127.0.0.1:3260"], "--key HeaderDigest=CRC32C")?;
        let capture = Capture::start(sandbox)?;
        let url = format!("{}?header_digest=crc32c", lun(0));
        Tool::new(sandbox, "iscsi-inq").arg(url).run()?.success()?;
        capture.stop()?.verdict(sandbox)?.clean(true)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn libiscsis_scsi_suites_are_content() {
    isolated(|sandbox| {
        let portals = ["127.0.0.1:3260", "127.0.0.2:3260"];
        let _own = Own::start(sandbox, &portals, "--lun 64M")?;
        let second = lun(0).replace("127.0.0.1", "127.0.0.2");
        let report = Report::of(sandbox, "SCSI", &[&lun(0), &second])?;
        // Both ask for 256 blocks, which the 8-bit field of the command turns into none, and want
        // that refused; SBC-3 says that zero blocks are no error.
        report.fails_only(&["CompareAndWrite.Miscompare", "CompareAndWrite.Simple"])?;
        let suites = "GetLBAStatus Inquiry Mandatory ModeSense6 MultipathIO NoMedia Prefetch10 \
                      Prefetch16 Read6 Read10 Read12 Read16 ReadCapacity10 ReadCapacity16 \
                      TestUnitReady Unmap Verify10 Verify12 Verify16 Write10 Write12 Write16 \
                      WriteVerify10 WriteVerify12 WriteVerify16";
        let suites: Vec<_> = suites.split_whitespace().collect();
        // These look into REPORT SUPPORTED OPERATION CODES first, which is not there.
        report.covers(&suites, &["Dpo", "DpoFua"])
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn libiscsis_iscsi_suites_are_content() {
    isolated(|sandbox| {
        let _own = Own::start(sandbox, &["127.0.0.1:3260"], "--lun 64M")?;
        let report = Report::of(sandbox, "iSCSI", &[&lun(0)])?;
        report.fails_only(&[])?;
        report.covers(
            &["iSCSIcmdsn", "iSCSIdatasn", "iSCSIResiduals", "iSCSITMF"],
            &[],
        )
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn our_own_initiator_breaks_no_rule_it_can_see() {
    isolated(|sandbox| {
        let odd = "--key DataPDUInOrder=No --key DataSequenceInOrder=No --key MaxOutstandingR2T=8 \
                   --key MaxBurstLength=8192 --key FirstBurstLength=1024 \
                   --key MaxRecvDataSegmentLength=512 --queue-depth 2";
        let digests = "-k HeaderDigest=CRC32C -k DataDigest=CRC32C";
        for (target, initiator) in [
            ("", ""),
            (odd, "-k InitialR2T=No"),
            (
                odd,
                "-k DataPDUInOrder=No -k DataSequenceInOrder=No -k MaxOutstandingR2T=8",
            ),
            (
                "--key HeaderDigest=CRC32C --key DataDigest=CRC32C --ping 1",
                digests,
            ),
        ] {
            let own = Own::start(sandbox, &["127.0.0.1:3260", "127.0.0.2:3260"], target)?;
            let (source, back) = (sandbox.path("source"), sandbox.path("back"));
            pattern_file(&source, 3, 8 * MIB)?;
            let both = format!("{},{}", lun(0), lun(0).replace("127.0.0.1", "127.0.0.2"));
            for (from, to) in [
                (source.as_path(), Path::new(&both)),
                (Path::new(&both), &back),
            ] {
                let copy = iscsi(sandbox, "cp")?.arg(from).arg(to).words(initiator);
                copy.run()?.success()?;
            }
            let whole = std::fs::read(&back)?;
            ensure!(
                whole.starts_with(&std::fs::read(&source)?),
                "the copy back differs"
            );
            let violations = own.violations()?;
            ensure!(
                violations.is_empty(),
                "{target} {initiator}: {violations:#?}"
            );
        }
        Ok(())
    });
}

fn lun(number: u64) -> String {
    format!("iscsi://127.0.0.1:3260/{TARGET}/{number}")
}

/// Nothing but what libiscsi 1.19 is known to do: it fills in NSG where T is 0.
fn no_violation(own: Own) -> Result<()> {
    let violations = own.violations()?;
    let new: Vec<_> = violations
        .iter()
        .filter(|line| !line.contains("NSG without T"))
        .collect();
    ensure!(new.is_empty(), "{new:#?}");
    Ok(())
}
