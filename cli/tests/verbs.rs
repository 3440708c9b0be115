//! Every verb against the embedded target, judged by what is on its disk.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod common;
#[path = "common/target.rs"]
mod target;

use common::Cli;
use target::{Embedded, NAME, noise};
use test_target::{Config, Lun};

const MIB: usize = 1 << 20;

fn lun(blocks: u64, block_bytes: u32) -> Lun {
    Lun {
        blocks,
        block_bytes,
        ..Lun::default()
    }
}

fn small(block_bytes: u32) -> Embedded {
    let blocks = 4 * MIB as u64 / u64::from(block_bytes);
    Embedded::start(
        Config {
            luns: vec![lun(blocks, block_bytes)],
            ..Config::default()
        },
        1,
    )
}

#[test]
fn discover_lists_all_portals() {
    let target = Embedded::start(Config::default(), 2);
    let cli = Cli::new();
    let portal = target.addrs[0].to_string();
    let text = cli.run(["discover", &portal]).text(0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, addr) in lines[1..].iter().zip(&target.addrs) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [NAME, &addr.to_string(), "1"]);
    }
    let json = cli.run(["discover", &portal, "--json"]).json();
    assert_eq!(json["targets"][0]["name"], NAME);
    assert_eq!(
        json["targets"][0]["portals"][1]["portal"],
        target.addrs[1].to_string()
    );
    assert_eq!(json["targets"][0]["portals"][1]["group"], 1);
    target.assert_logged_out();
}

#[test]
fn ls_shows_every_unit() {
    let luns = vec![
        lun(8192, 512),
        Lun {
            serial: "SECOND".to_owned(),
            ..lun(1024, 4096)
        },
    ];
    let target = Embedded::start(
        Config {
            luns,
            ..Config::default()
        },
        1,
    );
    let cli = Cli::new();
    let portal_only = format!("iscsi://{}", target.addrs[0]);
    let whole_target = format!("{portal_only}/{NAME}");
    for url in [&portal_only, &whole_target] {
        let text = cli.run(["ls", url]).text(0);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("4 MiB") && text.contains("4096"), "{text}");
    }
    let json = cli.run(["ls", &whole_target, "--json"]).json();
    assert_eq!(json[0]["target"], NAME);
    assert_eq!(json[0]["luns"][0]["bytes"], 4 * MIB);
    assert_eq!(json[0]["luns"][1]["block_bytes"], 4096);
    assert_eq!(json[0]["luns"][1]["lun"], "1");
    let one = cli
        .run(["ls", &format!("{whole_target}/1"), "--json"])
        .json();
    assert_eq!(one[0]["luns"].as_array().expect("an array").len(), 1);
    target.assert_logged_out();
}

#[test]
fn paths_are_shown_as_a_tree_and_live() {
    let target = Embedded::start(Config::default(), 2);
    let cli = Cli::new();
    let done = cli.run(["paths", &target.url(0), &target.url(1)]);
    let text = done.text(0);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("features='no_path_retry 60s"), "{text}");
    assert!(lines[0].ends_with("wp=rw"), "{text}");
    assert!(lines[1].contains("status=active"), "{text}");
    assert!(lines[2].contains("0:127.0.0.1:"), "{text}");
    assert!(lines[3].contains("1:127.0.0.1:"), "{text}");
    assert_eq!(text.matches("active ready running").count(), 2, "{text}");
    let json = cli
        .run(["paths", &target.url(0), &target.url(1), "--json"])
        .json();
    let paths = &json["groups"][0]["paths"];
    assert_eq!(paths[0]["state"], "active");
    assert_eq!(paths[1]["in_flight"], 0);
    target.assert_logged_out();
}

#[test]
fn the_next_run_is_the_same_initiator_port() {
    let target = Embedded::start(Config::default(), 2);
    let cli = Cli::new();
    let (one, two) = (target.url(0), target.url(1));
    let isids = |urls: &[&String], more: &[&str]| -> Vec<String> {
        let urls = urls.iter().map(|url| url.as_str());
        let args = ["info", "--json"]
            .into_iter()
            .chain(urls)
            .chain(more.iter().copied());
        let json = cli.run(args).json();
        let sessions = json["sessions"].as_array().expect("sessions").iter();
        let isid = |session: &serde_json::Value| session["isid"].as_str().map(str::to_owned);
        sessions
            .map(|session| isid(session).expect("an ISID"))
            .collect()
    };
    let first = isids(&[&one, &two], &[]);
    assert_eq!(first.len(), 2);
    assert_ne!(first[0], first[1]);
    assert_eq!(isids(&[&one, &two], &[]), first);
    assert_eq!(isids(&[&two], &[]), [first[1].clone()]);
    assert_ne!(isids(&[&one, &two], &["--no-state"]), first);
    let elsewhere = cli.home().join("elsewhere");
    let elsewhere = ["--state-dir", elsewhere.to_str().expect("text")];
    assert_ne!(isids(&[&one, &two], &elsewhere), first);
    target.assert_logged_out();
}

