//! Looking at what is behind a path.
//!
//! Every command is pinned to one incarnation of the nexus: what was seen in one life proves
//! nothing for the next. A unit attention that says that the unit may have changed starts the
//! look over, so that a profile is never made of two units.

mod check;
mod groups;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scsi::capacity::Capacity;
use scsi::inquiry::{DeviceType, Inquiry, Tpgs};
use scsi::mode::{self, ModeParameters};
use scsi::vpd::{self, SupportedPages, UnitSerialNumber, identification, limits};
use scsi::{
    Blocks, Cdb, Command, DataPhase, Incarnation, IoBuf, Lba, Nexus, Outcome, ParseError,
    RwOptions, ScsiAnswer, Status, TaskAttribute,
};

use crate::alua::TargetPort;
use crate::classify::{Note, Pace, Verdict, classify, is_illegal_request};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::ProbeError;
use crate::identity::{LuIdentity, Profile};
use crate::path::{Path, Report, Trouble};
use crate::signal::lock;
use crate::supervisor::Probed;
use crate::unit::Unit;

/// Looks over one path in one of its lives.
#[derive(Debug)]
pub(crate) struct Probe<'a, N, C> {
    pub(crate) nexus: &'a N,
    pub(crate) clock: &'a C,
    pub(crate) config: &'a Config,
    pub(crate) incarnation: Incarnation,
    /// Where a deferred error goes: the device tells it once, to whoever comes first, and it is
    /// about a write that was acknowledged.
    pub(crate) deferred: Option<&'a Deferred>,
    /// The unit has target port groups; [`Self::profile`] finds out.
    pub(crate) asymmetric: AtomicBool,
    /// What was learnt on the way, for others.
    pub(crate) notes: Mutex<Vec<Note>>,
    /// Told at once when the unit says that it may have become another: a unit attention comes
    /// once, so whoever got it must see to it that nothing is written before the path was looked
    /// at. `None`: who asks is looking already.
    tell: Option<&'a Path<N>>,
}

/// A deferred error that a check has met and nobody has been told.
pub(crate) type Deferred = Mutex<Option<Box<[u8]>>>;

/// Why one command of a look did not do.
enum Stop {
    /// The unit may have become another: start over.
    Over,
    /// This is wrong.
    Wrong(ProbeError),
}

impl From<ProbeError> for Stop {
    fn from(error: ProbeError) -> Self {
        Self::Wrong(error)
    }
}

impl<'a, N, C> Probe<'a, N, C> {
    /// For a path of a unit.
    pub(crate) fn of(unit: &'a Unit<N, C>, path: &'a Path<N>, incarnation: Incarnation) -> Self {
        Self {
            nexus: &path.nexus,
            clock: &unit.clock,
            config: &unit.config,
            incarnation,
            deferred: Some(&unit.deferred),
            asymmetric: AtomicBool::new(unit.access.asymmetric()),
            notes: Mutex::default(),
            tell: Some(path),
        }
    }

    /// For a path that is being verified.
    pub(crate) fn looking(
        unit: &'a Unit<N, C>,
        path: &'a Path<N>,
        incarnation: Incarnation,
    ) -> Self {
        Self {
            tell: None,
            ..Self::of(unit, path, incarnation)
        }
    }

    /// For a path that belongs to no unit (yet).
    pub(crate) fn alone(
        nexus: &'a N,
        clock: &'a C,
        config: &'a Config,
        incarnation: Incarnation,
        asymmetric: bool,
    ) -> Self {
        Self {
            nexus,
            clock,
            config,
            incarnation,
            deferred: None,
            asymmetric: AtomicBool::new(asymmetric),
            notes: Mutex::default(),
            tell: None,
        }
    }

    /// Makes known to the unit what was learnt on the way.
    pub(crate) fn pass_on(&self, unit: &Unit<N, C>, path: &Path<N>)
    where
        N: Nexus,
        C: Clock,
    {
        for note in std::mem::take(&mut *lock(&self.notes)) {
            unit.heard(path, note);
        }
    }
}

