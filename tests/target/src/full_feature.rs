//! The full feature phase: what every PDU must satisfy, command numbering, and who handles what.

use std::time::Instant;

use crate::ConnectionId;
use crate::fault::IncomingEffect;
use crate::judge::{Judge, Rule};
use crate::target::Target;
use crate::task::Progress;
use crate::wire::framer::RawPdu;
use crate::wire::{Fields as _, RESERVED_TAG, opcode};

/// Reasons of RFC 7143 §11.17.1.
pub(crate) mod reason {
    pub(crate) const DATA_DIGEST: u8 = 0x02;
    pub(crate) const SNACK: u8 = 0x03;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x04;
    pub(crate) const NOT_SUPPORTED: u8 = 0x05;
    pub(crate) const TASK_IN_PROGRESS: u8 = 0x07;
    pub(crate) const INVALID_DATA_ACK: u8 = 0x08;
    pub(crate) const INVALID_FIELD: u8 = 0x09;
}

/// What became of a PDU on its way in, by a digest or by a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Whole,
    /// Its data digest is wrong: the header is known, the rest is not (RFC 7143 §7.8).
    Damaged,
    /// The target knows nothing of it; only the judge does.
    Lost,
}

impl Target {
    pub(crate) fn on_full_feature(&mut self, now: Instant, id: ConnectionId, pdu: RawPdu) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(tsih) = connection.session else {
            return;
        };
        let code = pdu.opcode();
        connection.used = true;
        if connection.logout_seen {
            self.judge
                .note(Rule::AfterLogout, format!("opcode {code:#04x}"));
            return;
        }
        let next = connection.next_own_segment.map_or(0, |(_, bytes)| bytes);
        let limit = connection.own_segment.max(next);
        let portal = connection.portal;
        let effect = self.faults.incoming(code, id, portal);
        if effect == Some(IncomingEffect::Reset) {
            self.close(now, id, true);
            return;
        }
        if !self.well_formed(now, id, tsih, &pdu, limit) {
            return;
        }
        let arrival = self.arrival(id, &pdu, effect);
        self.judge_duties(now, id, &pdu);
        // A DataACK may acknowledge the status of its task, too.
        let data_ack = code == opcode::SNACK && pdu.header[1] & 0x0f == 2;
        if !data_ack {
            self.check_acknowledgement(now, id, &pdu, arrival);
        }
        let discovery = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.discovery);
        if discovery && !matches!(code, opcode::TEXT | opcode::LOGOUT) {
            self.judge
                .note(Rule::DiscoveryOnly, format!("opcode {code:#04x}"));
            self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
            return;
        }
        if !matches!(code, opcode::DATA_OUT | opcode::LOGIN | opcode::SNACK) {
            self.judge_number(id, tsih, &pdu);
        }
        if arrival != Arrival::Whole {
            self.not_whole(now, id, tsih, &pdu, arrival);
            return;
        }
        match code {
            opcode::DATA_OUT => self.on_data_out(now, id, tsih, &pdu, arrival),
            opcode::LOGIN => {
                self.judge
                    .note(Rule::PhaseWrong, "Login Request in the full feature phase");
                self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
                self.drain(now, id);
            }
            opcode::SNACK => {
                self.on_snack(now, id, tsih, &pdu);
                if data_ack {
                    self.check_acknowledgement(now, id, &pdu, arrival);
                }
            }
            _ => self.order(now, id, tsih, pdu),
        }
        if self
            .sessions
            .get(&tsih)
            .is_some_and(|session| !session.groups.is_empty())
        {
            self.check_groups(now, tsih);
        }
    }

    /// Rules of every PDU; what breaks the hardest of them is rejected.
    fn well_formed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
        limit: usize,
    ) -> bool {
        let code = pdu.opcode();
        if !Self::initiator_opcode(code) {
            self.judge
                .note(Rule::OpcodeIllegal, format!("opcode {code:#04x}"));
            self.reject(now, id, reason::NOT_SUPPORTED, &pdu.header);
            return false;
        }
        let modern = self.protocol_level(tsih) >= 2;
        check_shape(pdu, limit, modern, &mut self.judge);
        if pdu.data.len() > limit {
            self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
            return false;
        }
        true
    }

    fn arrival(
        &mut self,
        id: ConnectionId,
        pdu: &RawPdu,
        effect: Option<IncomingEffect>,
    ) -> Arrival {
        if !pdu.data_digest_good {
            self.judge.note(
                Rule::DataDigestWrong,
                format!("opcode {:#04x}", pdu.opcode()),
            );
            return Arrival::Damaged;
        }
        let digest = self.connections.get(&id).is_some_and(|c| c.data_digest);
        match effect {
            Some(IncomingEffect::Drop) => Arrival::Lost,
            Some(IncomingEffect::DataDigest) if digest && !pdu.data.is_empty() => Arrival::Damaged,
            _ => Arrival::Whole,
        }
    }

    /// A PDU that the target cannot use (RFC 7143 §7.8).
    fn not_whole(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
        arrival: Arrival,
    ) {
        if arrival == Arrival::Damaged {
            self.reject(now, id, reason::DATA_DIGEST, &pdu.header);
        }
        match pdu.opcode() {
            opcode::DATA_OUT => self.on_data_out(now, id, tsih, pdu, arrival),
            opcode::SCSI_COMMAND => {
                // Its unsolicited data may follow; they come again with the retry.
                if let Some(session) = self.sessions.get_mut(&tsih)
                    && !session.tasks.contains_key(&pdu.itt())
                {
                    session.note_ended(pdu.itt());
                }
            }
            _ => {}
        }
    }

    pub(crate) fn dispatch(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        match pdu.opcode() {
            opcode::NOP_OUT => self.on_nop_out(now, id, pdu),
            opcode::SCSI_COMMAND => self.on_command(now, id, tsih, pdu),
            opcode::TASK_MANAGEMENT => self.on_task_management(now, id, tsih, pdu),
            opcode::TEXT => self.on_text(now, id, tsih, pdu),
            opcode::LOGOUT => self.on_logout(now, id, tsih, pdu),
            _ => self.reject(now, id, reason::NOT_SUPPORTED, &pdu.header),
        }
    }

    /// Whether a task tag may start something new on this session.
    pub(crate) fn tag_free(&mut self, tsih: u16, itt: u32) -> bool {
        if !self
            .judge
            .expect(itt != RESERVED_TAG, Rule::TaskTagReserved, || {
                "0xffffffff".to_owned()
            })
        {
            return false;
        }
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return true;
        };
        // A task kept for its status only is over for an initiator that uses its tag again.
        let over = session
            .tasks
            .get(&itt)
            .is_some_and(|task| matches!(task.progress, Progress::Answered(_)));
        if over {
            session.tasks.remove(&itt);
        }
        let used = session.tasks.contains_key(&itt) || session.manages(itt);
        self.judge
            .expect(!used, Rule::TaskTagInUse, || format!("ITT {itt:#010x}"))
    }
}

