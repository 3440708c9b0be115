//! Persistent reservations of a logical unit as one operation over all its paths
//! (SPC-4 §5.13, §6.15, §6.16).
//!
//! To a device every path is an I_T nexus of its own, with a registration of its own. Here they
//! share one key: it is registered on every path, and a path that comes (back) later gets it
//! before it carries I/O, unless another host has preempted the key meanwhile. Then nothing is
//! registered again, for that would undo what the other host did to keep us out:
//! [`crate::EventKind::RegistrationLost`] says so, and the device refuses our I/O.
//!
//! Registering goes by REGISTER AND IGNORE EXISTING KEY: the nexus is ours, whatever key an
//! earlier run left on it is ours too, and the command does no harm when it runs twice. After the
//! other commands that got no answer the device is asked what became of them.
//!
//! A reservation of the registrants-only types has one holder, and the holder's path may be away
//! when it is to be released. [`crate::LogicalUnit::release_reservation`] then gives the remaining paths
//! another key, preempts the one that the absent path still has, releases, and goes back to the
//! key; at no moment is a path that carries I/O without registration.
//!
//! What it does not do: write anything down (a registration outlives the process only if the next
//! one has the same session identifiers), reserve for others (SPEC_I_PT, REGISTER AND MOVE).

mod change;
mod error;
mod late;
mod query;
mod send;

pub(crate) use self::change::{adopt, clear, preempt, register, release, reserve, unregister};
pub use self::error::ReservationError;
pub(crate) use self::late::{Standing, on_return};
pub use self::query::KeyCount;
pub(crate) use self::query::{capabilities, counted_keys, full_status, reservation};
