//! `muster validate FILE`: what `submit` would say, without submitting.

use super::plural;
use crate::failure::{DONE, Done};
use crate::job_input::{self, InputArgs};
use crate::output::{self, OutputArgs};
use serde_json::json;

/// Checks a job file with the coordinator's own code; nothing is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster validate job.yaml --param epochs=3")]
pub struct Args {
    /// A job file or script; `-` reads stdin.
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Every error of the file, with line and field.
    pub fn run(self) -> Done {
        let job = job_input::load(&self.file, &self.input)?;
        let (tasks, indices) = (job.spec.tasks.len() as u64, job.spec.index_total());
        if self.output.is_json() {
            let warnings: Vec<_> =
                job.warnings.iter().map(|w| json!({"field": w.field, "message": w.message})).collect();
            let document = json!({"valid": true, "name": job.spec.name, "tasks": tasks, "indices": indices, "warnings": warnings});
            output::data(&serde_json::to_string_pretty(&document).unwrap_or_default())?;
        } else {
            job.say_warnings();
            output::data(&format!(
                "{}: valid ({}, {})",
                job.source,
                plural(tasks, "task"),
                plural(indices, "index")
            ))?;
        }
        Ok(DONE)
    }
}
