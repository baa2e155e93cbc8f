//! What CEL expressions see: a worker in `constraints:`, the tasks so far in `when:`. Plain structs outside, CEL values inside.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, Value};

use crate::model::ids::JobId;
use crate::model::job_spec::JsonText;

/// A worker as `constraints:` see it, under the name `worker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerFacts {
    /// `worker.name`.
    pub name: String,
    /// `worker.pool`; empty = none.
    pub pool: String,
    /// `worker.labels.NAME`.
    pub labels: BTreeMap<String, String>,
    /// `worker.cpus`: all of them, in thousandths.
    pub cpu_milli: u64,
    /// `worker.memory`: all of it, in bytes.
    pub memory: u64,
    /// `worker.disk`: all of it, in bytes.
    pub disk: u64,
    /// `worker.gpus`: how many there are.
    pub gpus: u64,
    /// `worker.gpu_model` of the first one; empty = none.
    pub gpu_model: String,
    /// `worker.gpu_memory` of the first one, in bytes; 0 = none.
    pub gpu_memory: u64,
    /// `worker.spot`: it may be taken away.
    pub spot: bool,
    /// `worker.cuda`, such as `12.4`; none without.
    pub cuda: Option<String>,
    /// `worker.driver`, such as `550.54.15`; none without.
    pub driver: Option<String>,
    /// `worker.os`, such as `linux`.
    pub os: String,
    /// `worker.arch`, such as `x86_64`.
    pub arch: String,
}

/// The fields of `worker`.
pub(super) const WORKER_FIELDS: [&str; 14] = [
    "name",
    "pool",
    "labels",
    "cpus",
    "memory",
    "disk",
    "gpus",
    "gpu_model",
    "gpu_memory",
    "spot",
    "cuda",
    "driver",
    "os",
    "arch",
];
/// Fields that are versions: compared with a text, they compare as versions.
pub(super) const VERSION_FIELDS: [&str; 2] = ["cuda", "driver"];
/// Fields that are bytes: compared with a text, that is a size.
pub(super) const SIZE_FIELDS: [&str; 3] = ["memory", "disk", "gpu_memory"];
/// The fields of a task in `tasks`.
pub(super) const TASK_FIELDS: [&str; 6] =
    ["state", "succeeded_count", "failed_count", "skipped_count", "cancelled_count", "total"];

/// A worker ready for evaluation: make one a worker and a plan, ask it many constraints.
pub struct WorkerValue(pub(super) Context<'static, 'static>);

/// A task as `when:` sees it, under `tasks.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its state's name, such as `succeeded`.
    pub state: String,
    /// Indices by their end.
    pub succeeded_count: u64,
    /// Indices that failed.
    pub failed_count: u64,
    /// Indices that were skipped.
    pub skipped_count: u64,
    /// Indices that were cancelled.
    pub cancelled_count: u64,
    /// All indices.
    pub total: u64,
}

/// What `when:` sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhenFacts {
    /// `job.id`.
    pub job: JobId,
    /// `job.name`.
    pub name: String,
    /// `params.NAME`.
    pub params: BTreeMap<String, JsonText>,
    /// `tasks.NAME`: at least the tasks that this one needs.
    pub tasks: BTreeMap<String, TaskFacts>,
}

/// CEL's standard functions, built once.
fn env() -> Arc<Env> {
    static ENV: OnceLock<Arc<Env>> = OnceLock::new();
    Arc::clone(ENV.get_or_init(|| Arc::new(Env::stdlib())))
}

fn table(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    let map = entries.into_iter().map(|(name, value)| (Key::String(Arc::new(name)), value)).collect();
    Value::Map(Map { map: Arc::new(map) })
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A version as one number that orders like it: `12.4` → 12, 4, 0 in steps of a million.
pub(super) fn version_number(version: &str) -> Option<i64> {
    let mut number: i64 = 0;
    let mut parts = version.trim().split('.');
    for _ in 0..3 {
        let part = parts.next().unwrap_or("0");
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        let value: i64 = digits.parse().ok()?;
        number = number * 1_000_000 + value.min(999_999);
    }
    Some(number)
}

impl WorkerValue {
    /// The facts as CEL values.
    #[must_use]
    pub fn new(facts: &WorkerFacts) -> Self {
        let cpus = if facts.cpu_milli.is_multiple_of(1_000) {
            int(facts.cpu_milli / 1_000)
        } else {
            Value::Float(facts.cpu_milli as f64 / 1_000.0)
        };
        let mut entries = vec![
            ("name".to_owned(), text(&facts.name)),
            ("pool".to_owned(), text(&facts.pool)),
            ("labels".to_owned(), table(facts.labels.iter().map(|(k, v)| (k.clone(), text(v))))),
            ("cpus".to_owned(), cpus),
            ("memory".to_owned(), int(facts.memory)),
            ("disk".to_owned(), int(facts.disk)),
            ("gpus".to_owned(), int(facts.gpus)),
            ("spot".to_owned(), Value::Bool(facts.spot)),
            ("os".to_owned(), text(&facts.os)),
            ("arch".to_owned(), text(&facts.arch)),
        ];
        if !facts.gpu_model.is_empty() {
            entries.push(("gpu_model".to_owned(), text(&facts.gpu_model)));
        }
        if facts.gpu_memory > 0 {
            entries.push(("gpu_memory".to_owned(), int(facts.gpu_memory)));
        }
        for (field, version) in [("cuda", &facts.cuda), ("driver", &facts.driver)] {
            let Some(version) = version else { continue };
            entries.push((field.to_owned(), text(version)));
            entries.extend(version_number(version).map(|n| (hidden(field), Value::Int(n))));
        }
        let mut context = Context::with_env(env());
        context.add_variable_from_value("worker", table(entries));
        Self(context)
    }
}

/// The field that holds the number of a version; no expression of a person can name it.
pub(super) fn hidden(field: &str) -> String {
    format!("{field} as a number")
}

impl WhenFacts {
    pub(super) fn context(&self) -> Context<'static, 'static> {
        let tasks = table(self.tasks.iter().map(|(name, t)| {
            let fields = [
                ("state".to_owned(), text(&t.state)),
                ("succeeded_count".to_owned(), int(t.succeeded_count)),
                ("failed_count".to_owned(), int(t.failed_count)),
                ("skipped_count".to_owned(), int(t.skipped_count)),
                ("cancelled_count".to_owned(), int(t.cancelled_count)),
                ("total".to_owned(), int(t.total)),
            ];
            (name.clone(), table(fields))
        }));
        let mut context = Context::with_env(env());
        context.add_variable_from_value("tasks", tasks);
        context.add_variable_from_value(
            "params",
            table(self.params.iter().map(|(name, v)| (name.clone(), json(&v.value())))),
        );
        context.add_variable_from_value(
            "job",
            table([("id".to_owned(), int(self.job.0)), ("name".to_owned(), text(&self.name))]),
        );
        context
    }
}

fn json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => {
            n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(0.0)), Value::Int)
        }
        serde_json::Value::String(s) => text(s),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(json).collect())),
        serde_json::Value::Object(map) => table(map.iter().map(|(k, v)| (k.clone(), json(v)))),
    }
}
