//! Negotiation of operational keys during login (RFC 7143 §6.2, §6.3.3, §13).
//!
//! One [`Negotiation`] lives as long as the login phase. Every answer is held against what was
//! offered; a key is settled once; a key that the target starts gets the answer its row of the
//! table asks for. Values take effect only when [`Negotiation::finish`] has seen all of them.
//! Authentication keys are not handled here.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::codec::Pair;
use super::keys::{Key, KeySpec, Kind, Senders, Use};
use super::offer::{Offer, OfferError, unoffered};
use super::params::{ConnectionParams, NegotiatedKey, SessionParams, TaskReporting};
use super::value::{Value, known_members};
use crate::name::PortalGroupTag;

pub(super) const REJECT: &str = "Reject";
pub(super) const NOT_UNDERSTOOD: &str = "NotUnderstood";
pub(super) const IRRELEVANT: &str = "Irrelevant";

/// What a session is for (RFC 7143 §13.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionType {
    /// SCSI commands.
    Normal,
    /// SendTargets and nothing else.
    Discovery,
}

impl SessionType {
    /// The value of the SessionType key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Discovery => "Discovery",
        }
    }
}

/// How a negotiation failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The target took none of what was offered.
    #[error("the target rejected {key}={offered}; offer another value with -k {key}=...")]
    Rejected {
        /// The key.
        key: Key,
        /// What was offered.
        offered: String,
    },
    /// The target claims not to know a key that it must know.
    #[error("the target does not understand {key}={offered} (RFC 7143 §6.2 demands it)")]
    NotUnderstood {
        /// The key.
        key: Key,
        /// What was offered.
        offered: String,
    },
    /// The answer is not a possible result of the offer.
    #[error(
        "the target answered {key}={answer} to the offer {key}={offered}, which is no possible \
         result ({})", key.spec().section
    )]
    BadAnswer {
        /// The key.
        key: Key,
        /// What was offered.
        offered: String,
        /// What came back.
        answer: String,
    },
    /// The target declared a value that the key does not allow.
    #[error("the target declared {key}={value}, which is not allowed ({})", key.spec().section)]
    BadDeclaration {
        /// The key.
        key: Key,
        /// What it declared.
        value: String,
    },
    /// A key came twice.
    #[error("the target sent {key} twice in one negotiation (RFC 7143 §6.3, §6.4)")]
    Repeated {
        /// The key's name.
        key: String,
    },
    /// The target left a key undecided and the default is not what was offered.
    #[error("the target did not decide {key}={offered}, and the default {default} was not offered")]
    Undecided {
        /// The key.
        key: Key,
        /// What was offered.
        offered: String,
        /// The default of the RFC.
        default: &'static str,
    },
    /// The target sent a key that only initiators send, or that has no place in login.
    #[error("the target sent {key}={value}, which no target may send at login ({})", key.spec().section)]
    NotForTarget {
        /// The key.
        key: Key,
        /// Its value.
        value: String,
    },
    /// A key outside its stage.
    #[error("the target sent {key} in the wrong login stage (RFC 7143 §6.3)")]
    WrongStage {
        /// The key.
        key: Key,
    },
    /// A reserved constant where no answer was due.
    #[error("the target sent {key}={value} although {key} was not offered (RFC 7143 §6.2)")]
    ReservedConstant {
        /// The key's name.
        key: String,
        /// The constant.
        value: String,
    },
    /// The target's answers contradict each other.
    #[error(
        "the target answered FirstBurstLength={first} with MaxBurstLength={max}; the first must \
         not exceed the second (RFC 7143 §13.14)"
    )]
    FirstBurstAboveMaxBurst {
        /// FirstBurstLength in bytes.
        first: u32,
        /// MaxBurstLength in bytes.
        max: u32,
    },
}

/// The outcome of a finished negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Parameters of the session; the RFC's defaults when the connection was not the leading one.
    pub session: SessionParams,
    /// Parameters of the connection.
    pub connection: ConnectionParams,
    /// Every key, requested and answered side by side.
    pub keys: Vec<NegotiatedKey>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    /// What we sent for the key.
    requested: Option<Value>,
    /// What the target sent for it.
    answered: Option<String>,
    /// What came out; `None` leaves the default.
    result: Option<Value>,
}

