//! Which logical units a target has, followed over its changes.
//!
//! A target tells each session once that its list of units has changed (REPORTED LUNS DATA HAS
//! CHANGED, SPC-4 §4.5.6.3); whichever unit is told first, the list is asked for, once at a time.
//! Who has the list need not be told any more (SAM-5 §5.14.5), on that session for all units. So
//! after each list the session that brought it is looked at again by all units in use, and when
//! it is another list, so is every session. A path whose unit went away carries nothing from then
//! on.
//!
//! Deliberately, a unit that came is only told, not taken into use.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iscsi::net::LunNexus;
use tokio::sync::Notify;

use super::units::Units;
use super::{Path, Shared, Target};
use crate::event::Event;
use crate::query::{self, QueryError};
use crate::{Error, Lun};

/// Between two lists that nobody but the target wanted.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the first list may keep whoever wants a unit waiting.
const FIRST_LIST: Duration = Duration::from_secs(2);

/// What is known of a target's list of units.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    known: Mutex<Option<Vec<Lun>>>,
    wanted: Arc<Notify>,
}

impl Inventory {
    /// The list may be another.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// The list may be another than the one known, if one is.
    pub(super) fn want_again(&self) {
        if self.known().is_some() {
            self.want();
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Vec<Lun>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is the list now. What came and what went; `None`: nothing, or there was none before.
    fn update(&self, luns: &[Lun]) -> Option<(Vec<Lun>, Vec<Lun>)> {
        let before = self.known().replace(luns.to_vec())?;
        let but = |some: &[Lun], others: &[Lun]| -> Vec<Lun> {
            let new = some.iter().filter(|lun| !others.contains(lun));
            new.copied().collect()
        };
        let (came, went) = (but(luns, &before), but(&before, luns));
        (!came.is_empty() || !went.is_empty()).then_some((came, went))
    }
}

/// Asks for the list whenever it may have changed, for as long as the target is in use.
pub(super) fn follow(shared: &Arc<Shared>) -> impl Future<Output = ()> + Send + use<> {
    let wanted = Arc::clone(&shared.inventory.wanted);
    let shared = Arc::downgrade(shared);
    async move {
        loop {
            wanted.notified().await;
            let Some(shared) = shared.upgrade() else {
                return;
            };
            // Without an answer there is no session, and the next login asks again.
            let _ = shared.list().await;
            drop(shared);
            // A target that says so without end is asked now and then.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Target {
    /// The target's logical units (REPORT LUNS).
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::NoSession`].
    pub async fn luns(&self) -> Result<Vec<Lun>, Error> {
        self.shared.list().await
    }
}

impl Shared {
    /// The list, and what follows from it.
    async fn list(&self) -> Result<Vec<Lun>, Error> {
        let (session, luns) = self.report_luns().await?;
        let units = self.units.lock().await;
        self.listed(&units, session, &luns);
        Ok(luns)
    }

    /// Takes the list that later ones are compared with, unless there is one.
    pub(super) async fn first_inventory(&self, units: &Units) {
        if self.inventory.known().is_some() {
            return;
        }
        // Without it changes are not told, and nothing else is lost.
        let list = tokio::time::timeout(FIRST_LIST, self.report_luns());
        if let Ok(Ok((session, luns))) = list.await {
            self.listed(units, session, &luns);
        }
    }

    async fn report_luns(&self) -> Result<(usize, Vec<Lun>), Error> {
        let ask = async |nexus: &LunNexus| query::report_luns(nexus).await;
        self.on_some_path(Lun::ZERO, ask).await
    }

    /// The list came over this session.
    fn listed(&self, units: &Units, session: usize, luns: &[Lun]) {
        let change = self.inventory.update(luns);
        for opened in units.values() {
            match (&change, opened.path(session)) {
                (None, Some(path)) => opened.unit.look_again(Some(path)),
                _ => opened.unit.look_again(None),
            };
        }
        if let Some((came, went)) = change {
            self.events.send(Event::LunsChanged { came, went });
        }
    }

    /// Has a unit look at one of its paths again, if it is in use.
    pub(super) async fn look_again(&self, lun: Lun, session: usize) {
        let units = self.units.lock().await;
        if let Some(opened) = units.get(&lun)
            && let Some(path) = opened.path(session)
        {
            opened.unit.look_again(Some(path));
        }
    }

    /// Asks over the first session that is up; over the next when that one gives no answer. Tells
    /// which it was.
    pub(super) async fn on_some_path<T>(
        &self,
        lun: Lun,
        ask: impl AsyncFn(&LunNexus) -> Result<T, QueryError>,
    ) -> Result<(usize, T), Error> {
        let target = || self.name.clone();
        let mut last = Error::NoSession { target: target() };
        let up = |(_, path): &(usize, &Path)| path.is_up();
        for (session, path) in self.paths.iter().enumerate().filter(up) {
            let source = match ask(&path.handle.nexus(lun)).await {
                Ok(answer) => return Ok((session, answer)),
                Err(error) => error,
            };
            let over = !source.is_of_path();
            let target = target();
            last = Error::Query {
                target,
                lun,
                source,
            };
            if over {
                break;
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_what_went() {
        let inventory = Inventory::default();
        let luns = |numbers: &[u16]| -> Vec<Lun> {
            numbers
                .iter()
                .map(|number| Lun::from_number(*number))
                .collect()
        };
        assert_eq!(inventory.update(&luns(&[0, 1, 2])), None);
        assert_eq!(inventory.update(&luns(&[2, 1, 0])), None);
        let change = inventory.update(&luns(&[0, 2, 3]));
        assert_eq!(change, Some((luns(&[3]), luns(&[1]))));
        assert_eq!(
            inventory.update(&luns(&[])),
            Some((luns(&[]), luns(&[0, 2, 3])))
        );
    }
}
