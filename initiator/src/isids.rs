//! Which ISID a session gets.
//!
//! The ISID rule (RFC 7143 §10.1.1): two sessions of one initiator to the same portal group need
//! different ISIDs, and a session that comes back needs the one it had, or it would be another
//! I_T nexus. So all sessions share one base, kept for the life of the initiator, and each
//! session to a target takes the lowest qualifier that no other session to that target has.
//!
//! A qualifier is given back only when its session was logged out. One that was merely forgotten
//! may still live at the target, and a login with its ISID would end it.
//!
//! With a state directory ([`crate::state`]) base and qualifiers outlive the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::{Slot, StateError};
use crate::{IscsiName, Isid, Portal};

/// Discovery sessions take qualifiers from here on, so that no target takes one for the
/// reinstatement of a normal session.
const FIRST_FOR_DISCOVERY: u16 = 0x8000;

/// The qualifiers in use.
#[derive(Debug)]
pub(crate) struct Isids {
    base: Isid,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` stands for discovery sessions.
    leased: BTreeMap<Option<IscsiName>, BTreeSet<u16>>,
    slot: Option<Slot>,
}

impl Isids {
    pub(crate) fn new(base: Isid) -> Self {
        let inner = Mutex::default();
        Self { base, inner }
    }

    /// Identifiers that the next process finds again.
    pub(crate) fn kept(slot: Slot) -> Self {
        let base = slot.base();
        let leased = BTreeMap::new();
        let slot = Some(slot);
        let inner = Mutex::new(Inner { leased, slot });
        Self { base, inner }
    }

    /// An ISID for a path to `target` that no other session to it has; `None` when all are in
    /// use.
    pub(crate) fn lease(
        &self,
        target: &IscsiName,
        portal: &Portal,
    ) -> Result<Option<Isid>, StateError> {
        let mut inner = self.inner();
        let Inner { leased, slot } = &mut *inner;
        let used = leased.entry(Some(target.clone())).or_default();
        let is_free = |qualifier| !used.contains(&qualifier);
        let mut all = 0..FIRST_FOR_DISCOVERY;
        let qualifier = match slot {
            Some(slot) => slot.qualifier(target, portal, all, is_free)?,
            None => all.find(|qualifier| is_free(*qualifier)),
        };
        Ok(qualifier.map(|qualifier| {
            used.insert(qualifier);
            self.base.with_qualifier(qualifier)
        }))
    }

    /// Its session was logged out.
    pub(crate) fn release(&self, target: Option<&IscsiName>, isid: Isid) {
        if let Some(used) = self.inner().leased.get_mut(&target.cloned()) {
            used.remove(&isid.qualifier());
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut inner = self.inner();
        let used = inner.leased.entry(None).or_default();
        let mut all = FIRST_FOR_DISCOVERY..u16::MAX;
        let qualifier = all.find(|qualifier| !used.contains(qualifier))?;
        used.insert(qualifier);
        drop(inner);
        let isid = self.base.with_qualifier(qualifier);
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

    fn portal() -> Portal {
        "192.0.2.1".parse().unwrap()
    }

    fn lease(isids: &Isids, target: &IscsiName) -> Option<Isid> {
        isids.lease(target, &portal()).unwrap()
    }

    #[test]
    fn sessions_to_one_target_differ_in_the_qualifier_only() {
        let isids = Isids::new(Isid::random(0x12_3456, 0));
        let (a, b) = (target("a"), target("b"));
        let given = [&a, &a, &b, &a].map(|target| lease(&isids, target).unwrap());
        assert_eq!(given.map(Isid::qualifier), [0, 1, 0, 2]);
        let discovery = isids.lease_for_discovery().unwrap();
        assert_eq!(discovery.isid.qualifier(), 0x8000);
        let mut all = given.iter().chain([&discovery.isid]);
        assert!(all.all(|isid| isid.0[..4] == [0x80, 0x12, 0x34, 0x56]));
    }

    #[test]
    fn only_what_was_given_back_is_given_again() {
        let isids = Isids::new(Isid::random(1, 0));
        let a = target("a");
        let given: Vec<_> = (0..4).map(|_| lease(&isids, &a).unwrap()).collect();
        isids.release(Some(&a), given[1]);
        isids.release(Some(&target("never")), given[2]);
        assert_eq!(lease(&isids, &a), Some(given[1]));
        assert_eq!(lease(&isids, &a).unwrap().qualifier(), 4);
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
        let mut inner = isids.inner();
        inner.leased.insert(Some(a.clone()), all_but_one);
        drop(inner);
        assert_eq!(lease(&isids, &a).map(Isid::qualifier), Some(0x7fff));
        assert_eq!(lease(&isids, &a), None);
        assert!(isids.lease_for_discovery().is_some());
    }

    mod kept {
        use super::*;

        fn open(directory: &std::path::Path, base: u32) -> Isids {
            let name = "iqn.2001-04.com.example:us".parse().unwrap();
            let fresh = Isid::random(base, 0);
            Isids::kept(Slot::take(directory, &name, fresh).unwrap())
        }

        #[test]
        fn a_path_has_the_same_identifier_in_the_next_run_in_whatever_order() {
            let directory = tempfile::tempdir().unwrap();
            let (t, other) = (target("t"), target("other"));
            let [a, b]: [Portal; 2] = ["192.0.2.1", "192.0.2.2"].map(|p| p.parse().unwrap());
            let first = open(directory.path(), 0xaaaa);
            let given = [
                first.lease(&t, &a).unwrap().unwrap(),
                first.lease(&t, &b).unwrap().unwrap(),
                first.lease(&t, &b).unwrap().unwrap(),
                first.lease(&other, &b).unwrap().unwrap(),
            ];
            assert_eq!(given.map(Isid::qualifier), [0, 1, 2, 0]);
            drop(first);
            let second = open(directory.path(), 0xbbbb);
            let again = [
                second.lease(&t, &b).unwrap().unwrap(),
                second.lease(&t, &b).unwrap().unwrap(),
                second.lease(&t, &a).unwrap().unwrap(),
                second.lease(&other, &b).unwrap().unwrap(),
            ];
            assert_eq!(again, [given[1], given[2], given[0], given[3]]);
        }

        #[test]
        fn a_new_path_takes_no_identifier_that_another_path_had() {
            let directory = tempfile::tempdir().unwrap();
            let t = target("t");
            let first = open(directory.path(), 1);
            lease(&first, &t).unwrap();
            drop(first);
            let new: Portal = "192.0.2.9".parse().unwrap();
            let isid = open(directory.path(), 2).lease(&t, &new).unwrap().unwrap();
            assert_eq!(isid.qualifier(), 1);
        }

        #[test]
        fn what_runs_at_the_same_time_has_another_base() {
            let directory = tempfile::tempdir().unwrap();
            let t = target("t");
            let (one, two) = (open(directory.path(), 1), open(directory.path(), 2));
            assert_ne!(lease(&one, &t), lease(&two, &t));
            drop(one);
            // The first slot is free again, and still the one it was.
            let three = open(directory.path(), 3);
            assert_eq!(lease(&three, &t), Some(Isid::random(1, 0)));
        }

        #[test]
        fn a_damaged_file_is_an_error_and_stays() {
            let directory = tempfile::tempdir().unwrap();
            drop(open(directory.path(), 1));
            let file = directory
                .path()
                .join("iqn.2001-04.com.example:us/slot-0.toml");
            for text in [
                "isid = 7",
                "isid = \"80\"",
                "isid = \"800000000000\"\nmore = 1",
            ] {
                std::fs::write(&file, text).unwrap();
                let name = "iqn.2001-04.com.example:us".parse().unwrap();
                let error = Slot::take(directory.path(), &name, Isid::random(9, 0)).unwrap_err();
                assert!(matches!(error, StateError::Damaged { .. }), "{error}");
                assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            }
        }
    }
}
