//! `slurm` against a real Slurm with one node of one CPU: one job runs, the others wait.

use crate::open;
use crate::slurm_cluster::Cluster;
use muster_drivers::{Driver, DriverError, Phase};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// What a worker does here: writes its environment where it is told, notes SIGTERM, and ends on it.
const WORKER: &str = r#"trap 'echo term > "$0/term.$SLURM_JOB_ID"; exit 0' TERM
env > "$0/new.$SLURM_JOB_ID"; mv "$0/new.$SLURM_JOB_ID" "$0/env.$SLURM_JOB_ID"
end=$(( $(date +%s) + 600 )); while [ "$(date +%s)" -lt "$end" ]; do sleep 0.2; done"#;

fn driver(cluster: &Cluster, more: &str) -> Arc<dyn Driver> {
    let conf = cluster.conf.display();
    let dir = cluster.conf.parent().unwrap().display();
    open(&format!(
        "kind = \"slurm\"\ntime = \"4h\"\nslurm_conf = \"{conf}\"\ncommand = [\"/bin/sh\", \"-c\", '''{WORKER}''', \"{dir}\", \"%j\"]\n{more}"
    ))
    .unwrap()
}

/// What is desired, and each job with its phase, by number.
async fn group(driver: &Arc<dyn Driver>) -> (u32, Vec<(u64, Phase)>) {
    let group = driver.describe().await.unwrap().unwrap();
    let mut jobs: Vec<_> = group.instances.iter().map(|i| (i.id.parse().unwrap(), i.phase)).collect();
    jobs.sort_unstable();
    (group.desired, jobs)
}

