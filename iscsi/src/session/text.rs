//! Text exchanges in full feature phase: declaring parameters anew, answering a target that wants
//! to negotiate, and asking for targets (RFC 7143 §6.4, §11.10, §11.11, Appendix C).
//!
//! A connection has at most one exchange at a time. What is declared takes effect when the exchange
//! has ended well, and not at all otherwise (RFC 7143 §7.12). A target that does not answer is not
//! asked again on that connection, because its late answer could not be told from another's.
//!
//! Requests take a CmdSN like commands, since targets exist that use one up for immediate ones too.
//! Where recovery could lose one and leave a hole behind (ErrorRecoveryLevel above 0, several
//! connections), and where the target has set a time limit, they are immediate.

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use scsi::NexusState;

use super::control::Control;
use super::error::ProtocolError;
use super::event::{Action, Event};
use super::{Session, later};
use crate::name::{Cid, IscsiName};
use crate::serial::CmdSn;
use crate::text::codec::NEGOTIATION_BYTES_MAX;
use crate::text::exchange::{Heard, TextExchange, TextFault};
use crate::text::renegotiate::Renegotiation;
use crate::text::{Key, NegotiationError, Pair};
use crate::wire::transmit::Transmit;
use crate::wire::{Itt, Lengths, Reject, TextRequest, TextResponse};

/// Responses that one negotiation may take; RFC 7143 §6.2 asks for at least six.
const ROUNDS_MAX: u32 = 64;
/// Text taken in one answer to SendTargets, in bytes, and the responses it may take.
const TARGETS_BYTES_MAX: usize = 4 << 20;
const TARGETS_ROUNDS_MAX: u32 = 4096;
/// Exchanges that may be asked for at once.
const ASKED_MAX: usize = 64;

/// Names an exchange that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextKey(u64);

/// How an exchange ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextOutcome {
    /// The target has answered; to SendTargets with these pairs.
    Done(Vec<Pair>),
    /// The session was lost meanwhile; what was to be declared is declared at the next login.
    NextLogin,
}

/// Why an exchange failed. Parameters are as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextExchangeError {
    /// The session is down at the moment, or was lost before the answer.
    #[error("the session is down")]
    Down,
    /// The session is closed.
    #[error("the session is closed")]
    Closed,
    /// Too many exchanges at once.
    #[error("too many text exchanges at once")]
    Busy,
    /// The target refused what was declared, or broke the rules of negotiation.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The target rejected the Text Request.
    #[error("the target rejected the Text Request: {name} ({reason:#04x}) (RFC 7143 §11.17.1)")]
    Rejected {
        /// Reason code.
        reason: u8,
        /// The reason in words.
        name: &'static str,
    },
    /// No Text Response in time, now or earlier on this connection.
    #[error("the target does not answer Text Requests")]
    NoAnswer,
}

/// What an exchange says first.
#[derive(Debug, Clone)]
enum Purpose {
    Declare(Vec<(Key, String)>),
    SendTargets(String),
}

/// An exchange that was asked for, on one connection or several.
#[derive(Debug)]
struct Asked {
    key: TextKey,
    purpose: Purpose,
    /// Where it is still to be held, or is being held.
    left: Vec<Cid>,
    pairs: Vec<Pair>,
    waker: Option<Waker>,
    forgotten: bool,
    outcome: Option<Result<TextOutcome, TextExchangeError>>,
}

/// All exchanges asked for and not picked up.
#[derive(Debug, Default)]
pub(super) struct Texts {
    asked: Vec<Asked>,
    last: u64,
}

/// The one exchange of a connection.
#[derive(Debug, Default)]
pub(super) enum TextSlot {
    #[default]
    Idle,
    Running(Box<Running>),
    /// The target has left a request unanswered.
    Silent,
}

