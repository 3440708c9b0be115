//! An in-memory iSCSI target that judges its initiator.
//!
//! What it is: a sans-I/O state machine ([`Target`]) that takes bytes and time and gives bytes and deadlines, a thin
//! TCP front for it ([`Server`]), and a program `iscsi-test-target`. It was written from RFC 7143 without a look at
//! the initiator of this repository and shares no code with it, so that the two readings can be compared.
//!
//! What it keeps: peer input never panics and never allocates more than a PDU claims within bounds; every broken
//! initiator requirement that can be seen from here becomes a [`Violation`]; equal configuration, seed, input and
//! times give equal output.
//!
//! What it does not do: SRP and Kerberos, storage on disk, response fences other than those of task management.
//!
//! ```
//! use std::time::Instant;
//! use test_target::{Config, Target};
//!
//! # fn example(now: Instant) {
//! let mut target = Target::new(Config::default());
//! let connection = target.connect(now, 0);
//! target.receive(now, connection, &[0; 48]);
//! let mut out = Vec::new();
//! target.transmit(connection, &mut out, 65_536);
//! for violation in target.violations() {
//!     eprintln!("{violation}");
//! }
//! # }
//! ```

mod aca;
mod access;
mod answer;
mod async_message;
mod command;
mod config;
mod connection;
mod data_out;
mod disk;
mod exchange;
mod fault;
mod fence;
mod full_feature;
mod group;
mod hooks;
mod judge;
mod kept;
mod login;
mod login_flow;
mod logout;
mod lost;
mod numbering;
mod random;
mod ranges;
mod reassign;
mod records;
mod sequence;
mod serve;
mod session;
mod snack;
mod target;
mod task;
mod task_set;
mod text;
mod tmf;
mod wire;
mod wire_log;

pub use crate::async_message::AsyncEvent;
pub use crate::config::{Alua, Chap, Config, Keys, Lun, PortGroup, Portal, Quirks, Redirect, Told};
pub use crate::disk::Disk;
pub use crate::disk::alua::access as access_state;
pub use crate::disk::device::status;
pub use crate::disk::sense::Sense;
pub use crate::fault::{
    CommandEffect, CommandFault, CommandFilter, Count, IncomingEffect, IncomingFault,
    ManagementEffect, PduEffect, PduFault, PduFilter, SnackEffect,
};
pub use crate::judge::{Rule, Violation};
pub use crate::login::operational::{Parameters, TaskReporting};
pub use crate::records::{Recovery, SessionInfo, WriteRecord};
pub use crate::serve::{ServeError, Server};
pub use crate::target::Target;
pub use crate::wire::{BHS_BYTES, Header, RESERVED_TAG, opcode};
pub use crate::wire_log::{Direction, WireRecord};

/// A connection of a [`Target`]; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);
