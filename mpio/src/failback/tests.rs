use super::*;
use crate::testing::at;

const OPTIMIZED: u8 = 50;
const OTHER: u8 = 10;

/// Paths by number: priority, and `U`sable, `S`tandby (up, without access) or `D`own.
fn paths(list: &[(u8, char)]) -> Vec<Candidate> {
    let candidate = |(id, &(priority, state)): (u8, &(u8, char))| Candidate {
        path: PathId(id),
        priority,
        usable: state == 'U',
        up: state != 'D',
    };
    (0..).zip(list).map(candidate).collect()
}

fn switch(from: u8, to: u8, reason: SwitchReason) -> Option<Switch> {
    Some(Switch { from, to, reason })
}

/// In use: the good group. Then it goes down, and I/O moves to the other one.
fn failed_over(mode: Failback) -> Chooser {
    let mut it = Chooser::new(mode);
    assert_eq!(
        it.look(at(0), &paths(&[(OPTIMIZED, 'U'), (OTHER, 'U')])),
        None
    );
    assert_eq!(it.priority(), Some(OPTIMIZED));
    assert_eq!(
        it.look(at(1), &paths(&[(OPTIMIZED, 'D'), (OTHER, 'U')])),
        switch(OPTIMIZED, OTHER, SwitchReason::Failover)
    );
    it
}

#[test]
fn immediate_goes_back_at_once() {
    let mut it = failed_over(Failback::Immediate);
    assert_eq!(
        it.look(at(2), &paths(&[(OPTIMIZED, 'U'), (OTHER, 'U')])),
        switch(OTHER, OPTIMIZED, SwitchReason::Failback)
    );
}

#[test]
fn manual_waits_for_the_administrator() {
    let mut it = failed_over(Failback::Manual);
    let both = paths(&[(OPTIMIZED, 'U'), (OTHER, 'U')]);
    assert_eq!(it.look(at(1_000_000), &both), None);
    assert_eq!(it.priority(), Some(OTHER));
    assert_eq!(it.due(), None);
    it.ask();
    assert_eq!(
        it.look(at(1_000_001), &both),
        switch(OTHER, OPTIMIZED, SwitchReason::Administrator)
    );
    // Asked once, not for ever.
    it.look(at(2_000_000), &paths(&[(OPTIMIZED, 'D'), (OTHER, 'U')]));
    assert_eq!(it.look(at(2_000_001), &both), None);
}

#[test]
fn delayed_goes_back_when_the_better_group_has_held_out() {
    let mut it = failed_over(Failback::After(Duration::from_secs(30)));
    let both = paths(&[(OPTIMIZED, 'U'), (OTHER, 'U')]);
    assert_eq!(it.look(at(1_000), &both), None);
    assert_eq!(it.due(), Some(at(31_000)));
    assert_eq!(it.look(at(30_999), &both), None);
    assert_eq!(
        it.look(at(31_000), &both),
        switch(OTHER, OPTIMIZED, SwitchReason::Failback)
    );
    assert_eq!(it.due(), None);
}

#[test]
fn followover_goes_back_with_the_first_path_that_comes_up() {
    let mut it = failed_over(Failback::FollowOver);
    assert_eq!(
        it.look(at(2), &paths(&[(OPTIMIZED, 'U'), (OTHER, 'U')])),
        switch(OTHER, OPTIMIZED, SwitchReason::Failback)
    );
}

#[test]
fn followover_stays_when_another_host_moved_the_unit() {
    let mut it = Chooser::new(Failback::FollowOver);
    it.look(at(0), &paths(&[(1, 'S'), (OTHER, 'U')]));
    // The path was up all the time; only its access state became better.
    assert_eq!(
        it.look(at(1), &paths(&[(OPTIMIZED, 'U'), (OTHER, 'U')])),
        None
    );
    assert_eq!(it.priority(), Some(OTHER));
    // A second path of that group that comes up changes nothing.
    let third = paths(&[(OPTIMIZED, 'U'), (OTHER, 'U'), (OPTIMIZED, 'U')]);
    assert_eq!(it.look(at(2), &third), None);
}

#[test]
fn whatever_the_mode_io_leaves_a_group_that_is_gone() {
    for mode in [
        Failback::Manual,
        Failback::FollowOver,
        Failback::After(Duration::from_secs(1)),
    ] {
        let mut it = failed_over(mode);
        assert_eq!(
            it.look(at(2), &paths(&[(OPTIMIZED, 'U'), (OTHER, 'D')])),
            switch(OTHER, OPTIMIZED, SwitchReason::Failover),
            "{mode}"
        );
    }
}

#[test]
fn a_group_in_use_is_joined_by_its_equals() {
    let mut it = failed_over(Failback::Manual);
    // A third path of the group in use comes up; the first group returns and stays unused.
    let three = paths(&[(OPTIMIZED, 'U'), (OTHER, 'U'), (OTHER, 'U')]);
    assert_eq!(it.look(at(2), &three), None);
    // The path that was there first goes: its equal carries on, without a move.
    let rest = paths(&[(OPTIMIZED, 'U'), (OTHER, 'D'), (OTHER, 'U')]);
    assert_eq!(it.look(at(3), &rest), None);
    assert_eq!(it.priority(), Some(OTHER));
}

#[test]
fn the_priority_of_the_group_in_use_may_change_under_it() {
    let mut it = failed_over(Failback::Manual);
    // The target makes the group in use optimized: no move is needed to be in the best one.
    let swapped = paths(&[(OTHER, 'U'), (OPTIMIZED, 'U')]);
    assert_eq!(it.look(at(2), &swapped), None);
    assert_eq!(it.priority(), Some(OPTIMIZED));
}

#[test]
fn without_any_path_the_choice_stays() {
    let mut it = failed_over(Failback::Immediate);
    assert_eq!(
        it.look(at(2), &paths(&[(OPTIMIZED, 'D'), (OTHER, 'D')])),
        None
    );
    assert_eq!(it.priority(), Some(OTHER));
    assert_eq!(it.look(at(2), &[]), None);
}

#[test]
fn modes_are_written_as_in_multipath_conf() {
    for (text, mode) in [
        ("immediate", Failback::Immediate),
        ("manual", Failback::Manual),
        ("followover", Failback::FollowOver),
        ("15", Failback::After(Duration::from_secs(15))),
    ] {
        assert_eq!(text.parse(), Ok(mode));
        assert_eq!(mode.to_string(), text);
    }
    assert_eq!("0".parse(), Ok(Failback::Immediate));
    let error = "sometimes".parse::<Failback>().unwrap_err();
    assert!(error.to_string().contains("followover"));
}
