//! The simulation: seeds that must pass, and sabotage that must be noticed.

#![allow(clippy::print_stdout, reason = "what fails is to be seen")]

use std::time::Duration;

use world::sweep::{Summary, run, sweep};
use world::{Sabotage, Scenario};

fn describe(summary: &Summary) -> String {
    let lines = summary.failures.iter().map(|report| {
        let problems = report.problems.join("\n  ");
        format!(
            "seed {}:\n  {problems}\n  again: cargo xtask sim --seed {} --trace",
            report.seed, report.seed
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs seeds with something broken; how many of them were noticed.
fn noticed(sabotage: Sabotage, seeds: u64, make: fn(u64) -> Scenario) -> usize {
    let summary = sweep(0, seeds, |seed| Scenario {
        sabotage,
        ..make(seed)
    });
    println!(
        "{sabotage:?}: {} of {seeds}\n{}",
        summary.failures.len(),
        describe(&summary)
    );
    summary.failures.len()
}

#[test]
fn sim_smoke() {
    let summary = sweep(0, 60, Scenario::random);
    println!("{:?}, {} events", summary.tally, summary.events);
    assert!(summary.failures.is_empty(), "{}", describe(&summary));
    // It was about something.
    assert!(summary.tally.reads > 3_000 && summary.tally.writes > 3_000);
    assert!(summary.tally.repeated > 0 && summary.tally.unknown > 0 && summary.tally.dropped > 0);
}

#[test]
fn a_seed_is_one_run_and_no_other() {
    let mut hashes = Vec::new();
    for seed in 1000..1005 {
        let first = run(Scenario::random(seed), false);
        let second = run(Scenario::random(seed), false);
        assert_eq!(
            (first.hash, first.events),
            (second.hash, second.events),
            "seed {seed}"
        );
        assert!(first.events > 100);
        hashes.push(first.hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn writes_from_the_past_are_fenced() {
    let summary = sweep(0, 20, Scenario::haunted);
    assert!(summary.failures.is_empty(), "{}", describe(&summary));
    assert!(summary.tally.repeated > 0 && summary.tally.writes > 3_000);
}

#[test]
fn without_a_fence_writes_from_the_past_are_noticed() {
    assert!(noticed(Sabotage::LyingFence, 20, Scenario::haunted) >= 15);
}

#[test]
fn a_target_that_answers_too_early_is_given_time_to_settle() {
    let settled = |seed| Scenario::early(seed, Duration::from_secs(2));
    let summary = sweep(0, 10, settled);
    assert!(summary.failures.is_empty(), "{}", describe(&summary));
    assert!(summary.tally.writes > 1_000);
    assert!(
        noticed(Sabotage::None, 10, |seed| Scenario::early(
            seed,
            Duration::ZERO
        )) >= 8
    );
}

#[test]
fn a_flipped_byte_is_noticed() {
    assert_eq!(noticed(Sabotage::FlippedByte, 5, Scenario::calm), 5);
}

#[test]
fn a_lost_write_is_noticed() {
    assert_eq!(noticed(Sabotage::LostWrite, 5, Scenario::calm), 5);
}