/// Waits for a job to run, and gives its number.
async fn running(cluster: &mut Cluster, driver: &Arc<dyn Driver>) -> u64 {
    cluster.until("a job runs", |c| c.text("squeue", &["--noheader", "--format=%T"]).contains("RUNNING"));
    let (_, jobs) = group(driver).await;
    jobs.iter().find(|(_, phase)| *phase == Phase::InService).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_come_once_and_go() {
    let Some(mut cluster) = Cluster::start() else { return };
    let driver = driver(&cluster, "partition = \"gpu\"");
    assert_eq!(group(&driver).await, (0, vec![]));

    // 1. Two are wanted: one runs, one waits.
    driver.set_desired(2, 7).await.unwrap();
    let first = running(&mut cluster, &driver).await;
    let (desired, jobs) = group(&driver).await;
    assert_eq!(desired, 2);
    assert_eq!(jobs.iter().map(|(_, phase)| *phase).collect::<Vec<_>>(), [Phase::InService, Phase::Booting]);

    // 2. A new leader says the same: nothing happens.
    driver.set_desired(2, 7).await.unwrap();
    assert_eq!(group(&driver).await, (2, jobs.clone()));

    // 3. The job knows its pool and number, and nothing of our own environment.
    let env = cluster.path(&format!("env.{first}"));
    cluster.until("the worker started", |_| env.exists());
    let env = std::fs::read_to_string(env).unwrap();
    assert!(env.contains("MUSTER_POOL=spot\n") && env.contains(&format!("SLURM_JOB_ID={first}\n")), "{env}");
    assert!(!env.contains("CARGO"), "{env}");
    let limit = cluster.text("squeue", &["--noheader", "--format=%l|%j|%P", &format!("--jobs={first}")]);
    assert_eq!(limit, "4:00:00|muster-spot|gpu\n");

    // 4. The one that runs is ended, told by SIGTERM; the other takes its place.
    driver.terminate(&first.to_string(), 8).await.unwrap();
    let told = cluster.path(&format!("term.{first}"));
    cluster.until("the worker was told", |_| told.exists());
    let gone = format!("{first}\n");
    cluster.until("it is gone", |c| !c.text("squeue", &["--noheader", "--format=%A"]).contains(&gone));
    let second = running(&mut cluster, &driver).await;
    assert_eq!(group(&driver).await, (1, vec![(second, Phase::InService)]));
    // Again, and one that never was: no error.
    driver.terminate(&first.to_string(), 8).await.unwrap();
    driver.terminate("4711", 9).await.unwrap();

    // 5. Down to none: what waits goes, what runs stays.
    driver.set_desired(3, 10).await.unwrap();
    assert_eq!(group(&driver).await.0, 3);
    driver.set_desired(0, 11).await.unwrap();
    cluster.until("one is left", |c| c.text("squeue", &["--noheader", "--format=%A"]).lines().count() == 1);
    assert_eq!(group(&driver).await, (1, vec![(second, Phase::InService)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_at_once_end_with_what_was_wanted() {
    let Some(mut cluster) = Cluster::start() else { return };
    let (old, new) = (driver(&cluster, ""), driver(&cluster, ""));

    let (one, other) = tokio::join!(old.set_desired(3, 7), new.set_desired(3, 7));
    one.unwrap();
    other.unwrap();

    cluster
        .until("three are left", |c| c.text("squeue", &["--noheader", "--format=%A"]).lines().count() == 3);
    let mut tags: Vec<String> =
        cluster.text("squeue", &["--noheader", "--format=%k"]).lines().map(str::to_owned).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["muster 7/1", "muster 7/2", "muster 7/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_others_are_left_alone_and_refusals_are_told_apart() {
    let Some(cluster) = Cluster::start() else { return };
    let foreign = cluster.text("sbatch", &["--parsable", "--output=/dev/null", "--wrap=sleep 600"]);
    let mine = driver(&cluster, "");
    assert_eq!(group(&mine).await, (0, vec![]));

    mine.terminate(foreign.trim(), 1).await.unwrap();
    mine.terminate("--user=root", 1).await.unwrap();
    assert_eq!(cluster.text("squeue", &["--noheader", "--format=%A"]), foreign);

    let error = driver(&cluster, "partition = \"nope\"").set_desired(1, 1).await.unwrap_err();
    assert_eq!(
        error,
        DriverError::NoGroup { what: "slurm jobs muster-spot in partition nope: sbatch".into() }
    );
    let error = driver(&cluster, "args = [\"--constraint=nosuch\"]").set_desired(1, 1).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason.contains("Invalid feature")),
        "{error}"
    );
    assert_eq!(group(&mine).await, (0, vec![]));
}

/// The whole way with the real program: a job becomes a worker that says which job it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_joins_as_the_worker_that_it_is() {
    let Some(muster) = std::env::var_os("MUSTER_BIN").filter(|path| Path::new(path).is_file()) else {
        eprintln!("skipped: MUSTER_BIN names no binary (scripts/test.sh does)");
        return;
    };
    let Some(mut cluster) = Cluster::start() else { return };
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (data, contexts) = (cluster.path("c1"), cluster.path("contexts"));
    let own = |args: &[&str]| {
        let mut command = Command::new(&muster);
        command.args(args).env("MUSTER_CONFIG_DIR", &contexts).stderr(Stdio::null());
        command
    };
    let args = ["coordinator", "--data-dir", data.to_str().unwrap(), "--listen", &listen, "--bootstrap"];
    let _member = Daemon(own(&args).stdout(Stdio::null()).spawn().unwrap());
    let token = data.join("join-token");
    cluster.until("the member has made its token", |_| token.exists());
    let words = ["--data-dir", &format!("{}/w-%j", cluster.path("").display()), "--join", &listen];
    let more = ["--join-token-file", token.to_str().unwrap(), "--notice-sources", "sigterm"];
    let driver = open(&format!(
        "kind = \"slurm\"\nslurm_conf = {:?}\nmuster = {muster:?}\nworker = {:?}",
        cluster.conf,
        [&words[..], &more].concat()
    ))
    .unwrap();

    driver.set_desired(1, 7).await.unwrap();

    let job = running(&mut cluster, &driver).await;
    let workers = || -> Value {
        let out = own(&["workers", "--output", "json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    };
    cluster.until("the worker has joined", |_| workers()["workers"][0]["state"] == "ready");
    let worker = &workers()["workers"][0];
    assert_eq!((&worker["name"], &worker["pool"]), (&json!(format!("spot-{job}")), &json!("spot")));
    assert_eq!(worker["labels"]["instance_id"], json!(job.to_string()));

    // SIGTERM is a notice: the worker says that its machine goes before it ends by itself.
    driver.terminate(&job.to_string(), 8).await.unwrap();
    cluster.until("the worker has said goodbye", |_| workers()["workers"][0]["state"] != "ready");
    cluster.until("the job is over", |c| c.text("squeue", &["--noheader"]).is_empty());
}

/// Ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_not_there_is_said_before_the_first_call() {
    for (settings, words) in [
        ("sbatch = \"/nowhere/sbatch\"\ncommand = [\"/bin/true\"]", "is not there, or is no program"),
        ("sbatch = \"bin/sbatch\"\ncommand = [\"/bin/true\"]", "is a relative path"),
        ("command = [\"/bin/true\"]\nworker = [\"--config\"]", "either worker"),
        ("command = [\"/bin/true\"]\nargs = [\"--array=0-9\"]", "one call of sbatch is to be one job"),
        ("command = [\"/bin/true\"]\nslurm_conf = \"/nowhere/slurm.conf\"", "is not there"),
    ] {
        let error = open(&format!("kind = \"slurm\"\n{settings}")).unwrap_err();
        assert!(
            matches!(error, DriverError::Unusable { .. }) && error.to_string().contains(words),
            "{error}"
        );
    }
}