/// One login's negotiation.
#[derive(Debug)]
pub struct Negotiation {
    offer: Offer,
    session: SessionType,
    /// First connection of its session: keys of use LO are allowed.
    leading: bool,
    rows: BTreeMap<Key, Row>,
    /// Keys outside the table that the target sent.
    unknown: BTreeSet<String>,
}

impl Negotiation {
    /// Prepares a negotiation of `offer`.
    ///
    /// # Errors
    ///
    /// When the offer breaks a rule between keys.
    pub fn new(offer: Offer, session: SessionType, leading: bool) -> Result<Self, OfferError> {
        offer.check()?;
        Ok(Self {
            offer,
            session,
            leading,
            rows: BTreeMap::new(),
            unknown: BTreeSet::new(),
        })
    }

    /// The pairs to send first in the operational stage: everything that is offered and means
    /// something on this connection.
    pub fn opening(&mut self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let keys: Vec<Key> = self.offer.keys().collect();
        for key in keys {
            if !self.applies(key.spec()) || self.rows.contains_key(&key) {
                continue;
            }
            let Some(value) = self.ours(key) else {
                continue;
            };
            pairs.push(Pair::new(key.name(), value.to_string()));
            self.rows.entry(key).or_default().requested = Some(value);
        }
        pairs
    }

    /// Our own value of a key, if it is offered.
    fn ours(&self, key: Key) -> Option<Value> {
        let offered = self.offer.value(key)?;
        // RFC 7143 §13.21: a discovery session recovers from nothing.
        let fixed = self.session == SessionType::Discovery && key == Key::ErrorRecoveryLevel;
        Some(if fixed { Value::Number(0) } else { offered })
    }

    /// Takes a pair that the target sent, and returns the answer it needs, if any.
    ///
    /// # Errors
    ///
    /// When the pair breaks a rule or ends the negotiation.
    pub fn receive(&mut self, pair: &Pair) -> Result<Option<Pair>, NegotiationError> {
        let Some(key) = Key::find(&pair.key) else {
            return self.unknown(pair).map(Some);
        };
        match key.spec().kind {
            Kind::Boolean(_) | Kind::Number { .. } | Kind::List(_) => {
                self.negotiated(key, &pair.value)
            }
            Kind::DeclaredNumber { .. } | Kind::Declared => {
                self.declared(key, &pair.value).map(|()| None)
            }
            Kind::Obsolete => {
                self.first_time(key, &pair.value)?;
                // RFC 7143 §13.25: never NotUnderstood.
                Ok(Some(Pair::new(key.name(), REJECT)))
            }
            Kind::Authentication => Err(NegotiationError::WrongStage { key }),
            Kind::Request => Err(NegotiationError::NotForTarget {
                key,
                value: pair.value.clone(),
            }),
        }
    }

    /// Whether the key means anything on this connection.
    fn applies(&self, spec: &KeySpec) -> bool {
        let relevant = self.session == SessionType::Normal || !spec.normal_only;
        relevant && (self.leading || spec.usage != Use::LeadingOnly)
    }

    fn unknown(&mut self, pair: &Pair) -> Result<Pair, NegotiationError> {
        let key = pair.key.clone();
        if is_reserved(&pair.value) {
            let value = pair.value.clone();
            return Err(NegotiationError::ReservedConstant { key, value });
        }
        if !self.unknown.insert(key.clone()) {
            return Err(NegotiationError::Repeated { key });
        }
        Ok(Pair::new(key, NOT_UNDERSTOOD))
    }

    /// Marks a key as sent by the target; once only.
    fn first_time(&mut self, key: Key, value: &str) -> Result<&mut Row, NegotiationError> {
        let row = self.rows.entry(key).or_default();
        if row.answered.is_some() {
            let key = key.name().to_owned();
            return Err(NegotiationError::Repeated { key });
        }
        row.answered = Some(value.to_owned());
        Ok(row)
    }

