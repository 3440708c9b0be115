//! One run: everything put together, and time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use iscsi::name::{IscsiName, Isid, Portal};
use iscsi::session::{Session, SessionConfig};
use iscsi::text::Offer;
use mpio::{Clock as _, IoErrorKind, LogicalUnit, Maintenance, PathSettings, PathSpec, PathState};
use test_target::{Rule, Target, access_state};

use crate::clock::{SimClock, base};
use crate::deed::Asked;
use crate::executor::Executor;
use crate::fault;
use crate::lock;
use crate::net::Net;
use crate::nexus::{Setting, Shared, SimNexus};
use crate::oracle::{Oracle, Tally};
use crate::path::Driver;
use crate::scenario::{INITIATOR_NAME, STRANGER_NAME, Sabotage, Scenario, TARGET_NAME, address};
use crate::trace::Trace;
use crate::workload::{Bench, Failed, Unit};

/// The unit has to stand this long after the start.
const BOOT: Duration = Duration::from_secs(90);
/// After the last fault, everything has to be in order again this much later.
const RECOVERY: Duration = Duration::from_secs(60);
/// An I/O on a healthy unit takes no longer.
const CALM_IO: Duration = Duration::from_secs(60);
/// Logging out takes no longer.
const LOGOUT: Duration = Duration::from_secs(30);
/// Time for what the target may still have up its sleeve.
const AFTERMATH: Duration = Duration::from_secs(30);
/// Rounds at one moment; more means that something spins.
const ROUNDS_MAX: u32 = 20_000;
/// Timers of one path in one second; more means that something spins.
const TIMERS_MAX: u64 = 3_000;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Hash of everything that happened, in order.
    pub hash: u64,
    /// How many things happened.
    pub events: u64,
    /// Virtual time.
    pub took: Duration,
    /// How I/Os ended.
    pub tally: Tally,
    /// What is wrong; empty when all is well.
    pub problems: Vec<String>,
}

/// One run.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    clock: SimClock,
    executor: Executor,
    net: Net,
    drivers: Vec<Driver>,
    target: Target,
    journal_seen: usize,
    log_seen: usize,
    oracle: Arc<Mutex<Oracle>>,
    trace: Trace,
    /// Next fault of the schedule, counted from `armed`.
    next_fault: usize,
    next_deed: usize,
    asked: Asked,
    armed: Option<Instant>,
    second: Second,
}

/// Timers fired in the current second.
#[derive(Debug)]
struct Second {
    ends: Instant,
    fired: u64,
}

impl World {
    /// Runs a scenario to its end.
    #[must_use]
    pub fn run(scenario: Scenario, print: bool) -> Report {
        let mut world = Self::new(scenario, print);
        world.live();
        world.report()
    }

    fn new(mut scenario: Scenario, print: bool) -> Self {
        if print {
            scenario.target.wire_log = usize::MAX;
        }
        let now = base();
        let clock = SimClock::new(now);
        let lun = &scenario.target.luns[0];
        let oracle = Oracle::new(lun.blocks, lun.block_bytes as usize);
        let net = Net::new(scenario.links.clone(), scenario.seed);
        let mut this = Self {
            clock,
            executor: Executor::default(),
            net,
            drivers: Vec::new(),
            target: Target::new(scenario.target.clone()),
            journal_seen: 0,
            log_seen: 0,
            oracle: Arc::new(Mutex::new(oracle)),
            trace: Trace::new(now, print),
            next_fault: 0,
            next_deed: 0,
            asked: Asked::default(),
            armed: None,
            second: Second {
                ends: now,
                fired: 0,
            },
            scenario,
        };
        let portals: Vec<Portal> = (0..this.scenario.links.len())
            .filter_map(|index| address(index).parse().ok())
            .collect();
        for index in 0..this.scenario.links.len() + this.scenario.strangers {
            this.add_path(now, index, &portals);
        }
        this
    }

