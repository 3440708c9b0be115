//! The key table: every text key of RFC 7143 §12 and §13 and RFC 7144 §7.1, with its type, range,
//! default, result function, scope, and who may send it when.
//!
//! Negotiation, validation of what a user asks for, and the documentation of the keys all read
//! this table; nothing else in the crate knows a key's rules. The table does not know what is
//! offered: that is [`crate::text::Offer`].

use std::fmt;

/// Result function of a boolean key (RFC 7143 §6.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BooleanResult {
    /// Yes only when both sides say Yes.
    And,
    /// Yes when one side says Yes.
    Or,
}

/// Result function of a numerical key (RFC 7143 §13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberResult {
    /// The answer is at most what was proposed.
    Minimum,
    /// The answer is at least what was proposed.
    Maximum,
}

/// What a key's value is and how a result comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Negotiated `Yes` or `No`.
    Boolean(BooleanResult),
    /// Negotiated number.
    Number {
        /// Lowest admissible value.
        min: u32,
        /// Highest admissible value.
        max: u32,
        /// How the answer relates to the proposal.
        result: NumberResult,
    },
    /// Negotiated list: the acceptor takes the first value it supports.
    List(
        /// The values that the RFC defines.
        &'static [&'static str],
    ),
    /// Number declared by each sender for its own side.
    DeclaredNumber {
        /// Lowest admissible value.
        min: u32,
        /// Highest admissible value.
        max: u32,
    },
    /// Text declared by its sender.
    Declared,
    /// Part of an authentication exchange; its rules belong to the method (RFC 7143 §12.1).
    Authentication,
    /// Not a parameter but a request (SendTargets).
    Request,
    /// Withdrawn by RFC 7143 §13.25; answered with `Reject`.
    Obsolete,
}

/// How far a value reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole session (SW).
    Session,
    /// One connection (CO).
    Connection,
}

/// When a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Login of the leading connection (LO).
    LeadingOnly,
    /// Any login (IO).
    LoginOnly,
    /// Login and full feature phase (ALL).
    Always,
    /// Full feature phase (FFPO).
    FullFeatureOnly,
}

/// Who may send a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Senders {
    /// The initiator.
    Initiator,
    /// The target.
    Target,
    /// Either side.
    Both,
}

/// Stages of login in which a key may appear (RFC 7143 §6.3, "Any-Stage" in §13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStage {
    /// SecurityNegotiation only.
    Security,
    /// LoginOperationalNegotiation only.
    Operational,
    /// Both.
    Any,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// The key.
    pub key: Key,
    /// Its name on the wire.
    pub name: &'static str,
    /// Section that defines it.
    pub section: &'static str,
    /// Type, range and result function.
    pub kind: Kind,
    /// Value in force when nothing was negotiated.
    pub default: Option<&'static str>,
    /// How far the value reaches.
    pub scope: Scope,
    /// When it may be used.
    pub usage: Use,
    /// In which login stages it may appear.
    pub stage: KeyStage,
    /// Who may send it.
    pub senders: Senders,
    /// Means nothing in a Discovery session.
    pub normal_only: bool,
    /// A peer may answer NotUnderstood, Reject or nothing without harm: the default stays.
    pub optional: bool,
    /// A user may choose the offered value.
    pub settable: bool,
    /// Longest value accepted, in bytes of text.
    pub value_bytes_max: usize,
    /// One sentence for people.
    pub about: &'static str,
}

/// Longest simple value in bytes (RFC 7143 §6.1).
pub const SIMPLE_VALUE_BYTES_MAX: usize = 255;
/// A domain name, brackets, port and tag.
const ADDRESS_BYTES_MAX: usize = 300;
/// 1024 bytes in hexadecimal with its prefix, and a little room for a 0-padded digit
/// (RFC 7143 §12.1.2, §12.1.3).
const BINARY_VALUE_BYTES_MAX: usize = 2 + 2 * 1024 + 2;
/// 65,536 bytes in base64 with its prefix: more than a negotiation may hold, so bounded by that.
const TICKET_BYTES_MAX: usize = 65_536;

const DATA_SEGMENT_BYTES_MIN: u32 = 512;
const DATA_SEGMENT_BYTES_MAX: u32 = (1 << 24) - 1;

/// What most rows have in common; each row overrides what differs.
const OPERATIONAL: KeySpec = KeySpec {
    key: Key::HeaderDigest,
    name: "",
    section: "",
    kind: Kind::Declared,
    default: None,
    scope: Scope::Session,
    usage: Use::LeadingOnly,
    stage: KeyStage::Operational,
    senders: Senders::Both,
    normal_only: true,
    optional: false,
    settable: true,
    value_bytes_max: SIMPLE_VALUE_BYTES_MAX,
    about: "",
};

