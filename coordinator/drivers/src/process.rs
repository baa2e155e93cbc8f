//! One run of a program: a clean environment, input, bounded output, a time limit for the whole process group. What its end means is the
//! caller's to say.
//!
//! What a program started in the background and left behind when it ended well is left alone: it may be the very thing it was run for.

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// From SIGTERM to SIGKILL once the time is over: enough to remove a lock file, no more.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked whether SIGTERM was enough.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the pipes of a program that has ended are read on: what it wrote itself is there already, only its children can write more.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes of stderr that are kept, the first ones; the rest is read and dropped, so that nobody blocks on it.
const STDERR_MAX: usize = 4 << 10;
/// Most characters of a line that goes into an error.
const LINE_MAX: usize = 300;
/// Where programs are looked for when we have no `PATH` ourselves.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is run.
pub struct Run<'a> {
    pub program: &'a Path,
    pub args: Vec<OsString>,
    /// On top of [`environment`].
    pub env: Vec<(&'static str, OsString)>,
    pub stdin: Vec<u8>,
    pub within: Duration,
    pub stdout_max: usize,
}

/// How it ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// Its first [`STDERR_MAX`] bytes.
    pub stderr: String,
}

impl Ended {
    /// Why it failed, in its own words: the first line of stderr, else how it ended.
    pub fn reason(&self) -> String {
        let said = self.stderr.lines().map(str::trim).find(|line| !line.is_empty());
        said.map_or_else(|| ending(self.status), line)
    }
}

/// Why it did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    #[error("no end within its time")]
    TimedOut,
    #[error("more than {0} bytes on stdout")]
    Flood(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// `PATH`, `HOME` and `LANG` of our own environment, and nothing else: what else is there may be a secret.
pub fn environment() -> Vec<(&'static str, OsString)> {
    let own = |name: &'static str| std::env::var_os(name).map(|value| (name, value));
    let path = own("PATH").unwrap_or_else(|| ("PATH", OsString::from(PATH)));
    [Some(path), own("HOME"), own("LANG")].into_iter().flatten().collect()
}

/// The program's file: an absolute path that is there, or a bare name that `PATH` has.
pub fn find(program: &Path) -> Result<PathBuf, NotFound> {
    let missing = || NotFound::Missing(program.to_owned());
    if program.is_absolute() {
        return is_program(program).then(|| program.to_owned()).ok_or_else(missing);
    }
    if program.components().count() != 1 {
        return Err(NotFound::Relative(program.to_owned()));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(PATH));
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
        .ok_or_else(missing)
}

/// Why there is no program to run.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    #[error("{0:?} is a relative path: coordinators start anywhere, so write the whole path")]
    Relative(PathBuf),
    #[error("{0:?} is not there, or is no program")]
    Missing(PathBuf),
}

fn is_program(file: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

/// Runs it to its end. Given up (dropped), the whole group is killed.
pub async fn run(run: Run<'_>) -> Result<Ended, Cut> {
    let mut child = Command::new(run.program)
        .args(&run.args)
        .env_clear()
        .envs(environment())
        .envs(run.env.iter().map(|(name, value)| (name, value.as_os_str())))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    // Declared after the child, so dropped before it: the leader is not reaped yet, and its number still the group's.
    let mut group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + run.within;
    let status = {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program need not read what it is told.
                let _ = stdin.write_all(&run.stdin).await;
            }
            Ok(true)
        };
        let talk = async {
            futures::try_join!(
                feed,
                keep(stdout, &mut out, run.stdout_max, Rest::Refused),
                keep(stderr, &mut err, STDERR_MAX, Rest::Dropped),
            )
            .map(|(_, whole, _)| whole)
        };
        let mut talk = pin!(talk);
        let mut talked = None;
        // 1. Until it ends.
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                whole = &mut talk, if talked.is_none() => {
                    if !*talked.insert(whole?) {
                        group.end(&mut child).await;
                        return Err(Cut::Flood(run.stdout_max));
                    }
                }
                () = sleep_until(deadline) => {
                    group.end(&mut child).await;
                    return Err(Cut::TimedOut);
                }
            }
        };
        group.over();
        // 2. What it wrote before is still in the pipes.
        let whole = match talked {
            Some(whole) => whole,
            None => timeout(LINGER, talk).await.unwrap_or(Ok(true))?,
        };
        if !whole {
            return Err(Cut::Flood(run.stdout_max));
        }
        status
    };
    Ok(Ended { status, stdout: out, stderr: String::from_utf8_lossy(&err).into_owned() })
}

/// What becomes of bytes beyond the limit.
#[derive(Clone, Copy, PartialEq)]
enum Rest {
    Refused,
    Dropped,
}

/// Reads to the end, or until there is more than may be. False: there was.
async fn keep(
    pipe: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<u8>,
    max: usize,
    rest: Rest,
) -> io::Result<bool> {
    let Some(mut pipe) = pipe else { return Ok(true) };
    let mut buffer = [0; 8 << 10];
    loop {
        let read = pipe.read(&mut buffer).await?;
        if read == 0 {
            return Ok(true);
        }
        let room = max - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
        if read > room && rest == Rest::Refused {
            return Ok(false);
        }
    }
}

/// The process group that the child leads, for as long as the child is not reaped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// The leader was reaped: its number may be another's.
    fn over(&mut self) {
        self.0 = None;
    }

    /// SIGTERM, and SIGKILL for whatever is left. The leader is reaped last.
    async fn end(&mut self, child: &mut Child) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGTERM);
            let by = Instant::now() + KILL_AFTER;
            while Instant::now() < by && !has_ended(group) {
                sleep(LOOK_EVERY).await;
            }
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = child.wait().await;
        self.over();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Whether the leader has ended; it stays unreaped, so that its number is nobody else's.
fn has_ended(leader: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(leader), flags) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => false,
        Ok(_) | Err(_) => true,
    }
}

/// One line for people: no control characters, not too long.
pub fn line(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect();
    if text.chars().count() > LINE_MAX { clean + "…" } else { clean }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}, and nothing on stderr"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Words as a program's arguments.
pub fn words<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Vec<OsString> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}
