//! The exact environment of a task (what a task sees is part of the contract, and what it does not see too).
//!
//! A pure function. Order of precedence: what Muster sets, then the user's own variables, then what is passed on from the worker
//! (`PATH HOME USER LANG TZ` and the operator's list). A user may set everything but the names that tell a task who it is.

use std::path::{Path, PathBuf};

use super::launch::AttemptDirs;
use crate::shim::protocol::Token;

/// What is passed on from the worker without being asked for.
pub const PASSED_ON: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// `PATH` where the worker itself has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that makes up a task's environment.
#[derive(Clone, Debug, Default)]
pub struct TaskEnv {
    /// Job number.
    pub job: u64,
    /// Task name.
    pub task: String,
    /// Index in the array, if it is one.
    pub index: Option<u64>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Fencing token.
    pub token: Token,
    /// Queue name.
    pub queue: String,
    /// Worker name.
    pub worker: String,
    /// Pool name.
    pub pool: String,
    /// Does the worker belong to a spot pool?
    pub spot: bool,
    /// The attempt's directories.
    pub dirs: AttemptDirs,
    /// The shipped working directory, if the job has one; without it the scratch directory takes its place.
    pub workdir: Option<PathBuf>,
    /// Inputs by name, with the path of each.
    pub inputs: Vec<(String, PathBuf)>,
    /// The checkpoint to resume from: directory and step.
    pub resume: Option<(PathBuf, u64)>,
    /// The worker's socket for tasks.
    pub socket: Option<PathBuf>,
    /// Attempts before this one.
    pub restart_count: u32,
    /// UUIDs of the granted GPUs.
    pub gpus: Vec<String>,
    /// What holds it to its part of a GPU, where something does.
    pub gpu_limits: Vec<(String, String)>,
    /// Place in a gang, if it is one.
    pub gang: Option<GangEnv>,
    /// Adds the `SLURM_*` set.
    pub slurm: bool,
    /// Cores granted, in thousandths; for `SLURM_CPUS_PER_TASK`.
    pub cpu_millis: u32,
    /// The user's variables.
    pub user: Vec<(String, String)>,
}

/// A member's place in its gang.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GangEnv {
    /// Its rank, from 0.
    pub rank: u32,
    /// Addresses of all ranks, in order.
    pub hosts: Vec<String>,
    /// Processes that each of them is meant for, in order.
    pub slots: Vec<u32>,
    /// Port on the first of them.
    pub master_port: u16,
    /// File with a line a host.
    pub hostfile: Option<PathBuf>,
}

impl GangEnv {
    /// The text of the hostfile: a line a rank, as MPI and `DeepSpeed` read it.
    #[must_use]
    pub fn hostfile_text(&self) -> String {
        let slots = self.slots.iter().copied().chain(std::iter::repeat(1));
        self.hosts.iter().zip(slots).map(|(host, slots)| format!("{host} slots={slots}\n")).collect()
    }
}

/// What the worker's own process gives to every task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostEnv {
    /// Directory of the worker's `muster` binary, put first on `PATH`.
    pub muster_dir: Option<PathBuf>,
    /// The variables to pass on, those that exist.
    pub passed: Vec<(String, String)>,
}

impl HostEnv {
    /// Takes from this process what is passed on: [`PASSED_ON`] and the operator's names. `MUSTER_*` is never passed on: it would be the
    /// worker's configuration.
    #[must_use]
    pub fn capture(operator: &[String]) -> Self {
        let names = PASSED_ON.iter().copied().chain(operator.iter().map(String::as_str));
        let mut passed: Vec<(String, String)> = Vec::new();
        for name in names.filter(|n| !n.starts_with("MUSTER_")) {
            if let (Ok(value), false) = (std::env::var(name), passed.iter().any(|(n, _)| n == name)) {
                passed.push((name.to_owned(), value));
            }
        }
        // The link's target, and not the name it was called by, which may be relative or gone.
        let muster_dir = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
        Self { muster_dir, passed }
    }
}

/// The environment of one attempt, sorted by name, each name once.
#[must_use]
pub fn build(task: &TaskEnv, host: &HostEnv) -> Vec<(String, String)> {
    let mut env = Environment::default();
    for (name, value) in &host.passed {
        env.set(name, value);
    }
    for (name, value) in &task.user {
        env.set(name, value);
    }
    identity(task, &mut env);
    places(task, &mut env);
    gpus(task, &mut env);
    if let Some(gang) = &task.gang {
        gang_env(task, gang, &mut env);
    }
    if task.slurm {
        slurm(task, &mut env);
    }
    path(host, &mut env);
    env.0.into_iter().collect()
}

#[derive(Default)]
struct Environment(std::collections::BTreeMap<String, String>);

impl Environment {
    fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    fn path(&mut self, name: &str, path: &Path) {
        self.set(name, path.display());
    }
}

