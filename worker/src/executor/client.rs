//! One handle for all shims of a worker: the resident one, or one an attempt where there are no cgroups.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::link::{Link, LinkConfig};
use crate::cgroup::{self, Kind, Probed};
use crate::shim::protocol::{Exit, FrameError, Launch, LaunchFailure, Request, Running, Token};
use crate::shim::{boot_id, exits};

/// Directory, below the worker's, of the shims of one attempt.
const SINGLES: &str = "shims";

/// How to find or start the shim.
#[derive(Clone, Debug)]
pub struct ShimConfig {
    /// The worker's directory.
    pub dir: PathBuf,
    /// The program to execute.
    pub program: PathBuf,
    /// Its first arguments; `--dir` and the rest follow.
    pub args: Vec<std::ffi::OsString>,
    /// A shim ends after this long without an agent and without an attempt.
    pub idle: Duration,
    /// Backend to use instead of the probed one.
    pub cgroup: Option<Kind>,
}

impl ShimConfig {
    /// This program's own `shim` command, for the worker's directory `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            program: "/proc/self/exe".into(),
            args: vec!["shim".into()],
            idle: Duration::from_secs(60),
            cgroup: None,
        }
    }
}

/// Why there is no shim to talk to.
#[derive(Debug, Error)]
pub enum ShimError {
    /// It could not be executed.
    #[error("cannot start the shim {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended before it listened; its own words.
    #[error("the shim did not start: {0}")]
    Ended(String),
    /// The socket.
    #[error("cannot talk to the shim of {dir}")]
    Socket {
        /// The directory it serves.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It speaks no version that we do.
    #[error(
        "the running shim speaks protocol {oldest} to {newest}, this worker does not; stop its tasks or use the older binary"
    )]
    Version {
        /// Newest version of the shim.
        newest: u16,
        /// Oldest version of the shim.
        oldest: u16,
    },
    /// What it sent cannot be read.
    #[error("the shim sent something else than expected")]
    Frame(#[from] FrameError),
    /// It sent a frame at a place where another was due.
    #[error("the shim answered out of order")]
    Order,
}

/// What the shim holds when the agent comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Attempts that run.
    pub running: Vec<Running>,
    /// Attempts that ended and were not released.
    pub exited: Vec<Exit>,
}

/// What happens to attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimEvent {
    /// The program is executing.
    Started {
        /// Which attempt.
        token: Token,
        /// Process id, also of its session and process group.
        pid: u32,
        /// Boot time, milliseconds.
        boot_ms: u64,
        /// Wall time, milliseconds.
        wall_ms: u64,
    },
    /// Nothing was started.
    LaunchFailed {
        /// Which attempt.
        token: Token,
        /// Why.
        reason: LaunchFailure,
    },
    /// It is over, and nothing of it runs. Can come again after a reconnect until it is released.
    Exited(Exit),
    /// No shim knows it any more, and nothing of it runs.
    Vanished {
        /// Which attempt.
        token: Token,
    },
    /// Its processes survive SIGKILL so far.
    Unkillable {
        /// Which attempt.
        token: Token,
    },
}

/// The handle. Cheap to clone; no method waits.
#[derive(Clone, Debug)]
pub struct ShimClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ShimConfig,
    probed: Probed,
    events: UnboundedSender<ShimEvent>,
    links: Mutex<Links>,
}

#[derive(Debug)]
enum Links {
    Resident(Link),
    Single(HashMap<Token, Link>),
}

impl ShimClient {
    /// Finds the shim or starts it, and asks what it holds. Attempts found running are followed from here on.
    ///
    /// # Errors
    /// When there is none and none can be started, or it speaks another protocol.
    pub async fn start(config: ShimConfig) -> Result<(Self, Held, UnboundedReceiver<ShimEvent>), ShimError> {
        let probed = match config.cgroup {
            Some(kind) => Probed::new(kind, "set by configuration".into()),
            None => cgroup::probe(),
        };
        let (events, receiver) = unbounded_channel();
        let (links, held, probed) = if probed.kind == Kind::None {
            let (links, held) = adopt_singles(&config, &events).await?;
            (Links::Single(links), held, probed)
        } else {
            let link = LinkConfig::resident(&config, probed.kind);
            // A resident shim that is already there keeps its own backend.
            let (link, held, backend) = Link::open(link, events.clone()).await?;
            (Links::Resident(link), held, Probed { reason: probed.reason, ..backend })
        };
        let inner = Inner { config, probed, events, links: Mutex::new(links) };
        Ok((Self { inner: Arc::new(inner) }, held, receiver))
    }

    /// How attempts are held and limited on this machine, and why so.
    #[must_use]
    pub fn backend(&self) -> &Probed {
        &self.inner.probed
    }

    /// Starts attempts. Each token is answered by `Started`, `LaunchFailed` or `Vanished`.
    pub fn launch(&self, launches: Vec<Launch>) {
        match &mut *self.links() {
            Links::Resident(link) => link.send(launches.into_iter().map(|l| Request::Launch(Box::new(l)))),
            Links::Single(links) => {
                links.retain(|_, link| !link.closed());
                for launch in launches {
                    let link = links.entry(launch.token).or_insert_with(|| {
                        Link::open_later(
                            LinkConfig::single(&self.inner.config, launch.token),
                            self.inner.events.clone(),
                        )
                    });
                    link.send([Request::Launch(Box::new(launch))]);
                }
            }
        }
    }

