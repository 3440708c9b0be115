//! The size of a unit, as an administrator sees it.

use scsi::Nexus;

use super::LogicalUnit;
use crate::clock::Clock;
use crate::size::{self, SizeError};

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Takes the size that all paths show which are logged in, be it smaller: what was behind the
    /// new end is gone. Growth is taken without being asked. Returns the size in blocks.
    ///
    /// # Errors
    /// [`SizeError`] when the paths do not agree, or show nothing.
    pub fn accept_size(&self) -> Result<u64, SizeError> {
        size::accept(self.unit())
    }
}
