use super::*;
use crate::testing::at;
use scsi::alua::{StateChange, SupportedStates};

use AccessState::{
    ActiveNonOptimized as Ano, ActiveOptimized as Ao, Standby, Transitioning, Unavailable,
};

const INTERVAL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

/// Group `id` with ports `10 id` and `10 id + 1`.
fn group(id: u16, state: AccessState, preferred: bool) -> TargetPortGroup {
    TargetPortGroup {
        id,
        state,
        preferred,
        supported: SupportedStates::default(),
        change: StateChange::Unknown,
        vendor_specific: 0,
        ports: vec![id.wrapping_mul(10), id.wrapping_mul(10).wrapping_add(1)],
    }
}

fn report(groups: &[(u16, AccessState, bool)], seconds: Option<u64>) -> TargetPortGroups {
    let group = |&(id, state, preferred): &_| group(id, state, preferred);
    TargetPortGroups {
        groups: groups.iter().map(group).collect(),
        implicit_transition: seconds.map(Duration::from_secs),
        needed_bytes: 0,
    }
}

fn port(group: u16) -> TargetPort {
    TargetPort {
        group: Some(group),
        port: Some(10 * group),
    }
}

/// A path in a group: `U`sable, `S`tandby, `V`erified now, `D`own.
fn path(group: u16, state: char) -> Sight {
    Sight {
        port: port(group),
        up: !matches!(state, 'D' | 'V'),
        usable: state == 'U',
        verifying: state == 'V',
    }
}

/// A watch that has had its first report, at 0, and looked at the paths.
fn watch(tpgs: Tpgs, groups: &[(u16, AccessState, bool)], paths: &[Sight]) -> Watch {
    let mut it = Watch::new(tpgs, INTERVAL, at(0));
    assert_eq!(it.next(at(0), paths, AT_ONCE), Action::Report);
    it.reported(at(0), report(groups, Some(10)));
    assert_eq!(it.next(at(0), paths, AT_ONCE), Action::Wait(at(5_000)));
    it
}

#[test]
fn without_target_port_groups_there_is_nothing_to_do() {
    let mut it = Watch::new(Tpgs::None, INTERVAL, at(0));
    it.ask(at(0));
    assert_eq!(it.next(at(0), &[path(1, 'U')], AT_ONCE), Action::Rest);
    it.set_tpgs(at(1), Tpgs::Implicit);
    assert_eq!(it.next(at(1), &[path(1, 'U')], AT_ONCE), Action::Report);
}

#[test]
fn one_report_for_many_questions_and_one_more_for_those_meanwhile() {
    let paths = [path(1, 'U'), path(2, 'U')];
    let mut it = watch(Tpgs::Implicit, &[(1, Ao, true), (2, Ano, false)], &paths);
    for _ in 0..5 {
        it.ask(at(100));
    }
    assert_eq!(it.next(at(100), &paths, AT_ONCE), Action::Report);
    // While it is under way: no second one at once, but one afterwards.
    it.ask(at(101));
    it.ask(at(102));
    it.reported(at(103), report(&[(1, Ano, true), (2, Ao, false)], None));
    assert_eq!(it.next(at(103), &paths, AT_ONCE), Action::Report);
    it.reported(at(104), report(&[(1, Ano, true), (2, Ao, false)], None));
    assert_eq!(it.next(at(104), &paths, AT_ONCE), Action::Wait(at(5_104)));
}

#[test]
fn asks_less_and_less_often_when_nothing_happens() {
    let paths = [path(1, 'U')];
    let mut it = watch(Tpgs::Implicit, &[(1, Ao, false)], &paths);
    let mut now = 0;
    for step in [5_000, 10_000, 20_000, 20_000] {
        assert_eq!(
            it.next(at(now + step - 1), &paths, AT_ONCE),
            Action::Wait(at(now + step))
        );
        now += step;
        assert_eq!(it.next(at(now), &paths, AT_ONCE), Action::Report);
        it.reported(at(now), report(&[(1, Ao, false)], None));
    }
}

#[test]
fn nobody_is_asked_over_paths_that_are_down() {
    let mut it = Watch::new(Tpgs::Both, INTERVAL, at(0));
    assert_eq!(it.next(at(0), &[path(1, 'D')], AT_ONCE), Action::Rest);
    assert_eq!(it.next(at(9), &[path(1, 'S')], AT_ONCE), Action::Report);
}

