//! When faults happen, by the seed.
//!
//! A seed switches a random subset of kinds of fault on, each with a rate of its own.

use std::time::Duration;

use fastrand::Rng;
use test_target::{
    CommandEffect, CommandFault, CommandFilter, Count, IncomingEffect, IncomingFault,
    ManagementEffect, PduEffect, PduFault, PduFilter, Quirks, Redirect, Sense, SnackEffect, opcode,
};

use crate::conditions::{ATTENTIONS, CONDITIONS, async_event};
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
    LostRequest,
    Snack,
    Lag,
    BareReject,
    OddText,
    Flapping,
    Grown,
    Shrunk,
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
    Kind::LostRequest,
    Kind::Snack,
    Kind::Lag,
    Kind::BareReject,
    Kind::OddText,
    Kind::Flapping,
    Kind::Grown,
    Kind::Shrunk,
];

/// The faults of a seed, in order of time.
#[must_use]
pub fn schedule(
    facets: Facets,
    portals: usize,
    digests: bool,
    blocks: u64,
    run_for: Duration,
) -> Vec<(Duration, Fault)> {
    let share: f64 = [0.06, 0.1, 0.2, 0.35][facets.of("share of faults").usize(..4)];
    let mut list = Vec::new();
    let mut on = Vec::new();
    for kind in KINDS {
        let flips = matches!(kind, Kind::FlipUp | Kind::FlipDown);
        let mut rng = facets.of(&format!("fault {kind:?}"));
        // What has grown shrinks only with an administrator.
        let again = *kind == Kind::Shrunk && on.contains(&Kind::Grown);
        if rng.f64() >= share || (flips && !digests) || again {
            continue;
        }
        on.push(*kind);
        let every = rng.u64(300..6_000) as f64;
        let mut at = Duration::from_secs_f64(rng.f64() * every / 1000.0);
        let mut plan = Plan {
            rng: &mut rng,
            portals,
            blocks,
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
    blocks: u64,
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
            Kind::LostRequest | Kind::Snack | Kind::BareReject => self.peer(kind, at, portal),
            Kind::Lag | Kind::Flapping => self.rhythm(kind, at, portal),
            Kind::Grown | Kind::Shrunk => self.size(kind, at),
            Kind::OddText => self.text(at),
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
            Kind::LostPdu => &[
                PduEffect::Drop,
                PduEffect::Duplicate,
                PduEffect::Delay(1),
                PduEffect::Delay(5),
            ],
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

    /// Of what the target does with a request.
    #[expect(clippy::wildcard_enum_match_arm, reason = "sorted by the caller")]
    fn peer(&mut self, kind: Kind, at: Duration, portal: usize) {
        let fault = match kind {
            Kind::LostRequest => {
                let opcodes = [
                    opcode::SCSI_COMMAND,
                    opcode::DATA_OUT,
                    opcode::NOP_OUT,
                    opcode::TASK_MANAGEMENT,
                    opcode::TEXT,
                    opcode::SNACK,
                    opcode::LOGOUT,
                ];
                let effects = [
                    IncomingEffect::Drop,
                    IncomingEffect::DataDigest,
                    IncomingEffect::Reset,
                ];
                Fault::Incoming(IncomingFault {
                    filter: PduFilter {
                        opcode: Some(opcodes[self.rng.usize(..opcodes.len())]),
                        connection: None,
                        portal: self.rng.bool().then_some(portal),
                    },
                    count: self.count(),
                    effect: effects[self.rng.usize(..effects.len())],
                })
            }
            Kind::Snack => Fault::Snack(match self.rng.bool() {
                true => SnackEffect::Ignore,
                false => SnackEffect::Reject(3),
            }),
            _ => {
                let mut offender = [0; 48];
                offender[0] = opcode::SCSI_COMMAND;
                offender[1] = 0x80;
                self.rng.fill(&mut offender[16..20]);
                let reason = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12][self.rng.usize(..11)];
                Fault::Reject(portal, reason, Box::new(offender))
            }
        };
        self.push(at, fault);
    }

    /// Connections out of step with each other, and paths that come and go.
    fn rhythm(&mut self, kind: Kind, at: Duration, portal: usize) {
        if kind == Kind::Lag {
            let (number, time) = (self.rng.usize(..4), ms(self.rng, 1, 300));
            self.push(at, Fault::Lag(portal, number, time));
            return;
        }
        let mut at = at;
        for _ in 0..self.rng.u8(3..10) {
            let (client, server) = (true, true);
            let reset = Fault::Reset {
                portal,
                client,
                server,
            };
            self.push(at, reset);
            at += ms(self.rng, 50, 1_000);
        }
    }

    /// The unit grows for good, or shrinks for a while.
    fn size(&mut self, kind: Kind, at: Duration) {
        let blocks = self.blocks;
        if kind == Kind::Grown {
            // Never less than before.
            let more = 1 + at.as_millis() as u64 / 64;
            self.push(at, Fault::Resize(blocks + more));
        } else {
            let less = self.rng.u64(1..blocks);
            self.spell(at, Fault::Resize(blocks - less), Fault::Resize(blocks));
        }
    }

    /// What the target does in text negotiations.
    fn text(&mut self, at: Duration) {
        let mut quirks = Quirks::default();
        match self.rng.u8(..4) {
            0 => quirks.delay_text_final = self.rng.u32(1..4),
            1 => quirks.text_rejects = self.rng.u32(1..3),
            _ => {
                let bytes = 4 * self.rng.u32(128..10_000);
                let key = "MaxRecvDataSegmentLength".to_owned();
                quirks.text_keys = vec![(key, bytes.to_string())];
            }
        }
        let plain = Fault::Login(Box::default());
        self.spell(at, Fault::Login(Box::new(quirks)), plain);
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