#[test]
fn without_a_place_for_identifiers_one_can_work_unless_it_was_asked_for() {
    let target = Embedded::start(Config::default(), 1);
    let cli = Cli::new();
    std::fs::write(cli.home().join("state"), "a file, no directory").expect("written");
    let url = target.url(0);
    let done = cli.run(["info", &url]);
    done.text(0);
    assert!(done.stderr.contains("not kept"), "{}", done.stderr);
    let asked_for = cli.home().join("state/here");
    let done = cli.run([
        "info",
        &url,
        "--state-dir",
        asked_for.to_str().expect("text"),
    ]);
    assert!(done.fails(2).contains("session identifiers"));
}

#[test]
fn info_puts_requested_and_negotiated_side_by_side() {
    let target = Embedded::start(Config::default(), 2);
    let cli = Cli::new();
    let url = target.url(0);
    let args = [
        "info",
        &url,
        "--all-paths",
        "-k",
        "InitialR2T=No",
        "-k",
        "MaxBurstLength=65536",
        "-k",
        "FirstBurstLength=65536",
    ];
    let text = cli.run(args).text(0);
    assert!(
        text.contains("requested") && text.contains("InitialR2T"),
        "{text}"
    );
    let json = cli.run(args.into_iter().chain(["--json"])).json();
    assert_eq!(json["bytes"], 64 * MIB);
    assert_eq!(json["block_bytes"], 512);
    assert_eq!(
        json["paths"].as_array().expect("paths").len(),
        2,
        "{json:#}"
    );
    assert_eq!(json["sessions"].as_array().expect("sessions").len(), 2);
    let keys = json["sessions"][0]["keys"].as_array().expect("keys");
    let key = |name: &str| keys.iter().find(|key| key["key"] == name).expect(name);
    assert_eq!(key("InitialR2T")["requested"], "No");
    assert_eq!(key("InitialR2T")["result"], "No");
    assert_eq!(key("MaxBurstLength")["requested"], "65536");
    assert_eq!(key("MaxBurstLength")["result"], "65536");
    target.assert_logged_out();
}

#[test]
fn info_shows_connections_and_recovery() {
    let mut config = Config::default();
    config.keys.max_connections = 3;
    config.keys.error_recovery_level = 2;
    let target = Embedded::start(config, 1);
    let cli = Cli::new();
    let url = target.url(0);
    let args = [
        "info",
        &url,
        "-k",
        "ErrorRecoveryLevel=2",
        "-k",
        "MaxConnections=4",
    ];
    let text = cli.run(args).text(0);
    assert!(
        text.contains("ErrorRecoveryLevel 2: 0 connections"),
        "{text}"
    );
    let json = cli.run(args.into_iter().chain(["--json"])).json();
    let session = &json["sessions"][0];
    assert_eq!(session["error_recovery_level"], 2);
    assert_eq!(session["recovery"]["reassigned"], 0);
    let connections = session["connections"].as_array().expect("connections");
    assert_eq!(connections.len(), 3, "the target allows three: {json:#}");
    assert_eq!(connections[0]["cid"], 1);
    assert_eq!(connections[0]["state"], "S5 LOGGED_IN");
    let one = ["info", &url, "--connections", "1", "--json"];
    let json = cli.run(one).json();
    assert_eq!(
        json["sessions"][0]["connections"].as_array().map(Vec::len),
        Some(1)
    );
    target.assert_logged_out();
}

#[test]
fn read_gives_exactly_the_range() {
    for block_bytes in [512, 4096] {
        let target = small(block_bytes);
        let cli = Cli::new();
        let data = noise(4 * MIB, 1);
        target.fill(&data);
        let url = target.url(0);
        for (offset, length) in [
            (0, 512),
            (0, 0),
            (1, 1),
            (511, 2),
            (4095, 4098),
            (MIB - 1, 2),
            (0, 4 * MIB),
            (4 * MIB - 5, 5),
        ] {
            let done = cli.run([
                "read",
                &url,
                "--offset",
                &offset.to_string(),
                "--length",
                &length.to_string(),
            ]);
            assert_eq!(done.status, Some(0), "{}", done.stderr);
            assert!(
                done.stdout == data[offset..offset + length],
                "{block_bytes}: {offset}+{length}"
            );
        }
        target.assert_logged_out();
    }
}

