//! What a discovery session is for: the targets of a portal (RFC 7143 Appendix C).
//!
//! The session that asks ([`DiscoverySession`]) and the parser of what it hears
//! ([`SendTargetsAnswer`]), both without I/O.

mod send_targets;
mod session;
#[cfg(test)]
mod tests;

pub use send_targets::{
    ANSWER_BYTES_MAX, DiscoveredTarget, PORTALS_MAX, SendTargetsAnswer, SendTargetsError,
    TARGETS_MAX,
};
pub use session::{DiscoveryConfig, DiscoveryError, DiscoverySession};
