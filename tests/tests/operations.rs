//! Operations on a session out of random bytes: what the fuzzers do for hours
//! (`fuzz/targets/session_ops.rs`), for a moment with every change.

/// Inputs of a run.
const INPUTS: u64 = 1000;

fn input(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let bytes = random.usize(3..400);
    (0..bytes).map(|_| random.u8(..)).collect()
}

#[test]
fn any_operations_end_and_lose_nothing() {
    for seed in 0..INPUTS {
        let run = std::panic::catch_unwind(|| world::operations::run(&input(seed)));
        assert!(run.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_target_that_executes_what_was_over_is_noticed() {
    let noticed = |seed| {
        std::panic::catch_unwind(|| world::operations::run_with_ghosts(&input(seed))).is_err()
    };
    assert!((0..INPUTS).any(noticed));
}
