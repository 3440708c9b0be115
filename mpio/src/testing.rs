//! A clock, an executor and a disk for tests: deterministic, no runtime, no real time.

#![cfg_attr(fuzzing, allow(dead_code))]
#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

pub(crate) mod alua;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use scsi::{
    Bytes, Certainty, Command, Completion, DataPhase, DeliveryError, DeliveryErrorKind, FenceError,
    Incarnation, MediaAccess, Nexus, NexusState, Outcome, PingError, ResetError, Residual,
    ScsiAnswer, Status,
};

use crate::clock::Clock;
use crate::signal::{Signal, lock};

/// Where test time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "only as an origin; never read again"
)]
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// `ms` milliseconds of test time.
pub(crate) fn at(ms: u64) -> Instant {
    epoch() + Duration::from_millis(ms)
}

/// Time that moves only when nothing else can.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestClock(Arc<Mutex<Timers>>);

#[derive(Debug, Default)]
struct Timers {
    now: Duration,
    next: u64,
    list: Vec<(Duration, u64, Waker)>,
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        epoch() + lock(&self.0).now
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        Sleep {
            clock: self.clone(),
            until: at.saturating_duration_since(epoch()),
            id: None,
        }
    }
}

impl TestClock {
    /// Moves to the next timer; `false` when there is none.
    fn advance(&self) -> bool {
        let due = {
            let mut timers = lock(&self.0);
            let Some(next) = timers.list.iter().map(|timer| timer.0).min() else {
                return false;
            };
            timers.now = timers.now.max(next);
            let now = timers.now;
            let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut timers.list)
                .into_iter()
                .partition(|timer| timer.0 <= now);
            timers.list = rest;
            due
        };
        for (_, _, waker) in due {
            waker.wake();
        }
        true
    }
}

struct Sleep {
    clock: TestClock,
    until: Duration,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut timers = lock(&clock.0);
        if timers.now >= self.until {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert(timers.next);
        timers.next += 1;
        timers.list.retain(|timer| timer.1 != id);
        timers.list.push((self.until, id, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.clock.0).list.retain(|timer| timer.1 != id);
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs futures in a fixed order; when all wait, time moves on.
#[derive(Clone, Default)]
pub(crate) struct Executor {
    pub(crate) clock: TestClock,
    spawned: Arc<Mutex<Vec<Task>>>,
}

impl Executor {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Starts a future with the next `run`.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.spawned).push(Box::pin(task));
    }

    /// Runs until `main` ends.
    pub(crate) fn run<T: Send>(&self, main: impl Future<Output = T> + Send) -> T {
        let mut main = std::pin::pin!(main);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let mut tasks: Vec<(Task, Arc<Flag>)> = Vec::new();
        let mut steps = 0_u64;
        loop {
            steps += 1;
            assert!(steps < 5_000_000, "it never ends");
            let mut idle = true;
            for task in lock(&self.spawned).drain(..) {
                tasks.push((task, Arc::new(Flag(AtomicBool::new(true)))));
            }
            if flag.0.swap(false, Ordering::SeqCst) {
                idle = false;
                let waker = Waker::from(Arc::clone(&flag));
                if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    lock(&self.spawned).extend(tasks.into_iter().map(|(task, _)| task));
                    return value;
                }
            }
            tasks.retain_mut(|(task, flag)| {
                if !flag.0.swap(false, Ordering::SeqCst) {
                    return true;
                }
                idle = false;
                let waker = Waker::from(Arc::clone(flag));
                task.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            });
            if idle && lock(&self.spawned).is_empty() {
                assert!(self.clock.advance(), "everything waits, for nothing");
            }
        }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        let until = self.clock.now() + time;
        self.clock.sleep_until(until).await;
    }
}

/// What becomes of the next command that reads or writes blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// Carried out.
    Good,
    /// Never reaches the target.
    NotSent(DeliveryErrorKind),
    /// No answer; the target may execute it so much later, if it is not fenced before.
    Lost {
        /// What the transport says.
        kind: DeliveryErrorKind,
        /// When the target executes it.
        executed_after: Option<Duration>,
        /// The session goes with it.
        down: bool,
    },
    /// Ended by the target without a status.
    Answered(DeliveryErrorKind),
    /// A status without sense.
    Status(Status),
    /// CHECK CONDITION.
    Sense(u8, u8, u8),
    /// CHECK CONDITION with a deferred medium error.
    Deferred,
    /// Carried out, with RECOVERED ERROR.
    Remark,
    /// GOOD after this.
    Slow(Duration),
}

