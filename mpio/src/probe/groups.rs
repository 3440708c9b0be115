//! REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS over one path (SPC-4 §6.37, §6.45).

use scsi::alua::{self, SetState, SettableState};
use scsi::{Cdb, DataPhase, Nexus, Outcome, Status, TargetPortGroups};

use super::{Probe, Stop, TRIES, is_deferred, parsed, refused};
use crate::classify::{Verdict, classify, is_illegal_request};
use crate::clock::Clock;
use crate::error::ProbeError;
use crate::path::Trouble;

const REPORT: &str = "REPORT TARGET PORT GROUPS";
const SET: &str = "SET TARGET PORT GROUPS";

impl<N: Nexus, C: Clock> Probe<'_, N, C> {
    /// The target port groups; with the extended header when `extended`, which is cleared when
    /// the target does not know that.
    pub(crate) async fn report_groups(
        &self,
        extended: &mut bool,
    ) -> Result<TargetPortGroups, ProbeError> {
        match self.report(*extended).await {
            Err(ProbeError::Refused { sense, .. }) if *extended && is_illegal_request(&sense) => {
                *extended = false;
                self.report(false).await
            }
            result => result,
        }
    }

    async fn report(&self, extended: bool) -> Result<TargetPortGroups, ProbeError> {
        let mut allocation = FIRST_ALLOCATION;
        for _ in 0..TRIES {
            let cdb = Cdb::report_target_port_groups(extended, allocation);
            let len = usize::try_from(allocation).unwrap_or(usize::MAX);
            let data = match self.ask(REPORT, cdb, len).await {
                Ok(data) => data,
                // The path's keeper knows, and looks at it again.
                Err(Stop::Over) => continue,
                Err(Stop::Wrong(error)) => return Err(error),
            };
            let groups = parsed(REPORT, TargetPortGroups::parse(data.as_slice()))?;
            let needed = u32::try_from(groups.needed_bytes).unwrap_or(u32::MAX);
            if needed <= allocation || allocation == ALLOCATION_MAX {
                return Ok(groups);
            }
            allocation = needed.min(ALLOCATION_MAX);
        }
        Err(ProbeError::Restless)
    }

    /// Asks the target to bring one group into a state. A target may answer before the change is
    /// complete; a report tells.
    pub(crate) async fn set_group(
        &self,
        group: u16,
        state: SettableState,
    ) -> Result<(), ProbeError> {
        let list = alua::set_target_port_groups(&[SetState::Group { id: group, state }]);
        let bytes = u32::try_from(list.len()).unwrap_or(u32::MAX);
        for _ in 0..TRIES {
            let cdb = Cdb::set_target_port_groups(bytes);
            let data = DataPhase::Write(list.clone());
            // The change itself may take long.
            let timeout = self.config.command_timeout.max(self.config.probe_timeout);
            let (outcome, _) = self.send(cdb, data, timeout).await;
            let verdict = classify(&outcome).verdict(true);
            let answer = match outcome {
                Outcome::Answered(answer) if answer.status == Status::GOOD => return Ok(()),
                Outcome::Answered(answer) => answer,
                Outcome::Failed(source) => {
                    return Err(ProbeError::NoAnswer {
                        command: SET,
                        source,
                    });
                }
            };
            match verdict {
                Verdict::Good => return Ok(()),
                _ if is_deferred(&answer) => {}
                // Unit attentions: the command was not looked at.
                Verdict::LookAgain => {}
                Verdict::Again { pace, .. } => {
                    let now = self.clock.now();
                    let deadline = now.checked_add(self.config.probe_timeout).unwrap_or(now);
                    self.pause(pace, deadline).await;
                }
                Verdict::Leave(Trouble::NoAccess) => {
                    return Err(ProbeError::NoAccess { state: None });
                }
                Verdict::Up | Verdict::Elsewhere | Verdict::Leave(_) => {
                    return Err(refused(SET, answer));
                }
            }
        }
        Err(ProbeError::Restless)
    }
}

/// Room for some dozens of groups.
const FIRST_ALLOCATION: u32 = 1024;
/// More is not asked for; the number comes from the device.
const ALLOCATION_MAX: u32 = 64 << 10;
