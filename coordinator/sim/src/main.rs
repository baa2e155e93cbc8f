//! `muster-sim`: one seed, or many. Prints what failed and the command that shows it again; exit 1 when anything did.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use muster_sim::{Options, Outcome, Plant, run_with};
use std::process::ExitCode;

const USAGE: &str = "\
usage: muster-sim --seed N [--hostile | --plant NAME] [--trace]
       muster-sim --seeds A..B [--hostile | --plant NAME]

  --hostile     much breaks and much runs long
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
        Some((from, to)) => many(from, to, &options),
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

/// Runs `from..to` on all cores.
fn many(from: u64, to: u64, options: &(impl Fn(u64) -> Options + Sync)) -> ExitCode {
    let begun = std::time::Instant::now();
    let next = std::sync::atomic::AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sums = std::thread::scope(|scope| {
        let work = || {
            let (mut failed, mut virtual_ms, mut attempts, mut faults) = (0_u64, 0, 0, 0);
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if seed >= to {
                    return (failed, virtual_ms, attempts, faults);
                }
                let outcome = run_with(options(seed));
                failed += u64::from(!outcome.violations.is_empty());
                virtual_ms += outcome.stats.virtual_ms;
                attempts += outcome.stats.attempts;
                faults += outcome.stats.faults;
                report(&outcome);
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .filter_map(|h| h.join().ok())
            .fold((0, 0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3))
    });
    let (failed, virtual_ms, attempts, faults) = sums;
    let seeds = to.saturating_sub(from);
    println!(
        "seeds {from}..{to}: {failed} failed; {attempts} attempts, {faults} faults, {} virtual hours, {:.1} s ({:.1} ms a seed and core)",
        virtual_ms / 3_600_000,
        begun.elapsed().as_secs_f64(),
        begun.elapsed().as_secs_f64() * 1000.0 * threads as f64 / seeds.max(1) as f64,
    );
    ExitCode::from(u8::from(failed > 0))
}
