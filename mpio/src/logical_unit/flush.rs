//! Making writes durable, and what became of those that were to be.

use scsi::{DataPhase, Nexus};

use super::LogicalUnit;
use crate::block::{self, Request};
use crate::cache::Flush;
use crate::classify::is_unknown_command;
use crate::clock::Clock;
use crate::error::{IoError, IoErrorKind};
use crate::probe::Probe;
use crate::supervisor::Probed;
use crate::unit::Unit;

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Makes everything written durable (SYNCHRONIZE CACHE of the whole unit). A device that does
    /// not know the command has no cache that could be flushed; that counts as done.
    ///
    /// # Errors
    /// See [`IoErrorKind`]; [`IoErrorKind::DeferredError`] also when a path check was told that an
    /// acknowledged write has failed since; [`IoErrorKind::CacheLost`] once after the device was
    /// powered on or reset with unflushed writes in its volatile cache.
    pub async fn flush(&self) -> Result<(), IoError> {
        let unit = self.unit();
        let _begun = unit.begin()?;
        let mut flush = unit.cache.begin_flush();
        match block::run(unit, Request::Flush, DataPhase::None).await.0 {
            Err(error) if !is_unknown_command(&error.sense) => return Err(error),
            Ok(_) | Err(_) => unit.deferred_error()?,
        }
        if flush.doubts() > 0 {
            ask_witnesses(unit, &mut flush).await;
        }
        if flush.end() {
            Ok(())
        } else {
            Err(IoError::local(IoErrorKind::CacheLost))
        }
    }
}

/// Asks paths whose session is older than the first unflushed write whether the device restarted.
async fn ask_witnesses<N: Nexus, C: Clock>(unit: &Unit<N, C>, flush: &mut Flush<'_>) {
    let Some(since) = flush.since() else { return };
    let table = unit.table.load_full();
    for entry in &table.entries {
        let path = &entry.path;
        let Some(life) = path.gate() else { continue };
        let young = path.lives_since(life).is_none_or(|born| born > since);
        if young || path.met_restart_since(since) {
            continue;
        }
        let losses = unit.cache.losses();
        let probe = Probe::of(unit, path, life);
        let answer = probe.test_unit_ready().await;
        // If it met the attention of a restart itself, that counts anew.
        probe.pass_on(unit, path);
        if answer == Probed::Answers && unit.cache.losses() == losses {
            flush.dismiss(losses);
            return;
        }
    }
}