/// A write executed by the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Executed {
    /// First block.
    pub(crate) lba: u64,
    /// First byte of its data.
    pub(crate) tag: u8,
    /// Executed later than its answer, or after it was lost.
    pub(crate) late: bool,
}

struct Ghost {
    path: usize,
    incarnation: Incarnation,
    due: Instant,
    lba: u64,
    data: Vec<u8>,
    /// Its future was dropped, nothing else.
    dropped: bool,
}

/// A disk behind all paths.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) blocks: BTreeMap<u64, u8>,
    pub(crate) log: Vec<Executed>,
    /// Target port groups, if it has any.
    pub(crate) groups: Option<alua::Groups>,
    ghosts: Vec<Ghost>,
}

/// Size of the test disk, in blocks of 512 bytes.
pub(crate) const DISK_BLOCKS: u64 = 4096;

impl Disk {
    fn write(&mut self, lba: u64, data: &[u8], late: bool) {
        let tag = data.first().copied().unwrap_or(0);
        self.log.push(Executed { lba, tag, late });
        for (index, block) in data.chunks(512).enumerate() {
            self.blocks.insert(lba + index as u64, block[0]);
        }
    }

    /// What is left behind is executed then.
    fn hurry(&mut self, due: Instant) {
        for ghost in &mut self.ghosts {
            ghost.due = due;
        }
    }

    /// Executes what is due.
    pub(crate) fn haunt(&mut self, now: Instant) {
        let (mut due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ghosts)
            .into_iter()
            .partition(|ghost| ghost.due <= now);
        self.ghosts = rest;
        due.sort_by_key(|ghost| ghost.due);
        for ghost in due {
            self.write(ghost.lba, &ghost.data, true);
        }
    }

    /// Every task of every nexus is over.
    fn exorcise_all(&mut self) {
        self.ghosts.clear();
    }

    fn exorcise(&mut self, path: usize, incarnation: Incarnation) {
        self.ghosts
            .retain(|ghost| ghost.path != path || ghost.incarnation > incarnation);
    }
}

/// One path to the disk.
#[derive(Clone)]
pub(crate) struct FakeNexus(pub(crate) Arc<Fake>);

pub(crate) struct Fake {
    index: usize,
    clock: TestClock,
    pub(crate) disk: Arc<Mutex<Disk>>,
    pub(crate) inner: Mutex<Inner>,
    changed: Signal,
}

pub(crate) struct Inner {
    pub(crate) state: NexusState,
    lives: u64,
    pub(crate) script: VecDeque<Fate>,
    /// What TEST UNIT READY meets with; `Good` when empty.
    pub(crate) probe_script: VecDeque<Fate>,
    /// NAA identifier, last byte.
    pub(crate) naa: u8,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u32,
    pub(crate) write_protected: bool,
    /// WCE of the caching page.
    pub(crate) write_cache: bool,
    /// Logins are refused: the target is not there.
    pub(crate) gone: bool,
    /// INQUIRY says that there is no unit behind the LUN.
    pub(crate) unmapped: bool,
    /// No designator and no serial number.
    pub(crate) anonymous: bool,
    pub(crate) latency: Duration,
    /// What `fence` does; `None`: it stands after 5 ms, and the session is up again.
    pub(crate) fence_error: Option<FenceError>,
    /// The fence stands, but the session is not usable again.
    pub(crate) fence_leaves_down: bool,
    pub(crate) fences: Vec<Incarnation>,
    pub(crate) settles: u32,
    /// Resets of the logical unit carried out through this path.
    pub(crate) resets: u32,
    /// What a reset of the logical unit meets with.
    pub(crate) reset_error: Option<ResetError>,
    /// What the target left behind is executed so long after it has said that it was over.
    pub(crate) lies_for: Duration,
    pub(crate) max_transfer: usize,
    /// Operation codes and path lives of the commands that came, probes included.
    pub(crate) seen: Vec<u8>,
    /// Data commands under way.
    pub(crate) underway: u32,
    /// Target port group of the path's port.
    pub(crate) group: Option<u16>,
    /// Pending unit attentions.
    pub(crate) attentions: VecDeque<(u8, u8, u8)>,
    /// What a ping meets with.
    pub(crate) ping: Result<(), PingError>,
    /// Pings that came.
    pub(crate) pings: u32,
    /// PERSISTENT RESERVE is known: READ KEYS tells these, and nothing is reserved.
    pub(crate) keys: Option<Vec<u64>>,
    /// PERSISTENT RESERVE OUT other than a registration gets no answer.
    pub(crate) reserve_lost: bool,
}

