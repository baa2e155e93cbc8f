//! What the agent and the shim say to each other: length-prefixed postcard frames over a Unix socket.
//!
//! The protocol has a version because a shim outlives the agent that started it, an upgrade of the binary included. Each side
//! names the newest and the oldest version it speaks; both then use the newest that they share. A side keeps its last two
//! versions. Within a version nothing changes: new variants and new fields make a new one.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cgroup::{Limits, Probed};

/// The fencing token of an attempt: the key of everything here.
pub type Token = u64;

/// The newest version that this code speaks.
pub const NEWEST: u16 = 1;
/// The oldest version that this code speaks: `NEWEST - 1` from version 2 on.
pub const OLDEST: u16 = 1;

/// Longest frame, in bytes: a launch with 256 KiB of environment and as much again of arguments, many times over.
pub const FRAME_MAX: usize = 8 << 20;

/// What the agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First frame of a connection.
    Hello {
        /// Newest version the agent speaks.
        newest: u16,
        /// Oldest version the agent speaks.
        oldest: u16,
    },
    /// Start an attempt. Asking again for one that is held repeats the answer and starts nothing.
    Launch(Box<Launch>),
    /// Move the deadline of every attempt held, except these, to this boot time in milliseconds. Never moves one back.
    Renew {
        /// `CLOCK_BOOTTIME`, milliseconds.
        deadline_boot_ms: u64,
        /// Attempts whose lease was not renewed.
        except: Vec<Token>,
    },
    /// Signal, then SIGTERM after the grace, then SIGKILL of the whole group 2 s later.
    Stop {
        /// Which attempt.
        token: Token,
        /// Signal number to begin with.
        signal: i32,
        /// Time between the signal and SIGTERM, in milliseconds.
        grace_ms: u64,
    },
    /// SIGKILL of the whole group, now.
    Kill {
        /// Which attempt.
        token: Token,
    },
    /// One signal to the process group, with no consequence for the attempt's plan.
    Signal {
        /// Which attempt.
        token: Token,
        /// Signal number.
        signal: i32,
    },
    /// Forget the exit records of these attempts.
    Release {
        /// Which attempts.
        tokens: Vec<Token>,
    },
    /// Say what is held ([`Event::Held`]).
    List,
}

/// One attempt to start. Strings are taken as they are: nothing is expanded or added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Fencing token.
    pub token: Token,
    /// Program and arguments. A program without `/` is looked up on the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Directory to start in.
    pub cwd: String,
    /// Log of standard output: absolute path, made at the first byte.
    pub stdout: String,
    /// Log of standard error: absolute path, made at the first byte.
    pub stderr: String,
    /// Most bytes of each log on disk; 0 keeps no logs.
    pub log_cap: u64,
    /// Limits of the whole attempt.
    pub limits: Limits,
    /// `CLOCK_BOOTTIME` in milliseconds at which nothing of the attempt may run any more.
    pub deadline_boot_ms: u64,
}

/// What the shim says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Answer to `Hello`.
    Welcome {
        /// The version that both speak from now on.
        version: u16,
        /// Process id of the shim.
        pid: u32,
        /// How attempts are held and limited.
        backend: Probed,
    },
    /// Answer to a `Hello` from which no version is shared; the connection ends.
    Refused {
        /// Newest version the shim speaks.
        newest: u16,
        /// Oldest version the shim speaks.
        oldest: u16,
    },
    /// Answer to `List`.
    Held {
        /// What runs.
        running: Vec<Running>,
        /// What has ended and was not released yet.
        exited: Vec<Exit>,
    },
    /// The program was executed.
    Started {
        /// Which attempt.
        token: Token,
        /// Process id, also of its session and process group.
        pid: u32,
        /// Boot time in milliseconds.
        boot_ms: u64,
        /// Wall time in milliseconds.
        wall_ms: u64,
    },
    /// The program was not executed, and nothing of the attempt runs.
    LaunchFailed {
        /// Which attempt.
        token: Token,
        /// Why.
        reason: LaunchFailure,
    },
    /// The attempt is over: its group is empty and its logs are written.
    Exited(Exit),
    /// The group is still not empty 5 s after SIGKILL. `Exited` follows if it ever empties.
    Unkillable {
        /// Which attempt.
        token: Token,
    },
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Fencing token.
    pub token: Token,
    /// Process id.
    pub pid: u32,
    /// Boot time of the start, milliseconds.
    pub started_boot_ms: u64,
    /// Wall time of the start, milliseconds.
    pub started_wall_ms: u64,
    /// Its deadline now, boot time in milliseconds.
    pub deadline_boot_ms: u64,
    /// Is it being stopped?
    pub stopping: bool,
}

