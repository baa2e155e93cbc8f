//! The connection to one shim: started when absent, found again when lost, and the bookkeeping that makes every attempt end in an event.
//!
//! What was asked before the shim was listed and is not in the list is gone: a new shim kills leftovers before it answers. So after
//! each reconnect the list decides, and what was sent into a broken connection needs no other memory than the tokens.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::client::{Held, ShimError, ShimEvent, kill_leftovers};
use crate::cgroup::Probed;
use crate::shim::protocol::{Event, Frames, NEWEST, OLDEST, Request, Token, write_frame};
use crate::shim::{READY, socket};

/// Between two tries to get a shim back. Local, so short; growing, so that a machine without processes to spare is not made worse.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Once the pause has grown beyond this, launches that wait are refused; the coordinator may have a better place for them.
const REFUSE_AFTER: Duration = Duration::from_millis(100);
/// Tries at a shim that is ending.
const ENDING_TRIES: u32 = 5;

/// Which shim, and how to start it.
#[derive(Clone, Debug)]
pub(super) struct LinkConfig {
    pub dir: PathBuf,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The one attempt of a shim without cgroups.
    pub single: Option<Token>,
    pub worker_dir: PathBuf,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Link {
    requests: UnboundedSender<Request>,
}

impl Link {
    /// Connects, and follows the connection in a task.
    pub async fn open(
        config: LinkConfig,
        events: UnboundedSender<ShimEvent>,
    ) -> Result<(Self, Held, Probed), ShimError> {
        let (requests, receiver) = unbounded_channel();
        let (wire, held, backend) = connect(&config).await?;
        let mut known = Known::default();
        known.alive.extend(held.running.iter().map(|r| r.token));
        known.alive.extend(held.exited.iter().map(|e| e.token));
        tokio::spawn(follow(config, events, receiver, known, Some(wire)));
        Ok((Self { requests }, held, backend))
    }

    /// Connects in the task; requests wait until then.
    pub fn open_later(config: LinkConfig, events: UnboundedSender<ShimEvent>) -> Self {
        let (requests, receiver) = unbounded_channel();
        tokio::spawn(follow(config, events, receiver, Known::default(), None));
        Self { requests }
    }

    pub fn send(&self, requests: impl IntoIterator<Item = Request>) {
        for request in requests {
            // A link whose task has ended is that of a released attempt.
            let _ = self.requests.send(request);
        }
    }

    pub fn closed(&self) -> bool {
        self.requests.is_closed()
    }
}

/// What has been asked and not been settled.
#[derive(Default)]
struct Known {
    /// Launched or found, and not released.
    alive: HashSet<Token>,
    /// Stops and kills of those, to be asked again by a new connection.
    stops: HashMap<Token, Request>,
}

impl Known {
    fn asked(&mut self, request: &Request) {
        match request {
            Request::Launch(launch) => drop(self.alive.insert(launch.token)),
            Request::Stop { token, .. } | Request::Kill { token } if self.alive.contains(token) => {
                self.stops.insert(*token, request.clone());
            }
            Request::Release { tokens } => tokens.iter().for_each(|t| self.forget(*t)),
            _ => {}
        }
    }