impl FakeNexus {
    pub(crate) fn new(index: usize, clock: &TestClock, disk: &Arc<Mutex<Disk>>) -> Self {
        Self(Arc::new(Fake {
            index,
            clock: clock.clone(),
            disk: Arc::clone(disk),
            inner: Mutex::new(Inner {
                state: NexusState::Up(Incarnation(1)),
                lives: 1,
                script: VecDeque::new(),
                probe_script: VecDeque::new(),
                naa: 1,
                blocks: DISK_BLOCKS,
                block_bytes: 512,
                write_protected: false,
                write_cache: false,
                gone: false,
                unmapped: false,
                anonymous: false,
                latency: Duration::from_millis(1),
                fence_error: None,
                fence_leaves_down: false,
                fences: Vec::new(),
                settles: 0,
                resets: 0,
                reset_error: None,
                lies_for: Duration::ZERO,
                max_transfer: 1 << 20,
                seen: Vec::new(),
                underway: 0,
                group: None,
                attentions: VecDeque::new(),
                ping: Ok(()),
                pings: 0,
                keys: None,
                reserve_lost: false,
            }),
            changed: Signal::default(),
        }))
    }

    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut lock(&self.0.inner))
    }

    /// The session goes.
    pub(crate) fn cut(&self) {
        self.set(|inner| inner.state = NexusState::Down(Incarnation(inner.lives)));
        self.0.changed.raise();
    }

    /// It comes back.
    pub(crate) fn log_in(&self) {
        self.set(|inner| {
            inner.lives += 1;
            inner.state = NexusState::Up(Incarnation(inner.lives));
        });
        self.0.changed.raise();
    }

    /// It comes back, and the login ends what the old session left behind.
    pub(crate) fn reinstate(&self) {
        {
            let mut disk = lock(&self.0.disk);
            disk.haunt(self.0.clock.now());
            disk.exorcise(self.0.index, Incarnation(u64::MAX));
        }
        self.log_in();
    }

    /// It is closed for good.
    pub(crate) fn end(&self) {
        self.set(|inner| inner.state = NexusState::Closed);
        self.0.changed.raise();
    }

    fn probe_answer(&self, cdb: &[u8], buf: &mut [u8]) -> Outcome {
        let tpgs = lock(&self.0.disk).groups.as_ref().map_or(0, |it| it.tpgs);
        let inner = lock(&self.0.inner);
        let mut page = |bytes: &[u8]| {
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            Outcome::Answered(ScsiAnswer::good(len))
        };
        match cdb[0] {
            0x12 if cdb[1] & 1 == 0 => {
                let mut data = vec![0, 0, 5, 2, 31, tpgs << 4, 0, 0];
                if inner.unmapped {
                    data[0] = 0x7f;
                }
                data.extend_from_slice(b"VENDOR  PRODUCT         0001");
                page(&data)
            }
            0x12 if inner.anonymous => Outcome::Answered(sense(5, 0x24, 0)),
            0x12 if cdb[2] == 0 => page(&[0, 0, 0, 3, 0, 0x80, 0x83]),
            0x12 if cdb[2] == 0x80 => page(&[0, 0x80, 0, 2, b'S', b'1']),
            0x12 if cdb[2] == 0x83 => {
                let ports = alua::designators(&inner);
                let len = 20 + ports.len() as u8;
                let mut data = vec![0, 0x83, 0, len, 1, 3, 0, 16, 0x60];
                data.extend_from_slice(&[0; 14]);
                data.push(inner.naa);
                data.extend_from_slice(&ports);
                page(&data)
            }
            0x9e => {
                let mut data = (inner.blocks - 1).to_be_bytes().to_vec();
                data.extend_from_slice(&inner.block_bytes.to_be_bytes());
                data.resize(32, 0);
                page(&data)
            }
            0x1a => {
                let mut data = vec![0; 24];
                (data[0], data[4], data[5]) = (23, 0x08, 18);
                data[2] = if inner.write_protected { 0x80 } else { 0 };
                data[6] = if inner.write_cache { 0x04 } else { 0 };
                page(&data)
            }
            _ => Outcome::Answered(sense(5, 0x20, 0)),
        }
    }

    /// PERSISTENT RESERVE, if it is known.
    fn reserve(&self, command: &mut Command) -> Option<Outcome> {
        let (opcode, action) = (command.cdb.as_slice()[0], command.cdb.as_slice()[1] & 0x1f);
        let mut inner = lock(&self.0.inner);
        let lost = inner.reserve_lost;
        let keys = inner.keys.as_mut()?;
        match (opcode, action, &mut command.data) {
            (0x5e, _, DataPhase::Read(buf)) => {
                let listed: Vec<u8> = match action {
                    0 => keys.iter().flat_map(|key| key.to_be_bytes()).collect(),
                    _ => Vec::new(),
                };
                let mut data = vec![0; 4];
                data.extend_from_slice(&(listed.len() as u32).to_be_bytes());
                data.extend_from_slice(&listed);
                buf.as_mut_slice()[..data.len()].copy_from_slice(&data);
                Some(Outcome::Answered(ScsiAnswer::good(data.len())))
            }
            (0x5f, 0x06, DataPhase::Write(parameters)) => {
                let key = u64::from_be_bytes(parameters[8..16].try_into().unwrap());
                keys.push(key);
                Some(Outcome::Answered(ScsiAnswer::good(parameters.len())))
            }
            (0x5f, _, _) if lost => {
                Some(failed(DeliveryErrorKind::TimedOut, Certainty::SentNoAnswer))
            }
            (0x5f, ..) => Some(Outcome::Answered(ScsiAnswer::good(command.data.len()))),
            _ => None,
        }
    }

    /// Carries out a data command.
    fn perform(&self, command: &mut Command) -> Outcome {
        let mut disk = lock(&self.0.disk);
        disk.haunt(self.0.clock.now());
        let len = command.data.len();
        match (command.cdb.media_access(), &mut command.data) {
            (MediaAccess::Read(range), DataPhase::Read(buf)) => {
                for (index, block) in buf.as_mut_slice().chunks_mut(512).enumerate() {
                    let lba = range.first.0 + index as u64;
                    block.fill(disk.blocks.get(&lba).copied().unwrap_or(0));
                }
            }
            (MediaAccess::Write(range), DataPhase::Write(bytes)) => {
                disk.write(range.first.0, bytes, false);
            }
            _ => {}
        }
        Outcome::Answered(ScsiAnswer::good(len))
    }

    fn lose(&self, command: &Command, after: Option<Duration>, life: Incarnation) {
        let (MediaAccess::Write(range), DataPhase::Write(bytes), Some(after)) =
            (command.cdb.media_access(), &command.data, after)
        else {
            return;
        };
        lock(&self.0.disk).ghosts.push(Ghost {
            path: self.0.index,
            incarnation: life,
            due: self.0.clock.now() + after,
            lba: range.first.0,
            data: bytes.to_vec(),
            dropped: false,
        });
    }

    async fn meet(&self, fate: Fate, command: &mut Command, life: Incarnation) -> Outcome {
        let clock = self.0.clock.clone();
        let latency = self.set(|inner| inner.latency);
        let after = |time: Duration| clock.sleep_until(clock.now() + time);
        match fate {
            Fate::Good | Fate::Slow(_) => {
                let time = match fate {
                    Fate::Slow(time) => time,
                    _ => latency,
                };
                after(time).await;
                if self.state() != NexusState::Up(life) {
                    return failed(DeliveryErrorKind::ConnectionLost, Certainty::SentNoAnswer);
                }
                self.perform(command)
            }
            Fate::NotSent(kind) => failed(kind, Certainty::NotSent),
            Fate::Answered(kind) => {
                after(latency).await;
                failed(kind, Certainty::Answered)
            }
            Fate::Status(status) => {
                after(latency).await;
                Outcome::Answered(ScsiAnswer {
                    status,
                    ..ScsiAnswer::good(0)
                })
            }
            Fate::Sense(key, asc, ascq) => {
                after(latency).await;
                Outcome::Answered(sense(key, asc, ascq))
            }
            Fate::Remark => {
                after(latency).await;
                let done = self.perform(command);
                let mut answer = sense(1, 0x17, 1);
                if let Outcome::Answered(done) = done {
                    answer.transferred = done.transferred;
                }
                Outcome::Answered(answer)
            }
            Fate::Deferred => {
                after(latency).await;
                let mut answer = sense(3, 0x0c, 0);
                answer.sense[0] = 0x71;
                Outcome::Answered(answer)
            }
            Fate::Lost {
                kind,
                executed_after,
                down,
            } => {
                after(latency).await;
                self.lose(command, executed_after, life);
                if down && self.set(|inner| inner.state == NexusState::Up(life)) {
                    self.cut();
                }
                failed(kind, Certainty::SentNoAnswer)
            }
        }
    }
}

