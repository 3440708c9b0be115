//! The login phase of one connection (RFC 7143 §6.3, §11.12, §11.13), without I/O.
//!
//! ```text
//!            AuthMethod, CHAP keys            operational keys
//!  start --> SecurityNegotiation --T--> LoginOperationalNegotiation --T--> LoggedIn
//!                    \______________________/                       (full feature phase)
//!                     status, bad text, broken rule --> LoginError
//! ```
//!
//! A [`Login`] is driven by two calls: [`Login::poll_transmit`] gives the next request, and
//! [`Login::handle`] takes the response to it. There is never more than one request outstanding.
//! Without anything to authenticate ([`AuthPolicy::Forgo`]) the login begins with the second stage,
//! which saves a round trip (RFC 7143 §6.3.1). A target that insists on the first one says so by
//! refusing; [`Login::fallback`] then begins with it.
//!
//! Each stage owns what only it needs (authentication, [negotiation](crate::text::negotiate)), and
//! is given up when it is left, so nothing of the security stage can be used in the next one.
//!
//! Invariants: every response is held against the request it answers (tag, ISID, stage, T, StatSN,
//! version); configured authentication cannot be skipped; the number of responses and the text
//! held are bounded; after an error the login stays over.
//!
//! Not here: time limits and the size of a PDU (the driver's), following a redirection
//! ([`RedirectTrail`] helps), and trying again with [`Login::fallback`].

mod check;
mod error;
mod redirect;
mod security;
mod status;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use auth::Chap;

pub use self::error::{LoginError, ProtocolError};
pub use self::redirect::{REDIRECTS_MAX, RedirectError, RedirectTrail};
pub use self::status::LoginStatus;

use self::security::Security;
use crate::name::{Cid, IscsiName, Isid, Tsih};
use crate::serial::{CmdSn, StatSn};
use crate::text::codec::{self, Assembler, LOGIN_SEGMENT_BYTES_MAX, NEGOTIATION_BYTES_MAX};
use crate::text::negotiate::Negotiation;
use crate::text::{ConnectionParams, Key, NegotiatedKey, Offer, Pair, SessionParams, SessionType};
use crate::wire::{Itt, LoginRequest, LoginResponse, Stage, Window};

/// Responses taken before a login is given up. RFC 7143 §6.2 asks for at least six exchanges; a
/// list of 64 KiB takes eight each way.
pub const RESPONSES_MAX: u16 = 64;

/// The version of RFC 7143 §11.12.4.
const VERSION: u8 = 0;

/// What the session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionKind {
    /// SCSI commands to one target.
    Normal {
        /// The target.
        target_name: IscsiName,
    },
    /// SendTargets only.
    Discovery,
}

/// How the parties authenticate. What is configured is required.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthPolicy {
    /// Not at all, without asking: the security stage is left out (RFC 7143 §6.3.1). A target
    /// that wants it refuses, and then it has to be [`AuthPolicy::None`].
    Forgo,
    /// Not at all: `AuthMethod=None` is offered, nothing else accepted.
    None,
    /// CHAP, one way or mutual: `AuthMethod=CHAP` is offered, nothing else accepted.
    Chap(Chap),
}

/// Everything a login needs to know.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    /// Our name.
    pub initiator_name: IscsiName,
    /// Our name for people.
    pub initiator_alias: Option<String>,
    /// What the session is for.
    pub session: SessionKind,
    /// Our part of the session's identifier.
    pub isid: Isid,
    /// 0 for a new session or to reinstate one; else the session to join.
    pub tsih: Tsih,
    /// The connection within the session.
    pub cid: Cid,
    /// First CmdSN of a new session, or the session's current one.
    pub cmd_sn: CmdSn,
    /// Next StatSN expected on the connection that this login restarts (RFC 7143 §11.12.9).
    pub exp_stat_sn: Option<StatSn>,
    /// Tag of this login.
    pub itt: Itt,
    /// Authentication.
    pub auth: AuthPolicy,
    /// What is offered.
    pub offer: Offer,
}

/// What a finished login settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// Parameters of the session. Meaningful after a leading login (TSIH 0) only.
    pub session: SessionParams,
    /// Parameters of the connection.
    pub connection: ConnectionParams,
    /// Every key, requested and negotiated side by side.
    pub keys: Vec<NegotiatedKey>,
    /// The session's handle.
    pub tsih: Tsih,
    /// CmdSN of the first command that is not immediate. A login is immediate and consumes none
    /// (RFC 7143 §11.12.8); a target that counted it all the same is followed, since it would
    /// ignore the lower number.
    pub cmd_sn: CmdSn,
    /// Next StatSN expected on this connection.
    pub exp_stat_sn: StatSn,
    /// Command window that the final response opened.
    pub window: Window,
}

