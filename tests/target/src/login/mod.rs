//! One login phase as a state machine (RFC 7143 §6.3): requests in, responses out.
//!
//! It knows keys and stages; sessions, TSIHs and connections are the business of `crate::session`. Every login ends
//! in [`Step::Finish`] or [`Step::Fail`]; nothing is kept of a failed one.

pub(crate) mod operational;
pub(crate) mod security;

use std::collections::VecDeque;

use self::operational::{Operational, Place};
use self::security::{AUTHENTICATION_FAILED, INITIATOR_ERROR, MISSING_PARAMETER, Security};
use crate::config::Config;
use crate::judge::{Judge, Rule};
use crate::random::Random;
use crate::text::{self, Malformed, Pair, node_name_legal};
use crate::wire::framer::RawPdu;
use crate::wire::request::LoginRequest;
use crate::wire::response::LoginResponse;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Text of one login may not grow without end.
const TEXT_LIMIT: usize = 128 << 10;

/// Who logs in, to what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) initiator: String,
    pub(crate) target: Option<String>,
    pub(crate) discovery: bool,
}

/// What the target does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Sends this response and waits.
    Answer(LoginResponse, Vec<u8>),
    /// Sends this final response and enters the full feature phase.
    Finish(LoginResponse, Vec<u8>),
    /// Sends this status with these keys and closes.
    Fail(LoginResponse, Vec<u8>),
}

/// A login in progress.
#[derive(Debug)]
pub(crate) struct Login {
    first: Option<LoginRequest>,
    stage: u8,
    stage_set: bool,
    gathered: Vec<u8>,
    outgoing: VecDeque<Vec<u8>>,
    transit_pending: Option<u8>,
    delays_left: u32,
    pub(crate) identity: Identity,
    security: Security,
    pub(crate) operational: Operational,
    pub(crate) leading: bool,
    announced: bool,
}

/// What a login may look at.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) portal: usize,
    pub(crate) random: &'a mut Random,
    pub(crate) judge: &'a mut Judge,
}