    fn add_path(&mut self, now: Instant, index: usize, portals: &[Portal]) {
        let scenario = &self.scenario;
        let session = match session_config(scenario, index, portals) {
            Ok(config) => Session::new(now, config, entropy(scenario, index)),
            Err(problem) => return self.complain(format!("scenario: {problem}")),
        };
        let setting = Setting {
            label: format!("path {index}"),
            depth: usize::from(scenario.queue_depth),
            max_transfer_bytes: scenario.max_transfer_bytes,
            lying_fence: scenario.sabotage == Sabotage::LyingFence,
        };
        let shared = Arc::new(Shared::new(session, self.clock.clone(), setting));
        let (staging, direct) = (scenario.staging_bytes, scenario.direct_bytes);
        let driver = Driver::new(index, shared, portals.to_vec(), staging, direct);
        self.drivers.push(driver);
    }

    fn complain(&mut self, problem: String) {
        let now = self.clock.now();
        self.trace.note(now, format_args!("PROBLEM {problem}"));
        let at = self.trace.time(now).as_secs_f64();
        lock(&self.oracle).complain(format!("at {at:.6} s: {problem}"));
    }

    /// From the first login to the last logout.
    fn live(&mut self) {
        let Some(unit) = self.boot() else { return };
        let bench = Bench {
            unit: unit.clone(),
            clock: self.clock.clone(),
            oracle: Arc::clone(&self.oracle),
            workload: self.scenario.workload.clone(),
        };
        self.work(&bench);
        let now = self.clock.now();
        let links = self.scenario.links.clone();
        fault::heal(
            now,
            &links,
            self.scenario.target.luns[0].blocks,
            &mut self.net,
            &mut self.target,
            &mut self.trace,
        );
        self.run_until(now + RECOVERY, |_| false);
        self.sabotage();
        self.check_recovered(&unit);
        self.read_back(&bench);
        self.close(&unit);
        let end = self.clock.now() + AFTERMATH;
        self.run_until(end, |_| false);
        self.check_end();
    }

    /// Logs in and puts the unit together.
    fn boot(&mut self) -> Option<Unit> {
        type Slot = Arc<Mutex<Option<(Unit, Maintenance)>>>;
        let slot: Slot = Arc::default();
        let result = Arc::clone(&slot);
        let (clock, config) = (self.clock.clone(), self.scenario.mpio.clone());
        let nexuses: Vec<(SimNexus, PathSettings)> = self
            .drivers
            .iter()
            .take(self.scenario.links.len())
            .map(|driver| SimNexus(Arc::clone(driver.shared())))
            .zip(self.scenario.settings.clone())
            .collect();
        let assemble = self.executor.spawn(async move {
            loop {
                let specs = nexuses.iter().map(|(nexus, settings)| PathSpec {
                    nexus: nexus.clone(),
                    portal_group: None,
                    label: String::new(),
                    settings: *settings,
                });
                let made = LogicalUnit::assemble(specs.collect(), config.clone(), clock.clone());
                if let Ok(made) = made.await {
                    *lock(&result) = Some(made);
                    return;
                }
                clock
                    .sleep_until(clock.now() + Duration::from_millis(100))
                    .await;
            }
        });
        let limit = self.clock.now() + BOOT;
        self.run_until(limit, |world| !world.executor.is_running(assemble));
        let made = lock(&slot).take();
        let Some((unit, maintenance)) = made else {
            self.complain("the unit could not be put together".to_owned());
            return None;
        };
        self.executor.spawn(maintenance);
        Some(unit)
    }

    /// Clients and faults.
    fn work(&mut self, bench: &Bench) {
        let now = self.clock.now();
        self.armed = Some(now);
        let until = now + self.scenario.run_for;
        for client in 0..self.scenario.workload.clients {
            let rng = Rng::with_seed(self.scenario.seed.rotate_left(7) ^ client as u64);
            self.executor.spawn(bench.clone().client(rng, until));
        }
        self.run_until(until, |_| false);
        self.armed = None;
    }

