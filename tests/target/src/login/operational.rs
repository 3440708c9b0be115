//! Operational negotiation: this target's own reading of the keys of RFC 7143 §13.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::config::{Config, Keys};
use crate::judge::{Judge, Rule};
use crate::text::{Pair, number};

/// The values in force on a session (and, for digests and segment lengths, on one connection of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// CRC32C on headers.
    pub header_digest: bool,
    /// CRC32C on data.
    pub data_digest: bool,
    /// Longest segment the initiator takes, in bytes.
    pub initiator_segment_bytes: u32,
    /// MaxConnections.
    pub max_connections: u32,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
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
    /// DataPDUInOrder.
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder.
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u8,
    /// TaskReporting.
    pub task_reporting: TaskReporting,
    /// iSCSIProtocolLevel (RFC 7144 §7.1.1).
    pub protocol_level: u8,
}

/// Values of TaskReporting (RFC 7143 §13.23), each with the semantics of those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskReporting {
    /// `RFC3720`: no response fence.
    #[default]
    Rfc3720,
    /// `ResponseFence`.
    ResponseFence,
    /// `FastAbort`.
    FastAbort,
}

impl Default for Parameters {
    /// What holds when a key is not negotiated.
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            initiator_segment_bytes: 8192,
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_burst_bytes: 262_144,
            first_burst_bytes: 65_536,
            time2wait_s: 2,
            time2retain_s: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            task_reporting: TaskReporting::Rfc3720,
            protocol_level: 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Min,
    Max,
    And,
    Or,
}

/// Type, range and result function of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digest,
    Boolean(Function),
    Number {
        min: u64,
        max: u64,
        function: Function,
    },
    SegmentLength,
    Marker,
    MarkerInterval,
    List,
    Declared,
}

fn kind(key: &str) -> Option<Kind> {
    let number = |min, max, function| Kind::Number { min, max, function };
    Some(match key {
        "HeaderDigest" | "DataDigest" => Kind::Digest,
        "InitialR2T" | "DataPDUInOrder" | "DataSequenceInOrder" => Kind::Boolean(Function::Or),
        "ImmediateData" => Kind::Boolean(Function::And),
        "MaxConnections" | "MaxOutstandingR2T" => number(1, 65_535, Function::Min),
        "MaxBurstLength" | "FirstBurstLength" => number(512, 16_777_215, Function::Min),
        "DefaultTime2Wait" => number(0, 3600, Function::Max),
        "DefaultTime2Retain" => number(0, 3600, Function::Min),
        "ErrorRecoveryLevel" => number(0, 2, Function::Min),
        "iSCSIProtocolLevel" => number(0, 31, Function::Min),
        "MaxRecvDataSegmentLength" => Kind::SegmentLength,
        "IFMarker" | "OFMarker" => Kind::Marker,
        "IFMarkInt" | "OFMarkInt" => Kind::MarkerInterval,
        "TaskReporting" => Kind::List,
        "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType" => Kind::Declared,
        _ => return None,
    })
}

/// Keys that mean nothing in a discovery session (RFC 7143 §13, "Irrelevant when").
fn irrelevant_in_discovery(key: &str) -> bool {
    matches!(
        key,
        "MaxConnections"
            | "InitialR2T"
            | "ImmediateData"
            | "MaxBurstLength"
            | "FirstBurstLength"
            | "MaxOutstandingR2T"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "TaskReporting"
            | "iSCSIProtocolLevel"
    )
}

/// Keys that only the leading connection may negotiate.
fn leading_only(key: &str) -> bool {
    matches!(
        key,
        "MaxConnections" | "DefaultTime2Wait" | "DefaultTime2Retain" | "ErrorRecoveryLevel"
    ) || irrelevant_in_discovery(key)
}

/// Where a negotiation takes place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) discovery: bool,
    pub(crate) leading: bool,
    pub(crate) full_feature: bool,
}

