//! A worker's directory with a shim, and the ways to wait for what happens in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_worker::cgroup::{Kind, Limits, probe};
use muster_worker::executor::{Exit, ShimClient, ShimConfig, ShimEvent};
use muster_worker::shim::clock::boot_ms;
use muster_worker::shim::protocol::{Launch, Token};
use tokio::sync::mpsc::UnboundedReceiver;

/// A lease that no case outlives.
pub const LONG_MS: u64 = 600_000;
/// Longest wait for anything: a failure, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn exe() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// One attempt that runs `argv` in `dir`, with a lease that does not matter.
pub fn launch(dir: &Path, token: Token, argv: &[&str]) -> Launch {
    let log = |name: &str| dir.join(format!("{token}.{name}")).to_str().unwrap().to_owned();
    let scratch = dir.join("attempts").join(token.to_string()).join("scratch");
    let env = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("MUSTER_FENCING_TOKEN", token.to_string()),
        ("MUSTER_SCRATCH_DIR", scratch.to_str().unwrap().to_owned()),
    ];
    Launch {
        token,
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: env.map(|(n, v)| (n.to_owned(), v)).to_vec(),
        cwd: dir.to_str().unwrap().to_owned(),
        stdout: log("stdout.log"),
        stderr: log("stderr.log"),
        log_cap: 1 << 20,
        limits: Limits::default(),
        deadline_boot_ms: boot_ms() + LONG_MS,
    }
}

/// A worker's directory and the shim that serves it.
pub struct Shims {
    pub dir: tempfile::TempDir,
    pub client: ShimClient,
    pub events: UnboundedReceiver<ShimEvent>,
    pub held: muster_worker::executor::Held,
    kind: Kind,
}

impl Shims {
    pub fn config(dir: &Path, kind: Kind) -> ShimConfig {
        ShimConfig {
            program: exe(),
            idle: Duration::from_secs(2),
            cgroup: Some(kind),
            ..ShimConfig::new(dir)
        }
    }

    pub async fn start(kind: Kind) -> Self {
        Self::at(tempfile::tempdir().unwrap(), kind).await
    }

    pub async fn at(dir: tempfile::TempDir, kind: Kind) -> Self {
        let (client, held, events) = ShimClient::start(Self::config(dir.path(), kind)).await.unwrap();
        Self { dir, client, events, held, kind }
    }

    /// A new agent in the place of this one.
    pub async fn again(self) -> Self {
        let Self { dir, kind, client, events, .. } = self;
        drop((client, events));
        Self::at(dir, kind).await
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn launch(&self, token: Token, argv: &[&str]) {
        self.client.launch(vec![launch(self.dir.path(), token, argv)]);
    }

    /// The next event.
    pub async fn event(&mut self) -> ShimEvent {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event within a minute")
            .expect("the client lives")
    }

    /// The exit of `token`, past other events.
    pub async fn exit(&mut self, token: Token) -> Exit {
        loop {
            match self.event().await {
                ShimEvent::Exited(exit) if exit.token == token => return exit,
                ShimEvent::LaunchFailed { token, reason } => panic!("{token}: {reason}"),
                ShimEvent::Vanished { token } => panic!("{token} vanished"),
                _ => {}
            }
        }
    }

    /// Runs one attempt to its end.
    pub async fn run(&mut self, one: Launch) -> Exit {
        let token = one.token;
        self.client.launch(vec![one]);
        self.exit(token).await
    }

    /// The process id of the shim of this directory.
    pub fn shim_pid(&self) -> i32 {
        let stream = muster_worker::shim::socket::connect(self.dir.path()).unwrap();
        rustix::net::sockopt::socket_peercred(&stream).unwrap().pid.as_raw_nonzero().get()
    }
}

/// Waits until `ready` gives something.
pub async fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "waited a minute for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The number in a file that a task writes once it has begun.
pub async fn pid_in(file: &str) -> i32 {
    until(file, || std::fs::read_to_string(file).ok()?.trim().parse().ok()).await
}

/// Is there such a process, other than as a zombie?
pub fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit_once(')').is_some_and(|(_, r)| r.starts_with(" Z")))
}

pub fn signal(pid: i32, number: i32) {
    // SAFETY: kill has no preconditions.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0, "signal {number} to {pid}");
}

/// Can the lock of `file` be had?
pub fn lock_is_free(file: &str) -> bool {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// The backends to test here: each with its own directory of the machine's cgroups, where it has them.
pub fn kinds() -> Vec<Kind> {
    let probed = probe();
    let mut kinds = vec![Kind::None];
    if probed.kind != Kind::None {
        kinds.push(probed.kind);
    }
    // A machine with both: v2 holds and kills groups even where v1 has the controllers.
    if probed.kind == Kind::V1 && muster_worker::cgroup::probe::v2_parent().is_ok() {
        kinds.push(Kind::V2);
    }
    kinds
}
