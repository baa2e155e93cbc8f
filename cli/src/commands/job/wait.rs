//! `muster wait ID…`: waits for the end and returns the job's own exit code.

use super::show::find_task;
use super::{code_of_cause, get};
use crate::args::Global;
use crate::client::Client;
use crate::client::mutate::target;
use crate::client::watch::{Ended, until_final};
use crate::failure::{DONE, Done, Failure, NO_CODE};
use crate::output::{self, OutputArgs};
use muster_core::model::duration::Millis;
use muster_core::view_doc::{JobDoc, TaskDoc};
use muster_proto::convert::TargetName;
use serde_json::json;
use std::time::Duration;

/// Waits until jobs, tasks or indices end; returns the exit code of the first, in the order given, that did not succeed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster wait 42\n  muster wait 42.prepare 43 --timeout 10m")]
pub struct Args {
    /// 42 is a job, 42.train a task, 42.train[7] an index.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Stop waiting after this long, with exit code 125.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Millis>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Everything that is not the job's own end: exit code 125.
    pub async fn run(self, global: &Global) -> Done {
        let timeout = self.timeout;
        let waited = async {
            match timeout {
                Some(Millis(ms)) => tokio::time::timeout(Duration::from_millis(ms), self.wait(global))
                    .await
                    .unwrap_or_else(|_| {
                        Err(Failure::new("TIMEOUT", "not ended after --timeout")
                            .hint("it goes on; `muster show` says why"))
                    }),
                None => self.wait(global).await,
            }
        };
        waited.await.map_err(Failure::without_job_code)
    }

    async fn wait(self, global: &Global) -> Done {
        let targets = self.ids.iter().map(|id| target(id)).collect::<Result<Vec<_>, _>>()?;
        let mut client = Client::new(global)?;
        let mut code = DONE;
        for (id, name) in self.ids.iter().zip(&targets) {
            let ended = match &name.task {
                None => until_final(&mut client, name.job, |_| ()).await?,
                Some(task) => task_final(&mut client, name, task).await?,
            };
            if self.output.is_json() {
                output::data(&json!({"id": id, "state": ended.state, "exit_code": ended.code}).to_string())?;
            } else {
                output::talk(&format!("{id} {}", ended.state));
            }
            if code == DONE {
                code = ended.code;
            }
        }
        Ok(code)
    }
}

/// Asks for the job again until the task or index is final. Tasks have no stream of their own; four questions a second cost nothing.
async fn task_final(client: &mut Client, name: &TargetName, task: &str) -> Result<Ended, Failure> {
    loop {
        let (_, job) = get(client, name.job).await?;
        if let Some(ended) = ended(&job, find_task(&job, task)?, name.index) {
            return Ok(ended);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn is_final(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "skipped" | "cancelled")
}

fn ended(job: &JobDoc, task: &TaskDoc, index: Option<u32>) -> Option<Ended> {
    let attempts = || task.attempts.iter().filter(|a| index.is_none_or(|i| a.index == Some(i)));
    let job_final = is_final(&job.state);
    let state = match index {
        None if is_final(&task.state) => task.state.clone(),
        None => return None,
        Some(_) => {
            let last = attempts().next_back();
            match last {
                Some(a) if a.state == "succeeded" => "succeeded".to_owned(),
                Some(a) if is_final(&task.state) || job_final => {
                    if is_final(&a.state) {
                        a.state.clone()
                    } else {
                        task.state.clone()
                    }
                }
                None if is_final(&task.state) => task.state.clone(),
                _ => return None,
            }
        }
    };
    let code = match state.as_str() {
        "succeeded" | "skipped" => DONE,
        "failed" => attempts()
            .filter(|a| a.state == "failed")
            .filter_map(|a| a.cause.as_deref())
            .map(code_of_cause)
            .next_back()
            .unwrap_or(NO_CODE),
        _ => NO_CODE,
    };
    Some(Ended { state, code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::AttemptDoc;

    fn attempt(index: u32, state: &str, cause: &str) -> AttemptDoc {
        AttemptDoc {
            index: Some(index),
            state: state.into(),
            cause: Some(cause.into()),
            ..AttemptDoc::default()
        }
    }

    #[test]
    fn a_task_and_an_index_end_with_their_own_code() {
        let job = JobDoc { state: "running".into(), ..JobDoc::default() };
        let mut task = TaskDoc {
            state: "running".into(),
            attempts: vec![attempt(0, "succeeded", "exit(0)"), attempt(1, "failed", "exit(7)")],
            ..TaskDoc::default()
        };
        assert_eq!(ended(&job, &task, None), None);
        assert_eq!(ended(&job, &task, Some(0)), Some(Ended { state: "succeeded".into(), code: 0 }));
        assert_eq!(ended(&job, &task, Some(1)), None, "it may be tried again");
        task.state = "failed".into();
        assert_eq!(ended(&job, &task, Some(1)), Some(Ended { state: "failed".into(), code: 7 }));
        assert_eq!(ended(&job, &task, None), Some(Ended { state: "failed".into(), code: 7 }));
    }
}
