//! The SecurityNegotiation stage (RFC 7143 §6.3.2, §12.1).
//!
//! One method is offered: what is configured is required, so a target cannot talk us into less.
//! With CHAP the T bit waits until our response is out; without, every request asks to move on.

use auth::{AuthError, ChapExchange, ENTROPY_BYTES, Method};

use super::AuthPolicy;
use super::error::LoginError;
use crate::text::keys::KeyStage;
use crate::text::negotiate::Negotiation;
use crate::text::{Key, NegotiatedKey, NegotiationError, Pair};

/// What to send next in this stage.
pub(super) struct Reply {
    pub(super) pairs: Vec<Pair>,
    /// Ask to leave the stage.
    pub(super) transit: bool,
}

/// The stage's own state.
pub(super) struct Security {
    policy: AuthPolicy,
    method: Method,
    /// The target's answer to AuthMethod came.
    agreed: bool,
    entropy: [u8; ENTROPY_BYTES],
    exchange: Option<ChapExchange>,
}

impl Security {
    pub(super) fn new(
        policy: AuthPolicy,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, LoginError> {
        let mut bytes = [0; ENTROPY_BYTES];
        let method = match &policy {
            AuthPolicy::Forgo | AuthPolicy::None => Method::None,
            AuthPolicy::Chap(_) => {
                entropy(&mut bytes);
                // A challenge that can be foreseen can be answered from a recording.
                if bytes == [0; ENTROPY_BYTES] {
                    return Err(LoginError::NoRandomness);
                }
                Method::Chap
            }
        };
        Ok(Self {
            policy,
            method,
            agreed: false,
            entropy: bytes,
            exchange: None,
        })
    }

    /// The stage's own part of the first request.
    pub(super) fn opening(&self) -> Reply {
        Reply {
            pairs: vec![Pair::new(Key::AuthMethod.name(), self.method.as_str())],
            transit: self.method == Method::None,
        }
    }

    /// Takes one complete list of the target's.
    pub(super) fn receive(
        &mut self,
        pairs: &[Pair],
        negotiation: &mut Negotiation,
    ) -> Result<Reply, LoginError> {
        let mut answers = Vec::new();
        let mut own = Vec::new();
        for pair in pairs {
            match Key::find(&pair.key) {
                Some(Key::AuthMethod) => self.agree(&pair.value)?,
                Some(key) if key.spec().stage == KeyStage::Security => own.push(pair),
                Some(key) if key.spec().stage == KeyStage::Operational => {
                    return Err(NegotiationError::WrongStage { key }.into());
                }
                Some(_) | None => answers.extend(negotiation.receive(pair)?),
            }
        }
        let keys = own.iter().map(|pair| (&*pair.key, &*pair.value));
        match (&self.policy, &mut self.exchange) {
            (AuthPolicy::Forgo | AuthPolicy::None, _) => refuse_keys(&own)?,
            (AuthPolicy::Chap(chap), None) => {
                refuse_keys(&own)?;
                if !self.agreed {
                    return Err(AuthError::MissingKey(Key::AuthMethod.name()).into());
                }
                let (exchange, first) = ChapExchange::start(chap, self.entropy);
                self.exchange = Some(exchange);
                answers.extend(first.into_iter().map(|(key, value)| Pair::new(key, value)));
            }
            (AuthPolicy::Chap(_), Some(exchange)) => {
                let next = exchange.step(keys)?;
                answers.extend(next.into_iter().map(|(key, value)| Pair::new(key, value)));
            }
        }
        Ok(Reply {
            pairs: answers,
            transit: self.wants_transit(),
        })
    }

    fn agree(&mut self, answer: &str) -> Result<(), LoginError> {
        if self.agreed {
            let key = Key::AuthMethod.name().to_owned();
            return Err(NegotiationError::Repeated { key }.into());
        }
        self.method.accept(answer)?;
        self.agreed = true;
        Ok(())
    }

    fn wants_transit(&self) -> bool {
        match self.method {
            Method::None => true,
            Method::Chap => self
                .exchange
                .as_ref()
                .is_some_and(ChapExchange::wants_transit),
        }
    }

    /// Whether the stage may be left; a target that skips its part is caught here.
    pub(super) fn finish(&self) -> Result<(), LoginError> {
        match (self.method, &self.exchange) {
            (Method::None, _) => Ok(()),
            (Method::Chap, Some(exchange)) => Ok(exchange.finish()?),
            (Method::Chap, None) => Err(AuthError::Incomplete.into()),
        }
    }

    /// What to try once more, on a new connection, after a failure.
    pub(super) fn fallback(&self) -> Option<AuthPolicy> {
        let chap = self.exchange.as_ref()?.fallback()?;
        Some(AuthPolicy::Chap(chap))
    }

    /// For "requested and negotiated side by side".
    pub(super) fn rows(&self) -> Vec<NegotiatedKey> {
        let method = self.method.as_str();
        let mut rows = vec![NegotiatedKey {
            key: Key::AuthMethod.name(),
            requested: Some(method.to_owned()),
            answered: self.agreed.then(|| method.to_owned()),
            result: method.to_owned(),
        }];
        let chosen = self.exchange.as_ref().and_then(ChapExchange::chosen);
        if let (AuthPolicy::Chap(chap), Some(chosen)) = (&self.policy, chosen) {
            let offered = chap.initiator().algorithms.iter();
            let offered: Vec<String> = offered.map(|one| one.number().to_string()).collect();
            rows.push(NegotiatedKey {
                key: Key::ChapA.name(),
                requested: Some(offered.join(",")),
                answered: Some(chosen.number().to_string()),
                result: chosen.number().to_string(),
            });
        }
        rows
    }
}

/// The row for a login without this stage.
pub(super) fn forgone() -> NegotiatedKey {
    NegotiatedKey {
        key: Key::AuthMethod.name(),
        requested: None,
        answered: None,
        result: Method::None.as_str().to_owned(),
    }
}

fn refuse_keys(own: &[&Pair]) -> Result<(), AuthError> {
    match own {
        [] => Ok(()),
        [pair, ..] => Err(AuthError::UnexpectedKey(pair.key.clone())),
    }
}
