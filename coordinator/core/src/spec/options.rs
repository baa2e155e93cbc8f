//! The options that `muster run` takes as flags and a script as `#MUSTER` lines: one struct, one list of names, one way to a job file.

use super::array_file::ArrayFile;
use super::error::{SpecCode, SpecError, SpecErrors};
use super::file::{CompatFile, JobFile, TaskFile};
use super::later::ContainerFile;
use super::policy::{RetryFile, SpotFile};
use super::request::{GpusFile, ResourcesFile};
use super::value::{Cpus, Ordered, RunFile, Texts, WorkdirFile};
use crate::model::duration::Millis;
use crate::model::size::Size;

/// The name of the only task of a job made from options.
pub const TASK: &str = "main";

/// Options of a job of one task, as texts: they are read and checked here, the same for flags and for scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// `--name`.
    pub name: Option<String>,
    /// `--queue`.
    pub queue: Option<String>,
    /// `--priority`, 0 to 100.
    pub priority: Option<String>,
    /// `--cpus`.
    pub cpus: Option<String>,
    /// `--memory`.
    pub memory: Option<String>,
    /// `--disk`.
    pub disk: Option<String>,
    /// `--gpus`, `2` or `2xH100`.
    pub gpus: Option<String>,
    /// `--array`.
    pub array: Option<String>,
    /// `--workers`.
    pub workers: Option<String>,
    /// `--time`, the longest run of one attempt.
    pub time: Option<String>,
    /// `--attempts`, how often it may fail.
    pub attempts: Option<String>,
    /// `--container`.
    pub container: Option<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--spot`: allow, require or avoid.
    pub spot: Option<String>,
    /// `--compat`: slurm.
    pub compat: Option<String>,
    /// `--env NAME=VALUE`, many.
    pub env: Vec<String>,
    /// `--label NAME=VALUE`, many.
    pub label: Vec<String>,
    /// `--constraint CEL`, many.
    pub constraint: Vec<String>,
    /// `--ignore GLOB`, many.
    pub ignore: Vec<String>,
}

/// The names of all options.
pub(super) const NAMES: [&str; 19] = [
    "name",
    "queue",
    "priority",
    "cpus",
    "memory",
    "disk",
    "gpus",
    "array",
    "workers",
    "time",
    "attempts",
    "container",
    "workdir",
    "spot",
    "compat",
    "env",
    "label",
    "constraint",
    "ignore",
];

impl RunOptions {
    /// Sets the option called `name` (without dashes); lists grow, single ones are replaced.
    ///
    /// # Errors
    /// An unknown name, with the nearest one.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SpecError> {
        let single = match name {
            "name" => &mut self.name,
            "queue" => &mut self.queue,
            "priority" => &mut self.priority,
            "cpus" => &mut self.cpus,
            "memory" => &mut self.memory,
            "disk" => &mut self.disk,
            "gpus" => &mut self.gpus,
            "array" => &mut self.array,
            "workers" => &mut self.workers,
            "time" => &mut self.time,
            "attempts" => &mut self.attempts,
            "container" => &mut self.container,
            "workdir" => &mut self.workdir,
            "spot" => &mut self.spot,
            "compat" => &mut self.compat,
            "env" | "label" | "constraint" | "ignore" => {
                let list = match name {
                    "env" => &mut self.env,
                    "label" => &mut self.label,
                    "constraint" => &mut self.constraint,
                    _ => &mut self.ignore,
                };
                list.push(value.to_owned());
                return Ok(());
            }
            _ => {
                let error =
                    SpecError::new(SpecCode::InvalidDirective, format!("unknown option \"--{name}\""));
                return Err(error.hint(format!("known: --{}", NAMES.join(" --"))).nearest(name, NAMES));
            }
        };
        *single = Some(value.to_owned());
        Ok(())
    }

    /// The job of one task, `main`, that runs `run` with these options. It still has to be checked.
    ///
    /// # Errors
    /// All options that can't be read, with the option as field.
    pub fn job(&self, run: RunFile) -> Result<JobFile, SpecErrors> {
        let mut faults = Vec::new();
        let mut fault = |option: &str, message: String| {
            faults.push(SpecError::at(SpecCode::InvalidValue, format!("--{option}"), message))
        };

        let mut read = Reader { fault: &mut fault };
        let resources = ResourcesFile {
            cpus: read.option("cpus", self.cpus.as_deref(), Cpus::parse),
            memory: read
                .option("memory", self.memory.as_deref(), |t| Size::parse(t).map_err(|e| e.to_string())),
            disk: read.option("disk", self.disk.as_deref(), |t| Size::parse(t).map_err(|e| e.to_string())),
            gpus: read.option("gpus", self.gpus.as_deref(), GpusFile::parse),
        };
        let attempts = read.option("attempts", self.attempts.as_deref(), number);
        let task = TaskFile {
            run: Some(run),
            array: self.array.clone().map(|text| Box::new(ArrayFile::Range(text))),
            env: read.pairs("env", &self.env).into_iter().collect(),
            resources: (resources != ResourcesFile::default()).then(|| Box::new(resources)),
            constraints: (!self.constraint.is_empty()).then(|| Texts(self.constraint.clone())),
            retry: attempts
                .map(|attempts| Box::new(RetryFile { attempts: Some(attempts), ..RetryFile::default() })),
            timeout: read
                .option("time", self.time.as_deref(), |t| Millis::parse(t).map_err(|e| e.to_string())),
            spot: read.option("spot", self.spot.as_deref(), spot),
            workers: read.option("workers", self.workers.as_deref(), number),
            container: self.container.clone().map(|image| Box::new(ContainerFile { image, runtime: None })),
            ..TaskFile::default()
        };
        let job = JobFile {
            name: self.name.clone(),
            queue: self.queue.clone(),
            priority: read.option("priority", self.priority.as_deref(), number),
            labels: read.pairs("label", &self.label).into_iter().collect(),
            workdir: self.workdir.clone().map(|path| WorkdirFile { path, ignore: Vec::new() }),
            ignore: self.ignore.clone(),
            compat: read.option("compat", self.compat.as_deref(), compat),
            tasks: Ordered(vec![(TASK.to_owned(), task)]),
            ..JobFile::default()
        };
        if faults.is_empty() { Ok(job) } else { Err(SpecErrors(faults)) }
    }
}

/// Reads texts and collects what is wrong with them.
struct Reader<'a> {
    fault: &'a mut dyn FnMut(&str, String),
}

impl Reader<'_> {
    fn option<T>(
        &mut self,
        name: &str,
        text: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        read(text?).map_err(|message| (self.fault)(name, message)).ok()
    }

    fn pairs(&mut self, name: &str, texts: &[String]) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for text in texts {
            match text.split_once('=') {
                Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
                None => (self.fault)(name, format!("\"{text}\" has no value: write --{name} {text}=VALUE")),
            }
        }
        pairs
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("\"{text}\" is no whole number"))
}

fn spot(text: &str) -> Result<SpotFile, String> {
    match text {
        "allow" => Ok(SpotFile::Allow),
        "require" => Ok(SpotFile::Require),
        "avoid" => Ok(SpotFile::Avoid),
        _ => Err(format!("\"{text}\" is not one of allow, require, avoid")),
    }
}

fn compat(text: &str) -> Result<CompatFile, String> {
    match text {
        "slurm" => Ok(CompatFile::Slurm),
        _ => Err(format!("\"{text}\" is not one of slurm")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_a_job_of_one_task() {
        let options = RunOptions {
            name: Some("eval".into()),
            cpus: Some("2".into()),
            gpus: Some("1xH100".into()),
            array: Some("0-9%2".into()),
            time: Some("30m".into()),
            env: vec!["A=b=c".into()],
            ..RunOptions::default()
        };
        let job = options.job(RunFile::Exec(vec!["true".into()])).expect("job");
        let checked = super::super::check(&job, None).expect("checked");
        let task = &checked.spec.tasks[0];
        let common = checked.spec.common(task);
        assert_eq!(
            (checked.spec.name.as_str(), &*task.name, task.count(), task.max_running()),
            ("eval", "main", 10, Some(2))
        );
        assert_eq!(
            (common.resources.cpu_milli, common.resources.gpu_count(), common.timeout_ms),
            (2_000, 1, Some(1_800_000))
        );
        assert_eq!(common.env["A"], "b=c");
    }

    #[test]
    fn every_wrong_option_is_named() {
        let options = RunOptions {
            cpus: Some("two".into()),
            memory: Some("4G".into()),
            time: Some("30".into()),
            env: vec!["A".into()],
            priority: Some("high".into()),
            ..RunOptions::default()
        };
        let errors = options.job(RunFile::Shell("true".into())).expect_err("wrong");
        let fields: Vec<&str> = errors.0.iter().filter_map(|e| e.field.as_deref()).collect();
        assert_eq!(fields, ["--cpus", "--memory", "--env", "--time", "--priority"]);
    }

    #[test]
    fn every_name_can_be_set() {
        let mut options = RunOptions::default();
        for name in NAMES {
            options.set(name, "1").expect(name);
        }
        assert_eq!(
            options.set("gpu", "1").expect_err("unknown").hint.as_deref(),
            Some("did you mean \"gpus\"?")
        );
    }
}
