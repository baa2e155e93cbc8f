//! Why a checkpoint is not committed.

use super::listing::{FILES_MAX, PATH_MAX};
use super::manifest::{BadManifest, MANIFEST_MAX};
use crate::blobs::{BlobError, Trouble};
use std::io;
use std::path::PathBuf;

/// Each names the file, the step or the store.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("this is no request: {0}")]
    Request(String),
    #[error("no attempt with token {0} runs on this worker")]
    NoAttempt(u64),
    #[error("{path} is not inside the checkpoint directory {dir}")]
    Outside { path: PathBuf, dir: PathBuf },
    #[error("{path} does not exist")]
    Absent { path: PathBuf },
    #[error("link {path} leads out of what is committed, to {to}")]
    Link { path: PathBuf, to: PathBuf },
    #[error("{path} is neither a file, a directory nor a link")]
    Special { path: PathBuf },
    #[error("{path:?} has a name that is not UTF-8")]
    Name { path: PathBuf },
    #[error("a path of {bytes} bytes; at most {PATH_MAX} are allowed")]
    LongPath { bytes: usize },
    #[error("more than {FILES_MAX} files, directories and links in {path}")]
    TooMany { path: PathBuf },
    #[error("the list of files takes {bytes} bytes; at most {MANIFEST_MAX} are allowed")]
    LargeManifest { bytes: usize },
    #[error("{path} changed while it was read")]
    Changed { path: PathBuf },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("step {step} is not after step {newest}, the newest one")]
    StepBack { step: u64, newest: u64 },
    #[error("step {step} was stored before, with other contents")]
    StepTaken { step: u64 },
    #[error("what is stored of step {step} cannot be used: {source}")]
    Stored { step: u64, source: BadManifest },
    #[error("the checkpoint was not stored: {0}")]
    Store(#[from] BlobError),
    #[error("the checkpoint was not stored: {0}")]
    Failpoint(io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("not committed in {seconds} s: {why}")]
    Late { seconds: u64, why: String },
    #[error("the attempt is over")]
    Over,
}

impl CommitError {
    /// Whether the same again may go well, without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // One that was there a moment ago, in a list or before our own upload, may be there in the next.
            Self::Store(error) => matches!(error.trouble(), Trouble::Unreachable | Trouble::Gone),
            Self::Failpoint(_) => true,
            _ => false,
        }
    }

    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request(_) => "BAD_REQUEST",
            Self::NoAttempt(_) => "NO_ATTEMPT",
            Self::Outside { .. } => "OUTSIDE",
            Self::Absent { .. } => "NOT_FOUND",
            Self::Link { .. } => "LINK_OUT",
            Self::Special { .. } => "SPECIAL_FILE",
            Self::Name { .. } => "BAD_NAME",
            Self::LongPath { .. } | Self::TooMany { .. } | Self::LargeManifest { .. } => "TOO_LARGE",
            Self::Changed { .. } => "CHANGED",
            Self::Read { .. } => "UNREADABLE",
            Self::StepBack { .. } => "STEP_BACK",
            Self::StepTaken { .. } | Self::Stored { .. } => "STEP_TAKEN",
            Self::Store(error) => match error.trouble() {
                Trouble::Denied => "STORE_DENIED",
                Trouble::Full => "STORE_FULL",
                _ => "STORE",
            },
            Self::Failpoint(_) => "STORE",
            Self::Refused(_) => "REFUSED",
            Self::Late { .. } => "TIMEOUT",
            Self::Over => "OVER",
        }
    }

    /// The next step, for people; empty when there is none to name.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Outside { .. } => "write checkpoints below $MUSTER_CHECKPOINT_DIR",
            Self::Absent { .. } => "write it first; a relative path begins where the task runs the command",
            Self::Link { .. } => "copy what it leads to, or make a hard link",
            Self::Special { .. } => {
                "keep pipes, sockets and devices elsewhere, for instance in $MUSTER_SCRATCH_DIR"
            }
            Self::TooMany { .. } | Self::LargeManifest { .. } => "pack small files into larger ones",
            Self::Changed { .. } => "write to a temporary name and rename, or wait until it is written",
            Self::StepBack { .. } => "count on from $MUSTER_RESUME_STEP",
            Self::StepTaken { .. } | Self::Stored { .. } => "commit it under a greater step",
            Self::NoAttempt(_) => {
                "send $MUSTER_FENCING_TOKEN; a task of another worker or of an earlier attempt cannot commit here"
            }
            Self::Store(error) => match error.trouble() {
                Trouble::Denied => {
                    "the worker's credentials need to write and read below `checkpoints/` in the store"
                }
                Trouble::Full => "make room in the store, or keep fewer checkpoints with `checkpoint.keep`",
                _ => "look at the store; the task may go on and commit later",
            },
            Self::Late { .. } => "the task may go on and commit again later; `--timeout` waits longer",
            _ => "",
        }
    }
}