    fn check_recovered(&mut self, unit: &Unit) {
        let open = lock(&self.oracle).open();
        if open > 0 {
            self.complain(format!("{open} I/Os are pending long after the last fault"));
        }
        if !self.asked.is_idle() {
            let waiting = self.asked.waiting();
            self.complain(format!("{waiting} requests to sessions never end"));
        }
        let topology = unit.topology();
        if topology.held_ranges > 0 {
            let held = topology.held_ranges;
            // A write that was dropped and settled itself is let go when somebody asks.
            self.trace.note(
                self.clock.now(),
                format_args!("{held} ranges are still held"),
            );
        }
        for path in topology.paths {
            // Unless the target itself gives no access through it, because somebody opened another.
            let closed = path.access.is_some_and(|access| {
                let state = self.target.access_state(0, access.group);
                matches!(state, Some(access_state::STANDBY))
            });
            if path.state == PathState::Standby && closed {
                continue;
            }
            if path.state != PathState::Active {
                self.complain(format!(
                    "path {} is {} long after the last fault",
                    path.id, path.state
                ));
            }
        }
    }

    /// Everything works again, and is as it should be.
    fn read_back(&mut self, bench: &Bench) {
        let bench = bench.clone();
        let paths = self.drivers.len() as u64;
        let failed: Arc<Mutex<Vec<String>>> = Arc::default();
        let result = Arc::clone(&failed);
        let task = self.executor.spawn(async move {
            let blocks = lock(&bench.oracle).blocks();
            // No longer than what clients do: a slow way may need too long for more.
            let step = bench.workload.blocks_max.clamp(1, blocks);
            let pieces = || {
                (0..blocks)
                    .step_by(step as usize)
                    .map(|lba| (lba, step.min(blocks - lba)))
            };
            let note = |done: Result<(), Failed>, what| {
                if let Err(failed) = done {
                    lock(&result).push(format!("{what}: {failed:?}"));
                }
            };
            // Tells what restarts may have cost; afterwards there were none.
            if let Err(Failed::Error(error)) = bench.flush(None).await
                && error.kind != IoErrorKind::CacheLost
            {
                note(Err(Failed::Error(error)), "the first flush");
            }
            for (lba, blocks) in pieces() {
                note(bench.read(lba, blocks, None).await, "reading everything");
            }
            for turn in 0..4 * paths {
                let lba = turn * 7 % blocks;
                note(bench.write(lba, 1, false, None).await, "a write");
                note(bench.read(lba, 1, None).await, "a read");
            }
            // Also where dropped writes are held.
            for (lba, blocks) in pieces() {
                note(
                    bench.write(lba, blocks, false, None).await,
                    "writing everything",
                );
            }
            note(bench.flush(None).await, "a flush");
            for (lba, blocks) in pieces() {
                note(
                    bench.read(lba, blocks, None).await,
                    "reading everything again",
                );
            }
        });
        let limit = self.clock.now() + CALM_IO;
        self.run_until(limit, |world| !world.executor.is_running(task));
        for what in std::mem::take(&mut *lock(&failed)) {
            self.complain(format!("after recovery, {what}"));
        }
        if self.executor.is_running(task) {
            self.complain("after recovery, I/O does not end".to_owned());
        }
        let blocks = lock(&self.oracle).blocks();
        if let Some(disk) = self.target.disk(0) {
            let data = disk.read(0, blocks as u32);
            lock(&self.oracle).look_at_disk(&data);
        }
    }

    fn close(&mut self, unit: &Unit) {
        let closing = unit.clone();
        let task = self.executor.spawn(async move { closing.close().await });
        let limit = self.clock.now() + CALM_IO;
        self.run_until(limit, |world| !world.executor.is_running(task));
        if self.executor.is_running(task) {
            self.complain("closing the unit does not end".to_owned());
        }
        // Path checks that were under way are being aborted.
        let limit = self.clock.now() + LOGOUT;
        self.run_until(limit, |world| world.busy_slots() == 0);
        let busy = self.busy_slots();
        if busy > 0 {
            let sessions: Vec<_> = self.drivers.iter().map(Driver::shared).collect();
            let sessions = format!("{sessions:?}");
            self.complain(format!("{busy} command slots are never freed: {sessions}"));
        }
        let now = self.clock.now();
        for driver in &self.drivers {
            driver.shared().use_core().session.logout(now);
        }
        self.run_until(now + LOGOUT, |world| world.all_closed());
        if !self.all_closed() {
            self.complain("logging out does not end".to_owned());
        }
    }

    fn busy_slots(&self) -> usize {
        let busy = |driver: &Driver| {
            let free = driver.shared().free_slots();
            driver.shared().core().session.capacity() - free
        };
        self.drivers.iter().map(busy).sum()
    }