/// One operational negotiation from its first key to the end of login.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operational {
    pub(crate) parameters: Parameters,
    /// Keys the initiator has sent.
    seen: BTreeSet<String>,
    /// Keys the target started that still want an answer, with the value offered.
    started: Vec<(String, String)>,
    /// Keys the target sent in the full feature phase.
    told: Vec<String>,
    opened: bool,
    declared_segment: bool,
    declared_value: Option<u32>,
    /// FirstBurstLength and MaxBurstLength as the initiator offered them.
    offered_bursts: (Option<u64>, Option<u64>),
}

impl Operational {
    /// For a further connection: values of the session as they are, those of the connection at their defaults.
    pub(crate) fn continuing(parameters: Parameters) -> Self {
        let fresh = Parameters::default();
        Self {
            parameters: Parameters {
                header_digest: fresh.header_digest,
                data_digest: fresh.data_digest,
                initiator_segment_bytes: fresh.initiator_segment_bytes,
                ..parameters
            },
            ..Self::default()
        }
    }

    /// Target-started keys without answer.
    pub(crate) fn unanswered(&self) -> Option<&str> {
        self.started
            .iter()
            .find(|(key, value)| !settled_by_offer(kind(key), value))
            .map(|(key, _)| key.as_str())
    }

    /// Remembers a key and complains about its second coming.
    pub(crate) fn first_time(&mut self, key: &str, judge: &mut Judge) -> bool {
        let first = self.seen.insert(key.to_owned());
        judge.expect(first, Rule::KeyTwice, || format!("{key} sent again"))
    }

    /// Answers one key; `None` for declarations and for answers to our own offers.
    pub(crate) fn answer(
        &mut self,
        pair: &Pair,
        config: &Config,
        place: Place,
        judge: &mut Judge,
    ) -> Option<String> {
        if let Some(at) = self.started.iter().position(|(key, _)| *key == pair.key) {
            let (_, offered) = self.started.remove(at);
            self.seen.insert(pair.key.clone());
            self.take_answer(pair, &offered, judge);
            return None;
        }
        if !self.first_time(&pair.key, judge) {
            return Some("Reject".to_owned());
        }
        let quirks = &config.quirks;
        if quirks.unanswered.contains(&pair.key) {
            return None;
        }
        if quirks.not_understood.contains(&pair.key) {
            return Some("NotUnderstood".to_owned());
        }
        if quirks.reject.contains(&pair.key) {
            return Some("Reject".to_owned());
        }
        let Some(kind) = kind(&pair.key) else {
            return Some("NotUnderstood".to_owned());
        };
        if matches!(
            pair.value.as_str(),
            "NotUnderstood" | "Reject" | "Irrelevant"
        ) {
            judge.note(
                Rule::KeyValue,
                format!("{}={} answers no offer", pair.key, pair.value),
            );
            return None;
        }
        if leading_only(&pair.key) && !place.leading {
            judge.note(
                Rule::KeyPlace,
                format!("{} outside the leading login", pair.key),
            );
        }
        if pair.key == "InitiatorAlias" {
            return None;
        }
        if place.full_feature && pair.key != "MaxRecvDataSegmentLength" {
            judge.note(
                Rule::KeyPlace,
                format!("{} in the full feature phase", pair.key),
            );
            return Some("Reject".to_owned());
        }
        if place.discovery && irrelevant_in_discovery(&pair.key) {
            return Some("Irrelevant".to_owned());
        }
        match pair.key.as_str() {
            "FirstBurstLength" => self.offered_bursts.0 = number(&pair.value),
            "MaxBurstLength" => self.offered_bursts.1 = number(&pair.value),
            _ => {}
        }
        let mut answer = self.result(kind, pair, &config.keys, judge)?;
        if place.discovery && pair.key == "ErrorRecoveryLevel" && answer != "Reject" {
            // RFC 7143 §7.4.1.
            "0".clone_into(&mut answer);
        }
        let forced = quirks
            .override_values
            .iter()
            .find(|(key, _)| *key == pair.key);
        let value = forced.map_or(answer, |(_, value)| value.clone());
        self.apply(kind, &pair.key, &value);
        Some(value)
    }

