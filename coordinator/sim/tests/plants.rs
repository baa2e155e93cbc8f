//! What the simulator is worth: bugs made on purpose are caught, each by the invariant that is there for it.

#![allow(clippy::print_stdout)]

use muster_sim::{Options, Plant, run_with};
use std::sync::Mutex;

/// Seeds that have to pass without a bug.
const SEEDS: u64 = 40;
/// A bug has to be caught within this many. Few take more than a dozen; the rest is room for seeds that mean another run after a change.
const CAUGHT_WITHIN: u64 = 200;

#[test]
fn every_planted_bug_is_caught_by_its_invariant() {
    let left = Mutex::new(Plant::all().collect::<Vec<_>>());
    let missed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let Some(plant) = left.lock().expect("no panic").pop() else { return };
                match plant.hunt(0..CAUGHT_WITHIN) {
                    Some(caught) => println!("{:<20} seed {:>3}  {}", plant.name(), caught.seed, caught.said),
                    None => missed.lock().expect("no panic").push(plant),
                }
            }
        };
        (0..threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    if let Some(plant) = missed.into_inner().expect("no panic").into_iter().next() {
        let others: Vec<String> =
            (0..20).flat_map(|seed| run_with(Options::planted(seed, plant)).violations).collect();
        panic!(
            "{}: {} says nothing in {CAUGHT_WITHIN} seeds; in the first 20 others said: {others:?}",
            plant.name(),
            plant.invariant()
        );
    }
}

#[test]
fn the_same_seeds_without_a_bug_hold_every_property() {
    for seed in 0..SEEDS {
        let outcome = run_with(Options::hostile(seed));
        let command = outcome.command();
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}\n  again: {command}", outcome.violations);
    }
}
