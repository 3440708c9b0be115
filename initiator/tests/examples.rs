//! Every example runs against its embedded target and says what it should.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::process::Command;

/// Cargo builds the examples beside the tests: `target/*/examples` and `target/*/deps`.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "not built: cargo test -p iscsi-initiator builds it"
    );
    program
}

#[track_caller]
fn says(name: &str, parts: &[&str]) {
    let output = Command::new(example(name)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn read_first_block() {
    says("read_first_block", &["0000  [00, 00", "01f0  [00, 00"]);
}

#[test]
fn write_verify() {
    says(
        "write_verify",
        &["1048576 bytes at 66060288 written, verified and restored"],
    );
}

#[test]
fn raw_cdb() {
    says("raw_cdb", &["GOOD (0x00), 96 bytes: [00, 00, 06"]);
}

#[test]
fn failover() {
    says(
        "failover",
        &[
            "path 0 is down",
            "path 0 is used again",
            "closed: logged out",
        ],
    );
}

#[test]
fn discovery() {
    says("discovery", &["test-target", "131072 blocks of 512 bytes"]);
}

#[test]
fn a_bad_argument_is_told() {
    let output = Command::new(example("read_first_block"))
        .args(["127.0.0.1:1", "iqn.2026-01.org.example:../x"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("'/'") && errors.contains("not allowed"),
        "{errors}"
    );
}
