//! `muster drill`: faults on purpose on a live cluster, and a graded account of how it took them.
//!
//! Code map: one file a verb · `fault` what is done and undone · `scene` what ran before and since · `story` what became of an attempt that
//! was hit · `probe` submissions meanwhile · `grade` rows and targets · `perform` all of it in order.

mod cut;
mod fault;
mod grade;
mod kill_leader;
mod lose_worker;
mod perform;
mod probe;
mod scene;
mod spot;
mod story;
mod xid;

use crate::args::Global;
use crate::failure::Done;
use crate::output::OutputArgs;
use muster_core::model::duration::Millis;

/// Makes a real fault in a live cluster on purpose, grades how it was taken, and puts things back.
///
/// Refused without --yes on a cluster whose members are not marked with `cluster.staging = true` (`muster dev` is). Prints a row a
/// measurement with its target; exits with 0 when all are met, else with 1. Ctrl-C puts things back and ends.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster drill spot w1 --in 30s\n  muster drill kill-leader --yes\n  muster drill lose-worker w1\n  muster drill xid GPU-6c1f --code 79\n  muster drill cut w1 --for 4s"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Spot(spot::Args),
    KillLeader(kill_leader::Args),
    LoseWorker(lose_worker::Args),
    Xid(xid::Args),
    Cut(cut::Args),
}

/// What all drills take.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// Do it on a cluster that is not marked as staging too.
    #[arg(long)]
    yes: bool,
    /// How long to wait until what was hit goes on.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    within: Millis,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Spot(args) => args.run(global).await,
            Verb::KillLeader(args) => args.run(global).await,
            Verb::LoseWorker(args) => args.run(global).await,
            Verb::Xid(args) => args.run(global).await,
            Verb::Cut(args) => args.run(global).await,
        }
    }
}
