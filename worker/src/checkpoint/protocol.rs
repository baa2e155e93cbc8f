//! What is said over `$MUSTER_SOCKET`: a line of JSON asks, a line of JSON answers. Both sides use these types, and a program of any
//! language may speak it (`docs/src/checkpoints.md`).

use super::CommitError;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest line of a request, bytes: a path of 4,096 bytes fits however it is escaped.
pub const LINE_MAX: usize = 64 << 10;
/// How long a commit may take when it does not say.
pub const TIMEOUT: Duration = Duration::from_secs(600);
/// The longest that it may say.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `$MUSTER_FENCING_TOKEN` of the attempt that asks.
    pub token: u64,
    pub commit: Commit,
}

/// What is to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// A file or a directory; a relative one begins at the checkpoint directory.
    pub path: String,
    /// The task's own count of its progress.
    pub step: u64,
    /// Of a gang: this rank speaks for all.
    #[serde(default)]
    pub single: bool,
    /// Seconds after which the answer is an error; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl Commit {
    /// How long it may take.
    #[must_use]
    pub fn within(&self) -> Duration {
        self.timeout.map_or(TIMEOUT, Duration::from_secs).min(TIMEOUT_MAX)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It is committed: the next attempt begins from it, or from a later one.
    Done {
        ok: bool,
        step: u64,
    },
    Failed {
        error: Trouble,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A word for programs.
    pub code: String,
    pub message: String,
    /// The next step; empty when there is none to name.
    pub hint: String,
}

impl From<&CommitError> for Answer {
    fn from(error: &CommitError) -> Self {
        let error =
            Trouble { code: error.code().into(), message: error.to_string(), hint: error.hint().into() };
        Self::Failed { error }
    }
}

/// The request in a line, without its end.
///
/// # Errors
/// [`CommitError::Request`], naming what is wrong.
pub fn parse(line: &[u8]) -> Result<Request, CommitError> {
    serde_json::from_slice(line).map_err(|error| CommitError::Request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_documented() {
        let request = parse(br#"{"token": 7, "commit": {"path": "/a b", "step": 3}}"#).unwrap();
        let commit = Commit { path: "/a b".into(), step: 3, single: false, timeout: None };
        assert_eq!(request, Request { token: 7, commit });
        assert_eq!(request.commit.within(), TIMEOUT);
        let long = Commit { timeout: Some(u64::MAX), ..request.commit };
        assert_eq!(long.within(), TIMEOUT_MAX);
    }

    #[test]
    fn what_is_none_is_answered_with_what_is_wrong() {
        let deep = "[".repeat(10_000);
        for (line, said) in [
            ("", "EOF"),
            ("hello", "expected value"),
            ("{}", "token"),
            (r#"{"token": 7}"#, "commit"),
            (r#"{"token": -7, "commit": {"path": "x", "step": 3}}"#, "u64"),
            (r#"{"token": 7, "commit": {"path": "x", "step": 1e99}}"#, "u64"),
            (r#"{"token": 7, "commit": {"path": 7, "step": 3}}"#, "string"),
            (r#"{"token": 7, "commit": {"path": "x", "step": 3, "stpe": 4}}"#, "stpe"),
            (r#"{"token": 7, "commit": {"path": "x", "step": 3}} more"#, "trailing"),
            (r#"{"token": 7, "commit": {"path": "\ud800", "step": 3}}"#, "escape"),
            (&deep, "invalid type"),
        ] {
            let answer = Answer::from(&parse(line.as_bytes()).unwrap_err());
            let Answer::Failed { error } = answer else { panic!("{line}") };
            assert_eq!(error.code, "BAD_REQUEST");
            assert!(error.message.contains(said), "{line}: {}", error.message);
        }
        assert!(parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn answers_are_one_of_two_shapes() {
        let done = serde_json::to_string(&Answer::Done { ok: true, step: 9 }).unwrap();
        assert_eq!(done, r#"{"ok":true,"step":9}"#);
        let failed = Answer::from(&CommitError::StepBack { step: 3, newest: 5 });
        let text = serde_json::to_string(&failed).unwrap();
        assert!(text.starts_with(r#"{"error":{"code":"STEP_BACK","message":"#), "{text}");
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), failed);
    }
}