fn failed(kind: DeliveryErrorKind, certainty: Certainty) -> Outcome {
    Outcome::Failed(DeliveryError { kind, certainty })
}

/// CHECK CONDITION with fixed-format sense data.
pub(crate) fn sense(key: u8, asc: u8, ascq: u8) -> ScsiAnswer {
    let mut bytes = [0; 18];
    (bytes[0], bytes[2], bytes[7]) = (0x70, key, 10);
    (bytes[12], bytes[13]) = (asc, ascq);
    ScsiAnswer {
        status: Status::CHECK_CONDITION,
        sense: bytes.into(),
        residual: Residual::None,
        transferred: 0,
        read_part: None,
        qualifier: 0,
    }
}

/// Marks a command as under way. A write that is dropped while it is may be executed 7 s later.
struct Busy<'a> {
    fake: &'a Fake,
    write: Option<(u64, Bytes, Incarnation)>,
}

impl<'a> Busy<'a> {
    fn new(fake: &'a Fake, command: &Command, life: Incarnation) -> Self {
        lock(&fake.inner).underway += 1;
        let write = match (command.cdb.media_access(), &command.data) {
            (MediaAccess::Write(range), DataPhase::Write(data)) => {
                Some((range.first.0, data.clone(), life))
            }
            _ => None,
        };
        Self { fake, write }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.fake.inner).underway -= 1;
        if let Some((lba, data, incarnation)) = self.write.take() {
            lock(&self.fake.disk).ghosts.push(Ghost {
                path: self.fake.index,
                incarnation,
                due: self.fake.clock.now() + Duration::from_secs(7),
                lba,
                data: data.to_vec(),
                dropped: true,
            });
        }
    }
}

