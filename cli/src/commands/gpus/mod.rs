//! `muster gpus`: devices, and verbs about them.

mod device_args;
pub mod list;
pub mod put_back;
pub mod quarantine;
pub mod show;

use crate::args::Global;
use crate::failure::Done;

/// GPUs of all workers: where they are, how they are, who has them. Takes one out of service, or back into it.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  muster gpus\n  muster gpus --output json\n  muster gpus show GPU-6c1f\n  muster gpus quarantine GPU-6c1f --reason 'slow since Monday'\n  muster gpus return GPU-6c1f --reason 'replaced the riser'"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::Args,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Show(show::Args),
    Quarantine(quarantine::Args),
    Return(put_back::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            None => self.list.run(global).await,
            Some(Verb::Show(args)) => args.run(global).await,
            Some(Verb::Quarantine(args)) => args.run(global).await,
            Some(Verb::Return(args)) => args.run(global).await,
        }
    }
}
