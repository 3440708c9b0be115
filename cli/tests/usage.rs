//! What is wrong with a command line is said with status 2 before anything is connected to.

mod common;

use common::Cli;

const URL: &str = "iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0";

#[track_caller]
fn refused(line: &str) -> String {
    let cli = Cli::new();
    let done = cli.run(line.split(' '));
    assert!(done.stdout.is_empty(), "{line}: {done:#?}");
    done.fails(2).to_owned()
}

#[test]
fn help_and_version_are_no_failures() {
    let cli = Cli::new();
    for verb in [
        "discover", "ls", "info", "read", "write", "cp", "bench", "secret", "demo",
    ] {
        assert!(
            cli.run([verb, "--help"]).text(0).contains("Usage: iscsi"),
            "{verb}"
        );
    }
    assert!(cli.run(["--version"]).text(0).starts_with("iscsi "));
    let help = cli.run(["--help"]).text(0);
    assert!(
        help.contains("Exit status") && help.contains("Examples"),
        "{help}"
    );
    assert!(cli.run(["bench", "--help"]).text(0).contains("OVERWRITE"));
}

#[test]
fn secrets_are_long_and_never_the_same() {
    let cli = Cli::new();
    let first = cli.run(["secret"]).text(0);
    let second = cli.run(["secret"]).text(0);
    assert_ne!(first, second);
    for text in [first, second] {
        let secret = text.strip_suffix('\n').unwrap();
        assert_eq!(secret.len(), 26, "{secret}");
        assert!(
            secret
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')),
            "{secret}"
        );
    }
    let json = cli.run(["secret", "--json"]).json();
    assert_eq!(json["secret"].as_str().map(str::len), Some(26));
}

#[test]
fn unknown_and_missing_words() {
    refused("frobnicate");
    refused("discover");
    refused("ls");
    refused(&format!("read {URL} --offset 0"));
    refused(&format!("write {URL}"));
    refused(&format!("cp {URL}"));
    refused(&format!("info {URL} --no-such-option"));
    refused(&format!("bench {URL} --rw sideways"));
    refused(&format!("bench {URL} --qd 0"));
    refused(&format!("bench {URL} --time 0"));
    refused(&format!("read {URL} --offset 1kB --length 1"));
    refused(&format!("read {URL} --offset 0 --length 99999999999P"));
}

#[test]
fn the_wrong_part_of_a_url_is_named() {
    for (url, part) in [
        ("iscsi://:1/iqn.2026-11.org.example:disk/0", "portal"),
        ("iscsi://h:0/iqn.2026-11.org.example:disk/0", "portal"),
        ("iscsi://::1/iqn.2026-11.org.example:disk/0", "brackets"),
        ("iscsi://h,x/iqn.2026-11.org.example:disk/0", "group"),
        ("iscsi://h/disk/0", "target name"),
        ("iscsi://h/iqn.2026-11.org.example:a_b/0", "target name"),
        ("iscsi://h/iqn.2026-11.org.example:disk/x", "LUN"),
        ("iscsi://h/iqn.2026-11.org.example:disk", "LUN"),
        (
            "iscsi://h/iqn.2026-11.org.example:disk/0/1",
            "follows the LUN",
        ),
        ("nfs://h/iqn.2026-11.org.example:disk/0", "iscsi://"),
    ] {
        let message = refused(&format!("info {url}"));
        assert!(message.contains(part), "{url}: {message}");
    }
}

#[test]
fn a_secret_in_a_url_is_not_repeated() {
    for line in [
        "info iscsi://me%hunter2@192.0.2.1/iqn.2026-11.org.example:disk/0",
        "discover me%hunter2@192.0.2.1",
        "cp iscsi://me:hunter2@192.0.2.1/iqn.2026-11.org.example:disk/0 x",
        "ls iscsi://me%hunter2@192.0.2.1",
    ] {
        let message = refused(line);
        assert!(!message.contains("hunter2"), "{line}: {message}");
        assert!(message.contains("--chap-secret-file"), "{line}: {message}");
    }
}

#[test]
fn urls_of_different_units_do_not_mix() {
    let other = "iscsi://192.0.2.2/iqn.2026-11.org.example:disk/1";
    assert!(refused(&format!("info {URL} {other}")).contains("different logical units"));
    assert!(refused(&format!("cp {URL},{other} x")).contains("different logical units"));
    let other = "iscsi://192.0.2.2/iqn.2026-11.org.example:other/0";
    for line in [format!("info {URL} {other}"), format!("cp {URL},{other} x")] {
        assert!(refused(&line).contains("--across-targets"), "{line}");
    }
    assert!(refused(&format!("cp {URL} {URL}")).contains("same logical unit"));
    assert!(refused("cp a b").contains("URL"));
}

#[test]
fn keys_are_checked_before_connecting() {
    assert!(refused(&format!("info {URL} -k NoSuchKey=1")).contains("NoSuchKey"));
    assert!(refused(&format!("info {URL} -k MaxBurstLength=1")).contains("range"));
    assert!(refused(&format!("info {URL} -k InitialR2T=Maybe")).contains("InitialR2T"));
    assert!(refused(&format!("info {URL} -k TargetName=x")).contains("TargetName"));
    refused(&format!("info {URL} -k InitialR2T"));
    refused(&format!("info {URL} -k =x"));
    refused(&format!(
        "info {URL} -k FirstBurstLength=1048576 -k MaxBurstLength=65536"
    ));
}

#[test]
fn names_and_credentials_are_checked_before_connecting() {
    refused(&format!("info {URL} --initiator-name not_a_name"));
    refused(&format!(
        "info {URL} --initiator-name iqn.2026-13.org.example:me"
    ));
    refused(&format!("info {URL} --chap-name me"));
    refused(&format!("info {URL} --chap-secret-file /dev/null"));
    refused(&format!(
        "info {URL} --chap-name me --chap-secret-file /dev/null"
    ));
    refused(&format!("info {URL} --chap-alg rot13"));
    refused(&format!("info {URL} --mutual-name it"));

    let cli = Cli::new();
    let short = cli
        .command(["info", URL, "--chap-name", "me"])
        .env("ISCSI_CHAP_SECRET", "short")
        .output();
    let short = common::Done::from(short.expect("run"));
    assert!(!short.fails(2).contains("'short'"));
    let both = cli
        .command(["info", URL, "--chap-name", "me", "--mutual-name", "it"])
        .env("ISCSI_CHAP_SECRET", "the same secret")
        .env("ISCSI_MUTUAL_SECRET", "the same secret")
        .output();
    common::Done::from(both.expect("run")).fails(2);
}

#[test]
fn json_needs_an_output_that_is_free() {
    assert!(refused(&format!("read {URL} --offset 0 --length 1 --json")).contains("-o"));
}

#[test]
fn a_missing_or_endless_source_is_refused() {
    let cli = Cli::new();
    cli.run(["cp", "/no/such/file", URL]).fails(1);
    cli.run(["cp", "/dev/zero", URL]).fails(2);
    cli.run(["cp", "/", URL]).fails(2);
    cli.run(["write", URL, "--offset", "0", "-i", "/no/such/file"])
        .fails(1);
}

#[test]
fn no_place_to_keep_a_name_is_said() {
    let cli = Cli::new();
    let file = cli.home().join("file");
    std::fs::write(&file, "").expect("written");
    let done = cli
        .command(["discover", "127.0.0.1:1"])
        .env("XDG_CONFIG_HOME", &file)
        .output();
    let message = common::Done::from(done.expect("run"));
    assert!(message.fails(1).contains("--initiator-name"), "{message:?}");
}
