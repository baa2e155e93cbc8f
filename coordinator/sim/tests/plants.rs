//! What the simulator is worth: bugs made on purpose are caught, each by the invariant that is there for it.

#![allow(clippy::print_stdout)]

use muster_sim::{Options, Outcome, Plant, run_with};
use std::sync::Mutex;

/// Seeds that have to pass without a bug.
const SEEDS: u64 = 40;
/// A bug has to be caught within this many. Today none takes more than 14; the rest is room for seeds that mean another run after a change.
const CAUGHT_WITHIN: u64 = 120;

/// The first seed under which the plant's own invariant speaks, and what other invariants said before.
fn caught(plant: Plant) -> Result<(u64, Outcome), String> {
    let mut others = Vec::new();
    for seed in 0..CAUGHT_WITHIN {
        let outcome = run_with(Options::planted(seed, plant));
        let name = format!("{}: ", plant.invariant());
        if outcome.violations.iter().any(|v| v.contains(&name)) {
            return Ok((seed, outcome));
        }
        others.extend(outcome.violations.into_iter().map(|v| format!("seed {seed}: {v}")));
    }
    Err(format!(
        "{}: {} says nothing in {CAUGHT_WITHIN} seeds; others: {others:?}",
        plant.name(),
        plant.invariant()
    ))
}

#[test]
fn every_planted_bug_is_caught_by_its_invariant() {
    let left = Mutex::new(Plant::all().collect::<Vec<_>>());
    let missed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let Some(plant) = left.lock().expect("no panic").pop() else { return };
                match caught(plant) {
                    Ok((seed, outcome)) => {
                        let first = &outcome.violations[0];
                        println!("{:<20} seed {seed:>2}  {first}\n    {}", plant.name(), outcome.command());
                    }
                    Err(what) => missed.lock().expect("no panic").push(what),
                }
            }
        };
        (0..threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_same_seeds_without_a_bug_hold_every_property() {
    for seed in 0..SEEDS {
        let outcome = run_with(Options::hostile(seed));
        let command = outcome.command();
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}\n  again: {command}", outcome.violations);
    }
}