/// What can be said about a PDU without knowing any state.
fn check_shape(pdu: &RawPdu, limit: usize, modern: bool, judge: &mut Judge) {
    let code = pdu.opcode();
    judge.expect(pdu.data.len() <= limit, Rule::SegmentTooLong, || {
        format!("{} bytes, declared {limit}", pdu.data.len())
    });
    judge.expect(pdu.padding_zero, Rule::PaddingNonZero, || {
        format!("opcode {code:#04x}")
    });
    if !pdu.ahs.is_empty() {
        let allowed = code == opcode::SCSI_COMMAND && ahs_well_formed(&pdu.ahs);
        judge.expect(allowed, Rule::AhsIllegal, || {
            format!("opcode {code:#04x}, {:02x?}", &pdu.ahs[..])
        });
    }
    let takes_data = matches!(
        code,
        opcode::NOP_OUT | opcode::SCSI_COMMAND | opcode::TEXT | opcode::DATA_OUT
    );
    judge.expect(
        takes_data || pdu.data.is_empty(),
        Rule::DataNotAllowed,
        || format!("{} bytes in opcode {code:#04x}", pdu.data.len()),
    );
    if let Some(field) = reserved_field(pdu, modern) {
        judge.note(
            Rule::ReservedField,
            format!("{field} of opcode {code:#04x}"),
        );
    }
    let needs_final = matches!(
        code,
        opcode::NOP_OUT | opcode::TASK_MANAGEMENT | opcode::LOGOUT | opcode::SNACK
    );
    judge.expect(
        !needs_final || pdu.header[1] & 0x80 != 0,
        Rule::NopFinal,
        || format!("F clear in opcode {code:#04x}"),
    );
}