impl Nexus for FakeNexus {
    async fn execute(&self, mut command: Command) -> Completion {
        let started = self.0.clock.now();
        let opcode = command.cdb.operation_code();
        let is_data = !matches!(command.cdb.media_access(), MediaAccess::None);
        let (state, fate) = self.set(|inner| {
            inner.seen.push(opcode);
            let fate = match (is_data, opcode) {
                (true, _) => inner.script.pop_front(),
                (false, 0) => inner.probe_script.pop_front(),
                _ => None,
            };
            (inner.state, fate.unwrap_or(Fate::Good))
        });
        let life = match state {
            NexusState::Up(life) | NexusState::Down(life) => life,
            _ => Incarnation(0),
        };
        let carried =
            state == NexusState::Up(life) && command.only_in.is_none_or(|wanted| wanted == life);
        let outcome = if !carried {
            failed(DeliveryErrorKind::Down, Certainty::NotSent)
        } else if let Some(outcome) = alua::meet(&self.0, &mut command) {
            let latency = self.set(|inner| inner.latency);
            let clock = &self.0.clock;
            clock.sleep_until(clock.now() + latency).await;
            outcome
        } else if is_data || opcode == 0 {
            let mut busy = Busy::new(&self.0, &command, life);
            let outcome = self.meet(fate, &mut command, life).await;
            busy.write = None;
            outcome
        } else if let Some(outcome) = self.reserve(&mut command) {
            outcome
        } else {
            let cdb = command.cdb.as_slice().to_vec();
            let mut buf = vec![0; command.data.len()];
            let outcome = self.probe_answer(&cdb, &mut buf);
            if let DataPhase::Read(data) = &mut command.data {
                data.as_mut_slice().copy_from_slice(&buf);
            }
            outcome
        };
        Completion {
            outcome,
            data: command.data,
            incarnation: life,
            took: self.0.clock.now() - started,
        }
    }

