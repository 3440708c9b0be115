//! The record of everything an initiator did that RFC 7143 forbids.
//!
//! [`Rule::ALL`] is the list of checks with their sections; documentation is generated from it. The judge only
//! records: what the target does about an offence is decided where the offence was seen. Nothing here can panic.

use std::time::Instant;

use crate::ConnectionId;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Its section of RFC 7143 (or of the RFC named there).
    pub section: &'static str,
    /// What was seen, with the numbers.
    pub what: String,
    /// Connection it was seen on.
    pub connection: ConnectionId,
    /// When.
    pub at: Instant,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} (RFC 7143 {}) on {:?}: {}",
            self.rule, self.section, self.connection, self.what
        )
    }
}

/// Collects violations, and knows who is being judged at the moment.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) violations: Vec<Violation>,
    seat: Option<(ConnectionId, Instant)>,
}

/// A peer that offends without end must not fill the memory.
const RECORD_LIMIT: usize = 10_000;

impl Judge {
    pub(crate) fn open(&mut self, connection: ConnectionId, at: Instant) {
        self.seat = Some((connection, at));
    }

    pub(crate) fn note(&mut self, rule: Rule, what: impl Into<String>) {
        let Some((connection, at)) = self.seat else {
            return;
        };
        if self.violations.len() < RECORD_LIMIT {
            let violation = Violation {
                rule,
                section: rule.section(),
                what: what.into(),
                connection,
                at,
            };
            tracing::warn!(%violation, "initiator broke a rule");
            self.violations.push(violation);
        }
    }

    /// Notes the offence unless `good`, and says whether it was good.
    pub(crate) fn expect(&mut self, good: bool, rule: Rule, what: impl FnOnce() -> String) -> bool {
        if !good {
            self.note(rule, what());
        }
        good
    }
}