/// The record of an attempt that ended. It is on file before it is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Fencing token.
    pub token: Token,
    /// How the first process ended.
    pub status: ExitStatus,
    /// The kernel killed in the group for memory, and the first process did not end with 0.
    pub oom: bool,
    /// Ended by the lease deadline, not by itself or by an order.
    pub fenced: bool,
    /// A stop or kill had been ordered.
    pub stopped: bool,
    /// Boot time of the start, milliseconds.
    pub started_boot_ms: u64,
    /// Boot time of the end, milliseconds.
    pub ended_boot_ms: u64,
    /// Wall time of the start, milliseconds.
    pub started_wall_ms: u64,
    /// Wall time of the end, milliseconds.
    pub ended_wall_ms: u64,
    /// Resident set of its largest process, bytes.
    pub max_rss_bytes: u64,
    /// Processor time of the first process and all that it waited for, microseconds.
    pub cpu_usec: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Why nothing was started. `Display` is what stands inside `launch(…)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum LaunchFailure {
    /// Neither a file nor found on the task's `PATH`.
    #[error("program \"{program}\" not found")]
    NotFound {
        /// As it was given.
        program: String,
    },
    /// It is there, but may not be executed.
    #[error("program \"{program}\" is not executable")]
    NotExecutable {
        /// As it was given.
        program: String,
    },
    /// A script whose `#!` names a program that is not there.
    #[error("the interpreter of \"{program}\" was not found")]
    NoInterpreter {
        /// As it was given.
        program: String,
    },
    /// There is no program to run.
    #[error("the command is empty")]
    Empty,
    /// Arguments and environment exceed what the kernel takes.
    #[error("arguments and environment are too long for the kernel ({bytes} bytes)")]
    TooLong {
        /// Both together.
        bytes: u64,
    },
    /// A zero byte where none can be.
    #[error("{what} contains a zero byte")]
    ZeroByte {
        /// Which string.
        what: String,
    },
    /// The directory to start in.
    #[error("working directory {path}: {error}")]
    Directory {
        /// As it was given.
        path: String,
        /// What the kernel said.
        error: String,
    },
    /// Limits could not be set.
    #[error("cgroup: {error}")]
    Cgroup {
        /// What the kernel said, with the file.
        error: String,
    },
    /// Out of processes, descriptors or memory on the machine.
    #[error("{step}: {error}")]
    System {
        /// What was being done.
        step: String,
        /// What the kernel said.
        error: String,
    },
    /// The lease had run out before the start.
    #[error("the lease deadline had passed")]
    DeadlinePassed,
    /// A shim of one attempt was asked for a second one.
    #[error("this shim runs another attempt")]
    Occupied,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit({code})"),
            Self::Signal(signal) => write!(f, "signal({signal})"),
        }
    }
}

/// What can be wrong with bytes from the other side.
#[derive(Debug, Error)]
pub enum FrameError {
    /// Longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes; at most {FRAME_MAX} are taken")]
    TooLong(usize),
    /// Not what the version says.
    #[error("a frame that cannot be read")]
    Malformed(#[from] postcard::Error),
}

/// The version that two sides share: the newest that neither finds too old.
#[must_use]
pub fn shared_version(newest: u16, oldest: u16) -> Option<u16> {
    let version = newest.min(NEWEST);
    (version >= oldest && version >= OLDEST).then_some(version)
}

/// Appends one frame to `out`.
///
/// # Errors
/// When the frame is longer than [`FRAME_MAX`]; `out` is then as before.
pub fn write_frame<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    struct Tail<'a>(&'a mut Vec<u8>);
    impl std::io::Write for Tail<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = postcard::to_io(value, Tail(out)).map(|_| ());
    let length = out.len() - start - 4;
    if written.is_err() || length > FRAME_MAX {
        out.truncate(start);
        return Err(written.err().map_or(FrameError::TooLong(length), FrameError::Malformed));
    }
    out[start..start + 4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(())
}

/// Bytes as they come in, and the frames in them.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > FRAME_MAX {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes not yet given out.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// When it is too long or malformed. The connection is of no use after that.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.bytes[self.start..];
        let Some((head, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > FRAME_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let value = postcard::from_bytes(frame)?;
        self.start += 4 + length;
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let sent = vec![
            Request::Hello { newest: NEWEST, oldest: OLDEST },
            Request::Launch(Box::new(Launch { token: 7, argv: vec!["true".into()], ..Launch::default() })),
            Request::Renew { deadline_boot_ms: u64::MAX, except: vec![1, 2] },
        ];
        let mut wire = Vec::new();
        for request in &sent {
            write_frame(&mut wire, request).unwrap();
        }
        for step in 1..wire.len() {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in wire.chunks(step) {
                frames.push(piece);
                while let Some(request) = frames.take::<Request>().unwrap() {
                    got.push(request);
                }
            }
            assert_eq!((got, frames.pending()), (sent.clone(), 0), "in pieces of {step}");
        }
    }

    #[test]
    fn hostile_lengths_and_bytes_are_refused() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(matches!(frames.take::<Request>(), Err(FrameError::TooLong(_))));
        let mut frames = Frames::default();
        frames.push(&[2, 0, 0, 0, 250, 250]);
        assert!(matches!(frames.take::<Request>(), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn the_newest_shared_version_wins() {
        assert_eq!(shared_version(NEWEST, OLDEST), Some(NEWEST));
        assert_eq!(shared_version(NEWEST + 1, NEWEST), Some(NEWEST));
        assert_eq!(shared_version(NEWEST + 2, NEWEST + 1), None);
        assert_eq!(shared_version(OLDEST - 1, 0), None);
    }
}
