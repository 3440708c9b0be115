//! What a piece of work is.

/// Something that is counted.
pub(crate) struct Work {
    /// `topic/what`.
    pub(crate) name: &'static str,
    /// Does it, in [`crate::counted_section`], and says how many operations it was.
    pub(crate) run: fn() -> u64,
}

/// A row of the table of a module.
pub(crate) const fn work(name: &'static str, run: fn() -> u64) -> Work {
    Work { name, run }
}