#[test]
fn read_into_a_file_replaces_it_at_the_end() {
    let target = small(512);
    let cli = Cli::new();
    let data = noise(4 * MIB, 2);
    target.fill(&data);
    let file = cli.home().join("part.img");
    std::fs::write(&file, "old").expect("written");
    let (url, path) = (target.url(0), file.to_str().expect("a path"));
    let json = cli
        .run([
            "read", &url, "--offset", "3", "--length", "2M", "-o", path, "--json",
        ])
        .json();
    assert_eq!(json["bytes"], 2 * MIB);
    assert!(std::fs::read(&file).expect("read") == data[3..3 + 2 * MIB]);
    let beyond = cli.run(["read", &url, "--offset", "3M", "--length", "2M", "-o", path]);
    assert!(beyond.fails(1).contains("beyond"), "{beyond:#?}");
    assert!(std::fs::read(&file).expect("read") == data[3..3 + 2 * MIB]);
    target.assert_logged_out();
}

#[test]
fn unaligned_writes_leave_their_neighbours_alone() {
    for block_bytes in [512, 4096] {
        let target = small(block_bytes);
        let cli = Cli::new();
        let mut expected = noise(4 * MIB, 3);
        target.fill(&expected);
        let url = target.url(0);
        for (seed, (offset, length)) in [
            (0, 1),
            (5, 100),
            (500, 30),
            (1000, 5000),
            (4096, 4096),
            (MIB - 7, 2 * MIB + 14),
            (4 * MIB - 9, 9),
        ]
        .into_iter()
        .enumerate()
        {
            let data = noise(length, 100 + seed as u64);
            let done = cli.run_with_input(["write", &url, "--offset", &offset.to_string()], &data);
            assert!(
                done.text(0).contains(&format!("{length} bytes")),
                "{done:#?}"
            );
            expected[offset..offset + length].copy_from_slice(&data);
            assert!(
                target.content(0, 4 * MIB) == expected,
                "{block_bytes}: {offset}+{length}"
            );
        }
        target.assert_logged_out();
    }
}

#[test]
fn write_takes_a_file_and_refuses_what_does_not_fit() {
    let target = small(512);
    let cli = Cli::new();
    let file = cli.home().join("in");
    let data = noise(70_000, 4);
    std::fs::write(&file, &data).expect("written");
    let (url, path) = (target.url(0), file.to_str().expect("a path"));
    let json = cli
        .run(["write", &url, "--offset", "1M", "-i", path, "--json"])
        .json();
    assert_eq!(json["bytes"], 70_000);
    assert!(target.content(MIB, 70_000) == data);

    // A file's size is known before anything is written, a pipe's is not.
    let before = target.content(0, 4 * MIB);
    let late = (4 * MIB - 1000).to_string();
    assert!(
        cli.run(["write", &url, "--offset", &late, "-i", path])
            .fails(1)
            .contains("nothing was written")
    );
    assert!(target.content(0, 4 * MIB) == before);
    let done = cli.run_with_input(["write", &url, "--offset", &late], &data);
    assert!(done.fails(1).contains("1000 bytes"), "{done:#?}");
    assert!(target.content(4 * MIB - 1000, 1000) == data[..1000]);
    assert!(target.content(0, 4 * MIB - 1000) == before[..4 * MIB - 1000]);
    let exact = cli.run_with_input(["write", &url, "--offset", &late], &data[..1000]);
    exact.text(0);
    target.assert_logged_out();
}

#[test]
fn copies_go_both_ways_and_are_verified() {
    let target = small(512);
    let cli = Cli::new();
    let (from, to) = (cli.home().join("from"), cli.home().join("to"));
    // Not a whole number of blocks: the last one is merged.
    let data = noise(3 * MIB + 777, 5);
    std::fs::write(&from, &data).expect("written");
    let before = noise(4 * MIB, 6);
    target.fill(&before);
    let url = target.url(0);
    let json = cli
        .run([
            "cp",
            from.to_str().expect("path"),
            &url,
            "--verify",
            "--json",
        ])
        .json();
    assert_eq!(json["bytes"], data.len());
    assert_eq!(json["verified"], true);
    assert!(target.content(0, data.len()) == data);
    assert!(target.content(data.len(), 1000) == before[data.len()..data.len() + 1000]);

    let text = cli
        .run(["cp", &url, to.to_str().expect("path"), "--verify"])
        .text(0);
    assert!(text.contains("verified"), "{text}");
    assert!(std::fs::read(&to).expect("read") == target.content(0, 4 * MIB));
    target.assert_logged_out();
}