    /// Moves the deadline of every attempt held, except these. Never moves one back.
    pub fn renew(&self, deadline_boot_ms: u64, except: Vec<Token>) {
        match &*self.links() {
            Links::Resident(link) => link.send([Request::Renew { deadline_boot_ms, except }]),
            Links::Single(links) => {
                for (_, link) in links.iter().filter(|(token, _)| !except.contains(token)) {
                    link.send([Request::Renew { deadline_boot_ms, except: Vec::new() }]);
                }
            }
        }
    }

    /// Signal, grace, SIGTERM, 2 s, SIGKILL of the whole group.
    pub fn stop(&self, token: Token, signal: i32, grace_ms: u64) {
        self.to(token, Request::Stop { token, signal, grace_ms });
    }

    /// SIGKILL of the whole group, now.
    pub fn kill(&self, token: Token) {
        self.to(token, Request::Kill { token });
    }

    /// One signal to the process group.
    pub fn signal(&self, token: Token, signal: i32) {
        self.to(token, Request::Signal { token, signal });
    }

    /// Forgets exit records. To be called once the coordinator has acknowledged them.
    pub fn release(&self, tokens: Vec<Token>) {
        match &mut *self.links() {
            Links::Resident(link) => link.send([Request::Release { tokens }]),
            Links::Single(links) => {
                for token in tokens {
                    if let Some(link) = links.remove(&token) {
                        link.send([Request::Release { tokens: vec![token] }]);
                    }
                }
            }
        }
    }

    fn to(&self, token: Token, request: Request) {
        match &*self.links() {
            Links::Resident(link) => link.send([request]),
            Links::Single(links) => {
                if let Some(link) = links.get(&token) {
                    link.send([request]);
                }
            }
        }
    }

    fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.inner.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkConfig {
    fn resident(config: &ShimConfig, kind: Kind) -> Self {
        Self::new(config, config.dir.clone(), kind, None)
    }

    fn single(config: &ShimConfig, token: Token) -> Self {
        Self::new(config, config.dir.join(SINGLES).join(token.to_string()), Kind::None, Some(token))
    }

    fn new(config: &ShimConfig, dir: PathBuf, kind: Kind, single: Option<Token>) -> Self {
        let mut args = config.args.clone();
        let name = match kind {
            Kind::V2 => "v2",
            Kind::V1 => "v1",
            Kind::None => "none",
        };
        args.extend(["--dir".into(), dir.clone().into_os_string(), "--cgroup".into(), name.into()]);
        args.extend(["--idle-ms".into(), config.idle.as_millis().to_string().into()]);
        if single.is_some() {
            args.push("--single".into());
        }
        Self { dir, program: config.program.clone(), args, single, worker_dir: config.dir.clone() }
    }
}

/// Finds the shims of single attempts that an earlier agent started: connects to those that live, reads the records of those that
/// are dead and kills what they left.
async fn adopt_singles(
    config: &ShimConfig,
    events: &UnboundedSender<ShimEvent>,
) -> Result<(HashMap<Token, Link>, Held), ShimError> {
    let (mut links, mut held) = (HashMap::new(), Held::default());
    let boot = boot_id().unwrap_or_default();
    for token in tokens_in(&config.dir.join(SINGLES)) {
        let link = LinkConfig::single(config, token);
        if crate::shim::socket::connect(&link.dir).is_ok()
            && let Ok((link, one, _)) = Link::open(link.clone(), events.clone()).await
        {
            // Nothing held: that one was released while it ended, or was started by our own connecting.
            if !one.running.is_empty() || !one.exited.is_empty() {
                held.running.extend(one.running);
                held.exited.extend(one.exited);
                links.insert(token, link);
            }
            continue;
        }
        kill_leftovers(&config.dir, token);
        let exited = exits::read_dir(&link.dir, &boot);
        if exited.is_empty() {
            let _ = std::fs::remove_dir_all(&link.dir);
        } else {
            // A shim for the sake of its release; it ends with it.
            links.insert(token, Link::open_later(link, events.clone()));
            held.exited.extend(exited);
        }
    }
    Ok((links, held))
}

/// Kills what a dead shim without cgroups left running: processes that carry the attempt's token and directory in their environment.
pub(super) fn kill_leftovers(worker_dir: &Path, token: Token) {
    let scratch = super::launch::Dirs::at(worker_dir).of(token).scratch;
    let needles =
        [format!("MUSTER_FENCING_TOKEN={token}"), format!("MUSTER_SCRATCH_DIR={}", scratch.display())];
    let killed = cgroup::none::kill_by_environment(&needles);
    if killed > 0 {
        tracing::warn!(token, killed, "killed processes that a dead shim left");
    }
}

fn tokens_in(dir: &Path) -> Vec<Token> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}
