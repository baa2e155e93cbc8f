//! Fields that this version reads but does not run. Where ignoring one would give a wrong run, the job is refused by the field's name;
//! where it only gives less comfort, it is accepted with a warning. The table in `docs/src/job-file.md` says the same.

use super::error::{SpecCode, SpecError, SpecWarning};
use super::file::{DefaultsFile, JobFile, TaskFile};
use super::limits;
use super::policy::RetryFile;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub errors: Vec<SpecError>,
    pub warnings: Vec<SpecWarning>,
}

impl Found {
    fn refuse(&mut self, path: &str, field: &str, hint: &str) {
        if self.errors.len() < limits::ERRORS {
            let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            let message = format!("this version of Muster does not run `{field}` yet");
            self.errors.push(SpecError::at(SpecCode::Unsupported, path, message).hint(hint));
        }
    }

    fn warn(&mut self, path: &str, field: &str, message: &str) {
        if self.warnings.len() < limits::ERRORS {
            let field = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            self.warnings.push(SpecWarning { field, message: message.to_owned() });
        }
    }
}

/// Looks at every field whose feature is still to come.
pub(super) fn scan(job: &JobFile) -> Found {
    let mut found = Found::default();
    if job.schedule.is_some() {
        found.refuse("", "schedule", "remove it and submit the job when it is due, for example from cron");
    }
    if !job.on.is_empty() {
        found.refuse("", "on", "remove it and submit the job when its cause occurs");
    }
    if !job.notify.is_empty() {
        found.warn("", "notify", "this version sends nothing: use `muster wait` or `submit --wait`");
    }
    if let Some(d) = &job.defaults {
        let rare = Rare {
            // Which of the tasks are gangs is their own business.
            gang: true,
            topology: false,
            cache: d.cache,
            container: d.container.is_some(),
            secrets: d.secrets.is_some(),
            retry: d.retry.as_ref(),
        };
        rare.scan(&mut found, || "defaults".to_owned());
    }
    for (name, task) in job.tasks.iter() {
        task_fields(name, task, job.defaults.as_ref(), &mut found);
    }
    found
}

fn task_fields(name: &str, t: &TaskFile, defaults: Option<&DefaultsFile>, found: &mut Found) {
    let workers = t.workers.or(defaults.and_then(|d| d.workers));
    let rare = Rare {
        gang: t.elastic.is_some() || workers.is_some_and(|n| n > 1),
        topology: t.topology.is_some(),
        cache: t.cache,
        container: t.container.is_some(),
        secrets: t.secrets.is_some(),
        retry: t.retry.as_deref(),
    };
    rare.scan(found, || format!("tasks.{name}"));
    for (output, file) in &t.outputs {
        let path = || format!("tasks.{name}.outputs.{output}");
        if file.check.is_some() {
            found.refuse(&path(), "check", "remove it and let the task itself fail when its output is bad");
        }
        if file.schema.is_some() {
            found.refuse(&path(), "schema", "remove it and let the task itself fail when its output is bad");
        }
    }
}

/// The fields that tasks and defaults share.
struct Rare<'a> {
    gang: bool,
    topology: bool,
    cache: Option<bool>,
    container: bool,
    secrets: bool,
    retry: Option<&'a RetryFile>,
}

impl Rare<'_> {
    fn scan(&self, found: &mut Found, path: impl Fn() -> String) {
        if self.topology && !self.gang {
            found.warn(&path(), "topology", "a task on one worker is near itself: this says nothing");
        }
        if self.cache == Some(true) {
            found.refuse(
                &path(),
                "cache",
                "remove it, or set cache: false: the task runs each time in this version",
            );
        }
        if self.container {
            found.refuse(&path(), "container", "remove it and call the container's own program in `run`");
        }
        if self.secrets {
            found.refuse(&path(), "secrets", "remove it and place the secret on the workers");
        }
        if self.retry.and_then(|r| r.log_rules.as_ref()).is_some_and(|rules| !rules.is_empty()) {
            found.warn(
                &path(),
                "retry.log_rules",
                "kept with the job, but this version does not read logs: exit codes decide",
            );
        }
    }
}
