//! From a start order to what the shim executes: directories, files from the store, environment, limits.

use super::vacate::HeldDevice;
use crate::blobs::{BlobError, Cache};
use crate::cgroup::Limits;
use crate::checkpoint::Savers;
use crate::devices::Device;
use crate::devices::mps;
use crate::devices::nodes::{self, Majors};
use crate::executor::launch::argv;
use crate::executor::{AttemptDirs, Dirs, GangEnv, HostEnv, Launch, Run, TaskEnv, environment};
use muster_agent::StartOrder;
use muster_core::leader::instruction::{DeviceOrder, GangOrder, InputOrder};
use muster_core::model::attempt::Outcome;
use muster_core::model::placement::{Share, WHOLE};
use std::net::{Ipv4Addr, TcpListener};
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
    /// Commit the attempts' checkpoints.
    pub savers: Arc<Savers>,
    /// Bytes of each captured stream.
    pub log_cap: u64,
}

/// Files that were brought for one attempt.
#[derive(Debug, Default)]
struct Files {
    workdir: Option<PathBuf>,
    inputs: Vec<(String, PathBuf)>,
    /// What it begins from, and of which step that is.
    resume: Option<(PathBuf, u64)>,
}

/// Whether preparing it takes no files from the store, so that it may be done at once.
pub fn is_quick(order: &StartOrder) -> bool {
    order.launch.workdir.is_none() && order.launch.inputs.is_empty() && order.launch.resume.is_none()
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
        if let Some(resume) = &order.launch.resume {
            let to = dirs.resume();
            self.savers.fetch(order.token, order.at, resume, &to).await?;
            files.resume = Some((to, resume.step));
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
        let gang = what.gang.as_ref().map(|gang| gang_env(order.rank, gang, &dirs)).transpose()?;
        let shares = self.shares(&order.devices)?;
        let gpus = order.devices.iter().map(|device| device.uuid.clone()).collect();
        let numbers: Vec<usize> = shares.iter().map(|share| usize::from(share.device)).collect();
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
            resume: files.resume,
            socket: Some(self.savers.socket().to_owned()),
            restart_count: what.restart_count,
            gpus,
            gpu_limits: self.gpu_limits(&shares),
            cpu_millis,
            gang,
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
        let real = order.devices.iter().filter(|ordered| {
            self.devices.iter().any(|device| device.uuid == ordered.uuid && !device.simulated)
        });
        real.map(|device| HeldDevice { uuid: device.uuid.clone(), shared: device.milli < WHOLE }).collect()
    }

    /// Only a part of one real device has limits, and only under MPS.
    fn gpu_limits(&self, shares: &[Share]) -> Vec<(String, String)> {
        let ([share], Some(pipes)) = (shares, &self.mps) else { return Vec::new() };
        match self.devices.get(usize::from(share.device)) {
            Some(device) if !device.simulated && !share.is_whole() => {
                let part = device.memory_bytes / 1000 * u64::from(share.milli);
                mps::limits(pipes, share.milli, if share.memory > 0 { share.memory } else { part })
            }
            _ => Vec::new(),
        }
    }

    /// The same by this worker's own numbers.
    fn shares(&self, ordered: &[DeviceOrder]) -> Result<Vec<Share>, Outcome> {
        let share = |ordered: &DeviceOrder| {
            let number = self.devices.iter().position(|device| device.uuid == ordered.uuid);
            let number = number.and_then(|number| u16::try_from(number).ok());
            let missing = || Outcome::Launch(format!("this worker has no device {}", ordered.uuid));
            let device = number.ok_or_else(missing)?;
            Ok(Share { device, milli: ordered.milli, memory: ordered.memory })
        };
        ordered.iter().map(share).collect()
    }
}

