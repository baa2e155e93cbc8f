//! `JobFile` → `JobSpec`: names become numbers, parameters are fixed, limits hold, and everything that can be known to be wrong at
//! submission is said at once. One pass over the tasks, then the graph.

use std::collections::BTreeMap;

use super::budget::BudgetFile;
use super::common::{Commons, expression_fault};
use super::error::{SpecCode, SpecError, SpecErrors, SpecWarning};
use super::expr::{self, Names, Scope};
use super::file::{JobFile, TaskFile};
use super::parse::{Format, parse, text};
use super::template::{Checker, TemplateError, is_template};
use super::value::{RunFile, WhenEnd};
use super::{array, graph, limits, names, params, tree, unsupported};
use crate::model::blob::BlobId;
use crate::model::ids::TaskNo;
use crate::model::job_spec::{
    ArraySpec, JobSpec, JsonText, Need, NeedWhen, Run, TaskCommon, TaskExtra, TaskSpec,
};

/// A job that may be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the state machine stores.
    pub spec: JobSpec,
    /// What is accepted but does less than it says.
    pub warnings: Vec<SpecWarning>,
}

/// Reads, completes and checks a job file: what `validate` and `submit` call. `params` are texts `NAME=VALUE`.
///
/// # Errors
/// Everything that is wrong, with file, line and field.
pub fn load(
    bytes: &[u8],
    format: Format,
    file: &str,
    params: &[impl AsRef<str>],
) -> Result<(JobFile, Checked), SpecErrors> {
    let mut job = parse(bytes, format, file)?;
    job.set_params(params)?;
    match check(&job, None) {
        Ok(checked) => Ok((job, checked)),
        Err(mut errors) => {
            let root = text(bytes, file).ok().and_then(|text| tree::read(text, format));
            for error in &mut errors.0 {
                let line = root.as_ref().zip(error.field.as_deref()).map(|(root, field)| root.line_of(field));
                error.line = error.line.or(line.filter(|l| *l > 0));
            }
            Err(errors.in_file(file))
        }
    }
}

/// Checks a job file and resolves it. `workdir` is the manifest of its shipped directory.
///
/// # Errors
/// Everything that is wrong, with the field; the first 50.
pub fn check(file: &JobFile, workdir: Option<BlobId>) -> Result<Checked, SpecErrors> {
    let mut faults = names::job_faults(file);
    faults.extend(params::faults(file));
    let unsupported = unsupported::scan(file);
    faults.extend(unsupported.errors);

    let mut resolver = Resolver::new(file, faults);
    let tasks = resolver.tasks();
    resolver.whole_job(&tasks);
    let (mut faults, commons) = (resolver.faults, resolver.commons.into_vec());
    if !faults.is_empty() {
        let mut seen = std::collections::BTreeSet::new();
        faults.retain(|f| seen.insert((f.code, f.message.clone(), f.field.clone())));
        faults.truncate(limits::ERRORS);
        return Err(SpecErrors(faults));
    }
    let spec = JobSpec {
        name: file.name.clone().unwrap_or_else(|| "job".to_owned()),
        queue: file.queue.clone().unwrap_or_else(|| "default".to_owned()),
        priority: file.priority.and_then(|p| u8::try_from(p).ok()).unwrap_or(50),
        labels: file.labels.clone(),
        env: file.env.clone(),
        workdir,
        params: file.params.iter().map(|(name, value)| (name.clone(), JsonText::of(value))).collect(),
        compat_slurm: file.compat.is_some(),
        budget: file.budget.as_ref().and_then(BudgetFile::budget),
        commons,
        tasks,
    };
    Ok(Checked { spec, warnings: unsupported.warnings })
}

pub(super) struct Resolver<'a> {
    pub(super) file: &'a JobFile,
    /// Position of each task.
    pub(super) numbers: BTreeMap<&'a str, u32>,
    commons: Commons<'a>,
    templates: Checker<'a>,
    params: Vec<&'a str>,
    env_templates: bool,
    pub(super) faults: Vec<SpecError>,
}

impl<'a> Resolver<'a> {
    fn new(file: &'a JobFile, faults: Vec<SpecError>) -> Self {
        let job_templates = file.env.values().any(|v| is_template(v));
        Self {
            file,
            numbers: BTreeMap::new(),
            commons: Commons::new(file.defaults.as_ref(), &file.env),
            templates: Checker::new(file.name.as_deref().unwrap_or("job"), &file.params),
            params: file.params.keys().map(String::as_str).collect(),
            env_templates: job_templates
                || file.defaults.iter().any(|d| d.env.values().any(|v| is_template(v))),
            faults,
        }
    }

    fn full(&self) -> bool {
        self.faults.len() >= 4 * limits::ERRORS
    }

