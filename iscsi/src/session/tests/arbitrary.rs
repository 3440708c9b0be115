//! Whatever a target sends and whenever: nothing panics, the timer does not spin, and every
//! command ends exactly once and gives its memory back.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Read(u16),
    Write(u16),
    Both(u16, u16),
    Manage(u8),
    Set(u8),
    Targets,
    Drop(u8),
    Bytes(Vec<u8>),
    Reply {
        opcode: u8,
        flags: u8,
        third: [u8; 2],
        task: u8,
        words: [u32; 7],
        data: u16,
        good: bool,
        damaged: bool,
    },
    Takes(u16),
    Wait(u16),
    Cut,
    Fence,
    Logout,
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0_u32..4, 2 => (0_u32..32).prop_map(|n| n * 512), 1 => any::<u32>()]
}

const OPCODES: [u8; 11] = [
    0x20, 0x21, 0x22, 0x24, 0x25, 0x25, 0x26, 0x31, 0x31, 0x32, 0x3f,
];

fn step() -> impl Strategy<Value = Step> {
    let reply = (
        proptest::sample::select(&OPCODES[..]),
        proptest::sample::select(&[0x80_u8, 0x81, 0x83, 0x82, 0, 0x85, 0xff][..]),
        any::<[u8; 2]>().prop_map(|[a, b]| [if a < 128 { 0 } else { a % 8 }, b & 0x1a]),
        0_u8..12,
        [
            small(),
            small(),
            small(),
            small(),
            small(),
            small(),
            small(),
        ],
        prop_oneof![Just(0_u16), Just(512), 0_u16..2000],
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
    );
    let reply =
        reply.prop_map(
            |(opcode, flags, third, task, words, data, good, damaged)| Step::Reply {
                opcode,
                flags,
                third,
                task,
                words,
                data,
                good,
                damaged,
            },
        );
    prop_oneof![
        4 => (0_u16..16).prop_map(Step::Read),
        4 => (0_u16..64).prop_map(Step::Write),
        1 => (0_u16..16, 0_u16..16).prop_map(|(out, into)| Step::Both(out, into)),
        2 => any::<u8>().prop_map(Step::Manage),
        1 => any::<u8>().prop_map(Step::Set),
        1 => Just(Step::Targets),
        2 => any::<u8>().prop_map(Step::Drop),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Step::Bytes),
        16 => reply,
        2 => any::<u16>().prop_map(Step::Takes),
        3 => (0_u16..20_000).prop_map(Step::Wait),
        1 => Just(Step::Cut),
        1 => Just(Step::Fence),
    ]
}

/// What may be set while it runs.
const SETTINGS: [(&str, &str); 6] = [
    ("MaxRecvDataSegmentLength", "512"),
    ("MaxRecvDataSegmentLength", "262144"),
    ("InitiatorAlias", "me"),
    ("ImmediateData", "No"),
    ("InitialR2T", "Yes"),
    ("MaxConnections", "4"),
];

/// What a target says in a Text Response.
const TEXTS: [&[u8]; 6] = [
    b"",
    b"MaxRecvDataSegmentLength=512\0",
    b"TargetAlias=a\0",
    b"X-a=1\0",
    b"MaxBurstLength=512\0",
    b"half",
];

struct World {
    peer: Peer,
    open: Vec<(TaskKey, usize)>,
    managing: Vec<ManagementKey>,
    talking: Vec<TextKey>,
    tags: Vec<u32>,
    ended: usize,
}

impl World {
    fn collect(&mut self) {
        let peer = &mut self.peer;
        for pdu in peer.sent() {
            if matches!(
                pdu.opcode(),
                COMMAND | TASK_REQUEST | NOP_OUT | LOGOUT | TEXT
            ) {
                self.tags.push(pdu.itt());
            }
        }
        let mut ended = 0;
        self.open.retain(|(key, bytes)| match peer.done(*key) {
            Some(completion) => {
                assert_eq!(completion.data.len(), *bytes);
                ended += 1;
                false
            }
            None => true,
        });
        self.ended += ended;
        let session = &mut self.peer.session;
        self.managing
            .retain(|key| session.poll_management(*key, Waker::noop()).is_pending());
        self.talking
            .retain(|key| session.poll_text(*key, Waker::noop()).is_pending());
    }

