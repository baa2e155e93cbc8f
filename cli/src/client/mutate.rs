//! The verbs that change a job, a task or an index: cancel, hold, release, rerun.

use super::{Api, Client, request_id, user};
use crate::args::Global;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs};
use muster_proto::api::{Mutation, MutationReply};
use muster_proto::convert::TargetName;
use serde_json::json;
use tonic::{Response, Status};

/// What all four take.
#[derive(Debug, clap::Args)]
pub struct MutateArgs {
    /// 42 is a job, 42.train a task, 42.train[7] an index.
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// The same id has the same effect once, however often it is sent. For one ID only.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Sends one mutation a target; the first refusal ends it. `did` is what is said: `cancelled 42`.
///
/// # Errors
/// A name that names nothing, the server's refusal, nothing reachable.
pub async fn mutate(
    args: MutateArgs,
    global: &Global,
    did: &str,
    mut ask: impl AsyncFnMut(&mut Api, Mutation) -> Result<Response<MutationReply>, Status>,
) -> Done {
    if args.ids.len() > 1 && args.request_id.is_some() {
        return Err(Failure::usage("one --request-id is for one ID")
            .hint("call it once an ID, or leave --request-id out"));
    }
    for id in &args.ids {
        target(id)?;
    }
    let mut client = Client::new(global)?;
    for id in &args.ids {
        let request =
            Mutation { request_id: request_id(args.request_id.as_deref()), target: id.clone(), user: user() };
        let reply = client.call(async |api| ask(api, request.clone()).await).await?;
        if args.output.is_json() {
            output::data(&json!({"target": id, "indices": reply.indices}).to_string())?;
        }
        let indices = match reply.indices {
            1 => "1 index".to_owned(),
            n => format!("{n} indices"),
        };
        output::talk(&format!("{did} {id} ({indices})"));
    }
    Ok(DONE)
}

/// Reads the name of a job, task, index or attempt.
///
/// # Errors
/// Text that names none.
pub fn target(text: &str) -> Result<TargetName, Failure> {
    text.parse::<TargetName>()
        .map_err(|error| Failure::new("BAD_ID", error.to_string()).hint("`muster ps` lists jobs"))
}
