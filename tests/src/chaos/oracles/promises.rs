//! What clients were promised, against the documents of the end and the tasks' own ledger.

use super::Violation;
use crate::chaos::client::Answer;
use crate::chaos::jobs::{Shape, Task};
use crate::chaos::ledger::{Line, What};
use crate::chaos::load::Record;
use muster_core::view_doc::{AttemptDoc, JobDoc, TaskDoc};
use std::collections::{BTreeMap, HashMap};

/// A task of a cancelled job may still start for this long after the cancel was acknowledged: instructions that are on their way, to a
/// worker that is cut off until its lease ends.
const STARTS_AFTER_CANCEL_NS: u64 = 15_000_000_000;
/// Clocks of the ledger and of the history are one, but a result is on its way for a moment.
const CAUSES_CHARGED: [&str; 4] = ["exit(", "signal(", "oom", "timeout"];

/// Judges every job that a client tried to submit.
#[must_use]
pub fn judge(records: &[Record], docs: &BTreeMap<u64, JobDoc>, ledger: &[Line]) -> Vec<Violation> {
    let mut lines: HashMap<u64, Vec<&Line>> = HashMap::new();
    ledger.iter().for_each(|line| lines.entry(line.job).or_default().push(line));
    let mut found = Vec::new();
    let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
    for record in records {
        let key = &record.job.key;
        if let Some(code) = &record.refused {
            found.push(Violation::new("I1", format!("submission {key} was refused: {code}")));
        }
        let Some(id) = record.ids.first().copied() else { continue };
        if let Some(other) = record.ids.iter().find(|other| **other != id) {
            found.push(Violation::new("I1", format!("submission {key} is job {id} and job {other}")));
        }
        if let Some(other) = owners.insert(id, key).filter(|other| other != key) {
            found.push(Violation::new("I1", format!("submissions {key} and {other} are both job {id}")));
        }
        let Some(doc) = docs.get(&id) else {
            found.push(Violation::new("I1", format!("job {id} ({key}) was acknowledged and is not there")));
            continue;
        };
        let empty = Vec::new();
        let mine = lines.get(&id).unwrap_or(&empty);
        found.extend(outcome(record, doc));
        for task in &record.job.tasks {
            match doc.tasks.iter().find(|t| t.name == task.name) {
                Some(of_doc) => found.extend(results(id, task, of_doc, mine)),
                None => found.push(Violation::new("I1", format!("job {id} has lost its task {}", task.name))),
            }
        }
        found.extend(order(id, &record.job.tasks, doc, mine));
        found.extend(after_cancel(record, id, doc, mine));
    }
    found
}

/// How it ended, against how its shape must end.
fn outcome(record: &Record, doc: &JobDoc) -> Option<Violation> {
    let (id, state) = (doc.id, doc.state.as_str());
    let accepted = matches!(record.cancel, Some(Answer::Heard(_)));
    let unknown = matches!(record.cancel, Some(Answer::Unknown(_)));
    match state {
        "succeeded" if accepted => {
            Some(Violation::new("I10", format!("job {id} succeeded after its cancel was acknowledged")))
        }
        "succeeded" => None,
        "cancelled" if accepted || unknown => None,
        "cancelled" => Some(Violation::new("I10", format!("job {id} is cancelled and nobody cancelled it"))),
        "failed" => {
            let bad = doc.tasks.iter().flat_map(|t| &t.attempts).filter(|a| a.state != "succeeded");
            let causes: Vec<&str> = bad.filter_map(|a| a.cause.as_deref()).collect();
            Some(Violation::new(
                "I11",
                format!("job {id} ({:?}) failed: {}", record.job.shape, causes.join(", ")),
            ))
        }
        _ => {
            let tasks: Vec<String> =
                doc.tasks.iter().map(|t| format!("{} {} {:?}", t.name, t.state, t.reason)).collect();
            let text = format!("job {id} ({:?}) is still {state}: {}", record.job.shape, tasks.join("; "));
            Some(Violation::new("I11", text))
        }
    }
}

