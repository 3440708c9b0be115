//! One logical unit that several targets present.
//!
//! Arrays do that: one iSCSI target name per port or per controller, the same unit behind each.
//! Within one target a LUN says where the unit is; across targets only its identity does, so a
//! unique identifier is demanded, and nothing is written before all paths have shown it.
//!
//! A fence stays what it is: it ends the session of one path, through a portal of that path's own
//! target and portal group. Reservations are registered over all paths of all targets.

use std::sync::Arc;

use mpio::{MAX_PATHS, TokioClock};
use tokio::sync::MutexGuard;

use super::units::{Opened, Units};
use super::{Shared, Target};
use crate::{AssembleError, Error, LogicalUnit, Lun, Topology};

impl Target {
    /// One logical unit over all sessions of several targets that present it. Asked for again, it
    /// is the same unit until it was closed. The logout of any of the targets closes it.
    ///
    /// # Errors
    /// [`Error::NoPortal`] without a target, [`Error::TargetTwice`]; [`Error::Assemble`] when the
    /// units are not the same, [`Error::WeakIdentity`] when nothing proves that they are;
    /// [`Error::PortClash`] when the targets' access states cannot be put together;
    /// [`Error::InUse`] when one of them is in use without the others; and those of
    /// [`Target::logical_unit`].
    pub async fn logical_unit_across(parts: &[(&Self, Lun)]) -> Result<LogicalUnit, Error> {
        let (first, lun) = match parts {
            [] => return Err(Error::NoPortal),
            [(only, lun)] => return only.logical_unit(*lun).await,
            [(first, lun), ..] => (*first, *lun),
        };
        not_twice(parts)?;
        let mut locked = lock_all(parts).await;
        if let Some(unit) = in_use(parts, &locked)? {
            return Ok(unit);
        }
        for ((target, lun), units) in parts.iter().zip(&locked) {
            if let Some(Opened { unit, .. }) = units.get(lun) {
                target.shared.settle(*lun, unit).await?;
            }
            target.shared.first_inventory(units).await;
        }
        let mut specs = Vec::new();
        let mut before = Vec::new();
        for (target, lun) in parts {
            before.push(specs.len());
            for mut spec in target.shared.path_specs(*lun) {
                spec.label = format!("{} {}", spec.label, target.name());
                specs.push(spec);
            }
        }
        let given = specs.len();
        if given > MAX_PATHS {
            let max = MAX_PATHS;
            let source = AssembleError::TooManyPaths { given, max };
            return Err(Error::of_assembly(first.name(), lun, source));
        }
        let config = first.shared.settings.multipath().clone();
        let assembled = LogicalUnit::assemble(specs, config, TokioClock).await;
        let (unit, maintenance) =
            assembled.map_err(|error| Error::of_assembly(first.name(), lun, error))?;
        // Nothing was written yet; dropped here, it never is.
        may_join(parts, &before, &unit)?;
        first.shared.maintain(maintenance);
        for (((target, lun), units), before) in parts.iter().zip(&mut locked).zip(before) {
            target.follow(*lun, &unit);
            let unit = unit.clone();
            units.insert(*lun, Opened { unit, before });
        }
        Ok(unit)
    }
}

fn not_twice(parts: &[(&Target, Lun)]) -> Result<(), Error> {
    for (index, (target, second)) in parts.iter().enumerate() {
        let mut earlier = parts.iter().take(index);
        if let Some((_, first)) = earlier.find(|(other, _)| other.name() == target.name()) {
            return Err(Error::TargetTwice {
                target: target.name().clone(),
                first: *first,
                second: *second,
            });
        }
    }
    Ok(())
}

/// Locks all targets' units, in the order of their names, so that nobody waits in a circle.
async fn lock_all<'a>(parts: &[(&'a Target, Lun)]) -> Vec<MutexGuard<'a, Units>> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| parts.get(index).map(|(target, _)| target.name().clone()));
    let mut locked: Vec<(usize, MutexGuard<'a, Units>)> = Vec::with_capacity(parts.len());
    for index in order {
        if let Some((target, _)) = parts.get(index) {
            let shared: &'a Arc<Shared> = &target.shared;
            locked.push((index, shared.units.lock().await));
        }
    }
    locked.sort_by_key(|(index, _)| *index);
    locked.into_iter().map(|(_, units)| units).collect()
}

/// The unit, if it is in use over just these targets.
fn in_use(
    parts: &[(&Target, Lun)],
    locked: &[MutexGuard<'_, Units>],
) -> Result<Option<LogicalUnit>, Error> {
    let open = |lun: &Lun, units: &Units| {
        let opened = units.get(lun)?;
        (!opened.unit.is_closed()).then(|| opened.unit.clone())
    };
    let units = parts.iter().zip(locked);
    let mut found = units.map(|(part, units)| (part, open(&part.1, units)));
    let Some((_, first)) = found.next() else {
        return Ok(None);
    };
    let same = |other: &Option<LogicalUnit>| match (&first, other) {
        (None, None) => true,
        (Some(first), Some(other)) => first.is_clone_of(other),
        _ => false,
    };
    // Over more targets than asked for it is the same unit; over fewer it is not.
    if let Some(((target, lun), _)) = found.find(|(_, unit)| !same(unit)) {
        return Err(Error::InUse {
            target: target.name().clone(),
            lun: *lun,
        });
    }
    Ok(first)
}

/// Whether what was assembled is certainly one unit.
fn may_join(parts: &[(&Target, Lun)], before: &[usize], unit: &LogicalUnit) -> Result<(), Error> {
    let identity = unit.identity();
    if identity.is_weak() {
        return Err(Error::WeakIdentity {
            targets: parts
                .iter()
                .map(|(target, _)| target.name().clone())
                .collect(),
            identity: identity.to_string(),
        });
    }
    no_port_clash(before, &unit.topology())
}

/// Without target port groups nothing hangs on the identifiers, and they are not known here.
fn no_port_clash(before: &[usize], topology: &Topology) -> Result<(), Error> {
    let target_of = |path: usize| before.iter().filter(|&&first| first <= path).count();
    for (index, right) in topology.paths.iter().enumerate() {
        let port_of = |access: Option<crate::PathAccess>| access.and_then(|access| access.port);
        let Some(port) = port_of(right.access) else {
            continue;
        };
        let mut earlier = topology.paths.iter().take(index).enumerate();
        let clash = earlier.find(|(other, left)| {
            port_of(left.access) == Some(port) && target_of(*other) != target_of(index)
        });
        if let Some((_, left)) = clash {
            return Err(Error::PortClash {
                left: left.label.to_string(),
                right: right.label.to_string(),
                port,
            });
        }
    }
    Ok(())
}
