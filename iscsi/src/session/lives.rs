//! Which lives of a session are over at the target.
//!
//! A life ends at the target when a login reinstates the session in the *same portal group*
//! (RFC 7143 §6.3.5), or with a clean logout. The same ISID in another group is another I_T nexus
//! (RFC 7143 §4.4.1) and ends nothing, and a redirection may lead there; so each life keeps its
//! group until it is over.

use scsi::Incarnation;
use smallvec::SmallVec;

use crate::name::PortalGroupTag;

/// The portal group of a login; `None` when the target does not declare it.
type Group = Option<PortalGroupTag>;

/// All lives of one session. Holds at most one entry per portal group.
#[derive(Debug, Default)]
pub(super) struct Lives {
    newest: Incarnation,
    not_over: SmallVec<[(Incarnation, Group); 2]>,
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
            .map_or(self.newest, |(oldest, _)| Incarnation(oldest.0 - 1))
    }

    /// Whatever lived in `group` is over; `true` when [`Lives::over`] has risen.
    pub(super) fn end(&mut self, group: Group) -> bool {
        let before = self.over();
        self.not_over.retain(|(_, other)| *other != group);
        self.over() > before
    }

    /// A new life begins in `group`. What lived there before is over.
    pub(super) fn begin(&mut self, group: Group) -> Incarnation {
        self.end(group);
        self.newest = Incarnation(self.newest.0 + 1);
        self.not_over.push((self.newest, group));
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Group = Some(PortalGroupTag(1));
    const B: Group = Some(PortalGroupTag(2));

    #[test]
    fn a_login_in_the_same_group_ends_the_life_before() {
        let mut sut = Lives::default();
        assert_eq!(sut.begin(A), Incarnation(1));
        assert_eq!(sut.over(), Incarnation(0));
        assert!(sut.end(A));
        assert_eq!(sut.over(), Incarnation(1));
        assert_eq!(sut.begin(A), Incarnation(2));
        assert_eq!(sut.over(), Incarnation(1));
    }

    #[test]
    fn a_life_in_another_group_is_not_over_because_later_ones_are() {
        let mut sut = Lives::default();
        sut.begin(A);
        sut.begin(B);
        assert!(!sut.end(B));
        sut.begin(B);
        assert_eq!(sut.over(), Incarnation(0));
        assert!(sut.end(A));
        assert_eq!(sut.over(), Incarnation(2));
    }
}
