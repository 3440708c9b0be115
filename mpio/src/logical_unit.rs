//! The public face: a logical unit that outlives its paths.

mod blocks;
mod flush;
mod look;
mod open;
mod policy;
mod reservation;
mod size;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use scsi::{Command, DataPhase, Incarnation, Nexus, NexusState, ScsiAnswer};

use crate::access;
use crate::block::{self, Request};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{AssembleError, IoError, ProbeError};
use crate::event::EventReceiver;
use crate::identity::{LuIdentity, Profile};
use crate::path::{MAX_PATHS, Path, PathId, PathSpec, PathState};
use crate::probe::{Probe, is_block_device};
use crate::runtime::Maintenance;
use crate::topology::{Entry, Topology, groups};
use crate::unit::Unit;

/// Size and limits of a logical unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// Bytes per logical block.
    pub block_bytes: u32,
    /// Number of logical blocks.
    pub blocks: u64,
    /// Bytes per physical block.
    pub physical_block_bytes: u32,
    /// Bytes of the I/O the unit likes best, when it says so.
    pub optimal_transfer_bytes: Option<u64>,
    /// Bytes that one command carries on every path; longer I/O is split.
    pub max_transfer_bytes: u64,
    /// Writes are refused.
    pub read_only: bool,
}

impl Geometry {
    /// Capacity in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        // Bounded when the capacity was read; cannot overflow.
        self.blocks.saturating_mul(self.block_bytes as u64)
    }

    fn of(profile: &Profile, max_transfer_bytes: u64, read_only: bool) -> Self {
        let optimal = profile.optimal_transfer.map(u64::from);
        Self {
            block_bytes: profile.block_bytes,
            blocks: profile.blocks,
            physical_block_bytes: profile.physical_block_bytes,
            optimal_transfer_bytes: optimal
                .map(|blocks| blocks.saturating_mul(profile.block_bytes.into())),
            max_transfer_bytes,
            read_only,
        }
    }
}

/// What one path shows of the unit behind it, block device or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Who it is.
    pub identity: LuIdentity,
    /// Peripheral device type (SPC-4 §6.6.2).
    pub device_type: u8,
    /// Size and limits; `None` when it has no blocks.
    pub geometry: Option<Geometry>,
}

/// Looks at the unit behind one path, as [`LogicalUnit::assemble`] does, without making anything
/// of it.
///
/// # Errors
/// [`ProbeError`] when the path is down or the unit does not answer well.
pub async fn describe<N: Nexus, C: Clock>(
    nexus: &N,
    clock: &C,
    config: &Config,
) -> Result<Description, ProbeError> {
    let profile = look_at(nexus, config, clock).await.profile?;
    let max_transfer_bytes = u64::try_from(nexus.max_transfer_bytes()).unwrap_or(u64::MAX);
    let geometry = is_block_device(profile.device_type)
        .then(|| Geometry::of(&profile, max_transfer_bytes, profile.read_only));
    Ok(Description {
        device_type: profile.device_type.0,
        identity: profile.identity,
        geometry,
    })
}

/// A logical unit over one or more paths. Cheap to clone; all clones are one unit.
///
/// Futures of its methods may be dropped at any time. A write that is dropped while under way may
/// or may not be done; its range is held, so that no later write through this unit can be
/// overwritten by it.
pub struct LogicalUnit<N: Nexus, C: Clock> {
    handle: Arc<Handle<N, C>>,
}

/// Ends the unit with the last clone.
struct Handle<N: Nexus, C: Clock> {
    unit: Arc<Unit<N, C>>,
}

impl<N: Nexus, C: Clock> Drop for Handle<N, C> {
    fn drop(&mut self) {
        self.unit.forsake();
        self.unit.events.close();
    }
}

