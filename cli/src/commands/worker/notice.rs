//! `muster worker notice ID`: says that its machine goes, may go, or stays after all.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::commands::job::plural;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_core::model::duration::Millis;
use muster_proto::api::NoticeRequest;
use serde_json::json;

/// Says that a worker's machine goes: what runs there is asked to save and queued again, nothing more is placed there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster worker notice w1 --in 30s\n  muster worker notice w1 --advice --detail 'spot prices rise'\n  muster worker notice w1 --withdraw"
)]
pub struct Args {
    /// Its name or number.
    #[arg(value_name = "ID")]
    id: String,
    /// The machine goes after this long; without it the time is unknown, and tasks get their whole grace.
    #[arg(long = "in", value_name = "DURATION")]
    within: Option<Millis>,
    /// It may go: nothing more is placed there, and what runs may finish.
    #[arg(long, conflicts_with = "withdraw")]
    advice: bool,
    /// It stays after all, whoever said that it goes. What was asked to stop stops all the same.
    #[arg(long, conflicts_with_all = ["within", "drill"])]
    withdraw: bool,
    /// Mark it as an exercise: everything happens as if it were true.
    #[arg(long)]
    drill: bool,
    /// Shown to whoever asks why.
    #[arg(long, default_value = "by an operator")]
    detail: String,
    /// The same id has the same effect once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such worker; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let (kind, says) = match (self.withdraw, self.advice) {
            (true, _) => ("withdrawn", "stays"),
            (_, true) => ("advice", "may go"),
            _ => ("preemption", "goes"),
        };
        let request = NoticeRequest {
            request_id: request_id(self.request_id.as_deref()),
            worker: self.id.clone(),
            kind: kind.to_owned(),
            in_ms: self.within.map(|Millis(ms)| ms),
            detail: self.detail,
            drill: self.drill,
            user: user(),
        };
        let reply = Client::new(global)?.call(async |api| api.notice(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"worker": self.id, "kind": kind, "evicted": reply.indices}).to_string())?;
        }
        let stopped = match reply.indices {
            0 => String::new(),
            n => format!(": {} asked to save and stop", plural(n, "attempt")),
        };
        output::talk(&format!("worker {} {says}{stopped}", self.id));
        Ok(DONE)
    }
}