/// A rank's place in its gang, its hostfile written. Rank 0 looks whether the port can be bound: when something else on this machine has
/// it, the attempt ends here, and the next one meets elsewhere.
fn gang_env(rank: u32, gang: &GangOrder, dirs: &AttemptDirs) -> Result<GangEnv, Outcome> {
    if rank == 0
        && let Err(error) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, gang.port))
    {
        return Err(Outcome::Launch(format!("port {} cannot be bound: {error}", gang.port)));
    }
    let hostfile = dirs.root.join("hostfile");
    let env = GangEnv {
        rank,
        hosts: gang.hosts.iter().map(|h| h.address.clone()).collect(),
        slots: gang.hosts.iter().map(|h| h.slots).collect(),
        master_port: gang.port,
        hostfile: Some(hostfile.clone()),
    };
    std::fs::write(&hostfile, env.hostfile_text()).map_err(|e| refused("its hostfile", e))?;
    Ok(env)
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
    use muster_core::leader::instruction::{GangHost, LaunchOrder, ResumeOrder};
    use muster_core::model::blob::BlobId;
    use muster_core::model::checkpoint::Part;
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
                savers: Arc::new(Savers::new(store.clone(), "/run/tasks.sock".into(), Box::new(|_, _| {}))),
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

    fn whole(uuid: &str) -> DeviceOrder {
        DeviceOrder { uuid: uuid.into(), milli: WHOLE, memory: 0 }
    }

    fn order(launch: LaunchOrder, devices: &[&str]) -> StartOrder {
        let at = IndexRef::new(JobId(42), TaskNo(0), 0);
        StartOrder {
            at,
            number: 2,
            token: Token(9),
            term: 1,
            heartbeat: 1,
            rank: 0,
            devices: devices.iter().map(|uuid| whole(uuid)).collect(),
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
        let launch = rig.preparer.prepare_quick(&order(what, &["GPU-b"])).unwrap();
        assert_eq!(launch.argv, ["/bin/sh", "-c", "exit 7"]);
        assert_eq!(launch.cwd, rig.preparer.dirs.of(9).scratch.display().to_string());
        assert_eq!((env(&launch, "CUDA_VISIBLE_DEVICES"), env(&launch, "MUSTER_ATTEMPT")), ("GPU-b", "2"));
        assert_eq!((launch.limits.cpu_millis, launch.limits.memory_bytes), (1500, 64 << 20));
        let beyond = rig.preparer.prepare_quick(&order(LaunchOrder::default(), &["GPU-c"]));
        assert_eq!(beyond, Err(Outcome::Launch("this worker has no device GPU-c".into())));
    }

    #[tokio::test]
    async fn a_checkpoint_that_is_gone_is_said_and_the_task_does_not_start() {
        let rig = Rig::new();
        let plain = LaunchOrder { argv: vec!["true".into()], ..LaunchOrder::default() };
        let launch = rig.preparer.prepare_quick(&order(plain.clone(), &[])).unwrap();
        assert_eq!(
            (env(&launch, "MUSTER_SOCKET"), env(&launch, "MUSTER_RESUME_STEP")),
            ("/run/tasks.sock", "")
        );
        let resume = ResumeOrder { step: 40, token: Token(3), rank: 0, part: Part::default() };
        let resuming = order(LaunchOrder { resume: Some(resume), ..plain }, &[]);
        assert!(!is_quick(&resuming));
        let ended = rig.preparer.prepare(&resuming, &CancellationToken::new()).await;
        let reason = "the store has no checkpoints/42/0/0/3/40/rank-0.json".to_owned();
        assert_eq!(ended, Err(Outcome::BadCheckpoint { step: 40, reason }));
    }

    #[test]
    fn the_first_rank_looks_whether_its_port_is_free_and_each_finds_the_others() {
        let rig = Rig::new();
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let host = |address: &str| GangHost { address: address.into(), slots: 2 };
        let port = taken.local_addr().unwrap().port();
        let gang = GangOrder { hosts: vec![host("10.0.0.1"), host("10.0.0.2")], port };
        let what = LaunchOrder { argv: vec!["true".into()], gang: Some(gang), ..LaunchOrder::default() };
        let refused = rig.preparer.prepare_quick(&order(what.clone(), &[]));
        let reason = format!("port {port} cannot be bound");
        assert!(matches!(&refused, Err(Outcome::Launch(why)) if why.starts_with(&reason)), "{refused:?}");
        let second = StartOrder { rank: 1, ..order(what.clone(), &[]) };
        let launch = rig.preparer.prepare_quick(&second).unwrap();
        assert_eq!((env(&launch, "MASTER_ADDR"), env(&launch, "MUSTER_RANK")), ("10.0.0.1", "1"));
        let hostfile = std::fs::read_to_string(env(&launch, "MUSTER_HOSTFILE")).unwrap();
        assert_eq!(hostfile, "10.0.0.1 slots=2\n10.0.0.2 slots=2\n");
        drop(taken);
        let launch = rig.preparer.prepare_quick(&order(what, &[])).unwrap();
        assert_eq!(env(&launch, "MASTER_PORT"), port.to_string());
    }

    #[test]
    fn a_part_of_a_real_gpu_is_limited_where_mps_runs_and_held_as_shared() {
        let mut rig = Rig::new();
        rig.preparer.devices[0] =
            Device { simulated: false, memory_bytes: 80_000 << 20, minor: Some(0), ..gpu("GPU-a") };
        let part = DeviceOrder { milli: 250, ..whole("GPU-a") };
        let (first, second) = (whole("GPU-a"), whole("GPU-b"));
        let of = |share: &DeviceOrder| StartOrder {
            devices: vec![share.clone()],
            ..order(LaunchOrder::default(), &[])
        };
        let limit = |rig: &Rig, share: &DeviceOrder| {
            let launch = rig.preparer.prepare_quick(&of(share)).unwrap();
            env(&launch, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").to_owned()
        };
        assert_eq!(limit(&rig, &part), "");
        rig.preparer.mps = Some("/tmp/nvidia-mps".into());
        assert_eq!((limit(&rig, &part), limit(&rig, &first)), ("0=20000M".into(), String::new()));
        let held =
            |share: &DeviceOrder| rig.preparer.held(&of(share)).iter().map(|h| h.shared).collect::<Vec<_>>();
        assert_eq!((held(&part), held(&first), held(&second)), (vec![true], vec![false], vec![]));
        // The other one is simulated: it has no node, and there is nothing to clean.
        let launch = rig.preparer.prepare_quick(&of(&second)).unwrap();
        assert!(launch.limits.denied.iter().any(|node| (node.major, node.minor) == (195, 0)));
        let launch = rig.preparer.prepare_quick(&of(&first)).unwrap();
        assert!(!launch.limits.denied.iter().any(|node| (node.major, node.minor) == (195, 0)));
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
