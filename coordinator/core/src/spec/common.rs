//! What tasks ask alike → `TaskCommon`, each kind once: 100,000 tasks that say nothing of their own share one.

use std::collections::BTreeMap;

use super::deadline;
use super::error::{SpecCode, SpecError};
use super::expr::{self, Scope};
use super::file::{DefaultsFile, TaskFile};
use super::gang;
use super::limits;
use super::policy::{self, BackoffFile, CheckpointFile, LogActionFile, RetryFile, SpotFile};
use super::request::{self, GpuTable, LinkFile, ResourcesFile};
use crate::model::job_spec::{CheckpointSpec, StopSpec, TaskCommon};
use crate::model::placement::WHOLE;
use crate::model::resources::{CapabilityRule, GpuAmount, GpuLink, GpuRequest, Resources};
use crate::model::retry::{Backoff, LogAction, LogRule, RetryOn, RetryPolicy};

/// Most GPUs that one task may ask of one worker: no machine has more.
const GPUS: u32 = 1_024;
/// Most attempts of one index.
const ATTEMPTS: u32 = 1_000;

/// The commons of a job, found by content.
pub(super) struct Commons<'a> {
    defaults: DefaultsFile,
    job_env: &'a BTreeMap<String, String>,
    known: BTreeMap<TaskCommon, u32>,
    plain: Option<u32>,
    checked: BTreeMap<String, Option<expr::ExprError>>,
}

impl<'a> Commons<'a> {
    /// For a job with these defaults and this environment.
    pub fn new(defaults: Option<&DefaultsFile>, job_env: &'a BTreeMap<String, String>) -> Self {
        Self {
            defaults: defaults.cloned().unwrap_or_default(),
            job_env,
            known: BTreeMap::new(),
            plain: None,
            checked: BTreeMap::new(),
        }
    }

    /// Position of what `task` asks, and the faults in it, at `path`.
    pub fn of(&mut self, task: &TaskFile, path: impl Fn() -> String, faults: &mut Vec<SpecError>) -> u32 {
        if says_nothing(task)
            && let Some(plain) = self.plain
        {
            return plain;
        }
        let mut found = Faults { path: path(), list: Vec::new() };
        let common = self.resolve(task, &mut found);
        faults.extend(found.list);
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let number = *self.known.entry(common).or_insert(next);
        if says_nothing(task) {
            self.plain = Some(number);
        }
        number
    }

    /// All of them by position.
    pub fn into_vec(self) -> Vec<TaskCommon> {
        let mut list: Vec<(u32, TaskCommon)> =
            self.known.into_iter().map(|(common, number)| (number, common)).collect();
        list.sort_by_key(|(number, _)| *number);
        list.into_iter().map(|(_, common)| common).collect()
    }

    fn resolve(&mut self, task: &TaskFile, faults: &mut Faults) -> TaskCommon {
        let defaults = &self.defaults;
        let mut env = defaults.env.clone();
        env.extend(task.env.iter().map(|(k, v)| (k.clone(), v.clone())));
        env_faults(&env, self.job_env, faults);
        let mut constraints: Vec<String> =
            defaults.constraints.iter().chain(&task.constraints).flat_map(|t| t.0.iter().cloned()).collect();
        let spot = task.spot.or(defaults.spot).unwrap_or_default();
        match spot {
            SpotFile::Allow => {}
            SpotFile::Require => constraints.push("worker.spot".to_owned()),
            SpotFile::Avoid => constraints.push("!worker.spot".to_owned()),
        }
        let timeout = task.timeout.or(defaults.timeout);
        if timeout.is_some_and(|t| t.get() == 0) {
            faults.push(SpecCode::InvalidValue, "timeout", "timeout is 0: nothing would ever run".into());
        }
        let checkpoint_file =
            policy::merge_checkpoint(task.checkpoint.as_deref(), defaults.checkpoint.as_ref());
        let gang = gang::resolve(task, defaults, faults).map(Box::new);
        let common = TaskCommon {
            rule: task.rule.or(defaults.rule).map(Into::into).unwrap_or_default(),
            resources: resources(
                &request::merge(task.resources.as_deref(), defaults.resources.as_ref()),
                faults,
            ),
            env,
            retry: retry(&policy::merge_retry(task.retry.as_deref(), defaults.retry.as_ref()), faults),
            timeout_ms: timeout.map(|t| t.get()),
            stop: stop(&checkpoint_file, faults),
            checkpoint: checkpoint(&checkpoint_file, faults),
            deadline: deadline::resolve(task, spot, gang.is_some(), faults),
            gang,
            constraints,
        };
        for (i, text) in common.constraints.iter().enumerate() {
            let result =
                self.checked.entry(text.clone()).or_insert_with(|| expr::check(text, &Scope::Worker).err());
            if let Some(error) = result {
                faults.list.push(expression_fault(format!("{}.constraints[{i}]", faults.path), error));
            }
        }
        common
    }
}

