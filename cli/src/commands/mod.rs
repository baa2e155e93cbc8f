//! The verbs, one file each. This dispatcher is a bare match: verbs that call a coordinator run on one thread and one connection.

pub mod autoscale;
pub mod bench;
pub mod budget;
pub mod checkpoint;
pub mod cluster;
pub mod context;
pub mod cost;
pub mod daemon;
pub mod drill;
pub mod gpus;
pub mod job;
pub mod meta;
pub mod pool;
pub mod queue;
pub mod shim;
pub mod worker;

use crate::args::{Cli, Command};
use crate::failure::{Done, Failure};

/// Runs the verb.
///
/// # Errors
/// Why it could not do what was asked.
pub fn run(cli: Cli) -> Done {
    let global = &cli.global;
    match cli.command {
        Command::Dev(args) => args.run(),
        Command::Coordinator(args) => args.run(global),
        Command::Worker(args) => args.run(global),
        Command::Submit(args) => block_on(args.run(global)),
        Command::Run(args) => block_on(args.run(global)),
        Command::Validate(args) => args.run(),
        Command::Ps(args) => block_on(args.run(global)),
        Command::Show(args) => block_on(args.run(global)),
        Command::Explain(args) => block_on(args.run(global)),
        Command::Graph(args) => block_on(args.run(global)),
        Command::Logs(args) => block_on(args.run(global)),
        Command::Wait(args) => block_on(args.run(global)),
        Command::Cancel(args) => block_on(args.run(global)),
        Command::Hold(args) => block_on(args.run(global)),
        Command::Release(args) => block_on(args.run(global)),
        Command::Rerun(args) => block_on(args.run(global)),
        Command::Workers(args) => block_on(args.run(global)),
        Command::Checkpoint(args) => args.run(global),
        Command::Gpus(args) => block_on(args.run(global)),
        Command::Queue(args) => block_on(args.run(global)),
        Command::Pool(args) => block_on(args.run(global)),
        Command::Autoscale(args) => block_on(args.run(global)),
        Command::Cost(args) => block_on(args.run(global)),
        Command::Budget(args) => block_on(args.run(global)),
        Command::Cluster(args) => args.run(global),
        Command::Drill(args) => block_on(args.run(global)),
        Command::Context(args) => args.run(),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
        Command::Schema(args) => args.run(),
        Command::Bench(args) => args.run(global),
    }
}

/// Runs a client verb on this thread alone: no pool of threads to start, which a verb of milliseconds would feel.
///
/// # Errors
/// The verb's own; a machine without file descriptors.
pub fn block_on(verb: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("IO", format!("cannot start: {error}")))?
        .block_on(verb)
}
