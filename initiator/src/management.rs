//! Task management on a whole target.

use iscsi::session::{ManagementFunction, TaskManagementError, TaskManagementResponse};
use scsi::{Lun, NexusState};

use crate::target::Target;

impl Target {
    /// Has the target carry out a task management function (RFC 7143 §11.5; RFC 7144 §6): on the
    /// first session that is up, or, for an I_T NEXUS RESET, on each that is. `lun` counts for
    /// functions that address a logical unit.
    ///
    /// Multipath is not asked: commands that the function ends come back to it as aborted, and it
    /// deals with them like with those that another initiator's reset has ended.
    ///
    /// # Errors
    /// [`TaskManagementError`]; with several sessions, the first one.
    pub async fn task_management(
        &self,
        lun: Lun,
        function: ManagementFunction,
    ) -> Result<TaskManagementResponse, TaskManagementError> {
        let mut result = Err(TaskManagementError::Down);
        let every = function == ManagementFunction::ItNexusReset;
        for session in self.session_handles() {
            if !matches!(session.snapshot().state, NexusState::Up(_)) {
                continue;
            }
            result = session.task_management(lun, function).await;
            if !every || result.is_err() {
                break;
            }
        }
        result
    }
}
