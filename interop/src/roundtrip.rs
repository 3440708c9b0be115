//! Data to a logical unit and back, with the target's backing file as the witness.
//!
//! What our binary wrote is looked for in the backing file, and what it reads is compared with
//! the pattern, so a mistake that writing and reading share does not cancel out.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::data::{Pattern, same};
use crate::iscsi::iscsi;
use crate::sandbox::Sandbox;

/// One write and one read of the same range.
#[derive(Clone, Debug)]
pub struct Roundtrip<'a> {
    /// URLs of the logical unit, separated by blanks.
    pub urls: &'a str,
    /// Further options, such as `-k InitialR2T=No`.
    pub options: &'a str,
    /// First byte of the range; need not be aligned.
    pub offset: u64,
    /// Bytes of the range; need not be aligned.
    pub length: usize,
    /// What the pattern grows from.
    pub seed: u64,
}

impl<'a> Roundtrip<'a> {
    /// A range that starts and ends inside blocks and spans several bursts of most sizes.
    #[must_use]
    pub fn new(urls: &'a str) -> Self {
        Self {
            urls,
            options: "",
            offset: 7 * 512 + 100,
            length: 300_001,
            seed: 1,
        }
    }

    /// With further options.
    #[must_use]
    pub fn options(mut self, options: &'a str) -> Self {
        self.options = options;
        self
    }

    /// With another pattern, as concurrent ones in one test need.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Writes, looks into the backing file `image`, reads, compares.
    ///
    /// # Errors
    /// When a command fails or data differs anywhere.
    pub fn run(&self, sandbox: &Sandbox, image: &Path) -> Result<()> {
        let Self {
            urls,
            options,
            offset,
            length,
            seed,
        } = *self;
        let before = fs::read(image)?;
        let pattern = Pattern::new(seed).take(length);
        let source = sandbox.path(&format!("roundtrip-{seed}.in"));
        let copy = sandbox.path(&format!("roundtrip-{seed}.out"));
        fs::write(&source, &pattern)?;
        iscsi(
            sandbox,
            &format!("write {urls} {options} --offset {offset} -i"),
        )?
        .arg(&source)
        .run()?
        .success()?;
        let after = fs::read(image)?;
        let first = usize::try_from(offset)?;
        let mut expected = before;
        let range = expected.get_mut(first..first + length);
        range
            .context("a range beyond the disk")?
            .copy_from_slice(&pattern);
        same("the whole disk", &expected, &after)?;
        iscsi(
            sandbox,
            &format!("read {urls} {options} --offset {offset} --length {length} -o"),
        )?
        .arg(&copy)
        .run()?
        .success()?;
        same("what was read back", &pattern, &fs::read(&copy)?)
    }
}
