//! `muster completions SHELL`.

use crate::failure::{DONE, Done};
use crate::output;
use clap_complete::Shell;

/// Prints the completions of a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  muster completions bash > ~/.local/share/bash-completion/completions/muster"
)]
pub struct Args {
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl Args {
    /// # Errors
    /// stdout is gone.
    pub fn run(self) -> Done {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut crate::args::command(), "muster", &mut text);
        output::bytes(&text)?;
        Ok(DONE)
    }
}
