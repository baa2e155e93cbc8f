//! `42`, `42.train`, `42.train[7]`, `42.train[7]#2`: how a job, a task, an index and an attempt are written.

use std::str::FromStr;

/// A written name, before the coordinator looks it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetName {
    pub job: u64,
    pub task: Option<String>,
    pub index: Option<u32>,
    pub attempt: Option<u32>,
}

/// The text names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no job, task or index: write 42, 42.train, 42.train[7] or 42.train[7]#2")]
pub struct BadTarget(pub String);

impl FromStr for TargetName {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = || BadTarget(text.to_owned());
        let (rest, attempt) = match text.split_once('#') {
            Some((rest, number)) => (rest, Some(number.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (job, task) = match rest.split_once('.') {
            Some((job, task)) => (job, Some(task)),
            None => (rest, None),
        };
        let job = job.parse().map_err(|_| bad())?;
        let Some(task) = task else {
            return if attempt.is_some() {
                Err(bad())
            } else {
                Ok(Self { job, task: None, index: None, attempt })
            };
        };
        let (name, index) = match task.strip_suffix(']').and_then(|t| t.split_once('[')) {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| bad())?)),
            None => (task, None),
        };
        if name.is_empty() || name.contains(['[', ']', '.']) {
            return Err(bad());
        }
        Ok(Self { job, task: Some(name.to_owned()), index, attempt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_is_read() {
        let name = |job, task: Option<&str>, index, attempt| {
            Ok(TargetName { job, task: task.map(str::to_owned), index, attempt })
        };
        assert_eq!("42".parse(), name(42, None, None, None));
        assert_eq!("42.train".parse(), name(42, Some("train"), None, None));
        assert_eq!("42.train[7]".parse(), name(42, Some("train"), Some(7), None));
        assert_eq!("42.train[7]#2".parse(), name(42, Some("train"), Some(7), Some(2)));
        for bad in ["", "x", "42.", "42.[7]", "42.t[x]", "42#1", "42.t[7", "-1"] {
            assert_eq!(bad.parse::<TargetName>(), Err(BadTarget(bad.to_owned())));
        }
    }
}
