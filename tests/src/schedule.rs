//! When faults happen, by the seed.
//!
//! A seed switches a random subset of kinds of fault on, each with a rate of its own.

use std::time::Duration;

use fastrand::Rng;
use test_target::{
    AsyncEvent, CommandEffect, CommandFault, CommandFilter, Count, ManagementEffect, PduEffect,
    PduFault, PduFilter, Quirks, Redirect, Sense, opcode,
};

use crate::facet::Facets;
use crate::fault::Fault;
use crate::net::Dial;
use crate::scenario::{address, ms};

/// Kinds of faults; a seed has some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reset,
    BlackHole,
    OneWay,
    Refused,
    HangingDial,
    Stuck,
    Slow,
    FlipUp,
    FlipDown,
    LostPdu,
    SilentConnection,
    ClosedWindow,
    StaleWindow,
    LostCommand,
    LateAnswer,
    Busy,
    CheckCondition,
    LyingCommand,
    Rejected,
    Management,
    Async,
    Restart,
    Attention,
    HeldR2ts,
    RefusedLogin,
    OddLogin,
    Redirect,
    Goodbye,
    Ping,
}

const KINDS: &[Kind] = &[
    Kind::Reset,
    Kind::BlackHole,
    Kind::OneWay,
    Kind::Refused,
    Kind::HangingDial,
    Kind::Stuck,
    Kind::Slow,
    Kind::FlipUp,
    Kind::FlipDown,
    Kind::LostPdu,
    Kind::SilentConnection,
    Kind::ClosedWindow,
    Kind::StaleWindow,
    Kind::LostCommand,
    Kind::LateAnswer,
    Kind::Busy,
    Kind::CheckCondition,
    Kind::LyingCommand,
    Kind::Rejected,
    Kind::Management,
    Kind::Async,
    Kind::Restart,
    Kind::Attention,
    Kind::HeldR2ts,
    Kind::RefusedLogin,
    Kind::OddLogin,
    Kind::Redirect,
    Kind::Goodbye,
    Kind::Ping,
];

/// The faults of a seed, in order of time.
#[must_use]
pub fn schedule(
    facets: Facets,
    portals: usize,
    digests: bool,
    run_for: Duration,
) -> Vec<(Duration, Fault)> {
    let share: f64 = [0.06, 0.1, 0.2, 0.35][facets.of("share of faults").usize(..4)];
    let mut list = Vec::new();
    for kind in KINDS {
        let flips = matches!(kind, Kind::FlipUp | Kind::FlipDown);
        let mut rng = facets.of(&format!("fault {kind:?}"));
        if rng.f64() >= share || (flips && !digests) {
            continue;
        }
        let every = rng.u64(300..6_000) as f64;
        let mut at = Duration::from_secs_f64(rng.f64() * every / 1000.0);
        let mut plan = Plan {
            rng: &mut rng,
            portals,
            list: Vec::new(),
        };
        while at < run_for {
            plan.add(*kind, at);
            at += Duration::from_secs_f64(plan.rng.f64() * 2.0 * every / 1000.0);
            at += Duration::from_millis(1);
        }
        list.append(&mut plan.list);
    }
    list.retain(|(at, _)| *at < run_for);
    list.sort_by_key(|(at, _)| *at);
    list
}

/// Connections that break in the middle of writes, again and again.
#[must_use]
pub fn haunting(rng: &mut Rng, run_for: Duration) -> Vec<(Duration, Fault)> {
    let mut list = Vec::new();
    let mut at = ms(rng, 50, 800);
    while at < run_for {
        let portal = rng.usize(..2);
        let reset = Fault::Reset {
            portal,
            client: true,
            server: true,
        };
        list.push((at, reset));
        // Nobody can log in, so nothing but a fence through elsewhere ends what was left behind.
        let away = ms(rng, 100, 6_000);
        list.push((at, Fault::Dial(portal, Dial::Refuse)));
        list.push((at + away, Fault::Dial(portal, Dial::Accept)));
        at += ms(rng, 200, 2_500);
    }
    list.sort_by_key(|(at, _)| *at);
    list
}

