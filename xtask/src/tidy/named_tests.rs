//! Tables in `docs/` name the tests that prove their rows. A name without a test is a claim
//! without proof.
//!
//! Two forms, both in table rows only:
//! - a cell `test: name` (several by commas): the function exists somewhere;
//! - `` `path/to/file.rs::name` `` anywhere in a row: the function exists in that file, the path
//!   being as long as it has to be, from the right.
//!
//! A table whose last column is headed "shown by" has in each row at least one test of the second
//! form there, or says why there is none: `n/a: reason`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::source::is_identifier;
use super::{Findings, SourceFile};

/// The heading of a column that says what proves a row.
const SHOWN_BY: &str = "shown by";

/// What a row may say in place of a test.
const NOT_APPLICABLE: &str = "n/a: ";

pub(super) fn check(docs: &Path, files: &[SourceFile], findings: &mut Findings) -> Result<()> {
    if !docs.is_dir() {
        return Ok(());
    }
    let known = Known::new(files);
    let mut pages = Vec::new();
    collect(docs, &mut pages)?;
    for path in pages {
        let text = fs::read_to_string(&path)?;
        let path = path
            .strip_prefix(crate::process::root())
            .unwrap_or(&path)
            .display();
        for (line, problem) in problems(&text, &known) {
            findings.problem(format!("{path}:{line}: {problem}"));
        }
    }
    Ok(())
}

/// The pages below `dir`, in order.
fn collect(dir: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        entries.push(entry?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// Every function of the workspace, with the files that have one of that name.
struct Known<'a> {
    functions: BTreeMap<&'a str, Vec<&'a Path>>,
}

impl<'a> Known<'a> {
    fn new(files: &'a [SourceFile]) -> Self {
        let mut functions: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
        for file in files {
            for name in functions_of(&file.all_code) {
                functions.entry(name).or_default().push(&file.path);
            }
        }
        Self { functions }
    }

    fn has(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    fn has_in(&self, name: &str, file: &str) -> bool {
        let files = self.functions.get(name);
        files.is_some_and(|files| files.iter().any(|path| path.ends_with(file)))
    }
}

/// What is wrong with a page, with line numbers.
fn problems(markdown: &str, known: &Known<'_>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut must_show = false;
    let mut above = "";
    for (at, line) in (1..).zip(markdown.lines()) {
        let Some(row) = line.trim().strip_prefix('|') else {
            must_show = false;
            above = line;
            continue;
        };
        if is_rule(row) {
            must_show = last_cell(above).eq_ignore_ascii_case(SHOWN_BY);
            continue;
        }
        above = line;
        for name in named_anywhere(row).filter(|name| !known.has(name)) {
            found.push((at, format!("there is no test {name}")));
        }
        let mut shown = 0;
        for (file, name) in named_in_files(row) {
            shown += 1;
            if !known.has_in(name, file) {
                found.push((at, format!("there is no test {name} in {file}")));
            }
        }
        if must_show && shown == 0 && !last_cell(line).starts_with(NOT_APPLICABLE) {
            found.push((at, "the row names no test and no reason (n/a: ...)".into()));
        }
    }
    found
}

/// The row between a table's heading and its body.
fn is_rule(row: &str) -> bool {
    row.contains('-') && row.chars().all(|c| matches!(c, '-' | ':' | '|' | ' '))
}

fn last_cell(line: &str) -> &str {
    let row = line.trim().trim_end_matches('|');
    row.rsplit('|').next().unwrap_or_default().trim()
}

/// Names of the first form.
fn named_anywhere(row: &str) -> impl Iterator<Item = &str> {
    row.split('|')
        .filter_map(|cell| cell.trim().trim_start_matches('`').strip_prefix("test:"))
        .flat_map(|names| names.split(','))
        .map(|name| {
            let name = name.trim().trim_matches('`');
            // A path may lead to the function.
            name.rsplit("::").next().unwrap_or(name)
        })
}

/// Names of the second form, with their files.
fn named_in_files(row: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = row.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| {
        let (file, name) = text.split_once("::")?;
        file.ends_with(".rs").then_some((file, name))
    })
}

fn functions_of(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices("fn ").map(|(at, keyword)| {
        let rest = &code[at + keyword.len()..];
        let end = rest.find(|c| !is_identifier(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn files() -> [SourceFile; 2] {
        [
            SourceFile::new("iscsi", "src/session/tests/reads.rs", "fn a() {}"),
            SourceFile::new("auth", "src/chap.rs", "async fn b_1<T>() {}"),
        ]
    }

    fn lines(markdown: &str) -> Vec<usize> {
        let files = files();
        let found = problems(markdown, &Known::new(&files));
        found.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn functions_are_found() {
        let found: Vec<_> = functions_of("fn a() {} #[test] async fn b_1<T>() {}").collect();
        assert_eq!(found, ["a", "b_1"]);
    }

    #[test]
    fn a_name_without_a_test_is_a_problem() {
        let text = "test: prose\n| 1 | test: a, `x::b_1` |\n| 2 | test: c |\n| 3 | `test: d` |\n";
        assert_eq!(lines(text), [3, 4]);
    }

    #[test]
    fn a_test_is_looked_for_in_its_file() {
        let right = "| `iscsi/src/session/tests/reads.rs::a`, `src/chap.rs::b_1` |\n";
        assert_eq!(lines(right), NONE);
        for wrong in [
            "| `auth/src/chap.rs::a` |\n",
            "| `iscsi/src/session/tests/reads.rs::c` |\n",
            "| `eads.rs::a` |\n",
            "| `chap.rs::b_1`, `chap.rs::b_2` |\n",
        ] {
            assert_eq!(lines(wrong), [1], "{wrong}");
        }
        assert_eq!(lines("`chap.rs::c` is no row\n"), NONE);
    }

    #[test]
    fn a_row_shows_a_test_or_says_why_not() {
        let table = "| § | Shown by |\n|---|:--|\n";
        for (row, good) in [
            ("| 1 | `chap.rs::b_1` |\n", true),
            ("| 1 | n/a: we never send it |\n", true),
            ("| 1 | some day |\n", false),
            ("| 1 | – |\n", false),
            ("| `chap.rs::b_1` elsewhere | n/a |\n", true),
        ] {
            let expected: &[usize] = if good { &[] } else { &[3] };
            assert_eq!(lines(&format!("{table}{row}")), expected, "{row}");
        }
        assert_eq!(lines("| § | What |\n|---|---|\n| 1 | any |\n"), NONE);
    }
}
