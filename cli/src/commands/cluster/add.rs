//! `muster cluster add ADDRESS`: lets one more member in: a fresh join token, and the command to run there.

use crate::args::Global;
use crate::client::Client;
use crate::context;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs};
use muster_coordinator::security::{read_token, write_private};
use muster_core::model::duration::Millis;
use muster_core::view_doc::{ClusterDoc, MemberDoc};
use muster_proto::api::{ListRequest, PrepareMemberRequest};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at the members while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lets a new member in: writes a fresh join token and prints the command to run on its machine. It receives the log first and votes once
/// it has caught up. With --replace the member it replaces, dead or alive, leaves in the same change.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster cluster add 10.0.0.4:7070\n  muster cluster add 10.0.0.4:7070 --replace 2 --wait"
)]
pub struct Args {
    /// Where the new member will listen, host:port, as the others will reach it.
    #[arg(value_name = "ADDRESS")]
    new: String,
    /// The member whose place it takes.
    #[arg(long, value_name = "ID")]
    replace: Option<u64>,
    /// Where the join token is written, for you alone to read; take it to the new machine.
    #[arg(long, value_name = "FILE", default_value = "join-token")]
    token_file: PathBuf,
    /// Stay until the new member votes.
    #[arg(long)]
    wait: bool,
    /// With --wait: give up after this long.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    timeout: Millis,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// An address that a member has; nobody to replace; a token that cannot be written; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        // 1. What is not ours is not written over.
        if self.token_file.exists() && read_token(&self.token_file).is_err() {
            return Err(Failure::new(
                "EXISTS",
                format!("{} exists and holds no join token", self.token_file.display()),
            )
            .hint("choose another --token-file"));
        }
        // 2. The token.
        let mut client = Client::new(global)?;
        let request =
            PrepareMemberRequest { address: self.new.clone(), replace: self.replace.unwrap_or_default() };
        let prepared = client.call(async |api| api.prepare_member(request.clone()).await).await?;
        write_private(&self.token_file, &prepared.join_token)
            .map_err(|error| Failure::new("IO", error.to_string()))?;
        // 3. What to do with it.
        let mut command: Vec<String> = [
            "muster",
            "coordinator",
            "--data-dir",
            "/var/lib/muster",
            "--listen",
            &self.new,
            "--join",
            &prepared.members.join(","),
            "--join-token-file",
            "join-token",
        ]
        .map(String::from)
        .to_vec();
        if let Some(id) = self.replace {
            command.extend(["--replace".to_owned(), id.to_string()]);
        }
        if !self.wait && self.output.is_json() {
            let document = json!({
                "cluster_id": prepared.cluster_id,
                "members": prepared.members,
                "replace": self.replace,
                "join_token_file": self.token_file,
                "good_seconds": prepared.good_seconds,
                "command": command,
            });
            output::data(&document.to_string())?;
        } else if !self.output.is_json() {
            output::data(&command.join(" "))?;
        }
        output::talk(&format!(
            "a join token, good for {}, is in {}; take it to {} and run the command there",
            output::time::span(i64::try_from(prepared.good_seconds).unwrap_or(3_600) * 1_000),
            self.token_file.display(),
            self.new
        ));
        if !self.wait {
            return Ok(DONE);
        }
        // 4. Until it votes.
        let member = self.votes(&mut client).await?;
        context::add_address(global, &self.new)?;
        if self.output.is_json() {
            output::data(&json!({"member": member.id, "address": member.address}).to_string())?;
        }
        let replaced = self.replace.map(|id| format!(" in the place of member {id}")).unwrap_or_default();
        output::talk(&format!("member {} votes{replaced}", member.id));
        Ok(DONE)
    }

    async fn votes(&self, client: &mut Client) -> Result<MemberDoc, Failure> {
        let deadline = Instant::now() + Duration::from_millis(self.timeout.0);
        loop {
            let (_, cluster) =
                client.document::<ClusterDoc>(async |api| api.cluster_status(ListRequest {}).await).await?;
            let replaced_is_there = cluster.members.iter().any(|member| Some(member.id) == self.replace);
            let votes = |member: &&MemberDoc| {
                member.address == self.new && matches!(member.role.as_str(), "leader" | "follower")
            };
            if let Some(member) = cluster.members.iter().find(votes)
                && !replaced_is_there
            {
                return Ok(member.clone());
            }
            if Instant::now() >= deadline {
                return Err(Failure::new("TIMEOUT", format!("no member at {} votes yet", self.new)).hint(
                    "did the command run there? `muster cluster status` shows a learner while it catches up",
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