    fn negotiated(&mut self, key: Key, text: &str) -> Result<Option<Pair>, NegotiationError> {
        let row = self.first_time(key, text)?;
        let Some(offered) = row.requested.clone() else {
            return self.proposed(key, text).map(Some);
        };
        row.result = check_answer(key.spec(), &offered, text)?;
        Ok(None)
    }

    /// Answers a key that the target started.
    fn proposed(&mut self, key: Key, text: &str) -> Result<Pair, NegotiationError> {
        if is_reserved(text) {
            return Err(NegotiationError::ReservedConstant {
                key: key.name().into(),
                value: text.into(),
            });
        }
        let spec = key.spec();
        if self.session == SessionType::Discovery && spec.normal_only {
            return Ok(Pair::new(spec.name, IRRELEVANT));
        }
        if !self.applies(spec) {
            return Ok(Pair::new(spec.name, REJECT));
        }
        let theirs = if let Kind::List(known) = spec.kind {
            Some(Value::List(known_members(known, text)))
        } else {
            Value::parse(spec.kind, text).ok()
        };
        let ours = self.ours(key).or_else(|| unoffered(key));
        let chosen = ours
            .zip(theirs)
            .and_then(|(ours, theirs)| ours.answer(spec.kind, &theirs));
        let Some(chosen) = chosen else {
            return Ok(Pair::new(spec.name, REJECT));
        };
        let answer = Pair::new(spec.name, chosen.to_string());
        self.rows.entry(key).or_default().result = Some(chosen);
        Ok(answer)
    }

    fn declared(&mut self, key: Key, text: &str) -> Result<(), NegotiationError> {
        let spec = key.spec();
        let ours = match spec.senders {
            Senders::Initiator => true,
            Senders::Both => self.offer.value(key).is_some() || key == Key::TargetName,
            Senders::Target => false,
        };
        if ours && is_reserved(text) {
            return self.declaration_refused(key, text);
        }
        // RFC 7143 §13.4: a target names itself only in answer to SendTargets.
        if spec.senders == Senders::Initiator || key == Key::TargetName {
            return Err(NegotiationError::NotForTarget {
                key,
                value: text.into(),
            });
        }
        // RFC 7143 §6.3 names TargetAddress as the key that may be repeated.
        if key == Key::TargetAddress {
            return Ok(());
        }
        let Kind::DeclaredNumber { .. } = spec.kind else {
            return self.first_time(key, text).map(|_| ());
        };
        let value =
            Value::parse(spec.kind, text).map_err(|_| NegotiationError::BadDeclaration {
                key,
                value: text.into(),
            })?;
        self.first_time(key, text)?.result = Some(value);
        Ok(())
    }

    /// The target answered a declaration of ours with a reserved constant.
    fn declaration_refused(&self, key: Key, text: &str) -> Result<(), NegotiationError> {
        if key.spec().optional || text == IRRELEVANT {
            return Ok(());
        }
        let offered = self.offer.get(key).unwrap_or_default();
        Err(if text == REJECT {
            NegotiationError::Rejected { key, offered }
        } else {
            NegotiationError::NotUnderstood { key, offered }
        })
    }

    /// Ends the negotiation: everything offered is decided, or left at a default that the offer
    /// admits, and the rules between keys hold.
    ///
    /// # Errors
    ///
    /// When a key is undecided, or the results contradict each other.
    pub fn finish(mut self) -> Result<Negotiated, NegotiationError> {
        let unsolicited =
            self.boolean(Key::ImmediateData, true) || !self.boolean(Key::InitialR2T, true);
        for (key, row) in &mut self.rows {
            let spec = key.spec();
            let (Some(offered), None) = (&row.requested, &row.result) else {
                continue;
            };
            // Without unsolicited data FirstBurstLength limits nothing (RFC 7143 §13.14).
            if *key == Key::FirstBurstLength && !unsolicited {
                continue;
            }
            row.result = undecided(spec, offered, row.answered.is_none())?;
        }
        let session = self.session_params(unsolicited)?;
        let connection = self.connection_params();
        let keys = self.side_by_side(&session, &connection);
        Ok(Negotiated {
            session,
            connection,
            keys,
        })
    }

