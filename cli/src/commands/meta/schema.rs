//! `muster schema job` and `muster schema openapi`: machine-readable contracts.

use crate::failure::{DONE, Done};
use crate::output;
use clap::ValueEnum;

/// Prints a machine-readable contract.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster schema job > job.schema.json")]
pub struct Args {
    #[arg(value_enum, value_name = "WHAT")]
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The JSON Schema of job files.
    Job,
    /// The OpenAPI document of the REST API.
    Openapi,
}

impl Args {
    /// # Errors
    /// stdout is gone.
    pub fn run(self) -> Done {
        let schema = match self.what {
            What::Job => muster_core::spec::job_schema(),
            What::Openapi => muster_coordinator::api::rest::openapi::document(),
        };
        output::data(&serde_json::to_string_pretty(&schema).unwrap_or_default())?;
        Ok(DONE)
    }
}
