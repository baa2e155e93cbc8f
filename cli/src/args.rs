//! What may be typed: the verbs, and the options that all of them share. No behaviour.

use crate::commands::{
    autoscale, bench, budget, checkpoint, cluster, context, cost, daemon, drill, gpus, job, meta, pool,
    queue, worker,
};
use crate::failure::Failure;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;

/// Runs programs on your machines: jobs, arrays and DAGs, with GPUs, retries and results that are kept.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    max_term_width = 110,
    after_help = "Start here:\n  muster dev                     a cluster on this machine, in one terminal\n  muster run -- echo hello       in another"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster to talk to.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The context to use instead of the current one [env: MUSTER_CONTEXT].
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub context: Option<String>,
    /// Members to call instead of the context's own, host:port, separated by commas [env: MUSTER_ADDRESS].
    #[arg(long, global = true, value_name = "ADDR,…", value_delimiter = ',', help_heading = "Connection")]
    pub address: Vec<String>,
}

/// Every verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    Dev(daemon::dev::Args),
    Coordinator(Box<daemon::coordinator::Args>),
    Worker(Box<worker::Args>),
    Submit(job::submit::Args),
    Run(job::run::Args),
    Validate(job::validate::Args),
    Ps(job::ps::Args),
    Show(job::show::Args),
    Explain(job::explain::Args),
    Graph(job::graph::Args),
    Logs(job::logs::Args),
    Wait(job::wait::Args),
    Cancel(job::cancel::Args),
    Hold(job::hold::Args),
    Release(job::release::Args),
    Rerun(job::rerun::Args),
    Workers(worker::list::Args),
    Checkpoint(checkpoint::Args),
    Gpus(gpus::Args),
    Queue(queue::Args),
    Pool(pool::Args),
    Autoscale(autoscale::Args),
    Cost(cost::Args),
    Budget(budget::Args),
    Cluster(cluster::Args),
    Drill(drill::Args),
    Context(context::Args),
    Completions(meta::completions::Args),
    Man(meta::man::Args),
    Schema(meta::schema::Args),
    Bench(bench::Args),
}

/// The whole command line, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line. Help and version are printed and end the process with 0.
///
/// # Errors
/// Wrong usage: exit code 2.
pub fn parse(raw: Vec<OsString>, json: bool) -> Result<Cli, Failure> {
    Cli::try_parse_from(raw).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            Failure::silent(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::silent(2)
        }
        _ if json => Failure::usage(first_line(&error.to_string())).hint("see `muster help`"),
        _ => {
            let _ = error.print();
            Failure::silent(2)
        }
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(sub.has_subcommands() || help.contains("muster "), "no example in `{path} --help`");
                assert!(sub.get_about().is_some(), "`{path}` says nothing of itself");
                check(sub, &path);
            }
        }
        check(&command(), "muster");
    }
}