/// An exchange under way.
#[derive(Debug)]
pub(super) struct Running {
    /// `None`: the target wanted it.
    key: Option<TextKey>,
    itt: Itt,
    immediate: bool,
    /// The number that the last request has used up.
    cmd_sn: Option<CmdSn>,
    exchange: TextExchange,
    negotiation: Renegotiation,
    /// SendTargets: the names and addresses heard.
    targets: Option<Vec<Pair>>,
    /// It has failed, and the target is being told to start over.
    failed: Option<NegotiationError>,
    deadline: Instant,
}

impl TextSlot {
    /// Whether a request is to be sent.
    pub(super) fn wants_transmit(&self, window_open: bool) -> bool {
        matches!(self, Self::Running(it) if it.exchange.is_ready() && (it.immediate || window_open))
    }

    /// Whether our MaxRecvDataSegmentLength is being declared anew: the target may have changed it
    /// already, we have not.
    pub(super) fn is_resegmenting(&self) -> bool {
        let key = Key::MaxRecvDataSegmentLength;
        matches!(self, Self::Running(it) if it.negotiation.said(key).0.is_some())
    }

    /// When the exchange has lasted long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Running(running) => Some(running.deadline),
            Self::Idle | Self::Silent => None,
        }
    }

    fn running(&mut self, itt: Itt) -> Option<&mut Running> {
        match self {
            Self::Running(running) if running.itt == itt => Some(running),
            Self::Running(_) | Self::Idle | Self::Silent => None,
        }
    }
}

impl Session {
    /// Asks for the addresses of `target`, or of the target of this session, whose answers a
    /// normal session may have (RFC 7143 Appendix C).
    ///
    /// # Errors
    /// The session is not up, or too much is asked at once.
    pub fn ask_targets(
        &mut self,
        now: Instant,
        target: Option<&IscsiName>,
    ) -> Result<TextKey, TextExchangeError> {
        let value = target.map(ToString::to_string).unwrap_or_default();
        let cid = self.any_connection();
        self.ask_text(now, Purpose::SendTargets(value), vec![cid])
    }

    /// Declares parameters anew on every connection.
    pub(super) fn declare(
        &mut self,
        now: Instant,
        pairs: Vec<(Key, String)>,
    ) -> Result<TextKey, TextExchangeError> {
        let up = self.connections.iter().filter(|it| it.may_send());
        let cids = up.map(|it| it.cid).collect();
        self.ask_text(now, Purpose::Declare(pairs), cids)
    }

    fn ask_text(
        &mut self,
        now: Instant,
        purpose: Purpose,
        left: Vec<Cid>,
    ) -> Result<TextKey, TextExchangeError> {
        match self.state() {
            NexusState::Up(_) => {}
            NexusState::Closed => return Err(TextExchangeError::Closed),
            NexusState::Down(_) | _ => return Err(TextExchangeError::Down),
        }
        if self.texts.asked.len() >= ASKED_MAX {
            return Err(TextExchangeError::Busy);
        }
        self.texts.last += 1;
        let key = TextKey(self.texts.last);
        self.texts.asked.push(Asked {
            key,
            purpose,
            left,
            pairs: Vec::new(),
            waker: None,
            forgotten: false,
            outcome: None,
        });
        self.start_texts(now);
        Ok(key)
    }

    /// Picks up what became of an exchange, or leaves a waker for it.
    ///
    /// A key that was picked up or forgotten before stays pending for ever.
    pub fn poll_text(
        &mut self,
        key: TextKey,
        waker: &Waker,
    ) -> Poll<Result<TextOutcome, TextExchangeError>> {
        let named = |it: &Asked| it.key == key;
        let Some(at) = self.texts.asked.iter().position(named) else {
            return Poll::Pending;
        };
        let Some(asked) = self.texts.asked.get_mut(at) else {
            return Poll::Pending;
        };
        let Some(outcome) = asked.outcome.take() else {
            asked.waker = Some(waker.clone());
            return Poll::Pending;
        };
        self.texts.asked.swap_remove(at);
        Poll::Ready(outcome)
    }

