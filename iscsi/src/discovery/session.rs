//! A discovery session as a state machine without I/O: login, SendTargets=All, logout
//! (RFC 7143 §4.3, Appendix C).

use std::time::Duration;

use bytes::Bytes;
use scsi::Lun;

use super::{DiscoveredTarget, SendTargetsAnswer, SendTargetsError};
use crate::login::{AuthPolicy, Login, LoginConfig, LoginError, Progress, SessionKind};
use crate::name::{Cid, IscsiName, Isid, Portal, Tsih};
use crate::serial::{CmdSn, StatSn};
use crate::text::{ConnectionParams, Offer};
use crate::wire::transmit::Transmit;
use crate::wire::{
    Bhs, Itt, Lengths, LogoutReason, LogoutRequest, NopOut, Response, TextRequest, TextResponse,
    Ttt, Window,
};

/// Text Responses that one answer may take.
const ROUNDS_MAX: u32 = 4096;

/// What a discovery session is given.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// Our name.
    pub initiator_name: IscsiName,
    /// Whom to ask.
    pub portal: Portal,
    /// Our part of the session identifier.
    pub isid: Isid,
    /// Authentication.
    pub auth: AuthPolicy,
    /// What is offered at login.
    pub offer: Offer,
    /// TCP connection, over all addresses of the host.
    pub connect_timeout: Duration,
    /// Everything after that.
    pub timeout: Duration,
}

/// Why discovery failed after the connection stood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The login failed, or the target is elsewhere.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The answer cannot be used.
    #[error(transparent)]
    Answer(#[from] SendTargetsError),
    /// A PDU that does not belong here.
    #[error("{pdu} in a discovery session")]
    UnexpectedPdu {
        /// Its name.
        pdu: &'static str,
    },
    /// The target rejected the request.
    #[error("the target rejected SendTargets (Reject reason {reason:#04x})")]
    Rejected {
        /// Reason code (RFC 7143 §11.17.1).
        reason: u8,
    },
    /// The answer goes on and on.
    #[error("no end of the answer after {limit} Text Responses")]
    TooManyRounds {
        /// How many are taken.
        limit: u32,
    },
}

/// One discovery session on one connection.
pub struct DiscoverySession {
    state: State,
    portal: Portal,
    params: ConnectionParams,
    cmd_sn: CmdSn,
    /// The highest CmdSN that the target takes.
    max_cmd_sn: CmdSn,
    exp_stat_sn: StatSn,
    rounds: u32,
    replies: Vec<(Lun, Ttt, Bytes)>,
    fallback: Option<AuthPolicy>,
}

enum State {
    Login(Box<Login>),
    /// `ask`: LUN and tag to send the next request with, copied from the answer so far
    /// (RFC 7143 §11.11.4); `None` while an answer is due.
    Asking {
        answer: Box<SendTargetsAnswer>,
        ask: Option<(Lun, Ttt)>,
    },
    /// `sent`: the Logout is on its way.
    Leaving {
        targets: Vec<DiscoveredTarget>,
        sent: bool,
    },
    Done(Vec<DiscoveredTarget>),
    Failed,
}

