//! libiscsi's conformance suite, `iscsi-test-cu` of Debian's package `libiscsi-bin`, and what it
//! reports.
//!
//! It was written against many targets by people who have never heard of ours, so it is a good
//! judge of whether our own target tells the truth about SCSI. It ends with status 0 or 1 for
//! reasons of its own; the verdict is in its text, one line per test.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::process::Tool;
use crate::sandbox::Sandbox;

const LIMIT: Duration = Duration::from_secs(120);

/// How one test of the suite ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every assertion held.
    Passed,
    /// It found that the target lacks what it needs, which is no failure.
    Skipped,
    /// An assertion did not hold.
    Failed,
}

/// What the suite found, by `Suite.Test`.
#[derive(Clone, Debug, Default)]
pub struct Report {
    tests: BTreeMap<String, Ended>,
    text: String,
}

impl Report {
    /// Runs the tests `pattern` (`SCSI`, `ALL.Read16`, ...) against the logical unit behind `urls`:
    /// one, or two to the same logical unit for the multipath tests.
    ///
    /// # Errors
    /// When the suite cannot be run, does not end in time or ran nothing.
    pub fn of(sandbox: &Sandbox, pattern: &str, urls: &[&str]) -> Result<Self> {
        let done = Tool::new(sandbox, "iscsi-test-cu")
            .words(&format!("--dataloss --test={pattern}"))
            .args(urls)
            .limit(LIMIT)
            .run()?;
        let report = Self::parse(&done.text());
        ensure!(
            !report.tests.is_empty(),
            "iscsi-test-cu ran nothing:\n{}",
            done.everything()
        );
        Ok(report)
    }

    /// Takes the suite's output apart.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut report = Self {
            tests: BTreeMap::new(),
            text: text.to_owned(),
        };
        let (mut suite, mut test) = (String::new(), None::<(String, bool)>);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("Suite: ") {
                name.trim().clone_into(&mut suite);
            }
            if let Some(rest) = line.strip_prefix("  Test: ") {
                let name = rest.split(" ...").next().unwrap_or(rest).trim();
                test = Some((format!("{suite}.{name}"), false));
            }
            let Some((name, skipped)) = &mut test else {
                continue;
            };
            // The verdict follows the dots or starts a line; clean-up may write behind it.
            let said = line.split("...").last().unwrap_or(line);
            let ended = if said.starts_with("passed") {
                if *skipped {
                    Ended::Skipped
                } else {
                    Ended::Passed
                }
            } else if said.starts_with("FAILED") {
                Ended::Failed
            } else {
                *skipped |= line.contains("[SKIPPED]");
                continue;
            };
            report.tests.insert(std::mem::take(name), ended);
            test = None;
        }
        report
    }

    /// Names of the tests that ended so.
    #[must_use]
    pub fn that(&self, ended: Ended) -> Vec<&str> {
        let matching = self.tests.iter().filter(|(_, verdict)| **verdict == ended);
        matching.map(|(name, _)| name.as_str()).collect()
    }

    /// Demands that nothing failed but the tests in `excused`, and that those do fail: an excuse
    /// that is not needed any more is to be taken back.
    ///
    /// # Errors
    /// With the suite's output, when it is not so.
    pub fn fails_only(&self, excused: &[&str]) -> Result<()> {
        let failed = self.that(Ended::Failed);
        let unexpected: Vec<_> = failed
            .iter()
            .filter(|name| !excused.contains(name))
            .collect();
        ensure!(
            unexpected.is_empty(),
            "failed: {unexpected:?}\n{}",
            self.text
        );
        let healed: Vec<_> = excused
            .iter()
            .filter(|name| !failed.contains(name))
            .collect();
        ensure!(
            healed.is_empty(),
            "excused, but they do not fail: {healed:?}"
        );
        Ok(())
    }

    /// Demands that every test of each of `suites` really ran, but those called one of `but`.
    ///
    /// # Errors
    /// When one was skipped, or none of a suite was run.
    pub fn covers(&self, suites: &[&str], but: &[&str]) -> Result<()> {
        for suite in suites {
            let of_suite = |name: &str| {
                name.strip_prefix(suite)?
                    .strip_prefix('.')
                    .map(str::to_owned)
            };
            let seen = self
                .tests
                .iter()
                .filter_map(|(name, ended)| Some((of_suite(name)?, ended)));
            let seen: Vec<_> = seen
                .filter(|(test, _)| !but.contains(&test.as_str()))
                .collect();
            ensure!(!seen.is_empty(), "no test of {suite} was run");
            let skipped = seen.iter().find(|(_, ended)| **ended == Ended::Skipped);
            ensure!(
                skipped.is_none(),
                "skipped of {suite}: {skipped:?}\n{}",
                self.text
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
Suite: Read16
  Test: Simple ...passed
  Test: BeyondEol ...    [FAILED] READ16 successful but should have failed
FAILED
    1. test_read16_beyond_eol.c:38  - CU_ASSERT_EQUAL(_r,0)
Suite: Sanitize
  Test: BlockErase ...    [SKIPPED] SANITIZE is not implemented.
passed    [SKIPPED] PERSISTENT RESERVE IN is not implemented.
Suite: Write16
  Test: Simple ...passed    [SKIPPED] PERSISTENT RESERVE IN is not implemented.
";

    #[test]
    fn each_test_ends_in_one_of_three_ways() {
        let report = Report::parse(OUTPUT);
        assert_eq!(
            report.that(Ended::Passed),
            ["Read16.Simple", "Write16.Simple"]
        );
        assert_eq!(report.that(Ended::Failed), ["Read16.BeyondEol"]);
        assert_eq!(report.that(Ended::Skipped), ["Sanitize.BlockErase"]);
    }

    #[test]
    fn an_excuse_that_is_not_needed_is_an_error() {
        let report = Report::parse(OUTPUT);
        assert!(report.fails_only(&["Read16.BeyondEol"]).is_ok());
        assert!(report.fails_only(&[]).is_err());
        assert!(
            report
                .fails_only(&["Read16.BeyondEol", "Read16.Simple"])
                .is_err()
        );
    }

    #[test]
    fn a_skipped_test_covers_nothing() {
        let report = Report::parse(OUTPUT);
        assert!(report.covers(&["Read16", "Write16"], &[]).is_ok());
        assert!(report.covers(&["Sanitize"], &[]).is_err());
        assert!(report.covers(&["Sanitize"], &["BlockErase"]).is_err());
        assert!(report.covers(&["Write12"], &[]).is_err());
    }
}
