//! Authentication for iSCSI logins: CHAP (RFC 1994) as RFC 7143 §12.1.3 uses it, without I/O.
//!
//! The crate speaks in plain `(name, value)` text keys, so it knows nothing of PDUs; the login of
//! crate `iscsi` carries the keys. A login uses it in four steps:
//!
//! 1. [`Method::configured`] says what to offer as `AuthMethod`, [`Method::accept`] judges the
//!    target's choice.
//! 2. [`ChapExchange::start`] gives the first keys to send.
//! 3. Every following answer of the target goes to [`ChapExchange::step`], which gives the next
//!    keys to send; once [`ChapExchange::wants_transit`] is true the login may set the T bit.
//! 4. Before it leaves the security stage the login asks [`ChapExchange::finish`], which fails if
//!    the target tried to skip its part.
//!
//! What the crate guarantees:
//!
//! * Configured means required. With [`Chap`] configured only CHAP is offered, and no answer of
//!   the target ends the exchange without it.
//! * A target cannot make us answer our own challenge, and one secret never serves both
//!   directions (RFC 7143 §9.2.1).
//! * Responses are compared in constant time; secrets are wiped when dropped and never printed.
//! * Everything the target sends is bounded before it is decoded.
//!
//! What it deliberately does not do: read randomness (challenges are made of entropy handed in),
//! store credentials, or decide whether a refused login is tried again
//! ([`ChapExchange::fallback`] only says whether that can make sense).

pub mod binary;
pub mod chap;
mod error;
mod method;
mod secret;

pub use chap::algorithm::ChapAlgorithm;
pub use chap::credentials::{Chap, ChapCredentials, MutualCredentials};
pub use chap::exchange::{ChapExchange, ChapKey, ENTROPY_BYTES};
pub use error::AuthError;
pub use method::Method;
pub use secret::Secret;
