//! A GPU gets sick under a task: it alone goes out of service, the task goes on elsewhere, and nothing forgets it.

use muster_tests::cluster::{free_port, kill_all_under};
use muster_tests::{Cli, until};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Child;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// `muster dev` with eight simulated GPUs, and the file that makes them sick.
struct Dev {
    dir: tempfile::TempDir,
    cli: Cli,
    args: Vec<String>,
    process: Option<Child>,
}

impl Dev {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("mu").tempdir().unwrap();
        let cli = Cli { config_dir: dir.path().join("config") };
        let data = dir.path().join("d").display().to_string();
        let listen = format!("127.0.0.1:{}", free_port());
        let args = ["dev", "--data-dir", &data, "--listen", &listen, "--cpus", "16", "--gpus", "8xH100-80GB"];
        Self { dir, cli, args: args.map(str::to_owned).to_vec(), process: None }
    }

    fn start(&mut self) {
        self.process = Some(self.cli.daemon(&self.args, &self.dir.path().join("dev.log")));
        until("a ready worker", SOON, || {
            let doc = self.cli.json(&["workers"])?;
            (doc["workers"][0]["state"] == "ready").then_some(()).ok_or(doc.to_string())
        });
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Says of a device that this happened to it.
    fn fault(&self, line: &str) {
        let path = self.dir.path().join("d/workers/w1/gpu-faults");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    fn submit(&self, name: &str, script: &str) -> String {
        let path = self.dir.path().join(format!("{name}.yaml"));
        let job = json!({"name": name, "tasks": {"t": {"run": script, "resources": {"gpus": 1}}}});
        std::fs::write(&path, job.to_string()).unwrap();
        let ran = self.cli.run(&["submit", &path.display().to_string()]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout.trim().to_owned()
    }

    fn attempts(&self, job: &str) -> Vec<Value> {
        let doc = self.cli.json(&["show", job]).unwrap_or_default();
        doc["tasks"][0]["attempts"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the newest attempt of the job runs, and returns it.
    fn running(&self, job: &str, number: u64) -> Value {
        until(&format!("attempt {number} of job {job}"), SOON, || {
            let attempts = self.attempts(job);
            let found = attempts.iter().find(|a| a["number"] == number && a["state"] == "running").cloned();
            found.ok_or(format!("{attempts:?}"))
        })
    }

    fn device(&self, uuid: &str) -> Value {
        self.cli.json(&["gpus", "show", uuid]).unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.kill();
        kill_all_under(self.dir.path());
    }
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_quarantined_and_its_task_goes_on_elsewhere() {
    let mut dev = Dev::new();
    dev.start();
    let go = dev.dir.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let job = dev.submit("train", &script);
    let first = dev.running(&job, 1);
    let uuid = first["devices"][0].as_str().unwrap().to_owned();

    dev.fault(&format!("xid 79 {uuid}"));

    // 1. The same job runs again, on another device, and is not charged: it has but one attempt of its own.
    let second = dev.running(&job, 2);
    assert_ne!(second["devices"][0], first["devices"][0]);
    let ended = &dev.attempts(&job)[0];
    assert_eq!((&ended["cause"], &ended["state"]), (&json!("device(79)"), &json!("evicted")), "{ended}");
    // 2. That device alone is out, and says why.
    let all = dev.cli.json(&["gpus"]).unwrap();
    let out: Vec<&Value> =
        all["devices"].as_array().unwrap().iter().filter(|d| d["health"] == "quarantined").collect();
    assert_eq!((out.len(), &out[0]["uuid"]), (1, &json!(uuid)), "{all}");
    let shown = dev.device(&uuid);
    assert!(shown["reason"].as_str().unwrap().contains("fallen off the bus"), "{shown}");
    assert_eq!(shown["history"][0]["attempts"], json!([format!("{job}.t#1")]), "{shown}");
    let table = dev.cli.run(&["gpus"]).stdout;
    assert!(table.contains("quarantined") && table.contains(&format!("{job}.t#2")), "{table}");

    // 3. A restart forgets nothing of it.
    dev.kill();
    dev.start();
    assert_eq!(dev.device(&uuid)["health"], "quarantined");
    let blocked = dev.submit("all", "true");
    until("the other seven to be enough for one", SOON, || {
        let doc = dev.cli.json(&["show", &blocked])?;
        (doc["state"] == "succeeded").then_some(()).ok_or(doc.to_string())
    });

    // 4. What was mended comes back by hand.
    let returned = dev.cli.run(&["gpus", "return", &uuid[..12], "--reason", "a new riser"]);
    assert_eq!(returned.code, Some(0), "{}", returned.stderr);
    let back = dev.device(&uuid);
    assert_eq!(
        (&back["health"], &back["history"][1]["event"]),
        (&json!("healthy"), &json!("returned")),
        "{back}"
    );
    std::fs::write(go, "").unwrap();
    until("the end of the job", SOON, || {
        let doc = dev.cli.json(&["show", &job])?;
        (doc["state"] == "succeeded").then_some(()).ok_or(doc.to_string())
    });
}

#[test]
fn an_error_of_the_program_fails_the_task_and_touches_nothing() {
    let mut dev = Dev::new();
    dev.start();
    let go = dev.dir.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 3", go.display());
    let job = dev.submit("bad", &script);
    let uuid = dev.running(&job, 1)["devices"][0].as_str().unwrap().to_owned();
    dev.fault(&format!("xid 13 {uuid} out of range"));
    until("the event in the device's history", SOON, || {
        let device = dev.device(&uuid);
        (device["history"][0]["event"] == "xid 13").then_some(()).ok_or(device.to_string())
    });
    std::fs::write(go, "").unwrap();
    until("the end of the job", SOON, || {
        let doc = dev.cli.json(&["show", &job])?;
        (doc["state"] == "failed").then_some(()).ok_or(doc.to_string())
    });
    assert_eq!(dev.attempts(&job)[0]["cause"], "exit(3)");
    let device = dev.device(&uuid);
    assert_eq!((&device["health"], &device["ends"]), (&json!("healthy"), &json!({"exit": 1})), "{device}");

    // What waits says why, and what could never run is refused with what could.
    let drained = dev.cli.run(&["worker", "drain", "w1"]);
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    let waits = dev.submit("waits", "true");
    let why = dev.cli.json(&["explain", &waits]).unwrap();
    assert_eq!(why["blockers"][0]["reason"], "the worker is draining or drained", "{why}");
    assert_eq!(why["smallest_change"], "muster worker undrain w1", "{why}");
    assert_eq!(why["estimated_start"], Value::Null);
    let refused = dev.cli.run(&["run", "--gpus", "16", "--", "true"]);
    assert!(refused.stderr.contains("ask for at most 8 GPUs"), "{}", refused.stderr);
}