fn identity(task: &TaskEnv, env: &mut Environment) {
    env.set("MUSTER_JOB_ID", task.job);
    env.set("MUSTER_TASK", &task.task);
    // Always set, empty outside an array: scripts run with `set -u`.
    env.set("MUSTER_INDEX", task.index.map_or(String::new(), |i| i.to_string()));
    env.set("MUSTER_ATTEMPT", task.attempt);
    env.set("MUSTER_FENCING_TOKEN", task.token);
    env.set("MUSTER_QUEUE", &task.queue);
    env.set("MUSTER_WORKER", &task.worker);
    env.set("MUSTER_POOL", &task.pool);
    env.set("MUSTER_SPOT", u8::from(task.spot));
    env.set("MUSTER_RESTART_COUNT", task.restart_count);
}

fn places(task: &TaskEnv, env: &mut Environment) {
    let dirs = &task.dirs;
    env.path("MUSTER_WORKDIR", task.workdir.as_deref().unwrap_or(&dirs.scratch));
    env.path("MUSTER_SCRATCH_DIR", &dirs.scratch);
    env.path("MUSTER_OUTPUT_DIR", &dirs.out);
    env.path("MUSTER_CHECKPOINT_DIR", &dirs.ckpt);
    env.path("MUSTER_DEADLINE_FILE", &dirs.deadline_file());
    for (name, path) in &task.inputs {
        env.path(&input_variable(name), path);
    }
    let (from, step) = match &task.resume {
        Some((from, step)) => (from.display().to_string(), step.to_string()),
        None => (String::new(), String::new()),
    };
    env.set("MUSTER_RESUME_FROM", from);
    env.set("MUSTER_RESUME_STEP", step);
    env.set("MUSTER_SOCKET", task.socket.as_ref().map_or(String::new(), |s| s.display().to_string()));
}

/// `MUSTER_INPUT_` and the name in capitals, `_` for what a variable cannot hold: `raw-images` is `MUSTER_INPUT_RAW_IMAGES`.
#[must_use]
pub fn input_variable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("MUSTER_INPUT_{}", name.chars().map(plain).collect::<String>())
}

fn gpus(task: &TaskEnv, env: &mut Environment) {
    for (name, value) in crate::devices::assign(&task.gpus).iter().chain(&task.gpu_limits) {
        env.set(name, value);
    }
}

fn gang_env(task: &TaskEnv, gang: &GangEnv, env: &mut Environment) {
    let ranks = gang.hosts.len().max(1);
    env.set("MASTER_ADDR", gang.hosts.first().map_or("127.0.0.1", String::as_str));
    env.set("MASTER_PORT", gang.master_port);
    for name in ["RANK", "NODE_RANK", "MUSTER_RANK"] {
        env.set(name, gang.rank);
    }
    for name in ["WORLD_SIZE", "NNODES", "MUSTER_RANKS"] {
        env.set(name, ranks);
    }
    // One process a member: the framework's launcher sets these anew for the processes it starts.
    env.set("LOCAL_RANK", 0);
    env.set("LOCAL_WORLD_SIZE", 1);
    env.set("NPROC_PER_NODE", task.gpus.len().max(1));
    if let Some(file) = &gang.hostfile {
        env.path("MUSTER_HOSTFILE", file);
    }
}

fn slurm(task: &TaskEnv, env: &mut Environment) {
    env.set("SLURM_JOB_ID", task.job);
    env.set("SLURM_JOBID", task.job);
    env.set("SLURM_JOB_NAME", &task.task);
    env.set("SLURM_JOB_PARTITION", &task.queue);
    env.set("SLURM_RESTART_COUNT", task.restart_count);
    env.set("SLURMD_NODENAME", &task.worker);
    env.path("SLURM_SUBMIT_DIR", task.workdir.as_deref().unwrap_or(&task.dirs.scratch));
    env.set("SLURM_CPUS_PER_TASK", task.cpu_millis.div_ceil(1000).max(1));
    env.set("SLURM_GPUS_ON_NODE", task.gpus.len());
    if let Some(index) = task.index {
        env.set("SLURM_ARRAY_JOB_ID", task.job);
        env.set("SLURM_ARRAY_TASK_ID", index);
    }
    let (rank, hosts) =
        task.gang.as_ref().map_or((0, vec![task.worker.clone()]), |g| (g.rank, g.hosts.clone()));
    for name in ["SLURM_NTASKS", "SLURM_NPROCS", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"] {
        env.set(name, hosts.len());
    }
    for name in ["SLURM_PROCID", "SLURM_NODEID"] {
        env.set(name, rank);
    }
    env.set("SLURM_LOCALID", 0);
    env.set("SLURM_JOB_NODELIST", hosts.join(","));
    env.set("SLURM_NODELIST", hosts.join(","));
}