    /// Nobody waits for an exchange any more. It is held all the same.
    pub fn forget_text(&mut self, key: TextKey) {
        for asked in &mut self.texts.asked {
            if asked.key == key {
                asked.forgotten = true;
                asked.waker = None;
            }
        }
        let is_wanted = |it: &Asked| !(it.forgotten && it.outcome.is_some());
        self.texts.asked.retain(is_wanted);
    }

    /// Begins what can begin: on every connection without an exchange the first that wants it.
    fn start_texts(&mut self, now: Instant) {
        let cids: Vec<Cid> = self.connections.iter().map(|it| it.cid).collect();
        for cid in cids {
            let waits = |it: &&Asked| it.outcome.is_none() && it.left.contains(&cid);
            while let Some(asked) = self.texts.asked.iter().find(waits) {
                let (key, purpose) = (asked.key, asked.purpose.clone());
                let Some(connection) = self.connections.get(cid) else {
                    break;
                };
                match connection.text {
                    TextSlot::Running(_) => break,
                    TextSlot::Silent => {
                        self.end_text(Some(key), cid, Err(TextExchangeError::NoAnswer));
                    }
                    TextSlot::Idle => {
                        self.start_text(now, cid, Some(key), purpose);
                        break;
                    }
                }
            }
        }
    }

    fn start_text(&mut self, now: Instant, cid: Cid, key: Option<TextKey>, purpose: Purpose) {
        let itt = self.controls.tag();
        let recovers = self.params.error_recovery_level > 0 || self.params.max_connections > 1;
        let deadline = later(now, self.config.timeouts.text);
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let segment_bytes = connection.params.max_send_bytes;
        let (negotiation, opening, targets) = match purpose {
            Purpose::Declare(pairs) => {
                let negotiation = Renegotiation::new(&pairs);
                let opening = negotiation.opening();
                (negotiation, opening, None)
            }
            Purpose::SendTargets(value) => {
                let opening = vec![Pair::new(Key::SendTargets.name(), value)];
                (Renegotiation::new(&[]), opening, Some(Vec::new()))
            }
        };
        let (text_bytes, rounds) = if targets.is_some() {
            (TARGETS_BYTES_MAX, TARGETS_ROUNDS_MAX)
        } else {
            (NEGOTIATION_BYTES_MAX, ROUNDS_MAX)
        };
        connection.text = TextSlot::Running(Box::new(Running {
            immediate: recovers || key.is_none(),
            cmd_sn: None,
            key,
            itt,
            exchange: TextExchange::new(&opening, segment_bytes, text_bytes, rounds),
            negotiation,
            targets,
            failed: None,
            deadline,
        }));
    }

    /// The target wants to negotiate (Async Message 4): an empty Text Request, unless an exchange
    /// is under way, lets it say what it wants (RFC 7143 §11.9.1). One that leaves Text Requests
    /// unanswered gets a Logout instead.
    pub(super) fn negotiation_requested(&mut self, now: Instant, cid: Cid, limit: Duration) {
        let Some(connection) = self.connections.get(cid) else {
            return;
        };
        match connection.text {
            TextSlot::Running(_) => {}
            TextSlot::Idle => self.start_text(now, cid, None, Purpose::Declare(Vec::new())),
            TextSlot::Silent => self.logout_requested(now, limit),
        }
    }

    /// Encodes the next request of a connection's exchange.
    pub(super) fn transmit_text(&mut self, cid: Cid, out: &mut Transmit) {
        let open = self.window.is_open();
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        if !connection.text.wants_transmit(open) {
            return;
        }
        let TextSlot::Running(running) = &mut connection.text else {
            return;
        };
        let Some(part) = running.exchange.poll_request() else {
            return;
        };
        let cmd_sn = if running.immediate {
            self.window.peek()
        } else {
            *running.cmd_sn.insert(self.window.take())
        };
        let pdu = TextRequest {
            immediate: running.immediate,
            final_: part.final_,
            continue_: part.continue_,
            lun: part.lun,
            itt: running.itt,
            ttt: part.ttt,
            cmd_sn,
            exp_stat_sn: connection.exp_stat_sn,
        };
        let data_bytes = u32::try_from(part.data.len()).unwrap_or(u32::MAX);
        let lengths = Lengths {
            ahs_bytes: 0,
            data_bytes,
        };
        out.push(&pdu.encode(lengths), &[], Bytes::from(part.data));
    }

