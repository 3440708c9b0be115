//! Registering, reserving, releasing, preempting.

use std::sync::Arc;
use std::time::Instant;

use scsi::reservation::{
    HeldReservation, PersistentReserveOut, Registration, ReservationKey, ReservationType,
};
use scsi::{Certainty, DeliveryError, Incarnation, Nexus};

use super::ReservationError;
use super::query::{keys, reservation, usable};
use super::send::{OnPath, Refusal};
use crate::clock::Clock;
use crate::path::{Path, PathSet};
use crate::registration::{Changing, Wish};
use crate::unit::Unit;

type Error = ReservationError;

/// What became of a command that was sent on one path after another.
enum Sent {
    Done,
    Conflict,
    /// It may have been carried out, on the path that was lost.
    Doubtful(DeliveryError),
}

pub(crate) async fn register<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    key: ReservationKey,
    with: Registration,
) -> Result<(), Error> {
    if key == ReservationKey::NONE {
        return Err(Error::NoKey);
    }
    let _changing = begin(unit)?;
    let before = unit.registered.wish();
    let done = register_all(unit, key, with).await;
    match done {
        Ok(()) => unit.registered.set(Wish { key, with }),
        Err(_) if before.is_none() => {
            // Best effort: whoever cannot be reached now is unregistered when it returns.
            let none = ReservationKey::NONE;
            let _: Result<(), Error> = register_all(unit, none, with).await;
            unit.registered.set(Wish { key: none, with });
        }
        Err(_) => {}
    }
    done
}

pub(crate) async fn adopt<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    key: ReservationKey,
    with: Registration,
) -> Result<(), Error> {
    let known = keys(unit).await?;
    if key == ReservationKey::NONE || !known.keys.contains(&key) {
        return Err(Error::NotRegistered { lost: false });
    }
    register(unit, key, with).await
}

pub(crate) async fn unregister<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Result<(), Error> {
    let changing = begin(unit)?;
    let key = our_key(unit).await?;
    if let Some(held) = held_by(unit, key).await? {
        release_ours(unit, &changing, key, held.kind).await?;
    }
    let with = Registration::default();
    let none = ReservationKey::NONE;
    // From here on a path that returns loses its registration as well.
    unit.registered.set(Wish { key: none, with });
    register_all(unit, none, with).await
}

pub(crate) async fn reserve<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    kind: ReservationType,
) -> Result<(), Error> {
    let _changing = begin(unit)?;
    let key = our_key(unit).await?;
    one_nexus_only(unit, kind)?;
    let ours = |held: &HeldReservation| held.kind == kind && is_held_by(held, key);
    let mut patience = Patience::new(unit);
    loop {
        // Asked first: the path that got the reservation may be another one than that which
        // asks again.
        if reservation(unit).await?.held.as_ref().is_some_and(ours) {
            return Ok(());
        }
        match send(unit, &PersistentReserveOut::Reserve { key, kind }).await? {
            Sent::Done => return Ok(()),
            Sent::Doubtful(error) => patience.once_more(unit, error)?,
            Sent::Conflict => return Err(why_conflict(unit, key).await),
        }
    }
}

pub(crate) async fn release<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Result<(), Error> {
    let changing = begin(unit)?;
    let key = our_key(unit).await?;
    let Some(held) = reservation(unit).await?.held else {
        return Ok(());
    };
    if !is_held_by(&held, key) {
        return Err(Error::Conflict { held: Some(held) });
    }
    release_ours(unit, &changing, key, held.kind).await
}

pub(crate) async fn clear<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Result<(), Error> {
    let _changing = begin(unit)?;
    let key = our_key(unit).await?;
    let mut patience = Patience::new(unit);
    loop {
        match send(unit, &PersistentReserveOut::Clear { key }).await? {
            Sent::Conflict => return Err(why_conflict(unit, key).await),
            Sent::Doubtful(error) if keys(unit).await?.keys.contains(&key) => {
                patience.once_more(unit, error)?;
            }
            Sent::Done | Sent::Doubtful(_) => break,
        }
    }
    unit.registered.set(Wish {
        key: ReservationKey::NONE,
        with: Registration::default(),
    });
    for entry in &unit.table.load().entries {
        entry.path.set_registered(false);
    }
    Ok(())
}

