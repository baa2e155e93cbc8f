//! Committed progress of an index: where its next attempt begins (I7, I8).
//!
//! The bytes lie in the store; what counts is what the log says of them. A rank stores files and a manifest and then says so ([`Saved`]);
//! one entry of the log, checked against the fencing token, makes it a [`Checkpoint`]. Keys in the store, all below the index' prefix:
//! `checkpoints/JOB/TASK/INDEX/TOKEN/STEP/rank-R.json` is a manifest, files lie beside it. A manifest may name files of an older
//! checkpoint that did not change, but only of the newest one that was kept when it was made: so a file that no kept manifest names, and
//! that is older than the newest kept checkpoint, is never named again and may be removed at any time. For this to hold, a rank makes no
//! manifest while an earlier one of its attempt is unanswered, and never writes another manifest over one that is there: the log holds the
//! digest of the first. And whoever cannot read a manifest that is kept as far as it knows removes nothing: its list is an old one.

use super::attempt::Attempt;
use super::ids::{IndexRef, Token};
use super::time::{Stamp, Tick};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A SHA-256 digest; prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.to_string()[..12])
    }
}

/// What one rank stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Of the manifest's bytes.
    pub manifest: Sha256,
    /// Bytes of all files.
    pub size: u64,
    pub files: u32,
}

/// What a rank says that it has stored: durable in the store, not yet committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The task's own count of its progress.
    pub step: u64,
    pub part: Part,
    /// Of a gang: this rank alone speaks for all (`--single`).
    pub single: bool,
    /// How long the upload took, ms.
    pub took_ms: u64,
}

/// A committed checkpoint of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub step: u64,
    /// Of the attempt that made it: with the step, its place in the store.
    pub token: Token,
    /// The attempt's number.
    pub attempt: u32,
    /// By rank; one alone when a rank spoke for all, or there is only one.
    pub parts: Vec<Part>,
    pub committed: Stamp,
    /// The longest upload of its ranks, ms.
    pub took_ms: u64,
    /// Run time that it stands for, of this attempt and of those before it, ms.
    pub worked_ms: u64,
}

impl Checkpoint {
    /// The run time that a checkpoint of this attempt stands for if it is committed now: what the newest one that is kept stands for, and the
    /// time since, as far as the attempt ran.
    #[must_use]
    pub fn worked(newest: Option<&Self>, attempt: &Attempt, now: Tick) -> u64 {
        let own = newest.filter(|checkpoint| checkpoint.token == attempt.token);
        let since = own.map(|checkpoint| checkpoint.committed).or(attempt.started);
        newest.map_or(0, |checkpoint| checkpoint.worked_ms) + since.map_or(0, |since| now.since(since.tick))
    }

    /// What a rank resumes from: its own part, or that of rank 0 where there is none of its own. With the rank whose part it is.
    #[must_use]
    pub fn part_of(&self, rank: u32) -> Option<(u32, &Part)> {
        let own = self.parts.get(rank as usize).map(|part| (rank, part));
        own.or_else(|| Some((0, self.parts.first()?)))
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }
}

/// How far a live attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The step that it began from; none: from nothing.
    pub resumed: Option<u64>,
    /// The newest step that it committed itself.
    pub committed: Option<u64>,
    /// What ranks of a gang have stored of a step that others have not: by rank.
    pub offers: Vec<(u32, Saved)>,
}

impl Progress {
    /// The step that a new one has to be greater than.
    #[must_use]
    pub fn step(&self) -> Option<u64> {
        self.committed.max(self.resumed)
    }
}

/// The answer to a [`Saved`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is in the log. All that is kept of the index, the oldest first: what older ones alone have may be removed.
    Committed { kept: Vec<Checkpoint> },
    /// Stored, and other ranks of the gang have yet to give the same step.
    Waits,
    /// It never will be committed; the text says why and what to do.
    Refused(String),
}

/// Where everything of an index lies in the store.
#[must_use]
pub fn prefix(at: IndexRef) -> String {
    format!("checkpoints/{}/{}/{}", at.job, at.task, at.index)
}

/// Where the files of one checkpoint lie that it does not share with an older one.
#[must_use]
pub fn step_prefix(at: IndexRef, token: Token, step: u64) -> String {
    format!("{}/{token}/{step}", prefix(at))
}

/// Where a rank's manifest lies.
#[must_use]
pub fn manifest_key(at: IndexRef, token: Token, step: u64, rank: u32) -> String {
    format!("{}/rank-{rank}.json", step_prefix(at, token, step))
}