#[test]
fn paths_are_found_by_group_then_by_port() {
    let it = watch(
        Tpgs::Implicit,
        &[(1, Ao, true), (2, Ano, false)],
        &[path(1, 'U')],
    );
    let access = |group, port| it.access(at(0), TargetPort { group, port });
    let both = access(Some(2), Some(10)).unwrap();
    assert_eq!((both.group, both.state, both.preferred), (2, Ano, false));
    let by_port = access(None, Some(11)).unwrap();
    assert_eq!((by_port.group, by_port.port), (1, Some(11)));
    assert_eq!(access(Some(77), Some(20)).unwrap().group, 2);
    assert_eq!(access(Some(77), Some(99)), None);
    assert_eq!(access(None, None), None);
}

#[test]
fn changes_are_told_once() {
    let paths = [path(1, 'U'), path(2, 'U')];
    let mut it = watch(Tpgs::Implicit, &[(1, Ao, false), (2, Ano, false)], &paths);
    assert_eq!(it.news(at(0)).len(), 2);
    it.reported(
        at(1),
        report(&[(1, Ano, false), (2, Ano, true), (3, Ao, false)], None),
    );
    let change = |group, from, to, preferred| Change {
        group,
        from,
        to,
        preferred,
    };
    assert_eq!(
        it.news(at(1)),
        [
            change(1, Some(Ao), Ano, false),
            change(2, Some(Ano), Ano, true),
            change(3, None, Ao, false),
        ]
    );
    it.reported(
        at(2),
        report(&[(1, Ano, false), (2, Ano, true), (3, Ao, false)], None),
    );
    assert_eq!(it.news(at(2)), []);
    // A refused command is news, too; the report that confirms it is not.
    it.denied(at(1_000), port(1), Standby);
    assert_eq!(it.news(at(1_000)), [change(1, Some(Ano), Standby, false)]);
    it.reported(
        at(1_001),
        report(&[(1, Standby, false), (2, Ano, true), (3, Ao, false)], None),
    );
    assert_eq!(it.news(at(1_200)), []);
}

#[test]
fn a_refused_command_counts_more_than_a_report_for_100_ms() {
    let paths = [path(1, 'U')];
    let mut it = watch(Tpgs::Implicit, &[(1, Ao, false)], &paths);
    let state = |it: &Watch, ms| it.access(at(ms), port(1)).unwrap().state;
    it.denied(at(1_000), port(1), Standby);
    assert_eq!(state(&it, 1_000), Standby);
    assert_eq!(it.next(at(1_000), &paths, AT_ONCE), Action::Report);
    it.reported(at(1_001), report(&[(1, Ao, false)], None));
    assert_eq!(state(&it, 1_099), Standby);
    // Somebody has to look when that ends.
    assert_eq!(it.next(at(1_001), &paths, AT_ONCE), Action::Wait(at(1_100)));
    assert_eq!(state(&it, 1_100), Ao);
}

#[test]
fn a_transition_is_waited_for_as_long_as_the_target_says() {
    let paths = [path(1, 'S')];
    let mut it = watch(Tpgs::Implicit, &[(1, Ao, false)], &paths);
    it.denied(at(1_000), port(1), Transitioning);
    // The target said 10 s.
    assert_eq!(it.transition_ends(at(1_000)), Some(at(11_000)));
    let mut polls = Vec::new();
    let mut now = 1_000;
    while it.transition_ends(at(now)).is_some() {
        match it.next(at(now), &paths, AT_ONCE) {
            Action::Report => {
                polls.push(now);
                it.reported(at(now), report(&[(1, Transitioning, false)], Some(10)));
            }
            Action::Wait(until) => {
                now = u64::try_from((until - at(0)).as_millis()).unwrap();
            }
            other @ (Action::Set(_) | Action::Rest) => panic!("{other:?}"),
        }
    }
    assert_eq!(now, 11_000);
    assert_eq!(polls[..6], [1_000, 1_050, 1_150, 1_350, 1_750, 2_550]);
    assert_eq!(it.access(at(10_999), port(1)).unwrap().state, Transitioning);
    assert_eq!(it.access(at(11_000), port(1)).unwrap().state, Standby);
}