    fn all_closed(&self) -> bool {
        let closed = |driver: &Driver| driver.shared().core().session.is_closed();
        self.drivers.iter().all(closed)
    }

    fn check_end(&mut self) {
        let mut problems = Vec::new();
        for driver in &self.drivers {
            problems.append(&mut driver.shared().core().spoiled);
        }
        for violation in self.target.violations() {
            // Where the network changed a byte, the target cannot know who did it. A login that was
            // given up and arrives late tells what was true before the one that took its place.
            let (id, at) = (violation.connection, violation.at);
            let late = violation.rule == Rule::LogoutExpStatSn && self.net.was_left(id, at);
            if !self.net.was_flipped(id) && !late {
                problems.push(format!("the target saw {violation}"));
            }
        }
        for session in self.target.sessions() {
            if !session.connections.is_empty() {
                problems.push(format!(
                    "session {} is still open at the target",
                    session.tsih
                ));
            }
        }
        for problem in problems {
            self.complain(problem);
        }
    }

    /// Breaks something that must be noticed.
    fn sabotage(&mut self) {
        let latest = self.target.journal().last().map(|record| record.lba);
        let (Some(lba), Some(disk)) = (latest, self.target.disk_mut(0)) else {
            return;
        };
        match self.scenario.sabotage {
            Sabotage::None | Sabotage::LyingFence => {}
            Sabotage::FlippedByte => {
                let mut block = disk.read(lba, 1);
                block[100] ^= 0x40;
                disk.write(lba, &block);
            }
            Sabotage::LostWrite => {
                let zeros = vec![0; disk.block_bytes() as usize];
                disk.write(lba, &zeros);
            }
        }
    }

    fn report(self) -> Report {
        let oracle = lock(&self.oracle);
        Report {
            seed: self.scenario.seed,
            hash: self.trace.hash(),
            events: self.trace.events(),
            took: self.trace.time(self.clock.now()),
            tally: oracle.tally,
            problems: oracle.problems().to_vec(),
        }
    }

    /// Lets time pass until `done`, at most until `limit`.
    fn run_until(&mut self, limit: Instant, done: impl Fn(&Self) -> bool) {
        loop {
            self.settle();
            let now = self.clock.now();
            if now >= limit || done(self) {
                return;
            }
            let next = self.next().map_or(limit, |next| next.min(limit));
            // What is overdue was dealt with; time moves in any case.
            let next = next.max(now + Duration::from_nanos(1));
            if next >= self.second.ends {
                self.count_timers(next);
            }
            self.clock.advance(next);
        }
    }

    fn count_timers(&mut self, next: Instant) {
        let sessions: u64 = self.drivers.iter().map(|driver| driver.fired).sum();
        let fired = sessions + self.clock.fired();
        let most = TIMERS_MAX * self.drivers.len() as u64;
        let lately = fired - self.second.fired;
        if lately > most {
            self.complain(format!("{lately} timers fired within a second"));
        }
        self.second = Second {
            ends: next + Duration::from_secs(1),
            fired,
        };
    }

