//! `muster checkpoint commit PATH --step N`: inside a task, over the worker's socket. It talks to no coordinator.

use crate::context::env;
use crate::failure::{DONE, Done, Failure, UNREACHABLE};
use crate::output;
use muster_core::model::duration::Millis;
use muster_worker::checkpoint::protocol::{Answer, Commit, Request, Trouble};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a worker that is being started again is waited for.
const RESTART_PATIENCE: Duration = Duration::from_secs(30);
/// Pauses between two tries, doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// Commits a checkpoint of the task that runs this: once it returns, the next attempt begins from here or later.
///
/// PATH is a file or a directory inside $MUSTER_CHECKPOINT_DIR. Its files go to the store, then one entry into the log, and only that counts.
/// Exit codes: 0 committed, 1 refused or too late, 3 no worker reachable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster checkpoint commit $MUSTER_CHECKPOINT_DIR/step-500 --step 500")]
pub struct Args {
    /// What is to be committed.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Your own count of progress; it only grows.
    #[arg(long, value_name = "N")]
    step: u64,
    /// Of a gang: this rank, which has to be rank 0, has everything, and the others commit nothing.
    #[arg(long)]
    single: bool,
    /// Give up after this long. The upload may still end well, and nothing of it is sent again.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    timeout: Millis,
}

impl Args {
    /// # Errors
    /// It is not committed; there is no worker to ask.
    pub fn run(self) -> Done {
        let outside = |name: &str| {
            Failure::new("NO_WORKER", format!("there is no worker to ask: {name} is not set"))
                .hint("run it inside a task; its environment has $MUSTER_SOCKET and $MUSTER_FENCING_TOKEN")
                .exit(UNREACHABLE)
        };
        let socket = env("MUSTER_SOCKET").ok_or_else(|| outside("MUSTER_SOCKET"))?;
        let token = env("MUSTER_FENCING_TOKEN").and_then(|token| token.parse().ok());
        let token: u64 = token.ok_or_else(|| outside("MUSTER_FENCING_TOKEN"))?;
        let path =
            std::path::absolute(&self.path).map_err(|error| Failure::io("find", &self.path, &error))?;
        let path = path.into_os_string().into_string().map_err(|path| {
            Failure::new("BAD_NAME", format!("{path:?} is not UTF-8")).hint("use names of UTF-8")
        })?;
        outlive_signals();
        let commit = Commit { path, step: self.step, single: self.single, timeout: None };
        let within = Duration::from_millis(self.timeout.0);
        match ask(Path::new(&socket), token, &commit, within)? {
            Answer::Done { step, .. } => {
                output::talk(&format!("committed step {step}"));
                Ok(DONE)
            }
            Answer::Failed { error: Trouble { code, message, hint } } => {
                let failure = Failure::new(code, message);
                Err(if hint.is_empty() { failure } else { failure.hint(hint) })
            }
        }
    }
}

/// An eviction signals every process of the task, this one too, and a commit in the grace is what the grace is for. SIGKILL comes in the end.
fn outlive_signals() {
    let mut ignored = vec![Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP];
    if !std::io::stdin().is_terminal() {
        ignored.push(Signal::SIGINT);
    }
    for one in ignored {
        // SAFETY: to ignore a signal runs no code of ours.
        let _ = unsafe { signal(one, SigHandler::SigIgn) };
    }
}

/// Asks until there is an answer. An agent that is started again hears the same once more, and finds what was sent already.
fn ask(socket: &Path, token: u64, commit: &Commit, within: Duration) -> Result<Answer, Failure> {
    let by = Instant::now() + within;
    let (mut heard, mut pause) = (Instant::now(), PAUSE_FIRST);
    loop {
        let left = by.saturating_duration_since(Instant::now());
        let commit =
            Commit { timeout: Some(left.as_millis().div_ceil(1_000).max(1) as u64), ..commit.clone() };
        let error = match UnixStream::connect(socket) {
            Err(error) => error,
            Ok(stream) => {
                match converse(stream, &Request { token, commit }) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        // It was there a moment ago.
                        (heard, pause) = (Instant::now(), PAUSE_FIRST);
                        error
                    }
                }
            }
        };
        if heard.elapsed() >= RESTART_PATIENCE.min(within) {
            return Err(Failure::new(
                "NO_WORKER",
                format!("the worker at {} does not answer: {error}", socket.display()),
            )
            .hint("is its agent running? The task may go on and commit later")
            .exit(UNREACHABLE));
        }
        if Instant::now() >= by {
            let seconds = within.as_secs();
            return Err(Failure::new(
                "TIMEOUT",
                format!("not committed in {seconds} s: the worker went away"),
            )
            .hint("the task may go on and commit again later; `--timeout` waits longer"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

fn converse(mut stream: UnixStream, request: &Request) -> std::io::Result<Answer> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("muster-commit-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_worker_that_goes_away_is_asked_again() {
        let dir = directory("again");
        let socket = dir.join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let worker = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for turn in 0..3 {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                asked.push(serde_json::from_str::<Request>(&line).unwrap());
                if turn == 2 {
                    (&stream).write_all(b"{\"ok\":true,\"step\":9}\n").unwrap();
                }
            }
            asked
        });
        let commit = Commit { path: "/c".into(), step: 9, single: true, timeout: None };
        let answer = ask(&socket, 7, &commit, Duration::from_secs(600)).unwrap();
        assert_eq!(answer, Answer::Done { ok: true, step: 9 });
        let asked = worker.join().unwrap();
        assert!(asked.iter().all(|one| one.token == 7 && one.commit.single && one.commit.timeout.is_some()));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn no_worker_at_all_is_exit_code_3() {
        let dir = directory("none");
        let commit = Commit { path: "/c".into(), step: 9, single: false, timeout: None };
        let failure = ask(&dir.join("s"), 7, &commit, Duration::from_millis(10)).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (UNREACHABLE, "NO_WORKER"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
