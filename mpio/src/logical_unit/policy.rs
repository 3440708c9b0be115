//! How paths are chosen, changed while I/O runs.

use scsi::Nexus;
use scsi::alua::SettableState;

use super::LogicalUnit;
use crate::access;
use crate::clock::Clock;
use crate::error::ProbeError;
use crate::failback::{Chooser, Failback};
use crate::path::{PathId, PathSettings};
use crate::queueing::NoPathRetry;
use crate::select::LoadBalancePolicy;

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Chooses paths differently from the next command on.
    pub fn set_policy(&self, policy: LoadBalancePolicy) {
        self.unit().set_policy(policy);
    }

    /// Goes back to better paths differently from now on.
    pub fn set_failback(&self, failback: Failback) {
        self.unit().regroup(|chooser| chooser.set_mode(failback));
    }

    /// Uses the best group of paths now, whatever the mode of failback.
    ///
    /// If the target port group that the target prefers is not active/optimized and initiators may
    /// change that, the target is asked to.
    pub fn fail_back(&self) {
        let unit = self.unit();
        let now = unit.clock.now();
        unit.access.tell(|watch| watch.want_preferred(now));
        unit.regroup(Chooser::ask);
    }

    /// Asks the target to bring a target port group into a state (SET TARGET PORT GROUPS, SPC-4
    /// §6.45), as an administrator may. Affects every host that uses the unit.
    ///
    /// # Errors
    /// [`ProbeError`] when no path carries the question, or the target refuses.
    pub async fn set_access(&self, group: u16, state: SettableState) -> Result<(), ProbeError> {
        access::set(self.unit(), group, state).await
    }

    /// Another answer to how long I/O waits when no path is usable. It counts for I/O that waits
    /// as well: [`NoPathRetry::Fail`] ends it at once.
    pub fn set_no_path_retry(&self, retry: NoPathRetry) {
        self.unit().set_no_path_retry(retry);
    }

    /// Tells the policies something else of a path from the next command on. `false` when this
    /// unit has no such path.
    pub fn set_path_settings(&self, path: PathId, settings: PathSettings) -> bool {
        self.unit().set_path_settings(path, settings)
    }
}