/// What a response led to.
#[derive(Debug)]
pub enum Progress {
    /// [`Login::poll_transmit`] has the next request.
    Continue,
    /// The connection is in the full feature phase.
    Done(Box<LoggedIn>),
}

/// What is in flight.
#[derive(Debug, Clone, Copy)]
struct Sent {
    transit: bool,
    continue_: bool,
}

enum State {
    Security(Box<Phase>, Box<Security>),
    /// With the rows that the security stage left for [`LoggedIn::keys`].
    Operational(Box<Phase>, Vec<NegotiatedKey>),
    Over,
}

/// What both stages share.
struct Phase {
    negotiation: Negotiation,
    inbound: Assembler,
    /// Segments of our list still to be sent; all but the last go with the C bit.
    outbound: VecDeque<Vec<u8>>,
    /// Ask for the next stage with the last segment.
    transit: bool,
}

/// One login, from the first request to the full feature phase.
pub struct Login {
    isid: Isid,
    tsih: Tsih,
    cid: Cid,
    cmd_sn: CmdSn,
    itt: Itt,
    /// Of the connection that is restarted.
    restarts: StatSn,
    exp_stat_sn: Option<StatSn>,
    /// Version-max of the first response.
    version_max: Option<u8>,
    responses: u16,
    sent: Option<Sent>,
    first_stage: Stage,
    stage: Stage,
    state: State,
    /// See [`Login::fallback`].
    fallback: Option<AuthPolicy>,
}

impl Login {
    /// Prepares a login. `entropy` fills a buffer with random bytes, or leaves it zero when it has
    /// none; it is asked for CHAP only.
    ///
    /// # Errors
    ///
    /// When the offer contradicts itself, the alias cannot be sent, or CHAP finds no randomness.
    pub fn start(
        config: LoginConfig,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, LoginError> {
        let leading = config.tsih == Tsih(0);
        let session = match &config.session {
            SessionKind::Normal { .. } => SessionType::Normal,
            SessionKind::Discovery => SessionType::Discovery,
        };
        let mut pairs = identity(&config, session, leading)?;
        let negotiation = Negotiation::new(config.offer, session, leading)?;
        let mut phase = Box::new(Phase {
            negotiation,
            inbound: Assembler::new(NEGOTIATION_BYTES_MAX),
            outbound: VecDeque::new(),
            transit: false,
        });
        let (stage, state) = if config.auth == AuthPolicy::Forgo {
            pairs.extend(phase.negotiation.opening());
            phase.queue(&pairs, true);
            let state = State::Operational(phase, vec![security::forgone()]);
            (Stage::OperationalNegotiation, state)
        } else {
            let security = Security::new(config.auth, entropy)?;
            let opening = security.opening();
            pairs.extend(opening.pairs);
            phase.queue(&pairs, opening.transit);
            let state = State::Security(phase, Box::new(security));
            (Stage::SecurityNegotiation, state)
        };
        Ok(Self {
            isid: config.isid,
            tsih: config.tsih,
            cid: config.cid,
            cmd_sn: config.cmd_sn,
            itt: config.itt,
            restarts: config.exp_stat_sn.unwrap_or_default(),
            exp_stat_sn: None,
            version_max: None,
            responses: 0,
            sent: None,
            first_stage: stage,
            stage,
            state,
            fallback: None,
        })
    }

    /// The next request and its text, unless a response is due first or the login is over.
    pub fn poll_transmit(&mut self) -> Option<(LoginRequest, Vec<u8>)> {
        if self.sent.is_some() {
            return None;
        }
        let (phase, next) = match &mut self.state {
            State::Security(phase, _) => (phase, Stage::OperationalNegotiation),
            State::Operational(phase, _) => (phase, Stage::FullFeaturePhase),
            State::Over => return None,
        };
        let text = phase.outbound.pop_front()?;
        let continue_ = !phase.outbound.is_empty();
        let transit = phase.transit && !continue_;
        self.sent = Some(Sent { transit, continue_ });
        let request = LoginRequest {
            transit,
            continue_,
            current: self.stage,
            next: if transit { next } else { self.stage },
            version_max: VERSION,
            version_min: VERSION,
            isid: self.isid,
            tsih: self.tsih,
            itt: self.itt,
            cid: self.cid,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn.unwrap_or(self.restarts),
        };
        Some((request, text))
    }

    /// Takes the response to the request in flight, with its text.
    ///
    /// # Errors
    ///
    /// Whatever ends the login. The connection must be closed then; the login stays over.
    pub fn handle(
        &mut self,
        response: &LoginResponse,
        data: &[u8],
    ) -> Result<Progress, LoginError> {
        // Over unless a branch below puts a state back.
        let state = std::mem::replace(&mut self.state, State::Over);
        if matches!(state, State::Over) {
            return Err(LoginError::Over);
        }
        let sent = match self.check_response(response, data) {
            Ok(sent) => sent,
            Err(error) => {
                self.note_fallback(&state, &error);
                return Err(error);
            }
        };
        match state {
            State::Security(phase, security) => {
                self.security(response, data, sent, phase, security)
            }
            State::Operational(phase, rows) => self.operational(response, data, sent, phase, rows),
            State::Over => Err(LoginError::Over),
        }
    }

    /// The stage in the RFC's words, for messages.
    #[must_use]
    pub const fn stage(&self) -> &'static str {
        stage_name(self.stage)
    }

