//! The driver: sockets, timers and tasks around the session core (tokio).
//!
//! One task per session (`driver`) owns the reading halves of its connections (`link`) and does what
//! the core asks. Callers submit under the session's mutex and, when a connection is idle, write
//! their command themselves; otherwise they ring the driver, which writes whole batches.
//!
//! Lock order: writer before core. The core's lock is held for header work and small payloads;
//! digests of outgoing PDUs and large copies happen outside it.

mod connector;
mod discover;
mod driver;
mod error;
mod farewell;
mod handle;
mod link;
mod requests;
mod shared;
mod submit;

pub use discover::discover;
pub use error::{ConnectError, ConnectErrorKind};
pub use handle::{EventReceiver, LunNexus, SessionHandle};
pub use requests::{Effect, TargetsError};
