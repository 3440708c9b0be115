//! What a target may do wrong, and what it must not.

use std::time::Duration;

use test_target::{
    AsyncEvent, CommandEffect, CommandFault, CommandFilter, ConnectionId, Count, IncomingEffect,
    IncomingFault, ManagementEffect, PduEffect, PduFault, PduFilter, SnackEffect, opcode, status,
};

use super::Ops;

/// What a target sends.
const OUT: [u8; 8] = [
    opcode::DATA_IN,
    opcode::SCSI_RESPONSE,
    opcode::R2T,
    opcode::NOP_IN,
    opcode::TASK_MANAGEMENT_RESPONSE,
    opcode::TEXT_RESPONSE,
    opcode::LOGOUT_RESPONSE,
    opcode::ASYNC_MESSAGE,
];

impl Ops<'_> {
    fn count(&mut self) -> Count {
        let skip = self.choices.below(4) as u32;
        Count { skip, times: 1 }
    }

    fn filter(&mut self, all: &[u8]) -> PduFilter {
        let at = self.choices.below(all.len());
        PduFilter {
            opcode: all.get(at).copied(),
            ..PduFilter::default()
        }
    }

    /// A connection in full feature phase.
    fn served(&mut self) -> Option<ConnectionId> {
        let sessions = self.rig.target.sessions();
        let all: Vec<_> = sessions.iter().flat_map(|it| &it.connections).collect();
        let at = self.choices.below(all.len());
        all.get(at).copied().copied()
    }

    /// Something that happens to honest targets and networks.
    pub(super) fn fault(&mut self) {
        let now = self.rig.now;
        match self.choices.below(16) {
            0..3 => self.lose(),
            3..6 => self.hamper(),
            6 => self.lose_incoming(),
            7 => {
                let (count, effects) =
                    (self.count(), [SnackEffect::Ignore, SnackEffect::Reject(3)]);
                let effect = effects[self.choices.below(2)];
                self.rig.target.fault_snack(count, effect);
            }
            8 => {
                let (count, which) = (self.count(), self.choices.below(5));
                let effect = match which {
                    0 => ManagementEffect::Ignore,
                    1 => ManagementEffect::Lose,
                    2 => ManagementEffect::Respond(5),
                    _ => ManagementEffect::Respond(255),
                };
                self.rig.target.fault_management(count, effect);
            }
            9 => self.announce(),
            10 if self.choices.flag() => self.rig.target.close_window(),
            10 => self.rig.target.open_window(now),
            11 => {
                let lag = self.choices.below(4) as u32;
                self.rig.target.stale_window(lag);
            }
            12 => {
                let hold = self.choices.flag();
                self.rig.target.hold_r2ts(now, hold);
            }
            13 => {
                let stalled = self.choices.flag();
                if let Some(id) = self.served() {
                    self.rig.target.stall_connection(now, id, stalled);
                }
            }
            14 if self.choices.byte() < 64 => self.rig.target.restart(now),
            14 => {
                let reset = self.choices.flag();
                if let Some(id) = self.served() {
                    self.rig.target.drop_connection(now, id, reset);
                }
            }
            _ => {
                if let Some(id) = self.served() {
                    self.rig.target.send_ping(now, id, 0, b"there?");
                }
            }
        }
    }

    fn lose(&mut self) {
        let (filter, count) = (self.filter(&OUT), self.count());
        let effect = match self.choices.below(8) {
            0 => PduEffect::Drop,
            // A ping that comes twice is answered twice, which the target's judge minds.
            1 if filter.opcode != Some(opcode::NOP_IN) => PduEffect::Duplicate,
            1 => PduEffect::Drop,
            2 => PduEffect::FlipHeaderDigest,
            3..5 => PduEffect::FlipDataDigest,
            5 => PduEffect::Silence,
            6 => PduEffect::Reset,
            _ => PduEffect::Delay(1 + self.choices.below(4) as u32),
        };
        let fault = PduFault {
            filter,
            count,
            effect,
        };
        self.rig.target.fault_pdu(fault);
    }

    fn lose_incoming(&mut self) {
        let all = [opcode::SCSI_COMMAND, opcode::DATA_OUT];
        let (filter, count) = (self.filter(&all), self.count());
        let effects = [
            IncomingEffect::Drop,
            IncomingEffect::DataDigest,
            IncomingEffect::Reset,
        ];
        let effect = effects[self.choices.below(3)];
        let fault = IncomingFault {
            filter,
            count,
            effect,
        };
        self.rig.target.fault_incoming(fault);
    }

    fn hamper(&mut self) {
        let count = self.count();
        let time = Duration::from_millis(self.choices.byte().into()) * 20;
        let effect = match self.choices.below(10) {
            0..2 => CommandEffect::DelayExecution(time),
            2 => CommandEffect::DelayAnswer(time),
            3 => CommandEffect::DelayStatus(time),
            4 => CommandEffect::Hang,
            5 => CommandEffect::HangAfterExecution,
            6 => CommandEffect::Status(status::BUSY, None),
            7 => CommandEffect::Response(1),
            8 => CommandEffect::Reject(9),
            _ => CommandEffect::WithholdR2t,
        };
        self.command_fault(count, effect);
    }

    fn command_fault(&mut self, count: Count, effect: CommandEffect) {
        let fault = CommandFault {
            filter: CommandFilter::default(),
            count,
            effect,
        };
        self.rig.target.fault_command(fault);
    }

    fn announce(&mut self) {
        let seconds = self.choices.below(5) as u16;
        let event = match self.choices.below(6) {
            0 => AsyncEvent::RequestLogout { seconds },
            1 => AsyncEvent::DropConnection {
                cid: None,
                wait_s: 1,
                retain_s: seconds,
            },
            2 => AsyncEvent::DropSession {
                wait_s: 1,
                retain_s: seconds,
            },
            3 => AsyncEvent::Renegotiate { seconds },
            4 => AsyncEvent::TasksTerminated { lun: 0 },
            _ => AsyncEvent::Raw {
                code: 255,
                vcode: 1,
                parameters: [seconds; 3],
                data: vec![0; 8],
            },
        };
        if let Some(id) = self.served() {
            self.rig.target.send_async(self.rig.now, id, &event);
        }
    }

    /// Something that no target may do.
    pub(super) fn lie(&mut self) {
        self.lied = true;
        let count = self.count();
        match self.choices.below(8) {
            0 => self.command_fault(count, CommandEffect::R2tBeyond(512)),
            1 => self.command_fault(count, CommandEffect::DataBeyond(512)),
            2 => self.command_fault(count, CommandEffect::DataShort(512)),
            3 => {
                let filter = self.filter(&OUT);
                let at = 1 + self.choices.below(47);
                let effect = PduEffect::Patch(vec![(at, self.choices.byte())]);
                let fault = PduFault {
                    filter,
                    count,
                    effect,
                };
                self.rig.target.fault_pdu(fault);
            }
            4 => {
                let filter = self.filter(&OUT);
                let bytes = self.choices.bytes().min(40_000);
                let effect = PduEffect::ReplaceData(vec![0x5a; bytes]);
                let fault = PduFault {
                    filter,
                    count,
                    effect,
                };
                self.rig.target.fault_pdu(fault);
            }
            5 => {
                let bytes: Vec<u8> = (0..self.choices.below(64))
                    .map(|_| self.choices.byte())
                    .collect();
                if let Some(id) = self.served() {
                    self.rig.target.send_bytes(id, &bytes);
                }
            }
            _ => self.make_up(),
        }
    }

    /// A PDU that nothing has asked for.
    fn make_up(&mut self) {
        let mut header = [0; 48];
        header[0] = OUT[self.choices.below(OUT.len())];
        header[1] = 0x80 | self.choices.byte();
        header[16..24].fill(0xff);
        for _ in 0..self.choices.below(6) {
            let at = 2 + self.choices.below(46);
            header[at] = self.choices.byte();
        }
        let (bytes, takes) = (self.choices.below(128), self.choices.flag());
        if let Some(id) = self.served() {
            let data = vec![0x5a; bytes];
            self.rig
                .target
                .send_raw(self.rig.now, id, &header, &data, takes);
        }
    }

    /// Everything that lasts is undone.
    pub(super) fn heal(&mut self) {
        let now = self.rig.now;
        self.rig.refusing = false;
        let target = &mut self.rig.target;
        target.clear_faults();
        target.stale_window(0);
        target.hold_r2ts(now, false);
        for session in target.sessions() {
            for id in session.connections {
                target.stall_connection(now, id, false);
            }
        }
        target.open_window(now);
    }
}