macro_rules! rules {
    ($($name:ident $section:literal $text:literal;)*) => {
        /// A requirement on the initiator that the target can see from its side of the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }

        impl Rule {
            /// Every check, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Section of RFC 7143 (or of the RFC named in it).
            #[must_use]
            pub const fn section(self) -> &'static str {
                match self { $(Self::$name => $section,)* }
            }

            /// The requirement in our words.
            #[must_use]
            pub const fn requirement(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rules! {
    // Framing
    OpcodeIllegal "§11.2.1.2" "Only initiator opcodes are sent.";
    ReservedField "§11.2" "Reserved bits and fields are zero.";
    AhsIllegal "§11.2.2" "Additional header segments are of a known type, well formed, and only where allowed.";
    PaddingNonZero "§11.1" "Padding bytes are zero (SHOULD).";
    HeaderDigestWrong "§11.2.3" "The header digest covers header and AHS with CRC32C.";
    DataDigestWrong "§11.2.3" "The data digest covers data and padding with CRC32C.";
    SegmentTooLong "§13.12" "No data segment is longer than the target's MaxRecvDataSegmentLength.";
    DataNotAllowed "§11.2.4" "PDUs that define no data segment carry none.";
    // Numbering
    CmdSnSkipped "§4.2.2.1" "Non-immediate commands of a session are numbered without gaps.";
    CmdSnReused "§4.2.2.1" "No CmdSN is used for a second command.";
    CmdSnBeyondWindow "§4.2.2.1" "No command is sent with a CmdSN beyond MaxCmdSN.";
    CmdSnOrder "§4.2.2.1" "On every connection new commands are sent in the order of their CmdSN.";
    CmdSnHole "§4.2.2.1" "A hole in the numbering is closed, by its command or an abort, while later commands wait.";
    RetryDiffers "§7.2.1" "A command sent again keeps its Initiator Task Tag, CmdSN, flags, LUN and CDB.";
    RetryConnection "§7.2.1" "A command is sent again on its own connection unless that was logged out.";
    ImmediateCmdSn "§4.2.2.1" "An immediate request carries the next CmdSN without consuming it.";
    TaskTagInUse "§11.2.1.8" "An Initiator Task Tag identifies one task at a time.";
    TaskTagReserved "§11.2.1.8" "0xffffffff is no task tag.";
    ExpStatSnAhead "§4.2.2.2" "ExpStatSN acknowledges only what was sent.";
    ExpStatSnLost "§7.9" "ExpStatSN acknowledges no answer that was not received.";
    ExpStatSnBackwards "§4.2.2.2" "ExpStatSN does not go back.";
    // Commands
    CommandFinal "§11.3.1" "F is set in a command without W, and in one whose immediate data are all its data (§11.3.4).";
    TaskAttribute "§11.3.1" "The task attribute is one of the five defined.";
    DataWithoutWrite "§11.3.6" "Only a command with the W bit carries data.";
    ExpectedLength "§11.3.4" "Expected Data Transfer Length is zero without R and W, and what the CDB asks for with them.";
    BidirectionalLength "§11.3.4" "A command with R and W, and no other, carries the Bidirectional Read Expected Data Transfer Length.";
    ImmediateDataForbidden "§13.11" "No immediate data when ImmediateData=No.";
    UnsolicitedForbidden "§13.10" "No unsolicited Data-Out when InitialR2T=Yes.";
    FirstBurstExceeded "§13.14" "Unsolicited data stay within FirstBurstLength and the expected length.";
    FirstBurstShort "§4.2.5.2" "An announced unsolicited sequence is sent up to FirstBurstLength or the expected length.";
    UnsolicitedOrder "§4.2.5.2" "Unsolicited data of several commands come in the order of the commands.";
    // Data-Out
    DataOutNoTask "§11.7" "Data-Out belongs to a task of this connection.";
    DataOutTransferTag "§11.7.4" "Data-Out carries the transfer tag of an open R2T, or 0xffffffff when unsolicited.";
    DataOutLun "§11.7.4" "Solicited Data-Out carries the LUN of its R2T.";
    DataOutSn "§11.7.5" "DataSN counts from zero in every sequence.";
    DataOutOffset "§11.7.6" "Data of a sequence are contiguous and start where the R2T says.";
    DataOutLength "§11.8.4" "A sequence has exactly the length the R2T asks for.";
    DataOutFinal "§11.7.1" "F is set in the last Data-Out of a sequence and in no other.";
    R2tOrder "§13.19" "With DataSequenceInOrder=Yes, R2Ts are answered in their order.";
    // Sessions and login
    PhaseWrong "§6.3" "Only Login Requests before, and none in, the Full Feature Phase.";
    DiscoveryOnly "§4.3" "A discovery session carries text requests and logout only.";
    LoginImmediate "§11.12" "Login Requests are immediate.";
    LoginVersion "§11.12.4" "Version-min and Version-max are 0x00.";
    LoginStage "§11.12.3" "CSG and NSG name a legal step, and CSG follows the stage agreed on.";
    LoginContinue "§11.12.2" "C and T are not set together.";
    LoginFieldsChange "§11.12" "ISID, TSIH, CID and ITT stay the same during a login.";
    LoginCmdSn "§11.12.8" "CmdSN stays the same during a leading login.";
    LoginIsid "§11.12.5" "The ISID has one of the defined types.";
    LoginTsih "§11.12.6" "TSIH is zero for a new session and valid for an additional connection.";
    LoginSegment "§13.12" "Login data segments stay within the default of 8192 bytes.";
    LoginContinueEmpty "§6.2" "While the target's answer continues, requests carry no keys.";
    // Keys
    TextSyntax "§6.1" "Text consists of key=value pairs, each ended by NUL.";
    KeyName "§6.1" "Key names are legal.";
    KeyTwice "§6.2" "No key is declared or negotiated twice in one negotiation.";
    KeyValue "§6.2" "Values have the type and range of their key, and answers fit the offer.";
    KeyPlace "§13" "A key is sent only in the stage, session type and role it is meant for.";
    KeyUnanswered "§6.2" "Every key that the target offers is answered.";
    NameMissing "§13.4" "The first Login Request carries InitiatorName, and TargetName unless SessionType=Discovery.";
    NameIllegal "§4.2.7" "Node names have a legal form.";
    FirstBurstAboveMax "§13.14" "FirstBurstLength does not exceed MaxBurstLength.";
    // Security
    ChapOrder "§12.1.3" "CHAP keys come in the order A, then N and R, with I and C together.";
    ChapValue "§12.1.3" "CHAP values have the defined form and length.";
    ChapReflected "§9.2.1" "The initiator's challenge is not the target's.";
    // Text, NOP, task management, logout
    TextFlags "§11.10.2" "C and F are not set together.";
    TextTransferTag "§11.10.4" "A text exchange goes on with the transfer tag of the last answer.";
    TextTaskTag "§11.10.3" "A text exchange keeps its Initiator Task Tag, and one is open at a time.";
    NopFinal "§11.18" "F is set in requests that have no sequence.";
    NopTransferTag "§11.18.2" "A NOP-Out with a transfer tag answers a NOP-In that carried it.";
    NopReply "§11.18" "The answer to a ping is immediate, with ITT 0xffffffff, the LUN and the data of the NOP-In.";
    NopNoTask "§11.18.1" "A NOP-Out with the reserved task tag is immediate.";
    TaskManagementFunction "§11.5.1" "The function is a defined one.";
    TaskManagementReference "§11.5.4" "Only ABORT TASK and TASK REASSIGN name a task, and they name one of the connection's LUN.";
    TaskManagementRefCmdSn "§11.5.5" "RefCmdSN is the CmdSN of the task to be aborted, or of the request itself when that task is immediate.";
    TaskManagementAllegiance "§11.5.1" "ABORT TASK and QUERY TASK travel on the connection of the task while it lives.";
    MultiTaskAbortData "§4.2.3.3" "R2Ts of tasks that a function is to end are still answered.";
    FastAbortData "§4.2.3.4" "With FastAbort no data follow the function on its connection for the tasks it ends.";
    AsyncLogout "§11.9.1" "A Logout Request event is honoured in time, by closing the connection or the session.";
    AsyncNegotiation "§11.9.1" "A Negotiation Request event is answered in time by a Text Request or a Logout.";
    AsyncTermination "§11.9.1" "A Task Termination event is acknowledged by a NOP-Out without task, with the LUN.";
    SnackAtLevelZero "§11.16" "No SNACK on a session with ErrorRecoveryLevel 0.";
    SnackFields "§11.16.4" "A SNACK has a defined type and the tags, BegRun and RunLength that its type demands.";
    SnackUnsent "§11.16" "A SNACK asks for, or acknowledges, only what was sent.";
    SnackAcknowledged "§11.16.2" "A SNACK asks for nothing that was acknowledged, and precedes the acknowledgement of the status.";
    SnackResegment "§11.16.3" "After a change of MaxRecvDataSegmentLength data are asked for by R-Data SNACK.";
    DataAckTag "§11.16.5" "DataACK carries the transfer tag and LUN of the Data-In with the A bit.";
    DataAckHoles "§11.7.2" "DataACK waits until no Data-In before it is missing.";
    ReassignImmediate "§11.5.1" "TASK REASSIGN is immediate.";
    ReassignAllegiant "§7.2.2" "TASK REASSIGN follows a successful logout of the task's connection for recovery.";
    ReassignExpDataSn "§11.5.6" "ExpDataSN is 0, or acknowledges only Data-In that was sent and received.";
    RecoveryTooEarly "§7.5" "No reassignment before Time2Wait of the Logout Response (SHOULD).";
    LogoutExpStatSn "§11.14.4" "A Logout for another connection, and a login that reinstates one, carry the last ExpStatSN of that connection.";
    LogoutReason "§11.14.1" "The reason is one that session and recovery level allow.";
    LogoutConnection "§11.14.3" "The connection to be closed is one of the session.";
    AfterLogout "§11.14" "Nothing follows a Logout Request on its connection.";
}