    fn result(&self, key: Key) -> Option<&Value> {
        self.rows.get(&key)?.result.as_ref()
    }

    fn boolean(&self, key: Key, default: bool) -> bool {
        match self.result(key) {
            Some(Value::Boolean(value)) => *value,
            _ => match self.rows.get(&key).and_then(|row| row.requested.as_ref()) {
                // An optional answer that did not come (RFC 7143 §6.2.2).
                Some(value @ Value::Boolean(offered)) if value.is_final(key.spec().kind) => {
                    *offered
                }
                _ => default,
            },
        }
    }

    fn number(&self, key: Key, default: u32) -> u32 {
        match self.result(key) {
            Some(Value::Number(value)) => *value,
            _ => default,
        }
    }

    fn small(&self, key: Key, default: u16) -> u16 {
        // The table bounds these keys to 16 bits.
        u16::try_from(self.number(key, default.into())).unwrap_or(default)
    }

    fn digest(&self, key: Key) -> bool {
        matches!(self.result(key), Some(Value::List(values)) if values.contains(&"CRC32C"))
    }

    fn task_reporting(&self) -> TaskReporting {
        let Some(Value::List(values)) = self.result(Key::TaskReporting) else {
            return TaskReporting::default();
        };
        [TaskReporting::FastAbort, TaskReporting::ResponseFence]
            .into_iter()
            .find(|kind| values.contains(&kind.as_str()))
            .unwrap_or_default()
    }

    fn session_params(&self, unsolicited: bool) -> Result<SessionParams, NegotiationError> {
        let default = SessionParams::default();
        let max = self.number(Key::MaxBurstLength, default.max_burst_bytes);
        let first = self.number(Key::FirstBurstLength, default.first_burst_bytes);
        // A default above the negotiated MaxBurstLength contradicts nobody: it is cut below.
        let answered = self.rows.get(&Key::FirstBurstLength).is_some_and(|row| {
            row.answered
                .as_deref()
                .is_some_and(|text| !is_reserved(text))
        });
        if unsolicited && answered && first > max {
            return Err(NegotiationError::FirstBurstAboveMaxBurst { first, max });
        }
        let level = self.small(Key::ErrorRecoveryLevel, 0);
        let protocol_level = self.small(Key::IscsiProtocolLevel, default.protocol_level.into());
        Ok(SessionParams {
            max_connections: self.small(Key::MaxConnections, default.max_connections),
            initial_r2t: self.boolean(Key::InitialR2T, default.initial_r2t),
            immediate_data: self.boolean(Key::ImmediateData, default.immediate_data),
            max_burst_bytes: max,
            first_burst_bytes: first.min(max),
            time2wait_s: self.small(Key::DefaultTime2Wait, default.time2wait_s),
            time2retain_s: self.small(Key::DefaultTime2Retain, default.time2retain_s),
            // RFC 7143 §13.19 wants 1 with recovery and ordered sequences, and so we offer. When it is
            // the target that orders the sequences, and leaves more R2Ts open, it knows what it can
            // recover; more of them do us no harm.
            max_outstanding_r2t: self.small(Key::MaxOutstandingR2T, default.max_outstanding_r2t),
            data_pdu_in_order: self.boolean(Key::DataPduInOrder, default.data_pdu_in_order),
            data_sequence_in_order: self
                .boolean(Key::DataSequenceInOrder, default.data_sequence_in_order),
            error_recovery_level: u8::try_from(level).unwrap_or(0),
            task_reporting: self.task_reporting(),
            protocol_level: u8::try_from(protocol_level).unwrap_or(default.protocol_level),
            target_portal_group_tag: match self.result(Key::TargetPortalGroupTag) {
                Some(Value::Number(tag)) => u16::try_from(*tag).ok().map(PortalGroupTag),
                _ => None,
            },
            target_alias: self
                .rows
                .get(&Key::TargetAlias)
                .and_then(|row| row.answered.clone()),
        })
    }

