//! Text keys of RFC 7143 §6, §12 and §13: encoding, the key table, what is offered, negotiation.
//!
//! [`keys`] is the only place that knows a key's rules. Nothing here performs I/O, and nothing
//! here knows login stages beyond what a key's row says about them.

pub mod codec;
pub mod exchange;
pub mod keys;
pub mod negotiate;
mod offer;
pub mod params;
pub mod renegotiate;
#[cfg(test)]
mod tests;
mod value;

pub use codec::{Pair, TextError};
pub use keys::Key;
pub use negotiate::{NegotiationError, SessionType};
pub use offer::{Offer, OfferError};
pub use params::{ConnectionParams, NegotiatedKey, SessionParams, TaskReporting};
