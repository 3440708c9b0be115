//! How paths are chosen, changed while I/O runs.

use scsi::Nexus;

use super::LogicalUnit;
use crate::clock::Clock;
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
    pub fn fail_back(&self) {
        self.unit().regroup(Chooser::ask);
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
