//! What operators do to members: stop, join, replace, and submissions that go on meanwhile.

use crate::cluster::{Cluster, Member, UP, free_port, voters};
use crate::process::Cli;
use crate::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

impl Cluster {
    /// How many members this cluster ever had.
    #[must_use]
    pub fn members_ever(&self) -> usize {
        self.members.len()
    }

    /// The address of the member at this position.
    #[must_use]
    pub fn member_address(&self, at: usize) -> String {
        self.members[at].address.clone()
    }

    /// The token of the cluster's first user.
    ///
    /// # Panics
    /// When no context has one.
    #[must_use]
    pub fn user_token(&self) -> String {
        let contexts = std::fs::read_to_string(self.cli.config_dir.join("contexts.toml")).expect("contexts");
        let line = contexts.lines().find_map(|line| line.strip_prefix("token = ")).expect("a token");
        line.trim_matches('"').to_owned()
    }

    /// Data directory of the member at this position.
    #[must_use]
    pub fn member_dir(&self, at: usize) -> String {
        self.path(&format!("c{}", at + 1))
    }

    /// What the member at this position logged.
    #[must_use]
    pub fn member_log(&self, at: usize) -> String {
        std::fs::read_to_string(self.path(&format!("c{}.log", at + 1))).unwrap_or_default()
    }

    /// The id of the member at this position, by its address.
    ///
    /// # Panics
    /// When it is not in the membership for a minute.
    #[must_use]
    pub fn member_id(&self, at: usize) -> u64 {
        until("a member's id", UP, || {
            let status = self.status()?;
            let address = self.members[at].address.as_str();
            let members = status["members"].as_array().ok_or("no members")?;
            members
                .iter()
                .find(|member| member["address"] == address)
                .and_then(|member| member["id"].as_u64())
                .ok_or_else(|| status.to_string())
        })
    }

    /// SIGTERM to a member, and its exit code.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn stop_member(&mut self, at: usize) -> Option<i32> {
        let process = self.members[at].process.as_ref().expect("a running member");
        kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).expect("signal");
        self.ended_member(at)
    }

    /// Waits until a member has ended by itself; its exit code.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn ended_member(&mut self, at: usize) -> Option<i32> {
        let mut process = self.members[at].process.take().expect("a running member");
        until("the end of a member", UP, || match process.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            Ok(None) => Err(self.member_log(at)),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Starts one more member, on an empty directory, with `more` options; returns its position. The token comes from the context.
    pub fn join_member(&mut self, address: Option<String>, more: &[&str]) -> usize {
        let at = self.members.len();
        let address = address.unwrap_or_else(|| format!("127.0.0.1:{}", free_port()));
        let known: Vec<&str> =
            self.members.iter().filter(|m| m.process.is_some()).map(|m| m.address.as_str()).collect();
        let mut args: Vec<String> = [
            "coordinator",
            "--data-dir",
            &self.member_dir(at),
            "--listen",
            &address,
            "--join",
            &known.join(","),
        ]
        .map(String::from)
        .to_vec();
        args.extend(more.iter().map(|option| (*option).to_owned()));
        let log = self.dir.path().join(format!("c{}.log", at + 1));
        let process = Some(self.cli.daemon(&args, &log));
        self.members.push(Member { args, address, process });
        at
    }

    /// Waits until exactly these members vote and answer.
    pub fn wait_voters(&self, ids: &[u64]) {
        until(&format!("voters {ids:?}"), UP, || {
            let status = self.status()?;
            let mut found: Vec<u64> = status["members"]
                .as_array()
                .map(|members| members.iter().filter_map(|member| member["id"].as_u64()).collect())
                .unwrap_or_default();
            found.sort_unstable();
            let all = found == ids && voters(&status) == ids.len() && status["leader"].is_u64();
            all.then_some(()).ok_or_else(|| status.to_string() + &self.logs())
        });
    }

    /// The ids of all members.
    ///
    /// # Errors
    /// Nothing reachable.
    pub fn ids(&self) -> Result<Vec<u64>, String> {
        let status = self.status()?;
        let members = status["members"].as_array().ok_or("no members")?;
        let mut ids: Vec<u64> = members.iter().filter_map(|member| member["id"].as_u64()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Submits jobs of one task with the shipped client, one after another in each of `threads`, until told to stop.
    #[must_use]
    pub fn submissions(&self, threads: usize) -> Submissions {
        let file = self.file("stream.yaml", "name: stream\ntasks: {t: {run: 'true'}}\n");
        let shared = Arc::new(Shared::default());
        let threads = (0..threads).map(|_| {
            let (shared, cli, file) = (shared.clone(), self.cli.clone(), file.clone());
            std::thread::spawn(move || shared.run(&cli, &file))
        });
        Submissions { shared: shared.clone(), threads: threads.collect() }
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    count: AtomicU64,
    ids: Mutex<Vec<u64>>,
    failed: Mutex<Vec<String>>,
}

impl Shared {
    fn run(&self, cli: &Cli, file: &str) {
        while !self.stop.load(Ordering::Acquire) {
            let ran = cli.run(&["submit", file]);
            match (ran.code, ran.stdout.trim().parse()) {
                (Some(0), Ok(id)) => self.ids.lock().expect("not poisoned").push(id),
                _ => self.failed.lock().expect("not poisoned").push(format!("{:?} {}", ran.code, ran.stderr)),
            }
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Submissions that go on.
pub struct Submissions {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Submissions {
    /// How many were answered so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Acquire)
    }

    /// Those acknowledged so far.
    ///
    /// # Panics
    /// When a thread of it did.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<u64> {
        self.shared.ids.lock().expect("not poisoned").clone()
    }

    /// Waits for `more` answers from now on.
    pub fn wait_more(&self, more: u64) {
        let goal = self.count() + more;
        until(&format!("{more} more submissions"), Duration::from_secs(120), || {
            let count = self.count();
            (count >= goal).then_some(()).ok_or(count)
        });
    }

    /// Ends them; the ids acknowledged, in order, each once.
    ///
    /// # Panics
    /// When one failed, or an id was given twice.
    #[must_use]
    pub fn end(mut self) -> Vec<u64> {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
        let failed = self.shared.failed.lock().expect("not poisoned").clone();
        assert!(failed.is_empty(), "{} of {} submissions failed: {failed:#?}", failed.len(), self.count());
        let mut times: BTreeMap<u64, u32> = BTreeMap::new();
        for id in self.acknowledged() {
            *times.entry(id).or_default() += 1;
        }
        assert!(times.values().all(|n| *n == 1), "an id was given twice: {times:?}");
        times.into_keys().collect()
    }
}

impl Drop for Submissions {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// Ids of all jobs that a cluster knows.
///
/// # Errors
/// What the command said.
pub fn job_ids(cli: &Cli) -> Result<Vec<u64>, String> {
    let doc = cli.json(&["ps", "--limit", "1000000"])?;
    let jobs = doc["jobs"].as_array().ok_or("no jobs")?;
    let mut ids: Vec<u64> = jobs.iter().filter_map(|job: &Value| job["id"].as_u64()).collect();
    ids.sort_unstable();
    Ok(ids)
}