/// Declarations that identify the parties: allowed in every stage and session.
const IDENTITY: KeySpec = KeySpec {
    usage: Use::Always,
    stage: KeyStage::Any,
    normal_only: false,
    settable: false,
    ..OPERATIONAL
};

/// Keys of an authentication method.
const AUTHENTICATION: KeySpec = KeySpec {
    section: "RFC 7143 §12.1",
    kind: Kind::Authentication,
    scope: Scope::Connection,
    usage: Use::LoginOnly,
    stage: KeyStage::Security,
    normal_only: false,
    settable: false,
    ..OPERATIONAL
};

const fn number(min: u32, max: u32, result: NumberResult) -> Kind {
    Kind::Number { min, max, result }
}

macro_rules! key_table {
    ($($variant:ident $name:literal $section:literal { $($field:ident: $value:expr),* $(,)? } on $base:ident, $about:literal;)*) => {
        /// Every key the table knows, in the table's order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Key {
            $(#[doc = $about] $variant,)*
        }

        impl Key {
            /// All keys, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The key's row.
            #[must_use]
            pub const fn spec(self) -> &'static KeySpec {
                match self {
                    $(Self::$variant => {
                        const ROW: KeySpec = KeySpec {
                            key: Key::$variant,
                            name: $name,
                            section: $section,
                            about: $about,
                            $($field: $value,)*
                            ..$base
                        };
                        &ROW
                    })*
                }
            }
        }
    };
}