    async fn fence(&self, incarnation: Incarnation, budget: Duration) -> Result<(), FenceError> {
        let error = self.set(|inner| {
            inner.fences.push(incarnation);
            inner.fence_error
        });
        let clock = &self.0.clock;
        if let Some(error) = error {
            clock.sleep_until(clock.now() + budget).await;
            return Err(error);
        }
        clock
            .sleep_until(clock.now() + Duration::from_millis(5))
            .await;
        let mut disk = lock(&self.0.disk);
        disk.haunt(clock.now());
        match self.set(|inner| inner.lies_for) {
            Duration::ZERO => disk.exorcise(self.0.index, incarnation),
            time => disk.hurry(clock.now() + time),
        }
        drop(disk);
        let over = self.set(|inner| inner.lives > incarnation.0 || inner.fence_leaves_down);
        if !over {
            self.cut();
            self.log_in();
        }
        Ok(())
    }

    async fn settle(&self, incarnation: Incarnation, _: Duration) -> Result<(), FenceError> {
        self.set(|inner| inner.settles += 1);
        let clock = &self.0.clock;
        clock
            .sleep_until(clock.now() + Duration::from_millis(5))
            .await;
        let mut disk = lock(&self.0.disk);
        disk.haunt(clock.now());
        let index = self.0.index;
        disk.ghosts.retain(|ghost| {
            !ghost.dropped || ghost.path != index || ghost.incarnation > incarnation
        });
        Ok(())
    }

    fn state(&self) -> NexusState {
        self.set(|inner| inner.state)
    }

    async fn changed(&self, seen: NexusState) -> NexusState {
        loop {
            let version = self.0.changed.version();
            let state = self.state();
            // A closed nexus does not change any more; some say so at once, again and again.
            if state != seen || state == NexusState::Closed {
                return state;
            }
            self.0.changed.after(version).await;
        }
    }

    async fn reset_logical_unit(
        &self,
        incarnation: Incarnation,
        _: Duration,
    ) -> Result<(), ResetError> {
        if self.state() != NexusState::Up(incarnation) {
            return Err(ResetError::Down);
        }
        if let Some(error) = self.set(|inner| inner.reset_error) {
            return Err(error);
        }
        let clock = &self.0.clock;
        clock
            .sleep_until(clock.now() + Duration::from_millis(5))
            .await;
        let mut disk = lock(&self.0.disk);
        disk.haunt(clock.now());
        disk.exorcise_all();
        self.set(|inner| inner.resets += 1);
        Ok(())
    }

    async fn ping(&self, incarnation: Incarnation, budget: Duration) -> Result<(), PingError> {
        let clock = &self.0.clock;
        let result = self.set(|inner| {
            inner.pings += 1;
            inner.ping
        });
        let wait = match result {
            Err(PingError::NoAnswer) => budget,
            _ => Duration::from_millis(1),
        };
        clock.sleep_until(clock.now() + wait).await;
        match self.state() == NexusState::Up(incarnation) {
            true => result,
            false => Err(PingError::Down),
        }
    }

    fn is_gone(&self) -> bool {
        self.set(|inner| inner.gone)
    }

    fn max_transfer_bytes(&self) -> usize {
        self.set(|inner| inner.max_transfer)
    }

    fn queue_depth(&self) -> usize {
        32
    }

    fn describe(&self) -> String {
        format!("fake {}", self.0.index)
    }
}
