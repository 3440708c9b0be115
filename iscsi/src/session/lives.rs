//! Which lives of a session are over at the target.
//!
//! A life ends at the target when a login reinstates the session in the *same portal group*
//! (RFC 7143 §6.3.5), or with a clean logout. The same ISID in another group is another I_T nexus
//! (RFC 7143 §4.4.1) and ends nothing, and a redirection may lead there; so each life keeps its
//! group, and the portal where it lived, until it is over: a login there ends it.

use scsi::Incarnation;
use smallvec::SmallVec;

use crate::name::{Portal, PortalGroupTag};

/// The portal group of a login; `None` when the target does not declare it.
type Group = Option<PortalGroupTag>;

/// All lives of one session. Holds at most one entry per portal group.
#[derive(Debug, Default)]
pub(super) struct Lives {
    newest: Incarnation,
    not_over: SmallVec<[Life; 1]>,
}

/// A life that is not over.
#[derive(Debug)]
struct Life {
    number: Incarnation,
    group: Group,
    portal: Portal,
}

impl Lives {
    /// The newest life; 0 before the first login.
    pub(super) fn newest(&self) -> Incarnation {
        self.newest
    }

    /// The newest life that is over with all before it.
    pub(super) fn over(&self) -> Incarnation {
        self.not_over
            .first()
            .map_or(self.newest, |it| Incarnation(it.number.0.saturating_sub(1)))
    }

    /// Whatever lived in `group` is over; `true` when [`Lives::over`] has risen.
    pub(super) fn end(&mut self, group: Group) -> bool {
        let before = self.over();
        self.not_over.retain(|life| life.group != group);
        self.over() > before
    }

    /// A new life begins at `portal`, in `group`. What lived there before is over.
    pub(super) fn begin(&mut self, group: Group, portal: Portal) -> Incarnation {
        self.end(group);
        self.newest = Incarnation(self.newest.0.saturating_add(1));
        self.not_over.push(Life {
            number: self.newest,
            group,
            portal,
        });
        self.newest
    }

    /// Where the newest life lives, if it is not over.
    pub(super) fn newest_portal(&self) -> Option<&Portal> {
        let newest = self.not_over.last()?;
        (newest.number == self.newest).then_some(&newest.portal)
    }

    /// Where lives up to `life` lived that are not over, oldest first.
    pub(super) fn portals(&self, life: Incarnation) -> impl Iterator<Item = &Portal> {
        let all = self.not_over.iter();
        all.filter(move |it| it.number <= life).map(|it| &it.portal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Group = Some(PortalGroupTag(1));
    const B: Group = Some(PortalGroupTag(2));

    fn at(host: u8) -> Portal {
        format!("192.0.2.{host}").parse().unwrap()
    }

    #[test]
    fn a_login_in_the_same_group_ends_the_life_before() {
        let mut sut = Lives::default();
        assert_eq!(sut.begin(A, at(1)), Incarnation(1));
        assert_eq!(sut.over(), Incarnation(0));
        assert!(sut.end(A));
        assert_eq!(sut.over(), Incarnation(1));
        assert_eq!(sut.begin(A, at(1)), Incarnation(2));
        assert_eq!(sut.over(), Incarnation(1));
    }

    #[test]
    fn a_life_in_another_group_is_not_over_because_later_ones_are() {
        let mut sut = Lives::default();
        sut.begin(A, at(1));
        sut.begin(B, at(2));
        assert!(!sut.end(B));
        sut.begin(B, at(2));
        assert_eq!(sut.over(), Incarnation(0));
        assert!(sut.end(A));
        assert_eq!(sut.over(), Incarnation(2));
    }

    #[test]
    fn each_life_is_to_be_ended_where_it_lived() {
        let mut sut = Lives::default();
        sut.begin(A, at(1));
        sut.begin(B, at(2));
        let portals: Vec<_> = sut.portals(Incarnation(1)).cloned().collect();
        assert_eq!(portals, [at(1)]);
        let portals: Vec<_> = sut.portals(Incarnation(2)).cloned().collect();
        assert_eq!(portals, [at(1), at(2)]);
        sut.end(A);
        let portals: Vec<_> = sut.portals(Incarnation(2)).cloned().collect();
        assert_eq!(portals, [at(2)]);
    }
}
