//! `cargo xtask tidy`: the house rules that the compiler and clippy cannot check.
//!
//! | Module | Rule |
//! |---|---|
//! | [`arrows`] | crates depend downwards only (ARCHITECTURE.md) |
//! | [`layers`] | modules inside `iscsi` and `mpio` import downwards only |
//! | [`pure`] | protocol code reads no clock, no randomness, and does no I/O |
//! | [`features`] | `iscsi` and `mpio` build without tokio, and then have none below them |
//! | [`size`] | files stay readable |
//! | [`named_tests`] | tests named in `docs/` exist |
//!
//! Sources are read by a scanner that knows comments, literals and `#[cfg(test)]`, but not Rust's
//! grammar: good enough to keep honest people honest, and fast.

mod arrows;
mod features;
mod layers;
mod named_tests;
mod pure;
mod size;
mod source;

use anyhow::{Result, bail};
use source::SourceFile;

use crate::process::root;

/// What a rule found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn warning(&mut self, text: String) {
        self.warnings.push(text);
    }
}

pub(crate) fn run() -> Result<()> {
    let mut findings = Findings::default();
    let files = source::load(&root())?;
    arrows::check(&mut findings)?;
    layers::check(&files, &mut findings);
    pure::check(&files, &mut findings);
    size::check(&files, &mut findings);
    named_tests::check(&root().join("docs"), &files, &mut findings)?;
    features::check(&mut findings)?;

    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for problem in &findings.problems {
        println!("problem: {problem}");
    }
    if !findings.problems.is_empty() {
        bail!("{} house rules broken", findings.problems.len());
    }
    println!(
        "tidy: {} files, {} warnings",
        files.len(),
        findings.warnings.len()
    );
    Ok(())
}