    fn submit(&mut self, command: Command) {
        let bytes = command.data.len();
        let peer = &mut self.peer;
        match peer.session.submit(peer.now, Lun::ZERO, command) {
            Ok(key) => self.open.push((key, bytes)),
            Err(completion) => assert_eq!(completion.data.len(), bytes),
        }
    }

    fn manage(&mut self, which: u8) {
        let peer = &mut self.peer;
        let task = self.open.get(usize::from(which) % 4).map(|(key, _)| *key);
        let function = match (which % 11, task) {
            (0, Some(task)) => ManagementFunction::AbortTask(task),
            (1, Some(task)) => ManagementFunction::QueryTask(task),
            (2, _) => ManagementFunction::ClearAca,
            (3, _) => ManagementFunction::ClearTaskSet,
            (4, _) => ManagementFunction::LogicalUnitReset,
            (5, _) => ManagementFunction::TargetWarmReset,
            (6, _) => ManagementFunction::TargetColdReset,
            (7, _) => ManagementFunction::QueryTaskSet,
            (8, _) => ManagementFunction::ItNexusReset,
            (9, _) => ManagementFunction::QueryAsynchronousEvent,
            _ => ManagementFunction::AbortTaskSet,
        };
        if let Ok(key) = peer.session.manage(peer.now, Lun::ZERO, function) {
            if which > 200 {
                peer.session.forget_management(key);
            } else {
                self.managing.push(key);
            }
        }
    }

    fn reply(&mut self, step: Step) {
        let Step::Reply {
            opcode,
            flags,
            third,
            task,
            words,
            data,
            good,
            damaged,
        } = step
        else {
            return;
        };
        let peer = &mut self.peer;
        let tags = &self.tags;
        let tag = tags.iter().rev().nth(usize::from(task)).copied();
        let [a, b, c, d, e, f, g] = words;
        let mut pdu = Pdu::new(opcode, flags)
            .byte(2, third[0])
            .byte(3, third[1])
            .put(16, tag.unwrap_or(NONE))
            .put(20, if a == 0 { NONE } else { a })
            .put(24, b)
            .put(36, e)
            .put(40, f)
            .put(44, g)
            .with(&if opcode == 0x24 {
                TEXTS[usize::from(data) % TEXTS.len()].to_vec()
            } else {
                pattern(usize::from(data))
            });
        pdu = if good {
            let plain = opcode == 0x31 || (opcode == 0x25 && flags & 1 == 0);
            if plain {
                peer.windowed(pdu)
            } else {
                peer.status(pdu)
            }
        } else {
            pdu.put(28, c).put(32, d)
        };
        if damaged && !pdu.data.is_empty() && peer.has_data_digest() {
            peer.reply_damaged(&pdu);
        } else {
            peer.reply(&[pdu]);
        }
    }

