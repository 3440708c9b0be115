//! Acknowledged writes in the device's volatile cache.
//!
//! A device with a write cache (WCE) may acknowledge a write and lose it with its power. It says
//! so only by the unit attention of a power on or reset, which the next command meets, whichever
//! that is. Here it is remembered, and the next flush fails instead of confirming what is lost.
//! All flushes that were under way at the moment fail, too.
//!
//! Many targets send the same unit attention to every new session. A path whose session has gone
//! on since before the first unflushed write, and that has met no such attention, proves that the
//! device did not restart: the sessions of a device do not survive it. Without such a witness
//! nobody can tell, and the doubt counts.
//!
//! Nothing here sends anything; see [`crate::logical_unit`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::signal::lock;

/// What is known of a unit's cache.
#[derive(Debug, Default)]
pub(crate) struct WriteCache {
    /// WCE, as last seen.
    enabled: AtomicBool,
    /// A write was acknowledged that no flush has covered.
    unflushed: AtomicBool,
    /// The first of those was sent at this time or later.
    since: Mutex<Option<Instant>>,
    /// Flushes under way.
    flushing: AtomicU32,
    /// Times that something may have been lost.
    losses: AtomicU64,
    /// Losses that a flush has told.
    told: AtomicU64,
}

/// A flush under way.
#[derive(Debug)]
pub(crate) struct Flush<'a> {
    cache: &'a WriteCache,
    told: u64,
    /// It was begun with unflushed writes, the first of them as old as this.
    since: Option<Instant>,
    good: bool,
}

impl WriteCache {
    pub(crate) fn new(enabled: bool) -> Self {
        let it = Self::default();
        it.set_enabled(enabled);
        it
    }

    /// A look at the unit showed whether it has a write cache.
    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// A write was acknowledged; `sent` tells when it was sent, if that matters.
    #[inline]
    pub(crate) fn wrote(&self, sent: impl FnOnce() -> Instant) {
        if !self.enabled.load(Ordering::Relaxed) || self.unflushed.load(Ordering::Acquire) {
            return;
        }
        let mut since = lock(&self.since);
        since.get_or_insert_with(sent);
        self.unflushed.store(true, Ordering::Release);
    }

    /// The device says that it was powered on or reset. `true`: writes may be lost with that.
    pub(crate) fn power_on(&self) -> bool {
        let at_risk = self.unflushed.load(Ordering::Acquire)
            || (self.flushing.load(Ordering::Acquire) > 0 && lock(&self.since).is_some());
        if at_risk {
            self.losses.fetch_add(1, Ordering::AcqRel);
        }
        at_risk
    }

    /// How many losses are in doubt or certain and untold.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// A flush begins.
    pub(crate) fn begin_flush(&self) -> Flush<'_> {
        self.flushing.fetch_add(1, Ordering::AcqRel);
        let since = *lock(&self.since);
        self.unflushed.store(false, Ordering::Release);
        Flush {
            cache: self,
            told: self.told.load(Ordering::Acquire),
            since,
            good: false,
        }
    }
}

impl Flush<'_> {
    /// Losses that this flush would have to tell; 0: none.
    pub(crate) fn doubts(&self) -> u64 {
        self.cache.losses().saturating_sub(self.told)
    }

    /// Since when writes may be unflushed.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// A witness has seen that the first `losses` were none.
    pub(crate) fn dismiss(&mut self, losses: u64) {
        self.told = self.told.max(losses);
        self.cache.told.fetch_max(losses, Ordering::AcqRel);
    }

    /// The device has confirmed the flush. `false`: what it confirmed is not all that was
    /// acknowledged.
    pub(crate) fn end(mut self) -> bool {
        self.good = true;
        let losses = self.cache.losses();
        self.cache.told.fetch_max(losses, Ordering::AcqRel);
        losses <= self.told
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        let mut since = lock(&self.cache.since);
        let last = self.cache.flushing.fetch_sub(1, Ordering::AcqRel) == 1;
        if !self.good && self.since.is_some() {
            // What it was to cover is as unflushed as before.
            self.cache.unflushed.store(true, Ordering::Release);
        } else if last && !self.cache.unflushed.load(Ordering::Acquire) {
            *since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn cache() -> WriteCache {
        WriteCache::new(true)
    }

    #[test]
    fn a_restart_loses_what_was_not_flushed_and_the_next_flush_tells_once() {
        let it = cache();
        assert!(!it.power_on(), "nothing was written");
        it.wrote(|| at(0));
        assert!(it.power_on());
        assert!(!it.begin_flush().end());
        assert!(it.begin_flush().end());
        assert!(!it.power_on());
    }

    #[test]
    fn what_was_flushed_or_never_cached_cannot_be_lost() {
        let it = cache();
        it.wrote(|| at(0));
        assert!(it.begin_flush().end());
        assert!(!it.power_on());
        it.set_enabled(false);
        it.wrote(|| at(1));
        assert!(!it.power_on());
    }

    #[test]
    fn a_restart_under_flushes_fails_all_of_them() {
        let it = cache();
        it.wrote(|| at(0));
        let (one, two) = (it.begin_flush(), it.begin_flush());
        assert!(it.power_on());
        assert!(!one.end());
        assert!(!two.end());
        assert!(it.begin_flush().end());
    }

    #[test]
    fn a_flush_that_failed_leaves_the_writes_at_risk() {
        let it = cache();
        it.wrote(|| at(0));
        drop(it.begin_flush());
        assert!(it.power_on());
    }

    #[test]
    fn a_write_during_a_flush_is_not_covered_by_it() {
        let it = cache();
        it.wrote(|| at(0));
        let flush = it.begin_flush();
        it.wrote(|| at(5));
        assert!(flush.end());
        assert!(it.power_on());
    }

    #[test]
    fn a_witness_clears_the_doubt_that_it_was_asked_about_and_no_later_one() {
        let it = cache();
        it.wrote(|| at(3));
        it.power_on();
        let mut flush = it.begin_flush();
        assert_eq!((flush.doubts(), flush.since()), (1, Some(at(3))));
        flush.dismiss(1);
        assert!(flush.end());
        it.wrote(|| at(9));
        it.power_on();
        let mut flush = it.begin_flush();
        assert_eq!(flush.doubts(), 1);
        let asked_about = it.losses();
        it.power_on();
        flush.dismiss(asked_about);
        assert!(!flush.end());
    }
}
