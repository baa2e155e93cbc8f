//! A temporary cluster: real processes of this binary, on loopback, in a directory of their own. It ends with its value.
//!
//! Everything that it starts carries a mark in its environment, so that what the daemons start in turn (the shim) is counted and ended
//! with them. Waiting is for states; a daemon that ended meanwhile is said at once, with the end of its log.

use crate::client::{self, Api, Target};
use crate::procfs;
use crate::report::say;
use anyhow::{Context, Result, bail};
use muster_proto::caller::Caller;
use muster_proto::channel::Tls;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A state that does not come within this time will not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// This binary, even when its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";
const MARK: &str = "BENCH_CLUSTER";

/// A process and where it talks.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    /// Its end was asked for.
    killed: bool,
}

impl Daemon {
    /// Starts `command`, talking into `log`.
    ///
    /// # Errors
    /// The system's.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let out = File::options().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, killed: false })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.killed = true;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Says it when the process ended.
    ///
    /// # Errors
    /// It did; the end of its log is in the message.
    pub fn check(&mut self) -> Result<()> {
        if self.killed {
            return Ok(());
        }
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        bail!("{} ended with {status}:\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

impl Daemon {
    /// Sends a signal and waits until the process has ended.
    ///
    /// # Errors
    /// It was not there, or does not end.
    pub async fn end(&mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            if started.elapsed() > PATIENCE {
                bail!("{} did not end within {} s of {signal}", self.name, PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks `look` until it gives something; ends when one of `daemons` ended or after [`PATIENCE`].
///
/// # Errors
/// What was waited for did not come.
pub async fn until<T>(
    what: &str,
    daemons: &mut [Daemon],
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        for daemon in daemons.iter_mut() {
            daemon.check()?;
        }
        if started.elapsed() > PATIENCE {
            bail!("{what} did not come within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// An address on loopback that is free now.
///
/// # Errors
/// The system has no port.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Members and workers.
#[derive(Debug)]
pub struct Cluster {
    mark: String,
    /// Members first.
    daemons: Vec<Daemon>,
    members: usize,
    target: Target,
    keep: bool,
    dir: Option<TempDir>,
}

impl Cluster {
    /// Starts `members` members below `parent` and waits until they form one group with a leader.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start(parent: &Path, members: usize, keep: bool) -> Result<Self> {
        Self::start_with(parent, members, keep, |_| Ok(None)).await
    }

    /// The same with mutual TLS: `certify` makes the certificates in the cluster's directory.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_with(
        parent: &Path,
        members: usize,
        keep: bool,
        certify: impl FnOnce(&Path) -> Result<Option<Tls>>,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-bench-").tempdir_in(parent)?;
        let mark = format!("{:016x}", rand::random::<u64>());
        let target = Target { tls: certify(dir.path())?, ..Target::default() };
        let mut cluster = Self { mark, daemons: Vec::new(), members, target, keep, dir: Some(dir) };
        for number in 1..=members {
            cluster.start_member(number).await?;
        }
        let mut api = cluster.connect().await?;
        until("a group with a leader", &mut cluster.daemons, async || {
            let status = client::cluster_status(&mut api).await.ok()?;
            let voters = status
                .members
                .iter()
                .filter(|member| matches!(member.role.as_str(), "leader" | "follower"))
                .count();
            (status.leader.is_some() && voters == members).then_some(())
        })
        .await?;
        Ok(cluster)
    }

    /// Starts a member's process: the first time it makes or joins the cluster, later it finds that it has.
    fn member(&self, number: usize, address: &str) -> Result<Daemon> {
        let name = format!("c{number}");
        let mut command = self.member_command(&name, address);
        if number == 1 {
            command.arg("--bootstrap");
        } else {
            command
                .args(["--join", &self.target.addresses[0]])
                .arg("--join-token-file")
                .arg(self.join_token_file());
        }
        Daemon::start(&name, command, self.path(&format!("{name}.log")))
    }

    async fn start_member(&mut self, number: usize) -> Result<()> {
        let address = free_address()?;
        self.daemons.push(self.member(number, &address)?);
        let file = self.path("c1").join("secrets/user-token");
        let mut target = self.target.clone();
        let token = until("a member's user token", &mut self.daemons, async || {
            let token = fs::read_to_string(&file).ok()?;
            (!token.is_empty()).then(|| token.trim().to_owned())
        })
        .await?;
        target.token = token;
        let mut api = until("a member that listens", &mut self.daemons, async || {
            client::connect_to(&target, &address).await.ok()
        })
        .await?;
        until("a member that knows its leader", &mut self.daemons, async || {
            client::cluster_status(&mut api).await.ok().filter(|status| status.leader.is_some())
        })
        .await?;
        target.addresses.push(address);
        self.target = target;
        Ok(())
    }

    fn member_command(&self, name: &str, address: &str) -> Command {
        let mut command = self.command();
        command.arg("coordinator").arg("--data-dir").arg(self.path(name)).args(["--listen", address]);
        if let Some(tls) = &self.target.tls {
            command.arg("--tls-ca").arg(&tls.ca).arg("--tls-certificate").arg(&tls.certificate);
            command.arg("--tls-key").arg(&tls.key);
        }
        command
    }

    /// Kills a member, by its number from 1; [`Cluster::restart_member`] brings it back.
    ///
    /// # Errors
    /// The system's.
    pub fn kill_member(&mut self, number: usize) -> Result<()> {
        self.daemons[number - 1].kill()
    }

    /// Starts a killed member again, on its data and its address, and waits until it reads what was acknowledged.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart_member(&mut self, number: usize) -> Result<()> {
        let (name, address) = (format!("c{number}"), self.target.addresses[number - 1].clone());
        let command = self.member_command(&name, &address);
        self.daemons[number - 1] = Daemon::start(&name, command, self.path(&format!("{name}.log")))?;
        let target = self.target.clone();
        until("a member that is back", &mut self.daemons, async || {
            let mut api = client::connect_to(&target, &address).await.ok()?;
            client::workers(&mut api).await.ok()
        })
        .await?;
        Ok(())
    }

    /// Ends member `number`, counted from 1.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end_member(&mut self, number: usize, signal: Signal) -> Result<()> {
        self.daemons[number - 1].end(signal).await
    }

    /// Starts member `number` again, where it was.
    ///
    /// # Errors
    /// The system's.
    pub fn start_again(&mut self, number: usize) -> Result<()> {
        let address = self.target.addresses[number - 1].clone();
        self.daemons[number - 1] = self.member(number, &address)?;
        Ok(())
    }

    /// Waits until member `number` answers a read that sees all that was acknowledged before it was asked.
    ///
    /// # Errors
    /// It does not.
    pub async fn until_serving(&mut self, number: usize) -> Result<()> {
        let (target, address) = (self.target.clone(), self.target.addresses[number - 1].clone());
        until("a member that serves reads", &mut self.daemons, async || {
            let mut api = client::connect_to(&target, &address).await.ok()?;
            client::workers(&mut api).await.ok().map(drop)
        })
        .await
    }

    /// The number of the member that leads, as the others see it.
    ///
    /// # Errors
    /// No leader is known for long.
    pub async fn leader(&mut self) -> Result<usize> {
        let target = self.target.clone();
        until("a leader", &mut self.daemons, async || {
            let status = client::cluster_status(&mut client::connect(&target).await.ok()?).await.ok()?;
            let leader = status.members.iter().find(|member| Some(member.id) == status.leader)?;
            target.addresses.iter().position(|address| *address == leader.address).map(|at| at + 1)
        })
        .await
    }

    /// Calls as the command line does: any member, with its retries. It begins with member `number`.
    #[must_use]
    pub fn caller(&self, number: usize) -> Caller {
        let mut addresses = self.target.addresses.clone();
        addresses.rotate_left(number - 1);
        Caller::new(addresses, self.target.token.clone(), self.target.tls.clone())
    }

    /// Runs one command of the command line to its end.
    ///
    /// # Errors
    /// It failed; what it said is in the message.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::null());
        command
            .env("MUSTER_ADDRESS", self.target.addresses.join(","))
            .env("MUSTER_TOKEN", &self.target.token);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`muster {}` ended with {}: {}", args.join(" "), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends worker `number`, counted from 1: its agent, not its tasks.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end_worker(&mut self, number: usize, signal: Signal) -> Result<()> {
        self.daemons[self.members + number - 1].end(signal).await
    }

    /// Starts worker `number` again in its directory and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_worker_again(&mut self, number: usize, cpus: u32) -> Result<()> {
        let at = self.members + number - 1;
        self.daemons[at] = self.worker(number, cpus)?;
        self.until_worker(number).await
    }

    /// Starts a worker with `cpus` cores, however many there are, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_worker(&mut self, cpus: u32) -> Result<()> {
        let number = self.daemons.len() - self.members + 1;
        self.daemons.push(self.worker(number, cpus)?);
        self.until_worker(number).await
    }

    fn worker(&self, number: usize, cpus: u32) -> Result<Daemon> {
        let name = format!("w{number}");
        let mut command = self.command();
        command.arg("worker").arg("--data-dir").arg(self.path(&name)).args(["--name", &name]);
        command
            .args(["--join", &self.target.addresses.join(",")])
            .arg("--join-token-file")
            .arg(self.join_token_file());
        command.args(["--cpus", &cpus.to_string()]);
        Daemon::start(&name, command, self.path(&format!("{name}.log")))
    }

    async fn until_worker(&mut self, number: usize) -> Result<()> {
        let name = format!("w{number}");
        let mut api = self.connect().await?;
        until("a worker that is ready", &mut self.daemons, async || {
            let workers = client::workers(&mut api).await.ok()?.workers;
            workers.iter().any(|worker| worker.name == name && worker.state == "ready").then_some(())
        })
        .await
    }

    /// A command of this binary in this cluster's environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_"))
        {
            command.env_remove(name);
        }
        command.env("MUSTER_CONFIG_DIR", self.path("config")).env(MARK, &self.mark);
        command
    }

    /// A path in the cluster's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.as_ref().map(|dir| dir.path().join(name)).unwrap_or_default()
    }

    /// What lets workers and members join.
    #[must_use]
    pub fn join_token_file(&self) -> PathBuf {
        self.path("c1").join("join-token")
    }

    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// # Errors
    /// No member answers.
    pub async fn connect(&self) -> Result<Api> {
        client::connect(&self.target).await
    }

    /// The first member's process.
    #[must_use]
    pub fn member_pid(&self) -> u32 {
        self.daemons[0].pid()
    }

    /// The members' processes, the first member's first.
    #[must_use]
    pub fn member_pids(&self) -> Vec<u32> {
        self.daemons[..self.members].iter().map(Daemon::pid).collect()
    }

    /// CPU so far of all processes of the cluster, with their children that were waited for, ms.
    ///
    /// # Errors
    /// An unreadable /proc.
    pub fn cpu_ms(&self) -> Result<f64> {
        self.processes().into_iter().map(|pid| Ok(procfs::cpu_ms(pid)?.unwrap_or(0.0))).sum()
    }

    fn processes(&self) -> Vec<u32> {
        procfs::marked(&format!("{MARK}={}", self.mark))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Workers before members: they would only complain.
        while self.daemons.pop().is_some() {}
        for pid in self.processes() {
            if let Ok(pid) = i32::try_from(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if let Some(mut dir) = self.dir.take()
            && self.keep
        {
            dir.disable_cleanup(true);
            say(&format!("kept {}", dir.path().display()));
        }
    }
}