struct Plan<'a> {
    rng: &'a mut Rng,
    portals: usize,
    list: Vec<(Duration, Fault)>,
}

impl Plan<'_> {
    fn push(&mut self, at: Duration, fault: Fault) {
        self.list.push((at, fault));
    }

    /// For a while.
    fn spell(&mut self, at: Duration, fault: Fault, undo: Fault) {
        let long = self.rng.u8(..4) == 0;
        let most = if long { 15_000 } else { 2_000 };
        let length = ms(self.rng, 1, most);
        self.push(at, fault);
        self.push(at + length, undo);
    }

    fn add(&mut self, kind: Kind, at: Duration) {
        let portal = self.rng.usize(..self.portals);
        match kind {
            Kind::Reset
            | Kind::BlackHole
            | Kind::OneWay
            | Kind::Refused
            | Kind::HangingDial
            | Kind::Stuck
            | Kind::Slow
            | Kind::FlipUp => self.network(kind, at, portal),
            Kind::FlipDown | Kind::LostPdu | Kind::SilentConnection => self.pdu(kind, at, portal),
            Kind::LostCommand
            | Kind::LateAnswer
            | Kind::Busy
            | Kind::CheckCondition
            | Kind::LyingCommand
            | Kind::Rejected => self.command(kind, at, portal),
            Kind::RefusedLogin | Kind::OddLogin | Kind::Redirect => self.login(kind, at, portal),
            Kind::ClosedWindow
            | Kind::StaleWindow
            | Kind::Management
            | Kind::Async
            | Kind::Restart
            | Kind::Attention
            | Kind::HeldR2ts
            | Kind::Goodbye
            | Kind::Ping => self.target(kind, at, portal),
        }
    }

    /// Of the way to the target.
    #[expect(clippy::wildcard_enum_match_arm, reason = "sorted by the caller")]
    fn network(&mut self, kind: Kind, at: Duration, portal: usize) {
        match kind {
            Kind::Reset => {
                let who = self.rng.u8(..4);
                let (client, server) = (who != 1, who != 2);
                self.push(
                    at,
                    Fault::Reset {
                        portal,
                        client,
                        server,
                    },
                );
            }
            Kind::BlackHole => self.dead(at, portal, true, true),
            Kind::OneWay => {
                let up = self.rng.bool();
                self.dead(at, portal, up, !up);
            }
            Kind::Refused => self.dial(at, portal, Dial::Refuse),
            Kind::HangingDial => self.dial(at, portal, Dial::Hang),
            Kind::Stuck => {
                // The initiator loses the connection, the target still gets what it sent.
                let time = ms(self.rng, 10, 12_000);
                let after = Duration::from_micros(self.rng.u64(..60_000));
                self.push(at, Fault::Stuck(portal, time));
                self.push(
                    at + after,
                    Fault::Reset {
                        portal,
                        client: true,
                        server: false,
                    },
                );
                let calm = after + ms(self.rng, 0, 500);
                self.push(at + calm, Fault::Stuck(portal, Duration::ZERO));
            }
            Kind::Slow => {
                let slow = Fault::Slow {
                    portal,
                    latency: ms(self.rng, 1, 400),
                    bytes_per_second: self.rng.u64(20_000..4_000_000),
                };
                let fast = Fault::Slow {
                    portal,
                    latency: Duration::from_micros(500),
                    bytes_per_second: 0,
                };
                self.spell(at, slow, fast);
            }
            _ => self.push(at, Fault::FlipUp(portal)),
        }
    }

    /// Of the target as a whole.
    #[expect(clippy::wildcard_enum_match_arm, reason = "sorted by the caller")]
    fn target(&mut self, kind: Kind, at: Duration, portal: usize) {
        match kind {
            Kind::ClosedWindow => self.spell(at, Fault::Window(true), Fault::Window(false)),
            Kind::StaleWindow => {
                let lag = self.rng.u32(1..40);
                self.spell(at, Fault::StaleWindow(lag), Fault::StaleWindow(0));
            }
            Kind::Management => {
                let effect = [
                    ManagementEffect::Ignore,
                    ManagementEffect::Lose,
                    ManagementEffect::Respond(5),
                    ManagementEffect::Respond(255),
                ];
                let effect = effect[self.rng.usize(..effect.len())];
                self.push(at, Fault::Management(effect));
            }
            Kind::Async => {
                let event = async_event(self.rng);
                self.push(at, Fault::Async(portal, event));
            }
            Kind::Restart => self.push(at, Fault::Restart),
            Kind::Attention => {
                let sense = ATTENTIONS[self.rng.usize(..ATTENTIONS.len())];
                self.push(at, Fault::Attention(Sense::new(6, sense.0, sense.1)));
            }
            Kind::HeldR2ts => self.spell(at, Fault::HoldR2ts(true), Fault::HoldR2ts(false)),
            Kind::Goodbye => self.push(at, Fault::Goodbye(portal)),
            _ => self.push(at, Fault::Ping(portal)),
        }
    }

    fn dead(&mut self, at: Duration, portal: usize, up: bool, down: bool) {
        let alive = Fault::Dead {
            portal,
            up: false,
            down: false,
        };
        self.spell(at, Fault::Dead { portal, up, down }, alive);
    }

    fn dial(&mut self, at: Duration, portal: usize, dial: Dial) {
        // Nobody would notice without a connection to be opened.
        self.push(
            at,
            Fault::Reset {
                portal,
                client: true,
                server: true,
            },
        );
        self.spell(
            at,
            Fault::Dial(portal, dial),
            Fault::Dial(portal, Dial::Accept),
        );
    }

    fn count(&mut self) -> Count {
        Count {
            skip: self.rng.u32(..12),
            times: self.rng.u32(1..4),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "sorted by the caller")]
    fn pdu(&mut self, kind: Kind, at: Duration, portal: usize) {
        let effects: &[PduEffect] = match kind {
            Kind::FlipDown => &[
                PduEffect::FlipHeaderDigest,
                PduEffect::FlipDataDigest,
                PduEffect::FlipData,
            ],
            Kind::LostPdu => &[PduEffect::Drop, PduEffect::Duplicate],
            _ => &[PduEffect::Silence, PduEffect::Reset],
        };
        let opcodes = [
            opcode::SCSI_RESPONSE,
            opcode::DATA_IN,
            opcode::R2T,
            opcode::NOP_IN,
            opcode::TASK_MANAGEMENT_RESPONSE,
            opcode::ASYNC_MESSAGE,
        ];
        let pdu = Some(opcodes[self.rng.usize(..opcodes.len())]);
        let mut effect = effects[self.rng.usize(..effects.len())].clone();
        if pdu == Some(opcode::NOP_IN) && effect == PduEffect::Duplicate {
            // Both would be answered, and rightly.
            effect = PduEffect::Drop;
        }
        let fault = PduFault {
            filter: PduFilter {
                opcode: pdu,
                connection: None,
                portal: self.rng.bool().then_some(portal),
            },
            count: self.count(),
            effect,
        };
        self.push(at, Fault::Pdu(fault));
    }

    fn command(&mut self, kind: Kind, at: Duration, portal: usize) {
        let rng = &mut *self.rng;
        let effect = match (kind, rng.u8(..3)) {
            (Kind::LostCommand, 0) => CommandEffect::Hang,
            (Kind::LostCommand, 1) => CommandEffect::HangAfterExecution,
            (Kind::LostCommand, _) => CommandEffect::WithholdR2t,
            (Kind::LateAnswer, 0) => CommandEffect::DelayExecution(ms(rng, 1, 8_000)),
            (Kind::LateAnswer, _) => CommandEffect::DelayAnswer(ms(rng, 1, 8_000)),
            (Kind::Busy, 0) => CommandEffect::Status(test_target::status::TASK_SET_FULL, None),
            (Kind::Busy, _) => CommandEffect::Status(test_target::status::BUSY, None),
            (Kind::CheckCondition, _) => {
                let (key, asc, ascq) = CONDITIONS[rng.usize(..CONDITIONS.len())];
                let sense = Some(Sense::new(key, asc, ascq));
                CommandEffect::Status(test_target::status::CHECK_CONDITION, sense)
            }
            (Kind::LyingCommand, 0) => CommandEffect::DataBeyond(rng.u32(1..5_000)),
            (Kind::LyingCommand, 1) => CommandEffect::DataShort(rng.u32(..600)),
            (Kind::LyingCommand, _) => CommandEffect::R2tBeyond(rng.u32(1..5_000)),
            (_, 0) => CommandEffect::Response(rng.u8(1..=2)),
            (_, _) => CommandEffect::Reject([2, 4, 5, 9, 10][rng.usize(..5)]),
        };
        let fault = CommandFault {
            filter: CommandFilter {
                portal: self.rng.bool().then_some(portal),
                writes: [None, Some(true), Some(false)][self.rng.usize(..3)],
                ..CommandFilter::default()
            },
            count: self.count(),
            effect,
        };
        self.push(at, Fault::Command(fault));
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "sorted by the caller")]
    fn login(&mut self, kind: Kind, at: Duration, portal: usize) {
        let mut quirks = Quirks::default();
        match kind {
            Kind::RefusedLogin => {
                let status = [0x0300, 0x0301, 0x0302, 0x0201, 0x0206];
                quirks.login_status = Some(status[self.rng.usize(..status.len())]);
                quirks.login_status_times = Some(self.rng.u32(1..4));
                quirks.login_status_late = self.rng.bool();
                quirks.mute_login = self.rng.u8(..4) == 0;
            }
            Kind::OddLogin => {
                quirks.delay_transit = self.rng.u32(..3);
                quirks.split_answers_bytes = self.rng.bool().then(|| self.rng.usize(5..200));
                quirks.not_understood = vec!["DataPDUInOrder".to_owned()];
                quirks.empty_data_in = self.rng.bool();
            }
            _ => {
                let other = self.rng.usize(..self.portals);
                if other == portal {
                    return;
                }
                quirks.redirect = Some(Redirect {
                    address: address(other),
                    permanent: self.rng.bool(),
                    portal: Some(portal),
                });
            }
        }
        self.push(
            at,
            Fault::Reset {
                portal,
                client: true,
                server: true,
            },
        );
        let plain = Fault::Login(Box::default());
        self.spell(at, Fault::Login(Box::new(quirks)), plain);
    }
}

