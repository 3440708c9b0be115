//! Tables in `docs/` name the test that proves a row, in a cell `test: name` (several by commas).
//! A name without a test is a claim without proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::source::is_identifier;
use super::{Findings, SourceFile};

pub(super) fn check(docs: &Path, files: &[SourceFile], findings: &mut Findings) -> Result<()> {
    if !docs.is_dir() {
        return Ok(());
    }
    let known: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| functions(&file.all_code))
        .collect();
    for entry in fs::read_dir(docs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path)?;
            for (line, name) in named(&text) {
                if !known.contains(name) {
                    let path = path
                        .strip_prefix(crate::process::root())
                        .unwrap_or(&path)
                        .display();
                    findings.problem(format!("{path}:{line}: there is no test {name}"));
                }
            }
        }
    }
    Ok(())
}

/// Names of tests in table cells, with their lines.
fn named(markdown: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, line) in markdown
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with('|'))
    {
        for cell in line.split('|') {
            let cell = cell.trim().trim_start_matches('`');
            let Some(names) = cell.strip_prefix("test:") else {
                continue;
            };
            for name in names.split(',') {
                let name = name.trim().trim_matches('`');
                // A path may lead to the function.
                let name = name.rsplit("::").next().unwrap_or(name);
                found.push((at + 1, name));
            }
        }
    }
    found
}

fn functions(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices("fn ").map(|(at, keyword)| {
        let rest = &code[at + keyword.len()..];
        let end = rest.find(|c| !is_identifier(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_table_cells_only() {
        let text = "test: prose\n| 1.1 | test: ffp_1_1, `a::b` |\n| x | `test: c` | test |\n";
        assert_eq!(named(text), [(2, "ffp_1_1"), (2, "b"), (3, "c")]);
    }

    #[test]
    fn functions_are_found() {
        let found: Vec<_> = functions("fn a() {} #[test] async fn b_1<T>() {}").collect();
        assert_eq!(found, ["a", "b_1"]);
    }
}
