//! `--across-targets`: one unit behind several target names, and what is refused.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/target.rs"]
mod target;

use common::Cli;
use target::{Embedded, NAME, noise};
use test_target::{Config, Lun};

const OTHER: &str = "iqn.2026-01.org.example:other";

fn lun(serial: &str, block_bytes: u32) -> Config {
    let luns = vec![Lun {
        serial: serial.to_owned(),
        block_bytes,
        ..Lun::default()
    }];
    Config {
        luns,
        ..Config::default()
    }
}

/// URL of LUN 0 of the other target, which has the second portal.
fn other(target: &Embedded) -> String {
    format!("iscsi://{}/{OTHER}/0", target.addrs[1])
}

#[test]
fn a_copy_uses_the_paths_of_both_targets() {
    let config = Config {
        portal_names: vec![NAME.to_owned(), OTHER.to_owned()],
        ..Config::default()
    };
    let target = Embedded::start(config, 2);
    let cli = Cli::new();
    let data = noise(4 << 20, 7);
    let file = cli.home().join("data");
    std::fs::write(&file, &data).expect("written");
    let urls = format!("{},{}", target.url(0), other(&target));
    let policy = ["--policy", "round-robin"];
    let copy = [
        "cp",
        file.to_str().expect("a name"),
        &urls,
        "--across-targets",
    ];
    cli.run(copy.into_iter().chain(policy)).text(0);
    assert_eq!(target.content(0, data.len()), data);
    let shown = cli
        .run([
            "paths",
            &target.url(0),
            &other(&target),
            "--across-targets",
            "--json",
        ])
        .json();
    let paths: Vec<String> = shown["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["paths"].as_array().expect("paths"))
        .map(|path| path["portal"].as_str().expect("a label").to_owned())
        .collect();
    assert_eq!(paths.len(), 2, "{shown:#}");
    assert!(
        paths[0].ends_with(NAME) && paths[1].ends_with(OTHER),
        "{paths:?}"
    );
    target.assert_logged_out();
}

#[test]
fn different_disks_and_block_sizes_behind_one_url_list_are_refused_by_name() {
    let one = Embedded::start(lun("ONE", 512), 1);
    for (config, what) in [(lun("TWO", 512), "identity"), (lun("ONE", 4096), "bytes")] {
        let two = Embedded::start(config, 1);
        let done = Cli::new().run([
            "read",
            &one.url(0),
            &two.url(0),
            "--offset",
            "0",
            "--length",
            "512",
        ]);
        let message = done.fails(done.status.expect("ended by itself"));
        assert_ne!(done.status, Some(0));
        for side in [one.addrs[0].to_string(), two.addrs[0].to_string()] {
            assert!(message.contains(&side), "{side} in {message}");
        }
        assert!(message.contains("not the same logical unit"), "{message}");
        assert!(message.contains(what), "{message}");
        assert!(done.stdout.is_empty());
        one.assert_logged_out();
        two.assert_logged_out();
    }
}
