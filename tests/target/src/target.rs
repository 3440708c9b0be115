//! The whole target: portals, connections, sessions, logical units, time.
//!
//! This file holds the state and the sans-I/O surface; what each PDU does is in the modules named after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::ConnectionId;
use crate::config::Config;
use crate::connection::{Connection, Leaving, Numbering, Phase};
use crate::disk::Disk;
use crate::disk::alua::{By, PortGroups};
use crate::disk::device::Unit;
use crate::fault::{Faults, PduEffect};
use crate::judge::{Judge, Rule, Violation};
use crate::kept::Kept;
use crate::login::Login;
use crate::random::Random;
use crate::records::{Recovery, SessionInfo, WriteRecord};
use crate::session::{Nexus, Session};
use crate::task::Execution;
use crate::wire::framer::{Broken, RawPdu};
use crate::wire::{Fields as _, Header, opcode};
use crate::wire_log::{Direction, WireLog, WireRecord};

/// Something to do later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timer {
    Execute {
        tsih: u16,
        task: u64,
    },
    Answer {
        tsih: u16,
        task: u64,
    },
    Late(u64),
    Ping(ConnectionId),
    Expire {
        tsih: u16,
        failures: u64,
    },
    /// Tasks of a lost connection are kept no longer.
    Retain {
        tsih: u16,
        connection: ConnectionId,
    },
    /// A hole in the numbering should be closed.
    Hole {
        tsih: u16,
        expected: u32,
    },
    /// Data should have come: task, transfer tag (`None`: unsolicited), and PDUs seen when the timer was set.
    Sequence {
        tsih: u16,
        task: u64,
        ttt: Option<u32>,
        seen: u32,
    },
    /// A function that ends several tasks has waited for data.
    Group {
        tsih: u16,
        itt: u32,
    },
    /// The status of a task whose data were sent.
    Status {
        tsih: u16,
        task: u64,
    },
    /// A target port group gets into a state.
    Access {
        lun: usize,
        group: u16,
        state: u8,
        by_command: bool,
        except: Option<u16>,
    },
}

/// A write that outlived its connection.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) nexus: Nexus,
    pub(crate) tsih: u16,
    pub(crate) itt: u32,
    pub(crate) execution: Execution,
}

/// The sans-I/O target.
///
/// The driver calls [`Self::connect`], [`Self::receive`], [`Self::peer_closed`] and [`Self::handle_timeout`] as
/// things happen, and after each call takes what there is to send ([`Self::transmit`] for every connection in
/// [`Self::take_ready`]), closes what is to be closed ([`Self::poll_closed`]) and asks for the next deadline
/// ([`Self::poll_timeout`]).
#[derive(Debug)]
pub struct Target {
    pub(crate) config: Config,
    pub(crate) judge: Judge,
    pub(crate) faults: Faults,
    pub(crate) random: Random,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) sessions: BTreeMap<u16, Session>,
    pub(crate) units: Vec<Unit>,
    /// Logical units that are not presented at the moment.
    pub(crate) hidden: BTreeSet<usize>,
    /// Target port groups of each unit; empty without ALUA.
    pub(crate) access: Vec<PortGroups>,
    pub(crate) late: BTreeMap<u64, Late>,
    pub(crate) journal: Vec<WriteRecord>,
    pub(crate) hold_r2ts: bool,
    pub(crate) stale_window: u32,
    pub(crate) last_tsih: u16,
    /// How many were given out; they are given in rising order.
    pub(crate) tsihs_given: u32,
    pub(crate) recovery: Recovery,
    /// Logical units with an ACA condition, and the session it belongs to.
    pub(crate) faulted: BTreeMap<usize, u16>,
    /// A task with another attribute than SIMPLE was seen.
    pub(crate) attributes: bool,
    /// Tasks that wait for others of their task set: id, session, tag.
    pub(crate) waiting: BTreeSet<(u64, u16, u32)>,
    log: WireLog,
    timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    next_connection: u64,
    pub(crate) next_task: u64,
    ready: BTreeSet<ConnectionId>,
    closing: VecDeque<(ConnectionId, bool)>,
}

