//! What goes wrong, and the status and message it ends with.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod common;
#[path = "common/target.rs"]
mod target;

use std::io::Read as _;
use std::process::Child;
use std::time::{Duration, Instant};

use common::{Cli, Done};
use target::{Embedded, NAME, noise};
use test_target::{
    Chap, CommandEffect, CommandFault, CommandFilter, Config, Count, Lun, Quirks, Sense,
};

const MIB: usize = 1 << 20;
/// SERVICE ACTION IN(16): READ CAPACITY(16), in the check of a path the first that meets an attention.
const READ_CAPACITY: u8 = 0x9e;

fn slow(delay_ms: u64) -> Config {
    let luns = vec![Lun {
        blocks: 32 * MIB as u64 / 512,
        ..Lun::default()
    }];
    Config {
        luns,
        execution_delay: Duration::from_millis(delay_ms),
        ..Config::default()
    }
}

/// Waits until `look` is true; what it waits for is certain to come.
#[track_caller]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{what} did not happen"
        );
        std::thread::yield_now();
    }
}

fn interrupt(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), signal).expect("sent");
}

fn writes(target: &Embedded) -> usize {
    target.with(|target| target.journal().len())
}

#[test]
fn nobody_listens() {
    let cli = Cli::new();
    // A port that was just free: bound and let go again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = free.local_addr().expect("bound").to_string();
    drop(free);
    let url = format!("iscsi://{addr}/{NAME}/0");
    let discover = cli.run(["discover", &addr]);
    assert!(discover.fails(3).contains(&addr), "{discover:#?}");
    let info = cli.run(["info", &url]);
    assert!(info.fails(3).contains(&addr), "{info:#?}");
    let read = cli.run(["read", &url, "--offset", "0", "--length", "1"]);
    read.fails(3);
}

#[test]
fn one_portal_of_two_is_enough_and_the_other_is_mentioned() {
    let target = Embedded::start(Config::default(), 2);
    target.cut(1);
    let cli = Cli::new();
    let done = cli.run(["info", &target.url(0), &target.url(1), "--json"]);
    let json = done.json();
    assert_eq!(json["sessions"].as_array().expect("sessions").len(), 2);
    assert!(
        done.stderr.contains(&target.addrs[1].to_string()),
        "{}",
        done.stderr
    );
}

#[test]
fn authentication_fails() {
    let chap = Chap::one_way("backup", b"a very secret word");
    let target = Embedded::start(
        Config {
            chap: Some(chap),
            ..Config::default()
        },
        1,
    );
    let cli = Cli::new();
    let url = target.url(0);
    let missing = cli.run(["info", &url]);
    missing.fails(4);
    let run = |name: &str, secret: &str| {
        let mut command = cli.command(["info", &url]);
        let output = command
            .env("ISCSI_CHAP_NAME", name)
            .env("ISCSI_CHAP_SECRET", secret)
            .output();
        Done::from(output.expect("run"))
    };
    let wrong = run("backup", "not the right one");
    let message = wrong.fails(4);
    assert!(message.contains(&target.addrs[0].to_string()), "{message}");
    assert!(
        message.contains("0x0201") && message.contains(NAME),
        "{message}"
    );
    assert!(!message.contains("not the right one"), "{message}");
    run("somebody", "a very secret word").fails(4);
    run("backup", "a very secret word").text(0);
    target.assert_logged_out();
}

#[test]
fn the_target_must_prove_itself_when_asked() {
    let chap = Chap {
        mutual: Some(("the target".to_owned(), b"the other secret".to_vec())),
        ..Chap::one_way("backup", b"a very secret word")
    };
    let target = Embedded::start(
        Config {
            chap: Some(chap),
            ..Config::default()
        },
        1,
    );
    let cli = Cli::new();
    let secret = cli.home().join("secret");
    std::fs::write(&secret, "a very secret word\n").expect("written");
    let url = target.url(0);
    let run = |theirs: &str| {
        let file = secret.to_str().expect("a path");
        let mut command = cli.command([
            "info",
            &url,
            "--chap-name",
            "backup",
            "--chap-secret-file",
            file,
            "--mutual-name",
            "the target",
        ]);
        Done::from(
            command
                .env("ISCSI_MUTUAL_SECRET", theirs)
                .output()
                .expect("run"),
        )
    };
    run("the other secret").text(0);
    run("some third secret").fails(4);
    target.assert_logged_out();
}

