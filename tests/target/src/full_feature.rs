//! The full feature phase: what every PDU must satisfy, command numbering, and who handles what.

use std::time::Instant;

use crate::ConnectionId;
use crate::judge::{Judge, Rule};
use crate::session::Held;
use crate::target::Target;
use crate::wire::framer::RawPdu;
use crate::wire::{Fields as _, RESERVED_TAG, opcode, serial_before};

/// Reasons of RFC 7143 §11.17.1.
pub(crate) mod reason {
    pub(crate) const DATA_DIGEST: u8 = 0x02;
    pub(crate) const SNACK: u8 = 0x03;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x04;
    pub(crate) const NOT_SUPPORTED: u8 = 0x05;
    pub(crate) const TASK_IN_PROGRESS: u8 = 0x07;
    pub(crate) const INVALID_FIELD: u8 = 0x09;
}

impl Target {
    pub(crate) fn on_full_feature(&mut self, now: Instant, id: ConnectionId, pdu: RawPdu) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(tsih) = connection.session else {
            return;
        };
        if connection.logout_seen {
            self.judge
                .note(Rule::AfterLogout, format!("opcode {:#04x}", pdu.opcode()));
            return;
        }
        let limit = connection.own_segment;
        let code = pdu.opcode();
        if !Self::initiator_opcode(code) {
            self.judge
                .note(Rule::OpcodeIllegal, format!("opcode {code:#04x}"));
            self.reject(now, id, reason::NOT_SUPPORTED, &pdu.header);
            return;
        }
        check_shape(&pdu, limit, &mut self.judge);
        if pdu.data.len() > limit {
            self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
            return;
        }
        if !pdu.data_digest_good {
            self.judge
                .note(Rule::DataDigestWrong, format!("opcode {code:#04x}"));
            self.reject(now, id, reason::DATA_DIGEST, &pdu.header);
            if code == opcode::DATA_OUT {
                self.data_digest_failed(now, tsih, pdu.itt());
            }
            return;
        }
        self.check_acknowledgement(id, &pdu);
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
        match code {
            opcode::DATA_OUT => self.on_data_out(now, id, tsih, &pdu),
            opcode::LOGIN => {
                self.judge
                    .note(Rule::PhaseWrong, "Login Request in the full feature phase");
                self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
                self.drain(now, id);
            }
            opcode::SNACK => {
                self.judge.note(Rule::SnackAtLevelZero, "SNACK");
                self.reject(now, id, reason::SNACK, &pdu.header);
            }
            _ => self.order(now, id, tsih, pdu),
        }
    }

    /// ExpStatSN never goes back and never acknowledges what was not sent (RFC 7143 §4.2.2.2).
    fn check_acknowledgement(&mut self, id: ConnectionId, pdu: &RawPdu) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let given = pdu.exp_stat_sn();
        let next = connection.stat_sn;
        let last = connection.acknowledged;
        if serial_before(next, given) {
            self.judge.note(
                Rule::ExpStatSnAhead,
                format!("{given}, next StatSN is {next}"),
            );
            return;
        }
        if let Some(last) = last
            && serial_before(given, last)
        {
            self.judge
                .note(Rule::ExpStatSnBackwards, format!("{given} after {last}"));
            return;
        }
        connection.acknowledged = Some(given);
    }

    /// Command numbering (RFC 7143 §4.2.2.1): immediate requests pass, others wait for their turn.
    fn order(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: RawPdu) {
        let Some(session) = self.sessions.get_mut(&tsih) else {
            return;
        };
        let (given, expected) = (pdu.cmd_sn(), session.exp_cmd_sn);
        let alone = session.connections.len() == 1;
        if pdu.immediate() {
            if alone {
                self.judge
                    .expect(given == expected, Rule::ImmediateCmdSn, || {
                        format!("immediate CmdSN {given}, next is {expected}")
                    });
            }
            self.dispatch(now, id, tsih, &pdu);
            return;
        }
        if !session.in_window(given) {
            let (rule, bound) = if serial_before(given, expected) {
                (Rule::CmdSnReused, expected)
            } else {
                (Rule::CmdSnBeyondWindow, session.max_cmd_sn)
            };
            self.judge
                .note(rule, format!("CmdSN {given}, bound {bound}"));
            return;
        }
        if given != expected {
            if alone {
                self.judge.note(
                    Rule::CmdSnSkipped,
                    format!("CmdSN {given}, next is {expected}"),
                );
            }
            if session
                .held
                .insert(
                    given,
                    Held {
                        connection: id,
                        pdu,
                    },
                )
                .is_some()
            {
                self.judge
                    .note(Rule::CmdSnReused, format!("CmdSN {given} twice"));
            }
            return;
        }
        session.exp_cmd_sn = expected.wrapping_add(1);
        self.dispatch(now, id, tsih, &pdu);
        self.release_held(now, tsih);
    }

    fn release_held(&mut self, now: Instant, tsih: u16) {
        while let Some(session) = self.sessions.get_mut(&tsih) {
            let next = session.exp_cmd_sn;
            let Some(held) = session.held.remove(&next) else {
                return;
            };
            session.exp_cmd_sn = next.wrapping_add(1);
            self.judge.open(held.connection, now);
            self.dispatch(now, held.connection, tsih, &held.pdu);
        }
    }

    fn dispatch(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
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
        let used = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.tasks.contains_key(&itt));
        self.judge
            .expect(!used, Rule::TaskTagInUse, || format!("ITT {itt:#010x}"))
    }
}

/// What can be said about a PDU without knowing any state.
fn check_shape(pdu: &RawPdu, limit: usize, judge: &mut Judge) {
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
    if let Some(field) = reserved_field(pdu) {
        judge.note(
            Rule::ReservedField,
            format!("{field} of opcode {code:#04x}"),
        );
    }
    let needs_final = matches!(
        code,
        opcode::NOP_OUT | opcode::TASK_MANAGEMENT | opcode::LOGOUT
    );
    judge.expect(
        !needs_final || pdu.header[1] & 0x80 != 0,
        Rule::NopFinal,
        || format!("F clear in opcode {code:#04x}"),
    );
}

/// The first reserved field that is not zero (RFC 7143 §11.3–§11.18).
fn reserved_field(pdu: &RawPdu) -> Option<&'static str> {
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
        opcode::SCSI_COMMAND => (0x18, &[(2, 4)]),
        opcode::TASK_MANAGEMENT => (0x00, management_reserved(header[1] & 0x7f)),
        opcode::TEXT => (0x3f, &[(2, 4), (32, 48)]),
        opcode::DATA_OUT => (0x7f, &[(2, 4), (24, 28), (32, 36), (44, 48)]),
        opcode::LOGOUT => (0x00, &[(2, 4), (8, 16), (22, 24), (32, 48)]),
        _ => return None,
    };
    if pdu.opcode() == opcode::DATA_OUT && header[0] & 0x40 != 0 {
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
        1 => &[(2, 4), (36, 48)],
        2..=5 => &[(2, 4), (32, 48)],
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
