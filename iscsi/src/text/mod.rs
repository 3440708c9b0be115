//! Text keys of RFC 7143 §6 and §13: encoding, the key table, negotiation.

pub mod params;

pub use params::{ConnectionParams, NegotiatedKey, SessionParams};