    /// The value this target answers with; `None` when the key is declarative.
    fn result(
        &mut self,
        kind: Kind,
        pair: &Pair,
        keys: &Keys,
        judge: &mut Judge,
    ) -> Option<String> {
        let refused = |judge: &mut Judge| {
            judge.note(Rule::KeyValue, format!("{}={}", pair.key, pair.value));
            Some("Reject".to_owned())
        };
        match kind {
            Kind::Digest => {
                let ours = if pair.key == "HeaderDigest" {
                    &keys.header_digest
                } else {
                    &keys.data_digest
                };
                let legal = pair.value.split(',').all(list_item_legal);
                judge.expect(legal, Rule::KeyValue, || {
                    format!("{}={}", pair.key, pair.value)
                });
                // Values that are not understood are ignored (RFC 7143 §6.2.1).
                let chosen = pair
                    .value
                    .split(',')
                    .find(|item| ours.iter().any(|own| own == item));
                Some(chosen.unwrap_or("Reject").to_owned())
            }
            Kind::Boolean(function) => {
                boolean_result(pair, function, keys).or_else(|| refused(judge))
            }
            Kind::Number { min, max, function } => {
                number_result(pair, min..=max, function, keys).or_else(|| refused(judge))
            }
            Kind::SegmentLength => {
                let legal = number(&pair.value).filter(|value| (512..=16_777_215).contains(value));
                let Some(value) = legal.and_then(|value| u32::try_from(value).ok()) else {
                    return refused(judge);
                };
                self.parameters.initiator_segment_bytes = value;
                None
            }
            Kind::Marker => {
                let legal = matches!(pair.value.as_str(), "Yes" | "No");
                if legal {
                    Some("Reject".to_owned())
                } else {
                    refused(judge)
                }
            }
            Kind::MarkerInterval => Some("Reject".to_owned()),
            Kind::List => {
                let offered = |item| pair.value.split(',').any(|value| value == item);
                let complete = offered("RFC3720") && offered("ResponseFence");
                judge.expect(complete, Rule::KeyValue, || {
                    format!("TaskReporting={}", pair.value)
                });
                // The first of the initiator's list that is ours, too (RFC 7143 §6.2.1).
                let mut list = pair.value.split(',');
                let ours = |item: &&str| keys.task_reporting.iter().any(|own| own == item);
                Some(list.find(ours).unwrap_or("Reject").to_owned())
            }
            Kind::Declared => {
                judge.note(
                    Rule::KeyPlace,
                    format!("{} after the first Login Request", pair.key),
                );
                None
            }
        }
    }

    /// The initiator's answer to a key this target started.
    fn take_answer(&mut self, pair: &Pair, offered: &str, judge: &mut Judge) {
        let Some(kind) = kind(&pair.key) else {
            let understood = pair.value == "NotUnderstood";
            judge.expect(understood, Rule::KeyValue, || {
                format!("{}={}", pair.key, pair.value)
            });
            return;
        };
        if matches!(
            pair.value.as_str(),
            "NotUnderstood" | "Reject" | "Irrelevant"
        ) {
            let good = pair.value != "NotUnderstood"
                || pair.key == "iSCSIProtocolLevel"
                || kind == Kind::List;
            judge.expect(good, Rule::KeyValue, || {
                format!("{} NotUnderstood", pair.key)
            });
            return;
        }
        let fits = match kind {
            Kind::Number { min, max, function } => match (number(&pair.value), number(offered)) {
                (Some(value), Some(offer)) => {
                    (min..=max).contains(&value)
                        && if function == Function::Max {
                            value >= offer
                        } else {
                            value <= offer
                        }
                }
                _ => false,
            },
            Kind::Boolean(Function::And) => {
                matches!((pair.value.as_str(), offered), ("No", _) | ("Yes", "Yes"))
            }
            Kind::Boolean(_) => matches!((pair.value.as_str(), offered), ("Yes", _) | ("No", "No")),
            Kind::Digest | Kind::List => offered.split(',').any(|item| item == pair.value),
            Kind::SegmentLength | Kind::Marker | Kind::MarkerInterval | Kind::Declared => true,
        };
        judge.expect(fits, Rule::KeyValue, || {
            format!("{}={} answers {offered}", pair.key, pair.value)
        });
        if fits {
            self.apply(kind, &pair.key, &pair.value);
        }
    }

