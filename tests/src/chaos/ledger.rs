//! What the tasks themselves wrote: one line a start, an end and a thing that must not be. One file, opened with `O_APPEND`, one clock.

use anyhow::{Context, Result};
use std::path::Path;

/// Where what lies below the directory of the run's tasks.
pub const LEDGER: &str = "ledger";
pub const LOCKS: &str = "locks";
pub const GPUS: &str = "gpus";
pub const DONE: &str = "done";
pub const GATES: &str = "gates";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub what: What,
    pub job: u64,
    pub task: String,
    pub index: u32,
    pub attempt: u32,
    pub token: u64,
    pub at_ns: u64,
    pub worker: String,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Start,
    End {
        code: i32,
    },
    /// The lock on this was held by another process; who it said it was: token and worker.
    Held {
        lock: String,
        by_token: u64,
        by_worker: String,
    },
    /// A parent's success was not recorded.
    Early {
        parent: String,
    },
}

impl Line {
    /// As it stands in the file.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { job, task, index, attempt, token, at_ns, worker, .. } = self;
        let what = match &self.what {
            What::Start => "start".to_owned(),
            What::End { code } => format!("end {code}"),
            What::Held { lock, by_token, by_worker } => format!("held {lock} {by_token} {by_worker}"),
            What::Early { parent } => format!("early {parent}"),
        };
        format!("{job} {task} {index} {attempt} {token} {at_ns} {worker} {what}\n")
    }

    /// Reads one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut next = || words.next();
        let line = Self {
            job: next()?.parse().ok()?,
            task: next()?.to_owned(),
            index: next()?.parse().ok()?,
            attempt: next()?.parse().ok()?,
            token: next()?.parse().ok()?,
            at_ns: next()?.parse().ok()?,
            worker: next()?.to_owned(),
            what: match next()? {
                "start" => What::Start,
                "end" => What::End { code: next()?.parse().ok()? },
                "held" => What::Held {
                    lock: next()?.to_owned(),
                    by_token: next()?.parse().ok()?,
                    by_worker: next()?.to_owned(),
                },
                "early" => What::Early { parent: next()?.to_owned() },
                _ => return None,
            },
        };
        next().is_none().then_some(line)
    }

    /// `42.train[7]#2`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}[{}]#{}", self.job, self.task, self.index, self.attempt)
    }
}

/// Reads a ledger. No line may be torn: each is one write.
///
/// # Errors
/// It is not there, or a line is not readable.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(n, line)| Line::parse(line).with_context(|| format!("{}:{}: {line:?}", path.display(), n + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        for what in [
            What::Start,
            What::End { code: -1 },
            What::Held { lock: "gpu-1".into(), by_token: 3, by_worker: "w2".into() },
            What::Early { parent: "a[0]".into() },
        ] {
            let line = Line {
                what,
                job: 1,
                task: "t".into(),
                index: 2,
                attempt: 3,
                token: 4,
                at_ns: 5,
                worker: "w1".into(),
            };
            assert_eq!(Line::parse(line.text().trim_end()), Some(line));
        }
        for bad in
            ["", "1 t 2 3 4 5 w1", "1 t 2 3 4 5 w1 end", "1 t 2 3 4 5 w1 start more", "1 t 2 3 4 5 w1 sat"]
        {
            assert_eq!(Line::parse(bad), None, "{bad}");
        }
    }
}
