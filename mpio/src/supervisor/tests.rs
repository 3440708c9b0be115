use super::*;
use crate::testing::at;

const LIFE: Incarnation = Incarnation(1);
const NEXT: Incarnation = Incarnation(2);

fn active() -> Supervisor {
    let up = NexusState::Up(LIFE);
    let mut it = Supervisor::new(at(0), up, &Config::default());
    assert_eq!(it.poll(at(0)), Action::Verify(LIFE));
    it.verified(at(0), LIFE, Verified::Same);
    assert_eq!(it.state(), PathState::Active);
    assert_eq!(it.usable_in(), Some(LIFE));
    it
}

fn report(trouble: Trouble) -> Report {
    Report {
        incarnation: LIFE,
        trouble,
    }
}

#[test]
fn a_new_path_carries_nothing_before_it_is_verified() {
    let it = Supervisor::new(at(0), NexusState::Up(LIFE), &Config::default());
    assert_eq!(it.state(), PathState::Verifying);
    assert_eq!(it.usable_in(), None);
    let it = Supervisor::new(at(0), NexusState::Down(LIFE), &Config::default());
    assert_eq!(
        (it.state(), it.poll(at(0))),
        (PathState::Down, Action::Wait(None))
    );
}

#[test]
fn a_healthy_path_is_checked_after_5_10_20_20_seconds() {
    let mut it = active();
    let mut due = 5_000;
    for step in [10_000, 20_000, 20_000] {
        assert_eq!(it.poll(at(due - 1)), Action::Wait(Some(at(due))));
        assert_eq!(it.poll(at(due)), Action::Check(LIFE));
        it.probed(at(due), LIFE, Probed::Answers);
        due += step;
    }
}

#[test]
fn suspicion_is_checked_at_once_and_can_be_cleared() {
    let mut it = active();
    it.report(at(100), report(Trouble::Suspect));
    assert_eq!(it.state(), PathState::Suspect);
    assert_eq!(it.usable_in(), Some(LIFE));
    assert_eq!(it.poll(at(100)), Action::Probe(LIFE));
    it.probed(at(110), LIFE, Probed::Answers);
    assert_eq!(it.state(), PathState::Active);
    assert_eq!(it.poll(at(110)), Action::Wait(Some(at(5_110))));
}

#[test]
fn two_silences_fail_a_path_and_it_comes_back_only_verified() {
    let mut it = active();
    it.probed(at(5_000), LIFE, Probed::Silent);
    assert_eq!(it.state(), PathState::Suspect);
    it.probed(at(6_000), LIFE, Probed::Silent);
    assert_eq!(it.state(), PathState::Failed);
    assert_eq!(it.usable_in(), None);
    // 1, 2, 4 ... 32, 32 seconds.
    let mut due = 7_000;
    for step in [2, 4, 8, 16, 32, 32] {
        assert_eq!(it.poll(at(due - 1)), Action::Wait(Some(at(due))));
        assert_eq!(it.poll(at(due)), Action::Verify(LIFE));
        it.verified(at(due), LIFE, Verified::Unclear);
        due += step * 1_000;
    }
    it.verified(at(due), LIFE, Verified::Same);
    assert_eq!(it.usable_in(), Some(LIFE));
}

#[test]
fn a_new_life_is_verified_anew() {
    let mut it = active();
    it.nexus(at(10), NexusState::Down(LIFE));
    assert_eq!((it.state(), it.usable_in()), (PathState::Down, None));
    it.nexus(at(20), NexusState::Up(NEXT));
    assert_eq!((it.state(), it.usable_in()), (PathState::Verifying, None));
    assert_eq!(it.poll(at(20)), Action::Verify(NEXT));
    // Old news of the old life.
    it.verified(at(21), LIFE, Verified::Same);
    it.probed(at(21), LIFE, Probed::Answers);
    it.report(at(21), report(Trouble::Unusable));
    assert_eq!(it.state(), PathState::Verifying);
    it.verified(at(22), NEXT, Verified::Same);
    assert_eq!(it.usable_in(), Some(NEXT));
}

#[test]
fn even_without_a_down_in_between() {
    let mut it = active();
    it.nexus(at(20), NexusState::Up(NEXT));
    assert_eq!(it.usable_in(), None);
}

#[test]
fn a_different_unit_is_not_used_but_looked_at_again() {
    let mut it = active();
    it.nexus(at(20), NexusState::Up(NEXT));
    it.verified(at(30), NEXT, Verified::Different);
    assert_eq!((it.state(), it.usable_in()), (PathState::Mismatched, None));
    assert_eq!(it.poll(at(32_030)), Action::Verify(NEXT));
}

