//! Deterministic simulation of whole logical units: real sessions and real multipath, on a clock,
//! a network and a target that exist only in here.
//!
//! A [`World`] is one run: several paths (the [`iscsi::session::Session`] core with the framing
//! around it, driven as `iscsi::net` drives it) lead over simulated TCP to a
//! [`test_target::Target`]; a [`mpio::LogicalUnit`] stands on them, and clients read and write
//! while faults happen. Everything comes from one number, the seed: the same seed gives the same
//! run, event by event ([`Report::hash`]).
//!
//! What a run proves, or reports as [`Report::problems`]:
//!
//! - the [`oracle`]: no acknowledged write is lost, none runs after a later one to the same block
//!   was acknowledged, reads see only what may be there, every I/O ends once and gives its memory
//!   back;
//! - the target saw no rule of RFC 7143 broken;
//! - a while after the last fault everything works again and nothing is pending or held;
//! - nothing spins: timers fire a bounded number of times per second.
//!
//! What it does not do: tokio, sockets and threads (`iscsi::net` has tests of its own).

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "test code: a wrong index or cast is a failed run"
)]

mod access;
pub mod clock;
mod conditions;
pub mod deed;
pub mod executor;
pub mod facet;
pub mod fault;
mod link;
pub mod net;
pub mod nexus;
pub mod operations;
pub mod oracle;
pub mod pair;
pub mod path;
pub mod pattern;
mod pipe;
pub mod rig;
pub mod scenario;
pub mod schedule;
pub mod sweep;
pub mod trace;
pub mod workload;
mod world;

pub use scenario::{Sabotage, Scenario};
pub use world::{Report, World};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic elsewhere while holding the lock does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