    fn connection_params(&self) -> ConnectionParams {
        let default = ConnectionParams::default();
        let declared = self
            .rows
            .get(&Key::MaxRecvDataSegmentLength)
            .and_then(|row| row.requested.as_ref());
        ConnectionParams {
            header_digest: self.digest(Key::HeaderDigest),
            data_digest: self.digest(Key::DataDigest),
            max_recv_bytes: match declared {
                Some(Value::Number(bytes)) => *bytes,
                _ => default.max_recv_bytes,
            },
            max_send_bytes: self.number(Key::MaxRecvDataSegmentLength, default.max_send_bytes),
        }
    }

    fn side_by_side(
        &self,
        session: &SessionParams,
        connection: &ConnectionParams,
    ) -> Vec<NegotiatedKey> {
        let mut keys = Vec::new();
        for key in Key::ALL.iter().copied() {
            let spec = key.spec();
            let row = self.rows.get(&key).cloned().unwrap_or_default();
            let negotiable = matches!(
                spec.kind,
                Kind::Boolean(_) | Kind::Number { .. } | Kind::List(_)
            ) && self.applies(spec);
            if !negotiable && row.requested.is_none() && row.answered.is_none() {
                continue;
            }
            let default = || spec.default.unwrap_or("-").to_owned();
            let result = if key == Key::MaxRecvDataSegmentLength {
                let (receive, send) = (connection.max_recv_bytes, connection.max_send_bytes);
                format!("receive {receive}, send {send}")
            } else if key == Key::FirstBurstLength {
                session.first_burst_bytes.to_string()
            } else {
                match (&row.result, spec.kind) {
                    (Some(value), _) => value.to_string(),
                    (None, Kind::Declared) => row.answered.clone().unwrap_or_else(default),
                    (None, _) => default(),
                }
            };
            keys.push(NegotiatedKey {
                key: spec.name,
                requested: row.requested.map(|value| value.to_string()),
                answered: row.answered,
                result,
            });
        }
        keys
    }
}

pub(super) fn is_reserved(text: &str) -> bool {
    matches!(text, REJECT | NOT_UNDERSTOOD | IRRELEVANT)
}

/// The result that an answer to our offer brings; `None` leaves the key undecided.
fn check_answer(
    spec: &KeySpec,
    offered: &Value,
    text: &str,
) -> Result<Option<Value>, NegotiationError> {
    let key = spec.key;
    match text {
        IRRELEVANT => return Ok(None),
        REJECT | NOT_UNDERSTOOD if spec.optional => return Ok(None),
        REJECT => {
            let offered = offered.to_string();
            return Err(NegotiationError::Rejected { key, offered });
        }
        NOT_UNDERSTOOD => {
            let offered = offered.to_string();
            return Err(NegotiationError::NotUnderstood { key, offered });
        }
        _ => {}
    }
    match Value::parse(spec.kind, text) {
        Ok(answer) if offered.admits(spec.kind, &answer) => Ok(Some(answer)),
        _ => Err(NegotiationError::BadAnswer {
            key,
            offered: offered.to_string(),
            answer: text.to_owned(),
        }),
    }
}

/// What holds for an offered key that the target left open: our own value where it decides alone,
/// else the default, if the offer admits it.
fn undecided(
    spec: &KeySpec,
    offered: &Value,
    silent: bool,
) -> Result<Option<Value>, NegotiationError> {
    if matches!(spec.kind, Kind::DeclaredNumber { .. } | Kind::Declared) {
        return Ok(None);
    }
    if silent && offered.is_final(spec.kind) {
        return Ok(Some(offered.clone()));
    }
    let default = spec
        .default
        .and_then(|text| Value::parse(spec.kind, text).ok());
    match default {
        Some(default) if spec.optional || offered.admits(spec.kind, &default) => Ok(Some(default)),
        _ => Err(NegotiationError::Undecided {
            key: spec.key,
            offered: offered.to_string(),
            default: spec.default.unwrap_or("-"),
        }),
    }
}
