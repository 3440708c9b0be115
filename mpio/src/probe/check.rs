//! The check of a path that seems well, as [`Checker`] says.

use scsi::{Nexus, PingError};

use super::Probe;
use crate::checker::Checker;
use crate::classify::is_illegal_request;
use crate::clock::Clock;
use crate::error::ProbeError;
use crate::path::Path;
use crate::supervisor::Probed;
use crate::unit::Unit;

impl<N: Nexus, C: Clock> Probe<'_, N, C> {
    /// Does the path answer?
    pub(crate) async fn check(&self, unit: &Unit<N, C>, path: &Path<N>) -> Probed {
        let found = match self.config.checker {
            Checker::Tur => None,
            Checker::Rtpg => self.check_by_groups(unit, path).await,
            Checker::Nop => self.check_by_ping().await,
        };
        match found {
            Some(found) => found,
            None => self.test_unit_ready().await,
        }
    }

    /// `None`: the transport cannot ask.
    async fn check_by_ping(&self) -> Option<Probed> {
        let pinged = self.nexus.ping(self.incarnation, self.config.probe_timeout);
        match pinged.await {
            Ok(()) => Some(Probed::Answers),
            Err(PingError::Unsupported) => None,
            Err(PingError::Down | PingError::NoAnswer | _) => Some(Probed::Silent),
        }
    }

    /// `None`: the unit has no target port groups, or does not tell.
    async fn check_by_groups(&self, unit: &Unit<N, C>, path: &Path<N>) -> Option<Probed> {
        if !self.asymmetric() {
            return None;
        }
        let mut extended = unit.access.see(|watch| watch.extended());
        let report = match self.report_groups(&mut extended).await {
            Ok(report) => report,
            Err(ProbeError::Refused { sense, .. }) if is_illegal_request(&sense) => return None,
            Err(ProbeError::NoAnswer { .. } | ProbeError::Down) => return Some(Probed::Silent),
            Err(ProbeError::NoLogicalUnit) => return Some(Probed::Unusable),
            Err(ProbeError::NoAccess { .. }) => return Some(Probed::NoAccess),
            Err(_) => return Some(Probed::Answers),
        };
        let now = unit.clock.now();
        // Two reports may overtake each other, so this one is only a hint: the one that counts is
        // asked for by the one who asks for one at a time.
        if !unit.access.see(|watch| watch.is_known(&report)) {
            unit.access.tell(|watch| watch.ask(now));
        }
        tracing::trace!(path = %path.id, groups = report.groups.len(), "checked by groups");
        Some(Probed::Answers)
    }
}