    /// After an error: how one more login, on a new connection, may succeed where this one did
    /// not. Some old targets cannot read a list of CHAP algorithms; for them it is CHAP with MD5
    /// alone. A target that does not take a login without the security stage gets one with it.
    /// `None` when that was offered already or the failure was another.
    #[must_use]
    pub const fn fallback(&self) -> Option<&AuthPolicy> {
        self.fallback.as_ref()
    }

    /// The target closed the connection instead of answering. Whether [`Login::fallback`] has
    /// something for that; only before the first answer.
    pub fn handle_closed(&mut self) {
        if self.first_stage == Stage::OperationalNegotiation && self.responses == 0 {
            self.fallback = Some(AuthPolicy::None);
        }
    }

    fn security(
        &mut self,
        response: &LoginResponse,
        data: &[u8],
        sent: Sent,
        mut phase: Box<Phase>,
        mut security: Box<Security>,
    ) -> Result<Progress, LoginError> {
        let received = self.receive(response, data, sent, &mut phase);
        let Some(pairs) = received? else {
            self.state = State::Security(phase, security);
            return Ok(Progress::Continue);
        };
        let replied = security.receive(&pairs, &mut phase.negotiation);
        let reply = match replied {
            Ok(reply) => reply,
            Err(error) => {
                if matches!(error, LoginError::Auth { .. }) {
                    self.fallback = security.fallback();
                }
                return Err(error);
            }
        };
        if !response.transit {
            phase.queue(&reply.pairs, reply.transit);
            self.state = State::Security(phase, security);
            return Ok(Progress::Continue);
        }
        self.no_answer_due(&reply.pairs)?;
        security.finish()?;
        self.stage = Stage::OperationalNegotiation;
        let opening = phase.negotiation.opening();
        phase.queue(&opening, true);
        self.state = State::Operational(phase, security.rows());
        Ok(Progress::Continue)
    }

    fn operational(
        &mut self,
        response: &LoginResponse,
        data: &[u8],
        sent: Sent,
        mut phase: Box<Phase>,
        mut rows: Vec<NegotiatedKey>,
    ) -> Result<Progress, LoginError> {
        let Some(pairs) = self.receive(response, data, sent, &mut phase)? else {
            self.state = State::Operational(phase, rows);
            return Ok(Progress::Continue);
        };
        let mut answers = Vec::new();
        for pair in &pairs {
            answers.extend(phase.negotiation.receive(pair)?);
        }
        if !response.transit {
            phase.queue(&answers, true);
            self.state = State::Operational(phase, rows);
            return Ok(Progress::Continue);
        }
        self.no_answer_due(&answers)?;
        let (tsih, cmd_sn) = self.final_numbers(response)?;
        let negotiated = phase.negotiation.finish()?;
        self.stage = Stage::FullFeaturePhase;
        rows.extend(negotiated.keys);
        Ok(Progress::Done(Box::new(LoggedIn {
            session: negotiated.session,
            connection: negotiated.connection,
            keys: rows,
            tsih,
            cmd_sn,
            exp_stat_sn: response.stat_sn.next(),
            window: response.window,
        })))
    }

