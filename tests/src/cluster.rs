//! Members and workers as processes, in a temporary directory that goes with the test.

use crate::process::Cli;
use crate::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

/// How long a cluster may take to come up on a machine that is busy with other tests.
pub(crate) const UP: Duration = Duration::from_secs(60);

/// A running cluster.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub cli: Cli,
    pub(crate) members: Vec<Member>,
    workers: Vec<Worker>,
    /// More of the environment of every worker.
    worker_env: Vec<(String, String)>,
    /// The configuration file of every member.
    member_config: Option<String>,
}

pub(crate) struct Member {
    pub args: Vec<String>,
    pub address: String,
    pub process: Option<Child>,
}

struct Worker {
    name: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    process: Option<Child>,
}

/// A port of loopback that is free now.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Cluster {
    /// Starts `members` members and `workers` workers with `worker_args` each, and waits until all are there.
    ///
    /// # Panics
    /// When they do not come up; with their logs.
    #[must_use]
    pub fn start(members: usize, workers: usize, worker_args: &[&str]) -> Self {
        Self::start_in(members, workers, worker_args, &[])
    }

    /// The same with more in the environment of the workers.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_in(members: usize, workers: usize, worker_args: &[&str], env: &[(&str, &str)]) -> Self {
        let worker_env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut cluster = Self::empty(worker_env);
        for n in 0..members {
            cluster.add_member(n);
        }
        for n in 1..=workers {
            cluster.add_worker(&format!("w{n}"), worker_args);
        }
        cluster.wait_workers(workers);
        cluster
    }

    /// Starts members with this configuration file, and no workers.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_configured(members: usize, config: &str) -> Self {
        let mut cluster = Self::empty(Vec::new());
        cluster.member_config = Some(cluster.file("coordinator.toml", config));
        for n in 0..members {
            cluster.add_member(n);
        }
        cluster
    }

    fn empty(worker_env: Vec<(String, String)>) -> Self {
        let dir = tempfile::Builder::new().prefix("mu").tempdir().expect("a temporary directory");
        let cli = Cli { config_dir: dir.path().join("config") };
        let (members, workers) = (Vec::new(), Vec::new());
        Self { dir, cli, members, workers, worker_env, member_config: None }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn add_member(&mut self, n: usize) {
        let address = format!("127.0.0.1:{}", free_port());
        let store = format!("file://{}", self.path("store"));
        let data = self.path(&format!("c{}", n + 1));
        let mut args: Vec<String> =
            ["coordinator", "--data-dir", &data, "--listen", &address, "--store-url", &store]
                .map(String::from)
                .to_vec();
        args.extend(self.member_config.iter().flat_map(|file| ["--config".to_owned(), file.clone()]));
        if n == 0 {
            args.push("--bootstrap".to_owned());
        } else {
            let token = self.path("c1/join-token");
            args.extend(["--join", &self.members[0].address, "--join-token-file", &token].map(String::from));
        }
        let process = Some(self.cli.daemon(&args, &self.dir.path().join(format!("c{}.log", n + 1))));
        self.members.push(Member { args, address, process });
        until(&format!("member {}", n + 1), UP, || {
            let status = self.status()?;
            // A learner does not count: two voters of which one dies have no majority.
            let there = voters(&status) == n + 1 && status["leader"].is_u64();
            there.then_some(()).ok_or(status.to_string() + &self.logs())
        });
    }

    /// Starts a worker of this name.
    pub fn add_worker(&mut self, name: &str, more: &[&str]) {
        self.add_worker_with(name, more, &[]);
    }

    fn worker_args(&self, name: &str, more: &[&str]) -> Vec<String> {
        let joins: Vec<String> = self.members.iter().map(|m| m.address.clone()).collect();
        let (data, token, joins) = (self.path(name), self.path("c1/join-token"), joins.join(","));
        let mut args: Vec<String> =
            ["worker", "--data-dir", &data, "--name", name, "--join", &joins, "--join-token-file", &token]
                .map(String::from)
                .to_vec();
        args.extend(more.iter().map(|s| (*s).to_owned()));
        args
    }

    /// Starts a worker again, with its data directory.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn start_worker(&mut self, name: &str) {
        let log = self.dir.path().join(format!("{name}.log"));
        let worker = self.workers.iter_mut().find(|w| w.name == name).expect("a worker of this name");
        let env = self.worker_env.iter().chain(&worker.env);
        let env: Vec<(&str, &str)> = env.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        worker.process = Some(self.cli.daemon_with(&worker.args, &log, &env));
    }

    /// Waits until `n` workers are ready.
    pub fn wait_workers(&self, n: usize) {
        until(&format!("{n} ready workers"), UP, || {
            let doc = self.cli.json(&["workers"])?;
            let ready =
                doc["workers"].as_array().map_or(0, |w| w.iter().filter(|w| w["state"] == "ready").count());
            (ready == n).then_some(()).ok_or(doc.to_string() + &self.logs())
        });
    }

    /// `cluster status`.
    ///
    /// # Errors
    /// What the command said.
    pub fn status(&self) -> Result<Value, String> {
        self.cli.json(&["cluster", "status"])
    }

    /// The process of the leader and its position among the members.
    ///
    /// # Panics
    /// When there is no leader for a minute.
    #[must_use]
    pub fn leader(&self) -> (usize, Pid) {
        until("a leader that runs", UP, || {
            let status = self.status()?;
            let id = status["leader"].as_u64().ok_or("no leader")?;
            let members = status["members"].as_array().ok_or("no members")?;
            let address = members
                .iter()
                .find(|m| m["id"] == id)
                .map(|m| m["address"].clone())
                .ok_or("unknown leader")?;
            let at = self.members.iter().position(|m| address == m.address.as_str()).ok_or("not ours")?;
            let process = self.members[at].process.as_ref().ok_or_else(|| "it was killed".to_owned())?;
            Ok::<_, String>((at, Pid::from_raw(process.id().cast_signed())))
        })
    }

    /// SIGKILL to a member.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_member(&mut self, at: usize) {
        let mut process = self.members[at].process.take().expect("a running member");
        process.kill().expect("kill");
        process.wait().expect("reap");
    }

    /// Starts a killed member with its data directory.
    pub fn restart_member(&mut self, at: usize) {
        let log = self.dir.path().join(format!("c{}.log", at + 1));
        self.members[at].process = Some(self.cli.daemon(&self.members[at].args, &log));
    }

    /// Starts a member that does not run, with more in its environment.
    pub fn restart_member_with(&mut self, at: usize, env: &[(&str, &str)]) {
        let log = self.dir.path().join(format!("c{}.log", at + 1));
        self.members[at].process = Some(self.cli.daemon_with(&self.members[at].args, &log, env));
    }

    /// How a member's process ended, once it has.
    pub fn member_ended(&mut self, at: usize) -> Option<std::process::ExitStatus> {
        let ended = self.members[at].process.as_mut()?.try_wait().ok()??;
        self.members[at].process = None;
        Some(ended)
    }

    /// Adds a worker of this name with more in its environment.
    pub fn add_worker_with(&mut self, name: &str, more: &[&str], env: &[(&str, &str)]) {
        let args = self.worker_args(name, more);
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.workers.push(Worker { name: name.to_owned(), args, env, process: None });
        self.start_worker(name);
    }

    /// Starts a worker again if its agent has ended.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn revive_worker(&mut self, name: &str) {
        let worker = self.workers.iter_mut().find(|w| w.name == name).expect("a worker of this name");
        let ended = worker
            .process
            .as_mut()
            .is_none_or(|process| process.try_wait().is_ok_and(|status| status.is_some()));
        if ended {
            self.start_worker(name);
        }
    }

    /// The agent of a worker.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn agent(&self, name: &str) -> Pid {
        let worker = self.workers.iter().find(|w| w.name == name).and_then(|w| w.process.as_ref());
        Pid::from_raw(worker.expect("a running worker").id().cast_signed())
    }

    /// How the agent of a worker ended, once it has.
    pub fn agent_ended(&mut self, name: &str) -> Option<std::process::ExitStatus> {
        self.workers.iter_mut().find(|w| w.name == name)?.process.as_mut()?.try_wait().ok()?
    }

    /// SIGKILL to the agent of a worker, not to its shim.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_agent(&mut self, name: &str) {
        let worker = self.workers.iter_mut().find(|w| w.name == name).and_then(|w| w.process.take());
        let mut process = worker.expect("a running worker");
        process.kill().expect("kill");
        process.wait().expect("reap");
    }

    /// Writes a file of the test and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("write a test file");
        path.display().to_string()
    }

    /// Submits a job file and returns its id.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn submit(&self, file: &str) -> u64 {
        let out = self.cli.run(&["submit", file]).ok();
        out.trim().parse().unwrap_or_else(|_| panic!("submit printed {out:?}"))
    }

    /// Waits until a job is terminal, through failovers; returns its document.
    ///
    /// # Panics
    /// When it is not within `limit`.
    #[must_use]
    pub fn finished(&self, job: u64, limit: Duration) -> Value {
        until(&format!("the end of job {job}"), limit, || {
            let doc = self.cli.json(&["show", &job.to_string()])?;
            let state = doc["state"].as_str().unwrap_or_default();
            let brief = format!("{state} {} {}", doc["counts"], self.logs());
            ["succeeded", "failed", "cancelled"].contains(&state).then_some(doc.clone()).ok_or(brief)
        })
    }

    /// The last lines of every daemon's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let names = (1..=self.members.len())
            .map(|n| format!("c{n}"))
            .chain(self.workers.iter().map(|w| w.name.clone()));
        for name in names {
            let log =
                std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            text += &format!("\n--- {name}\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let workers = self.workers.iter_mut().filter_map(|w| w.process.take());
        for mut process in self.members.iter_mut().filter_map(|m| m.process.take()).chain(workers) {
            let _ = process.kill();
            let _ = process.wait();
        }
        kill_all_under(self.dir.path());
    }
}

/// Members that vote, by a `cluster status`.
#[must_use]
pub fn voters(status: &Value) -> usize {
    let votes = |m: &&Value| m["role"] == "leader" || m["role"] == "follower";
    status["members"].as_array().map_or(0, |m| m.iter().filter(votes).count())
}

/// Ends every process whose command line names `dir`: shims outlive their agents on purpose.
pub fn kill_all_under(dir: &Path) {
    let needle = dir.display().to_string();
    for pid in pids_with(&needle) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Processes whose command line contains `needle`.
#[must_use]
pub fn pids_with(needle: &str) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let named = |path: PathBuf| {
        let line = std::fs::read(path.join("cmdline")).ok()?;
        let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
        let mine = pid == std::process::id().cast_signed();
        (!mine && String::from_utf8_lossy(&line).contains(needle)).then(|| Pid::from_raw(pid))
    };
    entries.flatten().filter_map(|e| named(e.path())).collect()
}
