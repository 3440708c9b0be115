//! Login Requests on a connection, and what a finished login creates (RFC 7143 §6.3): sessions, additional
//! connections, reinstatement of either.

use std::time::Instant;

use crate::ConnectionId;
use crate::connection::{Leaving, Numbering, Phase};
use crate::disk::inquiry::Entrance;
use crate::disk::sense::Sense;
use crate::judge::Rule;
use crate::login::operational::Operational;
use crate::login::{Context, Identity, Login, Step};
use crate::lost::Lost;
use crate::session::{Nexus, Session};
use crate::target::{Target, Timer};
use crate::wire::framer::RawPdu;
use crate::wire::request::LoginRequest;
use crate::wire::response::LoginResponse;
use crate::wire::{Fields as _, RESERVED_TAG, opcode, serial_before};

/// Status of a login that names a session which does not exist (RFC 7143 §11.13.5).
const NO_SUCH_SESSION: u16 = 0x020a;
const TOO_MANY_CONNECTIONS: u16 = 0x0206;
const LOGIN_SEGMENT_BYTES: usize = 8192;

impl Target {
    pub(crate) fn on_login_phase(&mut self, now: Instant, id: ConnectionId, pdu: &RawPdu) {
        if pdu.opcode() != opcode::LOGIN {
            self.judge.note(
                Rule::PhaseWrong,
                format!("opcode {:#04x} before login", pdu.opcode()),
            );
            self.close(now, id, true);
            return;
        }
        self.check_login_pdu(id, pdu);
        if self.config.quirks.mute_login {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let portal = connection.portal;
        let Phase::Login(mut login) = std::mem::replace(&mut connection.phase, Phase::Draining)
        else {
            return;
        };
        let step = match self.admit(portal, &mut login, pdu) {
            Ok(()) => {
                let context = &mut Context {
                    config: &self.config,
                    portal,
                    random: &mut self.random,
                    judge: &mut self.judge,
                };
                login.step(pdu, context)
            }
            Err(status) => refuse(pdu, status),
        };
        match step {
            Step::Answer(response, keys) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.phase = Phase::Login(login);
                }
                self.send_login(now, id, pdu, &response, &keys);
            }
            Step::Fail(response, keys) => self.fail_login(now, id, pdu, &response, &keys),
            Step::Finish(response, keys) => {
                self.finish_login(now, id, pdu, *login, response, &keys)
            }
        }
    }

    fn fail_login(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pdu: &RawPdu,
        response: &LoginResponse,
        keys: &[u8],
    ) {
        if let Some(times) = &mut self.config.quirks.login_status_times
            && self.config.quirks.login_status == Some(response.status)
        {
            *times = times.saturating_sub(1);
        }
        self.send_login(now, id, pdu, response, keys);
        self.drain(now, id);
    }

    /// Fields every Login Request shares with other PDUs.
    fn check_login_pdu(&mut self, id: ConnectionId, pdu: &RawPdu) {
        let judge = &mut self.judge;
        judge.expect(pdu.ahs.is_empty(), Rule::AhsIllegal, || {
            "AHS in a Login Request".to_owned()
        });
        judge.expect(pdu.padding_zero, Rule::PaddingNonZero, || {
            "Login Request".to_owned()
        });
        judge.expect(
            pdu.data.len() <= LOGIN_SEGMENT_BYTES,
            Rule::LoginSegment,
            || format!("{} bytes", pdu.data.len()),
        );
        let reserved = pdu.header[0] & 0x80 != 0
            || pdu.header[1] & 0x30 != 0
            || pdu.header.be16(22) != 0
            || pdu.header[32..48].iter().any(|byte| *byte != 0);
        judge.expect(!reserved, Rule::ReservedField, || {
            "Login Request".to_owned()
        });
        judge.expect(pdu.itt() != u32::MAX, Rule::TaskTagReserved, || {
            "Login Request".to_owned()
        });
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        // ExpStatSN means nothing in the first request of a connection (RFC 7143 §11.12.9).
        let answered = connection.stat_sn != connection.first_stat_sn;
        if answered {
            self.judge.expect(
                pdu.exp_stat_sn() == connection.stat_sn,
                Rule::ExpStatSnAhead,
                || {
                    format!(
                        "{} during login, next is {}",
                        pdu.exp_stat_sn(),
                        connection.stat_sn
                    )
                },
            );
        }
    }

    /// TSIH rules of the first request (RFC 7143 §11.12.6, §6.3.1).
    fn admit(&mut self, portal: usize, login: &mut Login, pdu: &RawPdu) -> Result<(), u16> {
        let request = LoginRequest::parse(&pdu.header);
        if login.first().is_some() || request.tsih == 0 {
            return Ok(());
        }
        let Some(session) = self.sessions.get(&request.tsih) else {
            // A session that has just ended may be named in good faith.
            let given = u32::from(request.tsih) <= self.tsihs_given;
            self.judge.expect(given, Rule::LoginTsih, || {
                format!("TSIH {} does not exist", request.tsih)
            });
            return Err(NO_SUCH_SESSION);
        };
        let group = self
            .config
            .portals
            .get(portal)
            .map_or(1, |portal| portal.group);
        if session.nexus.isid != request.isid || session.nexus.group != group || session.discovery {
            self.judge
                .note(Rule::LoginTsih, "TSIH of another I_T nexus");
            return Err(NO_SUCH_SESSION);
        }
        let parameters = &session.parameters;
        // At level 2 one more must be possible, to clean up another (RFC 7143 §6.3.4).
        let spare = usize::from(parameters.error_recovery_level == 2);
        let limit = parameters.max_connections as usize + spare;
        let same_cid = session.connections.iter().any(|member| {
            self.connections
                .get(member)
                .is_some_and(|c| c.cid == request.cid)
        });
        if !same_cid && session.connections.len() >= limit {
            // An attempt that was given up can arrive when others have taken its place: then commands sent after it
            // have been received, or its CID was used since. It is refused, but no one's fault.
            let late = serial_before(request.cmd_sn, session.exp_cmd_sn)
                || session.cids.contains_key(&request.cid);
            self.judge.expect(late, Rule::LoginTsih, || {
                format!("more than {limit} connections")
            });
            return Err(TOO_MANY_CONNECTIONS);
        }
        login.leading = false;
        login.operational = Operational::continuing(session.parameters.clone());
        Ok(())
    }

    fn send_login(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pdu: &RawPdu,
        response: &LoginResponse,
        keys: &[u8],
    ) {
        let mut header = response.header();
        // Before a session exists the login's own CmdSN is the next one expected.
        let next = pdu.cmd_sn();
        let depth = self.config.queue_depth;
        let (mut expected, mut last) = (next, next.wrapping_add(depth).wrapping_sub(1));
        let tsih = LoginRequest::parse(&pdu.header).tsih;
        if let Some(session) = self.sessions.get(&tsih).filter(|_| tsih != 0) {
            (expected, last) = (session.exp_cmd_sn, session.max_cmd_sn);
        }
        header.put(28, &expected.to_be_bytes());
        header.put(32, &last.to_be_bytes());
        self.send(now, id, header, keys, Numbering::Status);
    }

    fn finish_login(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pdu: &RawPdu,
        mut login: Login,
        mut response: LoginResponse,
        keys: &[u8],
    ) {
        login.operational.close(&mut self.judge);
        let request = LoginRequest::parse(&pdu.header);
        let Some(portal) = self
            .connections
            .get(&id)
            .map(|connection| connection.portal)
        else {
            return;
        };
        let tsih = if request.tsih == 0 {
            self.create_session(now, portal, &request, &login)
        } else {
            let last = login.first().map_or(0, |first| first.exp_stat_sn);
            self.reinstate_connection(now, &request, last);
            request.tsih
        };
        let Some(session) = self.sessions.get_mut(&tsih) else {
            response.status = NO_SUCH_SESSION;
            response.transit = false;
            self.fail_login(now, id, pdu, &response, &[]);
            return;
        };
        session.connections.push(id);
        session.joined += 1;
        session.cids.insert(request.cid, id);
        session.failures += 1;
        response.tsih = self.config.quirks.final_tsih.unwrap_or(tsih);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.session = Some(tsih);
        connection.cid = request.cid;
        connection.phase = Phase::FullFeature;
        connection.acknowledged =
            Some(request.exp_stat_sn).filter(|_| connection.stat_sn != connection.first_stat_sn);
        connection.judged_acknowledged = connection.acknowledged;
        self.send_login(now, id, pdu, &response, keys);
        // The final response itself still travels without digests.
        let parameters = &login.operational.parameters;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.header_digest = parameters.header_digest;
            connection.data_digest = parameters.data_digest;
            connection.framer.header_digest = parameters.header_digest;
            connection.framer.data_digest = parameters.data_digest;
            connection.initiator_segment = parameters.initiator_segment_bytes as usize;
            connection.own_segment = login.operational.declared_segment_bytes() as usize;
        }
        // Discovery sessions carry text and logout only (RFC 7143 §7.4.3).
        if let Some(every) = self.config.ping_every.filter(|_| !login.identity.discovery) {
            self.at(now + every, Timer::Ping(id));
        }
    }

    /// A new session, after the end of an older one of the same I_T nexus (RFC 7143 §6.3.5).
    fn create_session(
        &mut self,
        now: Instant,
        portal: usize,
        request: &LoginRequest,
        login: &Login,
    ) -> u16 {
        let Identity {
            initiator,
            discovery,
            ..
        } = login.identity.clone();
        let group = self
            .config
            .portals
            .get(portal)
            .map_or(1, |portal| portal.group);
        let nexus = Nexus {
            initiator,
            isid: request.isid,
            group,
        };
        self.reinstate_session(now, &nexus, discovery);
        let tsih = self.free_tsih();
        let mut session = Session {
            nexus,
            discovery,
            entrance: Entrance {
                target_name: self.config.name_of(portal).to_owned(),
                group,
                port_group: self.config.alua.as_ref().map_or(group, |alua| {
                    alua.group_of_portal.get(portal).copied().unwrap_or(group)
                }),
                port: u16::try_from(portal + 1).unwrap_or(u16::MAX),
            },
            parameters: login.operational.parameters.clone(),
            connections: Vec::new(),
            exp_cmd_sn: request.cmd_sn,
            max_cmd_sn: request.cmd_sn.wrapping_sub(1),
            window_closed: false,
            held: Default::default(),
            numbers: Default::default(),
            joined: 0,
            shaken: false,
            lost: Default::default(),
            tasks: Default::default(),
            ended: Default::default(),
            repeated: Default::default(),
            aborted: Default::default(),
            dead_tags: Default::default(),
            cids: Default::default(),
            groups: Default::default(),
            fast_aborted: Default::default(),
            fence: None,
            fenced: Default::default(),
            next_ttt: self.first_transfer_tag(),
            attentions: Default::default(),
            failures: 0,
        };
        session.advance_window(self.config.queue_depth);
        if self.config.unit_attention_at_login {
            for lun in 0..self.units.len() {
                session.attention(lun, Sense::RESET);
            }
        }
        self.sessions.insert(tsih, session);
        tsih
    }

    /// Ends the old session of a nexus, its tasks and its late writes, before the new login is answered.
    fn reinstate_session(&mut self, now: Instant, nexus: &Nexus, discovery: bool) {
        let honest = !self.config.late_execution_after_reinstatement;
        let old: Vec<u16> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.nexus == *nexus && session.discovery == discovery)
            .map(|(tsih, _)| *tsih)
            .collect();
        for tsih in old {
            if honest && let Some(session) = self.sessions.get_mut(&tsih) {
                session.tasks.clear();
            }
            self.end_session(now, tsih);
        }
        if honest {
            self.late.retain(|_, late| late.nexus != *nexus);
        }
    }

    /// The same CID again ends the connection that had it (RFC 7143 §6.3.4); `last` is its last ExpStatSN.
    fn reinstate_connection(&mut self, now: Instant, request: &LoginRequest, last: u32) {
        let tsih = request.tsih;
        let level = self.level(tsih);
        let Some(session) = self.sessions.get(&tsih) else {
            return;
        };
        let old: Vec<ConnectionId> = session
            .connections
            .iter()
            .copied()
            .filter(|member| {
                self.connections
                    .get(member)
                    .is_some_and(|c| c.cid == request.cid)
            })
            .collect();
        for member in old {
            self.recovery.connections_reinstated += 1;
            if level < 2 {
                self.discard_tasks(tsih, member);
            }
            if let Some(connection) = self.connections.get_mut(&member) {
                connection.leaving = if level < 2 {
                    Leaving::Closed
                } else {
                    Leaving::Recovery
                };
            }
            self.close(now, member, true);
            self.free_for_reassignment(now, tsih, member, last);
        }
        let waiting: Vec<ConnectionId> =
            self.sessions.get(&tsih).map_or_else(Vec::new, |session| {
                let same = |lost: &Lost| lost.cid == request.cid && !lost.logged_out;
                let found = session.lost.iter().filter(|(_, lost)| same(lost));
                found.map(|(id, _)| *id).collect()
            });
        for member in waiting {
            self.recovery.connections_reinstated += 1;
            self.free_for_reassignment(now, tsih, member, last);
        }
        if let Some(session) = self.sessions.get_mut(&tsih) {
            session.forget_unheard_waits(request.cid);
        }
    }

    fn first_transfer_tag(&mut self) -> u32 {
        let random = self.random.word();
        match self.config.first_transfer_tag.unwrap_or(random) {
            RESERVED_TAG => 0,
            tag => tag,
        }
    }

    fn free_tsih(&mut self) -> u16 {
        self.tsihs_given = self.tsihs_given.saturating_add(1);
        loop {
            self.last_tsih = self.last_tsih.wrapping_add(1).max(1);
            if !self.sessions.contains_key(&self.last_tsih) {
                return self.last_tsih;
            }
        }
    }
}

fn refuse(pdu: &RawPdu, status: u16) -> Step {
    let request = LoginRequest::parse(&pdu.header);
    let response = LoginResponse {
        current_stage: request.current_stage,
        isid: request.isid,
        tsih: request.tsih,
        itt: request.itt,
        status,
        ..LoginResponse::default()
    };
    Step::Fail(response, Vec::new())
}