/// A fault of an expression at `path`.
pub(super) fn expression_fault(path: String, error: &expr::ExprError) -> SpecError {
    let hint = match error {
        expr::ExprError::Unknown { hint, .. } => Some(hint.clone()),
        expr::ExprError::Syntax(_) => {
            Some("expressions are CEL, as in \"worker.labels.zone == 'eu1'\"".to_owned())
        }
        _ => None,
    };
    SpecError { hint, ..SpecError::at(SpecCode::InvalidExpression, path, error.to_string()) }
}

pub(super) struct Faults {
    path: String,
    list: Vec<SpecError>,
}

impl Faults {
    pub(super) fn push(&mut self, code: SpecCode, field: &str, message: String) {
        self.list.push(SpecError::at(code, format!("{}.{field}", self.path), message));
    }

    pub(super) fn push_with(&mut self, code: SpecCode, field: &str, message: String, hint: &str) {
        self.list.push(SpecError::at(code, format!("{}.{field}", self.path), message).hint(hint));
    }
}

fn says_nothing(t: &TaskFile) -> bool {
    t.rule.is_none()
        && t.env.is_empty()
        && t.resources.is_none()
        && t.constraints.is_none()
        && t.retry.is_none()
        && t.timeout.is_none()
        && t.spot.is_none()
        && t.deadline.is_none()
        && t.expected.is_none()
        && t.checkpoint.is_none()
        && t.workers.is_none()
        && t.elastic.is_none()
        && t.topology.is_none()
}

/// Faults of an environment: names, the length of each string, the length of all with the job's.
fn env_faults(env: &BTreeMap<String, String>, job: &BTreeMap<String, String>, faults: &mut Faults) {
    let own = env.iter().map(|(name, value)| {
        if let Some(message) = env_fault(name, value) {
            faults.push(SpecCode::InvalidValue, "env", message);
        }
        name.len() + value.len() + 2
    });
    let own: usize = own.sum();
    let inherited: usize = job
        .iter()
        .filter(|(name, _)| !env.contains_key(*name))
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    if own + inherited > limits::ENV_BYTES {
        let message = format!(
            "the environment has {} bytes; all strings together have at most {} (256 KiB)",
            own + inherited,
            limits::ENV_BYTES
        );
        faults.push(SpecCode::TooLarge, "env", message);
    }
}

/// What is wrong with one environment string.
pub(super) fn env_fault(name: &str, value: &str) -> Option<String> {
    let length = name.len() + 1 + value.len();
    if name.is_empty() || name.contains(['=', '\0']) {
        Some(format!("{name:?} is no name of an environment variable"))
    } else if name.starts_with("MUSTER_") {
        Some(format!("\"{name}\" can't be set: names that begin with MUSTER_ are Muster's own"))
    } else if value.contains('\0') {
        Some(format!("\"{name}\" has a value with a NUL byte"))
    } else if length > limits::ENV_STRING_BYTES {
        Some(format!(
            "\"{name}\" has {length} bytes; one environment string has at most {} (128 KiB)",
            limits::ENV_STRING_BYTES
        ))
    } else {
        None
    }
}

fn resources(file: &ResourcesFile, faults: &mut Faults) -> Resources {
    let gpus = file.gpus.as_ref().and_then(|g| gpus(&g.0, faults));
    Resources {
        cpu_milli: file.cpus.map_or(1_000, |c| c.0),
        memory: file.memory.map_or(0, |m| m.bytes()),
        disk: file.disk.map_or(0, |d| d.bytes()),
        gpus,
    }
}