    fn next(&self) -> Option<Instant> {
        let sessions = self.drivers.iter().filter_map(Driver::next).min();
        let fault = self.next_fault_at();
        [
            self.clock.next(),
            self.net.next(),
            self.target.poll_timeout(),
            sessions,
            fault,
            self.next_deed_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn next_deed_at(&self) -> Option<Instant> {
        let (after, ..) = self.scenario.deeds.get(self.next_deed)?;
        Some(self.armed? + *after)
    }

    /// Asks what is to be asked now, and picks up what was answered; whether anything was asked.
    fn do_deeds(&mut self, now: Instant) -> bool {
        let mut asked = false;
        while self.next_deed_at().is_some_and(|at| at <= now) {
            let (_, who, deed) = &self.scenario.deeds[self.next_deed];
            self.next_deed += 1;
            asked = true;
            let mut core = self.drivers[*who].shared().use_core();
            let session = &mut core.session;
            self.asked.begin(now, *who, deed, session, &mut self.trace);
        }
        if !self.asked.is_idle() {
            for (who, driver) in self.drivers.iter().enumerate() {
                let mut core = driver.shared().core();
                let session = &mut core.session;
                self.asked.poll(now, who, session, &mut self.trace);
            }
        }
        asked
    }

    fn next_fault_at(&self) -> Option<Instant> {
        let (after, _) = self.scenario.faults.get(self.next_fault)?;
        Some(self.armed? + *after)
    }

    /// Does everything that can be done at this moment.
    fn settle(&mut self) {
        let now = self.clock.now();
        for round in 0.. {
            let mut moved = self.executor.run(1_000) > 0;
            for driver in &mut self.drivers {
                moved |= driver.drive(now, &mut self.net, &mut self.trace);
            }
            if self.target.poll_timeout().is_some_and(|due| due <= now) {
                self.target.handle_timeout(now);
                moved = true;
            }
            moved |= self.net.step(now, &mut self.target, &mut self.trace);
            self.read_journal(now);
            self.print_pdus(now);
            while self.next_fault_at().is_some_and(|at| at <= now) {
                let (_, fault) = &self.scenario.faults[self.next_fault];
                fault::apply(fault, now, &mut self.net, &mut self.target, &mut self.trace);
                self.next_fault += 1;
                moved = true;
            }
            moved |= self.do_deeds(now);
            if !moved {
                return;
            }
            assert!(round < ROUNDS_MAX, "something spins without time passing");
        }
    }

    /// Shows what the target received and sent; only a run that is printed keeps it.
    fn print_pdus(&mut self, now: Instant) {
        let log = self.target.wire_log();
        for record in log.iter().skip(self.log_seen) {
            self.trace.show(now, format_args!("pdu {record}"));
        }
        self.log_seen = log.len();
    }

    /// Tells the oracle what the target executed.
    fn read_journal(&mut self, now: Instant) {
        let journal = self.target.journal();
        for record in journal.iter().skip(self.journal_seen) {
            let (lba, blocks, late) = (record.lba, record.blocks, record.late);
            self.trace
                .note(now, format_args!("executed {lba}+{blocks} late {late}"));
            lock(&self.oracle).executed(lba, blocks, record.data_hash, late);
        }
        self.journal_seen = journal.len();
    }
}

/// Randomness of a session; the first sequence numbers may be about to wrap.
fn entropy(scenario: &Scenario, index: usize) -> iscsi::session::Entropy {
    let mut rng = Rng::with_seed(scenario.seed ^ 0xe417 ^ index as u64);
    let mut first = scenario.near_wrap;
    Box::new(move |bytes: &mut [u8]| {
        rng.fill(bytes);
        if std::mem::take(&mut first) {
            // Tag generation and CmdSN, big-endian: 0xffff_ffxx.
            let close = [0xff, 0xfe, 0xff, 0xff, 0xff];
            for (byte, high) in bytes.iter_mut().zip(close) {
                *byte = high;
            }
        }
    })
}

fn session_config(
    scenario: &Scenario,
    index: usize,
    portals: &[Portal],
) -> anyhow::Result<SessionConfig> {
    let ours = index < portals.len();
    let name = if ours { INITIATOR_NAME } else { STRANGER_NAME };
    let initiator: IscsiName = name.parse()?;
    let target: IscsiName = TARGET_NAME.parse()?;
    let isid = Isid::random(0x5eed, u16::try_from(index)?);
    // The second initiator's sessions go where the first ones of ours do.
    let index = index % portals.len();
    let home = &scenario.target.portals[index];
    let mut config = SessionConfig::new(initiator, target, portals[index].clone(), isid);
    let others = scenario.target.portals.iter().zip(portals).enumerate();
    config.group_portals = others
        .filter(|(other, (portal, _))| *other != index && portal.group == home.group)
        .map(|(_, (_, portal))| portal.clone())
        .collect();
    config.auth = scenario.auth.clone();
    let mut offer = Offer::default();
    for (key, value) in &scenario.offer {
        offer.set(key, value)?;
    }
    config.offer = offer;
    // As many as both sides allow.
    config.connections = None;
    config.queue_depth = scenario.queue_depth;
    config.keepalive = scenario.keepalive;
    config.timeouts = scenario.timeouts;
    config.backoff = scenario.backoff;
    Ok(config)
}