impl Login {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            first: None,
            stage: SECURITY,
            stage_set: false,
            gathered: Vec::new(),
            outgoing: VecDeque::new(),
            transit_pending: None,
            delays_left: config.quirks.delay_transit,
            identity: Identity::default(),
            security: Security::default(),
            operational: Operational::default(),
            leading: true,
            announced: false,
        }
    }

    /// The first request of this login, once it came.
    pub(crate) fn first(&self) -> Option<&LoginRequest> {
        self.first.as_ref()
    }

    /// Takes one Login Request.
    pub(crate) fn step(&mut self, pdu: &RawPdu, context: &mut Context<'_>) -> Step {
        let request = LoginRequest::parse(&pdu.header);
        let leading = self.first.is_none();
        match self.advance(pdu, &request, leading, context) {
            Ok(step) => step,
            Err((status, keys)) => Step::Fail(self.response(&request, status), keys),
        }
    }

    fn advance(
        &mut self,
        pdu: &RawPdu,
        request: &LoginRequest,
        is_first: bool,
        context: &mut Context<'_>,
    ) -> Result<Step, (u16, Vec<u8>)> {
        let bare = |status: u16| (status, Vec::new());
        self.check_fields(request, context.judge).map_err(bare)?;
        if let Some(part) = self.outgoing.pop_front() {
            let empty = pdu.data.is_empty() && !request.more;
            context.judge.expect(empty, Rule::LoginContinueEmpty, || {
                format!("{} bytes while the answer continues", pdu.data.len())
            });
            return Ok(self.send_part(request, part));
        }
        self.gathered.extend_from_slice(&pdu.data);
        if self.gathered.len() > TEXT_LIMIT {
            return Err(bare(INITIATOR_ERROR));
        }
        if request.more {
            self.first.get_or_insert(*request);
            self.settle_stage(request);
            return Ok(Step::Answer(self.response(request, 0), Vec::new()));
        }
        let mut pairs = read_pairs(&std::mem::take(&mut self.gathered), context.judge);
        let mut answers = Vec::new();
        if is_first || !self.announced {
            self.first.get_or_insert(*request);
            self.settle_stage(request);
            self.introduce(&pairs, context, &mut answers)?;
            self.announced = true;
            pairs.retain(|pair| !introductory(&pair.key));
        }
        self.negotiate(&pairs, request, context, &mut answers)
            .map_err(bare)?;
        self.answer(request, context, &answers)
    }

    fn settle_stage(&mut self, request: &LoginRequest) {
        if !self.stage_set {
            self.stage_set = true;
            self.stage = request.current_stage;
        }
    }

    /// Header rules of RFC 7143 §11.12.
    fn check_fields(&self, request: &LoginRequest, judge: &mut Judge) -> Result<(), u16> {
        judge.expect(request.immediate, Rule::LoginImmediate, || {
            "I bit clear".to_owned()
        });
        judge.expect(
            !(request.transit && request.more),
            Rule::LoginContinue,
            || "C and T".to_owned(),
        );
        let versions = request.version_min == 0 && request.version_max == 0;
        judge.expect(versions, Rule::LoginVersion, || {
            format!("versions {}..{}", request.version_min, request.version_max)
        });
        if request.version_min > 0 {
            return Err(0x0205);
        }
        let reserved_isid_type = request.isid[0] >> 6 == 3;
        judge.expect(!reserved_isid_type, Rule::LoginIsid, || {
            format!("ISID {:02x?}", request.isid)
        });
        let known = matches!(request.current_stage, SECURITY | OPERATIONAL);
        let follows = !self.stage_set || request.current_stage == self.stage;
        let onward = !request.transit
            || request.next_stage > request.current_stage
                && matches!(request.next_stage, OPERATIONAL | FULL_FEATURE);
        let idle = request.transit || request.next_stage == 0;
        let what = || {
            format!(
                "CSG {} NSG {} T {}",
                request.current_stage, request.next_stage, request.transit
            )
        };
        judge.expect(idle, Rule::ReservedField, || {
            format!("NSG without T: {}", what())
        });
        if !judge.expect(known && follows && onward, Rule::LoginStage, what) {
            return Err(INITIATOR_ERROR);
        }
        let Some(first) = &self.first else {
            return Ok(());
        };
        let same = first.isid == request.isid
            && first.tsih == request.tsih
            && first.itt == request.itt
            && first.cid == request.cid;
        judge.expect(
            first.tsih != 0 || first.cmd_sn == request.cmd_sn,
            Rule::LoginCmdSn,
            || format!("{} after {}", request.cmd_sn, first.cmd_sn),
        );
        if judge.expect(same, Rule::LoginFieldsChange, || {
            "a field changed".to_owned()
        }) {
            Ok(())
        } else {
            Err(INITIATOR_ERROR)
        }
    }

    /// InitiatorName, TargetName and SessionType, and what the target says about itself.
    fn introduce(
        &mut self,
        pairs: &[Pair],
        context: &mut Context<'_>,
        answers: &mut Vec<(String, String)>,
    ) -> Result<(), (u16, Vec<u8>)> {
        let config = context.config;
        let value = |key: &str| {
            pairs
                .iter()
                .find(|pair| pair.key == key)
                .map(|pair| pair.value.clone())
        };
        for pair in pairs.iter().filter(|pair| introductory(&pair.key)) {
            self.operational.first_time(&pair.key, context.judge);
        }
        let discovery = match value("SessionType").as_deref() {
            None | Some("Normal") => false,
            Some("Discovery") => true,
            Some(other) => {
                context
                    .judge
                    .note(Rule::KeyValue, format!("SessionType={other}"));
                return Err((0x0209, Vec::new()));
            }
        };
        let Some(initiator) = value("InitiatorName") else {
            context.judge.note(
                Rule::NameMissing,
                "no InitiatorName in the first Login Request",
            );
            return Err((MISSING_PARAMETER, Vec::new()));
        };
        context
            .judge
            .expect(node_name_legal(&initiator), Rule::NameIllegal, || {
                initiator.clone()
            });
        let target = value("TargetName");
        if let Some(name) = &target {
            context
                .judge
                .expect(node_name_legal(name), Rule::NameIllegal, || name.clone());
        } else if !discovery {
            context.judge.note(
                Rule::NameMissing,
                "no TargetName in the first Login Request",
            );
            return Err((MISSING_PARAMETER, Vec::new()));
        }
        self.identity = Identity {
            initiator,
            target,
            discovery,
        };
        if let Some(failure) = self.early_failure(context) {
            return Err(failure);
        }
        if !discovery && let Some(alias) = &config.target_alias {
            answers.push(("TargetAlias".to_owned(), alias.clone()));
        }
        if !config.quirks.no_portal_group_tag {
            // In the first response of every session type (RFC 7143 §6.3.1).
            let group = config
                .portals
                .get(context.portal)
                .map_or(1, |portal| portal.group);
            let group = config.quirks.wrong_portal_group_tag.unwrap_or(group);
            answers.push(("TargetPortalGroupTag".to_owned(), group.to_string()));
        }
        Ok(())
    }

    fn early_failure(&self, context: &Context<'_>) -> Option<(u16, Vec<u8>)> {
        let config = context.config;
        if !self.identity.discovery
            && let Some(redirect) = &config.quirks.redirect
            && redirect
                .portal
                .is_none_or(|portal| portal == context.portal)
        {
            let mut keys = Vec::new();
            text::push(&mut keys, "TargetAddress", &redirect.address);
            return Some((if redirect.permanent { 0x0102 } else { 0x0101 }, keys));
        }
        if let Some(status) = config.quirks.login_status
            && !config.quirks.login_status_late
            && config.quirks.login_status_times != Some(0)
        {
            return Some((status, Vec::new()));
        }
        if self
            .identity
            .target
            .as_ref()
            .is_some_and(|name| name != config.name_of(context.portal))
        {
            return Some((0x0203, Vec::new()));
        }
        None
    }

    fn chap_required(&self, config: &Config) -> bool {
        config.chap.is_some() && (!self.identity.discovery || config.chap_in_discovery)
    }

    fn negotiate(
        &mut self,
        pairs: &[Pair],
        request: &LoginRequest,
        context: &mut Context<'_>,
        answers: &mut Vec<(String, String)>,
    ) -> Result<(), u16> {
        let config = context.config;
        let required = self.chap_required(config);
        if request.current_stage == SECURITY {
            let (security, other): (Vec<Pair>, Vec<Pair>) = pairs
                .iter()
                .cloned()
                .partition(|pair| security_key(&pair.key));
            for pair in &security {
                self.operational.first_time(&pair.key, context.judge);
            }
            answers.extend(self.security.step(
                &security,
                config,
                required,
                context.random,
                context.judge,
            )?);
            for pair in &other {
                // RFC 7143 §12: operational keys wait for their own stage.
                context.judge.note(
                    Rule::KeyPlace,
                    format!("{} in the security stage", pair.key),
                );
                answers.push((pair.key.clone(), "Reject".to_owned()));
            }
            return Ok(());
        }
        if !self.security.complete(required) {
            return Err(AUTHENTICATION_FAILED);
        }
        if config.quirks.login_status_late
            && config.quirks.login_status_times != Some(0)
            && let Some(status) = config.quirks.login_status
        {
            return Err(status);
        }
        let place = Place {
            discovery: self.identity.discovery,
            leading: self.leading,
            full_feature: false,
        };
        for pair in pairs {
            if security_key(&pair.key) {
                context.judge.note(
                    Rule::KeyPlace,
                    format!("{} in the operational stage", pair.key),
                );
                return Err(INITIATOR_ERROR);
            }
            if let Some(value) = self.operational.answer(pair, config, place, context.judge) {
                answers.push((pair.key.clone(), value));
            }
        }
        answers.extend(self.operational.open(config));
        Ok(())
    }

    /// Chooses the T bit and cuts the answer into segments.
    fn answer(
        &mut self,
        request: &LoginRequest,
        context: &mut Context<'_>,
        answers: &[(String, String)],
    ) -> Result<Step, (u16, Vec<u8>)> {
        let mut bytes = Vec::new();
        for (key, value) in answers {
            text::push(&mut bytes, key, value);
        }
        let required = self.chap_required(context.config);
        let mut transit = request.transit;
        if transit && request.current_stage == SECURITY && !self.security.complete(required) {
            transit = false;
            // Leaving the security stage unauthenticated with nothing more to say is an attempt to skip it.
            if !answers.iter().any(|(key, _)| security_key(key)) {
                return Err((AUTHENTICATION_FAILED, Vec::new()));
            }
        }
        if transit && self.delays_left > 0 {
            self.delays_left -= 1;
            transit = false;
        }
        if transit && request.current_stage == OPERATIONAL {
            let waiting = self.operational.unanswered().map(str::to_owned);
            if let Some(key) = waiting {
                let offered_now = answers.iter().any(|(answer, _)| *answer == key);
                context
                    .judge
                    .expect(offered_now, Rule::KeyUnanswered, || key.clone());
                if !offered_now {
                    return Err((INITIATOR_ERROR, Vec::new()));
                }
                transit = false;
            }
        }
        self.transit_pending = transit.then_some(request.next_stage);
        if transit && request.next_stage != FULL_FEATURE {
            self.delays_left = context.config.quirks.delay_transit;
        }
        // A login segment holds 8192 bytes (RFC 7143 §13.12) whatever else was agreed.
        let limit = context
            .config
            .quirks
            .split_answers_bytes
            .unwrap_or(8192)
            .clamp(1, 8192);
        self.outgoing = bytes.chunks(limit).map(<[u8]>::to_vec).collect();
        let part = self.outgoing.pop_front().unwrap_or_default();
        Ok(self.send_part(request, part))
    }

    fn send_part(&mut self, request: &LoginRequest, part: Vec<u8>) -> Step {
        let mut response = self.response(request, 0);
        response.more = !self.outgoing.is_empty();
        let next = if response.more {
            None
        } else {
            self.transit_pending.take()
        };
        // T may be set only when this very request asked for it.
        let Some(next) = next.filter(|next| request.transit && *next == request.next_stage) else {
            return Step::Answer(response, part);
        };
        response.transit = true;
        response.next_stage = next;
        self.stage = next;
        if next == FULL_FEATURE {
            Step::Finish(response, part)
        } else {
            Step::Answer(response, part)
        }
    }

    fn response(&self, request: &LoginRequest, status: u16) -> LoginResponse {
        LoginResponse {
            current_stage: request.current_stage,
            isid: request.isid,
            tsih: request.tsih,
            itt: request.itt,
            status,
            ..LoginResponse::default()
        }
    }
}

fn introductory(key: &str) -> bool {
    matches!(
        key,
        "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias"
    )
}

fn security_key(key: &str) -> bool {
    key == "AuthMethod"
        || ["CHAP_", "SRP_", "KRB_", "SPKM_"]
            .iter()
            .any(|prefix| key.starts_with(prefix))
        || matches!(key, "TargetAuth")
}

/// Parses a text segment and notes what is wrong with it.
pub(crate) fn read_pairs(bytes: &[u8], judge: &mut Judge) -> Vec<Pair> {
    let (pairs, faults) = text::parse(bytes);
    for fault in faults {
        match fault {
            Malformed::Shape(what) => judge.note(Rule::TextSyntax, what),
            Malformed::Encoding => judge.note(Rule::TextSyntax, "not UTF-8"),
            Malformed::KeyName(name) => judge.note(Rule::KeyName, format!("{name:?}")),
            Malformed::TooLong(key) => {
                judge.note(Rule::KeyValue, format!("value of {key} too long"))
            }
        }
    }
    pairs
}
