//! `muster-chaos`: see `muster_tests::chaos`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its one line, and its talk

use clap::Parser;
use muster_tests::chaos::options::Options;
use muster_tests::chaos::sandbox::{self, Stage};
use muster_tests::chaos::{faults, run, schedule, task};
use std::process::exit;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|word| word == task::WORD) {
        exit(task::run(&args[2..]));
    }
    let mut options = Options::parse();
    if options.list {
        faults::kinds()
            .iter()
            .for_each(|kind| println!("{:26} row {:8} {:?}", kind.name, kind.rows, kind.on));
        return;
    }
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    options.seed = Some(seed);
    if options.plan {
        print!("{}", schedule::table(&schedule::draw(seed, options.duration, &faults::kinds())));
        return;
    }
    let done = match sandbox::stage() {
        Stage::Outer => match sandbox::obstacle() {
            Some(why) => {
                eprintln!("skipped: muster-chaos cannot run here: {why}");
                exit(i32::from(options.require));
            }
            None => {
                // Says here, and not in three daemons, that it is not built.
                let _ = muster_tests::process::binary();
                sandbox::outer(seed)
            }
        },
        Stage::Init => sandbox::init(),
        Stage::Driver(dir) => run::drive(&dir, &options, seed),
    };
    match done {
        Ok(code) => exit(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit(1);
        }
    }
}