    /// A Text Response came.
    pub(super) fn text_response(
        &mut self,
        now: Instant,
        cid: Cid,
        response: &TextResponse,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        let Some(connection) = self.connections.get_mut(cid) else {
            return Ok(());
        };
        let Some(running) = connection.text.running(response.itt) else {
            if !self.controls.was_used(response.itt) {
                let itt = response.itt.0;
                return Err(ProtocolError::UnknownTask { itt });
            }
            self.stats.late_answers += 1;
            return Ok(());
        };
        let Heard::Pairs { pairs, final_ } = running.exchange.handle(response, data)? else {
            return Ok(());
        };
        if running.failed.is_none() {
            match running.hear(pairs) {
                Ok(answers) if final_ => {
                    if let Some(Pair { key, .. }) = answers.into_iter().next() {
                        return Err(TextFault::ProposalInFinal { key }.into());
                    }
                }
                Ok(answers) => running.exchange.say(&answers),
                Err(error) => {
                    running.failed = Some(error);
                    // RFC 7143 §6.4: whatever it has noted, it is to forget.
                    running.exchange.reset();
                }
            }
        } else if !final_ {
            running.exchange.say(&[]);
        }
        if final_ {
            self.text_ended(now, cid);
        }
        Ok(())
    }

    /// The last response of an exchange is in.
    fn text_ended(&mut self, now: Instant, cid: Cid) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let TextSlot::Running(running) = std::mem::take(&mut connection.text) else {
            return;
        };
        let result = match running.failed {
            Some(error) => Err(error.into()),
            None => {
                self.put_into_force(cid, &running.negotiation);
                Ok(running.targets.unwrap_or_default())
            }
        };
        self.end_text(running.key, cid, result);
        self.start_texts(now);
    }

    /// Puts what was negotiated into force.
    fn put_into_force(&mut self, cid: Cid, negotiation: &Renegotiation) {
        let changes = negotiation.finish();
        let leading = self.connections.leading().cid == cid;
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        let params = &mut connection.params;
        if let Some(bytes) = changes.max_send_bytes {
            params.max_send_bytes = bytes;
        }
        if let Some(bytes) = changes.max_recv_bytes {
            params.max_recv_bytes = bytes;
            self.actions.push_back(Action::LoggedIn {
                cid,
                header_digest: params.header_digest,
                data_digest: params.data_digest,
                max_recv_bytes: bytes,
            });
        }
        let (receive, send) = (params.max_recv_bytes, params.max_send_bytes);
        if changes.max_recv_bytes.is_some() {
            self.max_recv_bytes_changed(cid);
        }
        if let Some(alias) = changes.target_alias {
            self.params.target_alias = Some(alias);
        }
        let key = Key::MaxRecvDataSegmentLength;
        let (declared, answered) = negotiation.said(key);
        let row = self.keys.iter_mut().find(|row| row.key == key.name());
        if let Some(row) = row.filter(|_| leading) {
            if let Some(declared) = declared {
                row.requested = Some(declared.to_owned());
            }
            if let Some(answered) = answered {
                row.answered = Some(answered.to_owned());
            }
            row.result = format!("receive {receive}, send {send}");
        }
        self.stats.renegotiations += 1;
        self.push_event(Event::Renegotiated {
            max_recv_bytes: receive,
            max_send_bytes: send,
        });
    }

    /// An exchange is over on one connection.
    fn end_text(
        &mut self,
        key: Option<TextKey>,
        cid: Cid,
        result: Result<Vec<Pair>, TextExchangeError>,
    ) {
        let Some(asked) = self.texts.asked.iter_mut().find(|it| Some(it.key) == key) else {
            return;
        };
        asked.left.retain(|left| *left != cid);
        match result {
            Ok(pairs) => asked.pairs.extend(pairs),
            Err(error) => asked.outcome = Some(Err(error)),
        }
        if asked.outcome.is_none() && asked.left.is_empty() {
            let pairs = std::mem::take(&mut asked.pairs);
            asked.outcome = Some(Ok(TextOutcome::Done(pairs)));
        }
        if asked.outcome.is_some()
            && let Some(waker) = asked.waker.take()
        {
            self.wakes.push(waker);
        }
        let is_wanted = |it: &Asked| !(it.forgotten && it.outcome.is_some());
        self.texts.asked.retain(is_wanted);
    }

    /// A Text Request was rejected: the target has forgotten the exchange (RFC 7143 §6.4).
    pub(super) fn text_rejected(&mut self, now: Instant, cid: Cid, itt: Itt, reject: &Reject) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        if connection.text.running(itt).is_none() {
            return;
        }
        if let TextSlot::Running(running) = std::mem::take(&mut connection.text) {
            let used_up = running.cmd_sn;
            if let Some(cmd_sn) = used_up.filter(|it| !self.window.has_acknowledged(*it)) {
                // No later command is executed before one with this number (RFC 7143 §7.3). If
                // the target has taken it all the same, it ignores this one.
                let itt = self.controls.tag();
                self.push_control(cid, Control::Plug { itt, cmd_sn });
            }
            let (reason, name) = (reject.reason, reject.reason_name());
            let error = match running.failed {
                Some(error) => error.into(),
                None => TextExchangeError::Rejected { reason, name },
            };
            self.end_text(running.key, cid, Err(error));
            self.start_texts(now);
        }
    }

    /// Exchanges that last too long.
    pub(super) fn text_timeouts(&mut self, now: Instant) {
        let overdue: Vec<Cid> = self
            .connections
            .iter()
            .filter(|it| it.text.due().is_some_and(|due| due <= now))
            .map(|it| it.cid)
            .collect();
        for cid in overdue {
            let Some(connection) = self.connections.get_mut(cid) else {
                continue;
            };
            let TextSlot::Running(running) = std::mem::take(&mut connection.text) else {
                continue;
            };
            if !running.exchange.is_ready() {
                connection.text = TextSlot::Silent;
            }
            self.end_text(running.key, cid, Err(TextExchangeError::NoAnswer));
            self.start_texts(now);
        }
    }

    /// No answer can come any more on `cid`, or on any connection.
    pub(super) fn fail_texts(&mut self, cid: Option<Cid>) {
        for connection in self.connections.iter_mut() {
            if cid.is_none_or(|cid| connection.cid == cid) {
                connection.text = TextSlot::Idle;
            }
        }
        let of = |it: &Asked| cid.is_none_or(|cid| it.left.contains(&cid));
        let asked = &mut self.texts.asked;
        for asked in asked.iter_mut().filter(|it| it.outcome.is_none() && of(it)) {
            if let Some(cid) = cid {
                asked.left.retain(|left| *left != cid);
                if !asked.left.is_empty() {
                    continue;
                }
            }
            asked.outcome = Some(match asked.purpose {
                Purpose::Declare(_) => Ok(TextOutcome::NextLogin),
                Purpose::SendTargets(_) => Err(TextExchangeError::Down),
            });
            self.wakes.extend(asked.waker.take());
        }
        asked.retain(|it| !(it.forgotten && it.outcome.is_some()));
    }
}

impl Running {
    /// Takes the target's pairs; what is to be answered.
    fn hear(&mut self, pairs: Vec<Pair>) -> Result<Vec<Pair>, NegotiationError> {
        let mut answers = Vec::new();
        for pair in pairs {
            let key = Key::find(&pair.key);
            let listed = matches!(
                key,
                Some(Key::TargetName | Key::TargetAddress | Key::SendTargets)
            );
            match &mut self.targets {
                Some(targets) if listed => targets.push(pair),
                _ => answers.extend(self.negotiation.receive(&pair)?),
            }
        }
        Ok(answers)
    }
}