#[test]
fn the_target_refuses() {
    for (status, code) in [(0x0202, 4), (0x0203, 5), (0x0301, 4)] {
        let quirks = Quirks {
            login_status: Some(status),
            ..Quirks::default()
        };
        let target = Embedded::start(
            Config {
                quirks,
                ..Config::default()
            },
            1,
        );
        let done = Cli::new().run(["info", &target.url(0)]);
        let message = done.fails(code);
        assert!(message.contains(&format!("{status:#06x}")), "{message}");
    }
}

#[test]
fn no_such_target_or_unit() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    let nobody = format!(
        "iscsi://{}/iqn.2026-01.org.example:nobody/0",
        target.addrs[0]
    );
    let done = cli.run(["info", &nobody]);
    assert!(done.fails(5).contains("nobody"), "{done:#?}");
    for lun in ["9", "300", "0xc101000000000000"] {
        let done = cli.run(["info", &target.url_of(0, lun)]);
        assert!(done.fails(5).contains(lun), "{done:#?}");
        cli.run(["ls", &target.url_of(0, lun)]).fails(5);
    }
    target.assert_logged_out();
}

#[test]
fn the_device_reports_an_error() {
    let medium_error = Sense::new(3, 0x11, 0);
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    let url = target.url(0);
    let fault = |writes| CommandFault {
        filter: CommandFilter {
            writes: Some(writes),
            opcode: None,
            lun: None,
            portal: None,
        },
        count: Count::ALWAYS,
        effect: CommandEffect::Status(2, Some(medium_error)),
    };
    target.with(|target| target.fault_command(fault(true)));
    let write = cli.run_with_input(["write", &url, "--offset", "0"], &noise(4096, 1));
    assert!(write.fails(6).contains("0 bytes"), "{write:#?}");
    let bench = cli.run(["bench", &url, "--rw", "write", "--time", "200ms", "--json"]);
    bench.fails(6);
    let json: serde_json::Value =
        serde_json::from_slice(&bench.stdout).expect("numbers all the same");
    assert!(json["errors"].as_u64().expect("a number") > 0);
    target.assert_logged_out();
}

#[test]
fn verification_names_the_first_difference() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    // /dev/zero takes everything and gives back zeros: the first other byte is the difference.
    let mut data = vec![0; 4 * MIB];
    data[3 * MIB + 70_001] = 1;
    data[3 * MIB + 90_000] = 1;
    target.fill(&data);
    let url = target.url(0);
    let done = cli.run(["cp", &url, "/dev/zero", "--verify"]);
    let message = done.fails(8);
    let expected = format!(
        "first difference is at byte {} of /dev/zero",
        3 * MIB + 70_001
    );
    assert!(message.contains(&expected), "{message}");
    target.fill(&vec![0; 4 * MIB]);
    cli.run(["cp", &url, "/dev/zero", "--verify"]).text(0);
    target.assert_logged_out();
}

#[test]
fn a_write_that_the_target_forgets_is_no_success() {
    let target = Embedded::start(Config::default(), 1);
    let forget = CommandFault {
        filter: CommandFilter {
            writes: Some(true),
            ..CommandFilter::default()
        },
        count: Count::ONCE,
        effect: CommandEffect::Status(0, None),
    };
    target.with(|target| target.fault_command(forget));
    let done =
        Cli::new().run_with_input(["write", &target.url(0), "--offset", "0"], &noise(4096, 2));
    done.fails(6);
    target.assert_logged_out();
}

