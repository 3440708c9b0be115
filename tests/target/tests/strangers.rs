//! Foreign initiators use the target, and tshark reads what passes. Ignored by default: they need libiscsi's tools,
//! tshark and a network namespace of their own (root, or unprivileged user namespaces).
//!
//! `cargo test -p iscsi-test-target --test strangers -- --ignored`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::Command;

/// Starts the target in a fresh namespace, runs `script` with `$U` as the URL of LUN 0 and `$D` as a directory of its
/// own, and gives its output and what the target said.
fn run(name: &str, arguments: &str, script: &str) -> (String, String) {
    let directory =
        std::env::temp_dir().join(format!("iscsi-strangers-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("secret"), "secretoftwelve\n").unwrap();
    let whole = format!(
        "ip link set lo up; D={directory}; cd $D
        T=iqn.2026-01.org.example:test-target; U=iscsi://127.0.0.1/$T/0
        {target} --listen 127.0.0.1:3260 --lun 64M --lun 32M,4096 {arguments} 2>$D/target.log & P=$!
        until grep -q listening $D/target.log; do :; done
        {script}
        kill -INT $P; wait $P",
        directory = directory.display(),
        target = env!("CARGO_BIN_EXE_iscsi-test-target"),
    );
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", &whole])
        .output()
        .unwrap();
    let log = std::fs::read_to_string(directory.join("target.log")).unwrap_or_default();
    std::fs::remove_dir_all(&directory).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{text}\n{log}");
    (text, log)
}

#[test]
#[ignore = "needs libiscsi-bin and a network namespace"]
fn libiscsi_tools() {
    let (text, log) = run(
        "tools",
        "",
        "iscsi-ls -s iscsi://127.0.0.1 && iscsi-inq -e 1 -c 0x83 $U && iscsi-readcapacity16 $U \
         && iscsi-perf -t 1 -b 16 -m 32 $U && echo all done",
    );
    assert!(text.contains("all done"));
    assert!(text.contains("Lun:1    Type:DIRECT_ACCESS (Size:31M)"));
    assert!(log.contains("0 violations"));
}

#[test]
#[ignore = "needs libiscsi-bin and a network namespace"]
fn libiscsi_logs_in_with_chap_only() {
    let (text, log) = run(
        "chap",
        "--chap user:secret --challenge 64",
        "iscsi-inq iscsi://user%secretoftwelve@127.0.0.1/$T/0 >/dev/null; echo right $?
         iscsi-inq iscsi://user%wrongoftwelve@127.0.0.1/$T/0 >/dev/null 2>&1; echo wrong $?
         iscsi-inq $U >/dev/null 2>&1; echo none $?",
    );
    assert!(text.contains("right 0"), "{text}");
    assert!(text.contains("wrong 10"), "{text}");
    assert!(text.contains("none 10"), "{text}");
    // libiscsi leaves NSG set in requests without T, which RFC 7143 §11.12.3 reserves; nothing else is wrong.
    let blamed = log.lines().filter(|line| line.starts_with("violation"));
    assert!(
        blamed
            .into_iter()
            .all(|line| line.contains("NSG without T"))
    );
}

/// The families of iscsi-test-cu. Two tests of COMPARE AND WRITE fail at 256 blocks, where the suite's 8-bit field
/// wraps to zero, which SBC-3 does not call an error.
#[test]
#[ignore = "needs libiscsi-bin and a network namespace"]
fn iscsi_test_cu() {
    let (text, _) = run(
        "suite",
        "",
        "timeout 200 iscsi-test-cu --dataloss -n -t ALL $U",
    );
    let failed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("had failures"))
        .collect();
    assert_eq!(
        failed,
        [
            "Suite CompareAndWrite, Test Simple had failures:",
            "Suite CompareAndWrite, Test Miscompare had failures:"
        ]
    );
    assert!(text.contains("suites     51     51"));
    // Its tests of persistent reservations ran; what it does not find implemented it skips.
    let skipped = |line: &&str| line.contains("SKIPPED") && line.contains("PERSISTENT RESERVE");
    assert_eq!(text.lines().filter(skipped).count(), 0);
}

#[test]
#[ignore = "needs libiscsi-bin, tshark and a network namespace"]
fn tshark_finds_nothing_malformed_and_good_digests() {
    let (text, log) = run(
        "capture",
        "--key HeaderDigest=CRC32C --key MaxRecvDataSegmentLength=8192 --key MaxBurstLength=16384",
        "timeout 60 tshark -q -i lo -w $D/cap -f 'tcp port 3260' 2>$D/tshark.log & S=$!
         timeout 20 sh -c 'until [ -s cap ]; do :; done'
         C=header_digest=crc32c
         timeout 20 iscsi-ls -s iscsi://127.0.0.1?$C
         timeout 20 iscsi-test-cu --dataloss -n -t SCSI.Write10.Simple $U?$C >/dev/null; echo write $?
         timeout 20 iscsi-test-cu --dataloss -n -t SCSI.Read16.Simple $U?$C >/dev/null; echo read $?
         sleep 1; kill -INT $S; wait $S
         timeout 60 tshark -o tcp.reassemble_out_of_order:TRUE -r cap -V >cap.txt 2>/dev/null
         echo good $(grep -c 'HeaderDigest: .*(Good CRC32)' cap.txt)
         echo bad $(grep -c 'Digest: .*(Bad CRC32' cap.txt)
         echo malformed $(grep -c 'Malformed Packet' cap.txt)",
    );
    let number = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().parse::<u32>().unwrap()
    };
    assert!(number("good") > 100);
    assert_eq!((number("bad"), number("malformed")), (0, 0));
    assert!(log.contains("0 violations"), "{log}");
}
