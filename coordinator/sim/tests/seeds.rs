//! The gate: 200 seeds hold every property, and a seed repeats to the last event.

use muster_sim::{Options, run, run_with};

#[test]
fn two_hundred_seeds_hold_every_property() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let share = |t| {
            move || {
                (t..200)
                    .step_by(threads as usize)
                    .map(run)
                    .filter(|o| !o.violations.is_empty())
                    .collect::<Vec<_>>()
            }
        };
        let handles: Vec<_> = (0..threads).map(|t| scope.spawn(share(t))).collect();
        let outcomes = handles.into_iter().flat_map(|h| h.join().expect("a run ends without panic"));
        outcomes
            .map(|o| format!("seed {}: {}\n  again: {}", o.seed, o.violations.join("\n  "), o.command()))
            .collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [0, 7, 41, 99] {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first, second, "seed {seed}");
        assert!(first.stats.attempts > 0, "seed {seed} ran nothing");
    }
    assert_ne!(run(1).trace_hash, run(2).trace_hash);
}

/// I20: wall clocks that are wrong by years and jump make no difference to anything that happens.
#[test]
fn wall_clocks_change_no_decision() {
    for seed in 0..20 {
        let right = run_with(Options { wall_jumps: false, ..Options::hostile(seed) });
        let wrong = run_with(Options { wall_jumps: true, ..Options::hostile(seed) });
        assert_eq!(right, wrong, "seed {seed}");
    }
}