#[test]
fn a_closed_pipe_ends_a_read() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    let mut child = cli.spawn(["read", &target.url(0), "--offset", "0", "--length", "64M"]);
    let mut first = [0; 100];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut first)
        .expect("some data");
    drop(child.stdout.take());
    let done = Done::from(child.wait_with_output().expect("ended"));
    assert!(
        done.fails(1).contains("standard output was closed"),
        "{done:#?}"
    );
    target.assert_logged_out();
}

#[test]
fn a_full_disk_ends_a_read() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    for args in [
        vec![
            "read".to_owned(),
            target.url(0),
            "--offset=0".to_owned(),
            "--length=4M".to_owned(),
            "-o/dev/full".to_owned(),
        ],
        vec!["cp".to_owned(), target.url(0), "/dev/full".to_owned()],
    ] {
        let done = cli.run(args);
        assert!(done.fails(1).contains("No space left"), "{done:#?}");
    }
    target.assert_logged_out();
}

#[test]
fn ctrl_c_stops_a_copy_in_good_order() {
    let target = Embedded::start(slow(20), 1);
    let cli = Cli::new();
    let from = cli.home().join("from");
    std::fs::write(&from, noise(32 * MIB, 3)).expect("written");
    let path = from.to_str().expect("a path");
    for (signal, status) in [
        (rustix::process::Signal::INT, 130),
        (rustix::process::Signal::TERM, 143),
    ] {
        let before = writes(&target);
        let child = cli.spawn(["cp", path, &target.url(0)]);
        until("a write", || writes(&target) > before + 2);
        interrupt(&child, signal);
        let done = Done::from(child.wait_with_output().expect("ended"));
        let message = done.fails(status);
        assert!(message.contains("of 33554432 bytes"), "{message}");
        target.assert_logged_out();
    }
}

#[test]
fn ctrl_c_stops_a_login_nobody_answers() {
    let quirks = Quirks {
        mute_login: true,
        ..Quirks::default()
    };
    let target = Embedded::start(
        Config {
            quirks,
            ..Config::default()
        },
        1,
    );
    let cli = Cli::new();
    let portal = target.addrs[0].to_string();
    let url = target.url(0);
    for args in [["info", &url], ["discover", &portal]] {
        let child = cli.spawn(args);
        until("a connection", || {
            target.with(|target| !target.connections_of(0).is_empty())
        });
        interrupt(&child, rustix::process::Signal::INT);
        let done = Done::from(child.wait_with_output().expect("ended"));
        assert!(done.fails(130).contains("Ctrl-C"), "{done:#?}");
        until("the end of the connection", || {
            target.with(|target| target.connections_of(0).is_empty())
        });
    }
}

#[test]
fn ctrl_c_ends_a_write_that_waits_for_input() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    let mut child = cli.spawn(["write", &target.url(0), "--offset", "0"]);
    // Two whole chunks are written while more input is waited for.
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, &noise(2 * MIB, 6)).expect("taken");
    until("two writes", || writes(&target) >= 2);
    interrupt(&child, rustix::process::Signal::INT);
    let done = Done::from(child.wait_with_output().expect("ended"));
    let message = done.fails(130);
    assert!(
        message.contains(&format!("wrote {} bytes", 2 * MIB)),
        "{message}"
    );
    drop(stdin);
    target.assert_logged_out();
}

#[test]
fn a_closed_pipe_ends_a_listing() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = cli
        .command(["info", &target.url(0)])
        .stdout(writer)
        .output();
    let done = Done::from(output.expect("run"));
    assert!(
        done.fails(1).contains("standard output was closed"),
        "{done:#?}"
    );
    target.assert_logged_out();
}