    fn apply(&mut self, kind: Kind, key: &str, value: &str) {
        let p = &mut self.parameters;
        match kind {
            Kind::Digest if key == "HeaderDigest" => p.header_digest = value == "CRC32C",
            Kind::Digest => p.data_digest = value == "CRC32C",
            Kind::Boolean(_) => {
                let value = value == "Yes";
                match key {
                    "InitialR2T" => p.initial_r2t = value,
                    "ImmediateData" => p.immediate_data = value,
                    "DataPDUInOrder" => p.data_pdu_in_order = value,
                    _ => p.data_sequence_in_order = value,
                }
            }
            Kind::Number { .. } => {
                let Some(value) = number(value).and_then(|value| u32::try_from(value).ok()) else {
                    return;
                };
                let small = u16::try_from(value).unwrap_or(u16::MAX);
                match key {
                    "MaxConnections" => p.max_connections = value,
                    "MaxOutstandingR2T" => p.max_outstanding_r2t = value,
                    "MaxBurstLength" => p.max_burst_bytes = value,
                    "FirstBurstLength" => p.first_burst_bytes = value,
                    "DefaultTime2Wait" => p.time2wait_s = small,
                    "DefaultTime2Retain" => p.time2retain_s = small,
                    "ErrorRecoveryLevel" => {
                        p.error_recovery_level = u8::try_from(value).unwrap_or(0)
                    }
                    "iSCSIProtocolLevel" => p.protocol_level = u8::try_from(value).unwrap_or(1),
                    _ => {}
                }
            }
            Kind::List => {
                p.task_reporting = match value {
                    "ResponseFence" => TaskReporting::ResponseFence,
                    "FastAbort" => TaskReporting::FastAbort,
                    _ => TaskReporting::Rfc3720,
                }
            }
            Kind::SegmentLength | Kind::Marker | Kind::MarkerInterval | Kind::Declared => {}
        }
    }

    /// Keys the target adds to its first operational answer.
    pub(crate) fn open(&mut self, config: &Config) -> Vec<(String, String)> {
        if self.opened {
            return Vec::new();
        }
        self.opened = true;
        let mut out = Vec::new();
        for (key, value) in &config.quirks.started_keys {
            if !self.seen.contains(key) {
                if !declared_by_target(key) {
                    self.started.push((key.clone(), value.clone()));
                }
                if let Some(kind) = kind(key).filter(|kind| settled_by_offer(Some(*kind), value)) {
                    self.apply(kind, key, value);
                }
                out.push((key.clone(), value.clone()));
            }
        }
        if !self.declared_segment {
            self.declared_segment = true;
            let bytes = config.keys.max_recv_data_segment_bytes;
            let key = "MaxRecvDataSegmentLength";
            let started = out.iter().find(|(started, _)| started == key);
            let declared = started.and_then(|(_, value)| number(value)?.try_into().ok());
            self.declared_value = Some(declared.unwrap_or(bytes));
            if started.is_none() {
                out.push((key.to_owned(), bytes.to_string()));
            }
        }
        out.extend(config.quirks.raw_keys.iter().cloned());
        out
    }

    /// What this target declared as its MaxRecvDataSegmentLength, if the operational stage took place.
    pub(crate) fn declared_segment_bytes(&self) -> u32 {
        self.declared_value.unwrap_or(8192)
    }

