//! `cargo xtask conformance`: `docs/conformance.md` out of a run of the tests it is about.
//!
//! The rows are in `conformance.txt`. A test belongs to the rows whose numbers its name begins
//! with: `ffp_16_2_1_and_8_2_nothing_unsolicited` to 16.2.1 and 8.2 of the full feature phase. A
//! row without a test that has passed, or without one against the independent target and without
//! a reason for that, is an error; so is a document that differs from what the run says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{cargo_with, output, root};

const ROWS: &str = include_str!("conformance.txt");
const DOCUMENT: &str = "docs/conformance.md";

/// Against the independent target, and against a scripted peer.
const RUNS: [&str; 2] = [
    "test -p iscsi-tests --test conformance",
    "test -p iscsi --lib -- ffp_ login_",
];

const HEAD: &str = "\
# What an initiator is held to

Made by `cargo xtask conformance --write` from a run of the tests; `cargo xtask test` fails when it
is not current.

The numbers are those of the test suites for iSCSI initiators of the University of New Hampshire's
InterOperability Lab; the words are ours. Where a test speaks of drafts of RFC 3720, RFC 7143
decides. A test is named after its number, sometimes after several (`ffp_13_1_…`, `login_16_2_…`),
and asserts on the bytes of the wire.

Tests in the third column run against the independent target of `tests/target`, which keeps a
record of every PDU and judges the initiator besides: its list of broken rules must be empty at the
end. Those in the fourth run against a peer whose PDUs are written by hand in the test, which may
do what no target would.
";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Write the document instead of comparing it
    #[arg(long)]
    write: bool,
}

/// Suite and number.
type Number = (String, String);
/// The tests of each number, for each of [`RUNS`].
type Passed = BTreeMap<Number, [Vec<String>; 2]>;

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut passed = Passed::new();
    for (at, run) in RUNS.iter().enumerate() {
        let said = output(&mut cargo_with(run))?;
        for name in names(&said) {
            for number in numbers(name) {
                passed.entry(number).or_default()[at].push(name.to_owned());
            }
        }
    }
    // The order in which they ended says nothing.
    passed.values_mut().flatten().for_each(|tests| tests.sort());
    let text = document(&passed)?;
    let path = root().join(DOCUMENT);
    if options.write {
        return fs::write(path, text).context(DOCUMENT);
    }
    let is = fs::read_to_string(path).context(DOCUMENT)?;
    ensure!(
        is == text,
        "{DOCUMENT} is not what the tests say: cargo xtask conformance --write"
    );
    Ok(())
}

/// The tests that have passed, without their modules.
fn names(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter_map(|line| {
        let path = line.strip_prefix("test ")?.strip_suffix(" ... ok")?;
        path.rsplit("::").next()
    })
}

/// The numbers that a test's name begins with.
fn numbers(name: &str) -> Vec<Number> {
    let mut found = Vec::new();
    let mut words = name.split('_').peekable();
    let mut suite = "";
    while let Some(word) = words.next_if(|word| matches!(*word, "ffp" | "login" | "and")) {
        if word != "and" {
            suite = word;
        }
        let mut number: Vec<&str> = Vec::new();
        while let Some(part) = words.next_if(|word| word.parse::<u8>().is_ok()) {
            number.push(part);
        }
        if !number.is_empty() {
            found.push((suite.to_owned(), number.join(".")));
        }
    }
    found
}

fn document(passed: &Passed) -> Result<String> {
    let mut text = HEAD.to_owned();
    let mut last = "";
    for row in ROWS.lines().filter(|line| !line.starts_with('#')) {
        let mut cells = row.split('|').map(str::trim);
        let (Some(suite), Some(number), Some(what)) = (cells.next(), cells.next(), cells.next())
        else {
            bail!("conformance.txt: {row}");
        };
        let reason = cells.next().unwrap_or_default();
        if suite != last {
            let title = match suite {
                "ffp" => "Full feature phase",
                _ => "Login",
            };
            let head = "| No. | What | Against the target | Against a scripted peer |";
            write!(text, "\n## {title}\n\n{head}\n|---|---|---|---|\n")?;
            last = suite;
        }
        let none = <[Vec<String>; 2]>::default();
        let tests = passed.get(&(suite.to_owned(), number.to_owned()));
        let [target, scripted] = tests.unwrap_or(&none);
        ensure!(
            !(target.is_empty() && scripted.is_empty()),
            "no test of {suite} {number} ({what}) has passed"
        );
        ensure!(
            target.is_empty() != reason.is_empty(),
            "{suite} {number} ({what}): either a test against the target or a reason why not"
        );
        let target = if target.is_empty() {
            format!("no: {reason}")
        } else {
            cell(target)
        };
        writeln!(
            text,
            "| {number} | {what} | {target} | {} |",
            cell(scripted)
        )?;
    }
    Ok(text)
}

fn cell(tests: &[String]) -> String {
    if tests.is_empty() {
        return String::new();
    }
    format!("test: {}", tests.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_numbers() {
        let of = |name| -> Vec<String> {
            let all = numbers(name).into_iter();
            all.map(|(suite, number)| format!("{suite} {number}"))
                .collect()
        };
        assert_eq!(of("ffp_1_1_cmd_sn"), ["ffp 1.1"]);
        assert_eq!(of("ffp_16_2_1_and_8_2_x"), ["ffp 16.2.1", "ffp 8.2"]);
        assert_eq!(of("ffp_12_1_ffp_9_1_a"), ["ffp 12.1", "ffp 9.1"]);
        assert_eq!(of("ffp_3_3_and_ffp_16_5_a"), ["ffp 3.3", "ffp 16.5"]);
        assert_eq!(of("login_7_2_ffp_9_1_a"), ["login 7.2", "ffp 9.1"]);
        assert_eq!(of("a_read_goes_on"), [""; 0]);
    }

    #[test]
    fn only_tests_that_passed_count() {
        let said = "test a::ffp_1_1_x ... ok\ntest ffp_2_1_y ... FAILED\nrunning 2 tests\n";
        assert_eq!(names(said).collect::<Vec<_>>(), ["ffp_1_1_x"]);
    }
}