/// Unit attentions: additional sense code and qualifier.
const ATTENTIONS: &[(u8, u8)] = &[
    (0x29, 0x00),
    (0x2a, 0x01),
    (0x2a, 0x09),
    (0x3f, 0x03),
    (0x3f, 0x0e),
    (0x2f, 0x00),
];

/// Check conditions of a command that was not executed.
const CONDITIONS: &[(u8, u8, u8)] = &[
    (0x6, 0x29, 0x00),
    (0x6, 0x3f, 0x0e),
    (0x2, 0x04, 0x01),
    (0x2, 0x04, 0x0b),
    (0xb, 0x00, 0x00),
    (0xb, 0x47, 0x05),
    (0x4, 0x44, 0x00),
    (0x3, 0x11, 0x00),
    (0x5, 0x25, 0x00),
];

fn async_event(rng: &mut Rng) -> AsyncEvent {
    let seconds = rng.u16(..4);
    match rng.u8(..8) {
        0 => AsyncEvent::Scsi {
            lun: 0,
            sense: Sense::new(6, 0x2a, 0x01),
        },
        1 => AsyncEvent::RequestLogout { seconds },
        2 => AsyncEvent::DropConnection {
            cid: None,
            wait_s: seconds,
            retain_s: 0,
        },
        3 => AsyncEvent::DropSession {
            wait_s: seconds,
            retain_s: 0,
        },
        4 => AsyncEvent::Renegotiate { seconds },
        5 => AsyncEvent::TasksTerminated { lun: 0 },
        6 => AsyncEvent::Raw {
            code: 255,
            vcode: 1,
            parameters: [1, 2, 3],
            data: b"vendor".to_vec(),
        },
        _ => AsyncEvent::Raw {
            code: 100,
            vcode: 0,
            parameters: [0; 3],
            data: Vec::new(),
        },
    }
}
