//! `muster context show [NAME]`.

use crate::context::Contexts;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs};
use serde_json::json;

/// Shows a context, the current one when none is named. The token is not printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster context show")]
pub struct Args {
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such context.
    pub fn run(self) -> Done {
        let contexts = Contexts::load()?;
        let name = self.name.or_else(|| contexts.current.clone()).ok_or_else(|| {
            Failure::new("NO_CONTEXT", "there is no current context")
                .hint("`muster dev` writes one; `muster context list` shows all")
        })?;
        let context = contexts.named(&name)?;
        if self.output.is_json() {
            let document = json!({"name": name, "addresses": context.addresses, "tls": context.tls.is_some(), "current": contexts.current.as_ref() == Some(&name)});
            output::document(&document.to_string())?;
        } else {
            let tls = if context.tls.is_some() { ", TLS" } else { "" };
            output::data(&format!("{name}: {}{tls}", context.addresses.join(", ")))?;
        }
        Ok(DONE)
    }
}