pub(crate) async fn preempt<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    victim: ReservationKey,
    kind: ReservationType,
    abort: bool,
) -> Result<(), Error> {
    let _changing = begin(unit)?;
    let key = our_key(unit).await?;
    one_nexus_only(unit, kind)?;
    let what = if abort {
        PersistentReserveOut::PreemptAndAbort { key, victim, kind }
    } else {
        PersistentReserveOut::Preempt { key, victim, kind }
    };
    let mut patience = Patience::new(unit);
    loop {
        match send(unit, &what).await? {
            Sent::Done => return Ok(()),
            Sent::Conflict => {
                our_key(unit).await?;
                return Err(Error::NoSuchKey(victim));
            }
            Sent::Doubtful(error) if keys(unit).await?.keys.contains(&victim) => {
                patience.once_more(unit, error)?;
            }
            Sent::Doubtful(error) if abort => return Err(Error::Unknown(error)),
            Sent::Doubtful(_) => return Ok(()),
        }
    }
}

/// How often, and for how long, a change is asked for again after it got no answer and the device
/// shows that it was not made. Paths that die under each try would keep it going for ever.
struct Patience {
    tries: u32,
    until: Instant,
}

impl Patience {
    fn new<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Self {
        let now = unit.clock.now();
        Self {
            tries: DOUBTFUL_TRIES,
            until: now.checked_add(unit.config.io_deadline).unwrap_or(now),
        }
    }

    /// Another try, or the end: the last one may still be carried out.
    fn once_more<N: Nexus, C: Clock>(
        &mut self,
        unit: &Unit<N, C>,
        error: DeliveryError,
    ) -> Result<(), Error> {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 || unit.clock.now() >= self.until {
            return Err(Error::Unknown(error));
        }
        Ok(())
    }
}

/// More paths than this do not die one after the other under one command.
const DOUBTFUL_TRIES: u32 = 8;

fn begin<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Result<Changing<'_>, Error> {
    unit.registered.begin().ok_or(Error::Busy)
}

/// Our key, if the device still knows it.
async fn our_key<N: Nexus, C: Clock>(unit: &Unit<N, C>) -> Result<ReservationKey, Error> {
    let key = unit.registered.key();
    let key = key.ok_or(Error::NotRegistered { lost: false })?;
    if keys(unit).await?.keys.contains(&key) {
        Ok(key)
    } else {
        Err(Error::NotRegistered { lost: true })
    }
}

fn one_nexus_only<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    kind: ReservationType,
) -> Result<(), Error> {
    use ReservationType::{ExclusiveAccess, WriteExclusive};
    let paths = unit.table.load().entries.len();
    if paths > 1 && matches!(kind, WriteExclusive | ExclusiveAccess) {
        return Err(Error::OneNexusOnly { kind, paths });
    }
    Ok(())
}

/// Whether nexuses with `key` hold it. Every registrant holds those of the all-registrants types.
fn is_held_by(held: &HeldReservation, key: ReservationKey) -> bool {
    held.key == key || held.kind.is_for_all_registrants()
}

async fn held_by<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    key: ReservationKey,
) -> Result<Option<HeldReservation>, Error> {
    let held = reservation(unit).await?.held;
    Ok(held.filter(|held| held.key == key))
}

async fn why_conflict<N: Nexus, C: Clock>(unit: &Unit<N, C>, key: ReservationKey) -> Error {
    match (keys(unit).await, reservation(unit).await) {
        (Ok(list), _) if !list.keys.contains(&key) => Error::NotRegistered { lost: true },
        (_, Ok(reservation)) => Error::Conflict {
            held: reservation.held,
        },
        (_, Err(error)) => error,
    }
}

