//! Our own test target (`tests/target`), as a program that foreign initiators talk to.

use std::time::Duration;

/// How long it may take to listen.
pub const READY_LIMIT: Duration = Duration::from_secs(10);
