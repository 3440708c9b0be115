use super::*;
use crate::testing::at;
use scsi::Lba;

const P: PathId = PathId(0);
const Q: PathId = PathId(1);

fn blocks(first: u64, count: u64) -> LbaRange {
    LbaRange {
        first: Lba(first),
        blocks: Some(count),
    }
}

fn life(n: u64) -> Incarnation {
    Incarnation(n)
}

#[test]
fn only_overlapping_ranges_are_in_the_way() {
    let holds = Holds::default();
    assert_eq!(holds.in_the_way(blocks(0, 100)), Standing::Free);
    holds.hold(blocks(10, 5), P, life(1), Cause::Lost, at(0));
    assert_eq!(holds.in_the_way(blocks(5, 5)), Standing::Free);
    assert_eq!(holds.in_the_way(blocks(5, 6)), Standing::Held);
    assert_eq!(holds.in_the_way(blocks(14, 1)), Standing::Held);
    assert_eq!(holds.in_the_way(blocks(15, 1)), Standing::Free);
    let rest = LbaRange {
        first: Lba(0),
        blocks: None,
    };
    assert_eq!(holds.in_the_way(rest), Standing::Held);
}

#[test]
fn a_fence_frees_this_life_and_earlier_ones_of_its_path_only() {
    let holds = Holds::default();
    let old = holds.hold(blocks(0, 1), P, life(1), Cause::Lost, at(0));
    let now = holds.hold(blocks(1, 1), P, life(2), Cause::Lost, at(5));
    let other = holds.hold(blocks(2, 1), Q, life(1), Cause::Lost, at(6));
    let job = holds.job(P, Some(life(3))).unwrap();
    assert_eq!((job.incarnation, job.settle), (life(2), false));
    assert_eq!((job.since, job.writes), (at(0), 2));
    let newer = holds.hold(blocks(3, 1), P, life(3), Cause::Lost, at(7));
    assert_eq!(holds.release(P, job), 2);
    assert_eq!(holds.standing(old), Standing::Free);
    assert_eq!(holds.standing(now), Standing::Free);
    assert_eq!(holds.standing(other), Standing::Held);
    assert_eq!(holds.standing(newer), Standing::Held);
    assert_eq!(holds.count(), 2);
}

#[test]
fn a_dropped_write_on_a_living_path_costs_nothing_until_somebody_wants_its_blocks() {
    let holds = Holds::default();
    let id = holds.hold(blocks(0, 8), P, life(1), Cause::Dropped, at(0));
    assert_eq!(holds.job(P, Some(life(1))), None);
    assert_eq!(holds.in_the_way(blocks(4, 1)), Standing::Held);
    let job = holds.job(P, Some(life(1))).unwrap();
    assert!(job.settle);
    // What is dropped after the question is not answered by it.
    let late = holds.hold(blocks(0, 8), P, life(1), Cause::Dropped, at(1));
    holds.release(P, job);
    assert_eq!(holds.standing(id), Standing::Free);
    assert_eq!(holds.standing(late), Standing::Held);
}

#[test]
fn a_dropped_write_on_a_dead_path_needs_the_fence() {
    let holds = Holds::default();
    holds.hold(blocks(0, 8), P, life(1), Cause::Dropped, at(0));
    let job = holds.job(P, None).unwrap();
    assert!(!job.settle);
    let job = holds.job(P, Some(life(2))).unwrap();
    assert_eq!((job.incarnation, job.settle), (life(1), false));
}

#[test]
fn a_lost_write_is_fenced_even_on_a_path_that_seems_to_live() {
    let holds = Holds::default();
    holds.hold(blocks(0, 8), P, life(1), Cause::Dropped, at(0));
    holds.hold(blocks(8, 8), P, life(1), Cause::Lost, at(0));
    assert!(!holds.job(P, Some(life(1))).unwrap().settle);
}

#[test]
fn what_is_settled_in_one_life_frees_nothing_of_an_earlier_one() {
    let holds = Holds::default();
    let old = holds.hold(blocks(0, 8), P, life(1), Cause::Dropped, at(0));
    let new = holds.hold(blocks(0, 8), P, life(2), Cause::Dropped, at(1));
    assert_eq!(holds.in_the_way(blocks(0, 1)), Standing::Held);
    let job = holds.job(P, Some(life(2))).unwrap();
    assert_eq!(
        (job.incarnation, job.settle, job.writes),
        (life(2), true, 1)
    );
    assert_eq!(holds.release(P, job), 1);
    assert_eq!(holds.standing(new), Standing::Free);
    assert_eq!(holds.standing(old), Standing::Held);
    let job = holds.job(P, Some(life(2))).unwrap();
    assert_eq!((job.incarnation, job.settle), (life(1), false));
    assert_eq!(holds.release(P, job), 1);
}

#[test]
fn idle_holds_are_bounded() {
    let holds = Holds::default();
    for n in 0..64 {
        holds.hold(blocks(n, 1), P, life(1), Cause::Dropped, at(0));
    }
    assert_eq!(holds.job(P, Some(life(1))), None);
    holds.hold(blocks(64, 1), P, life(1), Cause::Dropped, at(0));
    assert_eq!(holds.job(P, Some(life(1))).unwrap().writes, 65);
}

#[test]
fn a_path_that_can_never_be_fenced_leaves_its_ranges_held() {
    let holds = Holds::default();
    let id = holds.hold(blocks(0, 8), P, life(1), Cause::Lost, at(0));
    holds.give_up(P);
    assert_eq!(holds.standing(id), Standing::Hopeless);
    assert_eq!(holds.in_the_way(blocks(0, 1)), Standing::Hopeless);
    assert_eq!(holds.in_the_way(blocks(8, 1)), Standing::Free);
}