key_table! {
    HeaderDigest "HeaderDigest" "RFC 7143 §13.1" {
        kind: Kind::List(&["CRC32C", "None"]), default: Some("None"),
        scope: Scope::Connection, usage: Use::LoginOnly, normal_only: false,
    } on OPERATIONAL, "Checksum over PDU headers.";
    DataDigest "DataDigest" "RFC 7143 §13.1" {
        kind: Kind::List(&["CRC32C", "None"]), default: Some("None"),
        scope: Scope::Connection, usage: Use::LoginOnly, normal_only: false,
    } on OPERATIONAL, "Checksum over PDU data with its padding.";
    MaxConnections "MaxConnections" "RFC 7143 §13.2" {
        kind: number(1, 65_535, NumberResult::Minimum), default: Some("1"),
    } on OPERATIONAL, "Connections that one session may have.";
    SendTargets "SendTargets" "RFC 7143 §13.3" {
        kind: Kind::Request, usage: Use::FullFeatureOnly, senders: Senders::Initiator,
    } on IDENTITY, "Asks for targets and their addresses.";
    TargetName "TargetName" "RFC 7143 §13.4" {
        usage: Use::LoginOnly,
    } on IDENTITY, "Name of the target node; by a target only in answer to SendTargets.";
    InitiatorName "InitiatorName" "RFC 7143 §13.5" {
        usage: Use::LoginOnly, senders: Senders::Initiator,
    } on IDENTITY, "Name of the initiator node.";
    TargetAlias "TargetAlias" "RFC 7143 §13.6" {
        senders: Senders::Target,
    } on IDENTITY, "The target's name for people; not an identifier.";
    InitiatorAlias "InitiatorAlias" "RFC 7143 §13.7" {
        senders: Senders::Initiator, optional: true,
    } on IDENTITY, "The initiator's name for people; not an identifier.";
    TargetAddress "TargetAddress" "RFC 7143 §13.8" {
        senders: Senders::Target, value_bytes_max: ADDRESS_BYTES_MAX,
    } on IDENTITY, "Where a target can be reached: host, port, portal group tag.";
    TargetPortalGroupTag "TargetPortalGroupTag" "RFC 7143 §13.9" {
        kind: Kind::DeclaredNumber { min: 0, max: 65_535 },
        usage: Use::LoginOnly, senders: Senders::Target,
    } on IDENTITY, "Portal group that serves this connection.";
    InitialR2T "InitialR2T" "RFC 7143 §13.10" {
        kind: Kind::Boolean(BooleanResult::Or), default: Some("Yes"),
    } on OPERATIONAL, "Yes: a write's data outside the command waits for the target's R2T.";
    ImmediateData "ImmediateData" "RFC 7143 §13.11" {
        kind: Kind::Boolean(BooleanResult::And), default: Some("Yes"),
    } on OPERATIONAL, "Yes: a write's first data may travel inside the command PDU.";
    MaxRecvDataSegmentLength "MaxRecvDataSegmentLength" "RFC 7143 §13.12" {
        kind: Kind::DeclaredNumber { min: DATA_SEGMENT_BYTES_MIN, max: DATA_SEGMENT_BYTES_MAX },
        default: Some("8192"), scope: Scope::Connection, usage: Use::Always, normal_only: false,
    } on OPERATIONAL, "Most data in bytes that the sender of this key takes in one PDU.";
    MaxBurstLength "MaxBurstLength" "RFC 7143 §13.13" {
        kind: number(DATA_SEGMENT_BYTES_MIN, DATA_SEGMENT_BYTES_MAX, NumberResult::Minimum),
        default: Some("262144"),
    } on OPERATIONAL, "Most data in bytes in one Data-In or solicited Data-Out sequence.";
    FirstBurstLength "FirstBurstLength" "RFC 7143 §13.14" {
        kind: number(DATA_SEGMENT_BYTES_MIN, DATA_SEGMENT_BYTES_MAX, NumberResult::Minimum),
        default: Some("65536"),
    } on OPERATIONAL, "Most data in bytes a write may send before the first R2T; at most MaxBurstLength.";
    DefaultTime2Wait "DefaultTime2Wait" "RFC 7143 §13.15" {
        kind: number(0, 3600, NumberResult::Maximum), default: Some("2"), normal_only: false,
        optional: true,
    } on OPERATIONAL, "Least seconds between the loss of a connection and its reinstatement.";
    DefaultTime2Retain "DefaultTime2Retain" "RFC 7143 §13.16" {
        kind: number(0, 3600, NumberResult::Minimum), default: Some("20"), normal_only: false,
        optional: true,
    } on OPERATIONAL, "Most seconds after that in which tasks can still be reassigned.";
    MaxOutstandingR2T "MaxOutstandingR2T" "RFC 7143 §13.17" {
        kind: number(1, 65_535, NumberResult::Minimum), default: Some("1"),
    } on OPERATIONAL, "R2Ts that may be open for one write.";
    DataPduInOrder "DataPDUInOrder" "RFC 7143 §13.18" {
        kind: Kind::Boolean(BooleanResult::Or), default: Some("Yes"),
    } on OPERATIONAL, "Yes: data PDUs of a sequence come at rising addresses.";
    DataSequenceInOrder "DataSequenceInOrder" "RFC 7143 §13.19" {
        kind: Kind::Boolean(BooleanResult::Or), default: Some("Yes"),
    } on OPERATIONAL, "Yes: the sequences of a command come at rising addresses.";
    ErrorRecoveryLevel "ErrorRecoveryLevel" "RFC 7143 §13.20" {
        kind: number(0, 2, NumberResult::Minimum), default: Some("0"), normal_only: false,
    } on OPERATIONAL, "0 session recovery, 1 digest failure recovery, 2 connection recovery.";
    SessionType "SessionType" "RFC 7143 §13.21" {
        default: Some("Normal"), usage: Use::LeadingOnly, senders: Senders::Initiator,
    } on IDENTITY, "Normal or Discovery.";
    TaskReporting "TaskReporting" "RFC 7143 §13.23" {
        kind: Kind::List(&["RFC3720", "ResponseFence", "FastAbort"]), default: Some("RFC3720"),
        optional: true,
    } on OPERATIONAL, "How a target reports tasks ended by a reset.";
    IscsiProtocolLevel "iSCSIProtocolLevel" "RFC 7144 §7.1.1" {
        kind: number(0, 31, NumberResult::Minimum), default: Some("1"), optional: true,
    } on OPERATIONAL, "1: RFC 7143; 2: the SCSI features of RFC 7144.";
    NodeArchitecture "X#NodeArchitecture" "RFC 7143 §13.26" {
        usage: Use::LeadingOnly, stage: KeyStage::Operational, optional: true,
    } on IDENTITY, "What software and hardware the sender is; for logs only.";
    IfMarker "IFMarker" "RFC 7143 §13.25" {
        kind: Kind::Obsolete, settable: false,
    } on OPERATIONAL, "Obsolete: markers to the initiator.";
    OfMarker "OFMarker" "RFC 7143 §13.25" {
        kind: Kind::Obsolete, settable: false,
    } on OPERATIONAL, "Obsolete: markers to the target.";
    IfMarkInt "IFMarkInt" "RFC 7143 §13.25" {
        kind: Kind::Obsolete, settable: false,
    } on OPERATIONAL, "Obsolete: distance of markers to the initiator.";
    OfMarkInt "OFMarkInt" "RFC 7143 §13.25" {
        kind: Kind::Obsolete, settable: false,
    } on OPERATIONAL, "Obsolete: distance of markers to the target.";
    AuthMethod "AuthMethod" "RFC 7143 §12.1" {} on AUTHENTICATION,
        "How the parties authenticate each other.";
    ChapA "CHAP_A" "RFC 7143 §12.1.3" {} on AUTHENTICATION, "CHAP: digest algorithms.";
    ChapI "CHAP_I" "RFC 7143 §12.1.3" {} on AUTHENTICATION, "CHAP: identifier.";
    ChapC "CHAP_C" "RFC 7143 §12.1.3" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "CHAP: challenge.";
    ChapN "CHAP_N" "RFC 7143 §12.1.3" {} on AUTHENTICATION, "CHAP: name.";
    ChapR "CHAP_R" "RFC 7143 §12.1.3" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "CHAP: response.";
    KrbApReq "KRB_AP_REQ" "RFC 7143 §12.1.1" {
        value_bytes_max: TICKET_BYTES_MAX, senders: Senders::Initiator,
    } on AUTHENTICATION, "Kerberos: client message.";
    KrbApRep "KRB_AP_REP" "RFC 7143 §12.1.1" {
        value_bytes_max: TICKET_BYTES_MAX, senders: Senders::Target,
    } on AUTHENTICATION, "Kerberos: server message.";
    SrpU "SRP_U" "RFC 7143 §12.1.2" {} on AUTHENTICATION, "SRP: user.";
    TargetAuth "TargetAuth" "RFC 7143 §12.1.2" {} on AUTHENTICATION,
        "SRP: whether the target authenticates too.";
    SrpGroup "SRP_GROUP" "RFC 7143 §12.1.2" {} on AUTHENTICATION, "SRP: group.";
    SrpSalt "SRP_s" "RFC 7143 §12.1.2" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "SRP: salt.";
    SrpA "SRP_A" "RFC 7143 §12.1.2" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "SRP: client's public value.";
    SrpB "SRP_B" "RFC 7143 §12.1.2" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "SRP: server's public value.";
    SrpM "SRP_M" "RFC 7143 §12.1.2" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "SRP: client's proof.";
    SrpHm "SRP_HM" "RFC 7143 §12.1.2" {
        value_bytes_max: BINARY_VALUE_BYTES_MAX,
    } on AUTHENTICATION, "SRP: server's proof.";
}

