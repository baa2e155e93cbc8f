//! From a start order to what the shim executes: directories, files from the store, environment, limits.

use super::vacate::HeldDevice;
use crate::blobs::{BlobError, Cache};
use crate::cgroup::Limits;
use crate::devices::Device;
use crate::devices::nodes::{self, Majors};
use crate::executor::launch::argv;
use crate::executor::{AttemptDirs, Dirs, HostEnv, Launch, Run, TaskEnv, environment};
use muster_agent::StartOrder;
use muster_core::leader::instruction::InputOrder;
use muster_core::model::attempt::Outcome;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Most processes and threads of one attempt: enough for every framework, and a fork bomb stays its own problem.
const PIDS_MAX: u32 = 32_768;

/// What is the same for all attempts of this worker.
#[derive(Debug)]
pub struct Preparer {
    pub worker: String,
    pub pool: String,
    pub spot: bool,
    /// By device number.
    pub devices: Vec<Device>,
    /// Of the driver's device nodes.
    pub majors: Majors,
    /// Where the control daemon of MPS listens, if there is one.
    pub mps: Option<PathBuf>,
    pub host: HostEnv,
    pub dirs: Arc<Dirs>,
    pub cache: Arc<Cache>,
    /// Bytes of each captured stream.
    pub log_cap: u64,
}

/// Files that were brought for one attempt.
#[derive(Debug, Default)]
struct Files {
    workdir: Option<PathBuf>,
    inputs: Vec<(String, PathBuf)>,
}

/// Whether preparing it takes no files from the store, so that it may be done at once.
pub fn is_quick(order: &StartOrder) -> bool {
    order.launch.workdir.is_none() && order.launch.inputs.is_empty()
}

impl Preparer {
    /// Prepares an attempt without files.
    ///
    /// # Errors
    /// The outcome with which it ends instead.
    pub fn prepare_quick(&self, order: &StartOrder) -> Result<Launch, Outcome> {
        let dirs = self.dirs.prepare(order.token.0).map_err(|e| refused("its directories", e))?;
        self.launch(order, dirs, Files::default())
    }

    /// Prepares an attempt with files. Ends early with a fenced outcome when `cancel` is cancelled.
    ///
    /// # Errors
    /// The outcome with which it ends instead.
    pub async fn prepare(&self, order: &StartOrder, cancel: &CancellationToken) -> Result<Launch, Outcome> {
        let dirs = self.dirs.prepare(order.token.0).map_err(|e| refused("its directories", e))?;
        let mut files = Files::default();
        if let Some(manifest) = order.launch.workdir {
            let placed = self.cache.place(manifest, &dirs.work(), cancel).await;
            files.workdir = Some(placed.map_err(|e| unplaced("the workdir", &e))?);
        }
        for input in &order.launch.inputs {
            let placed = self.place_input(input, &dirs, cancel).await;
            let path = placed.map_err(|e| unplaced(&format!("input {}", input.name), &e))?;
            files.inputs.push((input.name.clone(), path));
        }
        self.launch(order, dirs, files)
    }

