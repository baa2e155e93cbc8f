//! `muster context use NAME`.

use crate::context::Contexts;
use crate::failure::{DONE, Done};
use crate::output;

/// Makes a context the current one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster context use dev")]
pub struct Args {
    #[arg(value_name = "NAME")]
    name: String,
}

impl Args {
    /// # Errors
    /// No such context.
    pub fn run(self) -> Done {
        Contexts::load()?.named(&self.name)?;
        Contexts::update(|contexts| contexts.current = Some(self.name.clone()))?;
        output::talk(&format!("the current context is {}", self.name));
        Ok(DONE)
    }
}
