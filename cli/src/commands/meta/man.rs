//! `muster man DIR`: a man page a verb.

use crate::failure::{DONE, Done, Failure};
use crate::output;
use std::path::PathBuf;

/// Writes a man page for every verb into a directory, which is made when absent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster man ~/.local/share/man/man1")]
pub struct Args {
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Args {
    /// # Errors
    /// The directory cannot be written.
    pub fn run(self) -> Done {
        std::fs::create_dir_all(&self.dir).map_err(|error| Failure::io("create", &self.dir, &error))?;
        clap_mangen::generate_to(crate::args::command(), &self.dir)
            .map_err(|error| Failure::io("write to", &self.dir, &error))?;
        output::talk(&format!("man pages are in {}", self.dir.display()));
        Ok(DONE)
    }
}
