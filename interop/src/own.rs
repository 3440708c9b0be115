//! Our own test target (`tests/target`) as a program, for strangers to talk to.
//!
//! It judges its initiator: at the end it lists every rule of the RFC it saw broken. Our own
//! initiator must break none; foreign ones may, and their test suites do so on purpose.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::iscsi::binary;
use crate::process::{Running, Tool};
use crate::sandbox::Sandbox;
use crate::wait;

/// Name of the target that [`Own`] serves.
pub const TARGET: &str = "iqn.2026-01.org.example:test-target";

const READY_LIMIT: Duration = Duration::from_secs(10);

/// Our running target; killed when dropped.
#[derive(Debug)]
pub struct Own(Running);

impl Own {
    /// Starts it with the words of `options` and listening on all of `portals`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(sandbox: &Sandbox, portals: &[&str], options: &str) -> Result<Self> {
        let mut tool = Tool::new(
            sandbox,
            binary("iscsi-test-target", "ISCSI_TEST_TARGET_BIN")?,
        );
        for portal in portals {
            tool = tool.arg("--listen").arg(portal);
        }
        let mut target = tool.words(options).start()?;
        wait::until("our target to listen", READY_LIMIT, || {
            target.still_running()?;
            let listening = target.stderr().matches("listening on").count();
            Ok((listening == portals.len()).then_some(()))
        })?;
        Ok(Self(target))
    }

    /// Ends it and returns the broken rules it saw.
    ///
    /// # Errors
    /// When it does not end cleanly.
    pub fn violations(self) -> Result<Vec<String>> {
        self.0.signal(Signal::INT)?;
        let done = self.0.finish()?.success()?;
        let lines = done
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("violation: "));
        let violations: Vec<String> = lines.map(str::to_owned).collect();
        let total = format!("{} violations", violations.len());
        let last = done
            .stderr
            .lines()
            .last()
            .context("it said nothing at its end")?;
        ensure!(
            last == total,
            "{} violations were listed, but: {last}",
            violations.len()
        );
        Ok(violations)
    }
}