fn gpus(file: &GpuTable, faults: &mut Faults) -> Option<GpuRequest> {
    let amount = amount(file, faults);
    let model = file.model.as_ref().map(|m| m.0.clone()).unwrap_or_default();
    if model.iter().any(|m| !m.contains(|c: char| c.is_ascii_alphanumeric())) {
        faults.push(SpecCode::InvalidValue, "resources.gpus.model", "a GPU model is empty".into());
    }
    let compute_capability = file.compute_capability.as_deref().and_then(|text| {
        let rule = CapabilityRule::parse(text);
        if let Err(error) = &rule {
            faults.push(SpecCode::InvalidValue, "resources.gpus.compute_capability", error.to_string());
        }
        rule.ok()
    });
    let link = match file.link {
        None | Some(LinkFile::Any) => GpuLink::Any,
        Some(LinkFile::SameNuma) => GpuLink::SameNuma,
        Some(LinkFile::Nvlink) => GpuLink::Nvlink,
    };
    let memory = file.memory.map_or(0, |m| m.bytes());
    amount.map(|amount| GpuRequest { amount, model, memory, compute_capability, link })
}

/// How much; none for `count: 0`.
fn amount(file: &GpuTable, faults: &mut Faults) -> Option<GpuAmount> {
    let linked = file.link.is_some_and(|link| link != LinkFile::Any);
    let mut wrong = |field: &str, message: String| {
        faults.push(SpecCode::InvalidValue, &format!("resources.gpus{field}"), message);
    };
    let count = file.count.unwrap_or(1);
    if count > GPUS {
        wrong("", format!("{count} GPUs on one worker: at most {GPUS}"));
    }
    match (file.fraction, &file.mig) {
        (Some(_), Some(_)) => {
            wrong("", "`fraction` and `mig` contradict each other: keep one of them".to_owned());
            None
        }
        (Some(fraction), None) => {
            if let Some(count) = file.count {
                let message = "`fraction` is a part of one GPU and `count` is";
                wrong("", format!("{message} {count}: keep one of them"));
            }
            if linked {
                wrong(".link", "`link` joins several GPUs and `fraction` is a part of one".to_owned());
            }
            if !(fraction > 0.0 && fraction <= 1.0) {
                wrong(".fraction", format!("{fraction} is no part of one GPU: more than 0 and at most 1"));
                return None;
            }
            match (fraction * f64::from(WHOLE)).round() as u16 {
                0 => {
                    wrong(".fraction", format!("{fraction} is too little: at least 0.001"));
                    None
                }
                WHOLE => Some(GpuAmount::Whole(1)),
                milli => Some(GpuAmount::Fraction(milli)),
            }
        }
        (None, Some(profile)) => {
            let profile = profile.trim().to_ascii_lowercase();
            if !is_profile(&profile) {
                wrong(".mig", format!("\"{profile}\" is no MIG profile: write one such as `1g.10gb`"));
            }
            if linked {
                wrong(".link", "MIG instances are not linked: remove `link`".to_owned());
            }
            (count > 0).then_some(GpuAmount::Mig(profile, count))
        }
        (None, None) => (count > 0).then_some(GpuAmount::Whole(count)),
    }
}

