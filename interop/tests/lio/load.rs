//! A verified copy as the load under which things break, with the guest's own file as the witness.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use interop::cut::tap_bytes;
use interop::data::{MIB, pattern_file, sha256};
use interop::iscsi::{iscsi, url};
use interop::lio::{DEMO, DISK, Lio, PORTALS};
use interop::process::{Finished, Running};
use interop::sandbox::Sandbox;
use interop::wait;

const SIZE: u64 = 64 * MIB;
/// What anything under a load may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// `iscsi cp --verify` of 64 MiB in progress.
pub(crate) struct Load {
    copy: Running,
    source: PathBuf,
    end: u64,
}

impl Load {
    /// Starts writing another pattern over these portals (numbers in [`PORTALS`]) and returns when
    /// a third of it is on the way.
    pub(crate) fn start(sandbox: &Sandbox, seed: u64, portals: &[usize]) -> Result<Self> {
        Self::with(sandbox, seed, portals, "")
    }

    /// The same with more options for `iscsi`.
    pub(crate) fn with(
        sandbox: &Sandbox,
        seed: u64,
        portals: &[usize],
        options: &str,
    ) -> Result<Self> {
        Self::to(sandbox, seed, &urls(portals, DISK, ","), options)
    }

    /// The same with URLs of one's own.
    pub(crate) fn to(sandbox: &Sandbox, seed: u64, urls: &str, options: &str) -> Result<Self> {
        let source = sandbox.path(&format!("source-{seed}"));
        pattern_file(&source, seed, SIZE)?;
        let begin = tap_bytes();
        let copy = iscsi(sandbox, &format!("cp --verify {options}"))?
            .arg(&source)
            .arg(urls)
            .limit(LIMIT)
            .start()?;
        let mut load = Self {
            copy,
            source,
            end: begin + SIZE,
        };
        beyond(&mut load.copy, begin + SIZE / 3)?;
        Ok(load)
    }

    /// Waits until two thirds are on the way.
    pub(crate) fn gets_on(&mut self) -> Result<()> {
        beyond(&mut self.copy, self.end - SIZE / 3)
    }

    /// Demands that it has not ended yet.
    pub(crate) fn still_running(&mut self) -> Result<()> {
        self.copy.still_running()
    }

    /// Waits until it has said `words` on standard error.
    pub(crate) fn says(&mut self, words: &str) -> Result<()> {
        until_said(&mut self.copy, words)
    }

    /// Demands that it ends well, and that the guest's file holds exactly what was to be written.
    pub(crate) fn finish_verified(self, sandbox: &Sandbox, lio: &Lio) -> Result<Finished> {
        let done = self.copy.finish()?.success()?;
        ensure!(
            lio.disk_sha256(sandbox, SIZE)? == sha256(sandbox, &self.source)?,
            "the disk differs from the source"
        );
        Ok(done)
    }
}

/// Waits until so many bytes have passed between here and the guest.
pub(crate) fn beyond(program: &mut Running, goal: u64) -> Result<()> {
    wait::until("the program to get on", LIMIT, || {
        program.still_running()?;
        Ok((tap_bytes() >= goal).then_some(()))
    })
}

/// Waits until a program has said `words` on standard error.
pub(crate) fn until_said(program: &mut Running, words: &str) -> Result<()> {
    wait::until(&format!("{words:?}"), LIMIT, || {
        let said = program.stderr().contains(words);
        if !said {
            program.still_running()?;
        }
        Ok(said.then_some(()))
    })
}

/// URLs of a logical unit of the target `demo` behind these portals.
pub(crate) fn urls(portals: &[usize], lun: u64, separator: &str) -> String {
    let portals = portals.iter().filter_map(|number| PORTALS.get(*number));
    let urls: Vec<String> = portals.map(|portal| url(portal, DEMO, lun)).collect();
    urls.join(separator)
}