    /// Collects the response's text. `None`: the list is not complete, or ours is not; the next
    /// request is queued.
    fn receive(
        &self,
        response: &LoginResponse,
        data: &[u8],
        sent: Sent,
        phase: &mut Phase,
    ) -> Result<Option<Vec<Pair>>, LoginError> {
        if sent.continue_ {
            if !data.is_empty() || response.continue_ {
                return Err(self.protocol(ProtocolError::TextWhileContinuing));
            }
            return Ok(None);
        }
        let pairs = phase
            .inbound
            .push(data, response.continue_)
            .map_err(|source| self.text(source))?;
        if pairs.is_none() {
            // RFC 7143 §6.2: an empty request asks for the rest.
            phase.outbound = VecDeque::from([Vec::new()]);
        }
        Ok(pairs)
    }

    /// Checks everything about a response that its own stage does not need to know.
    fn check_response(
        &mut self,
        response: &LoginResponse,
        data: &[u8],
    ) -> Result<Sent, LoginError> {
        let Some(sent) = self.sent.take() else {
            return Err(self.protocol(ProtocolError::Unsolicited));
        };
        self.responses = self.responses.saturating_add(1);
        if self.responses > RESPONSES_MAX {
            return Err(LoginError::TooManyRounds {
                stage: self.stage(),
                limit: RESPONSES_MAX,
            });
        }
        if response.itt != self.itt {
            return Err(self.protocol(ProtocolError::WrongTag {
                expected: self.itt,
                found: response.itt,
            }));
        }
        // Nothing but the status means anything in a refusal (RFC 7143 §11.13.5).
        if response.status_class != 0 {
            return Err(self.refused(response, data));
        }
        self.check_header(response, sent)
            .map_err(|source| self.protocol(source))?;
        self.exp_stat_sn = Some(response.stat_sn.next());
        self.version_max = Some(response.version_max);
        Ok(sent)
    }

    /// A refusal that may come from our list of CHAP algorithms, or from the missing security
    /// stage, is worth one more try.
    fn note_fallback(&mut self, state: &State, error: &LoginError) {
        let refused = matches!(
            error,
            LoginError::Rejected {
                status: LoginStatus::INITIATOR_ERROR | LoginStatus::AUTHENTICATION_FAILURE,
                ..
            }
        );
        // Of a first answer in a stage the target did not expect anything may be wrong.
        let unexpected = matches!(
            error,
            LoginError::Protocol { .. }
                | LoginError::Rejected {
                    status: LoginStatus::AUTHORIZATION_FAILURE
                        | LoginStatus::MISSING_PARAMETER
                        | LoginStatus::INVALID_DURING_LOGIN,
                    ..
                }
        );
        match state {
            State::Security(_, security) if refused => self.fallback = security.fallback(),
            State::Operational(..)
                if self.first_stage == Stage::OperationalNegotiation
                    && self.responses == 1
                    && (refused || unexpected) =>
            {
                self.fallback = Some(AuthPolicy::None);
            }
            State::Security(..) | State::Operational(..) | State::Over => {}
        }
    }
}

impl std::fmt::Debug for Login {
    /// Without anything of the authentication.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("stage", &self.stage())
            .field("responses", &self.responses)
            .finish_non_exhaustive()
    }
}

impl Phase {
    /// Queues a list, possibly empty, as the next request or requests.
    fn queue(&mut self, pairs: &[Pair], transit: bool) {
        self.outbound = codec::split(&codec::encode(pairs), LOGIN_SEGMENT_BYTES_MAX);
        self.transit = transit;
    }
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::SecurityNegotiation => "SecurityNegotiation",
        Stage::OperationalNegotiation => "LoginOperationalNegotiation",
        Stage::FullFeaturePhase => "FullFeaturePhase",
    }
}

/// The keys that name the parties and the session, in the first request (RFC 7143 §6.3).
fn identity(
    config: &LoginConfig,
    session: SessionType,
    leading: bool,
) -> Result<Vec<Pair>, LoginError> {
    let mut pairs = vec![Pair::new(
        Key::InitiatorName.name(),
        config.initiator_name.as_str(),
    )];
    if let Some(alias) = &config.initiator_alias {
        let spec = Key::InitiatorAlias.spec();
        if alias.is_empty() || alias.len() > spec.value_bytes_max || alias.contains('\0') {
            return Err(LoginError::BadAlias);
        }
        pairs.push(Pair::new(spec.name, alias.as_str()));
    }
    if leading {
        pairs.push(Pair::new(Key::SessionType.name(), session.as_str()));
    }
    if let SessionKind::Normal { target_name } = &config.session {
        pairs.push(Pair::new(Key::TargetName.name(), target_name.as_str()));
    }
    Ok(pairs)
}