impl<N: Nexus, C: Clock> Clone for LogicalUnit<N, C> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<N: Nexus, C: Clock> fmt::Debug for LogicalUnit<N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogicalUnit")
            .field("identity", &self.handle.unit.profile.identity)
            .finish_non_exhaustive()
    }
}

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Makes one logical unit of paths that lead to it.
    ///
    /// Every path that is up is asked who is behind it. Paths that are down, or do not answer
    /// well, are taken in too and used once they were verified, as long as one path works.
    ///
    /// The [`Maintenance`] must be spawned.
    ///
    /// # Errors
    /// [`AssembleError::Mismatch`] when two paths show different units, or units that cannot be
    /// told from different ones; nothing was written. Others as they say.
    pub async fn assemble(
        paths: Vec<PathSpec<N>>,
        config: Config,
        clock: C,
    ) -> Result<(Self, Maintenance), AssembleError> {
        let paths = number(paths)?;
        let looks = open::look(&paths, &config, &clock).await;
        let profile = common_profile(&paths, &looks)?;
        let now = clock.now();
        let mut verified = Vec::with_capacity(paths.len());
        let mut entries = Vec::with_capacity(paths.len());
        for (path, look) in paths.into_iter().zip(&looks) {
            let state = match (&look.profile, look.life) {
                (Ok(profile), Some(_)) if !profile.accessible => PathState::Standby,
                (Ok(_), Some(_)) => PathState::Active,
                (Err(_), Some(_)) => PathState::Failed,
                (_, None) => PathState::Down,
            };
            let life = look.life.filter(|_| state == PathState::Active);
            if let Some(life) = life {
                path.lives(life, now);
                path.open(life);
            }
            if let Ok(profile) = &look.profile {
                path.set_port(profile.port);
            }
            verified.push(life);
            entries.push(Entry::new(path, state, now));
        }
        let unit = Arc::new(Unit::new(profile, entries, config, clock));
        access::begin(&unit).await;
        let maintenance = Maintenance::new(Arc::clone(&unit), verified);
        let handle = Arc::new(Handle { unit });
        Ok((Self { handle }, maintenance))
    }

    fn unit(&self) -> &Unit<N, C> {
        &self.handle.unit
    }

    /// Size and limits.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let unit = self.unit();
        let max_transfer_bytes = unit.max_transfer_bytes();
        Geometry {
            blocks: unit.blocks(),
            ..Geometry::of(&unit.profile, max_transfer_bytes, unit.read_only())
        }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &LuIdentity {
        &self.unit().profile.identity
    }

    /// Carries out any command. It is sent again only when it certainly was not executed (not
    /// sent, unit attention, busy), and never when its outcome is unknown. The device's last
    /// answer is `Ok` whatever its status.
    ///
    /// [`Command::only_in`] is ignored.
    ///
    /// # Errors
    /// [`IoError`] when the command got no answer.
    pub async fn execute(&self, command: Command) -> (Result<ScsiAnswer, IoError>, DataPhase) {
        let unit = self.unit();
        let _begun = match unit.begin() {
            Ok(begun) => begun,
            Err(error) => return (Err(error), command.data),
        };
        let request = Request::Raw {
            cdb: command.cdb,
            attribute: command.attribute,
            priority: command.priority,
            timeout: command.timeout,
        };
        block::run(unit, request, command.data).await
    }

    /// Paths, states and counters at this moment.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let unit = self.unit();
        let now = unit.clock.now();
        let table = unit.table.load();
        let (failback, in_use) = unit.grouping();
        Topology {
            identity: unit.profile.identity.clone(),
            policy: unit.policy(),
            failback,
            access: unit.access.snapshot(now),
            groups: groups(&table, in_use),
            no_path_retry: unit.queueing.policy(),
            paths: table.entries.iter().map(|e| e.snapshot(now)).collect(),
            held_ranges: unit.holds.count(),
        }
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventReceiver {
        self.unit().events.subscribe()
    }

    /// Adds a path. It carries I/O once it was verified; one that leads elsewhere is kept, unused,
    /// as [`PathState::Mismatched`].
    ///
    /// # Errors
    /// [`AssembleError::TooManyPaths`].
    pub fn add_path(&self, spec: PathSpec<N>) -> Result<PathId, AssembleError> {
        let path = self.unit().add(spec);
        path.ok_or(AssembleError::TooManyPaths {
            given: MAX_PATHS + 1,
            max: MAX_PATHS,
        })
    }

    /// Refuses further I/O, ends what waits for a path or a fence, and waits for what is under
    /// way. Flushes nothing. Lost paths are fenced further while a clone of the unit is left, see
    /// [`Self::settled`].
    pub async fn close(&self) {
        let unit = self.unit();
        unit.start_closing();
        loop {
            let seen = unit.changes.version();
            if unit.is_idle() {
                break;
            }
            unit.changes.after(seen).await;
        }
        unit.events.close();
    }

    /// Waits until no write through this unit can still be executed by the target. To be asked
    /// after [`Self::close`] before the same paths become another unit: that one would know
    /// nothing of the ranges held here. `false` when a lost path can never be fenced.
    pub async fn settled(&self) -> bool {
        self.unit().settled().await
    }

    /// Whether it was closed, through any of its clones.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.unit().closing()
    }
}

