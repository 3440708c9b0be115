//! What a target is: names, portals, logical units, keys it answers with, and how badly it behaves.

use std::time::Duration;

/// Everything a [`crate::Target`] needs to know. The default is an honest target with one portal and one 64 MiB LUN.
#[derive(Debug, Clone)]
pub struct Config {
    /// iSCSI name of the target.
    pub target_name: String,
    /// Value of TargetAlias, declared in the first Login Response when present (RFC 7143 §13.7).
    pub target_alias: Option<String>,
    /// Further targets that SendTargets lists: name and addresses. They cannot be logged in to.
    pub listed_targets: Vec<(String, Vec<String>)>,
    /// Network portals, in the order of the indices used by [`crate::Target::connect`].
    pub portals: Vec<Portal>,
    /// iSCSI names of the targets that the portals belong to, in their order: one SCSI device that several targets
    /// present. A portal without one belongs to `target_name`.
    pub portal_names: Vec<String>,
    /// Logical units, LUN 0 first.
    pub luns: Vec<Lun>,
    /// Target port groups; `None`: every port is alike and there is no ALUA.
    pub alua: Option<Alua>,
    /// CHAP; `None` admits everybody.
    pub chap: Option<Chap>,
    /// Whether discovery sessions must authenticate as well, when `chap` is set.
    pub chap_in_discovery: bool,
    /// Own side of operational negotiation.
    pub keys: Keys,
    /// Commands the target takes ahead: MaxCmdSN − ExpCmdSN + 1 with no task active.
    pub queue_depth: u32,
    /// Status in the last Data-In (RFC 7143 §11.7.3) instead of a separate SCSI Response.
    pub phase_collapse: bool,
    /// Segments of one read burst in reverse order where DataPDUInOrder=No, bursts where DataSequenceInOrder=No.
    pub shuffle_data_in: bool,
    /// R2Ts in descending offset where DataSequenceInOrder=No.
    pub shuffle_r2t: bool,
    /// Unit attention 29/00 for every LUN of a new session.
    pub unit_attention_at_login: bool,
    /// Auto contingent allegiance for commands with NACA; INQUIRY says so by NORMACA.
    pub aca: bool,
    /// How long after the time of an Asynchronous Message the judge waits for what it asks for, for data under way.
    pub async_grace: Duration,
    /// Descriptor-format sense by default (the D_SENSE bit of the control mode page).
    pub descriptor_sense: bool,
    /// Time every command takes before it is executed.
    pub execution_delay: Duration,
    /// Interval of target-originated NOP-In pings that want an answer; `None` sends none.
    pub ping_every: Option<Duration>,
    /// When a connection dies, complete writes not executed yet are executed this much later (a ghost write).
    /// `None` leaves them at their own time.
    pub late_execution: Option<Duration>,
    /// A dishonest target: late writes survive session reinstatement.
    pub late_execution_after_reinstatement: bool,
    /// PDUs kept in [`crate::Target::wire_log`], the newest of both directions; 0 keeps none.
    pub wire_log: usize,
    /// Keeps a record of every write; a long benchmark wants it off.
    pub journal: bool,
    /// StatSN of the first Login Response.
    pub first_stat_sn: u32,
    /// First transfer tag of a session; `None` takes a random one.
    pub first_transfer_tag: Option<u32>,
    /// At ErrorRecoveryLevel 1 and above: asks for DataACK by the A bit at the end of every burst of Data-In
    /// (RFC 7143 §11.7.2).
    pub data_ack: bool,
    /// Answers kept for each connection until they are acknowledged (ErrorRecoveryLevel 1 and above).
    pub kept_answers: usize,
    /// Bytes of data kept with them for each connection.
    pub kept_bytes: usize,
    /// At ErrorRecoveryLevel 1 and above: how long Data-Out may stay away before the R2T is sent again or another one
    /// asks for the rest; `None` waits for ever.
    pub sequence_timeout: Option<Duration>,
    /// How long the judge lets a hole in the command numbering stand while later commands wait behind it.
    pub hole_patience: Option<Duration>,
    /// Time2Wait and Time2Retain of Logout Responses in seconds; `None` repeats those of the session.
    pub logout_times: Option<(u16, u16)>,
    /// At ErrorRecoveryLevel 2: tells the session's other connections about one that broke (Async Message 2).
    pub announce_lost_connections: bool,
    /// Deviations from plain behaviour during login and later.
    pub quirks: Quirks,
    /// Seed of everything random (challenges, identifiers); equal seeds give equal runs.
    pub seed: u64,
}