/// Sends a command on one path, on another one when it certainly was not carried out.
async fn send<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    what: &PersistentReserveOut,
) -> Result<Sent, Error> {
    let mut last = None;
    for (path, life) in usable(unit) {
        match OnPath::new(unit, &path, life).change(what).await {
            Ok(()) => return Ok(Sent::Done),
            Err(Refusal::Conflict) => return Ok(Sent::Conflict),
            Err(Refusal::Lost(error)) if error.certainty != Certainty::NotSent => {
                return Ok(Sent::Doubtful(error));
            }
            Err(Refusal::Lost(error)) => last = Some(error),
            Err(Refusal::Other(error)) => return Err(error),
        }
    }
    Err(Error::NoPath { last })
}

/// Registers every usable path with `key`; at least one must do. A path that is lost on the way
/// is registered when it returns.
async fn register_all<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    key: ReservationKey,
    with: Registration,
) -> Result<(), Error> {
    let what = PersistentReserveOut::RegisterAndIgnore { new: key, with };
    let mut seen = PathSet::default();
    let mut result = Err(Error::NoPath { last: None });
    // Again for a path that came up meanwhile and had been looked at before.
    loop {
        let mut paths = usable(unit);
        paths.retain(|(path, _)| !seen.contains(path.id));
        if paths.is_empty() {
            return result;
        }
        for (path, _) in &paths {
            seen.insert(path.id);
        }
        match on_all(unit, &paths, &what).await {
            Ok(()) => result = Ok(()),
            Err(Error::NoPath { last }) => {
                result = result.or(Err(Error::NoPath { last }));
            }
            Err(error) => return Err(error),
        }
    }
}

async fn on_all<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    paths: &[(Arc<Path<N>>, Incarnation)],
    what: &PersistentReserveOut,
) -> Result<(), Error> {
    let mut done = false;
    let mut last = None;
    for (path, life) in paths {
        match OnPath::new(unit, path, *life).change(what).await {
            Ok(()) => done = true,
            Err(Refusal::Lost(error)) => last = Some(error),
            Err(Refusal::Conflict) => {
                let held = reservation(unit).await?.held;
                return Err(Error::Conflict { held });
            }
            Err(Refusal::Other(error)) => return Err(error),
        }
    }
    if done {
        Ok(())
    } else {
        Err(Error::NoPath { last })
    }
}

async fn release_ours<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    _changing: &Changing<'_>,
    key: ReservationKey,
    kind: ReservationType,
) -> Result<(), Error> {
    // On all: only the holder's counts, the others' do nothing (SPC-4 §5.13.11.2).
    let what = PersistentReserveOut::Release { key, kind };
    on_all(unit, &usable(unit), &what).await?;
    match held_by(unit, key).await? {
        None => Ok(()),
        Some(_) => release_for_absent(unit, key, kind).await,
    }
}

/// Takes the reservation from a path of ours that is away, and releases it. See the
/// [module](super).
async fn release_for_absent<N: Nexus, C: Clock>(
    unit: &Unit<N, C>,
    key: ReservationKey,
    kind: ReservationType,
) -> Result<(), Error> {
    let with = unit
        .registered
        .wish()
        .map_or_else(Registration::default, |wish| wish.with);
    let taken = keys(unit).await?.keys;
    let fresh = (1..)
        .map(|step| ReservationKey(key.0 ^ step))
        .find(|other| *other != ReservationKey::NONE && !taken.contains(other))
        .unwrap_or(key);
    register_all(unit, fresh, with).await?;
    let what = PersistentReserveOut::Preempt {
        key: fresh,
        victim: key,
        kind,
    };
    // A conflict: nobody has the old key any more, so nobody holds the reservation with it.
    let taken_over = send(unit, &what).await;
    let released = match taken_over {
        Ok(_) => {
            let what = PersistentReserveOut::Release { key: fresh, kind };
            on_all(unit, &usable(unit), &what).await
        }
        Err(error) => Err(error),
    };
    register_all(unit, key, with).await?;
    released?;
    match reservation(unit).await?.held {
        Some(held) if held.key == key || held.key == fresh => {
            Err(Error::Conflict { held: Some(held) })
        }
        _ => Ok(()),
    }
}
