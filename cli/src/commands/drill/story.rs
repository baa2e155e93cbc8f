//! What became of an attempt that was hit: how it ended, what came after it, what of its work is lost. Pure: documents in, a story out.

use muster_core::view_doc::{AttemptDoc, CheckpointsDoc, JobDoc, parse_rfc3339};
use muster_proto::convert::TargetName;
use serde::Serialize;
use std::collections::BTreeMap;

/// An attempt that ran before the drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// E.g. `42.train[7]#2`.
    pub attempt: String,
    pub name: TargetName,
    /// The fencing token.
    pub token: u64,
}

/// The newest step that an attempt committed, and when (ms since 1970).
pub type Saved = (u64, i64);

/// What was committed, by task, index (0 without an array) and attempt; older ones are collected while a drill goes on, so it is kept here.
#[derive(Debug, Clone, Default)]
pub struct Commits(BTreeMap<(u64, String, u32, u32), Saved>);

impl Commits {
    pub fn add(&mut self, job: u64, doc: CheckpointsDoc) {
        for one in doc.checkpoints {
            let Ok(at) = parse_rfc3339(&one.committed) else { continue };
            let newest = self.0.entry((job, one.task, one.index.unwrap_or(0), one.attempt)).or_default();
            *newest = (*newest).max((one.step, at));
        }
    }

    fn of(&self, name: &TargetName, attempt: u32) -> Option<Saved> {
        let task = name.task.clone().unwrap_or_default();
        self.0.get(&(name.job, task, name.index.unwrap_or(0), attempt)).copied()
    }
}

/// What became of it. Times are milliseconds since 1970 by the leader's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Story {
    pub attempt: String,
    pub worker: String,
    /// Its state now, and its cause once it has ended.
    pub state: String,
    pub cause: Option<String>,
    #[serde(skip)]
    pub ended: Option<i64>,
    pub gpus: u64,
    /// The newest step that it committed.
    pub committed_step: Option<u64>,
    #[serde(skip)]
    pub committed: Option<i64>,
    /// What it did after its newest checkpoint, or since its start; none while it runs and where nothing is lost.
    pub lost_ms: Option<u64>,
    /// The first attempt after it that ran, and where.
    pub next: Option<String>,
    pub next_worker: Option<String>,
    #[serde(skip)]
    pub next_started: Option<i64>,
    /// Attempts of its index that were granted while an older one had not ended.
    pub twice: u64,
}

impl Story {
    /// It ended, and what comes after it runs, or nothing has to.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.ended.is_some() && (self.next_started.is_some() || self.is_final())
    }

    /// Nothing comes after it: it succeeded, or it failed for good.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "cancelled") || self.is_charged()
    }

    /// Its end counts as the task's own failure.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        let is_platform = |cause: &String| cause.starts_with("launch(");
        self.state == "failed" && !self.cause.as_ref().is_some_and(is_platform)
    }

    /// Until what comes after it ran, from its end.
    #[must_use]
    pub fn away_ms(&self) -> Option<i64> {
        Some(self.next_started? - self.ended?)
    }
}

fn millis(time: Option<&String>) -> Option<i64> {
    parse_rfc3339(time?).ok()
}