    /// One artifact is placed itself; those of an array below a directory, one subdirectory an index.
    async fn place_input(
        &self,
        input: &InputOrder,
        dirs: &AttemptDirs,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, BlobError> {
        let top = dirs.input(&input.name);
        if let (false, [(_, manifest)]) = (input.from_array, input.manifests.as_slice()) {
            return self.cache.place(*manifest, &top, cancel).await;
        }
        std::fs::create_dir_all(&top).map_err(|source| BlobError::File {
            what: "make",
            path: top.clone(),
            source,
        })?;
        for (index, manifest) in &input.manifests {
            self.cache.place(*manifest, &top.join(index.to_string()), cancel).await?;
        }
        Ok(top)
    }

    fn launch(&self, order: &StartOrder, dirs: AttemptDirs, files: Files) -> Result<Launch, Outcome> {
        let what = &order.launch;
        // A script names its own interpreter; any other text is for the shell.
        let run = match what.shell.as_deref() {
            Some(script) if script.starts_with("#!") => Run::Script(script),
            Some(text) => Run::Shell(text),
            None => Run::Exec(&what.argv),
        };
        let argv = argv(run, &dirs).map_err(|e| refused("its script", e))?;
        let cwd = files.workdir.as_ref().unwrap_or(&dirs.scratch).display().to_string();
        let (stdout, stderr) = (dirs.stdout().display().to_string(), dirs.stderr().display().to_string());
        let cpu_millis = u32::try_from(what.cpu_milli).unwrap_or(u32::MAX);
        let (gpus, numbers) = (self.granted(&order.devices)?, numbers(order));
        let task = TaskEnv {
            job: order.at.job.0,
            task: what.task_name.clone(),
            index: what.index.map(u64::from),
            attempt: order.number,
            token: order.token.0,
            queue: what.queue.clone(),
            worker: self.worker.clone(),
            pool: self.pool.clone(),
            spot: self.spot,
            dirs,
            workdir: files.workdir,
            inputs: files.inputs,
            restart_count: what.restart_count,
            gpus,
            cpu_millis,
            user: what.env.clone(),
            ..TaskEnv::default()
        };
        Ok(Launch {
            token: order.token.0,
            argv,
            env: environment::build(&task, &self.host),
            cwd,
            stdout,
            stderr,
            log_cap: self.log_cap,
            limits: Limits {
                cpu_millis,
                cpu_quota: false,
                memory_bytes: what.memory,
                pids: PIDS_MAX,
                denied: nodes::denied(&self.devices, &numbers, self.majors, Path::new("/dev")),
                cpus: nodes::near(&self.devices, &numbers, cpu_millis),
            },
            deadline_boot_ms: 0,
        })
    }

    /// The real devices of an order: simulated ones are never dirty.
    pub fn held(&self, order: &StartOrder) -> Vec<HeldDevice> {
        let real =
            numbers(order).into_iter().filter_map(|n| self.devices.get(n)).filter(|device| !device.simulated);
        real.map(|device| HeldDevice { uuid: device.uuid.clone(), shared: false }).collect()
    }

    fn granted(&self, numbers: &[u16]) -> Result<Vec<String>, Outcome> {
        let uuid = |number: &u16| {
            let missing = || Outcome::Launch(format!("this worker has no device {number}"));
            self.devices.get(usize::from(*number)).map(|device| device.uuid.clone()).ok_or_else(missing)
        };
        numbers.iter().map(uuid).collect()
    }
}

fn numbers(order: &StartOrder) -> Vec<usize> {
    order.devices.iter().map(|number| usize::from(*number)).collect()
}

fn refused(what: &str, error: std::io::Error) -> Outcome {
    Outcome::Launch(format!("the worker cannot write {what}: {error}"))
}

fn unplaced(what: &str, error: &BlobError) -> Outcome {
    match error {
        BlobError::Stopped => Outcome::Fenced,
        error => Outcome::Launch(format!("{what} could not be brought: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::{Store, pack};
    use muster_core::leader::instruction::LaunchOrder;
    use muster_core::model::blob::BlobId;
    use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token};

    struct Rig {
        top: tempfile::TempDir,
        store: Store,
        preparer: Preparer,
    }

    impl Rig {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
            let cache = Cache::open(top.path().join("cache"), store.clone(), 1 << 20).unwrap();
            let preparer = Preparer {
                worker: "w1".into(),
                pool: "default".into(),
                spot: false,
                devices: ["GPU-a", "GPU-b"].map(gpu).to_vec(),
                majors: Majors::default(),
                mps: None,
                host: HostEnv::default(),
                dirs: Arc::new(Dirs::open(top.path()).unwrap()),
                cache: Arc::new(cache),
                log_cap: 1 << 20,
            };
            Self { top, store, preparer }
        }

        async fn stored(&self, name: &str) -> BlobId {
            let path = self.top.path().join(name);
            std::fs::write(&path, name).unwrap();
            let packed = pack(&path).unwrap();
            for id in packed.blobs.keys() {
                self.store.put_as(*id, packed.read(*id).unwrap()).await.unwrap();
            }
            packed.manifest
        }
    }

    fn gpu(uuid: &str) -> Device {
        Device { uuid: uuid.into(), simulated: true, ..Device::default() }
    }

    fn order(launch: LaunchOrder, devices: &[u16]) -> StartOrder {
        let at = IndexRef::new(JobId(42), TaskNo(0), 0);
        StartOrder {
            at,
            number: 2,
            token: Token(9),
            term: 1,
            heartbeat: 1,
            devices: devices.to_vec(),
            launch,
        }
    }

    fn env<'a>(launch: &'a Launch, name: &str) -> &'a str {
        launch.env.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn a_plain_task_runs_in_its_scratch_directory_with_its_devices() {
        let rig = Rig::new();
        let what = LaunchOrder {
            shell: Some("exit 7".into()),
            cpu_milli: 1500,
            memory: 64 << 20,
            ..LaunchOrder::default()
        };
        let launch = rig.preparer.prepare_quick(&order(what, &[1])).unwrap();
        assert_eq!(launch.argv, ["/bin/sh", "-c", "exit 7"]);
        assert_eq!(launch.cwd, rig.preparer.dirs.of(9).scratch.display().to_string());
        assert_eq!((env(&launch, "CUDA_VISIBLE_DEVICES"), env(&launch, "MUSTER_ATTEMPT")), ("GPU-b", "2"));
        assert_eq!((launch.limits.cpu_millis, launch.limits.memory_bytes), (1500, 64 << 20));
        let beyond = rig.preparer.prepare_quick(&order(LaunchOrder::default(), &[2]));
        assert_eq!(beyond, Err(Outcome::Launch("this worker has no device 2".into())));
    }

    #[tokio::test]
    async fn inputs_are_files_directories_or_one_directory_an_index() {
        let rig = Rig::new();
        let (a, b) = (rig.stored("a.npz").await, rig.stored("b.npz").await);
        let input = |name: &str, from_array, manifests: &[(u32, BlobId)]| InputOrder {
            name: name.into(),
            from_array,
            manifests: manifests.to_vec(),
        };
        let inputs = vec![input("one", false, &[(0, a)]), input("many", true, &[(0, a), (7, b)])];
        let what = LaunchOrder { argv: vec!["true".into()], inputs, ..LaunchOrder::default() };
        let launch = rig.preparer.prepare(&order(what, &[]), &CancellationToken::new()).await.unwrap();
        assert_eq!(std::fs::read_to_string(env(&launch, "MUSTER_INPUT_ONE")).unwrap(), "a.npz");
        let many = PathBuf::from(env(&launch, "MUSTER_INPUT_MANY"));
        assert_eq!(std::fs::read_to_string(many.join("7/b.npz")).unwrap(), "b.npz");
        let gone = LaunchOrder { workdir: Some(BlobId::of(b"x")), ..LaunchOrder::default() };
        let failed = rig.preparer.prepare(&order(gone, &[]), &CancellationToken::new()).await;
        assert!(
            matches!(&failed, Err(Outcome::Launch(why)) if why.starts_with("the workdir could not be brought")),
            "{failed:?}"
        );
    }
}
