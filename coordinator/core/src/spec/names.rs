//! Names, paths and the fields of the job itself.

use super::budget::BudgetFile;
use super::common::env_fault;
use super::error::{SpecCode, SpecError};
use super::file::JobFile;
use super::limits;

/// Most labels of a job, and the longest name and value in bytes.
const LABELS: usize = 64;
const LABEL_BYTES: usize = 256;

/// Faults of the fields of the job itself.
pub(super) fn job_faults(job: &JobFile) -> Vec<SpecError> {
    let mut found = Vec::new();
    if let Some(name) = &job.name {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > limits::JOB_NAME || !name.chars().all(good) {
            let message = format!(
                "\"{}\" is no name of a job: a-z, 0-9 and -, from 1 to {} characters",
                shown(name),
                limits::JOB_NAME
            );
            found.push(
                SpecError::at(SpecCode::InvalidName, "name", message)
                    .hint(format!("name: {}", super::parse::name_of_file(name))),
            );
        }
    }
    if let Some(queue) = &job.queue
        && (queue.is_empty()
            || queue.len() > limits::JOB_NAME
            || !queue.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
    {
        let message = format!(
            "\"{}\" is no name of a queue: letters, digits, -, _ and ., from 1 to {} characters",
            shown(queue),
            limits::JOB_NAME
        );
        found.push(SpecError::at(SpecCode::InvalidName, "queue", message));
    }
    if let Some(priority) = job.priority.filter(|p| !(0..=100).contains(p)) {
        found.push(SpecError::at(
            SpecCode::InvalidValue,
            "priority",
            format!("priority is {priority}: from 0 to 100, higher first"),
        ));
    }
    found.extend(job.budget.as_ref().and_then(BudgetFile::fault));
    if job.labels.len() > LABELS {
        found.push(SpecError::at(
            SpecCode::TooLarge,
            "labels",
            format!("the job has {} labels; at most {LABELS}", job.labels.len()),
        ));
    }
    if let Some((name, _)) =
        job.labels.iter().find(|(k, v)| k.is_empty() || k.len() > LABEL_BYTES || v.len() > LABEL_BYTES)
    {
        let message =
            format!("label \"{}\": names and values have from 1 and 0 to {LABEL_BYTES} bytes", shown(name));
        found.push(SpecError::at(SpecCode::InvalidValue, "labels", message));
    }
    for (name, value) in &job.env {
        if let Some(message) = env_fault(name, value) {
            found.push(SpecError::at(SpecCode::InvalidValue, format!("env.{name}"), message));
        }
    }
    if let Some(workdir) = &job.workdir
        && (workdir.path.is_empty() || workdir.path.contains('\0'))
    {
        found.push(SpecError::at(
            SpecCode::InvalidValue,
            "workdir",
            "the path of the working directory is empty or has a NUL byte",
        ));
    }
    if job.workdir.is_none() && !job.ignore.is_empty() {
        let error =
            SpecError::at(SpecCode::InvalidValue, "ignore", "`ignore` without `workdir`: nothing is shipped");
        found.push(error.hint("add workdir: . to ship the directory of the job file"));
    }
    found
}

/// What is wrong with the name of a task.
pub(super) fn task_fault(name: &str) -> Option<String> {
    let good = is_word(name, limits::TASK_NAME);
    (!good).then(|| {
        format!(
            "\"{}\" is no name of a task: letters, digits, - and _, from 1 to {} characters",
            shown(name),
            limits::TASK_NAME
        )
    })
}

/// What is wrong with the name of an input or output.
pub(super) fn artifact_fault(kind: &str, name: &str) -> Option<String> {
    (!is_word(name, limits::JOB_NAME)).then(|| {
        format!(
            "\"{}\" is no name of an {kind}: letters, digits, - and _, from 1 to {} characters",
            shown(name),
            limits::JOB_NAME
        )
    })
}

/// The part of `MUSTER_INPUT_<NAME>` for an input.
pub(super) fn variable(input: &str) -> String {
    input.to_ascii_uppercase().replace('-', "_")
}

/// What is wrong with the path of an output.
pub(super) fn path_fault(path: &str) -> Option<String> {
    if path.is_empty() || path == "." {
        Some("the path is empty".to_owned())
    } else if path.starts_with('/') {
        Some(format!("\"{}\" is absolute: an output lies below $MUSTER_OUTPUT_DIR", shown(path)))
    } else if path.split('/').any(|part| part == "..") {
        Some(format!("\"{}\" leaves $MUSTER_OUTPUT_DIR by `..`", shown(path)))
    } else if path.contains('\0') || path.len() > 1_024 {
        Some("the path has a NUL byte or more than 1024 bytes".to_owned())
    } else if path.contains("{{") {
        Some("the path of an output is no template: each index has its own $MUSTER_OUTPUT_DIR".to_owned())
    } else {
        None
    }
}

fn is_word(name: &str, most: usize) -> bool {
    !name.is_empty()
        && name.len() <= most
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

/// A name as an error shows it: its first 80 characters.
fn shown(name: &str) -> String {
    let escaped: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() { format!("{escaped}…") } else { escaped }
}
