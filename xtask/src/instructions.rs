//! `cargo xtask instructions`: counts the instructions of the data path under callgrind and
//! compares them with `tests/instructions/counts.txt`.
//!
//! Counts do not depend on how busy the machine is. They do depend on the compiler, the C library
//! (its memcpy) and what valgrind's processor can do; where these are not those of the snapshot,
//! the comparison is shown and judges nothing.
//!
//! The profile of each piece of work stays in `instructions` of the target directory, for
//! `callgrind_annotate`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{cargo_with, output, root, run as run_process, succeeds};

/// A change above this fails.
const TOLERANCE_PERCENT: u64 = 3;

/// What multipath may add to a command of 4 KiB over one healthy path, in per cent of what the core
/// of the session executes for it: the rows through multipath, at the bare nexus and in the core.
/// Sockets and the kernel are not in it, so of a whole I/O it is much less.
const SHARES: [([&str; 3], u64); 2] = [
    (
        [
            "multipath/read-one-path",
            "multipath/read-bare",
            "core/read-4k",
        ],
        16,
    ),
    (
        [
            "multipath/write-one-path",
            "multipath/write-bare",
            "core/write-4k",
        ],
        20,
    ),
];

/// The function in which callgrind collects.
const SECTION: &str = "--toggle-collect=*counted_section*";

/// Without this, glibc copies more than 4 KiB by one instruction, which valgrind counts once per
/// byte; the copies would drown everything else.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824";

const HEAD: &str = "\
# Instructions per operation, by callgrind; `cargo xtask instructions` compares, and fails above
# a change of 3 %. Change them on purpose with `cargo xtask instructions --bless`, and give the
# reason in the commit.
";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Take what is counted now as right
    #[arg(long)]
    bless: bool,
    /// Count only work whose name contains this
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        conflicts_with = "bless"
    )]
    filter: String,
}

/// What is in the snapshot.
#[derive(Debug, PartialEq)]
struct Counts {
    /// What counts depend on, besides our code: name and version.
    tools: BTreeMap<String, String>,
    /// Instructions per operation.
    work: BTreeMap<String, u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !succeeds(Command::new("valgrind").arg("--version")) {
        bail!("valgrind is missing: `cargo xtask packages` installs it");
    }
    let program = build()?;
    let profiles = program
        .parent()
        .and_then(Path::parent)
        .context("a program without a target directory")?
        .join("instructions");
    fs::create_dir_all(&profiles)?;
    let mut counted = Counts {
        tools: tools()?,
        work: BTreeMap::new(),
    };
    for name in output(&mut Command::new(&program))?.lines() {
        if name.contains(&options.filter) {
            let count = count(&program, &profiles, name)?;
            counted.work.insert(name.to_owned(), count);
        }
    }
    let path = root().join("tests/instructions/counts.txt");
    if options.bless {
        fs::write(&path, counted.to_string())?;
        println!("written: {}", path.display());
        return Ok(());
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut known = Counts::parse(&text)?;
    known.work.retain(|name, _| name.contains(&options.filter));
    judge(&known, &counted)
}

/// Builds the program and asks cargo where it is.
fn build() -> Result<PathBuf> {
    let words = "build --release --quiet -p iscsi-instructions";
    run_process(&mut cargo_with(words))?;
    let messages = output(cargo_with(words).arg("--message-format=json"))?;
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(message["executable"].as_str()?.to_owned())
    });
    Ok(executable.context("cargo built no program")?.into())
}