    fn step(&mut self, step: Step) {
        if self.peer.dialling.is_some() {
            self.peer.takes = usize::MAX;
            self.peer.login();
        }
        let peer = &mut self.peer;
        match step {
            Step::Read(blocks) => self.submit(read(usize::from(blocks) * 512)),
            Step::Write(blocks) => self.submit(write(&pattern(usize::from(blocks) * 512))),
            Step::Both(out, into) => {
                let data = DataPhase::Bidirectional(Box::new(scsi::Bidirectional {
                    write: Bytes::from(pattern(usize::from(out) * 512)),
                    read: IoBuf::zeroed(usize::from(into) * 512),
                }));
                self.submit(command(Cdb::test_unit_ready(), data));
            }
            Step::Manage(which) => self.manage(which),
            Step::Set(which) => {
                let (key, value) = SETTINGS[usize::from(which) % SETTINGS.len()];
                if let Some(answer) = peer.keys.iter_mut().find(|it| it.0 == key)
                    && (value == "No" || value == "Yes")
                {
                    // What the next login offers leaves no choice.
                    answer.1 = value.to_owned();
                }
                if let Ok(Applied::Renegotiating(key)) = peer.session.set(peer.now, key, value) {
                    self.talking.push(key);
                }
            }
            Step::Targets => self
                .talking
                .extend(peer.session.ask_targets(peer.now, None)),
            Step::Drop(at) if !self.open.is_empty() => {
                let at = usize::from(at) % self.open.len();
                let (key, _) = self.open.swap_remove(at);
                peer.session.abandon(peer.now, key);
            }
            Step::Drop(_) => {}
            Step::Bytes(bytes) => peer.receive(&bytes),
            reply @ Step::Reply { .. } => self.reply(reply),
            Step::Takes(bytes) => peer.takes = usize::from(bytes),
            Step::Wait(millis) => peer.wait(Duration::from_millis(millis.into())),
            Step::Cut => peer.cut(),
            Step::Fence => {
                let (NexusState::Up(life) | NexusState::Down(life)) = peer.session.state() else {
                    return;
                };
                peer.session.want_fence(peer.now, life);
            }
            Step::Logout => peer.session.logout(peer.now),
        }
        self.peer.act();
        self.collect();
    }
}

fn run(steps: Vec<Step>, answers: Keys, ordered: bool, level: &str, seed: u8) {
    let mut config = config();
    config.offer.set("ErrorRecoveryLevel", level).unwrap();
    config.offer.set("DataDigest", "CRC32C,None").unwrap();
    config.queue_depth = 8;
    if !ordered {
        config.offer.set("DataPDUInOrder", "No").unwrap();
        config.offer.set("DataSequenceInOrder", "No").unwrap();
    }
    config.offer.set("iSCSIProtocolLevel", "2").unwrap();
    let reporting = "FastAbort,ResponseFence,RFC3720";
    config.offer.set("TaskReporting", reporting).unwrap();
    let mut peer = Peer::seeded(config, seed);
    peer.keys = answers;
    peer.login();
    let mut world = World {
        peer,
        open: Vec::new(),
        managing: Vec::new(),
        talking: Vec::new(),
        tags: Vec::new(),
        ended: 0,
    };
    for step in steps {
        world.step(step);
    }
    world.step(Step::Logout);
    world.peer.cut();
    world.peer.wait(Duration::from_secs(100));
    world.collect();
    assert!(world.peer.session.is_closed());
    assert_eq!(world.open.len(), 0, "every command ends");
    assert_eq!(world.managing, [], "every function ends");
    assert_eq!(world.talking, [], "every exchange ends");
    world.peer.assert_clean();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nothing_a_target_sends_breaks_the_session(
        steps in prop::collection::vec(step(), 1..60),
        ordered in any::<bool>(),
        r2t in any::<bool>(),
        immediate in any::<bool>(),
        level in 0_u8..3,
        digest in any::<bool>(),
        seed in prop_oneof![Just(0xff_u8), any::<u8>()],
    ) {
        let yes = |yes| if yes { "Yes" } else { "No" };
        let mut answers = keys(&[
            ("InitialR2T", yes(r2t)),
            ("ImmediateData", yes(immediate)),
            ("DataPDUInOrder", yes(ordered)),
            ("DataSequenceInOrder", yes(ordered)),
            ("MaxRecvDataSegmentLength", "512"),
            ("FirstBurstLength", "4096"),
            ("MaxOutstandingR2T", if ordered && level > 0 { "1" } else { "4" }),
            ("ErrorRecoveryLevel", ["0", "1", "1"][usize::from(level)]),
            ("DataDigest", if digest { "CRC32C" } else { "None" }),
        ]);
        answers.push(("iSCSIProtocolLevel", "2".to_owned()));
        answers.push(("TaskReporting", if r2t { "FastAbort" } else { "RFC3720" }.to_owned()));
        let level = ["0", "1", "1"][usize::from(level)];
        run(steps, answers, ordered, level, seed);
    }
}