impl Key {
    /// The key of that name; names are case sensitive (RFC 7143 §6.1).
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// The key's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kind {
    /// The admissible values and the result function, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(BooleanResult::And) => f.write_str("Yes or No; AND"),
            Self::Boolean(BooleanResult::Or) => f.write_str("Yes or No; OR"),
            Self::Number { min, max, result } => {
                let result = match result {
                    NumberResult::Minimum => "minimum",
                    NumberResult::Maximum => "maximum",
                };
                write!(f, "{min} to {max}; {result}")
            }
            Self::List(values) => write!(f, "list of {}", values.join(", ")),
            Self::DeclaredNumber { min, max } => write!(f, "{min} to {max}; declared"),
            Self::Declared => f.write_str("text; declared"),
            Self::Authentication => f.write_str("authentication"),
            Self::Request => f.write_str("request"),
            Self::Obsolete => f.write_str("obsolete"),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeadingOnly => "leading login",
            Self::LoginOnly => "login",
            Self::Always => "any time",
            Self::FullFeatureOnly => "full feature phase",
        })
    }
}

impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initiator => "initiator",
            Self::Target => "target",
            Self::Both => "both",
        })
    }
}

/// The whole table as a Markdown table, for the manual and for `--help` texts.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "| Key | Values | Default | Scope | Use | Sender | Settable | Meaning |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for spec in Key::ALL.iter().map(|key| key.spec()) {
        let scope = match spec.scope {
            Scope::Session => "session",
            Scope::Connection => "connection",
        };
        let settable = if spec.settable { "yes" } else { "no" };
        text.push_str(&format!(
            "| {} | {} | {} | {scope} | {} | {} | {settable} | {} ({}) |\n",
            spec.name,
            spec.kind,
            spec.default.unwrap_or("-"),
            spec.usage,
            spec.senders,
            spec.about,
            spec.section,
        ));
    }
    text
}