fn number<N: Nexus>(specs: Vec<PathSpec<N>>) -> Result<Vec<Arc<Path<N>>>, AssembleError> {
    let given = specs.len();
    if given == 0 {
        return Err(AssembleError::NoPaths);
    }
    if given > MAX_PATHS {
        return Err(AssembleError::TooManyPaths {
            given,
            max: MAX_PATHS,
        });
    }
    let path = |(id, spec)| Arc::new(Path::new(PathId(id), spec));
    Ok((0..).zip(specs).map(path).collect())
}

/// What one path showed at assembly.
struct Look {
    /// The life that was looked at; `None`: the path is down.
    life: Option<Incarnation>,
    profile: Result<Profile, ProbeError>,
}

/// Looks at all paths at once.
async fn look_at_all<N: Nexus, C: Clock>(
    paths: &[Arc<Path<N>>],
    config: &Config,
    clock: &C,
) -> Vec<Look> {
    let mut looks: Vec<Pin<Box<dyn Future<Output = Look> + Send + '_>>> = Vec::new();
    for path in paths {
        looks.push(Box::pin(look_at(&path.nexus, config, clock)));
    }
    let mut done: Vec<Option<Look>> = looks.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (look, slot) in looks.iter_mut().zip(&mut done) {
            if slot.is_none() {
                match look.as_mut().poll(cx) {
                    Poll::Ready(look) => *slot = Some(look),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn look_at<N: Nexus, C: Clock>(nexus: &N, config: &Config, clock: &C) -> Look {
    let NexusState::Up(incarnation) = nexus.state() else {
        return Look {
            life: None,
            profile: Err(ProbeError::Down),
        };
    };
    let probe = Probe::alone(nexus, clock, config, incarnation, false);
    Look {
        life: Some(incarnation),
        profile: probe.profile().await,
    }
}

/// What all paths agree on.
fn common_profile<N>(paths: &[Arc<Path<N>>], looks: &[Look]) -> Result<Profile, AssembleError> {
    let label = |path: &Arc<Path<N>>| path.label.to_string();
    let mut common: Option<(Profile, String)> = None;
    let mut problems = Vec::new();
    for (path, look) in paths.iter().zip(looks) {
        match (&look.profile, &mut common) {
            (Err(problem), _) => problems.push((label(path), problem.clone())),
            (Ok(profile), None) => common = Some((profile.clone(), label(path))),
            (Ok(profile), Some((first, left))) => {
                first
                    .same_as(profile)
                    .map_err(|difference| AssembleError::Mismatch {
                        left: left.clone(),
                        right: label(path),
                        difference,
                    })?;
                first.read_only |= profile.read_only;
                if !first.accessible && profile.accessible {
                    (*first, *left) = (profile.clone(), label(path));
                }
            }
        }
    }
    let Some((profile, label)) = common else {
        let mut problems = problems.into_iter();
        let (label, problem) = problems.next().ok_or(AssembleError::NoPaths)?;
        return Err(AssembleError::NoUsablePath {
            label,
            problem,
            others: problems.collect(),
        });
    };
    if !profile.accessible {
        return Err(AssembleError::NoUsablePath {
            label,
            problem: ProbeError::NoAccess { state: None },
            others: problems,
        });
    }
    if !is_block_device(profile.device_type) {
        return Err(AssembleError::NotABlockDevice {
            label,
            device_type: profile.device_type.0,
        });
    }
    Ok(profile)
}

#[cfg(test)]
mod tests;
