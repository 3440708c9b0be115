//! Which ISID a session gets.
//!
//! The ISID rule (RFC 7143 §10.1.1): two sessions of one initiator to the same portal group need
//! different ISIDs, and a session that comes back needs the one it had, or it would be another
//! I_T nexus. So all sessions share one base, kept for the life of the initiator, and each
//! session to a target takes the lowest qualifier that no other session to that target has.
//!
//! A qualifier is given back only when its session was logged out. One that was merely forgotten
//! may still live at the target, and a login with its ISID would end it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::{IscsiName, Isid};

/// Discovery sessions take qualifiers from here on, so that no target takes one for the
/// reinstatement of a normal session.
const FIRST_FOR_DISCOVERY: u16 = 0x8000;

/// The qualifiers in use. `None` stands for discovery sessions.
#[derive(Debug)]
pub(crate) struct Isids {
    base: Isid,
    leased: Mutex<BTreeMap<Option<IscsiName>, BTreeSet<u16>>>,
}

impl Isids {
    pub(crate) const fn new(base: Isid) -> Self {
        let leased = Mutex::new(BTreeMap::new());
        Self { base, leased }
    }

    /// An ISID that no other session to `target` has; `None` when all are in use.
    pub(crate) fn lease(&self, target: Option<&IscsiName>) -> Option<Isid> {
        let mut leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        let used = leased.entry(target.cloned()).or_default();
        let (first, end) = match target {
            Some(_) => (0, FIRST_FOR_DISCOVERY),
            None => (FIRST_FOR_DISCOVERY, u16::MAX),
        };
        let qualifier = (first..end).find(|qualifier| !used.contains(qualifier))?;
        used.insert(qualifier);
        Some(self.base.with_qualifier(qualifier))
    }

    /// Its session was logged out.
    pub(crate) fn release(&self, target: Option<&IscsiName>, isid: Isid) {
        let mut leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = leased.get_mut(&target.cloned()) {
            used.remove(&isid.qualifier());
        }
    }
}

/// Gives an identifier for a discovery back when dropped, finished or not.
#[derive(Debug)]
pub(crate) struct DiscoveryLease<'a> {
    isids: &'a Isids,
    pub(crate) isid: Isid,
}

impl Isids {
    /// An identifier for one discovery session.
    pub(crate) fn lease_for_discovery(&self) -> Option<DiscoveryLease<'_>> {
        let isid = self.lease(None)?;
        Some(DiscoveryLease { isids: self, isid })
    }
}

impl Drop for DiscoveryLease<'_> {
    fn drop(&mut self) {
        self.isids.release(None, self.isid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> IscsiName {
        format!("iqn.2001-04.com.example:{name}").parse().unwrap()
    }

    #[test]
    fn sessions_to_one_target_differ_in_the_qualifier_only() {
        let isids = Isids::new(Isid::random(0x12_3456, 0));
        let (a, b) = (target("a"), target("b"));
        let given = [Some(&a), Some(&a), Some(&b), Some(&a), None].map(|t| isids.lease(t).unwrap());
        assert_eq!(given.map(Isid::qualifier), [0, 1, 0, 2, 0x8000]);
        assert!(
            given
                .iter()
                .all(|isid| isid.0[..4] == [0x80, 0x12, 0x34, 0x56])
        );
    }

    #[test]
    fn only_what_was_given_back_is_given_again() {
        let isids = Isids::new(Isid::random(1, 0));
        let a = target("a");
        let given: Vec<_> = (0..4).map(|_| isids.lease(Some(&a)).unwrap()).collect();
        isids.release(Some(&a), given[1]);
        isids.release(Some(&target("never")), given[2]);
        assert_eq!(isids.lease(Some(&a)), Some(given[1]));
        assert_eq!(isids.lease(Some(&a)).unwrap().qualifier(), 4);
    }

    #[test]
    fn a_discovery_that_is_dropped_gives_its_identifier_back() {
        let isids = Isids::new(Isid::random(1, 0));
        let first = isids.lease_for_discovery().unwrap();
        let (one, two) = (first.isid, isids.lease_for_discovery().unwrap().isid);
        assert_ne!(one, two);
        drop(first);
        assert_eq!(isids.lease_for_discovery().unwrap().isid, one);
    }

    #[test]
    fn they_run_out() {
        let isids = Isids::new(Isid::random(1, 0));
        let a = target("a");
        let all_but_one = (0..FIRST_FOR_DISCOVERY - 1).collect();
        isids
            .leased
            .lock()
            .unwrap()
            .insert(Some(a.clone()), all_but_one);
        assert_eq!(isids.lease(Some(&a)).map(Isid::qualifier), Some(0x7fff));
        assert_eq!(isids.lease(Some(&a)), None);
        assert!(isids.lease(None).is_some());
    }
}
