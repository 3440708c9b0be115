//! Multipath over SCSI I_T nexuses: one logical unit that outlives its paths.
//!
//! Give [`LogicalUnit::assemble`] several [`scsi::Nexus`]es that lead to the same unit, spawn the
//! [`Maintenance`] it returns, and read and write. Paths may go and come back.
//!
//! What it promises:
//!
//! - **One unit.** Paths are joined only when identity, size and block size agree, and looked at
//!   again after every new login before they carry anything (`identity.rs`).
//! - **No write twice behind your back.** A write that got lost with its path is sent on another
//!   one only after the target has confirmed that the first can no longer run; meanwhile its
//!   range is held. What cannot be settled ends as [`OutcomeCertainty::Unknown`] (`fence.rs`).
//! - **One retrier.** Nothing above or below retries; every error has its row in one table
//!   (`classify.rs`).
//! - **The best way there is.** I/O uses the paths that the target's port groups (ALUA) say are
//!   best, follows when the target changes its mind, and goes back as the administrator likes
//!   (`alua.rs`, `failback.rs`, `access.rs`).
//! - **Buffers come back**, whatever happens, and futures may be dropped.
//!
//! - **Paths that come and go stay away**, but never the last one (`marginal.rs`); without any, I/O
//!   fails, waits or waits for ever, as configured (`queueing.rs`).
//! - **Acknowledged writes are not lost in silence.** When the device restarts with a volatile
//!   cache, the next flush fails (`cache.rs`).
//!
//! What it deliberately does not do: follow referrals (SBC-3 §4.28). A group whose state depends
//! on the logical block carries I/O after the better groups, and what it refuses goes elsewhere.
//!
//! Decisions take bytes and time as arguments; the only thing that waits is driven by a
//! [`Clock`]. Without the feature `tokio` there is no runtime in here at all.

mod access;
mod alua;
mod block;
mod cache;
mod checker;
mod classify;
mod clock;
mod config;
mod error;
mod event;
mod failback;
mod fence;
mod fencer;
mod history;
mod identity;
mod logical_unit;
mod marginal;
mod path;
mod probe;
mod queueing;
mod registration;
mod reservation;
mod retry;
mod runtime;
mod second_fence;
mod select;
mod signal;
mod size;
mod split;
mod stats;
mod supervisor;
mod topology;
mod unit;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(any(test, fuzzing))]
mod testing;

pub use alua::{Access, PathAccess};
pub use checker::{Checker, UnknownChecker};
pub use classify::Attention;
pub use clock::Clock;
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
pub use config::Config;
pub use error::{AssembleError, IoError, IoErrorKind, OutcomeCertainty, ProbeError};
pub use event::{EVENTS_QUEUED, Event, EventKind, EventReceiver};
pub use failback::{Failback, SwitchReason, UnknownFailback};
pub use history::PathSpeed;
pub use identity::{DesignatorKind, Difference, LuDesignator, LuIdentity};
pub use logical_unit::{Description, Geometry, LogicalUnit, describe};
pub use marginal::MarginalPaths;
pub use path::{MAX_PATHS, PathId, PathSettings, PathSpec, PathState};
pub use queueing::{NoPathRetry, UnknownNoPathRetry};
pub use reservation::{KeyCount, ReservationError};
pub use runtime::Maintenance;
pub use second_fence::{FenceFailure, FenceQuality, SecondFence};
pub use select::{LoadBalancePolicy, PathView, Tuning, Turn, UnknownPolicy, select};
pub use size::SizeError;
pub use stats::{ErrorClass, LATENCY_BUCKETS, PathStats};
pub use topology::{PathGroup, PathSnapshot, Topology};
