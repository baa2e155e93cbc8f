//! A Slurm of one node on loopback: its own munged, slurmctld and slurmd, all that Debian packages, in a directory that goes with the test.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long daemons have to come up, and jobs to reach a state, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub struct Cluster {
    pub conf: PathBuf,
    dir: TempDir,
    /// Each ends when its stdin does, whatever becomes of us.
    daemons: Vec<Child>,
}

impl Cluster {
    /// None, with the reason on stderr, where it cannot run.
    pub fn start() -> Option<Self> {
        for program in ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo"] {
            if !has(program) {
                eprintln!("skipped: no {program} (Debian: slurmctld slurmd slurm-client munge)");
                return None;
            }
        }
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: slurmd starts jobs only as root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // munged wants directories that nobody else can change, and its socket to be reached by all.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let conf = dir.path().join("slurm.conf");
        fs::write(&conf, settings(dir.path())).unwrap();
        let mut cluster = Self { conf, dir, daemons: Vec::new() };
        cluster.daemon("munged", &munged(cluster.dir.path()));
        cluster.until("munged serves", |c| c.path("munge.socket").exists());
        cluster.daemon("slurmctld", &["slurmctld".into(), "-D".into(), "-i".into(), "-c".into()]);
        cluster.until("slurmctld answers", |c| c.run("sinfo", &["--noheader"]).status.success());
        cluster.daemon("slurmd", &["slurmd".into(), "-D".into(), "-N".into(), "n1".into()]);
        cluster.until("the node is idle", |c| c.text("sinfo", &["--noheader", "--format=%T"]) == "idle\n");
        Some(cluster)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs one of Slurm's programs as this cluster's.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).env("SLURM_CONF", &self.conf).output().unwrap()
    }

    pub fn text(&self, program: &str, args: &[&str]) -> String {
        String::from_utf8(self.run(program, args).stdout).unwrap()
    }

    /// Waits until `holds`; what the daemons said goes into the panic otherwise.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !holds(self) {
            let dead = self.daemons.iter_mut().any(|d| d.try_wait().is_ok_and(|status| status.is_some()));
            if dead || by < Instant::now() {
                let log = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
                let logs = ["munged.log", "slurmctld.log", "slurmd.log"].map(log).join("\n");
                panic!("{what}: not so{}\n{logs}", if dead { ", and a daemon has ended" } else { "" });
            }
            sleep(LOOK_EVERY);
        }
    }

    fn daemon(&mut self, name: &str, command: &[String]) {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        // The shell ends the daemon when its own stdin ends: ours, at the latest with the test's process.
        let script = r#"PATH="$PATH:/usr/sbin:/sbin"; "$@" </dev/null & daemon=$!; read -r _; kill "$daemon"; wait "$daemon""#;
        let shell = Command::new("sh")
            .args(["-c", script, name])
            .args(command)
            .env("SLURM_CONF", &self.conf)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons.push(shell);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A job's step manager outlives slurmd: first the jobs, then the daemons, the last one started first.
        let user = format!("--user={}", nix::unistd::geteuid());
        let _ = Command::new("scancel").arg(user).env("SLURM_CONF", &self.conf).status();
        let by = Instant::now() + PATIENCE;
        while Instant::now() < by && !self.text("squeue", &["--noheader"]).is_empty() {
            sleep(LOOK_EVERY);
        }
        for mut daemon in self.daemons.drain(..).rev() {
            drop(daemon.stdin.take());
            let _ = daemon.wait();
        }
    }
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file())
}

fn munged(dir: &Path) -> Vec<String> {
    let key = dir.join("munge.key");
    let mut file = fs::File::create(&key).unwrap();
    // The key of a cluster of one machine that lives for seconds: whoever reads the directory is root.
    let mut random = [0; 1024];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    file.write_all(&random).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    let at = |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
    vec![
        "munged".into(),
        "--foreground".into(),
        // A temporary directory that all may write is an insecure place for it, unless its sticky bit counts.
        "--force".into(),
        at("key-file", "munge.key"),
        at("socket", "munge.socket"),
        at("pid-file", "munge.pid"),
        at("log-file", "munge.log"),
        at("seed-file", "munge.seed"),
    ]
}

fn settings(dir: &Path) -> String {
    // Both are held until both are known, so that they differ.
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [controller, node] = ports.map(|listener| listener.local_addr().unwrap().port());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim().split('.').next().unwrap_or_default();
    let dir = dir.display();
    format!(
        "ClusterName=muster-test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
ReturnToService=2
KillWait=2
MinJobAge=2
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} CPUs=1 State=UNKNOWN
PartitionName=gpu Nodes=n1 Default=YES MaxTime=INFINITE State=UP
"
    )
}