    /// Whether the initiator has sent a key.
    pub(crate) fn has_seen(&self, key: &str) -> bool {
        self.seen.contains(key)
    }

    /// The target sends a key of its own in the full feature phase, once; `false` when it has.
    pub(crate) fn declare(&mut self, key: &str, value: &str) -> bool {
        if self.told.iter().any(|told| told == key) {
            return false;
        }
        self.told.push(key.to_owned());
        if key == "MaxRecvDataSegmentLength" {
            self.declared_value = number(value).and_then(|value| value.try_into().ok());
        } else if !declared_by_target(key) {
            self.started.push((key.to_owned(), value.to_owned()));
        }
        true
    }

    /// The limit that [`Self::declare`] gave.
    pub(crate) fn declared(&self) -> Option<u32> {
        self.declared_value
    }

    /// Checks across keys once all are known.
    pub(crate) fn close(&mut self, judge: &mut Judge) {
        if let (Some(first), Some(max)) = self.offered_bursts {
            judge.expect(first <= max, Rule::FirstBurstAboveMax, || {
                format!("{first} above {max}")
            });
        }
        // The default of 64 KiB may exceed a small MaxBurstLength; the smaller one rules (RFC 7143 §13.14).
        let p = &mut self.parameters;
        p.first_burst_bytes = p.first_burst_bytes.min(p.max_burst_bytes);
    }
}

/// Declarations of a target, which nobody answers.
fn declared_by_target(key: &str) -> bool {
    matches!(
        key,
        "MaxRecvDataSegmentLength" | "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag"
    )
}

/// Boolean offers that are the result already; an answer is optional (RFC 7143 §6.2.2).
fn settled_by_offer(kind: Option<Kind>, value: &str) -> bool {
    matches!(
        (kind, value),
        (Some(Kind::Boolean(Function::And)), "No") | (Some(Kind::Boolean(Function::Or)), "Yes")
    )
}

fn boolean_result(pair: &Pair, function: Function, keys: &Keys) -> Option<String> {
    let offered = match pair.value.as_str() {
        "Yes" => true,
        "No" => false,
        _ => return None,
    };
    let own = own_boolean(&pair.key, keys);
    Some(yes_no(if function == Function::And {
        offered && own
    } else {
        offered || own
    }))
}

fn number_result(
    pair: &Pair,
    range: RangeInclusive<u64>,
    function: Function,
    keys: &Keys,
) -> Option<String> {
    let offered = number(&pair.value).filter(|value| range.contains(value))?;
    let own = own_number(&pair.key, keys);
    Some(
        if function == Function::Max {
            offered.max(own)
        } else {
            offered.min(own)
        }
        .to_string(),
    )
}

fn list_item_legal(item: &str) -> bool {
    matches!(item, "CRC32C" | "None") || item.starts_with("Y-") || item.starts_with("Z-")
}

fn own_boolean(key: &str, keys: &Keys) -> bool {
    match key {
        "InitialR2T" => keys.initial_r2t,
        "ImmediateData" => keys.immediate_data,
        "DataPDUInOrder" => keys.data_pdu_in_order,
        _ => keys.data_sequence_in_order,
    }
}

fn own_number(key: &str, keys: &Keys) -> u64 {
    match key {
        "MaxConnections" => u64::from(keys.max_connections),
        "MaxOutstandingR2T" => u64::from(keys.max_outstanding_r2t),
        "MaxBurstLength" => u64::from(keys.max_burst_bytes),
        "FirstBurstLength" => u64::from(keys.first_burst_bytes.min(keys.max_burst_bytes)),
        "DefaultTime2Wait" => u64::from(keys.time2wait_s),
        "DefaultTime2Retain" => u64::from(keys.time2retain_s),
        "ErrorRecoveryLevel" => u64::from(keys.error_recovery_level),
        "iSCSIProtocolLevel" => u64::from(keys.protocol_level),
        _ => 1,
    }
}

fn yes_no(value: bool) -> String {
    if value { "Yes" } else { "No" }.to_owned()
}