/// `1g.10gb`, `1g.10gb+me`, `1c.2g.20gb`: parts that begin with a digit, the last of them gigabytes.
fn is_profile(text: &str) -> bool {
    let size = text.split('+').next().unwrap_or_default();
    let parts: Vec<&str> = size.split('.').collect();
    let number = |part: &str, unit: &str| {
        part.strip_suffix(unit).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    match parts.as_slice() {
        [slices, memory] => number(slices, "g") && number(memory, "gb"),
        [compute, slices, memory] => number(compute, "c") && number(slices, "g") && number(memory, "gb"),
        _ => false,
    }
}

fn retry(file: &RetryFile, faults: &mut Faults) -> RetryPolicy {
    let attempts = file.attempts.unwrap_or(1);
    if !(1..=ATTEMPTS).contains(&attempts) {
        let message =
            format!("attempts is {attempts}: from 1 (no retry: the first try counts) to {ATTEMPTS}");
        faults.push(SpecCode::InvalidValue, "retry.attempts", message);
    }
    let on = file.on.clone().unwrap_or_default();
    if let Some(bad) = on.exit_codes.iter().flatten().find(|c| !(1..=255).contains(*c)) {
        faults.push(
            SpecCode::InvalidValue,
            "retry.on.exit_codes",
            format!("{bad} is no exit code of a failure: from 1 to 255"),
        );
    }
    let mut log_rules = Vec::new();
    for rule in file.log_rules.iter().flatten() {
        if rule.matches.is_empty() {
            faults.push(
                SpecCode::InvalidValue,
                "retry.log_rules",
                "a rule with an empty `match` matches every line".into(),
            );
        }
        let action = match rule.action {
            LogActionFile::Fail => LogAction::Fail,
            LogActionFile::Retry => LogAction::Retry,
            LogActionFile::ExcludeWorker => LogAction::ExcludeWorker,
        };
        log_rules.push(LogRule { matches: rule.matches.clone(), action });
    }
    let on = RetryOn {
        exit_codes: on.exit_codes,
        oom: on.oom.unwrap_or(true),
        timeout: on.timeout.unwrap_or(true),
    };
    RetryPolicy {
        attempts,
        backoff: file.backoff.map_or_else(Backoff::default, |b| backoff(b, faults)),
        on,
        log_rules,
    }
}

fn backoff(file: BackoffFile, faults: &mut Faults) -> Backoff {
    let default = Backoff::default();
    let initial_ms = file.initial.map_or(default.initial_ms, |d| d.get());
    let max_ms = file.max.map_or(default.max_ms.max(initial_ms), |d| d.get());
    if initial_ms > max_ms {
        faults.push(SpecCode::InvalidValue, "retry.backoff", "`initial` is longer than `max`".into());
    }
    let mut milli = |value: Option<f64>, default: u32, range: std::ops::RangeInclusive<f64>, field: &str| {
        let Some(value) = value else { return default };
        if !range.contains(&value) {
            let message = format!("{value} is outside {} to {}", range.start(), range.end());
            faults.push(SpecCode::InvalidValue, &format!("retry.backoff.{field}"), message);
            return default;
        }
        (value * 1_000.0).round() as u32
    };
    let factor_milli = milli(file.factor, default.factor_milli, 1.0..=100.0, "factor");
    let jitter_permille = milli(file.jitter, default.jitter_permille, 0.0..=1.0, "jitter");
    Backoff { initial_ms, factor_milli, max_ms, jitter_permille }
}

/// Most checkpoints kept of one index: each is named in the log.
const KEEP: u32 = 100;

/// None when the task says nothing of it.
fn checkpoint(file: &CheckpointFile, faults: &mut Faults) -> Option<Box<CheckpointSpec>> {
    if file.every.is_none() && file.watch.is_none() && file.settle.is_none() && file.keep.is_none() {
        return None;
    }
    let default = CheckpointSpec::default();
    let mut fault = |field: &str, message: String| faults.push(SpecCode::InvalidValue, field, message);
    if file.keep.is_some_and(|keep| !(1..=KEEP).contains(&keep)) {
        fault("checkpoint.keep", format!("keep is {}; 1 to {KEEP} are kept", file.keep.unwrap_or(0)));
    }
    if file.every.is_some_and(|every| every.get() < 1_000) {
        fault("checkpoint.every", "a task is asked to save once a second at most: write 1s or more".into());
    }
    if let Some(watch) = file.watch.as_deref()
        && (watch.is_empty() || watch.starts_with('/') || watch.split('/').any(|part| part == ".."))
    {
        fault(
            "checkpoint.watch",
            format!("{watch:?} is no glob below the checkpoint directory, as \"checkpoint-*\""),
        );
    }
    Some(Box::new(CheckpointSpec {
        every_ms: file.every.map(|every| every.get()),
        watch: file.watch.as_deref().map(Into::into),
        settle_ms: file.settle.map_or(default.settle_ms, |settle| settle.get()),
        keep: file.keep.unwrap_or(default.keep),
    }))
}

fn stop(file: &CheckpointFile, faults: &mut Faults) -> StopSpec {
    let default = StopSpec::default();
    let signal = file.signal.as_deref().map_or(Some(default.signal), policy::signal_number);
    match signal {
        None => {
            let name = file.signal.as_deref().unwrap_or_default();
            faults.push(
                SpecCode::InvalidValue,
                "checkpoint.signal",
                format!("\"{name}\" is no signal: write a name such as SIGUSR1"),
            );
        }
        Some(9 | 19) => {
            faults.push(
                SpecCode::InvalidValue,
                "checkpoint.signal",
                "no program can react to SIGKILL or SIGSTOP: write SIGUSR1 or SIGTERM".into(),
            );
        }
        Some(_) => {}
    }
    StopSpec {
        signal: signal.unwrap_or(default.signal),
        grace_ms: file.grace.map_or(default.grace_ms, |g| g.get()),
    }
}