    fn tasks(&mut self) -> Vec<TaskSpec> {
        let all = &self.file.tasks.0;
        if all.is_empty() {
            self.faults.push(SpecError::at(SpecCode::MissingField, "tasks", "the job has no task"));
        }
        if all.len() > limits::TASKS {
            let message = format!("the job has {} tasks; a job has at most {}", all.len(), limits::TASKS);
            let hint = "write many alike tasks as one task with an `array`, which may have a million indices";
            self.faults.push(SpecError::at(SpecCode::TooLarge, "tasks", message).hint(hint));
            return Vec::new();
        }
        for (number, (name, _)) in (0_u32..).zip(all) {
            if let Some(message) = names::task_fault(name) {
                self.faults.push(SpecError::at(SpecCode::InvalidName, format!("tasks.{name}"), message));
            }
            if self.numbers.insert(name, number).is_some() {
                self.faults.push(SpecError::at(
                    SpecCode::Duplicate,
                    format!("tasks.{name}"),
                    format!("task \"{name}\" is there twice"),
                ));
            }
        }
        let mut tasks = Vec::with_capacity(all.len());
        for (number, (name, task)) in (0_u32..).zip(all) {
            if self.full() {
                break;
            }
            tasks.push(self.task(number, name, task));
        }
        tasks
    }

    fn task(&mut self, number: u32, name: &str, task: &TaskFile) -> TaskSpec {
        let at = |field: &str| format!("tasks.{name}.{field}");
        let common = self.commons.of(task, || format!("tasks.{name}"), &mut self.faults);
        let run = self.run(name, task);
        let array = task.array.as_ref().and_then(|a| {
            array::resolve(a, &self.file.params, &at("array")).map_err(|e| self.faults.push(e)).ok()
        });
        let mut needs = self.needs(number, name, task);
        let inputs = self.inputs(number, name, task, &mut needs);
        let outputs = self.outputs(name, task);
        // A broken array is one fault; what its index or matrix would have been is not worth a second.
        if task.array.is_none() || array.is_some() {
            self.check_templates(name, task, array.as_ref());
        }
        if let Some(when) = &task.when {
            let tasks: Vec<&str> =
                needs.iter().map(|n| self.file.tasks.0[n.task.0 as usize].0.as_str()).collect();
            if let Err(error) =
                expr::check(when, &Scope::When(Some(Names { tasks: &tasks, params: &self.params })))
            {
                self.faults.push(expression_fault(at("when"), &error));
            }
        }
        let rare = array.is_some() || !inputs.is_empty() || !outputs.is_empty() || task.when.is_some();
        let extra = rare.then(|| {
            Box::new(TaskExtra { array, inputs, outputs, when: task.when.as_deref().map(Into::into) })
        });
        TaskSpec { name: name.into(), run, needs: needs.into(), common, extra }
    }

    fn run(&mut self, name: &str, task: &TaskFile) -> Run {
        let path = || format!("tasks.{name}.run");
        let mut fault = |code, message: String, hint: &str| {
            let error = SpecError::at(code, path(), message);
            self.faults.push(if hint.is_empty() { error } else { error.hint(hint) });
        };
        match &task.run {
            None => {
                let error = SpecError::at(
                    SpecCode::MissingField,
                    format!("tasks.{name}"),
                    format!("task \"{name}\" has no `run`"),
                );
                self.faults.push(error.hint("add run: a text for /bin/sh, or a list of words"));
                Run::Shell("".into())
            }
            Some(RunFile::Shell(text)) => {
                if text.trim().is_empty() {
                    fault(SpecCode::InvalidValue, "the command is empty".into(), "");
                } else if text.len() > limits::SCRIPT_BYTES {
                    let message = format!(
                        "the script has {} bytes; an inline script has at most {} (4 MiB)",
                        text.len(),
                        limits::SCRIPT_BYTES
                    );
                    fault(SpecCode::TooLarge, message, "ship it as a file with `workdir`");
                } else if text.contains('\0') {
                    fault(SpecCode::InvalidValue, "the command has a NUL byte".into(), "");
                }
                Run::Shell(text.as_str().into())
            }
            Some(RunFile::Exec(words)) => {
                if words.first().is_none_or(|w| w.trim().is_empty()) {
                    fault(
                        SpecCode::InvalidValue,
                        "the command has no program".into(),
                        "the first word of a list is the program",
                    );
                }
                if words.iter().any(|w| w.contains('\0')) {
                    fault(SpecCode::InvalidValue, "the command has a NUL byte".into(), "");
                }
                if let Some(long) = words.iter().map(String::len).find(|l| *l >= limits::ENV_STRING_BYTES) {
                    let message = format!(
                        "one word of the command has {long} bytes; a word has less than {} (128 KiB)",
                        limits::ENV_STRING_BYTES
                    );
                    fault(SpecCode::TooLarge, message, "ship it as a file with `workdir`");
                }
                let total: usize = words.iter().map(|w| w.len() + 1).sum();
                if total > limits::EXEC_BYTES {
                    let message = format!(
                        "the command has {total} bytes; all words together have at most {} (1 MiB)",
                        limits::EXEC_BYTES
                    );
                    fault(SpecCode::TooLarge, message, "ship it as a file with `workdir`");
                }
                Run::Exec(words.iter().collect())
            }
        }
    }