    fn forget(&mut self, token: Token) {
        self.alive.remove(&token);
        self.stops.remove(&token);
    }
}

struct Wire {
    stream: UnixStream,
    frames: Frames,
    out: Vec<u8>,
}

/// Why a connection ended.
enum Ended {
    /// To be made again.
    Lost,
    /// Nobody will ask for anything any more.
    Done,
}

async fn follow(
    config: LinkConfig,
    events: UnboundedSender<ShimEvent>,
    mut requests: UnboundedReceiver<Request>,
    mut known: Known,
    mut wire: Option<Wire>,
) {
    loop {
        let mut now = match wire.take() {
            Some(wire) => wire,
            None => match reconnect(&config, &events, &mut requests, &mut known).await {
                Some(wire) => wire,
                None => return,
            },
        };
        match exchange(&mut now, &events, &mut requests, &mut known).await {
            Ended::Lost => tracing::warn!(dir = %config.dir.display(), "the connection to the shim was lost"),
            Ended::Done => break,
        }
        // A shim of one attempt ends when that is released.
        if config.single.is_some() && known.alive.is_empty() && requests.is_empty() {
            break;
        }
    }
    if config.single.is_some() && known.alive.is_empty() {
        let _ = tokio::fs::remove_dir_all(&config.dir).await;
    }
}

/// Gets a shim back and settles the difference between what was known and what it holds.
async fn reconnect(
    config: &LinkConfig,
    events: &UnboundedSender<ShimEvent>,
    requests: &mut UnboundedReceiver<Request>,
    known: &mut Known,
) -> Option<Wire> {
    let mut pause = RETRY_FIRST;
    let (mut wire, held) = loop {
        match connect(config).await {
            Ok((wire, held, _)) => break (wire, held),
            Err(error) => {
                tracing::error!(dir = %config.dir.display(), error = &error as &dyn std::error::Error, "no shim");
                // An orphaned handle has nobody to reconnect for.
                if events.is_closed() || requests.is_closed() && requests.is_empty() {
                    return None;
                }
                if pause > REFUSE_AFTER {
                    refuse_launches(&error, events, requests, known);
                    if config.single.is_some() && known.alive.is_empty() {
                        return None;
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LAST);
            }
        }
    };
    let running: HashSet<Token> = held.running.iter().map(|r| r.token).collect();
    let exited: HashSet<Token> = held.exited.iter().map(|e| e.token).collect();
    for token in known
        .alive
        .iter()
        .copied()
        .filter(|t| !running.contains(t) && !exited.contains(t))
        .collect::<Vec<_>>()
    {
        if config.single.is_some() {
            kill_leftovers(&config.worker_dir, token);
        }
        known.forget(token);
        let _ = events.send(ShimEvent::Vanished { token });
    }
    // A `Started` may have been lost with the connection; the receiver knows the token and takes a second one for the first.
    for r in held.running {
        known.alive.insert(r.token);
        let _ = events.send(ShimEvent::Started {
            token: r.token,
            pid: r.pid,
            boot_ms: r.started_boot_ms,
            wall_ms: r.started_wall_ms,
        });
    }
    let mut release = Vec::new();
    for exit in held.exited {
        if known.alive.contains(&exit.token) {
            let _ = events.send(ShimEvent::Exited(exit));
        } else {
            release.push(exit.token);
        }
    }
    let again = known.stops.values().cloned().chain([Request::Release { tokens: release }]);
    for request in again {
        let _ = write_frame(&mut wire.out, &request);
    }
    Some(wire)
}

/// Without a shim nothing can be started. What runs under a lost one is not given up here: only a new shim knows that it is dead.
fn refuse_launches(
    error: &ShimError,
    events: &UnboundedSender<ShimEvent>,
    requests: &mut UnboundedReceiver<Request>,
    known: &mut Known,
) {
    use crate::shim::protocol::LaunchFailure;
    while let Ok(request) = requests.try_recv() {
        match request {
            Request::Launch(launch) => {
                let reason =
                    LaunchFailure::System { step: "starting the shim".into(), error: error.to_string() };
                let _ = events.send(ShimEvent::LaunchFailed { token: launch.token, reason });
            }
            other => known.asked(&other),
        }
    }
}

/// Moves requests and events until one side ends. Whatever has queued goes out in one write.
async fn exchange(
    wire: &mut Wire,
    events: &UnboundedSender<ShimEvent>,
    requests: &mut UnboundedReceiver<Request>,
    known: &mut Known,
) -> Ended {
    let (mut reader, mut writer) = wire.stream.split();
    let mut batch = Vec::new();
    let mut incoming = vec![0u8; 64 << 10];
    let mut open = true;
    loop {
        if !deliver(&mut wire.frames, events, known) {
            return Ended::Lost;
        }
        tokio::select! {
            count = requests.recv_many(&mut batch, 1024), if open && wire.out.len() < (1 << 20) => {
                if count == 0 {
                    open = false;
                    if wire.out.is_empty() {
                        return Ended::Done;
                    }
                }
                for request in batch.drain(..) {
                    known.asked(&request);
                    if let Err(error) = write_frame(&mut wire.out, &request) {
                        refuse_oversized(&request, &error, events, known);
                    }
                }
            }
            written = writer.write(&wire.out), if !wire.out.is_empty() => match written {
                Ok(0) | Err(_) => return Ended::Lost,
                Ok(n) => {
                    wire.out.drain(..n);
                    if !open && wire.out.is_empty() {
                        return Ended::Done;
                    }
                }
            },
            read = reader.read(&mut incoming) => match read {
                Ok(0) | Err(_) => return Ended::Lost,
                Ok(n) => wire.frames.push(&incoming[..n]),
            },
        }
    }
}

/// A launch that fits no frame fails like one that the kernel finds too long.
fn refuse_oversized(
    request: &Request,
    error: &crate::shim::protocol::FrameError,
    events: &UnboundedSender<ShimEvent>,
    known: &mut Known,
) {
    use crate::shim::protocol::LaunchFailure;
    tracing::error!(%error, "a request to the shim was dropped");
    if let Request::Launch(launch) = request {
        known.forget(launch.token);
        let bytes = crate::shim::protocol::FRAME_MAX as u64;
        let _ = events
            .send(ShimEvent::LaunchFailed { token: launch.token, reason: LaunchFailure::TooLong { bytes } });
    }
}

/// Hands on the events in the buffer. False when they cannot be read.
fn deliver(frames: &mut Frames, events: &UnboundedSender<ShimEvent>, known: &mut Known) -> bool {
    loop {
        let event = match frames.take::<Event>() {
            Ok(Some(event)) => event,
            Ok(None) => return true,
            Err(error) => {
                tracing::error!(%error, "the shim sent something else than expected");
                return false;
            }
        };
        let event = match event {
            Event::Started { token, pid, boot_ms, wall_ms } => {
                ShimEvent::Started { token, pid, boot_ms, wall_ms }
            }
            Event::LaunchFailed { token, reason } => {
                known.forget(token);
                ShimEvent::LaunchFailed { token, reason }
            }
            Event::Exited(exit) => {
                known.stops.remove(&exit.token);
                ShimEvent::Exited(exit)
            }
            Event::Unkillable { token } => ShimEvent::Unkillable { token },
            Event::Welcome { .. } | Event::Refused { .. } | Event::Held { .. } => continue,
        };
        let _ = events.send(event);
    }
}

/// Connects to the shim. One that is just ending takes a connection and drops it; then another is started.
async fn connect(config: &LinkConfig) -> Result<(Wire, Held, Probed), ShimError> {
    let mut tries = 0;
    loop {
        match connect_once(config).await {
            Err(ShimError::Socket { .. } | ShimError::Ended(_)) if tries < ENDING_TRIES => {
                tries += 1;
                tokio::time::sleep(RETRY_FIRST).await;
            }
            other => return other,
        }
    }
}

/// Connects, starts the shim first when there is none, greets it and asks what it holds.
async fn connect_once(config: &LinkConfig) -> Result<(Wire, Held, Probed), ShimError> {
    let socket_error = |source| ShimError::Socket { dir: config.dir.clone(), source };
    let stream = match socket::connect(&config.dir) {
        Ok(stream) => stream,
        Err(_) => {
            start(config).await?;
            socket::connect(&config.dir).map_err(socket_error)?
        }
    };
    stream.set_nonblocking(true).map_err(socket_error)?;
    let mut wire = Wire {
        stream: UnixStream::from_std(stream).map_err(socket_error)?,
        frames: Frames::default(),
        out: Vec::new(),
    };
    write_frame(&mut wire.out, &Request::Hello { newest: NEWEST, oldest: OLDEST })?;
    write_frame(&mut wire.out, &Request::List)?;
    wire.stream.write_all(&wire.out).await.map_err(socket_error)?;
    wire.out.clear();
    let backend = match next(&mut wire).await.map_err(socket_error)?? {
        Event::Welcome { backend, .. } => backend,
        Event::Refused { newest, oldest } => return Err(ShimError::Version { newest, oldest }),
        _ => return Err(ShimError::Order),
    };
    match next(&mut wire).await.map_err(socket_error)?? {
        Event::Held { running, exited } => Ok((wire, Held { running, exited }, backend)),
        _ => Err(ShimError::Order),
    }
}

async fn next(wire: &mut Wire) -> io::Result<Result<Event, ShimError>> {
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        match wire.frames.take::<Event>() {
            Ok(Some(event)) => return Ok(Ok(event)),
            Err(error) => return Ok(Err(error.into())),
            Ok(None) => {}
        }
        match wire.stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => wire.frames.push(&buffer[..n]),
        }
    }
}

/// Executes a shim and waits until it listens. It makes itself a session of its own and closes what it inherited; it is not killed
/// when this process ends.
async fn start(config: &LinkConfig) -> Result<(), ShimError> {
    let failed = |source| ShimError::Start { program: config.program.clone(), source };
    tokio::fs::create_dir_all(&config.dir).await.map_err(failed)?;
    let mut child = Command::new(&config.program)
        .args(&config.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (mut said, mut complaint) = (Vec::new(), Vec::new());
    // Both streams end when the shim is ready, because it lets go of them, and when it ends.
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let read = async {
        if let Some(out) = &mut out {
            out.read_to_end(&mut said).await?;
        }
        if let Some(err) = &mut err {
            err.read_to_end(&mut complaint).await?;
        }
        Ok(())
    };
    read.await.map_err(failed)?;
    // Reaps it when it ends, however late.
    tokio::spawn(async move { child.wait().await });
    if said == READY.as_bytes() {
        return Ok(());
    }
    // Another agent's shim may have won the race for the directory.
    if socket::connect(&config.dir).is_ok() {
        return Ok(());
    }
    Err(ShimError::Ended(String::from_utf8_lossy(&complaint).trim().to_owned()))
}
