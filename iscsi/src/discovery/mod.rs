//! What a discovery session is for: the targets of a portal (RFC 7143 Appendix C).
//!
//! Parsing only; the session that asks is a [`login`](crate::login) of
//! [`SessionKind::Discovery`](crate::login::SessionKind) and one text exchange.

mod send_targets;
#[cfg(test)]
mod tests;

pub use send_targets::{
    ANSWER_BYTES_MAX, DiscoveredTarget, PORTALS_MAX, SendTargetsAnswer, SendTargetsError,
    TARGETS_MAX,
};
