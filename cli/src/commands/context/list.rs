//! `muster context list`.

use crate::context::Contexts;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table};
use serde_json::json;

/// Lists contexts; the current one has a star.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster context list")]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// An unreadable file of contexts.
    pub fn run(self) -> Done {
        let contexts = Contexts::load()?;
        if self.output.is_json() {
            let list: Vec<_> = contexts
                .contexts
                .iter()
                .map(|(name, c)| json!({"name": name, "addresses": c.addresses, "tls": c.tls.is_some(), "current": contexts.current.as_ref() == Some(name)}))
                .collect();
            output::document(&json!({ "contexts": list }).to_string())?;
            return Ok(DONE);
        }
        let mut table = Table::new(&["CURRENT", "NAME", "ADDRESSES"]);
        for (name, context) in &contexts.contexts {
            let star = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
            table.row([star.to_owned(), name.clone(), context.addresses.join(",")]);
        }
        output::data(&table.render())?;
        Ok(DONE)
    }
}