impl Config {
    /// The iSCSI name of the target that a portal belongs to.
    #[must_use]
    pub fn name_of(&self, portal: usize) -> &str {
        self.portal_names.get(portal).unwrap_or(&self.target_name)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target_name: "iqn.2026-01.org.example:test-target".to_owned(),
            target_alias: None,
            listed_targets: Vec::new(),
            portals: vec![Portal {
                address: "127.0.0.1:3260".to_owned(),
                group: 1,
            }],
            portal_names: Vec::new(),
            luns: vec![Lun::default()],
            alua: None,
            chap: None,
            chap_in_discovery: false,
            keys: Keys::default(),
            queue_depth: 64,
            phase_collapse: true,
            shuffle_data_in: false,
            shuffle_r2t: false,
            unit_attention_at_login: false,
            aca: false,
            async_grace: Duration::from_secs(15),
            descriptor_sense: false,
            execution_delay: Duration::ZERO,
            ping_every: None,
            late_execution: None,
            late_execution_after_reinstatement: false,
            wire_log: 0,
            journal: true,
            first_stat_sn: 0,
            first_transfer_tag: None,
            data_ack: false,
            kept_answers: 1024,
            kept_bytes: 32 << 20,
            sequence_timeout: Some(Duration::from_secs(2)),
            hole_patience: Some(Duration::from_secs(60)),
            logout_times: None,
            announce_lost_connections: true,
            quirks: Quirks::default(),
            seed: 1,
        }
    }
}

/// One network portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// Address as SendTargets lists it (`host:port`, IPv6 in brackets).
    pub address: String,
    /// Portal group tag (RFC 7143 §13.9).
    pub group: u16,
}

/// One logical unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lun {
    /// Logical block size in bytes: a power of two from 512 to 65536.
    pub block_bytes: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// Refuses writes with DATA PROTECT.
    pub read_only: bool,
    /// Unit serial number; also the source of the NAA identity, so equal serials are equal logical units.
    pub serial: String,
    /// Shows its NAA identity; without it only the vendor's own one, which SPC does not promise to be unique.
    pub unique: bool,
}

impl Default for Lun {
    fn default() -> Self {
        Self {
            block_bytes: 512,
            blocks: 131_072,
            read_only: false,
            serial: "TESTTARGET0000".to_owned(),
            unique: true,
        }
    }
}

/// Asymmetric logical unit access (SPC-4 §5.15); every LUN begins with the same states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alua {
    /// TPGS of the INQUIRY data: 1 the target moves states, 2 the initiator may, 3 both.
    pub tpgs: u8,
    /// Target port group of each portal, in their order. Need not be the portal group tag.
    pub group_of_portal: Vec<u16>,
    /// The groups as they are at first.
    pub groups: Vec<PortGroup>,
    /// Whether the extended header of REPORT TARGET PORT GROUPS is known.
    pub extended_header: bool,
    /// IMPLICIT TRANSITION TIME in seconds; 0 says nothing.
    pub transition_time_s: u8,
    /// How long a change by SET TARGET PORT GROUPS takes.
    pub transition: Duration,
    /// State that active/optimized groups get when SET TARGET PORT GROUPS opens another one.
    pub others_become: Option<u8>,
    /// SET TARGET PORT GROUPS fails.
    pub refuse_set: bool,
    /// Who gets the unit attention 2A/06.
    pub told: Told,
}

impl Default for Alua {
    fn default() -> Self {
        Self {
            tpgs: 3,
            group_of_portal: Vec::new(),
            groups: Vec::new(),
            extended_header: true,
            transition_time_s: 10,
            transition: Duration::ZERO,
            others_become: None,
            refuse_set: false,
            told: Told::Everybody,
        }
    }
}

/// A target port group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortGroup {
    /// TARGET PORT GROUP.
    pub id: u16,
    /// ASYMMETRIC ACCESS STATE as on the wire, see [`crate::access_state`].
    pub state: u8,
    /// PREF.
    pub preferred: bool,
}

/// Which nexuses get a unit attention when a group's state changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// All but the one that asked for the change (SPC-4 §5.15.2.7).
    Everybody,
    /// Those through ports of the group, as the Linux kernel's target does it.
    Group,
    /// None: a defect.
    Nobody,
}

/// CHAP of RFC 7143 §12.1.3 as the authenticator, and as the peer when mutual.
#[derive(Clone, PartialEq, Eq)]
pub struct Chap {
    /// Name the initiator must give.
    pub name: String,
    /// Secret of the initiator.
    pub secret: Vec<u8>,
    /// Own name and secret for mutual authentication; `None` refuses a challenge from the initiator.
    pub mutual: Option<(String, Vec<u8>)>,
    /// Algorithms admitted: 5 MD5, 6 SHA-1, 7 SHA-256, 8 SHA3-256. The first of the initiator's list wins.
    pub algorithms: Vec<u8>,
    /// Length of the challenge in bytes, 1 to 1,024.
    pub challenge_bytes: usize,
    /// Sends the challenge in base64 instead of hex.
    pub base64: bool,
}

impl std::fmt::Debug for Chap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chap")
            .field("name", &self.name)
            .field("mutual", &self.mutual.as_ref().map(|(name, _)| name))
            .field("algorithms", &self.algorithms)
            .field("challenge_bytes", &self.challenge_bytes)
            .finish_non_exhaustive()
    }
}

impl Chap {
    /// One-way CHAP with all four algorithms and a 16-byte challenge.
    #[must_use]
    pub fn one_way(name: &str, secret: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            secret: secret.to_vec(),
            mutual: None,
            algorithms: vec![5, 6, 7, 8],
            challenge_bytes: 16,
            base64: false,
        }
    }
}