    fn needs(&mut self, number: u32, name: &str, task: &TaskFile) -> Vec<Need> {
        let Some(file) = &task.needs else { return Vec::new() };
        let mut needs: Vec<Need> = Vec::with_capacity(file.0.len());
        for (i, need) in file.0.iter().enumerate() {
            let path = || format!("tasks.{name}.needs[{i}]");
            let Some(&found) = self.numbers.get(need.task.as_str()) else {
                let error = SpecError::at(
                    SpecCode::UnknownTask,
                    path(),
                    format!("task \"{name}\" needs \"{}\", which is not there", need.task),
                );
                self.faults.push(error.nearest(&need.task, self.numbers.keys().copied()));
                continue;
            };
            if found == number {
                let error = SpecError::at(SpecCode::Cycle, path(), format!("task \"{name}\" needs itself"));
                self.faults.push(error.hint("remove it from its own `needs`"));
                continue;
            }
            let when = match need.when {
                None => NeedWhen::Unsaid,
                Some(WhenEnd::Succeeded) => NeedWhen::Succeeded,
                Some(WhenEnd::Failed) => NeedWhen::Failed,
                Some(WhenEnd::Finished) => NeedWhen::Finished,
                Some(WhenEnd::Skipped) => NeedWhen::Skipped,
            };
            needs.push(Need { task: TaskNo(found), when });
        }
        if needs.len() > 1 {
            let mut sorted: Vec<TaskNo> = needs.iter().map(|n| n.task).collect();
            sorted.sort_unstable();
            if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
                let other = &self.file.tasks.0[twice[0].0 as usize].0;
                let error = SpecError::at(
                    SpecCode::Duplicate,
                    format!("tasks.{name}.needs"),
                    format!("task \"{name}\" needs \"{other}\" twice"),
                );
                self.faults.push(error.hint("keep one of the two"));
            }
        }
        needs
    }

    fn check_templates(&mut self, name: &str, task: &TaskFile, array: Option<&ArraySpec>) {
        let mut found: Vec<(String, TemplateError)> = Vec::new();
        let mut check = |field: &str, place: &str, text: &str| {
            if let Err(error) = self.templates.check(place, text, array) {
                found.push((field.to_owned(), error));
            }
        };
        match &task.run {
            Some(RunFile::Shell(text)) => check("run", "run", text),
            Some(RunFile::Exec(words)) => words.iter().for_each(|w| check("run", "run", w)),
            None => {}
        }
        for (variable, value) in &task.env {
            check("env", &format!("env {variable}"), value);
        }
        if self.env_templates {
            let defaults = self.file.defaults.iter().flat_map(|d| &d.env);
            for (variable, value) in
                defaults.chain(&self.file.env).filter(|(v, _)| !task.env.contains_key(*v))
            {
                check("env", &format!("env {variable}"), value);
            }
        }
        for (field, error) in found {
            let fault =
                SpecError::at(SpecCode::InvalidTemplate, format!("tasks.{name}.{field}"), error.to_string());
            self.faults.push(match error {
                TemplateError::Undefined { hint, .. } => fault.hint(hint),
                TemplateError::Evaluate { .. } => {
                    fault.hint("write {{ \"{{\" }} for two braces that are no template")
                }
                _ => fault,
            });
        }
    }

    /// What can be said only of all tasks together.
    fn whole_job(&mut self, tasks: &[TaskSpec]) {
        let total: u64 = tasks.iter().map(|t| u64::from(t.count())).sum();
        if total > limits::INDICES {
            let message = format!("the job has {total} task indices; a job has at most {}", limits::INDICES);
            self.faults.push(
                SpecError::at(SpecCode::TooLarge, "tasks", message)
                    .hint("let each index do more, or split the job"),
            );
        }
        if tasks.len() != self.file.tasks.0.len() {
            return;
        }
        let needs: Vec<Vec<u32>> = tasks.iter().map(|t| t.needs.iter().map(|n| n.task.0).collect()).collect();
        if let Some(mut cycle) = graph::cycle(&needs) {
            // Found along "needs"; told along "runs before", from the task that the file names first.
            cycle.pop();
            cycle.reverse();
            let first = cycle.iter().enumerate().min_by_key(|(_, task)| **task).map_or(0, |(i, _)| i);
            cycle.rotate_left(first);
            let name = |task: u32| self.file.tasks.0[task as usize].0.as_str();
            let mut names: Vec<&str> = cycle.iter().map(|t| name(*t)).collect();
            names.push(names[0]);
            if names.len() > 20 {
                names.splice(10..names.len() - 9, ["…"]);
            }
            let message = format!("tasks wait for each other in a circle: {}", names.join(" → "));
            let error = SpecError::at(SpecCode::Cycle, format!("tasks.{}.needs", names[0]), message);
            self.faults.push(error.hint("remove one of these needs"));
        }
    }
}

/// What is kept for a job of plain tasks, so that its size is known: see `TaskCommon`.
const _: () = assert!(size_of::<TaskCommon>() <= 400);
