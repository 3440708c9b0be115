//! An iSCSI initiator: the protocol of RFC 7143 (and RFC 7144) as state machines without I/O, and
//! a thin tokio driver (feature `tokio`, on by default).
//!
//! Layers, each using only those above it in this list:
//!
//! 1. [`name`], [`serial`]: names, identifiers, serial numbers;
//! 2. [`wire`]: every PDU as a plain struct, digests, framing;
//! 3. [`text`]: the key table, text encoding, negotiation;
//! 4. [`login`]: the login phase as consuming states; [`discovery`]: SendTargets answers;
//! 5. [`session`]: full feature phase, recovery, reconnecting; bytes, time and randomness are
//!    arguments;
//! 6. `net`: sockets, timers, tasks.

pub mod discovery;
pub mod login;
pub mod name;
#[cfg(feature = "tokio")]
pub mod net;
pub mod serial;
pub mod session;
pub mod text;
pub mod wire;
