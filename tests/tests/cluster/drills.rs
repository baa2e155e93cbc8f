//! Faults on purpose: each is made, shown, undone and graded. What is graded in seconds is not asserted here, for this machine may be busy
//! with other tests; what must hold on any machine is.

use muster_tests::cluster::{free_port, kill_all_under};
use muster_tests::{Cli, Cluster, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::process::Child;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Rows that depend on no clock.
const PROMISES: [&str; 4] = ["missing", "granted_twice", "duplicate_jobs", "not_put_back"];

/// Runs a drill; its account, in which every promise is kept.
fn drill(cli: &Cli, args: &[&str]) -> Value {
    let ran = cli.run(&[&["drill"], args, &["--within", "120s", "--output", "json"]].concat());
    let doc: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    assert!(doc["rows"].is_array(), "{args:?} exited with {:?}: {}{}", ran.code, ran.stdout, ran.stderr);
    let met = doc["rows"].as_array().unwrap().iter().all(|row| row["met"] != false);
    assert_eq!((&doc["met"], ran.code), (&json!(met), Some(i32::from(!met))), "{doc:#}");
    for key in PROMISES {
        assert_eq!(row(&doc, key)["met"], true, "{key}: {doc:#}");
    }
    doc
}

fn row<'a>(doc: &'a Value, key: &str) -> &'a Value {
    let rows = doc["rows"].as_array().unwrap();
    rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no row {key}: {doc:#}"))
}

fn attempts(cli: &Cli, job: u64) -> Vec<Value> {
    let doc = cli.json(&["show", &job.to_string()]).unwrap_or_default();
    doc["tasks"][0]["attempts"].as_array().cloned().unwrap_or_default()
}

/// Waits until the attempt of this number runs.
fn running(cli: &Cli, job: u64, number: u64) -> Value {
    until(&format!("attempt {number} of job {job} to run"), SOON, || {
        let all = attempts(cli, job);
        let found = all.iter().find(|a| a["number"] == number && a["state"] == "running").cloned();
        found.ok_or_else(|| format!("{all:?}"))
    })
}

/// A job that runs until the file `go` is there.
fn waits(cluster: &Cluster, name: &str) -> u64 {
    let go = cluster.dir.path().join("go");
    let job = json!({"name": name, "tasks": {"t": {
        "run": format!("while [ ! -e {} ]; do sleep 0.05; done", go.display()),
        "resources": {"cpus": 1},
    }}});
    cluster.submit(&cluster.file(&format!("{name}.yaml"), &job.to_string()))
}

#[test]
fn a_cluster_that_is_no_playground_is_asked_for_and_a_worker_is_cut_off_and_lost() {
    let cluster = Cluster::start(1, 2, &["--cpus", "4"]);
    let job = waits(&cluster, "train");
    let first = running(&cluster.cli, job, 1);
    let worker = first["worker"].as_str().unwrap().to_owned();

    // 1. Nothing happens without a confirmation.
    for args in [
        ["drill", "kill-leader", "--output", "json"].as_slice(),
        &["drill", "lose-worker", &worker, "--output", "json"],
        &["drill", "spot", &worker, "--output", "json"],
        &["drill", "cut", &worker, "--output", "json"],
        &["drill", "xid", "GPU-x", "--output", "json"],
    ] {
        let ran = cluster.cli.run(args);
        let refused: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &refused["error"]["code"]), (Some(1), &json!("NOT_STAGING")), "{args:?}");
        assert!(refused["error"]["hint"].as_str().unwrap().contains("--yes"), "{refused}");
    }
    assert!(!cluster.member_log(0).contains("a drill"), "{}", cluster.member_log(0));
    let nobody = cluster.cli.run(&["drill", "cut", "nobody", "--yes"]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("nobody"), "{}", nobody.stderr);

    // 2. A short cut costs nothing.
    let cut = drill(&cluster.cli, &["cut", &worker, "--for", "2s", "--yes"]);
    assert_eq!(row(&cut, "hit_leases_lost")["measured"], 0.0, "{cut:#}");
    assert_eq!(attempts(&cluster.cli, job).len(), 1, "{cut:#}");
    assert!(cluster.member_log(0).contains("a drill: the worker is not heard"));

    // 3. A long one loses the worker: what it ran runs on the other, and it comes back.
    let lost = drill(&cluster.cli, &["lose-worker", &worker, "--yes"]);
    let second = running(&cluster.cli, job, 2);
    assert_ne!(second["worker"], first["worker"]);
    let ended = &attempts(&cluster.cli, job)[0];
    assert_eq!((&ended["state"], &ended["cause"]), (&json!("lost"), &json!("lost(worker)")), "{ended}");
    assert_eq!(row(&lost, "charged")["measured"], 0.0, "{lost:#}");
    assert!(row(&lost, "running_elsewhere_seconds")["measured"].is_f64(), "{lost:#}");
    assert_eq!(lost["attempts"][0]["next_worker"], second["worker"], "{lost:#}");
    let back = cluster.cli.json(&["worker", "show", &worker]).unwrap();
    assert_eq!((&back["state"], &back["drill"]), (&json!("ready"), &Value::Null), "{back}");

    // 4. While it lasts everybody sees that it is a drill, and Ctrl-C ends it.
    let log = cluster.dir.path().join("drill.log");
    let mut long = cluster.cli.daemon(&["drill", "cut", &worker, "--for", "2m", "--yes"], &log);
    let seen = until("a worker under a drill", SOON, || {
        let doc = cluster.cli.json(&["worker", "show", &worker])?;
        doc["drill"].as_str().map(str::to_owned).ok_or(doc.to_string())
    });
    assert!(seen.starts_with("cut: no member hears it for"), "{seen}");
    kill(Pid::from_raw(long.id().cast_signed()), Signal::SIGINT).unwrap();
    let ended = long.wait().unwrap();
    let said = std::fs::read_to_string(log).unwrap();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("the drill was interrupted"), "{said}");
    let back = cluster.cli.json(&["worker", "show", &worker]).unwrap();
    assert_eq!((&back["state"], &back["drill"]), (&json!("ready"), &Value::Null), "{back}");

    std::fs::write(cluster.dir.path().join("go"), "").unwrap();
    assert_eq!(cluster.finished(job, SOON)["state"], "succeeded");
    // What was submitted meanwhile is cancelled, and never ran.
    for (label, drills) in [("drill=cut", 2), ("drill=lose-worker", 1)] {
        let jobs = cluster.cli.json(&["ps", "--label", label]).unwrap();
        let states: Vec<&Value> = jobs["jobs"].as_array().unwrap().iter().map(|job| &job["state"]).collect();
        assert_eq!(states, vec!["cancelled"; drills], "{jobs}");
    }
}

