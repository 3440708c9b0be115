//! Task management functions and their responses by name.

use super::TaskKey;
use crate::wire::TaskFunction;

/// A task management function (RFC 7143 §11.5.1, RFC 7144 §6.3). TASK REASSIGN is not among them:
/// it belongs to the recovery of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManagementFunction {
    /// Ends one task.
    AbortTask(TaskKey),
    /// Ends the tasks of this session at a logical unit.
    AbortTaskSet,
    /// Clears an auto contingent allegiance.
    ClearAca,
    /// Ends the tasks of a task set, those of other initiators too where they share it.
    ClearTaskSet,
    /// Resets a logical unit, for everybody.
    LogicalUnitReset,
    /// Ends all tasks of a target, for everybody.
    TargetWarmReset,
    /// As after power on, for everybody; all sessions end.
    TargetColdReset,
    /// Whether a task is in the task set (iSCSIProtocolLevel 2).
    QueryTask(TaskKey),
    /// Whether any task of this nexus is in the task set (iSCSIProtocolLevel 2).
    QueryTaskSet,
    /// Ends this I_T nexus and with it the session (iSCSIProtocolLevel 2).
    ItNexusReset,
    /// Whether a unit attention or a deferred error is pending (iSCSIProtocolLevel 2).
    QueryAsynchronousEvent,
}

impl ManagementFunction {
    /// The iSCSIProtocolLevel that it belongs to (RFC 7144 §6.3).
    #[must_use]
    pub const fn needs_level(self) -> u8 {
        match self {
            Self::QueryTask(_)
            | Self::QueryTaskSet
            | Self::ItNexusReset
            | Self::QueryAsynchronousEvent => 2,
            Self::AbortTask(_)
            | Self::AbortTaskSet
            | Self::ClearAca
            | Self::ClearTaskSet
            | Self::LogicalUnitReset
            | Self::TargetWarmReset
            | Self::TargetColdReset => 0,
        }
    }

    /// SAM's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AbortTask(_) => "ABORT TASK",
            Self::AbortTaskSet => "ABORT TASK SET",
            Self::ClearAca => "CLEAR ACA",
            Self::ClearTaskSet => "CLEAR TASK SET",
            Self::LogicalUnitReset => "LOGICAL UNIT RESET",
            Self::TargetWarmReset => "TARGET WARM RESET",
            Self::TargetColdReset => "TARGET COLD RESET",
            Self::QueryTask(_) => "QUERY TASK",
            Self::QueryTaskSet => "QUERY TASK SET",
            Self::ItNexusReset => "I_T NEXUS RESET",
            Self::QueryAsynchronousEvent => "QUERY ASYNCHRONOUS EVENT",
        }
    }

    pub(super) const fn code(self) -> TaskFunction {
        match self {
            Self::AbortTask(_) => TaskFunction::AbortTask,
            Self::AbortTaskSet => TaskFunction::AbortTaskSet,
            Self::ClearAca => TaskFunction::ClearAca,
            Self::ClearTaskSet => TaskFunction::ClearTaskSet,
            Self::LogicalUnitReset => TaskFunction::LogicalUnitReset,
            Self::TargetWarmReset => TaskFunction::TargetWarmReset,
            Self::TargetColdReset => TaskFunction::TargetColdReset,
            Self::QueryTask(_) => TaskFunction::QueryTask,
            Self::QueryTaskSet => TaskFunction::QueryTaskSet,
            Self::ItNexusReset => TaskFunction::ItNexusReset,
            Self::QueryAsynchronousEvent => TaskFunction::QueryAsynchronousEvent,
        }
    }

    /// Whether an answer says that the tasks it reaches are over.
    pub(super) const fn concludes(self, answer: ManagementResponse) -> bool {
        match answer {
            ManagementResponse::FunctionComplete | ManagementResponse::FunctionSucceeded => true,
            // Had it been answered, its status would have come before.
            ManagementResponse::TaskDoesNotExist => matches!(self, Self::AbortTask(_)),
            // A logical unit that is not there has no tasks.
            ManagementResponse::LunDoesNotExist => self.addresses_unit(),
            ManagementResponse::TaskStillAllegiant
            | ManagementResponse::ReassignmentNotSupported
            | ManagementResponse::NotSupported
            | ManagementResponse::NotAuthorized
            | ManagementResponse::FunctionRejected
            | ManagementResponse::Reserved(_) => false,
        }
    }

    /// Whether it addresses a logical unit (RFC 7143 §11.5.3, RFC 7144 §6.3.1).
    #[must_use]
    pub const fn addresses_unit(self) -> bool {
        !matches!(
            self,
            Self::TargetWarmReset | Self::TargetColdReset | Self::ItNexusReset
        )
    }
}