impl Target {
    /// A target as configured, without connections.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let units = config
            .luns
            .iter()
            .map(|lun| Unit::new(Disk::new(lun.clone()), config.descriptor_sense));
        Self {
            judge: Judge::default(),
            faults: Faults::default(),
            random: Random::new(config.seed),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            units: units.collect(),
            hidden: BTreeSet::new(),
            access: match &config.alua {
                Some(alua) => vec![PortGroups::new(alua); config.luns.len()],
                None => Vec::new(),
            },
            late: BTreeMap::new(),
            journal: Vec::new(),
            hold_r2ts: false,
            stale_window: 0,
            last_tsih: 0,
            tsihs_given: 0,
            recovery: Recovery::default(),
            faulted: BTreeMap::new(),
            attributes: false,
            waiting: BTreeSet::new(),
            log: WireLog::default(),
            timers: BTreeMap::new(),
            next_timer: 0,
            next_connection: 0,
            next_task: 0,
            ready: BTreeSet::new(),
            closing: VecDeque::new(),
            config,
        }
    }

    /// A TCP connection was accepted at portal number `portal`.
    pub fn connect(&mut self, _now: Instant, portal: usize) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let login = Login::new(&self.config);
        self.connections.insert(
            id,
            Connection::new(portal, login, self.config.first_stat_sn),
        );
        id
    }

    /// Bytes came in.
    pub fn receive(&mut self, now: Instant, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.framer.push(bytes);
        if !connection.stalled {
            self.take_pdus(now, id);
        }
    }

    /// Takes every whole PDU that has come.
    pub(crate) fn take_pdus(&mut self, now: Instant, id: ConnectionId) {
        loop {
            self.judge.open(id, now);
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            match connection.framer.next() {
                Ok(None) => return,
                Ok(Some(pdu)) => {
                    let whole = (&pdu.header, &pdu.ahs[..], &pdu.data[..]);
                    let limit = self.config.wire_log;
                    self.log.note(limit, now, id, Direction::In, whole);
                    self.take_pdu(now, id, pdu);
                    self.advance_task_sets(now);
                }
                Err(Broken::HeaderDigest) => {
                    self.judge
                        .note(Rule::HeaderDigestWrong, "header digest mismatch");
                    self.close(now, id, true);
                    return;
                }
                Err(Broken::Oversize(bytes)) => {
                    self.judge
                        .note(Rule::SegmentTooLong, format!("{bytes} bytes"));
                    self.close(now, id, true);
                    return;
                }
            }
        }
    }

    fn take_pdu(&mut self, now: Instant, id: ConnectionId, pdu: RawPdu) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        match connection.phase {
            Phase::Login(_) => self.on_login_phase(now, id, &pdu),
            Phase::FullFeature => self.on_full_feature(now, id, pdu),
            Phase::Draining => {
                if connection.logout_seen {
                    self.judge
                        .note(Rule::AfterLogout, format!("opcode {:#04x}", pdu.opcode()));
                }
            }
        }
    }

    /// Moves up to `limit` bytes to be sent on a connection to the end of `out`.
    pub fn transmit(&mut self, id: ConnectionId, out: &mut Vec<u8>, limit: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.stalled {
            return;
        }
        let bytes = connection.out.len().min(limit);
        out.extend_from_slice(&connection.out.split_to(bytes));
        if connection.out.is_empty()
            && matches!(connection.phase, Phase::Draining)
            && !connection.closing
        {
            connection.closing = true;
            self.closing.push_back((id, false));
        }
    }

    /// Bytes that wait to be sent on a connection.
    #[must_use]
    pub fn output_bytes(&self, id: ConnectionId) -> usize {
        self.connections
            .get(&id)
            .map_or(0, |connection| connection.out.len())
    }

    /// Connections that got bytes to send since the last call.
    pub fn take_ready(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.ready).into_iter().collect()
    }

    /// The peer closed a connection, or it broke.
    pub fn peer_closed(&mut self, now: Instant, id: ConnectionId) {
        self.judge.open(id, now);
        if self.connections.contains_key(&id) {
            self.lose_connection(now, id);
            self.advance_task_sets(now);
        }
    }

    /// A connection the target wants closed, and whether by a reset. After an orderly close, what the peer still sends
    /// may be passed on (it is judged) until [`Self::peer_closed`].
    pub fn poll_closed(&mut self) -> Option<(ConnectionId, bool)> {
        self.closing.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// Does everything due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Timer::Access {
                    lun,
                    group,
                    state,
                    by_command,
                    except,
                } => {
                    let by = if by_command { By::Command } else { By::Target };
                    self.change_access(lun, group, state, by, except);
                }
                Timer::Execute { tsih, task } => self.execute_by_id(now, tsih, task),
                Timer::Answer { tsih, task } => self.answer_by_id(now, tsih, task),
                Timer::Late(id) => self.execute_late(now, id),
                Timer::Ping(id) => self.ping_due(now, id),
                Timer::Expire { tsih, failures } => self.expire(now, tsih, failures),
                Timer::Retain { tsih, connection } => self.retain_due(now, tsih, connection),
                Timer::Hole { tsih, expected } => self.hole_due(now, tsih, expected),
                Timer::Sequence {
                    tsih,
                    task,
                    ttt,
                    seen,
                } => self.sequence_due(now, tsih, task, ttt, seen),
                Timer::Group { tsih, itt } => self.group_due(now, tsih, itt),
                Timer::Status { tsih, task } => self.status_by_id(now, tsih, task),
            }
            self.advance_task_sets(now);
        }
    }

    pub(crate) fn at(&mut self, when: Instant, timer: Timer) {
        let order = self.next_timer;
        self.next_timer += 1;
        self.timers.insert((when, order), timer);
    }

    /// Every initiator requirement seen broken so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.judge.violations
    }

    /// The disk behind a LUN, if there is one.
    #[must_use]
    pub fn disk(&self, lun: usize) -> Option<&Disk> {
        self.units.get(lun).map(|unit| &unit.disk)
    }

    /// Every write executed, in order of execution.
    #[must_use]
    pub fn journal(&self) -> &[WriteRecord] {
        &self.journal
    }

    /// Sessions that exist, including those that lost their connections and have not timed out.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.sessions
            .iter()
            .map(|(tsih, session)| SessionInfo {
                tsih: *tsih,
                initiator: session.nexus.initiator.clone(),
                isid: session.nexus.isid,
                group: session.nexus.group,
                discovery: session.discovery,
                connections: session.connections.clone(),
                parameters: session.parameters.clone(),
                tasks: session.tasks.keys().copied().collect(),
                exp_cmd_sn: session.exp_cmd_sn,
                max_cmd_sn: session.max_cmd_sn,
                lost: session
                    .lost
                    .values()
                    .map(|lost| (lost.cid, lost.logged_out))
                    .collect(),
            })
            .collect()
    }

    /// PDUs of both directions, oldest first, as many as [`Config::wire_log`] keeps.
    #[must_use]
    pub fn wire_log(&self) -> &VecDeque<WireRecord> {
        &self.log.records
    }

    /// How often error recovery was seen.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Connections that are open at a portal.
    #[must_use]
    pub fn connections_of(&self, portal: usize) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, c)| c.portal == portal)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The configuration in force; quirks may be changed at any time, units and portals not.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Numbers a PDU, lets faults at it and queues it; says whether it arrives whole.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        id: ConnectionId,
        mut header: Header,
        data: &[u8],
        numbering: Numbering,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        connection.number(&mut header, numbering);
        let stat_sn = header.be32(24);
        let level = connection
            .session
            .and_then(|tsih| self.sessions.get(&tsih))
            .map_or(0, |session| session.parameters.error_recovery_level);
        if numbering == Numbering::Status && level > 0 {
            let record = Kept {
                stat_sn,
                header,
                data: data.to_vec(),
                task: None,
            };
            let (answers, bytes) = (self.config.kept_answers, self.config.kept_bytes);
            connection.shelf.keep(record, answers, bytes);
        }
        let delivered = self.queue(now, id, header, data);
        if !delivered
            && numbering == Numbering::Status
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.shelf.undelivered.insert(stat_sn);
        }
        delivered
    }

    /// Stamps the window, lets faults at a PDU and queues it; says whether it arrives whole.
    pub(crate) fn queue(
        &mut self,
        now: Instant,
        id: ConnectionId,
        mut header: Header,
        data: &[u8],
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        if let Some(session) = connection
            .session
            .and_then(|tsih| self.sessions.get_mut(&tsih))
        {
            session.advance_window(self.config.queue_depth);
            // A stale window is what a reordered PDU of another connection would carry: both numbers lag.
            let lag = self.stale_window;
            header.put(28, &session.exp_cmd_sn.wrapping_sub(lag).to_be_bytes());
            header.put(32, &session.max_cmd_sn.wrapping_sub(lag).to_be_bytes());
        }
        let effect = self.faults.pdu(header[0] & 0x3f, id, connection.portal);
        let delivered = connection.encode(&header, data, effect.as_ref());
        let direction = Direction::Out { whole: delivered };
        let limit = self.config.wire_log;
        self.log
            .note(limit, now, id, direction, (&header, &[], data));
        self.ready.insert(id);
        if effect == Some(PduEffect::Reset) {
            self.close(now, id, true);
        }
        delivered
    }

    pub(crate) fn mark_ready(&mut self, id: ConnectionId) {
        self.ready.insert(id);
    }

    /// Ends a connection from the target's side.
    pub(crate) fn close(&mut self, now: Instant, id: ConnectionId, reset: bool) {
        if self.connections.contains_key(&id) {
            self.lose_connection(now, id);
            self.closing.push_back((id, reset));
        }
    }

    fn lose_connection(&mut self, now: Instant, id: ConnectionId) {
        self.detach(now, id);
        self.connections.remove(&id);
        self.ready.remove(&id);
    }

    fn expire(&mut self, now: Instant, tsih: u16, failures: u64) {
        let due = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.failures == failures && session.connections.is_empty());
        if due {
            self.end_session(now, tsih);
        }
    }

    /// Removes a session with everything it owns.
    pub(crate) fn end_session(&mut self, now: Instant, tsih: u16) {
        let Some(session) = self.sessions.get(&tsih) else {
            return;
        };
        let lost: Vec<ConnectionId> = session.lost.keys().copied().collect();
        for id in session.connections.clone() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.leaving = Leaving::Closed;
            }
            self.close(now, id, true);
        }
        for id in lost {
            self.orphan_tasks(now, tsih, id);
        }
        self.sessions.remove(&tsih);
        self.faulted.retain(|_, faulted| *faulted != tsih);
        for unit in &mut self.units {
            unit.nexus_lost(tsih);
        }
    }

    /// The peer's PDU is answered by a Reject that carries its header (RFC 7143 §11.17).
    pub(crate) fn reject(&mut self, now: Instant, id: ConnectionId, reason: u8, offender: &Header) {
        let numbered = offender[0] & 0x40 == 0
            && matches!(
                offender[0] & 0x3f,
                opcode::NOP_OUT..=opcode::TEXT | opcode::LOGOUT
            );
        let tsih = self.connections.get(&id).and_then(|it| it.session);
        if let Some(session) = tsih
            .filter(|_| numbered)
            .and_then(|it| self.sessions.get_mut(&it))
        {
            session.numbers.note_rejected(offender.be32(24));
        }
        let header = crate::wire::response::reject(reason);
        self.send(now, id, header, offender, Numbering::Status);
    }

    /// Sends a ping and sets the timer of the next.
    fn ping_due(&mut self, now: Instant, id: ConnectionId) {
        let open = self
            .connections
            .get(&id)
            .is_some_and(|c| matches!(c.phase, Phase::FullFeature));
        if let Some(every) = self.config.ping_every.filter(|_| open) {
            // RFC 7143 §11.19: a ping of the target carries no data.
            self.ping(now, id, 0, &[]);
            self.at(now + every, Timer::Ping(id));
        }
    }

    /// Whether a PDU of this opcode comes from an initiator.
    pub(crate) fn initiator_opcode(code: u8) -> bool {
        matches!(code, opcode::NOP_OUT..=opcode::LOGOUT | opcode::SNACK | 0x1c..=0x1e)
    }
}