/// The target's side of every operational key (RFC 7143 §13). Results follow the key's own function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Digests admitted for headers, among `CRC32C` and `None`.
    pub header_digest: Vec<String>,
    /// Digests admitted for data.
    pub data_digest: Vec<String>,
    /// MaxConnections; 1 by default.
    pub max_connections: u32,
    /// InitialR2T (result: or).
    pub initial_r2t: bool,
    /// ImmediateData (result: and).
    pub immediate_data: bool,
    /// MaxRecvDataSegmentLength that the target declares, in bytes.
    pub max_recv_data_segment_bytes: u32,
    /// MaxBurstLength in bytes.
    pub max_burst_bytes: u32,
    /// FirstBurstLength in bytes.
    pub first_burst_bytes: u32,
    /// DefaultTime2Wait in seconds.
    pub time2wait_s: u16,
    /// DefaultTime2Retain in seconds.
    pub time2retain_s: u16,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// DataPDUInOrder (result: or).
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder (result: or).
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel: the highest level to agree on, 0 to 2. Level 2 needs `time2retain_s` above 0 to be of use.
    pub error_recovery_level: u8,
    /// Values of TaskReporting that are agreed to, among `RFC3720`, `ResponseFence` and `FastAbort`.
    pub task_reporting: Vec<String>,
    /// iSCSIProtocolLevel; 2 enables RFC 7144.
    pub protocol_level: u8,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            header_digest: vec!["None".to_owned(), "CRC32C".to_owned()],
            data_digest: vec!["None".to_owned(), "CRC32C".to_owned()],
            max_connections: 1,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_bytes: 262_144,
            max_burst_bytes: 1 << 20,
            first_burst_bytes: 262_144,
            time2wait_s: 2,
            time2retain_s: 0,
            max_outstanding_r2t: 8,
            data_pdu_in_order: false,
            data_sequence_in_order: false,
            error_recovery_level: 0,
            task_reporting: vec!["RFC3720".to_owned()],
            protocol_level: 1,
        }
    }
}

/// Odd but mostly legal behaviour, and some that is not (named so).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Holds back the T bit this many times in every stage although the initiator is ready.
    pub delay_transit: u32,
    /// Splits the keys of login and text answers into segments of at most this many bytes with the C bit.
    pub split_answers_bytes: Option<usize>,
    /// Answers the first Login Request of a normal session with a redirect.
    pub redirect: Option<Redirect>,
    /// Fails every login with this status class and detail, e.g. `0x0301`.
    pub login_status: Option<u16>,
    /// Like `login_status`, but only the next this many logins.
    pub login_status_times: Option<u32>,
    /// Fails only once the operational stage is reached.
    pub login_status_late: bool,
    /// Answers these keys with `NotUnderstood`.
    pub not_understood: Vec<String>,
    /// Answers these keys with `Reject`.
    pub reject: Vec<String>,
    /// Answers these keys with this value whatever was offered (a lie when it is above the offer).
    pub override_values: Vec<(String, String)>,
    /// Leaves these keys unanswered (illegal).
    pub unanswered: Vec<String>,
    /// Keys the target itself starts, in its first operational answer. A negotiable one that the initiator has
    /// offered by then is left out.
    pub started_keys: Vec<(String, String)>,
    /// Raw keys sent at the end of the first operational answer, however illegal.
    pub raw_keys: Vec<(String, String)>,
    /// Keys the target sends in its first answer of a text negotiation of a normal session, e.g. another
    /// MaxRecvDataSegmentLength.
    pub text_keys: Vec<(String, String)>,
    /// Holds back the F bit of text answers this many times.
    pub delay_text_final: u32,
    /// Answers this many Text Requests by a Reject (RFC 7143 §6.4: resets the negotiation).
    pub text_rejects: u32,
    /// An empty Data-In PDU before the data of every read.
    pub empty_data_in: bool,
    /// Leaves TargetPortalGroupTag out of the first answer (illegal, RFC 7143 §13.9).
    pub no_portal_group_tag: bool,
    /// Announces another portal group tag than the portal's.
    pub wrong_portal_group_tag: Option<u16>,
    /// TSIH in the final Login Response instead of the real one (illegal when 0).
    pub final_tsih: Option<u16>,
    /// Never answers Login Requests.
    pub mute_login: bool,
    /// Sends the initiator's own challenge and identifier back in mutual CHAP (a reflection attack).
    pub chap_reflect: bool,
    /// Answers the initiator's challenge wrongly in mutual CHAP.
    pub chap_wrong_response: bool,
    /// Leaves the answer to the initiator's challenge out.
    pub chap_omit_response: bool,
    /// SendTargets lists portals without port and tag.
    pub bare_addresses: bool,
    /// Addresses that SendTargets lists instead of the portals'.
    pub advertised: Option<Vec<String>>,
}

/// A redirect of RFC 7143 §11.13.5: class 01.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Value of TargetAddress.
    pub address: String,
    /// Detail 02 instead of 01.
    pub permanent: bool,
    /// Only on this portal; `None` on all of them.
    pub portal: Option<usize>,
}
