//! `muster-lease-model`: the whole search, and each mistake with the shortest way to what it breaks.

use muster_lease_model::{Bounds, Plant, search};
use std::process::ExitCode;

const USAGE: &str = "usage: muster-lease-model [--large] [--plant NAME | --plants]

  --large        the larger bounds: minutes and gigabytes instead of seconds
  --plant NAME   search with one mistake and print the shortest way to what it breaks
  --plants       one line a mistake";

fn main() -> ExitCode {
    let (mut bounds, mut plants, mut all) = (Bounds::SMALL, Vec::new(), false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--large" => bounds = Bounds::LARGE,
            "--plants" => all = true,
            "--plant" => match args.next().as_deref().and_then(Plant::named) {
                Some(plant) => plants.push(plant),
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    if all {
        return list(bounds);
    }
    match plants.first() {
        Some(plant) => show(bounds, *plant),
        None => whole(bounds),
    }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = Plant::all().map(Plant::name).collect();
    say(&format!("{USAGE}\n\nmistakes: {}", names.join(", ")));
    ExitCode::from(2)
}

/// Without a mistake: nothing may fail.
fn whole(bounds: Bounds) -> ExitCode {
    let found = search(bounds, None);
    for (property, path) in &found.broken {
        say(&format!("broken: {property}\n{path}"));
    }
    for property in &found.missing {
        say(&format!("never seen: {property}"));
    }
    say(&format!(
        "states {} depth {} broken {} never-seen {} in {:.1} s ({bounds:?})",
        found.states,
        found.depth,
        found.broken.len(),
        found.missing.len(),
        found.took.as_secs_f64()
    ));
    if found.broken.is_empty() && found.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(bounds: Bounds, plant: Plant) -> ExitCode {
    let found = search(bounds, Some(plant));
    say(&format!("{}: {}", plant.name(), plant.what()));
    for (property, path) in &found.broken {
        say(&format!("broken: {property}\n{path}"));
    }
    if found.broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn list(bounds: Bounds) -> ExitCode {
    let mut caught = 0;
    let mut count = 0;
    for plant in Plant::all() {
        let found = search(bounds, Some(plant));
        let by: Vec<&str> = found.broken.iter().map(|(property, _)| *property).collect();
        let ok = by.contains(&plant.breaks());
        count += 1;
        caught += usize::from(ok);
        let word = if ok { "caught" } else { "NOT CAUGHT" };
        say(&format!(
            "{:<22} {word:<10} {:>9} states {:>6.1} s  {}",
            plant.name(),
            found.states,
            found.took.as_secs_f64(),
            by.join(", ")
        ));
    }
    say(&format!("plants {count} caught {caught}"));
    if caught == count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stdout)] // the answer of this program
fn say(text: &str) {
    println!("{text}");
}
