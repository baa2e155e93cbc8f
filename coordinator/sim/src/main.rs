//! `muster-sim`: one seed, or many. Prints what failed and the command that shows it again; exit 1 when anything did.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use muster_sim::{Caught, Options, Outcome, Plant, run_with};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

const USAGE: &str = "\
usage: muster-sim --seed N [--hostile | --plant NAME] [--trace]
       muster-sim --seeds A..B [--hostile | --plant NAME | --plants]

  --hostile     much breaks and much runs long
  --plants      every plant in turn, each until its invariant speaks; prints a table
  --plant NAME  the same, with a bug made on purpose; the run has to fail:";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let has = |name: &str| args.iter().any(|a| a == name);
    if has("--help") {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let plant = match value("--plant").map(|name| (name, Plant::named(name))) {
        None if has("--plant") => return wrong("--plant wants a name"),
        Some((name, None)) => return wrong(&format!("no plant is called {name:?}")),
        found => found.and_then(|(_, plant)| plant),
    };
    let hostile = has("--hostile");
    let options = move |seed| match plant {
        Some(plant) => Options::planted(seed, plant),
        None if hostile => Options::hostile(seed),
        None => Options::new(seed),
    };
    if let Some(seed) = value("--seed").and_then(|s| s.parse().ok()) {
        let outcome = run_with(Options { keep_trace: has("--trace"), ..options(seed) });
        outcome.trace.iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: trace {:016x}, {:?}", outcome.trace_hash, outcome.stats);
        report(&outcome);
        return ExitCode::from(u8::from(!outcome.violations.is_empty()));
    }
    let range = value("--seeds")
        .and_then(|s| s.split_once(".."))
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match range {
        Some((from, to)) if has("--plants") => plants(&(from..to)),
        Some((from, to)) => many(from..to, &options),
        None => wrong("--seed or --seeds is missing"),
    }
}

fn usage() -> String {
    let plants = Plant::all().map(|p| format!("\n    {:<20}  {:<3}  {}", p.name(), p.invariant(), p.about()));
    USAGE.to_owned() + &plants.collect::<String>()
}

fn wrong(what: &str) -> ExitCode {
    eprintln!("error: {what}\n{}", usage());
    ExitCode::from(2)
}

fn report(outcome: &Outcome) {
    if !outcome.violations.is_empty() {
        println!("seed {} FAILED", outcome.seed);
        outcome.violations.iter().for_each(|v| println!("  {v}"));
        println!("  again: {}", outcome.command());
    }
}

/// What many runs did together.
#[derive(Default)]
struct Sums {
    failed: u64,
    violations: u64,
    virtual_ms: u64,
    attempts: u64,
    faults: u64,
    commands: u64,
    calls: u64,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.failed += u64::from(!outcome.violations.is_empty());
        self.violations += outcome.violations.len() as u64;
        self.virtual_ms += outcome.stats.virtual_ms;
        self.attempts += outcome.stats.attempts;
        self.faults += outcome.stats.faults;
        self.commands += outcome.stats.commands;
        self.calls += outcome.stats.calls;
    }

    fn join(mut self, other: Self) -> Self {
        self.failed += other.failed;
        self.violations += other.violations;
        self.virtual_ms += other.virtual_ms;
        self.attempts += other.attempts;
        self.faults += other.faults;
        self.commands += other.commands;
        self.calls += other.calls;
        self
    }
}

/// Does `work` on all cores, each time with the next number of `from..to`, until `work` is out of numbers.
fn on_all_cores<T: Send>(numbers: Range<u64>, work: impl Fn(&dyn Fn() -> Option<u64>) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(numbers.start);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < numbers.end);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&take))).collect();
        handles.into_iter().filter_map(|h| h.join().ok()).collect()
    })
}

/// Runs `from..to` on all cores.
fn many(seeds: Range<u64>, options: &(impl Fn(u64) -> Options + Sync)) -> ExitCode {
    let begun = std::time::Instant::now();
    let sums = on_all_cores(seeds.clone(), |next| {
        let mut sums = Sums::default();
        while let Some(seed) = next() {
            let outcome = run_with(options(seed));
            sums.add(&outcome);
            report(&outcome);
        }
        sums
    });
    let threads = sums.len() as f64;
    let sums = sums.into_iter().fold(Sums::default(), Sums::join);
    let count = seeds.end.saturating_sub(seeds.start);
    let took = begun.elapsed().as_secs_f64();
    println!(
        "seeds {count} ({}..{}) cluster-days {:.1} faults {} commands {} calls {} attempts {} violations {} in {} seeds; {took:.1} s, {:.1} ms a seed and core",
        seeds.start,
        seeds.end,
        sums.virtual_ms as f64 / 86_400_000.0,
        sums.faults,
        sums.commands,
        sums.calls,
        sums.attempts,
        sums.violations,
        sums.failed,
        took * 1000.0 * threads / count.max(1) as f64,
    );
    ExitCode::from(u8::from(sums.failed > 0))
}

/// Every plant under the seeds until its own invariant speaks; prints a table. All have to be caught.
fn plants(seeds: &Range<u64>) -> ExitCode {
    let all: Vec<Plant> = Plant::all().collect();
    let rows = on_all_cores(0..all.len() as u64, |next| {
        let mut rows = Vec::new();
        while let Some(n) = next() {
            rows.push((n, all[n as usize].hunt(seeds.clone())));
        }
        rows
    });
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    rows.sort_by_key(|row| row.0);
    println!("{:<21} {:<4} {:>10} {:>6}  what it said", "plant", "by", "first seed", "seeds");
    for (n, caught) in &rows {
        let plant = all[*n as usize];
        let (first, count, said) = match caught {
            Some(Caught { seed, seeds, said }) => (seed.to_string(), seeds.to_string(), said.as_str()),
            None => ("-".to_owned(), "-".to_owned(), "MISSED"),
        };
        let said: String = said.chars().take(100).collect();
        println!("{:<21} {:<4} {first:>10} {count:>6}  {said}", plant.name(), plant.invariant());
    }
    let caught: Vec<u64> = rows.iter().filter_map(|r| r.1.as_ref()).map(|c| c.seeds).collect();
    let most = caught.iter().max().copied().unwrap_or_default();
    println!(
        "plants {} caught {} missed {} most seeds {most}",
        all.len(),
        caught.len(),
        all.len() - caught.len()
    );
    ExitCode::from(u8::from(caught.len() < all.len()))
}