#[test]
fn without_a_word_a_transition_may_take_a_minute_and_ends_with_a_report() {
    let paths = [path(1, 'S')];
    let mut it = watch(Tpgs::Implicit, &[(1, Ao, false)], &paths);
    it.reported(at(0), report(&[(1, Transitioning, false)], None));
    assert_eq!(it.transition_ends(at(59_999)), Some(at(60_000)));
    assert_eq!(it.transition_ends(at(60_000)), None);
    it.reported(at(500), report(&[(1, Ao, false)], None));
    assert_eq!(it.transition_ends(at(500)), None);
}

#[test]
fn a_group_is_opened_only_when_io_has_nowhere_to_go() {
    let groups = [
        (1, Unavailable, false),
        (2, Standby, false),
        (3, Standby, false),
    ];
    let paths = [path(1, 'S'), path(2, 'S'), path(3, 'D')];
    let mut it = watch(Tpgs::Explicit, &groups, &paths);
    assert_eq!(it.next(at(1), &paths, AT_ONCE), Action::Wait(at(5_000)));
    it.demand(at(1), at(3_600_000));
    // Standby before unavailable; nothing through a path that is down.
    assert_eq!(it.next(at(1), &paths, AT_ONCE), Action::Set(2));
    it.was_set(at(2), 2, true);
    // What became of it, before anything else.
    assert_eq!(it.next(at(2), &paths, AT_ONCE), Action::Report);
}

#[test]
fn no_other_group_is_opened_while_a_path_into_an_open_one_is_verified() {
    let groups = [(1, Standby, true), (2, Ao, false)];
    let verified = [path(1, 'S'), path(2, 'V')];
    let mut it = watch(Tpgs::Explicit, &groups, &verified);
    it.demand(at(1), at(3_600_000));
    // Many targets close group 2 when group 1 is opened.
    assert_eq!(it.next(at(1), &verified, AT_ONCE), Action::Wait(at(5_000)));
    // It turned out to be of no use.
    let useless = [path(1, 'S'), path(2, 'D')];
    assert_eq!(it.next(at(2), &useless, AT_ONCE), Action::Set(1));
    // A path that is verified in vain, because its group is closed, is not waited for.
    let mut it = watch(Tpgs::Explicit, &[groups[0], (2, Standby, false)], &verified);
    it.demand(at(1), at(3_600_000));
    assert_eq!(it.next(at(1), &verified, AT_ONCE), Action::Set(1));
}

#[test]
fn who_may_not_open_a_group_does_not() {
    let groups = [(1, Standby, false)];
    let paths = [path(1, 'S')];
    let mut it = watch(Tpgs::Implicit, &groups, &paths);
    it.demand(at(1), at(3_600_000));
    assert_eq!(it.next(at(1), &paths, AT_ONCE), Action::Wait(at(5_000)));
    // Nor when there is another way after all.
    let mut it = watch(Tpgs::Both, &[(1, Standby, false), (2, Ano, false)], &paths);
    it.demand(at(1), at(3_600_000));
    let open = [path(1, 'S'), path(2, 'U')];
    assert_eq!(it.next(at(1), &open, AT_ONCE), Action::Wait(at(5_000)));
    // Nor what others wanted an hour ago.
    assert_eq!(it.next(at(2), &paths, AT_ONCE), Action::Wait(at(5_000)));
}

#[test]
fn refusals_are_not_answered_with_haste() {
    let paths = [path(1, 'S')];
    let mut it = watch(Tpgs::Both, &[(1, Standby, false)], &paths);
    let mut now = 1;
    for pause in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000] {
        it.demand(at(1), at(3_600_000));
        assert_eq!(it.next(at(now), &paths, AT_ONCE), Action::Set(1));
        it.was_set(at(now), 1, false);
        assert_eq!(it.next(at(now), &paths, AT_ONCE), Action::Report);
        it.reported(at(now), report(&[(1, Standby, false)], None));
        it.demand(at(1), at(3_600_000));
        let next = it.next(at(now + pause - 1), &paths, AT_ONCE);
        assert!(!matches!(next, Action::Set(_)), "{next:?}");
        if next == Action::Report {
            it.reported(at(now + pause - 1), report(&[(1, Standby, false)], None));
        }
        now += pause;
    }
}

