//! The jobs of the load: shapes of DAGs whose outcome is known beforehand, made from a seed.

use super::task::{Fail, Orders};
use muster_sim::Rng;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What a job is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One after the other.
    Chain,
    /// One, many, one.
    Fan,
    /// One array.
    Array,
    /// Fails at its first attempts.
    Retry,
    /// Holds GPUs, whole ones and halves.
    Gpu,
    /// Needs two workers at once.
    Gang,
    /// Takes long, and is cancelled.
    Cancel,
    /// Fails until somebody opens a gate, and is rerun.
    Rerun,
}

/// A task of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub name: String,
    pub indices: u32,
    pub array: bool,
    pub parents: Vec<String>,
    pub gpus: u32,
    /// How many tasks may have one GPU at a time.
    pub sharers: u32,
    /// Ranks, each on a worker of its own.
    pub workers: u32,
    pub millis: u64,
    pub fail: Fail,
    /// Failures of its own that it is allowed, plus one.
    pub attempts: u32,
}

/// A job before it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The request id of its submission, and its key in the history.
    pub key: String,
    pub shape: Shape,
    pub tasks: Vec<Task>,
}

/// Charged failures a task survives: kills from outside come on top of those that are planned.
const ATTEMPTS: u32 = 6;

impl Job {
    /// The `n`th job of a seed.
    #[must_use]
    pub fn draw(seed: u64, n: u64) -> Self {
        let mut rng = Rng::new(seed, &format!("job {n}"));
        let shapes = [
            (Shape::Chain, 20),
            (Shape::Fan, 25),
            (Shape::Array, 20),
            (Shape::Retry, 10),
            (Shape::Gpu, 10),
            (Shape::Gang, 5),
            (Shape::Cancel, 6),
            (Shape::Rerun, 4),
        ];
        let mut left = rng.below(100);
        let shape = shapes.iter().find(|(_, weight)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        let shape = shape.map_or(Shape::Chain, |s| s.0);
        let tasks = tasks(shape, &mut rng);
        Self { key: format!("{seed}-{n}"), shape, tasks }
    }

    /// Indices of all tasks.
    #[must_use]
    pub fn indices(&self) -> u32 {
        self.tasks.iter().map(|t| t.indices).sum()
    }

    /// The job file, as JSON.
    #[must_use]
    pub fn text(&self, program: &Path, dir: &Path) -> String {
        let mut tasks = Map::new();
        for task in &self.tasks {
            tasks.insert(task.name.clone(), self.task_text(task, program, dir));
        }
        let shape = serde_json::to_value(self.shape).unwrap_or_default();
        json!({"name": shape, "tasks": tasks}).to_string()
    }

    fn task_text(&self, task: &Task, program: &Path, dir: &Path) -> Value {
        let count = |name: &String| self.tasks.iter().find(|t| t.name == *name).map_or(1, |t| t.indices);
        let orders = Orders {
            dir: dir.to_owned(),
            millis: task.millis,
            fail: task.fail,
            sharers: task.sharers,
            parents: task.parents.iter().map(|p| (p.clone(), count(p))).collect(),
        };
        let mut resources = json!({"cpus": 1, "memory": "64MiB"});
        if task.sharers > 1 {
            resources["gpus"] = json!({"fraction": 1.0 / f64::from(task.sharers)});
        } else if task.gpus > 0 {
            resources["gpus"] = json!(task.gpus);
        }
        let mut text = json!({
            "run": orders.words(program),
            "resources": resources,
            "checkpoint": {"grace": "1s"},
            "retry": {"attempts": task.attempts, "backoff": {"initial": "200ms", "max": "1s"}},
        });
        if !task.parents.is_empty() {
            text["needs"] = json!(task.parents);
        }
        if task.workers > 1 {
            text["workers"] = json!(task.workers);
        }
        if task.array {
            text["array"] = json!(format!("0-{}", task.indices - 1));
        }
        text
    }
}

fn tasks(shape: Shape, rng: &mut Rng) -> Vec<Task> {
    let mut task = |name: &str, indices: u64, parents: &[&str]| Task {
        name: name.to_owned(),
        indices: u32::try_from(indices).unwrap_or(1),
        array: indices > 1,
        parents: parents.iter().map(|p| (*p).to_owned()).collect(),
        gpus: 0,
        sharers: 1,
        workers: 1,
        millis: rng.range(50, 250),
        fail: Fail::Never,
        attempts: ATTEMPTS,
    };
    match shape {
        Shape::Chain => {
            vec![task("a", 1, &[]), task("b", 1, &["a"]), task("c", 1, &["b"]), task("d", 1, &["c"])]
        }
        Shape::Fan => vec![task("first", 1, &[]), task("many", 16, &["first"]), task("last", 1, &["many"])],
        Shape::Array => vec![task("all", 24, &[])],
        Shape::Retry => {
            let (mut twice, mut once) = (task("twice", 1, &[]), task("once", 6, &["twice"]));
            (twice.fail, once.fail) = (Fail::Until(2), Fail::Until(1));
            vec![twice, once]
        }
        Shape::Gpu => {
            let (mut one, mut two, mut half) =
                (task("one", 4, &[]), task("two", 3, &[]), task("half", 6, &[]));
            (one.gpus, two.gpus, half.gpus, half.sharers) = (1, 2, 1, 2);
            vec![one, two, half]
        }
        Shape::Gang => {
            let (mut both, mut after) = (task("both", 3, &[]), task("after", 1, &["both"]));
            (both.gpus, both.workers, after.workers) = (1, 2, 3);
            vec![both, after]
        }
        Shape::Cancel => {
            let (mut now, mut then) = (task("now", 4, &[]), task("then", 4, &["now"]));
            (now.millis, then.millis) = (1_500, 1_500);
            vec![now, then]
        }
        Shape::Rerun => {
            let (good, mut bad, after) =
                (task("good", 3, &[]), task("bad", 2, &["good"]), task("after", 2, &["bad"]));
            (bad.fail, bad.attempts) = (Fail::UntilGate, 2);
            vec![good, bad, after]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_jobs_and_every_shape() {
        let jobs: Vec<Job> = (0..200).map(|n| Job::draw(3, n)).collect();
        assert_eq!(jobs, (0..200).map(|n| Job::draw(3, n)).collect::<Vec<_>>());
        for shape in [
            Shape::Chain,
            Shape::Fan,
            Shape::Array,
            Shape::Retry,
            Shape::Gpu,
            Shape::Gang,
            Shape::Cancel,
            Shape::Rerun,
        ] {
            assert!(jobs.iter().any(|j| j.shape == shape), "{shape:?}");
        }
        assert_ne!(jobs[0].key, jobs[1].key);
    }

    #[test]
    fn a_job_file_says_what_the_tasks_need() {
        let job = Job { key: "k".into(), shape: Shape::Fan, tasks: tasks(Shape::Fan, &mut Rng::new(1, "t")) };
        let text: Value = serde_json::from_str(&job.text(Path::new("/p"), Path::new("/d"))).unwrap();
        assert_eq!(text["tasks"]["many"]["array"], "0-15");
        assert_eq!(text["tasks"]["last"]["run"][6], "many:16");
        assert_eq!(text["tasks"]["last"]["needs"], json!(["many"]));
    }
}