#[test]
fn a_unit_is_copied_to_another() {
    let luns = vec![
        lun(4096, 512),
        Lun {
            serial: "SECOND".to_owned(),
            ..lun(1024, 4096)
        },
        Lun {
            serial: "SMALL".to_owned(),
            ..lun(8, 512)
        },
    ];
    let target = Embedded::start(
        Config {
            luns,
            ..Config::default()
        },
        1,
    );
    let cli = Cli::new();
    let data = noise(2 * MIB, 7);
    target.fill(&data);
    cli.run(["cp", &target.url(0), &target.url_of(0, "1"), "--verify"])
        .text(0);
    let copied = target.with(|target| target.disk(1).expect("a disk").read(0, 512));
    assert!(copied == data);
    let small = cli.run(["cp", &target.url(0), &target.url_of(0, "2")]);
    assert!(small.fails(1).contains("nothing was written"), "{small:#?}");
    target.assert_logged_out();
}

#[test]
fn a_copy_can_go_to_a_pipe() {
    let target = small(512);
    let cli = Cli::new();
    let data = noise(4 * MIB, 8);
    target.fill(&data);
    let done = cli.run(["cp", &target.url(0), "/dev/stdout", "--json"]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert!(done.stdout.starts_with(&data));
    cli.run(["cp", &target.url(0), "/dev/stdout", "--verify"])
        .fails(2);
    target.assert_logged_out();
}

#[test]
fn bench_can_keep_sessions_on_a_thread_of_their_own() {
    let target = small(512);
    let cli = Cli::new();
    let url = target.url(0);
    for threads in ["1", "2"] {
        let line = "bench --time 100ms --json --sharded --threads";
        let words = line.split(' ').chain([threads, &url]);
        let json = cli.run(words).json();
        assert!(json["ios"].as_u64().expect("a number") > 0, "{json:#}");
        assert_eq!(json["errors"], 0, "{json:#}");
    }
    target.assert_logged_out();
}

#[test]
fn bench_gives_the_numbers_scripts_read() {
    let target = Embedded::start(Config::default(), 2);
    let cli = Cli::new();
    for (rw, threads) in [
        ("read", "1"),
        ("randread", "2"),
        ("write", "1"),
        ("randwrite", "2"),
        ("randrw", "1"),
    ] {
        let args = [
            "bench",
            &target.url(0),
            &target.url(1),
            "--rw",
            rw,
            "--bs",
            "4k",
            "--qd",
            "8",
            "--time",
            "300ms",
            "--threads",
            threads,
            "--policy",
            "round-robin",
        ]
        .map(str::to_owned);
        let json = cli.run(args.iter().chain([&"--json".to_owned()])).json();
        assert!(
            json["iops"].as_f64().expect("a number") > 0.0,
            "{rw}: {json:#}"
        );
        let rate = json["bytes_per_second"].as_f64().expect("a number") / 4096.0;
        assert!(
            (rate - json["iops"].as_f64().expect("a number")).abs() < 1.0,
            "{json:#}"
        );
        for name in ["p50", "p99", "p999", "max"] {
            assert!(
                json["latency_us"][name].as_f64().expect(name) > 0.0,
                "{json:#}"
            );
        }
        assert!(json["cpu_us_per_io"].as_f64().expect("a number") > 0.0);
        assert_eq!(json["errors"], 0);
        let paths = json["paths"].as_array().expect("paths");
        assert_eq!(paths.len(), 2);
        let share: f64 = paths
            .iter()
            .map(|path| path["share"].as_f64().expect("a share"))
            .sum();
        assert!((share - 1.0).abs() < 1e-6, "{json:#}");
        for path in paths {
            assert!(path["share"].as_f64().expect("a share") > 0.1, "{json:#}");
        }
    }
    let text = cli
        .run(["bench", &target.url(0), "--time", "100ms"])
        .text(0);
    assert!(text.contains("IOPS") && text.contains("p99.9"), "{text}");
    cli.run(["bench", &target.url(0), "--bs", "1000"]).fails(2);
    cli.run(["bench", &target.url(0), "--mix", "101"]).fails(2);
    cli.run(["bench", &target.url(0), "--threads", "0"])
        .fails(2);
    cli.run(["bench", &target.url(0), "--bs", "1G"]).fails(2);
    target.assert_logged_out();
}

#[test]
fn the_demo_ends_well() {
    let cli = Cli::new();
    let begun = std::time::Instant::now();
    let text = cli.run(["demo"]).text(0);
    assert!(text.contains("every byte is as written"), "{text}");
    assert!(text.contains("└─ "), "{text}");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    let left: Vec<_> = std::fs::read_dir(cli.home()).expect("listed").collect();
    assert!(left.is_empty(), "the demo touches nothing: {left:?}");

    let json = cli.run(["demo", "--json"]).json();
    assert_eq!(json["first_difference"], serde_json::Value::Null);
    assert_eq!(json["violations"].as_array().expect("an array").len(), 0);
    assert_eq!(json["paths"].as_array().expect("an array").len(), 2);
}

#[test]
fn verbose_says_what_happens_and_keeps_secrets() {
    let chap = test_target::Chap::one_way("backup", b"a very secret word");
    let target = Embedded::start(
        Config {
            chap: Some(chap),
            ..Config::default()
        },
        1,
    );
    let cli = Cli::new();
    let url = target.url(0);
    let output = cli
        .command(["info", &url, "-vvv", "--chap-name", "backup"])
        .env("ISCSI_CHAP_SECRET", "a very secret word")
        .output()
        .expect("run");
    let done = common::Done::from(output);
    done.text(0);
    assert!(
        done.stderr.to_lowercase().contains("login"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("very secret"), "{}", done.stderr);
    target.assert_logged_out();
}

#[test]
fn a_reservation_is_held_from_run_to_run() {
    let target = Embedded::start(Config::default(), 2);
    let (us, them) = (Cli::new(), Cli::new());
    let (one, two) = (target.url(0), target.url(1));
    let pr = |cli: &Cli, args: &[&str]| {
        let (action, rest) = args.split_first().expect("an action");
        let args = ["pr", action, &one, &two]
            .into_iter()
            .chain(rest.iter().copied());
        cli.run(args)
    };
    pr(&us, &["register", "--pr-key", "abc"]).text(0);
    pr(&us, &["reserve", "--pr-key", "0xabc", "--type", "wero"]).text(0);
    let shown = pr(&them, &["show", "--json"]).json();
    assert_eq!(shown["keys"][0]["key"], "0xabc");
    assert_eq!(shown["keys"][0]["paths"], 2);
    assert_eq!(shown["reservation"]["key"], "0xabc");
    assert_eq!(shown["registrants"].as_array().map(Vec::len), Some(2));

    let data = cli_input(&us, "data");
    let write = ["write", &one, "--offset", "0", "--input", &data];
    us.run(write).text(0);
    assert!(them.run(write).fails(6).contains("RESERVATION CONFLICT"));
    let refused = pr(&them, &["reserve", "--pr-key", "def", "--type", "wero"]);
    assert!(refused.fails(6).contains("not registered"));

    pr(&them, &["register", "--pr-key", "def"]).text(0);
    pr(
        &them,
        &[
            "preempt", "--pr-key", "def", "--victim", "abc", "--type", "earo", "--abort",
        ],
    )
    .text(0);
    us.run(write).fails(6);
    them.run(write).text(0);
    pr(&them, &["release", "--pr-key", "def"]).text(0);
    us.run(write).text(0);
    let text = pr(&them, &["show"]).text(0);
    assert!(
        text.contains("not reserved") && text.contains("0xdef"),
        "{text}"
    );
    pr(&them, &["clear", "--pr-key", "def"]).text(0);
    assert!(pr(&us, &["show"]).text(0).contains("no registrations"));
    target.assert_logged_out();
}

/// A file with one block to be written.
fn cli_input(cli: &Cli, name: &str) -> String {
    let path = cli.home().join(name);
    std::fs::write(&path, noise(512, 1)).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn reset_says_what_the_target_answered() {
    let target = small(512);
    let cli = Cli::new();
    let url = target.url(0);
    let text = cli.run(["reset", "--lun", &url]).text(0);
    assert_eq!(text, "LOGICAL UNIT RESET: function complete\n");
    let json = cli.run(["reset", "--lun", &url, "--json"]).json();
    assert_eq!(json["function"], "LOGICAL UNIT RESET");
    assert_eq!(json["response"], "function complete");
    // Exactly one thing is reset at a time, and none without being named.
    cli.run(["reset", &url]).fails(2);
    cli.run(["reset", "--lun", "--nexus", &url]).fails(2);
    target.assert_logged_out();
}