#[test]
fn a_transition_is_not_disturbed() {
    let paths = [path(1, 'S'), path(2, 'S')];
    let mut it = Watch::new(Tpgs::Both, INTERVAL, at(0));
    assert_eq!(it.next(at(0), &paths, AT_ONCE), Action::Report);
    it.reported(
        at(0),
        report(&[(1, Standby, false), (2, Transitioning, false)], None),
    );
    it.demand(at(1), at(3_600_000));
    assert_eq!(it.next(at(1), &paths, AT_ONCE), Action::Wait(at(50)));
    assert_eq!(it.next(at(50), &paths, AT_ONCE), Action::Report);
    it.reported(
        at(51),
        report(&[(1, Standby, false), (2, Standby, false)], None),
    );
    assert_eq!(it.next(at(51), &paths, AT_ONCE), Action::Set(1));
}

/// Group 1 is preferred and optimized until its path goes down; the unit moves to group 2. Then
/// the path returns.
fn returned(patience: Option<Duration>) -> Watch {
    let up = [path(1, 'U'), path(2, 'U')];
    let mut it = watch(Tpgs::Both, &[(1, Ao, true), (2, Ano, false)], &up);
    let down = [path(1, 'D'), path(2, 'U')];
    it.next(at(100), &down, patience);
    it.ask(at(100));
    assert_eq!(it.next(at(100), &down, patience), Action::Report);
    it.reported(at(101), report(&[(1, Ano, true), (2, Ao, false)], None));
    it
}

#[test]
fn a_preferred_group_is_opened_when_a_path_into_it_comes_back() {
    let back = [path(1, 'U'), path(2, 'U')];
    let mut it = returned(AT_ONCE);
    assert_eq!(it.next(at(200), &back, AT_ONCE), Action::Set(1));
    let mut it = returned(None);
    assert!(matches!(it.next(at(200), &back, None), Action::Wait(_)));
    let delay = Some(Duration::from_secs(3));
    let mut it = returned(delay);
    assert_eq!(it.next(at(200), &back, delay), Action::Wait(at(3_200)));
    assert_eq!(it.next(at(3_200), &back, delay), Action::Set(1));
    // Gone again meanwhile: not even after its time.
    let mut it = returned(delay);
    it.next(at(200), &back, delay);
    it.next(at(300), &[path(1, 'D'), path(2, 'U')], delay);
    assert!(!matches!(
        it.next(at(4_000), &[path(1, 'D'), path(2, 'U')], delay),
        Action::Set(_)
    ));
}

#[test]
fn what_another_host_moved_is_not_taken_back() {
    let up = [path(1, 'U'), path(2, 'U')];
    let mut it = watch(Tpgs::Both, &[(1, Ao, true), (2, Ano, false)], &up);
    it.ask(at(100));
    it.next(at(100), &up, AT_ONCE);
    it.reported(at(100), report(&[(1, Ano, true), (2, Ao, false)], None));
    assert_eq!(it.next(at(100), &up, AT_ONCE), Action::Wait(at(5_100)));
    // Until the administrator says so.
    it.want_preferred(at(200));
    assert_eq!(it.next(at(200), &up, AT_ONCE), Action::Set(1));
}

#[test]
fn a_report_that_does_not_come_is_asked_for_again_later() {
    let paths = [path(1, 'U')];
    let mut it = Watch::new(Tpgs::Implicit, INTERVAL, at(0));
    assert_eq!(it.next(at(0), &paths, AT_ONCE), Action::Report);
    it.unreported(at(0));
    assert_eq!(it.next(at(0), &paths, AT_ONCE), Action::Wait(at(500)));
    assert_eq!(it.access(at(0), port(1)), None);
}

#[test]
fn a_report_without_end_is_cut() {
    let many: Vec<_> = (0..2_000).map(|id| (id, Ao, false)).collect();
    let mut it = Watch::new(Tpgs::Implicit, INTERVAL, at(0));
    it.reported(at(0), report(&many, None));
    assert_eq!(it.groups(at(0)).len(), 256);
}