/// Compiler, C library, valgrind, and what matters of the processor it imitates.
fn tools() -> Result<BTreeMap<String, String>> {
    let said = |program: &str, argument: &str| -> Result<String> {
        let said = output(Command::new(program).arg(argument))?;
        Ok(said.lines().next().unwrap_or_default().trim().to_owned())
    };
    let rustc = output(Command::new("rustc").arg("-vV"))?;
    let of_rustc = |name: &str| {
        let mut lines = rustc.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &&str| cpuinfo.split_whitespace().any(|word| word == *flag);
    let flags: Vec<&str> = ["avx2", "sse4_2", "fma"].into_iter().filter(has).collect();
    let all = [
        ("rustc", of_rustc("release:").context("rustc's version")?),
        ("host", of_rustc("host:").context("rustc's host")?),
        ("libc", said("getconf", "GNU_LIBC_VERSION")?),
        ("valgrind", said("valgrind", "--version")?),
        ("cpu", flags.join(" ")),
    ];
    Ok(all.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Instructions per operation.
fn count(program: &Path, profiles: &Path, name: &str) -> Result<u64> {
    let profile = profiles.join(format!("{}.callgrind", name.replace('/', "-")));
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", SECTION])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(name)
        // The environment lies on the stack; its size shifts what comes after it.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", TUNABLES);
    let operations: u64 = output(&mut command)?.trim().parse()?;
    let text = fs::read_to_string(&profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    let total: u64 = total.context("callgrind gave no total")?.trim().parse()?;
    // Nothing counted means that the section was not found, which must not look like an
    // improvement.
    ensure!(
        operations > 0 && total > operations,
        "{name}: {total} instructions counted in {operations} operations"
    );
    Ok(total / operations)
}

/// Shows both beside each other; an error when they differ too much.
fn judge(known: &Counts, counted: &Counts) -> Result<()> {
    let comparable = known.tools == counted.tools;
    let (table, bad) = compare(&known.work, &counted.work);
    let (shares, grown) = shares(&counted.work);
    print!("{table}{shares}");
    if !comparable {
        println!("\nnot judged, because these tools are not those of the snapshot:");
        for (name, now) in &counted.tools {
            let then = known.tools.get(name).map_or("", String::as_str);
            if then != now {
                println!("  {name}: {then} in the snapshot, {now} here");
            }
        }
        return Ok(());
    }
    ensure!(
        bad == 0,
        "{bad} counts are off by more than {TOLERANCE_PERCENT} %; if that is meant, run `cargo \
         xtask instructions --bless` and give the reason in the commit"
    );
    ensure!(grown == 0, "multipath's share has grown above its limit");
    Ok(())
}

/// Multipath's share of an I/O, in words, and how often it is above its limit.
fn shares(counted: &BTreeMap<String, u64>) -> (String, usize) {
    let (mut text, mut grown) = (String::new(), 0);
    for (names, limit) in SHARES {
        let [Some(multipath), Some(bare), Some(core)] = names.map(|name| counted.get(name)) else {
            continue;
        };
        let added = multipath.saturating_sub(*bare);
        let fine = added * 100 <= core * limit;
        grown += usize::from(!fine);
        let mark = if fine { "" } else { "  <--" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} adds {added} to {core} of {}: {} %, at most {limit} %{mark}",
            names[0],
            names[2],
            (added * 100).div_ceil(*core)
        );
    }
    (text, grown)
}

/// The table, and how many rows of it are out of bounds.
fn compare(known: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> (String, usize) {
    let mut names: Vec<&String> = known.keys().chain(counted.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut bad = 0;
    let mut table = format!("{:<28}{:>10}{:>10}{:>10}\n", "", "snapshot", "now", "");
    for name in names {
        let (old, new) = (known.get(name), counted.get(name));
        let (change, fine) = match (old, new) {
            (Some(old), Some(new)) => change(*old, *new),
            (None, _) => ("new".to_owned(), false),
            (_, None) => ("gone".to_owned(), false),
        };
        let shown = |count: Option<&u64>| count.map_or_else(String::new, u64::to_string);
        let mark = if fine { "" } else { "  <--" };
        bad += usize::from(!fine);
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{name:<28}{:>10}{:>10}{change:>10}{mark}",
            shown(old),
            shown(new)
        );
    }
    (table, bad)
}

#[expect(clippy::cast_precision_loss, reason = "per cent for people")]
fn change(old: u64, new: u64) -> (String, bool) {
    let percent = (new as f64 / old as f64 - 1.0) * 100.0;
    let fine = old.abs_diff(new) * 100 <= old * TOLERANCE_PERCENT;
    (format!("{percent:+.1} %"), fine)
}

impl Counts {
    /// Reads a snapshot.
    fn parse(text: &str) -> Result<Self> {
        let mut counts = Self {
            tools: BTreeMap::new(),
            work: BTreeMap::new(),
        };
        for line in text.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((name, version)) = line.split_once(": ") {
                counts.tools.insert(name.to_owned(), version.to_owned());
            } else {
                let (name, count) = line.rsplit_once(' ').context("a line without a count")?;
                let count = count.parse().with_context(|| line.to_owned())?;
                counts.work.insert(name.trim().to_owned(), count);
            }
        }
        Ok(counts)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{HEAD}")?;
        for (name, version) in &self.tools {
            writeln!(f, "{name}: {version}")?;
        }
        writeln!(f)?;
        for (name, count) in &self.work {
            writeln!(f, "{name:<28}{count:>10}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn three_per_cent_either_way_pass_and_more_does_not() {
        let known = counts(&[("a", 1000)]);
        for (now, bad) in [(970, 0), (1030, 0), (969, 1), (1031, 1)] {
            assert_eq!(compare(&known, &counts(&[("a", now)])).1, bad, "{now}");
        }
    }

    #[test]
    fn multipaths_share_has_a_limit() {
        let at = |one_path| {
            let rows = [
                ("multipath/read-one-path", one_path),
                ("multipath/read-bare", 200),
                ("core/read-4k", 1000),
            ];
            shares(&counts(&rows))
        };
        assert_eq!(at(360).1, 0);
        let (text, grown) = at(361);
        assert_eq!(grown, 1);
        assert!(text.contains("adds 161 to 1000"), "{text}");
    }

    #[test]
    fn new_and_gone_work_is_noticed() {
        let (table, bad) = compare(&counts(&[("old", 5)]), &counts(&[("new", 5)]));
        assert_eq!(bad, 2);
        assert!(table.contains("gone") && table.contains("new"), "{table}");
    }

    #[test]
    fn a_snapshot_reads_back() {
        let counts = Counts {
            tools: [("rustc".to_owned(), "1.2.3".to_owned())].into(),
            work: counts(&[("core/read-4k", 1234), ("a", 1)]),
        };
        assert_eq!(Counts::parse(&counts.to_string()).unwrap(), counts);
        assert!(Counts::parse("core/read-4k many").is_err());
    }
}