#[test]
fn a_unit_that_may_have_changed_is_looked_at_at_once() {
    for trouble in [Trouble::Changed, Trouble::Lost] {
        let mut it = active();
        it.report(at(50), report(trouble));
        assert_eq!(it.usable_in(), None);
        assert_eq!(it.poll(at(50)), Action::Verify(LIFE));
    }
    let mut it = active();
    it.probed(at(50), LIFE, Probed::Changed);
    assert_eq!(it.poll(at(50)), Action::Verify(LIFE));
}

#[test]
fn an_unusable_unit_fails_the_path() {
    let mut it = active();
    it.report(at(50), report(Trouble::Unusable));
    assert_eq!(it.state(), PathState::Failed);
    assert_eq!(it.poll(at(50)), Action::Wait(Some(at(1_050))));
}

#[test]
fn closed_is_the_end() {
    let mut it = active();
    it.nexus(at(50), NexusState::Closed);
    assert_eq!((it.state(), it.usable_in()), (PathState::Closed, None));
    assert_eq!(it.poll(at(100_000)), Action::Wait(None));
}

#[test]
fn a_pause_of_nothing_is_not_taken_literally() {
    let config = Config {
        failed_retry: Duration::ZERO,
        failed_retry_max: Duration::ZERO,
        ..Config::default()
    };
    let mut it = Supervisor::new(at(0), NexusState::Up(LIFE), &config);
    it.verified(at(0), LIFE, Verified::Unclear);
    assert_eq!(it.poll(at(0)), Action::Wait(Some(at(10))));
}

fn flap(it: &mut Supervisor, ms: u64, life: u64) {
    it.nexus(at(ms), NexusState::Down(Incarnation(life)));
    let next = Incarnation(life + 1);
    it.nexus(at(ms), NexusState::Up(next));
    it.verified(at(ms), next, Verified::Same);
}

#[test]
fn a_path_that_comes_and_goes_is_used_last_until_it_was_well_for_long_enough() {
    let mut it = active();
    flap(&mut it, 1_000, 1);
    flap(&mut it, 2_000, 2);
    assert_eq!(it.state(), PathState::Active);
    flap(&mut it, 3_000, 3);
    let life = Incarnation(4);
    assert_eq!(it.state(), PathState::Marginal);
    assert_eq!(it.usable_in(), Some(life), "the last one must do");
    // Read from once a second.
    it.probed(at(8_000), life, Probed::Answers);
    assert_eq!(it.poll(at(8_000)), Action::Wait(Some(at(9_000))));
    assert_eq!(it.poll(at(9_000)), Action::Sample(life));
    // Silence while it is watched, and the time runs anew.
    it.probed(at(9_000), life, Probed::Silent);
    assert_eq!(it.state(), PathState::Suspect);
    it.probed(at(9_000), life, Probed::Answers);
    assert_eq!(it.state(), PathState::Marginal);
    it.tick(at(38_999));
    assert_eq!(it.state(), PathState::Marginal);
    it.tick(at(39_000));
    assert_eq!(it.state(), PathState::Active);
    assert_eq!(it.poll(at(44_000)), Action::Check(life));
}

#[test]
fn a_path_in_quarantine_that_is_away_does_not_get_well_meanwhile() {
    let mut it = active();
    for (ms, life) in [(0, 1), (0, 2), (0, 3)] {
        flap(&mut it, ms, life);
    }
    it.nexus(at(10), NexusState::Down(Incarnation(4)));
    it.tick(at(600_000));
    flap(&mut it, 600_000, 4);
    assert_eq!(it.state(), PathState::Marginal);
    assert_eq!(it.recovery(at(600_000)), Some(Duration::from_secs(30)));
}

#[test]
fn a_path_that_fails_in_quarantine_is_not_woken_for_its_end() {
    let mut it = active();
    for (ms, life) in [(0, 1), (0, 2), (0, 3)] {
        flap(&mut it, ms, life);
    }
    let life = Incarnation(4);
    it.probed(at(1_000), life, Probed::Unusable);
    it.verified(at(2_000), life, Verified::Unclear);
    // The quarantine would have ended after 30 s; nothing is due then.
    for _ in 0..4 {
        let Action::Wait(Some(due)) = it.poll(at(31_000)) else {
            let Action::Verify(_) = it.poll(at(31_000)) else {
                panic!("{:?}", it.poll(at(31_000)));
            };
            it.verified(at(31_000), life, Verified::Unclear);
            continue;
        };
        assert!(due > at(31_000));
    }
}
