//! `deadline:` and `expected:` of a job file: by when a task has to be done, and how long it runs.

use super::common::Faults;
use super::error::SpecCode;
use super::file::TaskFile;
use super::policy::SpotFile;
use crate::model::job_spec::Deadline;

/// The deadline, if the task has one.
pub(super) fn resolve(
    task: &TaskFile,
    spot: SpotFile,
    is_gang: bool,
    faults: &mut Faults,
) -> Option<Box<Deadline>> {
    let mut wrong = |field: &str, message: String, hint: &str| {
        faults.push_with(SpecCode::InvalidValue, field, message, hint);
    };
    let (within, work) = match (task.deadline, task.expected) {
        (None, None) => return None,
        (Some(within), Some(work)) => (within, work),
        (Some(_), None) => {
            let message = "a deadline says nothing without the time that the task runs".to_owned();
            wrong(
                "deadline",
                message,
                "add expected: and the run time without restarts, as in expected: 48h",
            );
            return None;
        }
        (None, Some(_)) => {
            let message = "`expected` is of use only with a deadline".to_owned();
            wrong(
                "expected",
                message,
                "add deadline: and the time from the submission on, or remove expected",
            );
            return None;
        }
    };
    if work.get() == 0 {
        wrong("expected", "expected is 0: every task takes some time".to_owned(), "write it as in 48h");
    }
    if within < work {
        let message = format!("the deadline is {within} after the submission, and the task runs {work}");
        wrong(
            "deadline",
            message,
            "raise deadline: above expected:; what is above it is time to wait for spot workers",
        );
    }
    let choice = match spot {
        SpotFile::Allow => None,
        SpotFile::Require => Some("require"),
        SpotFile::Avoid => Some("avoid"),
    };
    if let Some(word) = choice {
        let message = format!("a deadline chooses between spot and on-demand workers, and spot is {word}");
        wrong("deadline", message, "write spot: allow, or remove deadline and expected");
    }
    if is_gang {
        let message = "this version of Muster gives no deadline to a task of several workers".to_owned();
        faults.push_with(SpecCode::Unsupported, "deadline", message, "remove deadline and expected");
    }
    Some(Box::new(Deadline { within_ms: within.get(), work_ms: work.get() }))
}

#[cfg(test)]
mod tests {
    use crate::model::job_spec::Deadline;
    use crate::spec::{Format, SpecErrors, load};

    fn deadline(lines: &str) -> Result<Option<Deadline>, SpecErrors> {
        let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!("name: x\ntasks:\n  a:\n    run: \"true\"\n{lines}");
        let (_, checked) = load(text.as_bytes(), Format::Yaml, "job.yaml", &[] as &[&str])?;
        let spec = checked.spec;
        Ok(spec.common(&spec.tasks[0]).deadline.as_deref().copied())
    }

    #[test]
    fn both_or_none() {
        let hour = 3_600_000;
        assert_eq!(deadline("spot: allow").expect("a job"), None);
        assert_eq!(
            deadline("deadline: 70h\nexpected: 48h").expect("a job"),
            Some(Deadline { within_ms: 70 * hour, work_ms: 48 * hour })
        );
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_way_out() {
        for (lines, part, hint) in [
            ("deadline: 70h", "without the time", "add expected"),
            ("expected: 48h", "only with a deadline", "add deadline"),
            (
                "deadline: 40h\nexpected: 48h",
                "the deadline is 40h after the submission, and the task runs 2d",
                "raise deadline",
            ),
            ("deadline: 40h\nexpected: 0s", "expected is 0", "48h"),
            ("deadline: 70h\nexpected: 48h\nspot: require", "spot is require", "spot: allow"),
            ("deadline: 70h\nexpected: 48h\nspot: avoid", "spot is avoid", "spot: allow"),
            ("deadline: 70h\nexpected: 48h\nworkers: 2", "several workers", "remove deadline"),
        ] {
            let errors = deadline(lines).expect_err(lines).to_string();
            assert!(errors.contains(part) && errors.contains(hint), "{lines}: {errors}");
        }
    }
}