/// The first reserved field that is not zero (RFC 7143 §11.3–§11.18).
/// `modern`: the session has iSCSIProtocolLevel 2, so that a command has a priority (RFC 7144 §5.1.1).
fn reserved_field(pdu: &RawPdu, modern: bool) -> Option<&'static str> {
    let header = &pdu.header;
    let zero = |from: usize, to: usize| {
        header
            .get(from..to)
            .is_some_and(|part| part.iter().all(|b| *b == 0))
    };
    if header[0] & 0x80 != 0 {
        return Some("bit 7 of byte 0");
    }
    let (flag_mask, ranges): (u8, &[(usize, usize)]) = match pdu.opcode() {
        opcode::NOP_OUT => (0x7f, &[(2, 4), (32, 48)]),
        opcode::SCSI_COMMAND if modern && header[2] & 0x0f == 0 => (0x18, &[(3, 4)]),
        opcode::SCSI_COMMAND => (0x18, &[(2, 4)]),
        opcode::TASK_MANAGEMENT => (0x00, management_reserved(header[1] & 0x7f)),
        opcode::TEXT => (0x3f, &[(2, 4), (32, 48)]),
        opcode::DATA_OUT => (0x7f, &[(2, 4), (24, 28), (32, 36), (44, 48)]),
        opcode::LOGOUT => (0x00, &[(2, 4), (8, 16), (22, 24), (32, 48)]),
        // The LUN is DataACK's (RFC 7143 §11.16.5); a sender of another kind may repeat the command's.
        opcode::SNACK => (0x70, &[(2, 4), (24, 28), (32, 40)]),
        _ => return None,
    };
    if matches!(pdu.opcode(), opcode::DATA_OUT | opcode::SNACK) && header[0] & 0x40 != 0 {
        return Some("I bit");
    }
    if header[1] & flag_mask != 0 {
        return Some("flags");
    }
    ranges
        .iter()
        .any(|(from, to)| !zero(*from, *to))
        .then_some("a reserved field")
}

/// LUN, RefCmdSN and ExpDataSN belong to some functions only (RFC 7143 §11.5.3–§11.5.6).
fn management_reserved(function: u8) -> &'static [(usize, usize)] {
    match function {
        1 | 9 => &[(2, 4), (36, 48)],
        2..=5 | 10 | 12 => &[(2, 4), (32, 48)],
        8 => &[(2, 4), (8, 16), (32, 36), (40, 48)],
        _ => &[(2, 4), (8, 16), (32, 48)],
    }
}

/// Walks the AHS list (RFC 7143 §11.2.2): extended CDB (1) or bidirectional read length (2).
fn ahs_well_formed(mut ahs: &[u8]) -> bool {
    while !ahs.is_empty() {
        let bytes = usize::from(ahs.be16(0));
        let kind = ahs.byte(2) & 0x3f;
        let right = match kind {
            1 => bytes >= 2 && ahs.byte(3) == 0,
            2 => bytes == 5 && ahs.byte(3) == 0,
            _ => false,
        };
        // AHSLength counts from after AHSType; the whole is padded to a word.
        let whole = (3 + bytes).div_ceil(4) * 4;
        match ahs.get(whole..) {
            Some(rest) if right => ahs = rest,
            _ => return false,
        }
    }
    true
}