impl<N: Nexus, C: Clock> Probe<'_, N, C> {
    /// TEST UNIT READY: does the path answer?
    pub(crate) async fn test_unit_ready(&self) -> Probed {
        let (outcome, _) = self.once(Cdb::test_unit_ready(), 0).await;
        self.probed(&outcome)
    }

    /// READ of the first block: does the path carry data?
    pub(crate) async fn sample(&self, block_bytes: u32) -> Probed {
        let bytes = usize::try_from(block_bytes).unwrap_or(0);
        let cdb = Cdb::read(Lba(0), Blocks(1), RwOptions::default());
        let (outcome, _) = self.once(cdb, bytes).await;
        self.probed(&outcome)
    }

    /// What an answer, or none, says of the path.
    fn probed(&self, outcome: &Outcome) -> Probed {
        let unanswered = matches!(outcome, Outcome::Failed(_));
        match classify(outcome).verdict(self.asymmetric()) {
            Verdict::LookAgain => Probed::Changed,
            Verdict::Leave(Trouble::Unusable) => Probed::Unusable,
            Verdict::Leave(Trouble::NoAccess) => Probed::NoAccess,
            _ if unanswered => Probed::Silent,
            Verdict::Good
            | Verdict::Up
            | Verdict::Again { .. }
            | Verdict::Elsewhere
            | Verdict::Leave(_) => Probed::Answers,
        }
    }

    /// Who is there, and how large.
    pub(crate) async fn profile(&self) -> Result<Profile, ProbeError> {
        for _ in 0..STARTS_OVER {
            match self.look().await {
                Ok(profile) => return Ok(profile),
                Err(Stop::Over) => {}
                Err(Stop::Wrong(error)) => return Err(error),
            }
        }
        Err(ProbeError::Restless)
    }

    fn asymmetric(&self) -> bool {
        self.asymmetric.load(Ordering::Relaxed)
    }

    async fn look(&self) -> Result<Profile, Stop> {
        let data = self.ask("INQUIRY", Cdb::inquiry(255), 255).await?;
        let inquiry = parsed("INQUIRY", Inquiry::parse(data.as_slice()))?;
        if !inquiry.is_present() {
            return Err(ProbeError::NoLogicalUnit.into());
        }
        let asymmetric = inquiry.tpgs != Tpgs::None;
        self.asymmetric.store(asymmetric, Ordering::Relaxed);
        let pages = self.page(vpd::page::SUPPORTED_PAGES, 255).await?;
        let pages = pages.and_then(|data| SupportedPages::parse(data.as_slice()).ok());
        let listed = |page| pages.as_ref().is_none_or(|pages| pages.contains(page));
        let device = self
            .device_identification(listed(vpd::page::DEVICE_IDENTIFICATION))
            .await?;
        let serial = self.serial(listed(vpd::page::UNIT_SERIAL_NUMBER)).await?;
        let identity = LuIdentity::new(&inquiry, &device.designators, serial);
        let mut profile = Profile {
            identity,
            device_type: inquiry.device_type,
            block_bytes: 0,
            blocks: 0,
            physical_block_bytes: 0,
            max_transfer: None,
            optimal_transfer: None,
            read_only: inquiry.device_type == DeviceType::CD_DVD,
            write_cache: false,
            tpgs: inquiry.tpgs,
            port: TargetPort {
                group: device.target_port_group(),
                port: device.relative_target_port(),
            },
            accessible: true,
        };
        if !is_block_device(inquiry.device_type) {
            return Ok(profile);
        }
        let listed = |page| pages.as_ref().is_some_and(|pages| pages.contains(page));
        match self
            .blocks(&mut profile, listed(vpd::page::BLOCK_LIMITS))
            .await
        {
            // Who it is can be seen through every port; the rest when the target gives access.
            Err(Stop::Wrong(ProbeError::NoAccess { .. })) => profile.accessible = false,
            result => result?,
        }
        Ok(profile)
    }

    /// Capacity, limits and write protection.
    async fn blocks(&self, profile: &mut Profile, limits: bool) -> Result<(), Stop> {
        let capacity = self.capacity().await?;
        profile.block_bytes = capacity.block_bytes;
        profile.blocks = capacity.blocks();
        profile.physical_block_bytes = capacity
            .physical_block_bytes()
            .unwrap_or(capacity.block_bytes);
        if limits && let Some(data) = self.page(vpd::page::BLOCK_LIMITS, 64).await? {
            // Limits are advice; a page that makes no sense gives none.
            if let Ok(limits) = limits::BlockLimits::parse(data.as_slice()) {
                profile.max_transfer = limits.max_transfer;
                profile.optimal_transfer = limits.optimal_transfer;
            }
        }
        if let Some(mode) = self.mode().await? {
            profile.read_only |= mode.write_protected();
            profile.write_cache = mode.caching().is_some_and(|it| it.write_cache);
        }
        Ok(())
    }

    async fn device_identification(
        &self,
        listed: bool,
    ) -> Result<identification::DeviceIdentification, Stop> {
        if !listed {
            return Ok(identification::DeviceIdentification::default());
        }
        let Some(data) = self.page(vpd::page::DEVICE_IDENTIFICATION, 1024).await? else {
            return Ok(identification::DeviceIdentification::default());
        };
        let parsed = parsed(
            "INQUIRY (VPD 83h)",
            identification::DeviceIdentification::parse(data.as_slice()),
        )?;
        Ok(parsed)
    }

    async fn serial(&self, listed: bool) -> Result<String, Stop> {
        if !listed {
            return Ok(String::new());
        }
        let data = self.page(vpd::page::UNIT_SERIAL_NUMBER, 255).await?;
        let serial = data.and_then(|data| UnitSerialNumber::parse(data.as_slice()).ok());
        Ok(serial.map_or_else(String::new, |serial| serial.as_str().to_owned()))
    }

    async fn capacity(&self) -> Result<Capacity, Stop> {
        const LONG: &str = "READ CAPACITY (16)";
        const SHORT: &str = "READ CAPACITY (10)";
        let capacity = match self
            .ask_if_known(LONG, Cdb::read_capacity_16(32), 32)
            .await?
        {
            Some(data) => parsed(LONG, Capacity::parse_16(data.as_slice()))?,
            None => {
                let data = self.ask(SHORT, Cdb::read_capacity_10(), 8).await?;
                let short = parsed(SHORT, Capacity::parse_10(data.as_slice()))?;
                // Too large for the short form, yet the long one is refused.
                short.ok_or_else(|| ProbeError::BadCapacity {
                    blocks: u64::from(u32::MAX),
                    block_bytes: 0,
                })?
            }
        };
        let bad = capacity.bytes().is_none() || capacity.block_bytes > BLOCK_BYTES_MAX;
        if bad {
            return Err(Stop::Wrong(ProbeError::BadCapacity {
                blocks: capacity.blocks(),
                block_bytes: capacity.block_bytes,
            }));
        }
        Ok(capacity)
    }

    /// Mode parameters, as far as the device tells them.
    async fn mode(&self) -> Result<Option<ModeParameters>, Stop> {
        let what = scsi::cdb::primary::ModeSense::current(mode::ALL_PAGES);
        let cdb = Cdb::mode_sense_6(what, 255);
        let data = match self.ask_if_known("MODE SENSE (6)", cdb, 255).await {
            // Another host's reservation keeps it from us; the unit must be usable all the same,
            // or nobody could ever preempt that.
            Err(Stop::Wrong(ProbeError::Refused { status, .. }))
                if status == Status::RESERVATION_CONFLICT =>
            {
                None
            }
            answer => answer?,
        };
        Ok(data.and_then(|data| ModeParameters::parse_6(data.as_slice()).ok()))
    }

    /// A VPD page, if the device has it.
    async fn page(&self, page: u8, allocation: u16) -> Result<Option<IoBuf>, Stop> {
        let cdb = Cdb::inquiry_vpd(page, allocation);
        self.ask_if_known("INQUIRY (VPD)", cdb, allocation.into())
            .await
    }

    /// Like [`Self::ask`]; `None` when the device does not know the command.
    async fn ask_if_known(
        &self,
        command: &'static str,
        cdb: Cdb,
        len: usize,
    ) -> Result<Option<IoBuf>, Stop> {
        match self.ask(command, cdb, len).await {
            Ok(data) => Ok(Some(data)),
            Err(Stop::Wrong(ProbeError::Refused { sense, .. })) if is_illegal_request(&sense) => {
                Ok(None)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Sends a command until it is answered for good, at most for the probe timeout.
    async fn ask(&self, command: &'static str, cdb: Cdb, len: usize) -> Result<IoBuf, Stop> {
        let start = self.clock.now();
        let deadline = start
            .checked_add(self.config.probe_timeout)
            .unwrap_or(start);
        for _ in 0..TRIES {
            let (outcome, data) = self.once(cdb.clone(), len).await;
            let row = classify(&outcome);
            let verdict = row.verdict(self.asymmetric());
            let answer = match outcome {
                Outcome::Answered(answer) => answer,
                Outcome::Failed(source) => {
                    return Err(ProbeError::NoAnswer { command, source }.into());
                }
            };
            match verdict {
                Verdict::Good => return Ok(filled(data, &answer)),
                // Not about this command, which was not executed.
                _ if is_deferred(&answer) => {}
                Verdict::LookAgain => return Err(Stop::Over),
                Verdict::Again { pace, .. } if self.clock.now() < deadline => {
                    self.pause(pace, deadline).await;
                }
                Verdict::Leave(Trouble::NoAccess) => {
                    let state = match row.note {
                        Some(Note::Denied(state)) => Some(state),
                        Some(Note::Attention(_) | Note::SetFailed) | None => None,
                    };
                    return Err(ProbeError::NoAccess { state }.into());
                }
                Verdict::Leave(Trouble::Unusable) if is_illegal_request(&answer.sense) => {
                    return Err(ProbeError::NoLogicalUnit.into());
                }
                Verdict::Again { .. } | Verdict::Up | Verdict::Elsewhere | Verdict::Leave(_) => {
                    return Err(refused(command, answer).into());
                }
            }
        }
        Err(ProbeError::Restless.into())
    }

    async fn pause(&self, pace: Pace, deadline: Instant) {
        let pause = match pace {
            Pace::AtOnce => return,
            Pace::Tick => Duration::from_secs(1),
            Pace::BackOff => Duration::from_millis(100),
        };
        let now = self.clock.now();
        let until = now.checked_add(pause).unwrap_or(now).min(deadline);
        self.clock.sleep_until(until).await;
    }

    async fn once(&self, cdb: Cdb, len: usize) -> (Outcome, DataPhase) {
        let data = match len {
            0 => DataPhase::None,
            len => DataPhase::Read(IoBuf::zeroed(len)),
        };
        self.send(cdb, data, self.config.probe_timeout).await
    }

    async fn send(&self, cdb: Cdb, data: DataPhase, timeout: Duration) -> (Outcome, DataPhase) {
        let command = Command {
            cdb,
            data,
            attribute: TaskAttribute::Simple,
            priority: 0,
            timeout,
            only_in: Some(self.incarnation),
        };
        let completion = self.nexus.execute(command).await;
        let row = classify(&completion.outcome);
        if let Some(note) = row.note {
            lock(&self.notes).push(note);
        }
        if row.verdict(self.asymmetric()) == Verdict::LookAgain
            && let Some(path) = self.tell
        {
            path.report(Report {
                incarnation: self.incarnation,
                trouble: Trouble::Changed,
            });
        }
        if let Outcome::Answered(answer) = &completion.outcome
            && is_deferred(answer)
            && let Some(deferred) = self.deferred
        {
            *lock(deferred) = Some(answer.sense.clone());
        }
        (completion.outcome, completion.data)
    }
}

/// Whether an answer is about an earlier write (deferred sense, SPC-4 §4.5.7).
fn is_deferred(answer: &ScsiAnswer) -> bool {
    answer.sense_data().is_some_and(|sense| sense.deferred)
}

fn parsed<T>(command: &'static str, result: Result<T, ParseError>) -> Result<T, ProbeError> {
    result.map_err(|source| ProbeError::Malformed { command, source })
}

fn refused(command: &'static str, answer: ScsiAnswer) -> ProbeError {
    ProbeError::Refused {
        command,
        status: answer.status,
        sense: answer.sense,
    }
}

/// What the device filled of the buffer.
fn filled(data: DataPhase, answer: &ScsiAnswer) -> IoBuf {
    match data {
        DataPhase::Read(mut buf) => {
            buf.truncate(answer.transferred);
            buf
        }
        DataPhase::None | DataPhase::Write(_) | DataPhase::Bidirectional(_) => IoBuf::default(),
    }
}

/// Whether a device type has blocks that READ and WRITE reach (SBC-3, MMC, optical, RBC, ZBC).
pub(crate) fn is_block_device(device_type: DeviceType) -> bool {
    matches!(device_type.0, 0x00 | 0x05 | 0x07 | 0x0e | 0x14)
}

/// Tries of one command.
const TRIES: u32 = 128;
/// Times the whole look starts over.
const STARTS_OVER: u32 = 8;
/// Larger blocks than this do not exist; the number comes from the device.
const BLOCK_BYTES_MAX: u32 = 1 << 20;