/// The worker's own `muster` comes first, so that a task calls the version that talks to its worker.
fn path(host: &HostEnv, env: &mut Environment) {
    let rest = env.0.remove("PATH").filter(|p| !p.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let path = match &host.muster_dir {
        Some(dir) if rest.split(':').next() != dir.to_str() => format!("{}:{rest}", dir.display()),
        _ => rest,
    };
    env.set("PATH", path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostEnv {
        let passed =
            [("PATH", "/bin"), ("HOME", "/root"), ("LANG", "C")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        HostEnv { muster_dir: Some("/opt/muster".into()), passed: passed.to_vec() }
    }

    fn task() -> TaskEnv {
        TaskEnv {
            job: 42,
            task: "train".into(),
            attempt: 2,
            token: 99,
            queue: "default".into(),
            worker: "w1".into(),
            pool: "spot".into(),
            spot: true,
            dirs: AttemptDirs::below("/d/attempts", 99),
            restart_count: 1,
            ..TaskEnv::default()
        }
    }

    fn get(env: &[(String, String)], name: &str) -> Option<String> {
        env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn a_plain_task_sees_exactly_this() {
        let text: Vec<String> = build(&task(), &host()).iter().map(|(n, v)| format!("{n}={v}")).collect();
        let expected = "CUDA_VISIBLE_DEVICES=\nHOME=/root\nLANG=C\nMUSTER_ATTEMPT=2\nMUSTER_CHECKPOINT_DIR=/d/attempts/99/ckpt\n\
            MUSTER_DEADLINE_FILE=/d/attempts/99/deadline\nMUSTER_FENCING_TOKEN=99\nMUSTER_GPU_COUNT=0\nMUSTER_GPU_UUIDS=\nMUSTER_INDEX=\n\
            MUSTER_JOB_ID=42\nMUSTER_OUTPUT_DIR=/d/attempts/99/out\nMUSTER_POOL=spot\nMUSTER_QUEUE=default\nMUSTER_RESTART_COUNT=1\n\
            MUSTER_RESUME_FROM=\nMUSTER_RESUME_STEP=\nMUSTER_SCRATCH_DIR=/d/attempts/99/scratch\nMUSTER_SOCKET=\nMUSTER_SPOT=1\n\
            MUSTER_TASK=train\nMUSTER_WORKDIR=/d/attempts/99/scratch\nMUSTER_WORKER=w1\nNVIDIA_VISIBLE_DEVICES=void\nPATH=/opt/muster:/bin";
        assert_eq!(text.join("\n"), expected);
    }

    #[test]
    fn the_user_overrides_what_is_passed_on_but_not_who_the_task_is() {
        let user = [("HOME", "/home/me"), ("MUSTER_FENCING_TOKEN", "1"), ("PATH", "/usr/bin"), ("X", "y=z")];
        let env =
            build(&TaskEnv { user: user.map(|(n, v)| (n.into(), v.into())).to_vec(), ..task() }, &host());
        assert_eq!(get(&env, "HOME").as_deref(), Some("/home/me"));
        assert_eq!(get(&env, "MUSTER_FENCING_TOKEN").as_deref(), Some("99"));
        assert_eq!(get(&env, "PATH").as_deref(), Some("/opt/muster:/usr/bin"));
        assert_eq!(get(&env, "X").as_deref(), Some("y=z"));
    }

    #[test]
    fn inputs_resume_and_gpus() {
        let full = TaskEnv {
            index: Some(7),
            inputs: vec![("raw-images".into(), "/in/raw".into())],
            resume: Some(("/ckpt".into(), 500)),
            gpus: vec!["GPU-a".into(), "GPU-b".into()],
            ..task()
        };
        let env = build(&full, &host());
        for (name, value) in [
            ("MUSTER_INDEX", "7"),
            ("MUSTER_INPUT_RAW_IMAGES", "/in/raw"),
            ("MUSTER_RESUME_FROM", "/ckpt"),
            ("MUSTER_RESUME_STEP", "500"),
            ("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b"),
            ("NVIDIA_VISIBLE_DEVICES", "GPU-a,GPU-b"),
            ("MUSTER_GPU_COUNT", "2"),
        ] {
            assert_eq!(get(&env, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn a_gang_member_knows_its_place() {
        let gang = GangEnv {
            rank: 1,
            hosts: vec!["a".into(), "b".into()],
            slots: vec![8],
            master_port: 29500,
            hostfile: None,
        };
        assert_eq!(gang.hostfile_text(), "a slots=8\nb slots=1\n");
        let env = build(&TaskEnv { gang: Some(gang), gpus: vec!["g".into(); 8], ..task() }, &host());
        for (name, value) in [
            ("MASTER_ADDR", "a"),
            ("MASTER_PORT", "29500"),
            ("RANK", "1"),
            ("WORLD_SIZE", "2"),
            ("NNODES", "2"),
            ("NPROC_PER_NODE", "8"),
        ] {
            assert_eq!(get(&env, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn nothing_of_the_workers_environment_leaks() {
        let leaky = HostEnv::capture(&["MUSTER_SERVER_TOKEN".to_owned()]);
        assert!(leaky.passed.iter().all(|(n, _)| PASSED_ON.contains(&n.as_str())));
        let other = std::env::vars()
            .map(|(n, _)| n)
            .find(|n| !PASSED_ON.contains(&n.as_str()) && !n.starts_with("MUSTER_"));
        if let Some(name) = other {
            let named = HostEnv::capture(std::slice::from_ref(&name));
            assert!(named.passed.iter().any(|(n, _)| *n == name), "the operator listed {name}");
        }
    }
}