#[test]
fn a_leader_that_is_killed_costs_no_submission_and_no_lease() {
    let cluster = Cluster::start(3, 2, &["--cpus", "4"]);
    let job = waits(&cluster, "train");
    let before = running(&cluster.cli, job, 1);
    let (at, pid) = cluster.leader();
    let term = cluster.status().unwrap()["term"].as_u64().unwrap();

    let doc = drill(&cluster.cli, &["kill-leader", "--yes"]);

    for key in ["failed_submissions", "leases_lost"] {
        assert_eq!(row(&doc, key)["measured"], 0.0, "{key}: {doc:#}");
    }
    assert!(row(&doc, "writes_stopped_seconds")["measured"].is_f64(), "{doc:#}");
    // It died as a crash does: no hand-over, another term, and the same process started again by itself.
    let status = cluster.status().unwrap();
    assert!(status["term"].as_u64().unwrap() > term, "{status}");
    assert_eq!(doc["target"], format!("member {}", cluster.member_id(at)));
    let log = cluster.member_log(at);
    assert!(log.contains("a drill: this member dies now"), "{log}");
    let line = format!("/proc/{pid}/cmdline");
    assert!(std::fs::read_to_string(line).unwrap().contains("coordinator"), "it is the process that it was");
    assert_eq!(log.matches("listens on").count(), 2, "{log}");
    // The task never noticed.
    let after = attempts(&cluster.cli, job);
    assert_eq!(
        (after.len(), &after[0]["token"], &after[0]["state"]),
        (1, &before["token"], &json!("running"))
    );
    std::fs::write(cluster.dir.path().join("go"), "").unwrap();
    assert_eq!(cluster.finished(job, SOON)["state"], "succeeded");
}

/// `muster dev`, which is for exercises.
struct Dev {
    dir: tempfile::TempDir,
    cli: Cli,
    process: Child,
}

impl Dev {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("mu").tempdir().unwrap();
        let cli = Cli { config_dir: dir.path().join("config") };
        let data = dir.path().join("d").display().to_string();
        let listen = format!("127.0.0.1:{}", free_port());
        let args = ["dev", "--data-dir", &data, "--listen", &listen, "--cpus", "8", "--gpus", "2xH100-80GB"];
        let process = cli.daemon(&args, &dir.path().join("dev.log"));
        let dev = Self { dir, cli, process };
        until("a ready worker", SOON, || {
            let doc = dev.cli.json(&["workers"])?;
            (doc["workers"][0]["state"] == "ready").then_some(()).ok_or(doc.to_string())
        });
        dev
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("dev.log")).unwrap_or_default()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        kill_all_under(self.dir.path());
    }
}