impl std::fmt::Display for ManagementFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A target's response (RFC 7143 §11.6.1, RFC 7144 §6.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManagementResponse {
    /// 0. To a query: no.
    FunctionComplete,
    /// 1.
    TaskDoesNotExist,
    /// 2.
    LunDoesNotExist,
    /// 3.
    TaskStillAllegiant,
    /// 4.
    ReassignmentNotSupported,
    /// 5.
    NotSupported,
    /// 6.
    NotAuthorized,
    /// 7. To a query: yes (RFC 7144).
    FunctionSucceeded,
    /// 255.
    FunctionRejected,
    /// A value that nobody has assigned.
    Reserved(u8),
}

impl ManagementResponse {
    /// The response of this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::FunctionComplete,
            1 => Self::TaskDoesNotExist,
            2 => Self::LunDoesNotExist,
            3 => Self::TaskStillAllegiant,
            4 => Self::ReassignmentNotSupported,
            5 => Self::NotSupported,
            6 => Self::NotAuthorized,
            7 => Self::FunctionSucceeded,
            255 => Self::FunctionRejected,
            code => Self::Reserved(code),
        }
    }

    /// Its code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::FunctionComplete => 0,
            Self::TaskDoesNotExist => 1,
            Self::LunDoesNotExist => 2,
            Self::TaskStillAllegiant => 3,
            Self::ReassignmentNotSupported => 4,
            Self::NotSupported => 5,
            Self::NotAuthorized => 6,
            Self::FunctionSucceeded => 7,
            Self::FunctionRejected => 255,
            Self::Reserved(code) => code,
        }
    }

    /// Whether the function was carried out: SAM's FUNCTION COMPLETE and FUNCTION SUCCEEDED.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(
            self,
            Self::FunctionComplete | Self::TaskDoesNotExist | Self::FunctionSucceeded
        )
    }
}

impl std::fmt::Display for ManagementResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FunctionComplete => "function complete",
            Self::TaskDoesNotExist => "task does not exist",
            Self::LunDoesNotExist => "logical unit does not exist",
            Self::TaskStillAllegiant => "task still allegiant",
            Self::ReassignmentNotSupported => "task reassignment not supported",
            Self::NotSupported => "function not supported",
            Self::NotAuthorized => "function not authorized",
            Self::FunctionSucceeded => "function succeeded",
            Self::FunctionRejected => "function rejected",
            Self::Reserved(code) => return write!(f, "reserved response {code}"),
        })
    }
}

/// What became of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskManagementResponse {
    /// The target's response.
    pub response: ManagementResponse,
    /// Additional response information of SAM-5 (QUERY TASK, QUERY ASYNCHRONOUS EVENT); 0 below
    /// iSCSIProtocolLevel 2.
    pub additional: [u8; 3],
    /// Commands of this session that it ended.
    pub ended: usize,
}

/// Why a function has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskManagementError {
    /// The session is down at the moment; nothing was sent.
    #[error("the session is down")]
    Down,
    /// The session is closed; nothing was sent.
    #[error("the session is closed")]
    Closed,
    /// The function belongs to a higher level than was negotiated; nothing was sent.
    #[error(
        "{function} needs iSCSIProtocolLevel {}, {level} is in force (RFC 7144 §6.3); offer it with \
         -k iSCSIProtocolLevel=2", function.needs_level()
    )]
    ProtocolLevel {
        /// What was asked for.
        function: ManagementFunction,
        /// What was negotiated.
        level: u8,
    },
    /// The task it names is not under way; nothing was sent.
    #[error("the command is not under way")]
    NoSuchTask,
    /// The connection of the task it names is being recovered; nothing was sent.
    #[error("the connection of the command is being recovered")]
    Recovering,
    /// Too many functions under way; nothing was sent.
    #[error("too many task management functions at once")]
    Busy,
    /// The target rejected the request.
    #[error("the target rejected the request: {name} ({reason:#04x}) (RFC 7143 §11.17.1)")]
    Rejected {
        /// Reason code.
        reason: u8,
        /// The reason in words.
        name: &'static str,
    },
    /// No response in time. A function that ends tasks has cost the session.
    #[error("no response in time")]
    NoAnswer,
    /// The connection was lost before the response; a TARGET COLD RESET or an I_T NEXUS RESET may
    /// well have caused that (RFC 7143 §11.5.1, RFC 7144 §6.4.2). Where the session recovers the
    /// connection, the tasks that the function would have ended go on, unless the target has ended
    /// them: how each one ends says which.
    #[error("the connection was lost before the response")]
    ConnectionLost,
}
