//! A task that does what a test tells it, while it runs: no test waits for a time, each asks and hears.

use crate::cluster::Cluster;
use crate::wait::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

const SCRIPT: &str = include_str!("puppet.py");
/// For a start, which may come after a lease has run out; and for an answer, which may come after an upload.
const SOON: Duration = Duration::from_secs(90);

/// A job of one task, `42.t`, each of whose attempts listens.
pub struct Puppet<'a> {
    pub job: u64,
    cluster: &'a Cluster,
    home: PathBuf,
    /// Questions so far, by attempt and rank.
    asked: Mutex<BTreeMap<(u32, u32), u32>>,
}

impl<'a> Puppet<'a> {
    /// Submits it; `fields` are more fields of the task, as YAML in braces without the braces.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn submit(cluster: &'a Cluster, name: &str, fields: &str) -> Self {
        let home = cluster.dir.path().join(name);
        std::fs::create_dir(&home).expect("a directory");
        let script = cluster.file(&format!("{name}.py"), SCRIPT);
        let comma = if fields.is_empty() { "" } else { ", " };
        let job = format!(
            "name: {name}\nenv: {{PUPPET: \"{}\"}}\ntasks:\n  t: {{run: [python3, \"{script}\"]{comma}{fields}}}\n",
            home.display()
        );
        let job = cluster.submit(&cluster.file(&format!("{name}.yaml"), &job));
        Self { job, cluster, home, asked: Mutex::default() }
    }

    /// The environment of an attempt's rank, once it has started.
    ///
    /// # Panics
    /// When it does not start.
    pub fn started(&self, attempt: u32, rank: u32) -> BTreeMap<String, String> {
        let file = self.home.join(format!("start.{attempt}.{rank}"));
        let text = until(&format!("attempt {attempt}, rank {rank}"), SOON, || {
            std::fs::read_to_string(&file).map_err(|_| {
                let doc = self.show().map(|doc| doc["tasks"][0].to_string());
                format!("{doc:?}{}", self.cluster.logs())
            })
        });
        serde_json::from_str(&text).expect("an environment")
    }

    /// What the expression gives in rank 0 of an attempt.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask(&self, attempt: u32, expression: &str) -> String {
        self.ask_rank(attempt, 0, expression)
    }

    /// What it gives in this rank.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask_rank(&self, attempt: u32, rank: u32, expression: &str) -> String {
        let number = self.tell_rank(attempt, rank, expression);
        let file = self.home.join(format!("answer.{attempt}.{rank}.{number}"));
        until(&format!("the answer to {expression}"), SOON, || {
            std::fs::read_to_string(&file).map_err(|_| self.cluster.logs())
        })
    }

    /// Asks rank 0 without waiting for an answer: it may never come.
    pub fn tell(&self, attempt: u32, expression: &str) {
        self.tell_rank(attempt, 0, expression);
    }

    fn tell_rank(&self, attempt: u32, rank: u32, expression: &str) -> u32 {
        let mut asked = self.asked.lock().expect("not poisoned");
        let number = asked.entry((attempt, rank)).or_default();
        *number += 1;
        let name = format!("ask.{attempt}.{rank}.{number}");
        let part = self.home.join(format!(".{name}.part"));
        std::fs::write(&part, expression).expect("write a question");
        std::fs::rename(&part, self.home.join(name)).expect("ask");
        *number
    }

    /// Saves and commits a step in rank 0.
    ///
    /// # Panics
    /// When the commit is refused.
    pub fn commits(&self, attempt: u32, step: u64) {
        let answer = self.ask(attempt, &format!("commit(save({step}), {step})"));
        assert!(answer.starts_with("0 "), "commit of step {step}: {answer}{}", self.cluster.logs());
    }

    /// The lines that `trap()` wrote in rank 0.
    #[must_use]
    pub fn signals(&self, attempt: u32) -> Vec<String> {
        let text = std::fs::read_to_string(self.home.join(format!("signals.{attempt}.0")));
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// `show` of its job.
    ///
    /// # Errors
    /// What the command said.
    pub fn show(&self) -> Result<Value, String> {
        self.cluster.cli.json(&["show", &self.job.to_string()])
    }

    /// Steps of its committed checkpoints, the oldest first.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[must_use]
    pub fn steps(&self) -> Vec<u64> {
        let doc = self.cluster.cli.json(&["checkpoint", "list", &self.job.to_string()]).expect("a list");
        let all = doc["checkpoints"].as_array().expect("checkpoints");
        let mut steps: Vec<u64> = all.iter().map(|c| c["step"].as_u64().expect("a step")).collect();
        steps.sort_unstable();
        steps
    }

    /// Where its checkpoints lie in the store.
    #[must_use]
    pub fn stored(&self) -> PathBuf {
        self.cluster.dir.path().join(format!("store/checkpoints/{}/0/0", self.job))
    }

    /// Ends an attempt with this code, at once.
    pub fn exit(&self, attempt: u32, code: i32) {
        self.tell(attempt, &format!("os._exit({code})"));
    }

    /// (state, cause) of every attempt, when the job has ended.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn ends(&self) -> (Value, Vec<(String, String)>) {
        let doc = self.cluster.finished(self.job, SOON);
        let ends = self.attempts(&doc);
        (doc, ends)
    }

    /// (state, cause) of the attempts in a document of `show`.
    #[must_use]
    pub fn attempts(&self, doc: &Value) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = doc["tasks"][0]["attempts"].as_array().cloned().unwrap_or_default();
        all.iter().map(|a| (text(&a["state"]), text(&a["cause"]))).collect()
    }
}