#[test]
fn a_gpu_gets_sick_on_purpose_and_is_returned_and_a_whole_dev_cluster_dies_and_goes_on() {
    let dev = Dev::start();
    let go = dev.dir.path().join("go");
    let file = dev.dir.path().join("train.yaml");
    let run = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let job = json!({"name": "train", "tasks": {"t": {"run": run, "resources": {"gpus": 1}}}});
    std::fs::write(&file, job.to_string()).unwrap();
    let job: u64 = dev.cli.run(&["submit", &file.display().to_string()]).ok().trim().parse().unwrap();
    let uuid = running(&dev.cli, job, 1)["devices"][0].as_str().unwrap().to_owned();

    // 1. The device is judged, its task goes on beside it, and the device is in service again.
    let doc = drill(&dev.cli, &["xid", &uuid[..12], "--code", "79"]);
    assert_eq!((&doc["target"], &row(&doc, "charged")["measured"]), (&json!(uuid), &json!(0.0)), "{doc:#}");
    assert!(row(&doc, "quarantined_seconds")["measured"].is_f64(), "{doc:#}");
    let second = running(&dev.cli, job, 2);
    assert_ne!(second["devices"][0], json!(uuid));
    assert_eq!(attempts(&dev.cli, job)[0]["cause"], "device(79)");
    let device = dev.cli.json(&["gpus", "show", &uuid]).unwrap();
    let history = device["history"].as_array().unwrap();
    assert_eq!(device["health"], "healthy", "{device}");
    assert!(history[0]["text"].as_str().unwrap().contains("drill by"), "{device}");
    assert_eq!(history[1]["event"], "returned", "{device}");

    // 2. One that the policy only notes evicts nobody.
    let noted = drill(&dev.cli, &["xid", second["devices"][0].as_str().unwrap(), "--code", "13"]);
    assert!(row(&noted, "quarantined_seconds")["note"].as_str().unwrap().contains("in service"), "{noted:#}");
    assert_eq!(attempts(&dev.cli, job).len(), 2, "{noted:#}");

    // 3. Member and agent die in one process, which starts again by itself; the task, which is a shim's, is taken up again, or, where
    // that took longer than its lease, started anew.
    drill(&dev.cli, &["kill-leader"]);
    assert!(dev.log().contains("a drill: this member dies now"), "{}", dev.log());
    assert_eq!(dev.log().matches("address: ").count(), 2, "{}", dev.log());
    std::fs::write(go, "").unwrap();
    until("the end of the job", SOON, || {
        let doc = dev.cli.json(&["show", &job.to_string()])?;
        (doc["state"] == "succeeded").then_some(()).ok_or(doc.to_string())
    });
}

#[test]
fn a_worker_that_is_said_to_go_saves_and_its_task_goes_on_elsewhere() {
    let cluster = Cluster::start(1, 2, &["--cpus", "4"]);
    let go = cluster.dir.path().join("go");
    let run = format!(
        "save() {{ echo 7 > $MUSTER_CHECKPOINT_DIR/state; muster checkpoint commit $MUSTER_CHECKPOINT_DIR --step 7; exit 1; }}\n\
         trap save TERM; echo from ${{MUSTER_RESUME_STEP:-0}}; while [ ! -e {} ]; do sleep 0.05; done",
        go.display()
    );
    let job = json!({"name": "train", "tasks": {"t": {"run": run, "resources": {"cpus": 1}, "checkpoint": {"grace": "20s"}}}});
    let job = cluster.submit(&cluster.file("train.yaml", &job.to_string()));
    let first = running(&cluster.cli, job, 1);
    let worker = first["worker"].as_str().unwrap().to_owned();

    let doc = drill(&cluster.cli, &["spot", &worker, "--in", "30s", "--yes"]);

    let second = running(&cluster.cli, job, 2);
    assert_ne!(second["worker"], first["worker"]);
    assert_eq!(attempts(&cluster.cli, job)[0]["cause"], "evicted(notice)");
    for key in ["not_saved_after_notice", "charged", "failed_submissions", "leases_lost"] {
        assert_eq!(row(&doc, key)["measured"], 0.0, "{key}: {doc:#}");
    }
    assert_eq!(doc["attempts"][0]["committed_step"], 7, "{doc:#}");
    let back = cluster.cli.json(&["worker", "show", &worker]).unwrap();
    assert_eq!(back["state"], "ready", "{back}");
    std::fs::write(go, "").unwrap();
    assert_eq!(cluster.finished(job, SOON)["state"], "succeeded");
    assert!(cluster.cli.run(&["logs", &job.to_string(), "--attempt", "2"]).ok().contains("from 7"));
}