#[test]
fn ctrl_c_leaves_the_old_file() {
    let target = Embedded::start(slow(20), 1);
    let cli = Cli::new();
    let to = cli.home().join("to");
    std::fs::write(&to, "old").expect("written");
    let child = cli.spawn(["cp", &target.url(0), to.to_str().expect("a path")]);
    until("a read", || {
        target.with(|target| {
            target
                .sessions()
                .iter()
                .any(|session| session.tasks.len() > 3)
        })
    });
    interrupt(&child, rustix::process::Signal::INT);
    let done = Done::from(child.wait_with_output().expect("ended"));
    assert!(done.fails(130).contains("as it was before"), "{done:#?}");
    assert_eq!(std::fs::read(&to).expect("read"), b"old");
    let hidden = std::fs::read_dir(cli.home()).expect("listed");
    let parts = hidden.filter(|entry| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
    });
    assert_eq!(parts.count(), 0);
    target.assert_logged_out();
}

#[test]
fn a_copy_outlives_a_cut_path() {
    let target = Embedded::start(slow(2), 2);
    let cli = Cli::new();
    let (from, to) = (cli.home().join("from"), cli.home().join("to"));
    let data = noise(32 * MIB, 4);
    std::fs::write(&from, &data).expect("written");
    let child = cli.spawn([
        "cp",
        from.to_str().expect("a path"),
        &target.all(),
        "--verify",
    ]);
    until("a third of the copy", || writes(&target) > 8);
    target.cut(0);
    let cut_at = writes(&target);
    until("more of the copy", || writes(&target) > cut_at + 8);
    target.restore(0);
    let done = Done::from(child.wait_with_output().expect("ended"));
    done.text(0);
    assert!(target.content(0, data.len()) == data);

    let child = cli.spawn(["cp", &target.all(), to.to_str().expect("a path")]);
    until("a login", || {
        target.with(|target| target.sessions().len()) == 2
    });
    target.cut(1);
    let done = Done::from(child.wait_with_output().expect("ended"));
    done.text(0);
    assert!(std::fs::read(&to).expect("read") == data);
}

#[test]
fn a_copy_is_made_again_when_a_restart_took_the_first_away() {
    let target = Embedded::start(slow(2), 2);
    let cli = Cli::new();
    let from = cli.home().join("from");
    let data = noise(32 * MIB, 6);
    std::fs::write(&from, &data).expect("written");
    let child = cli.spawn([
        "cp",
        from.to_str().expect("a path"),
        &target.all(),
        "--verify",
    ]);
    until("a third of the copy", || writes(&target) > 8);
    let power_on = |portal| CommandFault {
        filter: CommandFilter {
            opcode: Some(READ_CAPACITY),
            portal: Some(portal),
            ..CommandFilter::default()
        },
        count: Count::ONCE,
        effect: CommandEffect::Status(2, Some(Sense::new(6, 0x29, 0))),
    };
    target.server().with_target(|target, now| {
        target.restart(now);
        target.fault_command(power_on(0));
        target.fault_command(power_on(1));
    });
    // What was in its cache.
    target.fill(&vec![0; 32 * MIB]);
    let done = Done::from(child.wait_with_output().expect("ended"));
    done.text(0);
    assert!(done.stderr.contains("copying once more"), "{done:#?}");
    assert!(target.content(0, data.len()) == data);
    target.assert_logged_out();
}

#[test]
fn without_any_path_a_copy_waits_then_says_so() {
    let target = Embedded::start(slow(20), 2);
    let cli = Cli::new();
    let from = cli.home().join("from");
    std::fs::write(&from, noise(32 * MIB, 5)).expect("written");
    let child = cli.spawn([
        "cp",
        from.to_str().expect("a path"),
        &target.all(),
        "--no-path-retry",
        "1s",
        "--io-deadline",
        "3s",
    ]);
    until("a write", || writes(&target) > 2);
    let cut_at = Instant::now();
    target.cut(0);
    target.cut(1);
    let done = Done::from(child.wait_with_output().expect("ended"));
    let waited = cut_at.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    // Writes were in flight: nobody can say whether they happened.
    let message = done.fails(7);
    assert!(message.contains("of 33554432 bytes"), "{message}");
}
