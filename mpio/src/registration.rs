//! Which persistent-reservation key a unit's paths are registered with; [`crate::reservation`]
//! acts on it. Changes go one at a time, and a path that returns waits for the end of one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use scsi::reservation::{Registration, ReservationKey};

use crate::signal::{Signal, lock};

/// What a unit's paths are to be registered with.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    wish: Mutex<Option<Wish>>,
    changing: AtomicBool,
    /// Raised when a change ends.
    over: Signal,
}

/// What each path is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// [`ReservationKey::NONE`]: no registration; a path that was away may still have one.
    pub(crate) key: ReservationKey,
    pub(crate) with: Registration,
}

impl Registered {
    pub(crate) fn wish(&self) -> Option<Wish> {
        *lock(&self.wish)
    }

    /// The key of this unit's paths; none when they are not registered.
    pub(crate) fn key(&self) -> Option<ReservationKey> {
        let key = self.wish()?.key;
        (key != ReservationKey::NONE).then_some(key)
    }

    pub(crate) fn set(&self, wish: Wish) {
        *lock(&self.wish) = Some(wish);
    }

    /// Begins a change; `None` while another one is under way.
    pub(crate) fn begin(&self) -> Option<Changing<'_>> {
        let was = self.changing.swap(true, Ordering::SeqCst);
        (!was).then_some(Changing { registered: self })
    }

    /// Resolves when no change is under way.
    pub(crate) async fn settled(&self) {
        loop {
            let seen = self.over.version();
            if !self.changing.load(Ordering::SeqCst) {
                return;
            }
            self.over.after(seen).await;
        }
    }
}

/// A change under way, until dropped.
#[derive(Debug)]
pub(crate) struct Changing<'a> {
    registered: &'a Registered,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.registered.changing.store(false, Ordering::SeqCst);
        self.registered.over.raise();
    }
}