/// One accepted success of each index of a succeeded task, and it is one that the task itself wrote down; no retries beyond the limit.
fn results(id: u64, task: &Task, doc: &TaskDoc, ledger: &[&Line]) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = |index: u32| format!("{id}.{}[{index}]", task.name);
    let mut successes: BTreeMap<u32, Vec<&AttemptDoc>> = BTreeMap::new();
    let mut charged: BTreeMap<u32, u32> = BTreeMap::new();
    for attempt in &doc.attempts {
        let index = attempt.index.unwrap_or(0);
        if attempt.state == "succeeded" {
            successes.entry(index).or_default().push(attempt);
        }
        let cause = attempt.cause.as_deref().unwrap_or_default();
        if attempt.state == "failed" && CAUSES_CHARGED.iter().any(|c| cause.starts_with(c)) {
            *charged.entry(index).or_default() += 1;
        }
    }
    for (index, attempts) in &successes {
        if attempts.len() > 1 {
            found.push(Violation::new(
                "I2",
                format!("{} has {} accepted successes", name(*index), attempts.len()),
            ));
        }
        for attempt in attempts {
            let wrote = |line: &&&Line| {
                line.task == task.name
                    && line.index == *index
                    && line.token == attempt.token
                    && line.attempt == attempt.number
                    && line.what == What::End { code: 0 }
            };
            if ledger.iter().find(wrote).is_none() {
                let text = format!(
                    "{} succeeded as attempt {} with token {}, and that attempt never came to its end",
                    name(*index),
                    attempt.number,
                    attempt.token
                );
                found.push(Violation::new("I2", text));
            }
        }
    }
    if doc.state == "succeeded" && successes.len() != task.indices as usize {
        let text =
            format!("{id}.{} succeeded with {} of {} indices", task.name, successes.len(), task.indices);
        found.push(Violation::new("I2", text));
    }
    // A rerun begins the count anew.
    let reruns = if matches!(task.fail, crate::chaos::task::Fail::UntilGate) { 4 } else { 1 };
    for (index, n) in charged.into_iter().filter(|(_, n)| *n > task.attempts * reruns) {
        found.push(Violation::new(
            "I11",
            format!("{} failed {n} times; the limit is {}", name(index), task.attempts),
        ));
    }
    found
}

/// No attempt of a child began before the accepted attempt of each parent had ended.
fn order(id: u64, tasks: &[Task], doc: &JobDoc, ledger: &[&Line]) -> Vec<Violation> {
    let ended = |parent: &str, index: u32| {
        let of_doc = doc.tasks.iter().find(|t| t.name == parent)?;
        let accepted =
            of_doc.attempts.iter().find(|a| a.state == "succeeded" && a.index.unwrap_or(0) == index)?;
        let end = |line: &&&Line| line.token == accepted.token && line.what == What::End { code: 0 };
        ledger.iter().find(end).map(|line| line.at_ns)
    };
    let mut found = Vec::new();
    for task in tasks.iter().filter(|t| !t.parents.is_empty()) {
        let parents = tasks.iter().filter(|p| task.parents.contains(&p.name));
        let ends: Vec<(String, Option<u64>)> = parents
            .flat_map(|p| (0..p.indices).map(move |i| (format!("{}[{i}]", p.name), ended(&p.name, i))))
            .collect();
        for start in ledger.iter().filter(|l| l.task == task.name && l.what == What::Start) {
            for (parent, end) in &ends {
                if end.is_none_or(|end| end > start.at_ns) {
                    let text =
                        format!("{} started before the success of {id}.{parent} was accepted", start.name());
                    found.push(Violation::new("I5", text));
                }
            }
        }
    }
    found
}

/// After an acknowledged cancel no result counts and nothing new begins.
fn after_cancel(record: &Record, id: u64, doc: &JobDoc, ledger: &[&Line]) -> Vec<Violation> {
    if record.job.shape != Shape::Cancel || !matches!(record.cancel, Some(Answer::Heard(_))) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let accepted = |line: &Line| {
        let task = doc.tasks.iter().find(|t| t.name == line.task);
        task.is_some_and(|t| t.attempts.iter().any(|a| a.token == line.token && a.state == "succeeded"))
    };
    for line in ledger {
        if matches!(line.what, What::End { code: 0 }) && line.at_ns > record.cancel_ns && accepted(line) {
            let text = format!("{} counts as a success, and ended after the cancel of job {id}", line.name());
            found.push(Violation::new("I10", text));
        }
        if line.what == What::Start && line.at_ns > record.cancel_ns + STARTS_AFTER_CANCEL_NS {
            found.push(Violation::new("I10", format!("{} started long after its cancel", line.name())));
        }
    }
    found
}

#[cfg(test)]
#[path = "promises_test.rs"]
mod promises_test;