impl DiscoverySession {
    /// On a new connection. `entropy` fills a buffer with random bytes.
    ///
    /// # Errors
    /// When the offer contradicts itself.
    pub fn start(
        config: &DiscoveryConfig,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, DiscoveryError> {
        let login = LoginConfig {
            exp_stat_sn: None,
            initiator_name: config.initiator_name.clone(),
            initiator_alias: None,
            session: SessionKind::Discovery,
            isid: config.isid,
            tsih: Tsih(0),
            cid: Cid(0),
            cmd_sn: CmdSn(1),
            itt: Itt(0),
            auth: config.auth.clone(),
            offer: config.offer.clone(),
        };
        Ok(Self {
            state: State::Login(Box::new(Login::start(login, entropy)?)),
            portal: config.portal.clone(),
            params: ConnectionParams::default(),
            cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(0),
            exp_stat_sn: StatSn(0),
            rounds: 0,
            replies: Vec::new(),
            fallback: None,
        })
    }

    /// Parameters in force once the login is done.
    #[must_use]
    pub fn params(&self) -> Option<&ConnectionParams> {
        (!matches!(self.state, State::Login(_))).then_some(&self.params)
    }

    /// The targets, once everything is done.
    pub fn take_targets(&mut self) -> Option<Vec<DiscoveredTarget>> {
        match &mut self.state {
            State::Done(targets) => Some(std::mem::take(targets)),
            State::Login(_) | State::Asking { .. } | State::Leaving { .. } | State::Failed => None,
        }
    }

    /// The targets although the target did not finish the logout.
    pub fn take_targets_early(&mut self) -> Option<Vec<DiscoveredTarget>> {
        match &mut self.state {
            State::Done(targets) | State::Leaving { targets, .. } => Some(std::mem::take(targets)),
            State::Login(_) | State::Asking { .. } | State::Failed => None,
        }
    }

    /// See [`Login::fallback`].
    #[must_use]
    pub fn fallback(&self) -> Option<&AuthPolicy> {
        self.fallback.as_ref()
    }

    /// Whether the login has not ended yet.
    #[must_use]
    pub const fn is_logging_in(&self) -> bool {
        matches!(self.state, State::Login(_))
    }

    /// The stage in words, for messages.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match &self.state {
            State::Login(login) => login.stage(),
            State::Asking { .. } => "SendTargets",
            State::Leaving { .. } | State::Done(_) | State::Failed => "logout",
        }
    }

    /// Puts what is to be sent into `out`.
    pub fn poll_transmit(&mut self, out: &mut Transmit) {
        if let State::Login(login) = &mut self.state {
            while let Some((request, data)) = login.poll_transmit() {
                push(out, |lengths| request.encode(lengths), data.into());
            }
            return;
        }
        out.set_digests(self.params.header_digest, self.params.data_digest);
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        for (lun, ttt, data) in std::mem::take(&mut self.replies) {
            let itt = Itt::RESERVED;
            let pdu = NopOut {
                immediate: true,
                lun,
                itt,
                ttt,
                cmd_sn,
                exp_stat_sn,
            };
            push(out, |lengths| pdu.encode(lengths), data);
        }
        // The request is a numbered one, so a closed window stops it (RFC 7143 §4.2.2.1).
        let open = !self.max_cmd_sn.precedes(cmd_sn);
        match &mut self.state {
            State::Asking { ask, .. } => {
                if let Some((lun, ttt)) = ask.take_if(|_| open) {
                    self.ask(lun, ttt, out);
                }
            }
            State::Leaving {
                sent: sent @ false, ..
            } => {
                *sent = true;
                let pdu = LogoutRequest {
                    immediate: true,
                    reason: LogoutReason::CloseSession,
                    itt: Itt(2),
                    cid: Cid(0),
                    cmd_sn,
                    exp_stat_sn,
                };
                push(out, |lengths| pdu.encode(lengths), Bytes::new());
            }
            State::Login(_) | State::Leaving { .. } | State::Done(_) | State::Failed => {}
        }
    }

    /// Sends the question, or asks for the rest of the answer.
    fn ask(&mut self, lun: Lun, ttt: Ttt, out: &mut Transmit) {
        let pdu = TextRequest {
            // Targets exist that use up a CmdSN for an immediate one too.
            immediate: false,
            final_: true,
            continue_: false,
            lun,
            itt: Itt(1),
            ttt,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        self.cmd_sn = self.cmd_sn.next();
        let question: &'static [u8] = if ttt == Ttt::RESERVED {
            b"SendTargets=All\0"
        } else {
            b""
        };
        push(
            out,
            |lengths| pdu.encode(lengths),
            Bytes::from_static(question),
        );
    }

    /// A whole PDU came.
    ///
    /// # Errors
    /// Discovery has failed; the connection is to be closed.
    pub fn handle_pdu(&mut self, pdu: &Response, data: &[u8]) -> Result<(), DiscoveryError> {
        if let State::Login(login) = &mut self.state {
            let Response::Login(response) = pdu else {
                return Err(self.fail(DiscoveryError::UnexpectedPdu {
                    pdu: "not a Login Response",
                }));
            };
            return match login.handle(response, data) {
                Ok(Progress::Continue) => Ok(()),
                Ok(Progress::Done(settled)) => {
                    self.params = settled.connection;
                    self.cmd_sn = settled.cmd_sn;
                    self.max_cmd_sn = settled.window.max_cmd_sn;
                    self.exp_stat_sn = settled.exp_stat_sn;
                    let group = settled.session.target_portal_group_tag;
                    let answer = Box::new(SendTargetsAnswer::new(self.portal.clone(), group));
                    self.state = State::Asking {
                        answer,
                        ask: Some((Lun::ZERO, Ttt::RESERVED)),
                    };
                    Ok(())
                }
                Err(error) => {
                    self.fallback = login.fallback().cloned();
                    Err(self.fail(error.into()))
                }
            };
        }
        match pdu {
            Response::Text(response) => {
                self.exp_stat_sn = response.stat_sn.next();
                self.allow(response.window);
                self.text_response(response, data)
                    .map_err(|error| self.fail(error))
            }
            Response::NopIn(nop) => {
                self.allow(nop.window);
                if nop.itt == Itt::RESERVED && nop.ttt != Ttt::RESERVED {
                    let limit = self.params.max_send_bytes as usize;
                    let data = data.get(..limit).unwrap_or(data);
                    self.replies
                        .push((nop.lun, nop.ttt, Bytes::copy_from_slice(data)));
                }
                Ok(())
            }
            Response::Async(message) => {
                self.exp_stat_sn = message.stat_sn.next();
                self.allow(message.window);
                Ok(())
            }
            // An answer to the Logout, or its refusal: we leave all the same.
            Response::Logout(_) | Response::Reject(_)
                if matches!(self.state, State::Leaving { sent: true, .. }) =>
            {
                let targets = self.take_targets_early().unwrap_or_default();
                self.state = State::Done(targets);
                Ok(())
            }
            Response::Logout(_) => Err(self.fail(DiscoveryError::UnexpectedPdu {
                pdu: "Logout Response",
            })),
            Response::Reject(reject) => Err(self.fail(DiscoveryError::Rejected {
                reason: reject.reason,
            })),
            Response::Scsi(_)
            | Response::Task(_)
            | Response::Login(_)
            | Response::DataIn(_)
            | Response::R2t(_) => Err(self.fail(DiscoveryError::UnexpectedPdu { pdu: "a PDU" })),
        }
    }

    fn allow(&mut self, window: Window) {
        if self.max_cmd_sn.precedes(window.max_cmd_sn) {
            self.max_cmd_sn = window.max_cmd_sn;
        }
    }

    fn text_response(&mut self, text: &TextResponse, data: &[u8]) -> Result<(), DiscoveryError> {
        let State::Asking { answer, ask } = &mut self.state else {
            return Err(DiscoveryError::UnexpectedPdu {
                pdu: "Text Response",
            });
        };
        if text.itt != Itt(1) {
            return Err(DiscoveryError::UnexpectedPdu {
                pdu: "Text Response to another request",
            });
        }
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(DiscoveryError::TooManyRounds { limit: ROUNDS_MAX });
        }
        match answer.push(data, text.continue_, text.final_)? {
            Some(targets) => {
                self.state = State::Leaving {
                    targets,
                    sent: false,
                }
            }
            None => *ask = Some((text.lun, text.ttt)),
        }
        Ok(())
    }

    fn fail(&mut self, error: DiscoveryError) -> DiscoveryError {
        self.state = State::Failed;
        error
    }
}

fn push(out: &mut Transmit, encode: impl FnOnce(Lengths) -> Bhs, data: Bytes) {
    let data_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
    out.push(
        &encode(Lengths {
            ahs_bytes: 0,
            data_bytes,
        }),
        &[],
        data,
    );
}
