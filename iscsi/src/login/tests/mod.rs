//! A scripted target: each test says what it answers, byte for byte where that matters.

#![allow(clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod arbitrary;
mod authentication;
mod conformance;
mod lists;
mod redirection;
mod values;

use super::*;
use crate::text::codec::{decode, encode};
use crate::text::{NegotiationError, TextError};

pub(super) const ITT: Itt = Itt(0x1234_5678);
pub(super) const ISID: Isid = Isid([0x80, 0xaa, 0xbb, 0xcc, 0x00, 0x01]);
pub(super) const CMD_SN: CmdSn = CmdSn(123);

pub(super) fn config() -> LoginConfig {
    LoginConfig {
        exp_stat_sn: None,
        initiator_name: "iqn.2024-01.test:initiator".parse().unwrap(),
        initiator_alias: None,
        session: SessionKind::Normal {
            target_name: "iqn.2024-01.test:disk1".parse().unwrap(),
        },
        isid: ISID,
        tsih: Tsih(0),
        cid: Cid(7),
        cmd_sn: CMD_SN,
        itt: ITT,
        auth: AuthPolicy::None,
        offer: Offer::default(),
    }
}

pub(super) fn offering(pairs: &[(&str, &str)]) -> LoginConfig {
    let mut config = config();
    for (key, value) in pairs {
        config.offer.set(key, value).unwrap();
    }
    config
}

/// A login and the target's side of its numbers.
pub(super) struct Scripted {
    pub(super) login: Login,
    pub(super) stat_sn: u32,
}

impl Scripted {
    pub(super) fn new(config: LoginConfig) -> Self {
        let mut entropy = |bytes: &mut [u8]| bytes.fill(0x5c);
        Self {
            login: Login::start(config, &mut entropy).unwrap(),
            stat_sn: 100,
        }
    }

    /// The next request; panics when there is none.
    pub(super) fn request(&mut self) -> (LoginRequest, Vec<(String, String)>) {
        let (request, text) = self.login.poll_transmit().expect("a request is due");
        assert!(self.login.poll_transmit().is_none(), "one at a time");
        let pairs = decode(&text).unwrap();
        let pairs = pairs.into_iter().map(|pair| (pair.key, pair.value));
        (request, pairs.collect())
    }

    /// A response that agrees to whatever `request` asked.
    pub(super) fn response(&mut self, request: &LoginRequest) -> LoginResponse {
        let last = request.transit && request.next == Stage::FullFeaturePhase;
        let response = LoginResponse {
            transit: request.transit,
            continue_: false,
            current: request.current,
            next: request.next,
            version_max: 0,
            version_active: 0,
            isid: request.isid,
            tsih: if last && request.tsih == Tsih(0) {
                Tsih(0x55)
            } else {
                request.tsih
            },
            itt: request.itt,
            stat_sn: StatSn(self.stat_sn),
            window: Window {
                exp_cmd_sn: request.cmd_sn,
                max_cmd_sn: request.cmd_sn.plus(31),
            },
            status_class: 0,
            status_detail: 0,
        };
        self.stat_sn = self.stat_sn.wrapping_add(1);
        response
    }

    pub(super) fn answer(
        &mut self,
        response: &LoginResponse,
        pairs: &[(&str, &str)],
    ) -> Result<Progress, LoginError> {
        self.login.handle(response, &text(pairs))
    }

    /// Answers the next request with `pairs`, agreeing to its T bit.
    pub(super) fn agree(&mut self, pairs: &[(&str, &str)]) -> Result<Progress, LoginError> {
        let (request, _) = self.request();
        let response = self.response(&request);
        self.answer(&response, pairs)
    }

    /// Answers the next request with `pairs` and T=0.
    pub(super) fn delay(&mut self, pairs: &[(&str, &str)]) -> Result<Progress, LoginError> {
        let (request, _) = self.request();
        let mut response = self.response(&request);
        response.transit = false;
        response.next = response.current;
        self.answer(&response, pairs)
    }

    /// Passes the security stage without authentication.
    pub(super) fn skip_security(&mut self) {
        let pairs = [("TargetPortalGroupTag", "1"), ("AuthMethod", "None")];
        assert!(matches!(self.agree(&pairs), Ok(Progress::Continue)));
        assert_eq!(self.login.stage(), "LoginOperationalNegotiation");
    }
}

pub(super) fn text(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<Pair> = pairs
        .iter()
        .map(|(key, value)| Pair::new(*key, *value))
        .collect();
    encode(&pairs)
}

pub(super) fn done(progress: Result<Progress, LoginError>) -> LoggedIn {
    match progress {
        Ok(Progress::Done(logged_in)) => *logged_in,
        other => panic!("not logged in: {other:?}"),
    }
}

/// Logs in with `config`, the target answering `pairs` in the operational stage.
pub(super) fn settle(config: LoginConfig, pairs: &[(&str, &str)]) -> Result<LoggedIn, LoginError> {
    let mut script = Scripted::new(config);
    script.skip_security();
    script.agree(pairs).map(|progress| done(Ok(progress)))
}

pub(super) fn refused(config: LoginConfig, pairs: &[(&str, &str)]) -> NegotiationError {
    match settle(config, pairs) {
        Err(LoginError::Negotiation { source }) => source,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn broken(error: Result<Progress, LoginError>) -> ProtocolError {
    match error {
        Err(LoginError::Protocol { source, .. }) => source,
        other => panic!("no broken rule: {other:?}"),
    }
}