/// The story of `held`; none where the document does not list it (an attempt of a very large array).
#[must_use]
pub fn story(doc: &JobDoc, held: &Held, commits: &Commits) -> Option<Story> {
    let task = doc.tasks.iter().find(|task| Some(&task.name) == held.name.task.as_ref())?;
    let mut all: Vec<&AttemptDoc> = task.attempts.iter().filter(|a| a.index == held.name.index).collect();
    all.sort_by_key(|attempt| attempt.number);
    let at = all.iter().position(|attempt| attempt.token == held.token)?;
    let hit = all[at];
    let later = &all[at + 1..];
    let next = later.iter().find(|attempt| attempt.started.is_some());
    let ended = millis(hit.ended.as_ref());
    let saved = commits.of(&held.name, hit.number);
    let started = millis(hit.started.as_ref());
    let from = saved.map(|(_, at)| at).or(started);
    let lost_ms = match (ended, from) {
        (Some(ended), Some(from)) if hit.state != "succeeded" => u64::try_from(ended - from).ok(),
        _ => None,
    };
    let overlaps = |pair: &[&AttemptDoc]| pair[0].ended.is_none() || pair[0].token >= pair[1].token;
    Some(Story {
        attempt: held.attempt.clone(),
        worker: hit.worker.clone(),
        state: hit.state.clone(),
        cause: hit.cause.clone(),
        ended,
        gpus: hit.devices.len() as u64,
        committed_step: saved.map(|(step, _)| step),
        committed: saved.map(|(_, at)| at),
        lost_ms,
        next: next.map(|next| {
            let stem = held.attempt.split('#').next().unwrap_or_default();
            format!("{stem}#{}", next.number)
        }),
        next_worker: next.map(|next| next.worker.clone()),
        next_started: next.and_then(|next| millis(next.started.as_ref())),
        twice: all.windows(2).filter(|pair| overlaps(pair)).count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::{CheckpointDoc, TaskDoc, rfc3339};

    fn held() -> Held {
        let attempt = "7.train[3]#1".to_owned();
        Held { name: attempt.parse().unwrap(), attempt, token: 10 }
    }

    /// An attempt of index 3: number, token, state, when it started and ended.
    fn attempt(number: u32, token: u64, state: &str, started: Option<i64>, ended: Option<i64>) -> AttemptDoc {
        AttemptDoc {
            number,
            token,
            index: Some(3),
            state: state.to_owned(),
            worker: format!("w{number}"),
            devices: vec!["GPU-a".to_owned(), "GPU-b".to_owned()],
            started: started.map(rfc3339),
            ended: ended.map(rfc3339),
            ..AttemptDoc::default()
        }
    }

    fn doc(attempts: Vec<AttemptDoc>) -> JobDoc {
        let task = TaskDoc { name: "train".to_owned(), attempts, ..TaskDoc::default() };
        JobDoc { id: 7, tasks: vec![task], ..JobDoc::default() }
    }

    fn commits(step: u64, at: i64) -> Commits {
        let mut commits = Commits::default();
        let one = CheckpointDoc {
            job: 7,
            task: "train".to_owned(),
            index: Some(3),
            step,
            attempt: 1,
            committed: rfc3339(at),
            ..CheckpointDoc::default()
        };
        commits.add(7, CheckpointsDoc { checkpoints: vec![one], omitted: 0 });
        commits
    }

    #[test]
    fn what_comes_after_it_is_the_first_that_ran() {
        let attempts = vec![
            attempt(1, 10, "evicted", Some(1_000), Some(9_000)),
            attempt(2, 11, "evicted", None, Some(9_500)),
            attempt(3, 12, "running", Some(10_000), None),
        ];
        let other = AttemptDoc { index: Some(4), ..attempt(9, 99, "running", Some(1), None) };
        let story = story(&doc([attempts, vec![other]].concat()), &held(), &Commits::default()).unwrap();
        assert!(story.goes_on() && !story.is_charged());
        assert_eq!((story.next.as_deref(), story.next_worker.as_deref()), (Some("7.train[3]#3"), Some("w3")));
        assert_eq!(
            (story.away_ms(), story.lost_ms, story.gpus, story.twice),
            (Some(1_000), Some(8_000), 2, 0)
        );
    }

    #[test]
    fn what_it_committed_is_not_lost() {
        let evicted = doc(vec![attempt(1, 10, "evicted", Some(1_000), Some(9_000))]);
        let mut saved = commits(40, 8_400);
        // What was collected meanwhile is remembered.
        saved.add(7, CheckpointsDoc::default());
        let one = story(&evicted, &held(), &saved).unwrap();
        assert_eq!((one.committed_step, one.lost_ms), (Some(40), Some(600)));
        assert!(!one.goes_on(), "it waits");
    }

    #[test]
    fn an_end_of_its_own_needs_nothing_after_it() {
        for (state, cause, goes_on, charged) in [
            ("succeeded", "exit(0)", true, false),
            ("failed", "exit(3)", true, true),
            ("failed", "launch(no store)", false, false),
        ] {
            let ended = attempt(1, 10, state, Some(1_000), Some(9_000));
            let one = doc(vec![AttemptDoc { cause: Some(cause.to_owned()), ..ended }]);
            let one = story(&one, &held(), &Commits::default()).unwrap();
            assert_eq!((one.goes_on(), one.is_charged()), (goes_on, charged), "{cause}");
            assert_eq!(one.lost_ms.is_some(), state == "failed");
        }
    }

    #[test]
    fn two_grants_at_once_are_seen() {
        let twice = doc(vec![
            attempt(1, 10, "running", Some(1_000), None),
            attempt(2, 11, "running", Some(2_000), None),
        ]);
        assert_eq!(story(&twice, &held(), &Commits::default()).unwrap().twice, 1);
        let back = doc(vec![
            attempt(1, 10, "lost", Some(1_000), Some(1_500)),
            attempt(2, 10, "running", Some(2_000), None),
        ]);
        assert_eq!(story(&back, &held(), &Commits::default()).unwrap().twice, 1, "a token that did not grow");
        assert_eq!(story(&doc(Vec::new()), &held(), &Commits::default()), None);
    }
}
